//! FORMAT: the node's small state, and the only module that touches sled. It holds rows that say where each slot's image is,
//! and small notes that an operator may lose. It is an index, never the only copy of anything: whoever opens it checks it
//! against the image files and rebuilds it from them (see `checkpoint/manifest.rs`).
//!
//! ```text
//! tree "images"  key: u16 big-endian, a group's number: 128 slots one after the other, those from 128 · number on
//!                value, little-endian: u8 version  row…      ascending
//!                row = u16 slot  u64 file  u64 offset  u64 length  u64 epoch  u64 sequence  u64 lsn  u64 keys
//!                key "stamp", value: u8 version  u64 newest file  u64 generation  u64 rows  u32 crc32 of all rows, ascending
//! tree "notes"   key: a name, value: bytes; name and value together at most 16 KiB
//! ```
//!
//! Rows stand in groups because sled takes much memory for each small record that changes: with a record for each slot, a
//! checkpoint of all slots left the process 85 MB larger, most of it on sled's thread.
//!
//! What sled 0.34 gets wrong, and what is done about it here (measured in the project's notes on parts):
//! * Its flush is not durable: `sync_file_range.rs` turns it into an fdatasync, which opening checks; an fsync of the file by
//!   ourselves follows each flush, and the directory is synced after opening.
//! * It writes pages above a quarter of its segment size to files that it never syncs. A page holds at most 31 records, so
//!   records of at most 16 KiB in segments of 2 MiB never get there.
//! * It panics on what it does not like, when opening or later: it lives on a thread of its own, panics are caught, and
//!   after any failure this module answers every call with that failure.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use holdfast_words::{Epoch, Lsn, SlotId, SlotSequence};
use parking_lot::Mutex;

#[cfg(feature = "simulation")]
use crate::platform::simulation;
use crate::platform::{files, threads};
use crate::sync_file_range;

#[cfg(feature = "simulation")]
mod simulated;

/// Version of the rows; those of another one are not read, but made anew from the image files.
pub const NODE_STATE_FORMAT_VERSION: u8 = 2;
/// Most bytes of a note, its name included.
pub const NOTE_SIZE_MAX: usize = 16 << 10;

const SEGMENT_SIZE: usize = 2 << 20;
const RECORDS_PER_PAGE_MAX: usize = 31;
const _: () = assert!(NOTE_SIZE_MAX < 64 << 10, "sled writes large records to files that it does not sync");
const _: () = assert!(RECORDS_PER_PAGE_MAX * NOTE_SIZE_MAX < SEGMENT_SIZE / 4);
/// sled opens a state of this size in milliseconds; one that takes this long hangs.
const OPEN_TIME_MAX: Duration = Duration::from_secs(60);

const STAMP_KEY: &[u8] = b"stamp";
const ROW_SIZE: usize = 2 + 7 * 8;
/// Slots whose rows stand in one record.
const GROUP_SLOTS: u16 = 128;
const _: () = assert!(1 + GROUP_SLOTS as usize * ROW_SIZE + 2 <= NOTE_SIZE_MAX);
const STAMP_SIZE: usize = 1 + 3 * 8 + 4;

/// What an image row is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ImageOf {
    /// A slot's keys.
    Slot(SlotId),
}

impl ImageOf {
    fn number(self) -> u16 {
        match self {
            Self::Slot(slot) => slot.number(),
        }
    }

    /// The record that its row is in.
    fn group(self) -> u16 {
        self.number() / GROUP_SLOTS
    }
}

/// Where an image is, and as of when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageRow {
    /// Number of the image file.
    pub file: u64,
    /// Where in the file the image begins.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// The epoch it was made in.
    pub epoch: Epoch,
    /// The newest record it holds.
    pub sequence: SlotSequence,
    /// End of that record in the log.
    pub lsn: Lsn,
    /// Keys in it.
    pub keys: u64,
}

