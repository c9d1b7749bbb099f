//! Level L1 against a real TPM 2.0 in software (swtpm), looked at with other people's tools (tpm2-tools).
#![cfg(feature = "tpm")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests may panic and print, as tests may")]

mod running;

use running::{PROGRAM, Running, ask, copy_tree, note};
use secai_api::audit::Reply;
use secai_audit::recover::{Places, open};
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// As `spec/audit-chain.md` has it.
const INDEX: &str = "0x01815ec1";
const SLOT_BYTES: usize = 288;
const PATIENCE: Duration = Duration::from_secs(20);

/// As `require` of the crate `secai-tests`, on which nothing can depend.
fn lacking() -> bool {
    let there = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|it| it.join(name).is_file())
    };
    let Some(name) = ["swtpm", "tpm2_nvread", "tpm2_clear"].into_iter().find(|name| !there(name)) else { return false };
    let reason = format!("{name} is not installed: ci/setup");
    println!("SKIPPED: {reason}");
    if let Some(file) = std::env::var_os("SECAI_SKIPS") {
        let mut skips = fs::File::options().append(true).create(true).open(file).unwrap();
        skips.write_all(format!("{}\t{reason}\n", file!()).as_bytes()).unwrap();
    }
    let in_ci = std::env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
    assert!(!in_ci, "in CI every test runs: {reason}");
    true
}

