//! What the kernel says of itself in a line or two.

use serde::{Deserialize, Serialize};

/// Arguments of a command line, as the kernel parts them: by spaces outside double quotes.
pub fn arguments(line: &str) -> Vec<String> {
    let (mut arguments, mut one, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.trim_end_matches('\n').chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                if !one.is_empty() {
                    arguments.push(std::mem::take(&mut one));
                }
                continue;
            }
            _ => {}
        }
        one.push(c);
    }
    if !one.is_empty() {
        arguments.push(one);
    }
    arguments
}

/// The name of an argument.
pub fn name(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

/// `/sys/kernel/security/lockdown`: the word in brackets.
///
/// # Errors
/// A sentence.
pub fn lockdown(text: &str) -> Result<&str, &'static str> {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    word.ok_or("no word of it is in brackets")
}

/// What memory is written to: the lines of `/proc/swaps` after the titles.
///
/// # Errors
/// A sentence.
pub fn swaps(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut lines = text.lines();
    if !lines.next().is_some_and(|titles| titles.starts_with("Filename")) {
        return Err("it does not begin with the kernel's titles");
    }
    Ok(lines.filter_map(|line| line.split_whitespace().next()).collect())
}

/// The deployment that is booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Of its name, `COMMIT.SERIAL`.
    pub commit: crate::digest::Digest,
    /// What its origin says, line by line; empty without one.
    pub origin: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_parted_as_the_kernel_does() {
        assert_eq!(arguments("a  b=c\td=\"e f\" \"g h=i\"\n"), ["a", "b=c", "d=\"e f\"", "\"g h=i\""]);
        assert!(arguments(" \n").is_empty());
        assert_eq!((name("a=b=c"), name("a")), ("a", "a"));
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(lockdown("none [integrity] confidentiality\n"), Ok("integrity"));
        assert!(lockdown("none integrity\n").is_err());
    }

    #[test]
    fn swaps_are_the_lines_after_the_titles() {
        let titles = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swaps(titles), Ok(vec![]));
        assert_eq!(swaps(&format!("{titles}/dev/zram0 partition 1 0 100\n")), Ok(vec!["/dev/zram0"]));
        assert!(swaps("").is_err());
    }
}
