//! Time.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds on a clock that never goes back; only differences mean anything.
pub fn monotonic_ms() -> u64 {
    START.elapsed().as_millis() as u64
}
