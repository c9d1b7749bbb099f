//! One recipe out of a chain of them: what each states, laid over what the one it extends came to. Pure.
//!
//! Scalars replace. Lists append, and `-NAME` in one takes NAME away, which must be there. Entries of `files` and `users` are
//! known by their path and name: an entry of the same one replaces the whole entry. Name and version are each recipe's own.

use super::text::{FileText, RecipeText, UserText};
use crate::error::Error;
use serde::Serialize;
use serde_saphyr::{Location, Spanned};
use std::path::PathBuf;

/// A file of the chain.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// How complaints name it.
    pub(super) name: String,
    /// What its paths are relative to.
    pub(super) folder: PathBuf,
}

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file of the chain; 0 is the recipe itself.
    pub(super) file: usize,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    /// The beginning of the recipe, for what stands nowhere.
    pub(super) const BEGINNING: Place = Place { file: 0, line: 1, column: 1 };

    pub(super) fn of(file: usize, l: &Location) -> Place {
        Place { file, line: l.line().max(1), column: l.column().max(1) }
    }

    /// As a hint names it: the file only where it is another than that of the complaint.
    pub(super) fn seen_from(self, complaint: Place, sources: &[Source]) -> String {
        let Place { file, line, column } = self;
        let name = sources.get(file).filter(|_| file != complaint.file);
        name.map_or_else(|| format!("{line}:{column}"), |source| format!("{}:{line}:{column}", source.name))
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Stated<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What was taken away.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) at: Place,
    pub(super) how: How,
    /// Where that is said.
    pub(super) by: Place,
}

/// How a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By `-NAME`.
    Removed,
    /// By another in its place.
    Replaced,
}

/// What a chain came to. Nothing in it was checked yet but that each name stands once in its list.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) name: Option<Stated<String>>,
    pub(super) version: Option<Stated<String>>,
    pub(super) suite: Option<Stated<String>>,
    pub(super) kernel: Option<Stated<String>>,
    pub(super) base_packages: Option<Vec<Stated<String>>>,
    pub(super) packages: Vec<Stated<String>>,
    pub(super) services: Vec<Stated<String>>,
    pub(super) files: Vec<Stated<FileText>>,
    pub(super) enable: Vec<Stated<String>>,
    pub(super) mask: Vec<Stated<String>>,
    pub(super) users: Vec<Stated<UserText>>,
    /// With the place of the list that was stated last.
    pub(super) set_id: Option<(Place, Vec<Stated<String>>)>,
    pub(super) kernel_args: Vec<Stated<String>>,
    pub(super) trust: Option<Stated<String>>,
    pub(super) channel: Option<Stated<String>>,
    pub(super) gone: Vec<Gone>,
}

/// A complaint about the thing at a place of the chain.
pub(super) fn complaint(sources: &[Source], at: Place, message: impl Into<String>, hint: impl Into<String>) -> Error {
    let file = sources.get(at.file).map(|source| source.name.clone()).unwrap_or_default();
    Error::Recipe { file, line: at.line, column: at.column, message: message.into(), hint: hint.into() }
}

/// Merges a chain; the recipe itself stands first, what it extends behind it.
///
/// # Errors
/// [`Error::Recipe`] for what stands twice, and for what cannot be taken away because it is not there.
pub(super) fn merge(chain: Vec<RecipeText>, sources: &[Source]) -> Result<Merged, Error> {
    let mut merged = Merged::default();
    for (file, text) in chain.into_iter().enumerate().rev() {
        let mut layer = Layer { file, sources, gone: std::mem::take(&mut merged.gone) };
        let debian = text.base.debian;
        merged.name = Some(layer.stated(text.name));
        merged.version = Some(layer.stated(text.version));
        layer.scalar("base.debian.suite", &mut merged.suite, debian.suite);
        layer.scalar("base.debian.kernel", &mut merged.kernel, debian.kernel);
        if let Some(own) = debian.packages {
            layer.list("base.debian.packages", merged.base_packages.get_or_insert_default(), own)?;
        }
        layer.list("packages", &mut merged.packages, text.packages)?;
        layer.list("services", &mut merged.services, text.services)?;
        layer.entries("files", &mut merged.files, text.files)?;
        layer.list("units.enable", &mut merged.enable, text.units.enable)?;
        layer.list("units.mask", &mut merged.mask, text.units.mask)?;
        layer.entries("users", &mut merged.users, text.users)?;
        if let Some(own) = text.set_id {
            let (at, list) = merged.set_id.get_or_insert((Place::BEGINNING, Vec::new()));
            *at = Place::of(file, &own.referenced);
            layer.list("set_id", list, own.value)?;
        }
        layer.list("kernel_args", &mut merged.kernel_args, text.kernel_args)?;
        layer.scalar("trust", &mut merged.trust, text.trust);
        layer.scalar("channel", &mut merged.channel, text.channel);
        merged.gone = layer.gone;
    }
    Ok(merged)
}

