//! Packets over `SOCK_SEQPACKET` sockets: whole or not at all, none above [`PACKET_BYTES_MAX`], with at most one
//! descriptor beside them, and only where the receiver asked for one.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use secai_api::PACKET_BYTES_MAX;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Why a packet did not go or come.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Longer than a packet may be; nothing was sent, or what came was thrown away.
    #[error("the packet has more than {PACKET_BYTES_MAX} bytes")]
    TooLong,
    /// An empty packet means the end of a connection, so none is sent.
    #[error("an empty packet cannot be sent")]
    Empty,
    /// A descriptor came where none is taken, or more than one; all are closed.
    #[error("there are more descriptors beside the packet than are taken")]
    Descriptors,
    /// The other end is gone; a packet that was to be sent was not.
    #[error("the connection has ended")]
    Ended,
    /// The time that [`Connection::limit_sends`] gives has passed; the packet was not sent.
    #[error("the other end does not read")]
    NotRead,
    /// The kernel refused otherwise.
    #[error("the socket failed")]
    Io(#[source] std::io::Error),
}

impl PacketError {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Ended,
            Errno::MSGSIZE => Self::TooLong,
            Errno::AGAIN => Self::NotRead,
            other => Self::Io(other.into()),
        }
    }
}

/// `SCM_MAX_FD`: the kernel lets no more lie beside a packet.
const DESCRIPTORS_MAX: usize = 253;

