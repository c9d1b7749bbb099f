//! Our reading of OSTree's objects against OSTree's own tool.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use secai_verifier::digest::Digest;
use secai_verifier::ostree::{
    Commit, DirEntry, DirMeta, DirTree, FileEntry, FileHasher, FileHeader, MetadataValue, Xattrs,
};

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let pairs = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(|name| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (name.to_vec(), value[..length].to_vec())
    });
    // libostree leaves out what has an empty value when it reads a file system.
    Xattrs::new(pairs.filter(|(_, value)| !value.is_empty())).unwrap()
}

/// A directory's dirtree and dirmeta as we compute them.
fn objects(dir: &Path) -> (Digest, Digest) {
    let mut tree = DirTree::default();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let name = name.into_string().unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            let (subtree, meta) = objects(&path);
            tree.dirs.push(DirEntry { name, tree: subtree, meta });
            continue;
        }
        let target = found.is_symlink().then(|| fs::read_link(&path).unwrap().into_os_string().into_string().unwrap());
        let header =
            FileHeader { uid: found.uid(), gid: found.gid(), mode: found.mode(), target, xattrs: xattrs(&path) };
        let mut hasher = FileHasher::new(&header).unwrap();
        if found.is_file() {
            hasher.update(&fs::read(&path).unwrap());
        }
        tree.files.push(FileEntry { name, file: hasher.finish() });
    }
    let found = fs::symlink_metadata(dir).unwrap();
    let meta = DirMeta { uid: found.uid(), gid: found.gid(), mode: found.mode(), xattrs: xattrs(dir) };
    (Digest::of(&tree.render().unwrap()), Digest::of(&meta.render().unwrap()))
}

fn lay(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/su"), b"su").unwrap();
    fs::set_permissions(root.join("usr/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(root.join("usr/empty"), b"").unwrap();
    fs::write(root.join("usr/é"), vec![7; 300_000]).unwrap();
    symlink("../usr//bin/su", root.join("usr/link")).unwrap();
    // Names enough that a dirtree needs offsets of two and of four bytes.
    for (dir, count) in [("two", 20), ("four", 1500)] {
        fs::create_dir(root.join(dir)).unwrap();
        for number in 0..count {
            fs::write(root.join(dir).join(format!("file-{number}")), format!("{number}")).unwrap();
        }
    }
    let path = root.join("usr/bin/su");
    for (name, value) in [("user.b", &b"\0one\n="[..]), ("user.a", &[9; 300]), ("user.empty", b"")] {
        if let Err(error) = rustix::fs::lsetxattr(&path, name, value, rustix::fs::XattrFlags::empty()) {
            println!("no {name} on this file system ({error}), going on without");
        }
    }
}

#[test]
fn checksums_are_those_of_ostree() {
    if Command::new("ostree").arg("--version").output().is_err() {
        println!("SKIPPED: no ostree here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, repo) = (dir.path().join("root"), dir.path().join("repo"));
    lay(&root);
    run(Command::new("ostree").arg("init").arg("--mode=archive").arg("--repo").arg(&repo));
    let checksum = run(Command::new("ostree")
        .args(["commit", "--branch=test", "--subject=minimal 0.1.0", "--timestamp=2026-11-22T21:00:00Z"])
        .args(["--add-metadata-string=version=0.1.0", "--add-metadata=ostree.bootable=true"])
        .arg("--repo")
        .arg(&repo)
        .arg(format!("--tree=dir={}", root.display())));

    let mut objects_seen = 0;
    for head in fs::read_dir(repo.join("objects")).unwrap() {
        let head = head.unwrap();
        for object in fs::read_dir(head.path()).unwrap() {
            let path = object.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("dirtree") => assert_eq!(DirTree::parse(&bytes).unwrap().render().unwrap(), bytes),
                Some("dirmeta") => assert_eq!(DirMeta::parse(&bytes).unwrap().render().unwrap(), bytes),
                Some("commit") => assert_eq!(Commit::parse(&bytes).unwrap().render().unwrap(), bytes),
                _ => continue,
            }
            let name = format!("{}{}", head.file_name().display(), path.file_stem().unwrap().display());
            assert_eq!(Digest::of(&bytes).to_string(), name);
            objects_seen += 1;
        }
    }
    assert!(objects_seen >= 7, "{objects_seen}");
    let bytes = fs::read(repo.join(format!("objects/{}/{}.commit", &checksum[..2], &checksum[2..]))).unwrap();
    let commit = Commit::parse(&bytes).unwrap();
    assert_eq!((commit.tree, commit.meta), objects(&root));
    assert_eq!(commit.version(), Some("0.1.0"));
    assert!(commit.bootable());
    assert_eq!(commit.get("ostree.ref-binding"), Some(&MetadataValue::Texts(vec!["test".to_owned()])));
    assert_eq!(commit.timestamp.to_string(), "2026-11-22T21:00:00Z");
}