/// A TPM whose memory lies in a folder: it survives its power being cut.
struct Tpm {
    memory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Tpm {
    fn new() -> Self {
        let mut tpm = Self { memory: tempfile::tempdir().unwrap(), port: 0, child: None };
        tpm.on();
        tpm
    }

    fn on(&mut self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // The TSS wants two ports, one after the other.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let Some(next) = free.checked_add(1).filter(|next| TcpListener::bind(("127.0.0.1", *next)).is_ok()) else {
                continue;
            };
            let mut command = Command::new("swtpm");
            command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
            command.arg(format!("dir={}", self.memory.path().display()));
            command.args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={free}")]);
            command.args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={next}")]);
            let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while child.try_wait().unwrap().is_none() && Instant::now() < end {
                if TcpStream::connect(("127.0.0.1", next)).is_ok() {
                    (self.port, self.child) = (free, Some(child));
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // Somebody else took a port meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm does not start");
    }

    /// Cuts its power, and gives it some again.
    fn cut_power(&mut self) {
        self.off();
        self.on();
    }

    fn off(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn name(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// What another program says to it; what it answers.
    fn tool(&self, words: &[&str]) -> Vec<u8> {
        let mut command = Command::new(words[0]);
        let ran = command.args(&words[1..]).env("TPM2TOOLS_TCTI", self.name()).output().unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }

    /// The bytes of the index, as somebody else reads them.
    fn bytes(&self) -> Vec<u8> {
        self.tool(&["tpm2_nvread", INDEX])
    }

    /// The notes in both slots.
    fn notes(&self) -> [String; 2] {
        let bytes = self.bytes();
        assert_eq!(bytes.len(), 2 * SLOT_BYTES);
        [0, 1].map(|at| {
            let text = bytes[at * SLOT_BYTES..][..256].split(|byte| *byte == 0).next().unwrap();
            String::from_utf8_lossy(text).into_owned()
        })
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        let file = self.memory.path().join("bytes");
        fs::write(&file, bytes).unwrap();
        self.tool(&["tpm2_nvwrite", INDEX, "-C", "o", "-i", file.to_str().unwrap(), "--offset", &at.to_string()]);
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.off();
    }
}

/// A device with a TPM.
struct Device {
    running: Running,
    tpm: Tpm,
    anchored: TempDir,
}

impl Device {
    fn new() -> Self {
        Self { running: Running::new(), tpm: Tpm::new(), anchored: tempfile::tempdir().unwrap() }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("anchor").arg("--socket").arg(self.running.path("socket"));
        command.arg("--state").arg(self.anchored.path()).args(["--tpm", &self.tpm.name()]).args(more);
        command
    }

    fn anchor_with(&self, more: &[&str]) -> (Option<i32>, String) {
        let ran = self.command(more).output().unwrap();
        assert!(ran.stdout.is_empty());
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    }

    #[track_caller]
    fn good(&self, words: &str) {
        let (code, said) = self.anchor_with(&[]);
        assert!(code == Some(0) && said.contains(words), "{code:?} {said}");
        assert!(!self.anchored.path().join("alarm").exists());
    }

    #[track_caller]
    fn found(&self, words: &str) {
        let (code, said) = self.anchor_with(&[]);
        assert!(code == Some(1) && said.contains(words), "{code:?} {said}");
        let alarm = self.anchored.path().join("alarm");
        assert!(fs::read_to_string(&alarm).unwrap().contains(words));
        fs::remove_file(alarm).unwrap();
    }

    fn write(&self, count: usize) {
        let connection = self.running.connect();
        for _ in 0..count {
            assert!(matches!(ask(&connection, note("x")), Reply::Appended { .. }));
        }
    }

    /// An epoch ends, as it does by itself after a quarter of an hour. In a process of its own: one that another test
    /// is just starting would hold the writer's lock for a moment longer.
    fn end_epoch(&mut self) {
        self.off();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let ran = child.args(["--exact", "an_epoch_ends"]).env(OF, self.running.dir.path()).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        self.on();
    }

    fn off(&mut self) {
        self.running.end(rustix::process::Signal::TERM);
    }

    fn on(&mut self) {
        let mut command = self.running.command();
        self.running.start(&mut command);
        let _ready = self.running.connect();
    }

    /// A copy of its disk: the chain, the writer's key, what was anchored.
    fn disk(&mut self) -> TempDir {
        self.off();
        let copy = tempfile::tempdir().unwrap();
        for name in ["state", "keys"] {
            copy_tree(&self.running.path(name), &copy.path().join(name));
        }
        copy_tree(self.anchored.path(), &copy.path().join("anchored"));
        self.on();
        copy
    }

    /// That disk is put in; the TPM stays.
    fn put_in(&mut self, disk: &TempDir) {
        self.off();
        for (from, to) in [
            ("state", self.running.path("state")),
            ("keys", self.running.path("keys")),
            ("anchored", self.anchored.path().to_owned()),
        ] {
            fs::remove_dir_all(&to).unwrap();
            copy_tree(&disk.path().join(from), &to);
        }
        self.on();
    }
}

fn size(note: &str) -> u64 {
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Says which device, in the process that ends an epoch.
const OF: &str = "SECAI_ANCHOR_DEVICE";

#[test]
fn an_epoch_ends() {
    let Some(device) = std::env::var_os(OF).map(PathBuf::from) else { return };
    let places = Places { state: device.join("state"), keys: device.join("keys") };
    open(&places).unwrap().0.end_epoch().unwrap();
}

#[test]
fn the_head_is_anchored_once_an_epoch_in_the_other_slot() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(3);
    device.good("the TPM remembered nothing yet");
    let first = device.tpm.notes()[0].clone();
    assert!(size(&first) >= 3, "{first}");
    assert_eq!(fs::read_to_string(device.anchored.path().join("anchored.note")).unwrap(), first);
    // Within the epoch nothing is written: memory of a TPM wears.
    device.write(20);
    let before = device.tpm.bytes();
    device.good("begins with what the TPM remembered");
    assert_eq!(device.tpm.bytes(), before);
    device.end_epoch();
    device.write(1);
    device.good("0 entries are not anchored yet");
    let [one, two] = device.tpm.notes();
    assert_eq!(one, first, "the head before stays");
    assert!(size(&two) > size(&one) + 20, "{two}");
    device.good("");
    assert_eq!(device.tpm.notes(), [one, two.clone()]);
    // And back into the first slot; the power of both fails in between.
    device.end_epoch();
    device.tpm.cut_power();
    device.write(1);
    device.good("begins with what the TPM remembered");
    let [one, same] = device.tpm.notes();
    assert!(size(&one) > size(&two) && same == two);
    let public = String::from_utf8(device.tpm.tool(&["tpm2_nvreadpublic", INDEX])).unwrap();
    assert!(public.contains("friendly: ownerwrite|ownerread|authread|no_da|written"), "{public}");
    assert!(public.contains("size: 576"), "{public}");
}

#[test]
fn an_older_disk_is_found_also_once_it_has_grown() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(3);
    let never_anchored = device.disk();
    device.good("the TPM remembered nothing yet");
    let old = device.disk();
    device.write(30);
    device.end_epoch();
    device.write(5);
    device.good("begins with what the TPM remembered");
    for disk in [&old, &never_anchored] {
        device.put_in(disk);
        device.found("somebody has seen");
        device.write(100);
        device.found("are not those that somebody has seen");
        device.end_epoch();
        device.write(1);
        device.found("are not those that somebody has seen");
    }
    // Negative control: the disk alone is accepted; whatever remembers has to be asked.
    device.running.note_key();
    assert!(device.running.judged().entries > 100);
}

#[test]
fn a_tpm_that_forgot_is_said_and_its_owner_may_begin_anew() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(3);
    device.good("the TPM remembered nothing yet");
    let anchored = size(&device.tpm.notes()[0]);
    let forgot = format!("{anchored} entries of this chain were anchored, and this TPM remembers nothing");
    device.tpm.tool(&["tpm2_clear", "-c", "p"]);
    device.found(&forgot);
    // It is said again, and not taken for a first use.
    device.found(&forgot);
    assert_eq!(device.anchor_with(&["--begin-anew"]).0, Some(0));
    device.good("begins with what the TPM remembered");
    // Another TPM, as new.
    let mut other = Tpm::new();
    std::mem::swap(&mut device.tpm, &mut other);
    device.found(&forgot);
    std::mem::swap(&mut device.tpm, &mut other);
    device.good("begins with what the TPM remembered");
    // Somebody removed the index and made it again; then wrote something else to it, then an older head.
    let (bytes, attributes) = (device.tpm.bytes(), "ownerwrite|ownerread|authread|no_da");
    device.end_epoch();
    device.write(2);
    device.good("begins with what the TPM remembered");
    device.tpm.tool(&["tpm2_nvundefine", INDEX]);
    device.tpm.tool(&["tpm2_nvdefine", INDEX, "-C", "o", "-s", "576", "-a", attributes]);
    device.found("is no head of a chain");
    device.tpm.write(0, &[0x5a; 576]);
    device.found("is no head of a chain");
    device.tpm.write(0, &bytes);
    device.found(&format!("and the TPM remembers {anchored}"));
}

#[test]
fn another_chain_is_found() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(3);
    device.good("the TPM remembered nothing yet");
    device.off();
    for name in ["state", "keys"] {
        fs::remove_dir_all(device.running.path(name)).unwrap();
        fs::create_dir(device.running.path(name)).unwrap();
    }
    device.on();
    device.write(10);
    device.found("the kept checkpoint that of");
    // Without what was anchored either.
    fs::remove_file(device.anchored.path().join("anchored.note")).unwrap();
    device.found("the kept checkpoint that of");
    assert!(device.anchor_with(&["--begin-anew"]).1.contains("was given up, as its owner said"));
    device.good("begins with what the TPM remembered");
}

#[test]
fn a_crash_at_any_step_is_no_alarm() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(3);
    let attributes = "ownerwrite|ownerread|authread|no_da";
    // After the index was made.
    device.tpm.tool(&["tpm2_nvdefine", INDEX, "-C", "o", "-s", "576", "-a", attributes]);
    device.good("the TPM remembered nothing yet");
    // After the first head was written, and after a later one.
    let kept = device.anchored.path().join("anchored.note");
    let first = fs::read_to_string(&kept).unwrap();
    fs::remove_file(&kept).unwrap();
    device.good("begins with what the TPM remembered");
    assert_eq!(fs::read_to_string(&kept).unwrap(), first);
    device.end_epoch();
    device.write(4);
    device.good("begins with what the TPM remembered");
    let second = fs::read_to_string(&kept).unwrap();
    assert_ne!(second, first);
    fs::write(&kept, &first).unwrap();
    device.good("begins with what the TPM remembered");
    assert_eq!(fs::read_to_string(&kept).unwrap(), second);
    // While a head was written over the oldest one: the power went at some byte of it.
    device.end_epoch();
    device.write(4);
    let bytes = device.tpm.bytes();
    for cut in [1, 100, 287] {
        let torn: Vec<u8> = bytes[..cut].iter().map(|byte| !byte).collect();
        device.tpm.write(0, &torn);
        // What was torn is written anew; the head that stayed is compared.
        device.good(&format!("begins with what the TPM remembered ({} entries)", size(&second)));
        let [one, two] = device.tpm.notes();
        assert!(size(&one) > size(&two) && two == second, "{cut}");
        device.tpm.write(0, &bytes[..SLOT_BYTES]);
        fs::write(&kept, &second).unwrap();
    }
    // The machine's own power: the writer is killed while it writes, and the TPM's memory is what it was.
    device.good("");
    device.running.end(rustix::process::Signal::KILL);
    device.tpm.cut_power();
    device.on();
    device.good("begins with what the TPM remembered");
}

