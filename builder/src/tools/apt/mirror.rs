//! Which mirror this machine uses, from apt's own configuration: parsing is pure, reading apart.

use crate::error::{At, Error};
use std::fs;
use std::path::Path;

/// Suites by which an entry is known as Debian's.
const SUITES: &[&str] = &["bookworm", "trixie", "forky", "duke", "sid", "stable", "oldstable", "testing", "unstable"];

/// The URI of the first entry for a Debian suite with the component `main` under `etc` (`/etc/apt`).
///
/// # Errors
/// I/O other than absence.
pub fn of_this_machine(etc: &Path) -> Result<Option<String>, Error> {
    let mut files = vec![etc.join("sources.list")];
    let parts = etc.join("sources.list.d");
    if parts.is_dir() {
        let mut more: Vec<_> =
            fs::read_dir(&parts).at("read", &parts)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
        more.sort();
        files.extend(more);
    }
    for file in files.iter().filter(|f| f.is_file()) {
        let text = fs::read_to_string(file).at("read", file)?;
        let found = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => of_list(&text),
            Some("sources") => of_deb822(&text),
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// One-line format: `deb [options] URI SUITE COMPONENT…`.
fn of_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (uri, suite) = (words.first()?, words.get(1)?);
        (SUITES.contains(suite) && words.get(2..)?.contains(&"main")).then(|| (*uri).to_owned())
    })
}

/// deb822 format: stanzas of `Key: value`.
fn of_deb822(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza.lines().filter(|l| !l.starts_with('#')).find_map(|l| {
                l.split_once(':').filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
            })
        };
        let words =
            |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let enabled = field("Enabled").is_none_or(|v| v != "no");
        let debian = words("Types").iter().any(|t| t == "deb")
            && words("Suites").iter().any(|s| SUITES.contains(&s.as_str()))
            && words("Components").iter().any(|c| c == "main");
        (enabled && debian).then(|| words("URIs").into_iter().next()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_and_foreign_entries_passed_over() {
        let list = "# c\ndeb https://other.example/x nodistro main\ndeb [signed-by=/k] http://m.example/debian trixie main # c\n";
        assert_eq!(of_list(list).as_deref(), Some("http://m.example/debian"));
        assert_eq!(of_list("deb http://m.example/debian-security trixie-security main"), None);
        assert_eq!(of_list("deb http://m.example/debian trixie contrib"), None);
        let sources = "Types: deb\nURIs: http://s.example\nSuites: trixie-security\nComponents: main\n\nTypes: deb\n# URIs: no\nURIs: http://m.example/debian\nSuites: trixie trixie-updates\nComponents: main\n";
        assert_eq!(of_deb822(sources).as_deref(), Some("http://m.example/debian"));
        assert_eq!(of_deb822("Types: deb\nEnabled: no\nURIs: http://m\nSuites: trixie\nComponents: main\n"), None);
        assert_eq!(of_list(""), None);
    }
}
