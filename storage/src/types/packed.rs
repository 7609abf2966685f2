//! Strings back to back in one block: each is its length (LEB128) and its bytes. The small form of collections, and the nodes of
//! lists: no allocation per element, one walk to find anything, no byte of slack.

use super::thin::Thin;

/// A run of strings; the block's word counts them.
pub(crate) type Packed = Thin<(), u32>;

/// A run of few strings, counted by walking: four bytes less, which put a small hash into the allocator's next smaller class.
pub(crate) type Uncounted = Thin<(), ()>;

/// What a run knows of its number of strings.
pub(crate) trait Count {
    fn of(count: usize) -> Self;
    /// `None`: they have to be walked.
    fn known(&self) -> Option<usize>;
    fn change(&mut self, by: isize);
}

impl Count for u32 {
    fn of(count: usize) -> Self {
        count as Self
    }

    fn known(&self) -> Option<usize> {
        Some(*self as usize)
    }

    fn change(&mut self, by: isize) {
        *self = self.wrapping_add_signed(by as i32);
    }
}

impl Count for () {
    fn of(_: usize) -> Self {}

    fn known(&self) -> Option<usize> {
        None
    }

    fn change(&mut self, _: isize) {}
}

/// Appends a length in LEB128.
pub(crate) fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// A length in LEB128 on the stack.
pub(crate) struct Length {
    bytes: [u8; 5],
    used: usize,
}

impl Length {
    pub(crate) fn of(mut length: usize) -> Self {
        let (mut bytes, mut used) = ([0; 5], 0);
        while length >= 0x80 {
            bytes[used] = length as u8 | 0x80;
            length >>= 7;
            used += 1;
        }
        bytes[used] = length as u8;
        Self { bytes, used: used + 1 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// The length that bytes begin with, and how many bytes it takes.
pub(crate) fn take_length(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        short @ 0..0x80 => (usize::from(short), 1),
        _ => take_long_length(bytes),
    }
}

#[cold]
fn take_long_length(bytes: &[u8]) -> (usize, usize) {
    let (mut length, mut shift) = (0, 0);
    for (index, &byte) in bytes.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (length, index + 1);
        }
        shift += 7;
    }
    unreachable!("a packed run ends after a whole string")
}

/// An integer in as few bytes as it needs: 0 to 8 of two's complement, little endian.
pub(crate) struct Integer {
    bytes: [u8; 8],
    used: usize,
}

impl Integer {
    pub(crate) fn of(integer: i64) -> Self {
        // One bit more than its magnitude has, for the sign.
        let bits = 64 - (integer ^ (integer >> 63)).leading_zeros() as usize;
        let used = if integer == 0 { 0 } else { (bits + 1).div_ceil(8) };
        Self { bytes: integer.to_le_bytes(), used }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// The integer of at most eight bytes.
    pub(crate) fn value(bytes: &[u8]) -> i64 {
        let is_negative = bytes.last().is_some_and(|&last| last & 0x80 != 0);
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    }
}

/// Walks a run.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    /// How many are still to come at least.
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (length, header) = take_length(self.rest);
        let (item, rest) = self.rest[header..].split_at(length);
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.rest.len()))
    }
}

impl<C: Count> Thin<(), C> {
    /// A run of no strings.
    pub(crate) fn empty() -> Self {
        Self::new((), C::of(0), &[])
    }

