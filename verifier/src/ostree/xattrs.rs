//! Extended attributes: `a(ayay)`, names with their NUL, sorted, unique.

use super::ObjectError;
use super::gvariant::{Shape, read_array, read_tuple, write_array, write_tuple};
use crate::limits::XATTRS_BYTES_MAX;

/// A set of extended attributes, strictly ascending by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

/// The attribute that a layer's PAX records never carry (bootc labels by policy).
const SELINUX: &[u8] = b"security.selinux";

impl Xattrs {
    /// No attribute.
    pub const EMPTY: Self = Self(Vec::new());

    /// A set of these names (without NUL) and values, in any order.
    pub fn new(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, ObjectError> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort();
        let xattrs = Self(pairs);
        xattrs.validate()?;
        Ok(xattrs)
    }

    /// The pairs of name and value, ascending by name.
    pub fn pairs(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set that a layer's PAX records carry: all but `security.selinux`.
    pub fn in_pax(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| name != SELINUX).cloned().collect())
    }

    /// Whether `security.selinux` is among them.
    pub fn has_selinux(&self) -> bool {
        self.0.iter().any(|(name, _)| name == SELINUX)
    }

    /// Reads `a(ayay)`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        if bytes.len() as u64 > XATTRS_BYTES_MAX {
            return Err(ObjectError::XattrsTooLarge(bytes.len() as u64));
        }
        let mut pairs = Vec::new();
        for child in read_array(bytes, 1)? {
            let [name, value] = read_tuple(child, [Shape::Variable(1), Shape::Variable(1)])?;
            let name = name.strip_suffix(&[0]).ok_or(ObjectError::XattrOrder)?;
            pairs.push((name.to_vec(), value.to_vec()));
        }
        let xattrs = Self(pairs);
        xattrs.validate()?;
        if xattrs.render() != bytes {
            return Err(ObjectError::NotNormal);
        }
        Ok(xattrs)
    }

    /// The bytes of `a(ayay)`.
    pub fn render(&self) -> Vec<u8> {
        write_array(
            1,
            self.0.iter().map(|(name, value)| {
                let name = [name.as_slice(), &[0]].concat();
                write_tuple([(Shape::Variable(1), &name), (Shape::Variable(1), value)])
            }),
        )
    }

    fn validate(&self) -> Result<(), ObjectError> {
        let ascending = self.0.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        let plain = self.0.iter().all(|(name, _)| !name.is_empty() && !name.contains(&0));
        if !(ascending && plain) {
            return Err(ObjectError::XattrOrder);
        }
        let size = self.0.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
        if size > XATTRS_BYTES_MAX {
            return Err(ObjectError::XattrsTooLarge(size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let xattrs = Xattrs::new([
            (b"user.b".to_vec(), b"\0two".to_vec()),
            (b"security.capability".to_vec(), vec![1; 20]),
            (b"security.selinux".to_vec(), b"u:r:t\0".to_vec()),
        ])
        .unwrap();
        let bytes = xattrs.render();
        assert_eq!(Xattrs::parse(&bytes).unwrap(), xattrs);
        assert_eq!(xattrs.in_pax().pairs().len(), 2);
        assert_eq!(Xattrs::parse(b"").unwrap(), Xattrs::EMPTY);
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[position] ^= 1 << bit;
                if let Ok(other) = Xattrs::parse(&bad) {
                    assert_eq!(other.render(), bad);
                }
            }
            assert!(position == 0 || Xattrs::parse(&bytes[..position]).is_err());
        }
        assert!(Xattrs::new([(b"a".to_vec(), vec![]), (b"a".to_vec(), vec![1])]).is_err());
        assert!(Xattrs::new([(b"".to_vec(), vec![])]).is_err());
    }
}
