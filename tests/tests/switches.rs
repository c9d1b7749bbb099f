//! What becomes of flows, and of a flood, when rules are exchanged; and what rules cost. With real sockets between two
//! namespaces. User 952 is the airlock, whom `full_lab` lets out.

use std::fs;

use secai_tests::lab::{NEEDS, in_lab, rules};
use secai_tests::{Tier, require, top};
use secai_verifier::files::load_profile;
use secai_verifier::network::compose::ruleset;

/// Takes one connection, says so, and writes down what arrives in it until it ends or is silent for three seconds.
const SERVER: &str = "
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
server.bind(('1.86.0.1', 443)); server.listen(); server.settimeout(20)
open('listens', 'w')
connection, _ = server.accept()
time.sleep(float(sys.argv[1]))
connection.settimeout(3)
data = b''
try:
    while part := connection.recv(65536): data += part
    open('ended', 'w')
except OSError: pass
open('arrived', 'wb').write(data)
";

/// Says something before the rules are exchanged, and something after.
const TALKER: &str = "
import os, socket, time
client = socket.create_connection(('1.86.0.1', 443), timeout=5)
client.sendall(b'before'); time.sleep(0.3)
open('said', 'w')
while not os.path.exists('exchanged'): time.sleep(0.02)
try: client.sendall(b'after')
except OSError: pass
time.sleep(1)
";

/// Has a megabyte to send, and ends before it is sent.
const LEAVER: &str = "
import os, socket
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUFFORCE if os.geteuid() == 0 else socket.SO_SNDBUF, 4 << 20)
client.connect(('1.86.0.1', 443)); client.setblocking(False)
sent = client.send(bytes(1000000))
open('queued', 'w').write(str(sent))
os._exit(0)
";

/// What arrives of `before` and `after` where the rules are exchanged in between.
fn talked(first: &str, second: &str) -> String {
    let files = [("first", first), ("second", second), ("server.py", SERVER), ("talker.py", TALKER)];
    let script = "
there python3 server.py 0 & server=$!
await listens
as 952 python3 talker.py & talker=$!
await said
nft -f - <second
touch exchanged
wait $talker || true
wait $server";
    fs::read_to_string(in_lab(&files, script).path().join("arrived")).unwrap()
}

/// How much of a megabyte arrives whose process has ended.
fn left(first: &str) -> (usize, usize) {
    let files = [("first", first), ("server.py", SERVER), ("leaver.py", LEAVER)];
    let script = "
sysctl --quiet --write net.core.wmem_max=8388608 2>/dev/null || true
there python3 server.py 0.5 & server=$!
await listens
as 952 python3 leaver.py
wait $server";
    let scratch = in_lab(&files, script);
    let queued = fs::read_to_string(scratch.path().join("queued")).unwrap().parse().unwrap();
    (queued, fs::read(scratch.path().join("arrived")).unwrap().len())
}

#[test]
fn a_flow_ends_with_the_rules_that_allowed_it() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let loose = rules("full_lab", 1001);
    // The same rules again are no switch: the flow goes on, so the test can see what is said afterwards.
    assert_eq!(talked(&loose, &loose), "beforeafter");
    for stricter in ["offline_private", "research", "full_lab"] {
        assert_eq!(talked(&loose, &rules(stricter, 1002)), "before", "{stricter}");
    }
}

#[test]
fn what_is_sent_after_a_process_has_ended_arrives() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let ours = rules("full_lab", 1001);
    let (queued, arrived) = left(&ours);
    assert!(queued > 100_000, "{queued} bytes are no test");
    assert_eq!(arrived, queued);
    // Where each packet is let out by its user, what has none is lost.
    let follows = "\t\ttcp flags & (syn | ack) != syn ct state established ct mark @epoch meta mark set meta l4proto map @epoch_now accept\n";
    let naive = ours
        .replace(follows, "")
        .replace("tcp flags & (syn | ack) == syn ct state new meta skuid 952", "meta skuid 952");
    assert_eq!(ours.matches(follows).count(), 1);
    let (queued, arrived) = left(&naive);
    assert!(arrived < queued, "{arrived} of {queued}: the test sees no difference");
    eprintln!("let out by user alone: {arrived} of {queued} bytes arrive");
}

