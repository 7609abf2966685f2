//! apply(keyspace, mutation): the only place where state changes, live, on replay and on a replica. Deterministic: the same
//! mutation on the same contents gives the same contents, whatever the form in memory. What does not fit the state is an error
//! and changes nothing.

use crate::keyspace::Keyspace;
use crate::mutation::{Bin, Expiry, Mutation};
use crate::types::sorted_set::Added;
use crate::types::value_format::{self, ValueFault};
use crate::types::{List, StringRef, Value, ValueRef};

/// What a mutation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Keys, fields, elements or members that are not as they were; 0: nothing happened.
    pub changed: usize,
    /// Of these, how many are new.
    pub added: usize,
}

impl Applied {
    const NOTHING: Self = Self { changed: 0, added: 0 };
    const ONE: Self = Self { changed: 1, added: 0 };
}

/// A mutation that contradicts the state: a bug when it happens live, damage when it comes from a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The key holds another type.
    #[error("{0} meets a key that holds another type")]
    WrongType(&'static str),
    /// The key is missing.
    #[error("{0} meets a missing key")]
    Missing(&'static str),
    /// An index beyond the end.
    #[error("{0} names an element that is not there")]
    Index(&'static str),
    /// The value cannot be read.
    #[error("Restore brings a value that cannot be read: {0}")]
    Value(#[from] ValueFault),
}

/// Applies one mutation.
///
/// # Errors
/// When it contradicts the state; nothing was changed then.
pub fn apply(keys: &mut Keyspace, mutation: &Mutation<'_>) -> Result<Applied, ApplyError> {
    match mutation {
        Mutation::SetString { key, value, expiry } => {
            keys.put(key, Value::string(value), None);
            apply_expiry(keys, key, *expiry);
            Ok(Applied::ONE)
        }
        Mutation::SetInteger { key, value } => {
            keys.put(key, Value::Int(*value), None);
            Ok(Applied::ONE)
        }
        Mutation::SpliceString { key, offset, bytes } => splice(keys, key, *offset, bytes),
        Mutation::Delete { key, .. } => {
            Ok(if keys.remove(key).is_some() { Applied::ONE } else { Applied::NOTHING })
        }
        Mutation::ExpireAt { key, at_ms } => {
            Ok(if keys.set_expiry(key, *at_ms) { Applied::ONE } else { Applied::NOTHING })
        }
        Mutation::Persist { key } => {
            Ok(if keys.set_expiry(key, 0) { Applied::ONE } else { Applied::NOTHING })
        }
        Mutation::Rename { from, to } => {
            let (value, expires_at_ms) = keys.remove(from).ok_or(ApplyError::Missing("Rename"))?;
            keys.remove(to);
            keys.put(to, value, Some(expires_at_ms));
            Ok(Applied::ONE)
        }
        Mutation::Copy { from, to } => {
            let mut bytes = Vec::new();
            let expiry = keys.expiry_ms(from);
            let value = keys.peek(from, 0).ok_or(ApplyError::Missing("Copy"))?;
            value_format::encode(value, &mut bytes);
            restore(keys, to, &bytes, expiry.map_or(Expiry::Clear, Expiry::At))
        }
        Mutation::Restore { key, value, expiry } => restore(keys, key, value, *expiry),
        Mutation::FlushSlot => {
            let changed = keys.len();
            *keys = Keyspace::default();
            Ok(Applied { changed, added: 0 })
        }
        Mutation::HashSet { key, pairs } => hash_set(keys, key, pairs),
        Mutation::HashDelete { key, fields } => hash_delete(keys, key, fields),
        Mutation::ListPush { .. }
        | Mutation::ListPop { .. }
        | Mutation::ListSet { .. }
        | Mutation::ListInsert { .. }
        | Mutation::ListRemove { .. }
        | Mutation::ListTrim { .. } => apply_to_list(keys, mutation),
        Mutation::SetAdd { key, members } => set_add(keys, key, members),
        Mutation::SetRemove { key, members } => set_remove(keys, key, members),
        Mutation::SortedSetAdd { key, entries } => sorted_set_add(keys, key, entries),
        Mutation::SortedSetRemove { key, members } => sorted_set_remove(keys, key, members),
    }
}

fn apply_expiry(keys: &mut Keyspace, key: &[u8], expiry: Expiry) {
    match expiry {
        Expiry::Clear => keys.set_expiry(key, 0),
        Expiry::Keep => false,
        Expiry::At(at_ms) => keys.set_expiry(key, at_ms),
    };
}

fn restore(keys: &mut Keyspace, key: &[u8], value: &[u8], expiry: Expiry) -> Result<Applied, ApplyError> {
    let value = value_format::decode(value)?;
    keys.put(key, value, None);
    apply_expiry(keys, key, expiry);
    Ok(Applied::ONE)
}

fn splice(keys: &mut Keyspace, key: &[u8], offset: u64, bytes: &[u8]) -> Result<Applied, ApplyError> {
    if keys.peek(key, 0).is_some_and(|value| !matches!(value, ValueRef::String(_))) {
        return Err(ApplyError::WrongType("SpliceString"));
    }
    let offset = offset as usize;
    keys.change(
        key,
        || Value::Bytes(Vec::new()),
        |value| {
            let mut text = match value {
                Value::Bytes(text) => std::mem::take(text),
                Value::Int(number) => StringRef::Int(*number).bytes(&mut itoa::Buffer::new()).to_vec(),
                _ => unreachable!("looked at just now"),
            };
            let end = offset + bytes.len();
            if text.len() < end {
                text.resize(end, 0);
            }
            text[offset..end].copy_from_slice(bytes);
            *value = Value::Bytes(text);
            ((), false)
        },
    );
    Ok(Applied::ONE)
}

/// The collection of one type at a key: its value, and the error when the key holds another type.
macro_rules! check_type {
    ($keys:expr, $key:expr, $type:ident, $what:literal) => {
        match $keys.peek($key, 0) {
            Some(ValueRef::$type(_)) => true,
            Some(_) => return Err(ApplyError::WrongType($what)),
            None => false,
        }
    };
}

macro_rules! collection {
    ($value:expr, $type:ident) => {
        match $value {
            Value::$type(collection) => collection,
            _ => unreachable!("looked at just now"),
        }
    };
}

fn hash_set(keys: &mut Keyspace, key: &[u8], pairs: &[(Bin<'_>, Bin<'_>)]) -> Result<Applied, ApplyError> {
    check_type!(keys, key, Hash, "HashSet");
    Ok(keys.change(
        key,
        || Value::Hash(Box::default()),
        |value| {
            let hash = collection!(value, Hash);
            let added = pairs.iter().filter(|(field, value)| hash.set(field, value)).count();
            (Applied { changed: pairs.len(), added }, hash.is_empty())
        },
    ))
}

fn hash_delete(keys: &mut Keyspace, key: &[u8], fields: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    if !check_type!(keys, key, Hash, "HashDelete") {
        return Ok(Applied::NOTHING);
    }
    Ok(keys.change(
        key,
        || unreachable!("looked at just now"),
        |value| {
            let hash = collection!(value, Hash);
            let changed = fields.iter().filter(|field| hash.remove(field)).count();
            (Applied { changed, added: 0 }, hash.is_empty())
        },
    ))
}

fn apply_to_list(keys: &mut Keyspace, mutation: &Mutation<'_>) -> Result<Applied, ApplyError> {
    let key = mutation.key().expect("list mutations have a key");
    let length = match keys.peek(key, 0) {
        Some(ValueRef::List(list)) => list.len() as u64,
        Some(_) => return Err(ApplyError::WrongType("a list mutation")),
        None if matches!(mutation, Mutation::ListPush { .. }) => 0,
        None => return Err(ApplyError::Missing("a list mutation")),
    };
    let fits = match mutation {
        Mutation::ListPop { count, .. } => *count <= length,
        Mutation::ListSet { index, .. } => *index < length,
        Mutation::ListInsert { index, .. } => *index <= length,
        Mutation::ListRemove { indexes, .. } => {
            indexes.is_sorted_by(|a, b| a < b) && indexes.last().is_none_or(|&last| last < length)
        }
        Mutation::ListTrim { start, length: kept, .. } => {
            start.checked_add(*kept).is_some_and(|end| end <= length)
        }
        _ => true,
    };
    if !fits {
        return Err(ApplyError::Index("a list mutation"));
    }
    Ok(keys.change(
        key,
        || Value::List(Box::default()),
        |value| {
            let list = collection!(value, List);
            let applied = change_list(list, mutation);
            (applied, list.is_empty())
        },
    ))
}

fn change_list(list: &mut List, mutation: &Mutation<'_>) -> Applied {
    use crate::mutation::ListEnd;
    let changed = match mutation {
        Mutation::ListPush { end, values, .. } => {
            values.iter().for_each(|value| list.push(*end, value));
            return Applied { changed: values.len(), added: values.len() };
        }
        Mutation::ListPop { end, count, .. } => {
            list.pop(*end, *count as usize);
            *count as usize
        }
        Mutation::ListSet { index, value, .. } => {
            list.set(*index as usize, value);
            1
        }
        Mutation::ListInsert { index, value, .. } => {
            list.insert(*index as usize, value);
            return Applied { changed: 1, added: 1 };
        }
        Mutation::ListRemove { indexes, .. } => {
            list.remove(indexes);
            indexes.len()
        }
        Mutation::ListTrim { start, length, .. } => {
            let tail = list.len() - (*start + *length) as usize;
            list.pop(ListEnd::Right, tail);
            list.pop(ListEnd::Left, *start as usize);
            tail + *start as usize
        }
        _ => unreachable!("only list mutations come here"),
    };
    Applied { changed, added: 0 }
}

fn set_add(keys: &mut Keyspace, key: &[u8], members: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    check_type!(keys, key, Set, "SetAdd");
    Ok(keys.change(
        key,
        || Value::Set(Box::default()),
        |value| {
            let set = collection!(value, Set);
            let added = members.iter().filter(|member| set.add(member)).count();
            (Applied { changed: added, added }, set.is_empty())
        },
    ))
}

fn set_remove(keys: &mut Keyspace, key: &[u8], members: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    if !check_type!(keys, key, Set, "SetRemove") {
        return Ok(Applied::NOTHING);
    }
    Ok(keys.change(
        key,
        || unreachable!("looked at just now"),
        |value| {
            let set = collection!(value, Set);
            let changed = members.iter().filter(|member| set.remove(member)).count();
            (Applied { changed, added: 0 }, set.is_empty())
        },
    ))
}

fn sorted_set_add(
    keys: &mut Keyspace,
    key: &[u8],
    entries: &[(f64, Bin<'_>)],
) -> Result<Applied, ApplyError> {
    check_type!(keys, key, SortedSet, "SortedSetAdd");
    Ok(keys.change(
        key,
        || Value::SortedSet(Box::default()),
        |value| {
            let set = collection!(value, SortedSet);
            let mut applied = Applied::NOTHING;
            for (score, member) in entries {
                match set.add(member, *score) {
                    Added::New => applied.added += 1,
                    Added::Moved => {}
                    Added::Same => continue,
                }
                applied.changed += 1;
            }
            (applied, set.is_empty())
        },
    ))
}

fn sorted_set_remove(keys: &mut Keyspace, key: &[u8], members: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    if !check_type!(keys, key, SortedSet, "SortedSetRemove") {
        return Ok(Applied::NOTHING);
    }
    Ok(keys.change(
        key,
        || unreachable!("looked at just now"),
        |value| {
            let set = collection!(value, SortedSet);
            let changed = members.iter().filter(|member| set.remove(member)).count();
            (Applied { changed, added: 0 }, set.is_empty())
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::{DeleteReason, ListEnd};

    fn bin(text: &str) -> Bin<'_> {
        text.as_bytes().into()
    }

    #[test]
    fn an_empty_collection_goes_with_its_key() {
        let mut keys = Keyspace::default();
        apply(&mut keys, &Mutation::SetAdd { key: bin("k"), members: vec![bin("a")] }).unwrap();
        assert_eq!(keys.len(), 1);
        let removed =
            apply(&mut keys, &Mutation::SetRemove { key: bin("k"), members: vec![bin("a"), bin("b")] })
                .unwrap();
        assert_eq!((removed.changed, keys.len(), keys.memory_bytes()), (1, 0, 0));
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_changes_nothing() {
        let mut keys = Keyspace::default();
        apply(&mut keys, &Mutation::ListPush { key: bin("l"), end: ListEnd::Left, values: vec![bin("x")] })
            .unwrap();
        let digest = keys.digest();
        for wrong in [
            Mutation::HashSet { key: bin("l"), pairs: vec![(bin("f"), bin("v"))] },
            Mutation::ListSet { key: bin("l"), index: 1, value: bin("y") },
            Mutation::ListPop { key: bin("missing"), end: ListEnd::Left, count: 1 },
            Mutation::ListRemove { key: bin("l"), indexes: vec![0, 0] },
            Mutation::Rename { from: bin("missing"), to: bin("l") },
            Mutation::Restore { key: bin("l"), value: bin("??"), expiry: Expiry::Clear },
            Mutation::SpliceString { key: bin("l"), offset: 0, bytes: bin("x") },
        ] {
            assert!(apply(&mut keys, &wrong).is_err(), "{wrong:?}");
            assert_eq!(keys.digest(), digest, "{wrong:?}");
        }
    }

    #[test]
    fn an_expiry_hides_the_key_is_due_once_and_can_be_taken_back() {
        let mut keys = Keyspace::default();
        let set = |expiry| Mutation::SetString { key: bin("k"), value: bin("v"), expiry };
        apply(&mut keys, &set(Expiry::At(1000))).unwrap();
        assert!(
            keys.get(b"k", 999).is_some() && keys.get(b"k", 1000).is_none() && keys.is_expired(b"k", 1000)
        );
        apply(&mut keys, &set(Expiry::Keep)).unwrap();
        assert_eq!((keys.expiry_ms(b"k"), keys.volatile_len()), (Some(1000), 1));
        let mut due = Vec::new();
        keys.take_expired(999, 10, &mut due);
        assert!(due.is_empty());
        apply(&mut keys, &Mutation::ExpireAt { key: bin("k"), at_ms: 2000 }).unwrap();
        keys.take_expired(1500, 10, &mut due);
        assert!(due.is_empty(), "the expiry of before no longer counts");
        keys.take_expired(2000, 10, &mut due);
        assert_eq!(due, [b"k".to_vec().into_boxed_slice()]);
        apply(&mut keys, &Mutation::Delete { key: bin("k"), reason: DeleteReason::Expired }).unwrap();
        assert_eq!(keys.volatile_len(), 0);
    }

    #[test]
    fn rename_and_copy_take_value_and_expiry_along() {
        let mut keys = Keyspace::default();
        apply(&mut keys, &Mutation::SetString { key: bin("a"), value: bin("7"), expiry: Expiry::At(5000) })
            .unwrap();
        apply(&mut keys, &Mutation::Copy { from: bin("a"), to: bin("b") }).unwrap();
        apply(&mut keys, &Mutation::Rename { from: bin("a"), to: bin("c") }).unwrap();
        assert_eq!((keys.expiry_ms(b"b"), keys.expiry_ms(b"c"), keys.len()), (Some(5000), Some(5000), 2));
        assert!(matches!(keys.get(b"c", 0), Some(ValueRef::String(StringRef::Int(7)))));
    }

    #[test]
    fn a_splice_pads_with_zeros_and_turns_integers_into_text() {
        let mut keys = Keyspace::default();
        apply(&mut keys, &Mutation::SetInteger { key: bin("k"), value: 12 }).unwrap();
        apply(&mut keys, &Mutation::SpliceString { key: bin("k"), offset: 4, bytes: bin("x") }).unwrap();
        assert!(matches!(keys.get(b"k", 0), Some(ValueRef::String(StringRef::Bytes(b"12\0\0x")))));
    }
}
