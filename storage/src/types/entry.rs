//! A key with what it holds, in one block: the key, its expiry and, when it is a small string, its value stand in the block's
//! bytes; anything else hangs on the block's header.
//!
//! ```text
//! bytes = lead u8 | key length, if long | expiry u64, if any | key | value, if a small string
//! lead  = EXPIRES | INTEGER | key length (63: it is long and follows in LEB128)
//! word  = when it was last used
//! ```

use std::cell::Cell;
use std::ops::Range;

use super::packed::{Integer, Length, take_length};
use super::table::Keyed;
use super::thin::{Either, Kind, THIN_MAX, Thin};
use super::{Hash, List, Set, SortedSet, StringRef, Value, ValueRef};

/// Longest string that stands in the key's own block. Longer ones are apart, so that they grow without moving each time.
const INLINE_MAX: usize = 1024;
const EXPIRES: u8 = 0x80;
/// The value is an integer in as few bytes as it needs.
const INTEGER: u8 = 0x40;
const LONG_KEY: u8 = 0x3f;

/// A value that is not in the key's own block.
pub(crate) enum Held {
    /// A string that is long, or was changed in place.
    #[expect(clippy::box_collection, reason = "one word, as all others are, so that a header is two")]
    Text(Box<Vec<u8>>),
    Hash(Hash),
    List(List),
    Set(Set),
    SortedSet(SortedSet),
}

const _: () = assert!(size_of::<Held>() == 16 && size_of::<Entry>() == 8);

impl Held {
    /// Nothing, of the same type.
    pub(crate) fn empty(&self) -> Self {
        match self {
            Self::Text(_) => Self::Text(Box::default()),
            Self::Hash(_) => Self::Hash(Hash::default()),
            Self::List(_) => Self::List(List::default()),
            Self::Set(_) => Self::Set(Set::default()),
            Self::SortedSet(_) => Self::SortedSet(SortedSet::default()),
        }
    }

    /// What it is, to read.
    pub(crate) fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Text(text) => ValueRef::String(StringRef::Bytes(text)),
            Self::Hash(hash) => ValueRef::Hash(hash),
            Self::List(list) => ValueRef::List(list),
            Self::Set(set) => ValueRef::Set(set),
            Self::SortedSet(set) => ValueRef::SortedSet(set),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Text(text) => size_of::<Vec<u8>>() + text.capacity(),
            Self::Hash(hash) => hash.memory_bytes(),
            Self::List(list) => list.memory_bytes(),
            Self::Set(set) => set.memory_bytes(),
            Self::SortedSet(set) => set.memory_bytes(),
        }
    }
}

/// A key with what it holds.
pub(crate) struct Entry(Either<(), Held, Cell<u32>, Cell<u32>>);

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        let bytes = self.bytes();
        &bytes[Parts::of(bytes).key]
    }

    fn prefetch(&self) {
        self.0.prefetch();
    }
}

/// Where things are in an entry's bytes.
struct Parts {
    /// Where the expiry is, or would be.
    expiry_at: usize,
    key: Range<usize>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let lead = bytes[0];
        let (length, header) = match lead & LONG_KEY {
            LONG_KEY => take_length(&bytes[1..]),
            length => (usize::from(length), 0),
        };
        let expiry_at = 1 + header;
        let key_at = expiry_at + if lead & EXPIRES != 0 { 8 } else { 0 };
        Self { expiry_at, key: key_at..key_at + length }
    }
}

/// What stands in front of a key, on the stack.
struct Front {
    bytes: [u8; 14],
    used: usize,
}

