//! The network that a guest's card is in: one server, which gives an address by DHCP, answers for a router by ARP, and says
//! that it is one over IPv6. It sends nothing further, and nobody else is there.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// What the guest is offered, and who offers it.
pub const ADDRESS: [u8; 4] = [10, 0, 2, 15];
/// The router; nothing goes on from it.
pub const ROUTER: [u8; 4] = [10, 0, 2, 2];
/// Whose frames are not the guest's.
pub const ROUTER_CARD: [u8; 6] = [0x02, 0x5e, 0xca, 0x10, 0x05, 0x02];
const EVERYBODY: [u8; 6] = [0xff; 6];
/// As a link-local address.
const ROUTER_SIX: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// `ff02::1`, and the card's address that frames to it have.
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_CARD: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// `fec0::/64`: site-local, so nobody's outside.
const PREFIX: [u8; 16] = [0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Longer than a frame, or one that the card puts together of several.
const FRAME_BYTES_MAX: usize = 1 << 16;
/// Between two looks whether it is over.
const LOOKS: Duration = Duration::from_millis(100);

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Lan {
    wire: PathBuf,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Lan {
    /// At this end of the wire; the guest's is called the same with `.guest` behind it.
    ///
    /// # Panics
    /// When no socket can be had there.
    pub fn begin(wire: &Path) -> Self {
        let guest = PathBuf::from(format!("{}.guest", wire.display()));
        // A socket of an earlier run.
        let _ = [wire, &guest].map(fs::remove_file);
        let socket = UnixDatagram::bind(wire).unwrap();
        socket.set_read_timeout(Some(LOOKS)).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let server = spawn(move || {
            let mut frame = vec![0; FRAME_BYTES_MAX];
            while !is_over.load(Ordering::Relaxed) {
                match socket.recv(&mut frame) {
                    // A guest that has just ended hears nothing.
                    Ok(length) => drop(answer(&frame[..length]).map(|answer| socket.send_to(&answer, &guest))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { wire: wire.to_owned(), over, server: Some(server) }
    }

    /// Where it is.
    pub fn wire(&self) -> &Path {
        &self.wire
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// What the server says to a frame, if anything.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let kind = frame.get(12..14)?;
    let from = frame.get(6..12)?;
    match kind {
        [0x08, 0x06] => arp(frame.get(14..42)?).map(|answer| [from, &ROUTER_CARD, kind, &answer].concat()),
        [0x08, 0x00] => dhcp(frame.get(14..)?).map(|answer| [&EVERYBODY, &ROUTER_CARD[..], kind, &answer].concat()),
        [0x86, 0xdd] => {
            advertisement(frame.get(14..)?).map(|answer| [&ALL_NODES_CARD, &ROUTER_CARD[..], kind, &answer].concat())
        }
        _ => None,
    }
}

/// RFC 4861: to who asks for routers, that there is one, and a prefix for addresses.
fn advertisement(packet: &[u8]) -> Option<Vec<u8>> {
    if packet.get(6)? != &58 || packet.get(40)? != &133 {
        return None;
    }
    let hour = [0, 0, 14, 16];
    let link = [&[1, 1], &ROUTER_CARD[..]].concat();
    let prefix = [&[3, 4, 64, 0xc0], &hour[..], &hour, &[0; 4], &PREFIX].concat();
    let mut message = [&[134, 0, 0, 0, 64, 0, 7, 8], &[0; 8][..], &link, &prefix].concat();
    let length = u16::try_from(message.len()).ok()?.to_be_bytes();
    let pseudo = [&ROUTER_SIX[..], &ALL_NODES, &[0, 0], &length, &[0, 0, 0, 58], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo));
    Some([&[0x60, 0, 0, 0], &length[..], &[58, 255], &ROUTER_SIX, &ALL_NODES, &message].concat())
}

/// RFC 1071, of a whole number of 16-bit words.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// RFC 826: who has the router's address?
fn arp(request: &[u8]) -> Option<Vec<u8>> {
    let (head, who, whom) = (request.get(..8)?, request.get(8..18)?, request.get(24..28)?);
    let asks = head == [0, 1, 8, 0, 6, 4, 0, 1] && whom == ROUTER;
    asks.then(|| [&[0, 1, 8, 0, 6, 4, 0, 2], &ROUTER_CARD[..], &ROUTER, who].concat())
}

/// RFC 2131: an offer to who discovers, an acknowledgement to who requests; in an IPv4 packet each.
fn dhcp(packet: &[u8]) -> Option<Vec<u8>> {
    let is_request = packet.first()? == &0x45 && packet.get(9)? == &17 && packet.get(22..24)? == [0, 67];
    let message = packet.get(28..).filter(|_| is_request)?;
    let kind = match option(message.get(240..)?, 53)? {
        [1] => 2,
        [3] => 5,
        _ => return None,
    };
    let mut reply = [&[2, 1, 6, 0], message.get(4..8)?, &[0; 8], &ADDRESS, &ROUTER, &[0; 4]].concat();
    reply.extend(message.get(28..44)?);
    reply.extend([0; 192]);
    reply.extend([99, 130, 83, 99, 53, 1, kind, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0]);
    // The server, the router, who knows names.
    [54, 3, 6].iter().for_each(|option| reply.extend([&[*option, 4], &ROUTER[..]].concat()));
    reply.push(255);
    let length = u16::try_from(reply.len()).ok()?;
    let udp = [&[0, 67, 0, 68], &(length + 8).to_be_bytes()[..], &[0, 0], &reply].concat();
    let mut ip =
        [&[0x45, 0], &(length + 28).to_be_bytes()[..], &[0, 0, 0, 0, 64, 17, 0, 0], &ROUTER, &[255; 4]].concat();
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    Some([ip, udp].concat())
}

fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let (code, length) = (*options.first()?, usize::from(*options.get(1)?));
        let value = options.get(2..2 + length)?;
        if code == wanted {
            return Some(value);
        }
        options = &options[2 + length..];
    }
}
