//! Each claim that is judged by now turns red by what breaks it; those that wait say for whom.

use std::fs;

use secai_verifier::evidence::Item;
use serde_json::Value;

use crate::chain::Chain;
use crate::make::{Lab, chain, live};
use crate::program::{json_of, run};

/// Ids of the claims with this standing.
fn ids(answer: &Value, standing: &str) -> Vec<String> {
    let claims = answer["claims"].as_array().unwrap().iter();
    claims.filter(|it| it["standing"] == standing).map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

fn judged(lab: &Lab) -> (Option<i32>, Value) {
    let answer = run(lab, "claims", &["--format", "json"]);
    (answer.status.code(), json_of(&answer))
}

const WAITING: [&str; 9] = ["T5", "T7", "T8", "P2", "P3", "P2a", "P2b", "P2c", "A2"];

#[test]
fn a_device_as_released_keeps_what_can_be_judged_by_now() {
    let lab = Lab::new();
    let (code, answer) = judged(&lab);
    assert_eq!(code, Some(0), "{answer:#}");
    assert_eq!((ids(&answer, "not met"), ids(&answer, "not seen")), (vec![], vec![]));
    let waiting = [WAITING.as_slice(), &["A3"]].concat();
    assert_eq!(ids(&answer, "waits"), waiting);
    assert_eq!((answer["met"].as_u64(), answer["waiting"].as_u64()), (Some(16), Some(10)));
    let human = run(&lab, "claims", &[]);
    let text = String::from_utf8(human.stdout).unwrap();
    assert!(text.contains("T7   waits") && text.contains("waits for inference"), "{text}");
    assert!(
        text.contains("16 met, 0 not met, 0 not seen, 10 wait") && text.contains("- Root on this device"),
        "{text}"
    );
}

/// What is done to a device, and the claims that turn red.
type Row = (&'static [&'static str], fn(&Lab));

const ROWS: &[Row] = &[
    (&["T1"], |lab| crate::bundle::write(&lab.path("root"), "usr/bin/tracker", b"x")),
    (&["T1", "T2", "T3", "T4"], |lab| {
        // Of the image, and on no list.
        let more = "\n\nId=apt-daily.timer\nLoadState=loaded\nActiveState=active\nNeedDaemonReload=no\n\
            FragmentPath=/usr/lib/systemd/system/systemd-tmpfiles-clean.timer\n";
        lab.regather(Item::Units, |text| Some(format!("{text}{more}")));
    }),
    (&["T2"], |lab| lab.replace(Item::Manager, "=0", "=infinity")),
    (&["T2"], |lab| lab.replace(Item::Settings, "|/bin/false", "|/usr/lib/systemd/systemd-coredump")),
    (&["T5"], |lab| {
        let line = "   1: 00000000:0016 00000000:0000 07 0:0 0:0 0 0 0 18\n";
        lab.regather(Item::Raw, |text| Some(format!("{text}{line}")));
    }),
    (&["T5", "V2"], |lab| {
        let line = "   1: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 18\n";
        lab.regather(Item::Tcp, |text| Some(format!("{text}{line}")));
    }),
    (&["V2"], |lab| {
        let line = "   1: 0F02000A:A001 2211400A:01BB 01 0:0 0:0 0 1000 0 18\n";
        lab.regather(Item::Tcp, |text| Some(format!("{text}{line}")));
    }),
    (&["T6", "P1"], |lab| lab.replace(Item::Links, "]}]", "]},{\"ifname\":\"eth0\",\"flags\":[\"UP\"]}]")),
    (&["T6", "P1", "V1"], |lab| lab.regather(Item::Ruleset, |_| Some("table inet filter {\n}\n".into()))),
    (&["P5"], |lab| {
        let fragment = "FragmentPath=/usr/lib/systemd/system/secure-ai-profiles.service";
        lab.replace(Item::Units, fragment, "FragmentPath=/etc/systemd/system/secure-ai-profiles.service");
    }),
    (&["A1"], |lab| {
        lab.regather(Item::Profile, |_| Some("full_lab\n".into()));
        lab.regather(Item::Ruleset, |_| Some(live("full_lab")));
    }),
    (&["A4"], |lab| {
        let unit = "Id=secure-ai-profiles.service\nLoadState=loaded\nActiveState=";
        lab.replace(Item::Units, &format!("{unit}active"), &format!("{unit}failed"));
    }),
    (&["V3"], |lab| lab.replace(Item::DnsJournal, "clean:", "leak:")),
    // Of what waits, what can be judged is judged.
    (&["T1", "P1", "P2", "P3"], |lab| {
        fs::write(lab.at("/usr/lib/secure-ai/firewall/research.nft"), live("full_lab")).unwrap();
    }),
    (&["P3", "A2"], |lab| {
        let more = "\n\nId=secure-ai-airlock.service\nLoadState=loaded\nActiveState=inactive\nNeedDaemonReload=no\n";
        lab.regather(Item::Units, |text| Some(format!("{text}{more}")));
    }),
];

