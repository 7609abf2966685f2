//! apply(keyspace, mutation): the only place where state changes, live, on replay and on a replica. Deterministic: the same
//! mutation on the same contents gives the same contents, whatever the form in memory. What does not fit the state is an error
//! and changes nothing.

use crate::keyspace::{Keyspace, expiry_as_logged};
use crate::mutation::{Bin, Expiry, ListEnd, Mutation};
use crate::types::entry::{Held, STRING_MAX};
use crate::types::sorted_set::Added;
use crate::types::value_format::{self, ValueFault};
use crate::types::{Hash, List, Set, SortedSet, StringRef, ValueRef};

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

    fn one_if(changed: bool) -> Self {
        if changed { Self::ONE } else { Self::NOTHING }
    }
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
    /// A string longer than one can be.
    #[error("{0} makes a string longer than one can be")]
    TooLong(&'static str),
    /// A score that is no number.
    #[error("{0} brings a score that is no number")]
    Score(&'static str),
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
            if value.len() > STRING_MAX {
                return Err(ApplyError::TooLong("SetString"));
            }
            keys.put_string(key, StringRef::of(value), *expiry);
            Ok(Applied::ONE)
        }
        Mutation::SetInteger { key, value } => {
            keys.put_string(key, StringRef::Int(*value), Expiry::Keep);
            Ok(Applied::ONE)
        }
        Mutation::SpliceString { key, offset, bytes } => splice(keys, key, *offset, bytes),
        Mutation::Delete { key, .. } => Ok(Applied::one_if(keys.remove(key))),
        Mutation::ExpireAt { key, at_ms } => {
            Ok(Applied::one_if(keys.set_expiry(key, Some(expiry_as_logged(*at_ms)))))
        }
        Mutation::Persist { key } => Ok(Applied::one_if(keys.set_expiry(key, None))),
        Mutation::Rename { from, to } => {
            if keys.rename(from, to) {
                Ok(Applied::ONE)
            } else {
                Err(ApplyError::Missing("Rename"))
            }
        }
        Mutation::Copy { from, to } => {
            let mut bytes = Vec::new();
            let value = keys.peek(from, 0).ok_or(ApplyError::Missing("Copy"))?;
            value_format::encode(value, &mut bytes);
            restore(keys, to, &bytes, keys.expiry_ms(from).map_or(Expiry::Clear, Expiry::At))
        }
        Mutation::Restore { key, value, expiry } => restore(keys, key, value, *expiry),
        Mutation::FlushSlot => {
            let changed = keys.len();
            keys.clear();
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

fn restore(keys: &mut Keyspace, key: &[u8], value: &[u8], expiry: Expiry) -> Result<Applied, ApplyError> {
    keys.put_value(key, value_format::decode(value)?, expiry);
    Ok(Applied::ONE)
}

fn splice(keys: &mut Keyspace, key: &[u8], offset: u64, bytes: &[u8]) -> Result<Applied, ApplyError> {
    if keys.peek(key, 0).is_some_and(|value| !matches!(value, ValueRef::String(_))) {
        return Err(ApplyError::WrongType("SpliceString"));
    }
    let offset = usize::try_from(offset).ok().filter(|offset| *offset <= STRING_MAX);
    let offset = offset.filter(|offset| offset + bytes.len() <= STRING_MAX);
    let offset = offset.ok_or(ApplyError::TooLong("SpliceString"))?;
    keys.splice_string(key, offset, bytes);
    Ok(Applied::ONE)
}

/// Changes the collection of one type at a key. With `$create` it is created when missing; without, nothing happens then.
macro_rules! change {
    ($keys:expr, $key:expr, $type:ident, $create:expr, $what:literal, |$collection:ident| $change:expr) => {
        $keys.change_held($key, $create, |held| match held {
            Some(Held::$type($collection)) => {
                let applied: Applied = $change;
                Ok((applied, $collection.is_empty()))
            }
            _ => Err(ApplyError::WrongType($what)),
        })
    };
}

fn hash_set(keys: &mut Keyspace, key: &[u8], pairs: &[(Bin<'_>, Bin<'_>)]) -> Result<Applied, ApplyError> {
    let create = || Held::Hash(Hash::default());
    let applied = change!(keys, key, Hash, Some(create), "HashSet", |hash| {
        let added = pairs.iter().filter(|(field, value)| hash.set(field, value)).count();
        Applied { changed: pairs.len(), added }
    })?;
    Ok(applied.unwrap_or_default())
}

fn hash_delete(keys: &mut Keyspace, key: &[u8], fields: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    let applied = change!(keys, key, Hash, None, "HashDelete", |hash| {
        Applied { changed: fields.iter().filter(|field| hash.remove(field)).count(), added: 0 }
    })?;
    Ok(applied.unwrap_or_default())
}

fn apply_to_list(keys: &mut Keyspace, mutation: &Mutation<'_>) -> Result<Applied, ApplyError> {
    const WHAT: &str = "a list mutation";
    let key = mutation.key().expect("list mutations have a key");
    let create =
        matches!(mutation, Mutation::ListPush { .. }).then_some((|| Held::List(List::default())) as _);
    let applied = keys.change_held(key, create, |held| {
        let Some(Held::List(list)) = held else { return Err(ApplyError::WrongType(WHAT)) };
        if !fits(mutation, list.len() as u64) {
            return Err(ApplyError::Index(WHAT));
        }
        Ok((change_list(list, mutation), list.is_empty()))
    })?;
    applied.ok_or(ApplyError::Missing(WHAT))
}

/// Whether a list of this length has the elements that the mutation names.
fn fits(mutation: &Mutation<'_>, length: u64) -> bool {
    match mutation {
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
    }
}

fn change_list(list: &mut List, mutation: &Mutation<'_>) -> Applied {
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
    let create = || Held::Set(Set::default());
    let applied = change!(keys, key, Set, Some(create), "SetAdd", |set| {
        let added = members.iter().filter(|member| set.add(member)).count();
        Applied { changed: added, added }
    })?;
    Ok(applied.unwrap_or_default())
}

fn set_remove(keys: &mut Keyspace, key: &[u8], members: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    let applied = change!(keys, key, Set, None, "SetRemove", |set| {
        Applied { changed: members.iter().filter(|member| set.remove(member)).count(), added: 0 }
    })?;
    Ok(applied.unwrap_or_default())
}

fn sorted_set_add(
    keys: &mut Keyspace,
    key: &[u8],
    entries: &[(f64, Bin<'_>)],
) -> Result<Applied, ApplyError> {
    if entries.iter().any(|(score, _)| score.is_nan()) {
        return Err(ApplyError::Score("SortedSetAdd"));
    }
    let create = || Held::SortedSet(SortedSet::default());
    let applied = change!(keys, key, SortedSet, Some(create), "SortedSetAdd", |set| {
        let mut applied = Applied::NOTHING;
        for (score, member) in entries {
            match set.add(member, *score) {
                Added::New => applied.added += 1,
                Added::Moved => {}
                Added::Same => continue,
            }
            applied.changed += 1;
        }
        applied
    })?;
    Ok(applied.unwrap_or_default())
}

fn sorted_set_remove(keys: &mut Keyspace, key: &[u8], members: &[Bin<'_>]) -> Result<Applied, ApplyError> {
    let applied = change!(keys, key, SortedSet, None, "SortedSetRemove", |set| {
        Applied { changed: members.iter().filter(|member| set.remove(member)).count(), added: 0 }
    })?;
    Ok(applied.unwrap_or_default())
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
