//! Makes sled's flush durable. sled 0.34 ends a flush in `sync_file_range`, which on Linux writes neither the file's size nor
//! the disk's cache through: after a power cut nearly everything it had "flushed" is gone. Here that symbol is defined in
//! our own binary, as an fdatasync, so that sled's call lands in it. Nothing else in holdfast calls `sync_file_range`.
//!
//! It only works in executables that this crate is linked into, therefore `node_state.rs` checks at every open, by
//! [`count`], that it is the function that sled really calls, and refuses to go on otherwise.

#![expect(
    unsafe_code,
    reason = "defines a C symbol and calls fdatasync on a descriptor that a C caller owns"
)]

use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often sled (or anybody) has called `sync_file_range` in this process and got an fdatasync.
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// The C library's `sync_file_range`, replaced: syncs all of the file's data and its size.
///
/// # Safety
/// As for fdatasync: any number may be passed, what is no open descriptor is answered with `EBADF`.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(descriptor: libc::c_int, _: i64, _: i64, _: libc::c_uint) -> libc::c_int {
    // SAFETY: fdatasync takes any number and touches no memory of ours; errno is left as it sets it.
    let result = unsafe { libc::fdatasync(descriptor) };
    if result == 0 {
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_call_by_the_c_name_lands_here_and_reports_errors() {
        let file = tempfile::tempfile().unwrap();
        let before = count();
        // SAFETY: declared by libc as it is defined above.
        assert_eq!(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, 0) }, 0);
        assert!(count() > before, "the C library's own sync_file_range was called");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sync_file_range(-1, 0, 0, 0) }, -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    }
}
