//! `secaictl audit`, one verb after the other, against a fake daemon: a socket of this test that hands out a chain of
//! this test, and answers the rest as each test says. The real daemon has tests of its own.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

mod witness;

use ed25519_dalek::{Signer, SigningKey};
use secai_api::audit::{Answered, Asked, Reply, Request, Status, Why, from_packet, to_packet};
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Received};
use secai_verifier::audit::checkpoint::{Checkpoint, Note, VerifierKey, origin};
use secai_verifier::audit::entry::{Entry, Moment, genesis};
use secai_verifier::audit::tree::{Frontier, leaf};
use secai_verifier::audit::{SEGMENT_ENTRIES, segment_path, tile_path};
use secai_verifier::digest::Digest;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes longer than this unless the machine stands still.
const PATIENCE: Duration = Duration::from_secs(20);

/// The chain of the specification: five entries, the end of an epoch and a remark among them.
fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifier/spec/vectors/audit")
}

// ---- a chain ----

/// A chain that this test writes and signs.
struct Chain {
    folder: PathBuf,
    secret: SigningKey,
    /// Lines of the segment that are not in its file yet.
    lines: Vec<u8>,
    tree: Frontier,
    leaves: Vec<Digest>,
    upper: Vec<(u64, Digest)>,
    prev: Digest,
}

impl Chain {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("seg")).unwrap();
        let secret = SigningKey::from_bytes(&[7; 32]);
        let prev = genesis(&origin(&secret.verifying_key().to_bytes()));
        Self { folder, secret, lines: Vec::new(), tree: Frontier::new(), leaves: Vec::new(), upper: Vec::new(), prev }
    }

    fn key(&self) -> VerifierKey {
        let public = self.secret.verifying_key().to_bytes();
        VerifierKey::new(&origin(&public), &public).unwrap()
    }

    /// Appends; tiles are written as they fill up.
    fn add(&mut self, kind: &str, data: &str) {
        let seq = self.tree.size();
        if seq.is_multiple_of(SEGMENT_ENTRIES) {
            self.flush();
        }
        let time = Moment::from_micros(1_795_381_200_000_000 + seq);
        let (writer, uid) = ("audit", 956);
        let entry = Entry { seq, prev: self.prev, time, boot: 1, mono: seq, writer, uid, kind, data, payload: None };
        let at = self.lines.len();
        entry.render(&mut self.lines);
        let line = &self.lines[at..];
        self.prev = Digest::of(line);
        let folder = &self.folder;
        let put = |level: u32, index: u64, hash: Digest| {
            let path = folder.join(tile_path(level / 8, index / 256));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::options().append(true).create(true).open(path).unwrap().write_all(hash.as_bytes()).unwrap();
        };
        let own = leaf(line);
        self.leaves.push(own);
        if self.leaves.len() == 256 {
            self.leaves.drain(..).for_each(|hash| put(0, seq, hash));
        }
        let upper = &mut self.upper;
        self.tree.push_with(own, |level, index, hash| {
            // Above them one only: it is full when the first segment is.
            if level == 8 {
                upper.push((index, hash));
            }
        });
        if self.upper.len() == 256 {
            self.upper.drain(..).for_each(|(index, hash)| put(8, index, hash));
        }
        self.lines.push(b'\n');
    }

    /// Writes without signing.
    fn flush(&mut self) {
        if let Some(last) = self.tree.size().checked_sub(1) {
            let path = self.folder.join(segment_path(last / SEGMENT_ENTRIES * SEGMENT_ENTRIES));
            File::options().append(true).create(true).open(path).unwrap().write_all(&self.lines).unwrap();
            self.lines.clear();
        }
    }

    fn note(&self) -> Note {
        let key = self.key();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: self.tree.size(), root: self.tree.root() };
        let signature = self.secret.sign(checkpoint.body().as_bytes()).to_bytes();
        Note::sealed(checkpoint, &key, &signature)
    }

    fn sign(&mut self) {
        self.flush();
        let part = self.folder.with_extension("part");
        fs::write(&part, self.note().render()).unwrap();
        fs::rename(part, self.folder.join("checkpoint")).unwrap();
    }
}

