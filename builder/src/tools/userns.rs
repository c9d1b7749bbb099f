//! A user namespace in which an ordinary user is root over a range of numbers that /etc/subuid and /etc/subgid lend: enough to
//! make a tree of files with many owners, and nothing else.

use super::command;
use crate::error::{At, Error};
use std::fs;
use std::process::{Command, ExitStatus, Stdio};

/// The highest number that an image's file may have, and still be made there: a whole range of 65536.
const NUMBERS: u64 = 65536;

/// Runs this program again, with the same arguments, as root of such a namespace. Unlike others it keeps its surroundings: it is
/// this program, of the same person.
///
/// # Errors
/// [`Error::NoNumbers`] without a range; [`Error::NoNamespace`] where none can be made; [`Error::ToolMissing`]; I/O.
pub fn run_again() -> Result<ExitStatus, Error> {
    let uid = rustix::process::geteuid().as_raw();
    let lent =
        |file: &str, name: &str| is_lent(&fs::read_to_string(file).unwrap_or_default(), [name, &uid.to_string()]);
    let name = name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid).unwrap_or_default();
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !lent(file, &name) {
            let user = if name.is_empty() { uid.to_string() } else { name };
            return Err(Error::NoNumbers { user, file });
        }
    }
    command("newuidmap", "uidmap")?;
    let (unshare, setpriv) = (command("unshare", "util-linux")?, command("setpriv", "util-linux")?);
    let own = std::env::current_exe().at("find", "this program")?;
    let inside = || {
        let mut c = Command::new(unshare.get_program());
        c.args(MAPPED);
        // Its mapping is made by programs of /usr/bin, wherever the caller's PATH leads.
        c.env("PATH", super::PATH);
        c
    };
    // What it says of itself is no answer of this program.
    let probed = inside().arg("true").stdin(Stdio::null()).output().at("run", "unshare")?;
    if !probed.status.success() {
        return Err(Error::NoNamespace { reason: super::tail(&probed.stderr) });
    }
    // It dies with this one. Asked for inside: who becomes root of a namespace forgets what was asked before.
    let mut again = inside();
    again.arg(setpriv.get_program()).args(["--pdeathsig", "KILL", "--"]).arg(own).args(std::env::args_os().skip(1));
    again.status().at("run", "unshare")
}

/// Root over the whole range.
const MAPPED: [&str; 3] = ["--map-root-user", "--map-auto", "--"];

/// Does `NAME:FIRST:COUNT` lend enough to one of these? The first line that names him decides: unshare takes no other.
fn is_lent(text: &str, names: [&str; 2]) -> bool {
    let of_his = |line: &str| {
        Some(line.split_once(':')?)
            .filter(|(name, _)| !name.is_empty() && names.contains(name))
            .map(|it| it.1.to_owned())
    };
    let count = text.lines().find_map(of_his).and_then(|rest| rest.split_once(':')?.1.trim().parse::<u64>().ok());
    count.is_some_and(|count| count >= NUMBERS)
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_lent_by_name_or_number_and_large_enough() {
        for (line, lent) in [
            ("ada:100000:65536", true),
            ("1000:100000:65536", true),
            ("ada:100000:65535", false),
            ("adam:100000:65536", false),
            ("ada:100000", false),
            (":100000:65536", false),
            ("", false),
            ("adam:1:1\nada:100000:65536", true),
            ("ada:100000:1\nada:200000:65536", false),
            ("1000:100000:1\nada:200000:65536", false),
        ] {
            assert_eq!(is_lent(line, ["ada", "1000"]), lent, "{line}");
        }
        assert!(!is_lent(":100000:65536", ["", "1000"]));
        let passwd = "root:x:0:0::/:/bin/sh\nada:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(passwd, 100), None);
    }
}