// ---- Under a flood ----

/// So many times are rules exchanged.
const SWITCHES: usize = 300;
/// So many times with nobody else about, for the time that it takes.
const QUIET: usize = 60;
/// And so many with the careless way, which is to be caught.
const CARELESS: usize = 20;
/// The airlock's user.
const AIRLOCK: u32 = 952;
/// In the order of their numbers below.
const PROFILES: [&str; 3] = ["offline_private", "research", "full_lab"];

/// Writes down which packets arrive: the first byte of an address says who sent it, the others which one it was.
const EAR: &str = "
import json, os, socket, struct, sys
ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ear.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
ear.settimeout(0.2)
open('hears', 'w')
seen = {}
while True:
    try: frame = ear.recv(2048)
    except TimeoutError:
        if os.path.exists('over'): break
        continue
    if frame[12:14] == b'\\x08\\x00': seen.setdefault(frame[30], set()).add(int.from_bytes(frame[31:34], 'big'))
    elif frame[12:14] == b'\\x88\\xb5': seen.setdefault(0, set()).add(int.from_bytes(frame[14:17], 'big'))
_, lost = struct.unpack('II', ear.getsockopt(263, 6, 8))
json.dump({'lost': lost, 'seen': {who: sorted(them) for who, them in seen.items()}}, open('seen', 'w'))
";

/// Sends without end, as one user and in one way; and writes down for each packet what held before and after it.
const FLOODER: &str = "
import mmap, os, socket, struct, sys, time
who, kind, pause = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
now = mmap.mmap(os.open('now', os.O_RDONLY), 8, prot=mmap.PROT_READ)
held = lambda: struct.unpack('Q', now[:8])[0]
log, number = open(f'sent-{who}', 'wb', buffering=1 << 16), 0
if kind == 'udp': out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if kind == 'frame':
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); out.bind(('leak0', 0))
while not os.path.exists('over') if number % 64 == 0 else True:
    number += 1
    which = number.to_bytes(3, 'big')
    to = socket.inet_ntoa(bytes([who]) + which)
    if kind == 'tcp': out = socket.socket(); out.setblocking(False)
    before = held()
    try:
        if kind == 'tcp': out.connect((to, 443))
        elif kind == 'udp': out.sendto(which, (to, 443))
        else: out.send(bytes(6) + b'\\x02\\0\\0\\0\\0\\1\\x88\\xb5' + which + bytes(46))
    except OSError: pass
    log.write(struct.pack('QQ', before, held()))
    if kind == 'tcp': out.close()
    if pause: time.sleep(pause)
log.flush()
";

/// Exchanges rules. What holds is a number that all may read: which switch, from what, to what; between two, both the same.
const SWITCHER: &str = "
import json, mmap, os, struct, subprocess, sys, time
times, careless = int(sys.argv[1]), sys.argv[2] == 'careless'
now = mmap.mmap(os.open('now', os.O_RDWR), 8)
def holds(which, old, new): now[:8] = struct.pack('Q', which << 8 | old << 4 | new)
def nft(*words): subprocess.run(['nft', *words], check=True)
took, old, ways = [], 0, [1, 0, 2, 0, 1, 2, 1, 2, 0]
for which in range(times):
    new = ways[which % len(ways)]
    if new == old: continue
    holds(which, old, new)
    begun = time.perf_counter()
    if not careless: nft('-f', f'{new}-whole-{which % 2}')
    for table in ['inet secure_ai', 'netdev secure_ai_l2'] if careless else []:
        nft('delete', 'table', *table.split())
        nft('-f', f'{new}-{table.split()[0]}-{which % 2}')
    took.append(time.perf_counter() - begun)
    holds(which, new, new)
    old = new
    time.sleep(0.01)
open('over', 'w')
json.dump(sorted(took), open('took', 'w'))
";

