//! What is promised, judged on the device by what it says of itself: met as it was released, and red where it is broken.

use std::collections::BTreeMap;
use std::fs;

use secai_tests::machine::{Kept, Machine};
use secai_tests::top;
use serde_json::Value;

/// As its owner does it once: the chain's key among those that the disk brought.
const KEY: &str = "mkdir -p /etc/secure-ai/trust && secaictl audit key >/etc/secure-ai/trust/device.vkey";
/// What is judged by, as `verify-release.sh` finds it.
const GATHER: &str = "rm -rf /run/evidence /run/trust; mkdir /run/trust
cp /sysroot/secure-ai/trust/* /etc/secure-ai/trust/* /run/trust || exit
secaictl collect --output /run/evidence >/dev/null || exit
verify-release claims --evidence /run/evidence --root / --trust /run/trust --release /sysroot/secure-ai/release/* --format json";

/// Each claim's standing.
fn standings(machine: &mut Machine) -> BTreeMap<String, (String, String)> {
    let said = machine.root(GATHER);
    let judged: Value = serde_json::from_str(said.text.trim()).unwrap_or_else(|why| panic!("{why}: {}", said.text));
    let claims = judged["claims"].as_array().unwrap_or_else(|| panic!("{judged}"));
    let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    claims.iter().map(|it| (text(&it["id"]), (text(&it["standing"]), it.to_string()))).collect()
}

pub fn are_met(machine: &mut Machine) {
    machine.root(KEY).ended(0);
    let said = machine.root("time verify-release.sh --keep /run/kept");
    eprintln!("{}: {}", said.code, said.text);
    let units = machine.root("systemctl list-units --state=active --type=timer,socket,path --plain --no-legend");
    eprintln!("{}", units.text);
    eprintln!("{:?}", standings(machine));
}

/// Each break turns what it says red, and nothing else.
pub fn turn_red(machine: &mut Machine, booted: &Kept) {
    machine.root(KEY).ended(0);
    let whole = standings(machine);
    let mut plants: Vec<_> = fs::read_dir(top().join("tests/plant")).unwrap().map(|it| it.unwrap().path()).collect();
    plants.sort();
    for plant in plants {
        machine.back_to(booted);
        machine.root(KEY).ended(0);
        let begun = std::time::Instant::now();
        let name = plant.file_name().unwrap().to_string_lossy().into_owned();
        let done = machine.root(&fs::read_to_string(plant.join("plant.sh")).unwrap());
        let expected = fs::read_to_string(plant.join("expect")).unwrap();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        let now = standings(machine);
        let red: Vec<&str> = (now.iter())
            .filter(|(id, (standing, _))| standing == "not met" && whole[*id].0 != "not met")
            .map(|(id, _)| id.as_str())
            .collect();
        eprintln!(
            "planted {name} in {:.0} s ({}): {red:?}, expected {expected:?}",
            begun.elapsed().as_secs_f64(),
            done.code
        );
        for id in red.iter().filter(|id| !expected.contains(id)).chain(expected.iter().filter(|id| !red.contains(id))) {
            eprintln!("  {id}: {:?}; {}", now[*id], done.text);
        }
    }
}
