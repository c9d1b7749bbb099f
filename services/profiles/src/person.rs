//! Who asks, on the word of the kernel and of logind.

use crate::decide::{Process, Session, Terminal, in_front, person};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, makedev, minor};
use rustix::termios::isatty;
use secai_daemon::peer::Peer;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

const LOGIND: &str = "org.freedesktop.login1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SESSION: &str = "org.freedesktop.login1.Session";
/// logind answers at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// The name of his terminal, where whoever asks is a person at this device's own.
///
/// # Errors
/// Why he is not, in words.
pub fn at_the_device(peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
    seen(peer, terminal, |pid, process, terminal| {
        let session =
            zbus::block_on(session(pid)).map_err(|error| format!("logind knows no session of it: {error}"))?;
        // 0 is no terminal, and none that anybody sits at.
        let named = number_of(&session.terminal).unwrap_or(0);
        Ok(person(peer.uid, process, &session, terminal, named)?)
    })
}

/// The same by the kernel alone: whose session it is nobody says. Enough for a change that opens nothing, which must not
/// depend on logind and a bus.
///
/// # Errors
/// Why nobody sits there, in words.
pub fn at_a_terminal(peer: &Peer, terminal: Option<&OwnedFd>) -> Result<String, String> {
    seen(peer, terminal, |_, process, terminal| {
        let name = name_of(terminal.number).unwrap_or_default();
        in_front(process, terminal, &name, terminal.number)?;
        Ok(name)
    })
}

/// Looks at the process that asks, and at the descriptor beside its request.
fn seen(
    peer: &Peer,
    terminal: Option<&OwnedFd>,
    judge: impl FnOnce(u32, &Process, Terminal) -> Result<String, String>,
) -> Result<String, String> {
    let terminal = terminal.ok_or("no terminal came beside the request")?;
    let pidfd = peer.pidfd.as_ref().ok_or("the process that asks has ended")?;
    let pid = pid_of(pidfd).ok_or("the process that asks has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| "the process that asks has ended")?;
    let process = Process::parse(&stat).ok_or("the kernel says nothing of the process that asks")?;
    let judged = judge(pid, &process, described(terminal));
    // The number may have become another process's meanwhile: not while this one lives.
    if has_ended(pidfd) {
        return Err("the process that asks has ended".to_owned());
    }
    judged
}

fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)), Ok(0))
}

/// The number of a terminal of the device by its name, as `/proc/PID/stat` has it. From the kernel's own list: in this
/// service's `/dev` there are none.
fn number_of(name: &str) -> Option<u64> {
    if name.is_empty() || name.contains(['/', '.']) {
        return None;
    }
    let text = std::fs::read_to_string(format!("/sys/class/tty/{name}/dev")).ok()?;
    let (major, minor) = text.trim_end().split_once(':')?;
    Some(number(makedev(major.parse().ok()?, minor.parse().ok()?)))
}

/// The name of the terminal of this number, if the kernel knows it under the same.
fn name_of(number: u64) -> Option<String> {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    let device = std::fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let name = device.file_name()?.to_str()?.to_owned();
    (number_of(&name) == Some(number)).then_some(name)
}

