//! Everything that can stop a build, as sentences, each with a hint where one helps.

use std::path::{Path, PathBuf};

/// Why `secai-build` stopped.
///
/// Exit code: [`Error::exit_code`]. The hint is apart from the message, so that a machine reads
/// one and a person both.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is at fault; the position is where a person has to look.
    #[error("{file}:{line}:{column}: {message}")]
    Recipe {
        /// The recipe as it was named on the command line.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// A file could not be read, written, made or removed.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// A verb: `read`, `write`, `create`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that the build runs is not there.
    #[error("the program {program} is missing")]
    ToolMissing {
        /// Its name.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// A program that the build runs failed.
    #[error("{program} failed ({status}): {tail}")]
    ToolFailed {
        /// Its name and the step it was run for.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote to its standard error.
        tail: String,
    },
    /// A package is neither in the cache nor to be had.
    #[error("package {package} is not in the cache and cannot be fetched")]
    PackageUnreachable {
        /// `name version`.
        package: String,
        /// What apt said.
        reason: String,
    },
    /// Nothing is known about the suite: no cached index and no network.
    #[error("the package index of {suite} is not in the cache and cannot be fetched")]
    IndexUnreachable {
        /// The suite.
        suite: String,
        /// What apt said.
        reason: String,
    },
    /// A file in the cache is not what its name says.
    #[error("{path} is not what its name says: SHA-256 {found}", path = path.display())]
    CacheDiffers {
        /// The file.
        path: PathBuf,
        /// Its real digest.
        found: String,
    },
    /// The machine names no Debian mirror.
    #[error("no Debian mirror is configured on this machine")]
    NoMirror,
    /// The stage needs rights that the caller lacks.
    #[error("{what} needs root")]
    NeedsRoot {
        /// The step.
        what: &'static str,
    },
    /// A signing key is missing, locked or not the kind that is needed.
    #[error("the {role} key cannot sign: {reason}")]
    Key {
        /// `build`, `release` or `commit`.
        role: &'static str,
        /// Why.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The composed tree breaks a rule of the format.
    #[error("the composed tree cannot be released: {0}")]
    Tree(String),
    /// Two stages see different bytes: somebody changed the outputs while they were read.
    #[error("{path} changed while the build ran", path = path.display())]
    ChangedUnderneath {
        /// The file.
        path: PathBuf,
    },
    /// An earlier output or a bundle cannot be used as it is.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The service pack is not what its list says, or lacks what a service needs.
    #[error("the pack {path} cannot be used: {reason}", path = path.display())]
    Pack {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The rules of a profile do not do what its page promises.
    #[error("the rules of the profile {profile} are not what its page promises: {refusals}")]
    ProfileNotProven {
        /// The profile.
        profile: String,
        /// What the prover found, each named.
        refusals: String,
    },
    /// libostree refused.
    #[error("libostree could not {action}: {reason}")]
    Ostree {
        /// A verb and its object.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// The image lacks what a disk is started by.
    #[error("the image has no /{path}, and a disk does not start without it")]
    BootPackageMissing {
        /// The file, in the image.
        path: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A disk is too small for what goes on it.
    #[error("a disk of {} is too small: {} are needed", mib(*given), mib(*needed))]
    DoesNotFit {
        /// What was asked for, in bytes.
        given: u64,
        /// The least.
        needed: u64,
        /// Of it, for kernels.
        boot: u64,
        /// And for the root.
        root: u64,
    },
    /// An ordinary user has no numbers besides his own, to make files of other owners with.
    #[error("{user} has no range of 65536 numbers in {file}: files of other owners cannot be made")]
    NoNumbers {
        /// The user.
        user: String,
        /// Where it would stand.
        file: &'static str,
    },
    /// An ordinary user gets no user namespace.
    #[error("a user namespace cannot be made: {reason}")]
    NoNamespace {
        /// What unshare said.
        reason: String,
    },
    /// This program, run again as root of a namespace, was ended.
    #[error("this program was ended in its user namespace ({status})")]
    EndedInside {
        /// How.
        status: String,
    },
    /// A text of the disk cannot be made.
    #[error("{name} cannot be rendered: {reason}")]
    Template {
        /// Which.
        name: &'static str,
        /// What tera said.
        reason: String,
    },
    /// The firmware that a disk is started with is not there, or not of the kind.
    #[error("the firmware {path} cannot start a disk: {reason}", path = path.display())]
    Firmware {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The guest did not show what was expected.
    #[error("the guest did not print /{expected}/ within {seconds} s ({ended})")]
    NotSeen {
        /// The expression.
        expected: String,
        /// The limit.
        seconds: u64,
        /// What became of the guest.
        ended: String,
        /// Where its serial log lies.
        log: PathBuf,
    },
    /// A value on the command line is not usable.
    #[error("{option} {value:?} {reason}")]
    Usage {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// Why it will not do.
        reason: String,
    },
    /// Another build works in the same output folder, or on the same disk.
    #[error("another secai-build works in {path}", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
    /// What to do about it, if anything can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Recipe { hint, .. } | Error::Key { hint, .. } if !hint.is_empty() => hint.clone(),
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "the disk is full; free some space and run the same command again: finished stages are kept".into()
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "run it as a user who may, or choose another --out".into()
            }
            Error::ToolMissing { package, .. } => format!("ci/setup installs it (package {package})"),
            Error::PackageUnreachable { reason, .. } | Error::IndexUnreachable { reason, .. } => {
                format!("connect to the mirror once, or name another with --mirror; apt said: {reason}")
            }
            Error::CacheDiffers { path, .. } => format!("remove {} and run again", path.display()),
            Error::Pack { .. } => "`cargo ci pack` makes it anew".into(),
            Error::ProfileNotProven { .. } => "`verify-release explain NAME` says what a refusal means".into(),
            Error::NoMirror => "add a Debian entry to /etc/apt/sources.list.d, or give --mirror URL".into(),
            Error::NeedsRoot { .. } => "run it with sudo -E, or as root in a container".into(),
            Error::ChangedUnderneath { .. } => "run again, with nothing else working in the output folder".into(),
            Error::BootPackageMissing { package, .. } => {
                format!("add {package} to the recipe's packages, and build it again")
            }
            Error::DoesNotFit { needed, boot, root, .. } => format!(
                "--size {} or more: {} for /boot and {} for the root, with room for updates; the rest for /var",
                mib(*needed).replace(" MiB", "M"),
                mib(*boot),
                mib(*root)
            ),
            Error::NoNumbers { user, .. } => format!(
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, as root; or run this as root"
            ),
            Error::NoNamespace { .. } => {
                "the machine may keep them from ordinary users (sysctl user.max_user_namespaces, \
                 kernel.apparmor_restrict_unprivileged_userns); or run this as root"
                    .into()
            }
            Error::Firmware { .. } => {
                "ci/setup installs UEFI firmware with Secure Boot and Microsoft's keys (package ovmf)".into()
            }
            Error::NotSeen { log, .. } => format!("the serial log is kept in {}", log.display()),
            Error::Locked { .. } => "wait for it, or choose another place for the output".into(),
            Error::ToolFailed { tail: reason, .. } if reason.contains("root filesystem propagation") => {
                "a root that is no mount lets nobody have mounts: mount --bind DIR DIR before chroot DIR, or use ci/build"
                    .into()
            }
            Error::ToolFailed { tail: reason, .. } | Error::Ostree { reason, .. }
                if reason.contains("No space left on device") =>
            {
                "the disk is full; free some space and run the same command again: finished stages are kept".into()
            }
            _ => return None,
        })
    }

    /// 2: nothing that stops a build is a verdict.
    pub fn exit_code(&self) -> u8 {
        match self {
            // A guest that boots and says something else is a negative answer.
            Error::NotSeen { .. } => 1,
            _ => 2,
        }
    }
}

/// Bytes as people count them, rounded up.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Adds the path and the verb to an I/O error.
pub trait At<T> {
    /// `action` is a verb (`read`, `create`, …), `path` what it was done to.
    ///
    /// # Errors
    /// [`Error::Io`] when `self` is an error.
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.as_ref().to_owned(), source: source.into() })
    }
}

/// Names what libostree was asked to do.
pub(crate) trait Asked<T> {
    fn asked(self, action: &'static str) -> Result<T, Error>;
}

impl<T> Asked<T> for Result<T, ostree::glib::Error> {
    fn asked(self, action: &'static str) -> Result<T, Error> {
        self.map_err(|e| Error::Ostree { action, reason: e.message().to_owned() })
    }
}
