//! The page of claims stands for everything that people are told, links to the page of threats, and names tests that
//! there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use secai_tests::top;
use secai_verifier::claims::Claims;

/// Everything that people are told, a sentence each, in our words. Who changes the promise changes it here too.
const PROMISED: [&str; 33] = [
    // In general.
    "No telemetry is collected.",
    "No data leaves the device unless its user enabled that.",
    // By category.
    "No analytics of usage are collected.",
    "No report of a crash is sent anywhere.",
    "Nothing phones home.",
    "There is no heartbeat.",
    "The device looks for updates on a schedule; no server pushes them.",
    "Requests for names are blocked by default, by nftables.",
    "The check for leaks of names runs on the device.",
    "Data of models is never sent.",
    "Inference runs on local hardware alone.",
    "Prompts and answers are never logged by anybody outside.",
    "A log of them on the device is optional.",
    // Profiles.
    "The profile in force controls access to the network.",
    "offline_private is the default; everything that would leave is blocked, without exception.",
    "research is web search through Tor alone, by way of the search mediator.",
    "Personal data is stripped from searches.",
    "Searches have differential privacy, by decoy queries.",
    "full_lab lets filtered connections out through the airlock.",
    "Every connection of full_lab is logged in the local audit chain.",
    "A switch of the profile needs a user's explicit confirmation.",
    "What a switch means for privacy is shown before it is applied.",
    // The audit chain.
    "Everything that concerns the network is recorded in the audit chain.",
    "Changes of the profile are recorded, with who made them and when.",
    "Connections of the airlock are recorded, with destination, sanitisation and size.",
    "Searches are recorded, stripped of personal data, with counts of decoys.",
    "Changes of services' states are recorded, with which started and which stopped.",
    "The audit chain is linked by hashes; tampering shows in verify-release.sh or the dashboard.",
    // To look oneself.
    "nft lists a chain `output` that denies by default.",
    "ss shows which connections are active beside those of 127.0.0.1.",
    "journalctl shows what the timed check for leaks of names found.",
    // Where it ends.
    "The policy covers the image and the services in it.",
    "Models of others are confined while they run, and not vouched for.",
];
/// Likewise.
const ENDS: [&str; 2] = ["Software that a user installs is not covered.", "What a hypervisor sends is not covered."];
/// The ids, in the order in which they are told.
const IDS: [&str; 26] = [
    "T0", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "P1", "P2", "P3", "P2a", "P2b", "P2c", "P4", "P5", "A1",
    "A2", "A3", "A4", "A5", "V1", "V2", "V3", "S1",
];

fn page() -> Claims {
    Claims::parse(&fs::read(top().join("manifests/policy/claims.yml")).unwrap()).unwrap()
}

/// What is promised and no claim stands for, or the other way round.
fn differing(page: &Claims, promised: &[&str]) -> Vec<String> {
    let claimed: BTreeSet<&str> = page.claims.iter().flat_map(|claim| &claim.promises).map(String::as_str).collect();
    let promised: BTreeSet<&str> = promised.iter().copied().collect();
    claimed.symmetric_difference(&promised).map(|it| (*it).to_owned()).collect()
}

#[test]
fn every_promise_has_its_claim_and_every_claim_a_promise() {
    let page = page();
    let mut promised = [PROMISED.as_slice(), &ENDS].concat();
    assert_eq!(differing(&page, &promised), [""; 0]);
    let ids: Vec<&str> = page.claims.iter().map(|claim| claim.id.as_str()).collect();
    assert_eq!(ids, IDS);
    // A promise more, or one less, is found.
    promised.push("Nobody is ever disappointed.");
    assert_eq!(differing(&page, &promised), ["Nobody is ever disappointed."]);
    promised.truncate(promised.len() - 2);
    assert_eq!(differing(&page, &promised), [ENDS[1]]);
}

/// `## What starts` → `what-starts`.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter_map(|line| line.strip_prefix("## "));
    titles.map(|title| title.to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn every_claim_links_to_against_whom_it_holds() {
    let threats = headings(&fs::read_to_string(top().join("verifier/spec/threats.md")).unwrap());
    for claim in page().claims {
        let heading = claim.threats.split_once('#').unwrap().1;
        assert!(threats.contains(heading), "{}: {heading} is none of {threats:?}", claim.id);
    }
    assert!(!threats.contains("what-nobody-wrote"));
}

/// Every source below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_a_claim_names_is_there() {
    let mut paths = Vec::new();
    for folder in ["builder", "services", "tests", "verifier"] {
        sources(&top().join(folder), &mut paths);
    }
    let texts: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let is_there = |name: &str| {
        let is_it = |line: &str, next: &str| line.trim() == "#[test]" && next.trim() == format!("fn {name}() {{");
        texts.iter().any(|text| {
            let lines: Vec<&str> = text.lines().collect();
            lines.windows(2).any(|pair| is_it(pair[0], pair[1]))
        })
    };
    for claim in page().claims {
        for name in &claim.in_lab {
            assert!(is_there(name), "{}: there is no test {name}", claim.id);
        }
    }
    assert!(is_there("every_test_that_a_claim_names_is_there") && !is_there("is_there"));
}

#[test]
fn every_claim_that_is_judged_has_a_break_that_turns_it_red() {
    let broken: BTreeMap<String, Vec<String>> = fs::read_dir(top().join("tests/plant"))
        .unwrap()
        .map(|it| {
            let plant = it.unwrap().path();
            let red = fs::read_to_string(plant.join("expect")).unwrap();
            assert!(plant.join("plant.sh").is_file(), "{}", plant.display());
            (
                plant.file_name().unwrap().to_str().unwrap().to_owned(),
                red.split_whitespace().map(str::to_owned).collect(),
            )
        })
        .collect();
    for claim in page().claims {
        // What can be judged already of a claim that waits has its break as well.
        let is_broken = broken.get(&claim.id).is_some_and(|red| red.contains(&claim.id));
        assert!(is_broken || !claim.waits_for.is_empty(), "{}: nothing in tests/plant turns it red", claim.id);
    }
    let ids: BTreeSet<&str> = IDS.into();
    for (plant, red) in &broken {
        assert!(
            ids.contains(plant.as_str()) && red.contains(plant),
            "{plant}: it does not break what it is named after"
        );
        assert!(red.iter().all(|id| ids.contains(id.as_str())), "{plant}: {red:?}");
    }
}
