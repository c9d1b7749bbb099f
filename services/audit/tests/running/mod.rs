//! A device with a running service, for the tests beside this folder.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use secai_api::audit::{Answered, Append, Asked, Reply, Request, Status, Why, from_packet, to_packet};
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_verifier::audit::chain::{Options, Verdict, check};
use secai_verifier::audit::checkpoint::VerifierKey;
use secai_verifier::audit::report::Report;
use secai_verifier::audit::store::Store;
use serde_json::value::RawValue;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_secai-audit");
const PATIENCE: Duration = Duration::from_secs(30);

/// A device with a running service.
pub struct Running {
    pub dir: TempDir,
    pub child: Option<Child>,
}

impl Running {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["state", "keys", "witness"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut running = Self { dir, child: None };
        running.start(&mut running.command());
        running
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `secai-audit serve`, behind another program where `words` begin with one.
    pub fn command_behind(&self, words: &[&str]) -> Command {
        let mut all = words.iter().map(|word| (*word).to_owned()).chain([PROGRAM.to_owned()]);
        let mut command = Command::new(all.next().unwrap());
        command
            .args(all)
            .arg("serve")
            .args(["--pages", concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/services")]);
        command.arg("--state").arg(self.path("state")).arg("--keys").arg(self.path("keys"));
        command.arg("--listen-without-systemd").arg(self.path("socket"));
        command
    }

    pub fn command(&self) -> Command {
        self.command_behind(&[])
    }

    pub fn start(&mut self, command: &mut Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    }

    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap_or_else(|| panic!("{}", std::fs::read_to_string(self.path("log")).unwrap()))
    }

    pub fn try_connect(&self) -> Option<Connection> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match Connection::connect(&self.path("socket"), PATIENCE) {
                Ok(connection) => return Some(connection),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        None
    }

    /// Asks it to end, or kills it; whether it ended in order.
    pub fn end(&mut self, signal: rustix::process::Signal) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap().success()
    }

    /// Kills the service where another program started it: that one ends then too.
    pub fn kill_behind(&mut self) {
        let socket = self.path("socket").to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if words.first() == Some(&PROGRAM.as_bytes()) && words.contains(&socket.as_bytes()) {
                let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
        let _ = self.child.take().map(|mut child| child.wait());
    }

    pub fn status(&self) -> Status {
        match ask(&self.connect(), Request::Status {}) {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The verifier's word on the chain.
    pub fn judged(&self) -> Report {
        self.judged_at(&self.path("state/chain"))
    }

    /// Its word on a copy.
    pub fn judged_at(&self, chain: &std::path::Path) -> Report {
        let device = std::fs::read_to_string(self.path("device.vkey")).unwrap();
        let trusted: [VerifierKey; 1] = [device.parse().unwrap()];
        let store = Store::open(chain).unwrap();
        let threads = NonZeroUsize::MIN;
        let options = Options { trusted: &trusted, witnessed: None, cosigners: &[], full: true, threads };
        match check(&store, &options).unwrap() {
            Verdict::Accepted(verified) => verified.report().clone(),
            other => panic!("{other:#?}"),
        }
    }

    /// Remembers the device's key, as its owner would.
    pub fn note_key(&self) {
        std::fs::write(self.path("device.vkey"), self.status().device_key).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(rustix::process::Signal::KILL);
    }
}

pub fn send(connection: &Connection, id: u64, ask: Request) {
    connection.send(&to_packet(&Asked { id, ask }).unwrap(), None).unwrap();
}

pub fn receive(connection: &Connection) -> Option<Answered> {
    match connection.receive_with_descriptor(&mut Buffer::new()) {
        Ok(Received::Packet(packet) | Received::PacketWith(packet, _)) => Some(from_packet(packet).unwrap()),
        _ => None,
    }
}

pub fn ask(connection: &Connection, request: Request) -> Reply {
    send(connection, 1, request);
    receive(connection).unwrap().answer
}

pub fn append(kind: &str, data: &str, payload: Option<&str>) -> Request {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    let payload = payload.map(|text| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text));
    Request::Append(Append { kind: kind.to_owned(), data, payload })
}

pub fn note(text: &str) -> Request {
    append("owner.note", &format!(r#"{{"bytes":{}}}"#, text.len()), Some(text))
}

pub fn refused(reply: &Reply) -> Option<Why> {
    match reply {
        Reply::Refused { why, .. } => Some(*why),
        _ => None,
    }
}

pub fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &to);
        } else if path.is_file() {
            let _ = std::fs::copy(&path, &to).unwrap();
        }
    }
}
