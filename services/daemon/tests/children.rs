//! What needs a process of its own: one with a single thread (the sandbox, systemd's sockets), which a test of the
//! usual harness has not, or one with another environment (readiness, reports). So this is a program that speaks
//! nextest's words: `--list`, a test's name; and, started by such a test, `--child WHAT`.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]
#![expect(clippy::print_stdout, reason = "a harness speaks to nextest on standard output")]

use secai_daemon::audit::AuditClient;
use secai_daemon::listen::{ListenError, Passed};
use secai_daemon::packet::{Buffer, Connection, Received};
use secai_daemon::peer::Peer;
use secai_daemon::readiness::Readiness;
use secai_daemon::report;
use secai_daemon::sandbox::{Holds, Sandbox};
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("what_is_forbidden_fails_inside_and_only_inside", what_is_forbidden_fails_inside_and_only_inside),
    ("what_is_needed_works_inside", what_is_needed_works_inside),
    ("a_needed_path_that_is_not_there_is_an_error", a_needed_path_that_is_not_there_is_an_error),
    ("sockets_of_systemd_arrive_by_name_once", sockets_of_systemd_arrive_by_name_once),
    ("systemd_is_told_how_it_stands", systemd_is_told_how_it_stands),
    ("a_failure_is_said_once_with_what_to_do", a_failure_is_said_once_with_what_to_do),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|it| it == word);
    if let [child, what, rest @ ..] = &words[..]
        && child == "--child"
    {
        return run_child(what, rest);
    }
    if has("--list") {
        // nextest asks a second time for the ignored ones: there are none.
        if !has("--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    for (name, test) in
        TESTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| name.contains(&**it)))
    {
        test();
        println!("{name}: ok");
    }
    ExitCode::SUCCESS
}

// ---- the sandbox ----

/// Something a service has no business doing: tried in a process of its own, inside and outside.
struct Attempt {
    name: &'static str,
    /// Root only: outside, another user cannot do it either.
    root: bool,
    /// The error inside.
    refused: i32,
    run: fn(&Path) -> io::Result<()>,
}

const fn attempt(name: &'static str, refused: i32, run: fn(&Path) -> io::Result<()>) -> Attempt {
    Attempt { name, root: false, refused, run }
}

const fn as_root(name: &'static str, refused: i32, run: fn(&Path) -> io::Result<()>) -> Attempt {
    Attempt { name, root: true, refused, run }
}

