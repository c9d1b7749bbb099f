//! What the TPM's memory means: pure functions from it, from what this disk says was anchored, and from what the check
//! of the chain found.

use secai_verifier::audit::checkpoint::Note;
use secai_verifier::audit::report::Report;

/// What the TPM holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// No index of ours.
    Nothing,
    /// One without a head: nobody wrote to it yet, or what is there is none.
    NoHead,
    /// This head.
    Head(Note),
}

/// The TPM does not remember what was anchored in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It has no index.
    #[error(
        "{size} entries of this chain were anchored, and this TPM remembers nothing: it was cleared, it is another one, or somebody removed its index"
    )]
    Index {
        /// What was anchored.
        size: u64,
    },
    /// It has one without a head.
    #[error("{size} entries of this chain were anchored, and what is in the TPM now is no head of a chain")]
    Head {
        /// What was anchored.
        size: u64,
    },
    /// It has an older one.
    #[error(
        "{size} entries of this chain were anchored, and the TPM remembers {held}: somebody wrote to it, or brought it back"
    )]
    Newer {
        /// What was anchored.
        size: u64,
        /// What it remembers.
        held: u64,
    },
}

/// The head that the chain must begin with; none the first time.
///
/// # Errors
/// [`Lost`]: somebody has to look first.
pub fn kept<'a>(held: &'a Held, anchored: Option<&Note>) -> Result<Option<&'a Note>, Lost> {
    match (held, anchored.map(|note| &note.checkpoint)) {
        (Held::Nothing, Some(before)) => Err(Lost::Index { size: before.size }),
        (Held::NoHead, Some(before)) => Err(Lost::Head { size: before.size }),
        (Held::Nothing | Held::NoHead, None) => Ok(None),
        // What the disk says comes after what the TPM was told: it can only be older.
        (Held::Head(note), Some(before))
            if before.origin == note.checkpoint.origin && before.size > note.checkpoint.size =>
        {
            Err(Lost::Newer { size: before.size, held: note.checkpoint.size })
        }
        (Held::Head(note), _) => Ok(Some(note)),
    }
}

/// Is the chain's head to be written? The first time, and once for each epoch that ended: memory of a TPM wears.
pub fn is_due(kept: Option<&Note>, report: &Report) -> bool {
    report.head.size > 0 && (kept.is_none() || report.ended_since > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u64, origin: char) -> Note {
        let name = format!("secai-os.local/audit/{}", origin.to_string().repeat(16));
        let text = format!("{name}\n{size}\n{}=\n\n— {name} AAAAAAAAAAA=\n", "A".repeat(43));
        Note::parse(text.as_bytes()).unwrap()
    }

    type Row = (&'static str, Held, Option<Note>, Result<Option<u64>, Lost>);

    #[test]
    fn a_memory_that_is_gone_is_said_and_never_begun_anew() {
        let rows: [Row; 9] = [
            ("first use", Held::Nothing, None, Ok(None)),
            ("first use, and the power failed after the index was made", Held::NoHead, None, Ok(None)),
            ("the power failed after the first head, or an older disk", Held::Head(note(9, 'a')), None, Ok(Some(9))),
            ("as it was left", Held::Head(note(9, 'a')), Some(note(9, 'a')), Ok(Some(9))),
            (
                "the power failed after a head, or an older disk",
                Held::Head(note(9, 'a')),
                Some(note(5, 'a')),
                Ok(Some(9)),
            ),
            (
                "another device's TPM, or disk: the check finds it",
                Held::Head(note(3, 'b')),
                Some(note(9, 'a')),
                Ok(Some(3)),
            ),
            ("cleared or another", Held::Nothing, Some(note(9, 'a')), Err(Lost::Index { size: 9 })),
            ("emptied", Held::NoHead, Some(note(9, 'a')), Err(Lost::Head { size: 9 })),
            ("an older memory", Held::Head(note(5, 'a')), Some(note(9, 'a')), Err(Lost::Newer { size: 9, held: 5 })),
        ];
        for (name, held, anchored, expected) in rows {
            let kept = kept(&held, anchored.as_ref()).map(|note| note.map(|note| note.checkpoint.size));
            assert_eq!(kept, expected, "{name}");
        }
    }
}
