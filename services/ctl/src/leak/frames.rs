//! Frames that a process writes itself.

use super::packets::{FAR, NEAR, NEAR4, NEAR6, UDP, datagram, framed, header4, header6};
use super::send::set;
use super::vectors::Shot;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::mem::size_of;

/// How a frame gets onto the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the queue.
    Queued,
    /// `PACKET_QDISC_BYPASS`.
    Direct,
    /// `SOCK_DGRAM`: the kernel writes the header of the link.
    Cooked,
    /// `PACKET_VNET_HDR`: with the header of virtual machines.
    Virtual,
}

/// The header of virtual machines, of a frame that asks nothing of its device.
pub const NO_OFFLOAD: [u8; 10] = [0; 10];

/// `sockaddr_ll` of the far end.
pub fn far(link: u32, ether: u16) -> io::Result<SockAddr> {
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
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32.to_ne_bytes())?;
    }
    if way == Way::Virtual {
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32.to_ne_bytes())?;
    }
    let frame = match way {
        Way::Cooked => packet.to_vec(),
        Way::Virtual => [&NO_OFFLOAD[..], &framed(ether, packet)].concat(),
        _ => framed(ether, packet),
    };
    socket.send_to(&frame, &far(shot.link, ether)?).map(drop)
}

pub fn frame(shot: Shot, way: Way, ether: u16, mark: u32) -> io::Result<()> {
    let data = datagram(shot, 4444, 443);
    let v4 = || [header4(shot, UDP, &[], 0, data.len()), data.clone()].concat();
    let packet = match ether {
        0x0800 => v4(),
        0x86dd => header6(shot, &[], &data),
        0x8100 | 0x88a8 => [&[0, 5, 8, 0][..], &v4()].concat(),
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
    socket.send_to(&framed(wire, &[header, asked].concat()), &far(shot.link, 0x86dd)?).map(drop)
}

/// A datagram of IPv4 between these ports.
pub fn frame_of_ports(shot: Shot, from: u16, to: u16) -> io::Result<()> {
    let data = datagram(shot, from, to);
    send_frame(shot, Way::Queued, 0x0800, 0, &[header4(shot, UDP, &[], 0, data.len()), data].concat())
}
