//! `cargo bench -p secai-verifier`: a whole verdict against the tools that check half of it each.
//!
//! The tree is 280 MB of this machine's `/usr`. The peers run one after another, as one would do it by
//! hand: `zstd -d | sha256sum` for every layer, then `ostree fsck` of a repository with the same files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests compare it with others")]

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/bundle/make.rs"]
mod make;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use make::{KERNEL, NOW, Node, Plan};

const TREE_BYTES: u64 = 280 << 20;
/// Small files, so that there are about ten thousand, as in an image.
const FILE_BYTES: u64 = 256 << 10;
const LAYERS: usize = 24;

fn nodes(copy: &Path) -> Vec<Node> {
    let (mut nodes, mut bytes) = (Vec::new(), 0);
    let mut dirs = vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/share"), PathBuf::from("/usr/lib")];
    while let Some(dir) = dirs.pop() {
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let found = fs::symlink_metadata(&path).unwrap();
            let Some(name) = path.to_str() else { continue };
            if found.is_dir() {
                dirs.push(path);
            } else if found.is_file() && bytes < TREE_BYTES && found.len() < FILE_BYTES {
                bytes += found.len();
                // Largest directories make the largest layers, as packages do.
                let layer = 1 + nodes.len() / 400 % (LAYERS - 1);
                let mut node = Node::file(name, &fs::read(&path).unwrap(), layer);
                node.mode = found.mode() & !0o6000;
                nodes.push(node);
            }
        }
    }
    nodes.push(Node::file(&format!("/usr/lib/modules/{KERNEL}/vmlinuz"), b"kernel", 1));
    // One object lies in one layer: equal files go where the first of them went.
    let mut first = std::collections::BTreeMap::new();
    for node in &mut nodes {
        node.layer = *first.entry((node.data.clone(), node.mode)).or_insert(node.layer);
        make::write(copy, node.path.trim_start_matches('/'), &node.data);
    }
    nodes
}

fn time(what: &str, command: &mut Command) -> f64 {
    let best = (0..3)
        .map(|_| {
            let begun = Instant::now();
            let out = command.output().unwrap();
            assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&[out.stdout, out.stderr].concat()));
            begun.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!("{best:7.2} s  {what}");
    best
}

fn main() -> ExitCode {
    for peer in ["zstd", "sha256sum", "ostree"] {
        if Command::new(peer).arg("--version").output().is_err() {
            println!("{peer} is missing: nothing to compare with");
            return ExitCode::FAILURE;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let nodes = nodes(&dir.path().join("copy"));
    let bytes: usize = nodes.iter().map(|node| node.data.len()).sum();
    println!("{} files, {} MiB", nodes.len(), bytes >> 20);
    let plan = Plan { commit: nodes.clone(), layers: nodes.clone(), sbom: nodes, ..Plan::default() };
    plan.make(dir.path());
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path());
        command
    };
    assert!(
        shell("ostree init --repo=repo --mode=bare && ostree commit --repo=repo -b b --tree=dir=copy")
            .output()
            .unwrap()
            .status
            .success()
    );

    let mut ours = Command::new(env!("CARGO_BIN_EXE_verify-release"));
    ours.args(["bundle", "bundle", "--trust", "trust", "--assume-now", NOW]).current_dir(dir.path());
    let ours = time("verify-release bundle", &mut ours);
    let zstd = time(
        "zstd -d | sha256sum, each layer",
        &mut shell("for b in bundle/image/blobs/sha256/*; do zstd -dcq $b 2>/dev/null | sha256sum; done; true"),
    );
    let fsck = time("ostree fsck", &mut shell("ostree fsck --repo=repo --quiet"));
    println!("{:7.2} x  as fast as both", (zstd + fsck) / ours);
    ExitCode::SUCCESS
}
