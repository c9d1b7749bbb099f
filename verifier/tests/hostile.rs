//! Every parser on cut, flipped and random bytes: an answer, never a panic; and whatever is accepted is
//! spelled as it would be written.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]

use secai_verifier::audit::checkpoint::{Checkpoint, Note, VerifierKey};
use secai_verifier::audit::entry::Entry;
use secai_verifier::audit::payload::Payload;
use secai_verifier::audit::proof::Proof;
use secai_verifier::audit::python_hmac_chain::line_is_read;
use secai_verifier::canonical::from_canonical;
use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::network::links::Links;
use secai_verifier::network::parse as ruleset;
use secai_verifier::network::profile::{Loopback, Profile};
use secai_verifier::network::prove::prove;
use secai_verifier::oci::{Blob, Config, Index, Labels, Layer, Manifest};
use secai_verifier::openpgp::{Certificate, verify_armoured, verify_binary};
use secai_verifier::ostree::{
    Commit, DirEntry, DirMeta, DirTree, FileEntry, FileHeader, MetadataValue, Xattrs, commitmeta,
};
use secai_verifier::release::{Artifact, Release};
use secai_verifier::sbom::{Content, File, Owner, OwnerKind, Sbom};
use secai_verifier::sums::Sums;
use secai_verifier::tar::{self, Reader, preamble};
use secai_verifier::trust::{KeyId, PublicKey, RolesFile};
use secai_verifier::{openpgp, statement};
use std::path::Path;

/// Takes bytes; gives the rendering of what it read, `None` where there is no rendering to compare.
type Parse = fn(&[u8]) -> Option<Option<Vec<u8>>>;

const PARSERS: [(&str, Parse); 26] = [
    ("sums", |bytes| Some(Some(Sums::parse(bytes).ok()?.render()))),
    ("release", |bytes| Some(Some(Release::parse(bytes).ok()?.render().unwrap()))),
    ("envelope", |bytes| Envelope::parse(bytes).ok().map(|_| None)),
    ("statement", |bytes| {
        let read = statement::parse(bytes).ok()?;
        Some(Some(statement::render(&read.name, &read.manifest, &bytes[read.predicate]).unwrap()))
    }),
    ("sbom", |bytes| Some(Some(Sbom::parse(bytes).ok()?.render().unwrap()))),
    ("index", |bytes| Some(Some(Index::parse(bytes).ok()?.render().unwrap()))),
    ("manifest", |bytes| Some(Some(Manifest::parse(bytes).ok()?.render().unwrap()))),
    ("config", |bytes| Some(Some(Config::parse(bytes).ok()?.render().unwrap()))),
    ("canonical", |bytes| from_canonical::<serde_json::Value>(bytes).ok().map(|_| None)),
    ("commit", |bytes| Some(Some(Commit::parse(bytes).ok()?.render().unwrap()))),
    ("dirtree", |bytes| Some(Some(DirTree::parse(bytes).ok()?.render().unwrap()))),
    ("dirmeta", |bytes| Some(Some(DirMeta::parse(bytes).ok()?.render().unwrap()))),
    ("file header", |bytes| Some(Some(FileHeader::parse(bytes).ok()?.render().unwrap()))),
    ("commitmeta", |bytes| Some(Some(commitmeta::render(&commitmeta::parse(bytes).ok()?)))),
    ("roles", |bytes| RolesFile::parse(bytes).ok().map(|_| None)),
    ("public key", |bytes| PublicKey::from_pem(str::from_utf8(bytes).ok()?).ok().map(|_| None)),
    ("openpgp", |bytes| {
        let now = "2026-11-22T21:00:00Z".parse().unwrap();
        let certificates: Vec<Certificate> = openpgp::Certificate::read_armoured(bytes).unwrap_or_default();
        let _ = verify_armoured(&certificates, b"data", bytes, now);
        let _ = verify_binary(&certificates, b"data", bytes, now);
        None
    }),
    ("entry", |bytes| {
        let entry = Entry::parse(bytes).ok()?;
        let _ = entry.check_data();
        let mut again = Vec::new();
        entry.render(&mut again);
        Some(Some(again))
    }),
    ("payload", |bytes| {
        let mut again = Vec::new();
        Payload::parse(bytes)?.render(&mut again);
        Some(Some(again))
    }),
    ("checkpoint", |bytes| Some(Some(Note::parse(bytes).ok()?.render().into_bytes()))),
    ("verifier key", |bytes| {
        let key: VerifierKey = str::from_utf8(bytes).ok()?.parse().ok()?;
        Some(Some(key.to_string().into_bytes()))
    }),
    ("proof", |bytes| Some(Some(Proof::parse(bytes).ok()?.render().into_bytes()))),
    ("line of python-hmac-chain", |bytes| line_is_read(bytes).then_some(None)),
    ("ruleset", |bytes| {
        let read = ruleset::parse(bytes).ok()?;
        assert_eq!(ruleset::parse(read.to_string().as_bytes()).as_ref(), Ok(&read), "what is printed is what is read");
        let page = |path| std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let profile = Profile::parse(&page("../manifests/policy/profiles/research.yml")).unwrap();
        let loopback = Loopback::parse(&page("../manifests/policy/loopback.yml")).unwrap();
        let _ = prove(&read, &Links([("eth0".to_owned(), true)].into()), &profile, &loopback);
        Some(None)
    }),
    ("links", |bytes| Links::parse(bytes).ok().map(|_| None)),
    ("tar", |bytes| {
        let mut reader = Reader::new(bytes);
        while reader.next_entry().ok()?.is_some() {}
        Some(None)
    }),
];

