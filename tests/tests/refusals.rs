//! Every refusal has a folder in `fixtures/refusals`: `change.yml` says what to do to a tiny bundle (the language is
//! that of `secai_tests::tiny::change`), `expect` which refusal is then told first. So no name exists that nothing
//! ever meets, and who wonders what one means finds how to come by it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use secai_tests::tiny::{self, Change, Maker, apply, judge};
use secai_tests::top;
use secai_verifier::refusal::Refusal;

/// Change and expectation of every folder.
fn fixtures() -> BTreeMap<String, (Change, String)> {
    let folder: PathBuf = top().join("tests/fixtures/refusals");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<_> = fs::read_dir(&path).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["change.yml", "expect"], "{name}");
        let text = fs::read_to_string(path.join("change.yml")).unwrap();
        let change = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}/change.yml: {error}"));
        let expect = fs::read_to_string(path.join("expect")).unwrap().trim_end().to_owned();
        found.insert(name, (change, expect));
    }
    found
}

/// `SbomOmitsFile` → `sbom-omits-file`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[test]
fn every_refusal_has_its_folder_and_every_folder_a_refusal() {
    let named: Vec<(String, &str)> = Refusal::ALL.iter().map(|name| (kebab(name), *name)).collect();
    let mut named: Vec<_> = named.iter().map(|(folder, name)| (folder.as_str(), *name)).collect();
    named.sort_unstable();
    let fixtures = fixtures();
    let found: Vec<_> = fixtures.iter().map(|(folder, (_, expect))| (folder.as_str(), expect.as_str())).collect();
    assert_eq!(found, named);
}

#[test]
fn every_change_yields_its_refusal() {
    if !tiny::require_maker("every_change_yields_its_refusal") {
        return;
    }
    let maker = Maker::new();
    let mut faults = Vec::new();
    for (folder, (change, expect)) in fixtures() {
        let answer = judge(&maker, &apply(&maker, &change.steps, change.seal));
        println!("{folder}: {answer}");
        if answer.first() != Some(expect.as_str()) {
            faults.push(format!("{folder}: {answer}"));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