const STATE: &str = r#"{"from":"inactive","result":"success","to":"active","unit":"x.service"}"#;

// ---- the fake daemon ----

/// What it was asked, beside `open` and `status`, as JSON.
type Asks = Arc<Mutex<Vec<Value>>>;

struct FakeDaemon {
    folder: TempDir,
    asks: Asks,
}

/// Answers to what is not `open` or `status`.
type Answers = fn(&Request) -> Reply;

impl FakeDaemon {
    /// Hands out `chain` and says this key; `gap` is what it says of that.
    fn new(chain: &Path, key: &str, gap: bool, answers: Answers) -> Self {
        let (folder, chain, asks) = (tempfile::tempdir().unwrap(), File::open(chain).unwrap(), Asks::default());
        let listener = bind_without_systemd(&folder.path().join("audit.sock")).unwrap();
        let (kept, key) = (Arc::clone(&asks), key.to_owned());
        thread::spawn(move || {
            let mut buffer = Buffer::new();
            loop {
                let Some(connection) = listener.accept().unwrap() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                while let Ok(Received::Packet(packet)) = connection.receive(&mut buffer) {
                    let Asked { id, ask } = from_packet(packet).unwrap();
                    let answer = match &ask {
                        Request::Open {} => Reply::Opened {},
                        Request::Status {} => Reply::Status(Status {
                            size: 5,
                            signed: 4,
                            epoch: 1,
                            device_key: key.clone(),
                            written: [("owner.note".to_owned(), 3)].into(),
                            refused: [("not_allowed".to_owned(), 2)].into(),
                            gap,
                            disk_full: false,
                            hears_systemd: true,
                        }),
                        other => {
                            kept.lock().unwrap().push(serde_json::to_value(other).unwrap());
                            answers(other)
                        }
                    };
                    let beside = matches!(answer, Reply::Opened {}).then(|| chain.as_fd());
                    if connection.send(&to_packet(&Answered { id, answer }).unwrap(), beside).is_err() {
                        break;
                    }
                }
            }
        });
        Self { folder, asks }
    }

    fn of_vectors(answers: Answers) -> Self {
        let key = fs::read_to_string(vectors().join("device.vkey")).unwrap();
        Self::new(&vectors().join("chain"), key.trim_end(), false, answers)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = secaictl(words);
        command.arg("--socket").arg(self.folder.path().join("audit.sock"));
        command
    }

    fn asks(&self) -> Vec<Value> {
        self.asks.lock().unwrap().clone()
    }
}

fn no(_: &Request) -> Reply {
    Reply::Refused { why: Why::NotAllowed, message: "user 1 may not\x1b[2J ask for this".to_owned() }
}

/// What is signed already.
fn signs(_: &Request) -> Reply {
    let read = |name| fs::read_to_string(vectors().join(name)).unwrap();
    Reply::Checkpoint { note: read("chain/checkpoint"), key: read("device.vkey").trim_end().to_owned() }
}

fn appended(_: &Request) -> Reply {
    Reply::Appended { seq: Some(41) }
}

// ---- the program ----

fn secaictl(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secaictl"));
    command.arg("audit").args(words).stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let ran = Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!format!("{}{}", ran.out, ran.err).contains('\x1b'), "{ran:?}");
    ran
}

impl Ran {
    fn has(&self, code: i32, out: &[&str], err: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for (text, parts) in [(&self.out, out), (&self.err, err)] {
            for part in parts {
                assert!(text.contains(part), "`{part}` is not in {self:#?}");
            }
            assert!(!parts.is_empty() || text.is_empty(), "{self:#?}");
        }
    }

    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// A folder with the key of the vectors, and a copy of their chain.
fn copies() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (trust, chain) = (folder.path().join("trust"), folder.path().join("chain"));
    fs::create_dir(&trust).unwrap();
    fs::copy(vectors().join("device.vkey"), trust.join("device.vkey")).unwrap();
    copy(&vectors().join("chain"), &chain);
    (folder, trust, chain)
}

// ---- reading ----