/// What each flooder is called, who it is, how it sends, and how long it then waits: one of them never does.
const FLOODERS: [(u8, u32, &str, &str); 5] = [
    (1, AIRLOCK, "tcp", "0.0005"),
    (2, 1000, "tcp", "0.0001"),
    (3, 951, "tcp", "0.0005"),
    (4, 0, "udp", "0.0001"),
    // A frame has no address: it is heard as 0.
    (0, 0, "frame", "0"),
];

/// What arrived out of turn, of all that was sent; and of the two who may, what arrived in turn.
#[derive(Debug, Default)]
struct Flooded {
    sent: [usize; 5],
    out_of_turn: [usize; 5],
    in_turn: [usize; 5],
    took_ms: Vec<f64>,
}

fn flooded(flooders: &[(u8, u32, &str, &str)], times: usize, how: &str) -> Flooded {
    let mut files: Vec<(String, String)> = Vec::new();
    for (number, profile) in PROFILES.iter().enumerate() {
        let (page, loopback) = load_profile(&top().join("manifests/policy"), profile).unwrap();
        // Two epochs that take turns are enough for these packets: none begins in one and goes on in another.
        for epoch in 0..2_u32 {
            let rules = ruleset(&page, &loopback, 0x5eca_0000 + epoch, ["leak0"]).to_string();
            let second = rules.find("table netdev").unwrap();
            let mut whole = String::new();
            for (family, table, text) in
                [("inet", "secure_ai", &rules[..second]), ("netdev", "secure_ai_l2", &rules[second..])]
            {
                whole += &format!("table {family} {table}\ndelete table {family} {table}\n{text}");
                files.push((format!("{number}-{family}-{epoch}"), text.to_owned()));
            }
            files.push((format!("{number}-whole-{epoch}"), whole));
        }
    }
    let start = |(who, uid, kind, pause): &(u8, u32, &str, &str)| {
        format!("as {uid} nice python3 flooder.py {who} {kind} {pause} & floods=\"$floods $!\"\n")
    };
    let starts: String = flooders.iter().map(start).collect();
    let script = format!(
        "chmod 666 now
there python3 ear.py & ear=$!
await hears
floods=
{starts}
python3 switcher.py {times} {how} || touch over
for flood in $floods; do wait $flood; done
sleep 0.3
wait $ear"
    );
    let first = rules("offline_private", 1);
    let mut given = vec![("first", first.as_str()), ("now", "\0\0\0\0\0\0\0\0")];
    given.extend([("ear.py", EAR), ("flooder.py", FLOODER), ("switcher.py", SWITCHER)]);
    given.extend(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let folder = in_lab(&given, &script);
    let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let read = |name: &str| -> serde_json::Value { serde_json::from_slice(&file(name)).unwrap() };
    let heard = read("seen");
    assert_eq!(heard["lost"], 0, "the ear hears everything");
    let mut flooded = Flooded { took_ms: serde_json::from_value(read("took")).unwrap(), ..Flooded::default() };
    flooded.took_ms.iter_mut().for_each(|seconds| *seconds *= 1000.0);
    for (at, &(who, uid, ..)) in flooders.iter().enumerate() {
        let log = file(&format!("sent-{who}"));
        let held: Vec<(u64, u64)> = (log.chunks_exact(16))
            .map(|two| {
                (u64::from_ne_bytes(two[..8].try_into().unwrap()), u64::from_ne_bytes(two[8..].try_into().unwrap()))
            })
            .collect();
        flooded.sent[at] = held.len();
        // The number of the profile that lets this user out.
        let his = match uid {
            951 => Some(1),
            AIRLOCK => Some(2),
            _ => None,
        };
        let seen: Vec<usize> = serde_json::from_value(heard["seen"][who.to_string()].clone()).unwrap_or_default();
        for number in seen {
            let (before, after) = held[number - 1];
            let may = |held: u64| his.is_some_and(|his| held >> 4 & 0xf == his || held & 0xf == his);
            // If what held has changed meanwhile, either may have met it.
            match may(before) || may(after) || (his.is_some() && after >> 8 > before >> 8) {
                true => flooded.in_turn[at] += 1,
                false => flooded.out_of_turn[at] += 1,
            }
        }
    }
    flooded
}

#[test]
fn no_packet_passes_between_two_rulesets() {
    if !require(Tier::Vm, &NEEDS) {
        return;
    }
    let done = flooded(&FLOODERS, SWITCHES, "whole");
    let alone = flooded(&[], QUIET, "whole");
    for (flooded, how) in [(&done, "under a flood"), (&alone, "alone")] {
        let took = |part: f64| flooded.took_ms[((flooded.took_ms.len() - 1) as f64 * part) as usize];
        let (switches, median, late) = (flooded.took_ms.len(), took(0.5), took(0.99));
        eprintln!(
            "{switches} switches {how}: median {median:.1} ms, p99 {late:.1} ms, both tables, fork and exec of nft included"
        );
    }
    eprintln!("sent {:?}, in turn {:?}", done.sent, done.in_turn);
    assert!(done.took_ms.len() >= SWITCHES * 8 / 9, "{}", done.took_ms.len());
    assert!(done.sent.iter().all(|sent| *sent > 1000), "a flood: {:?}", done.sent);
    assert_eq!(done.out_of_turn, [0; 5], "of {:?}", done.sent);
    assert!(done.in_turn[0] > 0 && done.in_turn[2] > 0, "whoever may is heard: {done:?}");

    // Whoever deletes a table first and adds it afterwards lets out what comes in between.
    let careless = flooded(&FLOODERS, CARELESS, "careless");
    eprintln!("the same with two commands: out of turn {:?} of {:?}", careless.out_of_turn, careless.sent);
    assert!(careless.out_of_turn.iter().sum::<usize>() > 0, "the test sees no difference");
}

// ---- What rules cost ----

/// Round trips of one byte over each connection, and connections with each ruleset, in turns.
const ROUND_TRIPS: usize = 4000;
/// The quickest of so many is taken: everything else on this machine only makes them slower.
const TURNS: usize = 7;

/// Answers each byte, and so many connections one after the other.
const ECHO: &str = "
import socket, sys
server = socket.socket(); server.bind(('1.86.0.1', 443)); server.listen(); server.settimeout(30)
open('listens', 'w')
for _ in range(int(sys.argv[1])):
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while byte := connection.recv(1): connection.send(byte)
";

/// Nanoseconds of a round trip; or nothing, where it may not connect.
const ASKER: &str = "
import socket, sys, time
try: client = socket.create_connection(('1.86.0.1', 443), timeout=0.3)
except OSError: sys.exit()
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); client.settimeout(5)
begun = time.perf_counter_ns()
for _ in range(int(sys.argv[1])): client.send(b'x'); client.recv(1)
print((time.perf_counter_ns() - begun) / int(sys.argv[1]))
";

