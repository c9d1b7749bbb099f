//! QEMU: which accelerator works here, and a guest whose serial console is watched.

use super::{checked, mortal};
use crate::cache::Cache;
use crate::error::{At, Error};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// A /dev/kvm may exist and still not run a guest; one that works answers in a fraction of this.
const PROBE_SECONDS: u64 = 5;
/// A boot sector: `mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp $-1`.
const PROBE_CODE: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];
/// What isa-debug-exit makes of the 0x10 that the probe writes: `(0x10 << 1) | 1`.
const PROBE_EXIT: i32 = 33;

/// The kernel's last words.
const PANIC: &str = "Kernel panic - not syncing";

/// How a guest's instructions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The kernel's.
    Kvm,
    /// Translation in software.
    Tcg,
}

impl Accelerator {
    /// KVM where a tiny guest has been seen to run in it on a machine of this kind, else TCG. The answer is cached until the
    /// next boot of this machine.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] without QEMU; I/O.
    pub fn of_this_machine(cache: &Cache, mode: Smm) -> Result<Accelerator, Error> {
        let boot = crate::stage::boot_id();
        let kept = cache.folder("qemu")?.join(format!("accelerator-{}", mode.argument()));
        match fs::read_to_string(&kept).unwrap_or_default().split_once(' ') {
            Some((id, "kvm")) if id == boot => return Ok(Accelerator::Kvm),
            Some((id, "tcg")) if id == boot => return Ok(Accelerator::Tcg),
            _ => {}
        }
        let found =
            if Path::new("/dev/kvm").exists() && probe(cache, mode)? { Accelerator::Kvm } else { Accelerator::Tcg };
        let word = if found == Accelerator::Kvm { "kvm" } else { "tcg" };
        crate::stage::write_atomically(&kept, format!("{} {word}", boot).as_bytes())?;
        Ok(found)
    }

    fn argument(self) -> &'static [&'static str] {
        match self {
            Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// Has the guest's processor a system management mode? Firmware with Secure Boot keeps its variables where only code in that mode can
/// write. Not every KVM has it, and who gives a kernel directly has no use for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smm {
    /// Yes.
    On,
    /// No.
    Off,
}

impl Smm {
    fn argument(self) -> &'static str {
        match self {
            Smm::On => "smm=on",
            Smm::Off => "smm=off",
        }
    }
}

/// Does a guest of nine bytes run under KVM?
fn probe(cache: &Cache, mode: Smm) -> Result<bool, Error> {
    let mut sector = [0u8; 512];
    for (to, from) in sector.iter_mut().zip(PROBE_CODE) {
        *to = from;
    }
    if let Some(mark) = sector.get_mut(510..) {
        mark.copy_from_slice(&[0x55, 0xaa]);
    }
    let mut disk = tempfile::NamedTempFile::new_in(cache.root()).at("create", cache.root())?;
    disk.write_all(&sector).at("write", disk.path())?;
    let mut c = mortal(PROGRAM, PACKAGE)?;
    // As the guest itself will run: a host may fail on its own processor's features alone.
    c.args(Accelerator::Kvm.argument());
    // q35 has no floppy disk.
    c.args(["-machine", &format!("pc,{}", mode.argument())]);
    c.args([
        "-smp",
        "2",
        "-m",
        "32",
        "-nodefaults",
        "-display",
        "none",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=4",
        "-boot",
        "a",
        "-drive",
    ])
    .arg(format!("file={},format=raw,if=floppy", disk.path().display()))
    .stdout(Stdio::null())
    .stderr(Stdio::null());
    let mut child = c.spawn().at("run", PROGRAM)?;
    let end = Instant::now() + Duration::from_secs(PROBE_SECONDS);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().at("run", PROGRAM)? {
            return Ok(status.code() == Some(PROBE_EXIT));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(false)
}

/// A network card, on a wire that goes nowhere: QEMU's own network would be a way out of this machine.
#[derive(Debug, Clone)]
pub struct Card {
    /// Where its frames are written (pcap).
    pub frames: PathBuf,
    /// The Unix datagram socket at the other end, a frame in each datagram: who listens there, and sends to the same name
    /// with `.guest` behind it, is the whole network.
    pub wire: Option<PathBuf>,
}

/// What a guest begins with.
#[derive(Debug)]
pub enum Start<'a> {
    /// A kernel, given directly.
    Kernel {
        /// The kernel.
        kernel: &'a Path,
        /// Its initramfs.
        initramfs: &'a Path,
        /// Its arguments.
        arguments: &'a str,
    },
    /// Firmware, which finds something on the disk.
    Firmware {
        /// Its code, which nobody writes to.
        code: &'a Path,
        /// Its variables, which it writes to: keys and boot entries.
        variables: &'a Path,
    },
}

