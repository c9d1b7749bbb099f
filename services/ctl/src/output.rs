//! The one place that writes results, and how text from elsewhere becomes harmless.

use serde_json::Value;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Standard output, and in which form results go there.
pub struct Output {
    /// JSON instead of lines for people.
    pub json: bool,
    to: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Nothing is written yet.
    pub fn new(json: bool) -> Self {
        Self { json, to: BufWriter::new(io::stdout().lock()) }
    }

    /// A line, in the form that was asked for; only that one is made.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn line(&mut self, human: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> io::Result<()> {
        match self.json {
            true => writeln!(self.to, "{}", json()),
            false => writeln!(self.to, "{}", human()),
        }
    }

    /// Hands over what is held back.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Text without what moves a cursor, colours a terminal, forges a line or turns the direction of reading.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || turns { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_could_forge_a_line_is_spelt_out() {
        assert_eq!(plain("a\x1b[31m\nb\u{9b}\u{202e}ü\\"), "a\\u{1b}[31m\\u{a}b\\u{9b}\\u{202e}ü\\");
    }
}
