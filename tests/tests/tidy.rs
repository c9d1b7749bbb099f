//! The house rules that a machine can check, over the files that git knows.
//!
//! Each rule is a pure function from files (or crates) to findings, and has a test that plants
//! a violation: a rule that cannot fail is no rule. To add one: write the function, plant, list it
//! in `the_tree_is_tidy`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use secai_tests::top;

/// A file of the repository: its path from the top with `/`, and its bytes.
struct File {
    path: String,
    bytes: Vec<u8>,
}

impl File {
    /// Text and line number of each line; nothing for a file that is not text.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn has_extension(&self, extension: &str) -> bool {
        self.path.ends_with(&format!(".{extension}"))
    }
}

/// What is wrong, and where: `path:line: what`.
type Findings = Vec<String>;

type Rule = fn(&[File]) -> Findings;

#[test]
fn the_tree_is_tidy() {
    let files = tracked();
    let rules: [(&str, Rule); 10] = [
        ("every module opens with its purpose", without_purpose),
        ("no name that says nothing", empty_names),
        ("the code map is the tree", code_map),
        ("a source fits in a head", too_long),
        ("no large file", too_big),
        ("no private key", private_keys),
        ("no path of somebody's machine", machine_paths),
        ("no host of a registry or mirror", hosts),
        ("every link leads somewhere, every page of the spec is linked", links),
        ("nothing unfinished", unfinished),
    ];
    let mut findings = Vec::new();
    for (rule, find) in rules {
        findings.extend(find(&files).into_iter().map(|found| format!("{rule}: {found}")));
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn crates_depend_along_the_arrows() {
    let findings = arrows(&crates());
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// What git tracks, and what it would track after `git add --all`.
fn tracked() -> Vec<File> {
    let listed = Command::new("git")
        // A clone that belongs to another user (root in a container) is read all the same.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names: BTreeSet<&str> =
        std::str::from_utf8(&listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty()).collect();
    let files: Vec<File> = names
        .into_iter()
        // Deleted but not yet committed.
        .filter_map(|path| Some(File { path: path.to_owned(), bytes: fs::read(top().join(path)).ok()? }))
        .collect();
    assert!(files.len() > 20, "a repository of {} files is not ours", files.len());
    files
}

// ---- crates ----

/// A crate of the workspace by its folder, and the folders of ours that it depends on (of any kind).
struct Crate {
    folder: String,
    needs: Vec<String>,
}

/// Who may depend on whom, by folder; `services/*` is every folder there without a row of its own.
/// Whatever can be checked afterwards is defined in `verifier`; whoever produces it depends on it.
const ARROWS: &[(&str, &[&str])] = &[
    ("verifier", &[]),
    ("builder", &["verifier"]),
    ("ci", &[]),
    ("services/api", &["verifier"]),
    ("services/daemon", &["services/api"]),
    ("services/pii", &[]),
    ("services/*", &["services/daemon", "services/api", "services/pii", "verifier"]),
];

/// Looks at everything from outside.
const OBSERVER: &str = "tests";

fn arrows(crates: &[Crate]) -> Findings {
    let mut findings = Vec::new();
    for Crate { folder, needs } in crates.iter().filter(|one| one.folder != OBSERVER) {
        let row = |name: &str| ARROWS.iter().find(|(from, _)| *from == name);
        let general = folder.starts_with("services/").then_some("services/*");
        let Some((_, allowed)) = row(folder).or_else(|| row(general?)) else {
            findings.push(format!("{folder}: no row in ARROWS says what it may depend on"));
            continue;
        };
        for need in needs.iter().filter(|need| !allowed.contains(&need.as_str())) {
            findings.push(format!("{folder} depends on {need}; allowed: {allowed:?}"));
        }
    }
    findings
}

fn crates() -> Vec<Crate> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(top())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let top = metadata["workspace_root"].as_str().unwrap();
    let below = |path: &str| Path::new(path).strip_prefix(top).unwrap().to_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| Crate {
            folder: below(package["manifest_path"].as_str().unwrap().trim_end_matches("/Cargo.toml")),
            needs: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|dependency| dependency["path"].as_str())
                .map(below)
                .collect(),
        })
        .collect()
}

