//! What people write: a recipe in YAML, read with positions so that every complaint names a line.
//!
//! ```yaml
//! name: minimal
//! version: 0.1.0
//! base:
//!   debian: {suite: trixie, kernel: linux-image-cloud-amd64, packages: [systemd-sysv, ostree]}
//! packages: [nftables]
//! files:
//!   - {path: /etc/motd, content: "hello\n"}
//! ```
//!
//! A recipe may extend another one. What was typed is in [`text`], the files of a chain are read in `chain`, one recipe is made of them in
//! `merge`, and what it means is decided in `check`. Reading is [`Recipe::parse`], pure; files that a recipe names are resolved in
//! [`Recipe::load`].

mod chain;
mod check;
pub mod explain;
mod merge;
pub mod text;

use crate::error::Error;
use check::Checker;
pub(crate) use check::not_in_an_image;
use explain::Explained;
use merge::{Place, Source, complaint};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use text::RecipeText;

/// A recipe is read whole; nobody writes a longer one by hand.
pub const RECIPE_BYTES_MAX: u64 = 1024 * 1024;

/// A recipe that was read and holds together. Positions are kept for what is found out later.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Suite of the base.
    pub suite: String,
    /// Kernel package.
    pub kernel: String,
    /// Every package that is named, the base's and the kernel's among them, sorted.
    pub packages: Vec<String>,
    /// Services of ours, as the recipe lists them.
    pub services: Vec<String>,
    /// Files, sorted by path; the plan lists them with their digests.
    #[serde(skip)]
    pub files: Vec<FileEntry>,
    /// Units to enable.
    pub enable: Vec<String>,
    /// Units to mask.
    pub mask: Vec<String>,
    /// Users to make.
    pub users: Vec<User>,
    /// Programs that keep their set-id bits and file capabilities, sorted; none: all keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_id: Option<Vec<String>>,
    /// Kernel arguments.
    pub kernel_args: Vec<String>,
    /// Trust directory, resolved.
    #[serde(skip)]
    pub trust: Option<PathBuf>,
    /// Channel.
    pub channel: Option<String>,
    /// Where each value stands: not a part of what the recipe says.
    #[serde(skip)]
    pub explained: Explained,
    #[serde(skip)]
    positions: BTreeMap<String, Place>,
    #[serde(skip)]
    sources: Vec<Source>,
}

/// One entry of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path in the image.
    pub path: String,
    /// What lies there.
    pub content: FileContent,
    /// Permission bits, if the recipe says.
    pub mode: Option<u32>,
    /// Owner.
    pub user: String,
    /// Group.
    pub group: String,
}

/// Where the bytes of a `files` entry come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A file or folder on this machine.
    Source(PathBuf),
    /// The text in the recipe.
    Inline(String),
    /// A symbolic link to this target.
    Link(String),
}

/// One entry of `users`.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// GECOS.
    pub comment: String,
    /// Home.
    pub home: Option<String>,
    /// Shell.
    pub shell: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
}

/// May a recipe name files outside its own folder, those that it extends among them?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideFiles {
    /// No: a recipe from somebody else must not read this machine.
    Refused,
    /// Yes, by `--allow-files-outside-the-recipe-folder`.
    AllowedByFlag,
}

impl Recipe {
    /// Reads and checks a recipe file, and those that it extends.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the position of what is wrong; [`Error::Io`] when it cannot be read.
    pub fn load(path: &Path, outside: OutsideFiles) -> Result<Recipe, Error> {
        let (sources, texts) = chain::read(path, outside)?;
        let mut recipe = Recipe::of(texts, sources)?;
        recipe.resolve(outside)?;
        Ok(recipe)
    }

    /// Reads a recipe that extends none from text; `file` is how complaints name it. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    pub fn parse(text: &str, file: &str) -> Result<Recipe, Error> {
        let sources = vec![Source { name: file.to_owned(), folder: PathBuf::from(".") }];
        let text = chain::parse(text, file)?;
        match &text.extends {
            Some(extends) => Err(complaint(
                &sources,
                Place::of(0, &extends.referenced),
                "what it extends is in another file, and this recipe was read as a text alone",
                "read it from its file",
            )),
            None => Recipe::of(vec![text], sources),
        }
    }

    fn of(texts: Vec<RecipeText>, sources: Vec<Source>) -> Result<Recipe, Error> {
        let merged = merge::merge(texts, &sources)?;
        Checker { sources: &sources }.check(merged)
    }

    /// A complaint about the thing at `key` (`packages/NAME`, `files/PATH`, …).
    pub fn complain(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        complaint(&self.sources, self.place(key), message, hint)
    }

    fn place(&self, key: &str) -> Place {
        self.positions.get(key).copied().unwrap_or(Place::BEGINNING)
    }

    /// Turns the folders' relative paths into paths of this machine, and finds what is missing.
    fn resolve(&mut self, outside: OutsideFiles) -> Result<(), Error> {
        let mut files = std::mem::take(&mut self.files);
        for entry in &mut files {
            if let FileContent::Source(source) = &mut entry.content {
                let at = self.place(&format!("files/{}/source", entry.path));
                *source = chain::inside(&self.sources, at, source, outside)?;
            }
        }
        self.files = files;
        if let Some(trust) = self.trust.take() {
            let resolved = chain::inside(&self.sources, self.place("trust"), &trust, outside)?;
            if !resolved.is_dir() {
                return Err(self.complain("trust", "trust is not a folder", "name the folder that holds roles.yml"));
            }
            self.trust = Some(resolved);
        }
        Ok(())
    }
}

