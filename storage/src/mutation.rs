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
use serde::{Deserialize, Deserializer};
use serde_bytes::Bytes;

pub use crate::few::Few;

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
    HashSet { key: Bin<'a>, pairs: Few<(Bin<'a>, Bin<'a>)> },
    /// These fields of a hash are gone.
    HashDelete { key: Bin<'a>, fields: Few<Bin<'a>> },
    /// The values were pushed, one after the other, at this end of a list.
    ListPush { key: Bin<'a>, end: ListEnd, values: Few<Bin<'a>> },
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
    SetAdd { key: Bin<'a>, members: Few<Bin<'a>> },
    /// These members are not in the set.
    SetRemove { key: Bin<'a>, members: Few<Bin<'a>> },
    /// These members of a sorted set have these scores.
    SortedSetAdd { key: Bin<'a>, entries: Few<(f64, Bin<'a>)> },
    /// These members are not in the sorted set.
    SortedSetRemove { key: Bin<'a>, members: Few<Bin<'a>> },
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

impl Mutation<'_> {
    /// Appends the mutation's bytes. Written out by hand, field by field: every write passes here, and a serializer's detours
    /// cost as much as all the rest of a record.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        macro_rules! array {
            ($opcode:ident $(, $kind:ident $field:expr)*) => {{
                out.array(1 $(+ { let _ = &$field; 1 })*);
                out.uint(opcode::$opcode.into());
                $(out.$kind($field);)*
            }};
        }
        match self {
            Self::SetString { key, value, expiry } => {
                array!(SET_STRING, bin key, bin value, int expiry_code(*expiry));
            }
            Self::SetInteger { key, value } => array!(SET_INTEGER, bin key, int *value),
            Self::SpliceString { key, offset, bytes } => {
                array!(SPLICE_STRING, bin key, uint *offset, bin bytes);
            }
            Self::Delete { key, reason } => array!(DELETE, bin key, uint reason_code(*reason)),
            Self::ExpireAt { key, at_ms } => array!(EXPIRE_AT, bin key, uint *at_ms),
            Self::Persist { key } => array!(PERSIST, bin key),
            Self::Rename { from, to } => array!(RENAME, bin from, bin to),
            Self::Copy { from, to } => array!(COPY, bin from, bin to),
            Self::Restore { key, value, expiry } => {
                array!(RESTORE, bin key, bin value, int expiry_code(*expiry));
            }
            Self::FlushSlot => array!(FLUSH_SLOT),
            Self::HashSet { key, pairs } => array!(HASH_SET, bin key, pairs pairs),
            Self::HashDelete { key, fields } => array!(HASH_DELETE, bin key, bins fields),
            Self::ListPush { key, end, values } => {
                array!(LIST_PUSH, bin key, uint end_code(*end), bins values);
            }
            Self::ListPop { key, end, count } => {
                array!(LIST_POP, bin key, uint end_code(*end), uint *count);
            }
            Self::ListSet { key, index, value } => array!(LIST_SET, bin key, uint *index, bin value),
            Self::ListInsert { key, index, value } => array!(LIST_INSERT, bin key, uint *index, bin value),
            Self::ListRemove { key, indexes } => array!(LIST_REMOVE, bin key, uints indexes),
            Self::ListTrim { key, start, length } => array!(LIST_TRIM, bin key, uint *start, uint *length),
            Self::SetAdd { key, members } => array!(SET_ADD, bin key, bins members),
            Self::SetRemove { key, members } => array!(SET_REMOVE, bin key, bins members),
            Self::SortedSetAdd { key, entries } => array!(SORTED_SET_ADD, bin key, scores entries),
            Self::SortedSetRemove { key, members } => array!(SORTED_SET_REMOVE, bin key, bins members),
        }
    }
}

/// MessagePack's forms (msgpack.org, "Specification"), each number and length in its shortest.
struct Encoder<'o>(&'o mut Vec<u8>);

