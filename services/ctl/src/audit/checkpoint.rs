//! `checkpoint` and `cosigned`: what somebody else keeps, what a witness is asked, and what it answered.

use super::ask;
use crate::failure::Failure;
use crate::files::write_new;
use crate::output::{Output, plain};
use crate::qr;
use clap::Args;
use secai_daemon::report::{Priority, say};
use secai_verifier::audit::add_checkpoint::{AddCheckpoint, REQUEST_BYTES_MAX, RequestError, begins_with, request};
use secai_verifier::audit::checkpoint::Note;
use secai_verifier::audit::proof::Proof;
use secai_verifier::audit::store::Store;
use secai_verifier::files::{load, load_checkpoint, load_cosigner_keys};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the proofs of epochs' ends are named, after the request that they belong to.
const EPOCHS: &str = ".epochs";
/// What a request begins with, and no checkpoint of ours.
const REQUEST: &[u8] = b"old ";

/// Words of the command line of `checkpoint`.
#[derive(Args)]
pub struct Checkpoint {
    /// Also as a QR code, for a phone
    #[arg(long)]
    qr: bool,
    /// Write it into a new file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what a witness is asked (c2sp.org/tlog-witness), for one that cosigned OLD last: a kept checkpoint, or a
    /// number of entries (0: none); beside it the proofs of epochs that ended since, FILE.epochs
    #[arg(long, value_name = "OLD", requires = "output", conflicts_with = "qr")]
    for_witness: Option<PathBuf>,
}

impl Checkpoint {
    /// Does it.
    pub fn run(self, socket: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
        let client = ask::reach(socket)?;
        let (text, key) = ask::signed(&client)?;
        let note = Note::parse(text.as_bytes())?;
        note.verify(&key)?;
        let origin = &note.checkpoint.origin;
        // Epochs have keys of their own; all have the chain's name.
        if *origin != key.name() || origin != ask::standing(&client)?.1.name() {
            return Err(Failure::Garbled);
        }
        if let (Some(old), Some(path)) = (&self.for_witness, &self.output) {
            return ask_witness(&ask::folder(&client)?, &note, &Seen::read(old)?, path, output);
        }
        let code = match self.qr {
            true => Some(qr::drawn(text.as_bytes(), io::stdout().is_terminal()).map_err(|_| Failure::TooLongForQr)?),
            false => None,
        };
        if let Some(path) = &self.output {
            write_new(path, text.as_bytes())?;
        }
        let human = || {
            let mut lines = match &self.output {
                Some(path) => {
                    format!("{}: {} entries signed", plain(&path.display().to_string()), note.checkpoint.size)
                }
                None => text.trim_end_matches('\n').to_owned(),
            };
            if let Some(code) = &code {
                lines.push('\n');
                lines.push_str(code);
            }
            lines
        };
        let json = || json!({"note": text, "key": key.to_string(), "size": note.checkpoint.size, "file": self.output.as_ref().map(|path| path.display().to_string())});
        output.line(human, json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a witness saw last.
enum Seen {
    /// So many entries; which, it will say.
    Entries(u64),
    /// This checkpoint.
    Kept(Note),
}

impl Seen {
    fn read(words: &Path) -> Result<Self, Failure> {
        match words.to_str().and_then(|text| text.parse().ok()) {
            Some(size) => Ok(Self::Entries(size)),
            None => Ok(Self::Kept(load_checkpoint(words)?)),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Entries(size) => *size,
            Self::Kept(note) => note.checkpoint.size,
        }
    }
}

fn ask_witness(store: &Store, note: &Note, seen: &Seen, path: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    let (asked, endings) = request(store, seen.size(), note)?;
    // A witness would say the same, and somebody would have carried it there for nothing.
    if let Seen::Kept(kept) = seen {
        begins_with(&asked, kept)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(EPOCHS);
    let beside = Some(PathBuf::from(name)).filter(|_| !endings.is_empty());
    if let Some(beside) = &beside {
        write_new(beside, endings.iter().map(Proof::render).collect::<String>().as_bytes())?;
    }
    if let Err(error) = write_new(path, asked.render().as_bytes()) {
        // They prove nothing without it.
        beside.iter().for_each(|beside| drop(std::fs::remove_file(beside)));
        return Err(error);
    }
    let names: Vec<String> =
        [Some(path), beside.as_deref()].iter().flatten().map(|it| it.display().to_string()).collect();
    let (old, size) = (asked.old, asked.note.checkpoint.size);
    output.line(
        || {
            format!(
                "{}: asks about {size} entries who saw {old}",
                names.iter().map(|it| plain(it)).collect::<Vec<_>>().join(", ")
            )
        },
        || json!({"old": old, "size": size, "epochs": endings.len(), "files": names}),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Names the file that is not what it should be.
fn wrong<E: Into<RequestError>>(path: &Path) -> impl FnOnce(E) -> Failure {
    move |source| Failure::Witness { path: path.to_owned(), source: source.into() }
}

/// Words of the command line of `cosigned`.
#[derive(Args)]
pub struct Cosigned {
    /// What the witness was asked, or a kept checkpoint
    asked: PathBuf,
    /// What witnesses answered
    #[arg(required = true)]
    answers: Vec<PathBuf>,
    /// Where to write the checkpoint with the answers under it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The key of a witness (a file, one line) that must have cosigned; may be given several times
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
}

impl Cosigned {
    /// Does it. No service is asked: whose chain it is says `verify-release audit`.
    pub fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        let whole = |path: &Path| -> Result<Vec<u8>, Failure> {
            load(path, REQUEST_BYTES_MAX)?.map_err(|_| wrong(path)(RequestError::Malformed("it is too long")))
        };
        let asked = whole(&self.asked)?;
        let mut note = match asked.starts_with(REQUEST) {
            true => AddCheckpoint::parse(&asked).map_err(wrong(&self.asked))?.note,
            false => Note::parse(&asked).map_err(wrong(&self.asked))?,
        };
        for path in &self.answers {
            note.add(&whole(path)?).map_err(wrong(path))?;
        }
        let mut said = Vec::new();
        for key in load_cosigner_keys(&self.witness)? {
            said.push(note.cosigned(&key).map_err(wrong(self.answers.first().unwrap_or(&self.asked)))?);
        }
        if said.is_empty() {
            say(Priority::Warning, "whose cosignatures these are was not checked: give --witness");
        }
        write_new(&self.output, note.render().as_bytes())?;
        let (size, name) = (note.checkpoint.size, self.output.display().to_string());
        let human = || {
            let seen = said.iter().map(|by| format!("; {} saw them at {}", plain(&by.witness), by.time()));
            format!("{}: {size} entries{}", plain(&name), seen.collect::<String>())
        };
        let cosigned: Vec<_> = said.iter().map(|by| json!({"witness": by.witness, "time": by.time()})).collect();
        output.line(human, || json!({"size": size, "file": name, "cosigned": cosigned}))?;
        Ok(ExitCode::SUCCESS)
    }
}
