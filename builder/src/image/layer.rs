//! Writing one layer: canonical tar entries in the order of the bundle format, hashed and compressed as they go.

use super::pack::Bin;
use crate::commit::Commit;
use crate::error::{At, Error};
use crate::tree::{each_piece, on_disk};
use secai_verifier::digest::{Digest, HashingWriter};
use secai_verifier::layout::{ObjectKind, layer_path, object_path};
use secai_verifier::oci::Blob;
use secai_verifier::ostree::{FileHasher, Xattrs};
use secai_verifier::tar::{END, Entry, Kind};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// zstd's level: as fast as hashing on the same core, within 4 % of level 9 on a Debian tree.
pub const LEVEL: i32 = 3;
/// Changes when the same content would give other bytes.
const LAYER_FORMAT: u32 = 1;

/// A finished layer.
#[derive(Debug, Clone)]
pub struct LayerFile {
    /// Where it lies: in the cache.
    pub path: PathBuf,
    /// Digest and size of the compressed bytes.
    pub blob: Blob,
    /// Digest of the tar archive.
    pub diff_id: Digest,
}

/// Where layers are kept, and where they are written until they are whole.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    /// Finished layers, by digest and by key.
    pub kept: &'a Path,
    /// On the same file system.
    pub scratch: &'a Path,
}