impl Encoder<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A marker, then the number in as many bytes as the marker stands for.
    fn number<const BYTES: usize>(&mut self, marker: u8, number: [u8; BYTES]) {
        self.0.reserve(1 + BYTES);
        self.0.push(marker);
        self.put(&number);
    }

    fn length(length: usize) -> u32 {
        u32::try_from(length).expect("a record's length has 32 bits")
    }

    fn array(&mut self, length: usize) {
        match Self::length(length) {
            length @ ..=FIX_ARRAY_MAX => self.0.push(FIX_ARRAY | length as u8),
            length => match u16::try_from(length) {
                Ok(length) => self.number(0xdc, length.to_be_bytes()),
                Err(_) => self.number(ARRAY_32, length.to_be_bytes()),
            },
        }
    }

    fn uint(&mut self, number: u64) {
        match number {
            0..=0x7f => self.0.push(number as u8),
            0x80..=0xff => self.number(0xcc, [number as u8]),
            0x100..=0xffff => self.number(0xcd, (number as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.number(0xce, (number as u32).to_be_bytes()),
            _ => self.number(0xcf, number.to_be_bytes()),
        }
    }

    fn int(&mut self, number: i64) {
        match number {
            0.. => self.uint(number as u64),
            -0x20..=-1 => self.0.push(number as u8),
            -0x80..=-0x21 => self.number(0xd0, [number as u8]),
            -0x8000..=-0x81 => self.number(0xd1, (number as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.number(0xd2, (number as i32).to_be_bytes()),
            _ => self.number(0xd3, number.to_be_bytes()),
        }
    }

    fn bin(&mut self, bytes: &[u8]) {
        self.0.reserve(5 + bytes.len());
        let length = Self::length(bytes.len());
        match length {
            0..=0xff => self.number(0xc4, [length as u8]),
            0x100..=0xffff => self.number(0xc5, (length as u16).to_be_bytes()),
            _ => self.number(0xc6, length.to_be_bytes()),
        }
        self.put(bytes);
    }

    fn bins(&mut self, bins: &[Bin<'_>]) {
        self.array(bins.len());
        bins.iter().for_each(|bin| self.bin(bin));
    }

    fn pairs(&mut self, pairs: &[(Bin<'_>, Bin<'_>)]) {
        self.array(pairs.len());
        for (first, second) in pairs {
            self.array(2);
            self.bin(first);
            self.bin(second);
        }
    }

    fn scores(&mut self, entries: &[(f64, Bin<'_>)]) {
        self.array(entries.len());
        for (score, member) in entries {
            self.array(2);
            self.number(0xcb, score.to_be_bytes());
            self.bin(member);
        }
    }

    fn uints(&mut self, numbers: &[u64]) {
        self.array(numbers.len());
        numbers.iter().for_each(|&number| self.uint(number));
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

    fn bins(&mut self) -> Result<Few<Bin<'de>>, A::Error> {
        let bins: Vec<&'de Bytes> = self.next()?;
        Ok(bins.into_iter().map(|bytes| Cow::Borrowed(&**bytes)).collect())
    }

    fn pairs(&mut self) -> Result<Few<(Bin<'de>, Bin<'de>)>, A::Error> {
        let pairs: Vec<(&'de Bytes, &'de Bytes)> = self.next()?;
        Ok(pairs.into_iter().map(|(a, b)| (Cow::Borrowed(&**a), Cow::Borrowed(&**b))).collect())
    }

    fn scores(&mut self) -> Result<Few<(f64, Bin<'de>)>, A::Error> {
        let entries: Vec<(f64, &'de Bytes)> = self.next()?;
        Ok(entries.into_iter().map(|(score, member)| (score, Cow::Borrowed(&**member))).collect())
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

fn end_code(end: ListEnd) -> u64 {
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

fn reason_code(reason: DeleteReason) -> u64 {
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
    /// The room in front, then `array(count)` in its one-byte form, which [`Self::finish`] widens when it must.
    bytes: Vec<u8>,
    room: usize,
    count: u32,
}

const FIX_ARRAY: u8 = 0x90;
const FIX_ARRAY_MAX: u32 = 15;
const ARRAY_32: u8 = 0xdd;

impl BodyBuilder {
    /// Bodies that stand behind `room` bytes for whoever finishes the record; see [`Self::finish_behind`].
    pub fn behind(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Adds a mutation.
    pub fn push(&mut self, mutation: &Mutation<'_>) {
        if self.count == 0 {
            self.bytes.clear();
            self.bytes.resize(self.room, 0);
            self.bytes.push(FIX_ARRAY);
        }
        self.count += 1;
        mutation.encode(&mut self.bytes);
    }

    /// Whether nothing was added since the last [`Self::clear`].
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished body; empty when nothing was added. The builder must be cleared before the next push.
    pub fn finish(&mut self) -> &[u8] {
        let room = self.room;
        self.finish_behind().get(room..).unwrap_or_default()
    }

    /// The room in front and the finished body; nothing at all when nothing was added. As [`Self::finish`].
    pub fn finish_behind(&mut self) -> &mut [u8] {
        match self.count {
            0 => return &mut [],
            1..=FIX_ARRAY_MAX => self.bytes[self.room] = FIX_ARRAY | self.count as u8,
            _ => {
                let mut header = [ARRAY_32, 0, 0, 0, 0];
                header[1..].copy_from_slice(&self.count.to_be_bytes());
                self.bytes.splice(self.room..=self.room, header);
            }
        }
        &mut self.bytes
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

/// The key of a body's first mutation, where it is short as nearly all are; found without decoding the rest.
pub(crate) fn peek_key(body: &[u8]) -> Option<&[u8]> {
    const BIN_8: u8 = 0xc4;
    match *body {
        [FIX_ARRAY..=0x9f, FIX_ARRAY..=0x9f, 0..=0x7f, BIN_8, length, ref rest @ ..] => {
            rest.get(..usize::from(length))
        }
        _ => None,
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
            Mutation::HashSet { key: key.clone(), pairs: Few::of(vec![(key.clone(), value.clone())]) },
            Mutation::HashDelete { key: key.clone(), fields: Few::of(vec![value.clone(), bin("")]) },
            Mutation::ListPush {
                key: key.clone(),
                end: ListEnd::Right,
                values: Few::of(vec![value.clone()]),
            },
            Mutation::ListPop { key: key.clone(), end: ListEnd::Left, count: 3 },
            Mutation::ListSet { key: key.clone(), index: 300, value: value.clone() },
            Mutation::ListInsert { key: key.clone(), index: 0, value: value.clone() },
            Mutation::ListRemove { key: key.clone(), indexes: vec![0, 9, 70_000] },
            Mutation::ListTrim { key: key.clone(), start: 1, length: 2 },
            Mutation::SetAdd { key: key.clone(), members: Few::of(vec![value.clone()]) },
            Mutation::SetRemove { key: key.clone(), members: Few::of(vec![]) },
            Mutation::SortedSetAdd {
                key: key.clone(),
                entries: Few::of(vec![(f64::NEG_INFINITY, value.clone()), (0.1, key.clone())]),
            },
            Mutation::SortedSetRemove { key, members: Few::of(vec![value]) },
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
    fn the_key_is_where_it_is_looked_for() {
        for mutation in one_of_each() {
            let mut builder = BodyBuilder::default();
            builder.push(&mutation);
            assert_eq!(peek_key(builder.finish()), mutation.key(), "{mutation:?}");
        }
        let mut builder = BodyBuilder::default();
        builder.push(&Mutation::Persist { key: vec![1; 300].into() });
        let body = builder.finish();
        for length in 0..body.len() {
            assert_eq!(peek_key(&body[..length]), None, "a long one, or half of it");
        }
    }

    #[test]
    fn a_known_mutation_has_the_bytes_it_had_in_version_1() {
        let mut builder = BodyBuilder::default();
        builder.push(&Mutation::SetString { key: bin("k"), value: bin("v"), expiry: Expiry::Clear });
        assert_eq!(builder.finish(), [0x91, 0x94, 1, 0xc4, 1, b'k', 0xc4, 1, b'v', 0]);
    }

    /// What a serializer makes of a mutation of these fields.
    fn serialized(fields: impl serde::Serialize) -> Vec<u8> {
        [&[FIX_ARRAY | 1], &*rmp_serde::to_vec(&fields).unwrap()].concat()
    }

    #[test]
    fn numbers_and_lengths_of_every_form_are_written_as_a_serializer_writes_them() {
        let mut builder = BodyBuilder::default();
        let mut check = |mutation: Mutation<'_>, expected: Vec<u8>| {
            builder.clear();
            builder.push(&mutation);
            let body = builder.finish();
            assert_eq!(body, expected);
            assert_eq!(decoded(body).unwrap(), [mutation]);
        };
        let key = Bytes::new(b"k");
        for bits in 0..64 {
            for near in [-1i64, 0, 1] {
                let number = (1i64 << bits).wrapping_add(near);
                for value in [number, number.wrapping_neg()] {
                    check(Mutation::SetInteger { key: bin("k"), value }, serialized((2, key, value)));
                }
                let at_ms = number as u64;
                check(Mutation::ExpireAt { key: bin("k"), at_ms }, serialized((5, key, at_ms)));
            }
        }
        for length in [0, 1, 15, 16, 255, 256, 65_535, 65_536, 70_000] {
            let value = vec![7; length];
            let expected = serialized((3, key, 9, Bytes::new(&value)));
            check(Mutation::SpliceString { key: bin("k"), offset: 9, bytes: value.into() }, expected);
            let indexes: Vec<u64> = (0..length as u64).collect();
            let expected = serialized((17, key, &indexes));
            check(Mutation::ListRemove { key: bin("k"), indexes }, expected);
            let expected = serialized((19, key, vec![key; length]));
            check(Mutation::SetAdd { key: bin("k"), members: Few::of(vec![bin("k"); length]) }, expected);
            let expected = serialized((21, key, vec![(0.1, key); length]));
            check(
                Mutation::SortedSetAdd { key: bin("k"), entries: Few::of(vec![(0.1, bin("k")); length]) },
                expected,
            );
        }
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
