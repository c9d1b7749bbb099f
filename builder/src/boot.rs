//! Starting a bundle in QEMU: its layers are imported into a fresh OSTree repository, deployed as on a device,
//! and booted. Nothing but the bundle is read.

mod deploy;
mod import;

use crate::cache::Cache;
use crate::error::{At, Error};
use crate::tools::mkfs;
pub use crate::tools::qemu::Card;
use crate::tools::qemu::{Accelerator, Guest, Watched};
use regex::Regex;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Room on the guest's disk beside what is deployed.
const DISK_SPARE_BYTES: u64 = 2 << 30;
/// MiB of memory for the guest.
const MEMORY: u32 = 2048;

/// How to boot.
#[derive(Debug)]
pub struct BootOptions {
    /// What the serial console must show; `None`: until the guest ends by itself.
    pub expect: Option<Regex>,
    /// Is the serial console our own standard input and output?
    pub console: bool,
    /// A network card.
    pub network: Option<Card>,
    /// For how long it may take.
    pub timeout: Duration,
    /// Further kernel arguments, for this boot only.
    pub append: Vec<String>,
    /// Where the serial log is kept.
    pub log: PathBuf,
}

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Booted {
    /// Checksum of the commit that was deployed.
    pub commit: String,
    /// Seconds from starting QEMU until the expression was seen.
    pub seconds: f64,
    /// `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// The serial log.
    pub log: PathBuf,
}

/// Imports, deploys, boots and watches.
///
/// # Errors
/// [`Error::NotSeen`] when the guest shows something else; [`Error::NeedsRoot`]; [`Error::Unusable`] for a bundle that
/// cannot be read; [`Error::Ostree`] when libostree refuses an object.
pub fn boot(bundle: &Path, options: &BootOptions, cache: &Cache, say: &dyn Fn(&str)) -> Result<Booted, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot { what: "deploying files with their real owners" });
    }
    // libostree makes folders of the guest's system by the umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let accelerator = Accelerator::of_this_machine(cache)?;
    let scratch = cache.scratch()?;
    let sysroot = scratch.path().join("sysroot");
    say("importing the layers");
    let deployed = deploy::deploy(bundle, &sysroot, &options.append, say)?;
    say("making the disk");
    let disk = scratch.path().join("disk.ext4");
    mkfs::ext4(&disk, deployed.bytes + DISK_SPARE_BYTES, &sysroot)?;
    say("booting");
    fs::write(&options.log, "").at("create", &options.log)?;
    let guest = Guest {
        kernel: &deployed.kernel,
        initramfs: &deployed.initramfs,
        arguments: &deployed.arguments,
        disk: &disk,
        memory: MEMORY,
        log: &options.log,
        console: options.console,
        network: options.network.as_ref(),
    };
    let start = Instant::now();
    let seen = |text: &str| options.expect.as_ref().is_some_and(|expect| expect.is_match(text));
    let watched = guest.watch(accelerator, options.timeout, &seen, &|line| say(line.trim()))?;
    let booted = |seconds| Booted {
        commit: deployed.commit.clone(),
        seconds,
        accelerator: if accelerator == Accelerator::Kvm { "kvm" } else { "tcg" },
        log: options.log.clone(),
    };
    let ended = match watched {
        Watched::Seen(seconds) => return Ok(booted(seconds)),
        Watched::PoweredOff if options.expect.is_none() => return Ok(booted(start.elapsed().as_secs_f64())),
        Watched::PoweredOff => "it powered off",
        Watched::Panicked => "its kernel panicked",
        Watched::TimedOut => "time ran out",
    };
    let expected = options.expect.as_ref().map_or_else(|| "its end".to_owned(), Regex::to_string);
    Err(Error::NotSeen {
        expected,
        seconds: options.timeout.as_secs(),
        ended: ended.to_owned(),
        log: options.log.clone(),
    })
}