type Preamble = [(Entry, &'static [u8])];
type Out = HashingWriter<zstd::stream::Encoder<'static, HashingWriter<BufWriter<fs::File>>>>;

struct Writer {
    out: Out,
    path: tempfile::TempPath,
}

impl Writer {
    fn create(dir: &Path) -> Result<Writer, Error> {
        let (file, path) = tempfile::NamedTempFile::new_in(dir).at("create", dir)?.into_parts();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        file.set_permissions(mode).at("create", dir)?;
        let sink = HashingWriter::new(BufWriter::with_capacity(1 << 20, file));
        let mut encoder = zstd::stream::Encoder::new(sink, LEVEL).at("compress", dir)?;
        encoder.include_checksum(true).at("compress", dir)?;
        Ok(Writer { out: HashingWriter::new(encoder), path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).at("write", &self.path)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let header = entry.render().map_err(|e| Error::Tree(e.to_string()))?;
        self.write(&header)
    }

    fn entry_with(&mut self, entry: &Entry, data: &[u8]) -> Result<(), Error> {
        self.entry(entry)?;
        self.write(data)?;
        self.write(&vec![0; entry.padding()])
    }

    fn preamble(&mut self, preamble: &Preamble) -> Result<(), Error> {
        preamble.iter().try_for_each(|(entry, data)| self.entry_with(entry, data))
    }

    fn finish(mut self, key: Digest, dir: &Path) -> Result<LayerFile, Error> {
        self.write(&END)?;
        let (diff_id, _, encoder) = self.out.finish();
        let sink = encoder.finish().at("write", &self.path)?;
        let (digest, size, mut buffered) = sink.finish();
        buffered.flush().at("write", &self.path)?;
        let path = dir.join(digest.to_string());
        self.path.persist(&path).map_err(|e| e.error).at("write", &path)?;
        // The pointer is written last and whole: a killed layer is not in the cache.
        let pointer = format!("{digest} {diff_id} {size}\n");
        crate::stage::write_atomically(&dir.join(format!("{key}.layer")), pointer.as_bytes())?;
        Ok(LayerFile { path, blob: Blob { digest, size }, diff_id })
    }
}

/// A layer that was made before from the same entries, if its bytes are still what they were.
fn kept(key: Digest, dir: &Path) -> Option<LayerFile> {
    let pointer = fs::read_to_string(dir.join(format!("{key}.layer"))).ok()?;
    let mut words = pointer.split_whitespace();
    let digest: Digest = words.next()?.parse().ok()?;
    let diff_id: Digest = words.next()?.parse().ok()?;
    let size: u64 = words.next()?.parse().ok()?;
    let path = dir.join(digest.to_string());
    let mut hasher = HashingWriter::new(std::io::sink());
    let read = each_piece(&path, |piece| drop(hasher.write_all(piece))).ok()?;
    (read == size && hasher.finish().0 == digest).then_some(LayerFile { path, blob: Blob { digest, size }, diff_id })
}

/// Key of a layer: everything its bytes depend on.
fn key(lines: impl Iterator<Item = String>) -> Digest {
    let mut hasher = sha2::Sha256::new();
    hasher.update(format!("{LAYER_FORMAT} {LEVEL} {}\n", zstd::zstd_safe::version_string()));
    for line in lines {
        hasher.update((line.len() as u64).to_be_bytes());
        hasher.update(line);
    }
    hasher.into()
}

/// Entries of the commit's folders whose name in a layer is wanted, sorted.
fn folders(commit: &Commit, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for folder in &commit.tree.folders {
        let name = layer_path(&folder.path);
        if folder.path == "/" || folder.path == "/sysroot" || !wanted(name) {
            continue;
        }
        let xattrs =
            Xattrs::new(folder.xattrs.iter().cloned()).map_err(|e| Error::Tree(format!("{}: {e}", folder.path)))?;
        let entry = Entry::directory(format!("{name}/"), folder.mode & 0o7777, folder.uid, folder.gid);
        entries.push(Entry { xattrs: xattrs.in_pax(), ..entry });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Layer 0: the commit object, all folder and tree objects, all folders.
///
/// # Errors
/// [`Error::Tree`], I/O.
pub fn metadata_layer(commit: &Commit, preamble: &Preamble, store: &Store) -> Result<LayerFile, Error> {
    // The commit's checksum covers every object, the folders and their modes.
    let key = key(["metadata".to_owned(), commit.checksum.to_string()].into_iter());
    if let Some(layer) = kept(key, store.kept) {
        return Ok(layer);
    }
    let mut writer = Writer::create(store.scratch)?;
    writer.preamble(preamble)?;
    let path = object_path(&commit.checksum, ObjectKind::Commit);
    writer.entry_with(&Entry::object(path, commit.object.len() as u64), &commit.object)?;
    let mut objects = BTreeMap::new();
    for (name, bytes) in &commit.metadata {
        let (hex, ending) = name.split_once('.').unwrap_or((name, ""));
        let kind = if ending == "dirtree" { ObjectKind::DirTree } else { ObjectKind::DirMeta };
        let digest: Digest = hex.parse().map_err(|_| Error::Tree(format!("{name} is not the name of an object")))?;
        objects.insert(object_path(&digest, kind), &bytes.0);
    }
    for (path, bytes) in objects {
        writer.entry_with(&Entry::object(path, bytes.len() as u64), bytes)?;
    }
    for folder in folders(commit, |_| true)? {
        writer.entry(&folder)?;
    }
    writer.finish(key, store.kept)
}

/// A layer of files.
///
/// # Errors
/// [`Error::ChangedUnderneath`] when a file is no longer what was committed; [`Error::Tree`], I/O.
pub fn file_layer(
    bin: &Bin,
    commit: &Commit,
    rootfs: &Path,
    preamble: &Preamble,
    store: &Store,
) -> Result<LayerFile, Error> {
    let mut parents = BTreeSet::new();
    for (_, paths) in bin.objects.values() {
        for path in paths {
            let mut path = layer_path(path);
            while let Some((parent, _)) = path.rsplit_once('/') {
                if !parents.insert(parent) {
                    break;
                }
                path = parent;
            }
        }
    }
    let folders = folders(commit, |path| parents.contains(path))?;
    let root = preamble.first().map(|(e, _)| format!("{e:?}")).unwrap_or_default();
    let key = key(std::iter::once(root)
        .chain(folders.iter().map(|f| format!("{f:?}")))
        .chain(bin.objects.iter().map(|(object, (_, paths))| format!("{object} {}", paths.join("\0")))));
    if let Some(layer) = kept(key, store.kept) {
        return Ok(layer);
    }
    let mut writer = Writer::create(store.scratch)?;
    writer.preamble(preamble)?;
    for folder in &folders {
        writer.entry(folder)?;
    }
    let mut written = BTreeSet::new();
    for (object, (file, paths)) in &bin.objects {
        let header = file.header()?;
        let xattrs = header.xattrs.render();
        let xattrs_name = object_path(&Digest::of(&xattrs), ObjectKind::FileXattrs);
        if written.insert(xattrs_name.clone()) {
            writer.entry_with(&Entry::object(xattrs_name.clone(), xattrs.len() as u64), &xattrs)?;
        }
        writer.entry(&Entry {
            path: object_path(object, ObjectKind::FileXattrsLink),
            kind: Kind::HardLink(xattrs_name),
            mode: 0o644,
            uid: 0,
            gid: 0,
            xattrs: Xattrs::EMPTY,
        })?;
        let object_name = object_path(object, ObjectKind::File);
        let entry = |path: String, kind: Kind, xattrs: Xattrs| Entry {
            path,
            kind,
            mode: file.mode & 0o7777,
            uid: file.uid,
            gid: file.gid,
            xattrs,
        };
        let kind = match &file.target {
            Some(target) => Kind::Symlink(target.clone()),
            None => Kind::Regular(file.size),
        };
        let own = entry(object_name.clone(), kind, header.xattrs.in_pax());
        writer.entry(&own)?;
        if file.is_regular() {
            let path = on_disk(rootfs, &file.path);
            let mut hasher = FileHasher::new(&header).map_err(|e| Error::Tree(e.to_string()))?;
            let mut failure = None;
            let mut left = file.size;
            each_piece(&path, |piece| {
                hasher.update(piece);
                // Never more than the header promised, whatever happens to the file meanwhile.
                if piece.len() as u64 <= left && failure.is_none() {
                    left -= piece.len() as u64;
                    failure = writer.write(piece).err();
                }
            })?;
            if let Some(e) = failure {
                return Err(e);
            }
            if hasher.finish() != *object {
                return Err(Error::ChangedUnderneath { path });
            }
            writer.write(&vec![0; own.padding()])?;
        }
        let empty = file.is_regular() && file.size == 0;
        let mut names: Vec<&str> = paths.iter().map(|p| layer_path(p)).collect();
        names.sort_unstable();
        for name in names {
            writer.entry(&if empty {
                entry(name.to_owned(), Kind::Regular(0), header.xattrs.in_pax())
            } else {
                entry(name.to_owned(), Kind::HardLink(object_name.clone()), Xattrs::EMPTY)
            })?;
        }
    }
    writer.finish(key, store.kept)
}
