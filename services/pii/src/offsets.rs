//! From a place in a text that was changed to the place in the text it was made of.

use std::ops::Range;

/// Units of a changed text, each with the stretch of the source that it was made of.
pub(crate) struct Offsets {
    /// Where each unit begins, in the changed text and in the source; both never fall.
    begins: Vec<(u32, u32)>,
    end: (u32, u32),
}

impl Offsets {
    pub fn new() -> Self {
        Self { begins: Vec::new(), end: (0, 0) }
    }

    /// A unit begins. One with as many bytes on both sides is taken byte by byte, any other as a whole.
    pub fn begin(&mut self, changed: usize, source: usize) {
        self.begins.push((narrow(changed), narrow(source)));
    }

    pub fn end(&mut self, changed: usize, source: usize) {
        self.end = (narrow(changed), narrow(source));
    }

    /// The unit that `at` of the changed text lies in: both stretches.
    fn unit(&self, at: usize) -> ((u32, u32), (u32, u32)) {
        let after = self.begins.partition_point(|(changed, _)| *changed as usize <= at);
        let begin = after.checked_sub(1).and_then(|index| self.begins.get(index)).copied().unwrap_or((0, 0));
        (begin, self.begins.get(after).copied().unwrap_or(self.end))
    }

    /// The stretch of the source that `range`, not empty, was made of.
    pub fn source(&self, range: Range<usize>) -> Range<usize> {
        let (begin, next) = self.unit(range.start);
        let same = |begin: (u32, u32), next: (u32, u32)| next.0 - begin.0 == next.1 - begin.1;
        let start =
            if same(begin, next) { begin.1 as usize + range.start - begin.0 as usize } else { begin.1 as usize };
        let (begin, next) = self.unit(range.end - 1);
        let end = if same(begin, next) { begin.1 as usize + range.end - begin.0 as usize } else { next.1 as usize };
        start..end
    }
}

/// No text is longer than [`TEXT_BYTES_MAX`](crate::TEXT_BYTES_MAX), and folding multiplies by no more than eight.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_between_two_letters_is_inside_and_at_the_edges_is_not() {
        // "ab", three bytes that go, "c" made of two bytes, "d".
        let mut offsets = Offsets::new();
        for (changed, source) in [(0, 0), (2, 2), (2, 5), (3, 7)] {
            offsets.begin(changed, source);
        }
        offsets.end(4, 8);
        for (changed, source) in [(0..2, 0..2), (1..3, 1..7), (2..3, 5..7), (2..4, 5..8), (0..4, 0..8)] {
            assert_eq!(offsets.source(changed.clone()), source, "{changed:?}");
        }
    }
}
