//! What a service gives up once its sockets are there: files it does not need (Landlock), TCP (Landlock) and every
//! socket but Unix ones, programs, other processes, the kernel's own settings (seccomp).
//!
//! The unit does the same from outside. This holds where the unit was changed or is not there, and says what holds.
//! Seccomp lists what is refused, not what is allowed: a list of the allowed breaks with the next libc, and the
//! unit's `SystemCallFilter=` has systemd's kept one.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The newest Landlock that this was run under. A newer one would refuse to connect to Unix sockets by path (9),
/// which nobody has tried.
const ABI_TRIED: ABI = ABI::V7;

/// Why a service is not confined; it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Landlock confines the calling thread and those it starts later.
    #[error("the sandbox must be entered before the first thread starts")]
    Threads,
    /// How many there are could not be seen.
    #[error("the threads of this process cannot be counted")]
    NoProc(#[source] std::io::Error),
    /// A path that the service says it needs is not there.
    #[error("{path} cannot be opened for the sandbox")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: landlock::PathFdError,
    },
    /// The kernel refused the rules.
    #[error("Landlock could not be entered")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter is wrong or the kernel refused it.
    #[error("seccomp could not be entered")]
    Seccomp(#[from] seccompiler::Error),
    /// No filter is known for this processor.
    #[error("seccomp is not known for this processor")]
    Processor(#[from] seccompiler::BackendError),
}

/// A kind of socket that a service may open besides Unix ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// To ask the kernel about links, addresses and sockets.
    Netlink,
    /// TCP and UDP over IPv4.
    Inet,
    /// TCP and UDP over IPv6.
    Inet6,
}

impl Family {
    fn number(self) -> u64 {
        let number = match self {
            Self::Netlink => libc::AF_NETLINK,
            Self::Inet => libc::AF_INET,
            Self::Inet6 => libc::AF_INET6,
        };
        number.unsigned_abs().into()
    }
}

/// What a service still needs. Everything else is given up by [`Sandbox::enter`].
#[derive(Debug, Default)]
#[must_use]
pub struct Sandbox {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    families: Vec<Family>,
}

impl Sandbox {
    /// No file, no socket but Unix ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files may be read at this path and below.
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Files may be read, written, made and removed at this path and below; none executed, no device made.
    pub fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Sockets to ask the kernel about links, addresses and sockets.
    pub fn asking_netlink(mut self) -> Self {
        self.families.push(Family::Netlink);
        self
    }

    /// For the few services that speak to the world: then only the firewall holds them.
    pub fn with_sockets_that_can_leave_the_machine(mut self) -> Self {
        self.families.extend([Family::Inet, Family::Inet6]);
        self
    }

    /// Gives everything else up, for good, for this process and all that it starts. To be called while there is
    /// one thread, after sockets are bound and settings read.
    ///
    /// # Errors
    /// [`SandboxError`]. A kernel without Landlock is none: [`Holds`] says so.
    pub fn enter(self) -> Result<Holds, SandboxError> {
        if crate::threads().map_err(SandboxError::NoProc)? != 1 {
            return Err(SandboxError::Threads);
        }
        let filters = filters(&self.families)?;
        let (landlock, complete) = self.enter_landlock()?;
        for filter in &filters {
            seccompiler::apply_filter(filter)?;
        }
        Ok(Holds { landlock, complete, network: self.reaches_network() })
    }

    fn reaches_network(&self) -> bool {
        self.families.iter().any(|family| *family != Family::Netlink)
    }

    fn enter_landlock(&self) -> Result<(Option<ABI>, bool), SandboxError> {
        let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock;
        let read = AccessFs::from_read(ABI_TRIED) & !never;
        let write = AccessFs::from_all(ABI_TRIED) & !never;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI_TRIED))?
            .scope(Scope::from_all(ABI_TRIED))?;
        if !self.reaches_network() {
            rules = rules.handle_access(AccessNet::from_all(ABI_TRIED))?;
        }
        let mut rules = rules.create()?;
        for (paths, access) in [(&self.read, read), (&self.write, write)] {
            for path in paths {
                rules = rules.add_rule(beneath(path, access)?)?;
            }
        }
        let status = rules.restrict_self()?;
        let abi = match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi),
            _ => None,
        };
        Ok((
            abi.filter(|_| status.ruleset != RulesetStatus::NotEnforced),
            status.ruleset == RulesetStatus::FullyEnforced,
        ))
    }
}

fn beneath(path: &PathBuf, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, SandboxError> {
    let open = PathFd::new(path).map_err(|source| SandboxError::Path { path: path.clone(), source })?;
    // A right that only a folder can have is an error on a file.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI_TRIED) };
    Ok(PathBeneath::new(open, access))
}

/// What holds from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    landlock: Option<ABI>,
    complete: bool,
    network: bool,
}

impl Holds {
    /// Does this kernel enforce everything that was asked of it?
    pub fn everything(&self) -> bool {
        self.complete
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            None => write!(f, "files are open as the unit leaves them (no Landlock in this kernel)")?,
            Some(abi) if self.complete => write!(f, "files confined (Landlock {})", abi as i32)?,
            Some(abi) => write!(f, "files confined as far as Landlock {} goes", abi as i32)?,
        }
        let sockets = if self.network { "sockets may leave the machine" } else { "Unix sockets only" };
        write!(f, "; {sockets}; no new programs, namespaces, modules, traces (seccomp)")
    }
}

/// Never a service's business. By number of the processor that this is compiled for.
const REFUSED: &[libc::c_long] = &[
    // Other programs and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // Work that seccomp does not see.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Code in the kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    // Mounts and namespaces (with clone, below).
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Keys of others.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The machine's clock, name, swap, power, ports.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Any of them makes a namespace.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

fn filters(families: &[Family]) -> Result<Vec<BpfProgram>, SandboxError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let first = |operator, value: u64| SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value);
    // One rule: none of these families.
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let other = std::iter::once(unix)
        .chain(families.iter().map(|family| family.number()))
        .map(|number| first(SeccompCmpOp::Ne, number))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other)?]);
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.cast_unsigned());
        SeccompRule::new(vec![first(SeccompCmpOp::MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);

    let processor = TargetArch::try_from(std::env::consts::ARCH)?;
    let program = |rules, errno: libc::c_int| -> Result<BpfProgram, SandboxError> {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, processor)?.try_into()?)
    };
    let mut filters = vec![
        program(rules, libc::EPERM)?,
        // Its flags lie in memory that a filter cannot read. libc then uses clone.
        program(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?,
    ];
    if cfg!(target_arch = "x86_64") {
        filters.push(only_native_numbers());
    }
    Ok(filters)
}

/// x86-64 knows each system call under a second number (x32), which no rule above names.
fn only_native_numbers() -> BpfProgram {
    /// `__X32_SYSCALL_BIT`.
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    vec![
        // The number is the first word of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_confined_by_half() {
        let _other = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(1)));
        assert!(matches!(Sandbox::new().enter(), Err(SandboxError::Threads)));
    }

    #[test]
    fn what_holds_is_said() {
        let none = Holds { landlock: None, complete: false, network: true };
        assert!(none.to_string().starts_with("files are open"), "{none}");
        assert!(none.to_string().contains("may leave the machine"), "{none}");
        let all = Holds { landlock: Some(ABI::V7), complete: true, network: false };
        assert_eq!(
            all.to_string(),
            "files confined (Landlock 7); Unix sockets only; no new programs, namespaces, modules, traces (seccomp)"
        );
    }
}
