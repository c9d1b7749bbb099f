//! What the kernel says by itself: to find its neighbours, and in answer to what comes in.

use super::frames::far as link_address;
use super::lab::{FAR_LINK, LINK, in_network_of};
use super::links::{ip, while_made};
use super::packets::{FAR, ICMP, ICMPV6, NEAR, NEAR4, NEAR6, TCP, UDP, datagram, echo, ip4, ip6, syn};
use super::vectors::Shot;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

/// An answer leaves in the same softirq; a frame that waits for a timer of a few ticks, a little later.
const ANSWERED_AFTER: Duration = Duration::from_millis(60);
/// Where a service of this machine listens.
const LISTENS: u16 = 8443;

fn while_set(file: &str, value: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let path = format!("/proc/sys/net/{file}");
    let before = fs::read_to_string(&path)?;
    fs::write(&path, value)?;
    let done = act();
    fs::write(&path, before.trim()).and(done)
}

fn settled(after: Duration) -> io::Result<()> {
    sleep(after);
    Ok(())
}

/// It is made to ask who has an address.
pub fn asks_for_neighbour(to: &str) -> io::Result<()> {
    while_made(&format!("neighbour replace {to} dev {LINK} use"), &format!("neighbour delete {to} dev {LINK}"), || {
        settled(ANSWERED_AFTER)
    })
}

/// It asks whether an address that it was given is somebody else's.
pub fn asks_for_its_address(shot: Shot) -> io::Result<()> {
    let address = format!("{}/128 dev {LINK}", shot.v6());
    // At once, instead of after up to a second.
    while_set("ipv6/conf/leak0/router_solicitation_delay", "0", || {
        while_made(&format!("address add {address}"), &format!("address delete {address}"), || {
            settled(ANSWERED_AFTER * 5)
        })
    })
}

/// It tells everybody its addresses when that of the link changes.
pub fn announces(shot: Shot, setting: &str) -> io::Result<()> {
    let all = [format!("{}/32 dev {LINK}", shot.private()), format!("{}/128 dev {LINK} nodad", shot.v6())];
    let [add, delete] = ["add", "delete"].map(|act| all.each_ref().map(|it| format!("address {act} {it}")).join("\n"));
    while_set(setting, "1", || {
        while_made(&add, &delete.replace(" nodad", ""), || {
            let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
            // To change it is to forget neighbours.
            let again = ["10.86.0.1", "fd86::1"]
                .map(|to| format!("neighbour replace {to} lladdr {} dev {LINK} nud permanent", mac(FAR)));
            ip(&format!("link set {LINK} address {}\n{}", mac(NEAR), again.join("\n")))?;
            settled(ANSWERED_AFTER)
        })
    })
}

/// A frame from the far side.
fn asked(shot: Shot, ether: u16, packet: &[u8]) -> io::Result<()> {
    in_network_of(shot.far, || {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        let link = name_to_index(&socket, FAR_LINK)?;
        let frame = [&NEAR[..], &FAR, &ether.to_be_bytes(), packet].concat();
        socket.send_to(&frame, &link_address(link, ether)?).map(drop)
    })?;
    settled(ANSWERED_AFTER)
}

/// What is asked of this machine, each by a packet that comes from the vector's address.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// An echo.
    Echo,
    /// A port where nobody listens, of this protocol.
    Port(u8),
    /// A protocol of nobody's.
    Protocol,
}

impl Asked {
    fn data(self, shot: Shot, kind: u8) -> (u8, Vec<u8>) {
        match self {
            Self::Echo if kind == 8 => (ICMP, echo(kind, shot)),
            Self::Echo => (ICMPV6, echo(kind, shot)),
            Self::Port(TCP) => (TCP, syn(4)),
            Self::Port(_) => (UDP, datagram(shot, 4444, 4)),
            Self::Protocol => (253, shot.mark()),
        }
    }
}

/// By IPv4.
pub fn answers4(shot: Shot, what: Asked) -> io::Result<()> {
    let (protocol, data) = what.data(shot, 8);
    asked(shot, 0x0800, &ip4(shot.v4(), NEAR4, protocol, 64, &data))
}

/// By IPv6.
pub fn answers6(shot: Shot, what: Asked) -> io::Result<()> {
    let (protocol, data) = what.data(shot, 128);
    asked(shot, 0x86dd, &ip6(shot.v6(), NEAR6, protocol, 64, &data))
}

/// Where a process listens.
pub fn listener_answers(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(NEAR4.into(), LISTENS).into())?;
    socket.listen(1)?;
    asked(shot, 0x0800, &ip4(shot.v4(), NEAR4, TCP, 64, &syn(LISTENS)))
}

/// Who has this machine's address?
pub fn answers_arp(shot: Shot) -> io::Result<()> {
    let asks = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &FAR, &shot.v4().octets(), &[0; 6], &NEAR4.octets()].concat();
    asked(shot, 0x0806, &asks)
}

/// Likewise of IPv6.
pub fn answers_neighbour(shot: Shot) -> io::Result<()> {
    let source = [&[1, 1][..], &FAR].concat();
    let asks = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &NEAR6.octets(), &source].concat();
    asked(shot, 0x86dd, &ip6(shot.v6(), NEAR6, ICMPV6, 255, &asks))
}

/// It gives up a packet that has come far enough, and says so.
pub fn says_time_exceeded(shot: Shot) -> io::Result<()> {
    let elsewhere = Ipv6Addr::new(0x2606, 0x87, 0, 0, 0, 0, 0, 1);
    while_set("ipv6/conf/all/forwarding", "1", || {
        asked(shot, 0x86dd, &ip6(shot.v6(), elsewhere, UDP, 1, &datagram(shot, 4444, 443)))
    })
}
