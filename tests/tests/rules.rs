//! The rules of each profile in a real kernel: loaded by nft into a namespace of their own, listed, read back, proven.

use std::fs;
use std::path::Path;

use secai_firewall::second::agree;
use secai_tests::{Need, Scratch, Tier, as_root, program, ran, release, require, top};
use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::normal::{digest, normal};
use secai_verifier::network::parse::parse;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 5] =
    [Need::Release, Need::Root, Need::Program("nft"), Need::Program("ip"), Need::Program("unshare")];
const PROFILES: [&str; 3] = ["offline_private", "research", "full_lab"];
/// Names of links: an unusual one among them.
const LINKS: [&str; 2] = ["eth0", "w-lan.5"];

/// Loads rules twice in a namespace with links, as a switch does, and lists them. `$1`: whose nft.
const SCRIPT: &str = r#"set -e
nft() { chroot "$root" nft "$@"; }
root=$1
ip link set lo up
ip link add eth0 type veth peer name w-lan.5
nft -f - <loaded
nft -f - <again
nft list ruleset >listed
nft -j list table inet secure_ai >json
ip -j link >links
"#;

#[test]
fn what_nft_lists_is_what_was_loaded_and_is_proven() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    // This machine's nft, and the image's own.
    let image = release().join("2-rootfs/tree");
    for (root, profile) in [Path::new("/"), &image].into_iter().flat_map(|root| PROFILES.map(|it| (root, it))) {
        judge_profile(root, profile);
    }
}

fn judge_profile(root: &Path, profile: &str) {
    let policy = top().join("manifests/policy");
    let scratch = Scratch::new(TMP, &format!("rules-{profile}"));
    let (page, loopback) = load_profile(&policy, profile).unwrap();
    let rules = ruleset(&page, &loopback, 0x5eca_1005, LINKS);
    fs::write(scratch.join("loaded"), rules.to_string()).unwrap();
    let again = ruleset(&page, &loopback, 0x0000_0007, LINKS).to_string();
    let tables = ["inet secure_ai", "netdev secure_ai_l2"];
    let emptied = tables.map(|table| format!("table {table}\ndelete table {table}\n")).concat();
    fs::write(scratch.join("again"), format!("{emptied}{again}")).unwrap();
    ran(as_root("unshare").args(["--net", "sh", "-c", SCRIPT, "sh"]).arg(root).current_dir(scratch.path())).good();

    let listed = fs::read(scratch.join("listed")).unwrap();
    let read = parse(&listed).unwrap_or_else(|why| panic!("{profile}: {why}\n{}", String::from_utf8_lossy(&listed)));
    let (ours, theirs) = (normal(&rules).to_string(), normal(&read).to_string());
    let differ: Vec<_> = ours.lines().zip(theirs.lines()).filter(|(one, other)| one != other).collect();
    assert!(differ.is_empty() && ours == theirs, "{profile}, loaded and listed: {differ:#?}");
    let json = fs::read(scratch.join("json")).unwrap();
    agree(&read, &json).unwrap_or_else(|why| panic!("{profile}, of {}: {why}", root.display()));
    // The mark that was loaded first is not the one that is listed; where nothing leaves there is none.
    assert_eq!(agree(&rules, &json).is_err(), !page.is_closed());
    let judged = judge(scratch.path(), "listed", profile, &policy);
    let found = judged.good();
    assert!(found.out.starts_with("proven\n"), "{found}");
    assert!(found.out.contains(&digest(&rules).to_string()), "{found}");
    assert!(found.out.contains("eth0, w-lan.5"), "{found}");

    // The seed's first command shows default-deny.
    let text = String::from_utf8(listed).unwrap();
    let after: Vec<&str> = text.lines().skip_while(|line| !line.contains("chain output")).take(6).collect();
    assert!(after[1].contains("policy drop"), "{after:#?}");
    let lets_out =
        |line: &&&str| line.contains("accept") || line.contains("goto loopback") && !line.contains("oif \"lo\"");
    assert_eq!(after.iter().filter(lets_out).count(), 0, "{after:#?}");
    assert_eq!(text.matches("chain output").count(), 1);

    // One rule is another: the judge who saw the first sees this one too.
    let other = text.replacen("counter name \"input_refused\" drop", "counter name \"input_refused\" accept", 1);
    assert_ne!(other, text);
    fs::write(scratch.join("other"), other).unwrap();
    let refused = judge(scratch.path(), "other", profile, &policy);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.out.contains("PacketAdmitted"), "{refused}");
}

fn judge(folder: &Path, rules: &str, profile: &str, policy: &Path) -> secai_tests::Ran {
    let mut command = std::process::Command::new(program("verify-release"));
    command.arg("network").arg(folder.join(rules)).arg("--links").arg(folder.join("links"));
    ran(command.args(["--profile", profile, "--policy"]).arg(policy))
}
