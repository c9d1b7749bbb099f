//! SBOM ⇔ layers, both ways: every file is accounted for, and nothing else is.

use crate::layer::{Contents, FileContent, FileObject};
use crate::refusal::Refusal;
use crate::sbom::{Content, File, Sbom};

/// Compares each path of the layers with the SBOM, whatever the commit says.
///
/// Paths of all layers must be distinct; [`crate::tree`] sees to it.
pub(crate) fn compare(sbom: &Sbom, layers: &[Contents]) -> Vec<Refusal> {
    let listed = match sbom.by_path() {
        Ok(listed) => listed,
        Err(error) => return vec![Refusal::SbomMalformed { reason: error.to_string() }],
    };
    let mut seen = vec![false; listed.len()];
    let mut refusals = Vec::new();
    for contents in layers {
        for (path, position) in &contents.paths {
            let Some(object) = contents.files.get(*position as usize) else { continue };
            let path = commit_path(path);
            match listed.binary_search_by(|(file, _)| file.path.as_str().cmp(&path)) {
                Ok(at) => {
                    if let (Some((file, _)), Some(seen)) = (listed.get(at), seen.get_mut(at)) {
                        *seen = true;
                        compare_file(file, object, &mut refusals);
                    }
                }
                Err(_) => refusals.push(Refusal::SbomOmitsFile { path }),
            }
        }
    }
    let absent = listed.iter().zip(seen).filter(|(_, seen)| !seen);
    refusals.extend(absent.map(|((file, _), _)| Refusal::SbomListsAbsentFile { path: file.path.clone() }));
    refusals
}

fn compare_file(file: &File, object: &FileObject, refusals: &mut Vec<Refusal>) {
    let path = || file.path.clone();
    match (&file.content, &object.content) {
        (Content::Regular(listed), FileContent::Regular(found)) if listed == found => {}
        (Content::Symlink(listed), FileContent::Symlink(found)) if **listed == **found => {}
        (Content::Symlink(_), FileContent::Symlink(_)) => refusals.push(Refusal::SbomTargetDiffers { path: path() }),
        _ => refusals.push(Refusal::SbomHashDiffers { path: path() }),
    }
    if file.mode != object.mode {
        let (found, named) = (format!("{:o}", object.mode), format!("{:o}", file.mode));
        refusals.push(Refusal::SbomModeDiffers { path: path(), found, named });
    }
    if (file.uid, file.gid) != (object.uid, object.gid) {
        let (found, named) = (format!("{}:{}", object.uid, object.gid), format!("{}:{}", file.uid, file.gid));
        refusals.push(Refusal::SbomOwnerDiffers { path: path(), found, named });
    }
}

/// The commit's path of a name in a layer: `etc/passwd` is `/usr/etc/passwd`.
pub(crate) fn commit_path(layer_path: &str) -> String {
    match layer_path.strip_prefix("etc") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/usr/etc{rest}"),
        _ => format!("/{layer_path}"),
    }
}
