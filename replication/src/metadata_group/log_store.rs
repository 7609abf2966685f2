//! FORMAT: the metadata group's log: votes and entries as records (kind Metadata, body MessagePack of [`Record`]) of a log of
//! their own in `<dir>/metadata`. What is written is durable before anybody is told. Nothing is ever overwritten: entries are
//! taken back and given up by records that say so, and recovery replays them all.
//!
//! | record | meaning |
//! |---|---|
//! | Begin | the log of another cluster's group begins: all before is void |
//! | Vote | the newest vote |
//! | Entry | an entry; one at the same index is replaced |
//! | Truncate | entries from this index on are void |
//! | Purge | entries up to this one are in the snapshot |
//! | Snapshot | the registry after the entry it names; the newest counts |
//! | Committed | entries up to this one are committed (a hint: it may lag) |
//! | State | all of the above as of now, snapshot and entries following in the same group: what stands before may be released |

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_storage::log::{
    AppendError, FsyncPolicy, Log, LogConfig, MORE_FOLLOWS, OpenError, RecordHeader, RecordKind, RecordView,
    encode_record, reader,
};
use holdfast_words::{BootId, ClusterId, Epoch, Lsn, ShardId, SlotId, SlotSequence};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, SnapshotMeta, StorageError,
    StorageIOError, Vote,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::platform;
use crate::wire::body;
use crate::wire::metadata::{LoggedChange, Member, TypeConfig};

type Entry = openraft::Entry<TypeConfig>;

/// Whose log it is, in its segments' headers: not a shard's.
const OWNER: ShardId = ShardId(*b"holdfast metadata...");
const SEGMENT_BYTES: u64 = 1 << 20;
/// Between two tries to write on a full disk, ms.
const NO_SPACE_PAUSE_MS: u64 = 200;
/// Entries handed out at once.
const ENTRIES_AT_ONCE: u64 = 64;

/// The registry as of an entry, as Raft ships it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredSnapshot {
    /// Which entry, and Raft's membership then.
    pub meta: SnapshotMeta<u64, Member>,
    /// The registry, packed.
    #[serde(with = "serde_bytes")]
    pub registry: Vec<u8>,
}

/// Which group's log this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its cluster.
    #[serde(with = "crate::wire::pack")]
    pub cluster: ClusterId,
    /// This node founded it; else it was let in.
    pub founder: bool,
}

#[derive(Serialize, Deserialize)]
enum Record {
    Begin(Group),
    Vote(Vote<u64>),
    Entry(Entry),
    Truncate(u64),
    Purge(LogId<u64>),
    Snapshot(StoredSnapshot),
    Committed(Option<LogId<u64>>),
    State {
        group: Option<Group>,
        vote: Option<Vote<u64>>,
        purged: Option<LogId<u64>>,
        committed: Option<LogId<u64>>,
    },
}

#[derive(Default)]
struct State {
    group: Option<Group>,
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
    committed: Option<LogId<u64>>,
    snapshot: Option<StoredSnapshot>,
    entries: BTreeMap<u64, Entry>,
    /// The registry's founding is among the entries, or in the snapshot.
    is_founded: bool,
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Begin(group) => *self = Self { group: Some(group), ..Self::default() },
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entry(entry) => {
                self.is_founded |= matches!(
                    &entry.payload,
                    EntryPayload::Normal(LoggedChange(holdfast_cluster::Change::Found { .. }))
                );
                self.entries.insert(entry.log_id.index, entry);
            }
            Record::Truncate(from) => drop(self.entries.split_off(&from)),
            Record::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
            Record::Snapshot(snapshot) => {
                self.snapshot = Some(snapshot);
                self.is_founded = true;
            }
            Record::Committed(committed) => self.committed = committed,
            Record::State { group, vote, purged, committed } => {
                *self = Self { group, vote, purged, committed, ..Self::default() };
            }
        }
    }

    fn snapshot_covers(&self, entry: LogId<u64>) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.meta.last_log_id >= Some(entry))
    }

    fn last_log_id(&self) -> Option<LogId<u64>> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// Raft looks at the last entry only; a hole before it would go unnoticed.
    fn first_hole(&self) -> Option<u64> {
        let first = self.purged.map(|purged| purged.index + 1).or(self.entries.keys().next().copied())?;
        (first..).zip(self.entries.keys()).find(|(next, index)| next != *index).map(|(next, _)| next)
    }
}

/// Why the group's log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// Its files.
    #[error("the metadata group's log: {0}")]
    Open(#[from] OpenError),
    /// Its entries do not follow each other.
    #[error("{path}: the metadata group's log has no entry {missing}, but later ones; restore the directory, or \
             move the node's whole directory away and add the node, empty, as a new replica", path = path.display())]
    Hole {
        /// The directory.
        path: std::path::PathBuf,
        /// The first entry that is missing.
        missing: u64,
    },
    /// Entries were given up that are in no snapshot.
    #[error("{path}: the metadata group's log gave entries up that no snapshot has; restore the directory, or move the \
             node's whole directory away and add the node, empty, as a new replica", path = path.display())]
    NoSnapshot {
        /// The directory.
        path: std::path::PathBuf,
    },
}

