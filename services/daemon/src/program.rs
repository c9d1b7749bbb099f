//! A program that a service starts: by its absolute path, with nothing of this process's surroundings, for a bounded time,
//! and heard up to a bounded number of bytes. What is secret goes in by its standard input: arguments are for everybody.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What programs complain of is for people.
const COMPLAINT_BYTES_MAX: usize = 4096;
/// Lines of it.
const COMPLAINT_LINES_MAX: usize = 4;

/// How long a program may take, and how much of what it says is read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After that it is killed.
    pub time: Duration,
    /// What says more is no answer.
    pub bytes: usize,
}

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
        /// The code; none where a signal ended it.
        code: Option<i32>,
        /// The first lines of what it said.
        said: String,
    },
    /// It did not end, and was killed.
    #[error("{line} did not end within {seconds} s")]
    Endless {
        /// Its command line.
        line: String,
        /// How long it had.
        seconds: u64,
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

impl ProgramError {
    /// The code with which it ended of itself.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }
}

/// Runs it to its end; what it printed.
///
/// # Errors
/// [`ProgramError`].
pub fn run(program: &'static str, words: &[&str], input: &[u8], bounds: Bounds) -> Result<Vec<u8>, ProgramError> {
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
        let output = scope.spawn(move || up_to(stdout, bounds.bytes));
        let complaint = scope.spawn(move || up_to(stderr, COMPLAINT_BYTES_MAX));
        let ended = wait(&mut child, bounds.time);
        (output.join().unwrap_or_default(), complaint.join().unwrap_or_default(), ended)
    });
    match ended.map_err(start)? {
        None => Err(ProgramError::Endless { line: line(), seconds: bounds.time.as_secs() }),
        Some(status) if status.success() && output.len() > bounds.bytes => {
            Err(ProgramError::TooLong { line: line(), limit: bounds.bytes })
        }
        Some(status) if status.success() => Ok(output),
        Some(status) => {
            let said = String::from_utf8_lossy(&complaint);
            let said = said.lines().take(COMPLAINT_LINES_MAX).collect::<Vec<_>>().join("; ");
            Err(ProgramError::Failed { line: line(), code: status.code(), said })
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

/// How did it end? None: it did not, and was killed.
fn wait(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            Ok(_) => return Ok(Some(child.wait()?)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(20), bytes: 100 };

    #[test]
    fn a_program_has_no_environment_and_its_complaint_is_kept() {
        let out = run("/usr/bin/env", &[], b"", BOUNDS).unwrap();
        assert_eq!(out, b"", "{}", String::from_utf8_lossy(&out));
        let error = run("/bin/sh", &["-c", "echo no such table >&2; exit 3"], b"", BOUNDS).unwrap_err();
        assert!(matches!(&error, ProgramError::Failed { said, .. } if said == "no such table"), "{error}");
        assert_eq!(error.code(), Some(3));
        assert_eq!(run("/bin/sh", &["-c", "kill -9 $$"], b"", BOUNDS).unwrap_err().code(), None);
        assert!(matches!(run("/bin/cat", &[], &[7; 200], BOUNDS), Err(ProgramError::TooLong { .. })));
        let much = Bounds { bytes: 100_000, ..BOUNDS };
        assert_eq!(run("/bin/cat", &[], &[7; 100_000], much).unwrap().len(), 100_000);
        assert!(matches!(run("/no/such/program", &[], b"", BOUNDS), Err(ProgramError::Start { .. })));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let begun = Instant::now();
        let short = Bounds { time: Duration::from_millis(200), ..BOUNDS };
        let error = run("/bin/sleep", &["60"], b"", short).unwrap_err();
        assert!(matches!(error, ProgramError::Endless { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
