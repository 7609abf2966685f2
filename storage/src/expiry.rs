//! Which keys are due: chosen here, deleted by the caller through mutations.

use crate::keyspace::Keyspace;

/// Whether a look at the slot's keys is worth it.
pub fn is_due(keys: &Keyspace, now_ms: u64) -> bool {
    keys.is_due(now_ms)
}
