//! Commands on keys of any type.

mod all;
mod existence;
mod expiry;
mod object;
mod rename;

use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::ValueRef;

pub use all::{dbsize, flushall, keys, randomkey, scan};
pub use existence::{del, exists, touch, type_name};
pub use expiry::{expire, expireat, expiretime, persist, pexpire, pexpireat, pexpiretime, pttl, ttl};
pub use object::{memory, object};
pub use rename::{copy, rename, renamenx};

/// What a key holds, for commands that do not count as a use of it.
fn peek<'v>(data: &'v SlotSet<'_>, key: &[u8]) -> Option<ValueRef<'v>> {
    data.keyspace(key).peek(key, data.now_ms())
}

#[cfg(test)]
mod tests;
