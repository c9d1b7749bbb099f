//! What is allowed, in which order things are done, and who is a person: pure.

use secai_api::profiles::{TOKEN_LIVES, Why};
use secai_verifier::digest::Digest;
use secai_verifier::network::compose::link_chain;
use secai_verifier::network::links::Links;
use secai_verifier::network::profile::{Loopback, Profile, STRICTEST};
use secai_verifier::network::prove::prove;
use secai_verifier::network::rules::{Chain, Hook, Ruleset};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Tokens at once, and of one user: a person looks at one or two.
const TOKENS_MAX: usize = 64;
const TOKENS_OF_USER_MAX: usize = 8;
/// Bytes of a token.
pub const TOKEN_BYTES: usize = 32;

/// What a token was given for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub uid: u32,
    /// The profile that held.
    pub from: String,
    /// The profile that was asked about.
    pub to: String,
    /// Normal form of its rules.
    pub digest: Digest,
}

/// Tokens that were given and not used yet. Times are since some moment.
#[derive(Debug, Default)]
pub struct Tokens(BTreeMap<String, (Grant, Duration)>);

impl Tokens {
    /// Remembers a token; the oldest goes where there are too many.
    pub fn give(&mut self, secret: [u8; TOKEN_BYTES], grant: Grant, now: Duration) -> String {
        self.0.retain(|_, (_, given)| now.saturating_sub(*given) <= TOKEN_LIVES);
        let of_user = |tokens: &Self| tokens.0.values().filter(|(it, _)| it.uid == grant.uid).count();
        while of_user(self) >= TOKENS_OF_USER_MAX || self.0.len() >= TOKENS_MAX {
            let own = of_user(self) >= TOKENS_OF_USER_MAX;
            let others = self.0.iter().filter(|(_, (it, _))| !own || it.uid == grant.uid);
            let Some(oldest) = others.min_by_key(|(_, (_, given))| *given).map(|(token, _)| token.clone()) else {
                break;
            };
            self.0.remove(&oldest);
        }
        let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(token.clone(), (grant, now));
        token
    }

    /// Takes a token for what it was given for. Whatever comes of it, it is used.
    ///
    /// # Errors
    /// [`Why`] it does not do.
    pub fn take(&mut self, token: &str, wanted: &Grant, now: Duration) -> Result<(), Why> {
        let (grant, given) = self.0.remove(token).ok_or(Why::TokenUnknown)?;
        if grant.uid != wanted.uid {
            return Err(Why::TokenOfAnother);
        }
        if now.saturating_sub(given) > TOKEN_LIVES {
            return Err(Why::TokenExpired);
        }
        if grant.to != wanted.to {
            return Err(Why::TokenForAnother);
        }
        if grant != *wanted {
            return Err(Why::TokenOutdated);
        }
        Ok(())
    }
}

/// Does a change let out anything that did not leave before, or for longer?
pub fn loosens(from: &Profile, to: &Profile) -> bool {
    !to.is_within(from) || to.expires_after_minutes.is_some()
}

/// One act of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Has the rules of this profile hold.
    Rules(String),
    /// Stops this unit.
    Stop(String),
    /// Starts it.
    Start(String),
}

impl Step {
    /// The unit that it stops.
    pub fn stops(&self) -> Option<String> {
        match self {
            Self::Stop(unit) => Some(unit.clone()),
            Self::Rules(_) | Self::Start(_) => None,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rules(name) => write!(f, "rules of {name}"),
            Self::Stop(unit) => write!(f, "stop {unit}"),
            Self::Start(unit) => write!(f, "start {unit}"),
        }
    }
}

/// The steps of a change, in their order. What tightens changes rules first; what loosens opens last, and closes first
/// what is not allowed any more.
pub fn steps(from: &Profile, to: &Profile) -> Vec<Step> {
    let rules = |name: &str| Step::Rules(name.to_owned());
    let stop = to.units.off.iter().cloned().map(Step::Stop);
    let start = to.units.on.iter().cloned().map(Step::Start);
    if !loosens(from, to) {
        return std::iter::once(rules(&to.name)).chain(stop).chain(start).collect();
    }
    let close = (!from.is_within(to)).then(|| rules(STRICTEST));
    close.into_iter().chain(stop).chain(start).chain([rules(&to.name)]).collect()
}