/// The JSON Schema of a recipe, for editors and for `manifests/schema/recipe.json`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RecipeText).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: minimal\nversion: '1'\nbase:\n  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree]}\n";

    fn complaint(text: &str) -> (u64, u64, String, String) {
        match Recipe::parse(text, "r.yml") {
            Err(Error::Recipe { line, column, message, hint, .. }) => (line, column, message, hint),
            other => panic!("expected a complaint, got {other:?}"),
        }
    }

    #[test]
    fn a_good_recipe_is_read() {
        let r = Recipe::parse(GOOD, "r.yml").unwrap();
        assert_eq!(r.packages, ["linux-image-amd64", "ostree"]);
    }

    #[test]
    fn every_complaint_names_its_place() {
        let cases = [
            ("pakages: [x]\n", 5, 1, "unknown field", "packages"),
            ("packages: nftables\n", 5, 11, "expected a list", ""),
            ("packages: [ab, ab]\n", 5, 16, "twice", "5:12"),
            ("packages: [ostree]\n", 5, 12, "twice", "4:"),
            ("packages: ['-o']\n", 5, 12, "not there to be taken away", "extends none"),
            ("services: audit\n", 5, 11, "expected a list", ""),
            ("services: [audit, audit]\n", 5, 19, "twice", "5:12"),
            ("services: [../audit]\n", 5, 12, "not the name of a service", ""),
            ("service: [audit]\n", 5, 1, "unknown field", "services"),
            ("files:\n  - {path: /etc/x}\n", 6, 12, "exactly one", ""),
            ("files:\n  - {path: /var/x, content: a}\n", 6, 12, "cannot be in an image", "tmpfiles"),
            ("files:\n  - {path: /etc/../x, content: a}\n", 6, 12, "not a path", ""),
            ("files:\n  - {path: /etc/x, content: a, mode: '999'}\n", 6, 38, "not a mode", ""),
            ("files:\n  - {path: /etc/x, content: a}\n  - {path: /etc/x, content: b}\n", 7, 12, "twice", "6:12"),
            ("units: {enable: [a.service], mask: [a.service]}\n", 5, 37, "twice", ""),
            ("users:\n  - {name: a, uid: 1000}\n  - {name: b, uid: 1000}\n", 7, 20, "twice", ""),
            ("users:\n  - {name: a, uid: x}\n", 6, 20, "", ""),
            ("users:\n  - {name: a}\n", 6, 12, "needs a `uid`", "1 to 60000"),
            ("name: again\n", 5, 1, "`name` stands twice", "remove one"),
            ("extends: other.yml\n", 5, 10, "in another file", ""),
            ("set_id: [usr/bin/sudo]\n", 5, 10, "not a path", "absolute"),
            ("set_id: [/usr/bin/a, /usr/bin/a]\n", 5, 22, "twice", "5:10"),
            ("set_id: [/bin/su]\n", 5, 10, "cannot be in an image", "/usr/bin"),
            ("files:\n  - {path: /usr/bin/x, content: a, mode: '4755'}\nset_id: []\n", 6, 42, "set-id bit", "name it"),
        ];
        for (extra, line, column, message, hint) in cases {
            let got = complaint(&format!("{GOOD}{extra}"));
            assert_eq!((got.0, got.1), (line, column), "{extra}: {got:?}");
            assert!(got.2.contains(message) && got.3.contains(hint), "{extra}: {got:?}");
        }
    }

    #[test]
    fn a_missing_key_and_an_empty_file_are_complaints() {
        assert!(complaint("name: x\n").2.contains("missing field"));
        let _ = complaint("");
        let _ = complaint("- a\n");
    }

    #[test]
    fn a_list_of_set_id_programs_that_is_empty_is_no_absent_one() {
        let set_id = |text: &str| Recipe::parse(&format!("{GOOD}{text}"), "r.yml").unwrap().set_id;
        assert_eq!(set_id(""), None);
        assert_eq!(set_id("set_id: []\n"), Some(vec![]));
        let both = "set_id: [/usr/bin/x, /usr/bin/a]\nfiles: [{path: /usr/bin/x, content: a, mode: '4755'}]\n";
        assert_eq!(set_id(both).unwrap(), ["/usr/bin/a", "/usr/bin/x"]);
        // A key without a value could mean either.
        for slip in ["set_id:\n", "extends:\n", "extends: ~\n"] {
            let refused = Recipe::parse(&format!("{GOOD}{slip}"), "r.yml");
            assert!(refused.is_err_and(|e| e.to_string().starts_with("r.yml:5:")), "{slip}");
        }
    }

    #[test]
    fn files_outside_need_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let recipe = inner.join("r.yml");
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: ../secret}}\n")).unwrap();
        let refused = Recipe::load(&recipe, OutsideFiles::Refused).unwrap_err();
        assert!(refused.to_string().contains("outside"), "{refused}");
        Recipe::load(&recipe, OutsideFiles::AllowedByFlag).unwrap();
        // A link inside the folder that leads out is the same thing.
        std::os::unix::fs::symlink("../secret", inner.join("link")).unwrap();
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: link}}\n")).unwrap();
        assert!(Recipe::load(&recipe, OutsideFiles::Refused).is_err());
        std::fs::write(&recipe, format!("{GOOD}files:\n  - {{path: /etc/x, source: absent}}\n")).unwrap();
        let missing = Recipe::load(&recipe, OutsideFiles::Refused).unwrap_err();
        assert!(missing.to_string().contains(":6:28: absent cannot be read"), "{missing}");
    }
}