fn samples() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    let date = "2026-11-22T21:00:00Z".parse().unwrap();
    let labels = Labels { commit: digest, final_diff_id: digest, linux: "6.12".into(), version: "1".into() };
    let xattrs = Xattrs::new([(b"user.a".to_vec(), b"1".to_vec())]).unwrap();
    let file = File {
        path: "/a\"é".into(),
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        content: Content::Regular(digest),
        origin: None,
        archive_path: None,
    };
    let sbom = Sbom {
        name: "a".into(),
        version: "1".into(),
        created: date,
        owners: vec![Owner { kind: OwnerKind::Compose, files: vec![file] }],
    };
    let artifact = Artifact::of(b"x");
    let release = Release {
        channel: "dev".into(),
        commit: digest,
        created: date,
        expires: "2027-11-22T21:00:00Z".parse().unwrap(),
        image: artifact,
        name: "a".into(),
        number: 1,
        sbom: artifact,
        schema: 1,
        version: "1".into(),
    };
    let mut envelope = Envelope::unsigned("text/plain", b"payload".to_vec());
    envelope.add_signature(KeyId(digest), vec![1, 2, 3]);
    let layer = |bytes: &[u8], components: &[&str]| Layer {
        blob: Blob::of(bytes),
        components: components.iter().map(ToString::to_string).collect(),
    };
    let manifest = Manifest {
        config: Blob::of(b"c"),
        layers: vec![layer(b"0", &[]), layer(b"1", &["a"])],
        labels: labels.clone(),
    };
    let config = Config {
        architecture: "amd64".into(),
        created: date,
        labels,
        diff_ids: vec![digest],
        history: vec!["x".into()],
    };
    let commit = Commit {
        metadata: vec![("a".into(), MetadataValue::Bool(true)), ("b".into(), MetadataValue::Texts(vec!["x".into()]))],
        subject: "s".into(),
        timestamp: date,
        tree: digest,
        meta: digest,
    };
    let tree = DirTree {
        files: vec![FileEntry { name: "a".into(), file: digest }],
        dirs: vec![DirEntry { name: "b".into(), tree: digest, meta: digest }],
    };
    let header = FileHeader { uid: 0, gid: 0, mode: 0o120_777, target: Some("t".into()), xattrs: xattrs.clone() };
    let mut archive: Vec<u8> =
        preamble(0o755, 0, 0).iter().take(1).flat_map(|(entry, _)| entry.render().unwrap()).collect();
    archive.extend(tar::Entry { xattrs: xattrs.clone(), ..tar::Entry::object("é", 0) }.render().unwrap());
    archive.extend([0; 1024]);
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let checkpoint = Checkpoint { origin: "PeterNeumann".into(), size: 2, root: digest };
    let note = Note::sealed(checkpoint, &key.parse().unwrap(), &[7; 64]);
    let line = format!(
        r#"{{"v":1,"seq":1,"prev":"{digest}","t":"2026-11-22T19:20:01.123456Z","boot":"0a1b2c3d","mono":1,"w":"a","uid":1,"k":"owner.note","d":{{"bytes":1}},"p":"{digest}"}}"#
    );
    let proof = Proof { entry: line.clone().into_bytes(), index: 1, path: vec![digest], note: note.clone() };
    let mut payload = Vec::new();
    Payload { seq: 1, salt: [1; 16], bytes: b"x".to_vec() }.render(&mut payload);
    let python = format!(
        r#"{{"timestamp":"","event":"\ud83d\ude00","data":{{"a":[1e+16,NaN,-0.0,"\u00e9"]}},"prev_hash":"","entry_hash":"{digest}","algorithm":"sha256"}}"#
    );
    let listed = include_bytes!("../spec/vectors/network/nft-1.0.6/research.nft").to_vec();
    vec![
        listed,
        include_bytes!("../spec/vectors/network/links.json").to_vec(),
        line.into_bytes(),
        payload,
        note.render().into_bytes(),
        key.as_bytes().to_vec(),
        proof.render().into_bytes(),
        python.into_bytes(),
        Sums::new([("a".into(), digest)]).render(),
        release.render().unwrap(),
        envelope.render(),
        statement::render("a", &digest, b"{}").unwrap(),
        sbom.render().unwrap(),
        Index { manifest: Blob::of(b"m"), version: "1".into() }.render().unwrap(),
        manifest.render().unwrap(),
        config.render().unwrap(),
        commit.render().unwrap(),
        tree.render().unwrap(),
        DirMeta { uid: 0, gid: 0, mode: 0o40755, xattrs }.render().unwrap(),
        header.render().unwrap(),
        commitmeta::render(&[vec![1; 300], vec![]]),
        archive,
        b"schema: 1\nroles: &a {build: *a}\n".to_vec(),
        b"-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0WIQ==\n=aaaa\n-----END PGP SIGNATURE-----\n".to_vec(),
        b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n".to_vec(),
    ]
}

fn throw(bytes: &[u8]) {
    for (name, parse) in PARSERS {
        if let Some(Some(again)) = parse(bytes) {
            assert_eq!(again, bytes, "{name} takes a second spelling");
        }
    }
}

/// A small generator with a fixed seed: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[test]
fn every_sample_is_read_by_its_parser() {
    for sample in samples().iter().take(22) {
        assert!(PARSERS.iter().any(|(_, parse)| parse(sample).is_some()), "{}", String::from_utf8_lossy(sample));
    }
}

#[test]
fn cut_flipped_and_random_bytes_never_panic() {
    let samples = samples();
    for sample in &samples {
        for cut in 0..sample.len().min(1500) {
            throw(&sample[..cut]);
        }
    }
    let mut random = Random(0x5ec_a105);
    for round in 0..6000 {
        let mut bytes = samples[random.below(samples.len())].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = [0, 0xff, b'0', b'"', 0x80][random.below(5)],
                2 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
                _ => bytes.insert(at, bytes[random.below(bytes.len())]),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        throw(&bytes);
        let noise: Vec<u8> = (0..round % 300).map(|_| random.next() as u8).collect();
        throw(&noise);
    }
}
