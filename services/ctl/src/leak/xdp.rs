//! A frame through AF_XDP, in copy mode: it meets no queue, and no chain of egress.

use super::packets::{UDP, datagram, framed, header4};
use super::vectors::Shot;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_TX_RING, XdpDesc, XdpDescOptions, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, send, socket, sockopt};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

/// Memory for frames: one of them. The kernel takes whole pages.
const FRAMES_BYTES: usize = 4096;
/// Places in each ring: a power of two.
const PLACES: u32 = 2;
/// Where the ring of what is sent begins.
const TX_RING: u64 = XDP_PGOFF_TX_RING;

/// Memory that ends with its owner.
struct Mapped(*mut c_void, usize);

impl Drop for Mapped {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "memory by hand")]
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.0, self.1) };
    }
}

impl Mapped {
    #[expect(unsafe_code, reason = "a ring that is shared with the kernel has no safe form")]
    fn anonymous(length: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses where; nothing that exists is replaced.
        let at = unsafe { mmap_anonymous(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        Ok(Self(at?, length))
    }

    #[expect(unsafe_code, reason = "a ring that is shared with the kernel has no safe form")]
    fn ring(of: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: as above; the memory is the socket's ring.
        let at = unsafe { mmap(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags, of, TX_RING) };
        Ok(Self(at?, length))
    }
}

/// Sends one.
pub fn frame(shot: Shot) -> io::Result<()> {
    let data = datagram(shot, 4444, 443);
    let frame = framed(0x0800, &[header4(shot, UDP, &[], 0, data.len()), data].concat());
    let frames = Mapped::anonymous(FRAMES_BYTES)?;
    let socket = socket(AddressFamily::XDP, SocketType::RAW, None)?;
    sockopt::set_xdp_umem_reg(
        &socket,
        XdpUmemReg {
            addr: frames.0 as u64,
            len: FRAMES_BYTES as u64,
            chunk_size: FRAMES_BYTES as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        },
    )?;
    // Nothing is received; the kernel wants both rings nevertheless.
    sockopt::set_xdp_umem_fill_ring_size(&socket, PLACES)?;
    sockopt::set_xdp_umem_completion_ring_size(&socket, PLACES)?;
    sockopt::set_xdp_tx_ring_size(&socket, PLACES)?;
    let offsets = sockopt::xdp_mmap_offsets(&socket)?.tx;
    let (place, produced) = (offsets.desc as usize, offsets.producer as usize);
    let ring = Mapped::ring(socket.as_fd(), place + PLACES as usize * size_of::<XdpDesc>())?;
    bind(&socket, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, shot.link, 0))?;
    #[expect(unsafe_code, reason = "a ring that is shared with the kernel has no safe form")]
    // SAFETY: the frame is shorter than the memory for it. Place 0 of the ring and its counter lie within the ring, at
    // offsets that the kernel gave, aligned by it; the kernel reads the place once the counter has grown, not before.
    unsafe {
        frames.0.cast::<u8>().copy_from_nonoverlapping(frame.as_ptr(), frame.len().min(FRAMES_BYTES));
        let first = XdpDesc { addr: 0, len: frame.len() as u32, options: XdpDescOptions::empty() };
        ring.0.byte_add(place).cast::<XdpDesc>().write(first);
        (*ring.0.byte_add(produced).cast::<AtomicU32>()).store(1, Ordering::Release);
    }
    send(&socket, &[], SendFlags::DONTWAIT).map(drop)?;
    Ok(())
}
