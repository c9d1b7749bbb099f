//! Requests for names that are sent to see them refused: to addresses that are nobody's (RFC 5737, RFC 3849), and to
//! the groups of a link that answer for names. What they ask for is one fixed name that cannot be (RFC 6761).

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use secai_verifier::network::profile::DNS_PORTS;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Nobody's.
const NOBODYS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 53)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53)),
];
/// Over connections.
const CONNECTED: [u16; 2] = [53, 853];
/// Of multicast DNS.
const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const GROUP_PORT: u16 = 5353;
/// A device has few links; the first of them stand for all.
const LINKS_MAX: usize = 8;
/// Before the kernel sends a second SYN (after a second), which would be counted too.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);
/// A question for `dns-leak-check.invalid`, type A.
pub const QUESTION: &[u8] =
    b"\x5e\xca\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0edns-leak-check\x07invalid\x00\x00\x01\x00\x01";

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A datagram.
    Udp,
    /// The beginning of a connection.
    Tcp,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// How.
    pub way: Way,
    /// Where to.
    pub to: SocketAddr,
    /// Through this link, where no route decides.
    pub link: Option<String>,
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.way == Way::Udp { "udp" } else { "tcp" };
        write!(f, "{way} {}", self.to)?;
        self.link.iter().try_for_each(|link| write!(f, " through {link}"))
    }
}

/// What became of it, as far as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// EPERM.
    Refused,
    /// There is no route, or the link is down.
    NoWay(Errno),
    /// The kernel took it.
    Sent,
    /// The kernel took it, and says nothing of a refused one: as long as nobody answers it may be either.
    Silent,
    /// Somebody did, if only to say no.
    Answered,
    /// It could not be tried.
    Untried(Errno),
}

/// Datagrams: to nobody's addresses, and to the groups on each link.
pub fn datagrams(links: &[String]) -> Vec<Canary> {
    let ports = || DNS_PORTS.iter().filter_map(|port| u16::try_from(*port).ok());
    let mut canaries: Vec<Canary> = (NOBODYS.iter())
        .flat_map(|ip| ports().map(|port| SocketAddr::new(*ip, port)))
        .map(|to| Canary { way: Way::Udp, to, link: None })
        .collect();
    for link in links.iter().take(LINKS_MAX) {
        let groups = [IpAddr::V4(GROUP4), IpAddr::V6(GROUP6)].map(|ip| SocketAddr::new(ip, GROUP_PORT));
        canaries.extend(groups.map(|to| Canary { way: Way::Udp, to, link: Some(link.clone()) }));
    }
    canaries
}

/// Connections to nobody's addresses.
pub fn connections() -> Vec<Canary> {
    let all = NOBODYS.iter().flat_map(|ip| CONNECTED.map(|port| SocketAddr::new(*ip, port)));
    all.map(|to| Canary { way: Way::Tcp, to, link: None }).collect()
}

