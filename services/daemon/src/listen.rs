//! Sockets that systemd opened for this service, by the names that its socket units give them.

use crate::packet::Connection;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that systemd passes (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;
/// No service has more sockets than this; another number is no word of systemd's.
const PASSED_MAX: usize = 16;
/// Connections that wait to be accepted: as many as services and people connect at once.
const BACKLOG: i32 = 128;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not started by a socket unit.
    #[error("systemd passed no socket to this process")]
    NotPassed,
    /// The environment is not what systemd writes.
    #[error("the environment does not describe the sockets that systemd passes: {0}")]
    Environment(&'static str),
    /// [`Passed::take`] has run before.
    #[error("the sockets that systemd passed were already taken")]
    Taken,
    /// [`Passed::take`] changes the environment, which other threads could be reading.
    #[error("the sockets that systemd passed must be taken before the first thread starts")]
    Threads,
    /// No socket unit of that name.
    #[error("systemd passed no socket named {0}")]
    Missing(String),
    /// More sockets than were asked for.
    #[error("systemd passed a socket named {0}, which this service does not serve")]
    Unknown(String),
    /// A socket of another type, or one that does not listen.
    #[error("the socket {name} is not {expected}")]
    Wrong {
        /// Its name.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Somebody listens at this path already.
    #[error("{0} is in use")]
    InUse(PathBuf),
    /// What lies at this path is no socket; it is left alone.
    #[error("{0} is not a socket")]
    NotASocket(PathBuf),
    /// The kernel refused.
    #[error("cannot listen")]
    Io(#[from] io::Error),
}

impl From<Errno> for ListenError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The sockets that systemd passed, each to be asked for by name.
#[derive(Debug)]
pub struct Passed(Vec<(String, OwnedFd)>);

impl Passed {
    /// Takes them, and removes the variables that announce them. To be called first in `main`, and once.
    ///
    /// # Errors
    /// [`ListenError`]; a started thread is one.
    pub fn take() -> Result<Self, ListenError> {
        if crate::threads()? != 1 {
            return Err(ListenError::Threads);
        }
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(ListenError::Taken);
        }
        let read = |name| std::env::var(name).ok();
        let (pid, fds, names) = (read("LISTEN_PID"), read("LISTEN_FDS"), read("LISTEN_FDNAMES"));
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            // SAFETY: there is one thread, so nobody reads the environment meanwhile.
            #[expect(unsafe_code, reason = "children must not take these sockets for theirs")]
            unsafe {
                std::env::remove_var(name);
            }
        }
        let names = announced(pid.as_deref(), fds.as_deref(), names.as_deref(), std::process::id())?;
        let mut passed = Vec::new();
        for (number, name) in (FIRST..).zip(names) {
            // SAFETY: borrowed for one call that fails where nothing is open under that number.
            #[expect(unsafe_code, reason = "systemd names descriptors by number")]
            let there = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(there, FdFlags::CLOEXEC)?;
            // SAFETY: it is open, systemd opened it for this process (LISTEN_PID), and `TAKEN` lets this happen once.
            #[expect(unsafe_code, reason = "systemd names descriptors by number")]
            passed.push((name, unsafe { OwnedFd::from_raw_fd(number) }));
        }
        Ok(Self(passed))
    }

    /// The `SOCK_SEQPACKET` socket of this name.
    ///
    /// # Errors
    /// [`ListenError::Missing`], [`ListenError::Wrong`].
    pub fn packets(&mut self, name: &str) -> Result<Listener, ListenError> {
        let socket = self.find(name)?;
        if !listens(&socket, &[AddressFamily::UNIX], SocketType::SEQPACKET) {
            return Err(ListenError::Wrong { name: name.into(), expected: "a listening SOCK_SEQPACKET socket" });
        }
        Ok(Listener::new(socket)?)
    }

    /// The TCP socket of this name, bound to the loopback address.
    ///
    /// # Errors
    /// [`ListenError::Missing`], [`ListenError::Wrong`].
    pub fn loopback_tcp(&mut self, name: &str) -> Result<TcpListener, ListenError> {
        let socket = self.find(name)?;
        let stream = listens(&socket, &[AddressFamily::INET, AddressFamily::INET6], SocketType::STREAM);
        let listener = TcpListener::from(socket);
        if !stream || !listener.local_addr()?.ip().is_loopback() {
            return Err(ListenError::Wrong { name: name.into(), expected: "a TCP listener on the loopback address" });
        }
        Ok(listener)
    }

    /// Every socket has been asked for.
    ///
    /// # Errors
    /// [`ListenError::Unknown`]: a unit opens one that nobody would ever answer on.
    pub fn none_left(self) -> Result<(), ListenError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(ListenError::Unknown(name)),
        }
    }

    fn find(&mut self, name: &str) -> Result<OwnedFd, ListenError> {
        let at = self.0.iter().position(|(it, _)| it == name).ok_or_else(|| ListenError::Missing(name.into()))?;
        Ok(self.0.swap_remove(at).1)
    }
}

