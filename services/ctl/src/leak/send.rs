//! Sends what a vector sends: one packet or frame, from the calling thread's user and network namespace.
//!
//! An error that rules cause (`EPERM`) is one way of refusing; whether something left is seen on the far side alone.

use super::packets::{NEAR4, UDP, datagram, echo, header4, header6, ip4};
use super::vectors::Shot;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::size_of_val;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Long enough for a SYN to be sent, too short to wait for an answer that never comes.
const CONNECT_FOR: Duration = Duration::from_millis(15);
/// Long enough for the report of a group that was joined, which waits for a timer and a worker of the kernel.
const JOINED_FOR: Duration = Duration::from_millis(250);
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

pub fn bound(to: IpAddr, kind: Type, shot: Shot) -> io::Result<()> {
    let socket = Socket::new(domain(to), kind, None)?;
    let link = std::num::NonZeroU32::new(shot.link);
    match to {
        IpAddr::V4(_) => socket.bind_device_by_index_v4(link)?,
        IpAddr::V6(_) => socket.bind_device_by_index_v6(link)?,
    }
    let to = SocketAddr::new(to, 443).into();
    match kind {
        Type::STREAM => began(socket.connect_timeout(&to, CONNECT_FOR)),
        _ => socket.send_to(&shot.mark(), &to).map(drop),
    }
}

pub fn udp_transparent(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_ip_transparent_v4(true)?;
    // An address of nobody's here.
    socket.bind(&SocketAddr::new(Ipv4Addr::new(1, 1, 1, 1).into(), 0).into())?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

pub fn tcp_transparent(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&SocketAddr::new(Ipv4Addr::new(1, 1, 1, 1).into(), 0).into())?;
    began(socket.connect_timeout(&SocketAddr::new(shot.v4().into(), 443).into(), CONNECT_FOR))
}

/// Data of a connection that never began: the kernel takes the socket's word for it.
pub fn tcp_repaired(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &1_i32.to_ne_bytes())?;
    socket.bind(&SocketAddr::new(NEAR4.into(), 0).into())?;
    socket.connect(&SocketAddr::new(shot.v4().into(), 443).into())?;
    // Its peer takes what it can: in repair a window is to be told.
    const SND_WL1_WND_MAX_RCV_WUP: [u32; 5] = [0, 4096, 4096, 4096, 0];
    let windows: Vec<u8> = SND_WL1_WND_MAX_RCV_WUP.iter().flat_map(|it| it.to_ne_bytes()).collect();
    set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &windows)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &0_i32.to_ne_bytes())?;
    socket.set_nonblocking(true)?;
    socket.send(&shot.mark()).map(drop)
}

/// A socket of a protocol that not every kernel has.
pub fn connected(protocol: i32, kind: Type, to: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(protocol)))?;
    began(socket.connect_timeout(&SocketAddr::new(to.into(), 443).into(), CONNECT_FOR))
}

/// Many datagrams in one call, cut by the kernel.
pub fn udp_segmented(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let each = (shot.mark().len() as i32).to_ne_bytes();
    set(&socket, libc::IPPROTO_UDP, libc::UDP_SEGMENT, &each)?;
    socket.send_to(&shot.mark().repeat(5), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

/// An ordinary datagram with options in its header of IPv4: where it came by.
pub fn udp_options4(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    set(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &[7, 7, 4, 0, 0, 0, 0, 0])?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 443).into()).map(drop)
}

/// An ordinary datagram with a header of extension, given by `option`.
pub fn udp_options6(shot: Shot, option: i32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    let header = match option {
        // Segment routing with one segment, the destination itself.
        libc::IPV6_RTHDR => [&[0, 2, 4, 0, 0, 0, 0, 0][..], &shot.v6().octets()].concat(),
        // Padding.
        _ => vec![0, 0, 1, 4, 0, 0, 0, 0],
    };
    set(&socket, libc::IPPROTO_IPV6, option, &header)?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v6().into(), 443).into()).map(drop)
}

/// What every DHCP client begins with.
pub fn dhcp(shot: Shot) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 68).into())?;
    socket.send_to(&shot.mark(), &SocketAddr::new(Ipv4Addr::BROADCAST.into(), 67).into()).map(drop)
}

/// Echo by a socket that needs no capability.
pub fn ping(to: IpAddr, shot: Shot) -> io::Result<()> {
    let (protocol, kind) = if to.is_ipv4() { (Protocol::ICMPV4, 8) } else { (Protocol::ICMPV6, 128) };
    let socket = Socket::new(domain(to), Type::DGRAM, Some(protocol))?;
    socket.send_to(&echo(kind, shot), &SocketAddr::new(to, 0).into()).map(drop)
}

/// An option of which no library knows.
pub fn set(socket: &Socket, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no library has these options")]
    // SAFETY: the kernel reads no more than the length given, which is that of bytes that outlive the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), size_of_val(value) as u32)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// ---- raw IP ----

pub fn icmp_echo(shot: Shot) -> io::Result<()> {
    let data = echo(8, shot);
    // A packet's data with its checksum in it.
    let packet = ip4(NEAR4, shot.v4(), super::packets::ICMP, 64, &data).split_off(20);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

pub fn icmp6(shot: Shot, kind: u8) -> io::Result<()> {
    // The kernel fills in the checksum.
    let packet = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &[0; 16], &shot.mark()].concat();
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    // As neighbours demand it.
    socket.set_unicast_hops_v6(255)?;
    socket.send_to(&packet, &SocketAddr::new(shot.v6().into(), 0).into()).map(drop)
}

pub fn raw6(shot: Shot, protocol: u8) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v6().into(), 0).into()).map(drop)
}

pub fn raw4(shot: Shot, protocol: u8) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.send_to(&shot.mark(), &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

pub fn own_header4(shot: Shot, options: &[u8], fragment: u16) -> io::Result<()> {
    let data = datagram(shot, 4444, 443);
    let packet = [header4(shot, UDP, options, fragment, data.len()), data].concat();
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v4().into(), 0).into()).map(drop)
}

pub fn own_header6(shot: Shot, extension: &[u8]) -> io::Result<()> {
    let packet = header6(shot, extension, &datagram(shot, 4444, 443));
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.send_to(&packet, &SocketAddr::new(shot.v6().into(), 0).into()).map(drop)
}
