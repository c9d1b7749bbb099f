//! Makes tiny bundles with throw-away keys, through the builder's stages from the commit on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use secai_builder::bundle::{Act, LIFETIME_SECONDS};
use secai_builder::commit::Commit;
use secai_builder::image::Image;
use secai_builder::keys::DevelopmentKeys;
use secai_builder::plan::{Cache, Plan, PlannedContent, PlannedFile};
use secai_builder::recipe::Recipe;
use secai_builder::release::{KeyChoice, Keys};
use secai_builder::rootfs::Rootfs;
use secai_builder::stage::Workspace;
use secai_builder::tools::apt::Package;
use secai_builder::{attest, bundle, commit, image, owners};
use secai_verifier::digest::Digest;
use secai_verifier::layout;
use secai_verifier::openpgp::Certificate;
use secai_verifier::sbom::Owner;
use secai_verifier::sums::Sums;
use secai_verifier::time::Time;
use secai_verifier::trust::{PublicKey, Role, RolesFile, Trust};
use tempfile::TempDir;

use super::change::{self, Op};
use super::parts::Parts;
use super::{Case, Files, tree};

/// The date of every tiny commit: 2026-11-22T20:00:00Z.
const DATE: i64 = 1_795_377_600;
/// Name and version of the image that is changed.
pub const NAME: &str = "tiny";
/// Its version.
pub const VERSION: &str = "0.1.0";

/// Keys, a folder, and the genuine bundles that changes start from and take artefacts from.
pub struct Maker {
    dir: TempDir,
    cache: Cache,
    trust: TrustParts,
    /// The keys that the trust directory names.
    pub(super) own: Keys,
    /// As good, but nobody trusts them.
    pub(super) stranger: Keys,
    stranger_trust: TrustParts,
    homes: [PathBuf; 2],
    now: Time,
    made: AtomicUsize,
    parts: OnceLock<Parts>,
    /// The bundle that is changed: release 2 of `tiny` 0.1.0.
    pub base: Files,
    /// A later release of the same content, number 3.
    pub later: Files,
    /// The same content for another channel.
    pub other_channel: Files,
    /// An older release, number 1: another version with other content.
    pub older: Files,
    /// A release of another image.
    pub other: Files,
}

/// A tree that went through the stages as far as the SBOM.
pub struct Content {
    plan: Plan,
    commit: Commit,
    image: Image,
    owners: Vec<Owner>,
    workspace: Workspace,
}

/// A trust directory's files, read.
#[derive(Debug, Clone)]
pub struct TrustParts {
    /// `roles.yml`.
    pub roles: RolesFile,
    /// The public keys.
    pub keys: Vec<PublicKey>,
    /// The OpenPGP certificates.
    pub certificates: Vec<Certificate>,
}

impl TrustParts {
    fn read(dir: &Path) -> Self {
        let mut parts = Self {
            roles: RolesFile::parse(&fs::read(dir.join(layout::ROLES)).unwrap()).unwrap(),
            keys: Vec::new(),
            certificates: Vec::new(),
        };
        let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("pub") => parts.keys.push(PublicKey::from_pem(str::from_utf8(&bytes).unwrap()).unwrap()),
                Some("asc") => parts.certificates.extend(Certificate::read_armoured(&bytes).unwrap()),
                _ => {}
            }
        }
        parts
    }

    pub(super) fn role(&mut self, name: change::Role) -> &mut Role {
        match name {
            change::Role::Build => &mut self.roles.roles.build,
            change::Role::Release => &mut self.roles.roles.release,
        }
    }

    /// As the verifier takes it.
    pub fn trust(&self) -> Trust {
        Trust::new(self.roles.clone(), self.keys.clone(), self.certificates.clone()).unwrap()
    }
}

impl Maker {
    /// Makes keys and bundles; some seconds.
    pub fn new() -> Self {
        // Modes of a tiny tree are set one by one; folders in between get what a umask leaves.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // Short: a socket's path ends at 108 bytes.
        let dir = tempfile::Builder::new().prefix("t").tempdir().unwrap();
        let open = |name: &str| {
            let development = DevelopmentKeys::at(dir.path().join(name));
            development.make().unwrap();
            let choice = KeyChoice { build: None, release: None, gpg: None, development: development.clone() };
            let keys = Keys::open(&choice, &development.trust()).unwrap();
            (keys, TrustParts::read(&development.trust()), development.gnupg())
        };
        let ((own, trust, home), (stranger, stranger_trust, stranger_home)) = (open("o"), open("s"));
        let now = Time::now().unwrap();
        let cache = Cache::at(dir.path().join("cache")).unwrap();
        let homes = [home, stranger_home];
        let (base, later, other_channel, older, other) = Default::default();
        let (made, parts) = (AtomicUsize::new(0), OnceLock::new());
        let mut maker = Self {
            dir,
            cache,
            trust,
            own,
            stranger,
            stranger_trust,
            homes,
            now,
            made,
            parts,
            base,
            later,
            other_channel,
            older,
            other,
        };
        let content = maker.content(NAME, VERSION, &[]);
        maker.base = maker.release(&content, 2, "dev");
        maker.later = maker.release(&content, 3, "dev");
        maker.other_channel = maker.release(&content, 2, "stable");
        let changed = |path: &str| Op::Content { path: path.into(), to: Some(format!("another {path}")) };
        let files = ["/usr/bin/tool", "/usr/etc/issue", "/usr/lib/os-release"];
        maker.older = maker.release(&maker.content(NAME, "0.0.9", &files.map(changed)), 1, "dev");
        let files = ["/usr/bin/tool", "/usr/etc/issue", "/usr/bin/su", "/usr/lib/os-release"];
        maker.other = maker.release(&maker.content("other", VERSION, &files.map(changed)), 2, "dev");
        maker
    }

