//! Ways out of a machine, as a table: who tries, how, and whether a profile may let it.

use super::kernel::{self, Asked};
use super::packets::{TCP, UDP};
use super::{frames, links, send, xdp};
use secai_verifier::network::profile::{DHCP_UID, LinkNeed, Profile};
use socket2::Type;
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
    /// A thread of the far side, by which its namespace is found.
    pub far: i32,
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
    /// No profile lets it out, and no rule meets it: what it takes is this.
    Beside(&'static str),
}

/// What rules meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Those of packets, as its user's, then those of the link.
    Socket,
    /// Those of the link alone.
    Frame,
    /// It is made on the way: by the kernel, or by a link above.
    Kernel,
}

impl Through {
    /// For machines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Frame => "frame",
            Self::Kernel => "kernel",
        }
    }
}

/// A way out.
pub struct Vector {
    /// Its name; with the user it is the only one. What stands behind a colon is a port or an address alone.
    pub name: &'static str,
    /// Who tries.
    pub uid: u32,
    /// Whether he may write frames nevertheless: a service that was given too much.
    pub capable: bool,
    /// Who may let it.
    pub may: May,
    /// What rules meet it.
    pub by: Through,
    /// Tries.
    pub fire: fn(Shot) -> io::Result<()>,
}

impl Vector {
    /// What sets it apart from others: socket, protocol, header or device.
    pub fn way(&self) -> &'static str {
        self.name.split(':').next().unwrap_or(self.name)
    }

    /// Does this profile let it out?
    pub fn allowed(&self, profile: &Profile) -> bool {
        match self.may {
            May::Never | May::Beside(_) => false,
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
    let mut all = Table(Vec::new());
    sockets(&mut all);
    capable_sockets(&mut all);
    written(&mut all);
    made_on_the_way(&mut all);
    all.0
}

type Fire = fn(Shot) -> io::Result<()>;

struct Table(Vec<Vector>);

impl Table {
    fn add(&mut self, by: Through, name: &'static str, uids: &[u32], may: May, fire: Fire) {
        self.0.extend(uids.iter().map(|uid| Vector { name, uid: *uid, capable: *uid == 0, may, by, fire }));
    }
}

/// Root, a person, and each user of a service.
const EVERYBODY: &[u32] = &[0, PERSON, TOR, AIRLOCK, DHCP_UID, MEDIATOR, INFERENCE, 956, 957, 958, 959, 960, 961];
const ROOT: &[u32] = &[0];

/// Sockets that anybody can open.
fn sockets(all: &mut Table) {
    let mut add = |name, uids: &[u32], may, fire: Fire| all.add(Through::Socket, name, uids, may, fire);
    let any = &[0, PERSON, TOR, AIRLOCK, DHCP_UID, MEDIATOR, INFERENCE];
    let some = &[PERSON, TOR, AIRLOCK];
    let flow = May::Flow(443);
    let never = May::Never;

    add("TCP, IPv4", EVERYBODY, flow, |it| send::tcp(it.v4().into(), 443));
    add("TCP, IPv6", any, flow, |it| send::tcp(it.v6().into(), 443));
    add("TCP, IPv4 by a socket of IPv6", some, flow, |it| send::tcp(it.v4().to_ipv6_mapped().into(), 443));
    add("TCP, IPv4: a relay's port", some, May::Flow(9001), |it| send::tcp(it.v4().into(), 9001));
    add("TCP, IPv4: mail", some, May::Flow(25), |it| send::tcp(it.v4().into(), 25));
    add("TCP, IPv4: a private address", some, never, |it| send::tcp(it.private().into(), 443));
    add("TCP, IPv4: DNS", any, never, |it| send::tcp(it.v4().into(), 53));
    add("TCP, IPv4: DNS over TLS", some, never, |it| send::tcp(it.v4().into(), 853));
    add("TCP, fast open", some, flow, |it| send::tcp_fast_open(it.v4(), 443, &it.mark()));
    add("TCP, multipath", some, flow, |it| send::tcp_multipath(it.v4(), 443));
    add("TCP, bound to the link", some, flow, |it| send::bound(it.v4().into(), Type::STREAM, it));
    add("UDP, IPv4: QUIC", EVERYBODY, never, |it| send::udp(it.v4().into(), 443, &it.mark()));
    add("UDP, IPv4: DNS", any, never, |it| send::udp(it.v4().into(), 53, &it.mark()));
    add("UDP, IPv4: NTP", some, never, |it| send::udp(it.v4().into(), 123, &it.mark()));
    add("UDP, IPv6: DNS", some, never, |it| send::udp(it.v6().into(), 53, &it.mark()));
    add("UDP, IPv4 by a socket of IPv6", some, never, |it| send::udp(it.v4().to_ipv6_mapped().into(), 443, &it.mark()));
    add("UDP, to a group, IPv4: multicast DNS", some, never, |it| {
        send::multicast(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353, it)
    });
    add("UDP, to a group, IPv6: LLMNR", some, never, |it| {
        send::multicast(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 3)), 5355, it)
    });
    add("UDP, broadcast", some, never, send::broadcast);
    add("UDP, broadcast: DHCP", &[0, PERSON], never, send::dhcp);
    add("UDP, broadcast: DHCP", &[DHCP_UID], May::Link(LinkNeed::Dhcp), send::dhcp);
    add("UDP, in fragments, IPv4", some, never, |it| send::udp(it.v4().into(), 443, &it.mark().repeat(200)));
    add("UDP, in fragments, IPv6", some, never, |it| send::udp(it.v6().into(), 443, &it.mark().repeat(200)));
    add("UDP, segmented by the kernel", some, never, send::udp_segmented);
    add("UDP, options of IPv4", some, never, send::udp_options4);
    add("UDP, segment routing of IPv6", some, never, |it| send::udp_options6(it, libc::IPV6_RTHDR));
    add("UDP, bound to the link, IPv4", some, never, |it| send::bound(it.v4().into(), Type::DGRAM, it));
    add("UDP, bound to the link, IPv6", some, never, |it| send::bound(it.v6().into(), Type::DGRAM, it));
    add("UDP-Lite", some, never, |it| send::udp_lite(it.v4(), &it.mark()));
    add("SCTP", some, never, |it| send::connected(libc::IPPROTO_SCTP, Type::STREAM, it.v4()));
    add("DCCP", some, never, |it| send::connected(libc::IPPROTO_DCCP, Type::DCCP, it.v4()));
    add("echo without a capability, IPv4", some, never, |it| send::ping(it.v4().into(), it));
    add("echo without a capability, IPv6", some, never, |it| send::ping(it.v6().into(), it));
    let mut add = |name, fire: Fire| all.add(Through::Kernel, name, some, never, fire);
    add("joins a group, IPv4", |it| send::join4(it.group4(), it.link));
    add("joins a group, IPv6", |it| send::join6(it.group6(), it.link));
}

