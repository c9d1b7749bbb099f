//! From the layers of a bundle to objects in an OSTree repository. libostree computes each object's checksum
//! again and refuses one that is not what its name says.

use crate::error::{Asked, At, Error};
use crate::tree::READ_BYTES;
use ostree::gio::{self, prelude::OutputStreamExtManual as _};
use ostree::glib::{self, prelude::*};
use secai_verifier::digest::{Digest, HashingReader};
use secai_verifier::layout::{self, ObjectKind, parse_object_path};
use secai_verifier::limits::WINDOW_LOG_MAX;
use secai_verifier::oci::{Blob, Index, Manifest};
use secai_verifier::tar::{Entry, Kind, Reader};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Files up to this size are handed over at once, larger ones are streamed.
const INLINE_BYTES_MAX: u64 = 1 << 20;

/// Imports every object of the image and returns the commit's checksum.
///
/// # Errors
/// [`Error::Unusable`] for a bundle that breaks its own format; [`Error::Ostree`].
pub fn import(bundle: &Path, repo: &ostree::Repo, say: &dyn Fn(&str)) -> Result<String, Error> {
    let manifest = manifest(bundle)?;
    let none = gio::Cancellable::NONE;
    let commit = manifest.labels.commit.to_string();
    let transaction = repo.auto_transaction(none).asked("begin")?;
    repo.mark_commit_partial(&commit, true).asked("mark the commit")?;
    for (i, layer) in manifest.layers.iter().enumerate() {
        say(&format!("importing layer {} of {}", i + 1, manifest.layers.len()));
        let path = bundle.join(layout::blob_path(&layer.blob.digest));
        import_layer(&path, &layer.blob, repo)?;
    }
    repo.mark_commit_partial(&commit, false).asked("mark the commit")?;
    transaction.commit(none).asked("finish")?;
    Ok(commit)
}

/// What a bundle's index names.
///
/// # Errors
/// [`Error::Unusable`] for a bundle that breaks its own format; I/O.
pub fn manifest(bundle: &Path) -> Result<Manifest, Error> {
    let path = bundle.join(layout::INDEX);
    let index = Index::parse(&fs::read(&path).at("read", &path)?).map_err(|e| unusable(&path, e))?;
    let path = bundle.join(layout::blob_path(&index.manifest.digest));
    let bytes = fs::read(&path).at("read", &path)?;
    if Blob::of(&bytes) != index.manifest {
        return Err(unusable(&path, "it is not the blob that the index names"));
    }
    Manifest::parse(&bytes).map_err(|e| unusable(&path, e))
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn import_layer(path: &Path, expected: &Blob, repo: &ostree::Repo) -> Result<(), Error> {
    let file = fs::File::open(path).at("read", path)?;
    let hashed = HashingReader::new(file);
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(READ_BYTES, hashed)).at("read", path)?;
    decoder.window_log_max(WINDOW_LOG_MAX).at("read", path)?;
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, decoder));
    let mut importer = Importer { repo, xattrs: HashMap::new(), next: None };
    while let Some(entry) = reader.next_entry().map_err(|e| unusable(path, e))? {
        importer.entry(&entry, &mut reader, path)?;
    }
    // The rest, so that the digest is of the whole blob.
    let mut decoder = reader.into_inner().into_inner();
    std::io::copy(&mut decoder, &mut std::io::sink()).at("read", path)?;
    let mut compressed = decoder.finish();
    std::io::copy(&mut compressed, &mut std::io::sink()).at("read", path)?;
    let (digest, size, _) = compressed.into_inner().finish();
    if (Blob { digest, size }) != *expected {
        return Err(unusable(path, "it is not the blob that the manifest names"));
    }
    Ok(())
}

struct Importer<'a> {
    repo: &'a ostree::Repo,
    /// Extended attributes by the checksum of their bytes.
    xattrs: HashMap<Digest, glib::Variant>,
    /// Those of the file object that comes next.
    next: Option<(Digest, glib::Variant)>,
}

