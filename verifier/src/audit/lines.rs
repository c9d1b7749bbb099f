//! Lines of a segment or of its payloads, read in pieces of bounded size while somebody may still be writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Bytes that are asked for at once: few system calls, little memory for each thread.
const CHUNK_BYTES: usize = 1 << 18;
/// How often zeros with something behind them are looked at again before they are believed: a batch that is being
/// written becomes visible from front to back, a read at the wrong moment sees its end alone.
const SECOND_LOOKS_MAX: u32 = 5;
/// Between two looks: a batch is in the page cache within this time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What room consists of.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// Bytes at offsets: an open file, or memory.
pub trait Source {
    /// Fills the buffer from an offset on; how much of it, 0 at the end.
    ///
    /// # Errors
    /// Those of the medium.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there are now.
    ///
    /// # Errors
    /// Those of the medium.
    fn length(&self) -> io::Result<u64>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|data| data.len())
    }
}

impl Source for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its newline.
    Line(&'a [u8]),
    /// A line above the limit; nothing after it is read.
    TooLong,
    /// No line any more.
    End(Tail),
}

/// What stands after the last newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// Bytes of a line that is not finished.
    pub torn: u64,
    /// Are there zeros, room for what comes?
    pub room: bool,
    /// Something else than zeros after the zeros.
    pub dirty: bool,
}

/// Reads lines from an offset on.
pub struct Lines<'a, S> {
    source: &'a S,
    line_bytes_max: usize,
    buffer: Vec<u8>,
    /// What is in the buffer and not handed out yet.
    from: usize,
    until: usize,
    /// Offset of `buffer[0]`.
    offset: u64,
    over: bool,
}

impl<'a, S: Source> Lines<'a, S> {
    /// Lines of at most `line_bytes_max` bytes, the first of which begins at `offset`.
    pub fn new(source: &'a S, offset: u64, line_bytes_max: usize) -> Self {
        let buffer = vec![0; CHUNK_BYTES.max(2 * line_bytes_max + 2)];
        Self { source, line_bytes_max, buffer, from: 0, until: 0, offset, over: false }
    }

    /// Where the next line begins.
    pub fn offset(&self) -> u64 {
        self.offset + self.from as u64
    }

    /// The next line, or what stands where it would.
    ///
    /// # Errors
    /// Those of the medium.
    pub fn next(&mut self) -> io::Result<Piece<'_>> {
        let mut looked = self.from;
        loop {
            let unseen = self.buffer.get(looked..self.until).unwrap_or_default();
            match memchr::memchr2(b'\n', 0, unseen).map(|at| looked + at) {
                Some(at) if at - self.from > self.line_bytes_max => return Ok(Piece::TooLong),
                Some(at) if self.buffer.get(at) == Some(&b'\n') => {
                    let line = self.from..at;
                    self.from = at + 1;
                    return Ok(Piece::Line(self.buffer.get(line).unwrap_or_default()));
                }
                Some(at) => match self.after_zero(at)? {
                    Some(tail) => return Ok(Piece::End(tail)),
                    None => looked = self.from,
                },
                None if self.until - self.from > self.line_bytes_max => return Ok(Piece::TooLong),
                None if self.over => {
                    return Ok(Piece::End(Tail { torn: (self.until - self.from) as u64, ..Tail::default() }));
                }
                None => {
                    looked = self.until - self.from;
                    self.fill()?;
                }
            }
        }
    }

    /// Moves the rest to the front and reads behind it.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.from..self.until, 0);
        self.offset += self.from as u64;
        self.until -= self.from;
        self.from = 0;
        let read = match self.buffer.get_mut(self.until..) {
            Some(room) => self.source.read_at(room, self.offset + self.until as u64)?,
            None => 0,
        };
        self.until += read;
        self.over = read == 0;
        Ok(())
    }

    /// A zero at `at`: is there nothing but zeros from there on? None when it is no zero any more.
    fn after_zero(&mut self, at: usize) -> io::Result<Option<Tail>> {
        let torn = (at - self.from) as u64;
        let start = self.offset + at as u64;
        for look in 0.. {
            if !something_after(self.source, start)? {
                return Ok(Some(Tail { torn, room: true, dirty: false }));
            }
            let mut byte = [0];
            self.source.read_at(&mut byte, start)?;
            if byte != [0] {
                // It was being written: once more from the beginning of this line.
                self.offset += self.from as u64;
                (self.from, self.until, self.over) = (0, 0, false);
                return Ok(None);
            }
            if look == SECOND_LOOKS_MAX {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(Some(Tail { torn, room: true, dirty: true }))
    }
}

/// Is there a byte that is not zero from this offset on?
fn something_after<S: Source>(source: &S, mut offset: u64) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = source.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Ok(false);
        }
        // Compared as a whole: room may be many megabytes, and byte by byte that takes longer than the entries.
        if buffer.get(..read) != ZEROS.get(..read) {
            return Ok(true);
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], limit: usize) -> (Vec<String>, Option<Tail>) {
        let (mut lines, mut found) = (Lines::new(&bytes, 0, limit), Vec::new());
        loop {
            match lines.next().unwrap() {
                Piece::Line(line) => found.push(String::from_utf8(line.to_vec()).unwrap()),
                Piece::TooLong => return (found, None),
                Piece::End(tail) => return (found, Some(tail)),
            }
        }
    }

    #[test]
    fn lines_end_where_they_end() {
        let two = vec!["a".to_owned(), String::new()];
        let tail = |torn, room, dirty| Some(Tail { torn, room, dirty });
        assert_eq!(all(b"a\n\n", 9), (two.clone(), tail(0, false, false)));
        assert_eq!(all(b"a\n\nxy", 9), (two.clone(), tail(2, false, false)));
        assert_eq!(all(b"a\n\nxy\0\0\0", 9), (two.clone(), tail(2, true, false)));
        assert_eq!(all(b"a\n\n\0\0\0", 9), (two.clone(), tail(0, true, false)));
        assert_eq!(all(b"a\n\n\0b\n", 9), (two.clone(), tail(0, true, true)));
        assert_eq!(all(b"a\n\n0123456789", 9), (two.clone(), None));
        assert_eq!(all(b"a\n\n0123456789\n", 9), (two, None));
        assert_eq!(all(b"", 9), (vec![], tail(0, false, false)));
        let long = "x".repeat(100_000);
        let text = format!("{long}\n").repeat(20);
        assert_eq!(all(text.as_bytes(), 100_000).0, vec![long; 20], "across chunks");
    }
}
