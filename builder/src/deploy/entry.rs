//! A boot entry as libostree writes it. GRUB runs it as a script: a line more is a command more, and what means something to a
//! shell means something there.

use std::collections::BTreeMap;

/// What libostree writes, and what GRUB's configuration has a function for.
const KEYS: [&str; 7] = ["title", "version", "options", "linux", "initrd", "aboot", "abootcfg"];

/// A boot entry: known keys, each once.
#[derive(Debug)]
pub struct Entry(BTreeMap<&'static str, String>);

impl Entry {
    /// Reads one.
    ///
    /// # Errors
    /// A sentence about the line that is none of libostree's, or one too many. With a title of several lines this is what the
    /// second one is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for line in text.lines() {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            let Some(key) = KEYS.into_iter().find(|key| *key == name) else {
                return Err(format!("its line {line:?} is none of libostree's: is PRETTY_NAME one line?"));
            };
            if fields.insert(key, value.trim().to_owned()).is_some() {
                return Err(format!("it has {key} twice"));
            }
        }
        match ["options", "linux", "initrd"].into_iter().find(|key| !fields.contains_key(key)) {
            Some(key) => Err(format!("it has no {key}")),
            None => Ok(Self(fields)),
        }
    }

    /// What stands behind a key; nothing where it is absent.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// The kernel's arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.get("options").split(' ').filter(|it| !it.is_empty())
    }

    /// Does every line mean to GRUB what it says?
    ///
    /// # Errors
    /// A sentence about the first that does not.
    pub fn is_plain(&self) -> Result<(), String> {
        let taken = |what: &str| format!("GRUB would take a part of {what} for its own");
        if let Some(argument) = self.arguments().find(|it| !it.bytes().all(is_plain)) {
            return Err(taken(&format!("the kernel argument {argument:?}")));
        }
        let title = self.get("title");
        if !title.bytes().all(|byte| is_plain(byte) || b" ()".contains(&byte)) {
            return Err(taken(&format!("the title {title:?}, which is PRETTY_NAME and the version of its os-release")));
        }
        for (key, value) in self.0.iter().filter(|(key, _)| !["title", "options"].contains(key)) {
            if !value.bytes().all(is_plain) {
                return Err(taken(&format!("{key} {value:?}")));
            }
        }
        Ok(())
    }
}

/// These mean nothing in GRUB's scripts.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+,-./:=@_%^~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title SecAI OS 1~rc1 (trixie) (ostree:0)\nversion 1\noptions root=PARTUUID=0-1 a.b=c:d@e%f+g^h_i,115200n8\n\
        linux /ostree/secai-0f/vmlinuz-6.12.107+deb13\ninitrd /ostree/secai-0f/initramfs-6.12.107+deb13.img\n";

    #[test]
    fn an_entry_is_known_lines_each_once() {
        let entry = Entry::parse(GOOD).unwrap();
        assert_eq!((entry.get("version"), entry.get("aboot")), ("1", ""));
        assert_eq!(entry.arguments().count(), 2);
        entry.is_plain().unwrap();
        for (from, to, said) in [
            ("(trixie)", "\nset root=hd9", "set root=hd9"),
            ("(trixie)", "\n", "PRETTY_NAME"),
            ("(trixie)", "\nlinux /evil", "it has linux twice"),
            ("(trixie)", "\noptions init=/bin/sh", "it has options twice"),
            ("n8\n", "n8\nreboot\n", "\"reboot\""),
            ("n8\n", "n8\n# x\n", "\"# x\""),
            ("linux ", "aboot ", "it has no linux"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            let said_of_it = Entry::parse(&text).unwrap_err();
            assert!(said_of_it.contains(said), "{text}: {said_of_it}");
        }
    }

    #[test]
    fn what_means_something_to_grub_is_refused_on_every_line() {
        for bad in ["a;reboot", "$a", "a\"b", "a'b", "{a}", "a|b", "a&b", "#a", "a<b", "a>b", "a*", "a\\b", "a\tb", "ü"]
        {
            for (line, said) in [
                ("title SecAI OS", "PRETTY_NAME"),
                ("version ", "version"),
                ("options ", "kernel argument"),
                ("linux /", "linux"),
                ("initrd /", "initrd"),
            ] {
                let text = GOOD.replace(line, &format!("{line}{bad}"));
                assert_ne!(text, GOOD);
                let said_of_it = Entry::parse(&text).unwrap().is_plain().unwrap_err();
                assert!(said_of_it.contains(said), "{text}: {said_of_it}");
            }
        }
        // In a title they are what everybody writes.
        for bad in ["(", " x"] {
            let text = GOOD.replace("linux /", &format!("linux /{bad}"));
            Entry::parse(&text).unwrap().is_plain().unwrap_err();
        }
    }
}
