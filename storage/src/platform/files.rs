//! Files and directories. Positions are always given: a file has no cursor. Names become durable only by
//! [`sync_directory`].

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file.
#[derive(Debug)]
pub struct File(fs::File);

impl File {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// When not all of it could be written; some of it may have been.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// When the file ends before (`UnexpectedEof`) or cannot be read.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    /// The file's length.
    ///
    /// # Errors
    /// When the file system does not say.
    #[expect(clippy::len_without_is_empty, reason = "a length that can fail; emptiness is nobody's question")]
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    /// Returns when the file's bytes and length are on disk.
    ///
    /// # Errors
    /// When they are not, and then nobody knows which are: never try again and carry on.
    pub fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// As [`Self::sync_data`], with all that is known about the file.
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// Locks the file for this handle alone, until it is closed; `false` when another one has it.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Opens a file to read it.
///
/// # Errors
/// When it is missing or may not be read.
pub fn open_read(path: &Path) -> io::Result<File> {
    fs::File::open(path).map(File)
}

/// Opens a file to read and write it, creating it when it is missing.
///
/// # Errors
/// When that is not possible.
pub fn open_read_write(path: &Path) -> io::Result<File> {
    fs::File::options().read(true).write(true).create(true).truncate(false).open(path).map(File)
}

/// Creates a file that must not exist, to read and write it.
///
/// # Errors
/// When it exists or cannot be created.
pub fn create_new(path: &Path) -> io::Result<File> {
    fs::File::options().read(true).write(true).create_new(true).open(path).map(File)
}

/// All bytes of a (small) file.
///
/// # Errors
/// When it is missing or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// Gives a file or directory another name, replacing a file of that name.
///
/// # Errors
/// When that is not possible.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file.
///
/// # Errors
/// When it is missing or may not be removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Creates a directory and those above it, where they are missing.
///
/// # Errors
/// When that is not possible.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Whether there is a file or directory of this name.
///
/// # Errors
/// When that cannot be found out.
pub fn exists(path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// The names in a directory, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Returns when the names in a directory are on disk.
///
/// # Errors
/// When they are not.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
