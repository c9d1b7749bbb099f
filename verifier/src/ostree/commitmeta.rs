//! A commit's detached metadata: `a{sv}` with the one key `ostree.gpgsigs` (`aay`).

use super::ObjectError;
use super::gvariant::{
    GvariantError, Shape, read_array, read_text, read_tuple, read_variant, write_array, write_text, write_tuple,
    write_variant,
};
use crate::layout::COMMIT_GPG_SIGNATURES;
use crate::limits::METADATA_BYTES_MAX;

const SIGNATURES: &str = "aay";
const ENTRY: [Shape; 2] = [Shape::Variable(1), Shape::Variable(8)];

/// The OpenPGP signatures (detached, binary), in the order in which they stand.
pub fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ObjectError> {
    if bytes.len() as u64 > METADATA_BYTES_MAX {
        return Err(ObjectError::TooLarge(bytes.len() as u64));
    }
    let mut signatures = Vec::new();
    for entry in read_array(bytes, 8)? {
        let [key, value] = read_tuple(entry, ENTRY)?;
        if read_text(key)? != COMMIT_GPG_SIGNATURES {
            return Err(ObjectError::Commit("detached metadata other than `ostree.gpgsigs`"));
        }
        let (value, kind) = read_variant(value)?;
        if kind != SIGNATURES {
            return Err(GvariantError::Type.into());
        }
        signatures = read_array(value, 1)?.into_iter().map(<[u8]>::to_vec).collect();
    }
    if render(&signatures) != bytes {
        return Err(ObjectError::NotNormal);
    }
    Ok(signatures)
}

/// The bytes that hold these signatures.
pub fn render<T: AsRef<[u8]>>(signatures: &[T]) -> Vec<u8> {
    let key = write_text(COMMIT_GPG_SIGNATURES);
    let value = write_variant(&write_array(1, signatures), SIGNATURES);
    let [key_shape, value_shape] = ENTRY;
    write_array(8, [write_tuple([(key_shape, &key), (value_shape, &value)])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for signatures in [vec![], vec![vec![1; 600]], vec![vec![1], vec![], vec![2; 70_000]]] {
            let bytes = render(&signatures);
            assert_eq!(parse(&bytes).unwrap(), signatures);
            let mut padded = bytes.clone();
            padded.push(0);
            assert!(parse(&padded).is_err());
        }
        assert!(parse(b"").is_err());
    }
}
