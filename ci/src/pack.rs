//! Fills a folder with the service pack: our programs, compiled for release, and the manifests that lie on a device.
//!
//! `pack.json` says of each program what it is and which crates are in it, of each file what it is;
//! `builder/src/pack.rs` reads it. No path of this machine is in a program, so that two machines make the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::step::{self, Outcome, shown};
use crate::surroundings::{Surroundings, cargo};

/// What of `manifests/` a device has.
const MANIFESTS: [&str; 3] = ["services", "policy", "rootfs"];
/// The folder whose programs a device has, all of them.
const SERVICES: &str = "services";
/// What it has besides.
const BESIDES: [&str; 1] = ["verify-release"];
/// What the list says it is.
const SCHEMA: u32 = 1;

/// Where the pack is unless told otherwise.
pub const FOLDER: &str = "out/pack";

/// Compiles, copies, lists.
pub fn run(here: &Surroundings, folder: &Path) -> Outcome {
    match fill(here, &here.top.join(folder)) {
        Ok(programs) => {
            eprintln!("{}: {}", folder.display(), programs.join(", "));
            Outcome::Passed
        }
        Err(why) => Outcome::Failed(why),
    }
}

/// A program and the crate that it is of.
struct Program {
    name: String,
    package: String,
    version: String,
}

fn fill(here: &Surroundings, folder: &Path) -> Result<Vec<String>, String> {
    let programs = programs(&metadata(here)?, &here.top);
    let target = here.compiled();
    // Before compiling: it fetches what is missing.
    let crates = crates(here, &programs)?;
    compile(here, &programs)?;
    // Written beside its place: whoever reads a pack finds the old one or the new one.
    let partial = folder.with_extension("partial");
    remove(&partial)?;
    fs::create_dir_all(partial.join("programs")).map_err(|why| format!("{}: {why}", partial.display()))?;
    let mut listed = Vec::new();
    for program in &programs {
        let made = target.join("release").join(&program.name);
        let bytes = read(&made)?;
        if let Some(path) = machine_paths(here, &target).iter().find(|path| holds(&bytes, path.as_bytes())) {
            return Err(format!("{} holds {path}, a path of this machine", made.display()));
        }
        let place = partial.join("programs").join(&program.name);
        put(&place, &bytes, 0o755)?;
        let Program { name, package, version } = program;
        let crates = crates.get(package).ok_or_else(|| format!("cargo tree says nothing of {package}"))?;
        listed.push(json!({
            "name": name, "version": version, "sha256": sha256(&place)?, "size": bytes.len(), "crates": crates,
        }));
    }
    let mut files = Vec::new();
    for folder in MANIFESTS {
        copy(&here.top, &format!("manifests/{folder}"), &partial, &mut files)?;
    }
    files.sort_by_key(|file: &Value| file["path"].as_str().unwrap_or_default().to_owned());
    let list = json!({"schema": SCHEMA, "programs": listed, "files": files});
    put(&partial.join("pack.json"), format!("{list:#}\n").as_bytes(), 0o644)?;
    remove(folder)?;
    fs::rename(&partial, folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    Ok(programs.into_iter().map(|program| program.name).collect())
}

fn metadata(here: &Surroundings) -> Result<Value, String> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--no-deps", "--locked", "--format-version=1"]).current_dir(&here.top);
    serde_json::from_str(&output(&mut command)?).map_err(|why| format!("cargo metadata: {why}"))
}