/// As the kernel packs it: the low byte of the minor number, the major number, the rest of the minor number.
fn number(device: u64) -> u64 {
    let (major, minor) = (u64::from(major(device)), u64::from(minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn described(terminal: &OwnedFd) -> Terminal {
    let stat = fstat(terminal).ok().filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice);
    let both = fcntl_getfl(terminal).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    Terminal { number: stat.map_or(0, |stat| number(stat.st_rdev)), usable: both && isatty(terminal) }
}

async fn session(pid: u32) -> zbus::Result<Session> {
    let bus = zbus::connection::Builder::system().method_timeout(ANSWER_TIME_MAX).build().await?;
    let manager = ("/org/freedesktop/login1", Some("org.freedesktop.login1.Manager"));
    let reply = bus.call_method(Some(LOGIND), manager.0, manager.1, "GetSessionByPID", &pid).await?;
    let path: OwnedObjectPath = reply.body().deserialize()?;
    let text =
        async |name: &str| -> zbus::Result<String> { get(&bus, path.as_str(), name).await?.downcast_ref::<String>() };
    let is = async |name: &str| -> zbus::Result<bool> { get(&bus, path.as_str(), name).await?.downcast_ref() };
    let user: (u32, OwnedObjectPath) = get(&bus, path.as_str(), "User").await?.try_into()?;
    Ok(Session {
        uid: user.0,
        remote: is("Remote").await?,
        active: is("Active").await?,
        kind: text("Type").await?,
        class: text("Class").await?,
        terminal: text("TTY").await?,
    })
}

async fn get(bus: &Connection, path: &str, name: &str) -> zbus::Result<OwnedVariant> {
    bus.call_method(Some(LOGIND), path, Some(PROPERTIES), "Get", &(SESSION, name)).await?.body().deserialize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::tests::pty;
    use secai_daemon::packet::Connection;

    #[test]
    fn a_terminal_is_known_by_its_number() {
        let (keyboard, terminal) = pty();
        let stat = fstat(&terminal).unwrap();
        let name = rustix::pty::ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        assert_eq!(described(&terminal), Terminal { number: number(stat.st_rdev), usable: true });
        assert_ne!(described(&keyboard).number, described(&terminal).number, "the other end is another device");
        let flags = OFlags::RDONLY | OFlags::NOCTTY;
        let reads = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(described(&reads), Terminal { usable: false, ..described(&terminal) }, "to read only");
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
        assert_eq!(described(&null), Terminal { number: 0x103, usable: false }, "no terminal");
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(described(&file), Terminal { number: 0, usable: false });
        // As the kernel packs it.
        for (major, minor, expected) in [(4, 1, 0x401), (136, 5, 0x8805), (5, 300, 0x10_052c)] {
            assert_eq!(number(rustix::fs::makedev(major, minor)), expected);
        }
        assert_eq!(number_of("tty"), Some(0x500), "as the kernel names it");
        assert_eq!(name_of(0x500).as_deref(), Some("tty"));
        for other in [0, 0x103, number(stat.st_rdev)] {
            assert_eq!(name_of(other), None, "no terminal of the device: {other:#x}");
        }
        let slash = name.strip_prefix("/dev/").unwrap();
        for bad in ["", slash, "..", "../tty", "null", "no-such-terminal"] {
            assert_eq!(number_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_process_is_whom_the_kernel_names_and_without_logind_nobody_is_a_person() {
        let (one, _other) = Connection::pair().unwrap();
        let mut peer = Peer::of(&one).unwrap();
        let pidfd = peer.pidfd.as_ref().unwrap();
        assert_eq!((pid_of(pidfd), has_ended(pidfd)), (Some(std::process::id()), false));
        let (_keyboard, terminal) = pty();
        let why = at_the_device(&peer, Some(&terminal)).unwrap_err();
        assert!(why.contains("logind") || why.contains("session"), "{why}");
        assert_eq!(at_the_device(&peer, None).unwrap_err(), "no terminal came beside the request");
        assert_eq!(at_a_terminal(&peer, None).unwrap_err(), "no terminal came beside the request");
        // The kernel alone knows that this is none of the device's own.
        assert!(at_a_terminal(&peer, Some(&terminal)).unwrap_err().contains("not one of the device's own"));
        // One that has ended is none, whoever has its number now.
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
        assert_eq!(pid_of(&pidfd), None);
        peer.pidfd = Some(pidfd);
        for judged in [at_the_device, at_a_terminal] {
            assert_eq!(judged(&peer, Some(&terminal)).unwrap_err(), "the process that asks has ended");
        }
        peer.pidfd = None;
        for judged in [at_the_device, at_a_terminal] {
            assert_eq!(judged(&peer, Some(&terminal)).unwrap_err(), "the process that asks has ended");
        }
    }
}
