//! Threads.

use std::io;
use std::thread;
use std::time::Duration;

pub use std::thread::{JoinHandle, Scope, ScopedJoinHandle, scope};

/// Starts a thread of this name.
///
/// # Errors
/// When the system has none left.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
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
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)
}

/// Runs `work` on `count` threads of this name at once and returns when all are done. A panic in one is passed on.
///
/// # Errors
/// When not all could be started; those that were have done their work.
pub fn run_on_all(name: &str, count: usize, work: &(impl Fn() + Sync)) -> io::Result<()> {
    thread::scope(|scope| {
        (0..count).try_for_each(|_| {
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map(|_| ())
        })
    })
}

/// Lets time pass.
pub fn sleep(time: Duration) {
    thread::sleep(time);
}
