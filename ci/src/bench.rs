//! Whole commands against their peers, in one run: ratios with both command lines and versions.
//!
//! Three figures: the same recipe composed again in other surroundings gives the same digests; rootfs to
//! bundle against `tar | zstd | sha256sum` and `ostree commit`; `verify-release` against
//! `zstd -d | sha256sum` and `ostree fsck`. Then those of the device, and the benches of the audit chain. Nothing asserts a time: a machine may be slow. Digests that
//! differ and a peer that is missing are failures.

#![expect(clippy::print_stdout, reason = "the figures are what is asked for")]

mod device;

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::step::{Outcome, shown};
use crate::surroundings::{Surroundings, cargo};

/// Needs root, as composing does: a tree whose owners cannot be kept is another tree.
pub fn run(here: &Surroundings) -> Outcome {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Outcome::Skipped("needs root: sudo --preserve-env cargo ci bench".to_owned());
    }
    match figures(here) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

fn figures(here: &Surroundings) -> Result<(), String> {
    let place = Place::make(here)?;
    for peer in [
        "tar --version",
        "zstd --version",
        "sha256sum --version",
        "ostree --version | sed -n 's/^ *Version: /ostree /p'",
    ] {
        println!("{}", output(shell(peer, &[]))?.lines().next().unwrap_or_default().trim());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; ours: profile release\n");
    // Digests that differ are a failure, and the times are still worth knowing.
    let same = place.composed_again(here);
    place.rootfs_to_bundle(here)?;
    place.bundle_to_verdict(here)?;
    // Kept when they differ: the two trees are what explains it.
    same?;
    fs::remove_dir_all(&place.root).map_err(|why| format!("{}: {why}", place.root.display()))?;
    device::figures(here)?;
    AUDIT.into_iter().try_for_each(|(package, bench)| {
        let mut command = Command::new(cargo());
        command.args(["bench", "--locked", "--package", package, "--bench", bench]).current_dir(&here.top);
        println!();
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{}: {status}", shown(&command))),
            Err(why) => Err(format!("{}: {why}", shown(&command))),
        }
    })
}

/// Benches of the audit chain that lie beside what they measure.
const AUDIT: [(&str, &str); 2] = [("secai-verifier", "audit"), ("secai-audit", "append")];

/// A folder of its own: another recipe folder, cache and output than those of the tests.
struct Place {
    root: PathBuf,
}

impl Place {
    fn make(here: &Surroundings) -> Result<Self, String> {
        let root = here.target.join("secai-ci/bench");
        let cache = here.tools.parent().unwrap_or(Path::new("."));
        // The packages are inputs and come along; what stages left in the cache does not.
        let script = r#"rm -rf "$1" && mkdir -p "$1/cache/secai" "$1/elsewhere" &&
            cp -a "$2/debs" "$2/apt" "$1/cache/secai/" && cp -a "$3" "$1/elsewhere/""#;
        output(shell(script, &[&root, cache, &here.top.join("recipes")]))?;
        Ok(Self { root })
    }

    fn release(&self) -> PathBuf {
        self.root.join("out/minimal")
    }

    /// `secai-build build` under another umask, time zone and host name.
    fn compose(&self, here: &Surroundings) -> Command {
        let script = r#"hostname elsewhere && umask 077 && cd "$1/elsewhere" &&
            exec "$2" build recipes/minimal.yml --out "$1/out""#;
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", script, "sh"]).arg(&self.root).arg(here.program("secai-build"));
        command.env("TZ", "Pacific/Kiritimati").env("XDG_CACHE_HOME", self.root.join("cache"));
        command
    }

    fn composed_again(&self, here: &Surroundings) -> Result<(), String> {
        let took = watch(&mut self.compose(here))?.0;
        println!("composed again, nothing cached but packages: {:.0} s", took.as_secs_f64());
        let (first, second) = (digests(&here.out.join("minimal"))?, digests(&self.release())?);
        for ((what, one), (_, other)) in first.iter().zip(&second) {
            let word = if one == other { "same" } else { "DIFFER" };
            println!("  {word:<6}  {what:<8}  {one}  {other}");
        }
        println!();
        if first == second { Ok(()) } else { Err("two builds of one recipe differ".to_owned()) }
    }

