//! What every service does alike: the sockets that systemd opened for it, packets and who sent them, the audit
//! daemon's client, readiness and watchdog, its own sandbox, programs that it starts, how it ends and how it says what went wrong.
//!
//! In this order: [`listen::Passed::take`], settings, [`sandbox::Sandbox::enter`], threads and [`audit::AuditClient`],
//! [`readiness::Readiness::ready`], serve until [`shutdown::Shutdown`] is readable. `take` and `enter` want a
//! process with a single thread and check it.
//!
//! This crate never decides who may do what, never opens a socket that leaves the machine, starts no program but
//! the one it is asked to, and never sends a request to the audit daemon twice.

pub mod audit;
pub mod listen;
pub mod packet;
pub mod peer;
pub mod program;
pub mod readiness;
pub mod report;
pub mod sandbox;
pub mod shutdown;

/// How many threads this process has.
fn threads() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
