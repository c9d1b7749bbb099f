//! Whether a request for names could begin by some rules, whosever they are.

use crate::{PROFILES, links, text};
use secai_verifier::network::names::names_that_leave;
use secai_verifier::network::parse::parse;
use secai_verifier::network::refusal::NetworkRefusal;

const LINKS: [&str; 2] = ["eth0", "wlan0.5-a"];

fn found(text: &str, names: &[&str]) -> Vec<NetworkRefusal> {
    names_that_leave(&parse(text.as_bytes()).unwrap(), &links(names)).unwrap()
}

#[test]
fn in_no_profile_a_request_begins() {
    for name in PROFILES {
        assert_eq!(found(&text(name), &LINKS), [], "{name}");
    }
}

#[test]
fn without_rules_all_begin_where_there_is_a_link() {
    let all = found("", &LINKS);
    for (link, kind) in LINKS.iter().flat_map(|link| ["PacketLeaks", "FrameLeaks"].map(|kind| (link, kind))) {
        assert!(all.iter().any(|it| it.name() == kind && it.to_string().contains(link)), "{link}, {kind}: {all:#?}");
    }
    assert_eq!(found("", &[]), []);
    // A link that nobody guards carries frames, not packets.
    let one = found(&text("research"), &["eth0", "wlan0.5-a", "eth1"]);
    assert!(!one.is_empty() && one.iter().all(|it| it.name() == "FrameLeaks" && it.to_string().contains("eth1")));
}

#[test]
fn a_port_that_is_left_out_is_found_where_somebody_may_use_it() {
    let ports = ["53, 853, 5353, 5355", "853, 5353, 5355", "53, 5353, 5355", "53, 853, 5355", "53, 853, 5353"];
    for (without, port) in ports[1..].iter().zip(["53", "853", "5353", "5355"]) {
        let rules = text("research").replace(ports[0], without);
        assert_ne!(rules, text("research"));
        let all = found(&rules, &LINKS);
        let told = |it: &NetworkRefusal| {
            matches!(it, NetworkRefusal::PacketLeaks { packet, rule, .. }
                if packet.contains(&format!("port {port}")) && packet.contains("951") && rule.contains("from_tor"))
        };
        assert!(!all.is_empty() && all.iter().all(told), "{port}: {all:#?}");
        // Here nobody may open anything, or port 443 alone: the rules are others, but nothing leaves.
        for name in ["offline_private", "full_lab"] {
            assert_eq!(found(&text(name).replace(ports[0], without), &LINKS), [], "{name}, {port}");
        }
    }
    let rules = text("full_lab").replace("counter name \"frames_refused\" drop", "accept");
    let all = found(&rules, &LINKS);
    assert!(!all.is_empty() && all.iter().all(|it| it.name() == "FrameLeaks"), "{all:#?}");
}

#[test]
fn of_rules_that_cannot_be_followed_nothing_is_said() {
    let rules = text("research").replace("\"dns_refused\" drop", "\"nowhere\" drop");
    let unclear = names_that_leave(&parse(rules.as_bytes()).unwrap(), &links(&LINKS)).unwrap_err();
    assert_eq!(unclear.name(), "RulesetUnclear");
}
