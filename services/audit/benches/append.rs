//! Durable appends by 64 writers, against the same socket without any work behind it, and against the disk's own sync.
//!
//! `cargo bench -p secai-audit`: figures of one run on one machine; nothing is asserted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and its figures are its output")]

use rustix::event::epoll;
use secai_api::audit::{Append, Asked, Request, to_packet};
use secai_daemon::listen::bind_without_systemd;
use secai_daemon::packet::{Buffer, Connection, Received};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

const WRITERS: usize = 64;
const SECONDS: u64 = 5;
const PROGRAM: &str = env!("CARGO_BIN_EXE_secai-audit");
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/services");

/// Answers every packet with the same one, and does nothing else.
fn answer_without_work(path: &Path) {
    let listener = bind_without_systemd(path).unwrap();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&poll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
    let (mut clients, mut next, mut buffer) = (HashMap::<u64, Connection>::new(), 1, Buffer::new());
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        let _ = epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let token = event.data.u64();
            if token == 0 {
                while let Ok(Some(connection)) = listener.accept() {
                    epoll::add(&poll, &connection, epoll::EventData::new_u64(next), epoll::EventFlags::IN).unwrap();
                    clients.insert(next, connection);
                    next += 1;
                }
            } else if let Some(connection) = clients.get(&token) {
                match connection.try_receive(&mut buffer) {
                    Ok(Received::Packet(_)) => {
                        let _ = connection.try_send(br#"{"id":1,"answer":{"appended":{"seq":123456}}}"#, None);
                    }
                    _ => drop(clients.remove(&token)),
                }
            }
        }
    }
}

/// Each writer asks, waits for its answer, and asks again: all latencies, in order of size.
fn measure(socket: &Path, packet: &[u8]) -> Vec<Duration> {
    let end = Instant::now() + Duration::from_secs(10);
    let connect = || loop {
        match Connection::connect(socket, Duration::from_secs(5)) {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let begin = Barrier::new(WRITERS);
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let (connection, mut buffer, mut took) = (connect(), Buffer::new(), Vec::new());
                    begin.wait();
                    let end = Instant::now() + Duration::from_secs(SECONDS);
                    while Instant::now() < end {
                        let asked = Instant::now();
                        connection.send(packet, None).unwrap();
                        let Received::Packet(answer) = connection.receive(&mut buffer).unwrap() else { panic!() };
                        assert!(
                            answer.windows(8).any(|word| word == b"appended"),
                            "{}",
                            String::from_utf8_lossy(answer)
                        );
                        took.push(asked.elapsed());
                    }
                    took
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    all.sort();
    all
}

/// One batch's write and sync, as the disk does it without us: in order of size.
fn syncs(folder: &Path) -> Vec<Duration> {
    let file = std::fs::File::create(folder.join("sync")).unwrap();
    let batch = vec![b'x'; WRITERS * 400];
    file.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut all: Vec<Duration> = (0..500)
        .map(|n| {
            let begin = Instant::now();
            file.write_all_at(&batch, n * batch.len() as u64).unwrap();
            file.sync_data().unwrap();
            begin.elapsed()
        })
        .collect();
    all.sort();
    all
}

fn at(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len() - 1)).unwrap().as_secs_f64() * 1e3
}

fn serving(child: &mut Child, what: &str, socket: &Path, packet: &[u8]) -> Vec<Duration> {
    let all = measure(socket, packet);
    child.kill().unwrap();
    child.wait().unwrap();
    let per_second = all.len() as f64 / SECONDS as f64;
    println!("{what:<28} {per_second:>9.0}/s   p50 {:>6.2} ms   p99 {:>6.2} ms", at(&all, 50), at(&all, 99));
    all
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, path] = arguments.as_slice()
        && word == "--answer-without-work"
    {
        return answer_without_work(Path::new(path));
    }
    // On a disk, not in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| dir.path().join(name);
    let data = RawValue::from_string(r#"{"bytes":18}"#.to_owned()).unwrap();
    let payload = Some("aHVnZ2luZ2ZhY2UuY286NDQz".to_owned());
    let ask = Request::Append(Append { kind: "owner.note".to_owned(), data, payload });
    let packet = to_packet(&Asked { id: 1, ask }).unwrap();

    println!(
        "{WRITERS} writers, each with one request under way, {SECONDS} s; entries with a payload (two syncs a batch)"
    );
    let sync = syncs(dir.path());
    println!(
        "{:<28} {:>11}   p50 {:>6.2} ms   p99 {:>6.2} ms",
        "write and fdatasync alone",
        "",
        at(&sync, 50),
        at(&sync, 99)
    );
    let mut null = Command::new(std::env::current_exe().unwrap());
    let mut null = null.arg("--answer-without-work").arg(path("null")).stdin(Stdio::null()).spawn().unwrap();
    let ceiling = serving(&mut null, "the socket without work", &path("null"), &packet);
    for name in ["state", "keys"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "--pages", PAGES, "--state"]).arg(path("state")).arg("--keys").arg(path("keys"));
    serve.arg("--listen-without-systemd").arg(path("socket")).stdin(Stdio::null()).stderr(Stdio::null());
    let durable = serving(&mut serve.spawn().unwrap(), "durable appends", &path("socket"), &packet);
    println!("ratio to the socket          {:.2}", durable.len() as f64 / ceiling.len() as f64);
    println!("p99 in fdatasyncs (p50)      {:.1}", at(&durable, 99) / at(&sync, 50));
}
