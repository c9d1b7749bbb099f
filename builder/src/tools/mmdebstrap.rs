//! mmdebstrap, fed from the cache alone: a folder of packages and an index, in a network namespace
//! without interfaces.

use super::apt::{ARCHITECTURE, Package, stored};
use super::{command, isolated, run};
use crate::error::{At, Error};
use secai_verifier::digest::Digest;
use std::fs;
use std::path::Path;

/// How it is run; a part of the base's key.
pub const ARGUMENTS: &[&str] = &[
    "--mode=root",
    "--variant=essential",
    "--format=tar",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--aptopt=Acquire::Languages \"none\"",
    // Else apt's folders belong to its sandbox user where that one can reach the cache, and to root where not.
    "--aptopt=APT::Sandbox::User \"root\"",
    // A killed bootstrap is thrown away: nothing needs to reach the disk early.
    "--dpkgopt=force-unsafe-io",
    // Nothing of the building machine: its resolver and name stay out.
    "--essential-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"",
];

/// Users that packages would make with any number, made before them with a certain one: `(name, number)`. The packages'
/// own systemd-sysusers takes those that there are.
#[derive(Debug, Clone, Copy)]
pub struct Pinned<'a>(pub &'a str, pub u32);

impl Pinned<'_> {
    /// An option for mmdebstrap: after the essential packages, before those that are named.
    pub fn hook(&self) -> String {
        let Self(name, uid) = self;
        let lines = [
            // pwconv, where it comes later, takes a password that nobody has along.
            ("passwd", format!("{name}:*:{uid}:{uid}::/:/usr/sbin/nologin")),
            ("group", format!("{name}:*:{uid}:")),
            // Days since 1970, of a password that nobody has.
            ("shadow", format!("{name}:!*:1::::::")),
            ("gshadow", format!("{name}:!*::")),
        ];
        let add = |(file, line)| format!("[ ! -e \"$1/etc/{file}\" ] || echo '{line}' >>\"$1/etc/{file}\"");
        format!("--essential-hook={}", lines.map(add).join("; "))
    }
}

/// Version of the installed mmdebstrap, a part of the base's key.
///
/// # Errors
/// [`Error::ToolMissing`], [`Error::ToolFailed`].
pub fn version() -> Result<String, Error> {
    let out = run(command("mmdebstrap", "mmdebstrap")?.arg("--version"), "mmdebstrap --version")?;
    Ok(String::from_utf8_lossy(&out).trim().to_owned())
}

/// Installs `packages` into a new tree and writes it as a tar archive to `target`.
///
/// `pinned` are users whose number is not left to the packages. `work` is an empty folder for the package repository and mmdebstrap's own files; `epoch` is the date, in
/// seconds, that programs which honour SOURCE_DATE_EPOCH write.
///
/// # Errors
/// [`Error::ToolFailed`] with the last lines of dpkg; I/O.
#[expect(clippy::too_many_arguments, reason = "each is another part of a base")]
pub fn bootstrap(
    suite: &str,
    packages: &[Package],
    named: &[String],
    pinned: &[Pinned],
    debs: &Path,
    epoch: i64,
    work: &Path,
    target: &Path,
) -> Result<(), Error> {
    let repository = work.join("repository");
    fs::create_dir_all(&repository).at("create", &repository)?;
    let mut index = String::new();
    for package in packages {
        let from = stored(debs, package);
        let to = repository.join(&package.file);
        // Same file system as the cache or not: a link where it can be had.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).at("copy", &from)?;
        }
        for line in package.record.lines().filter(|l| !l.starts_with("Filename:")) {
            index.push_str(line);
            index.push('\n');
        }
        index.push_str(&format!("Filename: ./{}\n\n", package.file));
    }
    // Without a Release that names the suite, mmdebstrap finds no essential package in it.
    let release = format!(
        "Suite: {suite}\nCodename: {suite}\nArchitectures: {ARCHITECTURE}\nComponents: main\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
        Digest::of(index.as_bytes()),
        index.len()
    );
    for (name, text) in [("Packages", index), ("Release", release)] {
        fs::write(repository.join(name), text).at("write", repository.join(name))?;
    }
    let temporary = work.join("tmp");
    fs::create_dir_all(&temporary).at("create", &temporary)?;
    // A host name is the machine's; the shell sets another one in the namespace before anything of Debian runs.
    let named_localhost = "echo localhost > /proc/sys/kernel/hostname; exec \"$@\"";
    command("mmdebstrap", "mmdebstrap")?;
    let options = ["--uts".to_owned(), "--mount-proc".to_owned()];
    let mut c = isolated(&options, "sh", "dash")?;
    c.args(["-eu", "-c", named_localhost, "sh", "mmdebstrap"])
        .args(ARGUMENTS)
        .args(pinned.iter().map(Pinned::hook))
        .arg(format!("--architectures={ARCHITECTURE}"))
        .arg(format!("--include={}", named.join(",")))
        .arg(suite)
        .arg(target)
        // A space would end the address in a line of apt's sources.
        .arg(format!("deb [trusted=yes] copy:{} ./", repository.display().to_string().replace(' ', "%20")))
        .env("TMPDIR", &temporary)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        // The initramfs is made later, once, from the finished tree.
        .env("INITRD", "No");
    run(&mut c, "mmdebstrap")?;
    Ok(())
}
