//! Reads the output of `nft list ruleset` (1.0.6 and 1.1.3), strictly: what this project does not write itself is
//! refused with its place. Two readers of one text must not see two rulesets.

use super::rules::{Act, Base, Chain, Condition, Elements, Field, Hook, INET_TABLE, LINK_TABLE};
use super::rules::{Limit, Rule, Ruleset, Span, TCP, Table, With};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A ruleset of ours has 10 KB, and 1 KB for each link.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Links, rules, values: far above what a device has, and what keeps the proof short.
const MANY: usize = 4096;
/// Our largest set has 14 elements; each is compared with each.
const ELEMENTS_MAX: usize = 256;
/// Ours has three, maps among them.
const SETS_MAX: usize = 8;

/// Why a text is not a ruleset of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Above [`TEXT_BYTES_MAX`].
    #[error("the text has {0} bytes, more than {TEXT_BYTES_MAX}")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    NotText,
    /// What is not ours.
    #[error("line {line}: {what}")]
    Foreign {
        /// From 1 on.
        line: usize,
        /// What was found, and what was expected.
        what: String,
    },
}

/// Reads the text.
///
/// # Errors
/// [`ParseError`].
pub fn parse(bytes: &[u8]) -> Result<Ruleset, ParseError> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(ParseError::TooLarge(bytes.len()));
    }
    let text = str::from_utf8(bytes).map_err(|_| ParseError::NotText)?;
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    parser.ruleset()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// Letters, digits and what stands within names, numbers and addresses.
    Word(&'a str),
    /// Between double quotes.
    Quoted(&'a str),
    /// `{ } , ; = : @ !=`, and of flags `& ( | ) ==`
    Mark(&'static str),
    /// The end of a line.
    Line,
}

const MARKS: [&str; 13] = ["!=", "==", "{", "}", ",", ";", "=", ":", "@", "&", "(", "|", ")"];

fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, ParseError> {
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let mut rest = line.trim_matches([' ', '\t']);
        while !rest.is_empty() {
            let (token, length) = if let Some(quoted) = rest.strip_prefix('"') {
                let inner = quoted.split('"').next().filter(|inner| inner.len() < quoted.len());
                let inner = inner.filter(|inner| inner.chars().all(|it| it.is_ascii_graphic() && it != '\\'));
                let inner = inner.ok_or_else(|| foreign(number, "a name within quotes that is none"))?;
                (Token::Quoted(inner), inner.len() + 2)
            // Some addresses of IPv6 begin with colons.
            } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark) && !rest.starts_with("::")) {
                (Token::Mark(mark), mark.len())
            } else {
                let is_word = |it: char| it.is_ascii_alphanumeric() || "_-./:".contains(it);
                let word = rest.find(|it| !is_word(it)).map_or(rest, |end| &rest[..end]);
                if word.is_empty() {
                    return Err(foreign(number, "a character that no ruleset of ours has"));
                }
                (Token::Word(word), word.len())
            };
            tokens.push((number, token));
            rest = rest[length..].trim_start_matches([' ', '\t']);
        }
        tokens.push((number, Token::Line));
    }
    Ok(tokens)
}

