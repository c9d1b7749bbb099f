//! Who is at the other end of a Unix socket, on the kernel's word: who connected, whoever holds the socket by now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SO_PEERPIDFD` of Linux 6.5, the same number on x86-64 and arm64; `libc` does not name it.
const SO_PEERPIDFD: libc::c_int = 77;

/// The one who connected.
#[derive(Debug)]
pub struct Peer {
    /// User, as this process's user namespace counts: a server must not run in one of its own (`PrivateUsers=`),
    /// where everybody is 65534.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; none where it cannot be seen from here. A number is used again after its process has ended:
    /// for records and messages, never to decide.
    pub pid: Option<u32>,
    /// The process itself, which no later one can be taken for; none before Linux 6.5, or once it has ended.
    pub pidfd: Option<OwnedFd>,
}

impl Peer {
    /// The peer of a connected socket.
    ///
    /// # Errors
    /// The socket is no connected Unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        // rustix reads this into a type that cannot hold process 0, which the kernel gives for an invisible one.
        let mut who = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        option(socket, libc::SO_PEERCRED, &mut who)?;
        // A socket that never connected answers with -1; so does one of systemd's that was not accepted from.
        if who.uid == u32::MAX {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut pidfd: RawFd = -1;
        let pidfd = match option(socket, SO_PEERPIDFD, &mut pidfd) {
            // SAFETY: the kernel has just opened this descriptor for this call; nobody else knows it.
            #[expect(unsafe_code, reason = "a descriptor that getsockopt opened")]
            Ok(()) if pidfd >= 0 => Some(unsafe { OwnedFd::from_raw_fd(pidfd) }),
            _ => None,
        };
        Ok(Self { uid: who.uid, gid: who.gid, pid: u32::try_from(who.pid).ok().filter(|pid| *pid > 0), pidfd })
    }
}

/// Types for which every bit pattern is a value.
trait Plain {}
impl Plain for libc::ucred {}
impl Plain for RawFd {}

fn option<T: Plain>(socket: BorrowedFd<'_>, name: libc::c_int, into: &mut T) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `into` is valid for `length` bytes, the kernel writes no more than these, and any of them is a `T`.
    #[expect(unsafe_code, reason = "rustix lacks both options in a form that holds")]
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_mut(into).cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize == size_of::<T>() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Connection;

    #[test]
    fn the_peer_is_who_connected() {
        let (one, _other) = Connection::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getgid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id()));
        if let Some(pidfd) = &peer.pidfd {
            let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
            assert!(about.contains(&format!("Pid:\t{}\n", std::process::id())), "{about}");
        }
    }

    #[test]
    fn what_is_no_connected_unix_socket_has_no_peer() {
        assert!(Peer::of(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
        assert!(Peer::of(tempfile::tempfile().unwrap()).is_err());
        let unconnected =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None);
        assert!(Peer::of(unconnected.unwrap()).is_err());
    }
}
