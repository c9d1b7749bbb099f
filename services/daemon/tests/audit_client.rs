//! The audit client against a fake daemon: a socket of this test that answers as each test says. The real one has
//! tests of its own; here it is about what the client does when the other side is slow, gone or wrong.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

use secai_api::audit::kind::{Note, ServiceState};
use secai_api::audit::{Answered, Asked, Reply, Request, Why, from_packet, to_packet};
use secai_daemon::audit::{AuditClient, AuditError, QUEUE_ENTRIES_MAX, Waits};
use secai_daemon::listen::{Listener, bind_without_systemd};
use secai_daemon::packet::{Buffer, Connection, Received};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes longer than this unless the machine stands still.
const PATIENCE: Duration = Duration::from_secs(20);

struct FakeDaemon {
    _folder: tempfile::TempDir,
    path: PathBuf,
    listener: Listener,
}

impl FakeDaemon {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.sock");
        let listener = bind_without_systemd(&path).unwrap();
        Self { _folder: folder, path, listener }
    }

    fn connected(&self) -> FakeConnection {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(connection) = self.listener.accept().unwrap() {
                return FakeConnection(connection);
            }
            assert!(Instant::now() < until, "nobody connects");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct FakeConnection(Connection);

impl FakeConnection {
    /// The next request; none once the client has ended the connection.
    fn asked(&self) -> Option<Asked> {
        let mut buffer = Buffer::new();
        match self.0.receive(&mut buffer).unwrap() {
            Received::Packet(bytes) => Some(from_packet(bytes).unwrap()),
            Received::End => None,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&self, id: u64, answer: Reply) {
        self.0.send(&to_packet(&Answered { id, answer }).unwrap(), None).unwrap();
    }

    /// Nothing more comes.
    fn is_quiet(&self) {
        thread::sleep(Duration::from_millis(50));
        assert!(matches!(self.0.try_receive(&mut Buffer::new()).unwrap(), Received::NotYet));
    }

    fn appended(&self, id: u64, seq: u64) {
        self.answer(id, Reply::Appended { seq: Some(seq) });
    }
}

fn quick() -> Waits {
    Waits {
        connect: Duration::from_millis(500),
        answer: Duration::from_secs(5),
        queue: Duration::from_millis(100),
        flush: Duration::from_secs(5),
        again: Duration::from_millis(10),
    }
}

fn client(daemon: &FakeDaemon, waits: Waits) -> (AuditClient, FakeConnection) {
    let client = AuditClient::connect_waiting(&daemon.path, waits).unwrap();
    (client, daemon.connected())
}

/// A kind of class `sync`; `bytes` to tell one from another.
fn sync_entry(bytes: u64) -> Note {
    Note { bytes }
}

/// A kind of class `async`; `unit` to tell one from another.
fn async_entry(unit: &str) -> ServiceState {
    let word = || "x".to_owned();
    ServiceState { from: word(), result: word(), to: word(), unit: unit.into() }
}

fn text(asked: &Asked) -> &str {
    let Request::Append(append) = &asked.ask else { panic!("{asked:?}") };
    append.data.get()
}

#[test]
fn a_sync_entry_returns_when_it_is_acknowledged_and_not_before() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    thread::scope(|scope| {
        let (done, returned) = channel();
        let client = &client;
        scope.spawn(move || done.send(client.record(&sync_entry(5), Some(b"hello"))).unwrap());
        let asked = connection.asked().unwrap();
        let Request::Append(append) = &asked.ask else { panic!("{asked:?}") };
        assert_eq!(append.kind, "owner.note");
        assert_eq!(append.data.get(), r#"{"bytes":5}"#);
        assert_eq!(append.payload.as_deref(), Some("aGVsbG8="));
        assert!(returned.recv_timeout(Duration::from_millis(100)).is_err(), "returned before the acknowledgement");
        connection.appended(asked.id, 7);
        assert_eq!(returned.recv_timeout(PATIENCE).unwrap().unwrap().seq, Some(7));
    });
}

#[test]
fn many_threads_share_one_connection_and_each_gets_its_own_answer_in_any_order() {
    const THREADS: u64 = 32;
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|bytes| {
                let client = &client;
                (bytes, scope.spawn(move || client.record(&sync_entry(bytes), Some(b"x")).unwrap().seq))
            })
            .collect();
        let mut all: Vec<Asked> = (0..THREADS).map(|_| connection.asked().unwrap()).collect();
        all.sort_by_key(|asked| asked.id);
        assert!(all.windows(2).all(|pair| pair[0].id != pair[1].id), "a number is used once");
        for asked in all.iter().rev() {
            let bytes: u64 = text(asked).trim_matches(|it: char| !it.is_ascii_digit()).parse().unwrap();
            connection.appended(asked.id, 1000 + bytes);
        }
        for (bytes, thread) in threads {
            assert_eq!(thread.join().unwrap(), Some(1000 + bytes));
        }
    });
    assert!(daemon.listener.accept().unwrap().is_none(), "one connection");
}

