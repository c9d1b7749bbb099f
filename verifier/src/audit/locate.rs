//! Finds one entry's line in a segment without reading the segment: lines say their number near their beginning.
//!
//! What is found is only looked at first; whoever uses it compares its hash with one that was signed.

use std::io;

use super::entry::ENTRY_BYTES_MAX;
use super::lines::{Lines, Piece, Source};

/// Below this distance lines are read one after the other.
const STEPPED_BYTES: u64 = 1 << 16;
/// What is read in order to find the next line and its number.
const PROBE_BYTES: usize = 4096;

/// The `seq` that a line's beginning says.
fn number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(br#"{"v":1,"seq":"#)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// Where the line of entry `seq` begins, in a source of so many bytes; none where no such line is met.
pub(super) fn locate<S: Source>(source: &S, bytes: u64, seq: u64) -> io::Result<Option<u64>> {
    // `low` is the beginning of a line whose number is not above, `high` lies behind the line that is sought.
    let (mut low, mut high) = (0, bytes);
    while high - low > STEPPED_BYTES {
        let middle = low + (high - low) / 2;
        match line_after(source, middle, high)? {
            Some((start, found)) if found <= seq => low = start,
            _ => high = middle,
        }
    }
    let mut lines = Lines::new(source, low, ENTRY_BYTES_MAX);
    loop {
        let at = lines.offset();
        match lines.next()? {
            Piece::Line(line) => match number(line) {
                Some(found) if found < seq => {}
                Some(found) if found == seq => return Ok(Some(at)),
                _ => return Ok(None),
            },
            Piece::TooLong | Piece::End(_) => return Ok(None),
        }
    }
}

/// The first line that begins after an offset and before another: where, and its number.
fn line_after<S: Source>(source: &S, offset: u64, before: u64) -> io::Result<Option<(u64, u64)>> {
    let mut buffer = vec![0; PROBE_BYTES];
    let mut at = offset;
    while at < before && at - offset <= 2 * ENTRY_BYTES_MAX as u64 {
        let read = source.read_at(&mut buffer, at)?;
        let seen = buffer.get(..read).unwrap_or_default();
        match memchr::memchr2(b'\n', 0, seen) {
            Some(newline) if seen.get(newline) == Some(&b'\n') => {
                let start = at + newline as u64 + 1;
                let read = source.read_at(&mut buffer, start)?;
                return Ok(number(buffer.get(..read).unwrap_or_default()).map(|found| (start, found)));
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
        let whole = text.len() as u64;
        text.extend([0; 70_000]);
        for bytes in [whole, text.len() as u64] {
            for (seq, start) in starts.iter().step_by(13) {
                assert_eq!(locate(&text.as_slice(), bytes, *seq).unwrap(), Some(*start), "{seq}");
            }
            for absent in [0, 99, 3000, u64::MAX] {
                assert_eq!(locate(&text.as_slice(), bytes, absent).unwrap(), None);
            }
        }
        assert_eq!(locate(&[0u8; 100_000].as_slice(), 100_000, 5).unwrap(), None);
        assert_eq!(locate(&[b'x'; 100_000].as_slice(), 100_000, 5).unwrap(), None);
    }
}
