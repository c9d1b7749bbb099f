//! Every bound on input, by name and with its reason (`spec/bundle.md` §10). Units stand last.

/// Canonical JSON documents: registries refuse larger manifests.
pub const JSON_BYTES_MAX: u64 = 4 << 20;
/// `SHA256SUMS`: 259 files at most, each line well under 4 KiB.
pub const SUMS_BYTES_MAX: u64 = 1 << 20;
/// The SBOM document: ten times the largest image we know of, read into memory.
pub const SBOM_BYTES_MAX: u64 = 256 << 20;
/// An envelope around the SBOM: base64 makes four bytes of three, and signatures come on top.
pub const SBOM_ENVELOPE_BYTES_MAX: u64 = SBOM_BYTES_MAX / 3 * 4 + ENVELOPE_TAIL_BYTES_MAX + 64;
/// What follows an envelope's payload: type and signatures, 64 of them at most 400 bytes each.
pub const ENVELOPE_TAIL_BYTES_MAX: u64 = 64 << 10;
/// Signatures in one envelope: more than any threshold we foresee, few enough to verify in a blink.
pub const SIGNATURES_MAX: usize = 64;
/// An OSTree metadata object: libostree's own limit.
pub const METADATA_BYTES_MAX: u64 = 10 << 20;
/// Extended attributes of one file, and PAX records of one entry: ostree-ext's limit.
pub const XATTRS_BYTES_MAX: u64 = 1 << 20;
/// Layers of an image: more than any device wants to open.
pub const LAYERS_MAX: usize = 256;
/// Paths of a commit: bounds memory, at most 200 bytes beside each name.
pub const FILES_MAX: usize = 4_000_000;
/// Content of one file: what eleven octal digits say.
pub const FILE_BYTES_MAX: u64 = (8 << 30) - 1;
/// zstd window: memory of a decompressor per layer (128 MiB).
pub const WINDOW_LOG_MAX: u32 = 27;
/// Nesting of directories: Linux stops at 4095 bytes of path, people long before.
pub const DEPTH_MAX: usize = 128;
/// A path: `PATH_MAX` less its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// A path's part: `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;
/// User and group numbers: what seven octal digits say.
pub const ID_MAX: u32 = 0o7_777_777;
/// OpenPGP signatures, certificates, keys and role files: far above any seen, far below harm.
pub const TRUST_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of a trust directory that are read.
pub const TRUST_FILES_MAX: usize = 256;
/// Names in a bundle's directories: every blob and document, with room to list what is superfluous.
pub const BUNDLE_FILES_MAX: usize = 1024;