#[test]
fn each_break_turns_its_claims_red_and_no_others() {
    for (at, (red, change)) in ROWS.iter().enumerate() {
        let lab = Lab::new();
        change(&lab);
        let (code, answer) = judged(&lab);
        assert_eq!(
            (code, ids(&answer, "not met")),
            (Some(1), red.iter().map(|it| (*it).into()).collect()),
            "{at} {answer:#}"
        );
    }
}

/// A chain in which more happens.
fn with(more: impl Fn(&mut Chain)) -> Value {
    let mut chain = chain();
    more(&mut chain);
    judged(&Lab::of(|_| {}, &chain)).1
}

#[test]
fn what_the_chain_remembers_turns_claims_red() {
    let digest = "0".repeat(64);
    let applied =
        |by: &str, from: &str, to: &str| format!(r#"{{"by":"{by}","digest":"{digest}","from":"{from}","to":"{to}"}}"#);
    let opened = |chain: &mut Chain| {
        chain.push("profile.applied", &applied("person", "offline_private", "research"));
        chain.push("profile.applied", &applied("expiry", "research", "offline_private"));
    };
    assert_eq!(ids(&with(opened), "not met"), ["T0", "P4"]);
    // Negative control: the same, confirmed by a person.
    let confirmed = |chain: &mut Chain| {
        chain.push(
            "profile.requested",
            &format!(r#"{{"by":"person","digest":"{digest}","from":"offline_private","terminal":"tty1","to":"research","uid":1000}}"#),
        );
        opened(chain);
    };
    assert_eq!(ids(&with(confirmed), "not met"), [""; 0]);
    let leak = |chain: &mut Chain| {
        let leak = r#"{"findings":0,"profile":"offline_private","refused":0,"sent":9,"verdict":"leak"}"#;
        chain.push("dns.checked", leak);
    };
    assert_eq!(ids(&with(leak), "not met"), ["T6"]);
}

#[test]
fn a_chain_that_does_not_hold_or_is_nobodys_is_said() {
    let lab = Lab::new();
    let path = lab.path("evidence/chain/seg/000000000000.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"verdict\":\"clean\"", "\"verdict\":\"leak\"", 1)).unwrap();
    let (code, answer) = judged(&lab);
    assert_eq!(
        (code, ids(&answer, "not met")),
        (Some(1), ["T0", "T6", "P4", "A1", "A4", "A5"].map(Into::into).into()),
        "{answer:#}"
    );
    let lab = Lab::new();
    fs::remove_file(lab.path("trust/device.vkey")).unwrap();
    let (code, answer) = judged(&lab);
    assert_eq!((code, ids(&answer, "not met"), ids(&answer, "not seen")), (Some(2), vec![], vec!["A5".into()]));
}
