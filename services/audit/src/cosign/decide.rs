//! Whether a witness cosigns: a pure function from what it knows and what it is asked. In the words of
//! c2sp.org/tlog-witness, whose status codes stand beside each answer.

use secai_verifier::audit::add_checkpoint::AddCheckpoint;
use secai_verifier::audit::checkpoint::{Note, NoteError, VerifierKey, origin};
use secai_verifier::audit::proof::Proof;
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::audit::tree::{Frontier, is_consistent};

/// What the witness knows of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The key that signed the checkpoint that was cosigned last.
    pub key: VerifierKey,
    /// That checkpoint.
    pub note: Note,
}

/// Why it does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// 404.
    #[error("{origin} is no chain that this witness knows")]
    UnknownChain {
        /// Its name.
        origin: String,
    },
    /// 403, before the checkpoint is looked at.
    #[error("a proof of an epoch's end does not hold: {0}")]
    Epochs(ChainRefusal),
    /// 403.
    #[error("the checkpoint of {size} entries is signed by no key that follows from one that this witness knows")]
    UnknownKey {
        /// What the checkpoint covers.
        size: u64,
    },
    /// 403.
    #[error("the signature over the checkpoint of {size} entries does not hold")]
    BadSignature {
        /// What the checkpoint covers.
        size: u64,
    },
    /// 400.
    #[error("{old} entries were seen, says the request, and its checkpoint covers {size}")]
    OldAboveSize {
        /// What the request says.
        old: u64,
        /// What the checkpoint covers.
        size: u64,
    },
    /// 409, and the answer is this size.
    #[error("this witness saw {size} entries last, the request begins with {old}")]
    Conflict {
        /// What the request says.
        old: u64,
        /// What was cosigned last; 0 for nothing.
        size: u64,
    },
    /// 409.
    #[error("this witness saw another tree of {size} entries")]
    AnotherRoot {
        /// Of both.
        size: u64,
    },
    /// 422.
    #[error("the proof does not show that the {size} entries begin with the {old} that this witness saw")]
    Inconsistent {
        /// What was seen.
        old: u64,
        /// What the checkpoint covers.
        size: u64,
    },
}

/// Decides; the key that signed the checkpoint, where it is to be cosigned.
///
/// # Errors
/// [`No`].
pub fn decide(
    trusted: &[VerifierKey],
    memory: Option<&Memory>,
    epochs: &[Proof],
    asked: &AddCheckpoint,
) -> Result<VerifierKey, No> {
    let (old, now) = (asked.old, &asked.note.checkpoint);
    let size = now.size;
    // A key of a later epoch makes no chain's name.
    let first = trusted.iter().find(|key| key.name() == now.origin && key.name() == origin(key.public()));
    let first = first.ok_or_else(|| No::UnknownChain { origin: now.origin.clone() })?;
    let seen = memory.map_or(0, |memory| memory.note.checkpoint.size);
    let known = memory.map_or(first, |memory| &memory.key);
    let key = match signer(known, epochs, &asked.note) {
        Ok(key) => key,
        // Who does not know what was seen cannot give the proofs from there on: he is told.
        Err(No::UnknownKey { .. }) if old != seen && signer(first, epochs, &asked.note).is_ok() => {
            return Err(No::Conflict { old, size: seen });
        }
        Err(no) => return Err(no),
    };
    if old > size {
        return Err(No::OldAboveSize { old, size });
    }
    if old != seen {
        return Err(No::Conflict { old, size: seen });
    }
    let root = memory.map_or_else(|| Frontier::new().root(), |memory| memory.note.checkpoint.root);
    match is_consistent(old, size, root, now.root, &asked.proof) {
        true => Ok(key),
        false if old == size && root != now.root => Err(No::AnotherRoot { size }),
        false => Err(No::Inconsistent { old, size }),
    }
}

