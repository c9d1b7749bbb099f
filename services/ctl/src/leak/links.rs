//! Links that a vector makes for itself, and ways between links: what comes out of them comes out of the link below.
//!
//! All of it takes CAP_NET_ADMIN, by which rules could be removed as well; it is tried because links come to a device
//! that nobody meant as a way out: a virtual machine's, a container's, a tunnel's.

use super::frames::{NO_OFFLOAD, far};
use super::lab::{LINK, in_own_network, program};
use super::packets::{FAR, NEAR4, NEAR6, UDP, datagram, framed, header4, ip4, ip6};
use super::vectors::Shot;
use socket2::{Domain, Socket, Type};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

/// The name of such a link; a pair has a second end.
const OWN: &str = "own0";
/// The second end.
const PEER: &str = "own1";
/// Above the numbers that the kernel gives links by itself.
const OWN_NUMBERS: i32 = 1 << 24;
/// Long enough for a new port of a bridge to forward.
const FORWARDS_AFTER: Duration = Duration::from_millis(50);
/// Beyond a tunnel, with nobody there.
const BEYOND4: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
/// Likewise.
const BEYOND6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 2);

fn run(name: &'static str, words: &[&str], input: &str) -> io::Result<()> {
    program(name, words, input).map_err(|error| io::Error::other(error.to_string()))
}

pub fn ip(lines: &str) -> io::Result<()> {
    run("ip", &["-batch", "-"], lines)
}

/// Acts while something is made, and removes it in any case.
pub fn while_made(make: &str, remove: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let done = ip(make).and_then(|()| act());
    // What was not made cannot be removed.
    let _ = run("ip", &["-force", "-batch", "-"], remove);
    done
}

fn with_link(make: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    while_made(make, &format!("link delete {OWN}"), act)
}

fn udp(to: IpAddr, shot: Shot) -> io::Result<()> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::DGRAM, None)?.send_to(&shot.mark(), &SocketAddr::new(to, 443).into()).map(drop)
}

/// A link that stands on the one that is guarded: its kind, in words of `ip`.
pub fn above(shot: Shot, kind: &str) -> io::Result<()> {
    above_with(shot, kind, "")
}

/// The same of MACsec: without a key for what it sends it sends nothing. It signs, and leaves the data readable.
pub fn encrypted(shot: Shot) -> io::Result<()> {
    above_with(shot, "macsec", &format!("macsec add {OWN} tx sa 0 pn 1 on key 01 {}", "5e".repeat(16)))
}

fn above_with(shot: Shot, kind: &str, more: &str) -> io::Result<()> {
    let make = format!(
        "link add link {LINK} name {OWN} type {kind}
         {more}
         address add 10.88.0.1/24 dev {OWN}
         link set {OWN} up
         neighbour replace {BEYOND4} lladdr {} dev {OWN} nud permanent",
        mac(FAR)
    );
    with_link(&make, || udp(BEYOND4.into(), shot))
}