#[test]
fn what_rules_cost_a_packet_is_printed() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let script = format!(
        "
there python3 echo.py $((2 * {TURNS})) & await listens
for turn in $(seq {TURNS}); do
    nft flush ruleset
    as {AIRLOCK} python3 asker.py {ROUND_TRIPS} >>without
    nft -f second
    as {AIRLOCK} python3 asker.py {ROUND_TRIPS} >>with
done
as 1000 python3 asker.py 1 >forbidden"
    );
    let ours = rules("full_lab", 1001);
    let scratch = in_lab(&[("first", ""), ("second", &ours), ("echo.py", ECHO), ("asker.py", ASKER)], &script);
    let figures = |name: &str| -> Vec<f64> {
        let text = fs::read_to_string(scratch.path().join(name)).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let quickest = |name: &str| {
        let figures = figures(name);
        assert_eq!(figures.len(), TURNS, "{name}");
        figures.into_iter().fold(f64::INFINITY, f64::min)
    };
    let (with, without) = (quickest("with"), quickest("without"));
    // The rules did hold.
    assert_eq!(figures("forbidden"), Vec::<f64>::new());
    // One packet each way in a round trip.
    eprintln!(
        "a round trip of TCP: {with:.0} ns under full_lab, {without:.0} ns without rules: {:.3} times, {:+.0} ns for each packet",
        with / without,
        (with - without) / 2.0
    );
}