/// Is everything as it should be, but for links that came, went or were renamed since `known` was all of them, and are
/// down? Nobody changed anything then: a unit that udev starts gives them their chains, and nothing else sets them up.
pub fn only_links_moved(
    rules: &Ruleset,
    links: &Links,
    page: &Profile,
    loopback: &Loopback,
    known: &BTreeSet<String>,
) -> bool {
    let device = |chain: &Chain| match chain.base.as_ref().map(|base| &base.hook) {
        Some(Hook::Egress(Some(device))) if link_chain(device) == chain.name => Some(device.clone()),
        _ => None,
    };
    let mut rules = rules.clone();
    // Chains of devices that went, or have another name now.
    rules.links.chains.retain(|chain| device(chain).is_some_and(|device| links.0.contains_key(&device)));
    let guarded: BTreeSet<String> = rules.links.chains.iter().filter_map(device).collect();
    let (there, moved): (BTreeMap<_, _>, BTreeMap<_, _>) =
        links.0.clone().into_iter().partition(|(name, _)| guarded.contains(name));
    let harmless = moved.iter().all(|(name, is_up)| !is_up && !known.contains(name));
    harmless && prove(&rules, &Links(there), page, loopback).is_ok()
}

/// What the kernel says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its group.
    pub group: i32,
    /// Its terminal, as a device's number; 0 for none.
    pub terminal: u64,
    /// The group in front of that terminal.
    pub foreground: i32,
}

impl Process {
    /// Reads `/proc/PID/stat`. The second field may hold anything, so the rest is what follows the last bracket.
    pub fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|it| it.parse::<i64>().ok());
        // state ppid pgrp session tty_nr tpgid
        let (group, terminal, foreground) = (number(2)?, number(4)?, number(5)?);
        Some(Self {
            group: group.try_into().ok()?,
            terminal: u64::try_from(terminal).ok()?,
            foreground: foreground.try_into().ok()?,
        })
    }
}

/// What logind says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub uid: u32,
    /// Over a network?
    pub remote: bool,
    /// In front?
    pub active: bool,
    /// `tty`, `x11`, …
    pub kind: String,
    /// `user`, `greeter`, …
    pub class: String,
    /// `tty1`, `ttyS0`; empty for none.
    pub terminal: String,
}

/// The descriptor that came beside the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Its device's number, as `/proc` counts them.
    pub number: u64,
    /// Is it a terminal, open for reading and writing?
    pub usable: bool,
}

/// Is whoever asks a person at this device's own terminal? The terminal's name.
///
/// # Errors
/// Why not, in words.
pub fn person(
    uid: u32,
    process: &Process,
    session: &Session,
    terminal: Terminal,
    named: u64,
) -> Result<String, &'static str> {
    if session.remote {
        return Err("the session is over a network");
    }
    // systemd 256 and later have a class of their own for root.
    let login = session.class == "user" || (session.class == "user-early" && session.uid == 0);
    if session.kind != "tty" || !login {
        return Err("the session is not a login at a terminal");
    }
    if !session.active {
        return Err("the session is not the one in front");
    }
    // Root may have come from the session's user.
    if uid != session.uid && uid != 0 {
        return Err("the session is another user's");
    }
    in_front(process, terminal, &session.terminal, named)?;
    Ok(session.terminal.clone())
}

/// Does whoever asks sit at this terminal, of this name and number, in front? What the kernel alone knows of a person.
///
/// # Errors
/// Why not, in words.
pub fn in_front(process: &Process, terminal: Terminal, name: &str, named: u64) -> Result<(), &'static str> {
    let number = ["ttyS", "ttyAMA", "hvc", "tty"].iter().find_map(|prefix| name.strip_prefix(prefix));
    if !number.is_some_and(|it| !it.is_empty() && it.len() <= 3 && it.bytes().all(|it| it.is_ascii_digit())) {
        return Err("the terminal is not one of the device's own");
    }
    if process.terminal == 0 || process.terminal != named {
        return Err("the process is not at that terminal");
    }
    if process.group != process.foreground {
        return Err("the process is in the background");
    }
    if !terminal.usable || terminal.number != named {
        return Err("the descriptor beside the request is not that terminal");
    }
    Ok(())
}