#[test]
fn show_says_what_is_there_and_how_much_it_left_out() {
    let daemon = FakeDaemon::of_vectors(no);
    let all = ran(&mut daemon.command(&["show", "--payloads"]));
    all.has(
        0,
        &[
            "      1  2026-11-22T19:20:00.000002Z  audit(956)  owner.note  bytes=17  payload=\"remember the milk\"\n",
            "to=active unit=secure-ai-airlock.service\n",
            "5 shown, 0 left out by the filter\naccepted: 5 entries, 0 of them not signed yet\n",
            "said by the daemon itself",
        ],
        &[],
    );
    let some = ran(&mut daemon.command(&["show", "--from", "1", "--until", "4", "--kind", "svc.state", "--json"]));
    some.has(0, &["svc.state"], &[]);
    let [entry, sum] = &some.json()[..] else { panic!("{some:?}") };
    assert_eq!((&entry["seq"], &entry["d"]["to"], &entry["signed"]), (&json!(3), &json!("active"), &json!(true)));
    assert_eq!((&sum["shown"], &sum["left_out"], &sum["entries"]), (&json!(1), &json!(4), &json!(5)));
    assert_eq!((&sum["verdict"], &sum["signer_from"]), (&json!("accepted"), &json!("said by the daemon itself")));
    ran(&mut daemon.command(&["show", "--from", "3", "--until", "3"])).has(2, &[], &["no entries", "hint:"]);
}

#[test]
fn a_copy_is_shown_by_whose_key_it_is() {
    let (_folder, trust, chain) = copies();
    let of = |words: &[&str]| ran(secaictl(words).arg("--dir").arg(&chain));
    of(&["show", "--trust", trust.to_str().unwrap()]).has(0, &["accepted: 5 entries", "signed by secai-os"], &[]);
    let unknown = of(&["show", "--json"]);
    unknown.has(2, &["consistent in itself, signer unknown"], &[]);
    assert_eq!(unknown.json().last().unwrap()["signer"], Value::Null, "that of a later epoch follows from nothing");
    let other = tempfile::tempdir().unwrap();
    let key = Chain::new(other.path().join("chain")).key();
    fs::write(other.path().join("other.vkey"), format!("{key}\n")).unwrap();
    of(&["show", "--trust", other.path().to_str().unwrap()]).has(1, &["refused\nChainOfAnotherKey"], &[]);
    ran(&mut secaictl(&["show", "--dir", "/nowhere"])).has(2, &[], &["error: cannot read /nowhere", "hint:"]);
}

#[test]
fn borders_of_segments_and_removed_ones_are_nothing_special() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().join("chain"));
    (0..SEGMENT_ENTRIES + 3).for_each(|_| chain.add("svc.state", STATE));
    chain.sign();
    let daemon = FakeDaemon::new(&chain.folder, &chain.key().to_string(), false, no);
    let across = ran(&mut daemon.command(&["show", "--from", "65534", "--until", "65538"]));
    across.has(0, &["\n  65536  ", "\n  65537  ", "4 shown, 65535 left out", "65539 entries"], &[]);
    assert!(across.out.starts_with("  65534  "), "{across:?}");
    chain.add("audit.prune", r#"{"until":65536}"#);
    chain.sign();
    fs::remove_file(chain.folder.join(segment_path(0))).unwrap();
    let rest = ran(&mut daemon.command(&["show"]));
    rest.has(0, &["audit.prune  until=65536\n4 shown, 0 left out", "note: the entries before 65536 were removed"], &[]);
    fs::remove_file(chain.folder.join("tile/1/000")).unwrap();
    fs::write(chain.folder.join("tile/0/000"), [7; 256 * 32]).unwrap();
    ran(&mut daemon.command(&["show"])).has(1, &["refused\n"], &[]);
}

