//! Packets as bytes: what a vector writes itself, and what the far side asks.

use super::vectors::Shot;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The far end of the link.
pub const FAR: [u8; 6] = [2, 0x5e, 0xca, 0, 0, 2];
/// The near end.
pub const NEAR: [u8; 6] = [2, 0x5e, 0xca, 0, 0, 1];
/// The near end's addresses.
pub const NEAR4: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 2);
/// Likewise of IPv6.
pub const NEAR6: Ipv6Addr = Ipv6Addr::new(0xfd86, 0, 0, 0, 0, 0, 0, 2);

/// Protocols that a header may name.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A header of IPv4 from the near end to the vector's address.
pub fn header4(shot: Shot, protocol: u8, options: &[u8], fragment: u16, data: usize) -> Vec<u8> {
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

/// A datagram of UDP with the vector's mark, without a checksum.
pub fn datagram(shot: Shot, from: u16, to: u16) -> Vec<u8> {
    let data = shot.mark();
    let mut datagram = Vec::new();
    for number in [from, to, (8 + data.len()) as u16, 0] {
        datagram.extend(number.to_be_bytes());
    }
    datagram.extend(data);
    datagram
}

/// A packet of IPv6 from the near end to the vector's address.
pub fn header6(shot: Shot, extension: &[u8], data: &[u8]) -> Vec<u8> {
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

/// A packet of IPv4, with the checksums that its receiver demands.
pub fn ip4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, hops: u8, data: &[u8]) -> Vec<u8> {
    let length = (20 + data.len()) as u16;
    let mut packet = [&[0x45, 0][..], &length.to_be_bytes(), &[0x5e, 0xca, 0, 0, hops, protocol, 0, 0]].concat();
    packet.extend([from.octets(), to.octets()].concat());
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(summed(from.into(), to.into(), protocol, data));
    packet
}

/// Likewise of IPv6.
pub fn ip6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, hops: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_be_bytes();
    let mut packet = [&[0x60, 0, 0, 0][..], &length, &[protocol, hops]].concat();
    packet.extend([from.octets(), to.octets()].concat());
    packet.extend(summed(from.into(), to.into(), protocol, data));
    packet
}

/// The same data with its checksum where its protocol has it.
fn summed(from: IpAddr, to: IpAddr, protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let at = match protocol {
        ICMP | ICMPV6 => 2,
        TCP => 16,
        UDP => 6,
        _ => return data,
    };
    let mut summed = Vec::new();
    for address in [from, to] {
        match address {
            _ if protocol == ICMP => {}
            IpAddr::V4(address) => summed.extend(address.octets()),
            IpAddr::V6(address) => summed.extend(address.octets()),
        }
    }
    if protocol != ICMP {
        summed.extend([[0, protocol], (data.len() as u16).to_be_bytes()].concat());
    }
    summed.extend(&data);
    let sum = checksum(&summed).to_be_bytes();
    data[at..at + 2].copy_from_slice(&sum);
    data
}

/// What begins a connection of TCP.
pub fn syn(to: u16) -> Vec<u8> {
    let ports = [4444_u16.to_be_bytes(), to.to_be_bytes()].concat();
    [&ports[..], &[0, 0, 0x5e, 0xca, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat()
}

/// An echo request: its first byte says of which ICMP.
pub fn echo(kind: u8, shot: Shot) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &shot.mark()].concat()
}

/// A frame from the near end to the far one.
pub fn framed(ether: u16, packet: &[u8]) -> Vec<u8> {
    [&FAR[..], &NEAR, &ether.to_be_bytes(), packet].concat()
}