impl Start<'_> {
    fn smm(&self) -> Smm {
        match self {
            Start::Kernel { .. } => Smm::Off,
            Start::Firmware { .. } => Smm::On,
        }
    }
}

/// A guest to be: one disk, no network device unless one is asked for.
#[derive(Debug)]
pub struct Guest<'a> {
    /// What it begins with.
    pub start: Start<'a>,
    /// Its disk.
    pub disk: &'a Path,
    /// In which form: `raw`, `qcow2`.
    pub format: &'a str,
    /// Does what it writes stay there?
    pub keep: bool,
    /// MiB of memory.
    pub memory: u32,
    /// Where its serial console is written.
    pub log: &'a Path,
    /// Is the console our standard input and output as well?
    pub console: bool,
    /// Its network card.
    pub network: Option<&'a Card>,
    /// Files with what its firmware tells it, a string each.
    pub told: &'a [PathBuf],
    /// The socket of its TPM.
    pub tpm: Option<&'a Path>,
}

/// How watching a guest ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// The expression was seen after this many seconds.
    Seen(f64),
    /// The guest powered off first.
    PoweredOff,
    /// Its kernel panicked first.
    Panicked,
    /// Time ran out.
    TimedOut,
}

impl Guest<'_> {
    /// Runs until `seen` says so of the log's text, the guest ends, or `limit` is over; then stops it.
    /// `progress` is told the last line now and then.
    ///
    /// # Errors
    /// [`Error::ToolMissing`], I/O.
    pub fn watch(
        &self,
        accelerator: Accelerator,
        limit: Duration,
        seen: &dyn Fn(&str) -> bool,
        progress: &dyn Fn(&str),
    ) -> Result<Watched, Error> {
        let mut c = mortal(PROGRAM, PACKAGE)?;
        c.args(accelerator.argument())
            .args([
                "-machine",
                &format!("q35,{}", self.start.smm().argument()),
                "-smp",
                "2",
                "-m",
                &self.memory.to_string(),
                "-nodefaults",
                "-display",
                "none",
            ])
            .args(self.serial())
            .args(self.card())
            .args(self.told.iter().flat_map(|file| ["-smbios".to_owned(), format!("type=11,path={}", escaped(file))]))
            .args(self.security())
            .arg("-drive")
            .arg(format!(
                "if=none,id=root,format={},cache=unsafe,snapshot={},file={}",
                self.format,
                if self.keep { "off" } else { "on" },
                escaped(self.disk)
            ))
            .args(["-device", "virtio-blk-pci,drive=root,bootindex=1", "-device", "virtio-rng-pci"])
            .args(self.beginning())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.console {
            c.stdin(Stdio::inherit()).stdout(Stdio::inherit());
            // Who is at a terminal in a group of his own may not read there.
            c.process_group(rustix::process::getpgrp().as_raw_pid());
        }
        let start = Instant::now();
        let mut child = c.spawn().at("run", PROGRAM)?;
        let result = loop {
            let text = String::from_utf8_lossy(&fs::read(self.log).unwrap_or_default()).into_owned();
            if seen(&text) {
                break Watched::Seen(start.elapsed().as_secs_f64());
            }
            // A kernel that panicked waits for ever to be looked at; one that was started by GRUB starts again.
            if text.contains(PANIC) && matches!(self.start, Start::Kernel { .. }) {
                break Watched::Panicked;
            }
            if child.try_wait().at("run", PROGRAM)?.is_some() {
                let output = child.wait_with_output().at("run", PROGRAM)?;
                checked(output, PROGRAM)?;
                // What it wrote last may have come between the look and the end.
                let text = String::from_utf8_lossy(&fs::read(self.log).unwrap_or_default()).into_owned();
                return Ok(if seen(&text) {
                    Watched::Seen(start.elapsed().as_secs_f64())
                } else {
                    Watched::PoweredOff
                });
            }
            if start.elapsed() > limit {
                break Watched::TimedOut;
            }
            progress(text.lines().last().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(250));
        };
        // Asked, it leaves the terminal as it was.
        let asked = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(asked, rustix::process::Signal::TERM);
        let end = Instant::now() + ASKED_TO_END;
        while Instant::now() < end && child.try_wait().at("run", PROGRAM)?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        Ok(result)
    }

    fn serial(&self) -> Vec<String> {
        if !self.console {
            return vec!["-serial".to_owned(), format!("file:{}", self.log.display())];
        }
        // Ctrl-C is the guest's; Ctrl-A is QEMU's own.
        let device = format!("stdio,id=console,mux=on,signal=off,logfile={}", escaped(self.log));
        let words = ["-chardev", &device, "-mon", "chardev=console,mode=readline", "-serial", "chardev:console"];
        words.map(str::to_owned).to_vec()
    }

    fn beginning(&self) -> Vec<OsString> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        match self.start {
            Start::Kernel { kernel, initramfs, arguments } => {
                let given = [kernel.as_os_str(), initramfs.as_os_str(), arguments.as_ref()];
                let named = ["-kernel", "-initrd", "-append"].into_iter().zip(given);
                let named = named.flat_map(|(name, value)| [OsString::from(name), value.to_owned()]);
                words(&["-no-reboot"]).into_iter().chain(named).collect()
            }
            Start::Firmware { code, variables } => words(&[
                "-global",
                "driver=cfi.pflash01,property=secure,value=on",
                // Its way back from sleep does not work in that mode.
                "-global",
                "ICH9-LPC.disable_s3=1",
                "-drive",
                &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(code)),
                "-drive",
                // A copy that ends with the guest; so laid over, the whole guest can be kept as it is, and taken back.
                &format!("if=pflash,unit=1,format=raw,snapshot=on,file={}", escaped(variables)),
            ]),
        }
    }

    fn security(&self) -> Vec<String> {
        let Some(socket) = self.tpm else { return Vec::new() };
        let socket = format!("socket,id=tpm,path={}", escaped(socket));
        ["-chardev", &socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
            .map(str::to_owned)
            .to_vec()
    }

    fn card(&self) -> Vec<String> {
        let Some(card) = self.network else { return ["-nic", "none"].map(str::to_owned).to_vec() };
        let frames = escaped(&card.frames);
        let wire = card.wire.as_deref().map(escaped).map_or_else(
            || "hubport,id=net,hubid=0".to_owned(),
            |wire| {
                let ends = format!("local.type=unix,local.path={wire}.guest,remote.type=unix,remote.path={wire}");
                format!("dgram,id=net,{ends}")
            },
        );
        let words = [
            "-netdev",
            &wire,
            "-device",
            &format!("virtio-net-pci,netdev=net,mac={GUEST_ADDRESS}"),
            "-object",
            &format!("filter-dump,id=frames,netdev=net,file={frames}"),
        ];
        words.map(str::to_owned).to_vec()
    }
}

/// A path among QEMU's properties, where a comma would end it.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Of the guest's network card: locally administered.
pub const GUEST_ADDRESS: &str = "02:5e:ca:10:05:01";
/// After that it is killed.
const ASKED_TO_END: Duration = Duration::from_secs(5);
