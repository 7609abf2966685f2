//! Clocks. The wall clock may jump; the monotonic one never goes back.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "simulation")]
use super::simulation;

/// Microseconds since 1970 by the wall clock.
pub fn wall_clock_us() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        return world.wall_clock_us();
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Milliseconds since 1970 by the wall clock.
pub fn wall_clock_ms() -> u64 {
    wall_clock_us() / 1000
}

/// Microseconds since some moment of this process.
pub fn monotonic_us() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        return world.monotonic_us();
    }
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_micros() as u64
}

/// Milliseconds since some moment of this process.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Seconds since some moment before this process, by a clock that costs next to nothing and may lag by some milliseconds.
pub fn coarse_seconds() -> u32 {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        return (world.monotonic_us() / 1_000_000) as u32;
    }
    // Wraps around after 136 years.
    rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse).tv_sec as u32
}