/// With capabilities that root has.
fn capable_sockets(all: &mut Table) {
    let mut add = |name, may, fire: Fire| all.add(Through::Socket, name, ROOT, may, fire);
    let never = May::Never;
    add("ICMP echo", never, send::icmp_echo);
    add("ICMPv6 echo", never, |it| send::icmp6(it, 128));
    add("ICMPv6 listener report", never, |it| send::icmp6(it, 131));
    add("ICMPv6 router solicitation", May::Link(LinkNeed::Nd), |it| send::icmp6(it, 133));
    add("ICMPv6 redirect", never, |it| send::icmp6(it, 137));
    add("raw IGMP", never, |it| send::raw4(it, 2));
    add("raw IPIP", never, |it| send::raw4(it, 4));
    add("raw GRE", never, |it| send::raw4(it, 47));
    add("raw ESP", never, |it| send::raw4(it, 50));
    add("raw AH", never, |it| send::raw4(it, 51));
    add("raw OSPF", never, |it| send::raw4(it, 89));
    add("raw L2TP", never, |it| send::raw4(it, 115));
    add("raw SCTP", never, |it| send::raw4(it, 132));
    add("raw, a protocol of nobody's", never, |it| send::raw4(it, 253));
    add("raw IPIP, IPv6", never, |it| send::raw6(it, 4));
    add("raw GRE, IPv6", never, |it| send::raw6(it, 47));
    add("own IPv4 header", never, |it| send::own_header4(it, &[], 0));
    add("own IPv4 header, source route", never, |it| send::own_header4(it, &[0x83, 7, 4, 1, 1, 1, 1, 0], 0));
    add("own IPv4 header, first fragment", never, |it| send::own_header4(it, &[], 0x2000));
    add("own IPv4 header, later fragment", never, |it| send::own_header4(it, &[], 0x00b9));
    add("own IPv6 header", never, |it| send::own_header6(it, &[]));
    add("own IPv6 header, hop-by-hop options", never, |it| send::own_header6(it, &[0]));
    add("own IPv6 header, destination options", never, |it| send::own_header6(it, &[60]));
    add("own IPv6 header, a fragment", never, |it| send::own_header6(it, &[44]));
    add("UDP, hop-by-hop options", never, |it| send::udp_options6(it, libc::IPV6_HOPOPTS));
    add("UDP, destination options", never, |it| send::udp_options6(it, libc::IPV6_DSTOPTS));
    add("UDP, marked by guess", never, send::udp_marked);
    add("UDP, transparent", never, send::udp_transparent);
    add("TCP, transparent", never, send::tcp_transparent);
    add("TCP, repaired: no handshake", never, send::tcp_repaired);
}