impl Front {
    fn new(key: &[u8], expires_at_ms: Option<u64>, is_integer: bool) -> Self {
        let mut front = Self { bytes: [0; 14], used: 1 };
        front.bytes[0] = if is_integer { INTEGER } else { 0 };
        if key.len() < usize::from(LONG_KEY) {
            front.bytes[0] |= key.len() as u8;
        } else {
            front.bytes[0] |= LONG_KEY;
            front.add(Length::of(key.len()).bytes());
        }
        if let Some(at_ms) = expires_at_ms {
            front.bytes[0] |= EXPIRES;
            front.add(&at_ms.to_le_bytes());
        }
        front
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Entry {
    /// A key that holds a string.
    pub(crate) fn with_string(
        key: &[u8],
        string: StringRef<'_>,
        expires_at_ms: Option<u64>,
        used_at: u32,
    ) -> Self {
        let used_at = Cell::new(used_at);
        match string {
            StringRef::Int(number) => {
                let front = Front::new(key, expires_at_ms, true);
                let integer = Integer::of(number);
                Self(Either::first(Thin::new((), used_at, &[front.bytes(), key, integer.bytes()])))
            }
            StringRef::Bytes(bytes) if bytes.len() <= INLINE_MAX => {
                let front = Front::new(key, expires_at_ms, false);
                Self(Either::first(Thin::new((), used_at, &[front.bytes(), key, bytes])))
            }
            StringRef::Bytes(bytes) => {
                Self::with_held(key, Held::Text(Box::new(bytes.to_vec())), expires_at_ms, used_at.get())
            }
        }
    }

    /// A key that holds something else, or a long string.
    pub(crate) fn with_held(key: &[u8], held: Held, expires_at_ms: Option<u64>, used_at: u32) -> Self {
        let front = Front::new(key, expires_at_ms, false);
        Self(Either::second(Thin::new(held, Cell::new(used_at), &[front.bytes(), key])))
    }

    /// A key that holds this value.
    pub(crate) fn with_value(key: &[u8], value: Value, expires_at_ms: Option<u64>, used_at: u32) -> Self {
        let held = match value {
            Value::Int(number) => {
                return Self::with_string(key, StringRef::Int(number), expires_at_ms, used_at);
            }
            Value::Bytes(bytes) if bytes.len() <= INLINE_MAX => {
                return Self::with_string(key, StringRef::Bytes(&bytes), expires_at_ms, used_at);
            }
            Value::Bytes(bytes) => Held::Text(Box::new(bytes)),
            Value::Hash(hash) => Held::Hash(hash),
            Value::List(list) => Held::List(list),
            Value::Set(set) => Held::Set(set),
            Value::SortedSet(set) => Held::SortedSet(set),
        };
        Self::with_held(key, held, expires_at_ms, used_at)
    }

    /// The same under another key.
    pub(crate) fn renamed(self, key: &[u8]) -> Self {
        let (expires_at_ms, used_at) = (self.expires_at_ms(), self.used_at());
        if let (Kind::First(_), ValueRef::String(string)) = (self.0.view(), self.value()) {
            return Self::with_string(key, string, expires_at_ms, used_at);
        }
        match self.0.take() {
            Kind::Second(block) => Self::with_held(key, block.into_header(), expires_at_ms, used_at),
            Kind::First(_) => unreachable!("only strings are in their key's block"),
        }
    }

    /// What it holds, without its key.
    pub(crate) fn into_value(self) -> Value {
        if let (Kind::First(_), ValueRef::String(string)) = (self.0.view(), self.value()) {
            return Value::string(string.bytes(&mut itoa::Buffer::new()));
        }
        match self.0.take() {
            Kind::Second(block) => match block.into_header() {
                Held::Text(text) => Value::Bytes(*text),
                Held::Hash(hash) => Value::Hash(hash),
                Held::List(list) => Value::List(list),
                Held::Set(set) => Value::Set(set),
                Held::SortedSet(set) => Value::SortedSet(set),
            },
            Kind::First(_) => unreachable!("only strings are in their key's block"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.0.view() {
            Kind::First(block) => block.bytes(),
            Kind::Second(block) => block.bytes(),
        }
    }

    /// When it expires.
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        let bytes = self.bytes();
        if bytes[0] & EXPIRES == 0 {
            return None;
        }
        bytes[Parts::of(bytes).expiry_at..].first_chunk().map(|at_ms| u64::from_le_bytes(*at_ms))
    }

    /// It expires at another time, or no longer.
    pub(crate) fn set_expiry(&mut self, expires_at_ms: Option<u64>) {
        fn change<H, const TAG: usize>(block: &mut Thin<H, Cell<u32>, TAG>, expires_at_ms: Option<u64>) {
            let at = Parts::of(block.bytes()).expiry_at;
            let had = if block.bytes()[0] & EXPIRES != 0 { 8 } else { 0 };
            match expires_at_ms {
                Some(at_ms) => {
                    block.splice(at..at + had, &[&at_ms.to_le_bytes()]);
                    block.bytes_mut()[0] |= EXPIRES;
                }
                None => {
                    block.splice(at..at + had, &[]);
                    block.bytes_mut()[0] &= !EXPIRES;
                }
            }
        }
        match self.0.view_mut() {
            Kind::First(block) => change(block, expires_at_ms),
            Kind::Second(block) => change(block, expires_at_ms),
        }
    }

    fn used(&self) -> &Cell<u32> {
        match self.0.view() {
            Kind::First(block) => block.word(),
            Kind::Second(block) => block.word(),
        }
    }

    /// When it was last used.
    pub(crate) fn used_at(&self) -> u32 {
        self.used().get()
    }

    /// It is used now.
    pub(crate) fn touch(&self, now: u32) {
        // Written only when it changes, so that reading a key twice a second leaves its memory clean.
        if self.used_at() != now {
            self.used().set(now);
        }
    }

    /// What it holds.
    pub(crate) fn value(&self) -> ValueRef<'_> {
        match self.0.view() {
            Kind::First(block) => {
                let bytes = block.bytes();
                let value = &bytes[Parts::of(bytes).key.end..];
                ValueRef::String(match bytes[0] & INTEGER {
                    0 => StringRef::Bytes(value),
                    _ => StringRef::Int(Integer::value(value)),
                })
            }
            Kind::Second(block) => block.header().as_ref(),
        }
    }

    /// OBJECT ENCODING: as Redis, a string that was changed in place is `raw` whatever its length.
    pub(crate) fn encoding(&self) -> &'static str {
        match self.0.view() {
            Kind::Second(block) if matches!(block.header(), Held::Text(_)) => "raw",
            _ => self.value().encoding(),
        }
    }

    /// What it holds, to change; `None` for a string in the key's own block.
    pub(crate) fn held_mut(&mut self) -> Option<&mut Held> {
        match self.0.view_mut() {
            Kind::First(_) => None,
            Kind::Second(block) => Some(block.header_mut()),
        }
    }

    /// It holds this string, whatever it held before; its memory is used again when that can be.
    pub(crate) fn set_string(&mut self, key: &[u8], string: StringRef<'_>, expires_at_ms: Option<u64>) {
        let used_at = self.used_at();
        match (self.0.view_mut(), string) {
            (Kind::First(block), StringRef::Int(number)) => {
                let whole = 0..block.len();
                let front = Front::new(key, expires_at_ms, true);
                block.splice(whole, &[front.bytes(), key, Integer::of(number).bytes()]);
            }
            (Kind::First(block), StringRef::Bytes(bytes)) if bytes.len() <= INLINE_MAX => {
                let whole = 0..block.len();
                block.splice(whole, &[Front::new(key, expires_at_ms, false).bytes(), key, bytes]);
            }
            _ => *self = Self::with_string(key, string, expires_at_ms, used_at),
        }
    }

    /// The string is overwritten from `offset` with `bytes`, zero-padded up to there; nothing but a string may be here, and
    /// its new length may not exceed [`STRING_MAX`].
    pub(crate) fn splice_string(&mut self, key: &[u8], offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if let (Kind::First(_), ValueRef::String(string)) = (self.0.view(), self.value()) {
            // What is changed in place once will be again: it moves out of the key's block, whose size then stays.
            let text = string.bytes(&mut itoa::Buffer::new()).to_vec();
            *self = Self::with_held(key, Held::Text(Box::new(text)), self.expires_at_ms(), self.used_at());
        }
        let Some(Held::Text(text)) = self.held_mut() else { unreachable!("only strings are spliced") };
        if text.len() < end {
            text.resize(end, 0);
        }
        text[offset..end].copy_from_slice(bytes);
    }

    /// Bytes of memory. Takes no walk.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self.0.view() {
            Kind::First(block) => block.memory_bytes(),
            Kind::Second(block) => block.memory_bytes() + block.header().memory_bytes(),
        }
    }
}

