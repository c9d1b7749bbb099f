//! Ways out of a machine, as a table: who tries, how, and whether a profile may let it.

use super::send;
use secai_verifier::network::profile::{DHCP_UID, LinkNeed, Profile};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A person.
const PERSON: u32 = 1000;
/// Users of services, by what they are.
const TOR: u32 = 951;
const AIRLOCK: u32 = 952;
const MEDIATOR: u32 = 954;
const INFERENCE: u32 = 955;

/// Where packets of a try go, and by what they are known on the far side.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    /// Which vector.
    pub number: u16,
    /// The link, by its index.
    pub link: u32,
}

impl Shot {
    /// A public address of IPv4 that only this vector has. No packet gets further than the namespaces of the test.
    pub fn v4(self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(1, 86, high, low)
    }

    /// Likewise of IPv6.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2606, 0x86, 0, 0, 0, 0, 0, self.number)
    }

    /// A private one, beyond the gateway.
    pub fn private(self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(10, 87, high, low)
    }

    /// A group of IPv4 that only this vector joins.
    pub fn group4(self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(239, 86, high, low)
    }

    /// Likewise of IPv6.
    pub fn group6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x86, self.number)
    }

    /// What stands in whatever can carry something.
    pub fn mark(self) -> Vec<u8> {
        format!("SECAI-LEAK-{:05}.", self.number).into_bytes()
    }

    /// Bytes of which one kind stands in each frame of this vector.
    pub fn needles(self) -> Vec<Vec<u8>> {
        let v4 = [self.v4(), self.private(), self.group4()].map(|it| it.octets().to_vec());
        let v6 = [self.v6(), self.group6()].map(|it| it.octets().to_vec());
        [v4.to_vec(), v6.to_vec(), vec![self.mark()]].concat()
    }
}

/// What a profile may say to a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// No profile lets it out.
    Never,
    /// A flow of TCP to a public address, at this port: whose user the page names.
    Flow(u16),
    /// What links need.
    Link(LinkNeed),
}

/// A way out.
pub struct Vector {
    /// Its name; with the user it is the only one.
    pub name: &'static str,
    /// Who tries.
    pub uid: u32,
    /// Whether he may write frames nevertheless: a service that was given too much.
    pub capable: bool,
    /// Who may let it.
    pub may: May,
    /// Tries.
    pub fire: fn(Shot) -> io::Result<()>,
}

impl Vector {
    /// Does this profile let it out?
    pub fn allowed(&self, profile: &Profile) -> bool {
        match self.may {
            May::Never => false,
            May::Link(need) => profile.link.contains(&need),
            May::Flow(port) => profile.leaves.iter().any(|leave| {
                let port = u64::from(port);
                leave.uid == self.uid
                    && leave.ports.spans().iter().any(|(first, last)| (*first..=*last).contains(&port))
            }),
        }
    }
}

