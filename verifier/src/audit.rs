//! The audit chain (`spec/audit-chain.md`): what an entry, a link, a tree, a checkpoint and a proof are, and whether a
//! chain of them holds. Written by `secai-audit` through the same types that read it here.

pub mod add_checkpoint;
pub mod chain;
pub mod checkpoint;
pub mod cosignature;
pub mod entry;
mod epochs;
pub mod export;
pub mod kind;
mod lines;
mod locate;
pub mod payload;
mod prefix;
pub mod proof;
pub mod python_hmac_chain;
pub mod read;
pub mod refusal;
pub mod report;
mod segment;
pub mod store;
pub mod tiles;
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
/// The `audit.epoch` entries of segments that were removed.
pub const EPOCHS_KEPT: &str = "epochs.jsonl";
/// Entries after the newest checkpoint that are normal while the writer writes: eight of its largest batches.
pub const UNSIGNED_ENTRIES_MAX: u64 = 8_192;

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
