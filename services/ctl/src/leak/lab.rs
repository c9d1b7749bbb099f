//! Two network namespaces with a link between them, for one round: rules on the near side, an ear on the far one.
//!
//! Namespaces belong to threads here, and end with them. Nothing is connected to any other: no route leads out.

use super::packets::{FAR, NEAR, NEAR4, NEAR6};
use super::vectors::{Shot, Vector};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The name of the near end.
pub const LINK: &str = "leak0";
/// The name of the far end.
pub const FAR_LINK: &str = "far0";
/// What is still on its way when the last vector was tried; and a link that is up asks for routers after a second.
const SETTLE: Duration = Duration::from_millis(1500);
/// How often a vector is tried again that finds its link's name or place taken, and how long after.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Larger than any frame on this link.
const FRAME_BYTES_MAX: usize = 4096;

/// No thread has this number: there is no far side of ours.
const NOBODY: i32 = 0;

/// Why there is no round.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No namespace, thread, socket.
    #[error("cannot {0}")]
    Cannot(&'static str, #[source] io::Error),
    /// `ip` or `nft` failed.
    #[error("`{0}` failed: {1}")]
    Program(&'static str, String),
}

impl LabError {
    /// Of a thread that is not there any more.
    pub fn ended() -> Self {
        Self::Cannot("go on", io::Error::other("a thread has ended"))
    }
}

fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::Cannot(what, source)
}

/// What came of a round.
#[derive(Debug)]
pub struct Round {
    /// For each vector why it could not be tried, or nothing.
    pub tried: Vec<Option<io::Error>>,
    /// The frames of each that arrived.
    pub seen: Vec<Vec<Vec<u8>>>,
    /// Types of other frames, each as often as it arrived: what links say by themselves.
    pub others: Vec<u16>,
}

/// Tries all vectors under these rules (nft's text), or without any.
///
/// # Errors
/// [`LabError`].
pub fn round(rules: Option<&str>, vectors: &[Vector]) -> Result<Round, LabError> {
    thread::scope(|scope| {
        let near = scope.spawn(|| near(rules, vectors));
        near.join().unwrap_or_else(|_| Err(LabError::ended()))
    })
}

fn near(rules: Option<&str>, vectors: &[Vector]) -> Result<Round, LabError> {
    own_network()?;
    let (ready, is_ready) = channel();
    let (end, ends) = channel();
    thread::scope(|scope| {
        let ear = scope.spawn(move || far(&ready, &ends));
        let done = is_ready.recv().map_err(|_| io::Error::other("it has ended")).map_err(cannot("listen"));
        let tried = done.and_then(|far| {
            link(far, rules)?;
            let tried = vectors.iter().zip(0..).map(|(vector, number)| fire(vector, number, far)).collect();
            thread::sleep(SETTLE);
            tried
        });
        // It ends in any case.
        let _ = end.send(());
        let heard = ear.join().unwrap_or_else(|_| Err(cannot("listen")(io::Error::other("it has ended"))));
        let (tried, heard) = (tried?, heard?);
        let mut round = Round { tried, seen: vec![Vec::new(); vectors.len()], others: Vec::new() };
        let needles: Vec<Vec<Vec<u8>>> =
            (0..).zip(vectors).map(|(number, _)| Shot { number, link: 0, far: 0 }.needles()).collect();
        for frame in heard {
            match whose(&frame, &needles) {
                Some(vector) => round.seen[vector].push(frame),
                None => {
                    round.others.push(frame.get(12..14).map_or(0, |ether| u16::from_be_bytes([ether[0], ether[1]])))
                }
            }
        }
        Ok(round)
    })
}

/// The vector that a frame is of. What stands first counts: addresses come before numbers that a kernel draws, and those may look like
/// any address (a sequence number that ends in 1.86, and the zeros behind it).
fn whose(frame: &[u8], needles: &[Vec<Vec<u8>>]) -> Option<usize> {
    let place = |needle: &Vec<u8>| frame.windows(needle.len()).position(|part| part == needle.as_slice());
    let first = |of: &Vec<Vec<u8>>| of.iter().filter_map(place).min();
    let places = needles.iter().enumerate().filter_map(|(vector, needles)| Some((first(needles)?, vector)));
    places.min().map(|(_, vector)| vector)
}

