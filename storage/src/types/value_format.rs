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
//!
//! A collection is never empty, names nothing twice, and no score is NaN. Large values need not be in memory as bytes:
//! [`encode_chunks`] hands them out piece by piece, [`Decoder`] takes them so, cut anywhere.

use super::entry::STRING_MAX;
use super::sorted_set::Added;
use super::{Hash, List, Set, SortedSet, Value, ValueRef};
use crate::mutation::ListEnd;

/// Version of the format; a higher one is refused.
pub const VALUE_FORMAT_VERSION: u8 = 1;

const STRING: u8 = 0;
const HASH: u8 = 1;
const LIST: u8 = 2;
const SET: u8 = 3;
const SORTED_SET: u8 = 4;
const HEADER_SIZE: usize = 2;
const COUNT_SIZE: usize = 8;
const LENGTH_SIZE: usize = 4;
const SCORE_SIZE: usize = 8;

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
    /// A collection of nothing, a name that comes twice, a score that is no number, a string that is too long.
    #[error("the value's bytes up to byte {0} say what no value can be")]
    Contents(usize),
}

/// Hands bytes over in pieces.
struct Writer<'e> {
    bytes: Vec<u8>,
    chunk: usize,
    emit: &'e mut dyn FnMut(&[u8]),
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > self.chunk && !self.bytes.is_empty() {
            (self.emit)(&self.bytes);
            self.bytes.clear();
        }
        if bytes.len() > self.chunk {
            bytes.chunks(self.chunk).for_each(&mut self.emit);
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn begin(&mut self, kind: u8, count: usize) {
        self.put(&[VALUE_FORMAT_VERSION, kind]);
        self.put(&(count as u64).to_le_bytes());
    }

    fn item(&mut self, item: &[u8]) {
        self.put(&(item.len() as u32).to_le_bytes());
        self.put(item);
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::String(string) => {
                self.put(&[VALUE_FORMAT_VERSION, STRING]);
                self.put(string.bytes(&mut itoa::Buffer::new()));
            }
            ValueRef::Hash(hash) => {
                self.begin(HASH, hash.len());
                for (field, value) in hash.iter() {
                    self.item(field);
                    self.item(value);
                }
            }
            ValueRef::List(list) => {
                self.begin(LIST, list.len());
                list.iter().for_each(|element| self.item(element));
            }
            ValueRef::Set(set) => {
                self.begin(SET, set.len());
                set.iter().for_each(|member| self.item(&member));
            }
            ValueRef::SortedSet(set) => {
                self.begin(SORTED_SET, set.len());
                for (member, score) in set.iter_from(0) {
                    self.put(&score.to_le_bytes());
                    self.item(member);
                }
            }
        }
    }
}

/// Appends a value's bytes.
pub fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let bytes = std::mem::take(out);
    let mut emit = |_: &[u8]| unreachable!("a chunk without end is never full");
    let mut writer = Writer { bytes, chunk: usize::MAX, emit: &mut emit };
    writer.value(value);
    *out = writer.bytes;
}

/// Hands a value's bytes to `emit` in pieces of at most `chunk` bytes, which must not be 0.
pub fn encode_chunks(value: ValueRef<'_>, chunk: usize, mut emit: impl FnMut(&[u8])) {
    assert!(chunk > 0);
    let mut writer = Writer { bytes: Vec::new(), chunk, emit: &mut emit };
    writer.value(value);
    let rest = std::mem::take(&mut writer.bytes);
    if !rest.is_empty() {
        emit(&rest);
    }
}

/// Builds values that each hold some items of a large one: [`extend`] puts them together again.
pub(crate) struct Part {
    kind: u8,
    count: u64,
    items: Vec<u8>,
}

impl Part {
    /// Parts of a value like this one.
    pub(crate) fn like(value: ValueRef<'_>) -> Self {
        let kind = match value {
            ValueRef::String(_) => STRING,
            ValueRef::Hash(_) => HASH,
            ValueRef::List(_) => LIST,
            ValueRef::Set(_) => SET,
            ValueRef::SortedSet(_) => SORTED_SET,
        };
        Self { kind, count: 0, items: Vec::new() }
    }