#[test]
fn a_busy_writer_is_no_reason_to_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().join("chain"));
    chain.add("svc.state", STATE);
    chain.sign();
    let daemon = FakeDaemon::new(&chain.folder, &chain.key().to_string(), false, no);
    let writer = thread::spawn(move || {
        // Bounded: a chain that grows without end is read without end.
        for _ in 0..400 {
            (0..5).for_each(|_| chain.add("svc.state", STATE));
            chain.flush();
            (0..5).for_each(|_| chain.add("svc.state", STATE));
            chain.sign();
            thread::sleep(Duration::from_millis(2));
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        let said = ran(&mut daemon.command(&["show", "--kind", "audit.stop"]));
        said.has(0, &["0 shown", "accepted"], &[]);
        looks += 1;
    }
    assert!(looks > 3, "{looks} looks at a chain that was being written");
    writer.join().unwrap();
}

#[test]
fn what_is_refused_is_not_shown_unless_one_insists() {
    let (_folder, trust, chain) = copies();
    let path = chain.join("seg/000000000000.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("secure-ai-airlock", "secure-ai-\u{9b}2Jock")).unwrap();
    let of = |words: &[&str]| ran(secaictl(words).arg("--dir").arg(&chain).arg("--trust").arg(&trust));
    let refused = of(&["show"]);
    refused.has(1, &["refused\n", "LinkBroken: "], &[]);
    assert!(!refused.out.contains("audit.start"), "{refused:?}");
    let anyway = of(&["show", "--even-if-refused-show-anyway", "--kind", "svc.state"]);
    anyway.has(1, &["refused\n", "NOT VERIFIED        3  {", "1 lines shown that nobody vouches for, 4 left out"], &[]);
    assert!(anyway.out.contains(r"secure-ai-\u{9b}2Jock"), "{anyway:?}");
    of(&["follow"]).has(1, &["refused\n"], &[]);
    let tree = chain.with_extension("tree");
    of(&["export", "--tlog", tree.to_str().unwrap()]).has(1, &[], &["the chain does not hold", "hint:"]);
    assert_eq!(fs::read_dir(chain.parent().unwrap()).unwrap().count(), 2, "nothing is left behind");
}

/// What `follow` prints, line by line, and the process that does.
fn following(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn ended(child: &mut Child) -> (Option<i32>, String) {
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it goes on");
        thread::sleep(Duration::from_millis(5));
    }
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), err)
}

fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

#[test]
fn follow_shows_what_comes_once_it_is_signed_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().join("chain"));
    (0..3).for_each(|_| chain.add("svc.state", STATE));
    chain.sign();
    let daemon = FakeDaemon::new(&chain.folder, &chain.key().to_string(), false, no);
    let (mut child, mut out) = following(daemon.command(&["follow", "--from", "2", "--kind", "svc.state"]));
    assert!(line(&mut out).starts_with("      2  "));
    chain.add("audit.stop", r#"{"refused":0}"#);
    chain.add("svc.state", STATE);
    chain.sign();
    assert!(line(&mut out).starts_with("      4  "));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (code, err) = ended(&mut child);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("said by the daemon itself") && err.contains("1 entries left out"), "{err}");
}

