//! Why a bundle is refused: every reason by a name that is a sentence, with what was found and what to do.
//!
//! The names are public words: tests, logs and `verify-release explain NAME` use the same ones.

use crate::audit::refusal::ChainRefusal;
use crate::device::refusal::DeviceRefusal;
use crate::network::refusal::NetworkRefusal;
use std::fmt::Display;

/// Defines an enum of refusals, its names and its explanations from one table, so that none can be forgotten.
macro_rules! refusals {
    ($(#[$about:meta])* $enum:ident: $($name:ident { $($field:ident: $kind:ty),* } $sentence:literal $explanation:literal)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[allow(missing_docs, reason = "fields are words of the sentence beside them")]
        pub enum $enum {
            $(#[doc = $explanation] #[error($sentence)] $name { $($field: $kind),* },)*
        }

        impl $enum {
            /// Every name, in the order in which refusals are listed.
            pub const ALL: &[&str] = &[$(stringify!($name)),*];

            /// The name, as in the source.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name)),* }
            }

            /// What a refusal of this name means and what to do about it; `None` for a name that is none of these.
            pub fn explain(name: &str) -> Option<&'static str> {
                match name { $(stringify!($name) => Some($explanation),)* _ => None }
            }
        }

        impl $crate::refusal::Named for $enum {
            const ALL: &[&str] = Self::ALL;

            fn name(&self) -> &'static str {
                Self::name(self)
            }
        }
    };
}
pub(crate) use refusals;

/// A refusal, of a bundle or of an audit chain.
pub trait Named: PartialEq + Display {
    /// Every name, in the order in which refusals are listed.
    const ALL: &[&str];

    /// Its name.
    fn name(&self) -> &'static str;
}

/// What a refusal of this name means, of whatever is judged; `None` for a name that is none.
pub fn explain(name: &str) -> Option<&'static str> {
    let of_bundles = Refusal::explain(name).or_else(|| ChainRefusal::explain(name));
    of_bundles.or_else(|| NetworkRefusal::explain(name)).or_else(|| DeviceRefusal::explain(name))
}

