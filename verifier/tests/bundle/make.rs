//! Makes a tiny bundle with throw-away keys; every artefact can be changed before or after it is sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::layout::{self, ObjectKind, object_path};
use secai_verifier::oci::{Blob, Config, Index, Labels, Layer, Manifest, OCI_LAYOUT_BYTES};
use secai_verifier::ostree::{
    Commit, DirEntry, DirMeta, DirTree, FileEntry, FileHasher, FileHeader, MetadataValue, Xattrs,
};
use secai_verifier::release::{Artifact, Release};
use secai_verifier::sbom::{Content, File, Owner, OwnerKind, Sbom};
use secai_verifier::statement;
use secai_verifier::sums::Sums;
use secai_verifier::tar::{self, Entry, Kind};
use secai_verifier::trust::{KeyId, PublicKey, Role, RoleKey, Roles, RolesFile};

pub const NOW: &str = "2026-11-22T22:00:00Z";
pub const KERNEL: &str = "6.12.0";

/// A file of the image.
#[derive(Clone)]
pub struct Node {
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub data: Vec<u8>,
    pub target: Option<String>,
    pub xattrs: Xattrs,
    pub layer: usize,
}

impl Node {
    pub fn file(path: &str, data: &[u8], layer: usize) -> Self {
        Self {
            path: path.into(),
            mode: 0o100_755,
            uid: 0,
            gid: 0,
            data: data.into(),
            target: None,
            xattrs: Xattrs::EMPTY,
            layer,
        }
    }

    fn header(&self) -> FileHeader {
        FileHeader {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
            target: self.target.clone(),
            xattrs: self.xattrs.clone(),
        }
    }

    fn checksum(&self) -> Digest {
        let mut hasher = FileHasher::new(&self.header()).unwrap();
        hasher.update(&self.data);
        hasher.finish()
    }
}

pub fn nodes() -> Vec<Node> {
    let xattrs =
        Xattrs::new([(b"user.x".to_vec(), b"1".to_vec()), (b"security.selinux".to_vec(), b"l\0".to_vec())]).unwrap();
    vec![
        Node::file("/usr/bin/sh", &[7; 5000], 1),
        Node { mode: 0o120_777, target: Some("../bin/sh".into()), data: vec![], ..Node::file("/usr/bin/link", b"", 1) },
        Node { xattrs, uid: 5, mode: 0o104_755, ..Node::file("/usr/bin/su", b"su", 1) },
        Node::file("/usr/bin/sh2", &[7; 5000], 1),
        Node::file("/usr/etc/passwd", b"root:", 2),
        Node::file("/usr/empty", b"", 2),
        Node::file("/usr/lib/empty", b"", 2),
        Node::file(&format!("/usr/lib/modules/{KERNEL}/vmlinuz"), b"kernel", 2),
        Node::file("/usr/share/long", &[1; 600], 2),
        Node::file(&format!("/usr/share/{}/{}", "a".repeat(99), "é".repeat(60)), b"long", 2),
    ]
}

/// Entries of a layer with their data.
pub type Entries = Vec<(Entry, Vec<u8>)>;
type Hook<T> = Option<Box<dyn Fn(&mut T)>>;

/// What goes into a bundle. Whatever is changed here is sealed afterwards.
pub struct Plan {
    pub commit: Vec<Node>,
    pub layers: Vec<Node>,
    pub sbom: Vec<Node>,
    pub extra_dirs: Vec<&'static str>,
    /// Whose folders they are, by user and group.
    pub folders: (u32, u32),
    pub on_commit: Hook<Commit>,
    pub on_entries: Hook<(usize, Entries)>,
    pub on_tar: Hook<(usize, Vec<u8>)>,
    pub on_zstd: Hook<(usize, Vec<u8>)>,
    pub on_manifest: Hook<Manifest>,
    pub on_config: Hook<Config>,
    pub on_json: Hook<(&'static str, Vec<u8>)>,
    pub on_index: Hook<Index>,
    pub on_sbom: Hook<Sbom>,
    pub on_document: Hook<Vec<u8>>,
    pub on_statement: Hook<Vec<u8>>,
    pub on_release: Hook<Release>,
    pub on_envelope: Hook<(&'static str, Envelope)>,
    pub on_commit_file: Hook<Vec<u8>>,
    /// The release names the commit file beside the image, not the commit inside.
    pub release_commit_file: bool,
    pub commit_meta: Option<Vec<u8>>,
    pub on_roles: Hook<RolesFile>,
    pub build_key: u8,
    pub release_keys: Vec<u8>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            commit: nodes(),
            layers: nodes(),
            sbom: nodes(),
            extra_dirs: vec!["/var", "/sysroot", "/boot"],
            folders: (0, 0),
            on_commit: None,
            on_entries: None,
            on_tar: None,
            on_zstd: None,
            on_manifest: None,
            on_config: None,
            on_json: None,
            on_index: None,
            on_sbom: None,
            on_document: None,
            on_statement: None,
            on_release: None,
            on_envelope: None,
            on_commit_file: None,
            release_commit_file: false,
            commit_meta: None,
            on_roles: None,
            build_key: 1,
            release_keys: vec![2],
        }
    }
}

