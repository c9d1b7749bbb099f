//! The schemas of the policy's pages, `manifests/schema/{profile,loopback,claims}.json`, beside the parser that decides.
//!
//! They are for editors. Each row says what both make of a page, or that only one of them refuses it: then
//! the row says why a schema cannot do likewise.

#![expect(clippy::unwrap_used, reason = "what the tests share is a test too")]

use jsonschema::Validator;
use secai_verifier::claims::check::Check;
use secai_verifier::claims::{self, Claims};
use secai_verifier::network::profile::{Loopback, PAGE_BYTES_MAX, Profile};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn schema(name: &str) -> Validator {
    let text = fs::read(manifests().join("schema").join(name)).unwrap();
    let schema: Value = serde_json::from_slice(&text).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "{name} is no schema");
    // A draft that it does not name would be another language.
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::new(&schema).unwrap()
}

/// A page as an editor sees it: keys are text there.
fn seen(page: &str) -> Option<Value> {
    fn of(yaml: serde_yaml::Value) -> Option<Value> {
        Some(match yaml {
            serde_yaml::Value::Mapping(pairs) => {
                let pairs = pairs.into_iter().map(|(key, value)| {
                    let key = match key {
                        serde_yaml::Value::Number(number) => number.to_string(),
                        key => key.as_str()?.to_owned(),
                    };
                    Some((key, of(value)?))
                });
                Value::Object(pairs.collect::<Option<_>>()?)
            }
            serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(of).collect::<Option<_>>()?),
            plain => serde_json::to_value(plain).ok()?,
        })
    }
    of(serde_yaml::from_str(page).ok()?)
}

