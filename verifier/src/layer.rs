//! One layer in one pass: blob digest, diff_id, grammar, object checksums and file digests together.
//!
//! What comes out are facts, compared elsewhere with the commit and the SBOM. Memory is bounded per name.

mod grammar;
mod stream;

use std::collections::HashMap;
use std::io::{self, Read};

use crate::digest::Digest;
use crate::ostree::{DirMeta, DirTree, Xattrs};
use crate::refusal::Refusal;
use stream::{Archive, Blob};

/// What a layer turned out to be.
pub(crate) struct Layer {
    /// SHA-256 of the blob.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// SHA-256 of the archive; none when it could not be read to its end.
    pub diff_id: Option<Digest>,
    /// What is in it; none when its grammar is broken, so that nothing can be said about it.
    pub contents: Option<Contents>,
    /// What is wrong with it in itself.
    pub refusals: Vec<Refusal>,
}

/// What is in a layer.
#[derive(Default)]
pub(crate) struct Contents {
    /// The root directory's entry.
    pub root: (u32, u32, u32),
    /// Directories, without preamble: of the whole commit in the first layer, parents in the others.
    pub dirs: Vec<Dir>,
    /// The commit object (first layer only).
    pub commit: Option<(Digest, Vec<u8>)>,
    /// Dirtrees by checksum (first layer only).
    pub trees: HashMap<Digest, DirTree>,
    /// Dirmetas by checksum (first layer only).
    pub metas: HashMap<Digest, DirMeta>,
    /// File objects, ascending by checksum (all but the first layer).
    pub files: Vec<FileObject>,
    /// Paths in the layer, each with its position in `files`.
    pub paths: Vec<(Box<str>, u32)>,
}

/// A directory's entry.
pub(crate) struct Dir {
    /// As in the layer, with its final `/`.
    pub path: Box<str>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: Xattrs,
}

/// A file object, its checksum found to be right or refused.
pub(crate) struct FileObject {
    pub checksum: Digest,
    /// Full `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: FileContent,
}

/// What a file holds.
pub(crate) enum FileContent {
    /// Bytes of this SHA-256.
    Regular(Digest),
    /// A link to this target.
    Symlink(Box<str>),
}

/// Reads a layer's blob. `Err` only when the blob itself cannot be read.
pub(crate) fn read(number: usize, blob: impl Read) -> io::Result<Layer> {
    let mut refusals = Vec::new();
    let mut blob = Blob::new(blob);
    let (contents, diff_id) = match Archive::begin(&mut blob) {
        Err(reason) => {
            refusals.push(Refusal::LayerCompressionAmbiguous { layer: number, reason });
            (None, None)
        }
        Ok(archive) => {
            let (read, mut archive) = grammar::read(number, archive, &mut refusals);
            // After a broken grammar the rest still counts for the digests.
            let end = io::copy(&mut archive, &mut io::sink())
                .map_err(|error| error.to_string())
                .and_then(|_| archive.finish());
            let (diff_id, end) = match end {
                Ok(diff_id) => (Some(diff_id), None),
                Err(reason) => (None, Some(Refusal::LayerCompressionAmbiguous { layer: number, reason })),
            };
            // What zstd cannot read shows in the tar as a failure to read: one cause, one refusal.
            refusals.extend(end);
            (read, diff_id)
        }
    };
    let (digest, size) = blob.finish()?;
    let contents = contents.filter(|_| diff_id.is_some());
    Ok(Layer { blob: digest, size, diff_id, contents, refusals })
}