    fn rootfs_to_bundle(&self, here: &Surroundings) -> Result<(), String> {
        let release = self.release();
        let script = r#"cd "$1" && rm -rf 3-commit.json 4-image 5-attest 6-bundle "$2/cache/secai/layers""#;
        output(shell(script, &[&release, &self.root]))?;
        let ours = self.compose(here);
        let (tree, repo) = (release.join("2-rootfs/tree"), self.repo());
        let pack = shell(r#"tar -C "$1" -c . | zstd -T2 -q | sha256sum"#, &[&tree]);
        let commit = shell(
            r#"ostree --repo="$2" init --mode=bare && ostree --repo="$2" commit --fsync=false -b bench --tree=dir="$1""#,
            &[&tree, &repo],
        );
        compare("rootfs to bundle", vec![ours], vec![pack, commit], 1)
    }

    /// Filled by the peer of the figure before: the same content.
    fn repo(&self) -> PathBuf {
        self.root.join("repo")
    }

    fn bundle_to_verdict(&self, here: &Surroundings) -> Result<(), String> {
        let release = self.release();
        let mut ours = Command::new(here.program("verify-release"));
        ours.arg("bundle").arg(release.join("6-bundle")).arg("--trust").arg(release.join("trust"));
        // The layers are the blobs that zstd knows; manifest and config are not.
        let unpack = shell(
            r#"for blob in "$1"/image/blobs/sha256/*; do
                if zstd -lq "$blob" >/dev/null 2>&1; then zstd -dcq "$blob" | sha256sum || exit; fi
            done"#,
            &[&release.join("6-bundle")],
        );
        let fsck = shell(r#"ostree --repo="$1" fsck --quiet"#, &[&self.repo()]);
        compare("bundle to verdict", vec![ours], vec![unpack, fsck], 3)
    }
}

/// Manifest, commit and bill of materials of a release, as its `release.json` binds them.
fn digests(release: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let at = release.join("6-bundle/release.json");
    let envelope = fs::read(&at).map_err(|why| format!("{}: {why}", at.display()))?;
    let envelope: serde_json::Value = serde_json::from_slice(&envelope).map_err(|why| why.to_string())?;
    let payload = envelope["payload"].as_str().ok_or("release.json has no payload")?;
    let payload = output(shell(r#"printf %s "$1" | base64 -d"#, &[Path::new(payload)]))?;
    let payload: serde_json::Value = serde_json::from_str(&payload).map_err(|why| why.to_string())?;
    [("manifest", &payload["image"]["digest"]), ("commit", &payload["commit"]), ("sbom", &payload["sbom"]["digest"])]
        .into_iter()
        .map(|(what, value)| Ok((what, value.as_str().ok_or(format!("no {what}"))?.to_owned())))
        .collect()
}

/// Runs both sides `runs` times, alternating, each side's commands one after the other; takes the quickest.
fn compare(what: &str, mut ours: Vec<Command>, mut theirs: Vec<Command>, runs: u32) -> Result<(), String> {
    let mut best = [Duration::MAX; 2];
    let mut memory = 0;
    for _ in 0..runs {
        for (side, commands) in [&mut ours, &mut theirs].into_iter().enumerate() {
            let mut took = Duration::ZERO;
            for command in commands {
                let (one, peak) = watch(command)?;
                took += one;
                memory = if side == 0 { memory.max(peak) } else { memory };
            }
            best[side] = best[side].min(took);
        }
    }
    let [our, their] = best.map(|took| took.as_secs_f64());
    println!(
        "{what}: {our:.1} s against {their:.1} s: {:.2} of the peers' time; our peak {} MB",
        our / their,
        memory / 1000
    );
    for (side, commands) in [("ours", &ours), ("peers", &theirs)] {
        for command in commands {
            println!("  {side:<5}  {}", shown(command).split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    println!();
    Ok(())
}

/// Time, and peak resident memory in kB of the process itself (not of what it starts).
fn watch(command: &mut Command) -> Result<(Duration, u64), String> {
    /// The high-water mark only rises: what is lost is its rise in the last moment.
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|why| format!("{}: {why}", shown(command)))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        peak = peak.max(mark.unwrap_or(0));
        match child.try_wait().map_err(|why| why.to_string())? {
            None => sleep(LOOK_EVERY),
            Some(status) if status.success() => return Ok((start.elapsed(), peak)),
            Some(status) => return Err(format!("{}: {status}", shown(command))),
        }
    }
}

fn shell(script: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments);
    command.env("LC_ALL", "C").env("PATH", env::var_os("PATH").unwrap_or_default());
    command
}

fn output(mut command: Command) -> Result<String, String> {
    let done = command.output().map_err(|why| format!("{}: {why}", shown(&command)))?;
    if !done.status.success() {
        return Err(format!("{}: {}", shown(&command), String::from_utf8_lossy(&done.stderr).trim()));
    }
    String::from_utf8(done.stdout).map_err(|why| why.to_string())
}
