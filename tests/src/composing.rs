//! Builds of a test's own: other outputs and caches than everybody's, the same keys and packages.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Ran, Scratch, as_root, program, ran, top};

/// A folder with a recipe, and room for outputs and a cache.
#[derive(Debug)]
pub struct Composing {
    /// `recipe.yml`, `out/` and `cache/` lie in it.
    pub scratch: Scratch,
    /// Which of our recipes it is made from: the name of its output folder.
    recipe: &'static str,
}

/// What of the person's cache a test begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Nothing.
    Nothing,
    /// The index and the packages: what a network was needed for.
    Packages,
    /// All that the composed release was made with.
    Everything,
}

impl Composing {
    /// In `parent` (`env!("CARGO_TARGET_TMPDIR")`), with the recipe of the composed release.
    ///
    /// # Panics
    /// When the folder cannot be filled.
    pub fn new(parent: &str, name: &str, cached: Cached) -> Self {
        Self::of("minimal", parent, name, cached)
    }

    /// The same with `recipes/secai.yml`, built with the pack of the composed device. Only after [`crate::Need::Device`].
    ///
    /// # Panics
    /// When the folder cannot be filled.
    pub fn device(parent: &str, name: &str) -> Self {
        Self::of("secai", parent, name, Cached::Everything)
    }

    fn of(recipe: &'static str, parent: &str, name: &str, cached: Cached) -> Self {
        let scratch = Scratch::new(parent, name);
        fs::copy(top().join(format!("recipes/{recipe}.yml")), scratch.join("recipe.yml")).unwrap();
        // What another one may extend.
        fs::copy(top().join("recipes/minimal.yml"), scratch.join("minimal.yml")).unwrap();
        let cache = scratch.join("cache/secai");
        // Linked where they are named by their content and replaced whole; apt writes into its own.
        let script = r#"mkdir -p "$2"; cd "$1"; shift; to=$1; shift
for part; do
  [ -d "$part" ] || continue
  case $part in apt) cp -a "$part" "$to" ;; *) cp -al "$part" "$to" 2>/dev/null || cp -a "$part" "$to" ;; esac
done"#;
        let parts: &[&str] = match cached {
            Cached::Nothing => &[],
            Cached::Packages => &["apt", "debs"],
            Cached::Everything => &["apt", "debs", "base", "initramfs", "contents", "layers"],
        };
        let mut fill = as_root("sh");
        fill.args(["-euc", script, "sh"]).arg(users_cache()).arg(&cache).args(parts);
        ran(&mut fill).good();
        Self { scratch, recipe }
    }

    /// Adds lines below keys of the recipe that are there once: `("files:\n", "  - …\n")`; and writes it.
    ///
    /// # Panics
    /// Where a key is not.
    pub fn add(&self, more: &[(&str, String)]) {
        let path = self.scratch.join("recipe.yml");
        let text = fs::read_to_string(&path).unwrap();
        let text = more.iter().fold(text, |text, (key, lines)| {
            assert_eq!(text.matches(key).count(), 1, "{key}");
            text.replace(key, &format!("{key}{lines}"))
        });
        fs::write(path, text).unwrap();
    }

    /// The output folder of the recipe.
    pub fn out(&self) -> PathBuf {
        self.scratch.join("out").join(self.recipe)
    }

    /// What stands in the output folder of the recipe, but for the builder's own notes.
    pub fn outputs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    /// `secai-build build recipe.yml --out out` in this folder, as root, with the person's keys; more may be added.
    pub fn build(&self) -> Command {
        let mut command = as_root("env");
        command.args(self.words("build")).current_dir(self.scratch.path());
        command
    }

    /// What `env` is given for it, or for a verb that stops earlier: to be run by what is root already.
    pub fn words(&self, verb: &str) -> Vec<String> {
        let program = program("secai-build").to_string_lossy().into_owned();
        let mut words = self.surroundings();
        words.push(program);
        words.extend([verb, "recipe.yml", "--out", "out"].map(str::to_owned));
        if self.recipe == "secai" {
            words.extend(["--pack".to_owned(), crate::pack().to_string_lossy().into_owned()]);
        }
        words
    }

    /// `NAME=VALUE` for everything of the caller that a build reads.
    pub fn surroundings(&self) -> Vec<String> {
        let names = ["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "SOURCE_DATE_EPOCH", "SECAI_MIRROR"];
        let mut pairs: Vec<_> =
            names.into_iter().filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?))).collect();
        pairs.push(format!("XDG_CACHE_HOME={}", self.scratch.join("cache").display()));
        pairs
    }

    /// Runs [`Self::build`] to its good end; what it reports.
    ///
    /// # Panics
    /// When it fails.
    pub fn built(&self) -> Value {
        report(&ran(self.build().arg("--json")).good())
    }

    /// Processes whose root, working folder or arguments lie in this folder.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn processes(&self) -> Vec<String> {
        let script = r#"for p in /proc/[0-9]*; do
  printf '%s\t%s\t%s\t%s\n' "${p#/proc/}" "$(readlink "$p/root")" "$(readlink "$p/cwd")" "$(tr '\0\n' '  ' <"$p/cmdline")"
done 2>/dev/null"#;
        let here = self.scratch.path().to_string_lossy().into_owned();
        let listed = ran(as_root("sh").args(["-c", script])).out;
        listed.lines().filter(|line| line.contains(&here)).map(str::to_owned).collect()
    }
}

/// The report of `--json`.
///
/// # Panics
/// When it is no JSON.
pub fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|why| panic!("{why}: {ran}"))
}

/// The folder that holds what the composed release was made with.
pub fn users_cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|it| Path::new(it).is_absolute()).map(PathBuf::from);
    cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache")).join("secai")
}
