//! The manifest: which image of each slot is the newest, and where. Kept in memory and, durably, in the node's small state;
//! when that is stale, broken or missing it is rebuilt from the image files, which describe themselves.
//!
//! Every change of the manifest comes with a new image file, and a file goes only after a later change. Hence:
//!
//! | state | image files | what it is |
//! |---|---|---|
//! | A. opens, its stamp confirms its rows | newest is the one in the stamp, all rows have their bytes | in order |
//! | B. as A, or missing | one is newer than the stamp | behind, as a crash in a pass leaves it: rows are rebuilt, notes kept |
//! | C. fails, panics, hangs, contradicts its stamp | | broken state: set aside, rebuild; notes are lost |
//! | D. as A | a row's bytes are not there, or only older images | image files were lost: refuse |
//! | E. B or C | a file cannot be scanned | both were damaged: refuse |
//!
//! A state that fails while the node runs (full disk, failed sync) is set aside too, at the next change, and written anew
//! from memory: sled does not come back from an error by itself. What images cover of the log does not stand in it, but in
//! the directory's header: the state is never the only copy of anything that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_words::Lsn;
use parking_lot::{Mutex, MutexGuard};

use crate::checkpoint::image_files::{self, ImageFile, ImageFileError, ImageFileWriter};
use crate::checkpoint::image_format::ImageStamp;
use crate::data_dir::{DataDir, DataDirError};
use crate::node_state::{ImageOf, ImageRow, ImageRows, NodeState, NodeStateError};
use crate::platform::files;

/// Why the manifest cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The node's small state failed, even when built anew.
    #[error(transparent)]
    State(#[from] NodeStateError),
    /// An image file cannot be read or written.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// Something in the data directory cannot be moved or changed.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The images were declared void while these were being made.
    #[error("image file {file} was declared void while it was written; its images are not used")]
    Voided {
        /// The file.
        file: u64,
    },
    /// Image files were lost, and the log that made them is gone.
    #[error(
        "{what}: image files were removed or cut by something other than holdfast. Restore them from a backup, or empty the \
         directory and let the node take a full copy from its shard"
    )]
    ImagesLost {
        /// What is not there.
        what: String,
    },
    /// Both the manifest and an image file are damaged.
    #[error(
        "the manifest of checkpoint images has to be rebuilt, but {source}; without this file it is unknown which slots are \
         incomplete. Restore it from a backup, or empty the directory and let the node take a full copy from its shard"
    )]
    Rebuild {
        /// Which file, where, why.
        source: ImageFileError,
    },
}

/// How much of an image file is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileUsage {
    /// The file's length.
    pub length: u64,
    /// Bytes of images that are some slot's newest.
    pub live: u64,
}

/// The open manifest.
pub struct Manifest {
    dir: Arc<DataDir>,
    directory: PathBuf,
    state: Mutex<Arc<NodeState>>,
    current: Mutex<Current>,
    next_file: AtomicU64,
}

struct Current {
    rows: ImageRows,
    images_from: u64,
}

impl Manifest {
    /// Opens the manifest of a data directory, checks it against the image files, and rebuilds it where it does not fit.
    ///
    /// # Errors
    /// When the image files cannot be read, or the state fails even when built anew.
    pub fn open(dir: Arc<DataDir>) -> Result<Self, ManifestError> {
        let directory = dir.images();
        let images_from = dir.identity().images_from;
        let mut found = image_files::list(&directory, true)?;
        remove_void(&directory, &mut found, images_from)?;
        // A process that died before it could sync the directory leaves names that are not durable; rows must name none.
        files::sync_directory(&directory).map_err(image_files::io_error("sync", &directory))?;

        let (state, rows) = match open_state(&dir.state(), images_from)? {
            Ok((state, known)) => (state, checked(known, &directory, &found, images_from)?),
            Err(reason) => {
                let rows =
                    scan(&directory, images_from).map_err(|source| ManifestError::Rebuild { source })?;
                let aside = put_state_aside(&dir)?;
                let (state, _) = NodeState::open(&dir.state())?;
                tracing::warn!(
                    reason,
                    set_aside = aside.map(|path| path.display().to_string()),
                    images = rows.rows.len(),
                    "the node's small state is broken; it was set aside and rebuilt from the image files"
                );
                (state, Checked { changed: rows.rows.keys().copied().collect(), rows })
            }
        };
        let Checked { rows, changed } = rows;
        if !changed.is_empty() {
            state.put_images(&rows, changed)?;
        }
        let next_file = images_from.max(rows.newest_file + 1);
        let manifest = Self {
            dir,
            directory,
            state: Mutex::new(Arc::new(state)),
            current: Mutex::new(Current { rows, images_from }),
            next_file: AtomicU64::new(next_file),
        };
        manifest.remove_unused(&found)?;
        Ok(manifest)
    }

