//! The bundle, alone on the machine, boots; and what the booted system says of itself is what the bundle says of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secai_tests::{Need, Scratch, Tier, as_root, at_boot, kill, program, ran, release, require};
use serde_json::Value;

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 4] = [Need::Release, Need::Root, Need::Program("qemu-system-x86_64"), Need::Program("mke2fs")];
/// One guest at a time: each wants the whole machine, and where there is no nextest the tests of a file run at once.
static GUEST: Mutex<()> = Mutex::new(());
/// What a guest may take under software emulation, on a machine with other work.
const PATIENCE: &str = "900";

/// What the guest says of itself.
const SCRIPT: &str = r#"p target systemctl is-active multi-user.target
p usr findmnt -no OPTIONS -T /usr
p sysroot findmnt -no OPTIONS -T /sysroot
p write sh -c 'touch /usr/x || touch /sysroot/x || echo refused'
p status ostree admin status
p cmdline cat /proc/cmdline
p machine cat /etc/machine-id
p net ls /sys/class/net
p etc ostree admin config-diff
p dpkg dpkg -V
echo SECAI-TEST end
"#;

/// The composed release's bundle in a folder that holds nothing else.
fn alone(scratch: &Scratch) -> PathBuf {
    let to = scratch.join("bundle");
    ran(as_root("cp").arg("--recursive").arg(release().join("6-bundle")).arg(&to)).good();
    to
}

/// `secai-build boot`, where neither the outputs of the build nor its caches and keys can be seen.
fn boot(scratch: &Scratch, bundle: &Path) -> Command {
    let script = r#"mount -t tmpfs none "$1"; [ -z "$(ls "$1")" ]; shift; exec env "$@""#;
    let mut command = as_root("unshare");
    command.args(["--mount", "--", "sh", "-euc", script, "sh"]).arg(release().parent().unwrap());
    for (name, folder) in [("XDG_CACHE_HOME", "cache"), ("XDG_STATE_HOME", "state"), ("HOME", "home")] {
        command.arg(format!("{name}={}", scratch.join(folder).display()));
    }
    command.arg(program("secai-build")).arg("boot").arg(bundle);
    command
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn payload(envelope: &Path) -> Value {
    let text = json_of(envelope)["payload"].as_str().unwrap().to_owned();
    serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
}

#[test]
fn the_bundle_alone_boots_to_what_its_sbom_says() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let _guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(TMP, "boot");
    let bundle = alone(&scratch);
    let log = scratch.join("serial.log");
    let mut command = boot(&scratch, &bundle);
    command
        .args(["--json", "--expect", "SECAI-TEST end", "--timeout", PATIENCE, "--log"])
        .arg(&log)
        .args(at_boot::arguments(SCRIPT).iter().flat_map(|it| ["--append", it]));
    let booted = ran(&mut command);
    let serial = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    assert_eq!(booted.code, Some(0), "{booted}\n-- console\n{serial}");
    let said: Value = serde_json::from_str(&booted.out).unwrap();
    eprintln!(
        "booted in {:.0} s by {}, {:.0} s in all",
        said["seconds"],
        said["accelerator"],
        booted.took.as_secs_f64()
    );

    let lines = |topic: &str| at_boot::lines(&serial, topic);
    let one = |topic: &str| -> &str {
        match lines(topic).as_slice() {
            [line] => line,
            other => panic!("{topic}: {other:?}\n{serial}"),
        }
    };
    assert_eq!(one("state"), "running");
    assert_eq!(lines("failed"), Vec::<&str>::new(), "failed units");
    assert_eq!(one("target"), "active", "multi-user.target");
    for place in ["usr", "sysroot"] {
        assert!(one(place).split(',').any(|option| option == "ro"), "{place} is mounted {}", one(place));
    }
    assert_eq!(lines("write").last(), Some(&"refused"), "writing to /usr and /sysroot");
    assert_eq!(lines("net"), ["lo"], "the guest's network devices");
    let machine = one("machine");
    assert!(machine.len() == 32 && machine.bytes().all(|b| b.is_ascii_hexdigit()), "machine-id {machine:?}");

    let commit = payload(&bundle.join("release.json"))["commit"].as_str().unwrap().to_owned();
    assert_eq!(said["commit"], *commit);
    assert!(
        lines("status")[0].starts_with("* ") && lines("status")[0].ends_with(&format!(" {commit}.0")),
        "{:?}",
        lines("status")
    );
    let arguments: Vec<&str> = one("cmdline").split(' ').collect();
    let wanted = json_of(&release().join("1-plan.json"))["recipe"]["kernel_args"].clone();
    for argument in wanted.as_array().unwrap() {
        assert!(arguments.contains(&argument.as_str().unwrap()), "{argument} is not in {arguments:?}");
    }

    // What the system itself has written to /etc since it was first started, and nothing else.
    let etc: BTreeSet<&str> = lines("etc").iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let own = BTreeSet::from(["machine-id", ".pwd.lock", ".updated"]);
    assert!(etc.is_subset(&own), "changed in /etc: {etc:?}");

    let (expected, found) = (deviations(&bundle), dpkg_says(&lines("dpkg")));
    eprintln!("dpkg -V in the guest: {}", found.iter().cloned().collect::<Vec<_>>().join(", "));
    assert_eq!(found, expected, "what dpkg finds changed or missing, and what the SBOM says is");
    assert!(found.contains("changed /etc/issue") && found.iter().any(|it| it.starts_with("missing /boot/vmlinuz-")));
}