/// `scratch` has the folders `read`, `write` and `outside`, each with a `file`; only the first two are needed.
const ATTEMPTS: &[Attempt] = &[
    attempt("start a program", libc::EPERM, |_| Command::new("/bin/true").status().map(drop)),
    attempt("be traced", libc::EPERM, |_| call(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0])),
    attempt("read another process", libc::EPERM, |_| {
        call(libc::SYS_process_vm_readv, [std::process::id().into(), 0, 0, 0])
    }),
    attempt("make a user namespace", libc::EPERM, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
    attempt("clone into a user namespace", libc::EPERM, |_| {
        // Outside, this comes back twice: parent and copy both say that it is done, and end.
        call(libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD).into(), 0, 0, 0])
    }),
    // An empty request is refused with another error where the call is there.
    attempt("clone3", libc::ENOSYS, |_| unless(call(libc::SYS_clone3, [0, 0, 0, 0]), libc::EINVAL)),
    // A kernel that has these numbers switched off knows no such call.
    #[cfg(target_arch = "x86_64")]
    attempt("a call by its second number", libc::EPERM, |_| {
        const X32: i64 = 0x4000_0000;
        unless(call(X32 | libc::SYS_getpid, [0, 0, 0, 0]), libc::ENOSYS)
    }),
    attempt("io_uring", libc::EPERM, |_| unless(call(libc::SYS_io_uring_setup, [0, 0, 0, 0]), libc::EFAULT)),
    attempt("use a key", libc::EPERM, |_| {
        const KEYCTL_GET_KEYRING_ID: i64 = 0;
        const SPECIAL_PROCESS: i64 = -2;
        call(libc::SYS_keyctl, [KEYCTL_GET_KEYRING_ID, SPECIAL_PROCESS, 1, 0])
    }),
    attempt("change what the kernel imitates", libc::EPERM, |_| call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0])),
    attempt("watch memory faults", libc::EPERM, |_| call(libc::SYS_userfaultfd, [1, 0, 0, 0])),
    attempt("an IPv4 socket", libc::EPERM, |_| TcpStream::connect(local()).map(drop)),
    attempt("an IPv6 socket", libc::EPERM, |_| {
        call(libc::SYS_socket, [libc::AF_INET6.into(), libc::SOCK_DGRAM.into(), 0, 0])
    }),
    attempt("a netlink socket", libc::EPERM, |_| {
        call(libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0, 0])
    }),
    attempt("read elsewhere", libc::EACCES, |scratch| fs::read(scratch.join("outside/file")).map(drop)),
    attempt("list elsewhere", libc::EACCES, |_| fs::read_dir("/etc").map(drop)),
    attempt("write elsewhere", libc::EACCES, |scratch| fs::write(scratch.join("outside/new"), "x")),
    attempt("write where it may only read", libc::EACCES, |scratch| fs::write(scratch.join("read/new"), "x")),
    attempt("truncate where it may only read", libc::EACCES, |scratch| {
        let path = std::ffi::CString::new(scratch.join("read/file").to_str().unwrap_or_default())?;
        call(libc::SYS_truncate, [path.as_ptr() as i64, 0, 0, 0])
    }),
    attempt("move a file out", libc::EACCES, |scratch| {
        fs::rename(scratch.join("write/file"), scratch.join("outside/moved"))
    }),
    as_root("mount", libc::EPERM, |scratch| {
        let path = std::ffi::CString::new(scratch.join("write").to_str().unwrap_or_default())?;
        let kind = c"tmpfs".as_ptr() as i64;
        call(libc::SYS_mount, [kind, path.as_ptr() as i64, kind, 0])?;
        call(libc::SYS_umount2, [path.as_ptr() as i64, 0, 0, 0])
    }),
    as_root("change its root", libc::EPERM, |_| call(libc::SYS_chroot, [c"/".as_ptr() as i64, 0, 0, 0])),
    // These would do harm if they worked: outside, the kernel finds fault with the request, not with who asks.
    as_root("load a module", libc::EPERM, |_| unless_permission(call(libc::SYS_init_module, [0, 0, 0, 0]))),
    as_root("load a module from a file", libc::EPERM, |_| {
        unless_permission(call(libc::SYS_finit_module, [-1, 0, 0, 0]))
    }),
    as_root("load BPF", libc::EPERM, |_| unless_permission(call(libc::SYS_bpf, [-1, 0, 0, 0]))),
    as_root("load another kernel", libc::EPERM, |_| unless_permission(call(libc::SYS_kexec_load, [0, 17, 0, -1]))),
    as_root("set the clock", libc::EPERM, |_| unless_permission(call(libc::SYS_clock_settime, [-1, 0, 0, 0]))),
    as_root("open a file by its handle", libc::EPERM, |_| {
        unless_permission(call(libc::SYS_open_by_handle_at, [-1, 0, 0, 0]))
    }),
];

fn what_is_forbidden_fails_inside_and_only_inside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let is_root = rustix::process::geteuid().is_root();
    let sudo = || Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|ran| ran.status.success());
    let may_be_root = is_root || sudo();
    for (at, attempt) in ATTEMPTS.iter().enumerate() {
        let tried = |inside: &str| {
            let scratch = scratch();
            let mut program = this_program("attempt");
            if attempt.root && !is_root && inside == "outside" {
                program = Command::new("sudo");
                program.arg("-n").arg(std::env::current_exe().unwrap()).args(["--child", "attempt"]);
            }
            program.args([&at.to_string(), inside, scratch.path().to_str().unwrap(), &port]);
            said(&mut program).lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(tried("inside"), format!("errno {}", attempt.refused), "{}: inside", attempt.name);
        if attempt.root && !may_be_root {
            skipped(&format!("{}: the attempt outside needs root", attempt.name));
            continue;
        }
        let outside = tried("outside");
        // The kernel lets nobody make one from within a chroot, root neither.
        if attempt.name.contains("user namespace") && is_root && outside == format!("errno {}", libc::EPERM) {
            skipped(&format!("{}: a chroot forbids it outside too", attempt.name));
            continue;
        }
        assert_eq!(outside, "done", "{}: outside, where nothing forbids it", attempt.name);
    }
}

/// As `require` of the crate `secai-tests`, on which nothing can depend.
fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    if let Some(file) = std::env::var_os("SECAI_SKIPS") {
        let mut skips = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        skips.write_all(format!("{}\t{reason}\n", file!()).as_bytes()).unwrap();
    }
    let in_ci = std::env::var("CI").is_ok_and(|it| !matches!(it.as_str(), "" | "0" | "false"));
    assert!(!in_ci, "in CI every test runs: {reason}");
}

