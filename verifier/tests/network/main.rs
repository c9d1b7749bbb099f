//! The rules of each profile, as text that is parsed and proven; and what the proof notices.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "the verifier starts no process; its tests start the verifier")]

mod mutations;
mod names;
mod program;

use secai_verifier::files::{load_profile, load_profiles};
use secai_verifier::network::bind::{bind, shipped, with_counts_of};
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::links::Links;
use secai_verifier::network::normal::{digest, normal};
use secai_verifier::network::parse::parse;
use secai_verifier::network::profile::{Leave, LinkNeed, Loopback, Ports, Profile, Profiles};
use secai_verifier::network::prove::{Proven, prove};
use secai_verifier::network::refusal::NetworkRefusal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(crate) const PROFILES: [&str; 3] = ["offline_private", "research", "full_lab"];
pub(crate) const EPOCH: u32 = 0x5eca_1005;
const LINKS: [&str; 2] = ["eth0", "wlan0.5-a"];

pub(crate) fn policy() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/policy")
}

pub(crate) fn page(name: &str) -> (Profile, Loopback) {
    load_profile(&policy(), name).unwrap()
}

pub(crate) fn links(names: &[&str]) -> Links {
    Links(names.iter().map(|name| ((*name).to_owned(), true)).collect())
}

/// What is loaded, as text.
pub(crate) fn text(name: &str) -> String {
    let (profile, loopback) = page(name);
    ruleset(&profile, &loopback, EPOCH, LINKS).to_string()
}

pub(crate) fn judged(text: &str, name: &str, names: &[&str]) -> Result<Proven, Vec<NetworkRefusal>> {
    let (profile, loopback) = page(name);
    let foreign = |error: secai_verifier::network::parse::ParseError| {
        vec![NetworkRefusal::RulesetForeign { reason: error.to_string() }]
    };
    prove(&parse(text.as_bytes()).map_err(foreign)?, &links(names), &profile, &loopback)
}

/// Names of what is refused, each once.
pub(crate) fn names(refusals: &[NetworkRefusal]) -> Vec<&'static str> {
    let mut names: Vec<&str> = refusals.iter().map(NetworkRefusal::name).collect();
    names.dedup();
    names
}

#[test]
fn each_profile_is_proven_and_no_other() {
    for (at, name) in PROFILES.iter().enumerate() {
        let text = text(name);
        let begun = std::time::Instant::now();
        let proven = judged(&text, name, &LINKS).unwrap_or_else(|why| panic!("{name}: {why:#?}\n{text}"));
        eprintln!("{name}: {} parts, {:?}", proven.parts, begun.elapsed());
        assert_eq!(proven.links, LINKS);
        assert!(proven.parts > 20);
        for other in PROFILES.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, name)| name) {
            let refusals = judged(&text, other, &LINKS).unwrap_err();
            assert!(!refusals.is_empty(), "{name} is not {other}");
        }
    }
    // Not only that it is refused: why.
    let loose = judged(&text("full_lab"), "offline_private", &LINKS).unwrap_err();
    assert!(
        loose.iter().any(|it| matches!(it, NetworkRefusal::PacketLeaks { packet, rule, .. }
        if packet.contains("port 443") && packet.contains("of user 952") && rule.contains("from_airlock"))),
        "{loose:#?}"
    );
}

#[test]
fn other_pages_are_proven_too() {
    let (mut page, loopback) = page("full_lab");
    page.leaves.push(Leave {
        user: "tor".to_owned(),
        uid: 951,
        ports: Ports::AllBut(BTreeSet::new()),
        unit: "tor@default.service".to_owned(),
    });
    let prove = |page: &Profile, loopback: &Loopback| {
        let rules = parse(ruleset(page, loopback, EPOCH, LINKS).to_string().as_bytes()).unwrap();
        prove(&rules, &links(&LINKS), page, loopback).unwrap_or_else(|why| panic!("{page:?}: {why:#?}\n{rules}"))
    };
    prove(&page, &loopback);
    prove(&page, &Loopback(BTreeMap::new()));
    page.leaves.clear();
    for needs in
        [&[LinkNeed::Arp][..], &[LinkNeed::Dhcp], &[LinkNeed::Nd], &[LinkNeed::Arp, LinkNeed::Nd, LinkNeed::Dhcp]]
    {
        page.link = needs.iter().copied().collect();
        prove(&page, &loopback);
    }
}

