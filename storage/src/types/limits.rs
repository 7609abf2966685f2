//! When a collection outgrows its small form: Redis's options of the same names, one set per process. They change how values
//! are kept, never what they are, so members of a shard may differ in them.

use std::sync::atomic::{AtomicI64, Ordering};

/// One limit, settable at run time.
#[derive(Debug)]
pub struct Limit(AtomicI64);

impl Limit {
    const fn new(default: i64) -> Self {
        Self(AtomicI64::new(default))
    }

    /// Its present value, a negative one as 0.
    pub fn get(&self) -> usize {
        usize::try_from(self.signed()).unwrap_or(0)
    }

    /// Its present value as it was set.
    pub fn signed(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// CONFIG SET.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// `hash-max-listpack-entries`
pub static HASH_MAX_LISTPACK_ENTRIES: Limit = Limit::new(128);
/// `hash-max-listpack-value`, bytes
pub static HASH_MAX_LISTPACK_VALUE: Limit = Limit::new(64);
/// `list-max-listpack-size`: elements, or -1 to -5 for 4 to 64 KiB
pub static LIST_MAX_LISTPACK_SIZE: Limit = Limit::new(-2);
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

/// The limit of this name in redis.conf, or of the name it had before Redis 7.
pub fn by_name(name: &str) -> Option<&'static Limit> {
    Some(match name {
        "hash-max-listpack-entries" | "hash-max-ziplist-entries" => &HASH_MAX_LISTPACK_ENTRIES,
        "hash-max-listpack-value" | "hash-max-ziplist-value" => &HASH_MAX_LISTPACK_VALUE,
        "list-max-listpack-size" | "list-max-ziplist-size" => &LIST_MAX_LISTPACK_SIZE,
        "set-max-intset-entries" => &SET_MAX_INTSET_ENTRIES,
        "set-max-listpack-entries" => &SET_MAX_LISTPACK_ENTRIES,
        "set-max-listpack-value" => &SET_MAX_LISTPACK_VALUE,
        "zset-max-listpack-entries" | "zset-max-ziplist-entries" => &ZSET_MAX_LISTPACK_ENTRIES,
        "zset-max-listpack-value" | "zset-max-ziplist-value" => &ZSET_MAX_LISTPACK_VALUE,
        _ => return None,
    })
}

/// Whether a list of so many elements and bytes is a `listpack` to OBJECT ENCODING.
pub(crate) fn is_small_list(elements: usize, bytes: usize) -> bool {
    const KIB: usize = 1024;
    match LIST_MAX_LISTPACK_SIZE.signed() {
        -1 => bytes <= 4 * KIB,
        -2 => bytes <= 8 * KIB,
        -3 => bytes <= 16 * KIB,
        -4 => bytes <= 32 * KIB,
        ..=-5 => bytes <= 64 * KIB,
        most => elements as u64 <= most.max(1).unsigned_abs() && bytes <= 8 * KIB,
    }
}
