//! The server's only access to sockets, clocks, sleep, threads' sleep, the configuration file and facts about the process.
//! Files of the data directory go through storage's platform.

/// Clients' sockets of the operating system.
#[cfg(not(feature = "simulation"))]
mod real;
/// Clients' sockets of a simulated world.
#[cfg(feature = "simulation")]
mod simulated;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use holdfast_replication::platform::{Bound, TcpListener, TcpStream, listen, off_thread, spawn};
pub use holdfast_storage::platform::clock::{monotonic_ns, monotonic_us, wall_clock_ms, wall_clock_us};
pub use holdfast_storage::platform::{sabotage, witness};

#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;

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
    let seconds =
        |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / ticks;
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

/// All bytes of a small file.
///
/// # Errors
/// When it is missing or cannot be read.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// All of standard input.
///
/// # Errors
/// When it cannot be read.
pub fn read_standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in a directory, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn list_directory(path: &Path) -> io::Result<Vec<String>> {
    holdfast_storage::platform::files::list(path)
}

/// The path from the root; the path itself where the working directory is gone.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Puts `bytes` in the place of a file, with its permissions: whatever happens, the old ones or the new ones are there. When
/// it returns, the new ones are on disk.
///
/// # Errors
/// When that is not possible; the old ones are there then, unless only the last step, syncing the directory, failed.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory.join(name);
    let written = write_new(&temporary, path, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        // The file that could not be finished is of no use; that it cannot be removed is of less interest than why.
        if let Err(left) = std::fs::remove_file(&temporary)
            && left.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %temporary.display(), error = %left, "a temporary file could not be removed");
        }
        return Err(error);
    }
    std::fs::File::open(directory)?.sync_all()
}

/// Created for its owner alone, so that a secret in it is never seen by others.
fn write_new(path: &Path, like: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    match std::fs::metadata(like) {
        Ok(old) => file.set_permissions(old.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.sync_all()
}