struct Inner {
    log: Arc<Log>,
    state: Mutex<State>,
    /// Held by whoever writes: what is written first is durable first. How many groups' logs have begun since it was opened.
    writing: tokio::sync::Mutex<u64>,
    /// Rung when a snapshot is durable or will never be.
    snapshots: tokio::sync::Notify,
    /// Nothing more can be written, or no snapshot that is waited for will come.
    failed: AtomicBool,
    /// When the newest entry or snapshot was written that was there at the opening, ms since 1970.
    newest_entry_ms: u64,
}

/// The group's log, vote and snapshot.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
    /// Whose writes these are: those of a group that was left are refused.
    begun: u64,
}

impl LogStore {
    /// Opens the log in `directory`, or begins it.
    ///
    /// # Errors
    /// Damage, with its place.
    pub fn open(directory: &Path, boot: BootId) -> Result<Self, LogStoreError> {
        holdfast_storage::platform::files::create_dir_all(directory)
            .map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
        let found = reader::look(directory)?;
        let first = found.segments.first().map_or(Lsn::ZERO, |segment| segment.header.first_lsn);
        let config =
            LogConfig { segment_size: SEGMENT_BYTES, fsync: FsyncPolicy::No, spare_segments: 1, boot };
        let mut state = State::default();
        let mut newest_entry_ms = 0;
        let mut visit = |record: &RecordView<'_>| {
            if record.header.kind == RecordKind::Metadata {
                let written_ms = record.header.wall_clock_ms;
                let record = body::decode(record.body)?;
                if matches!(record, Record::Entry(_) | Record::Snapshot(_)) {
                    newest_entry_ms = written_ms;
                }
                state.apply(record);
            }
            Ok(())
        };
        let (log, _) = Log::open(directory, OWNER, &config, Lsn::ZERO, first, &mut visit)?;
        if let Some(missing) = state.first_hole() {
            return Err(LogStoreError::Hole { path: directory.to_owned(), missing });
        }
        if state.purged.is_some_and(|purged| !state.snapshot_covers(purged)) {
            return Err(LogStoreError::NoSnapshot { path: directory.to_owned() });
        }
        let inner = Inner {
            log,
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::default(),
            snapshots: tokio::sync::Notify::new(),
            failed: AtomicBool::new(false),
            newest_entry_ms,
        };
        Ok(Self { inner: Arc::new(inner), begun: 0 })
    }

    /// Which group's log this is; `None` in a fresh directory.
    pub fn group(&self) -> Option<Group> {
        self.inner.state.lock().group
    }

    /// Whether the registry's founding is in this log, committed or not.
    pub fn is_founded(&self) -> bool {
        self.inner.state.lock().is_founded
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<StoredSnapshot> {
        self.inner.state.lock().snapshot.clone()
    }

    /// Begins the log of another group; what was there is void, durably. Clones of this store made before can write no more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn begin(&mut self, group: Group) -> io::Result<()> {
        let mut begun = self.inner.writing.lock().await;
        self.write_alone(vec![Record::Begin(group)], true).await?;
        *begun += 1;
        self.begun = *begun;
        Ok(())
    }

    /// The entries that are not given up, committed or not, in their order.
    pub fn entries(&self) -> Vec<Entry> {
        self.inner.state.lock().entries.values().cloned().collect()
    }

    /// When the newest entry or snapshot that was there at the opening was written, ms since 1970; 0 if there was none.
    pub fn newest_entry_ms(&self) -> u64 {
        self.inner.newest_entry_ms
    }

    /// The newest vote.
    pub fn vote(&self) -> Option<Vote<u64>> {
        self.inner.state.lock().vote
    }

    /// Begins the log of another group with a snapshot and a vote, all or nothing, durably; what was there is void.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn begin_with(
        &mut self,
        group: Group,
        snapshot: StoredSnapshot,
        vote: Vote<u64>,
    ) -> io::Result<()> {
        let mut begun = self.inner.writing.lock().await;
        let upto =
            snapshot.meta.last_log_id.ok_or_else(|| io::Error::other("the snapshot is of no entry"))?;
        let records =
            vec![Record::Begin(group), Record::Snapshot(snapshot), Record::Purge(upto), Record::Vote(vote)];
        self.write_alone(records, true).await?;
        *begun += 1;
        self.begun = *begun;
        Ok(())
    }

    /// Keeps a snapshot durably; one older than what is there is dropped.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn save_snapshot(&self, snapshot: StoredSnapshot) -> io::Result<()> {
        let _writing = self.turn().await?;
        let is_older = {
            let state = self.inner.state.lock();
            state.snapshot.as_ref().is_some_and(|newest| newest.meta.last_log_id > snapshot.meta.last_log_id)
        };
        if !is_older {
            self.write_alone(vec![Record::Snapshot(snapshot)], true).await?;
        }
        self.inner.snapshots.notify_waiters();
        Ok(())
    }

    /// No snapshot will come any more: who waits for one gets an error.
    pub fn fail(&self) {
        self.inner.failed.store(true, Ordering::Release);
        self.inner.snapshots.notify_waiters();
    }

    /// Waits until the newest snapshot has this entry: Raft gives entries up while the snapshot that has them may still be on
    /// its way to the disk.
    async fn wait_for_snapshot(&self, upto: LogId<u64>) -> io::Result<()> {
        loop {
            let mut news = pin!(self.inner.snapshots.notified());
            news.as_mut().enable();
            if self.inner.state.lock().snapshot_covers(upto) {
                return Ok(());
            }
            if self.inner.failed.load(Ordering::Acquire) {
                return Err(io::Error::other("the snapshot that has these entries was not written"));
            }
            news.await;
        }
    }

    /// Waits until nobody else writes.
    async fn turn(&self) -> io::Result<tokio::sync::MutexGuard<'_, u64>> {
        let begun = self.inner.writing.lock().await;
        if *begun != self.begun {
            return Err(io::Error::other("the node has left this group"));
        }
        Ok(begun)
    }

    /// Appends records, all or none, and when they must be, makes them durable before it returns. A full disk is waited out:
    /// nobody is told anything meanwhile, and the others go on without this node.
    async fn write(&self, records: Vec<Record>, durable: bool) -> io::Result<()> {
        let _writing = self.turn().await?;
        self.write_alone(records, durable).await
    }

    async fn write_alone(&self, records: Vec<Record>, durable: bool) -> io::Result<()> {
        self.try_write_alone(records, durable).await.inspect_err(|_| self.fail())
    }

    async fn try_write_alone(&self, records: Vec<Record>, durable: bool) -> io::Result<()> {
        let Some(last) = records.len().checked_sub(1) else { return Ok(()) };
        let mut bytes = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let encoded = body::encode(record).map_err(io::Error::other)?;
            let header = RecordHeader {
                kind: RecordKind::Metadata,
                flags: if index < last { MORE_FOLLOWS } else { 0 },
                slot: SlotId::default(),
                epoch: Epoch::ZERO,
                sequence: SlotSequence::ZERO,
                wall_clock_ms: platform::wall_clock_ms(),
            };
            encode_record(&mut bytes, &header, &encoded);
        }
        let end = self.inner.log.append(&mut bytes).map_err(io::Error::other)?;
        loop {
            let log = self.inner.log.clone();
            let is_skipped = platform::sabotage::is_on(platform::sabotage::Switch::MetadataNotFlushed);
            let done = move || {
                log.write_up_to(end)
                    .and_then(|()| if durable && !is_skipped { log.sync().map(drop) } else { Ok(()) })
            };
            match platform::off_thread(done).await.map_err(io::Error::other)? {
                Ok(()) => break,
                Err(AppendError::NoSpace) => platform::sleep_ms(NO_SPACE_PAUSE_MS).await,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let mut state = self.inner.state.lock();
        records.into_iter().for_each(|record| state.apply(record));
        Ok(())
    }

    /// Writes everything that counts again, so that what stands before can be released.
    async fn start_over(&self) -> io::Result<()> {
        let _writing = self.turn().await?;
        let from = self.inner.log.end().lsn;
        let records = {
            let state = self.inner.state.lock();
            let State { group, vote, purged, committed, ref snapshot, ref entries, .. } = *state;
            let whole = Record::State { group, vote, purged, committed };
            let snapshot = snapshot.clone().map(Record::Snapshot);
            let entries = entries.values().cloned().map(Record::Entry);
            std::iter::once(whole).chain(snapshot).chain(entries).collect()
        };
        self.write_alone(records, true).await?;
        self.inner.log.release_below(from).map(drop)
    }
}

