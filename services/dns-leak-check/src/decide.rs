//! The verdict: a pure function from what was seen to a word, its reasons, and the one line that tells them.

use crate::canary::{Canary, Fate};
use crate::rules::{Names, Rules};
use std::collections::BTreeMap;
use std::fmt;

/// Of several reasons or findings, this many are in the line; all are in the JSON.
const TOLD_MAX: usize = 3;

/// A canary and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub canary: Canary,
    /// What.
    pub fate: Fate,
}

/// Canaries that were tried between two looks at the counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phase {
    /// All of them.
    pub tried: Vec<Tried>,
    /// By how much the counter of refused requests for names rose; none where that is not known.
    pub counted: Option<u64>,
}

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The rules, before anything was sent.
    pub rules: Rules,
    /// They were others afterwards, or nobody would say.
    pub changed: bool,
    /// The links but loopback, each with whether it is up as far as anybody said.
    pub links: BTreeMap<String, bool>,
    /// In settings, and programs that run.
    pub settings: Vec<String>,
    /// Sockets at a port of names.
    pub sockets: Vec<String>,
    /// Datagrams.
    pub datagrams: Phase,
    /// Connections.
    pub connections: Phase,
    /// Packets that the links sent meanwhile, whosever they were; none where that is not known.
    pub left: Option<u64>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No request for names can leave, and none did.
    Clean,
    /// One can, or did.
    Leak,
    /// Neither is known.
    Unclear,
}

impl Verdict {
    /// As in entries and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Leak => "leak",
            Self::Unclear => "unclear",
        }
    }
}

/// The verdict, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The word.
    pub verdict: Verdict,
    /// Why it is not `clean`.
    pub reasons: Vec<String>,
    /// What somebody should know although nothing leaks by it.
    pub findings: Vec<String>,
    /// The profile whose rules there are.
    pub profile: Option<String>,
    /// Canaries that were tried.
    pub sent: u64,
    /// Of them those that the rules refused and counted.
    pub refused: u64,
    /// All of it in one line.
    pub line: String,
}

/// How many of each.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// Refused, and counted as requests for names.
    refused: u64,
    /// Refused as far as their sender was told, by something that does not count them so.
    uncounted: u64,
    no_way: u64,
    /// Taken by the kernel, and not by the counter.
    taken: u64,
    /// Connections on which there is silence, and no counter that tells refused ones.
    silent: u64,
    answered: u64,
    untried: u64,
}

impl Sums {
    fn of(phase: &Phase) -> Self {
        let count = |is: fn(&Fate) -> bool| phase.tried.iter().filter(|it| is(&it.fate)).count() as u64;
        let refused = count(|it| *it == Fate::Refused);
        let silent = count(|it| *it == Fate::Silent);
        // Others' requests raise it too: at least as many, not exactly.
        let counted = phase.counted.unwrap_or_default().min(refused + silent);
        let by_word = counted.min(refused);
        // What is left of the count is of those of which their sender is told nothing.
        let by_count = counted - by_word;
        Self {
            refused: counted,
            uncounted: refused - by_word,
            no_way: count(|it| matches!(it, Fate::NoWay(_))),
            taken: count(|it| *it == Fate::Sent) + if phase.counted.is_some() { silent - by_count } else { 0 },
            silent: if phase.counted.is_some() { 0 } else { silent },
            answered: count(|it| *it == Fate::Answered),
            untried: count(|it| matches!(it, Fate::Untried(_))),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            refused: self.refused + other.refused,
            uncounted: self.uncounted + other.uncounted,
            no_way: self.no_way + other.no_way,
            taken: self.taken + other.taken,
            silent: self.silent + other.silent,
            answered: self.answered + other.answered,
            untried: self.untried + other.untried,
        }
    }

    fn all(&self) -> u64 {
        self.refused + self.uncounted + self.no_way + self.taken + self.silent + self.answered + self.untried
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.refused, "refused and counted"),
            (self.uncounted, "refused and not counted"),
            (self.no_way, "had no way"),
            (self.taken, "not refused"),
            (self.silent, "of which nothing is known"),
            (self.answered, "answered"),
            (self.untried, "not tried"),
        ];
        let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        write!(f, "{} canaries: {}", self.all(), told.collect::<Vec<_>>().join(", "))
    }
}

