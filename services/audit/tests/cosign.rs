//! Level L3: a witness on another machine, which gets a request as a file and gives an answer.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod running;

use running::{PROGRAM, Running, ask, copy_tree, note};
use secai_api::audit::{Reply, Request};
use secai_verifier::audit::add_checkpoint::request;
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::{Note, VerifierKey};
use secai_verifier::audit::cosignature::CosignerKey;
use secai_verifier::audit::proof::Proof;
use secai_verifier::audit::store::Store;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Somebody with another machine.
struct Ada {
    folder: TempDir,
    key: CosignerKey,
}

impl Ada {
    fn new(device: &Running) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["seen", "trust"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        device.note_key();
        fs::copy(device.path("device.vkey"), folder.path().join("trust/device.vkey")).unwrap();
        let made = run(folder.path(), &["--new-key", "ada.example/witness", "--key", "key"]);
        assert!(made.status.success(), "{made:?}");
        let key = String::from_utf8(made.stdout).unwrap().trim_end().parse().unwrap();
        Self { folder, key }
    }

    fn command(&self, request: &str) -> Command {
        let words = ["--key", "key", "--state", "seen", "--trust", "trust", request];
        command(self.folder.path(), &words)
    }

    /// What she answers: exit code, the answer, and why not.
    fn answers(&self, request: &str) -> (Option<i32>, String, String) {
        fs::write(self.folder.path().join("request"), request).unwrap();
        told(&self.command("request").output().unwrap())
    }