/// What is to come of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Good,
    Bad,
    /// For the parser only; why a schema cannot say it.
    Beyond(&'static str),
    /// Taken by the parser, and never written like this; why a schema cannot take it.
    Odd(&'static str),
}
use Is::{Bad, Beyond, Good, Odd};

fn judged(schema: &Validator, parsed: bool, page: &str, is: Is) {
    let valid = seen(page).is_some_and(|value| schema.is_valid(&value));
    let expected = match is {
        Good => (true, true),
        Bad => (false, false),
        Beyond(_) => (true, false),
        Odd(_) => (false, true),
    };
    assert_eq!((valid, parsed), expected, "(schema, parser) of {is:?}:\n{}", page.get(..2000).unwrap_or(page));
}

const PAGE: &str = "name: research
about: web search
leaves:
  - {user: tor, uid: 951, unit: tor@default.service, ports: {all_but: [25]}}
link: [arp, nd, dhcp]
units:
  on: [systemd-networkd.service, tor@default.service]
  off: [a.socket]
told:
  - A provider sees it.
";

/// From what in [`PAGE`], to what.
const ROWS: &[(&str, &str, Is)] = &[
    ("", "", Good),
    // Keys.
    ("name: research\n", "", Bad),
    ("about: web search\n", "", Bad),
    ("link: [arp, nd, dhcp]\n", "", Bad),
    ("told:\n  - A provider sees it.\n", "", Bad),
    ("name:", "more: 1\nname:", Bad),
    ("name:", "Name:", Bad),
    ("uid: 951,", "uid: 951, gid: 951,", Bad),
    ("uid: 951, ", "", Bad),
    ("  off:", "  maybe: []\n  off:", Bad),
    ("  off: [a.socket]\n", "", Bad),
    ("{all_but: [25]}", "{all_but: [25], more: 1}", Bad),
    // Words and lines.
    ("research", "Research", Bad),
    ("research", "_research", Bad),
    ("research", "re-search", Bad),
    ("research", "r2_d2", Good),
    ("research", "12", Bad),
    ("research", "''", Bad),
    ("research", r#""research\n""#, Bad),
    ("web search", "'  '", Bad),
    ("web search", r#""one\ntwo""#, Bad),
    ("web search", r#""one\n""#, Good),
    ("web search", r#""one\n\n""#, Bad),
    ("web search", r#""\none""#, Bad),
    ("- A provider sees it.", "[]", Bad),
    ("- A provider sees it.", "- ''", Bad),
    ("- A provider sees it.", r#"- "a\nb""#, Bad),
    ("- A provider sees it.", "- 7", Odd("what reads as a number is no text to an editor")),
    ("- A provider sees it.", "- yes", Good),
    // Users.
    ("user: tor", "user: Tor", Bad),
    ("uid: 951", "uid: 0", Bad),
    ("uid: 951", "uid: 1", Good),
    ("uid: 951", "uid: -1", Bad),
    ("uid: 951", "uid: 953", Bad),
    ("uid: 951", "uid: 999", Good),
    ("uid: 951", "uid: 1000", Bad),
    ("uid: 951", "uid: '951'", Bad),
    ("uid: 951", "uid: 951.0", Beyond("951.0 is an integer to a schema")),
    ("link:", "  - {user: b, uid: 950, unit: tor@default.service, ports: {only: [1]}}\nlink:", Good),
    (
        "link:",
        "  - {user: tor, uid: 950, unit: tor@default.service, ports: {only: [1]}}\nlink:",
        Beyond("no two items with the same value of one key"),
    ),
    (
        "link:",
        "  - {user: b, uid: 951, unit: tor@default.service, ports: {only: [1]}}\nlink:",
        Beyond("no two items with the same value of one key"),
    ),
    // Ports.
    ("{all_but: [25]}", "{only: [443, 80, 443]}", Good),
    ("{all_but: [25]}", "{only: [0, 65535]}", Good),
    ("{all_but: [25]}", "{only: [65536]}", Bad),
    ("{all_but: [25]}", "{only: [-1]}", Bad),
    ("{all_but: [25]}", "{only: []}", Bad),
    ("{all_but: [25]}", "{only: [443, 53]}", Bad),
    ("{all_but: [25]}", "{only: [853]}", Bad),
    ("{all_but: [25]}", "{only: [5353]}", Bad),
    ("{all_but: [25]}", "{only: [5355]}", Bad),
    ("{all_but: [25]}", "{all_but: []}", Good),
    ("{all_but: [25]}", "{all_but: [53]}", Good),
    ("{all_but: [25]}", "{all_but: [65536]}", Bad),
    ("{all_but: [25]}", "{}", Bad),
    ("{all_but: [25]}", "{only: [1], all_but: [25]}", Bad),
    ("{all_but: [25]}", "{only: null, all_but: [25]}", Good),
    ("{all_but: [25]}", "{only: null}", Bad),
    ("{all_but: [25]}", "[443]", Bad),
    // Links.
    ("[arp, nd, dhcp]", "[]", Bad),
    ("[arp, nd, dhcp]", "[arp]", Good),
    ("[arp, nd, dhcp]", "[arp, arp]", Good),
    ("[arp, nd, dhcp]", "[icmp]", Bad),
    ("[arp, nd, dhcp]", "arp", Bad),
    // Units.
    ("a.socket", "a.timer, b.path, c-d:e_f@1.service", Good),
    ("a.socket", "a.target", Bad),
    ("a.socket", ".socket", Bad),
    ("a.socket", "-a.socket", Bad),
    ("a.socket", "a/b.socket", Bad),
    ("a.socket", "ü.socket", Bad),
    ("a.socket", r#""a.socket\n""#, Bad),
    ("a.socket", "7", Bad),
    ("systemd-networkd.service, ", "", Bad),
    ("a.socket", "tor@default.service", Beyond("nothing of one list may be in another")),
    (", tor@default.service", "", Beyond("what one list names is to be in another")),
    // Time.
    ("told:", "expires_after_minutes: 60\ntold:", Good),
    ("told:", "expires_after_minutes: null\ntold:", Good),
    ("told:", "expires_after_minutes: 0\ntold:", Bad),
    ("told:", "expires_after_minutes: -1\ntold:", Bad),
    ("told:", "expires_after_minutes: 4294967295\ntold:", Good),
    ("told:", "expires_after_minutes: 4294967296\ntold:", Bad),
    ("told:", "expires_after_minutes: 1.5\ntold:", Bad),
];

#[test]
fn the_schema_of_a_profile_says_what_the_parser_does() {
    let schema = schema("profile.json");
    for (from, to, is) in ROWS {
        assert!(PAGE.contains(from), "`{from}` is not in the page");
        let page = PAGE.replacen(from, to, 1);
        judged(&schema, Profile::parse(page.as_bytes()).is_ok(), &page, *is);
    }
    let name = |bytes: usize| format!("{}.socket", "a".repeat(bytes - ".socket".len()));
    for (bytes, is) in [(255, Good), (256, Bad)] {
        let page = PAGE.replace("a.socket", &name(bytes));
        judged(&schema, Profile::parse(page.as_bytes()).is_ok(), &page, is);
    }
    let page = format!("{PAGE}# {}\n", "a".repeat(PAGE_BYTES_MAX));
    judged(&schema, Profile::parse(page.as_bytes()).is_ok(), &page, Beyond("a schema does not see the text"));
}

#[test]
fn the_schema_of_loopback_says_what_the_parser_does() {
    let schema = schema("loopback.json");
    let rows = [
        ("{}", Good),
        ("8465: [954, 957, 1000-60000]", Good),
        ("0: [0]", Good),
        ("65535: [4294967294]", Good),
        ("8465: []", Bad),
        ("8465: [4294967295]", Bad),
        ("8465: [-1]", Bad),
        ("8465: ['954']", Bad),
        ("8465: [a-b]", Bad),
        ("8465: [1000-]", Bad),
        ("8465: [1-2-3]", Bad),
        ("8465: 954", Bad),
        ("8465: null", Bad),
        ("65536: [1]", Bad),
        ("70000: [1]", Bad),
        ("100000: [1]", Bad),
        ("-1: [1]", Bad),
        ("http: [1]", Bad),
        ("[8465]", Bad),
        ("8465: [1]\n8465: [2]", Bad),
        ("8465: [2-1]", Beyond("which of two numbers within a text is larger")),
        ("8465: [1-4294967295]", Beyond("how large a number within a text is")),
        ("8465: [1.0]", Beyond("1.0 is an integer to a schema")),
        ("'8465': [1]", Beyond("to an editor every key is text")),
    ];
    for (page, is) in rows {
        judged(&schema, Loopback::parse(page.as_bytes()).is_ok(), page, is);
    }
}

const CLAIMS: &str = "wakes:
  - {unit: a.timer, of: a package, for: a reason}
not_covered:
  - What is beyond.
claims:
  - id: T0
    says: Nothing leaves.
    promises:
      - Nothing is sent.
    holds: prevents
    threats: threats.md#what-leaves
    on_device: [proven, wakes]
    in_lab: [nothing_leaves]
";

/// From what in [`CLAIMS`], to what.
const CLAIM_ROWS: &[(&str, &str, Is)] = &[
    ("", "", Good),
    // Keys.
    ("wakes:\n  - {unit: a.timer, of: a package, for: a reason}\n", "", Bad),
    ("wakes:\n  - {unit: a.timer, of: a package, for: a reason}\n", "wakes: []\n", Good),
    ("not_covered:\n  - What is beyond.\n", "", Bad),
    // A check's to say, not the reader's.
    ("  - What is beyond.\n", "  []\n", Good),
    ("claims:", "more: 1\nclaims:", Bad),
    ("    says: Nothing leaves.\n", "", Bad),
    ("    promises:\n      - Nothing is sent.\n", "", Bad),
    ("    promises:\n      - Nothing is sent.\n", "    promises: []\n", Bad),
    ("    holds: prevents\n", "", Bad),
    ("    threats: threats.md#what-leaves\n", "", Bad),
    ("    in_lab: [nothing_leaves]\n", "", Bad),
    ("    in_lab: [nothing_leaves]\n", "    in_lab: []\n", Good),
    ("    in_lab:", "    maybe: 1\n    in_lab:", Bad),
    // Ids.
    ("id: T0", "id: P2a", Good),
    ("id: T0", "id: A10", Good),
    ("id: T0", "id: t0", Bad),
    ("id: T0", "id: T", Bad),
    ("id: T0", "id: T100", Bad),
    ("id: T0", "id: T0ab", Bad),
    ("id: T0", "id: T0-1", Bad),
    ("id: T0", "id: 'T0 '", Bad),
    // Lines.
    ("Nothing leaves.", "''", Bad),
    ("Nothing leaves.", "' '", Bad),
    ("Nothing leaves.", r#""one\ntwo""#, Bad),
    ("Nothing leaves.", r#""one\x1b[2J""#, Bad),
    ("Nothing leaves.", r#""one\u2028two""#, Bad),
    ("- Nothing is sent.", "- ''", Bad),
    ("- What is beyond.", "- ''", Bad),
    ("of: a package", "of: ''", Bad),
    ("for: a reason", "for: ''", Bad),
    // What holds, against whom.
    ("prevents", "detects", Good),
    ("prevents", "hopes", Bad),
    ("threats.md#what-leaves", "'#what-leaves'", Bad),
    ("threats.md#what-leaves", "'threats.md#'", Bad),
    ("threats.md#what-leaves", "threats.md", Bad),
    ("threats.md#what-leaves", "../threats.md#what-leaves", Bad),
    // What judges it.
    ("[proven, wakes]", "[proven, wakes, guessed]", Bad),
    ("[proven, wakes]", "[proven, proven]", Bad),
    ("[proven, wakes]", "[Proven]", Bad),
    ("[proven, wakes]", "[]", Bad),
    ("[proven, wakes]", "[]\n    waits_for: []", Bad),
    ("[proven, wakes]", "[]\n    waits_for: [airlock]", Good),
    ("[proven, wakes]", "[proven]\n    waits_for: [airlock, update]", Good),
    ("[proven, wakes]", "[proven]\n    waits_for: [airlock, airlock]", Bad),
    ("[proven, wakes]", "[proven]\n    waits_for: [godot]", Bad),
    ("[nothing_leaves]", "[Nothing]", Bad),
    ("[nothing_leaves]", "[nothing-leaves]", Bad),
    ("[nothing_leaves]", "[nothing_leaves, nothing_leaves]", Bad),
    // Units.
    ("a.timer", "a-b@c.socket", Good),
    ("a.timer", "a.path", Good),
    ("a.timer", "a.service", Bad),
    ("a.timer", ".timer", Bad),
    ("a.timer", "-a.timer", Bad),
    ("a.timer", "a/b.timer", Bad),
    (
        "not_covered:",
        "  - {unit: a.timer, of: b, for: c}\nnot_covered:",
        Beyond("no two items with the same value of one key"),
    ),
    (
        "claims:\n",
        "claims:\n  - {id: T0, says: a, promises: [b], holds: detects, threats: threats.md#a, on_device: [said], in_lab: []}\n",
        Beyond("no two items with the same value of one key"),
    ),
];

#[test]
fn the_schema_of_claims_says_what_the_parser_does() {
    let schema = schema("claims.json");
    for (from, to, is) in CLAIM_ROWS {
        assert!(CLAIMS.contains(from), "`{from}` is not in the page");
        let page = CLAIMS.replacen(from, to, 1);
        judged(&schema, Claims::parse(page.as_bytes()).is_ok(), &page, *is);
    }
    for check in Check::ALL {
        let page = CLAIMS.replace("[proven, wakes]", &format!("[{}]", check.word()));
        judged(&schema, Claims::parse(page.as_bytes()).is_ok(), &page, Good);
    }
    for (chars, is) in [(200, Good), (201, Bad)] {
        let page = CLAIMS.replace("Nothing leaves.", &"ä".repeat(chars));
        judged(&schema, Claims::parse(page.as_bytes()).is_ok(), &page, is);
    }
    let page = format!("{CLAIMS}# {}\n", "a".repeat(claims::PAGE_BYTES_MAX));
    judged(&schema, Claims::parse(page.as_bytes()).is_ok(), &page, Beyond("a schema does not see the text"));
}

#[test]
fn every_page_there_is_is_valid_and_names_its_schema() {
    let policy = manifests().join("policy");
    let mut pages: Vec<PathBuf> = fs::read_dir(policy.join("profiles")).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(pages.len() >= 3, "{pages:?}");
    pages.extend(["loopback.yml", "claims.yml"].map(|name| policy.join(name)));
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        let named = text.lines().find_map(|line| line.strip_prefix("# yaml-language-server: $schema=")).unwrap();
        let schema = path.parent().unwrap().join(named).canonicalize().unwrap();
        assert_eq!(schema.parent().unwrap(), manifests().join("schema").canonicalize().unwrap());
        let schema = self::schema(schema.file_name().unwrap().to_str().unwrap());
        let page = seen(&text).unwrap();
        let errors: Vec<String> = schema.iter_errors(&page).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}