/// In the child.
fn try_one(at: &str, inside: &str, scratch: &Path) {
    let attempt = &ATTEMPTS[at.parse::<usize>().unwrap()];
    if inside == "inside" {
        let holds = confine(scratch);
        assert!(holds.everything(), "this kernel does not enforce everything: {holds}");
    }
    match (attempt.run)(scratch) {
        Ok(()) => println!("done"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or_default()),
    }
}

fn confine(scratch: &Path) -> Holds {
    Sandbox::new().reading(scratch.join("read")).writing(scratch.join("write")).enter().unwrap()
}

fn what_is_needed_works_inside() {
    let scratch = scratch();
    let socket = scratch.path().join("outside/x.sock");
    let listener = secai_daemon::listen::bind_without_systemd(&socket).unwrap();
    assert_eq!(child("needs", &[scratch.path().to_str().unwrap()]).lines().last(), Some("all done"));
    drop(listener);
}

/// In the child.
fn do_what_is_needed(scratch: &Path) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unconnected = || {
        use rustix::net::{AddressFamily, SocketType};
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
    };
    let (before, kept) = (unconnected(), unconnected());
    rustix::net::connect(&before, &tcp.local_addr().unwrap()).unwrap();
    drop((tcp.accept().unwrap(), before));
    let holds = confine(scratch);
    println!("{holds}");
    assert_eq!(fs::read(scratch.join("read/file")).unwrap(), b"text");
    let write = scratch.join("write");
    fs::create_dir(write.join("folder")).unwrap();
    fs::write(write.join("folder/new"), "x").unwrap();
    fs::rename(write.join("folder/new"), write.join("renamed")).unwrap();
    fs::OpenOptions::new().write(true).open(write.join("renamed")).unwrap().set_len(0).unwrap();
    fs::remove_file(write.join("renamed")).unwrap();
    // A thread; and what is confined is so for it too.
    let outside = scratch.join("outside/file");
    let read = std::thread::spawn(move || fs::read(outside).unwrap_err().raw_os_error()).join().unwrap();
    assert_eq!(read, Some(libc::EACCES));
    // Other services, though their sockets lie where no file may be read.
    Connection::connect(&scratch.join("outside/x.sock"), Duration::from_secs(1)).unwrap();
    Connection::pair().unwrap();
    // A socket from before reaches nobody any more: Landlock, where seccomp sees only numbers.
    assert_eq!(rustix::net::connect(&kept, &tcp.local_addr().unwrap()).unwrap_err(), rustix::io::Errno::ACCESS);
    // A listener from before still serves, and no other comes to be.
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(TcpListener::bind("127.0.0.1:0").is_err());
    let status = fs::read_to_string("/proc/self/status").unwrap_err();
    assert_eq!(status.raw_os_error(), Some(libc::EACCES), "not even this");
    assert!(rustix::thread::no_new_privs().unwrap());
    println!("all done");
}

fn a_needed_path_that_is_not_there_is_an_error() {
    let got = child("absent", &[]);
    assert!(got.contains("/nowhere cannot be opened"), "{got}");
}

// ---- sockets of systemd ----

