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
/// Names of ways out; some differ in a port alone.
const WAYS_MIN: usize = 60;

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
        vectors.iter().filter(|it| it["found"] != "missing").map(|it| word(it, "vector")).collect();
    eprintln!("{profile}: {} ways, {sum}", ways.len());
    assert!(ways.len() >= WAYS_MIN, "{ways:?}");
    assert_eq!((&sum["leaks"], &sum["lost"], &sum["blind"]), (&0.into(), &0.into(), &0.into()), "{done}");
    let left: BTreeSet<(u64, String)> = (vectors.iter())
        .filter(|it| it["found"] == "leaves")
        .map(|it| (it["uid"].as_u64().unwrap(), word(it, "vector")))
        .collect();
    assert_eq!(left, leaves.iter().map(|(uid, name)| (*uid, (*name).to_owned())).collect());
    assert!(!sum["others_without_rules"].as_array().unwrap().is_empty(), "a link has words of its own: {sum}");
    match profile {
        "offline_private" => assert_eq!(sum["others"], Value::Array(Vec::new()), "no frame of any kind"),
        // The kernel itself asks for routers.
        _ => assert!(sum["others"].as_array().unwrap().contains(&0x86dd.into()), "{sum}"),
    }
}

#[test]
fn offline_private_lets_no_frame_out() {
    tried("offline_private", &[]);
}

#[test]
fn research_lets_tor_out_and_what_links_need() {
    let tor = ["TCP, IPv4", "TCP, IPv6", "TCP, IPv4 by a socket of IPv6", "TCP, fast open", "TCP, multipath"];
    let mut leaves: Vec<(u64, &str)> = tor.map(|name| (951, name)).to_vec();
    leaves.extend([(951, "TCP, to a relay's port"), (0, "frame of ARP"), (953, "frame of DHCP")]);
    tried("research", &leaves);
}

#[test]
fn full_lab_lets_the_airlock_out_and_what_links_need() {
    let airlock = ["TCP, IPv4", "TCP, IPv6", "TCP, IPv4 by a socket of IPv6", "TCP, fast open", "TCP, multipath"];
    let mut leaves: Vec<(u64, &str)> = airlock.map(|name| (952, name)).to_vec();
    leaves.extend([(0, "frame of ARP"), (953, "frame of DHCP")]);
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
        ("offline_private", lab.clone(), "TCP, IPv4", "UDP, QUIC"),
        // Frames are let out.
        ("research", research.replace(frames, "counter name \"frames_refused\" accept"), "frame of LLDP", "UDP, QUIC"),
        // What the sender calls a frame is asked, not what it is.
        (
            "research",
            research.replace(" ether type ip6", ""),
            "frame of a type of nobody's, called neighbour discovery",
            "frame of a type of nobody's",
        ),
        // One port of DNS is.
        ("research", research.replace("53, 853, 5353", "53, 5353"), "TCP, DNS over TLS", "TCP, DNS"),
        // Another user is let out.
        ("full_lab", lab.replace("meta skuid 952", "meta skuid { 952, 1000 }"), "TCP, IPv4", "UDP, DNS, IPv4"),
        // Private addresses are.
        ("full_lab", lab.replace("10.0.0.0/8,\n\t\t\t     ", ""), "TCP, to a private address", "TCP, mail"),
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
