//! The command line: clap structs only, one `resolve` per verb that turns words into plain values.

use clap::{Args, Parser, Subcommand, ValueEnum};
use regex::Regex;
use secai_builder::boot::{BootOptions, Booted, Card, Credential};
use secai_builder::disk::{Disk, DiskOptions, Format};
use secai_builder::error::Error;
use secai_builder::keys::DevelopmentKeys;
use secai_builder::pipeline::{Options, Report, Until};
use secai_builder::plan::{Cache, PlanOptions};
use secai_builder::progress::{Stage, Voice};
use secai_builder::recipe::explain::{Explained, How, Origin};
use secai_builder::recipe::{OutsideFiles, Recipe};
use secai_builder::stage::State;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// From a recipe to a signed, bootable release.
#[derive(Debug, Parser)]
#[command(
    name = "secai-build",
    version,
    after_help = "Example:\n  secai-build build recipes/minimal.yml\n\nExit codes: 0 done; 1 a negative answer (the guest never printed what was expected); 2 anything that stopped it."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All stages: recipe in, signed bundle out
    #[command(after_help = "Example:\n  secai-build build recipes/minimal.yml --number 7 --channel dev")]
    Build(BuildArgs),
    /// Pin every input, fetch it, and say what would be rebuilt and why
    #[command(
        after_help = "Examples:\n  secai-build plan recipes/minimal.yml --refresh\n  secai-build plan recipes/secai.yml --explain"
    )]
    Plan(PlanArgs),
    /// As far as the tree of the image
    #[command(after_help = "Example:\n  secai-build rootfs recipes/minimal.yml && sudo ls out/minimal/2-rootfs/tree")]
    Rootfs(StageArgs),
    /// As far as the OSTree commit
    #[command(after_help = "Example:\n  secai-build commit recipes/minimal.yml --json")]
    Commit(StageArgs),
    /// As far as the OCI image
    #[command(
        after_help = "Example:\n  secai-build image recipes/minimal.yml && skopeo inspect oci:out/minimal/4-image"
    )]
    Image(StageArgs),
    /// As far as the SBOM
    #[command(
        after_help = "Example:\n  secai-build attest recipes/minimal.yml && less out/minimal/5-attest/sbom.cdx.json"
    )]
    Attest(StageArgs),
    /// All stages; the same as build
    #[command(after_help = "Example:\n  secai-build bundle recipes/minimal.yml --unsigned")]
    Bundle(BuildArgs),
    /// Make a disk of a bundle, which starts by UEFI with Secure Boot; without root
    #[command(
        after_help = "Examples:\n  secai-build disk out/secai/6-bundle --trust out/secai/trust\n  secai-build disk out/secai/6-bundle --format qcow2 --size 16G --output vm.qcow2\n\nWhat it reads was not verified: verify-release bundle does that."
    )]
    Disk(DiskArgs),
    /// Start a bundle or a disk in QEMU and wait for a line on its serial console, or sit at it
    #[command(
        after_help = "Examples:\n  secai-build boot out/minimal/6-bundle --expect 'login:' --timeout 300\n  secai-build boot out/secai/6-bundle --console --network frames.pcap\n  secai-build boot out/secai/disk.raw --expect 'Secure boot enabled'"
    )]
    Boot(BootArgs),
    /// Development keys
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Print the JSON Schema of a recipe
    #[command(after_help = "Example:\n  secai-build schema > manifests/schema/recipe.json")]
    Schema,
}

#[derive(Debug, Args)]
struct StageArgs {
    /// The recipe
    recipe: PathBuf,
    /// Folder of outputs
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    /// Debian mirror; default: the one in apt's own configuration
    #[arg(long, value_name = "URL", env = "SECAI_MIRROR")]
    mirror: Option<String>,
    /// Folder of our programs, when the recipe names services; `cargo ci pack` fills one
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Ask the mirror for its index even when the cached one is less than a day old
    #[arg(long)]
    refresh: bool,
    /// Let the recipe name files outside its own folder
    #[arg(long)]
    allow_files_outside_the_recipe_folder: bool,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// Only say which file and line each value of the recipe came from, and what was taken away where; nothing is pinned
    #[arg(long)]
    explain: bool,
}

#[derive(Debug, Args)]
struct BuildArgs {
    #[command(flatten)]
    stage: StageArgs,
    /// Release number; default: one more than the last bundle's, else 1
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// Channel; default: the recipe's, else dev
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Trust directory that the keys stand in, when the recipe names none; default: the development keys'
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// Leave out the release act: no key is touched
    #[arg(long)]
    unsigned: bool,
    /// Private key of the role build (PKCS#8 PEM, P-256); default: the development key
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    build_key: Option<PathBuf>,
    /// Private key of the role release; default: the development key
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    release_key: Option<PathBuf>,
    /// OpenPGP key in your keyring; default: the development key
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "unsigned")]
    gpg_key: Option<String>,
}

