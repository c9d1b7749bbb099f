//! What is asked, what is answered, and the person at the terminal in between.

use super::{Asking, By, REASON_CHARS_MAX, Server};
use crate::config::Meant;
use crate::decide::{Grant, TOKEN_BYTES, loosens};
use crate::question::Typed;
use secai_api::packet::to_packet;
use secai_api::profiles::{Answered, Evidence, Listed, Preview, Reply, Request, Shown, TYPING_LASTS, Why};
use secai_verifier::audit::kind::ProfileRefused;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Refusals of one user that have an entry each; then one in [`REFUSED_EVERY`].
const REFUSED_AT_ONCE: u32 = 32;
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// What the process that waits at a terminal may need besides, once the time for typing is over.
const ANSWER_LATE_MAX: Duration = Duration::from_secs(5);
/// What is told again of a name that somebody made up.
const NAME_CHARS_MAX: usize = 64;
/// Users whose refusals are counted one by one.
const REFUSED_USERS_MAX: usize = 256;
/// Looking costs some programs, while everybody waits: so often may one user ask for evidence,
const LOOKS_MAX: u32 = 4;
/// within so long.
const LOOKS_WITHIN: Duration = Duration::from_secs(1);

impl Server<'_> {
    pub(super) fn answer(&mut self, token: u64, id: u64, uid: u32, ask: Request, terminal: Option<OwnedFd>) {
        let word = match &ask {
            Request::Show {} => "show",
            Request::Preview { .. } => "preview",
            Request::Apply { .. } => "apply",
            Request::Evidence {} => "evidence",
        };
        if !self.page.may(word, uid) {
            if let Request::Apply { profile, .. } = &ask {
                self.refused(uid, Why::NotAllowed, profile);
            }
            return self.refuse(token, id, Why::NotAllowed, &format!("user {uid} may not ask for this"));
        }
        match ask {
            Request::Show {} => {
                let shown = self.shown();
                self.reply(token, id, Reply::Shown(shown));
            }
            Request::Evidence {} => self.evidence(token, id, uid),
            Request::Preview { profile } => match self.previewed(uid, &profile) {
                Ok(preview) => self.reply(token, id, Reply::Previewed(preview)),
                Err((why, message)) => self.refuse(token, id, why, &message),
            },
            Request::Apply { profile, token: secret } => {
                if let Err((why, message)) = self.confirm(token, id, uid, &profile, &secret, terminal) {
                    self.refused(uid, why, &profile);
                    self.refuse(token, id, why, &message);
                }
            }
        }
    }

    fn shown(&mut self) -> Shown {
        let mut profiles = Vec::new();
        let mut troubles: Vec<String> = self.trouble.iter().cloned().collect();
        let policy = self.policy;
        for meant in policy.iter() {
            let lacks = self.lacks(meant).unwrap_or_else(|why| {
                troubles.push(why);
                Vec::new()
            });
            profiles.push(Listed { name: meant.page.name.clone(), about: meant.page.about.clone(), lacks });
        }
        troubles.dedup();
        match self.recorder.waiting() {
            0 => {}
            waiting => troubles.push(format!("{waiting} entries wait for the audit daemon")),
        }
        troubles.extend(self.world.operator(policy).err());
        Shown {
            profile: self.holds.clone(),
            digest: self.digest_of(&self.holds),
            ends_after_s: self.ends_at.map(|at| at.saturating_sub(self.now()).as_secs()),
            restored: self.restored,
            troubles,
            profiles,
        }
    }

    fn digest_of(&self, name: &str) -> String {
        self.meant(name).map(|meant| meant.digest.to_string()).unwrap_or_default()
    }

    /// Units that a profile needs, and the image has not.
    fn lacks(&mut self, meant: &Meant) -> Result<Vec<String>, String> {
        let mut lacks = Vec::new();
        for unit in &meant.page.units.on {
            if !self.world.has(unit)? {
                lacks.push(unit.clone());
            }
        }
        Ok(lacks)
    }

    fn previewed(&mut self, uid: u32, to: &str) -> Result<Preview, (Why, String)> {
        let meant = self.meant(to).ok_or_else(|| unknown(to))?.clone();
        let from = self.meant(&self.holds).ok_or_else(|| unknown(&self.holds))?.clone();
        let mut secret = [0; TOKEN_BYTES];
        getrandom::fill(&mut secret).map_err(|error| (Why::Failed, format!("no token can be made: {error}")))?;
        let grant = self.grant(uid, &meant);
        Ok(Preview {
            token: self.tokens.give(secret, grant, self.now()),
            from: from.page.name.clone(),
            to: meant.page.name.clone(),
            digest: meant.digest.to_string(),
            loosens: loosens(&from.page, &meant.page),
            ends: from.leaves.iter().filter(|it| !meant.leaves.contains(it)).cloned().collect(),
            starts: meant.page.units.on.difference(&from.page.units.on).cloned().collect(),
            stops: meant.page.units.off.intersection(&from.page.units.on).cloned().collect(),
            expires_after_minutes: meant.page.expires_after_minutes,
            told: meant.page.told.clone(),
            leaves: meant.leaves,
        })
    }

    fn grant(&self, uid: u32, meant: &Meant) -> Grant {
        Grant { uid, from: self.holds.clone(), to: meant.page.name.clone(), digest: meant.digest }
    }

    /// Begins to ask the person at the terminal; or changes at once where the operator allows it.
    fn confirm(
        &mut self,
        client: u64,
        id: u64,
        uid: u32,
        to: &str,
        secret: &str,
        terminal: Option<OwnedFd>,
    ) -> Result<(), (Why, String)> {
        let meant = self.meant(to).ok_or_else(|| unknown(to))?.clone();
        let wanted = self.grant(uid, &meant);
        self.tokens.take(secret, &wanted, self.now()).map_err(|why| (why, told_of_token(why).to_owned()))?;
        let opens = self.meant(&self.holds).is_none_or(|from| loosens(&from.page, &meant.page));
        let lacks = match self.lacks(&meant) {
            Err(why) if opens => return Err((Why::Failed, why)),
            // What closes is not held up by a bus that is away.
            lacks => lacks.unwrap_or_default(),
        };
        if !lacks.is_empty() {
            return Err((Why::UnitsMissing, format!("this image lacks what {to} needs: {}", lacks.join(", "))));
        }
        let policy = self.policy;
        if self.world.operator(policy).is_ok_and(|operator| operator.allows(uid, to)) {
            let by = By { word: "operator", uid, terminal: String::new() };
            self.finish(client, id, to, &by);
            return Ok(());
        }
        // Who wants to close does not wait for who is asked whether to open.
        if self.asking.as_ref().is_some_and(|asking| opens || !asking.opens) {
            return Err((Why::Busy, "somebody is being asked about another change already".to_owned()));
        }
        let name = self.sits(client, terminal.as_ref(), opens)?;
        let Some(terminal) = terminal else { return Ok(()) };
        if let Some(asking) = self.asking.take() {
            self.not_confirmed(&asking, Why::NotConfirmed, "somebody wants to close meanwhile, and is asked instead");
        }
        let Some(of) = self.clients.get(&client) else { return Ok(()) };
        let text = self.question(&meant);
        let question = self.world.question(terminal, of.connection.as_fd(), &text, to);
        let question = question.map_err(|error| (Why::Failed, format!("nobody can be asked: {error}")))?;
        let until = self.now() + TYPING_LASTS + ANSWER_LATE_MAX;
        let (from, to) = (self.holds.clone(), to.to_owned());
        self.asking = Some(Asking { client, id, from, to, uid, opens, name, question, until });
        Ok(())
    }

    /// The terminal at which whoever asks sits: a person in a session of his own where something opens, else who is in
    /// front at it.
    fn sits(&mut self, client: u64, terminal: Option<&OwnedFd>, opens: bool) -> Result<String, (Why, String)> {
        let gone = || (Why::NotConfirmed, "whoever asked has gone".to_owned());
        let peer = &self.clients.get(&client).ok_or_else(gone)?.peer;
        let judged = if opens { self.world.person(peer, terminal) } else { self.world.in_front(peer, terminal) };
        judged.map_err(|why| (Why::NotAPerson, why))
    }

    /// What the person reads before typing: from the model, whatever the caller showed.
    fn question(&self, meant: &Meant) -> String {
        let page = &meant.page;
        let mut text = format!("\n{} -> {}: {}\n", self.holds, page.name, page.about);
        match meant.leaves.as_slice() {
            [] => text.push_str("  nothing leaves this machine\n"),
            leaves => leaves.iter().for_each(|it| text.push_str(&format!("  may leave: {it}\n"))),
        }
        page.told.iter().for_each(|it| text.push_str(&format!("  {it}\n")));
        if let Some(minutes) = page.expires_after_minutes {
            text.push_str(&format!("  Ends by itself after {minutes} minutes.\n"));
        }
        text.push_str(&format!("Type {} to confirm: ", page.name));
        text
    }

    /// What came of asking.
    pub(super) fn answered(&mut self) {
        let now = self.now();
        let Some(asking) = &mut self.asking else { return };
        // Who else reads at that terminal may take what was typed from under the process that waits there.
        let late = (asking.until <= now).then_some(Typed::Nothing);
        let Some(typed) = asking.question.typed().or(late) else { return };
        let Some(asking) = self.asking.take() else { return };
        match self.confirmed(&asking, typed) {
            Ok(()) => {
                let by = By { word: "person", uid: asking.uid, terminal: asking.name.clone() };
                self.finish(asking.client, asking.id, &asking.to, &by);
            }
            Err((why, message)) => self.not_confirmed(&asking, why, &message),
        }
    }

    fn not_confirmed(&mut self, asking: &Asking, why: Why, message: &str) {
        self.refused(asking.uid, why, &asking.to);
        self.refuse(asking.client, asking.id, why, message);
    }

    /// The word was typed, and everything is still as it was when it was asked for.
    fn confirmed(&mut self, asking: &Asking, typed: Typed) -> Result<(), (Why, String)> {
        let not = |message: &str| Err((Why::NotConfirmed, message.to_owned()));
        match typed {
            Typed::TheWord => {}
            Typed::Nothing => return not("nothing was typed at the terminal"),
            Typed::Another => return not("another word was typed than the profile's name"),
            Typed::Gone => return not("whoever asked has gone"),
        }
        if asking.from != self.holds {
            return Err((Why::TokenOutdated, told_of_token(Why::TokenOutdated).to_owned()));
        }
        // Who has gone away does not want it any more; who went into the background did not type it.
        let name = self.sits(asking.client, Some(asking.question.terminal()), asking.opens)?;
        if name != asking.name {
            return Err((Why::NotAPerson, "the session has another terminal now".to_owned()));
        }
        Ok(())
    }

    fn finish(&mut self, client: u64, id: u64, to: &str, by: &By) {
        match self.change(to, by) {
            Ok(()) => {
                let reply = Reply::Applied {
                    profile: self.holds.clone(),
                    digest: self.digest_of(&self.holds),
                    ends_after_s: self.ends_at.map(|at| at.saturating_sub(self.now()).as_secs()),
                };
                self.reply(client, id, reply);
            }
            Err((why, message)) => {
                if why == Why::NotRecorded {
                    self.refused(by.uid, why, to);
                }
                self.refuse(client, id, why, &message);
            }
        }
    }

    fn evidence(&mut self, token: u64, id: u64, uid: u32) {
        let now = self.now();
        self.evidence.retain(|_, (_, since)| now.saturating_sub(*since) < LOOKS_WITHIN);
        let (count, _) = self.evidence.entry(uid).or_insert((0, now));
        *count += 1;
        if *count > LOOKS_MAX {
            return self.refuse(token, id, Why::Busy, "evidence was asked for too often within a second");
        }
        let made = self.world.check().and_then(|checked| {
            let evidence =
                Evidence { profile: self.holds.clone(), ruleset: unmarked(&checked.ruleset), links: checked.links };
            let bytes = serde_json::to_vec(&evidence).map_err(|error| error.to_string())?;
            in_memory(&bytes).map_err(|error| error.to_string())
        });
        match made {
            Ok(file) => self.reply_with(token, id, Reply::Evidence {}, Some(&file)),
            Err(why) => self.refuse(token, id, Why::Failed, &why),
        }
    }

    /// Records a refusal; of somebody who asks all the time only some, with how many there were.
    pub(super) fn refused(&mut self, uid: u32, why: Why, to: &str) {
        let now = self.now();
        if self.refused.len() >= REFUSED_USERS_MAX {
            self.refused.retain(|_, (_, since, _)| now.saturating_sub(*since) < REFUSED_EVERY);
        }
        let (count, since, unnamed) = self.refused.entry(uid).or_insert((0, now, 0));
        if now.saturating_sub(*since) >= REFUSED_EVERY {
            (*count, *since) = (count.saturating_sub(1), now);
        }
        if *count >= REFUSED_AT_ONCE {
            *unnamed += 1;
            return;
        }
        *count += 1;
        let to: String = to.chars().filter(|it| !it.is_control()).take(REASON_CHARS_MAX).collect();
        let entry = ProfileRefused { reason: why.word(), to, uid: uid.into(), unnamed: std::mem::take(unnamed) };
        self.recorder.after_if_room(entry);
    }

    pub(super) fn refuse(&mut self, token: u64, id: u64, why: Why, message: &str) {
        self.reply(token, id, Reply::Refused { why, message: message.to_owned() });
    }

    fn reply(&mut self, token: u64, id: u64, answer: Reply) {
        self.reply_with(token, id, answer, None);
    }

    fn reply_with(&mut self, token: u64, id: u64, answer: Reply, beside: Option<&OwnedFd>) {
        let Some(client) = self.clients.get(&token) else { return };
        let taken = to_packet(&Answered { id, answer })
            .is_ok_and(|packet| client.connection.try_send(&packet, beside.map(AsFd::as_fd)).is_ok_and(|sent| sent));
        if !taken {
            // It asks and does not listen.
            self.clients.remove(&token);
        }
    }
}

