//! What a device is judged by lies on its disk, beside the commit and not in it: the release without its image, whose content is there
//! already, and the keys that it is to go by.

use crate::error::{At, Error};
use secai_verifier::device::{RELEASES, TRUST};
use std::fs;
use std::path::Path;

/// Of a bundle, what says something of its image; below the top only this folder.
const ATTEST: &str = "attest";

/// Lays the release of this commit, and keys if there are any, below the root of all deployments.
///
/// # Errors
/// I/O.
pub fn lay(bundle: &Path, trust: Option<&Path>, sysroot: &Path, commit: &str) -> Result<(), Error> {
    let inside = |path: &str| sysroot.join(path.trim_start_matches("/sysroot/"));
    let release = inside(RELEASES).join(commit);
    copy(bundle, &release)?;
    copy(&bundle.join(ATTEST), &release.join(ATTEST))?;
    trust.map_or(Ok(()), |trust| copy(trust, &inside(TRUST)))
}

/// The files of a folder, without those of folders in it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).at("create", to)?;
    for entry in fs::read_dir(from).at("read", from)? {
        let path = entry.at("read", from)?.path();
        if let (true, Some(name)) = (path.symlink_metadata().at("read", &path)?.is_file(), path.file_name()) {
            let bytes = fs::read(&path).at("read", &path)?;
            fs::write(to.join(name), bytes).at("write", to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_stays_behind_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let [bundle, trust, sysroot] = ["bundle", "trust", "sysroot"].map(|name| dir.path().join(name));
        for (path, text) in [
            ("bundle/release.json", "release"),
            ("bundle/attest/sbom.cdx.json", "sbom"),
            ("bundle/image/blobs/sha256/0f", "blob"),
            ("trust/roles.yml", "roles"),
            ("secret", "secret"),
        ] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("secret"), bundle.join("attest/link")).unwrap();
        fs::create_dir(&sysroot).unwrap();
        lay(&bundle, Some(&trust), &sysroot, "0f").unwrap();
        let mut found: Vec<_> =
            walkdir(&sysroot).into_iter().map(|it| it.strip_prefix(&sysroot).unwrap().display().to_string()).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "secure-ai/release/0f/attest/sbom.cdx.json",
                "secure-ai/release/0f/release.json",
                "secure-ai/trust/roles.yml"
            ]
        );
        assert!(lay(&dir.path().join("none"), None, &sysroot, "0f").unwrap_err().to_string().contains("none"));
    }

    fn walkdir(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
    }
}
