//! The little of GVariant that OSTree needs: arrays and tuples of given shapes, and their framing.
//!
//! A container of variable-sized children ends with the ends of those children, each in 1, 2, 4 or 8
//! bytes little-endian, as few as the whole container needs. An array lists the end of every child; a
//! tuple that of each variable-sized child but its last member, in reverse order. Children are aligned
//! from the container's start, padded with NUL. Readers here are safe on any input but lax about padding
//! and spelling: whoever parses renders again and compares.

/// How a child lies in its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// So many bytes, at a multiple of as many.
    Fixed(usize),
    /// Any number of bytes, at a multiple of this.
    Variable(usize),
}

impl Shape {
    fn alignment(self) -> usize {
        match self {
            Self::Fixed(align) | Self::Variable(align) => align.max(1),
        }
    }
}

/// Why bytes are no container of the given shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GvariantError {
    /// An offset points outside, or backwards.
    #[error("an offset in the variant points outside it")]
    Offset,
    /// There are fewer bytes than members need.
    #[error("the variant ends before its members do")]
    Short,
    /// A string is not UTF-8 with one NUL at its end.
    #[error("a string in the variant is not UTF-8 ended by a NUL")]
    Text,
    /// A variant's type is another.
    #[error("a value in the variant has another type than is expected")]
    Type,
}

