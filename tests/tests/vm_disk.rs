//! A disk of the device, started as a machine starts it: by UEFI firmware with Secure Boot. What starts is what Debian signed;
//! what does not come up gives way to what ran before, with nobody there.
//!
//! One disk goes through all of it, and is looked at from outside between the starts. A start costs a minute where the guest comes
//! up, and a quarter of one where its kernel's first words are enough.

use std::fs;
use std::process::Command;

use secai_tests::disk::Disk as Made;
use secai_tests::{Need, Ran, Scratch, Tier, as_root, at_boot, device, program, ran, require};
use secai_verifier::grubenv::{Grubenv, Trial};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 8] = [
    Need::Device,
    Need::Root,
    Need::Program("qemu-system-x86_64"),
    Need::Program("qemu-img"),
    Need::Program("mcopy"),
    Need::Program("fsck.fat"),
    Need::Program("sgdisk"),
    Need::Program("newuidmap"),
];
/// What a guest may take under software emulation, on a machine with other work.
const PATIENCE: &str = "900";
/// The same firmware with no keys, which is Secure Boot turned off.
const WITHOUT_SECURE_BOOT: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Among the kernel's first words: what it was started with.
const COMMAND_LINE: &str = "Kernel command line: [^\n]*\n";
/// A root that no disk has.
const NOWHERE: &str = "root=PARTUUID=00000000-0000-0000-0000-000000000000";
/// In the head of the kernel that its file names, not in what runs: what is changed there is signed, and changes nothing.
const IN_KERNEL: &[u8] = b"debian-kernel@";
/// In a program for UEFI.
const IN_PROGRAM: &[u8] = b"This program cannot be run";
/// A kernel's folder in /boot that no deployment has.
const NO_CHECKSUM: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// What the guest says of itself; then a second deployment, which will not come up, and its trial.
const SCRIPT: &str = r#"for m in usr sysroot boot var; do p $m findmnt -no SOURCE,FSTYPE,OPTIONS -T /$m; done
for m in usr sysroot boot; do touch /$m/x || p write echo $m; done
p lock cat /sys/kernel/security/lockdown
p attr lsattr -d /
e=/boot/efi/EFI/debian/grubenv
p env grub-editenv $e list
c=$(ostree admin status | sed -n 's/^\* secai \(.*\)\.0.*/\1/p')
p deploy ostree admin deploy --os=secai --karg-append=rdinit=/nonexistent $c
grub-editenv $e set secai_pending=1 secai_tries=3
umount /boot/efi
echo SECAI-TEST end
systemctl poweroff
"#;

struct Disk {
    made: Made,
    scratch: Scratch,
}

impl Disk {
    fn offset(&self, name: &str) -> u64 {
        self.made.partition(name).0
    }

    /// As mtools name the EFI system partition.
    fn esp(&self) -> String {
        format!("{}@@{}", self.made.path.display(), self.offset("esp"))
    }

    fn on_esp(&self, path: &str) -> Vec<u8> {
        let to = self.scratch.join("from-esp");
        ran(Command::new("mcopy").args(["-n", "-o", "-i", &self.esp(), &format!("::{path}")]).arg(&to)).good();
        fs::read(to).unwrap()
    }

    fn counted(&self) -> (Vec<u8>, Grubenv) {
        let bytes = self.on_esp("EFI/debian/grubenv");
        let block = Grubenv::parse(&bytes).unwrap();
        (bytes, block)
    }

    fn count(&self, trial: Trial) -> Vec<u8> {
        let (_, mut block) = self.counted();
        block.put(trial).unwrap();
        self.lay_on_esp("EFI/debian/grubenv", &block.to_bytes());
        block.to_bytes().to_vec()
    }

    fn lay_on_esp(&self, path: &str, bytes: &[u8]) {
        let from = self.scratch.join("to-esp");
        fs::write(&from, bytes).unwrap();
        ran(Command::new("mcopy").args(["-o", "-i", &self.esp()]).arg(&from).arg(format!("::{path}"))).good();
        assert_eq!(self.on_esp(path), bytes);
    }

    fn ask_boot(&self, request: &str) -> Ran {
        let place = format!("{}?offset={}", self.made.path.display(), self.offset("boot"));
        ran(Command::new("debugfs").args(["-w", "-R", request, &place])).good()
    }

    fn read_in_boot(&self, path: &str) -> Option<Vec<u8>> {
        let to = self.scratch.join("from-boot");
        let _ = fs::remove_file(&to);
        self.ask_boot(&format!("dump {path} {}", to.display()));
        fs::read(to).ok()
    }