    /// A tree with these changes, committed, packed and accounted for.
    pub fn content(&self, name: &str, version: &str, changes: &[Op]) -> Content {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let root = self.dir.path().join(format!("r{number}"));
        let listed = tree::lay(&root);
        tree::change(&root, changes);
        let plan = plan(name, version);
        let rootfs = Rootfs { path: root, kernel: tree::KERNEL.into(), set_id: None };
        let workspace = Workspace::open(&self.dir.path().join(format!("w{number}")), name).unwrap();
        let commit = commit::build(&plan, &rootfs, &workspace, &|_| {}).unwrap();
        let owners = owners::of(&plan, &commit.tree, &rootfs.path, tree::KERNEL, &listed).unwrap();
        let image = image::build(&plan, &rootfs, &commit, &owners, &workspace, &self.cache, &|_| {}).unwrap();
        Content { plan, commit, image, owners, workspace }
    }

    /// The release act over a content.
    pub fn release(&self, content: &Content, number: u64, channel: &str) -> Files {
        let Content { plan, commit, image, owners, workspace } = content;
        let attestation = attest::build(plan, commit, image, owners.clone(), workspace, &|_| {}).unwrap();
        let expires = Time::from_seconds(self.now.seconds() + LIFETIME_SECONDS).unwrap();
        let act = Act { number: Some(number), channel: channel.into(), created: self.now, expires };
        let made = bundle::build(plan, commit, image, attestation, &act, Some(&self.own), workspace, &|_| {}).unwrap();
        read(&made.path)
    }

    /// The bundle as it was made.
    pub fn untouched(&self) -> Case {
        self.whole(&self.base)
    }

    /// A bundle as it is, judged by the trust that all of them were made for.
    pub fn whole(&self, files: &Files) -> Case {
        Case { files: files.clone(), links: BTreeMap::new(), folders: Vec::new(), trust: self.trust.clone() }
    }

    /// The time at which everything is judged.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Makes `SHA256SUMS` and its signature again over what lies in a case.
    pub fn seal_sums(&self, case: &mut Case) {
        let signed = |path: &&String| ![layout::SUMS, layout::SUMS_SIGNATURE].contains(&path.as_str());
        let paths = case.files.keys().filter(signed);
        let sums = Sums::new(paths.map(|path| (path.clone(), Digest::of(&case.files[path])))).render();
        case.files.insert(layout::SUMS_SIGNATURE.into(), self.own.sign_openpgp(&sums, true).unwrap());
        case.files.insert(layout::SUMS.into(), sums);
    }

    /// The artefacts of the bundle that is changed.
    pub(super) fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| Parts::of(&self.base))
    }

    pub(super) fn stranger_trust(&self) -> &TrustParts {
        &self.stranger_trust
    }

    /// Lays a case in a folder of its own, which is gone with what comes back.
    pub(super) fn lay(&self, case: &Case) -> TempDir {
        let dir = tempfile::Builder::new().prefix("b").tempdir_in(self.dir.path()).unwrap();
        let root = dir.path();
        for folder in layout::DIRS.iter().copied().chain(case.folders.iter().map(String::as_str)) {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (path, bytes) in &case.files {
            fs::write(root.join(path), bytes).unwrap();
        }
        for (path, target) in &case.links {
            symlink(target, root.join(path)).unwrap();
        }
        dir
    }
}

impl Drop for Maker {
    /// An agent that outlives its home would be left on the machine of whoever runs the tests.
    fn drop(&mut self) {
        for home in &self.homes {
            let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status();
        }
    }
}

impl Default for Maker {
    fn default() -> Self {
        Self::new()
    }
}

fn read(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// A plan as the first stage would make it; no package was fetched for it.
fn plan(name: &str, version: &str) -> Plan {
    let text = format!(
        "name: {name}\nversion: {version}\nbase:\n  debian: {{suite: trixie, kernel: linux-image-tiny, packages: [base]}}\n"
    );
    let package = |name: &str| Package {
        name: name.into(),
        version: "1.0-1".into(),
        arch: "amd64".into(),
        sha256: Digest::of(name.as_bytes()),
        size: 1,
        record: String::new(),
        file: String::new(),
    };
    Plan {
        recipe: Recipe::parse(&text, "tiny.yml").unwrap(),
        date: DATE,
        packages: tree::PACKAGES.map(package).into(),
        files: vec![PlannedFile {
            path: tree::BY_RECIPE.into(),
            mode: 0o644,
            user: "root".into(),
            group: "root".into(),
            content: PlannedContent::Inline(String::new()),
        }],
        services: None,
        mmdebstrap: "none".into(),
        trust: None,
        builder: "tests".into(),
    }
}
