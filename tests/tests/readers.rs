//! Two readers of one table: our parser of nft's text, and the second reader of nft's JSON in `services/firewall`. What
//! they read is printed by nft itself, in a network namespace of its own; then each single change of the JSON is noticed.

use std::process::Command;

use secai_firewall::second::agree;
use secai_tests::{Need, Scratch, Tier, as_root, ran, require, top};
use secai_verifier::files::load_profiles;
use secai_verifier::network::bind::{bind, shipped};
use secai_verifier::network::parse::parse;
use secai_verifier::network::rules::Ruleset;
use serde_json::{Value, json};

const TMP: &str = env!("CARGO_TARGET_TMPDIR");
const NEEDS: [Need; 3] = [Need::Root, Need::Program("nft"), Need::Program("unshare")];
/// Above everything that 32 bits hold, as counters and numbers of a device are one day.
const COUNTED: &str = "packets 5000000000 bytes 300000000000";

/// Loads the rules of a profile, has them listed in both ways, and reads the text.
fn listed(test: &str, profile: &str) -> (Ruleset, Vec<u8>) {
    let folder = Scratch::new(TMP, &format!("readers-{test}-{profile}"));
    let (profiles, loopback) = load_profiles(&top().join("manifests/policy")).unwrap();
    let rules = bind(&shipped(profiles.get(profile).unwrap(), &loopback), 0x5eca_1005, ["eth0"]).to_string();
    assert!(rules.contains("packets 0 bytes 0"), "{rules}");
    std::fs::write(folder.join("rules.nft"), rules.replacen("packets 0 bytes 0", COUNTED, 1)).unwrap();
    let script = "set -e; ip link add eth0 type veth; nft -f rules.nft
        nft list table inet secure_ai >text; nft -j list table inet secure_ai >json";
    ran(namespace().args(["sh", "-c", script]).current_dir(folder.path())).good();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let text = read("text");
    assert!(String::from_utf8_lossy(&text).contains(COUNTED), "nft takes counts from the text");
    (parse(&text).unwrap(), read("json"))
}

fn namespace() -> Command {
    let mut command = as_root("unshare");
    command.args(["--net", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    command
}

const PROFILES: [&str; 3] = ["offline_private", "research", "full_lab"];

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn differs(rules: &Ruleset, json: &Value) -> Option<String> {
    agree(rules, json.to_string().as_bytes()).err()
}

#[test]
fn both_read_the_same_from_what_nft_prints() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let all: Vec<(Ruleset, Vec<u8>)> = PROFILES.iter().map(|profile| listed("same", profile)).collect();
    for (at, (rules, json)) in all.iter().enumerate() {
        agree(rules, json).unwrap_or_else(|why| panic!("{}: {why}", PROFILES[at]));
        for (other, _) in all.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other) {
            agree(other, json).expect_err("another profile's");
        }
        // As 1.1.3 prints the same: flags of TCP by `|`, chains in front, and what it says of a set besides.
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains(r#"["syn", "ack"]"#) || text.contains(r#"{"|": ["syn", "ack"]}"#), "{text}");
        let mut newer = parsed(text.replace(r#", ["syn", "ack"]]"#, r#", {"|": ["syn", "ack"]}]"#).as_bytes());
        let objects = newer["nftables"].as_array_mut().unwrap();
        for set in objects.iter_mut().filter_map(|it| it.get_mut("set")).filter(|it| it.get("flags").is_some()) {
            set["auto-merge"] = json!(true);
        }
        objects[2..].sort_by_key(|it| (it.get("chain").is_none(), it.get("rule").is_some()));
        assert_eq!(differs(rules, &newer), None);
    }
}

/// A step into the JSON.
#[derive(Debug, Clone)]
enum To {
    Key(String),
    Item(usize),
}

fn at<'a>(mut value: &'a mut Value, path: &[To]) -> &'a mut Value {
    for to in path {
        value = match to {
            To::Key(key) => value.get_mut(key).unwrap(),
            To::Item(item) => value.get_mut(item).unwrap(),
        };
    }
    value
}

fn places(value: &Value, path: &mut Vec<To>, found: &mut Vec<Vec<To>>) {
    found.push(path.clone());
    let inner: Vec<(To, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (To::Key(key.clone()), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(item, value)| (To::Item(item), value)).collect(),
        _ => Vec::new(),
    };
    for (to, value) in inner {
        path.push(to);
        places(value, path, found);
        path.pop();
    }
}

/// What may be anything: a number that the kernel gave, what was counted, the name of nft's version.
fn means_nothing(path: &[To]) -> bool {
    let free = ["handle", "packets", "bytes", "version", "release_name"];
    matches!(path.last(), Some(To::Key(key)) if free.contains(&key.as_str()))
}

/// Everything that one change can make of a value.
fn changed(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![json!({}), json!(0)],
        Value::Bool(is) => vec![json!(!is)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap();
            vec![json!(number + 1), json!(number - 1), json!(number + (1 << 32)), json!(number.to_string())]
        }
        Value::String(text) => {
            let other = match text.as_str() {
                "accept" => "drop",
                "drop" => "accept",
                "==" => "!=",
                "!=" => "==",
                "tcp" => "udp",
                "udp" => "tcp",
                "established" => "new",
                "new" => "established",
                "syn" => "ack",
                "ip" => "ip6",
                "daddr" => "saddr",
                "dport" => "sport",
                "lo" => "eth0",
                "second" => "minute",
                _ => "filter",
            };
            let other = if other == text { "nat" } else { other };
            vec![json!(other), json!(format!("{text}x")), json!(7), json!(null)]
        }
        Value::Array(items) => {
            let mut all = Vec::new();
            for item in 0..items.len() {
                let (mut less, mut more) = (items.clone(), items.clone());
                less.remove(item);
                more.insert(item, items[item].clone());
                all.extend([json!(less), json!(more)]);
            }
            for extra in [
                json!({"log": null}),
                json!({"accept": null}),
                json!({"prefix": {"addr": "9.0.0.0", "len": 8}}),
                json!(443),
            ] {
                let mut more = items.clone();
                more.insert(0, extra);
                all.push(json!(more));
            }
            all
        }
        Value::Object(fields) => {
            let mut all = Vec::new();
            for key in fields.keys().filter(|key| !means_nothing(&[To::Key((*key).clone())])) {
                let mut less = fields.clone();
                less.remove(key);
                all.push(json!(less));
            }
            for (key, extra) in [("comment", json!("x")), ("unheard_of", json!(1)), ("auto-merge", json!(false))] {
                let mut more = fields.clone();
                more.insert(key.to_owned(), extra);
                all.push(json!(more));
            }
            all
        }
    }
}

