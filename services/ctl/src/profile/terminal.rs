//! The controlling terminal, opened under its own name.
//!
//! `/dev/tty` would be a terminal too, but its descriptor has the number of `/dev/tty` (5:0), whichever one it stands
//! for; the service compares the number with that of the session's terminal.

use rustix::fs::{Mode, OFlags, fstat, major, makedev, minor, open};
use rustix::termios::isatty;
use std::fs::read_to_string;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Major numbers of what `/dev/pts` holds, 256 each.
const PTS: std::ops::RangeInclusive<u32> = 136..=143;

/// The terminal that this process is at, for reading and writing; none where it has none, or may not open it.
pub fn own() -> Option<OwnedFd> {
    let device = device(&read_to_string("/proc/self/stat").ok()?)?;
    // Without O_NOCTTY a leader of a session would get it as its own.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let terminal = open(path(device)?, flags, Mode::empty()).ok()?;
    (fstat(&terminal).ok()?.st_rdev == device && isatty(&terminal)).then_some(terminal)
}

/// `tty_nr` of `/proc/PID/stat`, what follows the last bracket: state ppid pgrp session tty_nr.
fn device(stat: &str) -> Option<u64> {
    let packed: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(4)?.parse().ok()?;
    // As the kernel packs it: the low byte of the minor number, twelve bits of the major one, the rest of the minor.
    (packed != 0).then(|| makedev(packed >> 8 & 0xfff, packed & 0xff | packed >> 12 & 0xfff00))
}

fn path(device: u64) -> Option<PathBuf> {
    let (major, minor) = (major(device), minor(device));
    if PTS.contains(&major) {
        return Some(format!("/dev/pts/{}", (major - PTS.start()) * 256 + minor).into());
    }
    let about = read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent")).ok()?;
    let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(PathBuf::from("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_terminal_is_read_behind_any_name() {
        let stat = |name: &str, tty: u32| format!("7 ({name}) S 1 7 7 {tty} 7 0");
        assert_eq!(device(&stat("a) S 1 1 1 9", 0x0401)), Some(makedev(4, 1)));
        assert_eq!(device(&stat("x", 0x8803)), Some(makedev(136, 3)));
        assert_eq!(device(&stat("x", 0x10_8803)), Some(makedev(136, 0x103)));
        assert_eq!(device(&stat("x", 0)), None);
        assert_eq!(device("7 (x) S 1"), None);
        assert_eq!(path(makedev(137, 3)), Some("/dev/pts/259".into()));
    }

    #[test]
    fn a_descriptor_of_dev_tty_does_not_say_which_terminal_it_is() {
        // Why this file is needed at all.
        let tty = rustix::fs::stat("/dev/tty").unwrap();
        assert_eq!((major(tty.st_rdev), minor(tty.st_rdev)), (5, 0));
    }
}
