//! Real packets against the rules of each profile, as `secaictl leak-test` tries them; and rules that leak are noticed,
//! by the packets as by the prover.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use secai_tests::{Need, Ran, Scratch, Tier, as_root, program, ran, require, top};
use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::links::Links;
use secai_verifier::network::one::{Packet, leaves};
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
/// So many vectors are compared with the prover's model: all that processes send themselves.
const COMPARED_MIN: usize = 170;
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
    match profile {
        "offline_private" => assert_eq!(sum["others"], Value::Array(Vec::new()), "no frame of any kind"),
        // The kernel itself asks for routers.
        _ => assert!(sum["others"].as_array().unwrap().contains(&0x86dd.into()), "{sum}"),
    }
    let (page, loopback) = load_profile(&top().join("manifests/policy"), profile).unwrap();
    let rules = ruleset(&page, &loopback, 0x5eca_1005, ["leak0"]).to_string();
    agree(&rules, &vectors);
}

fn agree(rules: &str, vectors: &[Value]) {
    let (compared, differ) = compared(rules, vectors);
    assert!(compared >= COMPARED_MIN, "{compared}");
    assert!(differ.is_empty(), "{differ:#?}");
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

/// Rules that let out more than their profile's page, or less: a change in the text each, what is to leak, what not.
fn broken(profile: &str) -> Vec<(String, &'static str, &'static str)> {
    let policy = top().join("manifests/policy");
    let text = |profile: &str| {
        let (page, loopback) = load_profile(&policy, profile).unwrap();
        ruleset(&page, &loopback, 0x5eca_1005, ["leak0"]).to_string()
    };
    let ours = text(profile);
    let changed = |from: &str, to: &str| {
        assert!(ours.contains(from), "{profile} has no `{from}`");
        ours.replace(from, to)
    };
    let frames = "counter name \"frames_refused\" drop";
    let frames_too = changed(frames, "counter name \"frames_refused\" accept");
    match profile {
        "offline_private" => vec![
            // The looser profile's rules.
            (text("full_lab"), "TCP, IPv4", "UDP, IPv4: QUIC"),
            // The other one's.
            (text("research"), "TCP, IPv4: a relay's port", "UDP, IPv4: DNS"),
            // Frames are let out, packets are not.
            (frames_too, "frame of LLDP", "UDP, IPv4: QUIC"),
        ],
        "research" => vec![
            (frames_too, "frame of LLDP", "UDP, IPv4: QUIC"),
            // What the sender calls a frame is asked, not what it is.
            (
                changed(" ether type ip6", ""),
                "frame of a type of nobody's, called neighbour discovery",
                "frame of a type of nobody's",
            ),
            // One port of DNS is.
            (changed("53, 853, 5353", "53, 5353"), "TCP, IPv4: DNS over TLS", "TCP, IPv4: DNS"),
            // Mail is.
            (changed("tcp dport != 25", "tcp dport != 26"), "TCP, IPv4: mail", "TCP, IPv4: DNS"),
        ],
        _ => vec![
            // Another user is let out.
            (changed("meta skuid 952", "meta skuid { 952, 1000 }"), "TCP, IPv4", "UDP, IPv4: DNS"),
            // Private addresses are.
            (changed("10.0.0.0/8,\n\t\t\t     ", ""), "TCP, IPv4: a private address", "TCP, IPv4: mail"),
            // Frames of one more type are.
            (changed("ether type arp", "ether type { arp, 0x88cc }"), "frame of LLDP", "frame of 802.1X"),
        ],
    }
}

/// What a frame says of itself, for the model; none where it says too little.
fn packet(vector: &Value, frame: &[u8]) -> Option<Packet> {
    let two = |at: usize| Some(u64::from(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?)));
    let ether = two(12)?;
    let called =
        if vector["vector"] == "frame of a type of nobody's, called neighbour discovery" { 0x86dd } else { ether };
    let mut packet = Packet {
        called,
        ether,
        to: None,
        protocol: 0,
        ports: (0, 0),
        icmp6: 0,
        hops: 0,
        later: false,
        begins: false,
        untracked: false,
        uid: vector["uid"].as_u64()?,
        frame: vector["by"] == "frame",
    };
    let mut at = 14;
    match called {
        0x0800 => {
            packet.to = Some(Ipv4Addr::from_octets(frame.get(30..34)?.try_into().ok()?).into());
            packet.protocol = u64::from(*frame.get(23)?);
            packet.later = two(20)? & 0x1fff != 0;
            at += usize::from(frame[14] & 0xf) * 4;
        }
        0x86dd => {
            packet.to = Some(Ipv6Addr::from_octets(frame.get(38..54)?.try_into().ok()?).into());
            packet.protocol = u64::from(*frame.get(20)?);
            packet.hops = u64::from(*frame.get(21)?);
            at += 40;
            while let 0 | 43 | 44 | 60 = packet.protocol {
                packet.later |= packet.protocol == 44 && two(at + 2)? & 0xfff8 != 0;
                let length = if packet.protocol == 44 { 8 } else { usize::from(*frame.get(at + 1)?) * 8 + 8 };
                packet.protocol = u64::from(*frame.get(at)?);
                at += length;
            }
        }
        // Where a rule asks for what is not there, it does not hold.
        _ => return Some(packet),
    }
    if packet.later {
        return Some(packet);
    }
    match packet.protocol {
        6 | 17 | 33 | 132 | 136 => {
            packet.ports = (two(at)?, two(at + 2)?);
            // SYN, and not ACK.
            packet.begins = packet.protocol == 6 && frame.get(at + 13)? & 0x12 == 0x02;
        }
        // Conntrack leaves neighbours and listeners alone.
        58 => {
            packet.icmp6 = u64::from(*frame.get(at)?);
            packet.untracked = matches!(packet.icmp6, 130..=137 | 143);
        }
        _ => {}
    }
    Some(packet)
}