#[test]
fn a_refusal_is_an_error_and_the_connection_stands() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    thread::scope(|scope| {
        let recording = scope.spawn(|| {
            let refused = client.record(&sync_entry(1), Some(b"x"));
            (refused, client.record(&sync_entry(2), Some(b"x")))
        });
        let asked = connection.asked().unwrap();
        connection.answer(asked.id, Reply::Refused { why: Why::DiskFull, message: "full".into() });
        let asked = connection.asked().unwrap();
        connection.appended(asked.id, 3);
        let (refused, kept) = recording.join().unwrap();
        assert!(matches!(refused, Err(AuditError::Refused { why: Why::DiskFull, .. })), "{refused:?}");
        assert_eq!(kept.unwrap().seq, Some(3));
    });
}

#[test]
fn a_daemon_that_goes_takes_all_requests_with_it_and_none_is_sent_again() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    thread::scope(|scope| {
        let lost: Vec<_> = (0..4)
            .map(|bytes| {
                scope.spawn({
                    let client = &client;
                    move || client.record(&sync_entry(bytes), Some(b"x"))
                })
            })
            .collect();
        for _ in 0..4 {
            connection.asked().unwrap();
        }
        drop(connection);
        for thread in lost {
            let got = thread.join().unwrap();
            assert!(matches!(got, Err(AuditError::Lost)), "{got:?}");
        }
        // The next call connects anew, and only it is sent.
        let next = scope.spawn(|| client.record(&sync_entry(99), Some(b"x")));
        let connection = daemon.connected();
        let asked = connection.asked().unwrap();
        assert_eq!(text(&asked), r#"{"bytes":99}"#);
        connection.appended(asked.id, 1);
        assert_eq!(next.join().unwrap().unwrap().seq, Some(1));
        connection.is_quiet();
    });
}

#[test]
fn without_a_daemon_nothing_is_recorded() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    let FakeDaemon { path, listener, _folder } = daemon;
    drop((listener, connection));
    for _ in 0..2 {
        let got = client.record(&sync_entry(1), Some(b"x"));
        // The first call may find the connection not yet known to have ended.
        assert!(matches!(got, Err(AuditError::Unreachable { .. } | AuditError::Lost)), "{got:?}");
    }
    assert!(matches!(AuditClient::connect(&path), Err(AuditError::Unreachable { .. })));
}

#[test]
fn a_slow_daemon_is_an_error_and_its_late_answer_is_nobodys() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, Waits { answer: Duration::from_millis(100), ..quick() });
    let got = client.record(&sync_entry(1), Some(b"x"));
    assert!(matches!(got, Err(AuditError::TimedOut(_))), "{got:?}");
    let late = connection.asked().unwrap();
    thread::scope(|scope| {
        let next = scope.spawn(|| client.record(&sync_entry(2), Some(b"x")));
        let asked = connection.asked().unwrap();
        connection.appended(late.id, 1);
        connection.appended(asked.id, 2);
        assert_eq!(next.join().unwrap().unwrap().seq, Some(2), "the late answer was taken for this one");
    });
}

#[test]
fn a_daemon_that_does_not_accept_is_an_error() {
    let daemon = FakeDaemon::new();
    let got = AuditClient::connect_waiting(&daemon.path, Waits { answer: Duration::from_millis(100), ..quick() })
        .and_then(|client| client.record(&sync_entry(1), Some(b"x")));
    assert!(matches!(got, Err(AuditError::TimedOut(_))), "{got:?}");
}

#[test]
fn an_answer_that_was_never_asked_for_ends_the_connection() {
    type Answer = fn(&FakeConnection, u64);
    let wrong: [(&str, Answer); 6] = [
        ("no JSON", |connection, _| connection.0.send(b"yes", None).unwrap()),
        ("a number of no request", |connection, id| connection.appended(id + 1, 1)),
        ("number 0", |connection, _| {
            connection.answer(0, Reply::Refused { why: Why::Malformed, message: String::new() })
        }),
        ("another kind of answer", |connection, id| {
            connection.answer(id, Reply::Checkpoint { note: String::new(), key: String::new() })
        }),
        ("only queued", |connection, id| connection.answer(id, Reply::Appended { seq: None })),
        ("a descriptor", |connection, id| {
            let packet = to_packet(&Answered { id, answer: Reply::Appended { seq: Some(1) } }).unwrap();
            connection.0.send(&packet, Some(connection.0.as_fd())).unwrap();
        }),
    ];
    for (name, answer) in wrong {
        let daemon = FakeDaemon::new();
        let (client, connection) = client(&daemon, quick());
        thread::scope(|scope| {
            let recording = scope.spawn(|| client.record(&sync_entry(1), Some(b"x")));
            let asked = connection.asked().unwrap();
            answer(&connection, asked.id);
            let got = recording.join().unwrap();
            assert!(matches!(got, Err(AuditError::Garbled)), "{name}: {got:?}");
            assert!(connection.asked().is_none(), "{name}: the connection stands");
        });
    }
}