refusals! {
    /// One reason to refuse a bundle.
    Refusal:

    FileMissing { path: String }
    "`{path}` is missing from the bundle"
    "A file that every bundle has is not there. The bundle was copied in part, or it is unsigned and was never released. Copy it again whole, or have it released."

    UnexpectedFile { path: String }
    "`{path}` does not belong into a bundle"
    "The bundle holds a file or directory that the format does not name, or a blob with a name that is no digest. Nothing vouches for it, so nothing may read it. Remove it, or fetch the bundle again."

    NotARegularFile { path: String }
    "`{path}` is a link or a special file"
    "A bundle consists of regular files and directories only: a link could show one file to this program and another to the next. Copy the bundle without links."

    FileTooLarge { path: String, bytes: u64, limit: u64 }
    "`{path}` has {bytes} bytes, more than {limit}"
    "The file is above the bound that the format sets for it, so it was not read. No bundle of ours comes near it."

    SumsMalformed { reason: String }
    "SHA256SUMS is malformed: {reason}"
    "SHA256SUMS is not lines of 64 hex digits, two spaces and a path, ascending by path. It was edited or cut. Fetch the bundle again."

    SumsOmitFile { path: String }
    "SHA256SUMS does not list `{path}`"
    "Every file but SHA256SUMS and its signature is listed there. One is not: it was added later, or its line was removed."

    SumsNameAbsentFile { path: String }
    "SHA256SUMS lists `{path}`, which is not there"
    "A file was removed from the bundle, or a line was added. Fetch the bundle again."

    SumsDigestDiffers { path: String }
    "`{path}` has another digest than SHA256SUMS says"
    "The file, or its line in SHA256SUMS, was changed after the bundle was written. If this is the only refusal, only SHA256SUMS is wrong: everything else was checked without it."

    SumsSignatureMalformed { reason: String }
    "SHA256SUMS.asc is no OpenPGP signature: {reason}"
    "The file is not one armoured, detached, binary OpenPGP signature."

    SumsSignatureInvalid { reason: String }
    "the OpenPGP signature over SHA256SUMS is not good: {reason}"
    "A certificate of the trust directory is named as the signer, but the signature does not hold: SHA256SUMS was changed after it was signed, or the key is revoked, expired or not for signing."

    SumsSignatureByUnknownKey {}
    "SHA256SUMS is signed by an OpenPGP key that is not trusted"
    "None of the OpenPGP certificates in the trust directory made this signature. Either somebody else signed it, or the trust directory lacks a certificate."

    EnvelopeMalformed { path: String, reason: String }
    "`{path}` is no signed envelope of the expected kind: {reason}"
    "The file is not a DSSE envelope in its one spelling, or its payload type is another than belongs there. It was edited, cut or made by another program."

    SignatureInvalid { path: String, key: String }
    "`{path}` has a signature of {key} that does not verify"
    "The payload, its type or the signature was changed after signing, or the signature was made by another key than it names. One bad signature refuses the file, however many good ones stand beside it."

    SignerUnknown { path: String, role: String, key: String }
    "`{path}` is signed by {key}, which is not a key of the role `{role}`"
    "A key signed that has no say in this: either the signer is a stranger, or a key of another role was used, or the trust directory is not the one of this project."

    KeyRevoked { path: String, role: String, key: String }
    "`{path}` is signed by {key}, which is revoked in the role `{role}`"
    "The key was withdrawn in roles.yml, perhaps because it was lost. Nothing that it signs counts, whenever it signed. Have the release signed by a key that stands."

    KeyOutsideValidity { path: String, role: String, key: String }
    "`{path}` is signed by {key}, which does not count now in the role `{role}`"
    "The clock lies outside the time in which roles.yml lets this key count. Check the clock; otherwise have the release signed by a current key."

    KeySignedTwice { path: String, key: String }
    "`{path}` is signed twice by {key}"
    "A threshold counts keys, not signatures: a key that appears twice is an attempt to be counted twice, or a broken signer."

    TooFewSignatures { path: String, role: String, count: usize, threshold: usize }
    "`{path}` has good signatures of {count} keys, the role `{role}` asks for {threshold}"
    "Each signature is good, but there are too few. The release is not finished: more holders of keys must sign."

    TooManySignatures { path: String, count: usize }
    "`{path}` has {count} signatures, it may have one"
    "A statement of the role `build` is signed by exactly one builder. Several signatures would let readers choose which one to look at."

    ReleaseMalformed { reason: String }
    "release.json does not hold a release: {reason}"
    "The signed payload is not the canonical JSON of a release. It was made by another program, or by another version of this one."

    ReleaseExpired { expires: String, now: String }
    "the release expired at {expires}, it is {now} now"
    "An attacker who can only withhold newer releases could keep showing this one for ever; its expiry ends that. Fetch a current release, or check the clock. What is installed already stays usable."

    ReleaseFromTheFuture { created: String, now: String }
    "the release was made at {created}, it is {now} now"
    "The release claims to be made later than now. The clock of this machine is behind, or that of the signer was ahead."

    ReleaseNamesAnotherImage { found: String, named: String }
    "the bundle holds the image {found}, the release names {named}"
    "The signed release is for another image than the one beside it: an old, a new or a foreign image was put into this bundle, or the release was."

    ReleaseNamesAnotherCommit { found: String, named: String }
    "the bundle holds the commit {found}, the release names {named}"
    "The signed release is for another OSTree commit than commit.commit."

    ReleaseNamesAnotherSbom { found: String, named: String }
    "the bundle holds the SBOM {found}, the release names {named}"
    "The signed release is for another SBOM than the one in the bundle. Its own signature may be good: it was taken from another build."

    ReleaseNamesAnotherVersion { found: String, named: String }
    "the image has the version {found}, the release names {named}"
    "The signed release calls the image by another version than the image's own labels."

    JsonNotCanonical { path: String, reason: String }
    "`{path}` is not canonical JSON: {reason}"
    "The document could be spelled in two ways, or read in two ways (a key that stands twice, another order, a needless escape). Only the one spelling is taken."

    IndexMalformed { path: String, reason: String }
    "`{path}` is not what the image's layout has: {reason}"
    "The file is not exactly what the format prescribes for one image in one layout."

    ManifestMalformed { reason: String }
    "the manifest is malformed: {reason}"
    "The image's manifest has members, media types, layers or annotations that the format does not have."

    ConfigMalformed { reason: String }
    "the config is malformed: {reason}"
    "The image's config has members or values that the format does not have, or not one diff_id and one history entry for each layer."

    BlobDigestDiffers { blob: String, found: String }
    "the blob {blob} has the digest {found}"
    "A blob's bytes are not those that its name and the manifest promise: it was damaged or exchanged. Fetch it again."

    BlobSizeDiffers { blob: String, found: u64, named: u64 }
    "the blob {blob} has {found} bytes, its descriptor says {named}"
    "A blob is longer or shorter than the manifest says: it was cut, or something was appended."

    BlobUnreferenced { blob: String }
    "the blob {blob} is not part of the image"
    "A blob lies in the layout that neither index nor manifest leads to. Nothing vouches for it."

    LabelsDiffer { label: String }
    "manifest, config and index do not agree on `{label}`"
    "The same fact stands in several documents of the image, and one of them says something else. Tools that read only one of them would be misled."

    LabelsDifferFromCommit { label: String }
    "the image's `{label}` is not that of the commit"
    "Commit, version, kernel release or date in the image's documents differ from those in the OSTree commit."

    LayerCompressionAmbiguous { layer: usize, reason: String }
    "layer {layer} is not one plain zstd frame: {reason}"
    "Several frames, skippable frames, a dictionary, a missing checksum or bytes after the end let two readers see two archives. Only one frame with its checksum is taken; damaged frames end here too."

    DiffIdDiffers { layer: usize }
    "layer {layer} unpacks to another archive than the config says"
    "The uncompressed archive has another digest than its diff_id. The config or the layer was exchanged."

    TarNotCanonical { layer: usize, reason: String }
    "layer {layer} is not the one tar of this format: {reason}"
    "An archive that two readers could take for two trees is refused: each header must be exactly what this format writes for what it says."

    LayerOrderWrong { layer: usize, path: String }
    "layer {layer} has `{path}` out of order"
    "Entries have one order. Another order, or an entry twice, would give the same content several digests, or let a later entry replace an earlier one."

    LayerGrammarBroken { layer: usize, path: String, reason: String }
    "layer {layer} has `{path}` where it cannot be: {reason}"
    "A layer is: the preamble, then metadata objects and directories (first layer) or parents and file objects with their paths (others). Something is missing, additional or elsewhere."

    ObjectDiffersFromName { layer: usize, path: String, found: String }
    "layer {layer} has the object `{path}`, which is {found}"
    "An OSTree object is named by its checksum, and its content, mode, owner or extended attributes have another. The content was changed under the old name."

    CommitMalformed { path: String, reason: String }
    "`{path}` is no commit metadata of this format: {reason}"
    "An OSTree object (commit, dirtree, dirmeta) or the detached metadata is not in its one spelling, or holds what ours never do: a parent, a device, a name twice."

    CommitObjectDiffersFromLayer { found: String, layer: String }
    "commit.commit is {found}, the first layer carries {layer}"
    "The commit object beside the image is not the one inside. A device would import the inner one."

    CommitDiffersFromLayers { path: String, reason: String }
    "the commit and the layers differ at `{path}`: {reason}"
    "The tree that the commit describes is not the tree that the layers unpack to: a file is missing, additional, exchanged, or has another mode, owner, target or extended attribute."

    CommitUnfitToBoot { reason: String }
    "the commit is no bootable system of this format: {reason}"
    "The tree or the commit's metadata breaks a rule of bootable images: one kernel, as labelled; no /etc beside /usr/etc; nothing in /var, /boot, /run and their like; a plain /sysroot."

    CommitSignatureMissing {}
    "the commit has no OpenPGP signature, and the trust directory holds certificates"
    "With OpenPGP certificates in the trust directory, the commit must be signed by one of them. commit.commitmeta is missing or empty."

    CommitSignatureInvalid { reason: String }
    "no OpenPGP signature of the commit is good: {reason}"
    "A certificate of the trust directory is named as the signer, but the signature does not hold: the commit was changed after it was signed, or the key is revoked, expired or not for signing."

    CommitSignatureByUnknownKey {}
    "the commit is signed by OpenPGP keys that are not trusted"
    "None of the OpenPGP certificates in the trust directory made a signature of this commit."

    StatementMalformed { reason: String }
    "attest/sbom.dsse.json does not hold the expected statement: {reason}"
    "The signed payload is not the in-toto statement around one CycloneDX document that the format prescribes to the byte."

    StatementNamesAnotherImage { found: String, named: String }
    "the bundle holds the image {found}, the SBOM's statement names {named}"
    "The SBOM was signed for another image. Its signature is good, but it is not about this one."

    SbomMalformed { reason: String }
    "the SBOM is malformed: {reason}"
    "The document is not CycloneDX 1.6 in the one spelling of this format, or it lists a path twice."

    SbomNamesAnotherImage { found: String, named: String }
    "the image is {found}, the SBOM describes {named}"
    "Name, version or date in the SBOM are not those of the image and its commit."

    SbomOmitsFile { path: String }
    "the image holds `{path}`, which the SBOM does not list"
    "Something is in the image that the SBOM does not account for. That is how a planted file looks."

    SbomListsAbsentFile { path: String }
    "the SBOM lists `{path}`, which the image does not hold"
    "The SBOM claims a file that is not there: it was removed from the image, or the SBOM is of another build."

    SbomHashDiffers { path: String }
    "`{path}` has other content than the SBOM says"
    "The file's bytes are not those that the SBOM accounts for (or one of the two is a symbolic link)."

    SbomModeDiffers { path: String, found: String, named: String }
    "`{path}` has the mode {found}, the SBOM says {named}"
    "Permission bits were changed: look for a set-user-ID bit or a writable program."

    SbomOwnerDiffers { path: String, found: String, named: String }
    "`{path}` belongs to {found}, the SBOM says {named}"
    "The file's owner or group is not the one that the SBOM accounts for."

    SbomTargetDiffers { path: String }
    "`{path}` links elsewhere than the SBOM says"
    "The symbolic link was turned to another target: whoever opens it reaches another file than the SBOM accounts for."
}