/// A link that stands on the one that is guarded, in a namespace that has no rules.
pub fn elsewhere(shot: Shot, kind: &str) -> io::Result<()> {
    let make = |space: i32| ip(&format!("link add link {LINK} name {OWN} netns {space} type {kind}"));
    in_own_network(make, || {
        ip(&format!(
            "address add 10.88.0.1/24 dev {OWN}
             link set {OWN} up
             neighbour replace {BEYOND4} lladdr {} dev {OWN} nud permanent",
            mac(FAR)
        ))?;
        udp(BEYOND4.into(), shot)
    })
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A tunnel to the vector's address, over IPv4 or IPv6: its kind and words of its own. Whether it carries Ethernet.
pub fn tunnel(shot: Shot, over: IpAddr, kind: &str, ethernet: bool) -> io::Result<()> {
    let local: IpAddr = if over.is_ipv4() { NEAR4.into() } else { NEAR6.into() };
    let inside: IpAddr = if kind.starts_with("sit") { BEYOND6.into() } else { BEYOND4.into() };
    let address = if inside.is_ipv4() { "10.88.0.1/24" } else { "fd88::1/64 nodad" };
    let mut make = format!(
        "link add {OWN} type {kind} local {local} remote {over}
         address add {address} dev {OWN}
         link set {OWN} up"
    );
    if ethernet {
        make += &format!("\nneighbour replace {inside} lladdr {} dev {OWN} nud permanent", mac(FAR));
    }
    with_link(&make, || udp(inside, shot))
}

/// Geneve has no local address of its own.
pub fn geneve(shot: Shot) -> io::Result<()> {
    let make = format!(
        "link add {OWN} type geneve id 5 remote {}
         address add 10.88.0.1/24 dev {OWN}
         link set {OWN} up
         neighbour replace {BEYOND4} lladdr {} dev {OWN} nud permanent",
        shot.v4(),
        mac(FAR)
    );
    with_link(&make, || udp(BEYOND4.into(), shot))
}

/// A tunnel without a link: what the kernel's IPsec makes of an ordinary datagram.
pub fn esp(shot: Shot) -> io::Result<()> {
    let to = shot.v4();
    let both = format!("src {NEAR4} dst {to}");
    let key = "00".repeat(20);
    let make = format!(
        "xfrm state add {both} proto esp spi 0x5eca mode tunnel aead rfc4106(gcm(aes)) 0x{key} 128
         xfrm policy add src {NEAR4}/32 dst {to}/32 dir out tmpl {both} proto esp mode tunnel"
    );
    while_made(&make, "xfrm policy flush\nxfrm state flush", || udp(to.into(), shot))
}

/// A route that wraps what takes it: in words of `ip`.
pub fn wrapped(shot: Shot, encap: &str) -> io::Result<()> {
    let route = format!("{BEYOND6}/128 encap {encap} dev {LINK}");
    while_made(&format!("route add {route}"), &format!("route delete {BEYOND6}/128"), || udp(BEYOND6.into(), shot))
}

fn bridge(make: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let make = format!(
        "link add {OWN} type bridge mcast_snooping 0
         link set {LINK} master {OWN}
         link set {OWN} up
         {make}"
    );
    while_made(&make, &format!("link set {LINK} nomaster\nlink delete {OWN}\nlink delete {PEER}"), || {
        sleep(FORWARDS_AFTER);
        act()
    })
}

/// From a bridge of which the guarded link is a port.
pub fn from_bridge(shot: Shot) -> io::Result<()> {
    let make = format!(
        "address add 10.88.0.1/24 dev {OWN}
         neighbour replace {BEYOND4} lladdr {} dev {OWN} nud permanent",
        mac(FAR)
    );
    bridge(&make, || udp(BEYOND4.into(), shot))
}

/// Through a bridge, from a port that is a process: as virtual machines have it.
pub fn through_bridge(shot: Shot) -> io::Result<()> {
    let mut port = tun(PEER, libc::IFF_TAP)?;
    bridge(&format!("link set {PEER} master {OWN} up"), || {
        let data = datagram(shot, 4444, 443);
        port.write_all(&framed(0x0800, &[header4(shot, UDP, &[], 0, data.len()), data].concat()))
    })
}

/// A file whose bytes are frames (`IFF_TAP`) or packets (`IFF_TUN`) of a link, which ends with it.
fn tun(name: &str, kind: i32) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&((kind | libc::IFF_NO_PI) as u16).to_ne_bytes());
    #[expect(unsafe_code, reason = "no library has this request")]
    // SAFETY: the request is a `struct ifreq`, 40 bytes of which the kernel reads the name and the flags and writes the
    // name; they outlive the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    if done == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}