/// Decides.
pub fn decide(seen: &Seen) -> Judged {
    let (datagrams, connections) = (Sums::of(&seen.datagrams), Sums::of(&seen.connections));
    let sums = datagrams.and(connections);
    let leaks = leaks(seen, datagrams.taken, connections.taken);
    let unclear = unclear(seen, &sums);
    let (verdict, reasons) = match (leaks.is_empty(), unclear.is_empty()) {
        (false, _) => (Verdict::Leak, leaks),
        (true, false) => (Verdict::Unclear, unclear),
        (true, true) => (Verdict::Clean, Vec::new()),
    };
    let findings = [seen.sockets.as_slice(), &seen.settings].concat();
    let profile = seen.rules.profile().map(str::to_owned);
    let mut parts = Vec::new();
    if !reasons.is_empty() {
        parts.push(listed(&reasons));
    }
    parts.push(match (&seen.rules, &profile) {
        (Rules::Proven { profile }, _) => format!("{profile}, proven"),
        (_, Some(profile)) => format!("{profile}, not proven"),
        (..) => "no profile is known to hold".to_owned(),
    });
    parts.push(match down(seen) {
        Some(links) if sums.no_way > 0 => format!("{sums} ({links})"),
        _ => sums.to_string(),
    });
    if verdict == Verdict::Clean && sums.refused == 0 {
        parts.push("this rests on the proof alone".to_owned());
    }
    if seen.sockets.is_empty() {
        parts.push("nobody listens on or is connected to a port of names".to_owned());
    }
    if !findings.is_empty() {
        let what = if findings.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", findings.len()) };
        parts.push(format!("{what}: {}", listed(&findings)));
    }
    let line = format!("{}: {}", verdict.word(), parts.join("; "));
    Judged { verdict, reasons, findings, profile, sent: sums.all(), refused: sums.refused, line }
}

fn listed(words: &[String]) -> String {
    let told = words.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(TOLD_MAX) {
        0 => told,
        more => format!("{told}, and {more} more"),
    }
}

fn down(seen: &Seen) -> Option<String> {
    let names: Vec<&str> = seen.links.iter().filter(|(_, up)| !**up).map(|(name, _)| name.as_str()).collect();
    match (seen.links.len(), names.as_slice()) {
        (0, _) => Some("there is no link".to_owned()),
        (_, []) => None,
        (_, [one]) => Some(format!("link down: {one}")),
        (_, names) => Some(format!("links down: {}", names.join(", "))),
    }
}

fn canaries<'a>(phase: &'a Phase, is: impl Fn(&Fate) -> bool + 'a) -> Vec<String> {
    phase.tried.iter().filter(|it| is(&it.fate)).map(|it| it.canary.to_string()).collect()
}

/// A request for names can leave, or did. `datagrams` and `connections` were taken by the kernel, and not counted.
fn leaks(seen: &Seen, datagrams: u64, connections: u64) -> Vec<String> {
    let mut leaks = Vec::new();
    let names = match &seen.rules {
        Rules::Proven { .. } => &Names::Closed,
        Rules::Other { names, .. } => names,
        Rules::Unknown { .. } => &Names::Unclear(String::new()),
    };
    if let Names::Leave(ways) = names {
        leaks.push(format!("a request for names can leave: {}", ways.first().map_or("", String::as_str)));
    }
    for phase in [&seen.datagrams, &seen.connections] {
        let answered = canaries(phase, |it| *it == Fate::Answered);
        if !answered.is_empty() {
            leaks.push(format!("canaries were answered: {}", listed(&answered)));
        }
    }
    // A datagram that the kernel took may still have met the chain of its link, or have waited for a neighbour in vain.
    let rose = |by: u64| seen.left.is_some_and(|left| left >= by.max(1));
    let known_open = matches!(seen.rules, Rules::Other { .. }) && *names != Names::Closed;
    if datagrams > 0 && (known_open || rose(datagrams)) {
        let which = listed(&canaries(&seen.datagrams, |it| *it == Fate::Sent));
        leaks.push(format!("canaries left: {which}"));
    }
    // Other rules may have dropped it as silently, and be seen to.
    if connections > 0 && known_open && rose(connections) {
        let which = listed(&canaries(&seen.connections, |it| *it == Fate::Silent));
        leaks.push(format!("{connections} of these began to connect and were not counted as refused: {which}"));
    }
    leaks
}

/// Why `clean` cannot be said.
fn unclear(seen: &Seen, sums: &Sums) -> Vec<String> {
    let mut unclear = Vec::new();
    match &seen.rules {
        Rules::Proven { .. } => {}
        Rules::Other { why, names, .. } => {
            unclear.push(format!("the rules are not proven: {why}"));
            if *names == Names::Closed {
                unclear.push("no request for names can leave by them".to_owned());
            }
        }
        Rules::Unknown { why } => unclear.push(format!("the rules are not known: {why}")),
    }
    if seen.changed {
        unclear.push("nothing tells that the rules stayed the same while this looked".to_owned());
    }
    let mut more = |count: u64, what: &str| {
        if count > 0 {
            unclear.push(format!("{count} canaries {what}"));
        }
    };
    more(
        sums.uncounted,
        match seen.datagrams.counted {
            Some(_) => "were refused by something else than the rule of names",
            None => "were refused, and nothing tells by what",
        },
    );
    more(sums.taken, "were not refused, and are not known to have left");
    more(sums.silent, "began to connect, and nothing tells whether they were refused");
    more(sums.untried, "could not be tried");
    unclear
}
