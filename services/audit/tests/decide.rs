//! Who may ask what, as a table over the pages that an image has. Refusals first.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic, as tests may")]

use secai_api::audit::{Append, Prune, Range, Request, Why};
use secai_audit::config;
use secai_audit::decide::{Allowed, Standing, decide};
use serde_json::value::RawValue;
use std::path::Path;

const STATE: &str = r#"{"from":"a","result":"b","to":"c","unit":"d"}"#;
const WELL: Standing = Standing { gap: false, low: false };
const GAP: Standing = Standing { gap: true, low: false };
const LOW: Standing = Standing { gap: false, low: true };

fn append(kind: &str, data: &str, payload: Option<&str>) -> Request {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    Request::Append(Append { kind: kind.to_owned(), data, payload: payload.map(str::to_owned) })
}

fn note() -> Request {
    append("owner.note", r#"{"bytes":1}"#, Some("eA=="))
}

#[test]
fn each_refusal_has_its_reason() {
    let services = config::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/services"))).unwrap();
    let prune = |until| Request::Prune(Prune { until });
    let forget = |from, until| Request::Forget(Range { from, until });
    let table: Vec<(&str, u32, Request, Standing, Option<Why>)> = vec![
        ("a stranger", 952, note(), WELL, Some(Why::NotAllowed)),
        ("a stranger who guesses at kinds", 952, append("no.kind", "{}", None), WELL, Some(Why::NotAllowed)),
        ("a person in the name of a service", 1000, append("svc.state", STATE, None), WELL, Some(Why::NotAllowed)),
        (
            "root in the name of the writer",
            0,
            append("audit.stop", r#"{"refused":0}"#, None),
            WELL,
            Some(Why::NotAllowed),
        ),
        (
            "the writer's user in the name of the writer",
            956,
            append("audit.gap", "{}", None),
            WELL,
            Some(Why::NotAllowed),
        ),
        ("the witness forgets", 960, forget(0, 1), WELL, Some(Why::NotAllowed)),
        ("the witness removes segments", 960, prune(65_536), WELL, Some(Why::NotAllowed)),
        ("the writer's user removes segments", 956, prune(65_536), WELL, Some(Why::NotAllowed)),
        ("a part of a segment", 1000, prune(65_535), WELL, Some(Why::WrongData)),
        ("segments after a gap", 1000, prune(65_536), GAP, Some(Why::Gap)),
        ("the witness acknowledges", 960, Request::Acknowledge {}, GAP, Some(Why::NotAllowed)),
        ("no payload", 1000, append("owner.note", r#"{"bytes":1}"#, None), WELL, Some(Why::WrongData)),
        ("a payload too many", 956, append("svc.state", STATE, Some("eA==")), WELL, Some(Why::WrongData)),
        (
            "a payload that is no base64",
            1000,
            append("owner.note", r#"{"bytes":1}"#, Some("x")),
            WELL,
            Some(Why::WrongData),
        ),
        ("data of another kind", 1000, append("owner.note", STATE, Some("eA==")), WELL, Some(Why::WrongData)),
        (
            "data in another spelling",
            1000,
            append("owner.note", r#"{"bytes":1.0}"#, Some("eA==")),
            WELL,
            Some(Why::WrongData),
        ),
        ("a full disk", 1000, note(), LOW, Some(Why::DiskFull)),
        ("nothing to forget", 1000, forget(3, 3), WELL, Some(Why::Nothing)),
        ("no gap to acknowledge", 1000, Request::Acknowledge {}, WELL, Some(Why::Nothing)),
        ("a person's note", 1000, note(), WELL, None),
        ("a person's note after a gap", 60_000, note(), GAP, None),
        ("what happened anyway, after a gap", 956, append("svc.state", STATE, None), GAP, None),
        ("a person forgets on a full disk", 1000, forget(0, 1), LOW, None),
        ("a person removes segments on a full disk", 1000, prune(65_536), LOW, None),
        ("a person acknowledges", 1000, Request::Acknowledge {}, GAP, None),
        ("the witness reads", 960, Request::Open {}, WELL, None),
        ("the dashboard asks", 957, Request::Status {}, LOW, None),
    ];
    for (what, uid, request, standing, expected) in table {
        let decided = decide(&services, uid, &request, standing);
        assert_eq!(decided.as_ref().err().map(|(why, _)| *why), expected, "{what}: {decided:?}");
        if let Ok(Allowed::Append(pending, _)) = decided {
            assert_eq!(pending.uid, uid, "{what}");
            assert_eq!(pending.writer, if uid == 956 { "audit" } else { "person" }, "{what}");
        }
    }
}