/// Room for one packet.
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// Empty.
    pub fn new() -> Self {
        Self(vec![0; PACKET_BYTES_MAX].into_boxed_slice())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Connection::receive`] found.
#[derive(Debug)]
pub enum Received<'b> {
    /// A packet, never empty.
    Packet(&'b [u8]),
    /// A packet and the descriptor beside it.
    PacketWith(&'b [u8], OwnedFd),
    /// Nothing is there yet ([`Connection::try_receive`] only).
    NotYet,
    /// The other end is gone.
    End,
}

/// A connected socket. Several threads may send on one: a packet is never torn.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl From<OwnedFd> for Connection {
    /// Of a connected `SOCK_SEQPACKET` socket.
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Connection {
    /// Connects to the service that listens at `path`. `wait` bounds this call, and each later [`Self::send`].
    ///
    /// # Errors
    /// [`PacketError::NotRead`] after `wait`; [`PacketError::Io`].
    pub fn connect(path: &Path, wait: Duration) -> Result<Self, PacketError> {
        let address = SocketAddrUnix::new(path).map_err(PacketError::of)?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(PacketError::of)?;
        let connection = Self(socket);
        connection.limit_sends(wait)?;
        rustix::net::connect(&connection.0, &address).map_err(PacketError::of)?;
        Ok(connection)
    }

    /// Two ends, connected to each other.
    ///
    /// # Errors
    /// [`PacketError::Io`].
    pub fn pair() -> Result<(Self, Self), PacketError> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(PacketError::of)?;
        Ok((Self(one), Self(other)))
    }

    /// Lets [`Self::send`] wait no longer than `wait` for room; zero counts as the shortest time there is.
    ///
    /// # Errors
    /// [`PacketError::Io`].
    pub fn limit_sends(&self, wait: Duration) -> Result<(), PacketError> {
        // The kernel reads zero as "for ever".
        let wait = wait.max(Duration::from_micros(1));
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, Some(wait)).map_err(PacketError::of)
    }

    /// Sends a packet, with a descriptor where one is given; waits for room.
    ///
    /// # Errors
    /// [`PacketError`]; the packet was not sent.
    pub fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), PacketError> {
        self.send_with(packet, descriptor, SendFlags::empty())
    }

    /// As [`Self::send`] without waiting: `false` when there is no room.
    ///
    /// # Errors
    /// [`PacketError`]; the packet was not sent.
    pub fn try_send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<bool, PacketError> {
        match self.send_with(packet, descriptor, SendFlags::DONTWAIT) {
            Ok(()) => Ok(true),
            Err(PacketError::NotRead) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send_with(
        &self,
        packet: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        flags: SendFlags,
    ) -> Result<(), PacketError> {
        match packet.len() {
            0 => return Err(PacketError::Empty),
            1..=PACKET_BYTES_MAX => {}
            _ => return Err(PacketError::TooLong),
        }
        loop {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            let beside = descriptor.as_slice();
            if !beside.is_empty() && !control.push(SendAncillaryMessage::ScmRights(beside)) {
                return Err(PacketError::Descriptors);
            }
            let sent =
                rustix::net::sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, flags | SendFlags::NOSIGNAL);
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(PacketError::of(errno)),
            }
        }
    }

    /// The next packet; waits for it. A descriptor beside it is refused.
    ///
    /// # Errors
    /// [`PacketError`]: this packet is gone, the connection still stands where the error is about the packet.
    pub fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, PacketError> {
        self.receive_with(buffer, RecvFlags::empty(), false)
    }

    /// As [`Self::receive`] without waiting.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn try_receive<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, PacketError> {
        self.receive_with(buffer, RecvFlags::DONTWAIT, false)
    }

    /// As [`Self::receive`], taking a descriptor that lies beside it.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_with_descriptor<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, PacketError> {
        self.receive_with(buffer, RecvFlags::empty(), true)
    }

    /// As [`Self::receive_with_descriptor`] without waiting.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn try_receive_with_descriptor<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, PacketError> {
        self.receive_with(buffer, RecvFlags::DONTWAIT, true)
    }

    fn receive_with<'b>(
        &self,
        buffer: &'b mut Buffer,
        flags: RecvFlags,
        descriptor: bool,
    ) -> Result<Received<'b>, PacketError> {
        // For all that may come: without room the kernel closes what came itself, and that may take its sender's time.
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let message = loop {
            let flags = flags | RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer.0)], &mut control, flags) {
                Ok(message) => break message,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::NotYet),
                Err(Errno::CONNRESET | Errno::NOTCONN) => return Ok(Received::End),
                Err(errno) => return Err(PacketError::of(errno)),
            }
        };
        let mut came = taken(&mut control);
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(PacketError::TooLong);
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || came.len() > usize::from(descriptor) {
            return Err(PacketError::Descriptors);
        }
        let bytes = buffer.0.get(..message.bytes).unwrap_or_default();
        Ok(match (bytes, came.pop()) {
            ([], _) => Received::End,
            (bytes, None) => Received::Packet(bytes),
            (bytes, Some(descriptor)) => Received::PacketWith(bytes, descriptor),
        })
    }

    /// Ends the connection for both sides, and wakes whoever waits on it.
    pub fn end(&self) {
        // What is ended already stays so.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

/// What came beside a packet, such that closing it takes no time: a socket whose sender asked the kernel to wait until its
/// data has gone (`SO_LINGER`) would have whoever closes it last wait.
fn taken(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let mut came = Vec::new();
    for beside in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = beside {
            came.extend(descriptors);
        }
    }
    for descriptor in &came {
        // Of what is no socket there is nothing to set.
        let _ = sockopt::set_socket_linger(descriptor, None);
    }
    came
}

impl Drop for Connection {
    /// Nobody may send any more; then what was sent and not read is taken, because descriptors may lie beside it.
    fn drop(&mut self) {
        self.end();
        loop {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut [0])], &mut control, flags) {
                Ok(message) => {
                    drop(taken(&mut control));
                    if message.bytes == 0 {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// A socket that whoever closes it last waits for: its data is not taken. And whom it is for.
    fn lingering() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        one.set_nonblocking(true).unwrap();
        while one.write(&[7; 65536]).is_ok() {}
        one.set_nonblocking(false).unwrap();
        sockopt::set_socket_linger(&one, Some(Duration::from_secs(2))).unwrap();
        (one, other)
    }

    #[test]
    fn nobody_waits_for_what_lies_beside_a_packet() {
        let waited = |act: &mut dyn FnMut()| {
            let begun = Instant::now();
            act();
            begun.elapsed() > Duration::from_secs(1)
        };
        let (mut one, _far) = lingering();
        let mut held = Some(one);
        assert!(waited(&mut || drop(held.take())), "closed as it is, it takes its time");
        for how in ["refused", "taken", "never read"] {
            let (near, other) = Connection::pair().unwrap();
            let far;
            (one, far) = lingering();
            near.send(b"with", Some(one.as_fd())).unwrap();
            drop(one);
            let (mut near, mut other) = (Some(near), Some(other));
            let slow = waited(&mut || {
                let mut buffer = Buffer::new();
                let connection = other.take().unwrap();
                match how {
                    "refused" => assert!(matches!(connection.try_receive(&mut buffer), Err(PacketError::Descriptors))),
                    "taken" => drop(connection.try_receive_with_descriptor(&mut buffer).unwrap()),
                    _ => {}
                }
                drop((connection, near.take()));
            });
            assert!(!slow, "{how}");
            drop(far);
        }
    }

    #[test]
    fn packets_come_whole_in_order_and_end() {
        let (one, other) = Connection::pair().unwrap();
        let mut buffer = Buffer::new();
        let largest = vec![7; PACKET_BYTES_MAX];
        one.send(b"a", None).unwrap();
        one.send(&largest, None).unwrap();
        assert!(matches!(other.receive(&mut buffer).unwrap(), Received::Packet(b"a")));
        assert!(matches!(other.try_receive(&mut buffer).unwrap(), Received::Packet(got) if got == largest));
        assert!(matches!(other.try_receive(&mut buffer).unwrap(), Received::NotYet));
        drop(one);
        assert!(matches!(other.receive(&mut buffer).unwrap(), Received::End));
        assert!(matches!(other.send(b"a", None), Err(PacketError::Ended)));
    }

    #[test]
    fn what_is_too_long_or_empty_is_refused_on_both_sides() {
        let (one, other) = Connection::pair().unwrap();
        let mut buffer = Buffer::new();
        assert!(matches!(one.send(&vec![7; PACKET_BYTES_MAX + 1], None), Err(PacketError::TooLong)));
        assert!(matches!(one.send(b"", None), Err(PacketError::Empty)));
        // Who does not use this crate may send it all the same.
        rustix::net::send(&one, &vec![7; PACKET_BYTES_MAX + 1], SendFlags::empty()).unwrap();
        one.send(b"next", None).unwrap();
        assert!(matches!(other.receive(&mut buffer), Err(PacketError::TooLong)));
        assert!(matches!(other.receive(&mut buffer).unwrap(), Received::Packet(b"next")), "the next one is whole");
    }

    #[test]
    fn a_descriptor_is_taken_where_asked_for_and_only_one() {
        let (one, other) = Connection::pair().unwrap();
        let mut buffer = Buffer::new();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();

        one.send(b"with", Some(file.as_file().as_fd())).unwrap();
        let Received::PacketWith(b"with", got) = other.receive_with_descriptor(&mut buffer).unwrap() else { panic!() };
        assert!(rustix::io::fcntl_getfd(&got).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = String::new();
        std::fs::File::from(got).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");

        one.send(b"with", Some(file.as_file().as_fd())).unwrap();
        assert!(matches!(other.receive(&mut buffer), Err(PacketError::Descriptors)), "nobody asked for one");

        for count in [2, 3] {
            let before = open_descriptors();
            let beside = vec![file.as_file().as_fd(); count];
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            assert!(control.push(SendAncillaryMessage::ScmRights(&beside)));
            rustix::net::sendmsg(&one, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
            let got = other.receive_with_descriptor(&mut buffer);
            assert!(matches!(got, Err(PacketError::Descriptors)), "{count}: {got:?}");
            assert_eq!(open_descriptors(), before, "{count}: none stays open");
        }
        one.send(b"without", None).unwrap();
        assert!(matches!(other.receive_with_descriptor(&mut buffer).unwrap(), Received::Packet(b"without")));
    }

    fn open_descriptors() -> usize {
        // Only of this test's thread group: nextest runs each test in a process of its own.
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn who_does_not_read_stops_no_sender_for_ever() {
        let (one, _other) = Connection::pair().unwrap();
        one.limit_sends(Duration::from_millis(20)).unwrap();
        let packet = vec![7; PACKET_BYTES_MAX];
        let sent = (0..10_000).take_while(|_| one.try_send(&packet, None).unwrap()).count();
        assert!(sent < 10_000, "a socket's room is bounded");
        assert!(matches!(one.send(&packet, None), Err(PacketError::NotRead)));
    }
}