/// The names of the sockets passed to process `own`, in the order of their descriptors.
fn announced(pid: Option<&str>, fds: Option<&str>, names: Option<&str>, own: u32) -> Result<Vec<String>, ListenError> {
    let (Some(pid), Some(fds)) = (pid, fds) else { return Err(ListenError::NotPassed) };
    if pid.parse::<u32>().map_err(|_| ListenError::Environment("LISTEN_PID is no number"))? != own {
        return Err(ListenError::NotPassed);
    }
    let count: usize = fds.parse().map_err(|_| ListenError::Environment("LISTEN_FDS is no number"))?;
    match count {
        0 => return Err(ListenError::NotPassed),
        1..=PASSED_MAX => {}
        _ => return Err(ListenError::Environment("LISTEN_FDS is above any service's number of sockets")),
    }
    let names = names.ok_or(ListenError::Environment("LISTEN_FDNAMES is missing"))?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(ListenError::Environment("LISTEN_FDNAMES has not as many names as LISTEN_FDS says"));
    }
    if names.iter().any(String::is_empty) {
        return Err(ListenError::Environment("LISTEN_FDNAMES has an empty name"));
    }
    if (1..names.len()).any(|at| names[..at].contains(&names[at])) {
        return Err(ListenError::Environment("two sockets have the same name"));
    }
    Ok(names)
}

fn listens(socket: &OwnedFd, families: &[AddressFamily], kind: SocketType) -> bool {
    sockopt::socket_acceptconn(socket) == Ok(true)
        && sockopt::socket_type(socket) == Ok(kind)
        && sockopt::socket_domain(socket).is_ok_and(|family| families.contains(&family))
}