#[derive(Debug, Args)]
struct BootArgs {
    /// The bundle, or a disk that was made of one; nothing else is read
    #[arg(value_name = "BUNDLE|DISK")]
    bundle: PathBuf,
    /// Regular expression that the serial console must show [default: login:]
    #[arg(long, value_name = "REGEX")]
    expect: Option<String>,
    /// Sit at the serial console: what is typed goes to the guest, until it powers off or Ctrl-A x ends it
    #[arg(long, conflicts_with = "json")]
    console: bool,
    /// Give the guest a network card, and write its frames here (pcap); behind it is nobody but who has --wire
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// The other end of its wire: a Unix datagram socket that takes frames, and sends them to SOCKET.guest
    #[arg(long, value_name = "SOCKET", requires = "network")]
    wire: Option<PathBuf>,
    /// Seconds it may take [default: 300; at its console as long as it runs]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What the guest writes stays on the disk; else the disk is as it was
    #[arg(long)]
    keep: bool,
    /// Variables that a disk's firmware begins with, which are copied; default: Secure Boot is on, with Microsoft's keys
    #[arg(long, value_name = "FILE")]
    variables: Option<PathBuf>,
    /// Further kernel argument of a bundle, for this boot only; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    append: Vec<String>,
    /// A credential that systemd in the guest is told, such as secai.owner=none; may be repeated
    #[arg(long = "credential", value_name = "NAME=VALUE")]
    credentials: Vec<String>,
    /// Give the guest a TPM in software, which keeps what it is told in this folder
    #[arg(long, value_name = "DIR")]
    tpm: Option<PathBuf>,
    /// Where the serial log is kept; default: BUNDLE.boot.log, DISK.boot.log
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DiskArgs {
    /// The bundle
    bundle: PathBuf,
    /// raw, as it is written onto a disk, or qcow2
    #[arg(long, value_name = "FORMAT", default_value = "raw")]
    format: FormatName,
    /// Bytes of the whole disk, with K, M, G or T behind; default: what the image needs, and 1G for /var
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// The file; default: disk.raw or disk.qcow2 beside the bundle
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Directory of the public keys that the device judges releases by, itself among them: DIR/trust of a build
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    Raw,
    Qcow2,
}

impl DiskArgs {
    fn resolve(self) -> Result<(PathBuf, DiskOptions), Error> {
        let size = self.size.map(|size| {
            bytes(&size).ok_or_else(|| Error::Usage {
                option: "--size",
                reason: "is no number of bytes, such as 8G".into(),
                value: size,
            })
        });
        let (format, name) = match self.format {
            FormatName::Raw => (Format::Raw, "disk.raw"),
            FormatName::Qcow2 => (Format::Qcow2, "disk.qcow2"),
        };
        // As `.` it would lie in itself.
        let beside = || {
            let whole = self.bundle.canonicalize().unwrap_or_else(|_| self.bundle.clone());
            whole.parent().unwrap_or(Path::new("")).join(name)
        };
        let output = self.output.unwrap_or_else(beside);
        Ok((self.bundle, DiskOptions { format, size: size.transpose()?, output, trust: self.trust }))
    }
}

/// `8G`, `512M`, `1000`: powers of two.
fn bytes(text: &str) -> Option<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let (number, shift) =
        units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    let is_plain = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_plain)?.checked_mul(1 << shift)
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Make development keys, unless they exist
    #[command(after_help = "Example:\n  secai-build keys new --dir /media/usb/keys")]
    New {
        /// Folder for them; default: $XDG_STATE_HOME/secai
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl StageArgs {
    fn resolve(self, voice: Voice) -> (PathBuf, Options) {
        let outside = match self.allow_files_outside_the_recipe_folder {
            true => OutsideFiles::AllowedByFlag,
            false => OutsideFiles::Refused,
        };
        let options = Options {
            out: self.out,
            plan: PlanOptions { mirror: self.mirror, refresh: self.refresh, trust: None },
            pack: self.pack,
            outside,
            number: None,
            channel: None,
            unsigned: false,
            build_key: None,
            release_key: None,
            gpg_key: None,
            voice,
        };
        (self.recipe, options)
    }
}

impl BuildArgs {
    fn resolve(self, voice: Voice) -> (PathBuf, Options) {
        let (recipe, options) = self.stage.resolve(voice);
        let options = Options {
            number: self.number,
            channel: self.channel,
            plan: PlanOptions { trust: self.trust, ..options.plan },
            unsigned: self.unsigned,
            build_key: self.build_key,
            release_key: self.release_key,
            gpg_key: self.gpg_key,
            ..options
        };
        (recipe, options)
    }
}

/// What a guest takes to boot under translation in software, and some more.
const BOOT_SECONDS: u64 = 300;
/// Nobody sits longer at a guest.
const CONSOLE_SECONDS_MAX: u64 = 24 * 60 * 60;

impl BootArgs {
    fn resolve(self) -> Result<(PathBuf, BootOptions), Error> {
        let expect = self.expect.or_else(|| (!self.console).then(|| "login:".to_owned()));
        let compiled = expect.map(|expect| {
            Regex::new(&expect).map_err(|e| Error::Usage {
                option: "--expect",
                reason: format!("is not a regular expression: {e}"),
                value: expect,
            })
        });
        let log = self.log.unwrap_or_else(|| {
            let mut name = self.bundle.components().as_path().as_os_str().to_owned();
            name.push(".boot.log");
            PathBuf::from(name)
        });
        let limit = if self.console { CONSOLE_SECONDS_MAX } else { BOOT_SECONDS };
        let timeout = Duration::from_secs(self.timeout.unwrap_or(limit));
        let expect = compiled.transpose()?;
        let network = self.network.map(|frames| Card { frames, wire: self.wire });
        let credential = |text: &String| {
            text.parse::<Credential>().map_err(|reason| Error::Usage {
                option: "--credential",
                // Its value may be a secret.
                value: text.split('=').next().unwrap_or_default().to_owned(),
                reason,
            })
        };
        let credentials = self.credentials.iter().map(credential).collect::<Result<_, _>>()?;
        let Self { bundle, console, append, keep, variables, tpm, .. } = self;
        let options = BootOptions { expect, console, network, timeout, append, keep, variables, credentials, tpm, log };
        Ok((bundle, options))
    }
}

/// Parses the command line and does what it says.
pub fn run() -> Result<ExitCode, Error> {
    let cli = Cli::parse();
    if matches!(cli.verb, Verb::Disk(_)) && !rustix::process::geteuid().is_root() {
        // It reports for itself.
        let status = secai_builder::tools::userns::run_again()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).map(ExitCode::from);
        return code.ok_or_else(|| Error::EndedInside { status: status.to_string() });
    }
    act(cli).map(|()| ExitCode::SUCCESS)
}

