//! The keys of one slot: lookup, expiry, memory. Read by everybody; changed by `apply` alone.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::platform::clock;
use crate::types::table::{Keyed, Table};
use crate::types::{Value, ValueRef, value_format};

pub(crate) struct Entry {
    key: Box<[u8]>,
    pub(crate) value: Value,
    /// When it expires, milliseconds since 1970; 0: never.
    expires_at_ms: u64,
    /// When it was last used, seconds by the monotonic clock.
    used_at: Cell<u32>,
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Where OBJECT IDLETIME counts from.
fn now_seconds() -> u32 {
    (clock::monotonic_ms() / 1000) as u32
}

/// The keys of a slot.
#[derive(Default)]
pub struct Keyspace {
    keys: Table<Entry>,
    volatile: usize,
    /// `(expiry, key)`, soonest first; lazily: an entry whose key has another expiry by now, or none, is passed over.
    expiries: BinaryHeap<Reverse<(u64, Box<[u8]>)>>,
    /// Bytes of memory of keys and values.
    memory: usize,
}

impl Keyspace {
    fn live(&self, key: &[u8], now_ms: u64) -> Option<&Entry> {
        self.keys.get(key).filter(|entry| entry.expires_at_ms == 0 || entry.expires_at_ms > now_ms)
    }

    /// What the key holds, unless it has expired; counts as a use.
    pub fn get(&self, key: &[u8], now_ms: u64) -> Option<ValueRef<'_>> {
        let entry = self.live(key, now_ms)?;
        entry.used_at.set(now_seconds());
        Some(entry.value.as_ref())
    }