fn foreign(line: usize, what: impl Into<String>) -> ParseError {
    ParseError::Foreign { line, what: what.into() }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(_, token)| *token)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The error at the token that was taken last.
    fn no<T>(&self, expected: &str) -> Result<T, ParseError> {
        let at = self.at.saturating_sub(1).min(self.tokens.len().saturating_sub(1));
        let (line, found) = match self.tokens.get(at).filter(|_| self.at <= self.tokens.len()) {
            Some((line, Token::Word(word) | Token::Quoted(word))) => (*line, format!("`{word}`")),
            Some((line, Token::Mark(mark))) => (*line, format!("`{mark}`")),
            Some((line, Token::Line)) => (*line, "the end of the line".to_owned()),
            None => (self.tokens.last().map_or(1, |(line, _)| *line), "the end of the text".to_owned()),
        };
        Err(foreign(line, format!("{found} where {expected} is expected")))
    }

    fn lines(&mut self) {
        while self.peek() == Some(Token::Line) {
            self.at += 1;
        }
    }

    fn took(&mut self, token: Token<'_>) -> bool {
        let is = self.peek() == Some(token);
        self.at += usize::from(is);
        is
    }

    fn word(&mut self, expected: &str) -> Result<&'a str, ParseError> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => self.no(expected),
        }
    }

    fn exactly(&mut self, words: &[&str]) -> Result<(), ParseError> {
        words.iter().try_for_each(|word| match self.next() {
            Some(Token::Word(found)) if found == *word => Ok(()),
            Some(Token::Mark(found)) if found == *word => Ok(()),
            _ => self.no(&format!("`{word}`")),
        })
    }

    fn quoted(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.next() {
            Some(Token::Quoted(name)) => Ok(name.to_owned()),
            _ => self.no(expected),
        }
    }

    /// A name of nft's: a letter, then letters, digits and `_`.
    fn name(&mut self, expected: &str) -> Result<String, ParseError> {
        let word = self.word(expected)?;
        let good = word.starts_with(|it: char| it.is_ascii_alphabetic())
            && word.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        if good { Ok(word.to_owned()) } else { self.no(expected) }
    }

    fn number(&mut self, max: u64) -> Result<u64, ParseError> {
        let word = self.word("a number")?;
        match number(word).filter(|it| *it <= max) {
            Some(number) => Ok(number),
            None => self.no("a number within bounds"),
        }
    }

    fn ruleset(&mut self) -> Result<Ruleset, ParseError> {
        let (mut inet, mut links) = (None, None);
        loop {
            self.lines();
            if self.peek().is_none() {
                return Ok(Ruleset { inet: inet.unwrap_or_default(), links: links.unwrap_or_default() });
            }
            self.exactly(&["table"])?;
            let (family, name) = (self.word("a family")?, self.word("a name")?);
            let (table, is_inet) = match (family, name) {
                ("inet", INET_TABLE) => (&mut inet, true),
                ("netdev", LINK_TABLE) => (&mut links, false),
                _ => return self.no("one of our two tables"),
            };
            if table.is_some() {
                return self.no("a table that was not there before");
            }
            *table = Some(self.table(is_inet)?);
        }
    }

    fn table(&mut self, inet: bool) -> Result<Table, ParseError> {
        self.exactly(&["{"])?;
        let mut table = Table::default();
        loop {
            self.lines();
            if self.took(Token::Mark("}")) {
                return Ok(table);
            }
            let what = self.word("`counter`, `set`, `map`, `chain`")?;
            let name = self.name("a name")?;
            let twice = match what {
                "counter" => table.counters.contains_key(&name),
                "set" | "map" => table.sets.contains_key(&name) || table.maps.contains_key(&name),
                _ => table.chain(&name).is_some(),
            };
            if twice {
                return self.no("a name that was not there before");
            }
            self.exactly(&["{"])?;
            self.lines();
            match what {
                "counter" => {
                    let counted = self.counted()?;
                    table.counters.insert(name, counted);
                }
                "set" => {
                    let elements = self.set()?;
                    table.sets.insert(name, elements);
                }
                "map" => {
                    let pairs = self.map()?;
                    table.maps.insert(name, pairs);
                }
                "chain" => {
                    let chain = self.chain(name, inet)?;
                    table.chains.push(chain);
                }
                _ => return self.no("`counter`, `set`, `map` or `chain`"),
            }
            let size = table.counters.len() + table.sets.len() + table.maps.len() + table.chains.len();
            if size > MANY || table.sets.len() + table.maps.len() > SETS_MAX {
                return self.no("the end of a table that is too large");
            }
        }
    }

    fn counted(&mut self) -> Result<(u64, u64), ParseError> {
        self.exactly(&["packets"])?;
        let packets = self.number(u64::MAX)?;
        self.exactly(&["bytes"])?;
        let bytes = self.number(u64::MAX)?;
        self.lines();
        self.exactly(&["}"])?;
        Ok((packets, bytes))
    }

    fn set(&mut self) -> Result<Elements, ParseError> {
        self.exactly(&["type"])?;
        let kind = self.word("a type")?;
        self.lines();
        if kind != "mark" {
            for words in [&["flags", "interval"][..], &["auto-merge"]] {
                self.exactly(words)?;
                self.lines();
            }
        }
        Ok(match kind {
            "mark" => Elements::Marks(self.elements(|it| {
                let mark = it.number(u64::from(u32::MAX))?;
                Ok(u32::try_from(mark).unwrap_or(u32::MAX))
            })?),
            "ipv4_addr" => Elements::V4(self.elements(|it| {
                let word = it.word("an address of IPv4")?;
                match span(word, 32, |text| text.parse::<Ipv4Addr>().ok().map(|it| u128::from(it.to_bits()))) {
                    Some((first, last)) => Ok((u32::try_from(first).unwrap_or(0), u32::try_from(last).unwrap_or(0))),
                    None => it.no("an address of IPv4"),
                }
            })?),
            "ipv6_addr" => Elements::V6(self.elements(|it| {
                let word = it.word("an address of IPv6")?;
                match span(word, 128, |text| text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits)) {
                    Some(span) => Ok(span),
                    None => it.no("an address of IPv6"),
                }
            })?),
            _ => return self.no("a set of addresses or marks"),
        })
    }

    fn map(&mut self) -> Result<BTreeMap<u64, u32>, ParseError> {
        self.exactly(&["type", "inet_proto", ":", "mark"])?;
        self.lines();
        let pairs = self.elements(|it| {
            let proto = it.value(Field::L4Proto)?;
            it.exactly(&[":"])?;
            let mark = it.number(u64::from(u32::MAX))?;
            Ok((proto, u32::try_from(mark).unwrap_or(u32::MAX)))
        })?;
        let count = pairs.len();
        let map: BTreeMap<u64, u32> = pairs.into_iter().collect();
        if map.len() == count { Ok(map) } else { self.no("a map without a key twice") }
    }

    /// `elements = { … }` over several lines, or none, and the end of the set.
    fn elements<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut elements = Vec::new();
        if self.took(Token::Word("elements")) {
            self.exactly(&["=", "{"])?;
            loop {
                self.lines();
                elements.push(one(self)?);
                if elements.len() > ELEMENTS_MAX {
                    return self.no("the end of a set that is too large");
                }
                self.lines();
                if self.took(Token::Mark("}")) {
                    break;
                }
                self.exactly(&[","])?;
            }
            self.lines();
        }
        self.exactly(&["}"])?;
        Ok(elements)
    }

    fn chain(&mut self, name: String, inet: bool) -> Result<Chain, ParseError> {
        let mut chain = Chain { name, base: None, rules: Vec::new() };
        if self.took(Token::Word("type")) {
            chain.base = Some(self.base(inet)?);
        }
        loop {
            self.lines();
            if self.took(Token::Mark("}")) {
                return Ok(chain);
            }
            chain.rules.push(self.rule(inet)?);
            if chain.rules.len() > MANY {
                return self.no("the end of a chain that is too long");
            }
        }
    }

    fn base(&mut self, inet: bool) -> Result<Base, ParseError> {
        self.exactly(&["filter", "hook"])?;
        let hook = match (self.word("a hook")?, inet) {
            ("input", true) => Hook::Input,
            ("forward", true) => Hook::Forward,
            ("output", true) => Hook::Output,
            ("egress", false) => {
                let there = self.took(Token::Word("device"));
                Hook::Egress(if there { Some(self.quoted("a link")?) } else { None })
            }
            _ => return self.no("`input`, `forward`, `output` of packets, or `egress` of frames"),
        };
        self.exactly(&["priority"])?;
        match self.word("a priority")? {
            "filter" | "0" => {}
            _ => return self.no("`filter`"),
        }
        self.exactly(&[";", "policy"])?;
        let drops = match self.word("a policy")? {
            "drop" => true,
            "accept" => false,
            _ => return self.no("`drop`"),
        };
        self.exactly(&[";"])?;
        Ok(Base { hook, drops })
    }

    fn rule(&mut self, inet: bool) -> Result<Rule, ParseError> {
        let mut rule = Rule::new(Vec::new(), Vec::new());
        while self.peek() != Some(Token::Line) {
            let ended = rule.acts.last().is_some_and(Act::is_verdict);
            if ended {
                self.next();
                return self.no("the end of the rule");
            }
            match self.act(&rule)? {
                Some(act) => rule.acts.push(act),
                // What is compared after something was done would be another rule than the one that is proven.
                None if rule.acts.is_empty() => {
                    let condition = self.condition(inet)?;
                    rule.conditions.push(condition);
                }
                None => {
                    self.next();
                    return self.no("what a rule does");
                }
            }
            if rule.conditions.len() + rule.acts.len() > MANY {
                return self.no("the end of a rule that is too long");
            }
        }
        Ok(rule)
    }

    fn act(&mut self, rule: &Rule) -> Result<Option<Act>, ParseError> {
        let Some(Token::Word(first)) = self.peek() else { return Ok(None) };
        let ahead = |by: usize| self.tokens.get(self.at + by).map(|(_, token)| *token);
        let is_set = ahead(1) == Some(Token::Word("mark")) && ahead(2) == Some(Token::Word("set"));
        match first {
            "meta" if is_set && ahead(3) != Some(Token::Word("meta")) => {
                self.exactly(&["meta", "mark", "set"])?;
                self.number(0)?;
                Ok(Some(Act::ClearMark))
            }
            "meta" | "ct" if is_set => {
                self.exactly(&[first, "mark", "set", "meta", "l4proto", "map", "@"])?;
                let map = self.name("the name of a map")?;
                Ok(Some(if first == "ct" { Act::MarkFlow(map) } else { Act::MarkPacket(map) }))
            }
            "limit" => {
                self.exactly(&["limit", "rate"])?;
                let word = self.word("a rate")?;
                let limit = word.split_once('/').and_then(|(rate, unit)| {
                    let (_, seconds) = Limit::UNITS.iter().find(|(name, _)| *name == unit)?;
                    let rate = number(rate).filter(|rate| (1..=u64::from(u32::MAX)).contains(rate))?;
                    Some(Limit { rate, seconds: *seconds, burst: Limit::BURST })
                });
                let Some(mut limit) = limit else { return self.no("a rate like 6/minute") };
                if self.took(Token::Word("burst")) {
                    limit.burst = self.number(u64::from(u32::MAX))?;
                    self.exactly(&["packets"])?;
                }
                Ok(Some(Act::Limit(limit)))
            }
            "counter" => {
                self.exactly(&["counter", "name"])?;
                Ok(Some(Act::Count(self.quoted("the name of a counter")?)))
            }
            "reject" => {
                self.exactly(&["reject", "with", "tcp", "reset"])?;
                // nft adds this condition to every such rule: one without it was not listed by nft.
                let tcp = Condition::is(Field::L4Proto, TCP);
                if rule.conditions.contains(&tcp) {
                    Ok(Some(Act::Reject))
                } else {
                    self.no("`meta l4proto tcp` before")
                }
            }
            "goto" => {
                self.at += 1;
                Ok(Some(Act::Goto(self.name("the name of a chain")?)))
            }
            "accept" | "drop" => {
                self.at += 1;
                Ok(Some(if first == "drop" { Act::Drop } else { Act::Accept }))
            }
            _ => Ok(None),
        }
    }

    fn condition(&mut self, inet: bool) -> Result<Condition, ParseError> {
        let one = self.word("a condition or what a rule does")?;
        let two = if matches!(one, "iif" | "oif") { "" } else { self.word("what is compared")? };
        let known = Field::ALL.iter().find(|(_, first, second, packets, frames)| {
            (*first, *second) == (one, two) && if inet { *packets } else { *frames }
        });
        let Some((field, ..)) = known else { return self.no("what our rules compare here") };
        let field = *field;
        if field == Field::TcpFlags {
            return self.begins();
        }
        let not = self.took(Token::Mark("!="));
        let with = match self.peek() {
            Some(Token::Quoted(_)) if matches!(field, Field::InLink | Field::OutLink) => {
                With::Link(self.quoted("a link")?)
            }
            _ if matches!(field, Field::InLink | Field::OutLink) => {
                self.next();
                return self.no("a link within quotes");
            }
            Some(Token::Mark("@")) => {
                self.at += 1;
                With::Set(self.name("the name of a set")?)
            }
            Some(Token::Mark("{")) => {
                self.at += 1;
                With::Values(self.values(field, "}")?)
            }
            _ if field == Field::CtState => With::Values(self.values(field, "")?),
            _ => With::Values(vec![self.span(field)?]),
        };
        Ok(Condition { field, not, with })
    }

    /// `& (syn | ack) == syn` as nft 1.1.3 lists it, or `syn / syn,ack` as 1.0.6 does; and their opposites.
    fn begins(&mut self) -> Result<Condition, ParseError> {
        let not = if self.took(Token::Mark("&")) {
            self.exactly(&["(", "syn", "|", "ack", ")"])?;
            let not = self.took(Token::Mark("!="));
            self.exactly(if not { &["syn"] } else { &["==", "syn"] })?;
            not
        } else {
            let not = self.took(Token::Mark("!="));
            self.exactly(&["syn", "/", "syn", ",", "ack"])?;
            not
        };
        Ok(if not { !Condition::begins() } else { Condition::begins() })
    }

    /// Values between commas, up to `end`; without one as long as commas follow.
    fn values(&mut self, field: Field, end: &'static str) -> Result<Vec<Span>, ParseError> {
        let mut spans = Vec::new();
        loop {
            self.lines();
            spans.push(self.span(field)?);
            if spans.len() > MANY {
                return self.no("the end of too many values");
            }
            if self.took(Token::Mark(",")) {
                continue;
            }
            if end.is_empty() || self.took(Token::Mark(end)) {
                return Ok(spans);
            }
            self.next();
            return self.no("`,` or `}`");
        }
    }

    fn span(&mut self, field: Field) -> Result<Span, ParseError> {
        let word = self.word("a value")?;
        if let Some(value) = value(field, word) {
            return Ok((value, value));
        }
        let ends = word.split_once('-').and_then(|(first, last)| Some((value(field, first)?, value(field, last)?)));
        match ends.filter(|(first, last)| first <= last) {
            Some(span) => Ok(span),
            None => self.no("a value that is known here"),
        }
    }

    fn value(&mut self, field: Field) -> Result<u64, ParseError> {
        let word = self.word("a value")?;
        match value(field, word) {
            Some(value) => Ok(value),
            None => self.no("a value that is known here"),
        }
    }
}