impl ImageRow {
    fn encode(&self, of: ImageOf) -> [u8; ROW_SIZE] {
        let fields =
            [self.file, self.offset, self.length, self.epoch.0, self.sequence.0, self.lsn.0, self.keys];
        let mut bytes = [0; ROW_SIZE];
        bytes[..2].copy_from_slice(&of.number().to_le_bytes());
        for (place, field) in bytes[2..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; ROW_SIZE]) -> Option<(ImageOf, Self)> {
        let (number, fields) = bytes.split_first_chunk::<2>()?;
        let of = SlotId::new(u16::from_le_bytes(*number)).map(ImageOf::Slot)?;
        let mut numbers = numbers(fields);
        let row = Self {
            file: numbers.next()?,
            offset: numbers.next()?,
            length: numbers.next()?,
            epoch: Epoch(numbers.next()?),
            sequence: SlotSequence(numbers.next()?),
            lsn: Lsn(numbers.next()?),
            keys: numbers.next()?,
        };
        row.offset.checked_add(row.length)?;
        Some((of, row))
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The image rows, as a whole.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ImageRows {
    /// One row for each slot that has an image, and for the metadata snapshot.
    pub rows: BTreeMap<ImageOf, ImageRow>,
    /// The newest image file there was when the rows were written. A newer one in the directory says that the rows are
    /// stale.
    pub newest_file: u64,
    /// How often the rows were written.
    pub generation: u64,
}

impl ImageRows {
    fn stamp(&self) -> [u8; STAMP_SIZE] {
        let mut crc = crc32fast::Hasher::new();
        for (of, row) in &self.rows {
            crc.update(&row.encode(*of));
        }
        let mut bytes = [0; STAMP_SIZE];
        bytes[0] = NODE_STATE_FORMAT_VERSION;
        let fields = [self.newest_file, self.generation, self.rows.len() as u64];
        for (place, field) in bytes[1..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes[STAMP_SIZE - 4..].copy_from_slice(&crc.finalize().to_le_bytes());
        bytes
    }

    /// The record of a group; `None`: it has no row.
    fn encode_group(&self, group: u16) -> Option<Vec<u8>> {
        let first = group * GROUP_SLOTS;
        let slot = |number| SlotId::new(number).map(ImageOf::Slot);
        let rows = self.rows.range(slot(first)?..=slot(first + GROUP_SLOTS - 1)?);
        let mut bytes = vec![NODE_STATE_FORMAT_VERSION];
        rows.for_each(|(of, row)| bytes.extend_from_slice(&row.encode(*of)));
        (bytes.len() > 1).then_some(bytes)
    }

    /// Takes in the rows of a group's record; `None`: it is none.
    fn decode_group(&mut self, key: &[u8], bytes: &[u8]) -> Option<()> {
        let group = u16::from_be_bytes(*<&[u8; 2]>::try_from(key).ok()?);
        let rows = bytes.strip_prefix(&[NODE_STATE_FORMAT_VERSION])?;
        let (rows, []) = rows.as_chunks::<ROW_SIZE>() else { return None };
        for row in rows {
            let (of, row) = ImageRow::decode(row).filter(|(of, _)| of.group() == group)?;
            self.rows.insert(of, row);
        }
        Some(())
    }
}

/// The groups that these rows are in.
fn groups_of(changed: impl IntoIterator<Item = ImageOf>) -> BTreeSet<u16> {
    changed.into_iter().map(ImageOf::group).collect()
}

/// Why the node's small state cannot be used. It is a copy: set it aside and rebuild it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeStateError {
    /// sled, or a file operation on its files, failed.
    #[error("node state {path}: {action}: {reason}")]
    Failed {
        /// Its directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The rows are not those that were written.
    #[error("node state {path}: {what}")]
    Inconsistent {
        /// Its directory.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// sled's flush does not reach our `sync_file_range`, so nothing it says is durable.
    #[error(
        "node state {path}: this executable is linked wrongly: sled calls the C library's sync_file_range and not holdfast's, \
         so what it flushes would be lost in a power cut; refusing to go on"
    )]
    NotInterposed {
        /// Its directory.
        path: PathBuf,
    },
    /// The note is larger than sled keeps safely; nothing was written.
    #[error("note {name:?} has {size} bytes; at most {NOTE_SIZE_MAX} with its name are kept safely")]
    NoteTooLarge {
        /// Its name.
        name: String,
        /// Its size and its name's.
        size: usize,
    },
}

struct Trees {
    path: PathBuf,
    db: sled::Db,
    images: sled::Tree,
    notes: sled::Tree,
}

type Job = Box<dyn FnOnce(&Trees) + Send>;

/// The open state. All calls are answered by sled's own thread, one after the other.
pub struct NodeState {
    path: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Option<threads::JoinHandle<()>>,
    failed: Arc<Mutex<Option<NodeStateError>>>,
    /// Takes sled's place in a simulated world.
    #[cfg(feature = "simulation")]
    simulated: Option<Mutex<simulated::Rows>>,
}

impl NodeState {
    /// Opens the state in directory `path`, creating it when missing, and reads its image rows.
    ///
    /// # Errors
    /// When sled fails or panics, takes for ever, or does not hold what was last written into it. Nothing is lost then that
    /// the image files do not have: set the directory aside (after [`Drop`] or right away), open again, write the rows anew.
    pub fn open(path: &Path) -> Result<(Self, ImageRows), NodeStateError> {
        #[cfg(feature = "simulation")]
        if simulation::disk::of(path).is_some() {
            return Self::open_simulated(path);
        }
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (opened, result) = mpsc::channel();
        let at = path.to_owned();
        let thread = threads::spawn("node-state", move || serve(&at, &opened, &inbox))
            .map_err(|error| failed(path, "start its thread", error))?;
        let rows = match result.recv_timeout(OPEN_TIME_MAX) {
            Ok(rows) => rows?,
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(failed(path, "open", "sled hangs")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(failed(path, "open", "sled's thread ended"));
            }
        };
        let state = Self {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            thread: Some(thread),
            failed: Arc::default(),
            #[cfg(feature = "simulation")]
            simulated: None,
        };
        Ok((state, rows))
    }

    #[cfg(feature = "simulation")]
    fn open_simulated(path: &Path) -> Result<(Self, ImageRows), NodeStateError> {
        let simulated = simulated::Rows::open(path).map_err(|error| failed(path, "open", error))?;
        let rows = read_images(path, simulated.of(simulated::Tree::Images).map(Ok))?;
        let state = Self {
            path: path.to_owned(),
            jobs: Mutex::default(),
            thread: None,
            failed: Arc::default(),
            simulated: Some(Mutex::new(simulated)),
        };
        Ok((state, rows))
    }

    /// Does the work of [`Self::run`] in a simulated world.
    #[cfg(feature = "simulation")]
    fn run_simulated<R>(
        &self,
        action: &'static str,
        rows: &Mutex<simulated::Rows>,
        work: impl FnOnce(&mut simulated::Rows) -> std::io::Result<R>,
    ) -> Result<R, NodeStateError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        work(&mut rows.lock()).map_err(|reason| {
            let error = failed(&self.path, action, reason);
            *self.failed.lock() = Some(error.clone());
            error
        })
    }

    /// Writes `changed` rows of `all` (removing those that `all` does not have) and the stamp of `all`, atomically, and
    /// returns when they are durable.
    ///
    /// # Errors
    /// When that is not so; the state then answers every call with this error.
    pub fn put_images(
        &self,
        all: &ImageRows,
        changed: impl IntoIterator<Item = ImageOf>,
    ) -> Result<(), NodeStateError> {
        #[cfg(feature = "simulation")]
        if let Some(rows) = &self.simulated {
            let record = |group: u16| (group.to_be_bytes().to_vec(), all.encode_group(group));
            let stamp = (STAMP_KEY.to_vec(), Some(all.stamp().to_vec()));
            let changes = groups_of(changed).into_iter().map(record).chain([stamp]);
            return self
                .run_simulated("write image rows", rows, |rows| rows.put(simulated::Tree::Images, changes));
        }
        let mut batch = sled::Batch::default();
        for group in groups_of(changed) {
            match all.encode_group(group) {
                Some(record) => batch.insert(&group.to_be_bytes(), record),
                None => batch.remove(&group.to_be_bytes()),
            }
        }
        batch.insert(STAMP_KEY, all.stamp().as_slice());
        self.run("write image rows", move |trees| {
            trees.images.apply_batch(batch)?;
            trees.durable()
        })
    }

    /// Writes a note and returns when it is durable.
    ///
    /// # Errors
    /// When it is too large or cannot be written.
    pub fn put_note(&self, name: &str, value: &[u8]) -> Result<(), NodeStateError> {
        let size = name.len() + value.len();
        if size > NOTE_SIZE_MAX {
            return Err(NodeStateError::NoteTooLarge { name: name.to_owned(), size });
        }
        #[cfg(feature = "simulation")]
        if let Some(rows) = &self.simulated {
            let change = (name.as_bytes().to_vec(), Some(value.to_vec()));
            return self
                .run_simulated("write a note", rows, |rows| rows.put(simulated::Tree::Notes, [change]));
        }
        let (name, value) = (name.to_owned(), value.to_vec());
        self.run("write a note", move |trees| {
            trees.notes.insert(name, value)?;
            trees.durable()
        })
    }

    /// Reads a note.
    ///
    /// # Errors
    /// When sled fails.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>, NodeStateError> {
        #[cfg(feature = "simulation")]
        if let Some(rows) = &self.simulated {
            return self.run_simulated("read a note", rows, |rows| {
                Ok(rows.get(simulated::Tree::Notes, name.as_bytes()).map(<[u8]>::to_vec))
            });
        }
        let name = name.to_owned();
        self.run("read a note", move |trees| Ok(trees.notes.get(name)?.map(|value| value.to_vec())))
    }

