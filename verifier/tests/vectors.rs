//! The literal vectors of `spec/vectors/`: made by other programs, read by ours.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]

use std::fs;
use std::path::Path;

use secai_verifier::digest::Digest;
use secai_verifier::dsse;
use secai_verifier::ostree::{DirMeta, DirTree, FileEntry, FileHasher, FileHeader, Xattrs};
use secai_verifier::tar::{BLOCK, END, Entry, Kind, Reader};
use serde_json::Value;

fn vector(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn hex(value: &Value) -> Vec<u8> {
    text(value)
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn mode(value: &Value) -> u32 {
    u32::from_str_radix(&text(value), 8).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn xattrs(value: &Value) -> Xattrs {
    Xattrs::new(list(value).iter().map(|pair| (text(&pair[0]).into_bytes(), hex(&pair[1])))).unwrap()
}

#[test]
fn file_objects() {
    for object in list(&vector("file-objects.json")["objects"]) {
        let header = FileHeader {
            uid: number(&object["uid"]),
            gid: number(&object["gid"]),
            mode: mode(&object["mode"]),
            target: object["target"].as_str().map(str::to_owned),
            xattrs: xattrs(&object["xattrs"]),
        };
        let mut hasher = FileHasher::new(&header).unwrap();
        hasher.update(&hex(&object["content"]));
        assert_eq!(hasher.finish().to_string(), text(&object["checksum"]), "{}", object["what"]);
    }
}

#[test]
fn directories() {
    let vector_tree = vector("dirtree.json");
    let files = list(&vector_tree["files"])
        .iter()
        .map(|entry| FileEntry { name: text(&entry[0]), file: text(&entry[1]).parse().unwrap() });
    let tree = DirTree { files: files.collect(), dirs: vec![] };
    assert_eq!(tree.render().unwrap(), hex(&vector_tree["bytes"]));
    assert_eq!(Digest::of(&hex(&vector_tree["bytes"])).to_string(), text(&vector_tree["checksum"]));
    let vector_meta = vector("dirmeta.json");
    let meta = DirMeta { uid: 0, gid: 0, mode: mode(&vector_meta["mode"]), xattrs: Xattrs::EMPTY };
    assert_eq!(meta.render().unwrap(), hex(&vector_meta["bytes"]));
}

#[test]
fn pre_authentication_encoding() {
    let vector = vector("pae.json");
    assert_eq!(
        dsse::pae(&text(&vector["payloadType"]), text(&vector["payload"]).as_bytes()),
        text(&vector["pae"]).as_bytes()
    );
}

#[test]
fn tar_entries() {
    let mut archive = Vec::new();
    let mut entries = Vec::new();
    for entry in list(&vector("tar-entries.json")["entries"]) {
        let mut blocks = Vec::new();
        for block in list(&entry["blocks"]) {
            blocks.extend(hex(block));
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        let kind = Kind::Regular(u64::from(number(&entry["size"])));
        let (uid, gid) = (number(&entry["uid"]), number(&entry["gid"]));
        let entry = Entry {
            path: text(&entry["path"]),
            kind,
            mode: mode(&entry["mode"]),
            uid,
            gid,
            xattrs: xattrs(&entry["xattrs"]),
        };
        assert_eq!(entry.render().unwrap(), blocks, "{}", entry.path);
        archive.extend(blocks);
        archive.resize(archive.len() + usize::try_from(entry.size().next_multiple_of(BLOCK as u64)).unwrap(), 0);
        entries.push(entry);
    }
    archive.extend(END);
    let mut reader = Reader::new(archive.as_slice());
    for entry in entries {
        assert_eq!(reader.next_entry().unwrap(), Some(entry));
    }
    assert_eq!(reader.next_entry().unwrap(), None);
}
