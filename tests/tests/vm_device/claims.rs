//! What is promised, judged on the device by what it says of itself: met as it was released, and red where it is broken.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use secai_tests::machine::{Kept, Machine};
use secai_tests::top;
use secai_verifier::claims::Claims;
use serde_json::Value;

/// As its owner does it once: the chain's key among those that the disk brought.
const KEY: &str = "mkdir -p /etc/secure-ai/trust && secaictl audit key >/etc/secure-ai/trust/device.vkey";
/// What is judged by, as `verify-release.sh` finds it.
const JUDGE: &str = "rm -rf /run/evidence /run/trust; mkdir /run/trust
cp /sysroot/secure-ai/trust/* /etc/secure-ai/trust/* /run/trust || exit
secaictl collect --output /run/evidence >/dev/null 2>&1 || exit
verify-release claims --evidence /run/evidence --root / --trust /run/trust --format json";
/// By which every file is looked at.
const BY_RELEASE: &str = " --release /sysroot/secure-ai/release/*";
/// The break that is one of a file.
const OF_A_FILE: &str = "T1";

/// Each claim's standing, and why.
fn standings(machine: &mut Machine, judge: &str) -> BTreeMap<String, (String, String)> {
    let said = machine.root(judge);
    let judged: Value = serde_json::from_str(said.text.trim()).unwrap_or_else(|why| panic!("{why}: {}", said.text));
    let claims = judged["claims"].as_array().unwrap_or_else(|| panic!("{judged}"));
    let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    claims.iter().map(|it| (text(&it["id"]), (text(&it["standing"]), it["why"].to_string()))).collect()
}

/// As a person is told to: the script judges device, chain and claims.
pub fn are_met(machine: &mut Machine) {
    machine.root(KEY).ended(0);
    let begun = Instant::now();
    let said = machine.root("verify-release.sh").ended(0);
    let claims = said.lines().filter(|line| line.contains(" met ")).count();
    let page = Claims::parse(&fs::read(top().join("manifests/policy/claims.yml")).unwrap()).unwrap();
    assert_eq!(claims, page.claims.iter().filter(|claim| claim.waits_for.is_empty()).count(), "{said}");
    eprintln!("verify-release.sh: {claims} claims are met, in {:.0} s\n{said}", begun.elapsed().as_secs_f64());
    // Without the keys nobody vouches for anything, and that is said.
    machine.root("mkdir /run/none; verify-release.sh --trust /run/none").ended(2);
}

/// Each break of `tests/plant` turns red what it says, and nothing else.
pub fn turn_red(machine: &mut Machine, booted: &Kept) {
    let mut plants: Vec<_> = fs::read_dir(top().join("tests/plant")).unwrap().map(|it| it.unwrap().path()).collect();
    plants.sort();
    let mut surprises = Vec::new();
    machine.back_to(booted);
    machine.root(KEY).ended(0);
    let owned = machine.keep("owned");
    for plant in plants {
        machine.back_to(&owned);
        let begun = Instant::now();
        let name = plant.file_name().unwrap().to_string_lossy().into_owned();
        let done = machine.root(&fs::read_to_string(plant.join("plant.sh")).unwrap());
        let expected = fs::read_to_string(plant.join("expect")).unwrap();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        let judge = if name == OF_A_FILE { format!("{JUDGE}{BY_RELEASE}") } else { JUDGE.to_owned() };
        let now = standings(machine, &judge);
        let red: Vec<&str> = now.iter().filter(|(_, it)| it.0 == "not met").map(|(id, _)| id.as_str()).collect();
        eprintln!("planted {name}: {} are red, {:.0} s", red.join(" "), begun.elapsed().as_secs_f64());
        if red != expected || done.code != 0 {
            let why: Vec<String> = red.iter().map(|id| format!("{id}: {}", now[*id].1)).collect();
            surprises.push(format!("{name} ({}): {expected:?} were expected, {why:#?}\n{}", done.code, done.text));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