fn sockets_of_systemd_arrive_by_name_once() {
    let activate = Path::new("/usr/bin/systemd-socket-activate");
    if !activate.exists() {
        return skipped("systemd-socket-activate is not here");
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let mut server = Command::new(activate)
        .args(["--seqpacket", "--fdname=x.socket", "--listen"])
        .arg(&socket)
        .arg(std::env::current_exe().unwrap())
        .args(["--child", "served"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let client = loop {
        match Connection::connect(&socket, Duration::from_secs(1)) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < until, "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    client.send(b"who am I?", None).unwrap();
    let mut buffer = Buffer::new();
    let got = client.receive(&mut buffer).unwrap();
    let expected = rustix::process::getuid().as_raw().to_string();
    assert!(matches!(got, Received::Packet(bytes) if bytes == expected.as_bytes()), "{got:?}");
    assert!(server.wait().unwrap().success());
    // The negative control: nobody passes any.
    assert!(child("served", &[]).contains("systemd passed no socket"));
}

/// In the child.
fn serve_one() {
    let mut passed = match Passed::take() {
        Ok(passed) => passed,
        Err(error) => return println!("{error}"),
    };
    assert!(matches!(passed.packets("y.socket"), Err(ListenError::Missing(_))));
    let listener = passed.packets("x.socket").unwrap();
    passed.none_left().unwrap();
    assert!(rustix::io::fcntl_getfd(&listener).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(std::env::vars().all(|(name, _)| !name.starts_with("LISTEN_")), "a child would take them for its own");
    assert!(matches!(Passed::take(), Err(ListenError::Taken)));
    let mut waiting = [rustix::event::PollFd::from_borrowed_fd(listener.as_fd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut waiting, None).unwrap();
    let connection = listener.accept().unwrap().unwrap();
    let mut buffer = Buffer::new();
    assert!(matches!(connection.receive(&mut buffer).unwrap(), Received::Packet(b"who am I?")));
    connection.send(Peer::of(&connection).unwrap().uid.to_string().as_bytes(), None).unwrap();
}

// ---- words to systemd ----

fn systemd_is_told_how_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut ready = this_program("ready");
    ready.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000").env_remove("WATCHDOG_PID");
    assert_eq!(said(&mut ready), "every 1.5s\n");
    for expected in ["READY=1", "STATUS=serving", "WATCHDOG=1", "STOPPING=1"] {
        let mut word = [0; 64];
        let length = systemd.recv(&mut word).unwrap();
        assert_eq!(String::from_utf8_lossy(&word[..length]).trim_end(), expected);
    }
    let mut alone = this_program("ready");
    assert_eq!(said(alone.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC")), "no watchdog\n");
}

/// In the child.
fn say_ready() {
    let readiness = Readiness::from_environment();
    match readiness.interval() {
        Some(every) => println!("every {every:?}"),
        None => println!("no watchdog"),
    }
    readiness.ready();
    readiness.status("serving\nREADY=0");
    readiness.alive();
    readiness.stopping();
}

fn a_failure_is_said_once_with_what_to_do() {
    let to_file = |journal: fn(&fs::Metadata) -> String| {
        let mut file = tempfile::tempfile().unwrap();
        let mut fails = this_program("fails");
        fails.env("JOURNAL_STREAM", journal(&file.metadata().unwrap())).stderr(file.try_clone().unwrap());
        assert_eq!(fails.status().unwrap().code(), Some(2));
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    };
    let plain = to_file(|_| "1:2".into());
    assert!(plain.starts_with("error: the audit daemon cannot be reached at /nowhere\n  because: "), "{plain}");
    assert!(plain.ends_with("\nhint: see `systemctl status secure-ai-audit`\n"), "{plain}");
    let journal = to_file(|file| format!("{}:{}", file.dev(), file.ino()));
    assert_eq!(journal, plain.lines().map(|line| format!("<3>{line}\n")).collect::<String>());
}

// ---- children ----

fn run_child(what: &str, rest: &[String]) -> ExitCode {
    match (what, rest) {
        ("attempt", [at, inside, scratch, _port]) => try_one(at, inside, Path::new(scratch)),
        ("needs", [scratch]) => do_what_is_needed(Path::new(scratch)),
        ("absent", []) => println!("{}", Sandbox::new().reading("/nowhere").enter().unwrap_err()),
        ("served", []) => serve_one(),
        ("ready", []) => say_ready(),
        ("fails", []) => return report::fail(&AuditClient::connect(Path::new("/nowhere")).unwrap_err()),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// The output of this program as a child.
fn child(what: &str, words: &[&str]) -> String {
    said(this_program(what).args(words))
}

fn this_program(what: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--child", what]);
    program
}

fn said(program: &mut Command) -> String {
    let ran = program.output().unwrap();
    assert!(ran.status.success(), "{program:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for folder in ["read", "write", "outside"] {
        fs::create_dir(scratch.path().join(folder)).unwrap();
        fs::write(scratch.path().join(folder).join("file"), "text").unwrap();
    }
    scratch
}

/// The parent's listener.
fn local() -> (&'static str, u16) {
    let port = std::env::args().next_back().and_then(|port| port.parse().ok());
    ("127.0.0.1", port.unwrap_or_default())
}

fn call(number: i64, arguments: [i64; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: pointers among the arguments are null or lead to strings that live for the call.
    #[expect(unsafe_code, reason = "no crate wraps all of these")]
    match unsafe { libc::syscall(number, a, b, c, d, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The kernel looked at the request and found this fault with it: nothing forbids the call.
fn unless(done: io::Result<()>, fault: i32) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(fault) => Ok(()),
        other => other,
    }
}

/// As [`unless`], with any fault but that of who asks.
fn unless_permission(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Ok(()),
        other => other,
    }
}