#[test]
fn a_wrong_arrow_is_found() {
    let one = |folder: &str, needs: &[&str]| Crate {
        folder: folder.to_owned(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
    };
    let right = [
        one("builder", &["verifier"]),
        one("tests", &["builder", "verifier", "services/audit"]),
        one("services/audit", &["services/daemon", "services/api", "verifier"]),
        one("services/daemon", &["services/api"]),
    ];
    assert_eq!(arrows(&right), Findings::new());
    for (folder, need) in [
        ("verifier", "builder"),
        ("verifier", "services/api"),
        ("builder", "services/api"),
        ("ci", "verifier"),
        ("services/audit", "builder"),
        ("services/audit", "services/airlock"),
        ("services/api", "services/daemon"),
        ("services/daemon", "verifier"),
        ("services/pii", "verifier"),
        ("builder", "tests"),
    ] {
        assert_eq!(arrows(&[one(folder, &[need])]).len(), 1, "{folder} → {need}");
    }
    assert_eq!(arrows(&[one("shared", &[])]).len(), 1, "a crate without a row");
}

// ---- sources ----

fn without_purpose(files: &[File]) -> Findings {
    let rust = files.iter().filter(|file| file.has_extension("rs"));
    let without = rust.filter(|file| !file.bytes.starts_with(b"//! "));
    without.map(|file| format!("{}: does not begin with `//! `", file.path)).collect()
}

/// Names under which anything could be put, so that nothing is found.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

fn empty_names(files: &[File]) -> Findings {
    let says_nothing = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default();
        stem.split(['-', '_']).any(|word| EMPTY_NAMES.contains(&word))
    };
    let mut findings = Vec::new();
    for file in files {
        if file.path.split('/').any(says_nothing) {
            findings.push(format!("{}: name it after what it does", file.path));
        }
        if file.path.ends_with("Cargo.toml") {
            for (at, line) in file.lines().filter(|(_, line)| line.starts_with("name = ")) {
                if says_nothing(line.trim_start_matches("name = ").trim_matches('"')) {
                    findings.push(format!("{}:{at}: {line}", file.path));
                }
            }
        }
        if file.has_extension("rs") {
            for (at, line) in file.lines() {
                let declared = line.trim_start().trim_start_matches("pub ").strip_prefix("mod ");
                if declared.is_some_and(|rest| says_nothing(rest.trim_end_matches([';', '{', ' ']))) {
                    findings.push(format!("{}:{at}: {line}", file.path));
                }
            }
        }
    }
    findings
}

/// Longer sources are more than one thing.
const SOURCE_LINES_MAX: usize = 800;

fn too_long(files: &[File]) -> Findings {
    let sources = files.iter().filter(|file| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        ["rs", "sh", "md", "tera"].iter().any(|it| file.has_extension(it)) || !name.contains('.')
    });
    sources
        .map(|file| (file, file.lines().count()))
        .filter(|(_, lines)| *lines > SOURCE_LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines, at most {SOURCE_LINES_MAX}", file.path))
        .collect()
}

/// Words that a change may carry while it is written, never when it lands. Spelt in pieces, so as not to find this.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
    concat!("FIX", "ME"),
];

fn unfinished(files: &[File]) -> Findings {
    occurrences(files.iter().filter(|file| file.has_extension("rs")), UNFINISHED)
}

#[test]
fn an_untidy_source_is_found() {
    plant(without_purpose, "builder/src/a.rs", "use std::fs;\n");
    plant(without_purpose, "builder/src/a.rs", "// Not a module's comment.\n");
    accept(without_purpose, "builder/src/a.rs", "//! Reads a.\n");

    plant(empty_names, "builder/src/utils.rs", "//! All sorts.\n");
    plant(empty_names, "tests/tests/common/mod.rs", "//! All sorts.\n");
    plant(empty_names, "builder/src/stage_manager.rs", "//! Stages.\n");
    plant(empty_names, "builder/src/a.rs", "//! A.\n    pub mod helpers {\n");
    plant(empty_names, "services/x/Cargo.toml", "[package]\nname = \"secai-common\"\n");
    accept(empty_names, "builder/src/commit.rs", "//! Commits, not common.\nmod uncommon;\n");

    plant(too_long, "builder/src/a.rs", &"//! A.\n".repeat(SOURCE_LINES_MAX + 1));
    plant(too_long, "ci/setup", &"#\n".repeat(SOURCE_LINES_MAX + 1));
    accept(too_long, "builder/src/a.rs", &"//! A.\n".repeat(SOURCE_LINES_MAX));
    accept(too_long, "Cargo.lock", &"#\n".repeat(SOURCE_LINES_MAX + 1));

    for word in UNFINISHED {
        plant(unfinished, "builder/src/a.rs", &format!("//! A.\nfn a() {{ {word} }}\n"));
    }
    accept(unfinished, "builder/src/a.rs", "//! What is left to do is said in the issue.\n");
}