/// Findings in the order in which stages put them, bounded so that one cause cannot flood the rest.
#[derive(Debug)]
pub(crate) struct Findings<R = Refusal>(Vec<R>);

impl<R> Default for Findings<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Refusals of one name that are listed; the first hundred tell what the next thousand would.
pub const REFUSALS_OF_ONE_NAME_MAX: usize = 100;

/// Names of which a list may have left some out.
pub fn cut_names<R: Named>(refusals: &[R]) -> Vec<&'static str> {
    let count = |name| refusals.iter().filter(|refusal| refusal.name() == name).count();
    R::ALL.iter().copied().filter(|name| count(*name) >= REFUSALS_OF_ONE_NAME_MAX).collect()
}

impl<R: Named> Findings<R> {
    pub(crate) fn add(&mut self, refusal: R) {
        let same = self.0.iter().filter(|known| known.name() == refusal.name()).count();
        if same < REFUSALS_OF_ONE_NAME_MAX && !self.0.contains(&refusal) {
            self.0.push(refusal);
        }
    }

    pub(crate) fn extend(&mut self, refusals: impl IntoIterator<Item = R>) {
        refusals.into_iter().for_each(|refusal| self.add(refusal));
    }

    pub(crate) fn into_vec(self) -> Vec<R> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_explained_once() {
        let all = [Refusal::ALL, ChainRefusal::ALL, NetworkRefusal::ALL, DeviceRefusal::ALL].concat();
        let mut names = all.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "all that is judged shares the words of `explain`");
        for name in all {
            assert!(explain(name).is_some_and(|text| text.len() > 60 && text.ends_with('.')), "{name}");
        }
        assert_eq!(explain("Nonsense"), None);
    }

    #[test]
    fn one_cause_cannot_flood_the_list() {
        let mut findings = Findings::<Refusal>::default();
        findings.extend((0..1000).map(|number| Refusal::SbomOmitsFile { path: number.to_string() }));
        findings.add(Refusal::CommitSignatureMissing {});
        assert_eq!(findings.into_vec().len(), REFUSALS_OF_ONE_NAME_MAX + 1);
    }
}
