//! What `verify-release` gives up before it opens anything: writing, programs, the network. It reads what a stranger made, as root at
//! times; a fault in a parser then has nothing to work with but the answer on standard output.
//!
//! Landlock leaves reading alone; seccomp refuses sockets and programs, whatever the kernel's Landlock knows. A kernel without either
//! is no reason to judge nothing: there the verifier is as it was written.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The newest Landlock that this was run under.
const ABI_TRIED: ABI = ABI::V7;

/// Ways out, to other programs and around this filter; whoever only reads and counts needs none.
const REFUSED: [libc::c_long; 12] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_kill,
];

/// Gives them up, for good, for this thread and all that it starts. What this kernel or processor cannot do is left out.
pub fn give_up_all_but_reading() {
    let _ = landlock();
    if let Some(filter) = filter() {
        let _ = seccompiler::apply_filter(&filter);
    }
}

fn landlock() -> Result<(), Box<dyn std::error::Error>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_TRIED))?
        .handle_access(AccessNet::from_all(ABI_TRIED))?
        .scope(Scope::from_all(ABI_TRIED))?;
    rules.create()?.add_rule(PathBeneath::new(PathFd::new("/")?, read))?.restrict_self()?;
    Ok(())
}

fn filter() -> Option<BpfProgram> {
    let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let processor = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, processor).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::net::UdpSocket;
    use std::process::Command;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "that no program can be started is what is tested")]
    fn nothing_is_left_but_reading() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "read").unwrap();
        let tried = || {
            [
                File::create(place.path().join("new")).is_ok(),
                fs::write(&file, "read").is_ok(),
                UdpSocket::bind("127.0.0.1:0").is_ok(),
                std::os::unix::net::UnixStream::pair().is_ok(),
                Command::new("/bin/true").status().is_ok(),
            ]
        };
        assert_eq!(tried(), [true; 5]);
        // Of a thread, as of a process: this one alone is confined.
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                give_up_all_but_reading();
                let inherits = std::thread::scope(|scope| scope.spawn(tried).join().unwrap());
                (tried(), inherits, fs::read_to_string(&file).unwrap())
            });
            assert_eq!(confined.join().unwrap(), ([false; 5], [false; 5], "read".to_owned()));
        });
        assert_eq!(tried(), [true; 5]);
    }
}
