//! The kernel's word that rules or links have changed, over netlink. It says that something did, not what it means: that is
//! looked at afterwards.

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `NFNLGRP_NFTABLES`, as a bit.
const OF_RULES: u32 = 1 << (7 - 1);
/// `NETLINK_ROUTE` is 0.
const OF_ROUTES: Option<Protocol> = None;
/// `RTNLGRP_LINK`, as a bit.
const OF_LINKS: u32 = 1;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`: ends each transaction, and says whose it was.
const NEW_GENERATION: u16 = (10 << 8) | 15;
/// `NFTA_GEN_PROC_NAME`.
const PROCESS_NAME: u16 = 3;
/// A message header of netlink, and of nfnetlink after it.
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;
/// A kernel's page: messages of a group are shorter.
const MESSAGES_BYTES_MAX: usize = 16 << 10;
/// As long as the kernel's names of processes.
const NAME_BYTES_MAX: usize = 15;

/// Two sockets.
#[derive(Debug)]
pub struct Watch {
    rules: OwnedFd,
    links: OwnedFd,
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin() -> io::Result<Self> {
        Ok(Self { rules: listen(Some(NETFILTER), OF_RULES)?, links: listen(OF_ROUTES, OF_LINKS)? })
    }

    /// Either is readable when something has changed.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.rules.as_fd(), self.links.as_fd()]
    }

    /// Takes what was said since the last time: names of programs that changed rules. None: nothing was said.
    pub fn take(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let mut anything = false;
        for socket in [&self.rules, &self.links] {
            let mut room = vec![0; MESSAGES_BYTES_MAX];
            loop {
                match rustix::net::recv(socket, room.as_mut_slice(), RecvFlags::DONTWAIT) {
                    Ok((_, length)) => {
                        anything = true;
                        names.extend(changed_by(room.get(..length).unwrap_or_default()));
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    // More was said than fits: something has changed, then.
                    Err(rustix::io::Errno::NOBUFS) => anything = true,
                    Err(_) => break,
                }
            }
        }
        names.dedup();
        anything.then_some(names)
    }
}

fn listen(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The programs that ended transactions in these messages (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`).
fn changed_by(messages: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = messages;
    while let Some((length, kind)) = header(rest) {
        let body = rest.get(HEADER_BYTES + FAMILY_BYTES..length).unwrap_or_default();
        if kind == NEW_GENERATION {
            names.extend(name_in(body));
        }
        let Some(next) = rest.get(length.next_multiple_of(4)..) else { break };
        rest = next;
    }
    names
}

/// Length and type of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (HEADER_BYTES..=bytes.len()).contains(&length).then_some((length, kind))
}

fn name_in(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == PROCESS_NAME {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            let name: Vec<u8> = name.iter().copied().take(NAME_BYTES_MAX).collect();
            return Some(String::from_utf8_lossy(&name).replace(|it: char| it.is_control(), "\u{fffd}"));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; FAMILY_BYTES];
        for (kind, value) in attributes {
            body.extend((value.len() as u16 + 4).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut whole = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        whole.extend(kind.to_ne_bytes());
        whole.resize(HEADER_BYTES, 0);
        whole.extend(body);
        whole
    }

    #[test]
    fn a_transaction_says_whose_it_was() {
        let one = message(NEW_GENERATION, &[(1, &[0, 0, 0, 7]), (2, &[0, 0, 1, 0]), (PROCESS_NAME, b"nft\0")]);
        let other = message((10 << 8) | 6, &[(PROCESS_NAME, b"no generation\0")]);
        let whole = [other, one.clone()].concat();
        assert_eq!(changed_by(&whole), ["nft"]);
        // Whatever comes is read without falling over.
        for cut in 0..whole.len() {
            let _ = changed_by(&whole[..cut]);
            let mut turned = whole.clone();
            turned[cut] ^= 0xff;
            let _ = changed_by(&turned);
        }
        assert_eq!(changed_by(&message(NEW_GENERATION, &[(PROCESS_NAME, &[b'a'; 300])])), ["a".repeat(15)]);
    }
}
