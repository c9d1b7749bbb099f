//! `SHA256SUMS`: one line per file, `HEX  PATH\n`, sorted bytewise by path, as `sha256sum -c` reads it.

use crate::digest::Digest;
use crate::limits::SUMS_BYTES_MAX;

/// The lines of a `SHA256SUMS`, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(Vec<(String, Digest)>);

/// Why bytes are no `SHA256SUMS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// Above [`SUMS_BYTES_MAX`].
    #[error("the file has {0} bytes, more than {SUMS_BYTES_MAX}")]
    TooLarge(u64),
    /// A line is not `HEX  PATH`.
    #[error("line {0} is not 64 hex digits, two spaces and a path, ended by a newline")]
    Line(usize),
    /// A path does not come after the one before it.
    #[error("line {0} is not in order: paths ascend bytewise, none twice")]
    Order(usize),
}

impl Sums {
    /// Lines for these files, in any order; of a path given twice, one is kept.
    pub fn new(lines: impl IntoIterator<Item = (String, Digest)>) -> Self {
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort();
        lines.dedup_by(|a, b| a.0 == b.0);
        Self(lines)
    }

    /// The lines, sorted by path.
    pub fn lines(&self) -> &[(String, Digest)] {
        &self.0
    }

    /// The digest that stands for a path.
    pub fn get(&self, path: &str) -> Option<&Digest> {
        let position = self.0.binary_search_by(|(name, _)| name.as_str().cmp(path)).ok()?;
        self.0.get(position).map(|(_, digest)| digest)
    }

    /// Reads a whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, SumsError> {
        if bytes.len() as u64 > SUMS_BYTES_MAX {
            return Err(SumsError::TooLarge(bytes.len() as u64));
        }
        let mut lines: Vec<(String, Digest)> = Vec::new();
        for (position, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = position + 1;
            let (path, digest) = parse_line(line).ok_or(SumsError::Line(number))?;
            if lines.last().is_some_and(|(before, _)| before.as_str() >= path) {
                return Err(SumsError::Order(number));
            }
            lines.push((path.to_owned(), digest));
        }
        Ok(Self(lines))
    }

    /// The bytes of the file.
    pub fn render(&self) -> Vec<u8> {
        self.0.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect::<String>().into_bytes()
    }
}

fn parse_line(line: &[u8]) -> Option<(&str, Digest)> {
    let line = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (hex, path) = line.split_once("  ")?;
    let plain = !path.is_empty() && !path.contains(['\\', '\r', '\0']);
    Some((path, hex.parse().ok()?)).filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let sums = Sums::new([("b".into(), Digest::of(b"2")), ("a/b".into(), Digest::of(b"1"))]);
        let bytes = sums.render();
        assert_eq!(Sums::parse(&bytes).unwrap(), sums);
        assert_eq!(sums.get("b"), Some(&Digest::of(b"2")));
        assert_eq!(sums.get("c"), None);
        assert_eq!(Sums::parse(b"").unwrap(), Sums::default());
        let text = String::from_utf8(bytes).unwrap();
        let reversed: String = text.lines().rev().map(|line| format!("{line}\n")).collect();
        assert_eq!(Sums::parse(reversed.as_bytes()), Err(SumsError::Order(2)));
        assert_eq!(Sums::parse(text.trim_end().as_bytes()), Err(SumsError::Line(2)));
        assert_eq!(Sums::parse(text.replacen("  ", " *", 1).as_bytes()), Err(SumsError::Line(1)));
        assert_eq!(Sums::parse(text.to_uppercase().as_bytes()), Err(SumsError::Line(1)));
    }
}