/// Bytes per offset in a container of this size, offsets included.
fn offset_size(total: usize) -> usize {
    match total {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Bytes per offset that a container with such a body and so many offsets gets.
fn offset_size_for(body: usize, count: usize) -> usize {
    [1, 2, 4].into_iter().find(|size| offset_size(body + count * size) <= *size).unwrap_or(8)
}

fn read_offset(data: &[u8], at: usize, size: usize) -> Result<usize, GvariantError> {
    let bytes = data.get(at..at + size).ok_or(GvariantError::Offset)?;
    let value = bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    usize::try_from(value).map_err(|_| GvariantError::Offset)
}

fn push_offset(out: &mut Vec<u8>, offset: usize, size: usize) {
    out.extend((offset as u64).to_le_bytes().into_iter().take(size));
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// The members of a tuple.
pub fn read_tuple<const N: usize>(data: &[u8], shapes: [Shape; N]) -> Result<[&[u8]; N], GvariantError> {
    let size = offset_size(data.len());
    let mut members = [&data[..0]; N];
    let mut at = 0_usize;
    let mut offsets = 0_usize;
    let last_variable = matches!(shapes.last(), Some(Shape::Variable(_)));
    let count = shapes.iter().filter(|shape| matches!(shape, Shape::Variable(_))).count() - usize::from(last_variable);
    let body = data.len().checked_sub(count * size).ok_or(GvariantError::Short)?;
    for (position, (member, shape)) in members.iter_mut().zip(shapes).enumerate() {
        let start = at.next_multiple_of(shape.alignment());
        let end = match shape {
            Shape::Fixed(length) => start + length,
            Shape::Variable(_) if position + 1 == N => body,
            Shape::Variable(_) => {
                offsets += 1;
                read_offset(data, data.len() - offsets * size, size)?
            }
        };
        if end > body {
            return Err(GvariantError::Short);
        }
        // An empty member may begin in the padding that would have come before it.
        *member =
            if start > end && end >= at { &data[..0] } else { data.get(start..end).ok_or(GvariantError::Offset)? };
        at = end;
    }
    Ok(members)
}

/// A tuple of these members.
pub fn write_tuple<const N: usize>(members: [(Shape, &[u8]); N]) -> Vec<u8> {
    let mut out = Vec::with_capacity(members.iter().map(|(_, bytes)| bytes.len() + 8).sum());
    let mut ends = [0; N];
    let mut count = 0;
    for (position, (shape, bytes)) in members.into_iter().enumerate() {
        pad(&mut out, shape.alignment());
        out.extend_from_slice(bytes);
        if matches!(shape, Shape::Variable(_)) && position + 1 < N {
            if let Some(end) = ends.get_mut(count) {
                *end = out.len();
            }
            count += 1;
        }
    }
    if members.iter().all(|(shape, _)| matches!(shape, Shape::Fixed(_))) {
        pad(&mut out, members.iter().map(|(shape, _)| shape.alignment()).max().unwrap_or(1));
    }
    let size = offset_size_for(out.len(), count);
    for end in ends.iter().take(count).rev() {
        push_offset(&mut out, *end, size);
    }
    out
}

/// The children of an array of variable-sized children.
pub fn read_array(data: &[u8], alignment: usize) -> Result<Vec<&[u8]>, GvariantError> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let size = offset_size(data.len());
    let last = data.len().checked_sub(size).ok_or(GvariantError::Short)?;
    let body = read_offset(data, last, size)?;
    let framing = data.len().checked_sub(body).ok_or(GvariantError::Offset)?;
    if framing == 0 || framing % size != 0 {
        return Err(GvariantError::Offset);
    }
    let mut children = Vec::with_capacity(framing / size);
    let mut at = 0_usize;
    for child in 0..framing / size {
        let start = at.next_multiple_of(alignment);
        let end = read_offset(data, body + child * size, size)?;
        if end > body {
            return Err(GvariantError::Offset);
        }
        children.push(data.get(start..end).ok_or(GvariantError::Offset)?);
        at = end;
    }
    Ok(children)
}

/// An array of variable-sized children.
pub fn write_array<T: AsRef<[u8]>>(alignment: usize, children: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut ends = Vec::new();
    for child in children {
        pad(&mut out, alignment);
        out.extend_from_slice(child.as_ref());
        ends.push(out.len());
    }
    let size = offset_size_for(out.len(), ends.len());
    for end in ends {
        push_offset(&mut out, end, size);
    }
    out
}

/// A string's text.
pub fn read_text(data: &[u8]) -> Result<&str, GvariantError> {
    let text = data.strip_suffix(&[0]).filter(|text| !text.contains(&0)).ok_or(GvariantError::Text)?;
    str::from_utf8(text).map_err(|_| GvariantError::Text)
}

/// A string's bytes: the text and a NUL.
pub fn write_text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A variant's value and type.
pub fn read_variant(data: &[u8]) -> Result<(&[u8], &str), GvariantError> {
    let nul = data.iter().rposition(|&byte| byte == 0).ok_or(GvariantError::Type)?;
    let (value, kind) = data.split_at(nul);
    Ok((value, str::from_utf8(kind.get(1..).unwrap_or_default()).map_err(|_| GvariantError::Type)?))
}

/// A variant: the value, a NUL, its type.
pub fn write_variant(value: &[u8], kind: &str) -> Vec<u8> {
    [value, &[0], kind.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Shape = Shape::Variable(1);

    #[test]
    fn offsets_grow_with_the_container() {
        for (length, size) in [(0, 1), (254, 1), (255, 2), (0xfffd, 2), (0xfffe, 4)] {
            let child = vec![7; length];
            let array = write_array(1, [&child]);
            assert_eq!(array.len(), length + size);
            assert_eq!(read_array(&array, 1).unwrap(), [child.as_slice()]);
            let tuple = write_tuple([(S, &child), (S, b"")]);
            assert_eq!(tuple.len(), length + size);
            assert_eq!(read_tuple(&tuple, [S, S]).unwrap(), [child.as_slice(), b""]);
        }
    }

    #[test]
    fn alignment_and_order_of_offsets() {
        // (sut s): text, padding to 4, number, text; the one offset is the end of the first text.
        let tuple = write_tuple([(S, b"ab\0"), (Shape::Fixed(4), &[0, 0, 0, 9]), (S, b"c\0")]);
        assert_eq!(tuple, b"ab\0\0\0\0\0\x09c\0\x03");
        let [text, number, last] = read_tuple(&tuple, [S, Shape::Fixed(4), S]).unwrap();
        assert_eq!((text, number, last), (&b"ab\0"[..], &[0, 0, 0, 9][..], &b"c\0"[..]));
        assert_eq!(write_tuple([(S, b"a"), (S, b"b"), (S, b"c")]), b"abc\x02\x01");
        assert_eq!(write_array::<&[u8]>(8, []), b"");
    }

    #[test]
    fn any_bytes_are_safe() {
        for length in 0..40_usize {
            for fill in [0_u8, 1, 7, 31, 255] {
                let data = vec![fill; length];
                let _ = read_array(&data, 8);
                let _ = read_tuple(&data, [S, Shape::Fixed(8), S, Shape::Variable(8), S]);
                let _ = read_variant(&data);
                let _ = read_text(&data);
            }
        }
    }
}
