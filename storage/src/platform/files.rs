//! Files and directories. In a simulated world those below `/simulated/` are in memory (`simulation/disk.rs`).

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(feature = "simulation")]
use super::simulation::disk::{self, Open};
use crate::sync_file_range;

#[derive(Debug)]
enum Place {
    Real(std::fs::File),
    #[cfg(feature = "simulation")]
    Simulated(disk::File),
}

/// An open file, read and written at given offsets.
#[derive(Debug)]
pub struct File {
    place: Place,
    /// Where it was opened: which faults of a test it meets.
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl File {
    fn new(place: Place, path: &Path) -> Self {
        #[cfg(not(test))]
        let _ = path;
        Self {
            place,
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
        match &self.place {
            Place::Real(file) => file.write_all_at(bytes, offset),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.write_all_at(bytes, offset),
        }
    }

    /// Reads exactly `bytes.len()` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, or what the operating system said.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.place {
            Place::Real(file) => file.read_exact_at(bytes, offset),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) if file.read_at(bytes, offset)? < bytes.len() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            #[cfg(feature = "simulation")]
            Place::Simulated(_) => Ok(()),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.place {
            Place::Real(file) => file.read_at(bytes, offset),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.read_at(bytes, offset),
        }
    }

    /// Reads up to `bytes.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn read_up_to_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Asks the kernel to drop what it holds of these bytes, so that the next read comes from the disk. What is not on disk yet
    /// stays. Only advice: where it is not taken, a read shows what the kernel holds.
    pub fn forget_cached(&self, offset: u64, length: u64) {
        match &self.place {
            Place::Real(file) => {
                let length = std::num::NonZeroU64::new(length);
                if let Err(error) = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::DontNeed) {
                    tracing::debug!(%error, "the kernel does not take advice on a file");
                }
            }
            #[cfg(feature = "simulation")]
            Place::Simulated(_) => {}
        }
    }

    /// Has the kernel begin to write these bytes to the disk. Nothing is durable by that; a later [`Self::sync_data`] finds less to
    /// do. Where the kernel has no such call, that one does it all.
    ///
    /// # Errors
    /// What the disk said: as with a sync, what was written may be lost, and no later sync need say so.
    pub fn begin_write_out(&self, offset: u64, length: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::WriteOut)?;
        match &self.place {
            Place::Real(file) => match sync_file_range::begin_write_out(file, offset, length) {
                // Old, or forbidden where system calls are filtered.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    Ok(())
                }
                begun => begun,
            },
            #[cfg(feature = "simulation")]
            Place::Simulated(_) => Ok(()),
        }
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the operating system said.
    #[expect(clippy::len_without_is_empty, reason = "a length on disk, not a collection")]
    pub fn len(&self) -> io::Result<u64> {
        match &self.place {
            Place::Real(file) => Ok(file.metadata()?.len()),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.len(),
        }
    }

    /// Cuts the file, or extends it with zeros that take no space yet.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Write)?;
        match &self.place {
            Place::Real(file) => file.set_len(length),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.set_len(length),
        }
    }

    /// Reserves space for `length` bytes from `offset` on, so that writing there cannot run out of space; what is there
    /// reads as it did, new space as zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is none, or what the operating system said.
    pub fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Write)?;
        match &self.place {
            Place::Real(file) => reserve(file, offset, length),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.reserve(offset, length),
        }
    }

    /// Takes the file's lock for this process; `false` when another one has it. Let go when the file is closed.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn try_lock(&self) -> io::Result<bool> {
        match &self.place {
            Place::Real(file) => try_lock(file),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.try_lock(),
        }
    }

    /// Makes contents and length durable (fdatasync).
    ///
    /// # Errors
    /// What the operating system said; what was written may be lost, and trying again does not help.
    pub fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Sync)?;
        match &self.place {
            Place::Real(file) => file.sync_data(),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.sync(),
        }
    }

    /// Makes contents and all metadata durable (fsync).
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    pub fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::check(&self.path, faults::Operation::Sync)?;
        match &self.place {
            Place::Real(file) => file.sync_all(),
            #[cfg(feature = "simulation")]
            Place::Simulated(file) => file.sync(),
        }
    }
}

fn reserve(file: &std::fs::File, offset: u64, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), offset, length) {
        Ok(()) => Ok(()),
        // File systems without fallocate: the space comes with the writes.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len((offset + length).max(file.metadata()?.len())),
        Err(error) => Err(error.into()),
    }
}

fn try_lock(file: &std::fs::File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a file for reading.
///
/// # Errors
/// What the operating system said; the same for all functions below.
pub fn open_read(path: &Path) -> io::Result<File> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return Ok(File::new(Place::Simulated(disk.open(path, Open::Read)?), path));
    }
    Ok(File::new(Place::Real(std::fs::File::open(path)?), path))
}

/// Opens a file for reading and writing; makes it when it is missing.
pub fn open_read_write(path: &Path) -> io::Result<File> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return Ok(File::new(Place::Simulated(disk.open(path, Open::ReadWrite)?), path));
    }
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(File::new(Place::Real(file), path))
}

/// Makes a file that must not be there yet.
pub fn create_new(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    faults::check(path, faults::Operation::Write)?;
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return Ok(File::new(Place::Simulated(disk.open(path, Open::CreateNew)?), path));
    }
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(path)?;
    Ok(File::new(Place::Real(file), path))
}

/// Makes a directory's entries durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.sync_directory(path);
    }
    std::fs::File::open(path)?.sync_all()
}

/// A whole file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.read(path);
    }
    std::fs::read(path)
}

/// Renames; what stood at `to` is replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(from) {
        return disk.rename(from, to);
    }
    std::fs::rename(from, to)
}

/// Removes a file.
pub fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.remove_file(path);
    }
    std::fs::remove_file(path)
}

/// Removes a directory with all that is in it.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.remove_directory(path);
    }
    std::fs::remove_dir_all(path)
}

/// Makes a directory and those above it.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.create_dir_all(path);
    }
    std::fs::create_dir_all(path)
}

/// Whether there is something at the path.
pub fn exists(path: &Path) -> io::Result<bool> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.exists(path);
    }
    path.try_exists()
}

/// The names in a directory, sorted.
pub fn list(path: &Path) -> io::Result<Vec<String>> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = disk::of(path) {
        return disk.list(path);
    }
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
        /// Beginning to write early.
        WriteOut,
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