impl Importer<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>, layer: &Path) -> Result<(), Error> {
        let Some((digest, kind)) = parse_object_path(&entry.path) else { return Ok(()) };
        let name = digest.to_string();
        let none = gio::Cancellable::NONE;
        match kind {
            ObjectKind::Commit | ObjectKind::DirTree | ObjectKind::DirMeta => {
                let bytes = glib::Bytes::from_owned(bytes_of(reader, layer)?);
                let (object, variant) = match kind {
                    ObjectKind::Commit => {
                        (ostree::ObjectType::Commit, glib::Variant::from_bytes::<ostree::CommitVariantType>(&bytes))
                    }
                    ObjectKind::DirTree => {
                        (ostree::ObjectType::DirTree, glib::Variant::from_bytes::<ostree::TreeVariantType>(&bytes))
                    }
                    _ => (ostree::ObjectType::DirMeta, glib::Variant::from_bytes::<ostree::DirmetaVariantType>(&bytes)),
                };
                self.repo.write_metadata(object, Some(&name), &variant, none).asked("import a metadata object")?;
            }
            ObjectKind::FileXattrs => {
                let bytes = glib::Bytes::from_owned(bytes_of(reader, layer)?);
                self.xattrs.insert(digest, glib::Variant::from_bytes::<Vec<(Vec<u8>, Vec<u8>)>>(&bytes));
            }
            ObjectKind::FileXattrsLink => {
                let target = match &entry.kind {
                    Kind::HardLink(target) => parse_object_path(target),
                    _ => None,
                };
                let found = target.and_then(|(d, _)| self.xattrs.get(&d)).cloned();
                self.next =
                    Some((digest, found.ok_or_else(|| unusable(layer, "an object has no extended attributes"))?));
            }
            ObjectKind::File => {
                let xattrs = self.next.take().filter(|(d, _)| *d == digest).map(|(_, x)| x);
                let xattrs =
                    xattrs.ok_or_else(|| unusable(layer, "an object stands without its extended attributes"))?;
                self.file(entry, &name, &xattrs, reader, layer)?;
            }
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &self,
        entry: &Entry,
        name: &str,
        xattrs: &glib::Variant,
        reader: &mut Reader<R>,
        layer: &Path,
    ) -> Result<(), Error> {
        let none = gio::Cancellable::NONE;
        let mode = secai_verifier::ostree::S_IFREG | entry.mode;
        match &entry.kind {
            Kind::Regular(size) if *size <= INLINE_BYTES_MAX => {
                let bytes = bytes_of(reader, layer)?;
                self.repo
                    .write_regfile_inline(Some(name), entry.uid, entry.gid, mode, Some(xattrs), &bytes, none)
                    .asked("import a file")?;
            }
            Kind::Regular(size) => {
                let writer = self
                    .repo
                    .write_regfile(Some(name), entry.uid, entry.gid, mode, *size, Some(xattrs))
                    .asked("import a file")?;
                let stream = writer.clone().upcast::<gio::OutputStream>();
                let mut failed = None;
                reader
                    .data(|piece| {
                        if failed.is_none() {
                            failed = stream.write_all(piece, none).err();
                        }
                    })
                    .map_err(|e| unusable(layer, e))?;
                if let Some(e) = failed {
                    return Err(e).asked("import a file");
                }
                writer.finish(none).asked("import a file")?;
            }
            Kind::Symlink(target) => {
                self.repo
                    .write_symlink(Some(name), entry.uid, entry.gid, Some(xattrs), target, none)
                    .asked("import a link")?;
            }
            _ => return Err(unusable(layer, "an object is neither a file nor a link")),
        }
        Ok(())
    }
}

fn bytes_of<R: BufRead>(reader: &mut Reader<R>, layer: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.data(|piece| bytes.extend_from_slice(piece)).map_err(|e| unusable(layer, e))?;
    Ok(bytes)
}