/// How many vectors were compared with the prover's model, and of which it says otherwise than the packets.
fn compared(rules: &str, vectors: &[Value]) -> (usize, Vec<String>) {
    let rules = parse(rules.as_bytes()).unwrap();
    let mut compared = 0;
    let mut differ = Vec::new();
    let mut not = BTreeSet::new();
    for vector in vectors.iter().filter(|it| it["found"] != "missing") {
        let name = vector["vector"].as_str().unwrap();
        let frames = vector["without_rules"].as_array().unwrap();
        let packets: Vec<Packet> = (frames.iter())
            .filter(|_| vector["by"] != "kernel" && vector["found"] != "BESIDE")
            .filter_map(|frame| packet(vector, &bytes(frame.as_str().unwrap())))
            .collect();
        if packets.is_empty() {
            not.insert(name);
            continue;
        }
        let said: Vec<(bool, String)> = packets.iter().map(|it| leaves(&rules, "leak0", it).unwrap()).collect();
        let left = vector["frames"].as_u64().unwrap() > 0;
        if said.iter().any(|(leaves, _)| *leaves) != left {
            differ.push(format!("{vector}: {packets:?}: {said:?}"));
        }
        compared += 1;
    }
    if differ.is_empty() {
        eprintln!("{compared} vectors compared with the model, these not, being made on the way or beside it: {not:?}");
    }
    (compared, differ)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// Packets and prover see the same in rules that are not as the page says.
fn noticed(profile: &str) {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let scratch = Scratch::new(TMP, &format!("leaks-{profile}"));
    let policy = top().join("manifests/policy");
    for (rules, leaks, stays) in broken(profile) {
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
        agree(&rules, &vectors);
        // What the profile's own rules would do is not what these packets did.
        let ours = ruleset(&page, &loopback, 0x5eca_1005, ["leak0"]).to_string();
        assert!(!compared(&ours, &vectors).1.is_empty(), "the model says the same of other rules");
    }
}

#[test]
fn rules_of_offline_private_that_leak_are_noticed_by_packets_and_prover() {
    noticed("offline_private");
}

#[test]
fn rules_of_research_that_leak_are_noticed_by_packets_and_prover() {
    noticed("research");
}

#[test]
fn rules_of_full_lab_that_leak_are_noticed_by_packets_and_prover() {
    noticed("full_lab");
}