fn own_network() -> Result<(), LabError> {
    #[expect(unsafe_code, reason = "some flags of this call take descriptors or memory from other threads")]
    // SAFETY: a network namespace of its own takes neither.
    let done = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    done.map_err(|error| cannot("make a network namespace: is this root?")(error.into()))
}

/// In the network namespace of another thread, until `act` has ended. Only root gets there.
pub fn in_network_of<T: Send>(thread: i32, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    joined(|| {
        let there = File::open(format!("/proc/{thread}/ns/net"))?;
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))?;
        act()
    })
}

/// In a network namespace of its own: `make` is called here with a thread's number, by which that one is found.
pub fn in_own_network(
    make: impl FnOnce(i32) -> io::Result<()>,
    act: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    let (ready, is_ready) = channel();
    let (go, goes) = channel();
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            own_network().map_err(|error| io::Error::other(error.to_string()))?;
            let _ = ready.send(rustix::thread::gettid().as_raw_nonzero().get());
            // Whoever does not say that it is made has failed, and says why.
            goes.recv().map_or(Ok(()), |()| act())
        });
        let made = is_ready.recv().map_err(io::Error::other).and_then(make);
        if made.is_ok() {
            let _ = go.send(());
        }
        drop(go);
        made.and(there.join().unwrap_or_else(|_| Err(io::Error::other("its thread has ended"))))
    })
}

fn joined<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(act).join()).unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))
}

/// The far side: says by which number its namespace is found, and collects every frame until told to end.
fn far(ready: &Sender<i32>, ends: &Receiver<()>) -> Result<Vec<Vec<u8>>, LabError> {
    own_network()?;
    let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let mut ear = Socket::new(Domain::PACKET, Type::RAW, Some(every)).map_err(cannot("listen"))?;
    ear.set_read_timeout(Some(Duration::from_millis(20))).map_err(cannot("listen"))?;
    // All that one round can send, so that nothing is lost while nobody reads.
    ear.set_recv_buffer_size(8 << 20).map_err(cannot("listen"))?;
    let _ = ready.send(rustix::thread::gettid().as_raw_nonzero().get());
    let mut frames = Vec::new();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut ended = false;
    loop {
        match ear.read(&mut buffer) {
            // The far end has words of its own.
            Ok(length) => {
                frames.extend(buffer.get(..length).filter(|it| it.get(6..12) != Some(&FAR[..])).map(<[u8]>::to_vec))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if ended {
                    return Ok(frames);
                }
            }
            // The link goes up.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => return Err(cannot("listen")(error)),
        }
        ended |= ends.try_recv().is_ok();
    }
}

/// Lays the link; the rules are there before it is up.
fn link(far: i32, rules: Option<&str>) -> Result<(), LabError> {
    let (near_mac, far_mac) = (written(NEAR), written(FAR));
    let before = format!(
        "link set lo up
         link add {LINK} address {near_mac} type veth peer name {FAR_LINK} address {far_mac} netns {far}"
    );
    program("ip", &["-batch", "-"], &before)?;
    // A far end that is down carries nothing.
    program("nsenter", &[&format!("--net=/proc/{far}/ns/net"), "ip", "link", "set", FAR_LINK, "up"], "")?;
    if let Some(rules) = rules {
        program("nft", &["-f", "-"], rules)?;
    }
    program("ip", &["-batch", "-"], &(addresses() + &format!("\nlink set {LINK} up\n") + &beyond()))?;
    sockets_may_all()
}

fn addresses() -> String {
    format!(
        "address add {NEAR4}/24 dev {LINK}
         address add {NEAR6}/64 dev {LINK} nodad"
    )
}

/// Who is there, and that everybody else is behind.
fn beyond() -> String {
    let far = written(FAR);
    format!(
        "neighbour replace 10.86.0.1 lladdr {far} dev {LINK} nud permanent
         neighbour replace fd86::1 lladdr {far} dev {LINK} nud permanent
         route add default via 10.86.0.1
         route add ::/0 via fd86::1 dev {LINK}"
    )
}

