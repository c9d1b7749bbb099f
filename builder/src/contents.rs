//! What a package archive holds, from the archive itself: paths and the SHA-256 of each file.
//!
//! Read once per package and kept in the cache under the archive's own digest. The installed system's
//! package database is never asked: who changes it changes nothing here.

use crate::error::{At, Error};
use crate::stage::write_atomically;
use crate::tools::apt::{Package, stored};
use crate::tools::{command, tail};
use rayon::prelude::*;
use secai_verifier::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;

/// Files and symbolic links of one archive by absolute path; a file has the SHA-256 of its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Regular files.
    pub files: BTreeMap<String, Digest>,
    /// Symbolic links and their targets.
    pub links: BTreeMap<String, String>,
}

/// The contents of every package, in the packages' order; read in parallel where the cache has none.
///
/// # Errors
/// [`Error::ToolFailed`] for an archive that dpkg-deb cannot read; I/O.
pub fn of_packages(
    packages: &[Package],
    debs: &Path,
    cache: &Path,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Contents>, Error> {
    let dir = cache.join("contents");
    fs::create_dir_all(&dir).at("create", &dir)?;
    packages
        .par_iter()
        .map(|package| {
            let kept = dir.join(format!("{}.json", package.sha256));
            if let Some(contents) = fs::read(&kept).ok().and_then(|b| serde_json::from_slice(&b).ok()) {
                done();
                return Ok(contents);
            }
            let contents = of_archive(&stored(debs, package), package.sha256)?;
            let text = serde_json::to_vec(&contents).map_err(std::io::Error::from).at("write", &kept)?;
            write_atomically(&kept, &text)?;
            done();
            Ok(contents)
        })
        .collect()
}

fn of_archive(deb: &Path, expected: Digest) -> Result<Contents, Error> {
    // The same open file is hashed and then read: nobody can put another in between.
    let mut file = fs::File::open(deb).at("read", deb)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).at("read", deb)?;
    let found = Digest::of(&bytes);
    if found != expected {
        return Err(Error::CacheDiffers { path: deb.to_owned(), found: found.to_string() });
    }
    drop(bytes);
    file.seek(SeekFrom::Start(0)).at("read", deb)?;
    let mut child = command("dpkg-deb", "dpkg")?
        .args(["--fsys-tarfile", "-"])
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .at("run", "dpkg-deb")?;
    let read = child.stdout.take().map(|stdout| of_tar(stdout).at("read", deb));
    let output = child.wait_with_output().at("run", "dpkg-deb")?;
    if !output.status.success() {
        return Err(Error::ToolFailed {
            program: format!("dpkg-deb {}", deb.display()),
            status: output.status.to_string(),
            tail: tail(&output.stderr),
        });
    }
    read.unwrap_or_else(|| Ok(Contents::default()))
}

/// Reads the tar stream of a package's files.
fn of_tar(stream: impl Read) -> std::io::Result<Contents> {
    let mut contents = Contents::default();
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = absolute(&entry.path_bytes());
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let mut hasher = secai_verifier::digest::HashingWriter::new(std::io::sink());
                std::io::copy(&mut entry, &mut hasher)?;
                contents.files.insert(path, hasher.finish().0);
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().map(|t| absolute(&t)).unwrap_or_default();
                let digest = contents.files.get(&target).copied().ok_or_else(|| {
                    std::io::Error::other(format!("{path} is a hard link to {target}, which is not in the archive"))
                })?;
                contents.files.insert(path, digest);
            }
            tar::EntryType::Symlink => {
                let target =
                    entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned()).unwrap_or_default();
                contents.links.insert(path, target);
            }
            _ => {}
        }
    }
    // dpkg-deb must not die of a closed pipe: what follows the last entry is read as well.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(contents)
}

/// `./usr/bin/x` → `/usr/bin/x`.
fn absolute(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    format!("/{}", text.trim_start_matches("./").trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_hard_links_are_listed() {
        let mut b = tar::Builder::new(Vec::new());
        let mut h = tar::Header::new_gnu();
        h.set_size(2);
        b.append_data(&mut h.clone(), "./usr/a", &b"hi"[..]).unwrap();
        h.set_size(0);
        h.set_entry_type(tar::EntryType::Link);
        b.append_link(&mut h, "./usr/b", "./usr/a").unwrap();
        h.set_entry_type(tar::EntryType::Symlink);
        b.append_link(&mut h, "./usr/c", "a").unwrap();
        let c = of_tar(&b.into_inner().unwrap()[..]).unwrap();
        assert_eq!(c.files["/usr/a"], Digest::of(b"hi"));
        assert_eq!(c.files["/usr/b"], c.files["/usr/a"]);
        assert_eq!(c.links["/usr/c"], "a");
    }
}