/// Every program of a package below `services/`, and [`BESIDES`]; by name.
fn programs(metadata: &Value, top: &Path) -> Vec<Program> {
    let mut programs = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is_service = Path::new(&text(&package["manifest_path"])).starts_with(top.join(SERVICES));
        let targets = package["targets"].as_array().into_iter().flatten();
        let is_program = |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&json!("bin")));
        for target in targets.filter(is_program) {
            let name = text(&target["name"]);
            if is_service || BESIDES.contains(&name.as_str()) {
                programs.push(Program { name, package: text(&package["name"]), version: text(&package["version"]) });
            }
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

fn compile(here: &Surroundings, programs: &[Program]) -> Result<(), String> {
    let mut command = compiling(here)?;
    for program in programs {
        command.args(["--package", &program.package, "--bin", &program.name]);
    }
    match step::run(&mut command) {
        Outcome::Passed => Ok(()),
        Outcome::Failed(why) | Outcome::Skipped(why) => Err(why),
    }
}

/// `cargo build` for a device: packages are still to be named.
///
/// # Errors
/// rustc does not say where it lies.
pub fn compiling(here: &Surroundings) -> Result<Command, String> {
    let target = here.compiled();
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--locked"]).current_dir(&here.top).env("CARGO_TARGET_DIR", &target);
    let remapped = remapped(here, &target)?;
    // What this person usually compiles with must not reach a device.
    for name in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "CFLAGS", "CXXFLAGS"] {
        command.env_remove(name);
    }
    let flags: Vec<String> = remapped.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // Some crates are C.
    let flags: Vec<String> = remapped.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    command.env("CFLAGS", flags.join(" "));
    Ok(command)
}

/// Folders of this machine, and what stands for them in a program. The last that fits counts. The checkout is not among
/// them: cargo names our sources from its top, and each other checkout would compile everything anew.
fn remapped(here: &Surroundings, target: &Path) -> Result<Vec<(String, &'static str)>, String> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(&here.top))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut folders = vec![(text(&cargo_home()), "/cargo")];
    folders.extend(registries().iter().map(|folder| (text(folder), "/crates")));
    folders.extend([
        // Where the sources of the standard library are installed, what it inlines names them.
        (text(&library), "/rust"),
        (text(target), "/target"),
    ]);
    Ok(folders)
}

/// Where cargo keeps the sources of crates: a folder for each registry, called after its host, which is this machine's
/// own setting.
fn registries() -> Vec<PathBuf> {
    let folder = cargo_home().join("registry/src");
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// What must not be found in a program.
fn machine_paths(here: &Surroundings, target: &Path) -> Vec<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    // A home that is `/` or `/root` is in many a text; what lies below it is a path.
    let below = |path: PathBuf| format!("{}/", path.to_string_lossy().trim_end_matches('/'));
    let folders = [Some(cargo_home()), Some(here.top.clone()), Some(target.to_owned()), home];
    let hosts = registries().into_iter().filter_map(|at| Some(at.file_name()?.to_string_lossy().into_owned()));
    folders.into_iter().flatten().map(below).filter(|path| path != "/").chain(hosts).collect()
}

fn cargo_home() -> PathBuf {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or(home).unwrap_or_default()
}

/// The crates in each package's program: what is linked, without what only compiles. As one command for all, because
/// one command compiles all: features are those that any of them asks for.
fn crates(here: &Surroundings, programs: &[Program]) -> Result<BTreeMap<String, Vec<Value>>, String> {
    let mut command = Command::new(cargo());
    command.args(["tree", "--locked", "--edges=normal,no-proc-macro", "--prefix=depth", "--format= {p}"]);
    for program in programs {
        command.args(["--package", &program.package]);
    }
    of_tree(&output(command.current_dir(&here.top))?)
}

/// A crate's name and version.
type Crate = (String, String);

/// Reads `DEPTH NAME vVERSION …` lines; what hangs below a crate is said once, where it stands first.
fn of_tree(text: &str) -> Result<BTreeMap<String, Vec<Value>>, String> {
    let mut needs: BTreeMap<Crate, BTreeSet<Crate>> = BTreeMap::new();
    let mut roots = BTreeSet::new();
    let mut way: Vec<Crate> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let read = match words[..] {
            [depth, name, version, ..] => {
                depth.parse::<usize>().ok().zip(version.strip_prefix('v')).map(|it| (it, name))
            }
            _ => None,
        };
        let ((depth, version), name) = read.ok_or_else(|| format!("cargo tree says `{line}`"))?;
        let this = (name.to_owned(), version.to_owned());
        way.truncate(depth);
        match way.last() {
            Some(above) => drop(needs.entry(above.clone()).or_default().insert(this.clone())),
            None => drop(roots.insert(this.clone())),
        }
        way.push(this);
    }
    let mut crates = BTreeMap::new();
    for root in roots {
        let (mut found, mut todo) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(one) = todo.pop() {
            if found.insert(one.clone()) {
                todo.extend(needs.get(&one).into_iter().flatten().cloned());
            }
        }
        let list = found.into_iter().map(|(name, version)| json!({"name": name, "version": version})).collect();
        crates.insert(root.0, list);
    }
    Ok(crates)
}

