//! Finds one entry's line, or its payload's, without reading the file: lines say their number near their beginning.
//!
//! What is found is only looked at first; whoever uses it compares its hash with one that was signed.

use std::io;

use super::entry::ENTRY_BYTES_MAX;
use super::lines::{Lines, Piece, Source};
use super::payload::PAYLOAD_LINE_BYTES_MAX;

/// Below this distance lines are read one after the other.
const STEPPED_BYTES: u64 = 1 << 16;
/// What is read in order to find the next line and its number.
const PROBE_BYTES: usize = 4096;

/// How the lines of a file say their number.
struct Shape {
    /// What stands before it.
    prefix: &'static [u8],
    /// Bytes of the longest line.
    longest: usize,
    /// Is a line of spaces one that says nothing, and is passed over?
    blanks: bool,
}

const ENTRIES: Shape = Shape { prefix: br#"{"v":1,"seq":"#, longest: ENTRY_BYTES_MAX, blanks: false };
const PAYLOADS: Shape = Shape { prefix: br#"{"seq":"#, longest: PAYLOAD_LINE_BYTES_MAX, blanks: true };

impl Shape {
    /// The number that a line's beginning says.
    fn number(&self, line: &[u8]) -> Option<u64> {
        let rest = line.strip_prefix(self.prefix)?;
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
    }
}

/// Where the line of entry `seq` begins; none where no such line is met.
pub(super) fn locate<S: Source>(source: &S, seq: u64) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(source, not_after(source, seq, &ENTRIES)?, ENTRY_BYTES_MAX);
    loop {
        let at = lines.offset();
        match lines.next()? {
            Piece::Line(line) => match ENTRIES.number(line) {
                Some(found) if found < seq => {}
                Some(found) if found == seq => return Ok(Some(at)),
                _ => return Ok(None),
            },
            Piece::TooLong | Piece::End(_) => return Ok(None),
        }
    }
}

/// Where a line of payloads begins before which there are only payloads of entries before `seq`.
pub(super) fn payloads_from<S: Source>(source: &S, seq: u64) -> io::Result<u64> {
    not_after(source, seq, &PAYLOADS)
}

/// The beginning of the file, or of a line whose number is not above `seq`, not far before that of `seq`.
fn not_after<S: Source>(source: &S, seq: u64, shape: &Shape) -> io::Result<u64> {
    // `high` lies behind the line that is sought.
    let (mut low, mut high) = (0, source.length()?);
    while high - low > STEPPED_BYTES {
        let middle = low + (high - low) / 2;
        match line_after(source, middle, high, shape)? {
            Some((start, found)) if found <= seq => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line with a number that begins after an offset and before another: where, and its number.
fn line_after<S: Source>(source: &S, offset: u64, before: u64, shape: &Shape) -> io::Result<Option<(u64, u64)>> {
    let mut buffer = vec![0; PROBE_BYTES];
    let (mut at, mut begun) = (offset, offset);
    while at < before && at - begun <= 2 * shape.longest as u64 {
        let read = source.read_at(&mut buffer, at)?;
        let seen = buffer.get(..read).unwrap_or_default();
        match memchr::memchr2(b'\n', 0, seen) {
            Some(newline) if seen.get(newline) == Some(&b'\n') => {
                let start = at + newline as u64 + 1;
                let read = source.read_at(&mut buffer, start)?;
                let line = buffer.get(..read).unwrap_or_default();
                if !(shape.blanks && line.starts_with(b" ")) || start >= before {
                    let number = shape.number(line).filter(|_| start < before);
                    return Ok(number.map(|found| (start, found)));
                }
                (at, begun) = (start, start);
            }
            Some(_) => return Ok(None),
            None if read == 0 => return Ok(None),
            None => at += read as u64,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_and_no_other() {
        let (mut text, mut starts) = (Vec::new(), Vec::new());
        for seq in 100..3000u64 {
            starts.push((seq, text.len() as u64));
            let fill = "x".repeat((seq as usize * 7919) % 400 + if seq % 500 == 0 { 9000 } else { 0 });
            text.extend(format!("{{\"v\":1,\"seq\":{seq},\"{fill}\"}}\n").as_bytes());
        }
        let whole = text.len();
        text.extend([0; 70_000]);
        for bytes in [whole, text.len()] {
            for (seq, start) in starts.iter().step_by(13) {
                assert_eq!(locate(&&text[..bytes], *seq).unwrap(), Some(*start), "{seq}");
            }
            for absent in [0, 99, 3000, u64::MAX] {
                assert_eq!(locate(&&text[..bytes], absent).unwrap(), None);
            }
        }
        assert_eq!(locate(&[0u8; 100_000].as_slice(), 5).unwrap(), None);
        assert_eq!(locate(&[b'x'; 100_000].as_slice(), 5).unwrap(), None);
    }

    #[test]
    fn no_payload_from_an_entry_on_is_passed() {
        // One in three entries has a payload; many are forgotten.
        let (mut text, mut starts) = (Vec::new(), Vec::new());
        for seq in (100..9000u64).step_by(3) {
            starts.push((seq, text.len() as u64));
            let line = format!("{{\"seq\":{seq},\"{}\"}}", "x".repeat((seq as usize * 7919) % 300));
            let forgotten = seq % 9 == 1 || (3000..6000).contains(&seq);
            text.extend(if forgotten { " ".repeat(line.len()) } else { line }.into_bytes());
            text.push(b'\n');
        }
        let end = text.len() as u64;
        text.extend([0; 70_000]);
        for seq in (0..9100).step_by(7) {
            let from = payloads_from(&text.as_slice(), seq).unwrap();
            let first = starts.iter().find(|(own, _)| *own >= seq).map_or(end, |(_, start)| *start);
            assert!(from <= first, "{seq}: {from} is behind {first}");
            // Not from the beginning each time; what was forgotten in a row is read once more.
            let forgotten = if (3000..6100).contains(&seq) { 400_000 } else { 0 };
            assert!(first - from <= STEPPED_BYTES + 20_000 + forgotten, "{seq}: {from} is far before {first}");
        }
    }
}