fn socket(canary: &Canary) -> Result<OwnedFd, Errno> {
    let family = if canary.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if canary.way == Way::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn of(errno: Errno) -> Fate {
    match errno {
        Errno::PERM => Fate::Refused,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL | Errno::NODEV | Errno::NXIO => {
            Fate::NoWay(errno)
        }
        other => Fate::Untried(other),
    }
}

/// Sends a datagram.
pub fn send(canary: &Canary) -> Fate {
    let sent = || {
        // Without IPv6 in the kernel nothing can leave by it.
        let socket = match socket(canary) {
            Err(Errno::AFNOSUPPORT) => return Ok(Fate::NoWay(Errno::AFNOSUPPORT)),
            socket => socket?,
        };
        let to = aimed(canary, &socket)?;
        Ok(match rustix::net::sendto(&socket, QUESTION, SendFlags::NOSIGNAL, &to) {
            Ok(_) => Fate::Sent,
            Err(errno) => of(errno),
        })
    };
    sent().unwrap_or_else(|errno: Errno| match of(errno) {
        // A refusal to prepare is not one of the rules.
        Fate::Refused => Fate::Untried(errno),
        fate => fate,
    })
}

/// The address, once the socket goes through the canary's link. This machine's own listeners hear nothing of it.
fn aimed(canary: &Canary, socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    let Some(link) = &canary.link else { return Ok(canary.to) };
    let number = rustix::net::netdevice::name_to_index(socket, link)?;
    Ok(match canary.to {
        SocketAddr::V4(to) => {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(socket, to.ip(), &any, number)?;
            sockopt::set_ip_multicast_loop(socket, false)?;
            to.into()
        }
        SocketAddr::V6(to) => {
            sockopt::set_ipv6_multicast_loop(socket, false)?;
            SocketAddrV6::new(*to.ip(), to.port(), 0, number).into()
        }
    })
}

/// Begins all connections, and waits for all of them together.
pub fn connect(canaries: &[Canary]) -> Vec<Fate> {
    let begun: Vec<Result<OwnedFd, Fate>> = canaries.iter().map(begin).collect();
    let until = Instant::now() + ANSWERED_WITHIN;
    let mut fates: Vec<Option<Fate>> = begun.iter().map(|it| it.as_ref().err().cloned()).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let waiting: Vec<(&OwnedFd, &mut Option<Fate>)> = (begun.iter().zip(&mut fates))
            .filter(|(_, fate)| fate.is_none())
            .filter_map(|(socket, fate)| Some((socket.as_ref().ok()?, fate)))
            .collect();
        if waiting.is_empty() || left.is_zero() {
            break;
        }
        let mut polled: Vec<PollFd<'_>> = waiting.iter().map(|(fd, _)| PollFd::new(*fd, PollFlags::OUT)).collect();
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        if !matches!(poll(&mut polled, Some(&left)), Ok(_) | Err(Errno::INTR)) {
            break;
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        for ((socket, fate), ready) in waiting.into_iter().zip(ready) {
            if ready {
                *fate = Some(match sockopt::socket_error(socket) {
                    Ok(Ok(()) | Err(Errno::CONNREFUSED | Errno::CONNRESET)) => Fate::Answered,
                    Ok(Err(errno)) | Err(errno) => of(errno),
                });
            }
        }
    }
    fates.into_iter().map(|fate| fate.unwrap_or(Fate::Silent)).collect()
}

fn begin(canary: &Canary) -> Result<OwnedFd, Fate> {
    let socket = match socket(canary) {
        Err(Errno::AFNOSUPPORT) => return Err(Fate::NoWay(Errno::AFNOSUPPORT)),
        socket => socket.map_err(Fate::Untried)?,
    };
    match rustix::net::connect(&socket, &canary.to) {
        Ok(()) | Err(Errno::CONNREFUSED) => Err(Fate::Answered),
        Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(of(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_go_to_nobody() {
        let links = ["eth0".to_owned(), "wlan0".to_owned()];
        let datagrams = datagrams(&links);
        assert_eq!((datagrams.len(), connections().len()), (20, 8));
        let is_nobodys = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_documentation(),
            IpAddr::V6(ip) => ip.segments()[..2] == [0x2001, 0xdb8],
        };
        for canary in datagrams.iter().chain(&connections()) {
            assert_eq!(is_nobodys(canary.to.ip()), canary.link.is_none(), "{canary}");
            assert!(is_nobodys(canary.to.ip()) || canary.to.ip().is_multicast(), "{canary}");
        }
        assert_eq!(datagrams[16].to_string(), "udp 224.0.0.251:5353 through eth0");
        assert_eq!(datagrams[19].to_string(), "udp [ff02::fb]:5353 through wlan0");
        let many: Vec<String> = (0..100).map(|it| format!("l{it}")).collect();
        assert_eq!(super::datagrams(&many).len(), 16 + 2 * LINKS_MAX);
        assert!(QUESTION.windows(14).any(|part| part == b"dns-leak-check"));
    }

    #[test]
    fn who_answers_is_noticed_and_who_does_not_keeps_nobody_waiting() {
        let there = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = there.local_addr().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Its queue is full: nobody answers another one.
        let full = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&full, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let silent = SocketAddr::try_from(rustix::net::getsockname(&full).unwrap()).unwrap();
        let _first = std::net::TcpStream::connect(silent).unwrap();
        let to = |to| Canary { way: Way::Tcp, to, link: None };
        let begun = Instant::now();
        assert_eq!(connect(&[to(open), to(silent), to(closed)]), [Fate::Answered, Fate::Silent, Fate::Answered]);
        assert!(begun.elapsed() < 4 * ANSWERED_WITHIN, "{:?}", begun.elapsed());
    }
}