    /// Why every call is answered with an error, if that is so.
    pub fn failure(&self) -> Option<NodeStateError> {
        self.failed.lock().clone()
    }

    /// Runs `work` on sled's thread; a failure or panic stays.
    fn run<R: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Trees) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, NodeStateError> {
        let jobs = self.jobs.lock();
        if let Some(error) = &*self.failed.lock() {
            return Err(error.clone());
        }
        let (answer, result) = mpsc::channel();
        let job: Job = Box::new(move |trees| {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| work(trees))).unwrap_or_else(|panic| Err(panic.into()));
            // Nobody waits any more when the caller's thread has died.
            let _ = answer.send(outcome);
        });
        let sent = jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        let outcome = if sent { result.recv().ok() } else { None };
        let reason = match outcome {
            Some(Ok(value)) => return Ok(value),
            Some(Err(Failure(reason))) => reason,
            None => "sled's thread ended".to_owned(),
        };
        let error = failed(&self.path, action, reason);
        *self.failed.lock() = Some(error.clone());
        Err(error)
    }
}

impl Drop for NodeState {
    fn drop(&mut self) {
        *self.jobs.lock() = None;
        if self.failed.lock().is_some() {
            // Nobody waits for a sled that has failed: it may hang.
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!(
                "sled panicked while it was closed; its state is rebuilt at the next start if need be"
            );
        }
    }
}

