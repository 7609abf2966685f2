//! Strings back to back in one run of bytes: each is its length (LEB128) and its bytes. The small form of collections, and the
//! nodes of lists: no allocation per element, one walk to find anything.

/// A run of strings.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Packed {
    bytes: Vec<u8>,
    count: u32,
}

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn take_length(bytes: &[u8]) -> (usize, usize) {
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

fn entry(item: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(item.len() + 5);
    push_length(&mut bytes, item.len());
    bytes.extend_from_slice(item);
    bytes
}

/// Walks a run.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (length, header) = take_length(self.rest);
        let (item, rest) = self.rest[header..].split_at(length);
        self.rest = rest;
        self.left -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl Packed {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the run.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The strings, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes, left: self.len() }
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.iter().nth(index)
    }

    /// Byte range, header included, of the string at `index`, or of the place after the last one.
    fn span(&self, index: usize) -> (usize, usize) {
        let mut at = 0;
        for _ in 0..index {
            let (length, header) = take_length(&self.bytes[at..]);
            at += header + length;
        }
        if at == self.bytes.len() {
            return (at, at);
        }
        let (length, header) = take_length(&self.bytes[at..]);
        (at, at + header + length)
    }

    /// Adds a string at the end.
    pub fn push(&mut self, item: &[u8]) {
        self.bytes.reserve_exact(item.len() + 2);
        push_length(&mut self.bytes, item.len());
        self.bytes.extend_from_slice(item);
        self.count += 1;
    }

    /// Puts strings in front of the one at `index`.
    ///
    /// # Panics
    /// When `index` is beyond the end; the same for those below.
    pub fn insert(&mut self, index: usize, items: &[&[u8]]) {
        assert!(index <= self.len());
        let (at, _) = self.span(index);
        let added: Vec<u8> = items.iter().flat_map(|item| entry(item)).collect();
        self.bytes.splice(at..at, added);
        self.count += items.len() as u32;
    }

    /// Replaces the string at `index`.
    pub fn set(&mut self, index: usize, item: &[u8]) {
        assert!(index < self.len());
        let (start, end) = self.span(index);
        self.bytes.splice(start..end, entry(item));
    }

    /// Removes `count` strings from `index` on.
    pub fn remove(&mut self, index: usize, count: usize) {
        assert!(index + count <= self.len());
        if count == 0 {
            return;
        }
        let (start, _) = self.span(index);
        let (_, end) = self.span(index + count - 1);
        self.bytes.drain(start..end);
        self.count -= count as u32;
        if self.bytes.capacity() > 64 && self.bytes.len() * 4 < self.bytes.capacity() {
            self.bytes.shrink_to_fit();
        }
    }

    /// Takes off the strings from `index` on.
    pub fn split_off(&mut self, index: usize) -> Self {
        let (at, _) = self.span(index);
        let tail = Self { bytes: self.bytes.split_off(at), count: self.count - index as u32 };
        self.count = index as u32;
        tail
    }

    /// Where the string stands, looking at every `step`-th from the first on.
    pub fn position(&self, wanted: &[u8], step: usize) -> Option<usize> {
        self.iter().step_by(step).position(|item| item == wanted).map(|found| found * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_behaves_like_a_vector(operations in prop::collection::vec((0..5u8, 0..40usize, prop::collection::vec(any::<u8>(), 0..200)), 0..60)) {
            let (mut packed, mut model) = (Packed::default(), Vec::<Vec<u8>>::new());
            for (operation, place, item) in operations {
                let index = if model.is_empty() { 0 } else { place % model.len() };
                match operation {
                    0 => { packed.push(&item); model.push(item); }
                    1 => { packed.insert(index, &[&item, b"x"]); model.splice(index..index, [item, b"x".to_vec()]); }
                    2 if !model.is_empty() => { packed.set(index, &item); model[index] = item; }
                    3 if !model.is_empty() => { packed.remove(index, 1); model.remove(index); }
                    4 => { let tail = packed.split_off(index); prop_assert_eq!(tail.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), model.split_off(index)); }
                    _ => {}
                }
                prop_assert_eq!(packed.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(packed.len(), model.len());
            }
        }
    }
}
