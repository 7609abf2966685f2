//! Makes sled's flush durable. sled 0.34 ends a flush in `sync_file_range`, which on Linux writes neither the file's size nor
//! the disk's cache through: after a power cut nearly everything it had "flushed" is gone. Here that symbol is defined in
//! our own binary, as an fdatasync, so that sled's call lands in it. Nothing else in holdfast calls the function; what the system
//! call is good for, to begin writing early, is [`begin_write_out`].
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

/// Has the kernel begin to write dirty pages of a range, and returns: no cache of a disk is flushed and nothing is durable by it.
///
/// # Errors
/// What the kernel said, `Unsupported` where the call is not known to be the same: nothing depends on it.
pub fn begin_write_out(file: &std::fs::File, offset: u64, length: u64) -> std::io::Result<()> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        use std::os::fd::AsRawFd;
        let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
        let (call, descriptor) = (libc::SYS_sync_file_range, file.as_raw_fd());
        // SAFETY: the system call takes a descriptor, which `file` keeps open, and numbers; it touches no memory of ours. Measured:
        // an fdatasync of a second's log in one piece kept a worker on the same core from running for 4 to 14 ms.
        let result = unsafe { libc::syscall(call, descriptor, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = (file, offset, length);
        Err(std::io::ErrorKind::Unsupported.into())
    }
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

    #[test]
    fn a_write_out_reaches_the_kernel_and_not_the_replaced_function() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        begin_write_out(&file, 0, 4096).unwrap();
        let refused = begin_write_out(&file, u64::MAX, 4096).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "the kernel looked at it");
    }
}
