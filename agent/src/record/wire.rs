//! Fixed fields of the record's files: little-endian, read without ever reaching past the end.

/// Fields that are still to be read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// `N` bytes that have to be zero, so that no byte of a file is without meaning.
    pub(super) fn zero<const N: usize>(&mut self) -> Option<()> {
        (self.array::<N>()? == [0; N]).then_some(())
    }

    /// Succeeds where nothing is left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Joins fields into an array. The lengths are constants of the caller: a sum that does not fit is a bug that every
/// test of the format would see, and leaves zeros or cuts.
pub(super) fn join<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    debug_assert_eq!(fields.iter().map(|field| field.len()).sum::<usize>(), N);
    let mut joined = [0; N];
    for (to, from) in joined.iter_mut().zip(fields.iter().copied().flatten()) {
        *to = *from;
    }
    joined
}
