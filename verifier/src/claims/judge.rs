//! From what there is to a line for each claim: pure functions.
//!
//! A claim that waits for a service is not met, whatever else is found of it; one of which a check fails is red; one
//! of which something could not be looked at is neither.

use super::check::Check;
use super::remembered::Remembered;
use super::{Claims, Waits, wakes_something};
use crate::device::units::changed_by;
use crate::device::{Case, Device, Found, Root, rules};
use crate::evidence::Item;
use crate::evidence::sockets::{self, Socket};
use crate::evidence::units::{self, Unit};
use crate::network::profile::{LinkNeed, Profile};
use std::collections::BTreeMap;

/// Whose socket may be open beyond loopback where links need an address: the DHCP client's, by user and port.
const DHCP_CLIENT: (u32, u16) = (953, 68);
/// Who asks routers where they are, by raw sockets of ICMPv6: the same.
const ICMPV6: u16 = 58;
/// Between two checks for leaks of names lie 15 minutes and what timers may be late; the clock of a device that slept
/// goes on.
const DNS_AGE_MAX_S: u64 = 3600;
/// What says why is short enough to be read for each claim.
const REASONS_MAX: usize = 5;

/// What there is to judge by.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Evidence, files and release.
    pub case: &'a Case<'a>,
    /// What was found of them.
    pub device: &'a Device,
    /// What the chain says; why there is none.
    pub chain: &'a Result<Remembered, Found>,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Holds,
    /// Not so.
    Fails(Vec<String>),
    /// It could not be looked at.
    Unseen(Vec<String>),
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Every check of it holds.
    Met,
    /// A check fails.
    NotMet(Vec<String>),
    /// Something could not be looked at.
    NotSeen(Vec<String>),
    /// It waits for services: not met.
    Waits(Vec<Waits>),
}

/// Judges every claim, in the order of the page.
pub fn judge(page: &Claims, seen: &Seen<'_>) -> Vec<(String, Standing)> {
    let mut outcomes: BTreeMap<Check, Outcome> = BTreeMap::new();
    for check in page.claims.iter().flat_map(|claim| &claim.on_device) {
        outcomes.entry(*check).or_insert_with(|| outcome(*check, page, seen));
    }
    let here = services_that_are_here(seen);
    let mut lines = Vec::new();
    for claim in &page.claims {
        let (mut fails, mut unseen) = (Vec::new(), Vec::new());
        for check in &claim.on_device {
            match outcomes.get(check) {
                Some(Outcome::Fails(why)) => fails.extend(why.iter().cloned()),
                Some(Outcome::Unseen(why)) => unseen.extend(why.iter().cloned()),
                Some(Outcome::Holds) | None => {}
            }
        }
        // Whoever adds a service says how its claims are judged from then on.
        let come = claim.waits_for.iter().filter(|it| here.contains(it));
        fails.extend(
            come.map(|it| format!("the page says that it waits for the {}, which is on this device", it.word())),
        );
        let standing = match (fails.is_empty(), claim.waits_for.is_empty(), unseen.is_empty()) {
            (false, ..) => Standing::NotMet(few(fails)),
            (true, false, _) => Standing::Waits(claim.waits_for.clone()),
            (true, true, false) => Standing::NotSeen(few(unseen)),
            (true, true, true) => Standing::Met,
        };
        lines.push((claim.id.clone(), standing));
    }
    lines
}

fn few(mut reasons: Vec<String>) -> Vec<String> {
    let count = reasons.len();
    reasons.truncate(REASONS_MAX);
    if count > REASONS_MAX {
        reasons.push(format!("and {} more", count - REASONS_MAX));
    }
    reasons
}

/// Services that claims wait for, and that systemd knows.
fn services_that_are_here(seen: &Seen<'_>) -> Vec<Waits> {
    let all = [Waits::Airlock, Waits::Mediator, Waits::Inference, Waits::Update, Waits::Dashboard];
    let Ok(Ok(units)) = seen.case.evidence.parsed(Item::Units, units::parse) else { return Vec::new() };
    all.into_iter().filter(|it| units.get(&it.unit()).is_some_and(|unit| unit.load == "loaded")).collect()
}

impl Outcome {
    fn of(found: &Found) -> Self {
        if !found.refusals.is_empty() {
            return Self::Fails(found.refusals.iter().map(|it| format!("{}: {it}", it.name())).collect());
        }
        match found.unseen.is_empty() {
            true => Self::Holds,
            false => Self::Unseen(found.unseen.iter().map(|it| format!("{}: {}", it.what, it.why)).collect()),
        }
    }

    fn failing(reasons: Vec<String>) -> Self {
        if reasons.is_empty() { Self::Holds } else { Self::Fails(reasons) }
    }

