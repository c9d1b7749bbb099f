//! The service pack: a folder with our own programs and what they need on a device, which `cargo ci pack` fills.
//!
//! ```text
//! pack.json             every file below with its SHA-256 and size; of programs also the crates in them
//! programs/NAME
//! manifests/services/   pages of the services
//! manifests/policy/     what each profile lets out
//! manifests/rootfs/     units, users and settings, as they lie on the device
//! ```
//! What the list does not name is not read; what it names and is not so is an error, before anything else is done.

use crate::cache::sha256;
use crate::error::Error;
use secai_verifier::digest::Digest;
use secai_verifier::sbom::Crate;
use secai_verifier::tar::check_path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The list, in the pack.
pub const LIST: &str = "pack.json";
/// Where programs lie in it.
const PROGRAMS: &str = "programs";
/// Where everything else lies in it.
const MANIFESTS: &str = "manifests/";
/// What the list says it is.
const SCHEMA: u32 = 1;
/// Some dozens of programs with some hundreds of crates each stay far below.
const LIST_BYTES_MAX: u64 = 4 << 20;
/// A unit, a page or a setting is a few screenfuls; they are held in memory.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
/// So many of them no device has.
const MANIFESTS_MAX: usize = 1024;

/// A program of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of its bytes.
    pub sha256: Digest,
    /// How many.
    pub size: u64,
    /// The crates in it, strictly ascending.
    pub crates: Vec<Crate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: u32,
    programs: Vec<Program>,
    files: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    path: String,
    sha256: Digest,
    size: u64,
}

/// One file of the pack besides its programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes, which have the digest.
    pub bytes: Vec<u8>,
    /// As the list has it.
    pub sha256: Digest,
    /// Where it lies.
    pub source: PathBuf,
}

/// A pack in which every file is what the list says.
#[derive(Debug)]
pub struct Pack {
    root: PathBuf,
    /// SHA-256 of the list.
    pub digest: Digest,
    programs: BTreeMap<String, Program>,
    /// By path below `manifests/`.
    manifests: BTreeMap<String, Manifest>,
}

impl Pack {
    /// Reads the list and looks at every file that it names.
    ///
    /// # Errors
    /// [`Error::Pack`].
    pub fn open(root: &Path) -> Result<Pack, Error> {
        let fail = |reason: String| Error::Pack { path: root.to_owned(), reason };
        let root = root.canonicalize().map_err(|e| fail(format!("it cannot be read: {e}")))?;
        let (_, text) = read(&root, LIST, LIST_BYTES_MAX).map_err(&fail)?;
        let list: List = serde_json::from_slice(&text).map_err(|e| fail(format!("{LIST}: {e}")))?;
        if list.schema != SCHEMA {
            return Err(fail(format!("{LIST} has schema {}, not {SCHEMA}", list.schema)));
        }
        if list.files.len() > MANIFESTS_MAX {
            return Err(fail(format!("{LIST} lists {} files, more than {MANIFESTS_MAX}", list.files.len())));
        }
        let mut pack = Pack { root, digest: Digest::of(&text), programs: BTreeMap::new(), manifests: BTreeMap::new() };
        for program in list.programs {
            pack.check_program(&program).map_err(&fail)?;
            if let Some(twice) = pack.programs.insert(program.name.clone(), program) {
                return Err(fail(format!("{LIST} has the program `{}` twice", twice.name)));
            }
        }
        for Listed { path, sha256, size } in list.files {
            let inside = path.strip_prefix(MANIFESTS).filter(|it| check_path(it).is_ok());
            let inside = inside.ok_or_else(|| fail(format!("`{path}` in {LIST} is no path below {MANIFESTS}")))?;
            let (source, bytes) = read(&pack.root, &path, MANIFEST_BYTES_MAX).map_err(&fail)?;
            if (Digest::of(&bytes), bytes.len() as u64) != (sha256, size) {
                return Err(fail(format!("{path} is not what {LIST} says: SHA-256 {}", Digest::of(&bytes))));
            }
            if pack.manifests.insert(inside.to_owned(), Manifest { bytes, sha256, source }).is_some() {
                return Err(fail(format!("{LIST} has `{path}` twice")));
            }
        }
        Ok(pack)
    }