/// An entry of a list that is known by a name.
trait Entry {
    fn name(&self) -> &Spanned<String>;
    /// Does it say nothing but its name?
    fn is_bare(&self) -> bool;
}

impl Entry for Spanned<String> {
    fn name(&self) -> &Spanned<String> {
        self
    }
    fn is_bare(&self) -> bool {
        true
    }
}

impl Entry for FileText {
    fn name(&self) -> &Spanned<String> {
        &self.path
    }
    fn is_bare(&self) -> bool {
        let FileText { path: _, source, content, link, mode, user, group } = self;
        source.is_none() && mode.is_none() && [content, link, user, group].into_iter().all(Option::is_none)
    }
}

impl Entry for UserText {
    fn name(&self) -> &Spanned<String> {
        &self.name
    }
    fn is_bare(&self) -> bool {
        let UserText { name: _, uid, comment, home, shell, groups } = self;
        uid.is_none() && comment.is_empty() && home.is_none() && shell.is_none() && groups.is_empty()
    }
}

/// An entry of a name that another recipe stated already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twice {
    /// Takes its place.
    Replaces,
    /// Says nothing new.
    Refused,
}

/// One recipe, as it is laid over what it extends.
struct Layer<'a> {
    file: usize,
    sources: &'a [Source],
    gone: Vec<Gone>,
}

impl Layer<'_> {
    fn stated<T>(&self, value: Spanned<T>) -> Stated<T> {
        Stated { at: Place::of(self.file, &value.referenced), value: value.value }
    }

    fn scalar(&mut self, key: &'static str, merged: &mut Option<Stated<String>>, own: Option<Spanned<String>>) {
        let Some(own) = own else { return };
        let own = self.stated(own);
        let by = own.at;
        if let Some(old) = merged.replace(own) {
            self.gone.push(Gone { key, value: old.value, at: old.at, how: How::Replaced, by });
        }
    }

    fn list(
        &mut self,
        key: &'static str,
        merged: &mut Vec<Stated<String>>,
        own: Vec<Spanned<String>>,
    ) -> Result<(), Error> {
        let mut entries = merged.drain(..).map(|it| (it.value.clone(), it)).collect();
        self.lay(key, &mut entries, own, Twice::Refused, |layer, entry| layer.stated(entry))?;
        merged.extend(entries.into_iter().map(|(_, it)| it));
        Ok(())
    }

    fn entries<T: Entry>(&mut self, key: &'static str, merged: &mut Vec<Stated<T>>, own: Vec<T>) -> Result<(), Error> {
        let mut entries = merged.drain(..).map(|it| (it.value.name().value.clone(), it)).collect();
        self.lay(key, &mut entries, own, Twice::Replaces, |layer, entry| {
            let at = Place::of(layer.file, &entry.name().referenced);
            Stated { value: entry, at }
        })?;
        merged.extend(entries.into_iter().map(|(_, it)| it));
        Ok(())
    }

    /// Lays what this recipe states over the list that it found.
    fn lay<T: Entry, S>(
        &mut self,
        key: &'static str,
        merged: &mut Vec<(String, Stated<S>)>,
        own: Vec<T>,
        twice: Twice,
        stated: impl Fn(&Self, T) -> Stated<S>,
    ) -> Result<(), Error> {
        for entry in own {
            let name = entry.name().value.clone();
            let by = Place::of(self.file, &entry.name().referenced);
            if let Some(unwanted) = name.strip_prefix('-') {
                if !entry.is_bare() {
                    return Err(complaint(
                        self.sources,
                        by,
                        format!("`{name}` takes `{unwanted}` away, and says more of it"),
                        "leave the rest out, or the `-`",
                    ));
                }
                // What this recipe itself states, nobody has to take away from it.
                let found = merged.iter().position(|(known, it)| known == unwanted && it.at.file != self.file);
                let Some(found) = found else {
                    return Err(complaint(
                        self.sources,
                        by,
                        format!("`{unwanted}` is not there to be taken away"),
                        self.absent(key),
                    ));
                };
                let (value, old) = merged.remove(found);
                self.gone.push(Gone { key, value, at: old.at, how: How::Removed, by });
                continue;
            }
            match merged.iter_mut().find(|(known, _)| *known == name) {
                None => merged.push((name, stated(self, entry))),
                Some((_, old)) if twice == Twice::Replaces && old.at.file != self.file => {
                    let at = std::mem::replace(old, stated(self, entry)).at;
                    self.gone.push(Gone { key, value: name, at, how: How::Replaced, by });
                }
                Some((_, old)) => return Err(self::twice(self.sources, &name, old.at, by)),
            }
        }
        Ok(())
    }

    /// What to do when there is nothing to take away.
    fn absent(&self, key: &str) -> String {
        match self.sources.get(self.file + 1) {
            None => "this recipe extends none; `-` takes away what another one states".into(),
            Some(parent) => format!("{} and what it extends do not have it in `{key}`", parent.name),
        }
    }
}

