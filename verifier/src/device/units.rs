//! Units as systemd runs them, against those that the image has.

use super::refusal::DeviceRefusal;
use super::{Case, Found, Root, UNITS};
use crate::evidence::Item;
use crate::evidence::units::{Unit, parse};
use std::collections::BTreeMap;

/// What the names of our units begin with.
const OURS: &str = "secure-ai-";
/// Others that are started with settings of ours.
const CHANGED_BY_US: [&str; 1] = ["systemd-networkd.service"];
/// Where the image has units and their drop-ins.
const OF_THE_IMAGE: &str = "/usr/lib/systemd/system/";
/// Where systemd itself writes units at the start, from settings that are judged elsewhere.
const GENERATED: [&str; 3] =
    ["/run/systemd/generator/", "/run/systemd/generator.early/", "/run/systemd/generator.late/"];
/// Types that run something.
const RUNNING: [&str; 4] = [".service", ".socket", ".timer", ".path"];

/// Compares them.
pub fn judge(case: &Case<'_>) -> Found {
    Found::of(case.evidence.parsed(Item::Units, parse), |units| {
        let mut found = Found::default();
        for unit in units.values() {
            judge_one(unit, case.root, &mut found);
        }
        if let Some(root) = case.root {
            missing(&units, root, &mut found);
        } else {
            found = found.and(super::no_root("units of the image"));
        }
        found
    })
}

fn is_of_the_image(path: &str, root: Option<&Root>) -> bool {
    path.starts_with(OF_THE_IMAGE) && !path.contains("/../") && root.is_none_or(|root| root.file(path).is_some())
}

/// Which file makes a unit another one than the image has, if any.
pub fn changed_by<'a>(unit: &'a Unit, root: Option<&Root>) -> Option<&'a str> {
    let is_known = |path: &&str| {
        path.is_empty() || GENERATED.iter().any(|folder| path.starts_with(folder)) || is_of_the_image(path, root)
    };
    std::iter::once(&unit.fragment).chain(&unit.drop_ins).map(String::as_str).find(|path| !is_known(path))
}

fn judge_one(unit: &Unit, root: Option<&Root>, found: &mut Found) {
    let name = || unit.id.clone();
    let is_ours = unit.id.starts_with(OURS) || CHANGED_BY_US.contains(&unit.id.as_str());
    let is_of_the_image = |path: &str| is_of_the_image(path, root);
    if is_ours {
        if !unit.fragment.is_empty() && !is_of_the_image(&unit.fragment) {
            found.refusals.push(DeviceRefusal::UnitReplaced { unit: name(), path: unit.fragment.clone() });
        }
        let foreign = unit.drop_ins.iter().filter(|path| !is_of_the_image(path));
        found.refusals.extend(foreign.map(|path| DeviceRefusal::UnitChanged { unit: name(), path: path.clone() }));
        if unit.is_outdated {
            found.refusals.push(DeviceRefusal::UnitOutdated { unit: name() });
        }
        return;
    }
    if !unit.is_active() || !RUNNING.iter().any(|ending| unit.id.ends_with(ending)) {
        return;
    }
    if GENERATED.iter().any(|folder| unit.fragment.starts_with(folder)) {
        found.listed.push(format!("{} is made at the start: {}", unit.id, unit.fragment));
    } else if !is_of_the_image(&unit.fragment) {
        found.refusals.push(DeviceRefusal::UnitForeign { unit: name(), path: unit.fragment.clone() });
    } else {
        let foreign = unit.drop_ins.iter().filter(|path| !is_of_the_image(path));
        found.listed.extend(foreign.map(|path| format!("{} is changed by {path}", unit.id)));
    }
}