    fn lay_in_boot(&self, folder: &str, name: &str, bytes: &[u8]) {
        let from = self.scratch.join("to-boot");
        fs::write(&from, bytes).unwrap();
        let script = self.scratch.join("to-boot.debugfs");
        fs::write(&script, format!("cd {folder}\nrm {name}\nwrite {} {name}\n", from.display())).unwrap();
        let place = format!("{}?offset={}", self.made.path.display(), self.offset("boot"));
        ran(Command::new("debugfs").args(["-w", "-f"]).arg(&script).arg(&place)).good();
        assert_eq!(self.read_in_boot(&format!("{folder}/{name}")).as_deref(), Some(bytes));
    }

    /// libostree's entry of this number: older ones call it otherwise.
    fn entry(&self, number: u32) -> (String, String) {
        let names = [format!("ostree-{number}.conf"), format!("ostree-{number}-secai.conf")];
        let found =
            names.into_iter().find_map(|name| Some((self.read_in_boot(&format!("/loader/entries/{name}"))?, name)));
        let (bytes, name) = found.unwrap_or_else(|| panic!("no entry {number}"));
        (name, String::from_utf8(bytes).unwrap())
    }

    fn boot(&self, expect: &str, more: &[&str]) -> String {
        let log = self.scratch.join("serial.log");
        let mut boot = Command::new(program("secai-build"));
        boot.arg("boot")
            .arg(&self.made.path)
            // Nobody sits there.
            .args(["--credential", "secai.owner=none", "--credential", "secai.unencrypted=yes"])
            .args(["--expect", expect, "--timeout", PATIENCE, "--log"])
            .arg(&log)
            .args(more);
        boot.env("XDG_CACHE_HOME", self.scratch.join("cache"));
        let booted = ran(&mut boot);
        let serial = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        assert_eq!(booted.code, Some(0), "{booted}\n-- console\n{serial}");
        eprintln!("{expect:?}: {:.0} s", booted.took.as_secs_f64());
        serial
    }
}

/// Made by root, with another umask; and once more by somebody who is not root, at another time and as qcow2: both hold the same.
fn made() -> Disk {
    let scratch = Scratch::new(TMP, "vm-disk");
    // Where another user may write, and what he may read.
    let open = tempfile::Builder::new().prefix("secai-disk-").tempdir_in("/tmp").unwrap();
    let bundle = open.path().join("bundle");
    ran(as_root("cp").arg("--recursive").arg(device().join("6-bundle")).arg(&bundle)).good();
    ran(as_root("cp").arg(program("secai-build")).arg(open.path())).good();
    for (name, text) in [
        ("passwd", "root:x:0:0::/:/bin/sh\nsecai-test:x:47110:47110::/:/bin/sh\n"),
        ("subids", "secai-test:1000000:65536\n"),
        ("none", ""),
    ] {
        fs::write(open.path().join(name), text).unwrap();
    }
    let script = r#"cd "$1"; chown -R 47110:47110 .; chmod 755 .
mount --bind passwd /etc/passwd
for f in /etc/subuid /etc/subgid; do touch "$f" 2>/dev/null || :; mount --bind "$2" "$f"; done
exec setpriv --reuid 47110 --regid 47110 --clear-groups env -i PATH=/nowhere HOME="$1" "$1/secai-build" --json disk bundle --format qcow2 --output disk.qcow2"#;
    let as_nobody = |ids: &str| {
        let mut command = as_root("unshare");
        command.args(["--mount", "--", "sh", "-euc", script, "sh"]).arg(open.path()).arg(ids);
        ran(&mut command)
    };
    let without = as_nobody("none").bad();
    assert!(without.code == Some(2) && without.err.contains("usermod --add-subuids"), "{without}");
    let said: Value = serde_json::from_str(&as_nobody("subids").good().out).unwrap();

    let path = scratch.join("disk.raw");
    let mut by_root = as_root("sh");
    by_root.args(["-euc", "umask 077; exec \"$@\"", "sh"]).arg(program("secai-build"));
    by_root.args(["--json", "disk"]).arg(&bundle).arg("--output").arg(&path);
    let made = Made::made(&mut by_root, &path);
    assert_eq!(made.partitions(), said["partitions"].as_array().unwrap());
    ran(as_root("qemu-img").arg("compare").arg(&path).arg(open.path().join("disk.qcow2"))).good();
    // The scratch folder of the ordinary user goes with what it was made with.
    ran(as_root("sh").args(["-c", "rm -rf \"$1\"/*", "sh"]).arg(open.path())).good();
    Disk { made, scratch }
}