/// Frames that a process writes itself.
fn written(all: &mut Table) {
    use frames::{Way, frame, frame_called_discovery, frame_of_ports};
    let mut add = |name, may, fire: Fire| all.add(Through::Frame, name, ROOT, may, fire);
    let never = May::Never;
    add("frame of IPv4", never, |it| frame(it, Way::Queued, 0x0800, 0));
    add("frame of IPv4, beside the queue", never, |it| frame(it, Way::Direct, 0x0800, 0));
    add("frame of IPv4, marked by guess", never, |it| frame(it, Way::Queued, 0x0800, 1));
    add("frame of IPv4 without its own header", never, |it| frame(it, Way::Cooked, 0x0800, 0));
    add("frame of IPv4, as virtual machines write it", never, |it| frame(it, Way::Virtual, 0x0800, 0));
    add("frame of IPv6", never, |it| frame(it, Way::Queued, 0x86dd, 0));
    add("frame of ARP", May::Link(LinkNeed::Arp), |it| frame(it, Way::Queued, 0x0806, 0));
    add("frame with a tag", never, |it| frame(it, Way::Queued, 0x8100, 0));
    add("frame with a tag of providers", never, |it| frame(it, Way::Queued, 0x88a8, 0));
    add("frame of MPLS", never, |it| frame(it, Way::Queued, 0x8847, 0));
    add("frame of PPPoE", never, |it| frame(it, Way::Queued, 0x8863, 0));
    add("frame of LLDP", never, |it| frame(it, Way::Queued, 0x88cc, 0));
    add("frame of 802.1X", never, |it| frame(it, Way::Queued, 0x888e, 0));
    add("frame of a type of nobody's", never, |it| frame(it, Way::Queued, 0x88b5, 0));
    add("frame with a length for its type", never, |it| frame(it, Way::Queued, 0x0020, 0));
    add("frame of a type of nobody's, called neighbour discovery", never, |it| frame_called_discovery(it, 0x88b5));
    add("frame of 802.3's own kind", never, |it| frame(it, Way::Cooked, 0x0004, 0));
    add("frame by AF_XDP", May::Beside("CAP_NET_RAW"), xdp::frame);

    // Of services that could write frames.
    let mut able = |name, uid, may, fire: Fire| {
        all.0.push(Vector { name, uid, capable: true, may, by: Through::Frame, fire });
    };
    able("frame of IPv4", TOR, never, |it| frame(it, Way::Queued, 0x0800, 0));
    able("frame of IPv4, beside the queue", AIRLOCK, never, |it| frame(it, Way::Direct, 0x0800, 0));
    able("frame of IPv4: DHCP", DHCP_UID, May::Link(LinkNeed::Dhcp), |it| frame_of_ports(it, 68, 67));
    able("frame of IPv4: DHCP, to another port", DHCP_UID, never, |it| frame_of_ports(it, 68, 53));
    able("frame of IPv4: DHCP", MEDIATOR, never, |it| frame_of_ports(it, 68, 67));
}

