//! JSON as Python's `json` module writes it: read strictly, and written again with sorted keys.
//!
//! Numbers keep their spelling, which must be the one that Python would choose; texts become ASCII. So what Python
//! would hash after reading a line is known without Python.

use std::cmp::Ordering;

use crate::limits::DEPTH_MAX;

/// A value. Numbers, `true`, `null` and `NaN` are their spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Plain(String),
    Text(Text),
    List(Vec<Value>),
    Map(Vec<(Text, Value)>),
}

/// A text as code points: Python's may hold halves of surrogate pairs, which no UTF-8 has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(Vec<u32>);

impl Text {
    pub fn of(text: &str) -> Self {
        Self(text.chars().map(u32::from).collect())
    }

    pub fn is(&self, text: &str) -> bool {
        *self == Self::of(text)
    }

    /// As a Rust text, where it is one.
    pub fn string(&self) -> Option<String> {
        self.0.iter().map(|point| char::from_u32(*point)).collect()
    }

    fn render(&self, out: &mut String) {
        out.push('"');
        for point in &self.0 {
            match char::from_u32(*point) {
                Some('"') => out.push_str("\\\""),
                Some('\\') => out.push_str("\\\\"),
                Some('\n') => out.push_str("\\n"),
                Some('\r') => out.push_str("\\r"),
                Some('\t') => out.push_str("\\t"),
                Some('\u{c}') => out.push_str("\\f"),
                Some('\u{8}') => out.push_str("\\b"),
                Some(c @ ' '..='~') => out.push(c),
                Some(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
                None => out.push_str(&format!("\\u{point:04x}")),
            }
        }
        out.push('"');
    }
}

impl Value {
    /// As `json.dumps(value, sort_keys=True, separators=(",", ":"))`.
    pub fn render(&self, out: &mut String) {
        match self {
            Self::Plain(spelling) => out.push_str(spelling),
            Self::Text(text) => text.render(out),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.render(out);
                }
                out.push(']');
            }
            Self::Map(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                out.push('{');
                for (at, (key, item)) in members.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    key.render(out);
                    out.push(':');
                    item.render(out);
                }
                out.push('}');
            }
        }
    }

    /// Reads a value without any space between its parts; what is wrong otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let mut parser = Parser { rest: text };
        let value = parser.value(0)?;
        if parser.rest.is_empty() { Ok(value) } else { Err("something follows the value") }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, &'static str> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        if self.rest.starts_with('"') {
            return self.text().map(Value::Text);
        }
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                if !items.is_empty() && !self.take(",") {
                    return Err("a list is not spelled as Python does");
                }
                items.push(self.value(depth + 1)?);
            }
            return Ok(Value::List(items));
        }
        if self.take("{") {
            let mut members: Vec<(Text, Value)> = Vec::new();
            while !self.take("}") {
                if !members.is_empty() && !self.take(",") {
                    return Err("an object is not spelled as Python does");
                }
                let key = self.text()?;
                if !self.take(":") {
                    return Err("an object is not spelled as Python does");
                }
                members.push((key, self.value(depth + 1)?));
            }
            let mut keys: Vec<&Text> = members.iter().map(|(key, _)| key).collect();
            keys.sort();
            if keys.windows(2).any(|pair| pair.first().cmp(&pair.last()) == Ordering::Equal) {
                return Err("a key stands twice");
            }
            return Ok(Value::Map(members));
        }
        for word in ["true", "false", "null", "NaN", "Infinity", "-Infinity"] {
            if self.take(word) {
                return Ok(Value::Plain(word.to_owned()));
            }
        }
        let length = self.rest.bytes().take_while(|byte| b"0123456789+-.eE".contains(byte)).count();
        let (number, rest) = self.rest.split_at_checked(length).ok_or("a value is none")?;
        self.rest = rest;
        if is_python_number(number) {
            Ok(Value::Plain(number.to_owned()))
        } else {
            Err("a number is not spelled as Python does")
        }
    }

    fn text(&mut self) -> Result<Text, &'static str> {
        const SPELLING: &str = "a text is not spelled as Python does";
        if !self.take("\"") {
            return Err(SPELLING);
        }
        let mut points: Vec<u32> = Vec::new();
        loop {
            let mut chars = self.rest.chars();
            let next = chars.next().ok_or("a text does not end")?;
            self.rest = chars.as_str();
            let point = match next {
                '"' => return Ok(Text(points)),
                '\\' => {
                    let escape = chars.next().ok_or(SPELLING)?;
                    self.rest = chars.as_str();
                    match escape {
                        '"' | '\\' => u32::from(escape),
                        'n' => 10,
                        'r' => 13,
                        't' => 9,
                        'f' => 12,
                        'b' => 8,
                        'u' => {
                            let (hex, rest) = self.rest.split_at_checked(4).ok_or(SPELLING)?;
                            let lower = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                            let unit = u32::from_str_radix(hex, 16).ok().filter(|_| lower).ok_or(SPELLING)?;
                            if (32..=126).contains(&unit) || [8, 9, 10, 12, 13].contains(&unit) {
                                return Err(SPELLING);
                            }
                            self.rest = rest;
                            match points.last() {
                                // The second half of a pair; a high half that was written raw cannot be.
                                Some(high @ 0xd800..=0xdbff) if (0xdc00..=0xdfff).contains(&unit) => {
                                    let point = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                                    points.pop();
                                    point
                                }
                                _ => unit,
                            }
                        }
                        _ => return Err(SPELLING),
                    }
                }
                c if u32::from(c) < 32 => return Err(SPELLING),
                c => u32::from(c),
            };
            points.push(point);
        }
    }
}

/// An integer of any length, or a float as `repr` spells it.
fn is_python_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text == "0" || !digits.starts_with('0');
    }
    text.parse::<f64>().is_ok_and(|value| value.is_finite() && repr(value) == text)
}

/// `repr` of a float: the shortest digits that read back as the same, with an exponent below 1e-4 and from 1e16 on.
fn repr(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if (-4..16).contains(&exponent) => {
            let fixed = format!("{value}");
            if fixed.contains('.') { fixed } else { format!("{fixed}.0") }
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}