fn hook<T>(hook: &Hook<T>, mut value: T) -> T {
    if let Some(hook) = hook {
        hook(&mut value);
    }
    value
}

fn secret(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

pub fn key_id(seed: u8) -> KeyId {
    PublicKey::from_der(secret(seed).verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap().id()
}

pub fn sign(envelope: &mut Envelope, seed: u8) {
    let sig: DerSignature = secret(seed).sign(&envelope.pae());
    envelope.add_signature(key_id(seed), sig.as_bytes().to_vec());
}

/// What a repository has of a commit beside its files.
pub struct Objects {
    /// Dirtrees and dirmetas, by path.
    pub metadata: BTreeMap<String, Vec<u8>>,
    dirs: Vec<String>,
    tree: Digest,
}

fn dir_meta((uid, gid): (u32, u32)) -> DirMeta {
    DirMeta { uid, gid, mode: 0o40755, xattrs: Xattrs::EMPTY }
}

fn dirs_of(nodes: &[Node], extra: &[&str]) -> BTreeSet<String> {
    let mut dirs: BTreeSet<String> = extra.iter().map(|dir| dir.to_string()).collect();
    for node in nodes {
        for (at, _) in node.path.match_indices('/').skip(1) {
            dirs.insert(node.path[..at].to_owned());
        }
    }
    dirs
}

pub fn objects(nodes: &[Node], extra: &[&str], owner: (u32, u32)) -> Objects {
    let dirs = dirs_of(nodes, extra);
    let mut metadata = BTreeMap::new();
    let meta = dir_meta(owner).render().unwrap();
    let meta_sum = Digest::of(&meta);
    metadata.insert(object_path(&meta_sum, ObjectKind::DirMeta), meta);
    let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    let name = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
    let mut trees: BTreeMap<String, Digest> = BTreeMap::new();
    let mut root = Digest::of(b"");
    for dir in dirs.iter().rev().cloned().chain([String::new()]) {
        let mut tree = DirTree::default();
        for node in nodes.iter().filter(|node| parent(&node.path) == dir) {
            tree.files.push(FileEntry { name: name(&node.path), file: node.checksum() });
        }
        for (path, subtree) in trees.iter().filter(|(path, _)| parent(path) == dir) {
            tree.dirs.push(DirEntry { name: name(path), tree: *subtree, meta: meta_sum });
        }
        tree.files.sort_by(|a, b| a.name.cmp(&b.name));
        let bytes = tree.render().unwrap();
        root = Digest::of(&bytes);
        metadata.insert(object_path(&root, ObjectKind::DirTree), bytes);
        trees.insert(dir, root);
    }
    let mut dirs: Vec<String> =
        dirs.iter().filter(|dir| *dir != "/sysroot").map(|dir| format!("{}/", layout::layer_path(dir))).collect();
    dirs.sort();
    Objects { metadata, dirs, tree: root }
}

fn directory(path: &str) -> (Entry, Vec<u8>) {
    (Entry::directory(path, 0o755, 0, 0), vec![])
}

fn preamble() -> Vec<(Entry, Vec<u8>)> {
    tar::preamble(0o755, 0, 0).into_iter().map(|(entry, data)| (entry, data.to_vec())).collect()
}

fn file_layer(nodes: &[Node], layer: usize) -> Vec<(Entry, Vec<u8>)> {
    let nodes: Vec<Node> = nodes.iter().filter(|node| node.layer == layer).cloned().collect();
    let mut entries = preamble();
    let mut dirs: Vec<String> =
        dirs_of(&nodes, &[]).iter().map(|dir| format!("{}/", layout::layer_path(dir))).collect();
    // `/usr` is a parent only of what does not lie in `etc`.
    dirs.retain(|dir| nodes.iter().any(|node| layout::layer_path(&node.path).starts_with(dir.as_str())));
    dirs.sort();
    entries.extend(dirs.iter().map(|dir| directory(dir)));
    let mut by_sum: BTreeMap<Digest, Vec<&Node>> = BTreeMap::new();
    for node in &nodes {
        by_sum.entry(node.checksum()).or_default().push(node);
    }
    let mut sets = BTreeSet::new();
    for (sum, holders) in by_sum {
        let node = holders[0];
        let set = node.xattrs.render();
        let set_path = object_path(&Digest::of(&set), ObjectKind::FileXattrs);
        if sets.insert(Digest::of(&set)) {
            entries.push((Entry::object(set_path.clone(), set.len() as u64), set));
        }
        let link = Entry::object(object_path(&sum, ObjectKind::FileXattrsLink), 0);
        entries.push((Entry { kind: Kind::HardLink(set_path), ..link }, vec![]));
        let path = object_path(&sum, ObjectKind::File);
        let kind = node.target.clone().map_or(Kind::Regular(node.data.len() as u64), Kind::Symlink);
        let object = Entry {
            path: path.clone(),
            kind,
            mode: node.mode & 0o7777,
            uid: node.uid,
            gid: node.gid,
            xattrs: node.xattrs.in_pax(),
        };
        entries.push((object.clone(), node.data.clone()));
        let mut paths: Vec<&str> = holders.iter().map(|node| layout::layer_path(&node.path)).collect();
        paths.sort_unstable();
        for place in paths {
            let entry = if object.kind == Kind::Regular(0) {
                Entry { path: place.into(), ..object.clone() }
            } else {
                Entry {
                    path: place.into(),
                    kind: Kind::HardLink(path.clone()),
                    xattrs: Xattrs::EMPTY,
                    ..object.clone()
                }
            };
            entries.push((entry, vec![]));
        }
    }
    entries
}

pub fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, data) in entries {
        out.extend(entry.render().unwrap());
        out.extend(data);
        out.resize(out.len() + entry.padding(), 0);
    }
    out.extend(tar::END);
    out
}

pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes SHA256SUMS again over what lies there.
pub fn seal_sums(root: &Path) {
    let mut lines = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                dirs.push(path);
            } else if name != layout::SUMS && name != layout::SUMS_SIGNATURE {
                lines.push((name, Digest::of(&fs::read(&path).unwrap())));
            }
        }
    }
    fs::write(root.join(layout::SUMS), Sums::new(lines).render()).unwrap();
}

impl Plan {
    /// Writes `bundle/` and `trust/` below `root`.
    pub fn make(&self, root: &Path) {
        let bundle = root.join("bundle");
        let date = "2026-11-22T20:00:00Z".parse().unwrap();
        let tree = objects(&self.commit, &self.extra_dirs, self.folders);
        let commit = hook(
            &self.on_commit,
            Commit {
                metadata: vec![
                    (layout::LABEL_BOOTABLE.into(), MetadataValue::Bool(true)),
                    (layout::LABEL_LINUX.into(), MetadataValue::Text(KERNEL.into())),
                    (layout::LABEL_VERSION.into(), MetadataValue::Text("0.1.0".into())),
                ],
                subject: "minimal 0.1.0".into(),
                timestamp: date,
                tree: tree.tree,
                meta: Digest::of(&dir_meta(self.folders).render().unwrap()),
            },
        );
        let commit_bytes = commit.render().unwrap();
        let commit_sum = Digest::of(&commit_bytes);
        let commit_file = hook(&self.on_commit_file, commit_bytes.clone());
        write(&bundle, layout::COMMIT_OBJECT, &commit_file);
        if let Some(meta) = &self.commit_meta {
            write(&bundle, layout::COMMIT_META, meta);
        }

        let mut first = preamble();
        let commit_entry = Entry::object(object_path(&commit_sum, ObjectKind::Commit), commit_bytes.len() as u64);
        first.push((commit_entry, commit_bytes));
        first.extend(
            tree.metadata.iter().map(|(path, bytes)| (Entry::object(path.clone(), bytes.len() as u64), bytes.clone())),
        );
        first.extend(tree.dirs.iter().map(|dir| directory(dir)));
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for number in 0..=self.layers.iter().map(|node| node.layer).max().unwrap_or(0) {
            let entries = if number == 0 { std::mem::take(&mut first) } else { file_layer(&self.layers, number) };
            let (_, entries) = hook(&self.on_entries, (number, entries));
            let (_, bytes) = hook(&self.on_tar, (number, archive(&entries)));
            let (_, blob) = hook(&self.on_zstd, (number, compress(&bytes)));
            diff_ids.push(Digest::of(&bytes));
            let components = if number == 0 { vec![] } else { vec![format!("owner{number}")] };
            layers.push(Layer { blob: Blob::of(&blob), components });
            write(&bundle, &layout::blob_path(&Digest::of(&blob)), &blob);
        }
        let labels = Labels {
            commit: commit_sum,
            final_diff_id: *diff_ids.last().unwrap(),
            linux: KERNEL.into(),
            version: "0.1.0".into(),
        };
        let history = vec!["test".to_owned(); diff_ids.len()];
        let config = hook(
            &self.on_config,
            Config { architecture: "amd64".into(), created: date, labels: labels.clone(), diff_ids, history },
        );
        let (_, config) = hook(&self.on_json, ("config", config.render().unwrap()));
        write(&bundle, &layout::blob_path(&Digest::of(&config)), &config);
        let manifest = hook(&self.on_manifest, Manifest { config: Blob::of(&config), layers, labels });
        let (_, manifest) = hook(&self.on_json, ("manifest", manifest.render().unwrap()));
        write(&bundle, &layout::blob_path(&Digest::of(&manifest)), &manifest);
        let index = hook(&self.on_index, Index { manifest: Blob::of(&manifest), version: "0.1.0".into() });
        let (_, index_bytes) = hook(&self.on_json, ("index", index.render().unwrap()));
        write(&bundle, layout::INDEX, &index_bytes);
        write(&bundle, layout::OCI_LAYOUT, OCI_LAYOUT_BYTES);

        let document = hook(&self.on_document, hook(&self.on_sbom, self.sbom()).render().unwrap());
        let payload =
            hook(&self.on_statement, statement::render("minimal", &Digest::of(&manifest), &document).unwrap());
        let mut envelope = Envelope::unsigned(layout::STATEMENT_TYPE, payload);
        sign(&mut envelope, self.build_key);
        let (_, envelope) = hook(&self.on_envelope, ("build", envelope));
        write(&bundle, layout::SBOM_STATEMENT, &envelope.render());

        let release = Release {
            channel: "dev".into(),
            commit: if self.release_commit_file { Digest::of(&commit_file) } else { commit_sum },
            created: "2026-11-22T21:00:00Z".parse().unwrap(),
            expires: "2027-02-20T21:00:00Z".parse().unwrap(),
            image: Artifact::of(&manifest),
            name: "minimal".into(),
            number: 7,
            sbom: Artifact::of(&document),
            schema: 1,
            version: "0.1.0".into(),
        };
        let release = hook(&self.on_release, release).render().unwrap();
        let mut envelope = Envelope::unsigned(layout::RELEASE_TYPE, release);
        self.release_keys.iter().for_each(|seed| sign(&mut envelope, *seed));
        let (_, envelope) = hook(&self.on_envelope, ("release", envelope));
        write(&bundle, layout::RELEASE, &envelope.render());
        seal_sums(&bundle);
        self.trust(&root.join("trust"));
    }

