//! Outside programs, one file each: where they lie, what they are run with, how their failures read.
//!
//! Every program runs with an empty environment but for a fixed PATH, locale and time zone, so that the
//! caller's shell cannot change an image.

pub mod apt;
pub mod chroot;
pub mod ext4;
pub mod fat;
pub mod mkfs;
pub mod mmdebstrap;
pub mod qemu;
pub mod qemu_img;
pub mod swtpm;
pub mod userns;

use crate::error::{At, Error};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where programs are looked for; the caller's PATH is not asked.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What of a failed program's standard error is worth showing.
const TAIL_LINES: usize = 12;

/// A command for `program` from the fixed PATH, with a clean environment.
///
/// # Errors
/// [`Error::ToolMissing`] naming the Debian `package` that has it.
pub(crate) fn command(program: &str, package: &'static str) -> Result<Command, Error> {
    let found = PATH
        .split(':')
        .map(|dir| Path::new(dir).join(program))
        .find(|p| p.is_file())
        .ok_or_else(|| Error::ToolMissing { program: program.into(), package })?;
    let mut command = Command::new(found);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    Ok(command)
}

/// As [`command`], but the program dies with this one, whatever ends it.
pub(crate) fn mortal(program: &str, package: &'static str) -> Result<Command, Error> {
    let found = command(program, package)?;
    let mut c = command("setpriv", "util-linux")?;
    c.args(["--pdeathsig", "KILL", "--"]).arg(found.get_program());
    // mmdebstrap hangs up on its whole process group when it fails: ours must not be in it, nor whoever started us.
    std::os::unix::process::CommandExt::process_group(&mut c, 0);
    Ok(c)
}

/// As [`mortal`], in mount, network and process namespaces of its own: no interface but a dead loopback, and
/// nothing it starts outlives it.
pub(crate) fn isolated(options: &[String], program: &str, package: &'static str) -> Result<Command, Error> {
    command(program, package)?;
    let mut c = mortal("unshare", "util-linux")?;
    c.args(["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child"]).args(options).arg("--").arg(program);
    Ok(c)
}

/// The folder of a file and its name there. Tools are run in it and told the name, which is ours: in the path to it may stand what
/// they take for an offset, an address or an option.
pub(crate) fn by_name(file: &Path) -> (&Path, &OsStr) {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (folder, file.file_name().unwrap_or_default())
}

/// Runs it to its end and returns its standard output.
///
/// # Errors
/// [`Error::ToolFailed`] with the last lines of its standard error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<Vec<u8>, Error> {
    let output = command.output().at("run", command.get_program())?;
    checked(output, what)
}

/// The output of a finished program, or its failure.
pub(crate) fn checked(output: Output, what: &str) -> Result<Vec<u8>, Error> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::ToolFailed { program: what.into(), status: output.status.to_string(), tail: tail(&output.stderr) })
}

/// The last lines of a program's words.
pub(crate) fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ")
}
