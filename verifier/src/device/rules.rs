//! The rules that are loaded, against the profile in force; the rules that the image ships, against their pages.

use super::refusal::DeviceRefusal;
use super::{Case, Found, POLICY, RULESETS, Root, no_root};
use crate::evidence::Item;
use crate::network::bind;
use crate::network::links::Links;
use crate::network::normal::{digest, normal};
use crate::network::parse;
use crate::network::profile::{Loopback, Profile, Profiles};
use crate::network::prove::prove;

/// Proves the live rules.
pub fn judge(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("the policy") };
    let name = case.evidence.parsed(Item::Profile, |text| Ok::<_, String>(text.trim_end_matches('\n').to_owned()));
    Found::of(name, |name| match pages(root) {
        Err(refusal) => Found::refused(refusal),
        Ok((profiles, loopback)) => match profiles.iter().find(|it| it.name == name) {
            None => Found::refused(crate::evidence::malformed(Item::Profile, "the image has no profile of this name")),
            Some(profile) => live(case, profile, &loopback),
        },
    })
}

/// The profile in force, where the evidence and the image agree that there is one.
pub fn in_force(case: &Case<'_>) -> Option<Profile> {
    let name = case.evidence.text(Item::Profile).ok()?.ok()?.trim_end_matches('\n');
    pages(case.root?).ok()?.0.into_iter().find(|it| it.name == name)
}

fn live(case: &Case<'_>, profile: &Profile, loopback: &Loopback) -> Found {
    let refused = |name: &str, detail: String| DeviceRefusal::RulesRefused { name: name.to_owned(), detail };
    let ruleset = case
        .evidence
        .bytes(Item::Ruleset)
        .map(|bytes| parse::parse(bytes).map_err(|error| refused("RulesetForeign", error.to_string())));
    let links = case
        .evidence
        .bytes(Item::Links)
        .map(|bytes| Links::parse(bytes).map_err(|error| refused("LinksMalformed", error.to_string())));
    Found::of(ruleset, |ruleset| {
        Found::of(links, |links| match prove(&ruleset, &links, profile, loopback) {
            Err(refusals) => {
                let refusals = refusals.iter().map(|it| refused(it.name(), it.to_string())).collect();
                Found { refusals, ..Found::default() }
            }
            Ok(proven) => {
                let leaves = match proven.sends.as_slice() {
                    [] => "nothing".to_owned(),
                    sends => sends.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                };
                // Links that are there and are none of the image's change only the table that no proof hangs on.
                let listed = vec![
                    format!("{} is proven, leaves: {leaves}", profile.name),
                    format!("rules {}", digest(&ruleset)),
                ];
                Found { listed, ..Found::default() }
            }
        })
    })
}

/// The profiles' pages and that of loopback, as they lie on the device.
fn pages(root: &Root) -> Result<(Vec<Profile>, Loopback), DeviceRefusal> {
    let malformed = |path: &str, reason: String| DeviceRefusal::PolicyMalformed { path: path.to_owned(), reason };
    let path = format!("{POLICY}/loopback.yml");
    let bytes = root.texts.get(&path).ok_or_else(|| malformed(&path, "it is not there".to_owned()))?;
    let loopback = Loopback::parse(bytes).map_err(|error| malformed(&path, error.to_string()))?;
    let mut profiles = Vec::new();
    for (name, bytes) in root.below(&format!("{POLICY}/profiles")) {
        let path = format!("{POLICY}/profiles/{name}");
        let profile = Profile::parse(bytes).map_err(|error| malformed(&path, error.to_string()))?;
        if name != format!("{}.yml", profile.name) {
            return Err(malformed(&path, format!("it is the page of {}", profile.name)));
        }
        profiles.push(profile);
    }
    match profiles.is_empty() {
        true => Err(malformed(&format!("{POLICY}/profiles"), "there is no page".to_owned())),
        false => Ok((profiles, loopback)),
    }
}

/// The profiles of the image, which hold together.
///
/// # Errors
/// [`DeviceRefusal::PolicyMalformed`].
pub fn profiles(root: &Root) -> Result<Profiles, DeviceRefusal> {
    let (pages, _) = pages(root)?;
    let path = format!("{POLICY}/profiles");
    Profiles::new(pages).map_err(|error| DeviceRefusal::PolicyMalformed { path, reason: error.to_string() })
}

/// Compares the rules that lie on the device with what the pages there mean.
pub fn shipped(case: &Case<'_>) -> Found {
    let Some(root) = case.root else { return no_root("shipped rules") };
    let mut found = Found { unseen: root.unseen_below(RULESETS).collect(), ..Found::default() };
    found.unseen.extend(root.unseen_below(POLICY));
    if !found.unseen.is_empty() {
        return found;
    }
    match pages(root) {
        Err(refusal) => found.refusals.push(refusal),
        Ok((profiles, loopback)) => {
            for profile in &profiles {
                let meant = bind::shipped(profile, &loopback);
                let text = root.texts.get(&format!("{RULESETS}/{}.nft", profile.name));
                let is_meant =
                    text.and_then(|text| parse::parse(text).ok()).is_some_and(|it| normal(&it) == normal(&meant));
                if !is_meant {
                    found.refusals.push(DeviceRefusal::RulesNotShipped { profile: profile.name.clone() });
                }
            }
            let names: Vec<&str> = profiles.iter().map(|it| it.name.as_str()).collect();
            found.listed.push(format!("rules of {}", names.join(", ")));
        }
    }
    found
}
