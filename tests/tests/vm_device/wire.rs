//! The network card, with senders of every kind behind it: rules alone keep all of it in, and so do links that are down; without
//! either all of it comes out, so that nobody was blind.

use std::collections::BTreeSet;

use secai_tests::machine::Machine;
use serde_json::Value;

use crate::{entries, holds, links_are_down};

/// So many of the ways that were tried come out where nothing keeps them in. The others are answers, which nobody asked for.
const WAYS_MIN: usize = 90;

/// One that was tried: who, how, by what it is known on the wire, and why it was refused.
struct Tried {
    uid: u64,
    vector: String,
    way: String,
    beside: bool,
    needles: Vec<Vec<u8>>,
    why: Option<String>,
}

impl Tried {
    fn of(line: &str) -> Self {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        let text = |key: &str| said[key].as_str().map(str::to_owned);
        Self {
            uid: said["uid"].as_u64().unwrap(),
            vector: text("vector").unwrap(),
            way: text("way").unwrap(),
            beside: said["beside"].as_bool().unwrap(),
            needles: said["needles"].as_array().unwrap().iter().map(|it| bytes(it.as_str().unwrap())).collect(),
            why: text("why"),
        }
    }

    fn is_in(&self, frame: &[u8]) -> bool {
        self.needles.iter().any(|needle| frame.windows(needle.len()).any(|part| part == needle))
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// Nobody restores anything any more; the card has the name that senders know, and is set up or not. Then root and every user try all there is.
fn all_send(machine: &mut Machine, before: &str, link: &str) -> (Vec<Tried>, Vec<Vec<u8>>) {
    let until_here = machine.frames().len();
    machine
        .root(&format!(
            "systemctl stop secure-ai-profiles.socket secure-ai-profiles.service || exit
ip link set enp0s1 down; ip link set enp0s1 name leak0 || exit
for i in $(seq 100); do nft list table netdev secure_ai_l2 | grep -q 'chain link_leak0 ' && break; sleep 0.1; done
nft list table netdev secure_ai_l2 | grep 'device \"leak0\"' || exit
# A link that a sender makes would be given its chain, and all others set down again.
udevadm settle
systemctl mask --runtime --quiet secure-ai-firewall@.service
while systemctl list-units --state=activating --no-legend 'secure-ai-firewall@*' | grep -q .; do sleep 0.1; done
{before}
ip link set leak0 {link} || exit
secaictl leak-test --onto-the-real-link --json >/run/sent || exit
ip -br link show leak0"
        ))
        .ended(0);
    let sent = machine.root("cat /run/sent").ended(0);
    let tried: Vec<Tried> = sent.lines().map(Tried::of).collect();
    assert!(tried.len() > 200, "{}", tried.len());
    (tried, machine.frames().split_off(until_here))
}

/// AF_XDP apart, which passes all rules: CAP_NET_RAW alone stands in its way, and no service has that.
pub fn keeps_all_where_rules_are(machine: &mut Machine) {
    let (tried, frames) = all_send(machine, "", "up");
    let up = machine.root("ip -br link show leak0").ended(0);
    assert!(up.contains("LOWER_UP"), "it was up all the while: {up}");
    let (beside, others): (Vec<_>, Vec<_>) =
        frames.iter().partition(|frame| tried.iter().any(|one| one.beside && one.is_in(frame)));
    for one in tried.iter().filter(|one| one.beside) {
        let seen = beside.iter().filter(|frame| one.is_in(frame)).count();
        eprintln!(
            "beside the rules: {} of user {}: {seen} frames ({})",
            one.vector,
            one.uid,
            one.why.as_deref().unwrap_or("sent")
        );
    }
    assert!(others.is_empty(), "{} frames: {:02x?}", others.len(), others[0]);
    let refused = tried.iter().filter(|one| one.why.is_some()).count();
    eprintln!("rules, and links forced up: {} tried, {refused} were told no, 0 frames", tried.len());
}

pub fn has_nothing_where_links_are_down(machine: &mut Machine) {
    let (tried, frames) = all_send(machine, "nft flush ruleset", "down");
    let rules = machine.root("nft list ruleset").ended(0);
    assert_eq!(rules, "", "no rules");
    assert!(frames.is_empty(), "{} frames: {:02x?}", frames.len(), frames[0]);
    eprintln!("no rules, and links down: {} tried, 0 frames", tried.len());
}

pub fn has_all_where_neither_holds(machine: &mut Machine) {
    let (tried, frames) = all_send(machine, "nft flush ruleset", "up");
    let (mut ways, mut users) = (BTreeSet::new(), BTreeSet::new());
    for one in &tried {
        let seen = frames.iter().any(|frame| one.is_in(frame));
        if seen {
            ways.insert(one.way.clone());
            users.insert(one.uid);
        } else {
            eprintln!("not seen: {} of user {}: {}", one.vector, one.uid, one.why.as_deref().unwrap_or("sent"));
        }
    }
    eprintln!(
        "no rules, and links up: {} tried, {} frames, {} ways of {} users",
        tried.len(),
        frames.len(),
        ways.len(),
        users.len()
    );
    let all: BTreeSet<u64> = tried.iter().map(|one| one.uid).collect();
    assert_eq!(users, all, "every sender is seen");
    assert!(ways.len() >= WAYS_MIN, "{ways:?}");
}

/// Each service of ours that runs, and what it stands on: killed, it is there again, and nothing left meanwhile.
pub fn keeps_all_while_services_die(machine: &mut Machine) {
    let until_here = machine.frames().len();
    let listed = machine.root("systemctl list-units --type=service --state=running --plain --no-legend").ended(0);
    let running: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let ours: Vec<&str> = running.into_iter().filter(|unit| unit.starts_with("secure-ai-")).collect();
    assert!(ours.contains(&"secure-ai-profiles.service") && ours.contains(&"secure-ai-audit.service"), "{listed}");
    for unit in ours.into_iter().chain(["systemd-udevd.service", "dbus.service", "systemd-journald.service"]) {
        let said = machine.root(&format!(
            "of() {{ systemctl show --property=MainPID --value {unit}; }}
old=$(of); [ \"$old\" != 0 ] || exit
systemctl kill --signal=KILL {unit}
for i in $(seq 600); do
  new=$(of); [ \"$new\" != \"$old\" ] && [ \"$new\" != 0 ] && systemctl is-active --quiet {unit} && echo \"$old $new\" && exit 0
  sleep 0.1
done
exit 1"
        ));
        eprintln!("killed: {unit}: {}", said.ended(0).trim());
        holds(machine, "offline_private");
        links_are_down(machine);
    }
    assert_eq!(machine.frames().len(), until_here);
    // Who is killed is seen.
    assert!(entries(machine, "svc.state").iter().any(|entry| entry["d"]["result"] == "signal"), "the chain says so");
}