fn value(field: Field, word: &str) -> Option<u64> {
    if let Some((_, value)) = field.words().iter().find(|(name, _)| *name == word) {
        return Some(*value);
    }
    // States have words only.
    number(word).filter(|it| *it <= field.max() && field != Field::CtState)
}

/// Decimal, or hexadecimal after `0x`; no sign, no zero in front.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|it| it.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        None if word.bytes().all(|it| it.is_ascii_digit()) && (word == "0" || !word.starts_with('0')) => {
            word.parse().ok()
        }
        _ => None,
    }
}

/// `ADDRESS`, `ADDRESS/LENGTH` without bits behind it, or `FIRST-LAST`.
fn span(word: &str, bits: u32, address: impl Fn(&str) -> Option<u128>) -> Option<Span<u128>> {
    if let Some((first, length)) = word.split_once('/') {
        let (first, length) = (address(first)?, u32::try_from(number(length)?).ok().filter(|it| *it <= bits)?);
        let mask = 1_u128.checked_shl(bits - length).map_or(u128::MAX, |bit| bit - 1);
        return (first & mask == 0).then_some((first, first | mask));
    }
    match word.split_once('-') {
        Some((first, last)) => Some((address(first)?, address(last)?)).filter(|(first, last)| first <= last),
        None => address(word).map(|it| (it, it)),
    }
}