/// The complaint about a name that stands twice: of two files, in the one that extends the other.
pub(super) fn twice(sources: &[Source], name: &str, first: Place, again: Place) -> Error {
    let (first, again) = if again.file > first.file { (again, first) } else { (first, again) };
    let first = first.seen_from(again, sources);
    complaint(sources, again, format!("`{name}` stands twice"), format!("it stands first at {first}; remove one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{FileContent, Recipe, chain};

    const ROOT: &str = "name: root
version: '1'
base:
  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree, dracut]}
packages: [nftables, login]
services: [audit]
files:
  - {path: /etc/a, content: root, mode: '0600'}
  - {path: /etc/b, content: root}
units: {enable: [x.service], mask: [y.service]}
users: [{name: alice, uid: 1000}, {name: bob, uid: 1001, shell: /bin/sh}]
set_id: [/usr/bin/sudo, /usr/bin/su]
kernel_args: [console=tty0, quiet]
channel: stable
";
    const CHILD: &str = "name: child\nversion: '2'\nextends: root.yml\n";

    /// The child's text over `ROOT`, which the chain already led to.
    fn merged(texts: &[&str]) -> Result<Recipe, Error> {
        let names = ["child.yml", "root.yml", "older.yml"];
        let sources = names.map(|name| Source { name: name.into(), folder: PathBuf::from(".") });
        let sources = sources.into_iter().take(texts.len()).collect::<Vec<_>>();
        let texts = texts.iter().map(|text| chain::parse(text, "r.yml")).collect::<Result<_, _>>()?;
        Recipe::of(texts, sources)
    }

    fn over(text: &str) -> Recipe {
        merged(&[&format!("{CHILD}{text}"), ROOT]).unwrap()
    }

    fn refused(text: &str) -> (String, String) {
        let error = merged(&[&format!("{CHILD}{text}"), ROOT]).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    fn same(a: &Recipe, b: &Recipe) -> bool {
        let json = |it| serde_json::to_value(it).unwrap();
        json(a) == json(b) && a.files == b.files && a.trust == b.trust
    }

    #[test]
    fn what_a_child_does_not_state_is_its_parents() {
        let (root, child) = (merged(&[ROOT]).unwrap(), over(""));
        assert_eq!((child.name.as_str(), child.version.as_str()), ("child", "2"));
        let renamed = Recipe { name: root.name.clone(), version: root.version.clone(), ..child };
        assert!(same(&renamed, &root));
        assert!(!same(&over("channel: dev\n"), &renamed), "the comparison sees nothing");
    }

    #[test]
    fn scalars_replace_lists_append_and_a_dash_removes() {
        let child = over(
            "base: {debian: {kernel: linux-image-cloud-amd64, packages: [-dracut, zstd]}}
packages: [-login, sudo]
services: [firewall, -audit]
units: {enable: [-x.service], mask: [x.service]}
set_id: [-/usr/bin/su, /usr/bin/passwd]
kernel_args: [-quiet, quiet, debug]
channel: dev
",
        );
        assert_eq!(child.suite, "trixie");
        assert_eq!(child.packages, ["linux-image-cloud-amd64", "nftables", "ostree", "sudo", "zstd"]);
        assert_eq!(child.services, ["firewall"]);
        assert_eq!((child.enable, child.mask), (vec![], vec!["y.service".to_owned(), "x.service".to_owned()]));
        assert_eq!(child.set_id.unwrap(), ["/usr/bin/passwd", "/usr/bin/sudo"]);
        // Taken away and stated anew, an argument comes to stand behind.
        assert_eq!(child.kernel_args, ["console=tty0", "quiet", "debug"]);
        assert_eq!(child.channel.as_deref(), Some("dev"));
        let none = over("set_id: [-/usr/bin/su, -/usr/bin/sudo]\n");
        assert_eq!(none.set_id, Some(vec![]), "what was taken away leaves a list that is empty, not no list");
    }

    #[test]
    fn files_go_by_path_and_users_by_name_whole() {
        let child = over(
            "files:
  - {path: /etc/c, content: own}
  - {path: /etc/a, content: own}
  - {path: -/etc/b}
users: [{name: -alice}, {name: bob, uid: 1002}, {name: carol, uid: 1000}]
",
        );
        let files: Vec<_> = child.files.iter().map(|it| (it.path.as_str(), &it.content, it.mode)).collect();
        let own = FileContent::Inline("own".into());
        assert_eq!(files, [("/etc/a", &own, None), ("/etc/c", &own, None)], "the old mode went with the old file");
        let users: Vec<_> = child.users.iter().map(|it| (it.name.as_str(), it.uid, it.shell.as_deref())).collect();
        assert_eq!(users, [("bob", 1002, None), ("carol", 1000, None)]);
    }

    #[test]
    fn what_cannot_be_merged_is_refused_at_its_place() {
        let cases = [
            ("packages: [-absent]\n", "child.yml:4:12: `absent` is not there", "`packages`"),
            ("packages: [-ostree]\n", "child.yml:4:12: `ostree` is not there", "root.yml"),
            ("packages: [own, -own]\n", "child.yml:4:17: `own` is not there", ""),
            ("files: [{path: -/etc/c}]\n", "child.yml:4:16: `/etc/c` is not there", ""),
            ("files: [{path: -/etc/a, content: x}]\n", "child.yml:4:16: `-/etc/a` takes `/etc/a` away", "leave"),
            ("users: [{name: -alice, uid: 1000}]\n", "child.yml:4:16: `-alice` takes", ""),
            ("set_id: [-/usr/bin/chsh]\n", "child.yml:4:10: `/usr/bin/chsh` is not there", ""),
            ("packages: [login]\n", "child.yml:4:12: `login` stands twice", "root.yml:5:22"),
            ("packages: [ostree]\n", "child.yml:4:12: `ostree` stands twice", "root.yml:4:65"),
            ("kernel_args: [-quiet, quiet, quiet]\n", "child.yml:4:30: `quiet` stands twice", "first at 4:23"),
            ("users: [{name: dave, uid: 1001}]\n", "child.yml:4:27: `1001` stands twice", "root.yml:11:"),
            ("kernel_args: ['a b']\n", "child.yml:4:15: `a b` is not one kernel argument", ""),
            ("units: {mask: [x.service]}\n", "child.yml:4:16: `x.service` stands twice", "root.yml:10:"),
        ];
        for (text, said, hint) in cases {
            let got = refused(text);
            assert!(got.0.starts_with(said) && got.1.contains(hint), "{text}: {got:?}");
        }
    }

    #[test]
    fn what_an_older_one_states_is_there_for_all() {
        let middle = format!("{CHILD}packages: [-login]\n");
        let child = |text: &str| merged(&[&format!("{CHILD}{text}"), &middle, ROOT]);
        assert_eq!(child("packages: [login]\n").unwrap().packages, over("").packages);
        assert_eq!(child("packages: [-nftables]\n").unwrap().packages.len(), 3);
        let error = child("packages: [-login]\n").unwrap_err();
        assert!(error.to_string().starts_with("child.yml:4:12: `login` is not there"), "{error}");
    }

    #[test]
    fn each_value_says_where_it_stands_and_each_that_ended_why() {
        let child = over("packages: [-login, sudo]\nfiles: [{path: /etc/a, content: own}]\nchannel: dev\n");
        let of = |key: &str| -> Vec<String> {
            let values = child.explained.values.iter().filter(|it| it.key == key);
            values.map(|it| format!("{} {}", it.value, it.at)).collect()
        };
        assert_eq!(of("name"), ["child child.yml:1"]);
        assert_eq!(of("packages"), ["nftables root.yml:5", "sudo child.yml:4"]);
        assert_eq!(of("files"), ["/etc/a child.yml:5", "/etc/b root.yml:9"]);
        assert_eq!(of("channel"), ["dev child.yml:6"]);
        let gone = child.explained.gone.iter();
        let gone: Vec<_> = gone
            .map(|it| format!("{} {} {} {:?} {}", it.origin.key, it.origin.value, it.origin.at, it.how, it.by))
            .collect();
        let expected = [
            "packages login root.yml:5 Removed child.yml:4",
            "files /etc/a root.yml:8 Replaced child.yml:5",
            "channel stable root.yml:14 Replaced child.yml:6",
        ];
        assert_eq!(gone, expected);
        // Each value once: packages of the base and the kernel are among those of the recipe.
        let listed =
            child.explained.values.iter().filter(|it| it.key.contains("packages") || it.key.ends_with("kernel"));
        assert_eq!(listed.count(), child.packages.len());
        let empty = over("set_id: [-/usr/bin/su, -/usr/bin/sudo]\n").explained;
        assert!(empty.values.iter().any(|it| it.key == "set_id" && it.value == "[]" && it.at.line == 4));
    }
}
