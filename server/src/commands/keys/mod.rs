//! Commands on keys of any type.

mod all;
mod existence;
mod expiry;
mod object;
mod rename;

pub use all::{dbsize, flushall, keys, randomkey, scan};
pub use existence::{del, exists, touch, type_name};
pub use expiry::{expire, expireat, expiretime, persist, pexpire, pexpireat, pexpiretime, pttl, ttl};
pub use object::{memory, object};
pub use rename::{copy, rename, renamenx};

#[cfg(test)]
mod tests;