    fn unless(reason: Option<String>) -> Self {
        Self::failing(reason.into_iter().collect())
    }
}

/// What is made of something gathered; the reasons that a judgement gives are those against it.
fn on<T>(
    gathered: Result<Result<T, crate::device::refusal::DeviceRefusal>, crate::evidence::Unseen>,
    judge: impl FnOnce(T) -> Vec<String>,
) -> Outcome {
    match gathered {
        Ok(Ok(value)) => Outcome::failing(judge(value)),
        Ok(Err(refusal)) => Outcome::of(&Found::refused(refusal)),
        Err(unseen) => Outcome::Unseen(vec![format!("{}: {}", unseen.what, unseen.why)]),
    }
}

fn outcome(check: Check, page: &Claims, seen: &Seen<'_>) -> Outcome {
    let device = seen.device;
    match check {
        Check::Accounted => Outcome::of(&device.release.clone().and(device.files.clone())),
        Check::Cores => Outcome::of(&device.cores),
        Check::Proven => Outcome::of(&device.rules),
        Check::RulesShipped => Outcome::of(&device.shipped),
        Check::Units => Outcome::of(&device.units),
        Check::Wakes => {
            on(seen.case.evidence.parsed(Item::Units, units::parse), |units| wakes(page, &units, seen.case.root))
        }
        Check::Listeners => over_sockets(seen, listeners),
        Check::ConnectionsListed => over_sockets(seen, connections),
        Check::RulesListed => {
            on(seen.case.evidence.text(Item::Ruleset), |text| listed_rules(text).into_iter().collect())
        }
        Check::DnsListed => {
            on(seen.case.evidence.text(Item::DnsJournal), |text| listed_dns(text).into_iter().collect())
        }
        Check::Said => match page.not_covered.is_empty() {
            true => Outcome::Fails(vec!["the page says of nothing that it is not covered".to_owned()]),
            false => Outcome::Holds,
        },
        Check::Chain | Check::Confirmed | Check::DnsChecked | Check::ProfileEntries | Check::ServiceEntries => {
            match seen.chain {
                Ok(chain) => in_the_chain(check, chain, seen),
                Err(found) => Outcome::of(found),
            }
        }
    }
}

fn in_the_chain(check: Check, chain: &Remembered, seen: &Seen<'_>) -> Outcome {
    match check {
        Check::Chain => match &chain.refusals[..] {
            [] if chain.signer_is_known => Outcome::Holds,
            [] => Outcome::Unseen(vec!["the chain is consistent in itself, signer unknown: give --trust".to_owned()]),
            refusals => Outcome::Fails(refusals.to_vec()),
        },
        // What does not hold says nothing.
        _ if !chain.refusals.is_empty() => Outcome::Fails(vec!["the chain does not hold".to_owned()]),
        Check::Confirmed => Outcome::failing(chain.unconfirmed.clone()),
        Check::DnsChecked => Outcome::unless(chain.dns_is_not_clean(seen.case.evidence.collected(), DNS_AGE_MAX_S)),
        Check::ProfileEntries => on(seen.case.evidence.text(Item::Profile), |name| {
            chain.profile_is_not(name.trim_end_matches('\n')).into_iter().collect()
        }),
        _ => on(seen.case.evidence.parsed(Item::Units, units::parse), |units| chain.services_are_not(&units)),
    }
}

/// What may wake something up and is not on the list; or is, and was changed, or what it starts was.
fn wakes(page: &Claims, units: &BTreeMap<String, Unit>, root: Option<&Root>) -> Vec<String> {
    let mut reasons = Vec::new();
    for unit in units.values().filter(|it| it.is_active() && wakes_something(&it.id)) {
        if !page.may_wake(&unit.id) {
            reasons.push(format!("{} is active, and is not on the list of what may wake something up", unit.id));
        }
        // Where it does not say otherwise, and saying so would change it.
        let started = unit.id.rsplit_once('.').and_then(|(stem, _)| units.get(&format!("{stem}.service")));
        for unit in std::iter::once(unit).chain(started) {
            let changed = changed_by(unit, root).map(|path| format!("{} is changed by {path}", unit.id));
            reasons.extend(changed);
        }
    }
    reasons
}

/// Sockets of one list, judged with the profile in force.
type JudgeSockets = fn(&str, &[Socket], &Profile) -> Vec<String>;

