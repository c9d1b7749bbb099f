//! Kernel arguments: those of the image, those of the disk, and no others.

use super::refusal::DeviceRefusal;
use super::{Case, ENTRIES, Found, KARGS, no_root};
use crate::evidence::Item;
use crate::evidence::kernel::{arguments, name};

/// Those that a disk adds, the last ones. A panic starts the machine again, and so does a root that is not found within a
/// minute, which dracut would wait for without end: only what starts again is counted.
pub const OF_A_DISK: [&str; 5] = ["rw", "panic=10", "rd.timeout=60", "rd.shell=0", "rd.emergency=reboot"];
/// What a disk gives a value of its own: where its root is.
pub const ROOT: &str = "root";
/// What libostree gives a value of its own: which deployment.
pub const OSTREE: &str = "ostree";
/// What GRUB says of itself, on the running kernel's line alone.
const BOOT_IMAGE: &str = "BOOT_IMAGE";
/// Where the running kernel's line is, in refusals.
const RUNNING: &str = "the running kernel";

/// Compares the running kernel's line, and each boot entry's, with the image's.
pub fn judge(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("kernel arguments") };
    let mut found = Found { unseen: root.unseen_below(KARGS).collect(), ..Found::default() };
    let mut wanted = Vec::new();
    for (file, bytes) in root.below(KARGS).filter(|(file, _)| file.ends_with(".toml")) {
        match of_the_image(bytes) {
            Ok(list) => wanted.extend(list),
            Err(reason) => {
                let path = format!("{KARGS}/{file}");
                found.refusals.push(DeviceRefusal::PolicyMalformed { path, reason });
            }
        }
    }
    wanted.extend(OF_A_DISK.map(str::to_owned));
    let mut booted = None;
    let running = case.evidence.parsed(Item::CommandLine, |text| Ok::<_, String>(arguments(text)));
    found = found.and(Found::of(running, |mut line| {
        line.retain(|it| name(it) != BOOT_IMAGE);
        booted = deployment(&line).map(str::to_owned);
        compare(RUNNING, &line, &wanted)
    }));
    for (file, bytes) in root.below(&format!("/boot/{ENTRIES}")) {
        let place = format!("the boot entry {file}");
        match of_an_entry(bytes) {
            // What other deployments are started with, their own images say.
            Ok(line) if booted.is_some() && deployment(&line) != booted.as_deref() => {
                found.listed.push(format!("{place} is of another deployment: {}", line.join(" ")));
            }
            Ok(line) => found = found.and(compare(&place, &line, &wanted)),
            Err(reason) => {
                let path = format!("/boot/{ENTRIES}/{file}");
                found.refusals.push(DeviceRefusal::PolicyMalformed { path, reason });
            }
        }
    }
    found.unseen.extend(root.unseen_below(&format!("/boot/{ENTRIES}")));
    found
}

/// The arguments of a file of kargs.d in the one form that our images have: `kargs = ["…", "…"]`, a line.
fn of_the_image(bytes: &[u8]) -> Result<Vec<String>, String> {
    let no = || "it is not one line `kargs = [\"…\", …]`".to_owned();
    let text = std::str::from_utf8(bytes).map_err(|_| no())?;
    let list = text.strip_prefix("kargs = ").and_then(|rest| rest.strip_suffix('\n')).ok_or_else(no)?;
    // What the recipe admits is spelt the same in JSON and in TOML: neither quotes nor backslashes.
    let list: Vec<String> = serde_json::from_str(list).map_err(|_| no())?;
    let is_one =
        |it: &String| !it.is_empty() && !it.chars().any(|c| c.is_whitespace() || c.is_control() || "\"\\".contains(c));
    if list.iter().all(is_one) { Ok(list) } else { Err(no()) }
}

/// The arguments of a boot entry.
fn of_an_entry(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut options = text.lines().filter_map(|line| line.strip_prefix("options"));
    match (options.next(), options.next()) {
        (Some(line), None) if line.starts_with([' ', '\t']) => Ok(arguments(line)),
        _ => Err("it has not one line of options".to_owned()),
    }
}

