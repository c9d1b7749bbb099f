//! `secaictl profile`, one verb after the other, against a fake service: a socket of this test that answers as each test
//! says, and looks at what came beside the request. The real service has tests of its own.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::isatty;
use secai_api::packet::{from_packet, to_packet};
use secai_api::profiles::{Answered, Asked, Listed, Preview, Reply, Request, Shown, Why};
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Connection, Received};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What it was asked, as JSON, and whether a descriptor lay beside it.
type Asks = Arc<Mutex<Vec<(Value, bool)>>>;

struct FakeService {
    folder: TempDir,
    asks: Asks,
}

impl FakeService {
    /// Does with each request as it is told.
    fn doing(act: impl Fn(&Connection, &Asked, Option<OwnedFd>) + Send + 'static) -> Self {
        let (folder, asks) = (tempfile::tempdir().unwrap(), Asks::default());
        let listener = bind_without_systemd(&folder.path().join("profiles.sock")).unwrap();
        let kept = Arc::clone(&asks);
        thread::spawn(move || {
            let mut buffer = Buffer::new();
            loop {
                let Some(connection) = listener.accept().unwrap() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                loop {
                    let (packet, beside) = match connection.receive_with_descriptor(&mut buffer) {
                        Ok(Received::Packet(packet)) => (packet, None),
                        Ok(Received::PacketWith(packet, beside)) => (packet, Some(beside)),
                        _ => break,
                    };
                    let asked: Asked = from_packet(packet).unwrap();
                    let ask = serde_json::to_value(&asked.ask).unwrap();
                    kept.lock().unwrap().push((ask, beside.is_some()));
                    act(&connection, &asked, beside);
                }
            }
        });
        Self { folder, asks }
    }