#[test]
fn nothing_at_all_is_what_the_strictest_profile_is_not() {
    let refusals = judged("", "offline_private", &LINKS).unwrap_err();
    for name in ["LinkUnguarded", "PacketForwarded", "PacketAdmitted", "LoopbackOpen"] {
        assert!(names(&refusals).contains(&name), "{name}: {refusals:#?}");
    }
}

#[test]
fn what_is_printed_is_what_is_read() {
    for name in PROFILES {
        let (profile, loopback) = page(name);
        let composed = ruleset(&profile, &loopback, EPOCH, LINKS);
        let read = parse(composed.to_string().as_bytes()).unwrap();
        assert_eq!(read, composed, "{name}");
        assert_eq!(parse(normal(&composed).to_string().as_bytes()).unwrap(), normal(&composed), "{name}");
    }
}

#[test]
fn the_normal_form_is_the_same_on_every_device_and_after_every_switch() {
    let (profile, loopback) = page("research");
    let one = ruleset(&profile, &loopback, EPOCH, ["eth0"]);
    for other in [
        ruleset(&profile, &loopback, 7, ["eth0"]),
        ruleset(&profile, &loopback, EPOCH, ["enp1s0", "wlan0"]),
        parse(one.to_string().replace("packets 0 bytes 0", "packets 3 bytes 999").as_bytes()).unwrap(),
    ] {
        assert_eq!(digest(&other), digest(&one));
    }
    let mut digests: Vec<_> = PROFILES.iter().map(|name| digest(&parse(text(name).as_bytes()).unwrap())).collect();
    digests.dedup();
    assert_eq!(digests.len(), 3);
    let looser = one.to_string().replace("tcp dport != 25", "tcp dport != 26");
    assert_ne!(digest(&parse(looser.as_bytes()).unwrap()), digest(&one));
}

/// Both versions' own text of what was loaded, with the links beside it; `digests` is what the page of the format says.
#[test]
fn what_two_versions_of_nft_list_is_the_same() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/network");
    let read = |path: &str| std::fs::read(vectors.join(path)).unwrap();
    let there = Links::parse(&read("links.json")).unwrap();
    let digests = String::from_utf8(read("digests")).unwrap();
    let mut listed = Vec::new();
    for name in PROFILES {
        let (profile, loopback) = page(name);
        let composed = parse(text(name).as_bytes()).unwrap();
        for version in ["nft-1.0.6", "nft-1.1.3"] {
            let ruleset = parse(&read(&format!("{version}/{name}.nft"))).unwrap();
            assert_eq!(normal(&ruleset).to_string(), normal(&composed).to_string(), "{version} {name}");
            prove(&ruleset, &there, &profile, &loopback).unwrap();
        }
        listed.push(format!("{}  {name}\n", digest(&composed)));
    }
    assert_eq!(listed.concat(), digests);
}

#[test]
fn a_list_of_links_is_what_ip_prints() {
    let lo = "{\"ifname\":\"lo\",\"flags\":[\"LOOPBACK\",\"UP\"],\"mtu\":65536}";
    let one = |flags: &str| format!("{{\"ifname\":\"eth0\",\"flags\":[{flags}],\"mtu\":1500}}");
    let parse = |links: &[&str]| Links::parse(format!("[{}]", links.join(",")).as_bytes());
    assert_eq!(parse(&[lo, &one("\"UP\"")]).unwrap(), Links([("eth0".to_owned(), true)].into()));
    assert_eq!(parse(&[&one(""), lo]).unwrap(), Links([("eth0".to_owned(), false)].into()));
    assert_eq!(parse(&[lo]).unwrap(), Links::default());
    assert!(parse(&[lo, &one(""), &one("")]).is_err(), "twice");
    assert!(parse(&[&one("")]).is_err(), "no loopback");
    assert!(parse(&["{\"ifname\":\"lo\",\"flags\":[\"UP\"]}"]).is_err(), "another link under its name");
    assert!(parse(&[lo, "{\"ifname\":\"lo\",\"flags\":[\"UP\"]}"]).is_err(), "beside it");
    assert!(parse(&[lo, "{\"ifname\":\"eth0\"}"]).is_err());
    assert!(parse(&["eth0"]).is_err());
}

