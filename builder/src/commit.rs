//! Stage 3: the OSTree commit of the tree.
//!
//! Files are hashed here, in parallel; folders, trees and the commit itself are made by libostree from those
//! checksums. No file content enters a repository: the layers of the image carry it, once.

use crate::error::{Asked, At, Error};
use crate::plan::Plan;
use crate::rootfs::Rootfs;
use crate::stage::{Inputs, State, Workspace, remove};
use crate::tree::{Folder, Tree};
use base64::Engine;
use ostree::gio;
use ostree::glib::{self, prelude::*};
use secai_verifier::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// What the third stage hands on, and what `3-commit.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Commit {
    /// Checksum of the commit object.
    pub checksum: Digest,
    /// The commit object.
    #[serde(with = "bytes")]
    pub object: Vec<u8>,
    /// Folder and tree objects by file name (`HEX.dirtree`, `HEX.dirmeta`), sorted.
    pub metadata: BTreeMap<String, Bytes>,
    /// Release of the kernel.
    pub kernel: String,
    /// The tree it was made from.
    pub tree: Tree,
}

/// Bytes that are base64 in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bytes(#[serde(with = "bytes")] pub Vec<u8>);

mod bytes {
    use super::*;
    pub fn serialize<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// What the commit stage is made from.
pub fn inputs(plan: &Plan) -> Inputs {
    Inputs::new().with("rootfs", plan.rootfs_inputs().key()).with("date", plan.date)
}

/// Makes the commit, or finds it made.
///
/// # Errors
/// [`Error::Ostree`], [`Error::Tree`], I/O.
pub fn build(plan: &Plan, rootfs: &Rootfs, workspace: &Workspace, say: &dyn Fn(&str)) -> Result<Commit, Error> {
    let inputs = inputs(plan);
    let output = workspace.output("commit");
    if workspace.state("commit", &inputs) == State::Cached
        && let Some(kept) = fs::read(&output).ok().and_then(|text| serde_json::from_slice::<Commit>(&text).ok())
        && Digest::of(&kept.object) == kept.checksum
    {
        return Ok(kept);
    }
    let partial = workspace.begin("commit")?;
    say("hashing the tree");
    let tree = Tree::read(&rootfs.path)?;
    let subject = format!("{} {}", plan.recipe.name, plan.recipe.version);
    let labels = BTreeMap::from([
        ("ostree.bootable".to_owned(), true.to_variant()),
        ("ostree.linux".to_owned(), rootfs.kernel.to_variant()),
        ("version".to_owned(), plan.recipe.version.to_variant()),
    ]);
    let repository = workspace.partial("repository");
    let commit = write(tree, &repository, &subject, &labels, plan.date, &rootfs.kernel)?;
    remove(&repository)?;
    let text = serde_json::to_vec(&commit).map_err(std::io::Error::from).at("write", &partial)?;
    fs::write(&partial, text).at("write", &partial)?;
    workspace.finish("commit", &inputs)?;
    Ok(commit)
}

/// Lets libostree make folder, tree and commit objects in a fresh repository at `repository`.
fn write(
    tree: Tree,
    repository: &std::path::Path,
    subject: &str,
    labels: &BTreeMap<String, glib::Variant>,
    date: i64,
    kernel: &str,
) -> Result<Commit, Error> {
    remove(repository)?;
    fs::create_dir(repository).at("create", repository)?;
    let none = gio::Cancellable::NONE;
    let repo = ostree::Repo::new_for_path(repository);
    repo.create(ostree::RepoMode::Archive, none).asked("create a repository")?;
    repo.set_disable_fsync(true);
    let root = ostree::MutableTree::new();
    let transaction = repo.auto_transaction(none).asked("begin")?;
    // A folder's `MutableTree` by path; parents come before children in the sorted list.
    let mut folders: BTreeMap<&str, ostree::MutableTree> = BTreeMap::new();
    for folder in &tree.folders {
        let node = match folder.path.rsplit_once('/') {
            Some(("", "")) => root.clone(),
            Some((parent, name)) => {
                let parent = folders.get(if parent.is_empty() { "/" } else { parent });
                parent
                    .ok_or_else(|| Error::Tree(format!("{} has no parent", folder.path)))?
                    .ensure_dir(name)
                    .asked("add a folder")?
            }
            None => return Err(Error::Tree(format!("{} is not absolute", folder.path))),
        };
        let meta = ostree::create_directory_metadata(&info_of(folder), Some(&xattrs_variant(&folder.xattrs)));
        let checksum =
            repo.write_metadata(ostree::ObjectType::DirMeta, None, &meta, none).asked("write a folder's metadata")?;
        node.set_metadata_checksum(&checksum.to_hex());
        folders.insert(&folder.path, node);
    }
    for file in &tree.files {
        let (parent, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let parent = folders.get(if parent.is_empty() { "/" } else { parent });
        parent
            .ok_or_else(|| Error::Tree(format!("{} has no folder", file.path)))?
            .replace_file(name, &file.object.to_string())
            .asked("add a file")?;
    }
    let written = repo.write_mtree(&root, none).asked("write the tree")?;
    let written = written
        .downcast::<ostree::RepoFile>()
        .map_err(|_| Error::Tree("libostree returned another kind of file".into()))?;
    let checksum = repo
        .write_commit_with_time(None, Some(subject), None, Some(&labels.to_variant()), &written, date as u64, none)
        .asked("write the commit")?;
    transaction.commit(none).asked("finish")?;
    let object = repo.load_commit(&checksum).asked("read the commit")?.0.data_as_bytes().to_vec();
    let checksum: Digest =
        checksum.parse().map_err(|_| Error::Tree("libostree returned a malformed checksum".into()))?;
    let metadata = metadata_objects(&repository.join("objects"))?;
    Ok(Commit { checksum, object, metadata, kernel: kernel.into(), tree })
}

/// Reads the folder and tree objects that libostree wrote.
fn metadata_objects(objects: &std::path::Path) -> Result<BTreeMap<String, Bytes>, Error> {
    let mut found = BTreeMap::new();
    for shard in fs::read_dir(objects).at("read", objects)? {
        let shard = shard.at("read", objects)?;
        let head = shard.file_name().to_string_lossy().into_owned();
        for object in fs::read_dir(shard.path()).at("read", shard.path())? {
            let object = object.at("read", shard.path())?;
            let name = format!("{head}{}", object.file_name().to_string_lossy());
            if name.ends_with(".dirtree") || name.ends_with(".dirmeta") {
                found.insert(name, Bytes(fs::read(object.path()).at("read", object.path())?));
            }
        }
    }
    Ok(found)
}

fn info_of(folder: &Folder) -> gio::FileInfo {
    let info = gio::FileInfo::new();
    info.set_file_type(gio::FileType::Directory);
    info.set_attribute_uint32("unix::uid", folder.uid);
    info.set_attribute_uint32("unix::gid", folder.gid);
    info.set_attribute_uint32("unix::mode", folder.mode);
    info
}

fn xattrs_variant(pairs: &[(Vec<u8>, Vec<u8>)]) -> glib::Variant {
    glib::Variant::array_from_iter::<(Vec<u8>, Vec<u8>)>(pairs.iter().map(|p| p.to_variant()))
}
