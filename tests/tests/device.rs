//! The composed device (`recipes/secai.yml`): plan, bill of materials and pack say the same of our programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use secai_tests::{Need, Tier, device, pack, release, require};
use secai_verifier::digest::Digest;
use secai_verifier::sbom::{Content, OwnerKind, Sbom};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn plan_and_bill_of_materials_record_the_pack() {
    if !require(Tier::Test, &[Need::Device]) {
        return;
    }
    let list = fs::read(pack().join("pack.json")).unwrap();
    let plan = json(&device().join("1-plan.json"));
    let sbom = Sbom::parse(&fs::read(device().join("5-attest/sbom.cdx.json")).unwrap()).unwrap();
    let files: BTreeMap<&str, (&OwnerKind, &Content)> =
        sbom.by_path().unwrap().into_iter().map(|(file, owner)| (&*file.path, (&owner.kind, &file.content))).collect();
    let digest = Digest::of(&list);
    assert_eq!(plan["services"]["pack"], digest.to_string());
    assert!(sbom.owners.iter().any(|owner| owner.kind == OwnerKind::Pack { list: digest }));

    let list: Value = serde_json::from_slice(&list).unwrap();
    let packed = |name: &str| list["programs"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
    for (name, path) in [
        ("secai-audit", "/usr/libexec/secure-ai/secai-audit"),
        ("secaictl", "/usr/bin/secaictl"),
        ("verify-release", "/usr/bin/verify-release"),
    ] {
        let (OwnerKind::Program { name: of, crates, .. }, Content::Regular(sha256)) = files[path] else {
            panic!("{path}: {:?}", files[path])
        };
        assert_eq!((of.as_str(), sha256.to_string().as_str()), (name, packed(name)["sha256"].as_str().unwrap()));
        assert_eq!(serde_json::to_value(crates).unwrap(), packed(name)["crates"], "{name}");
        assert!(crates.iter().any(|one| one.name == "secai-verifier") && crates.len() > 20, "{name}: {crates:?}");
        assert!(!crates.iter().any(|one| ["tempfile", "rqrr"].contains(&one.name.as_str())), "{name}: of tests only");
    }
    // The rules are made by the builder; plan and image have the same.
    for planned in plan["services"]["rulesets"].as_array().unwrap() {
        let text = planned["content"]["inline"].as_str().unwrap();
        let path = planned["path"].as_str().unwrap();
        assert_eq!(files[path], (&OwnerKind::Compose, &Content::Regular(Digest::of(text.as_bytes()))), "{path}");
    }
    for path in ["/usr/lib/secure-ai/services/audit.yml", "/usr/lib/systemd/system/secure-ai-witness.timer"] {
        assert!(matches!(files[path].0, OwnerKind::Pack { .. }), "{path}: {:?}", files[path].0);
    }
    // Nothing in it asks for names, the time, news or updates by itself; and if a package ever brings it, this says so.
    for unit in [
        "systemd-resolved.service",
        "systemd-timesyncd.service",
        "avahi-daemon.service",
        "avahi-daemon.socket",
        "nscd.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "motd-news.timer",
        "fwupd-refresh.timer",
        "chrony.service",
        "ntpsec.service",
    ] {
        assert!(!files.contains_key(&*format!("/usr/lib/systemd/system/{unit}")), "{unit} is to be masked");
    }
    assert!(
        files.contains_key("/usr/lib/systemd/system/systemd-networkd.service"),
        "names are as they are in the image"
    );
    for unit in ["systemd-networkd.socket", "systemd-networkd-wait-online.service", "systemd-network-generator.service"]
    {
        let masked = Content::Symlink("/dev/null".into());
        assert_eq!(files[&*format!("/usr/etc/systemd/system/{unit}")].1, &masked, "{unit}");
    }
    // Units that the pages name are enabled: by links, made while composing.
    let link = "/usr/etc/systemd/system/sockets.target.wants/secure-ai-audit.socket";
    let target = Content::Symlink("/usr/lib/systemd/system/secure-ai-audit.socket".into());
    assert_eq!(files[link], (&OwnerKind::Compose, &target));
}

/// By the modes that the bills of materials list, which are those of the commits.
#[test]
fn only_what_the_recipe_names_runs_with_more_rights() {
    if !require(Tier::Test, &[Need::Device, Need::Release]) {
        return;
    }
    const SET_ID: u32 = 0o6000;
    let raised = |made: &Path| -> Vec<String> {
        let sbom = Sbom::parse(&fs::read(made.join("5-attest/sbom.cdx.json")).unwrap()).unwrap();
        let files = sbom.by_path().unwrap();
        let raised = files.iter().filter(|(file, _)| file.mode & SET_ID != 0);
        raised.map(|(file, _)| file.path.to_string()).collect()
    };
    let mut found = raised(&device());
    found.sort();
    assert_eq!(json(&device().join("1-plan.json"))["recipe"]["set_id"], serde_json::to_value(found).unwrap());
    // Its parent has no list, and what its packages set.
    assert!(json(&release().join("1-plan.json"))["recipe"]["set_id"].is_null());
    let all = raised(&release());
    assert!(["/usr/bin/mount", "/usr/bin/su"].iter().all(|path| all.iter().any(|it| it == path)), "{all:?}");
}