fn act(cli: Cli) -> Result<(), Error> {
    let voice = if cli.quiet { Voice::Quiet } else { Voice::Normal };
    let staged = |args: StageArgs, until: Until| {
        let (recipe, options) = args.resolve(voice);
        print(&secai_builder::pipeline::run(&recipe, &options, until)?, cli.json)
    };
    match cli.verb {
        Verb::Build(args) | Verb::Bundle(args) => {
            let (recipe, options) = args.resolve(voice);
            print(&secai_builder::pipeline::run(&recipe, &options, Until::Bundle)?, cli.json)
        }
        Verb::Plan(PlanArgs { stage, explain: true }) => {
            let (recipe, options) = stage.resolve(voice);
            print_explained(&Recipe::load(&recipe, options.outside)?.explained, cli.json)
        }
        Verb::Plan(PlanArgs { stage, explain: false }) => staged(stage, Until::Plan),
        Verb::Rootfs(args) => staged(args, Until::Rootfs),
        Verb::Commit(args) => staged(args, Until::Commit),
        Verb::Image(args) => staged(args, Until::Image),
        Verb::Attest(args) => staged(args, Until::Attest),
        Verb::Disk(args) => {
            let (bundle, options) = args.resolve()?;
            let stage = Stage::begin("disk", voice);
            let disk = secai_builder::disk::make(&bundle, &options, &Cache::of_user()?, &|what| stage.say(what))?;
            stage.end(&State::Rebuilt(String::new()), &format!("{} MiB", disk.bytes >> 20));
            print_disk(&disk, cli.json)
        }
        Verb::Boot(args) => {
            let (bundle, options) = args.resolve()?;
            // What the guest writes is what is shown then.
            let voice = if options.console { Voice::Quiet } else { voice };
            let stage = Stage::begin("boot", voice);
            let booted = secai_builder::boot::boot(&bundle, &options, &Cache::of_user()?, &|what| stage.say(what))?;
            stage.end(
                &State::Rebuilt(String::new()),
                &format!("seen after {:.0} s of {}", booted.seconds, booted.accelerator),
            );
            if options.console {
                return Ok(());
            }
            print_boot(&booted, cli.json)
        }
        Verb::Keys(KeysVerb::New { dir }) => {
            let keys = dir.map_or_else(DevelopmentKeys::of_user, |d| Ok(DevelopmentKeys::at(d)))?;
            let existed = keys.exist();
            keys.make()?;
            let trust = keys.trust();
            if cli.json {
                return line(&json!({"trust": trust, "made": !existed}).to_string());
            }
            line(&format!(
                "{} in {}",
                if existed { "keys exist; public halves" } else { "public halves" },
                trust.display()
            ))
        }
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&secai_builder::recipe::schema()).unwrap_or_default();
            line(&text)
        }
    }
}