    /// A complaint about the pack.
    pub fn fail(&self, reason: impl Into<String>) -> Error {
        Error::Pack { path: self.root.clone(), reason: reason.into() }
    }

    /// A program, and where it lies.
    pub fn program(&self, name: &str) -> Option<(&Program, PathBuf)> {
        Some((self.programs.get(name)?, self.root.join(PROGRAMS).join(name)))
    }

    /// The files below `manifests/FOLDER`, by their path from there.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Manifest)> {
        let inside = move |path: &'a str| path.strip_prefix(folder)?.strip_prefix('/');
        self.manifests.iter().filter_map(move |(path, file)| Some((inside(path)?, file)))
    }

    fn check_program(&self, program: &Program) -> Result<(), String> {
        let Program { name, crates, .. } = program;
        let is_word = |name: &str| {
            name.starts_with(|it: char| it.is_ascii_lowercase())
                && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        if !is_word(name) {
            return Err(format!("`{name}` in {LIST} is no name of a program"));
        }
        let ascend = crates.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if crates.is_empty() || !ascend || !crates.iter().all(Crate::is_valid) {
            return Err(format!("{LIST} does not list the crates of {name} as it should: named, in their order"));
        }
        let path = inside(&self.root, &format!("{PROGRAMS}/{name}"))?;
        let size = path.metadata().map_err(|e| format!("{PROGRAMS}/{name} cannot be read: {e}"))?.len();
        let found = sha256(&path).map_err(|e| e.to_string())?;
        if (found, size) != (program.sha256, program.size) {
            return Err(format!("{PROGRAMS}/{name} is not what {LIST} says: SHA-256 {found}"));
        }
        Ok(())
    }
}

/// The real place of a regular file of the pack. A link may not lead out of it.
fn inside(root: &Path, path: &str) -> Result<PathBuf, String> {
    let real = root.join(path).canonicalize().map_err(|e| format!("{path} cannot be read: {e}"))?;
    match real.starts_with(root) {
        true if real.is_file() => Ok(real),
        true => Err(format!("{path} is no file")),
        false => Err(format!("{path} leads out of it")),
    }
}

