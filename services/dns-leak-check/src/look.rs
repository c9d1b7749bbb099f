//! What lies there: who would be asked for names, who listens for such requests or is connected to one who does, and
//! what links have sent. Nothing is sent for it.

use secai_verifier::files::load;
use secai_verifier::network::profile::DNS_PORTS;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Settings of a libc are a screenful.
const SETTINGS_BYTES_MAX: u64 = 64 << 10;
/// 150 bytes for each socket: a hundred thousand of them.
const SOCKETS_BYTES_MAX: u64 = 16 << 20;
/// A line for each link.
const LINKS_BYTES_MAX: u64 = 1 << 20;
/// More than this tell nobody anything new; the rest is counted.
const FINDINGS_MAX: usize = 32;
/// Of a word that somebody wrote into a file.
const WORD_CHARS_MAX: usize = 48;
/// What the kernel says of the namespace that this process is in.
pub const NET: &str = "/proc/self/net";

/// Sockets of programs that answer requests for names, and ask others.
const RESOLVERS: &[(&str, &str)] = &[
    ("run/systemd/resolve/io.systemd.Resolve", "systemd-resolved runs"),
    ("run/avahi-daemon/socket", "avahi-daemon runs"),
    ("run/nscd/socket", "nscd runs"),
];
/// Modules of `hosts:` that ask others than this machine.
const ASKING: &[&str] = &["dns", "resolve", "mdns", "wins", "nis", "ldap", "sss", "libvirt"];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// In settings, and programs that run: somebody would ask for names.
    pub settings: Vec<String>,
    /// Sockets at a port of names.
    pub sockets: Vec<String>,
}

impl Found {
    /// Looks below this folder, and at this process's network.
    pub fn look(root: &Path) -> Self {
        let read = |name: &str| load(&root.join(name), SETTINGS_BYTES_MAX).ok().map(Result::unwrap_or_default);
        let mut settings = resolvers(read("etc/resolv.conf").as_deref());
        settings.extend(hosts(read("etc/nsswitch.conf").as_deref()));
        let runs = |(path, _): &&(&str, &str)| root.join(path).symlink_metadata().is_ok();
        settings.extend(RESOLVERS.iter().filter(runs).map(|(_, what)| (*what).to_owned()));
        let mut sockets = Vec::new();
        for name in ["udp", "udp6", "tcp", "tcp6"] {
            match load(&Path::new(NET).join(name), SOCKETS_BYTES_MAX) {
                Ok(Ok(text)) => sockets.extend(at_ports_of_names(name, &String::from_utf8_lossy(&text))),
                Ok(Err(_)) => sockets.push(format!("{name}: there are more sockets than are looked at")),
                // A kernel without IPv6 has no such list.
                Err(_) if name.ends_with('6') => {}
                Err(_) => sockets.push(format!("{name}: the kernel does not list its sockets")),
            }
        }
        Self { settings: bounded(settings), sockets: bounded(sockets) }
    }
}

fn bounded(mut findings: Vec<String>) -> Vec<String> {
    let more = findings.len().saturating_sub(FINDINGS_MAX);
    findings.truncate(FINDINGS_MAX);
    if more > 0 {
        findings.push(format!("and {more} more like these"));
    }
    findings
}

fn cut(word: &str) -> String {
    word.chars().take(WORD_CHARS_MAX).collect()
}

/// Whom `resolv.conf` names. Without the file a libc asks its own machine.
fn resolvers(text: Option<&[u8]>) -> Vec<String> {
    let Some(text) = text else { return Vec::new() };
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_whitespace();
        if let (Some("nameserver"), Some(address)) = (words.next(), words.next()) {
            found.push(format!("resolv.conf names {}", cut(address)));
        }
    }
    found
}

/// Which modules the names of hosts are asked of. Without the line a libc has `dns` in it.
fn hosts(text: Option<&[u8]>) -> Vec<String> {
    let text = text.map(String::from_utf8_lossy).unwrap_or_default();
    let line = text.lines().find_map(|line| line.split('#').next()?.trim().strip_prefix("hosts:"));
    let Some(line) = line else { return vec!["nsswitch.conf has no line `hosts:`: then libc asks by dns".to_owned()] };
    let asks = |word: &&str| ASKING.iter().any(|name| *word == *name || word.starts_with("mdns"));
    line.split_whitespace()
        .filter(asks)
        .map(|word| format!("nsswitch.conf has hosts asked for by {}", cut(word)))
        .collect()
}