/// All of them, in an order that stays: numbers are places.
pub fn all() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, uids: &[u32], may, fire: fn(Shot) -> io::Result<()>| {
        all.extend(uids.iter().map(|uid| Vector { name, uid: *uid, capable: *uid == 0, may, fire }));
    };
    let any = &[0, PERSON, TOR, AIRLOCK, DHCP_UID, MEDIATOR, INFERENCE];
    let some = &[PERSON, TOR, AIRLOCK];

    // Sockets that anybody can open.
    add("TCP, IPv4", any, May::Flow(443), |it| send::tcp(IpAddr::V4(it.v4()), 443));
    add("TCP, IPv6", any, May::Flow(443), |it| send::tcp(IpAddr::V6(it.v6()), 443));
    add("TCP, IPv4 by a socket of IPv6", some, May::Flow(443), |it| {
        send::tcp(IpAddr::V6(it.v4().to_ipv6_mapped()), 443)
    });
    add("TCP, to a relay's port", some, May::Flow(9001), |it| send::tcp(IpAddr::V4(it.v4()), 9001));
    add("TCP, mail", some, May::Flow(25), |it| send::tcp(IpAddr::V4(it.v4()), 25));
    add("TCP, fast open", some, May::Flow(443), |it| send::tcp_fast_open(it.v4(), 443, &it.mark()));
    add("TCP, multipath", some, May::Flow(443), |it| send::tcp_multipath(it.v4(), 443));
    add("TCP, to a private address", some, May::Never, |it| send::tcp(IpAddr::V4(it.private()), 443));
    add("TCP, DNS", any, May::Never, |it| send::tcp(IpAddr::V4(it.v4()), 53));
    add("TCP, DNS over TLS", some, May::Never, |it| send::tcp(IpAddr::V4(it.v4()), 853));
    add("UDP, DNS, IPv4", any, May::Never, |it| send::udp(IpAddr::V4(it.v4()), 53, &it.mark()));
    add("UDP, DNS, IPv6", some, May::Never, |it| send::udp(IpAddr::V6(it.v6()), 53, &it.mark()));
    add("UDP, multicast DNS", some, May::Never, |it| {
        send::multicast(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353, it)
    });
    add("UDP, LLMNR, IPv6", some, May::Never, |it| {
        send::multicast(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 3)), 5355, it)
    });
    add("UDP, QUIC", any, May::Never, |it| send::udp(IpAddr::V4(it.v4()), 443, &it.mark()));
    add("UDP, NTP", some, May::Never, |it| send::udp(IpAddr::V4(it.v4()), 123, &it.mark()));
    add("UDP, IPv4 by a socket of IPv6", some, May::Never, |it| {
        send::udp(IpAddr::V6(it.v4().to_ipv6_mapped()), 443, &it.mark())
    });
    add("UDP, broadcast", some, May::Never, send::broadcast);
    add("UDP, in fragments", some, May::Never, |it| send::udp(IpAddr::V4(it.v4()), 443, &it.mark().repeat(200)));
    add("UDP-Lite", some, May::Never, |it| send::udp_lite(it.v4(), &it.mark()));
    add("joins a group, IPv4", some, May::Never, |it| send::join4(it.group4(), it.link));
    add("joins a group, IPv6", some, May::Never, |it| send::join6(it.group6(), it.link));

    // With capabilities that root has.
    let root = &[0];
    add("ICMP echo", root, May::Never, send::icmp_echo);
    add("ICMPv6 echo", root, May::Never, |it| send::icmp6(it, 128));
    add("ICMPv6 listener report", root, May::Never, |it| send::icmp6(it, 131));
    add("ICMPv6 redirect", root, May::Never, |it| send::icmp6(it, 137));
    add("raw IGMP", root, May::Never, |it| send::raw4(it, 2));
    add("raw IPIP", root, May::Never, |it| send::raw4(it, 4));
    add("raw GRE", root, May::Never, |it| send::raw4(it, 47));
    add("raw ESP", root, May::Never, |it| send::raw4(it, 50));
    add("raw AH", root, May::Never, |it| send::raw4(it, 51));
    add("raw OSPF", root, May::Never, |it| send::raw4(it, 89));
    add("raw L2TP", root, May::Never, |it| send::raw4(it, 115));
    add("raw SCTP", root, May::Never, |it| send::raw4(it, 132));
    add("raw, a protocol of nobody's", root, May::Never, |it| send::raw4(it, 253));
    add("own IPv4 header", root, May::Never, |it| send::own_header4(it, &[], 0));
    add("own IPv4 header, source route", root, May::Never, |it| send::own_header4(it, &[0x83, 7, 4, 1, 1, 1, 1, 0], 0));
    add("own IPv4 header, first fragment", root, May::Never, |it| send::own_header4(it, &[], 0x2000));
    add("own IPv4 header, later fragment", root, May::Never, |it| send::own_header4(it, &[], 0x00b9));
    add("own IPv6 header", root, May::Never, |it| send::own_header6(it, &[]));
    add("own IPv6 header, hop-by-hop options", root, May::Never, |it| send::own_header6(it, &[0]));
    add("own IPv6 header, destination options", root, May::Never, |it| send::own_header6(it, &[60]));
    add("own IPv6 header, a fragment", root, May::Never, |it| send::own_header6(it, &[44]));
    add("UDP, marked by guess", root, May::Never, send::udp_marked);
    add("UDP, bound to the link", root, May::Never, send::udp_bound);
    add("UDP, transparent", root, May::Never, send::udp_transparent);

    // Frames that a process writes itself.
    add("frame of IPv4", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x0800, 0));
    add("frame of IPv4, beside the queue", root, May::Never, |it| send::frame(it, send::Way::Direct, 0x0800, 0));
    add("frame of IPv4, marked by guess", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x0800, 1));
    add("frame of IPv4 without its own header", root, May::Never, |it| send::frame(it, send::Way::Cooked, 0x0800, 0));
    add("frame of IPv6", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x86dd, 0));
    add("frame of ARP", root, May::Link(LinkNeed::Arp), |it| send::frame(it, send::Way::Queued, 0x0806, 0));
    add("frame with a tag", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x8100, 0));
    add("frame of LLDP", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x88cc, 0));
    add("frame of 802.1X", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x888e, 0));
    add("frame of a type of nobody's", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x88b5, 0));
    add("frame with a length for its type", root, May::Never, |it| send::frame(it, send::Way::Queued, 0x0020, 0));
    add("frame of a type of nobody's, called neighbour discovery", root, May::Never, |it| {
        send::frame_called_discovery(it, 0x88b5)
    });
    add("frame of 802.3's own kind", root, May::Never, |it| send::frame(it, send::Way::Cooked, 0x0004, 0));

    // Of services that could write frames.
    let mut able = |name, uid, may, fire| all.push(Vector { name, uid, capable: true, may, fire });
    able("frame of IPv4", TOR, May::Never, |it| send::frame(it, send::Way::Queued, 0x0800, 0));
    able("frame of IPv4", AIRLOCK, May::Never, |it| send::frame(it, send::Way::Direct, 0x0800, 0));
    able("frame of DHCP", DHCP_UID, May::Link(LinkNeed::Dhcp), |it| send::frame_of_ports(it, 68, 67));
    able("frame of DHCP, to another port", DHCP_UID, May::Never, |it| send::frame_of_ports(it, 68, 53));
    able("frame of DHCP", MEDIATOR, May::Never, |it| send::frame_of_ports(it, 68, 67));
    all
}