    /// A run of these strings.
    pub(crate) fn of<'i>(items: impl IntoIterator<Item = &'i [u8]>) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for item in items {
            put_length(&mut bytes, item.len());
            bytes.extend_from_slice(item);
            count += 1;
        }
        Self::new((), C::of(count), &[&bytes])
    }

    /// Number of strings.
    pub(crate) fn count(&self) -> usize {
        self.word().known().unwrap_or_else(|| self.items().count())
    }

    /// The strings, in order.
    pub(crate) fn items(&self) -> Items<'_> {
        Items { rest: self.bytes(), left: self.word().known().unwrap_or(0) }
    }

    /// The string at `index`.
    pub(crate) fn item(&self, index: usize) -> Option<&[u8]> {
        self.items().nth(index)
    }

    /// How many bytes each string takes, its header included.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            let (length, header) = (!rest.is_empty()).then(|| take_length(rest))?;
            rest = &rest[header + length..];
            Some(header + length)
        })
    }

    /// The string that begins, header first, at this offset.
    pub(super) fn item_at(&self, start: usize) -> &[u8] {
        let (length, header) = take_length(&self.bytes()[start..]);
        &self.bytes()[start + header..][..length]
    }

    /// Takes off the last string, which begins at this offset.
    pub(super) fn cut_last(&mut self, start: usize) {
        self.resize(start);
        self.word_mut().change(-1);
    }

    /// Where the string at `index` begins, header first; where the run ends for the count.
    pub(super) fn start(&self, index: usize) -> usize {
        let bytes = self.bytes();
        if self.word().known() == Some(index) {
            return bytes.len();
        }
        let mut at = 0;
        for _ in 0..index {
            let (length, header) = take_length(&bytes[at..]);
            at += header + length;
        }
        at
    }

    /// Adds a string at the end.
    pub(crate) fn push(&mut self, item: &[u8]) {
        let end = self.len();
        self.splice(end..end, &[Length::of(item.len()).bytes(), item]);
        self.word_mut().change(1);
    }

    /// Adds two strings at the end.
    pub(crate) fn push_pair(&mut self, first: &[u8], second: &[u8]) {
        let end = self.len();
        self.insert_pair_at(end, first, second);
    }

    fn insert_pair_at(&mut self, at: usize, first: &[u8], second: &[u8]) {
        let lengths = (Length::of(first.len()), Length::of(second.len()));
        self.splice(at..at, &[lengths.0.bytes(), first, lengths.1.bytes(), second]);
        self.word_mut().change(2);
    }

    /// Puts a string in front of the one at `index`.
    ///
    /// # Panics
    /// When `index` is beyond the end; the same for those below.
    pub(crate) fn insert(&mut self, index: usize, item: &[u8]) {
        assert!(self.word().known().is_none_or(|count| index <= count));
        let at = self.start(index);
        self.splice(at..at, &[Length::of(item.len()).bytes(), item]);
        self.word_mut().change(1);
    }

    /// Puts two strings in front of the one at `index`.
    pub(crate) fn insert_pair(&mut self, index: usize, first: &[u8], second: &[u8]) {
        assert!(self.word().known().is_none_or(|count| index <= count));
        let at = self.start(index);
        self.insert_pair_at(at, first, second);
    }

    /// Replaces the string at `index`.
    pub(crate) fn set(&mut self, index: usize, item: &[u8]) {
        assert!(self.word().known().is_none_or(|count| index < count));
        let start = self.start(index);
        let (length, header) = take_length(&self.bytes()[start..]);
        if length == item.len() {
            self.bytes_mut()[start + header..][..length].copy_from_slice(item);
        } else {
            self.splice(start..start + header + length, &[Length::of(item.len()).bytes(), item]);
        }
    }

    /// Removes `count` strings from `index` on.
    pub(crate) fn remove(&mut self, index: usize, count: usize) {
        assert!(self.word().known().is_none_or(|known| index + count <= known));
        let start = self.start(index);
        let mut end = start;
        for _ in 0..count {
            let (length, header) = take_length(&self.bytes()[end..]);
            end += header + length;
        }
        self.splice(start..end, &[]);
        self.word_mut().change(-(count as isize));
    }

    /// Takes off the strings from `index` on.
    pub(crate) fn split_off(&mut self, index: usize) -> Self {
        assert!(self.word().known().is_none_or(|count| index <= count));
        let at = self.start(index);
        let tail = Self::new((), C::of(self.count() - index), &[&self.bytes()[at..]]);
        self.resize(at);
        *self.word_mut() = C::of(index);
        tail
    }

    /// Where the string stands, looking at every `step`-th from `first` on.
    pub(crate) fn position(&self, wanted: &[u8], first: usize, step: usize) -> Option<usize> {
        let found = self.items().skip(first).step_by(step).position(|item| item == wanted)?;
        Some(first + found * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn a_run_behaves_like_a_vector(
            operations in prop::collection::vec((0..7u8, 0..40usize, prop::collection::vec(any::<u8>(), 0..200)), 0..60)
        ) {
            let (mut packed, mut uncounted, mut model) = (Packed::empty(), Uncounted::empty(), Vec::<Vec<u8>>::new());
            for (operation, place, item) in operations {
                let index = if model.is_empty() { 0 } else { place % model.len() };
                match operation {
                    0 => uncounted.push(&item),
                    1 => uncounted.insert_pair(index, &item, b"x"),
                    2 if !model.is_empty() => uncounted.set(index, &item),
                    3 => uncounted.remove(index, (model.len() - index).min(item.len() % 4)),
                    4 => prop_assert_eq!(uncounted.split_off(index).count(), model.len() - index),
                    5 => uncounted.insert(index, &item),
                    _ => {}
                }
                match operation {
                    0 => { packed.push(&item); model.push(item); }
                    1 => { packed.insert_pair(index, &item, b"x"); model.splice(index..index, [item, b"x".to_vec()]); }
                    2 if !model.is_empty() => { packed.set(index, &item); model[index] = item; }
                    3 => {
                        let count = (model.len() - index).min(item.len() % 4);
                        packed.remove(index, count);
                        model.drain(index..index + count);
                    }
                    4 => {
                        let tail = packed.split_off(index);
                        let model_tail = model.split_off(index);
                        prop_assert!(tail.items().eq(model_tail.iter().map(Vec::as_slice)));
                    }
                    5 => { packed.insert(index, &item); model.insert(index, item); }
                    _ => prop_assert_eq!(packed.position(&item, 0, 1), model.iter().position(|known| *known == item)),
                }
                prop_assert!(packed.items().eq(model.iter().map(Vec::as_slice)));
                prop_assert_eq!(packed.count(), model.len());
                prop_assert_eq!((uncounted.bytes(), uncounted.count()), (packed.bytes(), model.len()));
                prop_assert_eq!(uncounted.item(index), packed.item(index));
                prop_assert_eq!(packed.item(index), model.get(index).map(Vec::as_slice));
            }
            prop_assert!(Packed::of(model.iter().map(Vec::as_slice)).bytes() == packed.bytes());
        }
    }

    #[test]
    fn an_integer_takes_no_more_bytes_than_it_needs() {
        for (integer, used) in
            [(0, 0), (1, 1), (-1, 1), (127, 1), (-128, 1), (128, 2), (-129, 2), (i64::MAX, 8), (i64::MIN, 8)]
        {
            assert_eq!(Integer::of(integer).bytes().len(), used, "{integer}");
        }
        for integer in (0..63).flat_map(|bit| [1i64 << bit, (1 << bit) - 1, -(1 << bit), -(1 << bit) - 1]) {
            assert_eq!(Integer::value(Integer::of(integer).bytes()), integer);
        }
    }

    #[test]
    fn long_strings_have_longer_lengths() {
        for length in [0, 127, 128, 16_383, 16_384, 100_000] {
            let item = vec![7; length];
            let packed = Packed::of([&item[..], b"next"]);
            assert_eq!((packed.item(0), packed.item(1)), (Some(&item[..]), Some(&b"next"[..])));
        }
    }
}
