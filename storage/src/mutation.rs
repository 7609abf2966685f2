//! FORMAT: the vocabulary of change. A record's body is a MessagePack array of mutations; each mutation is an array
//! `[opcode, field, …]` with the fields in the order in which they are declared below.
//!
//! ```text
//! body     = array(count) mutation…
//! mutation = array(1 + fields) opcode:uint field…
//! field    = bin (bytes) | uint/int (numbers) | float64 (scores) | array (lists of fields)
//! expiry   = int: 0 clear, -1 keep, else the time in ms; end = uint: 0 left, 1 right; reason = uint: 0, 1, 2 as declared
//! ```
//!
//! A mutation says what a command *did*, never what it was asked: absolute expiry times, chosen random members, computed
//! floats. So applying it needs no clock and no dice, and gives the same state everywhere. Opcodes are never reused;
//! a new meaning takes a new opcode. Format version: [`MUTATION_FORMAT_VERSION`], carried by the segment header.

use std::borrow::Cow;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::Bytes;

/// Version of the vocabulary; a reader refuses a higher one.
pub const MUTATION_FORMAT_VERSION: u8 = 1;

/// A byte string borrowed from the request or the record, or owned where a command computed it.
pub type Bin<'a> = Cow<'a, [u8]>;

/// Which end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListEnd {
    /// The head, index 0.
    Left,
    /// The tail, index -1.
    Right,
}

/// What a string write does to the key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// The key has no expiry afterwards.
    Clear,
    /// The key keeps the expiry it has.
    Keep,
    /// The key expires at this wall-clock time, in milliseconds since 1970.
    At(u64),
}

/// Why a key was deleted; told apart for the offline tool, notifications and statistics, the same for the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteReason {
    /// A command removed it.
    Command,
    /// Its time had come.
    Expired,
    /// Memory was needed.
    Evicted,
}

