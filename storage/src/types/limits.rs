//! When a collection outgrows its small form: Redis's options of the same names, one set per process. They change how values
//! are kept, never what they are, so members of a shard may differ in them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One limit, settable at run time.
#[derive(Debug)]
pub struct Limit(AtomicUsize);

impl Limit {
    const fn new(default: usize) -> Self {
        Self(AtomicUsize::new(default))
    }

    /// Its present value.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// CONFIG SET.
    pub fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// `hash-max-listpack-entries`
pub static HASH_MAX_LISTPACK_ENTRIES: Limit = Limit::new(128);
/// `hash-max-listpack-value`, bytes
pub static HASH_MAX_LISTPACK_VALUE: Limit = Limit::new(64);
/// `set-max-intset-entries`
pub static SET_MAX_INTSET_ENTRIES: Limit = Limit::new(512);
/// `set-max-listpack-entries`
pub static SET_MAX_LISTPACK_ENTRIES: Limit = Limit::new(128);
/// `set-max-listpack-value`, bytes
pub static SET_MAX_LISTPACK_VALUE: Limit = Limit::new(64);
/// `zset-max-listpack-entries`
pub static ZSET_MAX_LISTPACK_ENTRIES: Limit = Limit::new(128);
/// `zset-max-listpack-value`, bytes
pub static ZSET_MAX_LISTPACK_VALUE: Limit = Limit::new(64);