/// Units that the image has, templates aside: none is masked, and systemd knows each that something wants. Others it
/// may forget while they do nothing.
fn missing(units: &BTreeMap<String, Unit>, root: &Root, found: &mut Found) {
    let ours = root.files.iter().filter_map(|node| {
        let name = node.path.strip_prefix(UNITS)?.strip_prefix('/')?;
        let is_unit = RUNNING.iter().any(|ending| name.ends_with(ending)) && !name.contains(['/', '@']);
        (is_unit && name.starts_with(OURS)).then_some(name)
    });
    let is_wanted = |unit: &str| {
        let wants = |path: &str| path.rsplit('/').next() == Some(unit) && path.contains(".wants/");
        root.files.iter().any(|node| wants(&node.path))
    };
    for unit in ours {
        let state = match units.get(unit) {
            Some(unit) if unit.load == "loaded" => continue,
            Some(unit) => unit.load.clone(),
            None if is_wanted(unit) => "not known to systemd".to_owned(),
            None => continue,
        };
        found.refusals.push(DeviceRefusal::UnitGone { unit: unit.to_owned(), state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Content, Node};
    use crate::digest::Digest;

    fn told(more: &[(&str, &str)]) -> Vec<&'static str> {
        let of = |name: &str| Node {
            path: format!("{UNITS}/{name}"),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            content: Content::Regular(Digest::of(b"")),
        };
        let files = [
            "a.service",
            "secure-ai-a.service",
            "secure-ai-a.service.d/1.conf",
            "secure-ai-b@.service",
            "secure-ai-forgotten.service",
            "secure-ai-wanted.service",
            "x.target.wants/secure-ai-wanted.service",
        ]
        .map(of);
        let root = Root { files: files.to_vec(), ..Root::default() };
        let unit = |id: &str, fragment: &str| Unit {
            id: id.into(),
            active: "active".into(),
            load: "loaded".into(),
            file_state: "static".into(),
            fragment: fragment.into(),
            drop_ins: vec![],
            is_outdated: false,
        };
        let mut units = BTreeMap::from(
            ["a.service", "secure-ai-a.service", "secure-ai-wanted.service"]
                .map(|id| (id.to_owned(), unit(id, &format!("{UNITS}/{id}")))),
        );
        for (id, change) in more {
            let unit = units.entry((*id).to_owned()).or_insert_with(|| unit(id, ""));
            match change.split_once('=') {
                Some(("fragment", path)) => unit.fragment = path.into(),
                Some(("drop-in", path)) => unit.drop_ins.push(path.into()),
                Some(("load", "")) => drop(units.remove(*id)),
                Some(("load", state)) => unit.load = state.into(),
                _ => unit.is_outdated = true,
            }
        }
        let mut found = Found::default();
        units.values().for_each(|unit| judge_one(unit, Some(&root), &mut found));
        missing(&units, &root, &mut found);
        found.refusals.iter().map(DeviceRefusal::name).collect()
    }

    #[test]
    fn what_runs_is_what_the_image_has() {
        assert_eq!(told(&[]), [""; 0]);
        let ours = "secure-ai-a.service";
        assert_eq!(told(&[(ours, "drop-in=/usr/lib/systemd/system/secure-ai-a.service.d/1.conf")]), [""; 0]);
        for (unit, change, name) in [
            (ours, "fragment=/etc/systemd/system/secure-ai-a.service", "UnitReplaced"),
            (ours, "fragment=/usr/lib/systemd/system/../../../../etc/x.service", "UnitReplaced"),
            (ours, "drop-in=/etc/systemd/system/secure-ai-a.service.d/1.conf", "UnitChanged"),
            (ours, "drop-in=/usr/lib/systemd/system/secure-ai-a.service.d/2.conf", "UnitChanged"),
            (ours, "drop-in=/run/systemd/system.control/secure-ai-a.service.d/50.conf", "UnitChanged"),
            (ours, "outdated", "UnitOutdated"),
            (ours, "load=masked", "UnitGone"),
            ("secure-ai-wanted.service", "load=", "UnitGone"),
            ("secure-ai-forgotten.service", "load=masked", "UnitGone"),
            ("systemd-networkd.service", "drop-in=/etc/x.conf", "UnitChanged"),
            ("mine.service", "fragment=/etc/systemd/system/mine.service", "UnitForeign"),
            ("mine.timer", "fragment=/run/systemd/transient/mine.timer", "UnitForeign"),
            ("mine.service", "fragment=", "UnitForeign"),
        ] {
            assert_eq!(told(&[(unit, change)]), [name], "{unit} {change}");
        }
        assert_eq!(told(&[("x.service", "fragment=/run/systemd/generator/x.service")]), [""; 0]);
        assert_eq!(told(&[("session-1.scope", "fragment=/run/systemd/transient/session-1.scope")]), [""; 0]);
    }
}