    /// Adds a field with its value, or a list's element or a set's member.
    pub(crate) fn item(&mut self, pieces: &[&[u8]]) {
        self.count += 1;
        for piece in pieces {
            self.items.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            self.items.extend_from_slice(piece);
        }
    }

    /// Adds a member with its score.
    pub(crate) fn scored(&mut self, member: &[u8], score: f64) {
        self.items.extend_from_slice(&score.to_le_bytes());
        self.item(&[member]);
    }

    /// Adds bytes of a string.
    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.count += 1;
        self.items.extend_from_slice(bytes);
    }

    /// Bytes added since the last [`Self::take`].
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The value of what was added since; `None`: nothing was.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEADER_SIZE + COUNT_SIZE + self.items.len());
        bytes.extend_from_slice(&[VALUE_FORMAT_VERSION, self.kind]);
        if self.kind != STRING {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.append(&mut self.items);
        Some(bytes)
    }
}

/// Adds the items of a further part to a value; for a string, its bytes.
///
/// # Errors
/// When the bytes are no value, of another type, or name what is there already.
pub(crate) fn extend(value: Value, part: &[u8]) -> Result<Value, ValueFault> {
    let mut reader = Reader { bytes: part, at: 0 };
    let begun = begin(&mut reader)?;
    let value = match value {
        Value::Int(number) => Value::Bytes(itoa::Buffer::new().format(number).as_bytes().to_vec()),
        value => value,
    };
    let value = match (value, begun) {
        (Value::Bytes(mut text), Some((Value::Bytes(_), _))) => {
            let more = &part[reader.at..];
            if text.len() + more.len() > STRING_MAX {
                return Err(ValueFault::Contents(part.len()));
            }
            text.extend_from_slice(more);
            return Ok(Value::Bytes(text));
        }
        (value @ Value::Hash(_), Some((Value::Hash(_), count)))
        | (value @ Value::List(_), Some((Value::List(_), count)))
        | (value @ Value::Set(_), Some((Value::Set(_), count)))
        | (value @ Value::SortedSet(_), Some((Value::SortedSet(_), count))) => (value, count),
        _ => return Err(ValueFault::Contents(HEADER_SIZE)),
    };
    let mut decoder = Decoder { begun: Some(value), ..Decoder::default() };
    decoder.push(&part[reader.at..])?;
    decoder.finish()
}

/// The string that these bytes are the value of.
pub(crate) fn as_string(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [VALUE_FORMAT_VERSION, STRING, text @ ..] if text.len() <= STRING_MAX => Some(text),
        _ => None,
    }
}

/// How many bytes a value's bytes are.
pub fn encoded_len(value: ValueRef<'_>) -> u64 {
    let items = match value {
        ValueRef::String(string) => return (HEADER_SIZE + string.len()) as u64,
        ValueRef::Hash(hash) => {
            hash.iter().map(|(field, value)| 2 * LENGTH_SIZE + field.len() + value.len()).sum::<usize>()
        }
        ValueRef::List(list) => list.iter().map(|element| LENGTH_SIZE + element.len()).sum(),
        ValueRef::Set(set) => set.iter().map(|member| LENGTH_SIZE + member.len()).sum(),
        ValueRef::SortedSet(set) => {
            set.iter_from(0).map(|(member, _)| SCORE_SIZE + LENGTH_SIZE + member.len()).sum()
        }
    };
    (HEADER_SIZE + COUNT_SIZE + items) as u64
}

/// The bytes that are there; what ends early is `None`.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn item(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }
}

/// Reads a value whose bytes come in pieces, cut anywhere. Holds the value so far and no more than one item's bytes.
#[derive(Default)]
pub struct Decoder {
    /// Bytes that are no whole item yet.
    rest: Vec<u8>,
    /// Bytes before these.
    taken: usize,
    /// What was read so far, and how many items are to come; a string has no number of items.
    begun: Option<(Value, u64)>,
}

