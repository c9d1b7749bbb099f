//! SIGTERM and SIGINT as a descriptor: readable once the service is asked to end.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Readable, and so for ever, once the service is asked to end.
#[derive(Debug)]
pub struct Shutdown(UnixStream);

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Shutdown {
    /// From now on these signals end the process no more: whoever calls this looks at [`Self::asked`].
    ///
    /// # Errors
    /// The kernel refused.
    pub fn on_signals() -> io::Result<Self> {
        let (ours, signals) = UnixStream::pair()?;
        let signals = OwnedFd::from(signals);
        signal_hook::low_level::pipe::register_raw(SIGINT, signals.try_clone()?)?;
        signal_hook::low_level::pipe::register_raw(SIGTERM, signals)?;
        Ok(Self(ours))
    }

    /// Was the service asked to end?
    pub fn asked(&self) -> bool {
        // Nothing is ever read from it.
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut look = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut look, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                // A descriptor that cannot be looked at would never end this service.
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_signal_asks_and_it_stays_asked() {
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
            let shutdown = Shutdown::on_signals().unwrap();
            assert!(!shutdown.asked());
            rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
            let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !shutdown.asked() && std::time::Instant::now() < until {
                std::thread::yield_now();
            }
            assert!(shutdown.asked() && shutdown.asked());
        }
    }
}