/// Sockets of a list below [`NET`] that listen at a port of names, or are connected to one.
fn at_ports_of_names(name: &str, text: &str) -> Vec<String> {
    let is_tcp = name.starts_with("tcp");
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(own), Some(far), Some(state), Some(user)) = (words.get(1), words.get(2), words.get(3), words.get(7))
        else {
            continue;
        };
        let (Some(own), Some(far)) = (address(own), address(far)) else { continue };
        let is_of_names = |address: SocketAddr| DNS_PORTS.contains(&u64::from(address.port()));
        let protocol = if is_tcp { "tcp" } else { "udp" };
        if is_of_names(far) {
            found.push(format!("{protocol} {own} of user {user} is connected to {far}"));
        } else if is_of_names(own) && (!is_tcp || *state == LISTENS) {
            found.push(format!("{protocol} {own} of user {user} listens"));
        }
    }
    found
}

/// `TCP_LISTEN`.
const LISTENS: &str = "0A";

/// `ADDRESS:PORT` in hexadecimal; the address as words of 32 bits, each as this processor holds it.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: Vec<u8> = words.into_iter().flatten().collect();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The links but loopback, each with how many packets it has sent; none where the kernel does not list them.
pub fn sent() -> Option<BTreeMap<String, u64>> {
    let bytes = load(&Path::new(NET).join("dev"), LINKS_BYTES_MAX).ok()?.ok()?;
    Some(sent_of(&String::from_utf8_lossy(&bytes)))
}

fn sent_of(text: &str) -> BTreeMap<String, u64> {
    /// Before it: eight numbers of what came, and the bytes that were sent.
    const PACKETS_SENT: usize = 9;
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let sent = numbers.split_whitespace().nth(PACKETS_SENT)?.parse().ok()?;
        Some((name.trim().to_owned(), sent))
    };
    text.lines().filter_map(line).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_be_asked_is_told() {
        let text = b"# nameserver 9.9.9.9\nsearch somebody.example\nnameserver 192.0.2.1\n nameserver\t127.0.0.53 \noptions x\n";
        assert_eq!(resolvers(Some(text)), ["resolv.conf names 192.0.2.1", "resolv.conf names 127.0.0.53"]);
        assert_eq!(resolvers(None), Vec::<String>::new());
        assert_eq!(resolvers(Some(b"")), Vec::<String>::new());

        let by = |text: &str| hosts(Some(text.as_bytes()));
        assert_eq!(by("passwd: files ldap\nhosts: files # dns\n"), Vec::<String>::new());
        assert_eq!(
            by("hosts:\tfiles mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns\n"),
            ["mdns4_minimal", "resolve", "dns"].map(|it| format!("nsswitch.conf has hosts asked for by {it}"))
        );
        for none in [by("#hosts: files\n"), hosts(None)] {
            assert_eq!(none, ["nsswitch.conf has no line `hosts:`: then libc asks by dns"]);
        }
        assert_eq!(bounded(vec![String::new(); 40]).last().unwrap(), "and 8 more like these");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_at_ports_of_names_are_told() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |own: &str, far: &str, state: &str| {
            format!("   1: {own} {far} {state} 00000000:00000000 00:00000000 00000000   101        0 4242 2 0 0\n")
        };
        let none = "00000000:0000";
        let text = [head, &line("3500007F:0035", none, "07"), &line("0100007F:1F90", none, "07")].concat();
        assert_eq!(at_ports_of_names("udp", &text), ["udp 127.0.0.53:53 of user 101 listens"]);
        let text = [head, &line("0200560A:9C40", "09090909:0355", "01"), &line("0200560A:0035", "09090909:9C40", "01")];
        assert_eq!(
            at_ports_of_names("tcp", &text.concat()),
            ["tcp 10.86.0.2:40000 of user 101 is connected to 9.9.9.9:853"]
        );
        let any = "00000000000000000000000000000000";
        let text = [head, &line(&format!("{any}:14E9"), &format!("{any}:0000"), "0A")].concat();
        assert_eq!(at_ports_of_names("tcp6", &text), ["tcp [::]:5353 of user 101 listens"]);
        let own = "B80D0120000000000000000053000000";
        assert_eq!(address(&format!("{own}:14EB")), Some("[2001:db8::53]:5355".parse().unwrap()));
        for bad in ["", "x", "0100007F", "0100007F:", "0100007F:FFFFF", "0100:0035", "0100007é:0035"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(at_ports_of_names("udp", "nonsense\n1: 2 3\n"), Vec::<String>::new());
    }

    #[test]
    fn links_are_told_with_what_they_sent() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n eth0:  10 2 0 0 0 0 0 0 30 14 0 0 0 0 0 0\n";
        assert_eq!(sent_of(text), BTreeMap::from([("eth0".to_owned(), 14)]));
        assert!(sent().is_some(), "on this machine too");
    }
}