fn print(report: &Report, as_json: bool) -> Result<(), Error> {
    if as_json {
        return line(&serde_json::to_string(report).unwrap_or_default());
    }
    let mut text = Vec::new();
    let labelled = [("commit", &report.commit), ("manifest", &report.manifest), ("sbom", &report.sbom)];
    for (name, value) in labelled {
        if let Some(value) = value {
            text.push(format!("{name:>8}   {value}"));
        }
    }
    if let Some(bundle) = &report.bundle {
        let bundle = shown(bundle);
        text.push(format!("{:>8}   {bundle}", "bundle"));
        if let Some(trust) = &report.trust {
            text.push(format!("{:>8}   verify-release bundle {bundle} --trust {}", "verify", shown(trust)));
        }
        text.push(format!("{:>8}   secai-build boot {bundle}", "boot"));
    } else {
        text.push(format!("{:>8}   {}", "output", shown(&report.output)));
    }
    line(&text.join("\n"))
}

fn print_explained(explained: &Explained, as_json: bool) -> Result<(), Error> {
    if as_json {
        return line(&serde_json::to_string(explained).unwrap_or_default());
    }
    let gone = explained.gone.iter().map(|it| {
        let how = match it.how {
            How::Removed => "removed",
            How::Replaced => "replaced",
        };
        (&it.origin, format!("{}, {how} by {}", it.origin.at, it.by))
    });
    let rows = |list: Vec<(&Origin, String)>| {
        let width =
            |of: fn(&Origin) -> &str| list.iter().map(|(it, _)| of(it).chars().count()).max().unwrap_or_default();
        let (key, value) = (width(|it| it.key), width(|it| &it.value));
        let row = |(it, at): &(&Origin, String)| format!("{:key$}  {:value$}  {at}", it.key, plain(&it.value));
        list.iter().map(row).collect::<Vec<_>>().join("\n")
    };
    let mut text = rows(explained.values.iter().map(|it| (it, it.at.to_string())).collect());
    if !explained.gone.is_empty() {
        text.push_str(&format!("\n\ntaken away\n{}", rows(gone.collect())));
    }
    line(&text)
}

/// What a recipe of somebody else says must not steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn print_disk(disk: &Disk, as_json: bool) -> Result<(), Error> {
    if as_json {
        return line(&serde_json::to_string(disk).unwrap_or_default());
    }
    let mut text = vec![format!("{:>8}   {}", "commit", disk.commit)];
    for part in &disk.partitions {
        text.push(format!("{:>8}   {:>6} MiB  PARTUUID={}", part.name, part.bytes >> 20, part.uuid));
    }
    let shown = shown(&disk.disk);
    text.push(format!("{:>8}   {shown}", "disk"));
    text.push(format!("{:>8}   secai-build boot {shown}", "boot"));
    line(&text.join("\n"))
}

fn print_boot(booted: &Booted, as_json: bool) -> Result<(), Error> {
    if as_json {
        return line(&serde_json::to_string(booted).unwrap_or_default());
    }
    let commit = booted.commit.as_ref().map(|it| format!("{:>8}   {it}\n", "commit")).unwrap_or_default();
    line(&format!("{commit}{:>8}   {}", "log", shown(&booted.log)))
}

/// A path as a person would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|h| path.strip_prefix(h).ok().map(Path::to_owned));
    relative.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// A line of the result. A reader that went away is not our failure.
fn line(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { action: "write", path: PathBuf::from("standard output"), source: e })
        }
        _ => Ok(()),
    }
}

/// The one report of a failure: what, because of what, and what to do.
pub fn report(error: &Error) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (red, cyan, off) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error:{off} {error}\n");
    let mut cause = std::error::Error::source(error);
    while let Some(c) = cause {
        text.push_str(&format!("  because: {c}\n"));
        cause = c.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("{cyan}hint:{off} {hint}\n"));
    }
    // Whoever closed standard error does not want to know.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, expected) in [
            ("8G", Some(8 << 30)),
            ("512M", Some(512 << 20)),
            ("1000", Some(1000)),
            ("0", Some(0)),
            ("", None),
            ("G", None),
            ("+8G", None),
            ("8g", None),
            ("8.5G", None),
            ("99999999T", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
