//! From a recipe's path to the files of its chain: itself, the recipe that it extends, the one that this extends.

use super::check::syntax_error;
use super::merge::{Place, Source, complaint};
use super::text::RecipeText;
use super::{OutsideFiles, RECIPE_BYTES_MAX};
use crate::error::{At, Error};
use std::path::{Path, PathBuf};

/// Files of a chain. Nobody keeps more of them in mind.
const CHAIN_MAX: usize = 8;

/// Reads a chain; the recipe itself stands first.
///
/// # Errors
/// [`Error::Recipe`] with the position of what is wrong, in the file that it is in; I/O for the recipe itself.
pub(super) fn read(path: &Path, outside: OutsideFiles) -> Result<(Vec<Source>, Vec<RecipeText>), Error> {
    let meta = std::fs::metadata(path).at("read", path)?;
    if !meta.is_file() || meta.len() > RECIPE_BYTES_MAX {
        return Err(Error::Unusable { path: path.to_owned(), reason: not_a_recipe() });
    }
    let text = std::fs::read_to_string(path).at("read", path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().at("read", folder)?;
    let mut seen = vec![path.canonicalize().at("read", path)?];
    let mut sources = vec![Source { name: path.display().to_string(), folder }];
    let mut texts = vec![parse(&text, &path.display().to_string())?];
    let mut shown = path.to_owned();
    while let Some(extends) = texts.last().and_then(|text| text.extends.as_ref()) {
        let file = texts.len() - 1;
        let at = Place::of(file, &extends.referenced);
        let named = PathBuf::from(&extends.value);
        let found = inside(&sources, at, &named, outside)?;
        // By what it is, not by how it is written; and as people would write it, for complaints.
        shown = shown.parent().unwrap_or(Path::new("")).join(&named);
        let say = |message: String, hint: &str| complaint(&sources, at, message, hint);
        if seen.contains(&found) {
            let message = format!("{} is in its own chain", named.display());
            return Err(say(message, "a recipe extends another one, and none comes back to itself"));
        }
        if texts.len() == CHAIN_MAX {
            let message = format!("more than {CHAIN_MAX} recipes extend one another");
            return Err(say(message, "put together what belongs together"));
        }
        let meta = std::fs::metadata(&found).at("read", &found)?;
        if !meta.is_file() || meta.len() > RECIPE_BYTES_MAX {
            return Err(say(format!("{} cannot be extended", named.display()), &not_a_recipe()));
        }
        let text = std::fs::read_to_string(&found)
            .map_err(|e| say(format!("{} cannot be read: {e}", named.display()), &not_a_recipe()))?;
        let name = shown.display().to_string();
        texts.push(parse(&text, &name)?);
        // Of the file that was found: a link among the folders of its name must not lead elsewhere.
        let folder = found.parent().unwrap_or(Path::new("/")).to_owned();
        sources.push(Source { name, folder });
        seen.push(found);
    }
    Ok((sources, texts))
}

fn not_a_recipe() -> String {
    format!("a recipe is a text file of at most {RECIPE_BYTES_MAX} bytes")
}

/// One file, by itself.
///
/// # Errors
/// [`Error::Recipe`].
pub(super) fn parse(text: &str, name: &str) -> Result<RecipeText, Error> {
    serde_saphyr::from_str(text).map_err(|e| syntax_error(&e, name))
}

/// The real path of something that a recipe names, inside that recipe's folder.
///
/// # Errors
/// [`Error::Recipe`] at `at`.
pub(super) fn inside(sources: &[Source], at: Place, named: &Path, outside: OutsideFiles) -> Result<PathBuf, Error> {
    let root = sources.get(at.file).map_or(Path::new("."), |source| &source.folder);
    let found = root.join(named).canonicalize().map_err(|e| {
        complaint(
            sources,
            at,
            format!("{} cannot be read: {e}", named.display()),
            "paths in a recipe are relative to the recipe's own folder",
        )
    })?;
    if outside == OutsideFiles::Refused && !found.starts_with(root) {
        return Err(complaint(
            sources,
            at,
            format!("{} lies outside the recipe's folder", named.display()),
            "copy it beside the recipe, or pass --allow-files-outside-the-recipe-folder",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use std::fs;

    const ROOT: &str =
        "name: root\nversion: '1'\nbase:\n  debian: {suite: trixie, kernel: linux-image-amd64, packages: [ostree]}\n";

    fn child(of: &str) -> String {
        format!("name: child\nversion: '1'\nextends: {of}\n")
    }

    /// Writes the files, loads `r.yml` of them: a complaint without the folder, or nothing.
    fn said(files: &[(&str, &str)], outside: OutsideFiles) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        let start = if dir.path().join("inner").exists() { "inner/r.yml" } else { "r.yml" };
        let error = Recipe::load(&dir.path().join(start), outside).err()?.to_string();
        Some(error.replace(&format!("{}/", dir.path().display()), ""))
    }

    fn refused(files: &[(&str, &str)]) -> String {
        said(files, OutsideFiles::Refused).expect("this was accepted")
    }

    #[test]
    fn a_chain_is_read_and_each_complaint_names_its_file() {
        let r = child("base/a.yml");
        let ok = [("r.yml", r.as_str()), ("base/a.yml", &child("b.yml")), ("base/b.yml", ROOT)];
        assert_eq!(said(&ok, OutsideFiles::Refused), None);
        let unknown = format!("{ROOT}pakages: [x]\n");
        let wrong = [ok[0], ok[1], ("base/b.yml", unknown.as_str())];
        assert!(refused(&wrong).starts_with("base/b.yml:5:1: unknown field `pakages`"), "{}", refused(&wrong));
        let own = format!("{r}pakages: [x]\n");
        assert!(refused(&[("r.yml", &own), ok[1], ok[2]]).starts_with("r.yml:4:1: unknown field `pakages`"));
        // What only the whole can tell is said where it stands.
        let unit = format!("{ROOT}units: {{mask: [a.service]}}\n");
        let both = format!("{r}units: {{enable: [a.service]}}\n");
        let twice = refused(&[("r.yml", &both), ok[1], ("base/b.yml", &unit)]);
        assert!(twice.starts_with("r.yml:4:18: `a.service` stands twice"), "{twice}");
    }

    #[test]
    fn a_chain_that_cannot_be_followed_is_refused_where_it_is_said() {
        let (r, root) = (child("a.yml"), ("a.yml", ROOT));
        assert_eq!(
            refused(&[("r.yml", &r)]),
            "r.yml:3:10: a.yml cannot be read: No such file or directory (os error 2)"
        );
        assert!(refused(&[("r.yml", &child("."))]).starts_with("r.yml:3:10: . cannot be extended"));
        assert!(refused(&[("r.yml", &child("r.yml"))]).starts_with("r.yml:3:10: r.yml is in its own chain"));
        let around = [("r.yml", r.as_str()), ("a.yml", &child("b.yml")), ("b.yml", "-> r.yml")];
        assert!(refused(&around).starts_with("a.yml:3:10: b.yml is in its own chain"));
        assert_eq!(said(&[("r.yml", &r), root], OutsideFiles::Refused), None);
        for two in ["extends: [a.yml, b.yml]", "extends: {a: b}"] {
            let text = format!("name: child\nversion: '1'\n{two}\n");
            assert!(refused(&[("r.yml", &text), root]).starts_with("r.yml:3:10: "), "{two}");
        }
        let bytes = [("r.yml", r.as_str()), ("a.yml", &"#".repeat(usize::try_from(RECIPE_BYTES_MAX).unwrap() + 1))];
        assert!(refused(&bytes).starts_with("r.yml:3:10: a.yml cannot be extended"));
        // Name and version are each one's own, also of one that states nothing else.
        let nameless = [("r.yml", "version: '1'\nextends: a.yml\n"), root];
        assert!(refused(&nameless).contains("missing field `name`"), "{}", refused(&nameless));
    }

    #[test]
    fn a_chain_has_a_longest() {
        let chain = |files: usize| {
            let names: Vec<String> =
                (0..files).map(|n| if n == 0 { "r.yml".into() } else { format!("{n}.yml") }).collect();
            let texts: Vec<String> =
                (1..=files).map(|n| if n == files { ROOT.to_owned() } else { child(&format!("{n}.yml")) }).collect();
            let files: Vec<(&str, &str)> = names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
            said(&files, OutsideFiles::Refused)
        };
        assert_eq!(chain(CHAIN_MAX), None);
        assert!(chain(CHAIN_MAX + 1).unwrap().starts_with("7.yml:3:10: more than 8 recipes"));
    }

    #[test]
    fn a_recipe_outside_the_folder_needs_the_flag() {
        let up = child("../a.yml");
        let files = [("inner/r.yml", up.as_str()), ("a.yml", ROOT)];
        assert!(refused(&files).starts_with("inner/r.yml:3:10: ../a.yml lies outside"));
        assert_eq!(said(&files, OutsideFiles::AllowedByFlag), None);
        let link = child("link.yml");
        let linked = [("inner/r.yml", link.as_str()), ("a.yml", ROOT), ("inner/link.yml", "-> ../a.yml")];
        assert!(refused(&linked).starts_with("inner/r.yml:3:10: link.yml lies outside"));
        // A folder outside, from which a link leads back in: its files stay out of reach.
        let back = child("out/a.yml");
        let file = format!("{ROOT}files: [{{path: /etc/x, source: secret}}]\n");
        let around = [
            ("inner/r.yml", back.as_str()),
            ("inner/out", "-> ../beside"),
            ("inner/a.yml", &file),
            ("beside/a.yml", "-> ../inner/a.yml"),
            ("beside/secret", "s"),
        ];
        assert!(refused(&around).starts_with("inner/out/a.yml:5:32: secret cannot be read"), "{}", refused(&around));
    }

    #[test]
    fn paths_are_relative_to_the_recipe_that_states_them() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("keys")).unwrap();
        fs::write(base.join("motd"), "base").unwrap();
        fs::write(dir.path().join("motd"), "own").unwrap();
        let parent =
            format!("{ROOT}trust: keys\nfiles: [{{path: /etc/a, source: motd}}, {{path: /etc/b, source: motd}}]\n");
        fs::write(base.join("a.yml"), parent).unwrap();
        let own = format!("{}files: [{{path: /etc/b, source: motd}}]\n", child("base/a.yml"));
        fs::write(dir.path().join("r.yml"), own).unwrap();
        let recipe = Recipe::load(&dir.path().join("r.yml"), OutsideFiles::Refused).unwrap();
        let text = |at: usize| match &recipe.files[at].content {
            crate::recipe::FileContent::Source(path) => fs::read_to_string(path).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!([text(0), text(1)], ["base", "own"]);
        assert_eq!(recipe.trust, Some(base.canonicalize().unwrap().join("keys")));
    }
}
