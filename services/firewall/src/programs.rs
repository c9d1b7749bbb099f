//! `nft` and `ip`: the two programs that speak with the kernel for this one.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use secai_verifier::network::links::LINKS_BYTES_MAX;
use secai_verifier::network::parse::TEXT_BYTES_MAX;
use secai_verifier::network::rules::INET_TABLE;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Loads and lists rules.
pub const NFT: &str = "/usr/sbin/nft";
/// Lists links, and sets them up or down.
pub const IP: &str = "/usr/bin/ip";
/// Each takes some milliseconds; a kernel that takes longer than this is not going to.
const TIME_MAX: Duration = Duration::from_secs(20);
/// What they complain of is for people.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or the kernel gives no process.
    #[error("cannot run {program}")]
    Start {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("{line} failed: {said}")]
    Failed {
        /// Its command line.
        line: String,
        /// The first lines of what it said.
        said: String,
    },
    /// It did not end, and was killed.
    #[error("{line} did not end within {} s", TIME_MAX.as_secs())]
    Endless {
        /// Its command line.
        line: String,
    },
    /// It said more than anybody reads.
    #[error("{line} printed more than {limit} bytes")]
    TooLong {
        /// Its command line.
        line: String,
        /// How much is read.
        limit: usize,
    },
}

/// The rules that there are, as nft lists them, and the links, as `ip -j link` does: both at the same time.
///
/// # Errors
/// [`ProgramError`].
pub fn listed() -> Result<(Vec<u8>, Vec<u8>), ProgramError> {
    thread::scope(|scope| {
        let links = scope.spawn(listed_links);
        let rules = run(NFT, &["list", "ruleset"], b"", TEXT_BYTES_MAX)?;
        let links = links.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((rules, links))
    })
}

/// The tables that there are, as JSON: their numbers are only there in every version of nft.
///
/// # Errors
/// [`ProgramError`].
pub fn listed_tables() -> Result<Vec<u8>, ProgramError> {
    run(NFT, &["-j", "list", "tables"], b"", TEXT_BYTES_MAX)
}

/// The table of packets as JSON, for the second reader.
///
/// # Errors
/// [`ProgramError`]; there may be none.
pub fn listed_packets() -> Result<Vec<u8>, ProgramError> {
    run(NFT, &["-j", "list", "table", "inet", INET_TABLE], b"", TEXT_BYTES_MAX)
}

/// The links alone.
///
/// # Errors
/// [`ProgramError`].
pub fn listed_links() -> Result<Vec<u8>, ProgramError> {
    run(IP, &["-j", "link"], b"", LINKS_BYTES_MAX)
}

/// Loads a text in one transaction: all of it, or nothing.
///
/// # Errors
/// [`ProgramError`]; nothing was changed then.
pub fn load(text: &str) -> Result<(), ProgramError> {
    run(NFT, &["-f", "-"], text.as_bytes(), TEXT_BYTES_MAX).map(drop)
}

/// Sets a link up or down.
///
/// # Errors
/// [`ProgramError`].
pub fn set_link(name: &str, up: bool) -> Result<(), ProgramError> {
    run(IP, &["link", "set", "dev", name, if up { "up" } else { "down" }], b"", LINKS_BYTES_MAX).map(drop)
}

fn run(program: &'static str, words: &[&str], input: &[u8], limit: usize) -> Result<Vec<u8>, ProgramError> {
    let line = || {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        format!("`{name} {}`", words.join(" "))
    };
    let start = |source| ProgramError::Start { program, source };
    let mut command = Command::new(program);
    command.args(words).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, complaint, ended) = thread::scope(|scope| {
        // Each pipe by a thread of its own: none waits for another.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let output = scope.spawn(move || up_to(stdout, limit));
        let complaint = scope.spawn(move || up_to(stderr, COMPLAINT_BYTES_MAX));
        let ended = wait(&mut child);
        (output.join().unwrap_or_default(), complaint.join().unwrap_or_default(), ended)
    });
    match ended.map_err(start)? {
        None => Err(ProgramError::Endless { line: line() }),
        Some(true) if output.len() > limit => Err(ProgramError::TooLong { line: line(), limit }),
        Some(true) => Ok(output),
        Some(false) => {
            let said = String::from_utf8_lossy(&complaint).lines().take(4).collect::<Vec<_>>().join("; ");
            Err(ProgramError::Failed { line: line(), said })
        }
    }
}

/// Everything, but no more than one byte above the limit is kept.
fn up_to(pipe: Option<impl Read>, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes);
        // What is not read would stop it.
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    bytes
}

/// Did it end well? None: it did not end, and was killed.
fn wait(child: &mut Child) -> io::Result<Option<bool>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let until = Instant::now() + TIME_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            Ok(_) => return Ok(Some(child.wait()?.success())),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_no_environment_and_its_complaint_is_kept() {
        let out = run("/usr/bin/env", &[], b"", 100).unwrap();
        assert_eq!(out, b"", "{}", String::from_utf8_lossy(&out));
        let error = run("/bin/sh", &["-c", "echo no such table >&2; exit 3"], b"", 100).unwrap_err();
        assert!(matches!(&error, ProgramError::Failed { said, .. } if said == "no such table"), "{error}");
        assert!(matches!(run("/bin/cat", &[], &[7; 200], 100), Err(ProgramError::TooLong { .. })));
        assert_eq!(run("/bin/cat", &[], &[7; 100_000], 100_000).unwrap().len(), 100_000);
        assert!(matches!(run("/no/such/program", &[], b"", 1), Err(ProgramError::Start { .. })));
    }
}
