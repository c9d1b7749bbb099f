//! `verify-release.sh`, with stand-ins for the programs that it starts: what it gives them, what it says of their
//! answers, and that it leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/rootfs/usr/bin/verify-release.sh");

/// The script as it would lie on a device whose `/` is a folder.
struct Device(tempfile::TempDir);

impl Device {
    /// Whose commands end with these codes: collect, device, audit, claims.
    fn new(codes: [u8; 4]) -> Self {
        let device = Self(tempfile::tempdir().unwrap());
        let text = fs::read_to_string(SCRIPT).unwrap();
        let top = device.0.path().display().to_string();
        let mut moved = text.clone();
        for place in [
            "/usr/bin/secaictl",
            "/usr/bin/verify-release\n",
            "/sysroot/secure-ai/trust",
            "/etc/secure-ai/trust",
            "/sysroot/secure-ai/release",
        ] {
            assert!(moved.contains(&format!("={place}")), "{place}");
            moved = moved.replace(&format!("={place}"), &format!("={top}{place}"));
        }
        device.lay("verify-release.sh", &moved);
        let [collect, judge @ ..] = codes;
        let gathers = format!(
            "#!/bin/sh\necho \"secaictl $*\" >>{top}/asked\n[ {collect} -eq 0 ] || exit {collect}\nmkdir -p \"$3/chain\"\n\
             echo '{{\"commit\":\"{}\",\"origin\":[]}}' >\"$3/deployment\"\n",
            "0f".repeat(32)
        );
        device.lay("usr/bin/secaictl", &gathers);
        let [of_device, of_audit, of_claims] = judge;
        let judges = format!(
            "#!/bin/sh\necho \"verify-release $*\" >>{top}/asked\n[ ! -d \"${{7-}}\" ] || ls \"$7\" >{top}/keys\ncase $1 in device) exit {of_device} ;; audit) exit {of_audit} ;; *) exit {of_claims} ;; esac\n"
        );
        device.lay("usr/bin/verify-release", &judges);
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn lay(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        // What a caller's surroundings say of programs and languages is not listened to.
        let tmp = self.path("tmp");
        fs::create_dir_all(&tmp).unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg(self.path("verify-release.sh")).args(words);
        command.env_clear().env("PATH", "/nonexistent").env("TMPDIR", &tmp).output().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("asked")).unwrap_or_default();
        let top = self.0.path().display().to_string();
        text.replace(&top, "TOP").lines().map(str::to_owned).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_worst_answer_is_its_own() {
    for (codes, code, words) in [
        ([0, 0, 0, 0], 0, ["as it should be", "as it should be", "as it should be"]),
        ([0, 0, 2, 0], 2, ["as it should be", "not seen in full", "as it should be"]),
        ([0, 2, 0, 1], 1, ["not seen in full", "as it should be", "REFUSED"]),
        ([0, 1, 2, 2], 1, ["REFUSED", "not seen in full", "not seen in full"]),
        ([0, 0, 0, 101], 2, ["as it should be", "as it should be", "not seen in full"]),
    ] {
        let answer = Device::new(codes).run(&[]);
        let text = said(&answer);
        assert_eq!(answer.status.code(), Some(code), "{codes:?}: {text}");
        let summary = text.split_once("== summary\n").unwrap().1;
        let lines: Vec<&str> = summary.lines().collect();
        for (line, (part, word)) in lines.iter().zip(["device", "audit", "claims"].iter().zip(words)) {
            assert_eq!(*line, format!("{part:<7} {word}"), "{codes:?}");
        }
    }
    // Nothing gathered, nothing judged.
    let device = Device::new([2, 0, 0, 0]);
    assert_eq!((device.run(&[]).status.code(), device.asked().len()), (Some(2), 1));
}

#[test]
fn each_command_is_given_what_there_is() {
    let device = Device::new([0; 4]);
    device.run(&[]);
    let asked = device.asked();
    assert_eq!(asked.len(), 4);
    let evidence = asked[0].strip_prefix("secaictl collect --output ").unwrap().to_owned();
    assert!(evidence.starts_with("TOP/tmp/") && evidence.ends_with("/evidence"), "{evidence}");
    assert_eq!(asked[1], format!("verify-release device --evidence {evidence} --root /"));
    assert_eq!(asked[2], format!("verify-release audit {evidence}/chain"));
    assert_eq!(asked[3], format!("verify-release claims --evidence {evidence} --root /"));
    assert_eq!(fs::read_dir(device.path("tmp")).unwrap().count(), 0, "what was gathered is not left behind");

    // What the device itself has is taken: keys that came with its disk, and those of its owner.
    let release = format!("sysroot/secure-ai/release/{}", "0f".repeat(32));
    fs::create_dir_all(device.path(&release)).unwrap();
    device.lay("sysroot/secure-ai/trust/roles.yml", "roles");
    device.lay("etc/secure-ai/trust/device.vkey", "key");
    device.run(&[]);
    let asked = device.asked();
    let evidence = asked[4].strip_prefix("secaictl collect --output ").unwrap().to_owned();
    let trust = evidence.replace("/evidence", "/trust");
    let both = format!(" --trust {trust} --release TOP/{release}");
    assert!(asked[5].ends_with(&both) && asked[7].ends_with(&both), "{asked:?}");
    assert!(asked[6].ends_with(&format!("/chain --trust {trust}")), "{asked:?}");
    assert_eq!(fs::read_to_string(device.path("keys")).unwrap(), "device.vkey\nroles.yml\n");

    // What is given counts more, a space in it or not.
    let kept = device.path("kept here");
    let words = ["--trust", "a b", "--release", "c", "--keep", kept.to_str().unwrap()];
    let answer = device.run(&words);
    let asked = device.asked();
    assert_eq!(asked[9], "verify-release device --evidence TOP/kept here --root / --trust a b --release c");
    assert!(said(&answer).contains("keep it to yourself") && kept.join("deployment").exists());
}

#[test]
fn it_says_what_it_does_and_knows_no_other_words() {
    let device = Device::new([0; 4]);
    let help = device.run(&["--help"]);
    assert!(help.status.success() && said(&help).contains("Exit codes: 0 everything was judged"));
    for words in [&["--what"][..], &["--trust"], &["--keep", ""], &["evidence"]] {
        let answer = device.run(words);
        assert_eq!((answer.status.code(), said(&answer).as_str()), (Some(2), ""), "{words:?}");
    }
    assert!(device.asked().is_empty());
}

#[test]
fn it_lies_in_the_tree_as_a_program() {
    let mode = fs::metadata(Path::new(SCRIPT)).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let text = fs::read_to_string(SCRIPT).unwrap();
    assert!(text.starts_with("#!/bin/sh\n") && !text.contains('\t'));
}