/// What is sent on another link, or by the kernel itself.
fn made_on_the_way(all: &mut Table) {
    let mut add = |name, may, fire: Fire| all.add(Through::Kernel, name, ROOT, may, fire);
    let never = May::Never;
    // Links above the guarded one.
    add("a link of a tag", never, |it| links::above(it, "vlan id 5"));
    add("a link of another address", never, |it| links::above(it, "macvlan mode bridge"));
    add("a link of another address, in another namespace", never, |it| links::elsewhere(it, "macvlan mode bridge"));
    add("a link that is a file", never, links::macvtap);
    add("a link of another IP address", never, |it| links::above(it, "ipvlan mode l2"));
    add("a link of another IP address, in another namespace", never, |it| links::elsewhere(it, "ipvlan mode l2"));
    add("an encrypted link", never, links::encrypted);
    add("a bridge", never, links::from_bridge);
    add("a bridge, from a process", never, links::through_bridge);
    // Tunnels.
    add("a tunnel, VXLAN", never, |it| links::tunnel(it, it.v4().into(), "vxlan id 5 dstport 4789", true));
    add("a tunnel, VXLAN over IPv6", never, |it| links::tunnel(it, it.v6().into(), "vxlan id 5 dstport 4789", true));
    add("a tunnel, Geneve", never, links::geneve);
    add("a tunnel, GRE", never, |it| links::tunnel(it, it.v4().into(), "gre", false));
    add("a tunnel, GRE over IPv6", never, |it| links::tunnel(it, it.v6().into(), "ip6gre", false));
    add("a tunnel, Ethernet in GRE", never, |it| links::tunnel(it, it.v4().into(), "gretap", true));
    add("a tunnel, IPIP", never, |it| links::tunnel(it, it.v4().into(), "ipip", false));
    add("a tunnel, IPv6 in IPv4", never, |it| links::tunnel(it, it.v4().into(), "sit", false));
    add("a tunnel, IPv4 in IPv6", never, |it| links::tunnel(it, it.v6().into(), "ip6tnl mode any", false));
    add("a tunnel, ESP", never, links::esp);
    add("a route that wraps in segments", never, |it| links::wrapped(it, &format!("seg6 mode encap segs {}", it.v6())));
    // From link to link.
    add("forwarded from a process, IPv4", never, |it| links::forwarded_from_tun(it, false));
    add("forwarded from a process, IPv6", never, |it| links::forwarded_from_tun(it, true));
    add("forwarded from a pair", never, links::forwarded_from_pair);
    add("led by tc from where another link's frames come in", May::Beside("CAP_NET_ADMIN"), |it| {
        links::redirected(it, "ingress")
    });
    add("led by tc from where another link's frames go out", May::Beside("CAP_NET_ADMIN"), |it| {
        links::redirected(it, "egress")
    });
    add("led by nft from where another link's frames come in", never, links::led_by_nft);
    // The kernel's own words.
    let (arp, nd) = (May::Link(LinkNeed::Arp), May::Link(LinkNeed::Nd));
    add("the kernel asks for a neighbour, IPv4", arp, |it| kernel::asks_for_neighbour(&it.private().to_string()));
    add("the kernel asks for a neighbour, IPv6", nd, |it| kernel::asks_for_neighbour(&it.v6().to_string()));
    add("the kernel asks for its own address", nd, kernel::asks_for_its_address);
    add("the kernel announces its address, IPv4", arp, |it| kernel::announces(it, "ipv4/conf/leak0/arp_notify"));
    add("the kernel announces its address, IPv6", nd, |it| kernel::announces(it, "ipv6/conf/leak0/ndisc_notify"));
    add("the kernel answers ARP", arp, kernel::answers_arp);
    add("the kernel answers a neighbour", nd, kernel::answers_neighbour);
    // Answers to what comes in.
    add("an answer to an echo, IPv4", never, |it| kernel::answers4(it, Asked::Echo));
    add("an answer to an echo, IPv6", never, |it| kernel::answers6(it, Asked::Echo));
    add("an answer to TCP at a closed port, IPv4", never, |it| kernel::answers4(it, Asked::Port(TCP)));
    add("an answer to TCP at a closed port, IPv6", never, |it| kernel::answers6(it, Asked::Port(TCP)));
    add("an answer to UDP at a closed port, IPv4", never, |it| kernel::answers4(it, Asked::Port(UDP)));
    add("an answer to UDP at a closed port, IPv6", never, |it| kernel::answers6(it, Asked::Port(UDP)));
    add("an answer to a protocol of nobody's, IPv4", never, |it| kernel::answers4(it, Asked::Protocol));
    add("an answer to a protocol of nobody's, IPv6", never, |it| kernel::answers6(it, Asked::Protocol));
    add("an answer of a listener", never, kernel::listener_answers);
    add("an answer to a packet at its last hop", never, kernel::says_time_exceeded);
}
