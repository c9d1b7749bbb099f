//! Which file of a chain each value of a recipe came from, and what was taken away by whom: `plan --explain`.

pub use super::merge::How;
use super::merge::{Merged, Place, Source, Stated};
use serde::Serialize;

/// A recipe, value by value.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The files of the chain, the recipe itself first.
    pub files: Vec<String>,
    /// Every value that holds.
    pub values: Vec<Origin>,
    /// Every value that was stated, and holds no longer.
    pub gone: Vec<Ended>,
}

/// A value, and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    /// Its key, such as `units.mask`.
    pub key: &'static str,
    /// The value; of a file its path, of a user the name, of a list that holds nothing `[]`.
    pub value: String,
    /// Where it stands.
    #[serde(flatten)]
    pub at: Standing,
}

/// A value that ended, and where that is said.
#[derive(Debug, Clone, Serialize)]
pub struct Ended {
    /// The value, where it stood.
    #[serde(flatten)]
    pub origin: Origin,
    /// Removed, or replaced by another.
    pub how: How,
    /// Where.
    pub by: Standing,
}

/// A place in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// As it was named.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

impl Standing {
    fn of(place: Place, sources: &[Source]) -> Self {
        let file = sources.get(place.file).map(|source| source.name.clone()).unwrap_or_default();
        Standing { file, line: place.line, column: place.column }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Explained {
    pub(super) fn of(merged: &Merged, sources: &[Source]) -> Self {
        let origin =
            |(key, value, at): (&'static str, String, Place)| Origin { key, value, at: Standing::of(at, sources) };
        let itself = String::as_str;
        let listed = merged.set_id.as_ref().map_or(&[][..], |(_, list)| list);
        // Though it holds nothing, such a list says something.
        let empty = merged.set_id.iter().filter(|(_, list)| list.is_empty());
        let values = [
            each("name", merged.name.as_slice(), itself),
            each("version", merged.version.as_slice(), itself),
            each("base.debian.suite", merged.suite.as_slice(), itself),
            each("base.debian.kernel", merged.kernel.as_slice(), itself),
            each("base.debian.packages", merged.base_packages.as_deref().unwrap_or_default(), itself),
            each("packages", &merged.packages, itself),
            each("services", &merged.services, itself),
            each("files", &merged.files, |it| &it.path.value),
            each("units.enable", &merged.enable, itself),
            each("units.mask", &merged.mask, itself),
            each("users", &merged.users, |it| &it.name.value),
            each("set_id", listed, itself),
            empty.map(|(at, _)| ("set_id", "[]".to_owned(), *at)).collect(),
            each("kernel_args", &merged.kernel_args, itself),
            each("trust", merged.trust.as_slice(), itself),
            each("channel", merged.channel.as_slice(), itself),
        ];
        let gone = merged.gone.iter().map(|it| Ended {
            origin: origin((it.key, it.value.clone(), it.at)),
            how: it.how,
            by: Standing::of(it.by, sources),
        });
        Explained {
            files: sources.iter().map(|it| it.name.clone()).collect(),
            gone: gone.collect(),
            values: values.into_iter().flatten().map(origin).collect(),
        }
    }
}

fn each<T>(key: &'static str, list: &[Stated<T>], name: impl Fn(&T) -> &str) -> Vec<(&'static str, String, Place)> {
    list.iter().map(|it| (key, name(&it.value).to_owned(), it.at)).collect()
}