// ---- what must not be in a repository ----

/// What does not belong to a source tree, and what every clone has to carry for ever.
const FILE_BYTES_MAX: usize = 1 << 20;

fn too_big(files: &[File]) -> Findings {
    let big = files.iter().filter(|file| file.bytes.len() > FILE_BYTES_MAX);
    big.map(|file| format!("{}: {} bytes, at most {FILE_BYTES_MAX}", file.path, file.bytes.len())).collect()
}

fn private_keys(files: &[File]) -> Findings {
    let marks: &[&[u8]] =
        &[concat!("PRIVATE", " KEY-----").as_bytes(), concat!("PRIVATE", " KEY BLOCK-----").as_bytes()];
    let holds = |file: &&File| marks.iter().any(|mark| file.bytes.windows(mark.len()).any(|window| window == *mark));
    files.iter().filter(holds).map(|file| format!("{}: holds a private key", file.path)).collect()
}

fn machine_paths(files: &[File]) -> Findings {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.has_extension("lock")) {
        for (at, line) in file.lines() {
            let found = ["root", "work", "farm"].iter().any(|folder| {
                let path = format!("/{folder}/");
                // `sys/root/` and the like belong to a longer path that is ours.
                line.match_indices(&path).any(|(start, _)| {
                    !line[..start].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_')
                })
            });
            if found {
                findings.push(format!("{}:{at}: {}", file.path, line.trim()));
            }
        }
    }
    findings
}

/// Where packages come from is the machine's own setting: a name written down here would overrule it.
const HOSTS: &[&str] = &[
    concat!("deb.", "debian.org"),
    concat!("security.", "debian.org"),
    concat!("snapshot.", "debian.org"),
    concat!("ftp.", "debian.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("static.", "rust-lang.org"),
    concat!("docker", ".io/"),
    concat!("ghcr", ".io/"),
    concat!("quay", ".io/"),
    concat!("registry.", "npmjs.org"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
];

fn hosts(files: &[File]) -> Findings {
    occurrences(files.iter().filter(|file| !file.has_extension("lock")), HOSTS)
}

fn occurrences<'a>(files: impl Iterator<Item = &'a File>, words: &[&str]) -> Findings {
    let mut findings = Vec::new();
    for file in files {
        for (at, line) in file.lines() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{at}: {word}", file.path));
            }
        }
    }
    findings
}

#[test]
fn what_does_not_belong_here_is_found() {
    plant(too_big, "tests/fixtures/image", &" ".repeat(FILE_BYTES_MAX + 1));
    accept(too_big, "tests/fixtures/image", &" ".repeat(FILE_BYTES_MAX));

    for kind in ["", "EC ", "OPENSSH "] {
        plant(private_keys, "a.pem", &format!("-----BEGIN {kind}{} KEY-----\nMIG\n", "PRIVATE"));
    }
    plant(private_keys, "a.asc", &format!("-----BEGIN PGP {} KEY BLOCK-----\n\n", "PRIVATE"));
    accept(private_keys, "a.pub", "-----BEGIN PUBLIC KEY-----\nMFk\n");

    for folder in ["root", "work"] {
        plant(machine_paths, "README.md", &format!("cd /{folder}/main\n"));
        plant(machine_paths, "ci/x", &format!("\"/{folder}/x\"\n"));
        accept(machine_paths, "README.md", &format!("out/{folder}/main, /sys{folder}/x, /{folder}\n"));
    }

    for host in HOSTS {
        plant(hosts, "recipes/minimal.yml", &format!("mirror: http://{host}/x\n"));
    }
    accept(hosts, "README.md", "the mirror that apt uses; crates.io\n");
}

// ---- documents ----

/// The heading of README under which each folder of the top level has one bullet, "- `folder/` …".
const CODE_MAP: &str = "## Code map";

