//! The rules of each profile, as an image ships them: composed from its page, proven against it, in the form in which
//! a device lists them.
//!
//! What is proven is nft's text as it would be loaded, with a mark and a link, read back by the verifier's own parser.
//! What is shipped has neither: it is the normal form, the same on every device.

use crate::error::Error;
use secai_verifier::network::compose::ruleset;
use secai_verifier::network::links::Links;
use secai_verifier::network::normal::normal;
use secai_verifier::network::parse::parse;
use secai_verifier::network::profile::{Loopback, Profile, Profiles};
use secai_verifier::network::prove::prove;
use std::collections::BTreeMap;

/// The mark of what is shipped, which none of a device is.
const NO_EPOCH: u32 = 0;
/// The link of what is shipped.
const NO_LINK: &str = "LINK";
/// A mark and a link as a device has them. Rules are the same text with every other.
const EPOCH: u32 = 0x5eca_1d01;
const LINK: &str = "eth0";

/// The text for each profile, by its name: `/usr/lib/secure-ai/firewall/NAME.nft`.
///
/// # Errors
/// [`Error::ProfileNotProven`].
pub fn render(profiles: &Profiles, loopback: &Loopback) -> Result<BTreeMap<String, String>, Error> {
    profiles.iter().map(|profile| Ok((profile.name.clone(), of(profile, loopback)?))).collect()
}

fn of(profile: &Profile, loopback: &Loopback) -> Result<String, Error> {
    let shipped = normal(&ruleset(profile, loopback, NO_EPOCH, [NO_LINK])).to_string();
    let loaded = ruleset(profile, loopback, EPOCH, [LINK]).to_string();
    proven(profile, loopback, &loaded, &shipped)?;
    Ok(shipped)
}

/// Proves what would be loaded, and that it is what is shipped.
fn proven(profile: &Profile, loopback: &Loopback, loaded: &str, shipped: &str) -> Result<(), Error> {
    let fail = |refusals: String| Error::ProfileNotProven { profile: profile.name.clone(), refusals };
    let read = parse(loaded.as_bytes()).map_err(|e| fail(format!("RulesetForeign: {e}")))?;
    let links = Links(BTreeMap::from([(LINK.to_owned(), true)]));
    prove(&read, &links, profile, loopback).map_err(|refusals| {
        fail(refusals.iter().map(|it| format!("{}: {it}", it.name())).collect::<Vec<_>>().join("\n  "))
    })?;
    match normal(&read).to_string() == shipped {
        true => Ok(()),
        false => Err(fail("what is shipped is not the normal form of what was proven".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn policy() -> (Profiles, Loopback) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/policy");
        let pages = std::fs::read_dir(folder.join("profiles")).unwrap();
        let pages = pages.map(|page| Profile::parse(&std::fs::read(page.unwrap().path()).unwrap()).unwrap());
        let loopback = Loopback::parse(&std::fs::read(folder.join("loopback.yml")).unwrap()).unwrap();
        (Profiles::new(pages.collect()).unwrap(), loopback)
    }

    #[test]
    fn what_is_shipped_is_what_is_composed_with_mark_and_link_masked() {
        let (profiles, loopback) = policy();
        let rendered = render(&profiles, &loopback).unwrap();
        assert_eq!(rendered.len(), profiles.iter().count());
        for profile in profiles.iter() {
            let text = &rendered[&profile.name];
            let composed = ruleset(profile, &loopback, NO_EPOCH, [NO_LINK]);
            assert_eq!(*text, normal(&composed).to_string(), "{}", profile.name);
            assert_eq!(normal(&parse(text.as_bytes()).unwrap()), normal(&composed), "{}", profile.name);
            assert_eq!(text.matches("device \"LINK\"").count(), 1, "{text}");
            assert_eq!(text.contains("0x00000000"), !profile.leaves.is_empty(), "{text}");
        }
    }

    #[test]
    fn rules_that_are_not_proven_are_named() {
        let (profiles, loopback) = policy();
        let [closed, open] = ["offline_private", "research"].map(|name| profiles.get(name).unwrap());
        let loaded = |profile| ruleset(profile, &loopback, EPOCH, [LINK]).to_string();
        let shipped = of(closed, &loopback).unwrap();
        proven(closed, &loopback, &loaded(closed), &shipped).unwrap();
        for (text, shipped, reason) in [
            // The rules of another profile.
            (loaded(open), &shipped, "Leaks"),
            (loaded(closed).replace("policy drop", "policy accept"), &shipped, "RulesetUnclear"),
            (loaded(closed).replace("policy drop", "policy perhaps"), &shipped, "RulesetForeign"),
            (loaded(closed), &of(open, &loopback).unwrap(), "not the normal form"),
        ] {
            let error = proven(closed, &loopback, &text, shipped).unwrap_err();
            assert!(
                matches!(&error, Error::ProfileNotProven { profile, .. } if profile == "offline_private"),
                "{error}"
            );
            assert!(error.to_string().contains(reason), "{reason}: {error}");
        }
    }
}
