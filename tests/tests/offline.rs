//! `verify-release` as a program: it answers on standard output and by its exit code, opens no socket, starts no
//! program, and needs neither a network nor a place to write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use secai_tests::{Need, Ran, Scratch, Tier, as_root, program, ran, release, require};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
/// What a verdict may take, by the format's promise.
const PEAK_KIB_MAX: u64 = 200 * 1024;

fn bundle() -> PathBuf {
    release().join("6-bundle")
}

fn trust() -> PathBuf {
    release().join("trust")
}

fn verify(bundle: &Path, trust: &Path) -> Ran {
    ran(Command::new(program("verify-release")).arg("bundle").arg(bundle).arg("--trust").arg(trust))
}

#[test]
fn no_socket_and_no_other_program() {
    if !require(Tier::Test, &[Need::Release, Need::Program("strace"), Need::Program("python3")]) {
        return;
    }
    let scratch = Scratch::new(TMP, "offline-strace");
    let traced = |command: &[&Path]| {
        let log = scratch.join("calls");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=%network,%process", "-e", "signal=none", "-o"]).arg(&log);
        ran(strace.args(command)).good();
        fs::read_to_string(log).unwrap()
    };
    let verifier = program("verify-release");
    let (bundle, trust) = (bundle(), trust());
    let calls = traced(&[&verifier, Path::new("bundle"), &bundle, Path::new("--trust"), &trust]);
    assert_eq!(foreign_calls(&calls), Vec::<String>::new());
    let threads = calls.lines().filter(|line| line.contains("CLONE_THREAD")).count();
    eprintln!("strace: {} calls of %network and %process, {threads} of them new threads", calls.lines().count());

    // The same eyes see a socket, a program, and a child that runs none.
    for (what, script, seen) in [
        ("a socket", "import socket; socket.socket()", "socket("),
        ("a program", "import os; os.execv('/bin/true', ['true'])", "execve(\"/bin/true\""),
        ("a child", "import os; os.fork() or os._exit(0)", "clone("),
    ] {
        let calls = traced(&[Path::new("/usr/bin/python3"), Path::new("-c"), Path::new(script)]);
        let found = foreign_calls(&calls);
        assert!(found.iter().any(|call| call.contains(seen)), "{what} is not seen: {calls}");
    }
}

/// The calls that a program which only judges files does not make: all of %network and %process but its own start, its
/// threads and its end.
fn foreign_calls(trace: &str) -> Vec<String> {
    let mut starts = 0;
    let foreign = |line: &&str| {
        // `1234  name(arguments) = result`, `1234  <... name resumed> …`, `1234  +++ exited with 0 +++`
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        match call.split(['(', ' ']).next().unwrap_or_default() {
            "execve" => {
                starts += 1;
                starts > 1
            }
            "clone" | "clone3" => !call.contains("CLONE_THREAD"),
            "<..." | "+++" | "exit" | "exit_group" => false,
            _ => true,
        }
    };
    trace.lines().filter(foreign).map(str::to_owned).collect()
}

#[test]
fn no_network_and_no_place_to_write_are_needed() {
    if !require(Tier::Test, &[Need::Release, Need::Root]) {
        return;
    }
    // A mount namespace in which all is read-only, and a network namespace without an interface.
    let script = r#"mount --make-rprivate /
mount --bind "$2" "$2"
mount -o remount,bind,ro "$2"
mount -o remount,bind,ro /tmp 2>/dev/null || mount -t tmpfs -o ro none /tmp
if touch "$2/probe" 2>/dev/null || touch /tmp/probe 2>/dev/null; then echo "could write" >&2; exit 9; fi
if tail -n +3 /proc/net/dev | grep -v ' *lo:'; then echo "has an interface" >&2; exit 9; fi
exec "$1" bundle "$2" --trust "$3""#;
    let mut command = as_root("unshare");
    command.args(["--net", "--mount", "--", "sh", "-euc", script, "sh"]);
    let verdict = ran(command.arg(program("verify-release")).arg(bundle()).arg(trust())).good();
    assert!(verdict.out.starts_with("accepted\n"), "{verdict}");
}

