//! The write-ahead log of a shard: the life of a record.
//!
//! A command encodes its record and, under its slot's lock, [`Log::append`]s it: the record gets its LSN and stands in memory
//! that all workers share. At the end of its turn a worker calls [`Log::submit`]: one write for everything that stands
//! there, whoever appended it (written). A thread of its own makes it durable, as `appendfsync` says ([`group_commit`]).
//! Replication ships the same bytes ([`Log::read_chunk`]) and a replica appends them as they are ([`Log::append_foreign`]).
//! Segments that a checkpoint covers and nobody needs are released ([`Log::release_below`]).
//!
//! Modules in layer order.

/// FORMAT: segment header, record, seal.
pub mod format;
/// How far the log is, and who waits for it.
pub mod positions;
/// Errors by operation.
pub mod error;
/// Where the records of the active segment stand.
mod record_places;
/// The index in a segment's seal.
mod seal_index;
/// One segment file.
pub mod segment;
/// Reading a log from its files; torn tail or damage.
pub mod recovery;
/// Reading offline, beside a running node too.
pub mod reader;
/// Which part of the log must be kept.
pub mod retention;
/// What the disk is known to hold, and when it is told so.
mod durable_mark;
/// fdatasync off the workers.
mod group_commit;
/// Taking and writing records.
mod append;
/// From a full segment to the next one.
mod rotate;
/// Damage in sealed segments: found.
pub mod scrub;
/// Damage in sealed segments: put right.
pub mod mend;
/// Damage that keeps a log from being opened: put right.
pub mod mend_closed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use holdfast_words::{BootId, Epoch, LogPoint, Lsn, NodeId, ShardId, SlotId, SlotSequence};
use parking_lot::Mutex;

pub use error::{AppendError, LogHealth, OpenError, ReadError, VisitError};
pub use format::{
    EpochHistory, MORE_FOLLOWS, RECORD_HEADER_SIZE, RecordHeader, RecordKind, RecordView,
    SEGMENT_HEADER_SIZE, encode_record, finish_record, record_length,
};
pub use positions::{AckPoint, Commit, Positions};
pub use recovery::RecordVisitor;

use crate::platform::files;
use append::{Pending, Writer};
use format::{Mark, SegmentHeader, decode_record, group_length};
use group_commit::GroupCommit;
use segment::{Active, Sealed, file_name, offset_of};

/// When what was written is made durable (`appendfsync`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FsyncPolicy {
    /// At once; replies wait for it.
    Always,
    /// Once a second.
    #[default]
    EverySecond,
    /// When the operating system likes.
    No,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Bytes of a segment file.
    pub segment_size: u64,
    /// `appendfsync`
    pub fsync: FsyncPolicy,
    /// Released segments kept to be written again.
    pub spare_segments: usize,
    /// The kernel's boot id, for the marks.
    pub boot: BootId,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            fsync: FsyncPolicy::default(),
            spare_segments: 2,
            boot: BootId::default(),
        }
    }
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Where the log ends.
    pub end: Lsn,
    /// What was known to be durable.
    pub durable_lsn: Lsn,
    /// The boot of the newest mark: when it is the present one, the page cache has survived and the log is complete.
    pub boot: BootId,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
    /// Why the tail was cut.
    pub torn: Option<String>,
    /// The log was made just now.
    pub is_new: bool,
}

/// Figures for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogStats {
    /// Segment files, the active one included.
    pub segments: u64,
    /// Bytes of log kept.
    pub bytes: u64,
    /// fdatasyncs so far.
    pub fsyncs: u64,
    /// How long the last one took, microseconds.
    pub last_fsync_us: u64,
}

const GOOD: u8 = 0;
const NO_SPACE: u8 = 1;
const POISONED: u8 = 2;

/// A log, open for appending. Shared by all workers, the stream and the checkpoint.
pub struct Log {
    directory: PathBuf,
    segment_size: AtomicU64,
    spare_segments: usize,
    boot: BootId,
    pending: Mutex<Pending>,
    writer: Mutex<Writer>,
    commit: Arc<GroupCommit>,
    seal_buffers: Mutex<seal_index::Buffers>,
    positions: Positions,
    epoch: AtomicU64,
    health: AtomicU8,
    failure: Mutex<String>,
    syncer: Mutex<Option<crate::platform::threads::JoinHandle<()>>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "log in {}: {:?}", self.directory.display(), self.positions)
    }
}

