//! What is found in which text, as what; near misses and ordinary text, in which nothing is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod made;

use made::{Random, detectors, github_token, of};
use secai_pii::{Evidence, Kind};

/// Kind and value of each finding.
fn found(text: &str) -> Vec<(Kind, &str)> {
    let found = detectors().find(text.as_bytes()).unwrap();
    found.into_iter().map(|finding| (finding.kind, &text[finding.range])).collect()
}

/// Published examples: of standards, issuers and authorities. Tokens are put together, so that no scanner takes them for somebody's.
fn published() -> Vec<(Kind, String)> {
    let plain = [
        (Kind::Card, "4111 1111 1111 1111"),
        (Kind::Card, "4012888888881881"),
        (Kind::Card, "5555-5555-5555-4444"),
        (Kind::Card, "2223003122003222"),
        (Kind::Card, "3782 822463 10005"),
        (Kind::Card, "6011111111111117"),
        (Kind::Card, "3530111333300000"),
        (Kind::Card, "30569309025904"),
        (Kind::Iban, "GB82 WEST 1234 5698 7654 32"),
        (Kind::Iban, "DE89370400440532013000"),
        (Kind::Iban, "FR14 2004 1010 0505 0001 3M02 606"),
        (Kind::Iban, "NO9386011117947"),
        (Kind::Iban, "MT84MALT011000012345MTLCAST001S"),
        (Kind::Phone, "+44 20 7946 0958"),
        (Kind::Phone, "+49 (0) 30 901820"),
        (Kind::Phone, "(212) 555-0123"),
        (Kind::Phone, "212-555-0123"),
        (Kind::Phone, "01 42 68 53 00"),
        (Kind::Email, "first.last+tag@sub.example.co.uk"),
        (Kind::Email, "用户@例子.广告"),
        (Kind::Ipv4, "203.0.113.77"),
        (Kind::Ipv6, "2001:db8::ff00:42:8329"),
        (Kind::Ipv6, "fe80::1ff:fe23:4567:890a"),
        (Kind::Ipv6, "::ffff:192.0.2.128"),
        (Kind::Mac, "00:1B:44:11:3a:b7"),
        (Kind::UsSsn, "536-90-4399"),
        (Kind::UsItin, "912-70-1234"),
        (Kind::BrCpf, "390.533.447-05"),
        (Kind::ClRut, "12.531.909-2"),
        (Kind::ArCuit, "20-05536168-2"),
        (Kind::UkNino, "AB 12 34 56 C"),
        (Kind::DeTaxId, "36574261809"),
        (Kind::FrNir, "2 95 10 99 126 111 93"),
        (Kind::ItCodiceFiscale, "RCCMNL83S18D969H"),
        (Kind::EsNif, "54362315K"),
        (Kind::EsNif, "X2482300W"),
        (Kind::BeNrn, "85.07.30-033.28"),
        (Kind::ChAhv, "756.9217.0769.85"),
        (Kind::PlPesel, "44051401359"),
        (Kind::CzRc, "710319/2745"),
        (Kind::RoCnp, "1630615123457"),
        (Kind::SePersonnummer, "880320-0016"),
        (Kind::NoFodselsnummer, "15108695088"),
        (Kind::FiHetu, "131052-308T"),
        (Kind::TrTckn, "17291716060"),
        (Kind::InAadhaar, "2341 2341 2346"),
        (Kind::InPan, "ACUPA7085R"),
        (Kind::CnRic, "11010519491231002X"),
        (Kind::CnRic, "360426199101010071"),
        (Kind::KrRrn, "971013-9019902"),
        (Kind::SgNric, "S1234567D"),
        (Kind::ZaId, "8001015009087"),
        (Kind::IePps, "6433435OA"),
        (Kind::CoinAddress, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        (Kind::CoinAddress, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        (Kind::CoinAddress, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"),
        (Kind::CoinKey, "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"),
        (Kind::Street, "10 Downing Street"),
        (Kind::Street, "Lindenstraße 77"),
    ];
    let mut all: Vec<(Kind, String)> = plain.into_iter().map(|(kind, value)| (kind, value.to_owned())).collect();
    let tokens = [
        (Kind::AwsKey, ["AKIA", "IOSFODNN7EXAMPLE"]),
        (Kind::GitlabToken, ["glpat-", "1234567890abcdefGHIJ"]),
        (Kind::SlackToken, ["xoxb-", "123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx"]),
        (Kind::SlackToken, ["hooks.slack.com/services/", "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"]),
        (Kind::GoogleKey, ["AIza", "SyA1bC2dE3fG4hI5jK6lM7nO8pQ9rS0tU1v"]),
        (Kind::StripeKey, ["sk_test_", "4eC39HqLyjWDarjtT1zdp7dc"]),
        (Kind::OpenaiKey, ["sk-", "abcdefGHIJ0123456789abcdefGHIJ0123456789abcdefGH"]),
        (Kind::AnthropicKey, ["sk-ant-", "api03-abcdefGHIJ0123456789abcdefGHIJ0123456789-_"]),
        (Kind::HuggingFaceToken, ["hf_", "abcdefGHIJabcdefGHIJabcdefGHIJabcd"]),
        (
            Kind::Jwt,
            [
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
                "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            ],
        ),
        (Kind::ProviderKey, ["AGE-SECRET-KEY-1", "GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"]),
    ];
    all.extend(tokens.into_iter().map(|(kind, parts)| (kind, parts.concat())));
    all.push((Kind::GithubToken, github_token("ghp_", &mut Random(7))));
    all.push((Kind::NpmToken, github_token("npm_", &mut Random(8))));
    let label = format!("{} KEY", "PRIVATE");
    all.push((Kind::PrivateKey, format!("-----BEGIN {label}-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END {label}-----")));
    all
}

#[test]
fn published_examples_are_found_whole_and_as_what_they_are() {
    let mut wrong = Vec::new();
    for (kind, value) in published() {
        for text in
            [value.clone(), format!("see {value}, please"), format!("{{\"v\":\"{value}\"}}"), format!("a\n{value}\nb")]
        {
            if found(&text) != [(kind, value.as_str())] {
                wrong.push(format!("{kind:?} in {text:?}: {:?}", found(&text)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_more_numbers_pass_is_found_beside_its_name_alone() {
    for (kind, text, value) in [
        (Kind::UkNhs, "NHS number 943 476 5919", "943 476 5919"),
        (Kind::UkNhs, "NHS 943-476-5870, of ticket 7", "943-476-5870"),
        (Kind::CaSin, "my SIN is 046 454 286", "046 454 286"),
        (Kind::AuTfn, "tax file number: 123456782", "123456782"),
        (Kind::NlBsn, "BSN 111222333", "111222333"),
        (Kind::PtNif, "NIF 123456789", "123456789"),
        (Kind::AbaRouting, "routing number 021000021", "021000021"),
        (Kind::InAadhaar, "aadhaar 234123412346", "234123412346"),
        (Kind::UsSsn, "SSN 536904399", "536904399"),
        (Kind::UsEin, "EIN 12-3456789", "12-3456789"),
        (Kind::Bic, "SWIFT DEUTDEFF500", "DEUTDEFF500"),
        (Kind::Phone, "call 0171 1234567", "0171 1234567"),
        (Kind::Phone, "phoneNumber=2125550123", "2125550123"),
        (Kind::BirthDate, "born on 12 March 1985", "12 March 1985"),
        (Kind::BirthDate, "Geburtsdatum: 12.03.1985", "12.03.1985"),
        (Kind::Secret, "api_key 9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
        (Kind::Secret, "password: hunter2!x", "hunter2!x"),
        (Kind::Secret, "\"db_password\": \"correct-horse\"", "correct-horse"),
        (Kind::Secret, "postgres://me:s3cretpw@db/x", "s3cretpw"),
    ] {
        assert_eq!(found(text), [(kind, value)], "{text}");
        // Telephones are grouped like the numbers of the NHS.
        if !text.contains("://") && kind != Kind::UkNhs {
            assert_eq!(found(value), [], "{value}");
        }
    }
}

#[test]
fn evidence_says_what_has_no_checksum() {
    for (kind, value) in published() {
        let evidence = detectors().find(value.as_bytes()).unwrap().first().unwrap().evidence;
        let checksum = !made::WITHOUT_CHECKSUM.contains(&kind);
        assert_eq!(evidence == Evidence::Checksum, checksum, "{kind:?} {value}");
    }
}

#[test]
fn one_wrong_digit_is_no_number_of_its_kind() {
    let mut random = Random(1);
    for (kind, value) in published().into_iter().filter(|(kind, _)| !made::WITHOUT_CHECKSUM.contains(kind)) {
        let places: Vec<usize> = value.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).skip(4).collect();
        for at in places {
            let mut wrong = value.clone().into_bytes();
            wrong[at] = b'0' + (wrong[at] - b'0' + 1 + random.below(9) as u8) % 10;
            let wrong = String::from_utf8(wrong).unwrap();
            // Ten stands for zero.
            if kind == Kind::BrCpf {
                continue;
            }
            assert!(!found(&wrong).iter().any(|(other, _)| *other == kind), "{kind:?} {wrong}");
        }
    }
}

#[test]
fn ordinary_text_and_code_have_nothing() {
    for text in made::ORDINARY {
        assert_eq!(found(text), [], "{text}");
    }
    let all = made::ORDINARY.join("\n");
    assert_eq!(found(&all), []);
}

#[test]
fn six_encodings_and_two_of_them_hide_nothing() {
    for value in [
        "me.myself@example.org",
        "GB82 WEST 1234 5698 7654 32",
        "4111 1111 1111 1111",
        "+44 20 7946 0958",
        "3782 822463 10005",
    ] {
        let kind = found(value)[0].0;
        for outer in made::ENCODINGS {
            let once = outer(value);
            for text in
                [once.clone(), format!("{{\"a\": \"{once}\", \"b\": 1}}"), format!("https://example.org/x/{once}?y")]
            {
                assert!(of(&text).contains(&kind), "{text}");
            }
            for inner in made::ENCODINGS {
                let twice = inner(&once);
                assert!(of(&twice).contains(&kind), "{twice}");
            }
        }
    }
}

#[test]
fn lookalikes_hide_nothing_and_places_are_those_of_the_original() {
    for (text, kind, value) in [
        ("x ４１１１ １１１１ １１１１ １１１１ y", Kind::Card, "４１１１ １１１１ １１１１ １１１１"),
        ("x 4\u{200B}111 1111\u{AD} 1111 1111 y", Kind::Card, "4\u{200B}111 1111\u{AD} 1111 1111"),
        ("ü ٤١١١١١١١١١١١١١١١ y", Kind::Card, "٤١١١١١١١١١١١١١١١"),
        ("ü 4111–1111–1111–1111 y", Kind::Card, "4111–1111–1111–1111"),
        ("ü mе＠ехаmрlе．оrg y", Kind::Email, "mе＠ехаmрlе．оrg"),
        ("ü 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 y", Kind::Card, "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ] {
        assert_eq!(found(text).first(), Some(&(kind, value)), "{text}");
    }
}