fn read(root: &Path, path: &str, limit: u64) -> Result<(PathBuf, Vec<u8>), String> {
    let real = inside(root, path)?;
    let mut bytes = Vec::new();
    let read = File::open(&real).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|e| format!("{path} cannot be read: {e}"))?;
    match bytes.len() as u64 > limit {
        true => Err(format!("{path} has more than {limit} bytes")),
        false => Ok((real, bytes)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fs;

    /// A pack of two programs, with the manifests of this repository.
    pub(crate) fn made(root: &Path) {
        fs::create_dir_all(root.join(PROGRAMS)).unwrap();
        let programs: Vec<Value> = ["secai-audit", "secaictl", "verify-release"]
            .map(|name| {
                fs::write(root.join(PROGRAMS).join(name), name).unwrap();
                let crates = json!([{"name": name, "version": "0.1.0"}]);
                json!({"name": name, "version": "0.1.0", "sha256": Digest::of(name.as_bytes()), "size": name.len(),
                    "crates": crates})
            })
            .into();
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        let mut files = Vec::new();
        for folder in ["services", "policy", "rootfs"] {
            copy(&manifests.join(folder), root, &format!("manifests/{folder}"), &mut files);
        }
        write(root, &json!({"schema": 1, "programs": programs, "files": files}));
    }

    fn copy(from: &Path, root: &Path, to: &str, files: &mut Vec<Value>) {
        fs::create_dir_all(root.join(to)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = format!("{to}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                copy(&entry.path(), root, &to, files);
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                fs::write(root.join(&to), &bytes).unwrap();
                files.push(json!({"path": to, "sha256": Digest::of(&bytes), "size": bytes.len()}));
            }
        }
    }

    pub(crate) fn list(root: &Path) -> Value {
        serde_json::from_slice(&fs::read(root.join(LIST)).unwrap()).unwrap()
    }

    pub(crate) fn write(root: &Path, list: &Value) {
        fs::write(root.join(LIST), list.to_string()).unwrap();
    }

    #[test]
    fn a_pack_is_what_its_list_says() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        let pack = Pack::open(dir.path()).unwrap();
        let (program, path) = pack.program("secai-audit").unwrap();
        assert_eq!(Digest::of(&fs::read(path).unwrap()), program.sha256);
        assert!(pack.program("secai-other").is_none());
        assert!(pack.below("services").any(|(path, _)| path == "audit.yml"));
        // What is not listed is not there.
        fs::write(dir.path().join("manifests/services/more.yml"), "name: more").unwrap();
        let pack = Pack::open(dir.path()).unwrap();
        assert!(pack.below("services").all(|(path, _)| path != "more.yml"));
    }

    #[test]
    fn a_pack_that_is_not_what_its_list_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pack");
        let outside = dir.path().join("outside");
        fs::write(&outside, "secai-audit").unwrap();
        let program = root.join("programs/secai-audit");
        let page = root.join("manifests/services/audit.yml");
        let edit = |change: &dyn Fn(&mut Value)| {
            let mut value = list(&root);
            change(&mut value);
            write(&root, &value);
        };
        let cases: &[(&str, &dyn Fn(), &str)] = &[
            ("a program changes", &|| fs::write(&program, "secai-audiT").unwrap(), "audit is not what pack.json says"),
            ("a program is gone", &|| fs::remove_file(&program).unwrap(), "programs/secai-audit cannot be read"),
            (
                "a program lies elsewhere",
                &|| {
                    fs::remove_file(&program).unwrap();
                    std::os::unix::fs::symlink(&outside, &program).unwrap();
                },
                "programs/secai-audit leads out of it",
            ),
            ("a page changes", &|| fs::write(&page, "name: audit\n").unwrap(), "audit.yml is not what pack.json says"),
            ("a page is gone", &|| fs::remove_file(&page).unwrap(), "audit.yml cannot be read"),
            (
                "a page is a folder",
                &|| {
                    fs::remove_file(&page).unwrap();
                    fs::create_dir(&page).unwrap();
                },
                "audit.yml is no file",
            ),
            ("no list", &|| fs::remove_file(root.join(LIST)).unwrap(), "pack.json cannot be read"),
            ("no JSON", &|| fs::write(root.join(LIST), "{").unwrap(), "pack.json: EOF"),
            ("another schema", &|| edit(&|it| it["schema"] = json!(2)), "schema 2, not 1"),
            ("an unknown key", &|| edit(&|it| it["more"] = json!(1)), "unknown field `more`"),
            ("another size", &|| edit(&|it| it["programs"][0]["size"] = json!(1)), "is not what pack.json says"),
            ("no crates", &|| edit(&|it| it["programs"][0]["crates"] = json!([])), "crates of secai-audit"),
            (
                "a program twice",
                &|| edit(&|it| it["programs"][1] = it["programs"][0].clone()),
                "the program `secai-audit` twice",
            ),
            (
                "a program outside",
                &|| edit(&|it| it["programs"][0]["name"] = json!("../../outside")),
                "no name of a program",
            ),
            (
                "a file outside",
                &|| edit(&|it| it["files"][0]["path"] = json!("manifests/../../outside")),
                "no path below manifests/",
            ),
            ("a file beside", &|| edit(&|it| it["files"][0]["path"] = json!("/etc/passwd")), "no path below"),
            ("a file twice", &|| edit(&|it| it["files"][1] = it["files"][0].clone()), "twice"),
        ];
        for (what, change, reason) in cases {
            crate::stage::remove(&root).unwrap();
            made(&root);
            Pack::open(&root).unwrap();
            change();
            let error = Pack::open(&root).unwrap_err();
            assert!(matches!(error, Error::Pack { .. }), "{what}: {error}");
            assert!(error.to_string().contains(reason), "{what}: {error}");
            assert!(error.hint().unwrap().contains("cargo ci pack"), "{what}");
        }
    }
}
