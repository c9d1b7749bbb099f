//! Loads, and looks again whether it is there. Whatever fails on the way ends in the strictest profile; if that cannot be
//! had, in rules that let nothing through at all; and if not even those, with every link down.

use crate::config::{ConfigError, Image, Shipped};
use crate::decide::{Live, Prepared, locked, prepare, without_others};
use crate::programs::{ProgramError, listed, listed_links, listed_tables, load, set_link};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdir, open};
use secai_daemon::report::{Hint, Priority, say, told};
use secai_verifier::network::links::{Links, LinksError};
use secai_verifier::network::profile::STRICTEST;
use secai_verifier::network::refusal::NetworkRefusal;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a list of links may have become old between reading it and loading rules for it.
const LINK_TRIES: usize = 8;

/// Another run takes a tenth of a second; one whose nft hangs a minute or two.
const TURN_WAITS: Duration = Duration::from_secs(30);
/// Between two looks whether it is over.
const TURN_LOOKS: Duration = Duration::from_millis(5);

/// Why a profile does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Its rules cannot be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// nft or ip failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The list of links is none.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// Its rules are not what its page promises.
    #[error("the rules of {profile} are not what its page promises: {refusal}")]
    NotProven {
        /// Which profile.
        profile: String,
        /// The first of what is wrong.
        refusal: Box<NetworkRefusal>,
    },
    /// What is there afterwards is not what was loaded.
    #[error("the kernel does not hold the rules of {profile} that were loaded: {what}")]
    NotThere {
        /// Which profile.
        profile: String,
        /// What is wrong.
        what: String,
    },
    /// nft's list of tables is none.
    #[error("the list of tables is not what nft prints")]
    Tables(#[source] serde_json::Error),
    /// Links come and go faster than rules are loaded.
    #[error("links changed {LINK_TRIES} times while rules were loaded for them")]
    Restless,
    /// The kernel gives no random number, or no lock.
    #[error("cannot {0}")]
    Kernel(&'static str, #[source] std::io::Error),
}

impl Hint for ActError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Program(ProgramError::Start { .. }) => Some("install nftables and iproute2".to_owned()),
            Self::Program(_) | Self::Kernel(..) => Some("is this root, with CAP_NET_ADMIN?".to_owned()),
            _ => None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// The profile that holds; none: see `closed`.
    pub holds: Option<String>,
    /// Links that have their chain.
    pub links: Vec<String>,
    /// Why it is another one than was asked for.
    pub instead: Option<ActError>,
    /// Without a profile that holds: does nothing go anywhere? Else nobody can say.
    pub closed: bool,
}

/// One at a time, until this is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held, and nothing else")] OwnedFd);

impl Turn {
    /// Waits for it. Every run ends, so the wait does.
    ///
    /// # Errors
    /// [`ActError::Kernel`].
    pub fn take(folder: &Path) -> Result<Self, ActError> {
        let cannot = |errno: rustix::io::Errno| ActError::Kernel("take turns with other runs", errno.into());
        // Before anything else has run in this boot it is not there yet.
        match mkdir(folder, Mode::from(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(cannot(errno)),
        }
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(folder.join("firewall.lock"), flags, Mode::from(0o600)).map_err(cannot)?;
        let until = Instant::now() + TURN_WAITS;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                // Another run, at work or halted.
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(TURN_LOOKS),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(cannot(errno)),
            }
        }
    }
}

/// Has a profile hold; or the strictest one, or nothing.
pub fn apply(image: &Image, name: &str) -> Done {
    let asked = exchange(image, name, Part::Both);
    or_stricter(image, name, asked)
}

/// Gives each link its chain under the profile that holds.
pub fn link(image: &Image) -> Done {
    match held(image) {
        Ok(Some(name)) => {
            let asked = exchange(image, &name, Part::Links);
            or_stricter(image, &name, asked)
        }
        // Whatever this is, it is no profile.
        Ok(None) | Err(_) => apply(image, STRICTEST),
    }
}

fn held(image: &Image) -> Result<Option<String>, ActError> {
    let live = now()?;
    let all = image.profiles()?;
    Ok(live.holds(&all).map(|shipped| shipped.page.name.clone()))
}

fn or_stricter(image: &Image, name: &str, asked: Result<Vec<String>, ActError>) -> Done {
    let why = match asked {
        Ok(links) => return Done { holds: Some(name.to_owned()), links, instead: None, closed: true },
        Err(why) => why,
    };
    // A second try at the same may do: links that were there are gone.
    match exchange(image, STRICTEST, Part::Both) {
        Ok(links) => Done { holds: Some(STRICTEST.to_owned()), links, instead: Some(why), closed: true },
        Err(worse) => {
            say(Priority::Error, &told(&worse));
            let locked = lock_down();
            let closed = locked.is_some();
            Done { holds: None, links: locked.unwrap_or_default(), instead: Some(why), closed }
        }
    }
}

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Everything, with a new mark: old flows end.
    Both,
    /// The chains of links; flows go on.
    Links,
}

