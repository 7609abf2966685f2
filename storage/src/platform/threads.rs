//! Threads.

use std::io;
use std::time::Duration;

pub use std::thread::JoinHandle;

/// Starts a named thread.
///
/// # Errors
/// When the operating system has no more.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Runs `work` on `count` threads and waits for all of them.
///
/// # Errors
/// When the operating system has no more threads; those that started have ended.
pub fn scope(name: &str, count: usize, work: &(impl Fn() + Sync)) -> io::Result<()> {
    std::thread::scope(|scope| {
        for _ in 0..count {
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
        }
        Ok(())
    })
}

/// Blocks the calling thread.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