impl Decoder {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they belong to no value; nothing more can be read then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ValueFault> {
        if self.rest.is_empty() {
            let used = self.read(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let rest = std::mem::take(&mut self.rest);
            let used = self.read(&rest)?;
            self.rest = rest;
            self.rest.drain(..used);
        }
        Ok(())
    }

    /// The value, when its bytes have all come.
    ///
    /// # Errors
    /// When they have not, or more than these.
    pub fn finish(self) -> Result<Value, ValueFault> {
        match self.begun {
            Some((Value::Bytes(bytes), _)) => Ok(Value::string(&bytes)),
            Some((value, 0)) if self.rest.is_empty() => Ok(value),
            _ => Err(ValueFault::Length(self.taken)),
        }
    }

    /// Reads as many whole items as there are; returns how many bytes they were.
    fn read(&mut self, bytes: &[u8]) -> Result<usize, ValueFault> {
        let mut reader = Reader { bytes, at: 0 };
        if self.begun.is_none() {
            self.begun = begin(&mut reader)?;
        }
        let mut used = 0;
        match &mut self.begun {
            // The header comes whole or not at all.
            None => {}
            Some((Value::Bytes(text), _)) => {
                text.extend_from_slice(&bytes[reader.at..]);
                used = bytes.len();
                if text.len() > STRING_MAX {
                    return Err(ValueFault::Contents(self.taken + used));
                }
            }
            Some((value, left)) => {
                used = reader.at;
                while *left > 0 {
                    match item(value, &mut reader) {
                        Some(true) => used = reader.at,
                        Some(false) => return Err(ValueFault::Contents(self.taken + reader.at)),
                        None => break,
                    }
                    *left -= 1;
                }
                if *left == 0 && used < bytes.len() {
                    return Err(ValueFault::Length(self.taken + used));
                }
            }
        }
        self.taken += used;
        Ok(used)
    }
}

/// Reads what comes before the items; `None`: it has not all come.
fn begin(reader: &mut Reader<'_>) -> Result<Option<(Value, u64)>, ValueFault> {
    let Some([version, kind]) = reader.array() else { return Ok(None) };
    let value = match kind {
        _ if version != VALUE_FORMAT_VERSION => return Err(ValueFault::Unknown { version, kind }),
        STRING => return Ok(Some((Value::Bytes(Vec::new()), 0))),
        HASH => Value::Hash(Hash::default()),
        LIST => Value::List(List::default()),
        SET => Value::Set(Set::default()),
        SORTED_SET => Value::SortedSet(SortedSet::default()),
        _ => return Err(ValueFault::Unknown { version, kind }),
    };
    match reader.array().map(u64::from_le_bytes) {
        Some(0) => Err(ValueFault::Contents(HEADER_SIZE + COUNT_SIZE)),
        Some(count) => Ok(Some((value, count))),
        None => Ok(None),
    }
}

/// Reads one item into the collection; `None`: it has not all come, `false`: it cannot be there.
fn item(value: &mut Value, reader: &mut Reader<'_>) -> Option<bool> {
    Some(match value {
        Value::Hash(hash) => hash.set(reader.item()?, reader.item()?),
        Value::List(list) => {
            list.push(ListEnd::Right, reader.item()?);
            true
        }
        Value::Set(set) => set.add(reader.item()?),
        Value::SortedSet(set) => {
            let (score, member) = (f64::from_le_bytes(reader.array()?), reader.item()?);
            !score.is_nan() && set.add(member, score) == Added::New
        }
        Value::Int(_) | Value::Bytes(_) => unreachable!("strings have no items"),
    })
}

/// Reads a value.
///
/// # Errors
/// When the bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueFault> {
    if let Some(text) = as_string(bytes) {
        return Ok(Value::string(text));
    }
    let mut decoder = Decoder::default();
    decoder.push(bytes)?;
    decoder.finish()
}

#[cfg(test)]
#[path = "value_format_tests.rs"]
mod tests;
