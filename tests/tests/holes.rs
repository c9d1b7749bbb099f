//! Ways out that rules of ours once left open, by real packets: each is seen with the rules as they were.

use std::fs;

use secai_tests::lab::{NEEDS, in_lab, rules};
use secai_tests::{Tier, require};

/// The mark of these rules: what nobody on the device knows.
const EPOCH: u32 = 0x5eca_f00d;
const MARKED: &str = "meta mark @epoch meta mark set 0x00000000 accept";

fn replaced(rules: &str, from: &str, to: &str) -> String {
    assert_eq!(rules.matches(from).count(), 1, "{from}");
    rules.replace(from, to)
}

/// A far end that helps: it ends its side of the first connection so that no packet says so, and takes another.
const SERVER: &str = "
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen(); server.settimeout(20)
open('listens', 'w')
def heard(connection):
    connection.settimeout(5)
    data = b''
    while part := connection.recv(100): data += part
    return data
if sys.argv[3] == 'twice':
    first, _ = server.accept()
    open('said', 'wb').write(heard(first))
    # The end of the other side is acknowledged first.
    time.sleep(0.3)
    TCP_REPAIR = 19
    first.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    first.close()
    open('silent', 'w')
server.settimeout(2)
try:
    said = heard(server.accept()[0])
    open('second', 'wb').write(said)
except OSError: pass
";

/// Says a word from port 40000. Its own side of the connection is forgotten a second after it ended.
const CLIENT: &str = "
import socket, sys
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
client.bind(('', 40000)); client.settimeout(1.5)
try:
    client.connect((sys.argv[1], int(sys.argv[2])))
    client.sendall(sys.argv[3].encode())
except OSError as error: print(error)
client.close()
";

/// What arrives of the user who may, and then of the one who may not, who begins on the same ports.
fn went_on(rules: &str, (address, port): (&str, u16), (may, may_not): (u32, u32), often: &str) -> [Option<String>; 2] {
    let server = if address.starts_with("127.") { "" } else { "there " };
    let first = match often {
        "twice" => format!(
            "as {may} python3 client.py {address} {port} yes
await silent
until [ -z \"$(ss --no-header --all --numeric sport = 40000)\" ]; do sleep 0.1; done"
        ),
        _ => String::new(),
    };
    let script = format!(
        "
{server}python3 server.py {address} {port} {often} & server=$!
await listens
{first}
as {may_not} python3 client.py {address} {port} no
wait $server"
    );
    let files = [("first", rules), ("server.py", SERVER), ("client.py", CLIENT)];
    let folder = in_lab(&files, &script);
    ["said", "second"].map(|name| fs::read_to_string(folder.path().join(name)).ok())
}

#[test]
fn nobody_goes_on_in_the_flow_of_another() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let ours = rules("full_lab", EPOCH);
    let follows = "tcp flags & (syn | ack) != syn ct state established";
    let leaving = replaced(&ours, &format!("{follows} ct mark"), "meta l4proto tcp ct state established ct mark");
    let loopback = replaced(&ours, &format!("{follows} accept"), "ct state established accept");
    let said = |word: &str| Some(word.to_owned());
    // The airlock and a person outside; a person and the inference service on loopback.
    for (place, users, were) in
        [(("1.86.0.1", 443), (952, 1000), leaving), (("127.0.0.1", 8480), (1000, 955), loopback)]
    {
        assert_eq!(
            went_on(&were, place, users, "twice"),
            [said("yes"), said("no")],
            "{place:?}: the test sees nothing"
        );
        assert_eq!(went_on(&were, place, users, "once"), [None, None], "{place:?}: it is not the flow that lets him");
        assert_eq!(went_on(&ours, place, users, "twice"), [said("yes"), None], "{place:?}");
    }
}

/// Writes down which words arrive in frames.
const EAR: &str = "
import os, socket, time
ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
ear.bind(('far0', 0)); ear.settimeout(0.1)
open('hears', 'w')
data = b''
while not os.path.exists('sent'):
    try: data += ear.recv(4096)
    except TimeoutError: pass
time.sleep(0.3)
try:
    while True: data += ear.recv(4096)
except TimeoutError: pass
open('heard', 'w').write(' '.join(word for word in ('PLAIN', 'READ', 'KNOWN') if word.encode() in data))
";

/// Reads marks off frames by 32 sockets, each of which keeps what has one bit; then sends frames: without a mark, with the
/// one that was read, and with the right one.
const WATCHER: &str = "
import ctypes, os, socket, struct, sys, time
def packet(*program):
    watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if program:
        code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in program))
        SO_ATTACH_FILTER = 26
        watcher.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack('HL', len(program), ctypes.addressof(code)))
    watcher.bind(('leak0', 3)); watcher.setblocking(False)
    return watcher
def frames(watcher):
    data = []
    try:
        while True: data.append(watcher.recv(4096))
    except BlockingIOError: return data
MARK = 0xfffff000 + 20
LOAD, JUMP_IF_SET, RETURN = 0x20, 0x45, 0x06
bits = [packet((LOAD, 0, 0, MARK), (JUMP_IF_SET, 0, 1, 1 << bit), (RETURN, 0, 0, 65535), (RETURN, 0, 0, 0)) for bit in range(32)]
every = packet()
open('watches', 'w')
while not os.path.exists('said'): time.sleep(0.02)
mark = sum(1 << bit for bit, watcher in enumerate(bits) if frames(watcher))
assert any(b'FLOW' in frame for frame in frames(every)), 'it sees no frame of the flow'
open('mark', 'w').write(str(mark))
def send(word, mark):
    data = struct.pack('>HHHH', 4444, 443, 8 + len(word), 0) + word
    header = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(data), 0, 0, 64, 17, 0, bytes([10, 86, 0, 2]), bytes([1, 86, 0, 1]))
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    SO_MARK = 36
    if mark: sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    try: sender.sendto(b'\\xff' * 6 + bytes(6) + b'\\x08\\x00' + header + data, ('leak0', 0x0800))
    except OSError as error: print(word, error)
send(b'PLAIN', 0); send(b'READ', mark); send(b'KNOWN', int(sys.argv[1]))
open('sent', 'w')
";

/// The mark that a user with CAP_NET_RAW reads off frames, and which of his own then leave.
fn watched(rules: &str) -> (u32, String) {
    let script = format!(
        "
there python3 server.py 1.86.0.1 443 once & server=$!
there python3 ear.py & ear=$!
await listens; await hears
setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=+net_raw --ambient-caps=+net_raw python3 watcher.py {EPOCH} & watcher=$!
await watches
as 952 python3 client.py 1.86.0.1 443 FLOW
wait $server
touch said
wait $watcher
wait $ear"
    );
    let files =
        [("first", rules), ("server.py", SERVER), ("client.py", CLIENT), ("ear.py", EAR), ("watcher.py", WATCHER)];
    let folder = in_lab(&files, &script);
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("second"), "FLOW", "the flow itself");
    (read("mark").parse().unwrap(), read("heard"))
}

#[test]
fn who_watches_frames_does_not_see_what_lets_them_out() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let ours = rules("full_lab", EPOCH);
    assert_eq!(watched(&replaced(&ours, MARKED, "meta mark @epoch accept")), (EPOCH, "READ KNOWN".to_owned()));
    assert_eq!(watched(&ours), (0, "KNOWN".to_owned()));
}