#[test]
fn links_and_chains_belong_together() {
    let text = text("research");
    let with = |names: &[&str]| judged(&text, "research", names).map_err(|refusals| names_of(&refusals));
    assert!(with(&LINKS).is_ok());
    assert_eq!(with(&["eth0", "wlan0.5-a", "usb0"]).unwrap_err(), ["LinkUnguarded"]);
    assert_eq!(with(&["eth0"]).unwrap_err(), ["EgressChainWithoutLink"]);
    // As nft lists it once the device has gone.
    let gone = text.replace(" device \"eth0\"", "");
    let found = names_of(&judged(&gone, "research", &LINKS).unwrap_err());
    assert_eq!(found, ["LinkUnguarded", "EgressChainWithoutLink"]);
}

fn names_of(refusals: &[NetworkRefusal]) -> Vec<&'static str> {
    names(refusals)
}

#[test]
fn what_is_not_ours_is_refused_with_its_line() {
    let good = text("research");
    for (change, line) in [
        (good.replace("table inet secure_ai {", "table inet secure_ai_3 {"), "one of our two tables"),
        (format!("{good}table ip nat {{\n}}\n"), "one of our two tables"),
        (format!("{good}{good}"), "not there before"),
        (
            good.replace("\tchain forward", "\tflowtable f {\n\t}\n\tchain forward"),
            "`counter`, `set`, `map` or `chain`",
        ),
        (good.replace("hook forward", "hook postrouting"), "`postrouting`"),
        (good.replace("type filter hook output", "type route hook output"), "`filter`"),
        (good.replace("priority filter; policy drop;\n\t\toif", "priority -150; policy drop;\n\t\toif"), "`filter`"),
        (good.replace("oif \"lo\"", "oifname \"lo*\""), "what is compared"),
        (good.replace("oif \"lo\"", "ip daddr 127.0.0.1"), "127.0.0.1"),
        (good.replace("goto leaving", "queue to 1 bypass"), "what our rules compare"),
        (good.replace("goto leaving", "dup to 192.0.2.1"), "what our rules compare"),
        (good.replace("goto leaving", "goto leaving accept"), "the end of the rule"),
        (
            good.replace("counter name \"refused\" drop", "counter name \"refused\" meta skuid 0 accept"),
            "what a rule does",
        ),
        (good.replace("0x5eca1005", "0x15eca1005"), "within bounds"),
        (good.replace("dport != 25", "dport != 025"), "`025`"),
        (good.replace("dport != 25", "dport != 65536"), "`65536`"),
        (good.replace("dport != 25", "dport != 25-24"), "`25-24`"),
        (good.replace("10.0.0.0/8", "10.0.0.1/8"), "an address of IPv4"),
        (good.replace("(syn | ack) ==", "(syn | rst) =="), "`ack`"),
        (good.replace("(syn | ack) == syn", "(syn | ack) syn"), "`==`"),
        (good.replace("tcp flags & (syn | ack) == syn", "tcp flags syn / syn,rst"), "`ack`"),
        (good.replace("tcp flags & (syn | ack) == syn", "tcp flags 0x2"), "`syn`"),
        (good.replace("meta mark set 0x00000000", "meta mark set 0x00000001"), "within bounds"),
        (good.replace("meta mark set 0x00000000", "ct mark set 0x00000000"), "`meta`"),
        (good.replace("\"eth0\"", "\"eth0"), "within quotes"),
        (good.replace("\"eth0\"", "\"eth\\0\""), "within quotes"),
        (good.replace("accept", "ac\u{441}ept"), "a character"),
        (good.trim_end().trim_end_matches('}').to_owned(), "the end of the text"),
    ] {
        assert_ne!(change, good, "{line}");
        let error = parse(change.as_bytes()).expect_err(line).to_string();
        assert!(error.starts_with("line ") && error.contains(line), "{line}: {error}");
    }
    assert!(parse(&[0xff]).is_err());
    assert!(parse(&vec![b'\n'; (1 << 20) + 1]).is_err());
    // Every cut is either refused or no longer what was promised.
    for cut in (0..good.len()).step_by(7) {
        assert!(judged(&good[..cut], "research", &LINKS).is_err(), "the first {cut} bytes");
    }
}

