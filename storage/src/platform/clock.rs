//! Clocks. The wall clock may jump; the monotonic one never goes back.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
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
    monotonic_ns() / 1000
}

/// Nanoseconds since some moment of this process.
pub fn monotonic_ns() -> u64 {
    let ns = read_monotonic_ns();
    let seconds = (ns / 1_000_000_000) as u32;
    if COARSE_SECONDS.load(Ordering::Relaxed) != seconds {
        COARSE_SECONDS.store(seconds, Ordering::Relaxed);
    }
    ns
}

fn read_monotonic_ns() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        return world.monotonic_us() * 1000;
    }
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// Processor time that the calling thread has used, in microseconds. In a simulated world none is.
pub fn thread_cpu_us() -> u64 {
    #[cfg(feature = "simulation")]
    if simulation::world().is_some() {
        return 0;
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Milliseconds since some moment of this process.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Where [`monotonic_ns`] stood, in whole seconds, when anybody last read it. Wraps around after 136 years.
static COARSE_SECONDS: AtomicU32 = AtomicU32::new(0);

/// Seconds on the monotonic clock as of its last reading in this process: it costs nothing, and is as good as new where commands
/// are timed.
pub fn coarse_seconds() -> u32 {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        return (world.monotonic_us() / 1_000_000) as u32;
    }
    COARSE_SECONDS.load(Ordering::Relaxed)
}