fn exchange(image: &Image, name: &str, part: Part) -> Result<Vec<String>, ActError> {
    let shipped = image.profile(name)?;
    let not_proven = |refusals: Vec<NetworkRefusal>| match refusals.into_iter().next() {
        Some(refusal) => ActError::NotProven { profile: name.to_owned(), refusal: Box::new(refusal) },
        None => ActError::NotThere { profile: name.to_owned(), what: "nothing was said".to_owned() },
    };
    let fresh = epoch()?;
    for at in 0..LINK_TRIES {
        let live = now()?;
        let mark = if part == Part::Links || at > 0 { live.epoch().unwrap_or(fresh) } else { fresh };
        let prepared = prepare(&shipped, mark, &live).map_err(not_proven)?;
        let mut loaded = Ok(());
        if part == Part::Both && at == 0 {
            loaded = load(&(prepared.inet.clone() + &prepared.links));
            // A link that has gone meanwhile fails the whole text: what packets may is not left as it was for that.
            if loaded.is_err() {
                load(&prepared.inet)?;
            }
            // Rules that are ours alone have no table beside them.
            if live.rules.is_err() {
                match without_others(&listed_tables()?) {
                    Ok(text) if text.is_empty() => {}
                    Ok(text) => load(&text)?,
                    Err(error) => return Err(ActError::Tables(error)),
                }
            }
        }
        if part == Part::Links || at > 0 {
            loaded = load(&prepared.links);
        }
        let after = now()?;
        // A link that is gone fails the whole text, a new one has no chain: once more, for those that there are.
        if after.links.0.keys().ne(live.links.0.keys()) {
            continue;
        }
        loaded?;
        judged(&shipped, &after)?;
        if settle(&shipped, &after)? {
            return Ok(after.links.0.into_keys().collect());
        }
    }
    Err(ActError::Restless)
}

/// Judges what was read back.
fn judged(shipped: &Shipped, live: &Live) -> Result<(), ActError> {
    let not_there = |what: String| ActError::NotThere { profile: shipped.page.name.clone(), what };
    if live.holds(std::slice::from_ref(shipped)).is_none() {
        let what = live.rules.as_ref().err().map_or_else(|| "they are others".to_owned(), ToString::to_string);
        return Err(not_there(what));
    }
    let refusals = live.proven(shipped).err().unwrap_or_default();
    refusals.first().map_or(Ok(()), |refusal| Err(not_there(refusal.to_string())))
}

/// Where nothing may leave links are down; else they are up, now that each has its chain. No: what has one of these names by
/// now is another link than was judged.
fn settle(shipped: &Shipped, live: &Live) -> Result<bool, ActError> {
    let up = !shipped.page.is_closed();
    let others = live.links.0.iter().filter(|(_, is_up)| **is_up != up).map(|(name, _)| name);
    let others: Vec<&String> = others.filter(|name| !up || live.ether.contains(name)).collect();
    if others.is_empty() {
        return Ok(true);
    }
    let mut failed = Vec::new();
    for name in &others {
        failed.extend(set_link(name, up).err());
    }
    let after = now()?;
    let still = after.links.0.keys().eq(live.links.0.keys());
    if still {
        match failed.into_iter().next() {
            // It stays down: the tunnels that the kernel makes with its modules cannot be set up at all.
            Some(error) if up => say(Priority::Warning, &error.to_string()),
            Some(error) => return Err(error.into()),
            None => {}
        }
        if judged(shipped, &after).is_ok() {
            return Ok(true);
        }
    }
    // Until it has its chain. One that has gone is down.
    others.iter().filter(|_| up).for_each(|name| drop(set_link(name, false)));
    Ok(false)
}

/// The rules and links that there are.
fn now() -> Result<Live, ActError> {
    let (rules, links) = listed()?;
    Ok(Live::read(&rules, &links)?)
}

/// Sets every link down, and lets nothing through, by rules of no profile. Whatever can be done of it is done: links first,
/// because nft may have hung before. The links, where all of either was done.
fn lock_down() -> Option<Vec<String>> {
    let listed = listed_links().ok().and_then(|text| Links::parse(&text).ok());
    let mut failed = Vec::new();
    for (name, _) in listed.iter().flat_map(|links| &links.0).filter(|(_, up)| **up) {
        failed.extend(set_link(name, false).err());
    }
    let are_down = listed.is_some() && failed.is_empty();
    let links = listed.unwrap_or_default();
    let Prepared { inet, links: frames } = locked(&links);
    let loaded = [load(&inet), load(&frames)];
    let is_locked = loaded.iter().all(Result::is_ok);
    failed.extend(loaded.into_iter().filter_map(Result::err));
    failed.iter().for_each(|error| say(Priority::Error, &error.to_string()));
    (are_down || is_locked).then(|| links.0.into_keys().collect())
}

/// A mark that nobody guesses.
fn epoch() -> Result<u32, ActError> {
    let number = getrandom::u32().map_err(|error| ActError::Kernel("choose a mark", std::io::Error::other(error)))?;
    Ok(number.max(1))
}