#[test]
fn each_single_change_is_noticed() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    // The profile with most kinds of rules: that of the other two are among them.
    let (rules, json) = listed("changed", "research");
    agree(&rules, &json).unwrap();
    let whole = parsed(&json);
    let (mut tried, mut missed, mut found) = (0, Vec::new(), Vec::new());
    places(&whole, &mut Vec::new(), &mut found);
    for path in found.iter().filter(|path| !means_nothing(path)) {
        for value in changed(at(&mut whole.clone(), path)) {
            let mut mutant = whole.clone();
            *at(&mut mutant, path) = value;
            tried += 1;
            if differs(&rules, &mutant).is_none() {
                missed.push(format!("{path:?}: {}", at(&mut mutant, path)));
            }
        }
    }
    // And what may be anything, may.
    for path in found.iter().filter(|path| matches!(path.last(), Some(To::Key(key)) if key == "handle")) {
        let mut free = whole.clone();
        *at(&mut free, path) = json!(u64::MAX);
        assert_eq!(differs(&rules, &free), None, "{path:?}");
    }
    println!("{tried} changes");
    assert!(tried > 3000, "{tried}");
    assert!(missed.is_empty(), "{} of {tried} changes were not noticed:\n{}", missed.len(), missed.join("\n"));
}

/// Rules that somebody else might add, as nft itself then lists them.
#[test]
fn what_others_add_is_noticed_as_nft_lists_it() {
    if !require(Tier::Test, &NEEDS) {
        return;
    }
    let folder = Scratch::new(TMP, "readers-added");
    let (rules, before) = listed("added", "research");
    agree(&rules, &before).unwrap();
    let added = [
        "insert rule inet secure_ai output accept",
        "insert rule inet secure_ai output meta skuid 0 counter accept",
        "insert rule inet secure_ai output ip daddr 9.9.9.9 notrack",
        "insert rule inet secure_ai output tcp dport vmap { 53 : accept }",
        "insert rule inet secure_ai output log prefix \"x\"",
        "insert rule inet secure_ai output fib daddr type local accept",
        "add element inet secure_ai special4 { 9.0.0.0/8 }",
        "delete element inet secure_ai special4 { 10.0.0.0/8 }",
        "add element inet secure_ai epoch { 0x1 }",
        "add element inet secure_ai epoch_now { icmp : 0x1 }",
        "add chain inet secure_ai more",
        "add chain inet secure_ai more { type filter hook postrouting priority 0; }",
        "chain inet secure_ai output { policy accept; }",
        "add counter inet secure_ai more",
        "add set inet secure_ai more { type inet_service; }",
        "add quota inet secure_ai more { over 1 bytes }",
        "flush chain inet secure_ai forward",
    ];
    std::fs::write(folder.join("rules.nft"), rules.to_string()).unwrap();
    for (at, line) in added.iter().enumerate() {
        let line = if line.starts_with("chain") { format!("add {line}") } else { (*line).to_owned() };
        std::fs::write(folder.join("more.nft"), format!("{line}\n")).unwrap();
        let script = format!("set -e; nft -f rules.nft; nft -f more.nft; nft -j list table inet secure_ai >{at}");
        ran(namespace().args(["sh", "-c", &script]).current_dir(folder.path())).good();
        let json = std::fs::read(folder.join(at.to_string())).unwrap();
        agree(&rules, &json).expect_err(&line);
    }
}
