//! What is allowed, and in which order: tables and properties.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

use secai_api::profiles::{TOKEN_LIVES, Why};
use secai_profiles::config::{Operator, Policy};
use secai_profiles::decide::{
    Grant, Process, Session, Step, TOKEN_BYTES, Terminal, Tokens, in_front, loosens, person, steps,
};
use secai_verifier::digest::Digest;
use secai_verifier::network::profile::{Profile, STRICTEST};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn policy() -> Policy {
    Policy::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/policy"))).unwrap()
}

fn pairs() -> Vec<(Profile, Profile)> {
    let policy = policy();
    let pages: Vec<Profile> = policy.iter().map(|meant| meant.page.clone()).collect();
    assert_eq!(pages.len(), 3);
    pages.iter().flat_map(|from| pages.iter().map(|to| (from.clone(), to.clone()))).collect()
}

/// What no order of steps may do, followed step by step; in words where it does.
fn wrong(from: &Profile, to: &Profile, steps: &[Step]) -> Option<String> {
    let all: Vec<Profile> = policy().iter().map(|meant| meant.page.clone()).collect();
    let page = |name: &str| all.iter().find(|page| page.name == name).unwrap();
    let (mut rules, mut running) = (from, from.units.on.clone());
    let mut may_open = true;
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Rules(name) => {
                let next = page(name);
                if next.is_within(rules) && !next.is_within(to) && next != rules {
                    return Some(format!("{step} closes only half"));
                }
                // What opens comes last, after every unit is as it will be.
                if !next.is_within(rules) && (at + 1 != steps.len() || !may_open) {
                    return Some(format!("{step} opens before the end"));
                }
                rules = next;
            }
            Step::Stop(unit) => {
                running.remove(unit);
            }
            Step::Start(unit) => {
                if !to.units.on.contains(unit) {
                    return Some(format!("{step}, which is not on in {}", to.name));
                }
                if let Some(other) = running.intersection(&to.units.off).next() {
                    return Some(format!("{step} while {other} runs"));
                }
                running.insert(unit.clone());
            }
        }
        // Once anything was done, nothing that the next profile forbids may leave any more.
        if !rules.is_within(to) {
            return Some(format!("after {step} the rules are still those of {}", rules.name));
        }
        may_open = running == to.units.on;
    }
    if rules != to || running != to.units.on {
        return Some(format!("it ends with the rules of {}, and {running:?}", rules.name));
    }
    None
}

#[test]
fn every_change_is_in_an_order_that_never_opens_too_early() {
    let mut loosening = BTreeSet::new();
    for (from, to) in pairs() {
        let steps = steps(&from, &to);
        assert_eq!(wrong(&from, &to, &steps), None, "{} -> {}: {steps:?}", from.name, to.name);
        let opens: Vec<usize> =
            (0..steps.len()).filter(|at| steps.get(*at) == Some(&Step::Rules(to.name.clone()))).collect();
        if loosens(&from, &to) {
            loosening.insert((from.name.clone(), to.name.clone()));
            assert_eq!(opens, [steps.len() - 1]);
            // What may not leave any more is closed first.
            assert_eq!(steps.first() == Some(&Step::Rules(STRICTEST.into())), !from.is_within(&to));
        } else {
            assert_eq!(opens, [0], "what tightens begins with the rules");
        }
    }
    let named = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let expected = [
        named("full_lab", "full_lab"),
        named("full_lab", "research"),
        named(STRICTEST, "full_lab"),
        named(STRICTEST, "research"),
        named("research", "full_lab"),
    ];
    assert_eq!(loosening, expected.into(), "the same again is for longer, where it ends by itself");
}

#[test]
fn another_order_is_caught() {
    let mut caught = 0;
    for (from, to) in pairs() {
        let right = steps(&from, &to);
        // One step left out, or two that change places across a change of rules.
        for at in 0..right.len() {
            let mut less = right.clone();
            let gone = less.remove(at);
            let needed = match &gone {
                Step::Stop(unit) => from.units.on.contains(unit),
                Step::Start(unit) => !from.units.on.contains(unit),
                Step::Rules(name) => *name != from.name || *name == STRICTEST && from != to,
            };
            assert_eq!(wrong(&from, &to, &less).is_some(), needed, "{} -> {} without {gone}", from.name, to.name);
            caught += usize::from(needed);
        }
        if loosens(&from, &to) && from != to {
            let mut first = right.clone();
            let opening = first.pop().unwrap();
            first.insert(0, opening);
            assert!(wrong(&from, &to, &first).is_some(), "{} -> {} opens first", from.name, to.name);
        } else if !from.is_within(&to) {
            let mut last = right.clone();
            last.rotate_left(1);
            assert!(wrong(&from, &to, &last).is_some(), "{} -> {} closes last", from.name, to.name);
        }
    }
    assert!(caught > 15, "{caught}");
}

fn grant(uid: u32, to: &str) -> Grant {
    let digest = policy().get(to).unwrap().digest;
    Grant { uid, from: STRICTEST.into(), to: to.into(), digest }
}

fn secret(number: u8) -> [u8; TOKEN_BYTES] {
    [number; TOKEN_BYTES]
}

