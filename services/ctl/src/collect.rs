//! `secaictl collect`: what this device says about itself, as a folder (`verifier/spec/evidence.md`).
//!
//! Nothing is judged here, and nothing left out in silence: what could not be gathered is in the list with its reason.

mod chain;

use crate::failure::Failure;
use crate::files::beside;
use crate::output::{Output, plain};
use crate::profile::{ProfilesError, Service};
use clap::Args;
use secai_api::audit::SOCKET as AUDIT;
use secai_api::profiles::{Evidence as Told, SOCKET as PROFILES};
use secai_daemon::program::{Bounds, run};
use secai_daemon::report::{Priority, say};
use secai_verifier::evidence::kernel::{Deployment, arguments};
use secai_verifier::evidence::settings::{FILE_BYTES_MAX, Settings, wanted};
use secai_verifier::evidence::units::PROPERTIES;
use secai_verifier::evidence::{FORMAT, INDEX, Index, Item, REASON_CHARS_MAX};
use secai_verifier::release::Artifact;
use secai_verifier::time::Time;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// For the profiles service to list rules, in the middle of a change too.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Whoever lists rules, units or lines of a journal has done so by then.
const LISTED_WITHIN: Duration = Duration::from_secs(30);
/// The image's settings of the kernel: their names are what is read.
const SYSCTL: &str = "/usr/lib/sysctl.d/60-secure-ai.conf";
/// Programs, by their place in the image: nothing is looked for along PATH.
const NFT: &str = "/usr/sbin/nft";
const IP: &str = "/usr/bin/ip";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const JOURNALCTL: &str = "/usr/bin/journalctl";
/// Where a TPM would be asked.
const TPM: &str = "/dev/tpmrm0";

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// The folder to make: an empty one, or one that does not exist yet
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Where the profiles service listens
    #[arg(long, value_name = "PATH", default_value = PROFILES)]
    profiles: PathBuf,
    /// Where the audit daemon listens
    #[arg(long, value_name = "PATH", default_value = AUDIT)]
    audit: PathBuf,
}

/// The bytes of something, or why there are none.
type Gathered = Result<Vec<u8>, String>;

impl Arguments {
    /// Does it.
    pub fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        // Without what a shell puts at the end of a folder's name.
        let to: PathBuf = self.output.components().collect();
        match fs::read_dir(&to).map(|mut names| names.next().is_some()) {
            Ok(true) => return Err(Failure::write(&to)(io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::write(&to)(error)),
            Ok(false) | Err(_) => {}
        }
        let part = Part(beside(&to));
        DirBuilder::new().mode(0o700).create(&part.0).map_err(Failure::write(&part.0))?;
        let index = self.gather(&part.0)?;
        write(&part.0.join(INDEX), &index.render().map_err(|_| Failure::Garbled)?)?;
        fs::rename(&part.0, &to).map_err(Failure::write(&to))?;
        for (name, why) in &index.missing {
            say(Priority::Warning, &format!("{name} is missing: {}", plain(why)));
        }
        let there = Item::ALL.len() - index.missing.len();
        output.line(
            || format!("{}: {there} of {} gathered", plain(&to.display().to_string()), Item::ALL.len()),
            || json!({"evidence": to.display().to_string(), "gathered": there, "of": Item::ALL.len(), "missing": index.missing}),
        )?;
        Ok(ExitCode::SUCCESS)
    }

    fn gather(&self, to: &Path) -> Result<Index, Failure> {
        let collected = Time::now().map_err(|_| {
            let hint = "set the clock; evidence without a date is worth nothing";
            Failure::Usage("this machine's clock shows no usable time".to_owned(), hint)
        })?;
        let uid = rustix::process::geteuid().as_raw();
        let (mut files, mut missing) = (BTreeMap::new(), BTreeMap::new());
        let mut told = self.told();
        for item in Item::ALL {
            let gathered = match item {
                Item::Chain => {
                    let reason = chain::copy(&self.audit, &to.join(item.name())).err();
                    missing.extend(reason.map(|why| (item.name().to_owned(), line(&why))));
                    continue;
                }
                item => gathered(*item, uid == 0, &mut told),
            };
            let limit = item.limit();
            let gathered = gathered.and_then(|bytes| match bytes.len() as u64 > limit {
                true => Err(format!("it has more than {limit} bytes")),
                false => Ok(bytes),
            });
            match gathered {
                Ok(bytes) => {
                    write(&to.join(item.name()), &bytes)?;
                    files.insert(item.name().to_owned(), Artifact::of(&bytes));
                }
                Err(why) => drop(missing.insert(item.name().to_owned(), line(&why))),
            }
        }
        Ok(Index { collected, files, format: FORMAT, missing, uid })
    }

    /// What the profiles service says, once: rules and links of one moment.
    fn told(&self) -> Result<Told, String> {
        let ask = || -> Result<Told, ProfilesError> { Service::reach(&self.profiles)?.evidence(ANSWERED_WITHIN) };
        ask().map_err(|error| why(&error))
    }
}