#[test]
fn rules_that_cannot_be_followed_are_refused() {
    let good = text("research");
    for change in [
        good.replace("goto leaving", "goto nowhere"),
        good.replace("goto leaving", "goto output"),
        good.replace("goto from_tor", "goto leaving"),
        good.replace("ip daddr != @special4", "ip daddr != @special6"),
        good.replace("ip daddr != @special4", "ip daddr != @special5"),
        good.replace("counter name \"refused\"", "counter name \"nowhere\""),
        good.replacen("elements = { 0x5eca1005 }", "elements = { 0x5eca1006 }", 1),
        good.replace("udp : 0x5eca1005", "udp : 0x00000001"),
        good.replace("0x5eca1005", "0x00000000"),
    ] {
        assert_ne!(change, good);
        let refusals = judged(&change, "research", &LINKS).unwrap_err();
        assert_eq!(names(&refusals), ["RulesetUnclear"], "{refusals:#?}");
    }
}

/// Rulesets that once were called proven, or took for ever: each reads otherwise in a kernel than in a listing.
#[test]
fn what_only_looks_proven_is_refused() {
    let research = text("research");
    let offline = text("offline_private");
    let mark = "meta mark set meta l4proto map @epoch_now";
    let before = |text: &str, line: &str, more: &str| {
        assert!(text.contains(line), "{line}");
        text.replacen(line, &format!("{more}\n\t\t{line}"), 1)
    };
    let doubling = "limit rate 1/second\n\t\t".repeat(14);
    for (profile, rules, name) in [
        // At one priority the kernel asks the later chain first.
        (
            "research",
            research.replacen("\tchain input {", &format!("\tchain zz {{\n\t\ttype filter hook output priority filter; policy drop;\n\t\tmeta l4proto tcp {mark} accept\n\t}}\n\n\tchain input {{"), 1),
            "RulesetUnclear",
        ),
        // A header that cannot be read is of no protocol at all.
        (
            "offline_private",
            offline.replace("goto loopback\n", "goto loopback\n\t\tmeta l4proto 0-127 counter name \"refused\" drop\n\t\tmeta l4proto 128-255 counter name \"refused\" drop\n\t\taccept\n"),
            "PacketLeaks",
        ),
        ("offline_private", offline.replace("policy drop", "policy accept"), "RulesetUnclear"),
        // A link without Ethernet headers has frames of no type.
        ("research", before(&research, "counter name \"frames_refused\" drop", "ether type 0x0000-0xffff counter name \"frames_refused\" drop\n\t\taccept"), "FrameLeaks"),
        ("research", before(&research, "meta mark @epoch", "ether type != arp counter name \"frames_refused\" drop\n\t\taccept"), "FrameLeaks"),
        // Limits of two rules add up.
        ("research", before(&research, "ether type arp limit", "ether type arp limit rate 20/second accept"), "TooOften"),
        // A link that is not known at a hook.
        ("research", before(&research, "oif \"lo\" goto", "oif \"lo\" iif != \"lo\" accept"), "RulesetUnclear"),
        ("research", before(&research, "counter name \"forward_refused\"", &format!("meta l4proto tcp {mark} accept")), "PacketForwarded"),
        // A flow that is marked where nobody looks.
        ("research", before(&research, "iif \"lo\" accept", "iif \"lo\" ct mark set meta l4proto map @epoch_now"), "FlowMarked"),
        // Counted as something else.
        ("offline_private", offline.replace("counter name \"refused\" drop", "counter name \"input_refused\" drop"), "NotCounted"),
        ("research", before(&research, "tcp flags & (syn | ack) != syn ct state established accept", "counter name \"dns_refused\""), "NotCounted"),
        // Never equal to several states at once.
        ("research", before(&research, "tcp flags & (syn | ack) != syn ct state established accept", "ct state != invalid,related,new,untracked accept"), "RulesetUnclear"),
        // Parts of parts of parts.
        (
            "research",
            research.replace("goto leaving", &format!("{doubling}goto leaving")).replace("\tchain leaving {\n", &format!("\tchain leaving {{\n\t\t{doubling}\n")),
            "RulesetUnclear",
        ),
    ] {
        assert!(rules != research && rules != offline);
        let begun = std::time::Instant::now();
        let refusals = judged(&rules, profile, &LINKS).expect_err(name);
        assert!(names(&refusals).contains(&name), "{name}: {refusals:#?}");
        // Far above what it takes; without an end it would be for ever.
        assert!(begun.elapsed().as_secs() < 60, "{name}");
    }
}