    /// All rows, as of now.
    pub fn rows(&self) -> ImageRows {
        self.current.lock().rows.clone()
    }

    /// Every record of the log below it is in the images: replay may begin here.
    pub fn covered_lsn(&self) -> Lsn {
        self.dir.identity().covered_lsn
    }

    /// Every record of the log below `lsn` is in the images, durably: what a pass has found, or a full copy, whose images were
    /// stored by `receive.rs`. The log below may be released afterwards.
    ///
    /// # Errors
    /// When that could not be noted durably; the log must be kept then.
    pub fn raise_covered_lsn(&self, lsn: Lsn) -> Result<(), ManifestError> {
        Ok(self.dir.raise_covered_lsn(lsn)?)
    }

    /// The data directory it is in.
    pub fn data_dir(&self) -> &Arc<DataDir> {
        &self.dir
    }

    /// The node's small state, for its notes. Ask anew each time: it is replaced when it has failed.
    pub fn state(&self) -> Arc<NodeState> {
        self.state.lock().clone()
    }

    /// Where the image files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new image file, with a number no file had before.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_file(&self) -> Result<ImageFileWriter, ImageFileError> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        ImageFileWriter::create(&self.directory, number, self.dir.identity().node)
    }

    /// Replaces rows, durably; then removes files that no row needs any more. `newest_file` is the highest number of the
    /// files that were published for these rows.
    ///
    /// # Errors
    /// When the rows could not be made durable: the change has not happened, or will not be seen to have.
    pub fn commit(&self, changes: &[(ImageOf, ImageRow)], newest_file: u64) -> Result<(), ManifestError> {
        let current = self.current.lock();
        self.commit_locked(current, changes, newest_file)
    }

    /// As [`Self::commit`], for images that were moved from the places in `was` to those in `moved` (which may be fewer),
    /// file `newest_file`. A row that has changed since stays as it is.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_moved(
        &self,
        was: &[(ImageOf, ImageRow)],
        moved: &[(ImageOf, ImageRow)],
        newest_file: u64,
    ) -> Result<(), ManifestError> {
        let current = self.current.lock();
        let mut changes = moved.to_vec();
        let unchanged: BTreeSet<ImageOf> = was
            .iter()
            .filter(|(of, row)| current.rows.rows.get(of) == Some(row))
            .map(|(of, _)| *of)
            .collect();
        changes.retain(|(of, _)| unchanged.contains(of));
        if changes.is_empty() {
            self.remove(newest_file);
        }
        self.commit_locked(current, &changes, newest_file)
    }

    fn commit_locked(
        &self,
        mut current: MutexGuard<'_, Current>,
        changes: &[(ImageOf, ImageRow)],
        newest_file: u64,
    ) -> Result<(), ManifestError> {
        if let Some((_, row)) = changes.iter().find(|(_, row)| row.file < current.images_from) {
            self.remove(row.file);
            return Err(ManifestError::Voided { file: row.file });
        }
        let state = self.working_state(&current.rows)?;
        let was = files_of(&current.rows);
        // In place: all rows a second time are megabytes.
        let undo = Undo::change(&mut current.rows, changes, newest_file);
        if let Err(error) = state.put_images(&current.rows, changes.iter().map(|(of, _)| *of)) {
            undo.take_back(&mut current.rows);
            return Err(error.into());
        }
        let is = files_of(&current.rows);
        drop(current);
        for &number in was.difference(&is) {
            self.remove(number);
        }
        Ok(())
    }

    /// Makes all images void, durably: before a full copy, or when the node becomes another one. A crash at any point leaves
    /// either all of them or none.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub fn void_all(&self) -> Result<(), ManifestError> {
        let mut current = self.current.lock();
        let first = self.next_file.fetch_add(1, Ordering::Relaxed) + 1;
        self.dir.void_images_below(first)?;
        current.images_from = first;
        let generation = current.rows.generation + 1;
        let after = ImageRows { rows: BTreeMap::new(), newest_file: first - 1, generation };
        self.working_state(&current.rows)?.put_images(&after, current.rows.rows.keys().copied())?;
        let before = std::mem::replace(&mut current.rows, after);
        drop(current);
        files_of(&before).into_iter().for_each(|number| self.remove(number));
        Ok(())
    }

    /// The state, or a new one in its place when it has failed (a full disk, a failed sync): sled does not recover from that
    /// by itself, and what it synced then is not believed. The rows are those it held before.
    fn working_state(&self, rows: &ImageRows) -> Result<Arc<NodeState>, ManifestError> {
        let mut state = self.state.lock();
        let Some(failure) = state.failure() else { return Ok(state.clone()) };
        let aside = put_state_aside(&self.dir)?;
        let (new, _) = NodeState::open(&self.dir.state())?;
        new.put_images(rows, rows.rows.keys().copied())?;
        tracing::warn!(
            reason = %failure,
            set_aside = aside.map(|path| path.display().to_string()),
            "the node's small state has failed; it was set aside and written anew"
        );
        *state = Arc::new(new);
        Ok(state.clone())
    }

    /// The image files that rows point to, and how much of each is in use.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn usage(&self) -> Result<BTreeMap<u64, FileUsage>, ImageFileError> {
        let lengths = image_files::list(&self.directory, false)?;
        let mut usage = BTreeMap::new();
        for row in self.current.lock().rows.rows.values() {
            if let Some(&length) = lengths.get(&row.file) {
                usage.entry(row.file).or_insert(FileUsage { length, live: 0 }).live += row.length;
            }
        }
        Ok(usage)
    }

    /// A file that nobody needs costs only its space; it is tried again at the next start.
    fn remove(&self, number: u64) {
        let path = image_files::path_of(&self.directory, number);
        if let Err(error) = files::remove_file(&path) {
            tracing::warn!(
                "remove {}: {error}; it is not needed and is removed at the next start",
                path.display()
            );
        }
    }

    fn remove_unused(&self, found: &BTreeMap<u64, u64>) -> Result<(), ImageFileError> {
        let used = files_of(&self.current.lock().rows);
        for number in found.keys().filter(|number| !used.contains(number)) {
            let path = image_files::path_of(&self.directory, *number);
            files::remove_file(&path).map_err(image_files::io_error("remove", &path))?;
        }
        Ok(())
    }
}

