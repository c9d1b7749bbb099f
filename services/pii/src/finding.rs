//! What a finding says: which kind, where, how sure, and on what ground. Never the value.

use std::ops::Range;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident $label:literal,)+) => {
        /// What was found. One kind per stretch of text: where several fit, the surest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[doc = $doc])+ $name,)+ }

        impl Kind {
            /// Every kind, in the order of their names here.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What [`redact`](crate::Detectors::redact) writes in its place.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => concat!("[", $label, "]"),)+ }
            }
        }
    };
}

kinds! {
    /// A name that its owner listed.
    OwnName "MY_NAME",
    /// An address that its owner listed.
    OwnAddress "MY_ADDRESS",
    /// An employer that its owner listed.
    OwnEmployer "MY_EMPLOYER",
    /// Anything else that its owner listed.
    OwnOther "MY_IDENTIFIER",
    /// A payment card.
    Card "CARD",
    /// An IBAN.
    Iban "IBAN",
    /// A BIC (SWIFT code); has no checksum.
    Bic "BIC",
    /// A bank's routing number (US).
    AbaRouting "ABA_ROUTING",
    /// A telephone number; has no checksum.
    Phone "PHONE",
    /// An e-mail address; has no checksum.
    Email "EMAIL",
    /// An IPv4 address; has no checksum.
    Ipv4 "IPV4",
    /// An IPv6 address; has no checksum.
    Ipv6 "IPV6",
    /// A MAC address; has no checksum.
    Mac "MAC",
    /// A social security number (US); has no checksum.
    UsSsn "US_SSN",
    /// A taxpayer's number (US); has no checksum.
    UsItin "US_ITIN",
    /// An employer's number (US); has no checksum.
    UsEin "US_EIN",
    /// A social insurance number (Canada).
    CaSin "CA_SIN",
    /// CPF (Brazil).
    BrCpf "BR_CPF",
    /// CURP (Mexico).
    MxCurp "MX_CURP",
    /// RUT (Chile).
    ClRut "CL_RUT",
    /// CUIT or CUIL (Argentina).
    ArCuit "AR_CUIT",
    /// An NHS number (United Kingdom).
    UkNhs "UK_NHS",
    /// A national insurance number (United Kingdom); has no checksum.
    UkNino "UK_NINO",
    /// PPS number (Ireland).
    IePps "IE_PPS",
    /// Steuer-Identifikationsnummer (Germany).
    DeTaxId "DE_TAX_ID",
    /// NIR, the number of social security (France).
    FrNir "FR_NIR",
    /// Codice fiscale (Italy).
    ItCodiceFiscale "IT_CODICE_FISCALE",
    /// NIF or NIE (Spain).
    EsNif "ES_NIF",
    /// NIF (Portugal).
    PtNif "PT_NIF",
    /// BSN (Netherlands).
    NlBsn "NL_BSN",
    /// National register number (Belgium).
    BeNrn "BE_NRN",
    /// AHV or AVS number (Switzerland).
    ChAhv "CH_AHV",
    /// PESEL (Poland).
    PlPesel "PL_PESEL",
    /// Rodné číslo (Czechia, Slovakia).
    CzRc "CZ_RC",
    /// CNP (Romania).
    RoCnp "RO_CNP",
    /// Personnummer (Sweden).
    SePersonnummer "SE_PERSONNUMMER",
    /// Fødselsnummer (Norway).
    NoFodselsnummer "NO_FODSELSNUMMER",
    /// Henkilötunnus (Finland).
    FiHetu "FI_HETU",
    /// T.C. kimlik numarası (Turkey).
    TrTckn "TR_TCKN",
    /// Aadhaar (India).
    InAadhaar "IN_AADHAAR",
    /// PAN (India); has no public checksum.
    InPan "IN_PAN",
    /// Resident identity card (China).
    CnRic "CN_RIC",
    /// Resident registration number (South Korea), of those issued before October 2020.
    KrRrn "KR_RRN",
    /// NRIC or FIN (Singapore).
    SgNric "SG_NRIC",
    /// Tax file number (Australia).
    AuTfn "AU_TFN",
    /// Identity number (South Africa).
    ZaId "ZA_ID",
    /// An access key id of AWS; has no checksum.
    AwsKey "AWS_KEY",
    /// A token of GitHub.
    GithubToken "GITHUB_TOKEN",
    /// A token of GitLab; has no checksum.
    GitlabToken "GITLAB_TOKEN",
    /// A token or a webhook of Slack; has no checksum.
    SlackToken "SLACK_TOKEN",
    /// A key of Google's; has no checksum.
    GoogleKey "GOOGLE_KEY",
    /// A key of Stripe's; has no checksum.
    StripeKey "STRIPE_KEY",
    /// A key of OpenAI's; has no checksum.
    OpenaiKey "OPENAI_KEY",
    /// A key of Anthropic's; has no checksum.
    AnthropicKey "ANTHROPIC_KEY",
    /// A token of npm.
    NpmToken "NPM_TOKEN",
    /// A token of PyPI; has no checksum that others can compute.
    PypiToken "PYPI_TOKEN",
    /// A token of Hugging Face; has no checksum.
    HuggingFaceToken "HUGGING_FACE_TOKEN",
    /// A key of another provider, known by its beginning; has no checksum.
    ProviderKey "PROVIDER_KEY",
    /// A JSON web token whose header decodes.
    Jwt "JWT",
    /// A private key in PEM.
    PrivateKey "PRIVATE_KEY",
    /// A cryptocurrency's address.
    CoinAddress "COIN_ADDRESS",
    /// A cryptocurrency's private key.
    CoinKey "COIN_KEY",
    /// A password or key by the word before it, or by its entropy; has no checksum.
    Secret "SECRET",
    /// A date of birth, by the words beside it.
    BirthDate "BIRTH_DATE",
    /// A street with a house number; has no checksum.
    Street "STREET",
}

/// On what ground it is taken for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// It carries a checksum, and that is right.
    Checksum,
    /// No checksum: its form alone (prefix, length, ranges in use).
    Form,
    /// No checksum, and a form that other things have too: words beside it say what it is.
    Context,
    /// No form either: it looks drawn at random.
    Entropy,
    /// Its owner listed it; so many edits away from what stands in the list.
    Own {
        /// 0 or 1.
        edits: u8,
    },
}

/// Something that was found. Holds no copy of the value, so that it can be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where, in bytes of the text as it was given; on boundaries of its characters.
    pub range: Range<usize>,
    /// How sure, from [`SCORE_MIN`] to 100.
    pub score: u8,
    /// Why.
    pub evidence: Evidence,
    /// Under how many encodings it lay: 0 in the plain.
    pub depth: u8,
}

/// What is less sure than this is not reported.
pub const SCORE_MIN: u8 = 50;

/// What a detector says of a candidate, before the words beside it are read.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub kind: Kind,
    pub score: u8,
    pub evidence: Evidence,
}

impl Claim {
    pub fn checksum(kind: Kind, score: u8) -> Self {
        Self { kind, score, evidence: Evidence::Checksum }
    }

    pub fn form(kind: Kind, score: u8) -> Self {
        Self { kind, score, evidence: Evidence::Form }
    }
}