/// One deterministic change to one slot. A collection that becomes empty is removed with its key.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "each variant's sentence names its fields")]
pub enum Mutation<'a> {
    /// The key holds this string, whatever it held before.
    SetString { key: Bin<'a>, value: Bin<'a>, expiry: Expiry },
    /// The key holds this integer as a string; keeps its expiry.
    SetInteger { key: Bin<'a>, value: i64 },
    /// The string is overwritten from `offset` with `bytes`, zero-padded up to there; created when missing.
    SpliceString { key: Bin<'a>, offset: u64, bytes: Bin<'a> },
    /// The key is gone.
    Delete { key: Bin<'a>, reason: DeleteReason },
    /// The key expires at this wall-clock time, in milliseconds since 1970.
    ExpireAt { key: Bin<'a>, at_ms: u64 },
    /// The key no longer expires.
    Persist { key: Bin<'a> },
    /// `to` holds what `from` held, with its expiry; `from` is gone. Both are keys of the record's slot.
    Rename { from: Bin<'a>, to: Bin<'a> },
    /// `to` holds a copy of what `from` holds, with its expiry. Both are keys of the record's slot.
    Copy { from: Bin<'a>, to: Bin<'a> },
    /// The key holds this value (in the value format of slot images), whatever it held before.
    Restore { key: Bin<'a>, value: Bin<'a>, expiry: Expiry },
    /// The slot is empty.
    FlushSlot,
    /// These fields of a hash have these values.
    HashSet { key: Bin<'a>, pairs: Vec<(Bin<'a>, Bin<'a>)> },
    /// These fields of a hash are gone.
    HashDelete { key: Bin<'a>, fields: Vec<Bin<'a>> },
    /// The values were pushed, one after the other, at this end of a list.
    ListPush { key: Bin<'a>, end: ListEnd, values: Vec<Bin<'a>> },
    /// This many elements were taken off this end of a list.
    ListPop { key: Bin<'a>, end: ListEnd, count: u64 },
    /// The element at `index` (from the head) has this value.
    ListSet { key: Bin<'a>, index: u64, value: Bin<'a> },
    /// The value stands at `index` (from the head), what stood there and after moved one on.
    ListInsert { key: Bin<'a>, index: u64, value: Bin<'a> },
    /// The elements at these indexes (from the head, ascending, as before the change) are gone.
    ListRemove { key: Bin<'a>, indexes: Vec<u64> },
    /// Only `length` elements from `start` (from the head) are left.
    ListTrim { key: Bin<'a>, start: u64, length: u64 },
    /// These members are in the set.
    SetAdd { key: Bin<'a>, members: Vec<Bin<'a>> },
    /// These members are not in the set.
    SetRemove { key: Bin<'a>, members: Vec<Bin<'a>> },
    /// These members of a sorted set have these scores.
    SortedSetAdd { key: Bin<'a>, entries: Vec<(f64, Bin<'a>)> },
    /// These members are not in the sorted set.
    SortedSetRemove { key: Bin<'a>, members: Vec<Bin<'a>> },
}

mod opcode {
    pub const SET_STRING: u8 = 1;
    pub const SET_INTEGER: u8 = 2;
    pub const SPLICE_STRING: u8 = 3;
    pub const DELETE: u8 = 4;
    pub const EXPIRE_AT: u8 = 5;
    pub const PERSIST: u8 = 6;
    pub const RENAME: u8 = 7;
    pub const COPY: u8 = 8;
    pub const RESTORE: u8 = 9;
    pub const FLUSH_SLOT: u8 = 10;
    pub const HASH_SET: u8 = 11;
    pub const HASH_DELETE: u8 = 12;
    pub const LIST_PUSH: u8 = 13;
    pub const LIST_POP: u8 = 14;
    pub const LIST_SET: u8 = 15;
    pub const LIST_INSERT: u8 = 16;
    pub const LIST_REMOVE: u8 = 17;
    pub const LIST_TRIM: u8 = 18;
    pub const SET_ADD: u8 = 19;
    pub const SET_REMOVE: u8 = 20;
    pub const SORTED_SET_ADD: u8 = 21;
    pub const SORTED_SET_REMOVE: u8 = 22;
}

impl Serialize for Mutation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! array {
            ($opcode:ident $(, $field:expr)*) => {{
                let length = 1 $(+ { let _ = &$field; 1 })*;
                let mut array = serializer.serialize_tuple(length)?;
                array.serialize_element(&opcode::$opcode)?;
                $(array.serialize_element(&$field)?;)*
                array.end()
            }};
        }
        match self {
            Self::SetString { key, value, expiry } => {
                array!(SET_STRING, Bytes::new(key), Bytes::new(value), expiry_code(*expiry))
            }
            Self::SetInteger { key, value } => array!(SET_INTEGER, Bytes::new(key), value),
            Self::SpliceString { key, offset, bytes } => {
                array!(SPLICE_STRING, Bytes::new(key), offset, Bytes::new(bytes))
            }
            Self::Delete { key, reason } => array!(DELETE, Bytes::new(key), reason_code(*reason)),
            Self::ExpireAt { key, at_ms } => array!(EXPIRE_AT, Bytes::new(key), at_ms),
            Self::Persist { key } => array!(PERSIST, Bytes::new(key)),
            Self::Rename { from, to } => array!(RENAME, Bytes::new(from), Bytes::new(to)),
            Self::Copy { from, to } => array!(COPY, Bytes::new(from), Bytes::new(to)),
            Self::Restore { key, value, expiry } => {
                array!(RESTORE, Bytes::new(key), Bytes::new(value), expiry_code(*expiry))
            }
            Self::FlushSlot => array!(FLUSH_SLOT),
            Self::HashSet { key, pairs } => array!(HASH_SET, Bytes::new(key), Pairs(pairs)),
            Self::HashDelete { key, fields } => array!(HASH_DELETE, Bytes::new(key), Bins(fields)),
            Self::ListPush { key, end, values } => {
                array!(LIST_PUSH, Bytes::new(key), end_code(*end), Bins(values))
            }
            Self::ListPop { key, end, count } => array!(LIST_POP, Bytes::new(key), end_code(*end), count),
            Self::ListSet { key, index, value } => {
                array!(LIST_SET, Bytes::new(key), index, Bytes::new(value))
            }
            Self::ListInsert { key, index, value } => {
                array!(LIST_INSERT, Bytes::new(key), index, Bytes::new(value))
            }
            Self::ListRemove { key, indexes } => array!(LIST_REMOVE, Bytes::new(key), indexes),
            Self::ListTrim { key, start, length } => array!(LIST_TRIM, Bytes::new(key), start, length),
            Self::SetAdd { key, members } => array!(SET_ADD, Bytes::new(key), Bins(members)),
            Self::SetRemove { key, members } => array!(SET_REMOVE, Bytes::new(key), Bins(members)),
            Self::SortedSetAdd { key, entries } => array!(SORTED_SET_ADD, Bytes::new(key), Scores(entries)),
            Self::SortedSetRemove { key, members } => {
                array!(SORTED_SET_REMOVE, Bytes::new(key), Bins(members))
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Mutation<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Mutation<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mutation: an array of an opcode and its fields")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { access: &mut fields, taken: 0 };
                let code: u8 = fields.next()?;
                Ok(match code {
                    opcode::SET_STRING => Mutation::SetString {
                        key: fields.bin()?,
                        value: fields.bin()?,
                        expiry: expiry_of(fields.next()?)?,
                    },
                    opcode::SET_INTEGER => Mutation::SetInteger { key: fields.bin()?, value: fields.next()? },
                    opcode::SPLICE_STRING => Mutation::SpliceString {
                        key: fields.bin()?,
                        offset: fields.next()?,
                        bytes: fields.bin()?,
                    },
                    opcode::DELETE => {
                        Mutation::Delete { key: fields.bin()?, reason: reason_of(fields.next()?)? }
                    }
                    opcode::EXPIRE_AT => Mutation::ExpireAt { key: fields.bin()?, at_ms: fields.next()? },
                    opcode::PERSIST => Mutation::Persist { key: fields.bin()? },
                    opcode::RENAME => Mutation::Rename { from: fields.bin()?, to: fields.bin()? },
                    opcode::COPY => Mutation::Copy { from: fields.bin()?, to: fields.bin()? },
                    opcode::RESTORE => Mutation::Restore {
                        key: fields.bin()?,
                        value: fields.bin()?,
                        expiry: expiry_of(fields.next()?)?,
                    },
                    opcode::FLUSH_SLOT => Mutation::FlushSlot,
                    opcode::HASH_SET => Mutation::HashSet { key: fields.bin()?, pairs: fields.pairs()? },
                    opcode::HASH_DELETE => {
                        Mutation::HashDelete { key: fields.bin()?, fields: fields.bins()? }
                    }
                    opcode::LIST_PUSH => Mutation::ListPush {
                        key: fields.bin()?,
                        end: end_of(fields.next()?)?,
                        values: fields.bins()?,
                    },
                    opcode::LIST_POP => Mutation::ListPop {
                        key: fields.bin()?,
                        end: end_of(fields.next()?)?,
                        count: fields.next()?,
                    },
                    opcode::LIST_SET => {
                        Mutation::ListSet { key: fields.bin()?, index: fields.next()?, value: fields.bin()? }
                    }
                    opcode::LIST_INSERT => Mutation::ListInsert {
                        key: fields.bin()?,
                        index: fields.next()?,
                        value: fields.bin()?,
                    },
                    opcode::LIST_REMOVE => {
                        Mutation::ListRemove { key: fields.bin()?, indexes: fields.next()? }
                    }
                    opcode::LIST_TRIM => Mutation::ListTrim {
                        key: fields.bin()?,
                        start: fields.next()?,
                        length: fields.next()?,
                    },
                    opcode::SET_ADD => Mutation::SetAdd { key: fields.bin()?, members: fields.bins()? },
                    opcode::SET_REMOVE => Mutation::SetRemove { key: fields.bin()?, members: fields.bins()? },
                    opcode::SORTED_SET_ADD => {
                        Mutation::SortedSetAdd { key: fields.bin()?, entries: fields.scores()? }
                    }
                    opcode::SORTED_SET_REMOVE => {
                        Mutation::SortedSetRemove { key: fields.bin()?, members: fields.bins()? }
                    }
                    other => return Err(de::Error::custom(format_args!("unknown mutation opcode {other}"))),
                })
            }
        }
        deserializer.deserialize_seq(FieldsVisitor)
    }
}

/// The fields of one mutation as they come; a missing one is an error that says which.
struct Fields<'f, A> {
    access: &'f mut A,
    taken: usize,
}

impl<'de, A: SeqAccess<'de>> Fields<'_, A> {
    fn next<T: Deserialize<'de>>(&mut self) -> Result<T, A::Error> {
        let field = self.access.next_element()?;
        self.taken += 1;
        field.ok_or_else(|| de::Error::invalid_length(self.taken - 1, &"one more field of the mutation"))
    }

    fn bin(&mut self) -> Result<Bin<'de>, A::Error> {
        self.next::<&'de Bytes>().map(|bytes| Cow::Borrowed(&**bytes))
    }

    fn bins(&mut self) -> Result<Vec<Bin<'de>>, A::Error> {
        let bins: Vec<&'de Bytes> = self.next()?;
        Ok(bins.into_iter().map(|bytes| Cow::Borrowed(&**bytes)).collect())
    }

    fn pairs(&mut self) -> Result<Vec<(Bin<'de>, Bin<'de>)>, A::Error> {
        let pairs: Vec<(&'de Bytes, &'de Bytes)> = self.next()?;
        Ok(pairs.into_iter().map(|(a, b)| (Cow::Borrowed(&**a), Cow::Borrowed(&**b))).collect())
    }

    fn scores(&mut self) -> Result<Vec<(f64, Bin<'de>)>, A::Error> {
        let entries: Vec<(f64, &'de Bytes)> = self.next()?;
        Ok(entries.into_iter().map(|(score, member)| (score, Cow::Borrowed(&**member))).collect())
    }
}

