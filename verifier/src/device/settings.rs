//! Settings of the kernel, swap, lockdown, and what becomes of the memory of programs that die.

use super::refusal::DeviceRefusal;
use super::{Case, Found, SYSCTL, no_root};
use crate::evidence::settings::{Settings, Wanted, normal, wanted};
use crate::evidence::{Item, Unseen, kernel};

/// Where the kernel puts memory of programs that die, and what the image gives there.
const CORES: [(&str, &str); 2] = [("fs.suid_dumpable", "0"), ("kernel.core_pattern", "|/bin/false")];
/// What systemd lets its services keep.
const NO_ROOM: &str = "DefaultLimitCORE=0";
/// Lockdown, the looser of the two first.
const LOCKED: [&str; 2] = ["integrity", "confidentiality"];

fn gathered(case: &Case<'_>) -> Result<Result<Settings, DeviceRefusal>, Unseen> {
    case.evidence
        .parsed(Item::Settings, |text| serde_json::from_str::<Settings>(text).map_err(|error| error.to_string()))
}

/// Compares the settings with the image's; swap, lockdown.
pub fn judge(case: &Case<'_>) -> Found {
    let settings = match case.root {
        None => no_root("settings of the image"),
        Some(root) => match root.texts.get(SYSCTL).map(|bytes| std::str::from_utf8(bytes).map(wanted)) {
            Some(Ok(Ok(wanted))) => Found::of(gathered(case), |settings| compare(&wanted, &settings)),
            other => {
                let reason = match other {
                    None => "it is not there".to_owned(),
                    Some(Ok(Err(reason))) => reason,
                    _ => "it is not UTF-8".to_owned(),
                };
                Found::refused(DeviceRefusal::PolicyMalformed { path: SYSCTL.to_owned(), reason })
            }
        },
    };
    let swaps = Found::of(
        case.evidence.parsed(Item::Swaps, |text| {
            kernel::swaps(text).map(|swaps| swaps.into_iter().map(str::to_owned).collect::<Vec<_>>())
        }),
        |swaps| {
            let refusals = swaps.into_iter().map(|path| DeviceRefusal::SwapOn { path }).collect();
            Found { refusals, ..Found::default() }
        },
    );
    let locked =
        Found::of(case.evidence.parsed(Item::Lockdown, |text| kernel::lockdown(text).map(str::to_owned)), |found| {
            match LOCKED.contains(&found.as_str()) {
                true => Found::default(),
                false => Found::refused(DeviceRefusal::KernelNotLocked { found }),
            }
        });
    settings.and(swaps).and(locked)
}

fn compare(wanted: &[Wanted], settings: &Settings) -> Found {
    let mut found = Found::default();
    for Wanted { name, value, is_optional } in wanted {
        let is = match (settings.values.get(name), settings.unreadable.get(name)) {
            (Some(is), _) => normal(is),
            (None, Some(why)) => {
                found.unseen.push(Unseen { what: name.clone(), why: why.clone() });
                continue;
            }
            (None, None) if settings.absent.contains(name) && *is_optional => continue,
            (None, None) if settings.absent.contains(name) => "not there".to_owned(),
            (None, None) => {
                found.unseen.push(Unseen { what: name.clone(), why: "it was not gathered".to_owned() });
                continue;
            }
        };
        if is != *value {
            let (name, named) = (name.clone(), value.clone());
            found.refusals.push(DeviceRefusal::SettingDiffers { name, found: is, named });
        }
    }
    found
}

/// Is memory of programs that die written nowhere?
pub fn cores(case: &Case<'_>) -> Found {
    let kernel = Found::of(gathered(case), |settings| {
        let wanted = CORES.map(|(name, value)| Wanted { name: name.into(), value: value.into(), is_optional: false });
        let mut found = compare(&wanted, &settings);
        for refusal in &mut found.refusals {
            *refusal = DeviceRefusal::CoresKept { what: refusal.to_string() };
        }
        found
    });
    let manager = case.evidence.parsed(Item::Manager, |text| Ok::<_, String>(text.trim().to_owned()));
    kernel.and(Found::of(manager, |manager| match manager.lines().any(|line| line == NO_ROOM) {
        true => Found::default(),
        false => Found::refused(DeviceRefusal::CoresKept { what: format!("systemd does not say {NO_ROOM}") }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_what_the_image_sets_or_named() {
        let wanted = wanted("a.b = 1\n-a.c = 2\na.d = 1 2\n").unwrap();
        let settings = |values: &[(&str, &str)], absent: &[&str]| Settings {
            values: values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            absent: absent.iter().map(|name| (*name).into()).collect(),
            unreadable: [("a.u".into(), "no".into())].into(),
        };
        let told = |settings: &Settings| {
            let found = compare(&wanted, settings);
            let refusals = found.refusals.iter().map(ToString::to_string).collect::<Vec<_>>();
            (refusals, found.unseen.iter().map(|it| it.what.clone()).collect::<Vec<_>>())
        };
        let good = [("a.b", "1\n"), ("a.c", "2"), ("a.d", "1\t2")];
        assert_eq!(told(&settings(&good, &[])), (vec![], vec![]));
        assert_eq!(told(&settings(&[good[0], good[2]], &["a.c"])), (vec![], vec![]));
        assert_eq!(told(&settings(&[good[1], good[2]], &["a.b"])).0, ["a.b is not there, the image sets 1"]);
        assert_eq!(told(&settings(&[("a.b", "0"), good[1], good[2]], &[])).0, ["a.b is 0, the image sets 1"]);
        assert_eq!(told(&settings(&good[..2], &[])), (vec![], vec!["a.d".to_owned()]));
        let mut unread = settings(&good[1..], &[]);
        unread.unreadable.insert("a.b".into(), "no".into());
        assert_eq!(told(&unread), (vec![], vec!["a.b".to_owned()]));
    }
}
