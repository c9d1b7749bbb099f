//! The profile: changed in order and with its entries, ended when its time is over, and kept as it is.

use super::{By, REASON_CHARS_MAX, ServeError, Server};
use crate::config::Meant;
use crate::decide::{Tokens, loosens, only_links_moved};
use crate::firewall::Checked;
use crate::switch::{Ended, UnderWay, close, run as switch};
use secai_api::profiles::Why;
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::kind::{
    ProfileApplied, ProfileFailed, ProfileInterrupted, ProfileRequested, ProfileRestored,
};
use secai_verifier::network::links::Links;
use secai_verifier::network::parse::parse;
use secai_verifier::network::profile::STRICTEST;
use std::time::Duration;

/// Rules that are changed so often by others are fought over: then nothing may leave.
const RESTORED_MAX: u32 = 10;
/// Within so long.
const RESTORED_WITHIN: Duration = Duration::from_secs(60);
/// A bus that was away is back by then, or not soon.
const STOP_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Between two looks then.
const LOOK_SLOWLY_AFTER: Duration = Duration::from_secs(1);

impl Server<'_> {
    pub(super) fn begin(&mut self) -> Result<(), ServeError> {
        let interrupted = self.world.interrupted();
        let strictest = self.meant(STRICTEST).ok_or(ServeError::NoStrictest)?.clone();
        if let Some(UnderWay { from, step, to }) = interrupted {
            self.recorder.after(ProfileInterrupted { from, step, to });
        }
        self.close(STRICTEST, &strictest);
        if self.lost.is_none() {
            self.applied("boot", STRICTEST);
        }
        Ok(())
    }

    fn close(&mut self, from: &str, strictest: &Meant) {
        let Ended { holds, failed, running, unknown } = close(self.world, &strictest.page);
        self.stop_again(running);
        (self.holds, self.ends_at) = (holds, None);
        self.lost = failed.as_ref().filter(|_| unknown).map(|(step, why)| format!("{step}: {why}"));
        self.trouble = failed.as_ref().map(|(step, why)| format!("{step}: {why}"));
        if let Some((step, why)) = failed {
            self.failed(from, STRICTEST, &step, &why);
        }
    }

    /// The next profile is the strictest in any case; units that may not run then stop here, while there is time.
    pub(super) fn end(&mut self) {
        if self.holds != STRICTEST {
            let by = By { word: "shutdown", uid: 0, terminal: String::new() };
            let _ = self.change(STRICTEST, &by);
        }
    }

    /// Changes, and records it: what loosens only after its entry is on the disk, what tightens at once.
    pub(super) fn change(&mut self, to: &str, by: &By) -> Result<(), (Why, String)> {
        let unknown = |name: &str| (Why::UnknownProfile, format!("there is no profile `{name}`"));
        let meant = |name: &str| self.meant(name).ok_or_else(|| unknown(name)).cloned();
        let (from, to, strictest) = (meant(&self.holds)?, meant(to)?, meant(STRICTEST)?);
        let requested = ProfileRequested {
            by: by.word.to_owned(),
            digest: to.digest,
            from: from.page.name.clone(),
            terminal: by.terminal.clone(),
            to: to.page.name.clone(),
            uid: by.uid.into(),
        };
        if loosens(&from.page, &to.page) {
            let recorded = self.recorder.before(&requested);
            recorded.map_err(|error| (Why::NotRecorded, format!("it cannot be recorded first: {error}")))?;
        } else {
            self.recorder.after(requested);
        }
        let ended = switch(self.world, &from.page, &to.page, &strictest.page);
        self.holds = ended.holds;
        self.stop_again(ended.running);
        // Tokens were for a change from what held before.
        self.tokens = Tokens::default();
        let minutes = to.page.expires_after_minutes.filter(|_| self.holds == to.page.name);
        self.ends_at = minutes.map(|minutes| self.now() + Duration::from_secs(60 * u64::from(minutes)));
        self.trouble = ended.failed.as_ref().map(|(step, why)| format!("{step}: {why}"));
        if let Some((step, why)) = &ended.failed {
            self.failed(&from.page.name, &to.page.name, step, why);
        }
        if ended.unknown {
            let why = ended.failed.map_or_else(String::new, |(step, why)| format!("{step}: {why}"));
            self.lost = Some(why.clone());
            return Err((Why::Failed, format!("nobody says whether even {STRICTEST} holds ({why}): the service ends")));
        }
        if self.holds == to.page.name {
            self.applied(by.word, &from.page.name);
            return Ok(());
        }
        let why = ended.failed.map_or_else(String::new, |(step, why)| format!(" ({step}: {why})"));
        Err((Why::Failed, format!("{} could not be had{why}; {} holds", to.page.name, self.holds)))
    }

    fn applied(&self, by: &str, from: &str) {
        let Some(meant) = self.meant(&self.holds) else { return };
        say(Priority::Info, &format!("{} holds", self.holds));
        self.recorder.after(ProfileApplied {
            by: by.to_owned(),
            digest: meant.digest,
            from: from.to_owned(),
            to: self.holds.clone(),
        });
    }

    fn failed(&self, from: &str, to: &str, step: &str, why: &str) {
        say(Priority::Error, &format!("{from} to {to}: {step}: {why}; {} holds", self.holds));
        self.recorder.after(ProfileFailed {
            from: from.to_owned(),
            holds: self.holds.clone(),
            step: step.to_owned(),
            to: to.to_owned(),
            why: why.chars().take(REASON_CHARS_MAX).collect(),
        });
    }

    pub(super) fn expire(&mut self) {
        self.ends_at = None;
        let by = By { word: "expiry", uid: 0, terminal: String::new() };
        let _ = self.change(STRICTEST, &by);
    }

    /// Units that may not run are asked again later: systemd, or the bus to it, may have been away.
    fn stop_again(&mut self, running: Vec<String>) {
        if !running.is_empty() {
            self.look_at = self.look_at.min(self.now() + STOP_AGAIN_AFTER);
        }
        self.running = running;
    }

    /// Looks whether the rules are those of the profile that holds, and has them be.
    pub(super) fn look(&mut self) {
        self.look_at = self.now() + super::LOOK_ANYWAY_AFTER;
        let mut running = std::mem::take(&mut self.running);
        if !running.is_empty() {
            running.retain(|unit| self.world.stop(unit).is_err());
            if running.is_empty() {
                say(Priority::Info, "what would not stop has stopped");
                self.trouble = None;
            }
            self.stop_again(running);
        }
        let mut names = std::mem::take(&mut self.changed_by);
        names.retain(|name| !name.is_empty());
        let closed = self.meant(&self.holds).is_none_or(|meant| meant.page.is_closed());
        let (found, of_links_only) = match self.world.check() {
            Ok(checked) if checked.is(&self.holds) => {
                let links = Links::parse(checked.links.as_bytes()).unwrap_or_default();
                let is_any_up = links.0.values().any(|up| *up);
                self.guarded = links.0.into_keys().collect();
                match closed && is_any_up {
                    false => return,
                    true => ("a link is up".to_owned(), true),
                }
            }
            Ok(checked) if self.only_links_moved(&checked) => {
                // Who comes is given its chain by udev's unit. Who went takes its chain along, and Linux 6.12.117 leaves it empty.
                let leftover = checked.refusals.iter().any(|it| it.name == "EgressChainWithoutLink");
                match leftover.then(|| self.world.link()) {
                    None | Some(Ok(())) => return,
                    Some(Err(why)) => (why.to_string(), false),
                }
            }
            // Whoever closed did so for a reason, the firewall itself among them: that is not undone.
            Ok(checked) if checked.profile.as_deref() == Some(STRICTEST) && self.holds != STRICTEST => {
                let by = By { word: "fault", uid: 0, terminal: String::new() };
                let _ = self.change(STRICTEST, &by);
                return;
            }
            Ok(checked) => match checked.refusals.first() {
                Some(refusal) => {
                    // Chains of links are made under the profile that the rules are of: that must be ours.
                    let ours = checked.profile.as_deref() == Some(self.holds.as_str());
                    let of_links_only = ours && checked.refusals.iter().all(|it| it.name == "LinkUnguarded");
                    (format!("{}: {}", refusal.name, refusal.detail), of_links_only)
                }
                None => (format!("the rules are those of {}", checked.profile.unwrap_or_default()), false),
            },
            Err(why) => (why, false),
        };
        self.restored += 1;
        let (times, since) = self.lately;
        self.lately =
            if self.now().saturating_sub(since) > RESTORED_WITHIN { (1, self.now()) } else { (times + 1, since) };
        say(Priority::Warning, &format!("rules were not those of {}, and are loaded again: {found}", self.holds));
        let holds = self.holds.clone();
        // Of a fight the first have an entry each, and again after [`RESTORED_WITHIN`].
        if self.lately.0 <= RESTORED_MAX + 1 {
            self.recorder.after(ProfileRestored {
                by: names.last().cloned().unwrap_or_default(),
                found: found.chars().take(REASON_CHARS_MAX).collect(),
                profile: holds.clone(),
            });
        }
        if self.lately.0 > RESTORED_MAX {
            self.no_look_before = self.now() + LOOK_SLOWLY_AFTER;
            self.look_at = self.no_look_before;
            if self.holds != STRICTEST {
                let by = By { word: "fault", uid: 0, terminal: String::new() };
                let _ = self.change(STRICTEST, &by);
                return;
            }
        }
        let done = if of_links_only { self.world.link() } else { self.world.rules(&holds) };
        if let Err(why) = done {
            if let Some(strictest) = self.meant(STRICTEST).cloned() {
                self.close(&holds, &strictest);
            }
            // Afterwards: the entry says which profile holds now.
            self.failed(&holds, &holds, "rules", &why.to_string());
        }
    }

    fn only_links_moved(&self, checked: &Checked) -> bool {
        let (rules, links) = (parse(checked.ruleset.as_bytes()), Links::parse(checked.links.as_bytes()));
        let (Ok(rules), Ok(links), Some(meant)) = (rules, links, self.meant(&self.holds)) else { return false };
        checked.profile.as_deref() == Some(self.holds.as_str())
            && only_links_moved(&rules, &links, &meant.page, self.policy.loopback(), &self.guarded)
    }
}
