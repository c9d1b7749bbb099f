//! What its owner listed, as people and those who hide it write it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use secai_pii::{Detectors, Evidence, IDENTIFIER_BYTES_MAX, IDENTIFIERS_MAX, IdentifierError, Kind, OwnIdentifiers};

fn detectors() -> Detectors {
    let mut own = OwnIdentifiers::default();
    own.name("Jana Łukasiewicz").unwrap().name("Иван Петров").unwrap();
    own.address("Mühlenweg 17, 04109 Leipzig").unwrap().employer("Initech GmbH").unwrap().other("Zoë").unwrap();
    Detectors::new(&own).unwrap()
}

#[test]
fn it_is_found_in_any_case_and_spacing_and_with_one_edit() {
    let detectors = detectors();
    for (text, kind, value, edits) in [
        ("I am Jana Łukasiewicz.", Kind::OwnName, "Jana Łukasiewicz", 0),
        ("i am JANA LUKASIEWICZ", Kind::OwnName, "JANA LUKASIEWICZ", 0),
        ("user jana.lukasiewicz there", Kind::OwnName, "jana.lukasiewicz", 0),
        ("user jana_lukasiewicz_2", Kind::OwnName, "jana_lukasiewicz", 0),
        ("J a n a Lukasiewicz", Kind::OwnName, "J a n a Lukasiewicz", 0),
        ("Jaana Lukasiewicz", Kind::OwnName, "Jaana Lukasiewicz", 1),
        ("Jna Lukasiewicz", Kind::OwnName, "Jna Lukasiewicz", 1),
        ("Jana Lukasievicz", Kind::OwnName, "Jana Lukasievicz", 1),
        ("Jana Lukaseiwicz", Kind::OwnName, "Jana Lukaseiwicz", 1),
        ("Jana Lukasiewiczs", Kind::OwnName, "Jana Lukasiewiczs", 1),
        ("Jana Lukasiewic", Kind::OwnName, "Jana Lukasiewic", 1),
        ("Jana Luaksiewicz", Kind::OwnName, "Jana Luaksiewicz", 1),
        ("Jan\u{200B}a%20Lukasiewicz", Kind::OwnName, "Jan\u{200B}a%20Lukasiewicz", 0),
        ("SmFuYSBMdWthc2lld2ljeg==", Kind::OwnName, "SmFuYSBMdWthc2lld2ljeg", 0),
        ("это ИВАН ПЕТРОВ.", Kind::OwnName, "ИВАН ПЕТРОВ", 0),
        ("at Muhlenweg 17 in 04109 Leipzig", Kind::OwnAddress, "", 1),
        ("at muehlenweg 17, 04109 leipzig", Kind::OwnAddress, "muehlenweg 17, 04109 leipzig", 1),
        ("for InitechGmbH", Kind::OwnEmployer, "InitechGmbH", 0),
        ("for Zoe", Kind::OwnOther, "Zoe", 0),
    ] {
        let found = detectors.find(text.as_bytes()).unwrap();
        if value.is_empty() {
            assert!(found.iter().all(|finding| finding.kind != kind), "{text}: two words more are no edit");
            continue;
        }
        let [finding] = found.as_slice() else { panic!("{text}: {found:?}") };
        assert_eq!((finding.kind, &text[finding.range.clone()]), (kind, value), "{text}");
        assert_eq!(finding.evidence, Evidence::Own { edits }, "{text}");
    }
}

#[test]
fn other_words_are_not_it() {
    let detectors = detectors();
    for text in
        ["Jana went", "Janas Lukasiewiczz", "Initechs GmbHs", "Zoes zoo Zo", "Ивана Петровича", "Jane Lukasievicz"]
    {
        assert_eq!(detectors.find(text.as_bytes()).unwrap(), [], "{text}");
    }
}

#[test]
fn what_cannot_be_looked_for_is_refused_with_its_reason() {
    let mut own = OwnIdentifiers::default();
    assert!(matches!(own.name("J. D."), Err(IdentifierError::TooShort(2))));
    assert!(matches!(own.name(&"x".repeat(IDENTIFIER_BYTES_MAX + 1)), Err(IdentifierError::TooLong(_))));
    for at in 0..IDENTIFIERS_MAX {
        own.other(&format!("account {at}")).unwrap();
    }
    assert!(matches!(own.other("one more"), Err(IdentifierError::TooMany)));
    assert!(Detectors::new(&own).is_ok());
}
