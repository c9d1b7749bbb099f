//! The literal vectors of `spec/vectors/audit`: a chain that `sha256sum` and `openssl` alone can check, and each kind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use secai_verifier::audit::kind::{KINDS, find};
use secai_verifier::files::load_chain_keys;
use serde_json::{Map, Value};

use crate::judge;
use crate::make::{Chain, files, write};

pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/audit")
}

/// The chain of the vectors: five entries, one payload, two epochs.
pub fn chain() -> Chain {
    let mut chain = Chain::new(42);
    chain.push("audit.start", r#"{"version":"0.1.0"}"#);
    chain.note("remember the milk");
    chain.epoch();
    chain.state("secure-ai-airlock.service");
    chain.push("audit.stop", r#"{"refused":0}"#);
    chain
}

#[test]
fn the_chain_is_the_literal_one() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain();
    chain.write(&dir.path().join("chain"));
    write(dir.path(), "trust/device.vkey", format!("{}\n", chain.vkey(0)).as_bytes());
    let literal = vectors().join("chain");
    if std::env::var("SECAI_GOLDEN").as_deref() == Ok("write") {
        for path in files(dir.path()) {
            let below = path
                .strip_prefix(dir.path())
                .unwrap()
                .strip_prefix("chain")
                .unwrap_or_else(|_| Path::new("device.vkey"));
            let place = if below == Path::new("device.vkey") { vectors() } else { literal.clone() };
            write(&place, below.to_str().unwrap(), &fs::read(&path).unwrap());
        }
    }
    for path in files(&dir.path().join("chain")) {
        let below = path.strip_prefix(dir.path().join("chain")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read(literal.join(below)).unwrap(), "{}", below.display());
    }
    let trusted = load_chain_keys(&vectors()).unwrap();
    let report = judge(&literal, &trusted, None, false).unwrap();
    assert_eq!((report.entries, report.epochs, report.payloads), (5, 2, 1));
}

/// What `spec/audit-chain.md` says one can do by hand: links, payload and root with `sha256sum`, signatures with
/// `openssl`, in a script that knows nothing of our code.
#[test]
fn the_chain_can_be_checked_by_hand() {
    let run = |dir: &Path| {
        let out = Command::new("sh").arg(vectors().join("by-hand.sh")).arg(dir).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let dir = tempfile::tempdir().unwrap();
    let (copy, all) = (dir.path(), files(&vectors()));
    for path in &all {
        write(copy, path.strip_prefix(vectors()).unwrap().to_str().unwrap(), &fs::read(path).unwrap());
    }
    let (code, said) = run(copy);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("the chain holds\n"), "{said}");
    for (file, old, new) in [
        ("chain/seg/000000000000.jsonl", "0.1.0", "0.2.0"),
        ("chain/seg/000000000000.jsonl", r#""refused":0"#, r#""refused":1"#),
        ("chain/seg/000000000000.payload", r#""payload":"c"#, r#""payload":"d"#),
        ("chain/checkpoint", "\n5\n", "\n4\n"),
    ] {
        let good = fs::read_to_string(copy.join(file)).unwrap();
        write(copy, file, good.replacen(old, new, 1).as_bytes());
        let (code, said) = run(copy);
        assert_eq!(code, Some(1), "{old} in {file}: {said}");
        write(copy, file, good.as_bytes());
    }
}

#[test]
fn every_kind_has_a_vector_and_takes_nothing_else() {
    let mut named = BTreeSet::new();
    for line in fs::read_to_string(vectors().join("kinds.jsonl")).unwrap().lines() {
        let name = line.strip_prefix(r#"{"k":""#).and_then(|rest| rest.split('"').next()).unwrap();
        let data = line.split_once(r#","d":"#).unwrap().1.strip_suffix('}').unwrap();
        let kind = find(name).unwrap_or_else(|| panic!("{name} is no kind"));
        named.insert(kind.name);
        kind.check(data.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let members: Map<String, Value> = serde_json::from_str(data).unwrap();
        for key in members.keys() {
            let mut less = members.clone();
            less.remove(key);
            assert!(kind.check(&serde_json::to_vec(&less).unwrap()).is_err(), "{name} without {key}");
            for other in [Value::Null, Value::from(-1), Value::from(1.5), Value::from(vec![1])] {
                let mut other_value = members.clone();
                other_value.insert(key.clone(), other);
                assert!(kind.check(&serde_json::to_vec(&other_value).unwrap()).is_err(), "{name}: {key}");
            }
        }
        let mut more = members.clone();
        more.insert("zz".to_owned(), Value::from(1));
        assert!(kind.check(&serde_json::to_vec(&more).unwrap()).is_err(), "{name} with a key more");
        for other in [data.replacen(':', ": ", 1), format!("{data} "), format!("[{data}]")] {
            assert!(kind.check(other.as_bytes()).is_err(), "{other}");
        }
        if members.len() > 1 {
            let turned: Vec<String> = members.iter().rev().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            assert!(kind.check(format!("{{{}}}", turned.join(",")).as_bytes()).is_err(), "{name} in another order");
        }
    }
    let without: Vec<_> = KINDS.iter().filter(|kind| !named.contains(kind.name)).map(|kind| kind.name).collect();
    assert!(without.is_empty(), "no vector in kinds.jsonl: {without:?}");
}