fn code_map(files: &[File]) -> Findings {
    let Some(readme) = files.iter().find(|file| file.path == "README.md") else {
        return vec!["README.md: missing".to_owned()];
    };
    let section = readme.lines().skip_while(|(_, line)| *line != CODE_MAP).skip(1);
    let section = section.take_while(|(_, line)| !line.starts_with("## "));
    let mut named = BTreeMap::new();
    let mut findings = Vec::new();
    for (at, line) in section {
        let Some((folder, _)) = line.strip_prefix("- `").and_then(|rest| rest.split_once("/`")) else {
            continue;
        };
        if named.insert(folder, at).is_some() {
            findings.push(format!("README.md:{at}: {folder}/ is there twice"));
        }
    }
    let folders = files.iter().filter_map(|file| file.path.split_once('/')).map(|(folder, _)| folder);
    let folders: BTreeSet<&str> = folders.filter(|folder| !folder.starts_with('.')).collect();
    for folder in folders.iter().filter(|folder| !named.contains_key(**folder)) {
        findings.push(format!("README.md: `{CODE_MAP}` has no bullet \"- `{folder}/`\""));
    }
    for (folder, at) in named.iter().filter(|(folder, _)| !folders.contains(**folder)) {
        findings.push(format!("README.md:{at}: there is no {folder}/"));
    }
    findings
}

/// Pages under here are the authority on a format: one that nothing leads to is not read.
const SPEC: &str = "verifier/spec/";

fn links(files: &[File]) -> Findings {
    let mut findings = Vec::new();
    let mut reached = BTreeSet::new();
    let exists = |path: &str| files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")));
    for page in files.iter().filter(|file| file.has_extension("md")) {
        for (at, line) in page.lines() {
            for (_, rest) in line.match_indices("](").map(|(start, _)| line.split_at(start + 2)) {
                let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                let target = beside(&page.path, target);
                if !exists(&target) {
                    findings.push(format!("{}:{at}: leads to {target}, which is not there", page.path));
                }
                if target != page.path {
                    reached.insert(target);
                }
            }
        }
    }
    let pages = files.iter().filter(|file| file.path.starts_with(SPEC) && file.has_extension("md"));
    findings.extend(
        pages.filter(|page| !reached.contains(&page.path)).map(|page| format!("{}: no page links to it", page.path)),
    );
    findings
}

/// What a relative link in `page` leads to, from the top.
fn beside(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[test]
fn a_document_that_is_not_the_tree_is_found() {
    let tree = |readme: &str| {
        let others = ["builder/Cargo.toml", ".ci/run", "deny.toml"].map(|path| file(path, ""));
        Vec::from_iter(others.into_iter().chain([file("README.md", readme)]))
    };
    let map = "# X\n\n- `other/` elsewhere\n\n## Code map\n\n- `builder/` builds\n\n## More\n\n- `more/` is no map\n";
    assert_eq!(code_map(&tree(map)), Findings::new());
    assert_eq!(code_map(&tree("# X\n")).len(), 1, "a folder without its bullet");
    assert_eq!(
        code_map(&tree(&map.replace("\n\n## More", "\n- `gone/` was\n\n## More"))).len(),
        1,
        "a bullet too many"
    );
    assert_eq!(code_map(&tree(&map.replace("\n\n## More", "\n- `builder/` again\n\n## More"))).len(), 1, "one twice");
    assert_eq!(code_map(&[file("builder/a", "")]).len(), 1, "no README");

    let spec = |readme: &str, page: &str| {
        links(&[file("README.md", readme), file("verifier/spec/a.md", page), file("verifier/spec/b.md", "[a](a.md)")])
    };
    assert_eq!(spec("[a](verifier/spec/a.md#x), [web](https://example.org)", "[b](./b.md)"), Findings::new());
    assert_eq!(spec("no link", "[b](b.md)"), Findings::new(), "a page may lead to it too");
    assert_eq!(spec("", "").len(), 1, "b is reached from nowhere");
    assert_eq!(spec("[gone](verifier/spec/c.md)", "[b](b.md)").len(), 1, "a dead link");
    assert_eq!(spec("", "[b](../spec/b.md) [top](../../README.md)"), Findings::new());
}

// ---- planting ----

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
}

#[track_caller]
fn plant(rule: Rule, path: &str, text: &str) {
    assert_eq!(rule(&[file(path, text)]).len(), 1, "not found, or more than once: {path}");
}

#[track_caller]
fn accept(rule: Rule, path: &str, text: &str) {
    assert_eq!(rule(&[file(path, text)]), Findings::new());
}
