//! Files and directories.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file, read and written at given offsets.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    /// Where it was opened: which faults of a test it meets.
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl File {
    fn new(file: std::fs::File, path: &Path) -> Self {
        #[cfg(not(test))]
        let _ = path;
        Self {
            file,
            #[cfg(test)]
            path: path.to_owned(),
        }
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the operating system said; some of the bytes may have been written.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Write)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Reads exactly `bytes.len()` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, or what the operating system said.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Reads up to `bytes.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn read_up_to_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the operating system said.
    #[expect(clippy::len_without_is_empty, reason = "a length on disk, not a collection")]
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Cuts the file, or extends it with zeros that take no space yet.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Write)?;
        self.file.set_len(length)
    }

    /// Reserves space for `length` bytes from `offset` on, so that writing there cannot run out of space; what is there
    /// reads as it did, new space as zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is none, or what the operating system said.
    pub fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Write)?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), offset, length) {
            Ok(()) => Ok(()),
            // File systems without fallocate: the space comes with the writes.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len((offset + length).max(self.len()?)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the file's lock for this process; `false` when another one has it. Let go when the file is closed.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Makes contents and length durable (fdatasync).
    ///
    /// # Errors
    /// What the operating system said; what was written may be lost, and trying again does not help.
    pub fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Sync)?;
        self.file.sync_data()
    }

    /// Makes contents and all metadata durable (fsync).
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    pub fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Sync)?;
        self.file.sync_all()
    }
}

/// Opens a file for reading.
///
/// # Errors
/// What the operating system said; the same for all functions below.
pub fn open_read(path: &Path) -> io::Result<File> {
    Ok(File::new(std::fs::File::open(path)?, path))
}

/// Opens a file for reading and writing; makes it when it is missing.
pub fn open_read_write(path: &Path) -> io::Result<File> {
    Ok(File::new(
        std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?,
        path,
    ))
}

/// Makes a file that must not be there yet.
pub fn create_new(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    faults::check(path, faults::Operation::Write)?;
    Ok(File::new(std::fs::File::options().read(true).write(true).create_new(true).open(path)?, path))
}

/// Makes a directory's entries durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// A whole file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// Renames; what stood at `to` is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Removes a file.
pub fn remove_file(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Removes a directory with all that is in it.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(path)
}

/// Makes a directory and those above it.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Whether there is something at the path.
pub fn exists(path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// The names in a directory, sorted.
pub fn list(path: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = entries.collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Faults for tests: from now on an operation fails on all files below a directory.
#[cfg(test)]
pub mod faults {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    /// What fails.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Operation {
        /// Writes and reservations of space.
        Write,
        /// fdatasync and fsync.
        Sync,
    }

    static FAILING: Mutex<Vec<(PathBuf, Operation, i32)>> = Mutex::new(Vec::new());

    /// From now on `operation` fails with this error number below `directory`.
    pub fn fail(directory: &Path, operation: Operation, error: i32) {
        FAILING.lock().unwrap_or_else(PoisonError::into_inner).push((directory.to_owned(), operation, error));
    }

    /// Nothing fails any more below `directory`.
    pub fn heal(directory: &Path) {
        FAILING.lock().unwrap_or_else(PoisonError::into_inner).retain(|(failing, ..)| failing != directory);
    }

    pub(super) fn check(path: &Path, operation: Operation) -> io::Result<()> {
        let failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        match failing.iter().find(|(directory, what, _)| *what == operation && path.starts_with(directory)) {
            Some(&(.., error)) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(()),
        }
    }
}