#[test]
fn what_cannot_be_asked_is_no_answer() {
    if lacking() {
        return;
    }
    let mut device = Device::new();
    device.write(1);
    let no = |device: &Device, more: &[&str], words: &str| {
        let (code, said) = device.anchor_with(more);
        assert!(code == Some(2) && said.contains(words), "{code:?} {said}");
        assert!(!device.anchored.path().join("anchored.note").exists());
    };
    // An owner with a password: without it nothing is made, with it everything goes its way.
    let password = device.anchored.path().join("../owner-of-the-tpm");
    let password = password.to_str().unwrap();
    fs::write(password, "sesame").unwrap();
    device.tpm.tool(&["tpm2_changeauth", "-c", "o", "sesame"]);
    no(&device, &[], "--owner-auth FILE");
    fs::write(password, "guess").unwrap();
    no(&device, &["--owner-auth", password], "--owner-auth FILE");
    no(&device, &["--owner-auth", "/absent"], "holds no password");
    fs::write(password, "sesame").unwrap();
    let (code, said) = device.anchor_with(&["--owner-auth", password]);
    assert_eq!(code, Some(0), "{said}");
    // To compare no password is needed.
    device.good("begins with what the TPM remembered");
    device.end_epoch();
    device.write(1);
    assert_eq!(device.anchor_with(&[]).0, Some(2), "to write one is");
    assert_eq!(device.anchor_with(&["--owner-auth", password]).0, Some(0));
    fs::remove_file(password).unwrap();

    let mut device = Device::new();
    device.write(1);
    // Somebody else's index is not written over.
    device.tpm.tool(&["tpm2_nvdefine", INDEX, "-C", "o", "-s", "64", "-a", "ownerwrite|ownerread|authread"]);
    no(&device, &[], "somebody else's");
    device.tpm.tool(&["tpm2_nvundefine", INDEX]);
    device.off();
    no(&device, &[], "does not answer");
    device.on();
    device.tpm.off();
    no(&device, &[], "cannot be reached");
}
