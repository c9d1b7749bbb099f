//! The in-toto statement around the SBOM, as exact bytes:
//!
//! ```json
//! {"_type":"https://in-toto.io/Statement/v1","subject":[{"name":NAME,"digest":{"sha256":HEX}}],
//!  "predicateType":"https://cyclonedx.org/bom","predicate":DOCUMENT}
//! ```
//! in one line. The document is spliced in and out as it is: its digest is that of its bytes here.

use std::ops::Range;

use crate::digest::Digest;
use crate::layout::CYCLONEDX_PREDICATE;
use crate::release::is_name;

/// What a statement says, and where its predicate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The image's name.
    pub name: String,
    /// Digest of the image's manifest.
    pub manifest: Digest,
    /// The predicate's bytes, within the payload that was parsed.
    pub predicate: Range<usize>,
}

/// Why bytes are no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The text around name, digest and predicate is another.
    #[error("the statement is not `{HEAD}NAME{MIDDLE}HEX…` around one CycloneDX document")]
    Shape,
    /// The subject's name has other characters.
    #[error("the subject's name is not of the form [a-z0-9][a-z0-9-]{{0,63}}")]
    Name,
    /// The subject's digest is none.
    #[error("the subject's digest is not 64 lower-case hex digits")]
    Digest,
}

const HEAD: &str = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":""#;
const MIDDLE: &str = r#"","digest":{"sha256":""#;

fn tail() -> String {
    format!(r#""}}}}],"predicateType":"{CYCLONEDX_PREDICATE}","predicate":"#)
}

/// The payload that says: this document describes the image of this name and manifest.
pub fn render(name: &str, manifest: &Digest, document: &[u8]) -> Result<Vec<u8>, StatementError> {
    if !is_name(name) {
        return Err(StatementError::Name);
    }
    let head = format!("{HEAD}{name}{MIDDLE}{manifest}{}", tail());
    let mut out = Vec::with_capacity(head.len() + document.len() + 1);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(document);
    out.push(b'}');
    Ok(out)
}

/// Reads a payload; the document inside is not parsed.
pub fn parse(payload: &[u8]) -> Result<Statement, StatementError> {
    let rest = payload.strip_prefix(HEAD.as_bytes()).ok_or(StatementError::Shape)?;
    let end = rest.iter().position(|&byte| byte == b'"').ok_or(StatementError::Shape)?;
    let (name, rest) = rest.split_at(end);
    let name = str::from_utf8(name).ok().filter(|name| is_name(name)).ok_or(StatementError::Name)?;
    let rest = rest.strip_prefix(MIDDLE.as_bytes()).ok_or(StatementError::Shape)?;
    let (hex, rest) = rest.split_at_checked(64).ok_or(StatementError::Digest)?;
    let hex = str::from_utf8(hex).map_err(|_| StatementError::Digest)?;
    let manifest = hex.parse().map_err(|_| StatementError::Digest)?;
    let rest = rest.strip_prefix(tail().as_bytes()).ok_or(StatementError::Shape)?;
    let document = rest.strip_suffix(b"}").ok_or(StatementError::Shape)?;
    let start = payload.len() - rest.len();
    Ok(Statement { name: name.to_owned(), manifest, predicate: start..start + document.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splices_in_and_out() {
        let manifest = Digest::of(b"m");
        let payload = render("minimal", &manifest, b"{\"a\":1}").unwrap();
        let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(value["predicate"]["a"], 1);
        assert_eq!(value["subject"][0]["digest"]["sha256"], manifest.to_string());
        let statement = parse(&payload).unwrap();
        assert_eq!((statement.name.as_str(), statement.manifest), ("minimal", manifest));
        assert_eq!(&payload[statement.predicate], b"{\"a\":1}");
        for cut in 0..payload.len() {
            if let Ok(statement) = parse(&payload[..cut]) {
                assert!(payload[..cut].ends_with(b"}"));
                assert!(statement.predicate.end < cut);
            }
        }
        assert_eq!(render("a\"b", &manifest, b""), Err(StatementError::Name));
    }
}
