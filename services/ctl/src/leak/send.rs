//! Sends what a vector sends: one packet or frame, from the calling thread's user and network namespace.
//!
//! An error that rules cause (`EPERM`) is one way of refusing; whether something left is seen on the far side alone.

use super::vectors::Shot;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Long enough for a SYN to be sent, too short to wait for an answer that never comes.
const CONNECT_FOR: Duration = Duration::from_millis(15);
/// Long enough for the report of a group that was joined, which waits for a timer and a worker of the kernel.
const JOINED_FOR: Duration = Duration::from_millis(250);
/// The far end of the link.
pub const FAR: [u8; 6] = [2, 0x5e, 0xca, 0, 0, 2];
/// The near end.
pub const NEAR: [u8; 6] = [2, 0x5e, 0xca, 0, 0, 1];
/// The near end's addresses.
pub const NEAR4: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 2);
/// Likewise of IPv6.
pub const NEAR6: Ipv6Addr = Ipv6Addr::new(0xfd86, 0, 0, 0, 0, 0, 0, 2);

/// How a frame gets onto the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the queue.
    Queued,
    /// `PACKET_QDISC_BYPASS`.
    Direct,
    /// `SOCK_DGRAM`: the kernel writes the header of the link.
    Cooked,
}

fn domain(to: IpAddr) -> Domain {
    if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

fn began(done: io::Result<()>) -> io::Result<()> {
    match done {
        // A SYN was sent; nobody answers.
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Ok(()),
        done => done,
    }
}

pub fn tcp(to: IpAddr, port: u16) -> io::Result<()> {
    let socket = Socket::new(domain(to), Type::STREAM, Some(Protocol::TCP))?;
    began(socket.connect_timeout(&SocketAddr::new(to, port).into(), CONNECT_FOR))
}

pub fn tcp_fast_open(to: Ipv4Addr, port: u16, data: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.send_to_with_flags(data, &SocketAddr::new(to.into(), port).into(), libc::MSG_FASTOPEN) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        sent => drop(sent?),
    }
    std::thread::sleep(CONNECT_FOR);
    Ok(())
}

pub fn tcp_multipath(to: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
    began(socket.connect_timeout(&SocketAddr::new(to.into(), port).into(), CONNECT_FOR))
}

pub fn udp(to: IpAddr, port: u16, data: &[u8]) -> io::Result<()> {
    let socket = Socket::new(domain(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.send_to(data, &SocketAddr::new(to, port).into()).map(drop)
}

pub fn multicast(group: IpAddr, port: u16, shot: Shot) -> io::Result<()> {
    let socket = Socket::new(domain(group), Type::DGRAM, Some(Protocol::UDP))?;
    match group {
        IpAddr::V4(_) => socket.set_multicast_if_v4(&NEAR4)?,
        IpAddr::V6(_) => socket.set_multicast_if_v6(shot.link)?,
    }
    socket.send_to(&shot.mark(), &SocketAddr::new(group, port).into()).map(drop)
}

pub fn broadcast(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.send_to(&shot.mark(), &SocketAddr::new(Ipv4Addr::BROADCAST.into(), 9).into()).map(drop)
}

pub fn udp_lite(to: Ipv4Addr, data: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::from(libc::IPPROTO_UDPLITE)))?;
    socket.send_to(data, &SocketAddr::new(to.into(), 443).into()).map(drop)
}

pub fn join4(group: Ipv4Addr, link: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(link))?;
    std::thread::sleep(JOINED_FOR);
    Ok(())
}

pub fn join6(group: Ipv6Addr, link: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.join_multicast_v6(&group, link)?;
    std::thread::sleep(JOINED_FOR);
    Ok(())
}

pub fn udp_marked(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_mark(1)?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

pub fn udp_bound(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device_by_index_v4(std::num::NonZeroU32::new(shot.link))?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

pub fn udp_transparent(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_ip_transparent_v4(true)?;
    // An address of nobody's here.
    socket.bind(&SocketAddr::new(Ipv4Addr::new(1, 1, 1, 1).into(), 0).into())?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

// ---- raw IP ----

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn icmp_echo(shot: Shot) -> io::Result<()> {
    let mut packet = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &shot.mark()].concat();
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

pub fn icmp6(shot: Shot, kind: u8) -> io::Result<()> {
    // The kernel fills in the checksum.
    let packet = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &[0; 16], &shot.mark()].concat();
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v6().into(), 0).into()).map(drop)
}

pub fn raw4(shot: Shot, protocol: u8) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