/// What takes back a change of rows that could not be made durable.
struct Undo {
    rows: Vec<(ImageOf, Option<ImageRow>)>,
    newest_file: u64,
    generation: u64,
}

impl Undo {
    fn change(rows: &mut ImageRows, changes: &[(ImageOf, ImageRow)], newest_file: u64) -> Self {
        let replaced = if rows.rows.is_empty() {
            // All at once: one after the other leaves the tree's nodes half empty.
            rows.rows = changes.iter().copied().collect();
            changes.iter().map(|&(of, _)| (of, None)).collect()
        } else {
            changes.iter().map(|&(of, row)| (of, rows.rows.insert(of, row))).collect()
        };
        let undo = Self { rows: replaced, newest_file: rows.newest_file, generation: rows.generation };
        rows.newest_file = rows.newest_file.max(newest_file);
        rows.generation += 1;
        undo
    }

    fn take_back(self, rows: &mut ImageRows) {
        // The newest first: a row may have been changed twice.
        for (of, row) in self.rows.into_iter().rev() {
            match row {
                Some(row) => rows.rows.insert(of, row),
                None => rows.rows.remove(&of),
            };
        }
        (rows.newest_file, rows.generation) = (self.newest_file, self.generation);
    }
}

fn files_of(rows: &ImageRows) -> BTreeSet<u64> {
    rows.rows.values().map(|row| row.file).collect()
}

/// Files that the directory's header declares void go before anything looks at them.
fn remove_void(
    directory: &Path,
    found: &mut BTreeMap<u64, u64>,
    images_from: u64,
) -> Result<(), ImageFileError> {
    let valid = found.split_off(&images_from);
    for (number, _) in std::mem::replace(found, valid) {
        let path = image_files::path_of(directory, number);
        files::remove_file(&path).map_err(image_files::io_error("remove", &path))?;
    }
    Ok(())
}

