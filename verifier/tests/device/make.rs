//! Makes a device of a screenful: its root, its /boot, a signed release of it, and the evidence that it would gather.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use secai_verifier::check::{Installed, installed};
use secai_verifier::device::refusal::DeviceRefusal;
use secai_verifier::device::{Case, Device};
use secai_verifier::digest::Digest;
use secai_verifier::evidence::kernel::Deployment;
use secai_verifier::evidence::settings::{Settings, wanted};
use secai_verifier::evidence::{FORMAT, INDEX, Index, Item};
use secai_verifier::files::{Bundle, load_evidence, load_root, load_trust};
use secai_verifier::network::bind::shipped;
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::profile::{Loopback, Profile};
use secai_verifier::release::Artifact;
use tempfile::TempDir;

use crate::bundle::{self, KERNEL, Node, Plan};
use crate::chain::Chain;

/// When the evidence was gathered: some minutes after the chain begins.
pub const COLLECTED: &str = "2026-11-22T19:25:00Z";
/// What the device is started with.
pub const LINE: &str = "BOOT_IMAGE=/ostree/secai-0f/vmlinuz quiet lockdown=integrity root=PARTUUID=0-1 rw panic=10 \
    rd.timeout=60 rd.shell=0 rd.emergency=reboot ostree=/ostree/boot.1/secai/0f/0\n";
/// Units of the image, of systemd and ours.
const UNITS: [&str; 7] = [
    "dbus.socket",
    "secure-ai-audit.service",
    "secure-ai-audit.socket",
    "secure-ai-dns-leak-check.timer",
    "secure-ai-profiles.service",
    "systemd-networkd.service",
    "systemd-tmpfiles-clean.timer",
];
const TITLES: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// A folder of the commit with nothing in it.
pub const EMPTY: &str = "/usr/local";

pub struct Lab {
    pub dir: TempDir,
}

/// The files of the image, and what is in them.
fn nodes() -> Vec<Node> {
    let text = |path: &str, bytes: &[u8]| Node { mode: 0o100_644, ..Node::file(path, bytes, 1) };
    let link =
        |path: &str, target: &str| Node { mode: 0o120_777, target: Some(target.into()), ..Node::file(path, b"", 1) };
    let mut nodes = vec![
        link("/bin", "usr/bin"),
        Node::file("/usr/bin/sh", b"sh", 1),
        link("/usr/bin/bash", "sh"),
        text("/usr/etc/hostname", b"secai\n"),
        text("/usr/etc/nsswitch.conf", b"hosts: files\n"),
        link("/usr/etc/systemd/system/timers.target.wants/secure-ai-dns-leak-check.timer", "/usr/lib/x"),
        text("/usr/lib/bootc/kargs.d/10-secai.toml", b"kargs = [\"quiet\", \"lockdown=integrity\"]\n"),
        text(&format!("/usr/lib/modules/{KERNEL}/vmlinuz"), b"kernel"),
        text(&format!("/usr/lib/modules/{KERNEL}/initramfs.img"), b"ramfs"),
    ];
    let sysctl = "usr/lib/sysctl.d/60-secure-ai.conf";
    nodes.push(text(&format!("/{sysctl}"), &fs::read(manifests().join("rootfs").join(sysctl)).unwrap()));
    for name in
        ["claims.yml", "loopback.yml", "profiles/full_lab.yml", "profiles/offline_private.yml", "profiles/research.yml"]
    {
        let bytes = fs::read(manifests().join("policy").join(name)).unwrap();
        nodes.push(text(&format!("/usr/lib/secure-ai/policy/{name}"), &bytes));
    }
    for name in ["full_lab", "offline_private", "research"] {
        let (profile, loopback) = page(name);
        let rules = shipped(&profile, &loopback).to_string();
        nodes.push(text(&format!("/usr/lib/secure-ai/firewall/{name}.nft"), rules.as_bytes()));
    }
    nodes.extend(UNITS.map(|unit| text(&format!("/usr/lib/systemd/system/{unit}"), unit.as_bytes())));
    nodes.push(text("/usr/lib/systemd/system/systemd-networkd.service.d/secure-ai-firewall.conf", b"[Service]\n"));
    nodes
}

pub fn page(name: &str) -> (Profile, Loopback) {
    let policy = manifests().join("policy");
    let profile = Profile::parse(&fs::read(policy.join("profiles").join(format!("{name}.yml"))).unwrap()).unwrap();
    (profile, Loopback::parse(&fs::read(policy.join("loopback.yml")).unwrap()).unwrap())
}

pub fn live(name: &str) -> String {
    let (profile, loopback) = page(name);
    ruleset(&profile, &loopback, 0x5eca_1d01, []).to_string()
}

