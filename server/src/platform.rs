//! The server's only access to clocks, sleep, threads' sleep and facts about the process. Files of the data directory go
//! through storage's platform; sockets are tokio's, bound in `node.rs`.

use std::time::Duration;

pub use holdfast_storage::platform::clock::{monotonic_us, wall_clock_ms, wall_clock_us};

/// Ends after `ms` milliseconds.
pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Blocks the calling thread (DEBUG SLEEP).
pub fn block_thread_us(us: u64) {
    std::thread::sleep(Duration::from_micros(us));
}

/// Memory that the process has in RAM, bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// CPU time of the process so far, in seconds: system, user.
pub fn cpu_seconds() -> (f64, f64) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return (0.0, 0.0) };
    // Fields after the command's name, which is in brackets and may hold spaces; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let seconds = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / ticks;
    (seconds(12), seconds(11))
}

/// Name and release of the operating system, as INFO shows it.
pub fn operating_system() -> String {
    let name = rustix::system::uname();
    let show = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    format!("{} {} {}", show(name.sysname()), show(name.release()), show(name.machine()))
}

/// Path of the running binary.
pub fn executable() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}
