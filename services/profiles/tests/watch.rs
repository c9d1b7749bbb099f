//! The kernel's own word, in a network of the test's own.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

mod device;

use device::{PATIENCE, in_own_network};
use secai_profiles::watch::Watch;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn done(program: &str, words: &[&str]) {
    assert!(Command::new(program).args(words).status().unwrap().success(), "{program} {words:?}");
}

fn heard(watch: &Watch) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match watch.take() {
            Some(names) => return names,
            None => assert!(Instant::now() < end, "nothing was said"),
        }
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn transactions_and_links_are_heard_and_whose_they_were() {
    if !in_own_network() {
        return;
    }
    let watch = Watch::begin().unwrap();
    assert_eq!(watch.take(), None, "nothing has happened");
    done("/usr/sbin/nft", &["list", "ruleset"]);
    done("/usr/sbin/ip", &["-brief", "link"]);
    sleep(Duration::from_millis(50));
    assert_eq!(watch.take(), None, "looking is no change");
    done("/usr/sbin/nft", &["add", "table", "inet", "x"]);
    assert_eq!(heard(&watch), ["nft"]);
    // By another name: the kernel's, not the file's.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\nvery-long-name-of-a-program");
    std::os::unix::fs::symlink("/usr/sbin/nft", &path).unwrap();
    done(path.to_str().unwrap(), &["delete", "table", "inet", "x"]);
    assert_eq!(heard(&watch), ["a\u{fffd}very-long-nam"]);
    assert_eq!(watch.take(), None);
    // A link that comes, goes up, down, away: no rules, no names.
    for words in [
        &["link", "add", "one", "type", "veth", "peer", "name", "two"][..],
        &["link", "set", "one", "up"],
        &["link", "set", "one", "down"],
        &["link", "del", "one"],
    ] {
        done("/usr/sbin/ip", words);
        assert_eq!(heard(&watch), [""; 0], "{words:?}");
    }
    // More than fits is still heard, once.
    for number in 0..400 {
        done("/usr/sbin/nft", &["add", "table", "inet", &format!("x{number}")]);
    }
    assert_eq!(heard(&watch), ["nft"]);
    assert_eq!(watch.take(), None);
}
