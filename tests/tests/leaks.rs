//! Real packets against the rules of each profile, as `secaictl leak-test` tries them; and rules that leak are noticed,
//! by the packets as by the prover.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use secai_tests::{Need, Ran, Scratch, Tier, as_root, program, ran, require, top};
use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::links::Links;
use secai_verifier::network::parse::parse;
use secai_verifier::network::prove::prove;
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 4] = [Need::Root, Need::Program("nft"), Need::Program("ip"), Need::Program("nsenter")];
/// Ways out that any kernel has which builds this: those that differ in a port or an address alone are one.
const WAYS_MIN: usize = 60;
/// Ways that no rule meets, and what they take.
const BESIDE: [(&str, &str); 3] = [
    ("frame by AF_XDP", "CAP_NET_RAW"),
    ("led by tc from where another link's frames come in", "CAP_NET_ADMIN"),
    ("led by tc from where another link's frames go out", "CAP_NET_ADMIN"),
];
/// What the kernel says to its neighbours where a profile lets it, and what root may say alike.
const NEIGHBOURS: [(u64, &str); 11] = [
    (0, "frame of ARP"),
    (0, "ICMPv6 router solicitation"),
    (0, "the kernel asks for a neighbour, IPv4"),
    (0, "the kernel asks for a neighbour, IPv6"),
    (0, "the kernel asks for its own address"),
    (0, "the kernel announces its address, IPv4"),
    (0, "the kernel announces its address, IPv6"),
    (0, "the kernel answers ARP"),
    (0, "the kernel answers a neighbour"),
    (953, "UDP, broadcast: DHCP"),
    (953, "frame of IPv4: DHCP"),
];
/// What a user does whom a profile lets out.
const FLOWS: [&str; 6] = [
    "TCP, IPv4",
    "TCP, IPv6",
    "TCP, IPv4 by a socket of IPv6",
    "TCP, fast open",
    "TCP, multipath",
    "TCP, bound to the link",
];

fn leak_test(profile: &str) -> Command {
    let mut command = as_root(program("secaictl"));
    command.args(["--json", "leak-test", "--profile", profile, "--policy"]).arg(top().join("manifests/policy"));
    command
}

/// The vectors, and the last line.
fn answers(ran: &Ran) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap_or_else(|| panic!("{ran}"));
    (lines, last)
}

fn tried(profile: &str, leaves: &[(u64, &str)]) {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let done = ran(&mut leak_test(profile)).good();
    let (vectors, sum) = answers(&done);
    let word = |vector: &Value, key: &str| vector[key].as_str().unwrap_or_default().to_owned();
    for vector in vectors.iter().filter(|it| it["found"] == "missing") {
        eprintln!("missing here: {} of user {}: {}", word(vector, "vector"), vector["uid"], word(vector, "why"));
    }
    let ways: BTreeSet<String> =
        vectors.iter().filter(|it| it["found"] != "missing").map(|it| word(it, "way")).collect();
    eprintln!("{profile}: {} ways, {sum}", ways.len());
    assert!(ways.len() >= WAYS_MIN, "{ways:?}");
    assert_eq!((&sum["leaks"], &sum["lost"], &sum["blind"]), (&0.into(), &0.into(), &0.into()), "{done}");
    // No silent exception: what passes beside is this, and is said with what it takes.
    for vector in vectors.iter().filter(|it| it["found"] == "BESIDE") {
        let (name, why) = (word(vector, "vector"), word(vector, "why"));
        assert!(BESIDE.iter().any(|(known, needs)| *known == name && why.ends_with(needs)), "{vector}");
        eprintln!("{profile}: {name} {why}");
    }
    let left: BTreeSet<(u64, String)> = (vectors.iter())
        .filter(|it| it["found"] == "leaves")
        .map(|it| (it["uid"].as_u64().unwrap(), word(it, "vector")))
        .collect();
    assert_eq!(left, leaves.iter().map(|(uid, name)| (*uid, (*name).to_owned())).collect());
    assert!(!sum["others_without_rules"].as_array().unwrap().is_empty(), "a link has words of its own: {sum}");
    if profile == "offline_private" {
        assert_eq!(sum["others"], Value::Array(Vec::new()), "no frame of any kind");
    }
}

#[test]
fn offline_private_lets_no_frame_out() {
    tried("offline_private", &[]);
}

#[test]
fn research_lets_tor_out_and_what_links_need() {
    let mut leaves: Vec<(u64, &str)> = FLOWS.map(|name| (951, name)).to_vec();
    leaves.push((951, "TCP, IPv4: a relay's port"));
    leaves.extend(NEIGHBOURS);
    tried("research", &leaves);
}

#[test]
fn full_lab_lets_the_airlock_out_and_what_links_need() {
    let mut leaves: Vec<(u64, &str)> = FLOWS.map(|name| (952, name)).to_vec();
    leaves.extend(NEIGHBOURS);
    tried("full_lab", &leaves);
}

/// Packets and prover see the same in rules that are not as the page says.
#[test]
fn rules_that_leak_are_noticed_by_packets_and_prover() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let scratch = Scratch::new(TMP, "leaks");
    let policy = top().join("manifests/policy");
    let text = |profile: &str| {
        let (page, loopback) = load_profile(&policy, profile).unwrap();
        ruleset(&page, &loopback, 0x5eca_1005, ["leak0"]).to_string()
    };
    let frames = "counter name \"frames_refused\" drop";
    let (research, lab) = (text("research"), text("full_lab"));
    for (profile, rules, leaks, stays) in [
        // The looser profile's rules.
        ("offline_private", lab.clone(), "TCP, IPv4", "UDP, IPv4: QUIC"),
        // Frames are let out.
        (
            "research",
            research.replace(frames, "counter name \"frames_refused\" accept"),
            "frame of LLDP",
            "UDP, IPv4: QUIC",
        ),
        // One port of DNS is.
        ("research", research.replace("53, 853, 5353", "53, 5353"), "TCP, IPv4: DNS over TLS", "TCP, IPv4: DNS"),
        // Another user is let out.
        ("full_lab", lab.replace("meta skuid 952", "meta skuid { 952, 1000 }"), "TCP, IPv4", "UDP, IPv4: DNS"),
        // Private addresses are.
        ("full_lab", lab.replace("10.0.0.0/8,\n\t\t\t     ", ""), "TCP, IPv4: a private address", "TCP, IPv4: mail"),
    ] {
        let path = scratch.join("rules");
        fs::write(&path, &rules).unwrap();
        let done = ran(leak_test(profile).arg("--rules").arg(&path));
        assert_eq!(done.code, Some(1), "{leaks}: {done}");
        let (vectors, sum) = answers(&done);
        let found = |name: &str, word: &str| vectors.iter().any(|it| it["vector"] == name && it["found"] == word);
        assert!(found(leaks, "LEAKS"), "{leaks}: {done}");
        assert!(found(stays, "stays") && !found(stays, "LEAKS"), "{stays}: {done}");
        let (page, loopback) = load_profile(&policy, profile).unwrap();
        let proof = prove(&parse(rules.as_bytes()).unwrap(), &Links([("leak0".into(), true)].into()), &page, &loopback);
        let refusals = proof.unwrap_err();
        eprintln!("{profile}, {leaks}: {sum}; the prover: {}", refusals[0]);
        assert!(refusals.iter().any(|it| it.name().ends_with("Leaks")), "{refusals:#?}");
    }
}
