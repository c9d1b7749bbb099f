//! What no disk can be made of, and what cannot be started as one: each with what to do, and nothing left behind.
//! `vm_disk.rs` starts one.

use std::fs;
use std::process::Command;

use secai_tests::{Need, Ran, Scratch, Tier, as_root, device, program, ran, release, require};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 4] = [Need::Device, Need::Release, Need::Root, Need::Program("mke2fs")];

#[test]
fn what_no_disk_can_be_made_of_is_said_with_what_to_do() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let scratch = Scratch::new(TMP, "disk");
    let out = scratch.join("out");
    fs::create_dir(&out).unwrap();
    let output = out.join("disk.raw").display().to_string();
    let disk = |arguments: &[&str]| -> Ran {
        let mut command = as_root("env");
        command.arg(format!("XDG_CACHE_HOME={}", scratch.join("cache").display()));
        ran(command.arg(program("secai-build")).arg("disk").args(arguments))
    };
    let [whole, small] = [device(), release()].map(|it| it.join("6-bundle").display().to_string());
    let broken = scratch.join("broken");
    ran(as_root("cp").arg("--recursive").arg(&whole).arg(&broken)).good();
    let index = broken.join("image/index.json");
    ran(as_root("sh").args(["-c", "echo '{}' >\"$1\"", "sh"]).arg(&index)).good();
    let inside = broken.join("disk.raw").display().to_string();
    let broken = broken.display().to_string();
    for (what, arguments, words) in [
        ("no boot chain in it", vec![&*small, "--output", &output], ["has no /usr/lib/shim", "add shim-signed to"]),
        ("too small", vec![&*whole, "--output", &output, "--size", "1G"], ["1024 MiB is too small", "or more"]),
        ("no number", vec![&*whole, "--output", &output, "--size", "large"], ["\"large\" is no number", "8G"]),
        ("no such format", vec![&*whole, "--output", &output, "--format", "vdi"], ["vdi", "qcow2"]),
        ("no bundle", vec!["/etc", "--output", &output], ["cannot read /etc/image/index.json", "No such file"]),
        ("a broken bundle", vec![&*broken, "--output", &output], ["index.json cannot be used", "index.json"]),
        ("into its bundle", vec![&*broken, "--output", &inside], ["--output", "lies in the bundle"]),
        ("onto a device", vec![&*whole, "--output", "/dev/null"], ["--output", "is no file"]),
        ("onto a folder", vec![&*whole, "--output", "/etc"], ["--output", "is no file"]),
        ("into no folder", vec![&*whole, "--output", "/nowhere/disk"], ["/nowhere/disk", "No such file"]),
    ] {
        let ended = disk(&arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{what}: {ended}");
        assert!(words.iter().all(|it| ended.err.contains(it)), "{what}: {ended}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{what}: something is left");
    }
}

#[test]
fn what_is_no_disk_is_not_started() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let scratch = Scratch::new(TMP, "disk-start");
    let raw = scratch.join("disk.raw");
    let mut bytes = vec![0; 4096];
    bytes[512..520].copy_from_slice(b"EFI PART");
    fs::write(&raw, &bytes).unwrap();
    let raw = raw.display().to_string();
    // Its backing file is any file of this machine.
    let other = scratch.join("disk.qcow2");
    let name = b"/etc/passwd";
    let mut bytes = [&b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x02\0\0\0\0"[..], &[name.len() as u8], &[0; 4096]].concat();
    bytes[512..512 + name.len()].copy_from_slice(name);
    fs::write(&other, &bytes).unwrap();
    let other = other.display().to_string();
    let bundle = release().join("6-bundle").display().to_string();
    for (arguments, words) in [
        (vec!["/etc/passwd"], ["neither a folder with a bundle nor a disk", "/etc/passwd"]),
        (vec![&*other, "--keep"], ["it is qcow2", "in another file"]),
        (vec![&*raw, "--append", "quiet"], ["--append", "is for bundles"]),
        (vec![&*bundle, "--keep"], ["--keep", "are for disks"]),
        (vec![&*raw, "--variables", "/etc/passwd"], ["the firmware /etc/passwd cannot start a disk", "ovmf"]),
        (vec![&*raw, "--variables", "/nowhere"], ["/nowhere", "cannot be read"]),
        (vec![&*raw, "--credential", "secai.luks"], ["--credential \"secai.luks\"", "is not NAME=VALUE"]),
        (vec![&*raw, "--credential", "a/b=secret"], ["--credential \"a/b\"", "is no name of a credential"]),
    ] {
        let mut boot = Command::new(program("secai-build"));
        boot.arg("boot").args(&arguments).env("XDG_CACHE_HOME", scratch.join("cache"));
        let ended = ran(boot.arg("--log").arg(scratch.join("log")));
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended}");
        assert!(words.iter().all(|it| ended.err.contains(it)), "{arguments:?}: {ended}");
    }
}