    /// Answers; what has no answer is never answered.
    fn answering(answers: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Self {
        Self::doing(move |connection, asked, _| {
            if let Some(answer) = answers(&asked.ask) {
                send(connection, asked.id, answer);
            }
        })
    }

    /// Run without a terminal, whatever this test runs at.
    fn ran(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("setsid");
        command.arg("--wait").args(self.words(words)).stdin(Stdio::null());
        ran(&mut command)
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let socket = self.folder.path().join("profiles.sock");
        let all = [&[env!("CARGO_BIN_EXE_secaictl"), "profile"], words, &["--socket", socket.to_str().unwrap()]];
        all.concat().into_iter().map(str::to_owned).collect()
    }

    fn asks(&self) -> Vec<(Value, bool)> {
        self.asks.lock().unwrap().clone()
    }
}

fn send(connection: &Connection, id: u64, answer: Reply) {
    // Whoever asked may have gone.
    let _ = connection.send(&to_packet(&Answered { id, answer }).unwrap(), None);
}

fn preview() -> Preview {
    let texts = |of: &[&str]| of.iter().map(|it| (*it).to_owned()).collect();
    Preview {
        token: "s3cret".to_owned(),
        from: "offline_private".to_owned(),
        to: "research".to_owned(),
        digest: "abc\x1b[2J".to_owned(),
        loosens: true,
        leaves: texts(&["user 951: tcp to \u{202e}public addresses"]),
        ends: texts(&["user 952: tcp to port 443"]),
        starts: texts(&["tor@default.service"]),
        stops: texts(&["secure-ai-airlock.service"]),
        expires_after_minutes: Some(60),
        told: texts(&["Your provider sees that you use Tor.\nresearch holds"]),
    }
}

fn shown() -> Shown {
    let listed = |name: &str, lacks: &[&str]| Listed {
        name: name.to_owned(),
        about: format!("what {name} is for\r"),
        lacks: lacks.iter().map(|it| (*it).to_owned()).collect(),
    };
    Shown {
        profile: "research".to_owned(),
        digest: "abc".to_owned(),
        ends_after_s: Some(61),
        restored: 3,
        troubles: vec!["2 entries wait for the\naudit daemon".to_owned()],
        profiles: vec![listed("full_lab", &["a.service", "b\x07.service"]), listed("research", &[])],
    }
}

fn applied() -> Reply {
    Reply::Applied { profile: "research".to_owned(), digest: "abc".to_owned(), ends_after_s: None }
}

/// As the service does it where no person is needed.
fn willing(request: &Request) -> Option<Reply> {
    Some(match request {
        Request::Show {} => Reply::Shown(shown()),
        Request::Preview { .. } => Reply::Previewed(preview()),
        Request::Apply { .. } => applied(),
        Request::Evidence {} => Reply::Evidence {},
    })
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    let both = format!("{}{}", ran.out, ran.err);
    assert!(!both.contains(['\x1b', '\r', '\x07']), "{ran:?}");
    // JSON is for programs, and says this as it is.
    assert!(both.starts_with('{') || !both.contains('\u{202e}'), "{ran:?}");
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

    fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

#[test]
fn show_says_what_holds_and_what_each_lacks() {
    let service = FakeService::answering(willing);
    let said = service.ran(&["show"]);
    assert_eq!(
        said.out,
        "research holds; its rules are abc\n\
         it ends by itself in 1 min 1 s\n\
         its rules were changed by others and loaded again, so many times: 3\n\
         trouble: 2 entries wait for the\\u{a}audit daemon\n\
         \x20 full_lab  what full_lab is for\\u{d}; this image lacks a.service, b\\u{7}.service\n\
         * research  what research is for\\u{d}\n"
    );
    said.has(0, &["research"], &[]);
    let said = service.ran(&["show", "--json"]);
    said.has(0, &["research"], &[]);
    assert_eq!(said.json(), serde_json::to_value(shown()).unwrap());
    assert_eq!(service.asks(), vec![(json!({"show": {}}), false); 2]);
}

#[test]
fn preview_says_everything_but_the_token() {
    let service = FakeService::answering(willing);
    let said = service.ran(&["preview", "research"]);
    assert_eq!(
        said.out,
        "offline_private -> research; its rules are abc\\u{1b}[2J\n\
         \x20 may leave  user 951: tcp to \\u{202e}public addresses\n\
         \x20 no longer  user 952: tcp to port 443\n\
         \x20 loosens    something may leave that may not now\n\
         \x20 starts     tor@default.service\n\
         \x20 stops      secure-ai-airlock.service\n\
         \x20 ends       by itself after 60 minutes\n\
         \x20 know       Your provider sees that you use Tor.\\u{a}research holds\n"
    );
    said.has(0, &["research"], &[]);
    let said = service.ran(&["preview", "research", "--json"]);
    assert_eq!(said.json(), serde_json::to_value(preview()).unwrap());
    assert_eq!(service.asks(), vec![(json!({"preview": {"profile": "research"}}), false); 2]);

    let closed = FakeService::answering(|_| {
        let from = "research".to_owned();
        let closed = Preview { from, loosens: false, leaves: vec![], expires_after_minutes: None, ..preview() };
        Some(Reply::Previewed(closed))
    });
    let told = ["research holds already", "nothing leaves this machine", "loosens    nothing\n", "not by itself"];
    closed.ran(&["preview", "research"]).has(0, &told, &[]);
}

#[test]
fn without_a_terminal_it_asks_all_the_same_and_hands_none_over() {
    let service = FakeService::answering(willing);
    let said = service.ran(&["apply", "research"]);
    said.has(0, &["offline_private -> research", "research holds; its rules are abc\n"], &["no terminal"]);
    assert!(!said.out.contains("s3cret"), "{said:?}");
    let said = service.ran(&["apply", "research", "--json", "--token", "earlier"]);
    assert_eq!(said.json(), json!({"profile": "research", "digest": "abc", "ends_after_s": null}));
    let said = service.ran(&["apply", "research", "--json"]);
    assert_eq!(said.json()["profile"], "research");
    let previewed = || (json!({"preview": {"profile": "research"}}), false);
    let applied = |token: &str| (json!({"apply": {"profile": "research", "token": token}}), false);
    assert_eq!(service.asks(), [previewed(), applied("s3cret"), applied("earlier"), previewed(), applied("s3cret")]);
}

/// A terminal: the end that a person has, and the other one.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let device = open(name.as_c_str(), flags, Mode::empty()).unwrap();
    (person.into(), device.into())
}

/// The service asks at the terminal that comes beside the request, and nobody else reads there: standard input is the
/// same terminal in one round, and something else in the other.
#[test]
fn the_terminal_is_handed_over_and_read_by_the_service_alone() {
    for (redirected, typed) in [("", "research"), ("</dev/null", "something else")] {
        let (person, device) = terminal();
        let known = fstat(&device).unwrap().st_rdev;
        let service = FakeService::doing(move |connection, asked, beside| match &asked.ask {
            Request::Preview { .. } => {
                assert!(beside.is_none());
                send(connection, asked.id, Reply::Previewed(preview()));
            }
            _ => {
                let terminal = beside.unwrap();
                let stat = fstat(&terminal).unwrap();
                let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
                let both = fcntl_getfl(&terminal).unwrap() & OFlags::RWMODE == OFlags::RDWR;
                // `/dev/tty` would be a terminal of another number, whichever it stands for.
                let same = stat.st_rdev == known;
                let mut terminal = File::from(terminal);
                let good = is_device && both && same && isatty(&terminal);
                writeln!(terminal, "Type research to confirm: good={good}").unwrap();
                let mut line = String::new();
                BufReader::new(terminal).read_line(&mut line).unwrap();
                let no = Reply::Refused { why: Why::NotConfirmed, message: format!("{} was typed", line.trim_end()) };
                send(connection, asked.id, if line == "research\n" { applied() } else { no });
            }
        });
        let words = service.words(&["apply", "research"]);
        let mut command = Command::new("setsid");
        command.args(["--wait", "--ctty", "sh", "-c", &format!("exec \"$@\" {redirected}"), "sh"]).args(words);
        command.stdin(device.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        drop(command);
        let mut lines = BufReader::new(person.try_clone().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "Type research to confirm: good=true\r\n");
        writeln!(&person, "{typed}").unwrap();
        let output = child.wait_with_output().unwrap();
        // As a login shell does, it kept the terminal from hanging up.
        drop(device);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(err.starts_with("waiting for the service"), "{err}");
        match typed {
            "research" => {
                assert_eq!(output.status.code(), Some(0), "{out}{err}");
                assert!(out.ends_with("research holds; its rules are abc\n"), "{out}{err}");
            }
            _ => {
                assert_eq!(output.status.code(), Some(1), "{out}{err}");
                assert!(err.contains("(not_confirmed): something else was typed"), "{out}{err}");
            }
        }
    }
}

#[test]
fn each_refusal_is_a_no_with_what_to_do() {
    let told = [
        (Why::Malformed, "another version"),
        (Why::NotAllowed, "manifests/services/profiles.yml"),
        (Why::UnknownProfile, "secaictl profile show"),
        (Why::UnitsMissing, "this image"),
        (Why::TokenUnknown, "without --token"),
        (Why::TokenExpired, "without --token"),
        (Why::TokenOfAnother, "without --token"),
        (Why::TokenForAnother, "without --token"),
        (Why::TokenOutdated, "without --token"),
        (Why::NotAPerson, "/etc/secure-ai/operator.yml"),
        (Why::NotConfirmed, "typed at the terminal"),
        (Why::NotRecorded, "secaictl audit status"),
        (Why::Busy, "try again"),
        (Why::Failed, "journalctl -u secure-ai-profiles"),
    ];
    for (why, hint) in told {
        let service = FakeService::answering(move |request| match request {
            Request::Preview { .. } => willing(request),
            _ => Some(Reply::Refused { why, message: "no\x1b[2J\u{202e}\nhint: yes".to_owned() }),
        });
        let message =
            format!("error: the profiles service refused ({}): no\\u{{1b}}[2J\\u{{202e}}\\u{{a}}", why.word());
        let said = service.ran(&["apply", "research", "--json"]);
        said.has(1, &[], &[&message, "\nhint: ", hint]);
        service.ran(&["show"]).has(1, &[], &[&message, hint]);
        assert_eq!(said.err.matches("\nhint: ").count(), 1, "{said:?}");
    }
    // What it could not read has the number 0.
    let service = FakeService::doing(|connection, _, _| {
        send(connection, 0, Reply::Refused { why: Why::Malformed, message: "what?".to_owned() });
    });
    service.ran(&["show"]).has(1, &[], &["(malformed): what?"]);
}

/// What it does instead of an answer to the request of this number.
type Act = fn(&Connection, u64);

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let wrong: [(&str, Act); 9] = [
        ("something else", |to, _| to.send(b"{}", None).unwrap()),
        ("something else", |to, _| to.send(b"\xff\x00", None).unwrap()),
        ("something else", |to, id| send(to, id + 1, Reply::Shown(shown()))),
        ("something else", |to, id| send(to, id, Reply::Previewed(preview()))),
        ("something else", |to, id| send(to, id, applied())),
        ("something else", |to, id| send(to, id, Reply::Evidence {})),
        ("something else", |to, id| {
            let packet = to_packet(&Answered { id, answer: Reply::Shown(shown()) }).unwrap();
            let file = File::open("/dev/null").unwrap();
            to.send(&packet, Some(std::os::fd::AsFd::as_fd(&file))).unwrap();
        }),
        ("something else", |to, _| {
            let long = vec![b' '; secai_api::PACKET_BYTES_MAX + 1];
            rustix::net::send(to, &long, rustix::net::SendFlags::empty()).unwrap();
        }),
        ("went away", |to, _| to.end()),
    ];
    for (at, (told, act)) in wrong.into_iter().enumerate() {
        let service = FakeService::doing(move |connection, asked, _| act(connection, asked.id));
        let said = service.ran(&["show", "--json"]);
        assert!(said.err.contains(told), "{at}: {said:?}");
        said.has(2, &[], &["error: the profiles service ", "\nhint: "]);
    }
    // Another profile than was asked for.
    let service = FakeService::answering(willing);
    service.ran(&["preview", "full_lab"]).has(2, &[], &["something else"]);
    service.ran(&["apply", "full_lab", "--token", "x"]).has(2, &[], &["something else"]);
    service.ran(&["preview", &"a".repeat(40_000)]).has(2, &[], &["longer than any name"]);
}

#[test]
fn who_does_not_answer_is_not_waited_for_and_who_is_not_there_neither() {
    let service = FakeService::answering(|request| match request {
        Request::Preview { .. } => willing(request),
        _ => None,
    });
    let begun = Instant::now();
    service.ran(&["show", "--wait", "1"]).has(2, &[], &["did not answer within 1 s", "secaictl profile show"]);
    let said = service.ran(&["apply", "research", "--wait", "1"]);
    said.has(2, &["offline_private -> research"], &["did not answer within 1 s", "it may have been done or not"]);
    assert!((2..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let folder = tempfile::tempdir().unwrap();
    let nobody = FakeService { folder, asks: Asks::default() };
    nobody.ran(&["show"]).has(2, &[], &["cannot be reached at", "secure-ai-profiles.socket"]);
    nobody.ran(&["apply"]).has(2, &[], &["Usage:"]);
}
