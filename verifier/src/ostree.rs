//! OSTree's objects in pure Rust: their bytes, and the checksums that name them.
//!
//! Everything here is a GVariant in normal form; parsing renders again and compares, so an object has
//! one spelling. `ostree` itself is the reference: a test compares checksums with it.

pub mod commitmeta;
pub mod gvariant;
mod objects;
mod xattrs;

pub use objects::{Commit, DirEntry, DirMeta, DirTree, FileEntry, FileHasher, FileHeader, MetadataValue};
pub use xattrs::Xattrs;

/// Mask of a mode's file type.
pub const S_IFMT: u32 = 0o170_000;
/// File type: regular.
pub const S_IFREG: u32 = 0o100_000;
/// File type: symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// File type: directory.
pub const S_IFDIR: u32 = 0o040_000;

/// Why bytes are no object, or a value cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Above [`crate::limits::METADATA_BYTES_MAX`].
    #[error("the object has {0} bytes, more than {max}", max = crate::limits::METADATA_BYTES_MAX)]
    TooLarge(u64),
    /// Extended attributes above [`crate::limits::XATTRS_BYTES_MAX`].
    #[error("the extended attributes have {0} bytes, more than {max}", max = crate::limits::XATTRS_BYTES_MAX)]
    XattrsTooLarge(u64),
    /// No GVariant of this type.
    #[error(transparent)]
    Variant(#[from] gvariant::GvariantError),
    /// A GVariant, but not in normal form.
    #[error("the object is not in normal form")]
    NotNormal,
    /// A checksum has not 32 bytes.
    #[error("a checksum in the object has not 32 bytes")]
    Checksum,
    /// A name that no directory can hold.
    #[error("`{0}` is no file name: 1 to 255 bytes without `/` and NUL, not `.` or `..`")]
    Name(String),
    /// Names of a directory ascend, unique over files and directories.
    #[error("the name `{0}` is not in order or stands twice")]
    NameOrder(String),
    /// A name or value of extended attributes is out of order, twice, empty or holds NUL.
    #[error("the extended attributes are not sorted by name, unique, non-empty and free of NUL")]
    XattrOrder,
    /// A mode that the format does not know.
    #[error("the mode {0:o} is none of those that an object may have here")]
    Mode(u32),
    /// A symbolic link without target, or a regular file with one.
    #[error("the link target does not fit the mode")]
    Target,
    /// A device number.
    #[error("the object names a device")]
    Device,
    /// The commit has what ours never have.
    #[error("the commit has {0}")]
    Commit(&'static str),
    /// The commit's metadata holds a value of another type.
    #[error("the commit's metadata `{0}` has a type that is not one of b, s, as, t")]
    MetadataType(String),
    /// A key of a dictionary stands twice.
    #[error("the key `{0}` stands twice")]
    KeyTwice(String),
    /// The commit's timestamp is out of range.
    #[error("the commit's timestamp is not within the years 1970 to 9999")]
    Timestamp,
}
