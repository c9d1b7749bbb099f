//! A table: what was seen, the verdict, and what the line says; refusals first.

use rustix::io::Errno;
use secai_dns_leak_check::canary::{Fate, connections, datagrams};
use secai_dns_leak_check::decide::{Phase, Seen, Tried, Verdict, decide};
use secai_dns_leak_check::rules::{Names, Rules};
use secai_dns_leak_check::serve::code;

const NO_WAY: Fate = Fate::NoWay(Errno::NETUNREACH);

/// 18 datagrams and 8 connections, all alike.
fn all(udp: Fate, tcp: Fate, counted: Option<(u64, u64)>) -> Seen {
    let tried = |canaries: Vec<_>, fate: &Fate| {
        canaries.into_iter().map(|canary| Tried { canary, fate: fate.clone() }).collect::<Vec<_>>()
    };
    Seen {
        rules: Rules::Proven { profile: "research".to_owned() },
        changed: false,
        links: [("eth0".to_owned(), true)].into(),
        settings: Vec::new(),
        sockets: Vec::new(),
        datagrams: Phase { tried: tried(datagrams(&["eth0".to_owned()]), &udp), counted: counted.map(|it| it.0) },
        connections: Phase { tried: tried(connections(), &tcp), counted: counted.map(|it| it.1) },
        left: Some(0),
    }
}

fn held() -> Seen {
    all(Fate::Refused, Fate::Silent, Some((18, 8)))
}

fn other(names: Names) -> Rules {
    Rules::Other { profile: None, why: "they are the rules of no profile".to_owned(), names }
}

fn leave() -> Names {
    Names::Leave(vec!["a packet leaves through eth0".to_owned()])
}

fn unknown() -> Rules {
    Rules::Unknown { why: "nobody answers".to_owned() }
}

#[test]
fn the_table() {
    use Verdict::{Clean, Leak, Unclear};
    let with = |change: &dyn Fn(&mut Seen), mut seen: Seen| {
        change(&mut seen);
        seen
    };
    let one = |fate: Fate| move |seen: &mut Seen| seen.connections.tried[3].fate = fate.clone();
    let rules = |rules: Rules| move |seen: &mut Seen| seen.rules = rules.clone();
    let taken = || all(Fate::Sent, Fate::Silent, Some((0, 0)));
    let table: Vec<(&str, Seen, Verdict, &str)> = vec![
        ("answered", with(&one(Fate::Answered), held()), Leak, "canaries were answered: tcp 198.51.100.53:853"),
        ("no rules", with(&rules(other(leave())), taken()), Leak, "a request for names can leave: a packet leaves"),
        ("no rules: canaries", with(&rules(other(leave())), taken()), Leak, "canaries left: udp 192.0.2.53:53, "),
        (
            "no rules: connections",
            with(&|it| (it.rules, it.left) = (other(leave()), Some(26)), taken()),
            Leak,
            "8 of these began to connect",
        ),
        ("a port is open to others", with(&rules(other(leave())), held()), Leak, "a request for names can leave"),
        (
            "rules that nobody can follow",
            with(&rules(other(Names::Unclear("x".into()))), taken()),
            Leak,
            "canaries left",
        ),
        ("taken, and links sent", with(&|it| it.left = Some(18), taken()), Leak, "canaries left"),
        (
            "unknown, and links sent",
            with(&|it| (it.rules, it.left) = (unknown(), Some(18)), taken()),
            Leak,
            "canaries left",
        ),
        ("taken, links sent nothing", taken(), Unclear, "26 canaries were not refused, and are not known to have left"),
        ("unknown rules", with(&rules(unknown()), all(Fate::Refused, Fate::Silent, None)), Unclear, "nobody answers"),
        (
            "unknown, silence",
            with(&|it| (it.rules, it.left) = (unknown(), Some(99)), all(Fate::Refused, Fate::Silent, None)),
            Unclear,
            "8 canaries began to connect, and nothing tells",
        ),
        (
            "closed by other rules",
            with(&rules(other(Names::Closed)), all(Fate::Refused, Fate::Silent, Some((14, 4)))),
            Unclear,
            "no request for names can leave by them",
        ),
        (
            "not counted",
            all(Fate::Refused, Fate::Silent, Some((17, 8))),
            Unclear,
            "1 canaries were refused by something else",
        ),
        (
            "not counted at all",
            all(Fate::Refused, NO_WAY, Some((0, 0))),
            Unclear,
            "18 refused and not counted, 8 had no way",
        ),
        (
            "one connection not counted",
            all(Fate::Refused, Fate::Silent, Some((18, 7))),
            Unclear,
            "1 canaries were not refused",
        ),
        ("no counter", all(Fate::Refused, Fate::Silent, None), Unclear, "refused and not counted"),
        ("changed", with(&|it| it.changed = true, held()), Unclear, "nothing tells that the rules stayed the same"),
        ("untried", with(&one(Fate::Untried(Errno::MFILE)), held()), Unclear, "1 canaries could not be tried"),
        (
            "held",
            held(),
            Clean,
            "clean: research, proven; 26 canaries: 26 refused and counted; nobody listens on or is connected to a port of names",
        ),
        (
            "others ask too",
            all(Fate::Refused, Fate::Silent, Some((40, 9))),
            Clean,
            "26 canaries: 26 refused and counted;",
        ),
        (
            "link down",
            with(&|it| it.links = [("eth0".to_owned(), false)].into(), all(NO_WAY, NO_WAY, Some((0, 0)))),
            Clean,
            "26 had no way (link down: eth0); this rests on the proof alone;",
        ),
        ("no link", with(&|it| it.links.clear(), all(NO_WAY, NO_WAY, Some((0, 0)))), Clean, "(there is no link)"),
        ("no route, link up", all(NO_WAY, NO_WAY, Some((0, 0))), Clean, "26 had no way; this rests on the proof alone"),
        (
            "findings",
            with(&|it| it.settings = vec!["resolv.conf names 192.0.2.1".into()], held()),
            Clean,
            "a port of names; 1 finding: resolv.conf names 192.0.2.1",
        ),
        (
            "many",
            with(&|it| it.sockets = ["a", "b", "c", "d", "e"].map(String::from).to_vec(), held()),
            Clean,
            "counted; 5 findings: a, b, c, and 2 more",
        ),
    ];
    for (what, seen, verdict, told) in table {
        let judged = decide(&seen);
        assert_eq!(judged.verdict, verdict, "{what}: {}", judged.line);
        assert!(judged.line.contains(told), "{what}: {}", judged.line);
        assert!(judged.line.starts_with(&format!("{}: ", verdict.word())), "{what}: {}", judged.line);
        assert_eq!(judged.line.lines().count(), 1);
        assert_eq!(judged.reasons.is_empty(), verdict == Clean, "{what}");
        assert_eq!(judged.sent, 26, "{what}");
    }
}

#[test]
fn what_is_not_recorded_is_not_done_and_a_leak_stays_one() {
    assert_eq!([true, false].map(|recorded| code(Verdict::Clean, recorded)), [0, 2]);
    assert_eq!([true, false].map(|recorded| code(Verdict::Unclear, recorded)), [2, 2]);
    assert_eq!([true, false].map(|recorded| code(Verdict::Leak, recorded)), [1, 1]);
}
