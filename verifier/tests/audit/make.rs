//! Makes chains with throw-away keys, and seals changed ones again with whatever keys an attacker would hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use secai_verifier::audit::checkpoint::{Checkpoint, Note, VerifierKey, origin};
use secai_verifier::audit::cosignature::{CosignerKey, message};
use secai_verifier::audit::entry::{Entry, Moment, genesis};
use secai_verifier::audit::payload::Payload;
use secai_verifier::audit::tree::{Frontier, TILE_HEIGHT, TILE_WIDTH, leaf};
use secai_verifier::audit::{SEGMENT_ENTRIES, payload_path, segment_path, tile_path};
use secai_verifier::digest::Digest;

/// 2026-11-22T19:20:00Z.
const BEGUN_MICROS: u64 = 1_795_375_200_000_000;

#[derive(Clone)]
pub struct Chain {
    pub lines: Vec<Vec<u8>>,
    pub payloads: BTreeMap<u64, Payload>,
    pub forgotten: BTreeSet<u64>,
    /// Keys of the epochs; the last one is the current one's.
    pub keys: Vec<SigningKey>,
    /// Sizes with which epochs ended.
    pub ends: Vec<u64>,
    /// Size of the signed head; the whole chain without one.
    pub signed: Option<u64>,
    pub boot: u32,
    pub mono: u64,
    /// Microseconds since the beginning.
    pub clock: u64,
    last: Option<Digest>,
    /// Trees at sizes whose roots were asked for: the next root begins at the nearest.
    trees: RefCell<BTreeMap<u64, Frontier>>,
}

impl Chain {
    pub fn new(seed: u8) -> Self {
        Self {
            lines: Vec::new(),
            payloads: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            keys: vec![SigningKey::from_bytes(&[seed; 32])],
            ends: Vec::new(),
            signed: None,
            boot: 0xa1b2_c3d4,
            mono: 1000,
            clock: 0,
            last: None,
            trees: RefCell::default(),
        }
    }