#[test]
fn a_token_is_for_one_use_by_one_user_for_one_change() {
    let given = grant(1000, "research");
    let at = Duration::from_secs(1_000);
    let long = at + TOKEN_LIVES;
    let by_another = Grant { uid: 1001, ..given.clone() };
    let from_another = Grant { from: "full_lab".into(), ..given.clone() };
    let other_rules = Grant { digest: Digest::of(b"others"), ..given.clone() };
    for (what, wanted, now, expected) in [
        ("it is for this", given.clone(), at, Ok(())),
        ("at the end of its time", given.clone(), long, Ok(())),
        ("a moment later", given.clone(), long + Duration::from_nanos(1), Err(Why::TokenExpired)),
        ("another user", by_another.clone(), at, Err(Why::TokenOfAnother)),
        ("another user, late: no word of when it was given", by_another, long * 2, Err(Why::TokenOfAnother)),
        ("another profile", grant(1000, "full_lab"), at, Err(Why::TokenForAnother)),
        ("another profile holds by now", from_another, at, Err(Why::TokenOutdated)),
        ("its rules are others by now", other_rules, at, Err(Why::TokenOutdated)),
    ] {
        let mut tokens = Tokens::default();
        let token = tokens.give(secret(7), given.clone(), at);
        assert_eq!(token, "07".repeat(TOKEN_BYTES));
        assert_eq!(tokens.take(&token.to_uppercase().replace('0', "O"), &given, at), Err(Why::TokenUnknown));
        assert_eq!(tokens.take(&token, &wanted, now), expected, "{what}");
        assert_eq!(tokens.take(&token, &given, at), Err(Why::TokenUnknown), "{what}: it is used, whatever came of it");
    }
}

#[test]
fn tokens_are_few_and_the_oldest_goes() {
    let mut tokens = Tokens::default();
    let second = Duration::from_secs(1);
    let first = tokens.give(secret(0), grant(1, "research"), second);
    let own: Vec<String> =
        (1..=8).map(|it| tokens.give(secret(it), grant(2, "research"), second * u32::from(it))).collect();
    let ninth = tokens.give(secret(9), grant(2, "research"), second * 9);
    assert_eq!(tokens.take(&own[0], &grant(2, "research"), second * 9), Err(Why::TokenUnknown), "a user's ninth");
    assert_eq!(tokens.take(&first, &grant(1, "research"), second * 9), Ok(()), "another's stays");
    assert_eq!(tokens.take(&own[1], &grant(2, "research"), second * 9), Ok(()));
    // 7 are left; 57 others make 64, one more drives out the oldest of all.
    let others: Vec<String> = (10..=66)
        .map(|it| tokens.give(secret(it), grant(100 + u32::from(it), "research"), second * u32::from(it)))
        .collect();
    let one_more = tokens.give(secret(67), grant(3, "research"), second * 67);
    let now = second * 67;
    assert_eq!(tokens.take(&own[2], &grant(2, "research"), now), Err(Why::TokenUnknown), "the oldest of all");
    assert_eq!(tokens.take(&own[3], &grant(2, "research"), now), Ok(()));
    assert_eq!(tokens.take(&ninth, &grant(2, "research"), now), Ok(()));
    assert_eq!(tokens.take(&others[0], &grant(110, "research"), now), Ok(()));
    assert_eq!(tokens.take(&one_more, &grant(3, "research"), now), Ok(()));
    // Those whose time is over make room first.
    let mut tokens = Tokens::default();
    let old = tokens.give(secret(1), grant(2, "research"), second);
    tokens.give(secret(2), grant(3, "research"), second + TOKEN_LIVES * 2);
    assert_eq!(tokens.take(&old, &grant(2, "research"), second), Err(Why::TokenUnknown));
}

#[test]
fn the_kernels_line_about_a_process_is_read_whatever_its_name() {
    let line = |name: &str, rest: &str| format!("4242 ({name}) {rest}");
    let good = "S 1 4242 4242 1025 4300 4194560 1 0 0 0";
    let expected = Some(Process { group: 4242, terminal: 1025, foreground: 4300 });
    for name in ["sh", "a b", "a) S 1 7 7 1 7 (", ") S 9 9 9 9 9", "((", "))))", "", "a\nb"] {
        assert_eq!(Process::parse(&line(name, good)), expected, "{name:?}");
    }
    assert_eq!(Process::parse(&line("sh", "S 1 7 7 0 -1 0")).map(|it| (it.terminal, it.foreground)), Some((0, -1)));
    for bad in [
        "",
        "4242",
        "4242 (sh",
        "4242 (sh)",
        "4242 (sh) S 1 4242 4242 1025",
        "4242 (sh) S 1 x 4242 1025 4242 0",
        "4242 (sh) S 1 4242 4242 -5 4242 0",
        "4242 (sh) S 1 99999999999 4242 1025 4242 0",
        "4242 (sh) S 1 4242 4242 99999999999999999999 4242 0",
    ] {
        assert_eq!(Process::parse(bad), None, "{bad:?}");
    }
}

type Turned = (u32, Process, Session, Terminal, u64);
type Turn<'a> = &'a dyn Fn(&mut Turned);