/// A listening `SOCK_SEQPACKET` socket. Readable when somebody connects; [`Self::accept`] never waits.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// The next connection; `None` when nobody waits.
    ///
    /// # Errors
    /// The process has no descriptor left, and the like: the one who waits is still there.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC) {
            Ok(socket) => Ok(Some(Connection::from(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The one socket of a service: of this unit, and nothing else is passed; or, for tests and development, at a path.
///
/// # Errors
/// [`ListenError`].
pub fn one_socket(unit: &str, without_systemd: Option<&Path>) -> Result<Listener, ListenError> {
    if let Some(path) = without_systemd {
        return bind_without_systemd(path);
    }
    let mut passed = Passed::take()?;
    let listener = passed.packets(unit)?;
    passed.none_left()?;
    Ok(listener)
}

/// Opens a `SOCK_SEQPACKET` socket at `path`, for tests and development: on a device systemd does, so that a service
/// needs no right to make one and no request is lost while it restarts. Everybody may connect: who may ask what is
/// decided from [`crate::peer`].
///
/// # Errors
/// [`ListenError::InUse`] when somebody listens there; a socket that nobody listens on is replaced.
pub fn bind_without_systemd(path: &Path) -> Result<Listener, ListenError> {
    let address = SocketAddrUnix::new(path)?;
    let make = || rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let socket = make()?;
    if let Err(errno) = rustix::net::bind(&socket, &address) {
        if errno != Errno::ADDRINUSE {
            return Err(errno.into());
        }
        if !fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(ListenError::NotASocket(path.into()));
        }
        match rustix::net::connect(make()?, &address) {
            Err(Errno::CONNREFUSED) => {}
            _ => return Err(ListenError::InUse(path.into())),
        }
        fs::remove_file(path)?;
        rustix::net::bind(&socket, &address)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Listener::new(socket)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Buffer, Received};
    use std::time::Duration;

    #[test]
    fn the_environment_is_read_strictly() {
        let read = |pid, fds, names| announced(Some(pid), Some(fds), Some(names), 7).map_err(|error| error.to_string());
        assert_eq!(read("7", "1", "a.socket").unwrap(), ["a.socket"]);
        assert_eq!(read("7", "2", "a.socket:b").unwrap(), ["a.socket", "b"]);
        for (pid, fds, names, reason) in [
            ("8", "1", "a", "no socket"),
            ("7", "0", "", "no socket"),
            ("x", "1", "a", "LISTEN_PID is no number"),
            ("7", "-1", "a", "LISTEN_FDS is no number"),
            ("7", "17", "a", "above"),
            ("7", "18446744073709551615", "a", "above"),
            ("7", "2", "a", "not as many"),
            ("7", "1", "a:b", "not as many"),
            ("7", "2", "a:", "empty"),
            ("7", "1", "", "empty"),
            ("7", "2", "a:a", "same"),
        ] {
            let error = read(pid, fds, names).unwrap_err();
            assert!(error.contains(reason), "{pid} {fds} {names}: {error}");
        }
        assert!(matches!(announced(None, Some("1"), Some("a"), 7), Err(ListenError::NotPassed)));
        assert!(matches!(announced(Some("7"), Some("1"), None, 7), Err(ListenError::Environment(_))));
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let first = bind_without_systemd(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(matches!(bind_without_systemd(&path), Err(ListenError::InUse(_))));
        drop(first);
        let again = bind_without_systemd(&path).unwrap();
        assert!(again.accept().unwrap().is_none());
        let client = Connection::connect(&path, Duration::from_secs(1)).unwrap();
        client.send(b"here", None).unwrap();
        let served = again.accept().unwrap().unwrap();
        assert!(matches!(served.receive(&mut Buffer::new()).unwrap(), Received::Packet(b"here")));

        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(matches!(bind_without_systemd(&file), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }

    #[test]
    fn a_socket_of_another_type_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let stream = std::os::unix::net::UnixListener::bind(folder.path().join("stream")).unwrap();
        let (pair, _other) = Connection::pair().unwrap();
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let named = |name: &str, fd: OwnedFd| (name.to_owned(), fd);
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        let mut passed = Passed(vec![
            named("stream", stream.into()),
            named("connected", duplicate(pair.as_fd())),
            named("tcp", TcpListener::bind("127.0.0.1:0").unwrap().into()),
            named("everywhere", everywhere.into()),
            named("more", duplicate(pair.as_fd())),
        ]);
        for name in ["stream", "connected"] {
            assert!(matches!(passed.packets(name), Err(ListenError::Wrong { .. })), "{name}");
        }
        assert!(matches!(passed.packets("stream"), Err(ListenError::Missing(_))), "gone");
        assert!(matches!(passed.loopback_tcp("everywhere"), Err(ListenError::Wrong { .. })));
        passed.loopback_tcp("tcp").unwrap();
        assert!(matches!(passed.none_left(), Err(ListenError::Unknown(name)) if name == "more"));
    }
}
