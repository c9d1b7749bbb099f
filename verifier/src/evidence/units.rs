//! Units, as `systemctl show` prints them: a block of `Key=Value` for each, a blank line between.

use std::collections::BTreeMap;

/// What is asked for of each.
pub const PROPERTIES: [&str; 8] =
    ["ActiveState", "DropInPaths", "FragmentPath", "Id", "LoadState", "NeedDaemonReload", "SubState", "UnitFileState"];
/// More units than systemd has on any device of ours.
const UNITS_MAX: usize = 20_000;

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub id: String,
    /// `active`, `inactive`, …
    pub active: String,
    /// `loaded`, `masked`, …
    pub load: String,
    /// `enabled`, `static`, …; empty for what has no file.
    pub file_state: String,
    /// The file it was read from; empty for none.
    pub fragment: String,
    /// What changes it.
    pub drop_ins: Vec<String>,
    /// Do its files say something else by now?
    pub is_outdated: bool,
}

impl Unit {
    /// Is it active, or on the way there?
    pub fn is_active(&self) -> bool {
        ["active", "activating", "reloading", "refreshing"].contains(&self.active.as_str())
    }
}

/// Reads the units, by name.
///
/// # Errors
/// A sentence about the first block that is none.
pub fn parse(text: &str) -> Result<BTreeMap<String, Unit>, String> {
    let mut units = BTreeMap::new();
    for (at, block) in text.split("\n\n").map(|block| block.trim_matches('\n')).enumerate() {
        if block.is_empty() {
            continue;
        }
        if units.len() == UNITS_MAX {
            return Err(format!("it lists more than {UNITS_MAX} units"));
        }
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        for line in block.lines() {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("`{line}` of block {at} is no property"))?;
            let key = PROPERTIES.into_iter().find(|known| *known == key);
            let key = key.ok_or_else(|| format!("`{line}` of block {at} was not asked for"))?;
            if values.insert(key, value).is_some() {
                return Err(format!("block {at} has {key} twice"));
            }
        }
        let of = |key| values.get(key).map(|it| (*it).to_owned()).ok_or_else(|| format!("block {at} has no {key}"));
        let unit = Unit {
            id: of("Id")?,
            active: of("ActiveState")?,
            load: of("LoadState")?,
            // Units without a file have neither.
            file_state: of("UnitFileState").unwrap_or_default(),
            fragment: of("FragmentPath").unwrap_or_default(),
            drop_ins: of("DropInPaths").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            is_outdated: of("NeedDaemonReload")? == "yes",
        };
        if unit.id.is_empty() || units.insert(unit.id.clone(), unit).is_some() {
            return Err(format!("block {at} has no name, or that of another"));
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
        FragmentPath=/usr/lib/systemd/system/a.service\n\
        DropInPaths=/usr/lib/systemd/system/a.service.d/1.conf /run/systemd/system/a.service.d/2.conf\nUnitFileState=static\n\
        NeedDaemonReload=no\n\nId=-.mount\nLoadState=loaded\nActiveState=active\nSubState=mounted\nNeedDaemonReload=yes\n";

    #[test]
    fn blocks_are_units() {
        let units = parse(TEXT).unwrap();
        assert_eq!(units.len(), 2);
        let a = &units["a.service"];
        assert_eq!((a.drop_ins.len(), a.is_active(), a.is_outdated), (2, true, false));
        let mount = &units["-.mount"];
        assert_eq!((mount.fragment.as_str(), mount.is_outdated), ("", true));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_block_of_a_unit_is_an_error() {
        for (from, to, said) in [
            ("Id=a.service\n", "", "no Id"),
            ("Id=-.mount", "Id=a.service", "that of another"),
            ("ActiveState=active\n", "", "no ActiveState"),
            ("SubState=running", "SubState", "no property"),
            ("SubState=running", "ExecStart=x", "was not asked for"),
            ("SubState=running", "Id=b", "Id twice"),
            ("NeedDaemonReload=no\n", "", "no NeedDaemonReload"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            assert_ne!(text, TEXT);
            let error = parse(&text).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
