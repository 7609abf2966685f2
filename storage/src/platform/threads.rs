//! Threads. In a simulated world there are none: all nodes share one. Work that can be done by the caller is
//! ([`run_on_all`], [`at_most`]); whoever wants a thread there gets an error, whoever sleeps a panic.

use std::io;
use std::thread;
use std::time::Duration;

pub use std::thread::{JoinHandle, Scope, ScopedJoinHandle, scope};

/// Whether there are threads: not in a simulated world.
#[cfg(feature = "simulation")]
pub fn are_real() -> bool {
    super::simulation::world().is_none()
}

/// Whether there are threads: not in a simulated world.
#[cfg(not(feature = "simulation"))]
pub const fn are_real() -> bool {
    true
}

/// As many threads as wanted, or the caller's alone.
pub fn at_most(wanted: usize) -> usize {
    if are_real() { wanted } else { 1 }
}

fn check_that_there_are_threads() -> io::Result<()> {
    if are_real() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated node has no threads"))
    }
}

/// Starts a thread of this name.
///
/// # Errors
/// When the system has none left.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    check_that_there_are_threads()?;
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a thread of this name that ends before its [`scope`] does.
///
/// # Errors
/// When the system has none left.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    check_that_there_are_threads()?;
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)
}

/// Runs `work` on `count` threads of this name at once, or on the caller's when one is enough, and returns when all are done. A panic in one is passed on.
///
/// # Errors
/// When not all could be started; those that were have done their work.
pub fn run_on_all(name: &str, count: usize, work: &(impl Fn() + Sync)) -> io::Result<()> {
    if at_most(count) == 1 {
        work();
        return Ok(());
    }
    thread::scope(|scope| {
        (0..count).try_for_each(|_| {
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map(|_| ())
        })
    })
}

/// From now on the calling thread runs when the others leave it time: its work is never waited for. Only advice: where the
/// system does not take it, the thread runs as it did.
pub fn give_way() {
    const NICENESS: i32 = 10;
    // On Linux niceness is the thread's own.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread cannot be made to give way");
    }
}

/// Lets time pass.
///
/// # Panics
/// In a simulated world, where all nodes would stand still for ever.
pub fn sleep(time: Duration) {
    assert!(are_real(), "a simulated node sleeps on the thread of all");
    thread::sleep(time);
}
