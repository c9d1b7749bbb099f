//! `verify-release network` as it is run.

use crate::{PROFILES, policy};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn network(ruleset: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verify-release"));
    let output = command.arg("network").arg(ruleset).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/network")
}

#[test]
fn the_answer_is_an_exit_code_and_a_sentence() {
    let (vectors, policy) = (vectors(), policy());
    let (links, policy) = (vectors.join("links.json"), policy.to_str().unwrap());
    let with = |ruleset: &Path, links: &Path, profile: &str, more: &[&str]| {
        let words = ["--links", links.to_str().unwrap(), "--profile", profile, "--policy", policy];
        network(ruleset, &[&words, more].concat())
    };
    for name in PROFILES {
        let ruleset = vectors.join(format!("nft-1.1.3/{name}.nft"));
        let ran = with(&ruleset, &links, name, &[]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        assert!(ran.out.starts_with("proven\n") && ran.out.contains("eth0, wlan0.5-a"), "{}", ran.out);
        let json: Value = serde_json::from_str(&with(&ruleset, &links, name, &["--format", "json"]).out).unwrap();
        assert_eq!((&json["verdict"], &json["links"][1]), (&"proven".into(), &"wlan0.5-a".into()));
        let digests = fs::read_to_string(vectors.join("digests")).unwrap();
        assert!(digests.contains(&format!("{}  {name}\n", json["digest"].as_str().unwrap())), "{json}");
    }

    // What it means, computed from the rules.
    let links_need = "    leaves    anybody: arp, at most 20 a second
    leaves    anybody: ipv6-icmp of type 133, 135-136, at most 20 a second
    leaves    user 953: udp, port 67, at most 6 in 60 seconds
";
    for (name, leaves) in [
        ("offline_private", "    leaves    nothing\n".to_owned()),
        (
            "research",
            format!(
                "    leaves    user 951: tcp to public addresses, every port but 25, 53, 853, 5353, 5355\n{links_need}"
            ),
        ),
        ("full_lab", format!("    leaves    user 952: tcp to public addresses, port 443\n{links_need}")),
    ] {
        let out = with(&vectors.join(format!("nft-1.0.6/{name}.nft")), &links, name, &[]).out;
        let lines: String = out.lines().filter(|it| it.contains("leaves")).map(|it| format!("{it}\n")).collect();
        assert_eq!(lines, leaves);
    }

    let research = vectors.join("nft-1.0.6/research.nft");
    let ran = with(&research, &links, "offline_private", &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    assert!(ran.out.starts_with("refused\nFlowMarked: a flow is marked"), "{}", ran.out);
    assert!(ran.out.contains("PacketLeaks: a packet leaves through any link: protocol tcp, to 1.0.0.0"), "{}", ran.out);
    let json: Value = serde_json::from_str(&with(&research, &links, "full_lab", &["--format", "json"]).out).unwrap();
    assert_eq!(json["verdict"], "refused");
    let names: Vec<&str> = json["refusals"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"PacketLeaks") && names.contains(&"NotLetOut"), "{names:?}");

    // What is wrong in the input is a no; what lies outside is no answer.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    fs::write(&bad, "table ip nat {\n}\n\u{1b}[2J").unwrap();
    for (ruleset, links, name) in [(&bad, &links, "RulesetForeign"), (&research, &bad, "LinksMalformed")] {
        let ran = with(ruleset, links, "research", &[]);
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(name) && !ran.out.contains('\u{1b}'), "{}", ran.out);
    }
    let absent = folder.path().join("absent");
    for ran in [
        with(&absent, &links, "research", &[]),
        with(&research, &absent, "research", &[]),
        with(&research, &links, "researches", &[]),
        with(&research, &links, "../profiles/research", &[]),
        network(&research, &["--links", links.to_str().unwrap(), "--profile", "research", "--policy", "/absent"]),
        network(&research, &["--profile", "research"]),
    ] {
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    }
}
