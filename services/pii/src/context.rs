//! Words beside a candidate that say what it is, or that it is something else.

use crate::finding::{Claim, Evidence, Kind, SCORE_MIN};
use aho_corasick::{AhoCorasick, BuildError};

/// Some eight words before a candidate, and four after it.
const BEFORE_BYTES: usize = 64;
const AFTER_BYTES: usize = 32;

/// What a word that names it adds: enough to report a checksum that one random number in eleven passes.
const RAISE: u8 = 35;
/// What a word for another kind of number takes.
const LOWER: u8 = 30;
/// Surer ones are not lowered: an order's number passes no two checks.
const LOWERED_MAX: u8 = 75;

#[rustfmt::skip]
const WORDS: &[(&str, &[Kind])] = &[
    ("card", &[Kind::Card]), ("credit", &[Kind::Card]), ("debit", &[Kind::Card]), ("visa", &[Kind::Card]), ("mastercard", &[Kind::Card]),
    ("amex", &[Kind::Card]), ("cvv", &[Kind::Card]), ("kreditkarte", &[Kind::Card]), ("carte", &[Kind::Card]), ("tarjeta", &[Kind::Card]),
    ("bic", &[Kind::Bic]), ("swift", &[Kind::Bic]), ("iban", &[Kind::Bic]),
    ("routing", &[Kind::AbaRouting]), ("aba", &[Kind::AbaRouting]), ("rtn", &[Kind::AbaRouting]), ("bank", &[Kind::AbaRouting, Kind::Bic]),
    ("phone", &[Kind::Phone]), ("telephone", &[Kind::Phone]), ("tel", &[Kind::Phone]), ("mobile", &[Kind::Phone]), ("cell", &[Kind::Phone]),
    ("call", &[Kind::Phone]), ("fax", &[Kind::Phone]), ("whatsapp", &[Kind::Phone]), ("telefon", &[Kind::Phone]), ("handy", &[Kind::Phone]),
    ("telefono", &[Kind::Phone]), ("movil", &[Kind::Phone]), ("telefone", &[Kind::Phone]), ("portable", &[Kind::Phone]), ("sms", &[Kind::Phone]),
    ("ssn", &[Kind::UsSsn]), ("social security", &[Kind::UsSsn, Kind::FrNir]), ("itin", &[Kind::UsItin]),
    ("taxpayer", &[Kind::UsItin, Kind::UsSsn]), ("ein", &[Kind::UsEin]), ("fein", &[Kind::UsEin]), ("employer identification", &[Kind::UsEin]),
    ("sin", &[Kind::CaSin]), ("social insurance", &[Kind::CaSin]), ("cpf", &[Kind::BrCpf]), ("curp", &[Kind::MxCurp]), ("rut", &[Kind::ClRut]),
    ("cuit", &[Kind::ArCuit]), ("cuil", &[Kind::ArCuit]), ("nhs", &[Kind::UkNhs]), ("health service", &[Kind::UkNhs]), ("patient", &[Kind::UkNhs]),
    ("nino", &[Kind::UkNino]), ("national insurance", &[Kind::UkNino]), ("pps", &[Kind::IePps]), ("ppsn", &[Kind::IePps]),
    ("steuer", &[Kind::DeTaxId]), ("idnr", &[Kind::DeTaxId]), ("tax id", &[Kind::DeTaxId, Kind::AuTfn, Kind::PtNif, Kind::UsItin]),
    ("nir", &[Kind::FrNir]), ("securite sociale", &[Kind::FrNir]), ("codice fiscale", &[Kind::ItCodiceFiscale]),
    ("nif", &[Kind::EsNif, Kind::PtNif]), ("dni", &[Kind::EsNif]), ("nie", &[Kind::EsNif]), ("contribuinte", &[Kind::PtNif]),
    ("bsn", &[Kind::NlBsn]), ("burgerservicenummer", &[Kind::NlBsn]), ("rijksregister", &[Kind::BeNrn]), ("ahv", &[Kind::ChAhv]), ("avs", &[Kind::ChAhv]),
    ("pesel", &[Kind::PlPesel]), ("rodne cislo", &[Kind::CzRc]), ("cnp", &[Kind::RoCnp]), ("personnummer", &[Kind::SePersonnummer]),
    ("fodselsnummer", &[Kind::NoFodselsnummer]), ("hetu", &[Kind::FiHetu]), ("kimlik", &[Kind::TrTckn]), ("tckn", &[Kind::TrTckn]),
    ("aadhaar", &[Kind::InAadhaar]), ("uidai", &[Kind::InAadhaar]), ("pan", &[Kind::InPan]), ("nric", &[Kind::SgNric]),
    ("tfn", &[Kind::AuTfn]), ("tax file", &[Kind::AuTfn]), ("id number", &[Kind::ZaId]), ("rrn", &[Kind::KrRrn]),
    ("ip", &[Kind::Ipv4, Kind::Ipv6]), ("address", &[Kind::Ipv4, Kind::Ipv6, Kind::CoinAddress, Kind::Street]), ("mac", &[Kind::Mac]),
    ("ethereum", &[Kind::CoinAddress]), ("eth", &[Kind::CoinAddress]), ("wallet", &[Kind::CoinAddress]), ("bitcoin", &[Kind::CoinAddress]),
    ("password", &[Kind::Secret]), ("secret", &[Kind::Secret]), ("token", &[Kind::Secret]), ("api_key", &[Kind::Secret]), ("apikey", &[Kind::Secret]),
    ("api key", &[Kind::Secret]), ("api-key", &[Kind::Secret]), ("bearer", &[Kind::Secret]), ("credential", &[Kind::Secret]), ("private key", &[Kind::Secret]),
    ("secret_key", &[Kind::Secret]), ("private_key", &[Kind::Secret]), ("access_key", &[Kind::Secret]), ("authorization", &[Kind::Secret]),
    ("born", &[Kind::BirthDate]), ("birth", &[Kind::BirthDate]), ("birthday", &[Kind::BirthDate]), ("birthdate", &[Kind::BirthDate]), ("dob", &[Kind::BirthDate]),
    ("geboren", &[Kind::BirthDate]), ("geburtsdatum", &[Kind::BirthDate]), ("naissance", &[Kind::BirthDate]), ("nacimiento", &[Kind::BirthDate]),
    ("nascita", &[Kind::BirthDate]), ("nascimento", &[Kind::BirthDate]), ("geboortedatum", &[Kind::BirthDate]), ("nee le", &[Kind::BirthDate]), ("ne le", &[Kind::BirthDate]),
    ("lives at", &[Kind::Street]), ("live at", &[Kind::Street]), ("home", &[Kind::Street]), ("adresse", &[Kind::Street]),
];