struct Bins<'b, 'a>(&'b [Bin<'a>]);
struct Pairs<'b, 'a>(&'b [(Bin<'a>, Bin<'a>)]);
struct Scores<'b, 'a>(&'b [(f64, Bin<'a>)]);

impl Serialize for Bins<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|bin| Bytes::new(bin)))
    }
}

impl Serialize for Pairs<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(a, b)| (Bytes::new(a), Bytes::new(b))))
    }
}

impl Serialize for Scores<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(score, member)| (score, Bytes::new(member))))
    }
}

fn expiry_code(expiry: Expiry) -> i64 {
    match expiry {
        Expiry::Clear => 0,
        Expiry::Keep => -1,
        Expiry::At(at_ms) => i64::try_from(at_ms).unwrap_or(i64::MAX).max(1),
    }
}

fn expiry_of<E: de::Error>(code: i64) -> Result<Expiry, E> {
    match code {
        0 => Ok(Expiry::Clear),
        -1 => Ok(Expiry::Keep),
        at_ms => u64::try_from(at_ms).map(Expiry::At).map_err(|_| E::custom("negative expiry")),
    }
}

fn end_code(end: ListEnd) -> u8 {
    match end {
        ListEnd::Left => 0,
        ListEnd::Right => 1,
    }
}

