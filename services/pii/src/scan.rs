//! The one pass: over the bytes once, for stretches without blanks that are no words; what may begin in one is parsed
//! from there, over no more bytes than its own limit.

use crate::context::Context;
use crate::finding::{Claim, Evidence, Kind};
use crate::layers::TOKEN_CHARS_MIN;
use crate::national::letters;
use crate::number::{Between, DIGITS_MAX, DIGITS_MIN, GROUPS_MAX, Number};
use crate::{bank, coins, keys, network, place, secret};
use std::ops::Range;

/// Something in the text of this layer.
pub(crate) struct Local {
    pub claim: Claim,
    pub range: Range<usize>,
}

const UPPER: u8 = 1;
const LOWER: u8 = 2;
const DIGIT: u8 = 4;
const AT: u8 = 8;
const COLON: u8 = 16;
const SIGN: u8 = 32;
const HIGH: u8 = 64;
const BREAK: u8 = 128;

/// A word of letters this long is a word, where nothing else is in it.
const WORD_CHARS_MAX: usize = TOKEN_CHARS_MIN - 1;

const CLASS: [u8; 256] = {
    let mut class = [SIGN; 256];
    let mut at = 0;
    while at < 256 {
        class[at] = match at as u8 {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => DIGIT,
            b'@' => AT,
            b':' | b'=' => COLON,
            0..=b' '
            | 0x7F
            | b'"'
            | b'\''
            | b'`'
            | b'<'
            | b'>'
            | b'('
            | b')'
            | b'['
            | b']'
            | b'{'
            | b'}'
            | b','
            | b';'
            | b'|' => BREAK,
            0x80.. => HIGH,
            _ => SIGN,
        };
        at += 1;
    }
    class
};

fn class(byte: u8) -> u8 {
    CLASS.get(usize::from(byte)).copied().unwrap_or(BREAK)
}

const ALNUM: u8 = UPPER | LOWER | DIGIT;

fn is_alnum(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| class(*byte) & (ALNUM | HIGH) != 0)
}

/// Of base64 in both alphabets.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Groups held at once. The last of a full row are read again with the next ones.
const ROW_GROUPS_MAX: usize = 1024;

/// Lines of MIME and PEM; shorter lines are no part of a longer token.
const TOKEN_LINE_CHARS_MIN: usize = 60;

pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    context: &'a Context,
    pub found: Vec<Local>,
    /// What may be base64 or hexadecimal.
    pub tokens: Vec<Range<usize>>,
    /// Numbers before this place were looked at.
    numbered: usize,
    /// What is before this place has its finding.
    taken: usize,
    /// Likewise for tokens, which go over line ends.
    token_end: usize,
    /// Likewise for JSON web tokens: of a run of their characters, the first that may be one is tried.
    jwt_end: usize,
    claims: Vec<Claim>,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8], context: &'a Context) -> Self {
        Self {
            bytes,
            context,
            found: Vec::new(),
            tokens: Vec::new(),
            numbered: 0,
            taken: 0,
            token_end: 0,
            jwt_end: 0,
            claims: Vec::new(),
        }
    }

    pub fn run(mut self) -> Self {
        let mut rest = self.bytes.iter().enumerate();
        while let Some((start, byte)) = rest.next() {
            let mut flags = class(*byte);
            if flags == BREAK {
                continue;
            }
            let mut end = self.bytes.len();
            for (at, byte) in rest.by_ref() {
                let class = class(*byte);
                if class == BREAK {
                    end = at;
                    break;
                }
                flags |= class;
            }
            self.stretch(start, end, flags);
        }
        self
    }

    fn at(&self, at: usize) -> Option<&'a u8> {
        self.bytes.get(at)
    }

    fn from(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    fn before(&self, at: usize) -> Option<&'a u8> {
        at.checked_sub(1).and_then(|at| self.at(at))
    }

    /// Reports a claim if what stands beside it lets it; whether it did.
    fn report(&mut self, claim: Claim, range: Range<usize>) -> bool {
        let beside = self.context.beside(self.bytes, range.start, range.end);
        let judged = beside.judge(claim);
        if let Some(claim) = judged {
            self.found.push(Local { claim, range });
        }
        judged.is_some()
    }

    fn stretch(&mut self, start: usize, end: usize, flags: u8) {
        let length = end - start;
        if flags & SIGN != 0 && self.private_key(start, end) {
            return;
        }
        if flags & (DIGIT | AT | COLON) == 0 && length <= WORD_CHARS_MAX {
            if flags == UPPER {
                self.capitals(start, end);
            }
            if self.assigns(end) {
                self.assigned(start, end);
            }
            return;
        }
        if flags & AT != 0 {
            for at in memchr::memchr_iter(b'@', self.bytes.get(start..end).unwrap_or_default()) {
                if let Some((claim, range)) = network::email(self.bytes, start + at) {
                    self.report(claim, range);
                }
                if let Some((claim, range)) = secret::in_url(self.bytes, start + at) {
                    self.report(claim, range);
                }
            }
        }
        if flags & COLON != 0 {
            for at in memchr::memchr2_iter(b':', b'=', self.bytes.get(start..end).unwrap_or_default()) {
                self.assigned(start, start + at);
            }
        }
        if self.assigns(end) {
            self.assigned(start, end);
        }
        let uuid = is_uuid(self.bytes.get(start..end).unwrap_or_default());
        let (mut at, mut token) = (start, None);
        while at < end && !uuid {
            let Some(&byte) = self.at(at) else { break };
            if is_token(byte) {
                token.get_or_insert(at);
            } else if let Some(begin) = token.take() {
                self.token(begin, at);
            }
            if class(byte) & (ALNUM | HIGH) == 0 {
                at += 1;
                continue;
            }
            let mut flags = 0;
            let begin = at;
            while let Some(byte) = self.at(at).filter(|byte| class(**byte) & (ALNUM | HIGH) != 0) {
                flags |= class(*byte);
                at += 1;
            }
            if begin >= self.taken {
                self.word(begin, at, flags, end);
            }
        }
        if let Some(begin) = token {
            self.token(begin, end);
        }
    }

    /// A word of letters and digits at `start`, in a stretch to `stretch`.
    fn word(&mut self, start: usize, end: usize, flags: u8, stretch: usize) {
        let rest = self.from(start);
        let word = self.bytes.get(start..end).unwrap_or_default();
        if flags & DIGIT != 0 {
            if class(word.first().copied().unwrap_or_default()) == DIGIT {
                self.digits(start, end, flags);
            }
            if flags & (UPPER | LOWER) != 0 && flags & HIGH == 0 {
                if let Some(claim) = letters::claim(word).or_else(|| coins::claim(word))
                    && self.report(claim, start..end)
                {
                    self.taken = end;
                }
                if let Some(length) = bank::iban(rest) {
                    self.report(Claim::checksum(Kind::Iban, 97), start..start + length);
                    (self.taken, self.numbered) = (start + length, start + length);
                }
            }
        }
        if flags & !(UPPER | DIGIT) == 0 {
            self.capitals(start, end);
        }
        if matches!(self.at(end), Some(b':' | b'-')) && word.len() <= 4 && word.iter().all(u8::is_ascii_hexdigit) {
            self.colons(start);
        }
        // The shortest key has twenty characters.
        if stretch - start >= 20 {
            let key = keys::key(rest).or_else(|| self.jwt(start)).or_else(|| keys::slack_hook(rest));
            if let Some((claim, length)) = key {
                self.taken = start + length;
                self.token_end = self.token_end.max(self.taken);
                self.found.push(Local { claim, range: start..self.taken });
            }
        }
    }

    /// A word without small letters.
    fn capitals(&mut self, start: usize, end: usize) {
        match end - start {
            2 => {
                if let Some(length) = letters::british_in_groups(self.from(start)) {
                    self.report(Claim::form(Kind::UkNino, 65), start..start + length);
                    self.numbered = start + length;
                }
            }
            8 | 11 => {
                if let Some(claim) = bank::bic(self.bytes.get(start..end).unwrap_or_default()) {
                    self.report(claim, start..end);
                }
            }
            _ => {}
        }
    }

    fn private_key(&mut self, start: usize, end: usize) -> bool {
        const BEGINS: &[u8] = b"-----BEGIN";
        let Some(begin) = end.checked_sub(BEGINS.len()).filter(|begin| *begin >= start.max(self.taken)) else {
            return false;
        };
        let key = self.from(begin).starts_with(BEGINS).then(|| keys::pem(self.from(begin))).flatten();
        let Some((claim, range)) = key else { return false };
        self.taken = begin + range.end;
        (self.token_end, self.numbered) = (self.taken, self.taken);
        self.found.push(Local { claim, range: begin..self.taken });
        true
    }

    fn jwt(&mut self, start: usize) -> Option<(Claim, usize)> {
        if start < self.jwt_end || !self.from(start).starts_with(b"eyJ") {
            return None;
        }
        self.jwt_end = start + keys::jwt_header_chars(self.from(start));
        keys::jwt(self.from(start))
    }

    /// IPv6 and MAC, at the first group; `::` may stand before it.
    fn colons(&mut self, start: usize) {
        let begins = |at: usize| !is_alnum(self.before(at)) && self.before(at) != Some(&b':');
        let compressed = start.checked_sub(2).filter(|at| self.from(*at).starts_with(b"::") && begins(*at));
        let Some(from) = compressed.or(Some(start).filter(|at| begins(*at))) else { return };
        if let Some((claim, length)) = network::colons(self.from(from))
            && self.report(claim, from..from + length)
        {
            (self.taken, self.numbered) = (from + length, from + length);
        }
    }

    /// Whether `:` or `=` follows a quoted name, or stands apart.
    fn assigns(&self, end: usize) -> bool {
        let after = self.from(end).iter().take(3).find(|byte| !matches!(byte, b'"' | b'\'' | b' '));
        matches!(after, Some(b':' | b'='))
    }

    fn assigned(&mut self, start: usize, end: usize) {
        if let Some((claim, range)) = secret::assigned(self.bytes, start, end) {
            self.found.push(Local { claim, range });
        }
    }

    /// What begins with a digit.
    fn digits(&mut self, start: usize, end: usize, flags: u8) {
        let rest = self.from(start);
        if start < self.numbered {
            self.dates_and_streets(start);
            return;
        }
        // A third dot before it: part of a longer row.
        let dotted = self.before(start) == Some(&b'.') || self.before(start) == Some(&b'v');
        if self.at(end) == Some(&b'.')
            && !dotted
            && let Some((claim, length)) = network::ipv4(rest)
            && self.report(claim, start..start + length)
        {
            (self.taken, self.numbered) = (start + length, start + length);
            return;
        }
        if let Some((claim, length)) = letters::claim_with_sign(rest)
            && self.report(claim, start..start + length)
        {
            (self.taken, self.numbered) = (start + length, start + length);
            return;
        }
        self.dates_and_streets(start);
        if flags == DIGIT {
            self.numbers(start);
        }
    }

    fn dates_and_streets(&mut self, start: usize) {
        for find in [place::birth, place::street] {
            if let Some((claim, range)) = find(self.bytes, start) {
                self.report(claim, range);
            }
        }
    }

    /// Groups of digits with blanks and signs between them: each row of groups that may be a number.
    fn numbers(&mut self, start: usize) {
        let (mut groups, mut at): (Vec<Range<usize>>, usize) = (Vec::new(), start);
        loop {
            let length = self.from(at).iter().take_while(|byte| byte.is_ascii_digit()).count();
            let end = at + length;
            if length == 0 || is_alnum(self.at(end)) || self.at(end) == Some(&b'_') {
                break;
            }
            groups.push(at..end);
            let between = self.from(end).iter().take(3).take_while(|byte| b" -./()+".contains(byte)).count();
            at = end + between;
            if between == 0 || !self.at(at).is_some_and(u8::is_ascii_digit) || groups.len() == ROW_GROUPS_MAX {
                break;
            }
        }
        let Some(last) = groups.last() else { return };
        let full = groups.len() == ROW_GROUPS_MAX;
        let again = groups.len().checked_sub(DIGITS_MAX).filter(|_| full).and_then(|at| groups.get(at));
        self.numbered = again.map_or(last.end, |again| again.start);
        let mut first = 0;
        while first < groups.len() {
            let spelled = self.spelled(&groups, first);
            first = match spelled {
                Some(next) => next,
                None => self.longest(&groups, first).unwrap_or(first + 1),
            };
        }
    }

    /// One digit at a time, which no number is written in but by who hides it: the group after it.
    fn spelled(&mut self, groups: &[Range<usize>], first: usize) -> Option<usize> {
        let single = |group: &&Range<usize>| group.len() == 1;
        let row = groups.get(first..)?;
        let count = row.iter().take(DIGITS_MAX + 1).take_while(single).count();
        if !(GROUPS_MAX + 1..=DIGITS_MAX).contains(&count) {
            return None;
        }
        let row = row.get(..count)?;
        self.number(row, Some(count as u8)).then_some(first + count)
    }

    fn longest(&mut self, groups: &[Range<usize>], first: usize) -> Option<usize> {
        let (mut total, mut most) = (0, first);
        for group in groups.get(first..)?.iter().take(GROUPS_MAX) {
            total += group.len();
            if total > DIGITS_MAX {
                break;
            }
            most += 1;
        }
        while most > first {
            if self.number(groups.get(first..most)?, None) {
                return Some(most);
            }
            most -= 1;
        }
        None
    }

    fn number(&mut self, groups: &[Range<usize>], as_one: Option<u8>) -> bool {
        let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return false };
        let total: usize = groups.iter().map(ExactSizeIterator::len).sum();
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&total) || self.is_fraction(first.start, last.end, groups.len()) {
            return false;
        }
        let mut digits = [0_u8; DIGITS_MAX];
        let values = groups.iter().flat_map(|group| self.bytes.get(group.clone()).unwrap_or_default());
        for (digit, byte) in digits.iter_mut().zip(values) {
            *digit = byte - b'0';
        }
        let mut lengths = [0_u8; GROUPS_MAX];
        for (length, group) in lengths.iter_mut().zip(groups) {
            *length = group.len() as u8;
        }
        let mut between = Between::Nothing;
        let mut last_between = 0;
        for pair in groups.windows(2) {
            let [one, next] = pair else { continue };
            let stands = self.bytes.get(one.end..next.start).unwrap_or_default();
            last_between = stands.last().copied().unwrap_or_default();
            let this = if stands.len() == 1 { Between::One(last_between) } else { Between::Several };
            between = if between == Between::Nothing || between == this { this } else { Between::Several };
        }
        let plus = self.before(first.start) == Some(&b'+')
            || self.bytes.get(..first.start).is_some_and(|head| head.ends_with(b"+("));
        let bracketed = self.before(first.start) == Some(&b'(') && self.at(first.end) == Some(&b')');
        let one = as_one.map(|count| [count]);
        let number = Number {
            digits: digits.get(..total).unwrap_or_default(),
            groups: one.as_ref().map_or(lengths.get(..groups.len()).unwrap_or_default(), |one| one.as_slice()),
            between: if as_one.is_some() { Between::Nothing } else { between },
            plus,
            bracketed,
            last_between,
        };
        let mut claims = std::mem::take(&mut self.claims);
        number.claims(&mut claims);
        let start = first.start - usize::from(bracketed || plus && self.before(first.start) == Some(&b'+'));
        let best = if claims.is_empty() {
            None
        } else {
            let beside = self.context.beside(self.bytes, start, last.end);
            // What is named first; of two as sure, what has a checksum.
            let sure = |claim: &Claim| (beside.names(claim.kind), claim.score, claim.evidence == Evidence::Checksum);
            claims.iter().filter_map(|claim| beside.judge(*claim)).max_by_key(sure)
        };
        self.claims = claims;
        if let Some(claim) = best {
            self.found.push(Local { claim, range: start..last.end });
        }
        best.is_some()
    }

    /// Part of a decimal, a version, or a longer row of digits.
    fn is_fraction(&self, start: usize, end: usize, groups: usize) -> bool {
        let digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
        let point = |at: Option<&u8>| matches!(at, Some(b'.' | b','));
        let before = point(self.before(start)) && start.checked_sub(2).is_some_and(|at| digit(self.at(at)));
        let after = point(self.at(end)) && digit(self.at(end + 1)) && (groups == 1 || self.at(end) == Some(&b'.'));
        before || after
    }

    /// Letters, digits and what base64 has besides, as far as they go.
    fn token(&mut self, start: usize, end: usize) {
        if start < self.token_end || end - start < TOKEN_CHARS_MIN {
            return;
        }
        let mut end = end;
        // Lines of a longer token follow each other.
        let mut line = end - start;
        while line >= TOKEN_LINE_CHARS_MIN && line.is_multiple_of(4) {
            let feed = match self.from(end) {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => break,
            };
            line = self.from(end + feed).iter().take_while(|byte| is_token(**byte)).count();
            if line == 0 {
                break;
            }
            end += feed + line;
        }
        self.token_end = end;
        self.tokens.push(start..end);
        let token = self.bytes.get(start..end).unwrap_or_default();
        // The value of `name=VALUE`, without what pads it.
        let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
        let value = token.get(..token.len() - padding).unwrap_or_default();
        let cut = value.iter().rposition(|byte| *byte == b'=').map_or(0, |at| at + 1);
        let value = value.get(cut..).unwrap_or_default();
        let claim =
            if value.iter().all(u8::is_ascii_hexdigit) { secret::hexadecimal(value) } else { secret::random(value) };
        if let Some(claim) = claim
            && !token.starts_with(b"sha")
        {
            self.report(claim, start + cut..end);
        }
    }
}

/// Names of things, drawn at random and not secret.
fn is_uuid(stretch: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| {
        if matches!(at, 8 | 13 | 18 | 23) { *byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    stretch.len() == 36 && stretch.iter().enumerate().all(fits)
}