    /// What the key holds, unless it has expired; does not count as a use.
    pub fn peek(&self, key: &[u8], now_ms: u64) -> Option<ValueRef<'_>> {
        self.live(key, now_ms).map(|entry| entry.value.as_ref())
    }

    /// When the key expires, milliseconds since 1970, whether or not that is past; `None` when it does not or is missing.
    pub fn expiry_ms(&self, key: &[u8]) -> Option<u64> {
        self.keys.get(key).map(|entry| entry.expires_at_ms).filter(|&at_ms| at_ms > 0)
    }

    /// Whether the key is there but its time is past.
    pub fn is_expired(&self, key: &[u8], now_ms: u64) -> bool {
        self.volatile > 0 && self.expiry_ms(key).is_some_and(|at_ms| at_ms <= now_ms)
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
        self.volatile
    }

    /// Seconds since the key was last used (OBJECT IDLETIME).
    pub fn idle_seconds(&self, key: &[u8], now_ms: u64) -> Option<u64> {
        self.live(key, now_ms).map(|entry| u64::from(now_seconds().saturating_sub(entry.used_at.get())))
    }

    /// Bytes of memory that the key and its value take.
    pub fn memory_usage(&self, key: &[u8], now_ms: u64) -> Option<usize> {
        self.live(key, now_ms).map(exact_bytes)
    }

    /// One key that has not expired, each about as likely as any other; `None` when none is found in a few draws.
    pub fn random_key(&self, dice: &mut fastrand::Rng, now_ms: u64) -> Option<&[u8]> {
        const DRAWS: usize = 100;
        let draw = |_| {
            self.keys.random(dice).filter(|entry| entry.expires_at_ms == 0 || entry.expires_at_ms > now_ms)
        };
        if self.is_empty() { None } else { (0..DRAWS).find_map(draw).map(|entry| &*entry.key) }
    }

    /// Shows about `count` keys from `cursor` on, expired ones included; see [`Table::scan`].
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(&[u8], ValueRef<'_>, Option<u64>),
    ) -> u64 {
        self.keys.scan(cursor, count, |entry| {
            show(&entry.key, entry.value.as_ref(), Some(entry.expires_at_ms).filter(|&at_ms| at_ms > 0));
        })
    }

    /// Shows every key with its value and expiry, expired ones included.
    pub fn for_each(&self, mut show: impl FnMut(&[u8], ValueRef<'_>, Option<u64>)) {
        for entry in self.keys.iter() {
            show(&entry.key, entry.value.as_ref(), Some(entry.expires_at_ms).filter(|&at_ms| at_ms > 0));
        }
    }

    /// Bytes of memory of keys and values.
    pub fn memory_bytes(&self) -> usize {
        self.memory
    }

    /// Whether a key's time may be past.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.expiries.peek().is_some_and(|Reverse((at_ms, _))| *at_ms <= now_ms)
    }

    /// Up to `limit` keys whose time is past. What is returned is to be deleted: it is not returned again.
    pub fn take_expired(&mut self, now_ms: u64, limit: usize, out: &mut Vec<Box<[u8]>>) {
        while out.len() < limit && self.is_due(now_ms) {
            let Some(Reverse((at_ms, key))) = self.expiries.pop() else { return };
            if self.expiry_ms(&key) == Some(at_ms) {
                out.push(key);
            }
        }
    }

    /// A number that depends on keys, types, contents and expiries alone, not on order or form: equal slots, equal digests.
    pub fn digest(&self) -> u64 {
        let mut sum = 0u64;
        let mut bytes = Vec::new();
        self.for_each(|key, value, expiry| {
            bytes.clear();
            bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&expiry.unwrap_or(0).to_le_bytes());
            value_format::canonical(value, &mut bytes);
            // Two CRCs over different prefixes make 64 bits; the sum does not depend on the order.
            let low = crc32fast::hash(&bytes);
            bytes.push(0x5a);
            let high = crc32fast::hash(&bytes[1..]);
            sum = sum
                .wrapping_add((u64::from(high) << 32 | u64::from(low)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        });
        sum
    }

    /// Changes a key's value, or makes it out of `empty`; the memory count follows. The key goes when `change` says so.
    pub(crate) fn change<R>(
        &mut self,
        key: &[u8],
        empty: impl FnOnce() -> Value,
        change: impl FnOnce(&mut Value) -> (R, bool),
    ) -> R {
        if self.keys.get(key).is_none() {
            let entry = Entry {
                key: key.into(),
                value: empty(),
                expires_at_ms: 0,
                used_at: Cell::new(now_seconds()),
            };
            self.memory += counted_bytes(&entry);
            self.keys.insert(entry);
        }
        let entry = self.keys.get_mut(key).expect("entered just now");
        let before = counted_bytes(entry);
        let (result, gone) = change(&mut entry.value);
        self.memory = (self.memory + counted_bytes(entry)).saturating_sub(before);
        if gone {
            self.remove(key);
        }
        result
    }

    /// The key holds this value.
    pub(crate) fn put(&mut self, key: &[u8], value: Value, expires_at_ms: Option<u64>) {
        match self.keys.get_mut(key) {
            Some(entry) => {
                let before = counted_bytes(entry);
                entry.value = value;
                entry.used_at.set(now_seconds());
                self.memory = (self.memory + counted_bytes(entry)).saturating_sub(before);
            }
            None => {
                let entry =
                    Entry { key: key.into(), value, expires_at_ms: 0, used_at: Cell::new(now_seconds()) };
                self.memory += counted_bytes(&entry);
                self.keys.insert(entry);
            }
        }
        if let Some(at_ms) = expires_at_ms {
            self.set_expiry(key, at_ms);
        }
    }

    /// When the key expires, 0 for never; `false` when it is missing or that is so already.
    pub(crate) fn set_expiry(&mut self, key: &[u8], at_ms: u64) -> bool {
        let Some(entry) = self.keys.get_mut(key) else { return false };
        let before = std::mem::replace(&mut entry.expires_at_ms, at_ms);
        if before == at_ms {
            return false;
        }
        self.volatile = self.volatile + usize::from(at_ms > 0) - usize::from(before > 0);
        if at_ms > 0 {
            self.expiries.push(Reverse((at_ms, key.into())));
            self.sweep_expiries();
        }
        true
    }

    /// Keeps passed-over entries of the expiry heap from piling up.
    fn sweep_expiries(&mut self) {
        if self.expiries.len() > 2 * self.volatile + 16 {
            let keys = &self.keys;
            let current =
                |at_ms: u64, key: &[u8]| keys.get(key).is_some_and(|entry| entry.expires_at_ms == at_ms);
            self.expiries.retain(|Reverse((at_ms, key))| current(*at_ms, key));
        }
    }

    /// The key is gone; what it held and its expiry (0: none) are returned.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<(Value, u64)> {
        let entry = self.keys.remove(key)?;
        self.memory = self.memory.saturating_sub(counted_bytes(&entry));
        self.volatile -= usize::from(entry.expires_at_ms > 0);
        if self.keys.is_empty() {
            self.memory = 0;
            self.expiries = BinaryHeap::new();
        }
        Some((entry.value, entry.expires_at_ms))
    }
}

/// Bytes that a key and its value take.
fn exact_bytes(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.key.len() + entry.value.memory_bytes()
}

/// As [`exact_bytes`], but without a walk over large collections: those are counted by their length. For the running count,
/// which has to be cheap on every change.
fn counted_bytes(entry: &Entry) -> usize {
    const ELEMENT_BYTES: usize = 64;
    let value = match entry.value.as_ref() {
        ValueRef::String(_) => entry.value.memory_bytes(),
        ValueRef::Hash(hash) => hash.len() * ELEMENT_BYTES,
        ValueRef::List(list) => list.len() * ELEMENT_BYTES,
        ValueRef::Set(set) => set.len() * ELEMENT_BYTES,
        ValueRef::SortedSet(set) => set.len() * ELEMENT_BYTES,
    };
    size_of::<Entry>() + entry.key.len() + value
}
