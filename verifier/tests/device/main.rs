//! A device as it was released is accepted; each change to it, or to what it gathered, is refused by its own name.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests start the verifier")]

#[path = "../bundle/make.rs"]
#[allow(dead_code, reason = "the tests of bundles change what these do not")]
mod bundle;
#[path = "../audit/make.rs"]
#[allow(dead_code, reason = "the tests of chains change what these do not")]
mod chain;
mod claims;
mod make;
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use bundle::write;
use make::{Lab, live};
use secai_verifier::device::refusal::DeviceRefusal;
use secai_verifier::digest::Digest;
use secai_verifier::evidence::Item;
use secai_verifier::ostree::Xattrs;

type Change = fn(&Lab);

/// To what was gathered, with the list made again where there is more than damage.
const OF_THE_EVIDENCE: &[(&str, Change)] = &[
    // Naive.
    ("EvidenceDamaged", |lab| fs::write(lab.path("evidence/tcp"), "x").unwrap()),
    ("EvidenceDamaged", |lab| {
        let text = fs::read_to_string(lab.path("evidence/evidence.json")).unwrap();
        let at = text.find("\"cmdline\":{\"digest\":\"sha256:").unwrap() + 28;
        let other = if &text[at..=at] == "0" { "1" } else { "0" };
        fs::write(lab.path("evidence/evidence.json"), format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    }),
    ("EvidenceAbsent", |lab| fs::remove_file(lab.path("evidence/units")).unwrap()),
    ("EvidenceAbsent", |lab| fs::remove_file(lab.path("evidence/evidence.json")).unwrap()),
    ("EvidenceForeign", |lab| fs::write(lab.path("evidence/more"), "x").unwrap()),
    ("EvidenceForeign", |lab| {
        fs::rename(lab.path("evidence/tcp"), lab.path("tcp")).unwrap();
        symlink("../tcp", lab.path("evidence/tcp")).unwrap();
    }),
    ("EvidenceMalformed", |lab| fs::write(lab.path("evidence/evidence.json"), "{}").unwrap()),
    // Re-sealed.
    ("EvidenceMalformed", |lab| lab.regather(Item::Units, |_| Some("what".into()))),
    ("EvidenceMalformed", |lab| lab.regather(Item::Settings, |_| Some("[]".into()))),
    ("EvidenceMalformed", |lab| lab.regather(Item::Profile, |_| Some("unheard_of\n".into()))),
    ("EvidenceMalformed", |lab| lab.replace(Item::CommandLine, "ostree=/ostree/boot.1", "ostree=/x")),
    ("BootedCommitDiffers", |lab| {
        lab.regather(Item::Deployment, |_| Some(format!("{{\"commit\":\"{}\",\"origin\":[]}}", Digest::of(b"other"))));
    }),
    ("KernelArgumentForeign", |lab| lab.replace(Item::CommandLine, "quiet", "quiet init=/bin/sh")),
    ("KernelArgumentGone", |lab| lab.replace(Item::CommandLine, "lockdown=integrity ", "")),
    ("UnitGone", |lab| {
        lab.replace(
            Item::Units,
            "Id=secure-ai-audit.service\nLoadState=loaded",
            "Id=secure-ai-audit.service\nLoadState=masked",
        )
    }),
    ("UnitReplaced", |lab| {
        lab.replace(
            Item::Units,
            "FragmentPath=/usr/lib/systemd/system/secure-ai-audit.service",
            "FragmentPath=/etc/systemd/system/secure-ai-audit.service",
        )
    }),
    ("UnitChanged", |lab| {
        lab.replace(
            Item::Units,
            "secure-ai-audit.socket\nDropInPaths=",
            "secure-ai-audit.socket\nDropInPaths=/run/systemd/system/x.conf",
        )
    }),
    ("UnitOutdated", |lab| {
        lab.replace(
            Item::Units,
            "NeedDaemonReload=no\n\nId=secure-ai-audit.socket",
            "NeedDaemonReload=yes\n\nId=secure-ai-audit.socket",
        )
    }),
    ("UnitForeign", |lab| {
        lab.replace(
            Item::Units,
            "FragmentPath=/usr/lib/systemd/system/dbus.socket",
            "FragmentPath=/etc/systemd/system/dbus.socket",
        )
    }),
    ("RulesRefused", |lab| lab.regather(Item::Ruleset, |_| Some(live("full_lab")))),
    ("RulesRefused", |lab| lab.regather(Item::Ruleset, |text| Some(format!("{text}table ip nat {{\n}}\n")))),
    ("RulesRefused", |lab| lab.replace(Item::Links, "]}]", "]},{\"ifname\":\"eth0\",\"flags\":[\"UP\"]}]")),
    ("SettingDiffers", |lab| {
        lab.replace(Item::Settings, "\"net.ipv4.ip_forward\":\"0\"", "\"net.ipv4.ip_forward\":\"1\"")
    }),
    ("SwapOn", |lab| lab.regather(Item::Swaps, |text| Some(format!("{text}/dev/sda2 partition 1 0 -2\n")))),
    ("CoresKept", |lab| lab.replace(Item::Manager, "=0", "=infinity")),
    ("KernelNotLocked", |lab| lab.replace(Item::Lockdown, "none [integrity]", "[none] integrity")),
];

/// To the device's own files.
const OF_THE_FILES: &[(&str, Change)] = &[
    ("FileNotAccounted", |lab| write(&lab.path("root"), "usr/bin/evil", b"evil")),
    ("FileNotAccounted", |lab| write(&lab.path("root"), "opt/evil", b"evil")),
    ("FileNotAccounted", |lab| symlink("/bin/sh", lab.at("/usr/bin/evil")).unwrap()),
    ("FileGone", |lab| fs::remove_file(lab.at("/usr/bin/bash")).unwrap()),
    ("FileChanged", |lab| fs::write(lab.at("/usr/bin/sh"), "sH").unwrap()),
    ("FileChanged", |lab| {
        fs::remove_file(lab.at("/usr/bin/sh")).unwrap();
        symlink("bash", lab.at("/usr/bin/sh")).unwrap();
    }),
    ("FileModeChanged", |lab| {
        fs::set_permissions(lab.at("/usr/bin/sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    }),
    ("LinkTurned", |lab| {
        fs::remove_file(lab.at("/bin")).unwrap();
        symlink("var/bin", lab.at("/bin")).unwrap();
    }),
    ("FolderNotAccounted", |lab| fs::create_dir(lab.at("/usr/lib/evil")).unwrap()),
    ("FolderGone", |lab| fs::remove_dir(lab.at(make::EMPTY)).unwrap()),
    ("FolderChanged", |lab| {
        fs::set_permissions(lab.at("/usr/lib"), fs::Permissions::from_mode(0o777)).unwrap();
    }),
    ("BootFileChanged", |lab| fs::write(lab.at("/boot/ostree/secai-0f/initramfs-6.img"), "evil").unwrap()),
    ("BootFileGone", |lab| fs::remove_file(lab.at("/boot/ostree/secai-0f/vmlinuz-6")).unwrap()),
    ("KernelArgumentForeign", |lab| {
        let path = lab.at("/boot/loader/entries/ostree-1.conf");
        let text = fs::read_to_string(&path).unwrap().replace("quiet", "quiet systemd.debug_shell");
        fs::write(path, text).unwrap();
    }),
    ("KernelArgumentGone", |lab| {
        // Of the deployment that is booted, under the name that it has since another one came.
        let path = lab.at("/boot/loader/entries/ostree-1.conf");
        let text = fs::read_to_string(&path).unwrap().replace("boot.1", "boot.0").replace("lockdown=integrity ", "");
        fs::write(path, text).unwrap();
    }),
    ("EtcWeakened", |lab| fs::write(lab.at("/etc/nsswitch.conf"), "hosts: dns\n").unwrap()),
    ("EtcWeakened", |lab| write(&lab.path("root"), "etc/systemd/system/secure-ai-audit.service.d/x.conf", b"x")),
    ("EtcWeakened", |lab| {
        fs::remove_file(lab.at("/etc/systemd/system/timers.target.wants/secure-ai-dns-leak-check.timer")).unwrap();
    }),
    ("RulesNotShipped", |lab| {
        fs::write(lab.at("/usr/lib/secure-ai/firewall/offline_private.nft"), live("full_lab")).unwrap()
    }),
    ("PolicyMalformed", |lab| fs::write(lab.at("/usr/lib/secure-ai/policy/profiles/research.yml"), "x").unwrap()),
    ("PolicyMalformed", |lab| fs::write(lab.at("/usr/lib/bootc/kargs.d/10-secai.toml"), "x").unwrap()),
    // Of the release: re-sealed by who has the key of builds alone, signed by a stranger, cut.
    ("ReleaseRefused", |lab| {
        let other = Lab::of(|plan| plan.sbom.push(bundle::Node::file("/usr/bin/evil", b"evil", 1)), &make::chain());
        let statement = "bundle/attest/sbom.dsse.json";
        fs::copy(other.path(statement), lab.path(statement)).unwrap();
        write(&lab.path("root"), "usr/bin/evil", b"evil");
    }),
    ("ReleaseRefused", |lab| {
        let other = Lab::of(|plan| plan.release_keys = vec![1], &make::chain());
        fs::copy(other.path("bundle/release.json"), lab.path("bundle/release.json")).unwrap();
    }),
    ("ReleaseRefused", |lab| fs::remove_file(lab.path("bundle/commit.commit")).unwrap()),
    ("ReleaseRefused", |lab| fs::write(lab.path("bundle/release.json"), "{}").unwrap()),
];

#[test]
fn a_device_as_released_is_accepted() {
    let (refusals, unseen) = Lab::new().judge();
    assert_eq!((refusals.len(), unseen.len()), (0, 0), "{refusals:?} {unseen:?}");
}

#[test]
fn every_change_meets_its_refusal_and_every_refusal_a_change() {
    let mut met = BTreeSet::new();
    for (at, (name, change)) in OF_THE_EVIDENCE.iter().chain(OF_THE_FILES).enumerate() {
        let lab = Lab::new();
        change(&lab);
        println!("-- {at} {name}");
        let (refusals, _) = lab.judge();
        assert!(refusals.contains(name), "{at} {name}: {refusals:?}");
        met.insert(*name);
    }
    // An owner is changed by root alone: the bill of materials says another one instead.
    let lab = Lab::of(
        |plan| {
            plan.on_sbom = Some(Box::new(|sbom| {
                sbom.owners.iter_mut().flat_map(|owner| &mut owner.files).for_each(|file| file.uid += 1);
            }));
        },
        &make::chain(),
    );
    met.insert(only(&lab));
    // And an attribute only where the file system takes it: the commit has one that the device lacks.
    let attribute = Xattrs::new([(b"security.capability".to_vec(), vec![1; 20])]).unwrap();
    let lab = Lab::of(|plan| plan.commit[1].xattrs = attribute.clone(), &make::chain());
    met.insert(only(&lab));
    let unmet: Vec<_> = DeviceRefusal::ALL.iter().filter(|name| !met.contains(**name)).collect();
    assert!(unmet.is_empty(), "{unmet:?}");
}

/// The one name of all refusals.
fn only(lab: &Lab) -> &'static str {
    let (refusals, unseen) = lab.judge();
    assert!(unseen.is_empty() && refusals.iter().all(|name| *name == refusals[0]), "{refusals:?} {unseen:?}");
    refusals[0]
}

#[test]
fn an_attribute_more_is_found_and_a_repository_that_says_nothing_is_named() {
    let lab = Lab::new();
    match rustix::fs::setxattr(lab.at("/usr/bin/sh"), "user.x", b"1", rustix::fs::XattrFlags::empty()) {
        Ok(()) => assert_eq!(lab.judge(), (vec!["FileAttributesChanged"], vec![])),
        Err(error) => println!("no attribute can be laid here: {error}"),
    }
    let lab = Lab::new();
    let objects = lab.at("/sysroot/ostree/repo/objects");
    let tree =
        secai_verifier::ostree::Commit::parse(&fs::read(lab.path("bundle/commit.commit")).unwrap()).unwrap().tree;
    let tree = lab.at(&secai_verifier::layout::object_path(&tree, secai_verifier::layout::ObjectKind::DirTree));
    fs::write(&tree, "other").unwrap();
    let (refusals, unseen) = lab.judge();
    assert!(refusals.is_empty() && unseen.len() == 1 && unseen[0].contains("other bytes than its name"), "{unseen:?}");
    fs::remove_dir_all(&objects).unwrap();
    let (refusals, unseen) = lab.judge();
    assert!(refusals.is_empty() && unseen.len() == 1 && unseen[0].contains("there is no repository"), "{unseen:?}");
}

#[test]
fn what_differs_without_harm_is_listed_and_what_was_not_gathered_is_named() {
    let lab = Lab::new();
    fs::write(lab.at("/etc/hostname"), "other\n").unwrap();
    write(&lab.path("root"), "etc/machine-id", b"x");
    assert_eq!(lab.judge(), (vec![], vec![]));
    // What another deployment is started with is its own.
    write(&lab.path("root"), "boot/loader/entries/ostree-2.conf", b"options rw ostree=/ostree/boot.1/secai/aa/0\n");
    assert_eq!(lab.judge(), (vec![], vec![]));
    lab.regather(Item::Lockdown, |_| None);
    assert_eq!(lab.judge(), (vec![], vec!["lockdown: there is none".to_owned()]));
}

#[test]
fn what_is_installed_does_not_expire_and_a_lost_key_counts_no_more() {
    let old = Lab::of(
        |plan| {
            plan.on_release = Some(Box::new(|release| {
                release.created = "2026-11-02T00:00:00Z".parse().unwrap();
                release.expires = "2026-11-03T00:00:00Z".parse().unwrap();
            }));
        },
        &make::chain(),
    );
    assert_eq!(old.judge(), (vec![], vec![]));
    let revoked = Lab::of(
        |plan| plan.on_roles = Some(Box::new(|roles| roles.roles.release.keys[0].revoked = true)),
        &make::chain(),
    );
    assert!(revoked.judge().0.contains(&"ReleaseRefused"));
}

#[test]
fn evidence_that_is_cut_or_garbage_ends_in_an_answer() {
    let lab = Lab::new();
    let kept: Vec<(Item, String)> = (Item::ALL.iter())
        .filter_map(|item| Some((*item, fs::read_to_string(lab.path("evidence").join(item.name())).ok()?)))
        .collect();
    for (item, text) in kept.iter().filter(|(_, text)| !text.is_empty()) {
        let garbage = "\u{0}{[\"=ü\n\n=\n".to_owned();
        let others = [String::new(), text[..text.len() / 2].to_owned(), format!("{text}{garbage}"), garbage.clone()];
        for other in others {
            lab.regather(*item, |_| Some(other.clone()));
            // A part can still say enough; nothing at all never does.
            let (refusals, unseen) = lab.judge();
            // These are judged with the claims alone.
            let beside =
                [Item::BootId, Item::DnsJournal, Item::Tcp, Item::Tcp6, Item::Udp, Item::Udp6, Item::Raw, Item::Raw6];
            assert!(unseen.is_empty(), "{item:?}: {unseen:?}");
            assert!(!refusals.is_empty() || !other.is_empty() || beside.contains(item), "{item:?}");
            lab.regather(*item, |_| Some(text.clone()));
        }
    }
    assert_eq!(lab.judge(), (vec![], vec![]));
}
