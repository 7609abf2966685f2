//! Numbers that tell equal contents: they depend on type and contents alone, not on form, order of insertion, process or
//! machine. For comparing members of a shard; not against somebody who wants two contents to look the same.

use super::ValueRef;

/// A mix in which every bit of every word counts: each step can be undone, so no word is lost.
#[derive(Clone, Copy)]
struct Mix(u64);

impl Mix {
    fn word(self, word: u64) -> Self {
        Self((self.0.rotate_left(27) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x52dc_e729))
    }

    /// Length and bytes.
    fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut mix = self.word(bytes.len() as u64);
        for word in words {
            mix = mix.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        if rest.is_empty() { mix } else { mix.word(u64::from_le_bytes(last)) }
    }

    /// Spreads what came last over all bits.
    fn finish(self) -> u64 {
        let mut sum = self.0;
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            sum = (sum ^ (sum >> 33)).wrapping_mul(factor);
        }
        sum ^ (sum >> 33)
    }
}

/// Of a value.
pub fn of_value(value: ValueRef<'_>) -> u64 {
    // Elements without order are summed: the sum does not depend on theirs.
    let (kind, length, contents) = match value {
        ValueRef::String(string) => {
            let mut buffer = itoa::Buffer::new();
            let bytes = string.bytes(&mut buffer);
            (0, bytes.len(), Mix(0).bytes(bytes).finish())
        }
        ValueRef::Hash(hash) => {
            let each = hash.iter().map(|(field, value)| Mix(1).bytes(field).bytes(value).finish());
            (1, hash.len(), each.fold(0, u64::wrapping_add))
        }
        ValueRef::List(list) => (2, list.len(), list.iter().fold(Mix(2), Mix::bytes).finish()),
        ValueRef::Set(set) => {
            let each = set.iter().map(|member| Mix(3).bytes(&member).finish());
            (3, set.len(), each.fold(0, u64::wrapping_add))
        }
        ValueRef::SortedSet(set) => {
            // 0 and -0 are one score.
            let each = set
                .iter_from(0)
                .map(|(member, score)| Mix(4).bytes(member).word((score + 0.0).to_bits()).finish());
            (4, set.len(), each.fold(0, u64::wrapping_add))
        }
    };
    Mix(kind).word(length as u64).word(contents).finish()
}

/// Of a key with its value and expiry.
pub fn of_key(key: &[u8], value: ValueRef<'_>, expires_at_ms: Option<u64>) -> u64 {
    Mix(5).bytes(key).word(expires_at_ms.map_or(0, |at_ms| at_ms + 1)).word(of_value(value)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::ListEnd;
    use crate::types::{Hash, List, Set, SortedSet, StringRef};
    use std::collections::BTreeSet;

    #[test]
    fn order_of_insertion_and_form_do_not_count() {
        let (mut ascending, mut descending) = (Set::default(), Set::default());
        let member = |number: u32| format!("m{number}").into_bytes();
        for number in 0..300 {
            ascending.add(&member(number));
        }
        for number in (0..900).rev() {
            descending.add(&member(number));
        }
        for number in 300..900 {
            descending.remove(&member(number));
        }
        assert_eq!(of_value(ValueRef::Set(&ascending)), of_value(ValueRef::Set(&descending)));
        let (mut packed, mut table) = (Hash::default(), Hash::default());
        packed.set(b"f", b"v");
        table.set(&[b'x'; 99], b"");
        table.set(b"f", b"v");
        table.remove(&[b'x'; 99]);
        assert_ne!(packed.encoding(), table.encoding());
        assert_eq!(of_value(ValueRef::Hash(&packed)), of_value(ValueRef::Hash(&table)));
    }

    #[test]
    fn whatever_differs_tells() {
        let string = |text: &'static [u8]| ValueRef::String(StringRef::of(text));
        let (mut ab, mut ba, mut joined) = (List::default(), List::default(), List::default());
        [&b"a"[..], b"b"].iter().for_each(|item| ab.push(ListEnd::Right, item));
        [&b"a"[..], b"b"].iter().for_each(|item| ba.push(ListEnd::Left, item));
        joined.push(ListEnd::Right, b"ab");
        let (mut set, mut hash, mut one, mut two) =
            (Set::default(), Hash::default(), SortedSet::default(), SortedSet::default());
        set.add(b"ab");
        hash.set(b"a", b"b");
        one.add(b"a", 1.0);
        two.add(b"a", 2.0);
        let values = [
            of_value(string(b"")),
            of_value(string(b"ab")),
            of_value(string(b"ab\0")),
            of_value(string(b"12")),
            of_value(ValueRef::List(&ab)),
            of_value(ValueRef::List(&ba)),
            of_value(ValueRef::List(&joined)),
            of_value(ValueRef::Set(&set)),
            of_value(ValueRef::Hash(&hash)),
            of_value(ValueRef::SortedSet(&one)),
            of_value(ValueRef::SortedSet(&two)),
            of_key(b"k", string(b"ab"), None),
            of_key(b"k", string(b"ab"), Some(0)),
            of_key(b"k", string(b"ab"), Some(1)),
            of_key(b"ka", string(b"b"), None),
        ];
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
        assert_eq!(of_value(string(b"12")), of_value(ValueRef::String(StringRef::Bytes(b"12"))));
    }

    #[test]
    fn a_known_value_has_the_number_it_had() {
        assert_eq!(
            of_key(b"key", ValueRef::String(StringRef::Bytes(b"value")), Some(7)),
            7_428_210_195_559_228_225
        );
    }
}