fn header4(shot: Shot, protocol: u8, options: &[u8], fragment: u16, data: usize) -> Vec<u8> {
    let options: Vec<u8> = options.iter().copied().chain([0; 3]).take(options.len().next_multiple_of(4)).collect();
    let words = 5 + options.len() / 4;
    let length = (words * 4 + data) as u16;
    let mut header = vec![0x40 | words as u8, 0];
    header.extend(length.to_be_bytes());
    header.extend([0x5e, 0xca]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(NEAR4.octets());
    header.extend(shot.v4().octets());
    header.extend(options);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header
}

fn datagram(shot: Shot, from: u16, to: u16) -> Vec<u8> {
    let data = shot.mark();
    let mut datagram = Vec::new();
    for number in [from, to, (8 + data.len()) as u16, 0] {
        datagram.extend(number.to_be_bytes());
    }
    datagram.extend(data);
    datagram
}

pub fn own_header4(shot: Shot, options: &[u8], fragment: u16) -> io::Result<()> {
    let data = datagram(shot, 4444, 443);
    let packet = [header4(shot, 17, options, fragment, data.len()), data].concat();
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

fn header6(shot: Shot, extension: &[u8], data: &[u8]) -> Vec<u8> {
    // Eight bytes each: options that are padding, or a fragment that is the whole.
    let more: Vec<u8> = match extension {
        [44] => vec![17, 0, 0, 0, 0, 0, 0, 1],
        [_] => vec![17, 0, 1, 4, 0, 0, 0, 0],
        _ => Vec::new(),
    };
    let length = (more.len() + data.len()) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([extension.first().copied().unwrap_or(17), 64]);
    packet.extend(NEAR6.octets());
    packet.extend(shot.v6().octets());
    packet.extend(more);
    packet.extend(data);
    packet
}

pub fn own_header6(shot: Shot, extension: &[u8]) -> io::Result<()> {
    let packet = header6(shot, extension, &datagram(shot, 4444, 443));
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v6().into(), 0).into()).map(drop)
}

// ---- frames ----

/// `sockaddr_ll` of the far end.
fn far(link: u32, ether: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(link).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "no library has this address in a safe form")]
    // SAFETY: `try_init` hands out zeroed storage that is large and aligned enough for every kind of address; what is
    // written into it is a whole `sockaddr_ll`, whose length is given with it.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = ether.to_be();
            address.sll_ifindex = index;
            address.sll_halen = 6;
            address.sll_addr[..6].copy_from_slice(&FAR);
            *length = size_of::<libc::sockaddr_ll>() as u32;
            Ok(())
        })?
    };
    Ok(address)
}

fn send_frame(shot: Shot, way: Way, ether: u16, mark: u32, packet: &[u8]) -> io::Result<()> {
    let kind = if way == Way::Cooked { Type::DGRAM } else { Type::RAW };
    // Protocol 0: it receives nothing.
    let socket = Socket::new(Domain::PACKET, kind, None)?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    if way == Way::Direct {
        let on: libc::c_int = 1;
        #[expect(unsafe_code, reason = "no library has this option")]
        // SAFETY: the option takes an int, which is there and outlives the call, by its size.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let frame = match way {
        Way::Cooked => packet.to_vec(),
        _ => [&FAR[..], &NEAR, &ether.to_be_bytes(), packet].concat(),
    };
    socket.send_to(&frame, &far(shot.link, ether)?).map(drop)
}

pub fn frame(shot: Shot, way: Way, ether: u16, mark: u32) -> io::Result<()> {
    let data = datagram(shot, 4444, 443);
    let v4 = || [header4(shot, 17, &[], 0, data.len()), data.clone()].concat();
    let packet = match ether {
        0x0800 => v4(),
        0x86dd => header6(shot, &[], &data),
        0x8100 => [&[0, 5, 8, 0][..], &v4()].concat(),
        // Who has the vector's address?
        0x0806 => [&[0, 1, 8, 0, 6, 4, 0, 1][..], &NEAR, &NEAR4.octets(), &[0; 6], &shot.v4().octets()].concat(),
        _ => [shot.mark(), vec![0; 46]].concat(),
    };
    send_frame(shot, way, ether, mark, &packet)
}

/// A router is solicited, and the sender says that this is IPv6; the type on the wire is another.
pub fn frame_called_discovery(shot: Shot, wire: u16) -> io::Result<()> {
    let asked = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &shot.mark()].concat();
    let header = [&[0x60, 0, 0, 0, 0, asked.len() as u8, 58, 255][..], &NEAR6.octets(), &shot.v6().octets()].concat();
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let frame = [&FAR[..], &NEAR, &wire.to_be_bytes(), &header, &asked].concat();
    socket.send_to(&frame, &far(shot.link, 0x86dd)?).map(drop)
}

/// A datagram of IPv4 between these ports.
pub fn frame_of_ports(shot: Shot, from: u16, to: u16) -> io::Result<()> {
    let data = datagram(shot, from, to);
    send_frame(shot, Way::Queued, 0x0800, 0, &[header4(shot, 17, &[], 0, data.len()), data].concat())
}
