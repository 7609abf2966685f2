//! The crate's only access to sockets, tasks, timers and clocks, so that a simulation can put its own here. Clock, dice and
//! threads are storage's.

/// Sockets and tasks of the operating system.
#[cfg(not(feature = "simulation"))]
mod real;
/// Sockets and tasks of a simulated world.
#[cfg(feature = "simulation")]
mod simulated;

use std::io;
use std::time::Duration;

pub use holdfast_storage::platform::clock::{monotonic_ns, wall_clock_ms};
pub use holdfast_storage::platform::{random, sabotage, threads};
#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;

/// Added to the monotonic clock, so that it starts well above 0: the cluster core reads 0 as "never".
const MONOTONIC_START_MS: u64 = 1_000_000;

/// Milliseconds on a clock that never goes back and never stands near 0.
pub fn now_ms() -> u64 {
    ms_of(monotonic_ns())
}

/// What [`now_ms`] was when the monotonic clock stood there.
pub fn ms_of(monotonic_ns: u64) -> u64 {
    MONOTONIC_START_MS + monotonic_ns / 1_000_000
}

/// A runtime for one thread.
///
/// # Errors
/// When the system does not give what it needs.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Ends after `ms` milliseconds.
pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// What `work` gives, or nothing once `ms` milliseconds are over.
pub async fn within_ms<T>(ms: u64, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(ms), work).await.ok()
}