fn end_of<E: de::Error>(code: u8) -> Result<ListEnd, E> {
    match code {
        0 => Ok(ListEnd::Left),
        1 => Ok(ListEnd::Right),
        other => Err(E::custom(format_args!("list end {other}"))),
    }
}

fn reason_code(reason: DeleteReason) -> u8 {
    match reason {
        DeleteReason::Command => 0,
        DeleteReason::Expired => 1,
        DeleteReason::Evicted => 2,
    }
}

fn reason_of<E: de::Error>(code: u8) -> Result<DeleteReason, E> {
    match code {
        0 => Ok(DeleteReason::Command),
        1 => Ok(DeleteReason::Expired),
        2 => Ok(DeleteReason::Evicted),
        other => Err(E::custom(format_args!("delete reason {other}"))),
    }
}

/// A body that is not an array of known mutations, though its record's CRC was right: written by a newer version, or a
/// bug.
#[derive(Debug, thiserror::Error)]
#[error("mutation {index} of the record's body is not one this version knows: {reason}")]
pub struct DecodeError {
    /// How many mutations of the body came before.
    pub index: usize,
    /// What the decoder said.
    pub reason: String,
}

/// Collects the mutations of one record into its body. Reused from record to record, so that the hot path allocates
/// nothing.
#[derive(Default, Debug)]
pub struct BodyBuilder {
    /// `array(count)` in its one-byte form stands at the front; [`Self::finish`] widens it when it must.
    bytes: Vec<u8>,
    count: u32,
}