fn units() -> String {
    let drop_in = "/usr/lib/systemd/system/systemd-networkd.service.d/secure-ai-firewall.conf";
    let one = |unit: &&str| {
        let (active, drop_ins) = match *unit {
            "systemd-networkd.service" => ("inactive", drop_in),
            _ => ("active", ""),
        };
        format!(
            "Id={unit}\nLoadState=loaded\nActiveState={active}\nSubState=x\nFragmentPath=/usr/lib/systemd/system/{unit}\n\
             DropInPaths={drop_ins}\nUnitFileState=static\nNeedDaemonReload=no\n"
        )
    };
    UNITS.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A chain of a device that began, looked for leaks of names, and kept to itself.
pub fn chain() -> Chain {
    let mut chain = Chain::new(7);
    let digest = Digest::of(b"rules");
    chain.push("audit.start", r#"{"version":"0.1.0"}"#);
    chain.state("secure-ai-profiles.service");
    chain.push(
        "profile.applied",
        &format!(r#"{{"by":"boot","digest":"{digest}","from":"offline_private","to":"offline_private"}}"#),
    );
    chain.push("dns.checked", r#"{"findings":0,"profile":"offline_private","refused":9,"sent":9,"verdict":"clean"}"#);
    chain
}

impl Lab {
    /// A device as it was released.
    pub fn new() -> Self {
        Self::of(|_| {}, &chain())
    }

    /// Of a release that is changed before it is sealed, with this chain.
    pub fn of(change: impl Fn(&mut Plan), chain: &Chain) -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.path("root")).unwrap();
        let owner = fs::metadata(lab.path("root")).unwrap();
        let (uid, gid) = (owner.uid(), owner.gid());
        // Whoever runs the test owns what it makes.
        let nodes: Vec<Node> = nodes().into_iter().map(|node| Node { uid, gid, ..node }).collect();
        let all = || nodes.clone();
        let mut plan = Plan { commit: all(), layers: all(), sbom: all(), folders: (uid, gid), ..Plan::default() };
        plan.extra_dirs.push(EMPTY);
        change(&mut plan);
        plan.make(lab.dir.path());
        for (path, bytes) in bundle::objects(&plan.commit, &plan.extra_dirs, plan.folders).metadata {
            bundle::write(&lab.path("root"), &path, &bytes);
        }
        // It lies on a device without its image.
        fs::remove_dir_all(lab.path("bundle/image")).unwrap();
        fs::remove_file(lab.path("bundle/SHA256SUMS")).unwrap();
        for node in nodes {
            lab.lay(&node.path, &node);
            if let Some(rest) = node.path.strip_prefix("/usr/etc/") {
                lab.lay(&format!("/etc/{rest}"), &node);
            }
        }
        fs::create_dir(lab.at(EMPTY)).unwrap();
        fs::set_permissions(lab.at(EMPTY), fs::Permissions::from_mode(0o755)).unwrap();
        bundle::write(&lab.path("root"), "boot/ostree/secai-0f/vmlinuz-6", b"kernel");
        bundle::write(&lab.path("root"), "boot/ostree/secai-0f/initramfs-6.img", b"ramfs");
        let entry = format!("title x\noptions {}linux /x\n", LINE.split_once(' ').unwrap().1);
        bundle::write(&lab.path("root"), "boot/loader/entries/ostree-1.conf", entry.as_bytes());
        // What is not of the commit is not looked at.
        bundle::write(&lab.path("root"), "var/lib/x", b"x");
        lab.gather();
        chain.write(&lab.path("evidence/chain"));
        bundle::write(&lab.path("trust"), "device.vkey", format!("{}\n", chain.vkey(0)).as_bytes());
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A place in the device's root.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }

    fn lay(&self, path: &str, node: &Node) {
        let to = self.at(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Whatever the umask took away of it.
        let top = self.path("root");
        for folder in to.ancestors().skip(1).take_while(|it| *it != top) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        match &node.target {
            Some(target) => symlink(target, to).unwrap(),
            None => {
                fs::write(&to, &node.data).unwrap();
                fs::set_permissions(&to, fs::Permissions::from_mode(node.mode & 0o7777)).unwrap();
            }
        }
    }

    fn gather(&self) {
        let commit = Digest::of(&fs::read(self.path("bundle/commit.commit")).unwrap());
        let sysctl = fs::read_to_string(self.at("/usr/lib/sysctl.d/60-secure-ai.conf")).unwrap();
        let values = wanted(&sysctl).unwrap().into_iter().map(|it| (it.name, it.value)).collect();
        let settings = Settings { values, ..Settings::default() };
        let sockets = format!("{TITLES}   0: 0100007F:2111 00000000:0000 0A 0:0 0:0 0 955 0 17\n");
        let dns = "Nov 22 19:20:01 host secai-dns-leak-check[71]: clean: offline_private, proven\n";
        let swaps = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        let deployment = Deployment { commit, origin: vec!["[origin]".into()] };
        let files: BTreeMap<Item, Vec<u8>> = [
            (Item::BootId, "a1b2c3d4-0000-0000-0000-000000000000\n".to_owned()),
            (Item::CommandLine, LINE.to_owned()),
            (Item::Deployment, serde_json::to_string(&deployment).unwrap()),
            (Item::DnsJournal, dns.to_owned()),
            (Item::Links, r#"[{"ifname":"lo","flags":["LOOPBACK","UP"]}]"#.to_owned()),
            (Item::Lockdown, "none [integrity] confidentiality\n".to_owned()),
            (Item::Manager, "DefaultLimitCORE=0\n".to_owned()),
            (Item::Modules, String::new()),
            (Item::Mounts, String::new()),
            (Item::Packets, String::new()),
            (Item::Profile, "offline_private\n".to_owned()),
            (Item::Raw, TITLES.to_owned()),
            (Item::Raw6, TITLES.to_owned()),
            (Item::Ruleset, live("offline_private")),
            (Item::Settings, serde_json::to_string(&settings).unwrap()),
            (Item::Swaps, swaps.to_owned()),
            (Item::Tcp, sockets),
            (Item::Tcp6, TITLES.to_owned()),
            (Item::Udp, TITLES.to_owned()),
            (Item::Udp6, TITLES.to_owned()),
            (Item::Units, units()),
        ]
        .map(|(item, text)| (item, text.into_bytes()))
        .into();
        fs::create_dir(self.path("evidence")).unwrap();
        self.seal(&files);
    }

    /// Writes the evidence and its list.
    fn seal(&self, files: &BTreeMap<Item, Vec<u8>>) {
        let missing = Item::ALL.iter().filter(|item| **item != Item::Chain && !files.contains_key(item));
        let index = Index {
            collected: COLLECTED.parse().unwrap(),
            files: files.iter().map(|(item, bytes)| (item.name().to_owned(), Artifact::of(bytes))).collect(),
            format: FORMAT,
            missing: missing.map(|item| (item.name().to_owned(), "there is none".to_owned())).collect(),
            uid: 0,
        };
        for (item, bytes) in files {
            fs::write(self.path("evidence").join(item.name()), bytes).unwrap();
        }
        fs::write(self.path("evidence").join(INDEX), index.render().unwrap()).unwrap();
    }

    /// Changes something that was gathered, and the list with it; `None` takes it away.
    pub fn regather(&self, item: Item, change: impl Fn(&str) -> Option<String>) {
        let folder = self.path("evidence");
        let mut files = BTreeMap::new();
        for known in Item::ALL.iter().filter(|item| **item != Item::Chain) {
            if let Ok(bytes) = fs::read(folder.join(known.name())) {
                files.insert(*known, bytes);
            }
        }
        let before = String::from_utf8(files.remove(&item).unwrap()).unwrap();
        let after = change(&before);
        assert_ne!(after.as_deref(), Some(before.as_str()), "{item:?}");
        fs::remove_file(folder.join(item.name())).unwrap();
        files.extend(after.map(|text| (item, text.into_bytes())));
        self.seal(&files);
    }

    /// Replaces a part of something that was gathered.
    pub fn replace(&self, item: Item, from: &str, to: &str) {
        self.regather(item, |text| {
            assert!(text.contains(from), "{from}: {text}");
            Some(text.replacen(from, to, 1))
        });
    }

    /// Names of the refusals, and of what could not be seen.
    pub fn judge(&self) -> (Vec<&'static str>, Vec<String>) {
        let evidence = match load_evidence(&self.path("evidence")).unwrap() {
            Ok(evidence) => evidence,
            Err(refusals) => return (refusals.iter().map(DeviceRefusal::name).collect(), Vec::new()),
        };
        let trust = load_trust(&self.path("trust")).unwrap();
        let release = installed(&Bundle::list(&self.path("bundle")).unwrap(), &trust).unwrap();
        let refused = |it: secai_verifier::refusal::Refusal| {
            println!("{}: {it}", it.name());
            DeviceRefusal::ReleaseRefused { name: it.name().into(), detail: it.to_string() }
        };
        let release = release.map_err(|refusals| refusals.into_iter().map(refused).collect());
        let commit = release.as_ref().ok().map(|release: &Installed| release.commit().tree);
        let root = load_root(&self.path("root"), &self.at("/boot"), commit).unwrap();
        let device = Device::judge(&Case { evidence: &evidence, root: Some(&root), release: Some(&release) });
        let refusals = device.refusals();
        refusals.iter().for_each(|it| println!("{}: {it}", it.name()));
        let unseen = device.unseen().into_iter().map(|it| format!("{}: {}", it.what, it.why)).collect();
        (refusals.iter().map(DeviceRefusal::name).collect(), unseen)
    }
}
