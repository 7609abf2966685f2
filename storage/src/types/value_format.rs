//! FORMAT: one value as bytes, for `Mutation::Restore`, slot images and copies. Independent of the form in memory. All numbers
//! are little endian. Version: [`VALUE_FORMAT_VERSION`], first byte of every value.
//!
//! ```text
//! value  = version u8 | type u8 | contents
//! string = 0: bytes up to the end
//! hash   = 1: count u64 | (field, value)…        bytes = length u32 | bytes
//! list   = 2: count u64 | element…               from the head
//! set    = 3: count u64 | member…                in no order
//! zset   = 4: count u64 | (score f64, member)…   ascending
//! ```

use super::{Hash, List, Set, SortedSet, Value, ValueRef};
use crate::mutation::ListEnd;

/// Version of the format; a higher one is refused.
pub const VALUE_FORMAT_VERSION: u8 = 1;

const STRING: u8 = 0;
const HASH: u8 = 1;
const LIST: u8 = 2;
const SET: u8 = 3;
const SORTED_SET: u8 = 4;

/// Bytes that are no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ValueFault {
    /// The bytes end before the value does, or go on after it.
    #[error("the value's bytes end or go on where they must not, at byte {0}")]
    Length(usize),
    /// A version or type that this version does not know.
    #[error("value format {version} with type {kind} is not known to this version")]
    Unknown {
        /// Version as read.
        version: u8,
        /// Type as read.
        kind: u8,
    },
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn begin(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.extend_from_slice(&[VALUE_FORMAT_VERSION, kind]);
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

/// Appends a value's bytes.
pub fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::String(string) => {
            out.extend_from_slice(&[VALUE_FORMAT_VERSION, STRING]);
            out.extend_from_slice(string.bytes(&mut itoa::Buffer::new()));
        }
        ValueRef::Hash(hash) => {
            begin(out, HASH, hash.len());
            for (field, value) in hash.iter() {
                put(out, field);
                put(out, value);
            }
        }
        ValueRef::List(list) => {
            begin(out, LIST, list.len());
            list.iter().for_each(|element| put(out, element));
        }
        ValueRef::Set(set) => {
            begin(out, SET, set.len());
            set.iter().for_each(|member| put(out, &member));
        }
        ValueRef::SortedSet(set) => {
            begin(out, SORTED_SET, set.len());
            for (member, score) in set.iter_from(0) {
                out.extend_from_slice(&score.to_le_bytes());
                put(out, member);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ValueFault> {
        let end = self.at.checked_add(length).ok_or(ValueFault::Length(self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or(ValueFault::Length(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueFault> {
        let at = self.at;
        self.take(N)?.first_chunk().copied().ok_or(ValueFault::Length(at))
    }

    fn item(&mut self) -> Result<&'a [u8], ValueFault> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }
}

/// Reads a value.
///
/// # Errors
/// When the bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueFault> {
    let mut reader = Reader { bytes, at: 0 };
    let [version, kind] = reader.array()?;
    if version != VALUE_FORMAT_VERSION || kind > SORTED_SET {
        return Err(ValueFault::Unknown { version, kind });
    }
    if kind == STRING {
        return Ok(Value::string(&bytes[reader.at..]));
    }
    let count = u64::from_le_bytes(reader.array()?);
    let value = match kind {
        HASH => {
            let mut hash = Hash::default();
            for _ in 0..count {
                let (field, value) = (reader.item()?, reader.item()?);
                hash.set(field, value);
            }
            Value::Hash(Box::new(hash))
        }
        LIST => {
            let mut list = List::default();
            for _ in 0..count {
                list.push(ListEnd::Right, reader.item()?);
            }
            Value::List(Box::new(list))
        }
        SET => {
            let mut set = Set::default();
            for _ in 0..count {
                set.add(reader.item()?);
            }
            Value::Set(Box::new(set))
        }
        _ => {
            let mut set = SortedSet::default();
            for _ in 0..count {
                let score = f64::from_le_bytes(reader.array()?);
                set.add(reader.item()?, score);
            }
            Value::SortedSet(Box::new(set))
        }
    };
    if reader.at == bytes.len() { Ok(value) } else { Err(ValueFault::Length(reader.at)) }
}

/// The value's bytes in an order that depends on contents alone: equal values, equal bytes.
pub fn canonical(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Hash(hash) => {
            let mut pairs: Vec<_> = hash.iter().collect();
            pairs.sort_unstable();
            begin(out, HASH, pairs.len());
            for (field, value) in pairs {
                put(out, field);
                put(out, value);
            }
        }
        ValueRef::Set(set) => {
            let mut members: Vec<_> = set.iter().collect();
            members.sort_unstable();
            begin(out, SET, members.len());
            members.iter().for_each(|member| put(out, member));
        }
        ordered => encode(ordered, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value.as_ref(), &mut bytes);
        bytes
    }

    fn samples() -> Vec<Value> {
        let (mut hash, mut list, mut set, mut sorted) =
            (Hash::default(), List::default(), Set::default(), SortedSet::default());
        for number in 0..300 {
            let text = format!("item {number}");
            hash.set(text.as_bytes(), b"value");
            list.push(ListEnd::Left, text.as_bytes());
            set.add(text.as_bytes());
            sorted.add(text.as_bytes(), f64::from(number) / 3.0);
        }
        vec![
            Value::string(b"text"),
            Value::string(b"-12"),
            Value::string(b""),
            Value::Hash(Box::new(hash)),
            Value::List(Box::new(list)),
            Value::Set(Box::new(set)),
            Value::SortedSet(Box::new(sorted)),
        ]
    }

    #[test]
    fn a_value_reads_as_it_was_written() {
        for value in samples() {
            let read = decode(&bytes_of(&value)).unwrap();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            canonical(value.as_ref(), &mut a);
            canonical(read.as_ref(), &mut b);
            assert_eq!(a, b);
            assert_eq!(value.as_ref().encoding(), read.as_ref().encoding());
        }
    }

    #[test]
    fn a_small_list_has_the_bytes_it_had_in_version_1() {
        let mut list = List::default();
        list.push(ListEnd::Right, b"a");
        let bytes = bytes_of(&Value::List(Box::new(list)));
        assert_eq!(bytes, [1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'a']);
    }

    #[test]
    fn bytes_that_end_early_or_late_are_no_value() {
        for value in samples().into_iter().skip(3) {
            let bytes = bytes_of(&value);
            for cut in (0..bytes.len()).step_by(13) {
                assert!(decode(&bytes[..cut]).is_err());
            }
            assert!(decode(&[&bytes[..], b"x"].concat()).is_err());
        }
        assert_eq!(decode(&[2, 0]).err(), Some(ValueFault::Unknown { version: 2, kind: 0 }));
    }
}
