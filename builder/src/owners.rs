//! Which package owns which file of the tree, and who wrote its bytes.
//!
//! Decided from the package archives' own lists, the service pack and the recipe; the tree's package database has no say, except
//! for diversions, which say where a package's file was put instead.

use crate::contents::Contents;
use crate::error::{At, Error};
use crate::plan::{Plan, PlannedContent};
use crate::rootfs::image_path;
use crate::tools::apt::Package;
use crate::tree::{Tree, on_disk};
use secai_verifier::digest::Digest;
use secai_verifier::sbom::{Content, File, Origin, Owner, OwnerKind};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What an archive says of one path of the image.
struct Shipped<'a> {
    package: usize,
    /// Path in the archive.
    archive_path: &'a str,
    /// SHA-256 of a file, target of a link.
    content: Result<Digest, &'a str>,
}

/// The owners of every file of `tree`, ready for the SBOM: packages that own none are listed too.
///
/// # Errors
/// I/O while reading diversions.
pub fn of(plan: &Plan, tree: &Tree, rootfs: &Path, kernel: &str, contents: &[Contents]) -> Result<Vec<Owner>, Error> {
    let diverted = diversions(rootfs)?;
    let mut shipped: BTreeMap<String, Shipped> = BTreeMap::new();
    for (package, contents) in contents.iter().enumerate() {
        let files = contents.files.iter().map(|(p, d)| (p, Ok(*d)));
        let links = contents.links.iter().map(|(p, t)| (p, Err(t.as_str())));
        for (archive_path, content) in files.chain(links) {
            let name = plan.packages.get(package).map_or("", |p| &p.name);
            let installed = match diverted.get(archive_path) {
                Some((to, by)) if by != name => to,
                _ => archive_path,
            };
            if let Some(place) = image_path(installed, kernel) {
                shipped.insert(place, Shipped { package, archive_path, content });
            }
        }
    }
    let laid: BTreeSet<String> = plan
        .files
        .iter()
        .filter(|f| f.content != PlannedContent::Folder)
        .filter_map(|f| image_path(&f.path, kernel))
        .collect();
    let mut ours: BTreeMap<String, usize> = BTreeMap::new();
    let mut of_services: Vec<Owner> = Vec::new();
    for (kind, files) in plan.services.iter().flat_map(|s| s.owners()) {
        let paths = files.iter().filter_map(|f| image_path(&f.path, kernel));
        ours.extend(paths.map(|path| (path, of_services.len())));
        of_services.push(Owner { kind, files: Vec::new() });
    }
    let mut packages: Vec<Vec<File>> = vec![Vec::new(); contents.len()];
    let (mut compose, mut recipe) = (Vec::new(), Vec::new());
    for file in &tree.files {
        let content = match &file.target {
            Some(target) => Content::Symlink(target.clone()),
            None => Content::Regular(file.sha256),
        };
        let by_recipe = laid.contains(&file.path);
        let owner = shipped.get(&file.path);
        let as_shipped = owner.is_some_and(|s| match (&content, &s.content) {
            (Content::Regular(d), Ok(shipped)) => d == shipped,
            (Content::Symlink(t), Err(shipped)) => t == shipped,
            _ => false,
        });
        let origin = match owner {
            Some(_) if as_shipped => None,
            Some(_) if by_recipe => Some(Origin::Recipe),
            Some(_) if ours.contains_key(&file.path) => Some(Origin::Pack),
            Some(_) => Some(Origin::Compose),
            None => None,
        };
        let list = match owner {
            Some(s) => packages.get_mut(s.package),
            None if by_recipe => Some(&mut recipe),
            None => match ours.get(&file.path).and_then(|i| of_services.get_mut(*i)) {
                Some(owner) => Some(&mut owner.files),
                None => Some(&mut compose),
            },
        };
        if let Some(list) = list {
            list.push(File {
                path: file.path.clone(),
                mode: file.mode,
                uid: file.uid,
                gid: file.gid,
                content,
                origin,
                archive_path: owner.filter(|s| moved(s.archive_path, &file.path)).map(|s| s.archive_path.to_owned()),
            });
        }
    }
    let mut owners: Vec<Owner> =
        plan.packages.iter().zip(packages).map(|(p, files)| Owner { kind: kind(p), files }).collect();
    owners.extend(of_services);
    for (kind, files) in [(OwnerKind::Compose, compose), (OwnerKind::Recipe, recipe)] {
        if !files.is_empty() {
            owners.push(Owner { kind, files });
        }
    }
    owners.sort_by(|a, b| a.kind.bom_ref().cmp(&b.kind.bom_ref()));
    Ok(owners)
}

/// Name by which an owner is known in layers: a package's name, else its reference.
pub fn short_name(kind: &OwnerKind) -> Cow<'_, str> {
    match kind {
        OwnerKind::Package { name, .. } => Cow::Borrowed(name),
        other => other.bom_ref(),
    }
}

/// `/etc/x` at `/usr/etc/x` and `/lib/x` at `/usr/lib/x` are where everybody expects them.
fn moved(archive_path: &str, path: &str) -> bool {
    path != archive_path && path.strip_prefix("/usr") != Some(archive_path)
}

fn kind(package: &Package) -> OwnerKind {
    let purl =
        format!("pkg:deb/debian/{}@{}?arch={}", encode(&package.name), encode(&package.version), encode(&package.arch));
    OwnerKind::Package { name: package.name.clone(), version: package.version.clone(), purl, archive: package.sha256 }
}

/// Percent-encoding of a package URL's parts: all but unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// dpkg's diversions: path → (where files of other packages go, the package that diverts).
fn diversions(rootfs: &Path) -> Result<BTreeMap<String, (String, String)>, Error> {
    let path = on_disk(rootfs, "/usr/lib/dpkg/diversions");
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(&path).at("read", &path)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines
        .chunks_exact(3)
        .filter_map(|c| match c {
            [from, to, by] => Some(((*from).to_owned(), ((*to).to_owned(), (*by).to_owned()))),
            _ => None,
        })
        .collect())
}
