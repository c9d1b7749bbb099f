//! `nft` and `ip`: the two programs that speak with the kernel for this one.

pub use secai_daemon::program::ProgramError;
use secai_daemon::program::{self, Bounds};
use secai_verifier::network::links::LINKS_BYTES_MAX;
use secai_verifier::network::parse::TEXT_BYTES_MAX;
use secai_verifier::network::rules::INET_TABLE;
use std::thread;
use std::time::Duration;

/// Loads and lists rules.
pub const NFT: &str = "/usr/sbin/nft";
/// Lists links, and sets them up or down.
pub const IP: &str = "/usr/bin/ip";
/// Each takes some milliseconds; a kernel that takes longer than this is not going to.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The rules that there are, as nft lists them, and the links, as `ip -j link` does: both at the same time.
///
/// # Errors
/// [`ProgramError`].
pub fn listed() -> Result<(Vec<u8>, Vec<u8>), ProgramError> {
    thread::scope(|scope| {
        let links = scope.spawn(listed_links);
        let rules = run(NFT, &["list", "ruleset"], b"", TEXT_BYTES_MAX)?;
        let links = links.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((rules, links))
    })
}

/// The tables that there are, as JSON: their numbers are only there in every version of nft.
///
/// # Errors
/// [`ProgramError`].
pub fn listed_tables() -> Result<Vec<u8>, ProgramError> {
    run(NFT, &["-j", "list", "tables"], b"", TEXT_BYTES_MAX)
}

/// The table of packets as JSON, for the second reader.
///
/// # Errors
/// [`ProgramError`]; there may be none.
pub fn listed_packets() -> Result<Vec<u8>, ProgramError> {
    run(NFT, &["-j", "list", "table", "inet", INET_TABLE], b"", TEXT_BYTES_MAX)
}

/// The links alone.
///
/// # Errors
/// [`ProgramError`].
pub fn listed_links() -> Result<Vec<u8>, ProgramError> {
    run(IP, &["-j", "link"], b"", LINKS_BYTES_MAX)
}

/// Loads a text in one transaction: all of it, or nothing.
///
/// # Errors
/// [`ProgramError`]; nothing was changed then.
pub fn load(text: &str) -> Result<(), ProgramError> {
    run(NFT, &["-f", "-"], text.as_bytes(), TEXT_BYTES_MAX).map(drop)
}

/// Sets a link up or down.
///
/// # Errors
/// [`ProgramError`].
pub fn set_link(name: &str, up: bool) -> Result<(), ProgramError> {
    run(IP, &["link", "set", "dev", name, if up { "up" } else { "down" }], b"", LINKS_BYTES_MAX).map(drop)
}

fn run(program: &'static str, words: &[&str], input: &[u8], bytes: usize) -> Result<Vec<u8>, ProgramError> {
    program::run(program, words, input, Bounds { time: TIME_MAX, bytes })
}