#[test]
fn the_directory_comes_as_a_descriptor() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("checkpoint"), "note").unwrap();
    thread::scope(|scope| {
        let opening = scope.spawn(|| client.ask(&Request::Open {}));
        let asked = connection.asked().unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        let packet = to_packet(&Answered { id: asked.id, answer: Reply::Opened {} }).unwrap();
        connection.0.send(&packet, Some(open.as_fd())).unwrap();
        let (reply, descriptor) = opening.join().unwrap().unwrap();
        assert_eq!(reply, Reply::Opened {});
        let got = rustix::fs::statat(descriptor.unwrap(), "checkpoint", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(got.st_size, 4);
    });
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    let got = client.record(&sync_entry(1), Some(&vec![0; 30 << 10]));
    assert!(matches!(got, Err(AuditError::NoPacket(_))), "{got:?}");
    let got = client.record(&async_entry(&"x".repeat(40 << 10)), None);
    assert!(matches!(got, Err(AuditError::NoPacket(_))), "{got:?}");
    connection.is_quiet();
}

#[test]
fn async_entries_return_at_once_and_come_in_their_order() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    for at in 0..100 {
        assert_eq!(client.record(&async_entry(&format!("{at}.")), None).unwrap().seq, None);
    }
    for at in 0..100 {
        let asked = connection.asked().unwrap();
        assert!(text(&asked).contains(&format!(r#""unit":"{at}.""#)), "{at}: {asked:?}");
        connection.answer(asked.id, Reply::Appended { seq: None });
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.lost(), 0);
}

#[test]
fn a_full_queue_makes_callers_wait_then_fails_them_and_takes_entries_again() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    // One more is under way.
    let mut queued = 0;
    let error = loop {
        match client.record(&async_entry("x"), None) {
            Ok(_) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued <= QUEUE_ENTRIES_MAX + 1, "the queue has no bound");
    };
    assert!(matches!(error, AuditError::QueueFull), "{error:?}");
    assert_eq!(queued, QUEUE_ENTRIES_MAX + 1);
    let asked = connection.asked().unwrap();
    connection.answer(asked.id, Reply::Appended { seq: None });
    client.record(&async_entry("x"), None).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(client));
        let mut kept = 1;
        while let Some(asked) = connection.asked() {
            connection.answer(asked.id, Reply::Appended { seq: None });
            kept += 1;
        }
        assert_eq!(kept, QUEUE_ENTRIES_MAX + 2, "dropping sends what is queued");
    });
}

#[test]
fn async_entries_wait_for_a_daemon_that_restarts_and_only_the_one_under_way_is_lost() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    client.record(&async_entry("under way"), None).unwrap();
    connection.asked().unwrap();
    let FakeDaemon { path, listener, _folder } = daemon;
    drop((listener, connection));
    for at in 0..10 {
        client.record(&async_entry(&format!("{at}.")), None).unwrap();
    }
    assert!(client.flush(Duration::from_millis(100)).is_err());
    let daemon = FakeDaemon { listener: bind_without_systemd(&path).unwrap(), path, _folder };
    let connection = daemon.connected();
    for at in 0..10 {
        // Busy once: nothing was written, so it comes again.
        let asked = connection.asked().unwrap();
        connection.answer(asked.id, Reply::Refused { why: Why::Busy, message: String::new() });
        let again = connection.asked().unwrap();
        assert_eq!(text(&asked), text(&again));
        assert!(text(&again).contains(&format!(r#""unit":"{at}.""#)), "{again:?}");
        connection.answer(again.id, Reply::Appended { seq: None });
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.lost(), 1);
}

#[test]
fn a_refused_async_entry_is_counted() {
    let daemon = FakeDaemon::new();
    let (client, connection) = client(&daemon, quick());
    client.record(&async_entry("x"), None).unwrap();
    let asked = connection.asked().unwrap();
    connection.answer(asked.id, Reply::Refused { why: Why::NotAllowed, message: String::new() });
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.lost(), 1);
    connection.is_quiet();
}

#[test]
fn dropping_a_client_never_waits_longer_than_its_bound() {
    let daemon = FakeDaemon::new();
    let (client, _connection) =
        client(&daemon, Waits { flush: Duration::from_millis(100), answer: PATIENCE * 10, ..quick() });
    for _ in 0..10 {
        client.record(&async_entry("x"), None).unwrap();
    }
    let began = Instant::now();
    drop(client);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}
