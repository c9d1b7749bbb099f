//! Starts a program by its place, with nothing of this one's surroundings, for a while, and reads what it prints.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Whoever lists rules, units or lines of a journal has done so by then.
const TIME_MAX: Duration = Duration::from_secs(30);
/// What it complains of is for people.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// What it prints; of what is longer a byte more than `limit`.
///
/// # Errors
/// A sentence.
pub fn run(program: &str, words: &[&str], limit: u64) -> Result<Vec<u8>, String> {
    run_within(program, words, limit, TIME_MAX)
}

fn run_within(program: &str, words: &[&str], limit: u64, time: Duration) -> Result<Vec<u8>, String> {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let could_not = |error: io::Error| format!("cannot run {program}: {error}");
    let mut command = Command::new(program);
    command.args(words).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(could_not)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, complaint, ended) = thread::scope(|scope| {
        // Each pipe by a thread of its own: none waits for another.
        let output = scope.spawn(move || up_to(stdout, limit));
        let complaint = scope.spawn(move || up_to(stderr, COMPLAINT_BYTES_MAX));
        let ended = wait(&mut child, time);
        (output.join().unwrap_or_default(), complaint.join().unwrap_or_default(), ended)
    });
    match ended.map_err(could_not)? {
        None => Err(format!("{name} did not end within {} s", time.as_secs())),
        Some(true) => Ok(output),
        Some(false) => {
            let complaint = String::from_utf8_lossy(&complaint).lines().take(4).collect::<Vec<_>>().join("; ");
            Err(format!("{name} failed: {complaint}"))
        }
    }
}

/// Everything, but no more than one byte above the limit is kept.
fn up_to(pipe: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(limit + 1).read_to_end(&mut bytes);
        // What is not read would stop it.
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    bytes
}

/// Did it end well? None: it did not end, and was killed.
fn wait(child: &mut Child, time: Duration) -> io::Result<Option<bool>> {
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
    fn what_it_prints_is_read_and_nothing_is_given_to_it() {
        assert_eq!(run("/usr/bin/env", &[], 100).unwrap(), b"");
        assert_eq!(run("/usr/bin/pwd", &[], 100).unwrap(), b"/\n");
        assert_eq!(run("/usr/bin/echo", &["12345"], 3).unwrap().len(), 4);
        assert!(run("/usr/bin/false", &[], 1).unwrap_err().contains("false failed"));
        assert!(run("/nonexistent", &[], 1).unwrap_err().contains("cannot run"));
        let begun = Instant::now();
        let error = run_within("/usr/bin/sleep", &["100"], 1, Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("did not end within 1 s") && begun.elapsed() < Duration::from_secs(50), "{error}");
    }
}
