//! Each rule removed, each part of it removed or widened, in nft's text: the prover notices every one.

use crate::{PROFILES, judged, names, text};
use std::collections::BTreeMap;

const LINKS: [&str; 2] = ["eth0", "wlan0.5-a"];

/// Lines of rules: within chains, the line of the hook aside.
fn rules(text: &str) -> Vec<usize> {
    let mut inside = false;
    let mut rules = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match line.trim() {
            opened if opened.starts_with("chain ") => inside = true,
            "}" => inside = false,
            rule if inside && !rule.starts_with("type ") => rules.push(at),
            _ => {}
        }
    }
    rules
}

fn with(text: &str, at: usize, line: Option<&str>) -> String {
    let lines = text.lines().enumerate().filter_map(|(here, old)| match (here == at, line) {
        (false, _) => Some(old),
        (true, new) => new,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Ways in which a rule could be another one, in its text.
fn others(rule: &str) -> Vec<String> {
    let words: Vec<&str> = rule.split(' ').collect();
    let mut others = Vec::new();
    let mut add = |text: String| {
        if text != rule {
            others.push(text);
        }
    };
    // Without one of its conditions, or its limit.
    let parts = [
        "oif \"lo\" ",
        "iif \"lo\" ",
        "meta l4proto tcp ",
        "meta l4proto { tcp, udp } ",
        "ct state new ",
        "ct state established ",
        "ct state established,related ",
        "ct mark @epoch ",
        "meta mark @epoch ",
        "ip6 hoplimit 255 ",
        "ether type arp ",
        " ether type ip6",
        " ether type ip",
        "tcp flags & (syn | ack) == syn ",
        "tcp flags & (syn | ack) != syn ",
        "meta mark set 0x00000000 ",
        "udp sport 68 ",
        "udp dport 67 ",
        "ip daddr != @special4 ",
        "ip6 daddr != @special6 ",
        "ct mark set meta l4proto map @epoch_now ",
        "meta mark set meta l4proto map @epoch_now ",
    ];
    for part in parts {
        add(rule.replace(part, ""));
    }
    for (prefix, end) in [
        ("limit rate ", "packets "),
        ("meta skuid ", " "),
        ("icmpv6 type { ", "} "),
        ("tcp dport != ", " "),
        ("tcp dport { ", "} "),
        ("th dport { ", "} "),
        ("counter name ", "\" "),
    ] {
        if let Some(from) = rule.find(prefix)
            && let Some(to) = rule[from + prefix.len()..].find(end)
        {
            add(format!("{}{}", &rule[..from], &rule[from + prefix.len() + to + end.len()..]));
        }
    }
    // A value more, less, or another.
    for (at, word) in words.iter().enumerate() {
        let number = word.trim_end_matches(',');
        if let Ok(value) = number.parse::<u64>()
            && words.get(at.wrapping_sub(1)) != Some(&"burst")
        {
            let swap = |new: String| {
                let mut words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
                words[at] = format!("{new}{}", &word[number.len()..]);
                words.join(" ")
            };
            add(swap((value + 1).to_string()));
            add(swap(format!("{value}-{}", value + 1)));
        }
    }
    // Other words.
    for (from, to) in [
        ("drop", "accept"),
        ("reject with tcp reset", "accept"),
        ("ct state established ", "ct state established,related "),
        ("ct state established,related", "ct state established,related,new"),
        ("ct state established ", "ct state established,new "),
        ("ct state new", "ct state new,established"),
        ("ct state new", "ct state new,untracked"),
        ("meta skuid ", "meta skuid != "),
        (" != ", " "),
        ("oif \"lo\"", "oif != \"lo\""),
        ("iif \"lo\"", "iif != \"lo\""),
        ("@epoch ", "!= @epoch "),
        ("goto from_tor", "accept"),
        ("goto from_airlock", "accept"),
        ("goto leaving", "accept"),
        ("goto loopback_ports", "accept"),
        ("20/second", "21/second"),
        ("6/minute", "6/second"),
        ("burst 5 packets", "burst 500 packets"),
        ("ether type arp", "ether type 0x0806-0x0807"),
        ("ether type arp", "ether type ip"),
        ("ether type ip6", "ether type { ip6, 0x88b5 }"),
        ("ether type ip6", "ether type != arp"),
        ("ether type ip ", "ether type { ip, ip6 } "),
        ("(syn | ack) == syn", "(syn | ack) != syn"),
        ("(syn | ack) != syn", "(syn | ack) == syn"),
        ("meta mark set 0x00000000 accept", "accept"),
        ("iif \"lo\" accept", "iif \"lo\" meta mark set meta l4proto map @epoch_now accept"),
        ("ct mark @epoch accept", "ct mark @epoch meta mark set meta l4proto map @epoch_now accept"),
        ("{ tcp, udp }", "tcp"),
        ("{ tcp, udp }", "udp"),
        ("nd-router-solicit,", "nd-router-solicit, nd-redirect,"),
        ("{ nd-router-advert,", "{ nd-redirect, nd-router-advert,"),
        ("counter name \"dns_refused\"", "counter name \"refused\""),
    ] {
        add(rule.replace(from, to));
    }
    others
}

#[test]
fn every_rule_is_needed_and_none_can_be_another() {
    for profile in PROFILES {
        let text = text(profile);
        judged(&text, profile, &LINKS).unwrap();
        let (mut tried, mut unnoticed) = (0, Vec::new());
        let mut noticed = BTreeMap::<&str, usize>::new();
        let lines: Vec<&str> = text.lines().collect();
        let mut one = |mutant: String, what: String| {
            tried += 1;
            match judged(&mutant, profile, &LINKS) {
                Ok(_) => unnoticed.push(what),
                Err(refusals) => names(&refusals).into_iter().for_each(|name| *noticed.entry(name).or_default() += 1),
            }
        };
        for at in rules(&text) {
            one(with(&text, at, None), format!("line {}, removed: {}", at + 1, lines[at].trim()));
            for other in others(lines[at].trim()) {
                one(with(&text, at, Some(&other)), format!("line {}: {} → {other}", at + 1, lines[at].trim()));
            }
        }
        // Hooks, policies and sets.
        for (at, line) in lines.iter().enumerate() {
            if line.contains("policy drop") {
                // A rule that drops stands at the end of each: the policy is what remains if that one is lost.
                let accepts = with(&text, at, Some(&line.replace("policy drop", "policy accept")));
                let last = rules(&accepts)
                    .into_iter()
                    .filter(|it| *it > at)
                    .find(|it| accepts.lines().nth(it + 1) == Some("\t}"));
                one(
                    with(&accepts, last.unwrap(), None),
                    format!("line {}: policy accept without the last rule", at + 1),
                );
                one(with(&text, at, None), format!("line {}: no hook", at + 1));
            }
            if line.contains('/') && line.trim_start().starts_with(|it: char| it.is_ascii_hexdigit() || it == ':') {
                one(with(&text, at, None), format!("line {}: without {}", at + 1, line.trim()));
            }
        }
        eprintln!("{profile}: {tried} other rulesets, all noticed but {}; by {noticed:?}", unnoticed.len());
        assert!(tried > 60, "{profile}: {tried}");
        assert!(unnoticed.is_empty(), "{profile}:\n{}", unnoticed.join("\n"));
    }
}
