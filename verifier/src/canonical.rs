//! Canonical JSON: no insignificant space, keys sorted bytewise and unique, integers only, no needless
//! escape. `{"a":1,"b":["x"]}` is canonical; `{"b":["x"],"a":1}`, `{"a": 1}` and `{"a":1.0}` are not.
//!
//! Reading renders again and compares, so a document has one spelling and one meaning.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::limits::JSON_BYTES_MAX;

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Above [`JSON_BYTES_MAX`].
    #[error("the document has {0} bytes, more than {JSON_BYTES_MAX}")]
    TooLarge(u64),
    /// No JSON, or not of the expected shape.
    #[error("the document is not what is expected here: {0}")]
    Shape(#[from] serde_json::Error),
    /// JSON, but not its canonical rendering.
    #[error("the document is not its own canonical rendering (first difference at byte {0})")]
    NotCanonical(usize),
    /// A number with a fraction or an exponent.
    #[error("the document holds a number that is no integer")]
    NotAnInteger,
}

/// The canonical rendering of a value.
pub fn to_canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    render(&serde_json::to_value(value)?, &mut out)?;
    Ok(out)
}

/// Reads a value whose bytes must be canonical and at most [`JSON_BYTES_MAX`] long.
///
/// `T` must refuse unknown members itself (`#[serde(deny_unknown_fields)]`).
pub fn from_canonical<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(JsonError::TooLarge(bytes.len() as u64));
    }
    let value: Value = serde_json::from_slice(bytes)?;
    let mut again = Vec::with_capacity(bytes.len());
    render(&value, &mut again)?;
    if again != bytes {
        let same = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        return Err(JsonError::NotCanonical(same));
    }
    Ok(T::deserialize(value)?)
}

fn render(value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match value {
        Value::Number(number) if number.is_f64() => return Err(JsonError::NotAnInteger),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => serde_json::to_writer(out, value)?,
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                render(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here and not left to the map: a feature of serde_json elsewhere in the build would change its order.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
            out.push(b'{');
            for (position, (key, item)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                render(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        for good in [r#"{"a":1,"b":["x\n\u0001é"]}"#, "[]", "{}", "-1", "true"] {
            let value: Value = from_canonical(good.as_bytes()).unwrap();
            assert_eq!(to_canonical(&value).unwrap(), good.as_bytes());
        }
        for bad in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a": 1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            "{}\n",
            "{",
            "",
            "-0",
            "18446744073709551616",
            "\u{feff}{}",
            "{}{}",
        ] {
            assert!(from_canonical::<Value>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(from_canonical::<Value>(&[b'"', 0xff, b'"']).is_err());
        assert!(from_canonical::<Value>("[".repeat(100_000).as_bytes()).is_err());
    }
}