/// Longest string: 1 GiB, twice what Redis allows by default.
pub(crate) const STRING_MAX: usize = 1 << 30;
const _: () = assert!(STRING_MAX <= THIN_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(entry: &Entry) -> Vec<u8> {
        match entry.value() {
            ValueRef::String(string) => string.bytes(&mut itoa::Buffer::new()).to_vec(),
            _ => panic!("no string"),
        }
    }

    #[test]
    fn a_key_of_16_and_a_value_of_100_bytes_take_125() {
        let entry = Entry::with_string(&[b'k'; 16], StringRef::Bytes(&[b'v'; 100]), None, 0);
        assert_eq!(entry.memory_bytes(), 125);
        let entry = Entry::with_string(&[b'k'; 16], StringRef::Int(1_000_000), None, 0);
        assert_eq!(entry.memory_bytes(), 28);
        let entry = Entry::with_held(&[b'k'; 16], Held::Set(Set::default()), None, 0);
        assert_eq!(entry.memory_bytes(), 24 + 1 + 16 + Set::default().memory_bytes());
    }

    #[test]
    fn a_string_changed_in_place_is_raw_until_it_is_set_again() {
        let mut entry = Entry::with_string(b"k", StringRef::Int(7), Some(9), 3);
        assert_eq!(entry.encoding(), "int");
        entry.splice_string(b"k", 1, b"1");
        assert_eq!((entry.encoding(), text_of(&entry)), ("raw", b"71".to_vec()));
        entry = entry.renamed(b"l");
        assert_eq!((entry.encoding(), entry.expires_at_ms(), entry.used_at()), ("raw", Some(9), 3));
        entry.set_string(b"l", StringRef::Bytes(b"short"), None);
        assert_eq!(entry.encoding(), "embstr");
        entry.set_string(b"l", StringRef::Bytes(&[b'x'; 45]), None);
        assert_eq!(entry.encoding(), "raw");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn an_entry_keeps_key_value_expiry_and_use_apart(
            key_length in prop::sample::select(vec![0usize, 1, 62, 63, 64, 200, 20_000]),
            steps in prop::collection::vec((0..7u8, any::<u32>(), 0..1_500usize), 1..20)
        ) {
            let key: Vec<u8> = (0..key_length).map(|byte| byte as u8).collect();
            let mut entry = Entry::with_string(&key, StringRef::Int(-5), None, 1);
            let (mut text, mut expiry, mut used) = (b"-5".to_vec(), None, 1);
            for (action, number, length) in steps {
                match action {
                    0 => {
                        text = vec![b'x'; length];
                        entry.set_string(&key, StringRef::of(&text), expiry);
                    }
                    1 => {
                        text = number.to_string().into_bytes();
                        expiry = Some(u64::from(number) << 9);
                        entry.set_string(&key, StringRef::of(&text), expiry);
                    }
                    2 => {
                        expiry = (number % 2 == 0).then_some(u64::from(number));
                        entry.set_expiry(expiry);
                    }
                    3 => {
                        used = number;
                        entry.touch(used);
                    }
                    4 => {
                        let offset = number as usize % 1_200;
                        let bytes = vec![b'y'; length % 70];
                        text.resize(text.len().max(offset + bytes.len()), 0);
                        text[offset..offset + bytes.len()].copy_from_slice(&bytes);
                        entry.splice_string(&key, offset, &bytes);
                    }
                    5 => entry = entry.renamed(b"other").renamed(&key),
                    _ => entry = Entry::with_value(&key, Value::Bytes(text.clone()), expiry, used),
                }
                prop_assert_eq!(entry.key(), &key[..]);
                prop_assert_eq!(text_of(&entry), text.clone());
                prop_assert_eq!((entry.expires_at_ms(), entry.used_at()), (expiry, used));
            }
        }
    }
}
