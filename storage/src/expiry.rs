//! Which keys are due: chosen here, deleted by the caller through mutations.

use crate::keyspace::Keyspace;

/// Whether a look at the slot's keys is worth it.
pub fn is_due(keys: &Keyspace, now_ms: u64) -> bool {
    keys.is_due(now_ms)
}

/// Adds up to `limit` keys whose time is past to `due`, the longest past first. They stay due until they are deleted.
pub fn choose(keys: &Keyspace, now_ms: u64, limit: usize, due: &mut Vec<Box<[u8]>>) {
    keys.collect_expired(now_ms, due.len() + limit, due);
}