const FIX_ARRAY: u8 = 0x90;
const FIX_ARRAY_MAX: u32 = 15;
const ARRAY_32: u8 = 0xdd;

impl BodyBuilder {
    /// Adds a mutation.
    pub fn push(&mut self, mutation: &Mutation<'_>) {
        if self.count == 0 {
            self.bytes.clear();
            self.bytes.push(FIX_ARRAY);
        }
        self.count += 1;
        rmp_serde::encode::write(&mut self.bytes, mutation).expect("encoding into memory cannot fail");
    }

    /// Whether nothing was added since the last [`Self::clear`].
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished body; empty when nothing was added. The builder must be cleared before the next push.
    pub fn finish(&mut self) -> &[u8] {
        match self.count {
            0 => return &[],
            1..=FIX_ARRAY_MAX => self.bytes[0] = FIX_ARRAY | self.count as u8,
            _ => {
                let mut header = [ARRAY_32, 0, 0, 0, 0];
                header[1..].copy_from_slice(&self.count.to_be_bytes());
                self.bytes.splice(..1, header);
            }
        }
        &self.bytes
    }

    /// Forgets everything but keeps a bounded amount of memory for the next record.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 1 << 16;
        self.count = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }
}

/// Hands the mutations of a record's body to `each`, in order; returns how many there were.
///
/// # Errors
/// When the body is not an array of known mutations; what came before the unknown one has been handed over.
pub fn decode_body<'a>(body: &'a [u8], mut each: impl FnMut(Mutation<'a>)) -> Result<usize, DecodeError> {
    struct Each<'e, F> {
        each: &'e mut F,
        index: &'e mut usize,
    }
    impl<'de, F: FnMut(Mutation<'de>)> de::DeserializeSeed<'de> for Each<'_, F> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    impl<'de, F: FnMut(Mutation<'de>)> Visitor<'de> for Each<'_, F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array of mutations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut mutations: A) -> Result<(), A::Error> {
            while let Some(mutation) = mutations.next_element()? {
                (self.each)(mutation);
                *self.index += 1;
            }
            Ok(())
        }
    }
    let mut index = 0;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    let seed = Each { each: &mut each, index: &mut index };
    match de::DeserializeSeed::deserialize(seed, &mut deserializer) {
        Ok(()) => Ok(index),
        Err(error) => Err(DecodeError { index, reason: error.to_string() }),
    }
}