    /// The note with her cosignature under it, which holds.
    fn cosigns(&self, note: &Note, request: &str) -> Note {
        let (code, answer, said) = self.answers(request);
        assert_eq!(code, Some(0), "{said}");
        let mut cosigned = note.clone();
        cosigned.add(answer.as_bytes()).unwrap();
        assert!(cosigned.cosigned(&self.key).unwrap().seconds > 1_700_000_000);
        cosigned
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("cosign").args(words).current_dir(folder);
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn write(device: &Running, count: usize) {
    let connection = device.connect();
    for _ in 0..count {
        assert!(matches!(ask(&connection, note("x")), Reply::Appended { .. }));
    }
}

/// The newest checkpoint, and what a witness is asked about it who saw `old` entries.
fn asked(device: &Running, old: u64) -> (Note, String) {
    let Reply::Checkpoint { note, .. } = ask(&device.connect(), Request::Checkpoint {}) else {
        panic!("no checkpoint")
    };
    let note = Note::parse(note.as_bytes()).unwrap();
    let (asked, _) = request(&Store::open(&device.path("state/chain")).unwrap(), old, &note).unwrap();
    (note, asked.render())
}

fn level(device: &Running, kept: &Note, by: &CosignerKey) -> Result<&'static str, String> {
    let trusted: [VerifierKey; 1] = [fs::read_to_string(device.path("device.vkey")).unwrap().parse().unwrap()];
    let (cosigners, threads) = (std::slice::from_ref(by), NonZeroUsize::MIN);
    let options = Options { trusted: &trusted, witnessed: Some(kept), cosigners, full: false, threads };
    match check(&Store::open(&device.path("state/chain")).unwrap(), &options).unwrap() {
        Verdict::Accepted(chain) => Ok(chain.report().level()),
        Verdict::Refused(refusals) => Err(refusals[0].name().to_owned()),
        Verdict::SignerUnknown(_) => Err("SignerUnknown".to_owned()),
    }
}

#[test]
fn a_chain_that_grows_is_cosigned_and_one_that_went_back_is_not() {
    let mut device = Running::new();
    write(&device, 3);
    let ada = Ada::new(&device);
    let (first, request) = asked(&device, 0);
    let first = ada.cosigns(&first, &request);
    assert_eq!(level(&device, &first, &ada.key), Ok("L3"));
    // Once more: she saw more than nothing, and says how much.
    let (code, answer, said) = ada.answers(&request);
    assert_eq!((code, answer), (Some(1), format!("{}\n", first.checkpoint.size)), "{said}");
    assert!(said.contains("not cosigned: this witness saw"), "{said}");

    device.end(rustix::process::Signal::TERM);
    let old = tempfile::tempdir().unwrap();
    for name in ["state", "keys"] {
        copy_tree(&device.path(name), &old.path().join(name));
    }
    device.start(&mut device.command());
    write(&device, 300);
    let (second, request) = asked(&device, first.checkpoint.size);
    let second = ada.cosigns(&second, &request);
    assert_eq!(level(&device, &second, &ada.key), Ok("L3"));
    assert_eq!(level(&device, &first, &ada.key), Ok("L3"));

    // An older disk comes back and grows past what she saw: every signature is good, and it is another chain.
    device.end(rustix::process::Signal::TERM);
    for name in ["state", "keys"] {
        fs::remove_dir_all(device.path(name)).unwrap();
        copy_tree(&old.path().join(name), &device.path(name));
    }
    device.start(&mut device.command());
    write(&device, 400);
    let (_, request) = asked(&device, second.checkpoint.size);
    let (code, answer, said) = ada.answers(&request);
    assert_eq!((code, answer.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("does not show that"), "{said}");
    assert_eq!(level(&device, &second, &ada.key), Err("WitnessedRootDiffers".to_owned()));
    // Negative controls: the chain alone is accepted, and so is it by a witness without a memory.
    device.judged();
    let (forked, request) = asked(&device, 0);
    Ada::new(&device).cosigns(&forked, &request);
    // Her word from before is still worth what it was.
    assert_eq!(level(&device, &first, &ada.key), Ok("L3"));
}

#[test]
fn what_was_asked_counts_as_seen_before_it_is_answered() {
    let device = Running::new();
    write(&device, 3);
    let ada = Ada::new(&device);
    let (first, request) = asked(&device, 0);
    fs::write(ada.folder.path().join("request"), &request).unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let lost = ada.command("request").stdout(full).output().unwrap();
    assert_eq!(lost.status.code(), Some(2), "{lost:?}");
    let (code, answer, _) = ada.answers(&request);
    assert_eq!((code, answer), (Some(1), format!("{}\n", first.checkpoint.size)));
    // From there on she answers, about the same and about more.
    let same = format!("old {}\n\n{}", first.checkpoint.size, first.render());
    ada.cosigns(&first, &same);
    write(&device, 1);
    let (more, request) = asked(&device, first.checkpoint.size);
    ada.cosigns(&more, &request);
}

#[test]
fn of_many_at_once_one_is_answered() {
    let device = Running::new();
    let ada = Ada::new(&device);
    let names: Vec<String> = (0..8).map(|at| format!("request-{at}")).collect();
    for name in &names {
        write(&device, 1);
        fs::write(ada.folder.path().join(name), asked(&device, 0).1).unwrap();
    }
    let piped = |name: &String| ada.command(name).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = names.iter().map(piped).collect();
    let answers: Vec<_> = children.into_iter().map(|child| told(&child.wait_with_output().unwrap())).collect();
    let given = answers.iter().filter(|(code, ..)| *code == Some(0)).count();
    assert_eq!((given, answers.len()), (1, 8), "{answers:?}");
    assert!(answers.iter().all(|(code, ..)| matches!(code, Some(0 | 1))), "{answers:?}");
}

#[test]
fn keys_of_later_epochs_are_shown_by_proofs() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifier/spec/vectors/audit");
    let dir = tempfile::tempdir().unwrap();
    for name in ["seen", "trust"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::copy(vectors.join("device.vkey"), dir.path().join("trust/device.vkey")).unwrap();
    assert!(run(dir.path(), &["--new-key", "w", "--key", "key"]).status.success());
    let words = ["--key", "key", "--state", "seen", "--trust", "trust"];
    let of = |more: &[&str]| told(&run(dir.path(), &[&words[..], more].concat()));
    let closing = fs::read_to_string(vectors.join("chain/checkpoints.log")).unwrap();
    fs::write(dir.path().join("first"), format!("old 0\n\n{closing}")).unwrap();
    assert_eq!(of(&["first"]).0, Some(0));
    let request = vectors.join("witness/request");
    let epochs = vectors.join("witness/request.epochs");
    let (code, _, said) = of(&[request.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no key that follows"), "{said}");
    let with = ["--epochs", epochs.to_str().unwrap(), request.to_str().unwrap()];
    assert_eq!(of(&with).0, Some(0));
    // Now she knows that key.
    let note = fs::read_to_string(vectors.join("chain/checkpoint")).unwrap();
    fs::write(dir.path().join("again"), format!("old 5\n\n{note}")).unwrap();
    assert_eq!(of(&["again"]).0, Some(0));
    assert_eq!(Proof::parse_all(&fs::read(&epochs).unwrap()).unwrap().len(), 1);
}

#[test]
fn what_is_no_request_is_a_no_and_what_is_not_there_is_no_answer() {
    let device = Running::new();
    write(&device, 1);
    let ada = Ada::new(&device);
    let (note, request) = asked(&device, 0);
    for (text, words) in [
        (String::new(), "it has no checkpoint"),
        (request.replacen("old 0", "old 00", 1), "one spelling"),
        (request.replacen(&format!("\n{}\n", note.checkpoint.size), "\n99\n", 1), "does not hold"),
        ("x".repeat(100_000), "it has no checkpoint"),
    ] {
        let (code, answer, said) = ada.answers(&text);
        assert_eq!((code, answer.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains(words), "{said}");
    }
    fs::remove_file(ada.folder.path().join("trust/device.vkey")).unwrap();
    let (code, _, said) = ada.answers(&request);
    assert!(code == Some(1) && said.contains("no chain that this witness knows"), "{said}");
    fs::copy(device.path("device.vkey"), ada.folder.path().join("trust/device.vkey")).unwrap();
    assert_eq!(fs::read_dir(ada.folder.path().join("seen")).unwrap().count(), 0, "nothing was remembered");

    let no = |words: &[&str]| {
        let (code, answer, said) = told(&run(ada.folder.path(), words));
        assert!(code == Some(2) && answer.is_empty() && !said.is_empty(), "{words:?}: {said}");
    };
    no(&["--new-key", "ada", "--key", "key"]);
    no(&["--new-key", "a b", "--key", "other"]);
    no(&["--key", "absent", "--state", "seen", "--trust", "trust", "request"]);
    no(&["--key", "key", "--state", "absent", "--trust", "trust", "request"]);
    no(&["--key", "key", "--state", "seen", "--trust", "absent", "request"]);
    no(&["--key", "key", "--state", "seen", "--trust", "trust", "absent"]);
    no(&["--key", "key"]);
    let key = ada.folder.path().join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    no(&["--key", "key", "--state", "seen", "--trust", "trust", "request"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(ada.answers(&request).0, Some(0));
    // A memory that somebody changed is no memory, and never a new beginning.
    let memory = fs::read_dir(ada.folder.path().join("seen")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read_to_string(&memory).unwrap();
    for bad in ["", "{}", &good.replacen(&format!("\\n{}\\n", note.checkpoint.size), "\\n1\\n", 1)] {
        fs::write(&memory, bad).unwrap();
        no(&["--key", "key", "--state", "seen", "--trust", "trust", "request"]);
    }
}
