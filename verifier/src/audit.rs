//! The audit chain (`spec/audit-chain.md`): what an entry, a link, a tree, a checkpoint and a proof are, and whether a
//! chain of them holds. Written by `secai-audit` through the same types that read it here.

pub mod checkpoint;
pub mod entry;
pub mod kind;
pub mod payload;
pub mod tree;

/// Entries of a full segment: 256 full tiles.
pub const SEGMENT_ENTRIES: u64 = 65_536;
/// Directory of segments.
pub const SEGMENTS_DIR: &str = "seg";
/// Directory of tiles.
pub const TILES_DIR: &str = "tile";
/// The newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Closing checkpoints of epochs.
pub const CHECKPOINTS_LOG: &str = "checkpoints.log";

/// `seg/FIRST.jsonl`, the segment that begins with entry `first`.
pub fn segment_path(first: u64) -> String {
    format!("{SEGMENTS_DIR}/{first:012}.jsonl")
}

/// `seg/FIRST.payload`, salts and payloads of the segment that begins with entry `first`.
pub fn payload_path(first: u64) -> String {
    format!("{SEGMENTS_DIR}/{first:012}.payload")
}

/// `tile/LEVEL/NUMBER`, as C2SP tlog-tiles spells the number.
pub fn tile_path(level: u32, number: u64) -> String {
    let mut text = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    format!("{TILES_DIR}/{level}/{text}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn tiles_are_named_as_c2sp_names_them() {
        // The example of c2sp.org/tlog-tiles.
        assert_eq!(super::tile_path(0, 1_234_067), "tile/0/x001/x234/067");
        assert_eq!(super::tile_path(1, 7), "tile/1/007");
    }
}