/// What each of these conditions is for: without it another user goes on in a flow, or a mark is read, or a frame is
/// not what it is called. Packets show the same in `secai_tests`.
#[test]
fn each_hole_that_was_closed_has_its_name() {
    let research = text("research");
    let follows = "tcp flags & (syn | ack) != syn ct state established";
    for (from, to, name, packet) in [
        (format!("{follows} ct mark"), "meta l4proto tcp ct state established ct mark", "PacketLeaks", "a SYN"),
        (format!("{follows} accept"), "ct state established accept", "LoopbackOpen", "a SYN"),
        ("tcp flags & (syn | ack) == syn ct state new".to_owned(), "ct state new", "FlowMarked", "no SYN"),
        ("meta mark @epoch meta mark set 0x00000000".to_owned(), "meta mark @epoch", "MarkShown", "in a marked flow"),
        (
            "iif \"lo\" accept".to_owned(),
            "iif \"lo\" meta mark set meta l4proto map @epoch_now accept",
            "MarkShown",
            "protocol",
        ),
        (" ether type ip6".to_owned(), "", "FrameLeaks", "a frame of type 0x0000, which its sender calls ip6"),
        (" ether type ip ".to_owned(), " ", "FrameLeaks", "a frame of type 0x0000, which its sender calls ip,"),
        ("chain link_eth0".to_owned(), "chain link_eth1", "RulesetUnclear", "its name is not that of the link"),
    ] {
        let rules = research.replacen(&from, to, 1);
        assert_ne!(rules, research, "{from}");
        let refusals = judged(&rules, "research", &LINKS).expect_err(&from);
        let told = |it: &&NetworkRefusal| it.name() == name && it.to_string().contains(packet);
        assert!(refusals.iter().any(|it| told(&it)), "{from}: {refusals:#?}");
    }
}

#[test]
fn a_profile_within_another_lets_out_nothing_else() {
    let [closed, research, lab] = PROFILES.map(|name| page(name).0);
    for (one, other, within) in [
        (&closed, &research, true),
        (&closed, &lab, true),
        (&research, &closed, false),
        (&lab, &closed, false),
        (&research, &lab, false),
        (&lab, &research, false),
        (&lab, &lab, true),
    ] {
        assert_eq!(one.is_within(other), within, "{} within {}", one.name, other.name);
    }
    let mut more = lab.clone();
    more.leaves[0].ports = Ports::Only([443, 8443].into());
    assert!(lab.is_within(&more) && !more.is_within(&lab));
    let mut less = lab.clone();
    less.link.remove(&LinkNeed::Arp);
    assert!(less.is_within(&lab) && !lab.is_within(&less));
    let mut other = lab.clone();
    other.leaves[0].uid = 951;
    assert!(!other.is_within(&lab) && !lab.is_within(&other));
}