/// Copies what a folder of the repository holds, and lists it.
fn copy(top: &Path, folder: &str, to: &Path, files: &mut Vec<Value>) -> Result<(), String> {
    let from = top.join(folder);
    for entry in fs::read_dir(&from).map_err(|why| format!("{}: {why}", from.display()))? {
        let entry = entry.map_err(|why| format!("{}: {why}", from.display()))?;
        let name = entry.file_name();
        let path = format!("{folder}/{}", name.to_str().ok_or_else(|| format!("{} is not UTF-8", from.display()))?);
        let kind = entry.file_type().map_err(|why| format!("{path}: {why}"))?;
        if kind.is_dir() {
            copy(top, &path, to, files)?;
        } else if kind.is_file() {
            let bytes = read(&top.join(&path))?;
            let place = to.join(&path);
            put(&place, &bytes, 0o644)?;
            files.push(json!({"path": path, "sha256": sha256(&place)?, "size": bytes.len()}));
        } else {
            return Err(format!("{path} is neither a file nor a folder"));
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String, String> {
    let said = output(Command::new("sha256sum").arg("--").arg(path))?;
    let word = said.split_whitespace().next().map(|word| word.trim_start_matches('\\'));
    word.map(str::to_owned).ok_or_else(|| format!("sha256sum says nothing of {}", path.display()))
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("{}: {why}", path.display()))
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, bytes))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|why| format!("{}: {why}", path.display()))
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {why}", folder.display())),
        _ => Ok(()),
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|why| format!("{}: {why}", shown(command)))?;
    if !done.status.success() {
        return Err(format!("{}: {}", shown(command), String::from_utf8_lossy(&done.stderr).trim()));
    }
    String::from_utf8(done.stdout).map_err(|why| format!("{}: {why}", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(crates: &[Value]) -> Vec<&str> {
        crates.iter().map(|one| one["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn crates_are_those_below_a_root_however_deep_and_said_once() {
        let tree = "0 a v1.0.0 (path)\n1 b v2.0.0\n2 c v3.0.0+x\n1 d v4.0.0\n\n0 e v1.0.0 (path)\n1 b v2.0.0 (*)\n";
        let crates = of_tree(tree).unwrap();
        assert_eq!(names(&crates["a"]), ["a", "b", "c", "d"]);
        assert_eq!(names(&crates["e"]), ["b", "c", "e"], "what hangs below b was said before");
        assert_eq!(crates["a"][2]["version"], "3.0.0+x");
        assert!(of_tree("0 a\n").is_err());
        assert!(of_tree("a v1.0.0\n").is_err());
    }

    #[test]
    fn programs_are_those_of_services_and_the_verifier() {
        let package = |folder: &str, name: &str, kind: &str| {
            json!({"name": format!("{name}-crate"), "version": "0.1.0", "manifest_path": format!("/top/{folder}/Cargo.toml"),
                "targets": [{"name": name, "kind": [kind]}, {"name": "x", "kind": ["test"]}]})
        };
        let metadata = json!({"packages": [
            package("verifier", "verify-release", "bin"),
            package("services/new", "secai-new", "bin"),
            package("services/api", "secai-api", "lib"),
            package("builder", "secai-build", "bin"),
        ]});
        let found = programs(&metadata, Path::new("/top"));
        assert_eq!(found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["secai-new", "verify-release"]);
        assert_eq!(found[0].package, "secai-new-crate");
    }

    #[test]
    fn a_path_in_a_program_is_found() {
        assert!(holds(b"\0/home/x/y\0", b"/home/x/"));
        assert!(!holds(b"\0/cargo/registry\0", b"/home/x/"));
    }
}