/// `ostree=/ostree/boot.1/secai/SUM/0`: what follows the first part, which changes when deployments come and go.
fn deployment(line: &[String]) -> Option<&str> {
    let value = line.iter().find_map(|it| it.strip_prefix("ostree=/ostree/boot."))?;
    Some(value.split_once('/')?.1)
}

/// Each wanted one once, one root and one deployment, nothing else.
fn compare(place: &str, line: &[String], wanted: &[String]) -> Found {
    let mut found = Found::default();
    let mut left: Vec<&str> = wanted.iter().map(String::as_str).collect();
    // What a disk and libostree each give a value of their own.
    let mut own = vec![(ROOT, "PARTUUID="), (OSTREE, "/ostree/boot.")];
    for argument in line {
        let value = argument.split_once('=').map_or("", |(_, value)| value);
        if let Some(at) = left.iter().position(|it| it == argument) {
            left.remove(at);
        } else if let Some(at) =
            own.iter().position(|(key, begins)| *key == name(argument) && value.starts_with(begins))
        {
            own.remove(at);
        } else {
            let (place, argument) = (place.to_owned(), argument.clone());
            found.refusals.push(DeviceRefusal::KernelArgumentForeign { place, argument });
        }
    }
    let gone = left.into_iter().map(str::to_owned).chain(own.into_iter().map(|(key, _)| format!("{key}=")));
    let refusal = |argument| DeviceRefusal::KernelArgumentGone { place: place.to_owned(), argument };
    found.refusals.extend(gone.map(refusal));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "quiet console=tty0 console=ttyS0 root=PARTUUID=0-1 rw panic=10 rd.timeout=60 rd.shell=0 \
        rd.emergency=reboot ostree=/ostree/boot.1/secai/0f/0";

    fn told(line: &str) -> Vec<String> {
        let wanted: Vec<String> =
            ["quiet", "console=tty0", "console=ttyS0"].into_iter().chain(OF_A_DISK).map(str::to_owned).collect();
        compare("x", &arguments(line), &wanted).refusals.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_argument_is_there_once_and_no_other() {
        assert_eq!(told(LINE), [""; 0]);
        for (from, to, said) in [
            ("quiet", "quiet init=/bin/sh", "has the argument `init=/bin/sh`"),
            ("quiet ", "", "lacks the argument `quiet`"),
            ("rw ", "ro ", "has the argument `ro`"),
            ("console=tty0", "console=tty0 console=tty0", "has the argument `console=tty0`"),
            ("root=PARTUUID=0-1", "root=PARTUUID=0-1 root=PARTUUID=0-2", "has the argument `root=PARTUUID=0-2`"),
            ("root=PARTUUID=0-1", "root=/dev/sda", "has the argument `root=/dev/sda`"),
            ("root=PARTUUID=0-1 ", "", "lacks the argument `root=`"),
            (" ostree=/ostree/boot.1/secai/0f/0", "", "lacks the argument `ostree=`"),
            ("rw ", "rw -- ", "has the argument `--`"),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert_ne!(line, LINE);
            let told = told(&line);
            assert!(told.iter().any(|it| it.contains(said)), "{said}: {told:?}");
        }
    }

    #[test]
    fn what_images_and_entries_have_is_read_in_one_form() {
        assert_eq!(of_the_image(b"kargs = [\"quiet\", \"a=b\"]\n").unwrap(), ["quiet", "a=b"]);
        assert_eq!(of_the_image(b"kargs = []\n").unwrap(), [""; 0]);
        for bad in [
            "kargs = [\"a b\"]\n",
            "kargs = [\"a\"]\nkargs = []\n",
            "kargs = ['a']\n",
            "kargs = [\"\"]\n",
            "",
            "kargs = 1\n",
        ] {
            assert!(of_the_image(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(of_an_entry(b"title a\noptions a b=c\nlinux /x\n").unwrap(), ["a", "b=c"]);
        for bad in ["title a\n", "options a\noptions b\n", "optionsa\n"] {
            assert!(of_an_entry(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