/// As on a device with systemd: echo needs no capability. And no port needs one, or only root could be a DHCP client.
fn sockets_may_all() -> Result<(), LabError> {
    for (file, value) in [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")] {
        fs::write(format!("/proc/sys/net/ipv4/{file}"), value).map_err(cannot("set what sockets may do"))?;
    }
    Ok(())
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Tries all vectors on the link of this name that is here already, up or down, under whatever rules there are. What arrives is heard
/// by whoever listens at its far end; what needs a far end of ours cannot be tried. For each vector why it could not, or nothing.
///
/// # Errors
/// [`LabError`].
pub fn onto_what_is_here(vectors: &[Vector]) -> Result<Vec<Option<io::Error>>, LabError> {
    link_index()?;
    // Nobody has a route by a link that is down: its senders find out for themselves.
    let _ = program("ip", &["-force", "-batch", "-"], &(addresses() + "\n" + &beyond()));
    sockets_may_all()?;
    let tried = vectors.iter().zip(0..).map(|(vector, number)| fire(vector, number, NOBODY)).collect();
    thread::sleep(SETTLE);
    tried
}

/// Runs a program to its end, with this on its standard input.
pub fn program(name: &'static str, words: &[&str], input: &str) -> Result<(), LabError> {
    let mut child = Command::new(name)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot("start ip, nsenter, nft or tc"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // Who does not read to the end says why on its standard error.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(cannot("wait"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(LabError::Program(name, said.lines().next().unwrap_or_default().to_owned()))
        }
    }
}

fn link_index() -> Result<u32, LabError> {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    let index =
        rustix::net::socket(family, kind, None).and_then(|socket| rustix::net::netdevice::name_to_index(socket, LINK));
    index.map_err(|error| cannot("find the link leak0")(error.into()))
}

/// Tries one, in a thread that is its user's: ids and capabilities belong to threads.
fn fire(vector: &Vector, number: u16, far: i32) -> Result<Option<io::Error>, LabError> {
    let link = link_index()?;
    let begun = Instant::now();
    let tried = thread::scope(|scope| {
        let try_it = || -> Result<io::Result<()>, io::Error> {
            become_user(vector)?;
            let mut tried = (vector.fire)(Shot { number, link, far });
            // The kernel may not be done yet with removing what another vector made.
            for _ in 0..BUSY_TRIES {
                let is_busy = |error: &io::Error| error.to_string().contains("resource busy");
                if !tried.as_ref().is_err_and(is_busy) {
                    break;
                }
                thread::sleep(BUSY_PAUSE);
                tried = (vector.fire)(Shot { number, link, far });
            }
            Ok(tried)
        };
        scope.spawn(try_it).join()
    });
    debug_assert!(begun.elapsed() < Duration::from_secs(5), "{} takes long", vector.name);
    match tried {
        Ok(Ok(tried)) => Ok(tried.err()),
        Ok(Err(error)) => Err(cannot("become another user")(error)),
        Err(_) => Err(cannot("try a vector")(io::Error::other("its thread has ended"))),
    }
}

fn become_user(vector: &Vector) -> io::Result<()> {
    if vector.uid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(vector.uid), Gid::from_raw(vector.uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    if !vector.capable {
        return Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?);
    }
    // Root's number is kept aside, so that capabilities stay permitted.
    rustix::thread::set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT)?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = CapabilitySet::NET_RAW & sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_address_whatever_numbers_the_kernel_drew() {
        let needles: Vec<_> = (0..50).map(|number| Shot { number, link: 0, far: 0 }.needles()).collect();
        // The beginning of a flow to 1.86.0.42, with a sequence number of 0x94d20156.
        let mut frame = vec![0; 26];
        frame.extend([10, 86, 0, 2, 1, 86, 0, 42, 0xe3, 0x3c, 1, 0xbb, 0x94, 0xd2, 1, 86, 0, 0, 0, 0]);
        assert_eq!(whose(&frame, &needles), Some(42));
        frame[33] = 77;
        assert_eq!(whose(&frame, &needles), Some(0), "else it is known by what there is");
        assert_eq!(whose(&frame[..34], &needles), None);
    }
}