impl Mutation<'_> {
    /// The key this is about; for `Rename` and `Copy` the source, for `FlushSlot` none.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::SetString { key, .. }
            | Self::SetInteger { key, .. }
            | Self::SpliceString { key, .. }
            | Self::Delete { key, .. }
            | Self::ExpireAt { key, .. }
            | Self::Persist { key, .. }
            | Self::Restore { key, .. }
            | Self::HashSet { key, .. }
            | Self::HashDelete { key, .. }
            | Self::ListPush { key, .. }
            | Self::ListPop { key, .. }
            | Self::ListSet { key, .. }
            | Self::ListInsert { key, .. }
            | Self::ListRemove { key, .. }
            | Self::ListTrim { key, .. }
            | Self::SetAdd { key, .. }
            | Self::SetRemove { key, .. }
            | Self::SortedSetAdd { key, .. }
            | Self::SortedSetRemove { key, .. } => Some(key),
            Self::Rename { from, .. } | Self::Copy { from, .. } => Some(from),
            Self::FlushSlot => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(text: &str) -> Bin<'_> {
        Cow::Borrowed(text.as_bytes())
    }

    fn one_of_each() -> Vec<Mutation<'static>> {
        let (key, value) = (bin("k"), bin("v\0\u{7f}"));
        vec![
            Mutation::SetString {
                key: key.clone(),
                value: value.clone(),
                expiry: Expiry::At(1_700_000_000_000),
            },
            Mutation::SetInteger { key: key.clone(), value: -42 },
            Mutation::SpliceString { key: key.clone(), offset: 7, bytes: value.clone() },
            Mutation::Delete { key: key.clone(), reason: DeleteReason::Expired },
            Mutation::ExpireAt { key: key.clone(), at_ms: 1 },
            Mutation::Persist { key: key.clone() },
            Mutation::Rename { from: key.clone(), to: value.clone() },
            Mutation::Copy { from: key.clone(), to: value.clone() },
            Mutation::Restore { key: key.clone(), value: value.clone(), expiry: Expiry::Keep },
            Mutation::FlushSlot,
            Mutation::HashSet { key: key.clone(), pairs: vec![(key.clone(), value.clone())] },
            Mutation::HashDelete { key: key.clone(), fields: vec![value.clone(), bin("")] },
            Mutation::ListPush { key: key.clone(), end: ListEnd::Right, values: vec![value.clone()] },
            Mutation::ListPop { key: key.clone(), end: ListEnd::Left, count: 3 },
            Mutation::ListSet { key: key.clone(), index: 300, value: value.clone() },
            Mutation::ListInsert { key: key.clone(), index: 0, value: value.clone() },
            Mutation::ListRemove { key: key.clone(), indexes: vec![0, 9, 70_000] },
            Mutation::ListTrim { key: key.clone(), start: 1, length: 2 },
            Mutation::SetAdd { key: key.clone(), members: vec![value.clone()] },
            Mutation::SetRemove { key: key.clone(), members: vec![] },
            Mutation::SortedSetAdd {
                key: key.clone(),
                entries: vec![(f64::NEG_INFINITY, value.clone()), (0.1, key.clone())],
            },
            Mutation::SortedSetRemove { key, members: vec![value] },
        ]
    }

    fn decoded(body: &[u8]) -> Result<Vec<Mutation<'_>>, DecodeError> {
        let mut mutations = Vec::new();
        decode_body(body, |mutation| mutations.push(mutation)).map(|_| mutations)
    }

    #[test]
    fn a_body_decodes_to_what_was_pushed() {
        let mutations = one_of_each();
        let mut builder = BodyBuilder::default();
        mutations.iter().for_each(|mutation| builder.push(mutation));
        assert!(mutations.len() > FIX_ARRAY_MAX as usize);
        assert_eq!(decoded(builder.finish()).unwrap(), mutations);
        builder.clear();
        builder.push(&mutations[3]);
        assert_eq!(decoded(builder.finish()).unwrap(), mutations[3..4]);
    }

    #[test]
    fn a_known_mutation_has_the_bytes_it_had_in_version_1() {
        let mut builder = BodyBuilder::default();
        builder.push(&Mutation::SetString { key: bin("k"), value: bin("v"), expiry: Expiry::Clear });
        assert_eq!(builder.finish(), [0x91, 0x94, 1, 0xc4, 1, b'k', 0xc4, 1, b'v', 0]);
    }

    #[test]
    fn damage_is_an_error_with_its_place_never_a_panic() {
        let mut builder = BodyBuilder::default();
        one_of_each().iter().for_each(|mutation| builder.push(mutation));
        let body = builder.finish();
        for cut in 0..body.len() {
            assert!(decoded(&body[..cut]).is_err(), "a body cut at {cut} is no body");
        }
        let error = decoded(&[0x92, 0x91, 10, 0x91, 0xcc, 200]).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(error.to_string().contains("unknown mutation opcode 200"), "{error}");
    }
}