#[test]
fn a_person_is_at_the_device_and_each_condition_counts() {
    let good = || -> Turned {
        let process = Process { group: 50, terminal: 1025, foreground: 50 };
        let session = Session {
            uid: 1000,
            remote: false,
            active: true,
            kind: "tty".into(),
            class: "user".into(),
            terminal: "tty1".into(),
        };
        (1000, process, session, Terminal { number: 1025, usable: true }, 1025)
    };
    let judged = |turn: Turn<'_>| {
        let mut it = good();
        turn(&mut it);
        person(it.0, &it.1, &it.2, it.3, it.4)
    };
    assert_eq!(judged(&|_| ()), Ok("tty1".to_owned()));
    for name in ["tty63", "ttyS0", "ttyAMA0", "hvc0"] {
        assert_eq!(judged(&|it| it.2.terminal = name.into()), Ok(name.to_owned()));
    }
    assert!(judged(&|it| it.0 = 0).is_ok(), "root may have come from the session's user");
    assert!(judged(&|it| (it.0, it.2.uid, it.2.class) = (0, 0, "user-early".into())).is_ok(), "root's own login");

    let not_ours = "the terminal is not one of the device's own";
    let no_login = "the session is not a login at a terminal";
    let not_there = "the process is not at that terminal";
    let not_beside = "the descriptor beside the request is not that terminal";
    let turns: [(&str, Turn<'_>); 25] = [
        ("the session is over a network", &|it| it.2.remote = true),
        (no_login, &|it| it.2.kind = "x11".into()),
        (no_login, &|it| it.2.kind = "unspecified".into()),
        (no_login, &|it| it.2.class = "background".into()),
        (no_login, &|it| it.2.class = "greeter".into()),
        (no_login, &|it| it.2.class = "user-early".into()),
        ("the session is not the one in front", &|it| it.2.active = false),
        ("the session is another user's", &|it| it.0 = 1001),
        ("the session is another user's", &|it| it.2.uid = 0),
        (not_ours, &|it| it.2.terminal = String::new()),
        (not_ours, &|it| it.2.terminal = "tty".into()),
        (not_ours, &|it| it.2.terminal = "pts/0".into()),
        (not_ours, &|it| it.2.terminal = "ttyUSB0".into()),
        (not_ours, &|it| it.2.terminal = "ttyACM0".into()),
        (not_ours, &|it| it.2.terminal = "ttyS0x".into()),
        (not_ours, &|it| it.2.terminal = "tty1/../pts/0".into()),
        (not_ours, &|it| it.2.terminal = "tty1234".into()),
        (not_there, &|it| it.1.terminal = 0),
        (not_there, &|it| it.1.terminal = 1026),
        (not_there, &|it| (it.1.terminal, it.4) = (0, 0)),
        ("the process is in the background", &|it| it.1.foreground = 51),
        ("the process is in the background", &|it| it.1.foreground = -1),
        (not_beside, &|it| it.3.usable = false),
        (not_beside, &|it| it.3.number = 1026),
        (not_beside, &|it| it.3.number = 0),
    ];
    // What the kernel alone says is enough where nothing opens; of the session it says nothing.
    let of_the_kernel = [not_ours, not_there, "the process is in the background", not_beside];
    for (at, (why, turn)) in turns.into_iter().enumerate() {
        assert_eq!(judged(turn), Err(why), "{at}");
        let mut it = good();
        turn(&mut it);
        let alone = in_front(&it.1, it.3, &it.2.terminal, it.4);
        assert_eq!(alone, if of_the_kernel.contains(&why) { Err(why) } else { Ok(()) }, "{at}");
    }
}

#[test]
fn the_operator_allows_what_is_written_and_nothing_else() {
    let policy = policy();
    let text =
        "unattended: [{uids: [1000, 2000-2001], profiles: [research]}, {uids: [0], profiles: [offline_private]}]";
    let operator = Operator::parse(text.as_bytes(), &policy).unwrap();
    for (uid, profile, allowed) in [
        (1000, "research", true),
        (2001, "research", true),
        (0, STRICTEST, true),
        (1000, "full_lab", false),
        (1000, STRICTEST, false),
        (1001, "research", false),
        (2002, "research", false),
        (0, "research", false),
    ] {
        assert_eq!(operator.allows(uid, profile), allowed, "{uid} {profile}");
    }
    for (bad, why) in [
        ("unattended: [{uids: [1], profiles: [no]}]", "there is no profile `no`"),
        ("unattended: [{uids: [], profiles: [research]}]", "without users"),
        ("unattended: [{uids: [1], profiles: []}]", "without profiles"),
        ("unattended: [{uids: [1], profiles: [research], always: true}]", "not what is expected"),
        ("attended: []", "not what is expected"),
        ("[", "not what is expected"),
    ] {
        let error = Operator::parse(bad.as_bytes(), &policy).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    assert_eq!(Operator::parse(b"{}", &policy).unwrap(), Operator::default());
    assert_eq!(Operator::read(Path::new("/nonexistent/operator.yml"), &policy).unwrap(), Operator::default());
}