/// Names of numbers that are nobody's.
const OTHERS: &[&str] = &[
    "order",
    "invoice",
    "ticket",
    "tracking",
    "isbn",
    "issn",
    "doi",
    "version",
    "release",
    "build",
    "commit",
    "revision",
    "checksum",
    "sha256",
    "sha512",
    "sha1",
    "md5",
    "digest",
    "hash",
    "integrity",
    "timestamp",
    "serial",
    "part number",
    "model",
    "port",
    "oid",
    "offset",
    "bytes",
    "issue",
    "rfc",
    "barcode",
    "sku",
];

/// What stands beside a candidate: how many bytes away.
pub(crate) struct Beside {
    /// A bit by kind that a word names.
    named: Vec<(u128, usize)>,
    other: usize,
}

pub(crate) struct Context {
    words: AhoCorasick,
}

fn bit(kind: Kind) -> u128 {
    1 << kind as u32
}

impl Context {
    pub fn new() -> Result<Self, BuildError> {
        let words = WORDS.iter().map(|(word, _)| *word).chain(OTHERS.iter().copied());
        Ok(Self { words: AhoCorasick::builder().ascii_case_insensitive(true).build(words)? })
    }

    /// Reads no more than its window, however long the text is.
    pub fn beside(&self, bytes: &[u8], start: usize, end: usize) -> Beside {
        let mut beside = Beside { named: Vec::new(), other: usize::MAX };
        let windows = [(start.saturating_sub(BEFORE_BYTES), start), (end, bytes.len().min(end + AFTER_BYTES))];
        for (from, to) in windows {
            let Some(window) = bytes.get(from..to) else { continue };
            let away = |word: &aho_corasick::Match| if to == start { window.len() - word.end() } else { word.start() };
            for found in self.words.find_overlapping_iter(window) {
                let before = found.start().checked_sub(1).and_then(|at| window.get(at)).copied();
                let after = window.get(found.end()).copied();
                let last = window.get(found.end() - 1).copied().unwrap_or_default();
                // `phoneNumber` is about a phone; `[PHONE]` is what was redacted.
                let ends = match after {
                    None => true,
                    Some(byte) if byte.is_ascii_uppercase() => last.is_ascii_lowercase(),
                    Some(b's') => !window.get(found.end() + 1).is_some_and(u8::is_ascii_alphabetic),
                    Some(byte) => !byte.is_ascii_alphabetic() && byte != b']',
                };
                if ends && !before.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'[') {
                    match WORDS.get(found.pattern().as_usize()) {
                        Some((_, kinds)) => {
                            let mask = kinds.iter().fold(0, |mask, kind| mask | bit(*kind));
                            beside.named.push((mask, away(&found)));
                        }
                        None => beside.other = beside.other.min(away(&found)),
                    }
                }
            }
        }
        beside
    }
}

impl Beside {
    /// Whether a word names the kind, and none for another kind of number is nearer.
    pub fn names(&self, kind: Kind) -> bool {
        self.named.iter().any(|(mask, away)| mask & bit(kind) != 0 && *away <= self.other)
    }

    /// What is left of a claim, if it is to be reported.
    pub fn judge(&self, claim: Claim) -> Option<Claim> {
        let mut claim = claim;
        if self.names(claim.kind) {
            if claim.evidence == Evidence::Form && claim.score < SCORE_MIN {
                claim.evidence = Evidence::Context;
            }
            claim.score = (claim.score + RAISE).min(100);
        } else if self.other != usize::MAX && claim.score <= LOWERED_MAX {
            claim.score = claim.score.saturating_sub(LOWER);
        }
        (claim.score >= SCORE_MIN).then_some(claim)
    }
}
