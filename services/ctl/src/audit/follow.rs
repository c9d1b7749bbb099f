//! `follow`: each entry once it is signed. What is new is checked against the checkpoint that was accepted before, so a
//! chain that is exchanged or cut meanwhile is refused.

use super::chain::{Walk, Which, refused};
use super::show::{View, show};
use crate::failure::Failure;
use crate::output::Output;
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secai_daemon::report::{Priority, say};
use secai_daemon::shutdown::Shutdown;
use secai_verifier::audit::CHECKPOINT;
use secai_verifier::audit::checkpoint::{NOTE_BYTES_MAX, Note};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The writer signs once a second.
const BETWEEN_LOOKS: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Show older entries too, from this one on
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    #[command(flatten)]
    view: View,
}

impl Arguments {
    /// Does it until asked to end, or until nobody reads any more.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let shutdown = Shutdown::on_signals().map_err(Failure::Signals)?;
        let chain = self.which.open(socket)?;
        let mut walk = Walk::begin(&chain.store)?;
        let mut kept: Option<Note> = None;
        let mut seen = None;
        let mut from = self.from;
        let mut left_out = 0u64;
        let mut code = ExitCode::SUCCESS;
        loop {
            let head = chain.store.read(CHECKPOINT, NOTE_BYTES_MAX as u64)?.ok().flatten();
            if seen.is_none() || seen != head {
                let judged = match chain.check(kept.as_ref(), false)? {
                    Ok(judged) => judged,
                    Err(refusals) => {
                        refused(&refusals, output)?;
                        return Ok(ExitCode::FAILURE);
                    }
                };
                if seen.is_none() {
                    say(Priority::Info, &judged.signed_by());
                }
                let report = &judged.report;
                code = judged.code();
                let first = *from.get_or_insert(report.head.size);
                walk.on(&chain.store, report, report.head.size, self.view.payloads, |found, entry, signed| {
                    match (entry.seq >= first, self.view.takes(entry.kind)) {
                        (true, true) => show(found, entry, signed, self.view.payloads, output)?,
                        (true, false) => left_out += 1,
                        _ => {}
                    }
                    Ok(())
                })?;
                output.flush()?;
                // Not older than what was checked, or the next look says so: it is compared as one that was kept.
                kept = head.as_deref().and_then(|bytes| Note::parse(bytes).ok()).or(kept);
                seen = head;
            }
            if wait(&shutdown)? {
                break;
            }
        }
        say(Priority::Info, &format!("{left_out} entries left out by the filter"));
        Ok(code)
    }
}

/// Waits for a second; is it time to end?
fn wait(shutdown: &Shutdown) -> Result<bool, Failure> {
    let out = io::stdout();
    // Of standard output only its end is of interest, which is always told.
    let mut look = [PollFd::new(shutdown, PollFlags::IN), PollFd::new(&out, PollFlags::empty())];
    match poll(&mut look, Some(&BETWEEN_LOOKS)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(shutdown.asked()),
        Err(errno) => return Err(Failure::Signals(errno.into())),
    }
    let [asked, out] = &look;
    if out.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
    }
    Ok(!asked.revents().is_empty())
}