/// By the SBOM: files whose bytes are not their package's, and files that lie elsewhere than in its archive.
fn deviations(bundle: &Path) -> BTreeSet<String> {
    let statement = payload(&bundle.join("attest/sbom.dsse.json"));
    let owners = statement["predicate"]["components"].as_array().unwrap().clone();
    let mut found = BTreeSet::new();
    for owner in owners.iter().filter(|owner| owner["purl"].is_string()) {
        for file in owner["components"].as_array().into_iter().flatten() {
            let property = |name: &str| {
                let all = file["properties"].as_array().into_iter().flatten();
                all.filter(|it| it["name"] == name).find_map(|it| it["value"].as_str())
            };
            let name = file["name"].as_str().unwrap();
            let name = name.strip_prefix("/usr/etc/").map_or(name.to_owned(), |rest| format!("/etc/{rest}"));
            // dpkg knows no digest of a link, and finds what is copied back to /var at boot.
            match property("secai:archive-path") {
                Some(path) if !path.starts_with("/var/") => drop(found.insert(format!("missing {path}"))),
                _ if property("secai:origin").is_some() && file["hashes"].is_array() => {
                    found.insert(format!("changed {name}"));
                }
                _ => {}
            }
        }
    }
    found
}

/// `missing     c /etc/x` and `??5?????? c /etc/x`, as `missing /etc/x` and `changed /etc/x`.
fn dpkg_says(lines: &[&str]) -> BTreeSet<String> {
    let word = |line: &str| match line.split_whitespace().next() {
        Some("missing") => "missing",
        Some(checks) if checks.len() == 9 && checks.contains('5') => "changed",
        _ => "unreadable",
    };
    lines.iter().map(|line| format!("{} {}", word(line), line.split_whitespace().last().unwrap_or_default())).collect()
}

#[test]
fn a_guest_that_says_something_else_is_a_negative_answer_and_its_log_is_kept() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let _guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(TMP, "boot-negative");
    let bundle = alone(&scratch);
    let ended = ran(boot(&scratch, &bundle).args(["--expect", "NEVER", "--timeout", "5"]));
    assert_eq!(ended.code, Some(1), "{ended}");
    let log = scratch.join("bundle.boot.log");
    assert!(
        ended.out.is_empty() && ended.err.contains("NEVER") && ended.err.contains(&log.display().to_string()),
        "{ended}"
    );
    assert!(fs::metadata(&log).unwrap().len() > 0, "the serial log is empty");
    assert_eq!(guests(&log), Vec::<u32>::new(), "QEMU still runs");
    assert_eq!(steps(&scratch), 0, "folders left in the cache");
}

#[test]
fn no_guest_outlives_a_killed_boot() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let _guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new(TMP, "boot-killed");
    let bundle = alone(&scratch);
    let log = scratch.join("serial.log");
    let mut command = boot(&scratch, &bundle);
    command
        .args(["--expect", "NEVER", "--log"])
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let until = |what: &str, limit: u64, seen: &mut dyn FnMut() -> bool| {
        let end = Instant::now() + Duration::from_secs(limit);
        while !seen() {
            assert!(Instant::now() < end, "{what}: not within {limit} s");
            thread::sleep(Duration::from_millis(100));
        }
    };
    until("QEMU starts", 180, &mut || {
        assert_eq!(child.try_wait().unwrap(), None, "the boot ended");
        !guests(&log).is_empty()
    });
    let builder = named("secai-build", &log);
    assert_eq!(builder.len(), 1, "{builder:?}");
    kill(builder[0]);
    child.wait().unwrap();
    until("QEMU ends", 10, &mut || guests(&log).is_empty());

    // The next one takes away what the killed one left.
    assert_eq!(steps(&scratch), 1, "the disk of the killed guest");
    ran(boot(&scratch, &bundle).args(["--expect", "NEVER", "--timeout", "1"])).bad();
    assert_eq!(steps(&scratch), 0, "folders left in the cache");
}

/// Folders of steps that are not over, or were cut short.
fn steps(scratch: &Scratch) -> usize {
    let all = fs::read_dir(scratch.join("cache/secai/scratch")).unwrap().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count()
}

fn guests(log: &Path) -> Vec<u32> {
    named("qemu-system-x86_64", log)
}

/// Processes whose program has this name and whose command line names the log.
fn named(program: &str, log: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.split('\0').next().unwrap_or_default().ends_with(program) && line.contains(&*log.to_string_lossy()) {
            found.push(pid);
        }
    }
    found
}