/// Into the file of a link that stands on the guarded one. The file has the name of the link's number and belongs to no
/// namespace: the number is one that no other run has.
pub fn macvtap(shot: Shot) -> io::Result<()> {
    let number = OWN_NUMBERS + shot.far;
    let make = format!("link add link {LINK} name {OWN} index {number} type macvtap mode bridge\nlink set {OWN} up");
    with_link(&make, || {
        // The kernel makes this file, where it makes any.
        let mut file = OpenOptions::new().write(true).open(format!("/dev/tap{number}"))?;
        let data = datagram(shot, 4444, 443);
        let frame = framed(0x0800, &[header4(shot, UDP, &[], 0, data.len()), data].concat());
        file.write_all(&[&NO_OFFLOAD[..], &frame].concat())
    })
}

fn index(name: &str) -> io::Result<u32> {
    let socket: OwnedFd = Socket::new(Domain::IPV4, Type::DGRAM, None)?.into();
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// What a neighbour of this machine would have it forward, as a packet.
fn passing(shot: Shot, v6: bool) -> Vec<u8> {
    let data = datagram(shot, 4444, 443);
    match v6 {
        false => ip4(BEYOND4, shot.v4(), UDP, 9, &data),
        true => ip6(BEYOND6, shot.v6(), UDP, 9, &data),
    }
}

fn while_forwarding(act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let files = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
    let done = files.iter().try_for_each(|file| fs::write(file, "1")).and_then(|()| act());
    let _ = files.iter().try_for_each(|file| fs::write(file, "0"));
    // A router forgets routes that it was told by others, not ours.
    done
}

/// Forwarded from a link of a process, as a virtual machine's packets are.
pub fn forwarded_from_tun(shot: Shot, v6: bool) -> io::Result<()> {
    let mut link = tun(OWN, libc::IFF_TUN)?;
    ip(&format!("address add 10.88.0.1/24 dev {OWN}\naddress add fd88::1/64 dev {OWN} nodad\nlink set {OWN} up"))?;
    while_forwarding(|| link.write_all(&passing(shot, v6)))
}

/// Two ends, here both: a frame that is written to the second comes in at the first.
fn pair(make: &str, act: impl FnOnce(u32) -> io::Result<()>) -> io::Result<()> {
    let make = format!(
        "link add {OWN} address {} type veth peer name {PEER}
         link set {OWN} addrgenmode none up
         link set {PEER} addrgenmode none up
         {make}",
        mac(FAR)
    );
    with_link(&make, || act(index(PEER)?))
}

fn write_to(link: u32, packet: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.send_to(&framed(0x0800, packet), &far(link, 0x0800)?).map(drop)
}

/// Forwarded from a pair, as a container's packets are.
pub fn forwarded_from_pair(shot: Shot) -> io::Result<()> {
    pair(&format!("address add 10.88.0.1/24 dev {OWN}"), |peer| {
        while_forwarding(|| write_to(peer, &passing(shot, false)))
    })
}

/// Led by `tc` from where another link's frames come in, or go out, onto the guarded one. The kernel asks no chain of
/// egress then (`skb->nf_skip_egress`).
pub fn redirected(shot: Shot, from: &str) -> io::Result<()> {
    pair("", |peer| {
        run("tc", &["qdisc", "add", "dev", OWN, "clsact"], "")?;
        let to = shot.v4().to_string();
        let first =
            ["filter", "add", "dev", OWN, from, "protocol", "ip", "prio", "1", "u32", "match", "ip", "dst", &to];
        run("tc", &[&first[..], &["action", "mirred", "egress", "redirect", "dev", LINK]].concat(), "")?;
        let on = if from == "egress" { index(OWN)? } else { peer };
        write_to(on, &passing(shot, false))
    })
}

/// Led there by nft, from where another link's frames come in.
pub fn led_by_nft(shot: Shot) -> io::Result<()> {
    pair("", |peer| {
        let rule = format!("ip daddr {} fwd to \"{LINK}\"", shot.v4());
        let chain = format!("chain c {{ type filter hook ingress device \"{OWN}\" priority 0; {rule}; }}");
        run("nft", &["-f", "-"], &format!("table netdev {OWN} {{\n{chain}\n}}"))?;
        let done = write_to(peer, &passing(shot, false));
        run("nft", &["delete", "table", "netdev", OWN], "").and(done)
    })
}
