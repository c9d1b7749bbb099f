//! What our programs say of themselves, compared with `tests/golden`; `cargo ci golden` writes it anew.
//!
//! A change of the command line is then a change of a file that a reviewer reads.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use secai_tests::{Tier, program, ran, require, top};

/// Every program, and its verbs as one types them; of these each `--help` is kept.
const COMMANDS: [(&str, &[&str]); 6] = [
    ("secai-audit", &["", "serve", "witness", "cosign"]),
    (
        "secai-build",
        &[
            "", "build", "plan", "rootfs", "commit", "image", "attest", "bundle", "disk", "boot", "keys", "keys new",
            "schema",
        ],
    ),
    ("secai-dns-leak-check", &[""]),
    ("secai-first-boot", &["", "owner", "reset", "users", "var"]),
    (
        "secaictl",
        &[
            "",
            "audit",
            "audit show",
            "audit follow",
            "audit prove",
            "audit export",
            "audit checkpoint",
            "audit cosigned",
            "audit key",
            "audit status",
            "audit note",
            "audit forget",
            "audit prune",
            "audit acknowledge",
            "collect",
            "leak-test",
            "profile",
            "profile show",
            "profile preview",
            "profile apply",
        ],
    ),
    ("verify-release", &["", "audit", "bundle", "claims", "device", "explain", "network"]),
];

/// The width in which help is kept.
const COLUMNS: &str = "100";

#[test]
fn the_command_lines_are_the_known_ones() {
    if !require(Tier::Test, &[]) {
        return;
    }
    let mut now = BTreeMap::new();
    for (name, verbs) in COMMANDS {
        for verb in verbs {
            let words: Vec<&str> = verb.split_whitespace().collect();
            let file = [&[name], words.as_slice()].concat().join("-") + ".txt";
            now.insert(file, said(name, &[words.as_slice(), &["--help"]].concat()));
        }
    }
    settle(&top().join("tests/golden/help"), &now);
}

/// The verbs that a program lists are the verbs above: a new one cannot be forgotten.
#[test]
fn every_verb_is_kept() {
    if !require(Tier::Test, &[]) {
        return;
    }
    for (name, kept) in COMMANDS {
        for verb in kept.iter().filter(|verb| ["", "audit", "keys", "profile"].contains(verb)) {
            let words: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
            let help = said(name, &words);
            let listed =
                help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
            for line in listed {
                let Some(word) =
                    line.strip_prefix("  ").filter(|l| !l.starts_with(' ')).and_then(|l| l.split(' ').next())
                else {
                    continue;
                };
                let whole = format!("{verb} {word}");
                assert!(word == "help" || kept.contains(&whole.trim()), "{name} {whole} has no golden file");
            }
        }
    }
}

#[test]
fn the_schema_of_a_recipe_is_the_published_one() {
    if !require(Tier::Test, &[]) {
        return;
    }
    let folder = top().join("manifests/schema");
    let mut now = BTreeMap::from([("recipe.json".to_owned(), said("secai-build", &["schema"]))]);
    // Written by hand, since they say more than types do; the verifier's tests compare them with its parser.
    for name in ["claims.json", "loopback.json", "profile.json"] {
        now.insert(name.to_owned(), fs::read_to_string(folder.join(name)).unwrap());
    }
    settle(&folder, &now);
}

fn said(name: &str, words: &[&str]) -> String {
    let mut command = Command::new(program(name));
    // Neither the width of the terminal nor what the caller has set may show.
    command.args(words).env_clear().env("COLUMNS", COLUMNS).env("TERM", "xterm-256color");
    let ran = ran(&mut command).good();
    assert!(ran.err.is_empty() && !ran.out.contains('\x1b'), "{ran}");
    ran.out
}

/// Compares with the folder, or fills it under `cargo ci golden`.
fn settle(folder: &Path, now: &BTreeMap<String, String>) {
    let files = || fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    if env::var("SECAI_GOLDEN").as_deref() == Ok("write") {
        fs::create_dir_all(folder).unwrap();
        for path in files().filter(|path| !now.contains_key(&name(path))) {
            fs::remove_file(path).unwrap();
        }
        for (name, text) in now {
            fs::write(folder.join(name), text).unwrap();
        }
        return;
    }
    for (name, text) in now {
        let kept = fs::read_to_string(folder.join(name)).unwrap_or_default();
        let first = kept.lines().zip(text.lines()).position(|(a, b)| a != b);
        assert!(
            kept == *text,
            "{}/{name} is not what the program prints now (first difference: line {:?}); `cargo ci golden` writes it anew\n-- kept\n{kept}\n-- now\n{text}",
            folder.display(),
            first.map(|at| at + 1),
        );
    }
    let stale: Vec<_> = files().map(|path| name(&path)).filter(|name| !now.contains_key(name)).collect();
    assert!(stale.is_empty(), "no program prints these any more: {stale:?}; `cargo ci golden` removes them");
}
