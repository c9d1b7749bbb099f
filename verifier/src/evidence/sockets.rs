//! Sockets, as the kernel lists them in `/proc/net`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// More sockets than a device of ours has by far.
const SOCKETS_MAX: usize = 100_000;
/// `TCP_LISTEN` of the kernel.
const LISTENING: u8 = 0x0a;

/// A socket of TCP, UDP, or a raw one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Where it is; of a raw socket the port is the protocol.
    pub local: SocketAddr,
    /// Whom it is connected to; unspecified for nobody.
    pub remote: SocketAddr,
    /// The kernel's number of its state.
    state: u8,
    /// Whose it is.
    pub uid: u32,
}

impl Socket {
    /// Does it take connections?
    pub fn listens(&self) -> bool {
        self.state == LISTENING
    }

    /// Is it connected to nobody?
    pub fn is_unconnected(&self) -> bool {
        self.remote.ip().is_unspecified() && self.remote.port() == 0
    }

    /// Can nobody but this machine reach it?
    pub fn is_on_loopback(&self) -> bool {
        of_loopback(self.local.ip())
    }
}

fn of_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

/// Reads `/proc/net/{tcp,tcp6,udp,udp6,raw,raw6}`.
///
/// # Errors
/// A sentence about the first line that is none of the kernel's.
pub fn parse(text: &str) -> Result<Vec<Socket>, String> {
    let mut lines = text.lines();
    let titles = lines.next().unwrap_or_default().split_whitespace().take(4).collect::<Vec<_>>();
    if !matches!(titles[..], ["sl", "local_address", "rem_address" | "remote_address", "st"]) {
        return Err("it does not begin with the kernel's titles".to_owned());
    }
    let mut sockets = Vec::new();
    for (at, line) in lines.enumerate() {
        if sockets.len() == SOCKETS_MAX {
            return Err(format!("it lists more than {SOCKETS_MAX} sockets"));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let socket = || -> Option<Socket> {
            let [_, local, remote, state, _, _, _, uid, ..] = words[..] else { return None };
            let state = u8::from_str_radix(state, 16).ok()?;
            Some(Socket { local: address(local)?, remote: address(remote)?, state, uid: uid.parse().ok()? })
        };
        sockets.push(socket().ok_or_else(|| format!("line {} is none of the kernel's", at + 2))?);
    }
    Ok(sockets)
}

/// `0100007F:1F90`: words of 32 bits as they lie in the memory of a little-endian machine, which ours are.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    if port.len() != 4 || !address.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.swap_bytes());
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bits = words.iter().fold(0_u128, |bits, word| bits << 32 | u128::from(*word));
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:2111 00000000:0000 0A 00000000:00000000 00:00000000 00000000   955        0 17 1 0 100 0 0 10 0\n   \
        1: 0F02000A:A001 2211400A:01BB 01 00000000:00000000 00:00000000 00000000   952        0 18 1 0 20 4 30 10 -1\n";

    #[test]
    fn the_kernels_lines_are_read() {
        let found = parse(TCP).unwrap();
        assert_eq!((found[0].local, found[0].uid), ("127.0.0.1:8465".parse().unwrap(), 955));
        assert!(found[0].listens() && found[0].is_unconnected() && found[0].is_on_loopback());
        assert_eq!(
            (found[1].local, found[1].remote),
            ("10.0.2.15:40961".parse().unwrap(), "10.64.17.34:443".parse().unwrap())
        );
        assert!(!found[1].listens() && !found[1].is_unconnected() && !found[1].is_on_loopback());
        let six = TCP.replace(
            "0100007F:2111 00000000:0000",
            &format!("{}01000000:2111 {}:0000", "0".repeat(24), "0".repeat(32)),
        );
        assert_eq!(parse(&six).unwrap()[0].local, "[::1]:8465".parse().unwrap());
        let mapped = TCP.replace("0100007F:2111", &format!("{}FFFF00000100007F:2111", "0".repeat(16)));
        assert!(parse(&mapped).unwrap()[0].is_on_loopback());
        let udp = "   sl  local_address rem_address   st\n 12: 00000000:0044 00000000:0000 07 0:0 0:0 0 953 0\n";
        assert!(parse(udp).unwrap()[0].is_unconnected());
    }

    #[test]
    fn what_is_none_of_the_kernels_is_an_error() {
        for (from, to) in [
            ("sl ", "xx "),
            ("0100007F:2111", "0100007F"),
            ("0100007F:2111", "0100007G:2111"),
            ("0100007F:2111", "+100007F:2111"),
            ("0100007F:2111", "0100007:2111"),
            (":2111", ":21111"),
            (" 0A ", " XX "),
            ("   955  ", "   nobody  "),
            ("1: 0F02000A:A001 2211400A:01BB 01 00000000:00000000 00:00000000 00000000   952", "1:"),
        ] {
            let text = TCP.replacen(from, to, 1);
            assert_ne!(text, TCP, "{from}");
            parse(&text).unwrap_err();
        }
        assert_eq!(parse("").unwrap_err(), "it does not begin with the kernel's titles");
    }
}
