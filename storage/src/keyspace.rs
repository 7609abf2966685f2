//! The keys of one slot: lookup, expiry, memory. Read by everybody; changed by `apply` alone.

use crate::discard::{DISCARD_BYTES, discard};
use crate::mutation::Expiry;
use crate::platform::clock;
use crate::types::entry::{Entry, Held};
use crate::types::rank_tree::RankTree;
use crate::types::table::{Keyed, Own, Table, hash_of};
use crate::types::value_format::{self, ValueFault};
use crate::types::{StringRef, Value, ValueRef, digest};

/// The keys of a slot.
#[derive(Default)]
pub struct Keyspace {
    pub(crate) keys: Table<Entry>,
    /// `(expiry, hash of the key)` of every key that expires, soonest first.
    expiries: RankTree<(u64, u64)>,
    /// Bytes of memory of the entries.
    pub(crate) memory: usize,
}

fn is_live(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms().is_none_or(|at_ms| at_ms > now_ms)
}

impl Keyspace {
    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.get(&Own, key)
    }

    fn live(&self, key: &[u8], now_ms: u64) -> Option<&Entry> {
        self.entry(key).filter(|entry| is_live(entry, now_ms))
    }

    /// What the key holds, unless it has expired; counts as a use.
    pub fn get(&self, key: &[u8], now_ms: u64) -> Option<ValueRef<'_>> {
        let entry = self.live(key, now_ms)?;
        entry.touch(clock::coarse_seconds());
        Some(entry.value())
    }

    /// What the key holds, unless it has expired; does not count as a use.
    pub fn peek(&self, key: &[u8], now_ms: u64) -> Option<ValueRef<'_>> {
        self.live(key, now_ms).map(Entry::value)
    }

    /// Whether the key is there and has not expired; does not count as a use.
    pub fn contains(&self, key: &[u8], now_ms: u64) -> bool {
        self.live(key, now_ms).is_some()
    }

    /// When the key expires, milliseconds since 1970, whether or not that is past; `None` when it does not or is missing.
    pub fn expiry_ms(&self, key: &[u8]) -> Option<u64> {
        if self.expiries.is_empty() { None } else { self.entry(key)?.expires_at_ms() }
    }

    /// Whether the key is there but its time is past.
    pub fn is_expired(&self, key: &[u8], now_ms: u64) -> bool {
        self.expiry_ms(key).is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Number of keys, expired ones included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys that expire.
    pub fn volatile_len(&self) -> usize {
        self.expiries.len()
    }

    /// Seconds since the key was last used (OBJECT IDLETIME).
    pub fn idle_seconds(&self, key: &[u8], now_ms: u64) -> Option<u64> {
        let entry = self.live(key, now_ms)?;
        let now = (clock::monotonic_ms() / 1000) as u32;
        Some(u64::from(now.saturating_sub(entry.used_at())))
    }

    /// How the key's value is kept (OBJECT ENCODING).
    pub fn encoding(&self, key: &[u8], now_ms: u64) -> Option<&'static str> {
        self.live(key, now_ms).map(Entry::encoding)
    }

    /// Bytes of memory that the key and its value take.
    pub fn memory_usage(&self, key: &[u8], now_ms: u64) -> Option<usize> {
        self.live(key, now_ms).map(|entry| size_of::<Entry>() + entry.memory_bytes())
    }

    /// One key that has not expired, each equally likely; `None` when none is found in a few draws.
    pub fn random_key(&self, dice: &mut fastrand::Rng, now_ms: u64) -> Option<&[u8]> {
        const DRAWS: usize = 100;
        let draw = |_| self.keys.random(dice).filter(|entry| is_live(entry, now_ms));
        if self.is_empty() { None } else { (0..DRAWS).find_map(draw).map(Entry::key) }
    }

    /// Shows about `count` keys from `cursor` on, expired ones included; see [`Table::scan`].
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(&[u8], ValueRef<'_>, Option<u64>),
    ) -> u64 {
        self.keys.scan(&Own, cursor, count, |entry| show(entry.key(), entry.value(), entry.expires_at_ms()))
    }

    /// Shows every key with its value and expiry, expired ones included.
    pub fn for_each(&self, mut show: impl FnMut(&[u8], ValueRef<'_>, Option<u64>)) {
        for entry in self.keys.iter() {
            show(entry.key(), entry.value(), entry.expires_at_ms());
        }
    }

    /// Bytes of memory of keys and values. Takes no walk.
    pub fn memory_bytes(&self) -> usize {
        self.memory + self.keys.memory_bytes() + self.expiries.memory_bytes()
    }

    /// When the next key expires, milliseconds since 1970.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiries.first().map(|(at_ms, _)| at_ms)
    }

    /// Whether a key's time is past.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.next_expiry_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Adds keys whose time is past to `out`, the longest past first, until there are `limit`.
    pub fn collect_expired(&self, now_ms: u64, limit: usize, out: &mut Vec<Box<[u8]>>) {
        let room = limit.saturating_sub(out.len());
        let due = self.expiries.iter_from(0).take_while(|(at_ms, _)| *at_ms <= now_ms);
        for (at_ms, hash) in due.take(room) {
            let entry = self
                .keys
                .find(hash, |entry| entry.expires_at_ms() == Some(at_ms) && hash_of(entry.key()) == hash);
            out.push(entry.expect("every expiry is a key's").key().into());
        }
    }

    /// A number that depends on keys, types, contents and expiries alone, not on order or form: equal slots, equal digests.
    pub fn digest(&self) -> u64 {
        let each = self.keys.iter();
        each.map(|entry| digest::of_key(entry.key(), entry.value(), entry.expires_at_ms()))
            .fold(0, u64::wrapping_add)
    }

    /// Changes an entry; the counts follow. `false`: it is missing.
    fn change_entry(&mut self, hash: u64, key: &[u8], change: impl FnOnce(&mut Entry)) -> bool {
        let Some(entry) = self.keys.find_mut(hash, |entry| entry.key() == key) else { return false };
        let before = (entry.memory_bytes(), entry.expires_at_ms());
        change(entry);
        let after = (entry.memory_bytes(), entry.expires_at_ms());
        self.memory = self.memory + after.0 - before.0;
        self.index_expiry(hash, before.1, after.1);
        true
    }

    fn index_expiry(&mut self, hash: u64, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        if let Some(at_ms) = before {
            let gone = self.expiries.remove_last(|known| *known <= (at_ms, hash));
            assert_eq!(gone, (at_ms, hash), "every expiry is in the index");
        }
        if let Some(at_ms) = after {
            self.expiries.insert((at_ms, hash), |known| *known < (at_ms, hash));
        }
    }

    fn enter(&mut self, hash: u64, entry: Entry) {
        self.memory += entry.memory_bytes();
        self.index_expiry(hash, None, entry.expires_at_ms());
        self.keys.insert(&Own, hash, entry);
    }

    /// The key holds this string, whatever it held before.
    pub(crate) fn put_string(&mut self, key: &[u8], string: StringRef<'_>, expiry: Expiry) {
        let hash = hash_of(key);
        let mut huge = None;
        let known = self.change_entry(hash, key, |entry| {
            let expires_at_ms = after(expiry, entry.expires_at_ms());
            let bytes = bytes_to_discard(entry);
            if bytes >= DISCARD_BYTES {
                let other = Entry::with_string(key, string, expires_at_ms, clock::coarse_seconds());
                huge = Some((std::mem::replace(entry, other), bytes));
                return;
            }
            entry.set_string(key, string, expires_at_ms);
            entry.touch(clock::coarse_seconds());
        });
        if !known {
            let entry = Entry::with_string(key, string, after(expiry, None), clock::coarse_seconds());
            self.enter(hash, entry);
        }
        if let Some((huge, bytes)) = huge {
            discard(huge, bytes);
        }
    }

    /// The key holds this value, whatever it held before.
    pub(crate) fn put_value(&mut self, key: &[u8], value: Value, expiry: Expiry) {
        let expires_at_ms = after(expiry, self.expiry_ms(key));
        self.remove(key);
        let entry = Entry::with_value(key, value, expires_at_ms, clock::coarse_seconds());
        self.enter(hash_of(key), entry);
    }

    /// The string is overwritten from `offset` on; the key must hold a string or be missing.
    pub(crate) fn splice_string(&mut self, key: &[u8], offset: usize, bytes: &[u8]) {
        let hash = hash_of(key);
        if !self.change_entry(hash, key, |entry| entry.splice_string(key, offset, bytes)) {
            let mut entry = Entry::with_string(key, StringRef::Bytes(b""), None, clock::coarse_seconds());
            entry.splice_string(key, offset, bytes);
            self.enter(hash, entry);
        }
    }

    /// Changes a collection; when the key is missing, the one that `create` gives, or else nothing happens and the outcome is
    /// `None`. `change` says whether the collection is empty now: then the key goes. `change` gets `None` for a string in the
    /// key's own block; when it fails it has changed nothing.
    pub(crate) fn change_held<R, E>(
        &mut self,
        key: &[u8],
        create: Option<fn() -> Held>,
        change: impl FnOnce(Option<&mut Held>) -> Result<(R, bool), E>,
    ) -> Result<Option<R>, E> {
        let hash = hash_of(key);
        let Some(entry) = self.keys.find_mut(hash, |entry| entry.key() == key) else {
            let Some(create) = create else { return Ok(None) };
            let mut held = create();
            let (result, is_empty) = change(Some(&mut held))?;
            if !is_empty {
                self.enter(hash, Entry::with_held(key, held, None, clock::coarse_seconds()));
            }
            return Ok(Some(result));
        };
        let before = entry.memory_bytes();
        let (result, is_empty) = change(entry.held_mut())?;
        self.memory = self.memory + entry.memory_bytes() - before;
        if is_empty {
            self.remove(key);
        }
        Ok(Some(result))
    }

    /// When the key expires, `None` for never; `false` when it is missing or that is so already.
    pub(crate) fn set_expiry(&mut self, key: &[u8], expires_at_ms: Option<u64>) -> bool {
        let mut is_other = false;
        self.change_entry(hash_of(key), key, |entry| {
            is_other = entry.expires_at_ms() != expires_at_ms;
            if is_other {
                entry.set_expiry(expires_at_ms);
            }
        });
        is_other
    }

    /// Takes in a key of an image, whose value is in the value format; what it held before is gone. With `is_more` the value is a
    /// further part of what the key holds.
    pub(crate) fn load(
        &mut self,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
        is_more: bool,
    ) -> Result<(), ValueFault> {
        let hash = hash_of(key);
        let now = clock::coarse_seconds();
        if is_more {
            let known = self.take(key).ok_or(ValueFault::Contents(0))?;
            let value = value_format::extend(known.into_value(), value)?;
            self.enter(hash, Entry::with_value(key, value, expires_at_ms, now));
            return Ok(());
        }
        if self.keys.find(hash, |entry| entry.key() == key).is_some() {
            self.remove(key);
        }
        let entry = match value_format::as_string(value) {
            Some(text) => Entry::with_string(key, StringRef::of(text), expires_at_ms, now),
            None => Entry::with_value(key, value_format::decode(value)?, expires_at_ms, now),
        };
        self.enter(hash, entry);
        Ok(())
    }

    /// About as many keys are about to be loaded.
    pub(crate) fn expect(&mut self, count: usize) {
        self.keys.expect(&Own, count);
    }

    /// What the key holds and about how many bytes that takes, expired or not.
    pub(crate) fn weigh(&self, key: &[u8]) -> Option<(&Entry, usize)> {
        self.entry(key).map(|entry| (entry, entry.memory_bytes()))
    }

    /// Shows about `count` entries from `cursor` on; see [`Table::scan`].
    pub(crate) fn scan_entries<'k>(&'k self, cursor: u64, count: usize, show: impl FnMut(&'k Entry)) -> u64 {
        self.keys.scan(&Own, cursor, count, show)
    }

    /// Takes out what the key holds, unless that is a string in the key's own block; an empty one of its type is left.
    pub(crate) fn detach(&mut self, key: &[u8]) -> Option<Held> {
        let mut detached = None;
        self.change_entry(hash_of(key), key, |entry| {
            detached = entry.held_mut().map(|held| {
                let empty = held.empty();
                std::mem::replace(held, empty)
            });
        });
        detached
    }

    fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = hash_of(key);
        let entry = self.keys.remove(&Own, hash, |entry| entry.key() == key)?;
        self.memory -= entry.memory_bytes();
        self.index_expiry(hash, entry.expires_at_ms(), None);
        Some(entry)
    }

    /// The key is gone; `false` when it was missing.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.take(key) else { return false };
        let bytes = bytes_to_discard(&entry);
        discard(entry, bytes);
        true
    }

    /// Nothing is left.
    pub(crate) fn clear(&mut self) {
        let before = std::mem::take(self);
        let bytes = before.memory;
        discard(before, bytes);
    }

    /// What was `from` is `to`, with value and expiry; `false` when `from` is missing.
    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let Some(entry) = self.take(from) else { return false };
        self.remove(to);
        self.enter(hash_of(to), entry.renamed(to));
        true
    }
}

/// What freeing it is about: a string's one piece of memory, however long, is nothing to put off.
fn bytes_to_discard(entry: &Entry) -> usize {
    if matches!(entry.value(), ValueRef::String(_)) { 0 } else { entry.memory_bytes() }
}

/// The expiry after a write.
fn after(expiry: Expiry, before: Option<u64>) -> Option<u64> {
    match expiry {
        Expiry::Clear => None,
        Expiry::Keep => before,
        Expiry::At(at_ms) => Some(expiry_as_logged(at_ms)),
    }
}

/// The expiry that the log's format can say and that images keep apart from "never": live and replayed they must be the same.
pub(crate) fn expiry_as_logged(at_ms: u64) -> u64 {
    at_ms.clamp(1, i64::MAX as u64)
}

#[cfg(test)]
#[path = "keyspace_tests.rs"]
mod tests;
