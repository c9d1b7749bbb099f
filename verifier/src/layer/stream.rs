//! A blob and the archive in it, as streams that hash what passes.

use std::io::{self, BufRead, Read};

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use crate::digest::Digest;
use crate::limits::WINDOW_LOG_MAX;

/// One zstd block: small enough to stay in the cache while three hashes pass over it.
const BUFFER_BYTES: usize = 128 << 10;

/// A blob that is read and hashed; its first failure is kept, so that it is not taken for the archive's.
pub(super) struct Blob<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
    buffer: Vec<u8>,
    at: usize,
    failure: Option<io::Error>,
}

impl<R: Read> Blob<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0, buffer: Vec::new(), at: 0, failure: None }
    }

    /// Digest and size of the whole blob, whatever part of it was consumed.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        while self.failure.is_none() && !self.refill()? {}
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok((self.hasher.into(), self.size)),
        }
    }

    /// Reads the next piece; whether the end was reached.
    fn refill(&mut self) -> io::Result<bool> {
        self.at = 0;
        let read = refill(&mut self.inner, &mut self.buffer);
        self.hasher.update(&self.buffer);
        self.size += self.buffer.len() as u64;
        read.map(|()| self.buffer.is_empty())
    }
}

impl<R: Read> Read for Blob<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Blob<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.buffer.len()
            && let Err(failure) = self.refill()
        {
            let kind = failure.kind();
            self.failure.get_or_insert(failure);
            return Err(kind.into());
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// Replaces a buffer's content by the next piece of a stream; empty at its end.
fn refill(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(BUFFER_BYTES, 0);
    let mut filled = 0;
    let mut outcome = Ok(());
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    buffer.truncate(filled);
    outcome
}

/// The archive in one zstd frame, decompressed and hashed.
pub(super) struct Archive<'a, R: Read> {
    decoder: Decoder<'static, &'a mut Blob<R>>,
    hasher: Sha256,
    buffer: Vec<u8>,
    at: usize,
    /// A decoder that failed once is not asked again.
    failure: Option<String>,
}

impl<'a, R: Read> Archive<'a, R> {
    /// Looks at the frame's header: a checksum, no dictionary, nothing reserved.
    pub(super) fn begin(blob: &'a mut Blob<R>) -> Result<Self, String> {
        let head = blob.fill_buf().map_err(|error| error.to_string())?;
        let Some(&[0x28, 0xb5, 0x2f, 0xfd, descriptor]) = head.first_chunk::<5>() else {
            return Err("it does not begin with a zstd frame".to_owned());
        };
        if descriptor & 0b100 == 0 {
            return Err("the frame has no checksum".to_owned());
        }
        if descriptor & 0b1_1011 != 0 {
            return Err("the frame names a dictionary or uses reserved bits".to_owned());
        }
        let mut decoder = Decoder::with_buffer(blob).map_err(|error| error.to_string())?.single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| error.to_string())?;
        Ok(Self { decoder, hasher: Sha256::new(), buffer: Vec::new(), at: 0, failure: None })
    }

    /// The archive's digest, when it was read to its end and nothing follows the frame.
    pub(super) fn finish(mut self) -> Result<Digest, String> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.decoder.finish_frame().map_err(|error| error.to_string())?;
        let rest = self.decoder.into_inner();
        match rest.fill_buf() {
            Ok([]) => Ok(self.hasher.into()),
            Ok(_) => Err("something follows the frame".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl<R: Read> Read for Archive<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Archive<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.at >= self.buffer.len() {
            self.at = 0;
            if let Err(failure) = refill(&mut self.decoder, &mut self.buffer) {
                self.failure = Some(failure.to_string());
                self.buffer.clear();
                // Not the decoder's own kind: its UnexpectedEof is not the archive's end.
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.hasher.update(&self.buffer);
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