fn unknown(name: &str) -> (Why, String) {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    (Why::UnknownProfile, format!("there is no profile `{}`", name.escape_default()))
}

fn told_of_token(why: Why) -> &'static str {
    match why {
        Why::TokenExpired => "the token was given too long ago: ask for a preview again",
        Why::TokenOfAnother => "the token was given to another user, and is void now",
        Why::TokenForAnother => "the token was given for another profile, and is void now",
        Why::TokenOutdated => "another profile holds, or its rules are others, than when the token was given",
        _ => "there is no such token: each is for one use, after a preview",
    }
}

/// Rules without the mark by which flows are known: whoever may see them may not know it. Another one stands for it.
fn unmarked(ruleset: &str) -> String {
    use secai_verifier::network::parse::parse;
    use secai_verifier::network::rules::{EPOCH, Elements};
    let Ok(rules) = parse(ruleset.as_bytes()) else { return without_marks(ruleset) };
    match rules.inet.sets.get(EPOCH) {
        Some(Elements::Marks(marks)) => marks
            .iter()
            .fold(ruleset.to_owned(), |text, mark| text.replace(&format!("{mark:#010x}"), &format!("{:#010x}", 1))),
        _ => ruleset.to_owned(),
    }
}

/// The same where somebody else has changed the rules, and nobody can tell what is in them: each number that looks like a
/// mark is another one.
fn without_marks(ruleset: &str) -> String {
    let mut parts = ruleset.split("0x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (number, rest) = part.split_at(digits);
        text.push_str("0x");
        text.push_str(if digits == MARK_DIGITS { "00000001" } else { number });
        text.push_str(rest);
    }
    text
}

/// nft prints marks with all of their digits.
const MARK_DIGITS: usize = 8;

/// A file that lies in memory, to be read by whoever gets it.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let mut file = File::from(memfd_create("evidence", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}