    /// Three epochs, one payload that is there and one that was forgotten.
    pub fn small() -> Self {
        let mut chain = Self::new(7);
        chain.push("audit.start", r#"{"version":"0.1.0"}"#);
        chain.state("a");
        chain.note("remember the milk");
        chain.epoch();
        chain.note("a secret");
        chain.state("b");
        chain.epoch();
        let secret = 4;
        chain.forget(secret, secret + 1);
        chain.state("c");
        chain.push("audit.stop", r#"{"refused":0}"#);
        chain
    }

    pub fn size(&self) -> u64 {
        self.lines.len() as u64
    }

    pub fn origin(&self) -> String {
        origin(&self.keys[0].verifying_key().to_bytes())
    }

    pub fn vkey(&self, epoch: usize) -> VerifierKey {
        VerifierKey::new(&self.origin(), &self.keys[epoch].verifying_key().to_bytes()).unwrap()
    }

    pub fn push(&mut self, kind: &str, data: &str) -> u64 {
        self.entry(kind, data, None)
    }

    fn entry(&mut self, kind: &str, data: &str, payload: Option<Digest>) -> u64 {
        self.mono += 1;
        self.clock += 1;
        let seq = self.size();
        let entry = Entry {
            seq,
            prev: self.last.unwrap_or_else(|| genesis(&self.origin())),
            time: Moment::from_micros(BEGUN_MICROS + self.clock),
            boot: self.boot,
            mono: self.mono,
            writer: "audit",
            uid: 956,
            kind,
            data,
            payload,
        };
        let mut line = Vec::new();
        entry.render(&mut line);
        self.last = Some(Digest::of(&line));
        self.lines.push(line);
        seq
    }

    pub fn state(&mut self, unit: &str) -> u64 {
        self.push("svc.state", &format!(r#"{{"from":"inactive","result":"success","to":"active","unit":"{unit}"}}"#))
    }

    pub fn note(&mut self, text: &str) -> u64 {
        let payload = Payload { seq: self.size(), salt: [self.size() as u8; 16], bytes: text.into() };
        let seq = self.entry("owner.note", &format!(r#"{{"bytes":{}}}"#, text.len()), Some(payload.digest()));
        self.payloads.insert(seq, payload);
        seq
    }

    pub fn epoch(&mut self) {
        let number = self.keys.len();
        let seed = self.keys[0].to_bytes()[0];
        let next = SigningKey::from_bytes(&[seed.wrapping_mul(31).wrapping_add(number as u8); 32]);
        let key = STANDARD.encode(next.verifying_key().to_bytes());
        self.push("audit.epoch", &format!(r#"{{"key":"{key}","number":{number}}}"#));
        self.ends.push(self.size());
        self.keys.push(next);
    }

    pub fn forget(&mut self, from: u64, until: u64) {
        self.push("audit.forget", &format!(r#"{{"count":1,"from":{from},"until":{until}}}"#));
        self.forgotten.extend(self.payloads.range(from..until).map(|(seq, _)| *seq));
    }

    /// Replaces text in one line, and links everything after it anew: what whoever can write the disk can do.
    pub fn edit(&mut self, at: usize, old: &str, new: &str) {
        let line = String::from_utf8(self.lines[at].clone()).unwrap();
        assert!(line.contains(old), "{old} not in {line}");
        self.lines[at] = line.replacen(old, new, 1).into_bytes();
        self.relink();
    }

    /// Numbers and links every line anew.
    pub fn relink(&mut self) {
        self.trees.borrow_mut().clear();
        let mut prev = genesis(&self.origin());
        for (at, line) in self.lines.iter_mut().enumerate() {
            if let Ok(entry) = Entry::parse(line) {
                let entry = Entry { seq: at as u64, prev, ..entry };
                let mut again = Vec::new();
                entry.render(&mut again);
                *line = again;
            }
            prev = Digest::of(line);
        }
        self.last = Some(prev);
    }

    pub fn root(&self, size: u64) -> Digest {
        let mut trees = self.trees.borrow_mut();
        let mut tree = trees.range(..=size).next_back().map(|(_, tree)| tree.clone()).unwrap_or_default();
        self.lines[tree.size() as usize..size as usize].iter().for_each(|line| tree.push(leaf(line)));
        let root = tree.root();
        trees.insert(size, tree);
        root
    }

    /// A checkpoint signed by this epoch's key.
    pub fn sealed(&self, size: u64, epoch: usize) -> String {
        seal(Checkpoint { origin: self.origin(), size, root: self.root(size) }, &self.keys[epoch], &self.vkey(epoch))
    }

    pub fn epoch_of(&self, size: u64) -> usize {
        self.ends.iter().filter(|end| **end < size).count()
    }

    /// The checkpoint that the writer would have left at this size.
    pub fn checkpoint(&self, size: u64) -> String {
        self.sealed(size, self.epoch_of(size))
    }

    pub fn log(&self) -> String {
        self.ends.iter().enumerate().map(|(epoch, end)| self.sealed(*end, epoch)).collect()
    }

    /// Segments, payloads and tiles; nothing that is signed.
    pub fn write_entries(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("seg")).unwrap();
        for (at, lines) in self.lines.chunks(SEGMENT_ENTRIES as usize).enumerate() {
            let first = at as u64 * SEGMENT_ENTRIES;
            let mut bytes = Vec::new();
            lines.iter().for_each(|line| {
                bytes.extend(line);
                bytes.push(b'\n');
            });
            write(dir, &segment_path(first), &bytes);
            let mut bytes = Vec::new();
            for (seq, payload) in self.payloads.range(first..first + SEGMENT_ENTRIES) {
                let mut line = Vec::new();
                payload.render(&mut line);
                if self.forgotten.contains(seq) {
                    line.fill(b' ');
                }
                bytes.extend(line);
                bytes.push(b'\n');
            }
            if !bytes.is_empty() {
                write(dir, &payload_path(first), &bytes);
            }
        }
        let mut rows: Vec<Vec<u8>> = vec![Vec::new(); 8];
        let mut tree = Frontier::new();
        for (seq, line) in self.lines.iter().enumerate() {
            let mut nodes = vec![(0, leaf(line))];
            tree.push_with(leaf(line), |level, _, hash| nodes.push((level, hash)));
            for (level, hash) in nodes.into_iter().filter(|(level, _)| level % TILE_HEIGHT == 0) {
                let row = &mut rows[(level / TILE_HEIGHT) as usize];
                row.extend(hash.as_bytes());
                if row.len() as u64 == 32 * TILE_WIDTH {
                    let number = seq as u64 >> (level + TILE_HEIGHT);
                    write(dir, &tile_path(level / TILE_HEIGHT, number), row);
                    row.clear();
                }
            }
        }
    }

    pub fn write(&self, dir: &Path) {
        self.write_entries(dir);
        write(dir, "checkpoints.log", self.log().as_bytes());
        write(dir, "checkpoint", self.checkpoint(self.signed.unwrap_or(self.size())).as_bytes());
    }

    /// A trust directory with the key of epoch 0.
    pub fn trust(&self, dir: &Path) -> PathBuf {
        write(dir, "device.vkey", format!("{}\n", self.vkey(0)).as_bytes());
        dir.to_owned()
    }
}

pub fn seal(checkpoint: Checkpoint, key: &SigningKey, vkey: &VerifierKey) -> String {
    let signature = key.sign(checkpoint.body().as_bytes()).to_bytes();
    Note::sealed(checkpoint, vkey, &signature).render()
}

/// A witness with a throw-away key, whose clock stands.
pub struct Witness {
    secret: SigningKey,
    pub key: CosignerKey,
}

/// 2026-11-22T21:00:00Z.
pub const SEEN_SECONDS: u64 = 1_795_381_200;

impl Witness {
    pub fn new(seed: u8) -> Self {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let key = CosignerKey::new("witness.example/w1", &secret.verifying_key().to_bytes()).unwrap();
        Self { secret, key }
    }

    /// Its line under a checkpoint.
    pub fn answer(&self, checkpoint: &Checkpoint) -> String {
        let message = message(checkpoint, SEEN_SECONDS);
        self.key.line(SEEN_SECONDS, &self.secret.sign(message.as_bytes()).to_bytes())
    }

    /// A note with it.
    pub fn cosigns(&self, note: &str) -> String {
        let mut note = Note::parse(note.as_bytes()).unwrap();
        note.add(self.answer(&note.checkpoint).as_bytes()).unwrap();
        note.render()
    }
}

pub fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