/// The key that signed, which is this one or follows from it. Proofs of epochs before it are passed over: whoever asks
/// may begin with an earlier one.
fn signer(known: &VerifierKey, epochs: &[Proof], note: &Note) -> Result<VerifierKey, No> {
    let mut keys = vec![known.clone()];
    for proof in epochs {
        match proof.verify(&keys) {
            Ok(()) => keys.extend(proof.next_key()),
            Err(ChainRefusal::ProofSignedByUnknownKey { .. }) => {}
            Err(refusal) => return Err(No::Epochs(refusal)),
        }
    }
    let size = note.checkpoint.size;
    let mut no = No::UnknownKey { size };
    for key in keys.into_iter().rev() {
        match note.verify(&key) {
            Ok(()) => return Ok(key),
            Err(NoteError::BadSignature(_)) => no = No::BadSignature { size },
            Err(_) => {}
        }
    }
    Err(no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secai_verifier::digest::Digest;
    use secai_verifier::files::load_chain_keys;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn vectors() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifier/spec/vectors/audit")
    }

    /// Everything that an answer follows from.
    #[derive(Clone)]
    struct Case {
        trusted: Vec<VerifierKey>,
        memory: Option<Memory>,
        epochs: Vec<Proof>,
        asked: AddCheckpoint,
    }

    impl Case {
        /// The vectors': three entries were seen in epoch 0, five are asked about, signed in epoch 1.
        fn literal() -> Self {
            let read = |name: &str| fs::read(vectors().join(name)).unwrap();
            let trusted = load_chain_keys(&vectors()).unwrap();
            let note = Note::parse(&read("chain/checkpoints.log")).unwrap();
            Self {
                memory: Some(Memory { key: trusted[0].clone(), note }),
                trusted,
                epochs: Proof::parse_all(&read("witness/request.epochs")).unwrap(),
                asked: AddCheckpoint::parse(&read("witness/request")).unwrap(),
            }
        }

        /// After it was cosigned.
        fn again() -> Self {
            let mut case = Self::literal();
            let key = case.decided().unwrap();
            case.memory = Some(Memory { key, note: case.asked.note.clone() });
            (case.asked.old, case.asked.proof) = (5, Vec::new());
            case.epochs.clear();
            case
        }

        fn decided(&self) -> Result<VerifierKey, No> {
            decide(&self.trusted, self.memory.as_ref(), &self.epochs, &self.asked)
        }
    }

    fn changed(note: &Note, from: &str, to: &str) -> Note {
        let text = note.render();
        assert!(text.contains(from));
        Note::parse(text.replacen(from, to, 1).as_bytes()).unwrap()
    }

    type Row = (&'static str, fn(&mut Case), Option<No>);

    #[test]
    fn a_witness_cosigns_what_begins_with_what_it_saw_and_nothing_else() {
        let origin = || Case::literal().asked.note.checkpoint.origin;
        let rows: &[Row] = &[
            ("as it should be", |_| {}, None),
            ("no proof of a key was needed", |case| *case = Case::again(), None),
            (
                "proofs of earlier epochs too",
                |case| {
                    let epochs = case.epochs.clone();
                    *case = Case::again();
                    case.epochs = epochs;
                },
                None,
            ),
            ("another chain", |case| case.trusted.clear(), Some(No::UnknownChain { origin: origin() })),
            (
                "a key that makes no name",
                |case| {
                    case.trusted = vec![Case::literal().decided().unwrap()];
                },
                Some(No::UnknownChain { origin: origin() }),
            ),
            ("the key of the epoch is not shown", |case| case.epochs.clear(), Some(No::UnknownKey { size: 5 })),
            (
                "a proof of a key, changed",
                |case| {
                    case.epochs[0].path[0] = Digest::of(b"x");
                },
                Some(No::Epochs(ChainRefusal::ProofDoesNotHold { index: 2, size: 3 })),
            ),
            (
                "a proof of a key whose checkpoint was changed",
                |case| {
                    let proof = &mut case.epochs[0];
                    proof.note.checkpoint.origin.push('x');
                },
                Some(No::UnknownKey { size: 5 }),
            ),
            (
                "another size than was signed",
                |case| {
                    case.asked.note = changed(&case.asked.note, "\n5\n", "\n6\n");
                },
                Some(No::BadSignature { size: 6 }),
            ),
            (
                "nobody signed",
                |case| {
                    case.asked.note = changed(&case.asked.note, "PbGEGr", "AAAAAA");
                },
                Some(No::UnknownKey { size: 5 }),
            ),
            ("less than was seen", |case| case.asked.old = 6, Some(No::OldAboveSize { old: 6, size: 5 })),
            ("another number than was seen", |case| case.asked.old = 4, Some(No::Conflict { old: 4, size: 3 })),
            ("the first time, but not from nothing", |case| case.memory = None, Some(No::Conflict { old: 3, size: 0 })),
            (
                "asked in order to be told",
                |case| {
                    let asked = Case::literal();
                    *case = Case::again();
                    (case.asked, case.epochs) = (asked.asked, asked.epochs);
                    (case.asked.old, case.asked.proof) = (0, Vec::new());
                },
                Some(No::Conflict { old: 0, size: 5 }),
            ),
            (
                "an older checkpoint",
                |case| {
                    let seen = case.memory.clone().unwrap();
                    *case = Case::again();
                    case.asked = AddCheckpoint { old: 3, proof: Vec::new(), note: seen.note };
                },
                Some(No::Conflict { old: 3, size: 5 }),
            ),
            (
                "an older checkpoint, as if it were the newest",
                |case| {
                    let seen = case.memory.clone().unwrap();
                    *case = Case::again();
                    case.asked = AddCheckpoint { old: 5, proof: Vec::new(), note: seen.note };
                },
                Some(No::UnknownKey { size: 3 }),
            ),
            (
                "another view of as many entries",
                |case| {
                    *case = Case::again();
                    let memory = case.memory.as_mut().unwrap();
                    memory.note.checkpoint.root = Digest::of(b"what it saw");
                },
                Some(No::AnotherRoot { size: 5 }),
            ),
            (
                "another view of what was seen",
                |case| {
                    case.memory.as_mut().unwrap().note.checkpoint.root = Digest::of(b"what it saw");
                },
                Some(No::Inconsistent { old: 3, size: 5 }),
            ),
            (
                "a proof, changed",
                |case| case.asked.proof[1] = Digest::of(b"x"),
                Some(No::Inconsistent { old: 3, size: 5 }),
            ),
            (
                "a proof, too long",
                |case| case.asked.proof.push(Digest::of(b"x")),
                Some(No::Inconsistent { old: 3, size: 5 }),
            ),
            (
                "a proof where there is nothing to prove",
                |case| {
                    *case = Case::again();
                    case.asked.proof.push(Digest::of(b"x"));
                },
                Some(No::Inconsistent { old: 5, size: 5 }),
            ),
            (
                "a proof from nothing",
                |case| {
                    (case.memory, case.asked.old) = (None, 0);
                },
                Some(No::Inconsistent { old: 0, size: 5 }),
            ),
            (
                "from nothing",
                |case| {
                    (case.memory, case.asked.old) = (None, 0);
                    case.asked.proof.clear();
                },
                None,
            ),
        ];
        for (name, act, expected) in rows {
            let mut case = Case::literal();
            act(&mut case);
            assert_eq!(case.decided().err(), *expected, "{name}");
        }
    }
}
