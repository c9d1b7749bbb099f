//! Power that fails while the device writes: what was acknowledged is there, the file system is whole, and the next boot goes on.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use secai_tests::composing::Composing;
use secai_tests::disk::Disk;
use secai_tests::machine::{Kept, Machine};
use secai_tests::{as_root, program, ran};

use crate::{entries, holds, links_are_down};

/// Milliseconds after which power fails, counted from when the device began to write.
const AFTER_MS: [u64; 10] = [300, 700, 1100, 1700, 2300, 3100, 4100, 5300, 6700, 8300];
/// Notes, and much besides; each note that was acknowledged is told.
const WRITES: &str = "(while :; do dd if=/dev/zero of=/var/load bs=1M count=20 conv=fsync 2>/dev/null; rm /var/load; done) &
(i=0; while :; do i=$((i + 1)); secaictl audit note \"cut $i\" >/dev/null && echo \"SECAI-NOTED $i\" >/dev/console; done) &
sleep 600";

/// What is known of one cut.
#[derive(Debug)]
pub struct Cut {
    name: String,
    /// So many notes had been acknowledged.
    noted: usize,
    /// By which key the chain is signed.
    key: String,
}

/// Fails power from the same moment on, each time a little later.
pub fn cut(machine: &mut Machine, booted: &Kept) -> Vec<Cut> {
    let key = machine.root("secaictl audit key").ended(0).trim().to_owned();
    // When it had just booted there was none.
    let mut cuts = vec![Cut { name: "booted".to_owned(), noted: 0, key: key.clone() }];
    for (number, after) in (1..).zip(AFTER_MS) {
        machine.back_to(booted);
        let ears = machine.ears();
        machine.begin_root(WRITES);
        machine.hear("SECAI-NOTED 1\r");
        sleep(Duration::from_millis(after));
        // What is acknowledged from here on may be there as well.
        let noted = machine.heard_since(ears).matches("SECAI-NOTED ").count();
        let name = format!("cut{number}");
        machine.keep_disk(&name);
        cuts.push(Cut { name, noted, key: key.clone() });
    }
    cuts
}

/// Looked at from outside, without the device's own kernel; the last one is started again.
pub fn was_kept(composing: &Composing, disk: &Disk, cuts: &[Cut]) {
    let place = composing.scratch.join("cuts");
    fs::create_dir_all(place.join("trust")).unwrap();
    for cut in cuts {
        let raw = place.join("disk.raw");
        let mut convert = as_root("qemu-img");
        convert.args(["convert", "-O", "raw", "-l", &format!("snapshot.name={}", cut.name)]).arg(&disk.path).arg(&raw);
        ran(&mut convert).good();
        for part in ["root", "var"] {
            let image = place.join(part);
            let mut copy = as_root("dd");
            copy.args(["bs=1M", "conv=sparse", "status=none"]);
            let (offset, bytes) = disk.partition(part);
            copy.args([format!("skip={}", offset >> 20), format!("count={}", bytes >> 20)]);
            ran(copy.arg(format!("if={}", raw.display())).arg(format!("of={}", image.display()))).good();
            // Its journal is played back, as at a mount; then nothing is left to repair.
            let replayed = ran(as_root("e2fsck").arg("-p").arg(&image));
            assert!(matches!(replayed.code, Some(0 | 1)), "{}: {part}: {replayed}", cut.name);
            ran(as_root("e2fsck").arg("-fn").arg(&image)).good();
        }
        let chain = place.join("chain");
        ran(as_root("rm").arg("-rf").arg(&chain)).good();
        let ask = format!("rdump /lib/secure-ai/audit/chain {}", place.display());
        ran(as_root("debugfs").args(["-R", &ask]).arg(place.join("var"))).good();
        fs::write(place.join("trust/device.vkey"), &cut.key).unwrap();
        let mut verify = as_root("env");
        verify.arg(program("verify-release")).arg("audit").arg(&chain).arg("--trust").arg(place.join("trust"));
        let verified = ran(&mut verify);
        let notes =
            ran(as_root("grep").args(["-rhoa", "\"k\":\"owner.note\""]).arg(chain.join("seg"))).out.lines().count();
        eprintln!(
            "{}: {} acknowledged, {notes} there: {}",
            cut.name,
            cut.noted,
            verified.out.lines().next().unwrap_or_default()
        );
        assert!(notes >= cut.noted, "{}: {} were acknowledged, {notes} are there", cut.name, cut.noted);
        assert_eq!(notes > 0, cut.noted > 0, "{}", cut.name);
        assert_eq!(verified.code, Some(0), "{}: {verified}", cut.name);
        ran(as_root("rm").arg("-f").arg(place.join("root")).arg(place.join("var"))).good();
        if cut.name != cuts[cuts.len() - 1].name {
            ran(as_root("rm").arg("-f").arg(&raw)).good();
        }
    }
    let last = &cuts[cuts.len() - 1];
    let again = place.join("again.qcow2");
    ran(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(place.join("disk.raw")).arg(&again)).good();
    let mut machine = Machine::boot_disk(composing, &again);
    let state = machine.person(
        "for i in $(seq 99); do s=$(systemctl is-system-running); [ $s = starting ] || break; sleep 1; done; echo $s",
    );
    assert_eq!(state.text.trim(), "running", "{}", machine.root("systemctl --failed --no-legend").text);
    holds(&mut machine, "offline_private");
    links_are_down(&mut machine);
    let notes = entries(&mut machine, "owner.note").len();
    assert!(notes >= last.noted, "{} were acknowledged, {notes} are there", last.noted);
    let frames = machine.power_off();
    assert_eq!(frames.len(), 0);
}
