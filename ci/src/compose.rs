//! Compiles for release, composes a recipe of ours, verifies the bundle.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pack;
use crate::step::{self, Outcome};
use crate::surroundings::{Surroundings, on_path};

/// For `ci/build`: into `./out`, saying at the end what to do with it.
pub fn for_people(here: &Surroundings, arguments: &[String]) -> Outcome {
    // Relative, as a person at the top of the repository would type it.
    let out = arguments
        .iter()
        .enumerate()
        .find_map(|(at, word)| match word.as_str() {
            "--out" => arguments.get(at + 1).map(String::as_str),
            other => other.strip_prefix("--out="),
        })
        .unwrap_or("out");
    let release = Path::new(out).join("minimal");
    match compose(here, "minimal", Path::new(out), arguments) {
        Outcome::Passed => {}
        other => return other,
    }
    let (bundle, trust) = (release.join("6-bundle"), release.join("trust"));
    let (verify, build) = (here.program("verify-release"), here.program("secai-build"));
    eprintln!("\nThe bundle: {}", here.top.join(&bundle).display());
    eprintln!("verify it:  {} bundle {} --trust {}", verify.display(), bundle.display(), trust.display());
    eprintln!("boot it:    {} boot {} --expect 'login:'", build.display(), bundle.display());
    Outcome::Passed
}

/// For the tests: one bundle that all of them read, in a folder of its own.
pub fn for_tests(here: &Surroundings) -> Outcome {
    let out = |more: &[&str]| -> Vec<String> {
        let here = ["--out", &here.out.to_string_lossy()].map(str::to_owned);
        here.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    };
    let folder = here.out.join("pack");
    let steps: [&dyn Fn() -> Outcome; 3] =
        [&|| compose(here, "minimal", &here.out, &out(&[])), &|| pack::run(here, &folder), &|| {
            compose(here, "secai", &here.out, &out(&["--pack", &folder.to_string_lossy()]))
        }];
    steps.into_iter().map(|step| step()).find(|outcome| *outcome != Outcome::Passed).unwrap_or(Outcome::Passed)
}

/// What composes, and what verifies, as people get it.
pub fn compile_programs(here: &Surroundings) -> Result<Command, String> {
    let mut compile = pack::compiling(here)?;
    compile.args(["--package=secai-builder", "--package=secai-verifier"]);
    Ok(compile)
}

/// Composes a recipe of ours, and verifies the bundle.
fn compose(here: &Surroundings, recipe: &str, out: &Path, arguments: &[String]) -> Outcome {
    let Some(mut build) = as_root(&here.program("secai-build")) else {
        return Outcome::Skipped("composing needs root, and there is no sudo here".to_owned());
    };
    build.arg("build").arg(format!("recipes/{recipe}.yml")).args(arguments);
    let mut verify = Command::new(here.program("verify-release"));
    let made = out.join(recipe);
    verify.arg("bundle").arg(made.join("6-bundle")).arg("--trust").arg(made.join("trust"));
    let compile = match compile_programs(here) {
        Ok(compile) => compile,
        Err(why) => return Outcome::Failed(why),
    };
    let outcome = step::run_all([compile, build, verify].map(|mut command| {
        command.current_dir(&here.top);
        command
    }));
    give_back_keys();
    outcome
}

/// What a build reads from its environment, besides where folders are. By name only: a passphrase is no argument.
const PRESERVED: &[&str] = &[
    "CI",
    "GNUPGHOME",
    "SECAI_KEY_PASSPHRASE",
    "SECAI_MIRROR",
    "SOURCE_DATE_EPOCH",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Composing needs root. Keys and caches stay those of the person who calls: same HOME, same XDG folders.
fn as_root(program: &Path) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    let sudo = on_path("sudo")?;
    eprintln!("composing needs root: through sudo, with your keys and caches");
    // What root makes below them is to lie in folders of the person; one that cannot be made is named by the build.
    for folder in [own_folder("XDG_STATE_HOME", ".local/state"), own_folder("XDG_CACHE_HOME", ".cache")] {
        let _ = folder.map(fs::create_dir_all);
    }
    let mut command = Command::new(sudo);
    command.args([format!("--preserve-env={}", PRESERVED.join(",")).as_str(), "env"]);
    for name in ["HOME", "PATH", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = env::var_os(name) {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            command.arg(pair);
        }
    }
    command.arg(program);
    Some(command)
}

/// Keys that were made under sudo belong to the person again.
fn give_back_keys() {
    let state = own_folder("XDG_STATE_HOME", ".local/state").filter(|state| state.exists());
    if let ((user @ 1.., group), Some(sudo), Some(state)) = (owner(), on_path("sudo"), state) {
        step::run(Command::new(sudo).args(["chown", "-R", &format!("{user}:{group}")]).arg(state));
    }
}

/// `$variable/secai`, else `~/fallback/secai`.
fn own_folder(variable: &str, fallback: &str) -> Option<PathBuf> {
    let base = env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(fallback)))?;
    Some(base.join("secai"))
}

fn is_root() -> bool {
    owner().0 == 0
}

/// The user and group that this process runs as.
fn owner() -> (u32, u32) {
    fs::metadata("/proc/self").map_or((0, 0), |own| (own.uid(), own.gid()))
}