/// Opens the state; the inner error says why it is broken.
fn open_state(
    path: &Path,
    images_from: u64,
) -> Result<Result<(NodeState, ImageRows), String>, ManifestError> {
    let (state, mut rows) = match NodeState::open(path) {
        Ok(opened) => opened,
        // Building it anew would not help.
        Err(error @ NodeStateError::NotInterposed { .. }) => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let void: Vec<ImageOf> =
        rows.rows.iter().filter(|(_, row)| row.file < images_from).map(|(of, _)| *of).collect();
    if !void.is_empty() {
        // Voiding was interrupted after the header was written.
        rows.rows.retain(|_, row| row.file >= images_from);
        rows.generation += 1;
        state.put_images(&rows, void)?;
    }
    Ok(Ok((state, rows)))
}

fn put_state_aside(dir: &DataDir) -> Result<Option<PathBuf>, ManifestError> {
    let exists =
        files::exists(&dir.state()).map_err(|error| image_files::io_error("look at", &dir.state())(error))?;
    Ok(if exists { Some(dir.put_aside(&dir.state(), "state.broken")?) } else { None })
}

struct Checked {
    rows: ImageRows,
    /// Rows that have yet to be written.
    changed: BTreeSet<ImageOf>,
}

/// Checks rows that a whole state holds against the image files there are, and brings them up to date.
fn checked(
    known: ImageRows,
    directory: &Path,
    found: &BTreeMap<u64, u64>,
    images_from: u64,
) -> Result<Checked, ManifestError> {
    let newest = found.last_key_value().map_or(0, |(&newest, _)| newest);
    if newest <= known.newest_file {
        return match lost(&known, found) {
            None => Ok(Checked { rows: known, changed: BTreeSet::new() }),
            Some(what) => Err(ManifestError::ImagesLost { what }),
        };
    }
    let mut rows = scan(directory, images_from).map_err(|source| ManifestError::Rebuild { source })?;
    for (of, row) in &known.rows {
        if rows.rows.get(of).is_none_or(|found| found.freshness() < row.freshness()) {
            let what = format!("the image of {of:?} that was in image file {} is nowhere", row.file);
            return Err(ManifestError::ImagesLost { what });
        }
    }
    rows.generation = known.generation + 1;
    tracing::info!(
        newest_file = newest,
        newest_known = known.newest_file,
        images = rows.rows.len(),
        "the manifest was behind the image files, as a crash in a checkpoint leaves it, and was brought up to date from them"
    );
    Ok(Checked { changed: rows.rows.keys().copied().collect(), rows })
}

/// A row whose bytes are not in the image files there are (number → length), if there is one.
fn lost(rows: &ImageRows, found: &BTreeMap<u64, u64>) -> Option<String> {
    rows.rows.iter().find_map(|(of, row)| match found.get(&row.file) {
        Some(&length) if row.offset.checked_add(row.length).is_some_and(|end| end <= length) => None,
        Some(length) => Some(format!(
            "the newest image of {of:?} should be at offset {} of image file {}, which ends at {length}",
            row.offset, row.file
        )),
        None => {
            Some(format!("the newest image of {of:?} should be in image file {}, which is missing", row.file))
        }
    })
}

/// Finds the newest image of each slot in the files of `directory` from number `images_from` on, without any manifest.
///
/// # Errors
/// When a file cannot be read to its end.
pub fn scan(directory: &Path, images_from: u64) -> Result<ImageRows, ImageFileError> {
    let mut newest: BTreeMap<ImageOf, (ImageStamp, ImageRow)> = BTreeMap::new();
    let mut newest_file = images_from.saturating_sub(1);
    for &number in image_files::list(directory, false)?.range(images_from..).map(|(number, _)| number) {
        newest_file = newest_file.max(number);
        ImageFile::open(directory, number)?.scan(|stamp, row| {
            let known = newest.entry(stamp.of()).or_insert((*stamp, row));
            // A rewritten copy is as fresh as its original; the later file has it.
            if stamp.freshness() >= known.0.freshness() {
                *known = (*stamp, row);
            }
        })?;
    }
    let rows = newest.into_iter().map(|(of, (_, row))| (of, row)).collect();
    Ok(ImageRows { rows, newest_file, generation: 1 })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