fn read_error(error: impl std::error::Error + 'static) -> StorageError<u64> {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

fn write_error(error: io::Error) -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        let is_empty = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if is_empty {
            return Ok(Vec::new());
        }
        let state = self.inner.state.lock();
        Ok(state.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        self.try_get_log_entries(start..end.min(start + ENTRIES_AT_ONCE)).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let state = self.inner.state.lock();
        if let Some(hole) = state.first_hole() {
            return Err(read_error(io::Error::other(format!("entry {hole} is missing"))));
        }
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Vote(*vote)], true).await.map_err(write_error)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.inner.state.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Committed(committed)], false).await.map_err(write_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        let state = self.inner.state.lock();
        // A hint that outlived the entries it is about says nothing.
        Ok(state.committed.filter(|committed| state.last_log_id().is_some_and(|last| *committed <= last)))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(Record::Entry).collect();
        let result = self.write(records, true).await;
        let told = result.as_ref().copied().map_err(|error| io::Error::other(error.to_string()));
        callback.log_io_completed(told);
        result.map_err(write_error)
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Truncate(from.index)], true).await.map_err(write_error)
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.wait_for_snapshot(upto).await.map_err(write_error)?;
        self.write(vec![Record::Purge(upto)], false).await.map_err(write_error)?;
        self.start_over().await.map_err(write_error)
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