    fn sbom(&self) -> Sbom {
        let mut files: Vec<File> = self
            .sbom
            .iter()
            .map(|node| File {
                path: node.path.clone(),
                mode: node.mode,
                uid: node.uid,
                gid: node.gid,
                content: node.target.clone().map_or(Content::Regular(Digest::of(&node.data)), Content::Symlink),
                origin: None,
                archive_path: None,
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let purl = "pkg:deb/debian/all@1";
        let kind = OwnerKind::Package {
            name: "all".into(),
            version: "1".into(),
            purl: purl.into(),
            archive: Digest::of(b"deb"),
        };
        let owners = vec![Owner { kind, files }, Owner { kind: OwnerKind::Compose, files: vec![] }];
        Sbom {
            name: "minimal".into(),
            version: "0.1.0".into(),
            created: "2026-11-22T20:00:00Z".parse().unwrap(),
            owners,
        }
    }

    fn trust(&self, dir: &Path) {
        let key = |seed| RoleKey {
            id: key_id(seed),
            from: "2026-11-01T00:00:00Z".parse().unwrap(),
            until: "2028-11-01T00:00:00Z".parse().unwrap(),
            revoked: false,
        };
        let build = Role { threshold: 1, keys: vec![key(1)] };
        let release = Role { threshold: 1, keys: vec![key(2), key(3)] };
        let roles = hook(&self.on_roles, RolesFile { schema: 1, roles: Roles { build, release } });
        write(dir, layout::ROLES, roles.render().unwrap().as_bytes());
        for seed in 1..=3 {
            let pem = secret(seed).verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
            write(dir, &format!("key{seed}.pub"), pem.as_bytes());
        }
    }
}
