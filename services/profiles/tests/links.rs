//! Links come, go and are renamed by themselves; what somebody does to their chains is something else.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

use secai_profiles::decide::only_links_moved;
use secai_verifier::files::load_profiles;
use secai_verifier::network::bind::{bind, shipped};
use secai_verifier::network::links::Links;
use secai_verifier::network::parse::parse;
use std::path::Path;

/// With rules for these links, changed so; these links now, each up or down; and those that were known.
fn moved(
    profile: &str,
    bound: &[&str],
    change: impl Fn(String) -> String,
    now: &[(&str, bool)],
    known: &[&str],
) -> bool {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/policy");
    let (profiles, loopback) = load_profiles(&policy).unwrap();
    let page = profiles.get(profile).unwrap();
    let text = change(bind(&shipped(page, &loopback), 7, bound.iter().copied()).to_string());
    let links = Links(now.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect());
    let known = known.iter().map(|name| (*name).to_owned()).collect();
    only_links_moved(&parse(text.as_bytes()).unwrap(), &links, page, &loopback, &known)
}

#[test]
fn a_link_that_came_and_is_down_is_nobodys_doing() {
    let same = |text: String| text;
    for profile in ["offline_private", "research", "full_lab"] {
        assert!(moved(profile, &["eth0"], same, &[("eth0", true), ("eth1", false)], &["eth0"]), "{profile}");
        assert!(moved(profile, &[], same, &[("eth0", false)], &[]), "the first of all, {profile}");
        assert!(moved(profile, &["eth0", "eth1"], same, &[("eth0", true)], &["eth0", "eth1"]), "one went, {profile}");
        // Renamed, as the kernel lists it: the chain has the name of before, and the device that of now.
        let renamed = |text: String| text.replace("device \"eth0\"", "device \"enp0s1\"");
        assert!(moved(profile, &["eth0"], renamed, &[("enp0s1", false)], &["eth0"]), "{profile}");

        assert!(!moved(profile, &["eth0"], same, &[("eth0", true), ("eth1", true)], &["eth0"]), "it is up, {profile}");
        let lost = moved(profile, &["eth0"], same, &[("eth0", true), ("eth1", false)], &["eth0", "eth1"]);
        assert!(!lost, "its chain was there, {profile}");
        let exchanged = |text: String| text.replace("link_eth0", "link_eth9");
        assert!(!moved(profile, &["eth0"], exchanged, &[("eth0", false)], &["eth0"]), "another chain, {profile}");
        for (from, to) in [("policy drop", "policy accept"), ("counter name \"frames_refused\" drop", "accept")] {
            let widened = |text: String| text.replacen(from, to, 1);
            assert!(
                !moved(profile, &["eth0"], widened, &[("eth0", true), ("eth1", false)], &["eth0"]),
                "{from}, {profile}"
            );
        }
    }
}
