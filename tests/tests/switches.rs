//! What becomes of flows when rules are exchanged, with real sockets between two namespaces. User 952 is the airlock, whom
//! `full_lab` lets out.

use std::fs;

use secai_tests::lab::{NEEDS, in_lab, rules};
use secai_tests::{Tier, require};

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