fn over_sockets(seen: &Seen<'_>, judge: JudgeSockets) -> Outcome {
    let Some(profile) = rules::in_force(seen.case) else {
        return Outcome::Unseen(vec!["profile: it is not known which one is in force".to_owned()]);
    };
    let (mut fails, mut unseen) = (Vec::new(), Vec::new());
    for item in [Item::Tcp, Item::Tcp6, Item::Udp, Item::Udp6, Item::Raw, Item::Raw6] {
        match on(seen.case.evidence.parsed(item, sockets::parse), |sockets| judge(item.name(), &sockets, &profile)) {
            Outcome::Holds => {}
            Outcome::Fails(why) => fails.extend(why),
            Outcome::Unseen(why) => unseen.extend(why),
        }
    }
    match (fails.is_empty(), unseen.is_empty()) {
        (true, true) => Outcome::Holds,
        (true, false) => Outcome::Unseen(unseen),
        (false, _) => Outcome::Fails(fails),
    }
}

/// May whoever gets an address for this machine have this socket?
fn is_the_links(kind: &str, socket: &Socket, profile: &Profile) -> bool {
    let (uid, port) = DHCP_CLIENT;
    let dhcp = profile.link.contains(&LinkNeed::Dhcp) && kind == "udp" && socket.local.port() == port;
    let nd = profile.link.contains(&LinkNeed::Nd) && kind == "raw6" && socket.local.port() == ICMPV6;
    socket.uid == uid && (dhcp || nd)
}

fn listeners(kind: &str, sockets: &[Socket], profile: &Profile) -> Vec<String> {
    let waits = |it: &&Socket| if kind.starts_with("tcp") { it.listens() } else { it.is_unconnected() };
    let open = sockets.iter().filter(waits).filter(|it| !it.is_on_loopback() && !is_the_links(kind, it, profile));
    open.map(|it| format!("user {} listens on {kind} {}", it.uid, it.local)).collect()
}

/// Those that `ss -tunap | grep -v 127.0.0.1` would show, of users that the profile does not let out.
fn connections(kind: &str, sockets: &[Socket], profile: &Profile) -> Vec<String> {
    if kind.starts_with("raw") {
        return Vec::new();
    }
    let is_shown =
        |it: &&Socket| ![it.local.ip(), it.remote.ip()].iter().any(|ip| ip.to_string().ends_with("127.0.0.1"));
    let may = |it: &Socket| profile.leaves.iter().any(|leave| leave.uid == it.uid) || is_the_links(kind, it, profile);
    let shown = sockets.iter().filter(is_shown).filter(|it| !may(it));
    shown.map(|it| format!("user {} has {kind} {} - {}", it.uid, it.local, it.remote)).collect()
}

/// Lines that a person is shown after the one that he looks for.
const LINES_AFTER: usize = 5;

/// Does `nft list ruleset | grep -A5 "chain output"` not show that what leaves is refused by default? Why.
fn listed_rules(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut starts = lines.iter().enumerate().filter(|(_, line)| line.contains("chain output"));
    let Some((at, _)) = starts.next() else { return Some("no chain is named `output`".to_owned()) };
    if starts.next().is_some() {
        return Some("several chains are named `output`".to_owned());
    }
    let shown = lines.get(at..lines.len().min(at + 1 + LINES_AFTER)).unwrap_or_default();
    if !shown.iter().any(|line| line.starts_with("type filter hook output") && line.ends_with("policy drop;")) {
        return Some("the lines after `chain output` do not show `policy drop`".to_owned());
    }
    let opens = |line: &&&str| line.contains("accept") && !line.starts_with("oif \"lo\" ");
    shown.iter().find(opens).map(|line| format!("the lines after `chain output` show `{line}`"))
}

