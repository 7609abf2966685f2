//! What one key holds.

use super::{Hash, List, Set, SortedSet};
use crate::number::parse_i64;

/// A string up to this length is `embstr` to OBJECT ENCODING, as in Redis.
const EMBSTR_MAX: usize = 44;

/// A value that no key holds yet.
pub enum Value {
    /// A string that prints as this integer.
    Int(i64),
    /// Any other string.
    Bytes(Vec<u8>),
    /// A hash.
    Hash(Hash),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    SortedSet(SortedSet),
}

/// A string, as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringRef<'a> {
    /// It prints as this integer.
    Int(i64),
    /// It is these bytes.
    Bytes(&'a [u8]),
}

impl<'a> StringRef<'a> {
    /// The form in which these bytes are kept.
    pub fn of(bytes: &'a [u8]) -> Self {
        match parse_i64(bytes) {
            Some(number) => Self::Int(number),
            None => Self::Bytes(bytes),
        }
    }

    /// The string's bytes, put into `buffer` when they are not there yet.
    pub fn bytes<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Int(number) => buffer.format(number).as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The integer that the string prints as.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Bytes(bytes) => parse_i64(bytes),
        }
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether it is the empty string.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A value, to look at.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    /// A string.
    String(StringRef<'a>),
    /// A hash.
    Hash(&'a Hash),
    /// A list.
    List(&'a List),
    /// A set.
    Set(&'a Set),
    /// A sorted set.
    SortedSet(&'a SortedSet),
}

impl Value {
    /// A string value.
    pub fn string(bytes: &[u8]) -> Self {
        match StringRef::of(bytes) {
            StringRef::Int(number) => Self::Int(number),
            StringRef::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }

    /// The value, to look at.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Int(number) => ValueRef::String(StringRef::Int(*number)),
            Self::Bytes(bytes) => ValueRef::String(StringRef::Bytes(bytes)),
            Self::Hash(hash) => ValueRef::Hash(hash),
            Self::List(list) => ValueRef::List(list),
            Self::Set(set) => ValueRef::Set(set),
            Self::SortedSet(set) => ValueRef::SortedSet(set),
        }
    }
}

impl ValueRef<'_> {
    /// TYPE
    pub fn type_name(self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::SortedSet(_) => "zset",
        }
    }

    /// OBJECT ENCODING
    pub fn encoding(self) -> &'static str {
        match self {
            Self::String(StringRef::Int(_)) => "int",
            Self::String(StringRef::Bytes(bytes)) if bytes.len() <= EMBSTR_MAX => "embstr",
            Self::String(_) => "raw",
            Self::Hash(hash) => hash.encoding(),
            Self::List(list) => list.encoding(),
            Self::Set(set) => set.encoding(),
            Self::SortedSet(set) => set.encoding(),
        }
    }
}
