//! Every file name, media type and key of a bundle, spelled once: the builder writes through this
//! module, the verifier reads through it.

use crate::digest::Digest;

/// One line per file of the bundle, as `sha256sum -c` reads it.
pub const SUMS: &str = "SHA256SUMS";
/// OpenPGP signature over [`SUMS`], detached and armoured (optional).
pub const SUMS_SIGNATURE: &str = "SHA256SUMS.asc";
/// DSSE envelope of the role `release`: the one signature that decides.
pub const RELEASE: &str = "release.json";
/// The OSTree commit object, as in layer 0.
pub const COMMIT_OBJECT: &str = "commit.commit";
/// The commit's detached metadata with its OpenPGP signature (optional).
pub const COMMIT_META: &str = "commit.commitmeta";
/// DSSE envelope of the role `build` around the SBOM's statement.
pub const SBOM_STATEMENT: &str = "attest/sbom.dsse.json";
/// Directory of attestations.
pub const ATTEST_DIR: &str = "attest";
/// Directory of the OCI image layout.
pub const IMAGE_DIR: &str = "image";
/// The layout's version file.
pub const OCI_LAYOUT: &str = "image/oci-layout";
/// The layout's index.
pub const INDEX: &str = "image/index.json";
/// The layout's blobs.
pub const BLOBS_DIR: &str = "image/blobs/sha256";
/// Every directory of a bundle.
pub const DIRS: [&str; 4] = [ATTEST_DIR, IMAGE_DIR, "image/blobs", BLOBS_DIR];

/// The place in the image layout itself of what has this place in a bundle.
///
/// ```
/// # use secai_verifier::layout::{BLOBS_DIR, in_image};
/// assert_eq!(in_image(BLOBS_DIR), "blobs/sha256");
/// ```
pub fn in_image(path: &str) -> &str {
    path.strip_prefix(IMAGE_DIR).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
}

/// `image/blobs/sha256/HEX`.
pub fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS_DIR}/{digest}")
}

/// The roles file of a trust directory.
pub const ROLES: &str = "roles.yml";
/// Ending of public keys (PEM SubjectPublicKeyInfo) in a trust directory.
pub const PUBLIC_KEY_ENDING: &str = ".pub";
/// Ending of OpenPGP certificates in a trust directory.
pub const CERTIFICATE_ENDING: &str = ".asc";
/// Verifier keys of audit chains in a trust directory.
pub const CHAIN_KEY_ENDING: &str = ".vkey";

/// Where the repository lies in a layer; a path of the commit never lies below it.
pub const OSTREE_REPO_PREFIX: &str = "sysroot/ostree/repo/";
/// The repository's configuration file in a layer.
pub const OSTREE_REPO_CONFIG: &str = "sysroot/ostree/repo/config";
/// Bytes of [`OSTREE_REPO_CONFIG`].
pub const OSTREE_REPO_CONFIG_BYTES: &[u8] = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n";
/// Where the repository's objects lie in a layer.
pub const OSTREE_OBJECTS_PREFIX: &str = "sysroot/ostree/repo/objects/";

/// Kinds of objects in a layer, each with the ending of its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A directory's list of names.
    DirTree,
    /// A directory's mode, owner and extended attributes.
    DirMeta,
    /// A file's content, as itself.
    File,
    /// A set of extended attributes.
    FileXattrs,
    /// The hard link from a file's checksum to its set of extended attributes.
    FileXattrsLink,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Commit, Self::DirTree, Self::DirMeta, Self::File, Self::FileXattrs, Self::FileXattrsLink];

    /// The ending of the file name, without its dot.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::File => "file",
            Self::FileXattrs => "file-xattrs",
            Self::FileXattrsLink => "file-xattrs-link",
        }
    }
}

/// `sysroot/ostree/repo/objects/XX/REST.ENDING`.
pub fn object_path(digest: &Digest, kind: ObjectKind) -> String {
    let hex = digest.to_string();
    let (head, rest) = hex.split_at(2);
    format!("{OSTREE_OBJECTS_PREFIX}{head}/{rest}.{}", kind.ending())
}

/// The object a layer's path names, when it is exactly what [`object_path`] writes.
pub fn parse_object_path(path: &str) -> Option<(Digest, ObjectKind)> {
    let (name, ending) = path.strip_prefix(OSTREE_OBJECTS_PREFIX)?.split_once('.')?;
    let kind = ObjectKind::ALL.into_iter().find(|kind| kind.ending() == ending)?;
    let (head, rest) = name.split_once('/')?;
    if head.len() != 2 {
        return None;
    }
    Some((format!("{head}{rest}").parse().ok()?, kind))
}

/// The name in a layer of a path of the commit: no leading `/`, and `usr/etc` as `etc`.
///
/// ```
/// # use secai_verifier::layout::layer_path;
/// assert_eq!(layer_path("/usr/etc/passwd"), "etc/passwd");
/// assert_eq!(layer_path("/usr/bin/sh"), "usr/bin/sh");
/// ```
pub fn layer_path(commit_path: &str) -> &str {
    let relative = commit_path.strip_prefix('/').unwrap_or(commit_path);
    match relative.strip_prefix("usr/etc") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => relative.strip_prefix("usr/").unwrap_or(relative),
        _ => relative,
    }
}

/// Media type of an index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a config.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer.
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Payload type of [`RELEASE`].
pub const RELEASE_TYPE: &str = "application/vnd.secai.release.v1+json";
/// Payload type of an in-toto statement.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// Predicate type of a CycloneDX document.
pub const CYCLONEDX_PREDICATE: &str = "https://cyclonedx.org/bom";

/// Annotation of a manifest's descriptor in the index: the version.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of every layer but the first: owners, sorted, joined by [`COMPONENT_SEPARATOR`].
pub const OSTREE_COMPONENTS: &str = "ostree.components";
/// What joins owners in [`OSTREE_COMPONENTS`].
pub const COMPONENT_SEPARATOR: char = ',';
/// Label: this image boots by bootc.
pub const LABEL_BOOTC: &str = "containers.bootc";
/// Label and commit metadata: this image boots.
pub const LABEL_BOOTABLE: &str = "ostree.bootable";
/// Label: the commit's checksum.
pub const LABEL_COMMIT: &str = "ostree.commit";
/// Label: the last layer's diff_id.
pub const LABEL_FINAL_DIFFID: &str = "ostree.final-diffid";
/// Label and commit metadata: the kernel's release.
pub const LABEL_LINUX: &str = "ostree.linux";
/// Label: the version, as OCI names it.
pub const LABEL_OCI_VERSION: &str = "org.opencontainers.image.version";
/// Label and commit metadata: the version, as rpm-ostree names it.
pub const LABEL_VERSION: &str = "version";
/// The key of OpenPGP signatures in a commit's detached metadata.
pub const COMMIT_GPG_SIGNATURES: &str = "ostree.gpgsigs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_read_back() {
        let digest = Digest::of(b"x");
        for kind in ObjectKind::ALL {
            assert_eq!(parse_object_path(&object_path(&digest, kind)), Some((digest, kind)));
        }
        assert_eq!(parse_object_path("sysroot/ostree/repo/objects/0/0.file"), None);
        assert_eq!(parse_object_path("usr/bin/sh"), None);
    }

    #[test]
    fn only_usr_etc_moves() {
        assert_eq!(layer_path("/usr/etc"), "etc");
        assert_eq!(layer_path("/usr/etcetera"), "usr/etcetera");
        assert_eq!(layer_path("usr/lib"), "usr/lib");
    }
}