/// Do the journal's last lines not show a verdict without a leak? Why.
fn listed_dns(text: &str) -> Option<String> {
    // The journal may cut a program's name.
    let of_the_check = |line: &&str| line.contains(" secai-dns-leak-");
    let verdict = text.lines().rev().filter(of_the_check).find_map(|line| {
        let said = line.split_once("]: ")?.1;
        ["clean", "leak", "unclear"].into_iter().find(|word| said.starts_with(&format!("{word}: ")))
    });
    match verdict {
        Some("clean") => None,
        Some(word) => Some(format!("the journal's last lines of the check say `{word}`")),
        None => Some("the journal's last lines of the check have no verdict".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Wakes;

    const RULES: &str = "table inet secure_ai {\n\tchain output {\n\t\ttype filter hook output priority filter; policy drop;\n\
        \t\toif \"lo\" accept\n\t\tjump flows\n\t}\n\n\tchain flows {\n\t\taccept\n\t}\n}\n";

    #[test]
    fn the_list_of_rules_shows_a_default_of_no() {
        assert_eq!(listed_rules(RULES), None);
        for (from, to) in [
            ("chain output", "chain outbound"),
            ("policy drop", "policy accept"),
            ("jump flows", "accept"),
            ("oif \"lo\" accept", "oif \"eth0\" accept"),
            ("chain flows", "chain output_flows"),
        ] {
            let text = RULES.replacen(from, to, 1);
            assert_ne!(text, RULES);
            assert!(listed_rules(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_wakes_something_up_is_listed_and_as_it_was_released() {
        let page = Claims {
            wakes: vec![Wakes { unit: "a.timer".into(), of: "a".into(), purpose: "b".into() }],
            not_covered: vec![],
            claims: vec![],
        };
        let of = |change: fn(&mut BTreeMap<String, Unit>)| {
            let unit = |id: &str| Unit {
                id: id.into(),
                active: "active".into(),
                load: "loaded".into(),
                file_state: "static".into(),
                fragment: format!("/usr/lib/systemd/system/{id}"),
                drop_ins: vec![],
                is_outdated: false,
            };
            let mut units = ["a.timer", "a.service", "b.service"].map(|id| (id.to_owned(), unit(id))).into();
            change(&mut units);
            wakes(&page, &units, None).len()
        };
        fn dropped_in(units: &mut BTreeMap<String, Unit>, id: &str) {
            units.get_mut(id).unwrap().drop_ins.push("/run/systemd/system/x.conf".into());
        }
        assert_eq!(of(|_| {}), 0);
        assert_eq!(of(|units| dropped_in(units, "a.timer")), 1);
        assert_eq!(of(|units| dropped_in(units, "a.service")), 1);
        // Nothing wakes it up.
        assert_eq!(of(|units| dropped_in(units, "b.service")), 0);
        assert_eq!(of(|units| units.get_mut("a.timer").unwrap().fragment = "/etc/systemd/system/a.timer".into()), 1);
        assert_eq!(of(|units| units.get_mut("b.service").unwrap().id = "b.path".into()), 1);
    }

    #[test]
    fn the_journal_shows_the_last_verdict() {
        let line = |said: &str| format!("Nov 22 21:00:01 host secai-dns-leak-check[71]: {said}\n");
        let systemd = "Nov 22 21:00:01 host systemd[1]: Finished secure-ai-dns-leak-check.service - clean: x.\n";
        assert_eq!(listed_dns(&format!("{}{systemd}", line("clean: offline_private, proven"))), None);
        assert!(listed_dns(systemd).is_some() && listed_dns("").is_some());
        for said in ["leak: 5353 answered", "unclear: no rules", "cleaner: x", "x clean: y"] {
            assert!(listed_dns(&line(said)).is_some(), "{said}");
        }
        assert!(listed_dns(&format!("{}{}", line("clean: a"), line("leak: b"))).is_some(), "the last one counts");
        assert_eq!(listed_dns(&format!("{}{}", line("leak: b"), line("clean: a"))), None);
    }

    #[test]
    fn sockets_beyond_loopback_are_named_unless_the_profile_has_them() {
        const TITLES: &str = "  sl  local_address rem_address   st\n";
        let of = |line: &str| sockets::parse(&format!("{TITLES}{line}\n")).unwrap();
        let page = |name: &str| {
            let path = format!("{}/../manifests/policy/profiles/{name}.yml", env!("CARGO_MANIFEST_DIR"));
            Profile::parse(&std::fs::read(path).unwrap()).unwrap()
        };
        let (closed, open) = (page("offline_private"), page("full_lab"));
        let loopback = of("0: 0100007F:2111 00000000:0000 0A 0:0 0:0 0 955 0");
        let outside = of("0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0");
        let dhcp = of("0: 00000000:0044 00000000:0000 07 0:0 0:0 0 953 0");
        let airlock = of("0: 0F02000A:A001 2211400A:01BB 01 0:0 0:0 0 952 0");
        let person = of("0: 0F02000A:A001 2211400A:01BB 01 0:0 0:0 0 1000 0");
        assert_eq!(listeners("tcp", &loopback, &closed), [""; 0]);
        assert_eq!(listeners("tcp", &outside, &open), ["user 0 listens on tcp 0.0.0.0:22"]);
        assert_eq!((listeners("udp", &dhcp, &closed).len(), listeners("udp", &dhcp, &open).len()), (1, 0));
        assert_eq!(listeners("udp6", &dhcp, &open).len(), 1);
        assert_eq!(connections("tcp", &loopback, &closed), [""; 0]);
        assert_eq!((connections("tcp", &airlock, &closed).len(), connections("tcp", &airlock, &open).len()), (1, 0));
        assert_eq!(connections("tcp", &person, &open), ["user 1000 has tcp 10.0.2.15:40961 - 10.64.17.34:443"]);
    }
}