impl Log {
    /// Whether there is any segment of a log in `directory`.
    ///
    /// # Errors
    /// When it cannot be listed; one that does not exist holds none.
    pub fn is_begun(directory: &Path) -> Result<bool, OpenError> {
        match files::list(directory) {
            Ok(names) => Ok(names.iter().any(|name| segment::lsn_of_name(name).is_some())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(OpenError::Io { path: directory.to_owned(), source }),
        }
    }

    /// Opens the log of `owner` in `directory`; an empty directory becomes a log that begins at `start_if_new`. Records at or
    /// above `from` go to `visitor`; a torn tail is cut, durably, before this returns.
    ///
    /// # Errors
    /// Damage, a missing segment, a foreign or newer log, an I/O error: nothing was changed then.
    pub fn open(
        directory: &Path,
        owner: ShardId,
        config: &LogConfig,
        start_if_new: Lsn,
        from: Lsn,
        visitor: &mut dyn RecordVisitor,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let io_error = |source| OpenError::Io { path: directory.to_owned(), source };
        #[cfg(test)]
        tests::wait_until_closed(directory);
        files::create_dir_all(directory).map_err(io_error)?;
        let found = recovery::find_segments(directory, Some(owner), true)?;
        if let Some(first) = found.segments.first()
            && first.header.first_lsn > from
        {
            return Err(OpenError::TooShort { first: first.header.first_lsn, wanted: from });
        }
        let found = recovery::read_all(found, from, visitor)?;
        let mut recovery = Recovery {
            end: found.end_lsn,
            durable_lsn: found.mark.durable_lsn,
            boot: found.mark.boot,
            torn_bytes: found.torn_bytes,
            torn: found.torn.clone(),
            is_new: found.segments.is_empty(),
        };
        for path in &found.surplus {
            append::set_file_aside(directory, path).map_err(io_error)?;
        }
        let mut mark = found.mark;
        let mut history = found.history.clone();
        let mut sealed: VecDeque<Sealed> = VecDeque::new();
        let active = if found.segments.is_empty() {
            history.clear();
            recovery.end = start_if_new;
            mark = Mark { counter: 1, durable_lsn: start_if_new, boot: config.boot };
            let header = SegmentHeader { shard: owner, first_lsn: start_if_new, history: Vec::new() };
            Active::create(directory, &header, &mark, config.segment_size, None).map_err(io_error)?
        } else {
            let mut segments = found.segments;
            let last = segments.pop().expect("there is one");
            mark.counter = mark.counter_beside(&last.mark);
            sealed.extend(segments.into_iter().map(|segment| Sealed {
                path: segment.path,
                first_lsn: segment.header.first_lsn,
                end_lsn: segment.end_lsn,
                file: segment.file,
            }));
            append::reopen(last, config.segment_size)?
        };
        let end = active.end_lsn;
        let epoch = history.last().map_or(Epoch::ZERO, |&(epoch, _)| epoch);
        // Everything that was found is made durable once: from here on the mark tells the truth about this boot too.
        for segment in sealed.iter().filter(|segment| segment.end_lsn > recovery.durable_lsn) {
            let length = segment.file.len().map_err(io_error)?;
            segment::make_durable(&segment.file, segment.first_lsn, recovery.durable_lsn, length)
                .map_err(io_error)?;
        }
        segment::make_durable(&active.file, active.first_lsn, recovery.durable_lsn, active.end_offset())
            .map_err(io_error)?;
        files::sync_directory(directory).map_err(io_error)?;
        let commit = Arc::new(GroupCommit::new(config.fsync));
        let log = Arc::new(Self {
            directory: directory.to_owned(),
            segment_size: AtomicU64::new(config.segment_size),
            spare_segments: config.spare_segments,
            boot: config.boot,
            pending: Mutex::new(Pending::starting_at(end)),
            writer: Mutex::new(Writer {
                owner,
                active,
                sealed,
                unsynced: Vec::new(),
                spares: Vec::new(),
                prepared: None,
                is_asked_for: false,
                cannot_prepare: false,
                fresh: None,
                sealing: None,
                mark,
                history,
                spare_buffer: Vec::new(),
            }),
            commit,
            seal_buffers: Mutex::new(seal_index::Buffers::new()),
            positions: Positions::default(),
            epoch: AtomicU64::new(epoch.0),
            health: AtomicU8::new(GOOD),
            failure: Mutex::default(),
            syncer: Mutex::default(),
        });
        log.adopt_spares().map_err(io_error)?;
        log.write_mark(end).map_err(io_error)?;
        log.positions.restart(end, end);
        let syncer = group_commit::start(&log).map_err(io_error)?;
        *log.syncer.lock() = syncer;
        #[cfg(test)]
        tests::note_open(directory);
        Ok((log, recovery))
    }

    /// How far the log is.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The epoch that new records carry.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// End of everything appended, written or not, and the epoch there.
    pub fn end(&self) -> LogPoint {
        let lsn = self.pending.lock().end();
        LogPoint { epoch: self.epoch(), lsn }
    }

    /// Where the log begins.
    pub fn first_lsn(&self) -> Lsn {
        let writer = self.writer.lock();
        writer.sealed.front().map_or(writer.active.first_lsn, |segment| segment.first_lsn)
    }

    /// Under whom the log was written: `(epoch, LSN of its first record)`, ascending.
    pub fn epoch_history(&self) -> EpochHistory {
        self.writer.lock().history.clone()
    }

    /// The shard whose log this is.
    pub fn owner(&self) -> ShardId {
        self.writer.lock().owner
    }

    /// Whether the log can take records.
    pub fn health(&self) -> LogHealth {
        match self.health.load(Ordering::Acquire) {
            GOOD => LogHealth::Good,
            NO_SPACE => LogHealth::NoSpace,
            _ => LogHealth::Poisoned(self.failure.lock().clone()),
        }
    }

    /// Whether the log has failed for good.
    pub fn is_poisoned(&self) -> bool {
        self.health.load(Ordering::Acquire) == POISONED
    }

    /// Figures for INFO.
    pub fn stats(&self) -> LogStats {
        let writer = self.writer.lock();
        let first = writer.sealed.front().map_or(writer.active.first_lsn, |segment| segment.first_lsn);
        let (fsyncs, last_fsync_us) = self.commit.figures();
        LogStats {
            segments: writer.sealed.len() as u64 + 1,
            bytes: writer.active.end_lsn.since(first),
            fsyncs,
            last_fsync_us,
        }
    }

    /// `CONFIG SET appendfsync`
    pub fn set_fsync_policy(&self, policy: FsyncPolicy) {
        self.commit.set_policy(policy);
    }

    /// How often it is synced, as configured.
    pub fn fsync_policy(&self) -> FsyncPolicy {
        self.commit.policy()
    }

    /// Have everything that is written made durable at once, whatever the policy says, until told otherwise.
    pub fn await_durability(&self, awaited: bool) {
        self.commit.set_awaited(awaited);
    }

    /// `CONFIG SET wal-segment-size`: from the next segment on.
    pub fn set_segment_size(&self, bytes: u64) {
        self.segment_size.store(bytes, Ordering::Relaxed);
    }

    /// Begins a new epoch under `master`: appends the record that says so and makes it written.
    ///
    /// # Errors
    /// When the log takes nothing.
    ///
    /// # Panics
    /// When the epoch is not above the log's: a bug in the election.
    pub fn start_epoch(&self, epoch: Epoch, master: NodeId, wall_clock_ms: u64) -> Result<Lsn, AppendError> {
        assert!(epoch > self.epoch(), "epoch {epoch} begins in a log of epoch {}", self.epoch());
        let header = RecordHeader {
            kind: RecordKind::EpochStart,
            flags: 0,
            slot: SlotId::default(),
            epoch,
            sequence: SlotSequence::ZERO,
            wall_clock_ms,
        };
        let mut record = Vec::new();
        encode_record(&mut record, &header, &master.0);
        self.epoch.store(epoch.0, Ordering::Release);
        let end = self.append(&mut record)?;
        self.write_up_to(end)?;
        Ok(end)
    }

    /// Whole groups of records from `from` on, at most about `max_bytes` (but at least one), appended to `out`; nothing when `from` is
    /// the end. Only what is written is read.
    ///
    /// # Errors
    /// `TooOld` when the log begins later, `Beyond` when it ends before, `File` when the bytes cannot be read.
    pub fn read_chunk(&self, from: Lsn, max_bytes: usize, out: &mut Vec<u8>) -> Result<Lsn, ReadError> {
        let end = self.positions.written_lsn();
        if from >= end {
            return if from == end { Ok(from) } else { Err(ReadError::Beyond { end, wanted: from }) };
        }
        let (path, file, first_lsn, segment_end) = {
            let writer = self.writer.lock();
            let first = writer.sealed.front().map_or(writer.active.first_lsn, |segment| segment.first_lsn);
            if from < first {
                return Err(ReadError::TooOld { first, wanted: from });
            }
            match writer
                .sealed
                .iter()
                .rev()
                .find(|segment| segment.first_lsn <= from && from < segment.end_lsn)
            {
                Some(segment) => {
                    (segment.path.clone(), segment.file.clone(), segment.first_lsn, segment.end_lsn)
                }
                None => {
                    let active = &writer.active;
                    (active.path.clone(), active.file.clone(), active.first_lsn, active.end_lsn)
                }
            }
        };
        let offset = offset_of(from, first_lsn);
        let fail = |offset: u64, what: String| ReadError::File { path: path.clone(), offset, what };
        let available = segment_end.min(end).since(from) as usize;
        let start = out.len();
        let mut wanted = available.min(max_bytes.max(RECORD_HEADER_SIZE));
        loop {
            out.resize(start + wanted, 0);
            file.read_exact_at(&mut out[start..], offset).map_err(|error| fail(offset, error.to_string()))?;
            let whole = whole_groups(&out[start..]);
            if whole > 0 {
                out.truncate(start + whole);
                break;
            }
            // Not even one: it is longer than max_bytes.
            let length = record_length(&out[start..]).unwrap_or(0);
            if length < RECORD_HEADER_SIZE || length > available || wanted == available {
                out.truncate(start);
                return Err(self.read_fault(from, fail(offset, format!("no record stands at LSN {from}"))));
            }
            wanted = length.max(wanted * 2).min(available);
        }
        let end_of_chunk = from.advance((out.len() - start) as u64);
        let mut at = start;
        while at < out.len() {
            // A byte that went bad on disk is neither served nor shipped.
            let lsn = from.advance((at - start) as u64);
            let record = decode_record(&out[at..], lsn);
            match record {
                Ok(record) => at += record.bytes.len(),
                Err(fault) => {
                    let error = fail(offset + (at - start) as u64, fault.to_string());
                    out.truncate(start);
                    return Err(self.read_fault(from, error));
                }
            }
        }
        Ok(end_of_chunk)
    }

    /// What it means that no records stood where they were: their segment may have been released and written again meanwhile.
    fn read_fault(&self, wanted: Lsn, fault: ReadError) -> ReadError {
        let first = self.first_lsn();
        if wanted < first { ReadError::TooOld { first, wanted } } else { fault }
    }

    /// Removes or recycles segments that lie wholly below `horizon`.
    ///
    /// # Errors
    /// What the operating system said; the log itself is untouched.
    pub fn release_below(&self, horizon: Lsn) -> std::io::Result<usize> {
        let mut released = 0;
        let mut writer = self.writer.lock();
        while let Some(first) = writer.sealed.front()
            && first.end_lsn <= horizon
            && !writer.is_to_be_sealed(first)
        {
            // It leaves the list only when its file is gone: one left behind would stand before a hole at the next start.
            if writer.spares.len() < self.spare_segments {
                let spare = self.directory.join(format!("{}.spare", file_name(first.first_lsn)));
                files::rename(&first.path, &spare)?;
                writer.spares.push(spare);
            } else {
                files::remove_file(&first.path)?;
            }
            let segment = writer.sealed.pop_front().expect("looked at just now");
            writer.unsynced.retain(|file| !Arc::ptr_eq(file, &segment.file));
            released += 1;
        }
        if released > 0 {
            files::sync_directory(&self.directory)?;
        }
        Ok(released)
    }

    /// Path of the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Bytes of the whole groups of records at the front.
fn whole_groups(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = group_length(&bytes[at..]) {
        at += length;
    }
    at
}

impl Drop for Log {
    fn drop(&mut self) {
        self.commit.stop();
        #[cfg(test)]
        tests::note_closed(&self.directory);
    }
}