#[test]
fn what_is_shipped_becomes_what_is_loaded() {
    for name in PROFILES {
        let (profile, loopback) = page(name);
        let shipped = shipped(&profile, &loopback);
        assert_eq!(parse(shipped.to_string().as_bytes()).unwrap(), shipped, "{name}: as text");
        let bound = bind(&shipped, EPOCH, LINKS);
        assert_eq!(digest(&bound), digest(&shipped), "{name}");
        assert_eq!(normal(&bound), normal(&ruleset(&profile, &loopback, EPOCH, LINKS)), "{name}");
        prove(&parse(bound.to_string().as_bytes()).unwrap(), &links(&LINKS), &profile, &loopback).expect(name);
        prove(&bind(&shipped, EPOCH, []), &links(&[]), &profile, &loopback).expect("a machine without links");
        // What was counted goes on.
        let mut before = bound.clone();
        before.inet.counters.insert("refused".to_owned(), (3, 180));
        before.inet.counters.insert("of_something_else".to_owned(), (1, 1));
        let after = with_counts_of(bind(&shipped, 7, LINKS), &before);
        assert_eq!(after.inet.counters["refused"], (3, 180));
        assert!(!after.inet.counters.contains_key("of_something_else"));
    }
}

#[test]
fn pages_hold_together() {
    let all: Vec<Profile> = PROFILES.iter().map(|name| page(name).0).collect();
    let profiles = Profiles::new(all.clone()).unwrap();
    assert!(profiles.get("offline_private").unwrap().is_closed());
    assert_eq!(profiles.iter().count(), 3);
    assert!(Profiles::new(all[1..].to_vec()).is_err(), "no strictest");
    assert!(Profiles::new([&all[..], &all[..1]].concat()).is_err(), "twice");
    let mut open = all.clone();
    open[0].link = open[1].link.clone();
    assert!(Profiles::new(open).is_err(), "the strictest lets something out");
    let mut unit = all.clone();
    unit[1].units.on.insert("secure-ai-tor.service".to_owned());
    assert!(Profiles::new(unit).is_err(), "a unit that the others do not name");

    // Whoever may leave somewhere runs nowhere else.
    for (at, unit) in [(0, "systemd-networkd.service"), (0, "tor@default.service"), (1, "secure-ai-airlock.service")] {
        let mut capable = all.clone();
        capable[at].units.off.remove(unit);
        capable[at].units.on.insert(unit.to_owned());
        let error = Profiles::new(capable).unwrap_err().to_string();
        assert!(error.contains("can use a network"), "{unit}: {error}");
    }
    assert_eq!(load_profiles(&policy()).unwrap().0, profiles);

    let good = std::fs::read_to_string(policy().join("profiles/full_lab.yml")).unwrap();
    for (from, to) in [
        ("on: [secure-ai-airlock.service, ", "on: ["),
        ("on: [secure-ai-airlock.service", "on: [secure-ai-airlock"),
        ("off: [secure-ai-mediator.service", "off: [--mediator.service"),
        ("off: [secure-ai-mediator.service", "off: [../mediator.service"),
        ("    unit: secure-ai-airlock.service\n", ""),
        ("only: [443]", "only: [53]"),
        ("only: [443]", "only: []"),
        ("uid: 952", "uid: 0"),
        ("uid: 952", "uid: 1000"),
        ("uid: 952", "uid: 953"),
        ("link: [arp, nd, dhcp]", "link: []"),
        ("link: [arp, nd, dhcp]", "link: [arp, wol]"),
        ("name: full_lab", "name: ../full_lab"),
        ("leaves:", "leafs:"),
        ("expires_after_minutes: 60", "expires_after_minutes: 0"),
    ] {
        let other = good.replace(from, to);
        assert_ne!(other, good, "{from}");
        assert!(Profile::parse(other.as_bytes()).is_err(), "{to}");
    }
    assert!(load_profile(&policy(), "../profiles/full_lab").is_err());
    assert_eq!(Ports::AllBut([25].into()).spans().first(), Some(&(0, 24)));
    assert!(Ports::AllBut([25].into()).spans().iter().all(|(first, last)| !(*first..=*last).contains(&53)));
}
