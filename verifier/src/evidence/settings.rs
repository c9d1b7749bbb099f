//! Settings of the kernel: what a file of sysctl.d wants, and what a device has below `/proc/sys`.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A file of sysctl.d is a screenful.
pub const FILE_BYTES_MAX: u64 = 64 << 10;
/// More settings than the kernel has in such a file.
const SETTINGS_MAX: usize = 1000;

/// One that a file wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, with dots.
    pub name: String,
    /// What it is to be.
    pub value: String,
    /// May the kernel lack it?
    pub is_optional: bool,
}

/// Reads a file of sysctl.d.
///
/// # Errors
/// A sentence about the first line that sets nothing.
pub fn wanted(text: &str) -> Result<Vec<Wanted>, String> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (is_optional, rest) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
        let (name, value) = rest.split_once('=').ok_or_else(|| format!("line {} sets nothing", at + 1))?;
        let (name, value) = (name.trim(), normal(value));
        // A link of /proc/sys leads nowhere else: names are words joined by dots.
        let is_name = name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it)));
        if !is_name || value.is_empty() || wanted.len() == SETTINGS_MAX {
            return Err(format!("line {} is no setting", at + 1));
        }
        wanted.retain(|it| it.name != name);
        wanted.push(Wanted { name: name.to_owned(), value, is_optional });
    }
    Ok(wanted)
}

/// Words with one space between, however the kernel parts them.
pub fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a device has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Those that the kernel does not have.
    pub absent: BTreeSet<String>,
    /// Those that could not be read, and why.
    pub unreadable: BTreeMap<String, String>,
    /// The others.
    pub values: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_sysctl_are_read() {
        let text = "# a\n\n; b\nnet.ipv4.ip_forward = 0\n-kernel.x=1\nkernel.core_pattern = |/bin/false\nnet.ipv4.ip_forward=  1\t2 \n";
        let found = wanted(text).unwrap();
        let of = |at: usize| (found[at].name.as_str(), found[at].value.as_str(), found[at].is_optional);
        assert_eq!(
            [of(0), of(1), of(2)],
            [
                ("kernel.x", "1", true),
                ("kernel.core_pattern", "|/bin/false", false),
                ("net.ipv4.ip_forward", "1 2", false)
            ]
        );
        for bad in ["a", "a b = 1", "a. = 1", "../x = 1", "a =", "= 1"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
    }
}