/// By other people's tools.
fn is_a_disk(disk: &Disk) {
    let table = ran(Command::new("sgdisk").arg("-v").arg(&disk.made.path)).good();
    assert!(table.out.contains("No problems found"), "{table}");
    let tree = device().join("2-rootfs/tree");
    for (path, wanted) in [
        ("EFI/BOOT/BOOTX64.EFI", "usr/lib/shim/shimx64.efi.signed"),
        ("EFI/BOOT/grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
    ] {
        let (found, image) = (disk.scratch.join("found"), tree.join(wanted));
        fs::write(&found, disk.on_esp(path)).unwrap();
        ran(as_root("cmp").arg(&found).arg(&image)).good();
    }
    let esp = disk.scratch.join("esp");
    let (_, size) = disk.made.partition("esp");
    let mut dd = Command::new("dd");
    dd.args(["bs=1M", "status=none", &format!("skip={}", disk.offset("esp") >> 20), &format!("count={}", size >> 20)]);
    ran(dd.arg(format!("if={}", disk.made.path.display())).arg(format!("of={}", esp.display()))).good();
    ran(Command::new("fsck.fat").arg("-n").arg(&esp)).good();
    let bytes = fs::read(&esp).unwrap();
    fs::write(&esp, [&bytes[..1 << 20], &vec![0xff; 4096], &bytes[(1 << 20) + 4096..]].concat()).unwrap();
    ran(Command::new("fsck.fat").arg("-n").arg(&esp)).bad();
    assert_eq!(disk.counted().1.trial(), Ok(Trial::None));
}

#[test]
fn a_disk_starts_what_is_signed_and_falls_back_by_itself() {
    if !require(Tier::Vm, &NEEDS) {
        return;
    }
    let disk = made();
    is_a_disk(&disk);
    comes_up(&disk);
    counts_down_and_falls_back(&disk);
    let counted = disk.count(Trial::None);
    refuses_a_changed_kernel(&disk);
    refuses_a_changed_boot_chain(&disk);
    starts_all_of_it_where_secure_boot_is_off(&disk, &counted);
    says_what_it_needs_without_uefi(&disk);
}

fn comes_up(disk: &Disk) {
    let (name, entry) = disk.entry(1);
    let more = format!(" {}", at_boot::arguments(SCRIPT).join(" "));
    let changed: Vec<String> = (entry.lines())
        .map(|line| if line.starts_with("options ") { format!("{line}{more}\n") } else { format!("{line}\n") })
        .collect();
    disk.lay_in_boot("/loader/entries", &name, changed.concat().as_bytes());
    let serial = disk.boot("(?s)SECAI-TEST end.*Power down", &["--keep"]);
    // As it was, and as it would be for the deployment that comes, which takes over what this one was started with.
    for number in [1, 2] {
        let (name, entry) = disk.entry(number);
        assert!(entry.contains(&more), "{entry}");
        disk.lay_in_boot("/loader/entries", &name, entry.replace(&more, "").as_bytes());
    }
    // The image's own argument comes before the firmware's word, so the kernel names that one.
    for words in
        ["UEFI Secure Boot is enabled", "secureboot: Secure boot enabled", "Kernel is locked down from command line"]
    {
        assert!(serial.contains(words), "{words}: {serial}");
    }
    let lines = |topic: &str| at_boot::lines(&serial, topic);
    assert_eq!(lines("state"), ["running"], "{:?}", lines("failed"));
    assert_eq!(lines("write"), ["usr", "sysroot", "boot"], "nothing is written to these");
    for (place, device, options) in [
        ("usr", "/dev/vda3", "ro"),
        ("sysroot", "/dev/vda3", "ro"),
        ("boot", "/dev/vda2", "ro"),
        ("var", "/dev/mapper/var ", "rw,nosuid,nodev"),
    ] {
        let found = lines(place).concat();
        let found_options = found.split_whitespace().last().unwrap_or_default();
        assert!(found.starts_with(device) && found.contains(" ext4 "), "{place}: {found}");
        assert!(found_options.starts_with(options), "{place}: {found}");
    }
    assert!(lines("lock").concat().contains("[integrity]"), "{:?}", lines("lock"));
    assert!(lines("attr").concat().split(' ').next().is_some_and(|it| it.contains('i')), "{:?}", lines("attr"));
    assert_eq!(lines("env"), ["secai_pending=", "secai_tries=3"], "as GRUB's own program reads it");
    // What libostree of the device wrote is what GRUB goes by from now on.
    assert!(disk.entry(2).1.contains("rdinit=/nonexistent"), "{:?}", lines("deploy"));
    assert!(!disk.entry(1).1.contains("rdinit"));
    assert_eq!(disk.counted().1.trial(), Ok(Trial::begun()));
}

fn counts_down_and_falls_back(disk: &Disk) {
    // A panic starts the machine again, by itself.
    disk.boot("(?s)Kernel panic - not syncing.*Linux version", &["--keep"]);
    assert_eq!(disk.counted().1.trial(), Ok(Trial::Running { left: 1 }), "each of two starts took one");
    // So does a root that is not there. Then nobody comes, and what ran before runs.
    let (name, entry) = disk.entry(2);
    let root = entry.split_whitespace().find(|word| word.starts_with("root=")).unwrap();
    let entry = entry.replace(root, NOWHERE).replace("rdinit=/nonexistent", "rd.timeout=5");
    disk.lay_in_boot("/loader/entries", &name, entry.as_bytes());
    let serial = disk.boot("localhost login:", &["--keep"]);
    assert!(serial.contains("Timed out waiting for device") && !serial.contains("Kernel panic"), "{serial}");
    let starts: Vec<&str> = serial.lines().filter(|line| line.contains("Kernel command line: ")).collect();
    let broken: Vec<bool> = starts.iter().map(|line| line.contains(NOWHERE)).collect();
    assert_eq!(broken, [true, false], "{starts:?}");
    assert_eq!(disk.counted().1.trial(), Ok(Trial::Failed));
}

fn refuses_a_changed_kernel(disk: &Disk) {
    let (name, entry) = disk.entry(2);
    let path = entry.lines().find_map(|line| line.strip_prefix("linux ")).unwrap();
    let path = path.trim_start_matches("/boot");
    let mut kernel = disk.read_in_boot(path).unwrap();
    let initramfs = entry.lines().find_map(|line| line.strip_prefix("initrd ")).unwrap().trim_start_matches("/boot");
    let name_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let checksum = path.split("secai-").nth(1).unwrap().split('/').next().unwrap();
    let folder = format!("/ostree/secai-{NO_CHECKSUM}");
    disk.ask_boot(&format!("mkdir {folder}"));
    disk.lay_in_boot(&folder, &name_of(path), &kernel);
    disk.lay_in_boot("/loader/entries", &name, entry.replace(checksum, NO_CHECKSUM).as_bytes());
    // A kernel without its initramfs is not tried.
    let serial = disk.boot(COMMAND_LINE, &[]);
    assert!(!serial.contains(NOWHERE), "the deployment before is started: {serial}");
    disk.lay_in_boot(&folder, &name_of(initramfs), &disk.read_in_boot(initramfs).unwrap());
    let serial = disk.boot(COMMAND_LINE, &[]);
    assert!(serial.contains(NOWHERE), "with it, it is: {serial}");
    let at = kernel.windows(IN_KERNEL.len()).position(|it| it == IN_KERNEL).unwrap();
    kernel[at] ^= 0x20;
    disk.lay_in_boot(&folder, &name_of(path), &kernel);
    let serial = disk.boot(COMMAND_LINE, &[]);
    assert!(serial.contains("bad shim signature"), "{serial}");
    assert!(!serial.contains(NOWHERE), "the deployment before is started: {serial}");
}

/// What the shim and the firmware refuse. Each is before the one that was changed before it: that one is not come to.
fn refuses_a_changed_boot_chain(disk: &Disk) {
    for (path, refusal) in [
        ("EFI/BOOT/grubx64.efi", "Verification failed: .* Security Violation"),
        ("EFI/BOOT/BOOTX64.EFI", "failed to load Boot[^\n]* Access Denied"),
    ] {
        let mut program = disk.on_esp(path);
        // In a sentence for DOS: signed, and read by nobody.
        let at = program.windows(IN_PROGRAM.len()).position(|it| it == IN_PROGRAM).unwrap();
        program[at] ^= 0x20;
        disk.lay_on_esp(path, &program);
        disk.boot(refusal, &[]);
    }
}

/// All three were refused for their signatures: where nobody asks for one, the shim, GRUB and the kernel that were changed start. It
/// is the newest again, as before it was given up, and nothing is counted.
fn starts_all_of_it_where_secure_boot_is_off(disk: &Disk, counted: &[u8]) {
    let serial = disk.boot(COMMAND_LINE, &["--keep", "--variables", WITHOUT_SECURE_BOOT]);
    for words in ["Security Violation", "Access Denied", "bad shim signature"] {
        assert!(!serial.contains(words), "{words}: {serial}");
    }
    assert!(serial.contains(NOWHERE), "{serial}");
    assert!(disk.counted().0 == counted, "nothing is counted");
}

/// A firmware without UEFI starts the first sector.
fn says_what_it_needs_without_uefi(disk: &Disk) {
    let log = disk.scratch.join("bios.log");
    let mut qemu = Command::new("timeout");
    qemu.args(["20", "qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-machine", "q35,graphics=off"]);
    qemu.args(["-nodefaults", "-display", "none", "-nic", "none", "-device", "virtio-blk-pci,drive=d"]);
    qemu.arg("-drive").arg(format!("if=none,id=d,format=raw,snapshot=on,file={}", disk.made.path.display()));
    let mut guest = qemu.arg("-serial").arg(format!("file:{}", log.display())).spawn().unwrap();
    let said = loop {
        let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        if said.contains("settings of this machine") || guest.try_wait().unwrap().is_some() {
            break said;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let _ = guest.kill();
    let _ = guest.wait();
    assert!(said.contains("This disk starts by UEFI."), "{said}");
}