/// Why a piece of work on sled's thread failed, in words.
struct Failure(String);

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Box<dyn std::any::Any + Send>> for Failure {
    fn from(panic: Box<dyn std::any::Any + Send>) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self(format!("sled panicked: {}", text.unwrap_or("without a message")))
    }
}

fn failed(path: &Path, action: &'static str, reason: impl ToString) -> NodeStateError {
    NodeStateError::Failed { path: path.to_owned(), action, reason: reason.to_string() }
}

/// Life of sled's thread.
fn serve(path: &Path, opened: &mpsc::Sender<Result<ImageRows, NodeStateError>>, inbox: &mpsc::Receiver<Job>) {
    let trees = catch_unwind(AssertUnwindSafe(|| Trees::open(path)))
        .unwrap_or_else(|panic| Err(failed(path, "open", Failure::from(panic).0)));
    let trees = match trees {
        Ok((trees, rows)) => {
            if opened.send(Ok(rows)).is_err() {
                return;
            }
            trees
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    while let Ok(job) = inbox.recv() {
        job(&trees);
    }
}

/// sled's pool may hold the file's lock for a moment after the last handle in this process was dropped. (The lock on the
/// data directory keeps other processes out.)
fn wait_for_lock(path: &Path) -> std::io::Result<()> {
    let file = match files::open_read(&path.join("db")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for _ in 0..500 {
        if file.try_lock()? {
            return Ok(());
        }
        threads::sleep(Duration::from_millis(10));
    }
    Err(std::io::ErrorKind::WouldBlock.into())
}

impl Trees {
    fn open(path: &Path) -> Result<(Self, ImageRows), NodeStateError> {
        let of_sled = |error: sled::Error| failed(path, "open", error);
        wait_for_lock(path).map_err(|error| failed(path, "lock", error))?;
        let db = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_SIZE)
            .cache_capacity(16 << 20)
            // Flushing is up to `durable`; what was not made durable need not survive.
            .flush_every_ms(None)
            .open()
            .map_err(of_sled)?;
        let images = db.open_tree("images").map_err(of_sled)?;
        let notes = db.open_tree("notes").map_err(of_sled)?;
        let trees = Self { path: path.to_owned(), db, images, notes };

        let syncs_before = sync_file_range::count();
        let starts = trees.notes.get("starts").map_err(of_sled)?;
        let starts = starts.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes);
        trees.notes.insert("starts", &(starts + 1).to_le_bytes()).map_err(of_sled)?;
        trees.durable().map_err(|Failure(reason)| failed(path, "sync", reason))?;
        if sync_file_range::count() == syncs_before {
            return Err(NodeStateError::NotInterposed { path: path.to_owned() });
        }
        trees.sync_directory().map_err(|Failure(reason)| failed(path, "sync the directory", reason))?;
        let rows = read_images(path, trees.images.iter().map(|row| row.map_err(of_sled)))?;
        Ok((trees, rows))
    }

    /// Returns when all that was written is durable: sled's flush, and an fdatasync of its file on top.
    fn durable(&self) -> Result<(), Failure> {
        self.db.flush()?;
        files::open_read(&self.path.join("db"))?.sync_data()?;
        Ok(())
    }

    /// The names of sled's files, which it does not make durable.
    fn sync_directory(&self) -> Result<(), Failure> {
        files::open_read(&self.path.join("conf"))?.sync_all()?;
        files::sync_directory(&self.path)?;
        if let Some(parent) = self.path.parent() {
            files::sync_directory(parent)?;
        }
        Ok(())
    }
}

/// The rows that the entries of the tree say, checked against their stamp.
fn read_images<B: AsRef<[u8]>>(
    path: &Path,
    entries: impl Iterator<Item = Result<(B, B), NodeStateError>>,
) -> Result<ImageRows, NodeStateError> {
    let inconsistent = |what| NodeStateError::Inconsistent { path: path.to_owned(), what };
    let mut found = ImageRows::default();
    let mut stamp = None;
    for entry in entries {
        let (key, value) = entry?;
        if key.as_ref() == STAMP_KEY {
            stamp = Some(value);
            continue;
        }
        if found.decode_group(key.as_ref(), value.as_ref()).is_none() {
            return Err(inconsistent("image rows that are none, or of another version"));
        }
    }
    let Some(stamp) = stamp else {
        return if found.rows.is_empty() {
            Ok(found)
        } else {
            Err(inconsistent("image rows without their stamp"))
        };
    };
    let mut fields = numbers(stamp.as_ref().get(1..).unwrap_or_default());
    found.newest_file = fields.next().unwrap_or_default();
    found.generation = fields.next().unwrap_or_default();
    if found.stamp() != stamp.as_ref() {
        return Err(inconsistent("image rows that their stamp does not confirm"));
    }
    Ok(found)
}

#[cfg(test)]
#[path = "node_state_tests.rs"]
mod tests;