#[test]
fn standard_output_is_the_verdict_and_the_exit_code_its_sense() {
    if !require(Tier::Test, &[Need::Release]) {
        return;
    }
    let scratch = Scratch::new(TMP, "offline-exit-codes");
    let accepted = verify(&bundle(), &trust());
    assert_eq!(accepted.code, Some(0), "{accepted}");
    assert!(accepted.out.starts_with("accepted\n") && accepted.err.is_empty(), "{accepted}");

    let mut json = Command::new(program("verify-release"));
    json.args(["bundle", "--format", "json"]).arg(bundle()).arg("--trust").arg(trust());
    let json = ran(&mut json).good();
    let verdict: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(json.err.is_empty() && verdict.is_object(), "{json}");

    // Hard links would damage the bundle that all tests read.
    let copy = |name: &str| {
        let to = scratch.join(name);
        ran(Command::new("cp").arg("--recursive").arg(bundle()).arg(&to)).good();
        to
    };
    let truncated = copy("truncated");
    for name in ["release.json", "image/index.json", "commit.commit"] {
        let path = truncated.join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let cut = copy("cut");
    let largest = fs::read_dir(cut.join("image/blobs/sha256")).unwrap().flatten().map(|entry| entry.path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let length = largest.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(&largest).unwrap().set_len(length / 2).unwrap();
    let empty = scratch.join("empty");
    fs::create_dir(&empty).unwrap();
    let no_roles = scratch.join("no-roles");
    fs::create_dir(&no_roles).unwrap();
    for name in ["build.pub", "release.pub", "commit.asc"] {
        fs::copy(trust().join(name), no_roles.join(name)).unwrap();
    }
    let absent = scratch.join("absent");
    let (bundle, trust) = (bundle(), trust());
    let refused: [(&str, &Path); 3] =
        [("truncated files", &truncated), ("a truncated layer", &cut), ("an empty folder", &empty)];
    for (what, bundle) in refused {
        let verdict = verify(bundle, &trust);
        eprintln!("{what}: {}", verdict.out.lines().take(3).collect::<Vec<_>>().join(" | "));
        assert_eq!(verdict.code, Some(1), "{what}: {verdict}");
        assert!(verdict.out.starts_with("refused\n") && verdict.err.is_empty(), "{what}: {verdict}");
    }
    let faults: [(&str, &Path, &Path); 4] = [
        ("no bundle", &absent, &trust),
        ("no trust", &bundle, &absent),
        ("an empty trust", &bundle, &empty),
        ("trust without roles", &bundle, &no_roles),
    ];
    for (what, bundle, trust) in faults {
        let fault = verify(bundle, trust);
        eprintln!("{what}: {}", fault.err.lines().collect::<Vec<_>>().join(" | "));
        assert_eq!(fault.code, Some(2), "{what}: {fault}");
        assert!(fault.out.is_empty() && fault.err.starts_with("verify-release: "), "{what}: {fault}");
    }
    for words in [&["bundle"][..], &["bundle", "x", "--format", "xml"], &["bundel"], &[]] {
        let usage = ran(Command::new(program("verify-release")).args(words));
        assert_eq!(usage.code, Some(2), "{words:?}: {usage}");
        assert!(usage.out.is_empty(), "{usage}");
    }
}

#[test]
fn memory_stays_below_the_promised_peak() {
    if !require(Tier::Test, &[Need::Release, Need::Program("python3")]) {
        return;
    }
    // The largest resident set of a program that ended, as the kernel counted it.
    let peak = |command: &mut dyn FnMut(&mut Command)| {
        let script = "import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode)";
        let mut python = Command::new("python3");
        python.args(["-c", script]);
        command(&mut python);
        ran(&mut python).good().out.trim().parse::<u64>().unwrap()
    };
    let ours = peak(&mut |c| {
        c.arg(program("verify-release")).arg("bundle").arg(bundle()).arg("--trust").arg(trust());
    });
    eprintln!("verify-release: {} MiB at its peak", ours / 1024);
    assert!(ours < PEAK_KIB_MAX, "{ours} KiB");
    let hungry = peak(&mut |c| {
        c.args(["python3", "-c", "b'x' * (300 << 20)"]);
    });
    assert!(hungry > PEAK_KIB_MAX, "300 MiB are measured as {hungry} KiB");
}