fn gathered(item: Item, is_root: bool, told: &mut Result<Told, String>) -> Gathered {
    // Root looks itself; a person is told by the service, which nobody else has to be believed for.
    let on_its_word =
        |of: fn(&Told) -> &String| told.as_ref().map(|told| of(told).clone().into_bytes()).map_err(Clone::clone);
    match item {
        Item::BootId => file("/proc/sys/kernel/random/boot_id", item),
        Item::CommandLine => file("/proc/cmdline", item),
        Item::Deployment => deployment(),
        Item::DnsJournal => {
            let lines = printed(JOURNALCTL, &["-u", "secure-ai-dns-leak-check", "--no-pager", "-n", "5"], item)?;
            // What a person may not read is left out without an error.
            match is_root || is_in_the_journals_group() {
                true => Ok(lines),
                false => Err("the journal shows a person his own lines alone: ask as root".to_owned()),
            }
        }
        Item::Links if is_root => printed(IP, &["-j", "link"], item),
        Item::Links => on_its_word(|told| &told.links),
        Item::Lockdown => file("/sys/kernel/security/lockdown", item),
        Item::Manager => printed(SYSTEMCTL, &["show", "--no-pager", "--property=DefaultLimitCORE"], item),
        Item::Modules => file("/proc/modules", item),
        Item::Mounts => file("/proc/self/mountinfo", item),
        Item::Packets => file("/proc/net/packet", item),
        Item::Profile => on_its_word(|told| &told.profile).map(|name| [name.as_slice(), b"\n"].concat()),
        Item::Raw => file("/proc/net/raw", item),
        Item::Raw6 => file("/proc/net/raw6", item),
        Item::Ruleset if is_root => printed(NFT, &["list", "ruleset"], item),
        Item::Ruleset => on_its_word(|told| &told.ruleset),
        Item::Settings => settings(),
        Item::Swaps => file("/proc/swaps", item),
        Item::Tcp => file("/proc/net/tcp", item),
        Item::Tcp6 => file("/proc/net/tcp6", item),
        Item::Tpm => Err(match Path::new(TPM).exists() {
            true => "there is a TPM, and only `secai-audit anchor` reads what it remembers".to_owned(),
            false => format!("there is no {TPM}"),
        }),
        Item::Udp => file("/proc/net/udp", item),
        Item::Udp6 => file("/proc/net/udp6", item),
        Item::Units => {
            let properties = format!("--property={}", PROPERTIES.join(","));
            printed(SYSTEMCTL, &["show", "--no-pager", &properties, "--", "*"], item)
        }
        Item::Chain => Err("it is a folder".to_owned()),
    }
}

/// What a program of the image prints.
fn printed(program: &'static str, words: &[&str], item: Item) -> Gathered {
    let bytes = usize::try_from(item.limit()).unwrap_or(usize::MAX);
    run(program, words, b"", Bounds { time: LISTED_WITHIN, bytes }).map_err(|error| why(&error))
}

/// May this user read everybody's lines?
fn is_in_the_journals_group() -> bool {
    let readable = |path: &str| fs::read_dir(path).is_ok_and(|mut names| names.next().is_some());
    // The folder of the machine's journal has the group's rights, and others none.
    ["/var/log/journal", "/run/log/journal"].iter().any(|folder| {
        let below = fs::read_dir(folder).ok().and_then(|mut names| names.next()?.ok());
        below.is_some_and(|below| {
            readable(&below.path().display().to_string()) && File::open(below.path().join("system.journal")).is_ok()
        })
    })
}

/// A file of the kernel's, which says no length before it is read.
fn file(path: &str, item: Item) -> Gathered {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(item.limit() + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| format!("{path}: {error}"))
}

/// Where `ostree=` leads, and what its origin says.
fn deployment() -> Gathered {
    let line = fs::read_to_string("/proc/cmdline").map_err(|error| format!("/proc/cmdline: {error}"))?;
    let arguments = arguments(&line);
    let path =
        arguments.iter().find_map(|it| it.strip_prefix("ostree=")).ok_or("the kernel's line has no `ostree=`")?;
    let path = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    let name = path.file_name().and_then(|it| it.to_str()).and_then(|it| it.rsplit_once('.')).map(|it| it.0);
    let commit = name.and_then(|it| it.parse().ok());
    let commit = commit.ok_or_else(|| format!("{} is no deployment", path.display()))?;
    let mut origin = path.into_os_string();
    origin.push(".origin");
    let origin = fs::read_to_string(&origin).unwrap_or_default().lines().map(str::to_owned).collect();
    serde_json::to_vec(&Deployment { commit, origin }).map_err(|error| error.to_string())
}

/// What the kernel has for each setting of the image.
fn settings() -> Gathered {
    let mut text = String::new();
    let read = File::open(SYSCTL).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| format!("{SYSCTL}: {error}"))?;
    let mut settings = Settings::default();
    for one in wanted(&text).map_err(|why| format!("{SYSCTL}: {why}"))? {
        match fs::read_to_string(format!("/proc/sys/{}", one.name.replace('.', "/"))) {
            Ok(value) => drop(settings.values.insert(one.name, value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => drop(settings.absent.insert(one.name)),
            Err(error) => drop(settings.unreadable.insert(one.name, error.to_string())),
        }
    }
    serde_json::to_vec(&settings).map_err(|error| error.to_string())
}

/// An error and what caused it, in a line.
fn why(error: &dyn std::error::Error) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why.push_str(&format!(": {error}"));
        cause = error.source();
    }
    why
}

/// A reason: one line, not too long, never empty.
fn line(why: &str) -> String {
    let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = words.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    if line.is_empty() { "nobody said why".to_owned() } else { line }
}

/// A file that nobody else reads.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut new = OpenOptions::new();
    let opened = new.write(true).create_new(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(bytes)).map_err(Failure::write(path))
}

/// A folder that is removed unless it was renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_line() {
        assert_eq!(line(" a\nb\t\x1b[31mc "), "a b [31mc");
        assert_eq!(line(" \n"), "nobody said why");
        assert_eq!(line(&"ä".repeat(500)).chars().count(), REASON_CHARS_MAX);
    }
}