#[test]
fn follow_ends_quietly_when_nobody_reads_and_loudly_when_the_chain_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().join("chain"));
    (0..3).for_each(|_| chain.add("svc.state", STATE));
    chain.sign();
    let daemon = FakeDaemon::new(&chain.folder, &chain.key().to_string(), false, no);
    let (mut child, mut out) = following(daemon.command(&["follow", "--from", "0"]));
    assert!(line(&mut out).starts_with("      0  "));
    drop(out);
    assert_eq!(ended(&mut child).0, Some(0), "nothing new came, and nobody reads");

    let (mut child, mut out) = following(daemon.command(&["follow", "--from", "2"]));
    assert!(line(&mut out).starts_with("      2  "));
    let mut shorter = Chain::new(folder.path().join("shorter"));
    (0..2).for_each(|_| shorter.add("svc.state", STATE));
    shorter.sign();
    for name in [segment_path(0), "checkpoint".to_owned()] {
        fs::rename(shorter.folder.join(&name), chain.folder.join(&name)).unwrap();
    }
    assert_eq!(line(&mut out), "refused\n");
    assert!(line(&mut out).starts_with("HeadOlderThanWitnessed: "));
    assert_eq!(ended(&mut child).0, Some(1));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let daemon = FakeDaemon::of_vectors(no);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = daemon.command(&["show"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((status.status.code(), status.stderr.len()), (Some(0), 0));
}

#[test]
fn prove_writes_what_others_can_check_and_overwrites_nothing() {
    let daemon = FakeDaemon::of_vectors(no);
    let folder = tempfile::tempdir().unwrap();
    let of = |words: &[&str]| ran(daemon.command(words).current_dir(folder.path()));
    of(&["prove", "3"]).has(0, &["3.epoch-0.tlog-proof\n3.tlog-proof\n"], &[]);
    let mut keys: Vec<VerifierKey> =
        vec![fs::read_to_string(vectors().join("device.vkey")).unwrap().trim_end().parse().unwrap()];
    for name in ["3.epoch-0.tlog-proof", "3.tlog-proof"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let proof = secai_verifier::audit::proof::Proof::parse(&bytes).unwrap();
        proof.verify(&keys).unwrap();
        keys.extend(proof.next_key());
    }
    of(&["prove", "3"]).has(2, &[], &["cannot write 3.epoch-0.tlog-proof", "nothing is overwritten"]);
    fs::remove_file(folder.path().join("3.epoch-0.tlog-proof")).unwrap();
    of(&["prove", "3"]).has(2, &[], &["cannot write 3.tlog-proof", "nothing is overwritten"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "half of it is removed again");
    let one = of(&["prove", "0", "-o", "first", "--json"]);
    assert_eq!(one.json(), [json!({"seq": 0, "proofs": ["first"]})]);
    assert!(daemon.asks().is_empty(), "what is signed already needs no daemon");
    of(&["prove", "5"]).has(1, &[], &["user 1 may not", "ask for this"]);
    assert_eq!(daemon.asks(), [json!({"checkpoint": {}})], "what is not is signed first");
    let daemon = FakeDaemon::of_vectors(signs);
    let of = |words: &[&str]| ran(daemon.command(words).current_dir(folder.path()));
    of(&["prove", "5"]).has(1, &[], &["entry 5 is not signed yet", "covers 5 entries", "there is no such entry"]);
}

#[test]
fn export_is_there_as_a_whole_or_not_at_all() {
    let daemon = FakeDaemon::of_vectors(no);
    let folder = tempfile::tempdir().unwrap();
    let of = |words: &[&str]| ran(daemon.command(words).current_dir(folder.path()));
    of(&["export", "--tlog", "tree/"]).has(
        0,
        &["tree: 5 entries, signed by"],
        &["what is not signed yet is left out", "user 1 may not"],
    );
    assert_eq!(daemon.asks(), [json!({"checkpoint": {}})]);
    let tree = folder.path().join("tree");
    let checkpoint = fs::read(tree.join("checkpoint")).unwrap();
    assert_eq!(checkpoint, fs::read(vectors().join("chain/checkpoint")).unwrap());
    assert_eq!(fs::metadata(tree.join("tile/0/000.p/5")).unwrap().len(), 5 * 32);
    assert!(tree.join("tile/entries/000.p/5").is_file());
    of(&["export", "--tlog", "tree"]).has(2, &[], &["cannot write tree", "nothing is overwritten"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(of(&["export", "--tlog", "empty", "--json"]).json()[0]["size"], 5);
    of(&["export", "--tlog", "no/where"]).has(2, &[], &["cannot write no/where"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

// ---- asking ----

/// A note over the vectors' key would need its private half: this is the other chain's.
fn signed() -> Chain {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().to_owned());
    chain.add("svc.state", STATE);
    chain
}

#[test]
fn checkpoint_is_verified_before_it_is_given_out() {
    let chain = signed();
    let key = chain.key().to_string();
    let answers = |_: &Request| {
        let chain = signed();
        Reply::Checkpoint { note: chain.note().render(), key: chain.key().to_string() }
    };
    let daemon = FakeDaemon::new(&vectors().join("chain"), &key, false, answers);
    let plain = ran(&mut daemon.command(&["checkpoint"]));
    plain.has(0, &["\n1\n"], &[]);
    assert_eq!(plain.out, chain.note().render(), "as it is, for a file");
    let folder = tempfile::tempdir().unwrap();
    let of = |words: &[&str]| ran(daemon.command(words).current_dir(folder.path()));
    of(&["checkpoint", "-o", "kept"]).has(0, &["kept: 1 entries signed\n"], &[]);
    assert_eq!(fs::read_to_string(folder.path().join("kept")).unwrap(), plain.out);
    of(&["checkpoint", "-o", "kept"]).has(2, &[], &["cannot write kept", "nothing is overwritten"]);
    let drawn = ran(&mut daemon.command(&["checkpoint", "--qr"]));
    drawn.has(0, &["█▀", "▄"], &[]);
    assert!(drawn.out.starts_with(plain.out.trim_end()), "{drawn:?}");
    assert_eq!(ran(&mut daemon.command(&["checkpoint", "--json"])).json()[0]["note"], plain.out);

    // Another signature, and another chain than the daemon says is its own.
    let forged = |_: &Request| {
        let chain = signed();
        let note = chain.note().render().replacen("\n1\n", "\n2\n", 1);
        Reply::Checkpoint { note, key: chain.key().to_string() }
    };
    let daemon = FakeDaemon::new(&vectors().join("chain"), &key, false, forged);
    ran(&mut daemon.command(&["checkpoint"])).has(1, &[], &["does not hold"]);
    let daemon = FakeDaemon::of_vectors(answers);
    ran(&mut daemon.command(&["checkpoint"])).has(2, &[], &["something else than it was asked"]);
}

#[test]
fn key_and_status_are_what_the_daemon_says() {
    let daemon = FakeDaemon::of_vectors(no);
    let key = fs::read_to_string(vectors().join("device.vkey")).unwrap();
    let said = ran(&mut daemon.command(&["key"]));
    assert_eq!((said.code, said.out.trim_end()), (Some(0), key.trim_end()), "for a trust directory");
    ran(&mut daemon.command(&["status"])).has(
        0,
        &["entries  5, 4 of them signed\n", "epoch 1\n", "written  owner.note 3\n", "refused  not_allowed 2\n"],
        &[],
    );
    let status = ran(&mut daemon.command(&["status", "--json"])).json();
    assert_eq!((&status[0]["size"], &status[0]["gap"]), (&json!(5), &json!(false)));
}

#[test]
fn note_goes_as_it_is() {
    let daemon = FakeDaemon::of_vectors(appended);
    ran(&mut daemon.command(&["note", "hello"])).has(0, &["entry 41\n"], &[]);
    let mut child = daemon.command(&["note", "-", "--json"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff\n").unwrap();
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.stdout, b"{\"seq\":41}\n");
    let append = |bytes: u64, payload: &str| json!({"append": {"kind": "owner.note", "data": {"bytes": bytes}, "payload": payload}});
    assert_eq!(daemon.asks(), [append(5, "aGVsbG8="), append(2, "/wo=")]);
    ran(&mut daemon.command(&["note", ""])).has(2, &[], &["1 to 8192 bytes", "nothing was written"]);
    ran(&mut daemon.command(&["note", &"x".repeat(8193)])).has(2, &[], &["1 to 8192 bytes"]);
    assert_eq!(daemon.asks().len(), 2);
}

#[test]
fn forget_asks_first() {
    let daemon = FakeDaemon::of_vectors(appended);
    let range = ["forget", "--from", "1", "--until", "3"];
    ran(&mut daemon.command(&range)).has(2, &[], &["no terminal", "--yes"]);
    ran(&mut daemon.command(&["forget", "--from", "3", "--until", "3", "--yes"])).has(2, &[], &["no entries"]);
    assert_eq!(daemon.asks(), [] as [Value; 0]);
    ran(daemon.command(&range).arg("--yes")).has(0, &["forgotten; entry 41 says so\n"], &[]);
    assert_eq!(daemon.asks(), [json!({"forget": {"from": 1, "until": 3}})]);
}

#[test]
fn prune_asks_first() {
    let daemon = FakeDaemon::of_vectors(appended);
    ran(&mut daemon.command(&["prune", "--until", "65536"])).has(2, &[], &["no terminal", "--yes"]);
    for until in ["0", "65535", "65537"] {
        let said = ran(&mut daemon.command(&["prune", "--until", until, "--yes"]));
        said.has(2, &[], &["only whole segments", "multiple of 65536"]);
    }
    assert_eq!(daemon.asks(), [] as [Value; 0]);
    let done = ran(&mut daemon.command(&["prune", "--until", "131072", "--yes"]));
    done.has(0, &["removed; entry 41 says so\n"], &[]);
    assert_eq!(daemon.asks(), [json!({"prune": {"until": 131072}})]);
}

#[test]
fn acknowledge_shows_the_gap_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(folder.path().join("chain"));
    let root = Digest::of(b"before");
    chain.add("audit.gap", &format!(r#"{{"reason":"the chain was gone\u001b[2J","root":"{root}","size":0}}"#));
    chain.sign();
    let daemon = FakeDaemon::new(&chain.folder, &chain.key().to_string(), true, appended);
    ran(&mut daemon.command(&["show"])).has(1, &["GapNotAcknowledged"], &[]);
    let shown = ["the chain was gone\\u{1b}[2J", "nothing was left"];
    ran(&mut daemon.command(&["acknowledge"])).has(2, &[], &[shown[0], shown[1], "no terminal"]);
    assert_eq!(daemon.asks(), [] as [Value; 0]);
    ran(&mut daemon.command(&["acknowledge", "--yes"])).has(0, &["acknowledged; entry 41 says so\n"], &shown);
    assert_eq!(daemon.asks(), [json!({"acknowledge": {}})]);
    let whole = FakeDaemon::of_vectors(appended);
    ran(&mut whole.command(&["acknowledge", "--yes"])).has(1, &[], &["has no gap"]);
    assert_eq!(whole.asks(), [] as [Value; 0]);
}

/// Both ends of a terminal.
fn terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (ours.into(), theirs)
}

#[test]
fn a_terminal_is_asked_and_only_yes_is_yes() {
    let daemon = FakeDaemon::of_vectors(appended);
    for (typed, code) in [("no\n", 1), ("y\n", 1), ("yes\n", 0)] {
        let (mut ours, theirs) = terminal();
        ours.write_all(typed.as_bytes()).unwrap();
        let said = ran(daemon.command(&["forget", "--from", "1", "--until", "3"]).stdin(theirs));
        assert_eq!(said.code, Some(code), "{typed:?}: {said:?}");
        assert!(said.err.contains("entries 1 to 2 will be erased"), "{said:?}");
    }
    assert_eq!(daemon.asks().len(), 1);
}

#[test]
fn a_refusal_is_a_no_and_no_daemon_is_no_answer() {
    let daemon = FakeDaemon::of_vectors(no);
    let yes = ["--yes"];
    let verbs: [&[&str]; 4] =
        [&["checkpoint"], &["note", "x"], &["forget", "--from", "0", "--until", "9"], &["prune", "--until", "65536"]];
    for words in verbs {
        let mut command = daemon.command(words);
        command.args(yes.iter().filter(|_| ["forget", "prune"].contains(&words[0])));
        ran(&mut command).has(
            1,
            &[],
            &["refused (NotAllowed): user 1 may not\u{fffd}[2J", "manifests/services/audit.yml"],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let all: [&[&str]; 11] = [
        &["show"],
        &["follow"],
        &["prove", "1"],
        &["export", "--tlog", "tree"],
        &["checkpoint"],
        &["key"],
        &["status"],
        &["note", "x"],
        &["forget", "--from", "0", "--until", "9", "--yes"],
        &["prune", "--until", "65536", "--yes"],
        &["acknowledge", "--yes"],
    ];
    for words in all {
        let said = ran(secaictl(words).arg("--socket").arg(&socket).current_dir(folder.path()));
        said.has(2, &[], &["the audit daemon cannot be reached", "none.sock", "hint: see `systemctl status"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
