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
//! | Committed | entries up to this one are committed (a hint: it may lag) |
//! | State | all of the above as of now, entries following in the same group: what stands before may be released |

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use holdfast_storage::log::{
    AppendError, FsyncPolicy, Log, LogConfig, MORE_FOLLOWS, OpenError, RecordHeader, RecordKind, RecordView,
    encode_record, reader,
};
use holdfast_words::{BootId, ClusterId, Epoch, Lsn, ShardId, SlotId, SlotSequence};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::platform;
use crate::wire::body;
use crate::wire::metadata::TypeConfig;

type Entry = openraft::Entry<TypeConfig>;

/// Whose log it is, in its segments' headers: not a shard's.
const OWNER: ShardId = ShardId(*b"holdfast metadata...");
const SEGMENT_BYTES: u64 = 1 << 20;
/// Between two tries to write on a full disk, ms.
const NO_SPACE_PAUSE_MS: u64 = 200;
/// Entries handed out at once.
const ENTRIES_AT_ONCE: u64 = 64;

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
    entries: BTreeMap<u64, Entry>,
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Begin(group) => *self = Self { group: Some(group), ..Self::default() },
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entry(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            Record::Truncate(from) => drop(self.entries.split_off(&from)),
            Record::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
            Record::Committed(committed) => self.committed = committed,
            Record::State { group, vote, purged, committed } => {
                *self = Self { group, vote, purged, committed, entries: BTreeMap::new() };
            }
        }
    }

    fn last_log_id(&self) -> Option<LogId<u64>> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// Raft looks at the last entry only; a hole before it would go unnoticed.
    fn first_hole(&self) -> Option<u64> {
        let mut next = self.purged.map(|purged| purged.index + 1).or(self.entries.keys().next().copied())?;
        for &index in self.entries.keys() {
            if index != next {
                return Some(next);
            }
            next += 1;
        }
        None
    }
}

/// Why the group's log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// Its files.
    #[error("the metadata group's log: {0}")]
    Open(#[from] OpenError),
    /// Its entries do not follow each other.
    #[error("{path}: the metadata group's log has no entry {missing}, but later ones; restore the directory, or remove it \
             and let the node join its cluster again", path = path.display())]
    Hole {
        /// The directory.
        path: std::path::PathBuf,
        /// The first entry that is missing.
        missing: u64,
    },
}

struct Inner {
    log: Arc<Log>,
    state: Mutex<State>,
    /// Held by whoever writes: what is written first is durable first.
    writing: tokio::sync::Mutex<()>,
}

/// The group's log and vote.
#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

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
        let mut visit = |record: &RecordView<'_>| {
            if record.header.kind == RecordKind::Metadata {
                state.apply(body::decode(record.body)?);
            }
            Ok(())
        };
        let (log, _) = Log::open(directory, OWNER, &config, Lsn::ZERO, first, &mut visit)?;
        if let Some(missing) = state.first_hole() {
            return Err(LogStoreError::Hole { path: directory.to_owned(), missing });
        }
        Ok(Self(Arc::new(Inner { log, state: Mutex::new(state), writing: tokio::sync::Mutex::default() })))
    }

    /// Which group's log this is; `None` in a fresh directory.
    pub fn group(&self) -> Option<Group> {
        self.0.state.lock().group
    }

    /// Begins the log of another group; what was there is void, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn begin(&self, group: Group) -> io::Result<()> {
        self.write(vec![Record::Begin(group)], true).await
    }

    /// Appends records, all or none, and when they must be, makes them durable before it returns. A full disk is waited out:
    /// nobody is told anything meanwhile, and the others go on without this node.
    async fn write(&self, records: Vec<Record>, durable: bool) -> io::Result<()> {
        let _writing = self.0.writing.lock().await;
        self.write_alone(records, durable).await
    }

    async fn write_alone(&self, records: Vec<Record>, durable: bool) -> io::Result<()> {
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
        let end = self.0.log.append(&mut bytes).map_err(io::Error::other)?;
        loop {
            let log = self.0.log.clone();
            let done = move || {
                log.write_up_to(end).and_then(|()| if durable { log.sync().map(drop) } else { Ok(()) })
            };
            match tokio::task::spawn_blocking(done).await.map_err(io::Error::other)? {
                Ok(()) => break,
                Err(AppendError::NoSpace) => platform::sleep_ms(NO_SPACE_PAUSE_MS).await,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let mut state = self.0.state.lock();
        records.into_iter().for_each(|record| state.apply(record));
        Ok(())
    }

    /// Writes everything that counts again, so that what stands before can be released.
    async fn start_over(&self) -> io::Result<()> {
        let _writing = self.0.writing.lock().await;
        let from = self.0.log.end().lsn;
        let records = {
            let state = self.0.state.lock();
            let State { group, vote, purged, committed, ref entries } = *state;
            let whole = Record::State { group, vote, purged, committed };
            std::iter::once(whole).chain(entries.values().cloned().map(Record::Entry)).collect()
        };
        self.write_alone(records, true).await?;
        self.0.log.release_below(from).map(drop)
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
        let state = self.0.state.lock();
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
        let state = self.0.state.lock();
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
        Ok(self.0.state.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Committed(committed)], false).await.map_err(write_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        let state = self.0.state.lock();
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
        let told = result.as_ref().map(|()| ()).map_err(|error| io::Error::other(error.to_string()));
        callback.log_io_completed(told);
        result.map_err(write_error)
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Truncate(from.index)], true).await.map_err(write_error)
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Purge(upto)], false).await.map_err(write_error)?;
        self.start_over().await.map_err(write_error)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_words::NodeId;
    use openraft::storage::RaftLogStorageExt;
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;
    use crate::wire::metadata::LoggedChange;

    fn log_id(term: u64, index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn entry(term: u64, index: u64) -> Entry {
        let change = holdfast_cluster::Change::BumpEpoch { node: NodeId([index as u8; 20]) };
        Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(LoggedChange(change)) }
    }

    fn open(directory: &Path) -> LogStore {
        LogStore::open(directory, BootId::default()).unwrap()
    }

    async fn ids(store: &mut LogStore) -> Vec<(u64, u64)> {
        let entries = store.try_get_log_entries(..).await.unwrap();
        entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
    }

    const GROUP: Group = Group { cluster: ClusterId([1; 20]), founder: true };

    #[tokio::test]
    async fn votes_entries_and_what_was_taken_back_survive_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = open(temp.path());
        store.begin(GROUP).await.unwrap();
        store.save_vote(&Vote::new(3, 7)).await.unwrap();
        store.blocking_append((0..10).map(|index| entry(1, index))).await.unwrap();
        store.truncate(log_id(1, 6)).await.unwrap();
        store.blocking_append([entry(2, 6)]).await.unwrap();
        store.save_committed(Some(log_id(1, 4))).await.unwrap();
        store.purge(log_id(1, 2)).await.unwrap();
        let durable = store.0.log.positions().durable_lsn();
        assert_eq!(durable, store.0.log.end().lsn, "everything was durable before it was answered");
        drop(store);
        let mut store = open(temp.path());
        assert_eq!(store.group(), Some(GROUP));
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
        assert_eq!(ids(&mut store).await, [(1, 3), (1, 4), (1, 5), (2, 6)]);
        assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 4)));
        let state = store.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 2)), Some(log_id(2, 6))));
    }

    #[tokio::test]
    async fn the_log_of_another_group_keeps_nothing_of_the_one_before() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = open(temp.path());
        store.begin(GROUP).await.unwrap();
        store.save_vote(&Vote::new(3, 7)).await.unwrap();
        store.blocking_append([entry(1, 0)]).await.unwrap();
        let other = Group { cluster: ClusterId([2; 20]), founder: false };
        store.begin(other).await.unwrap();
        drop(store);
        let mut store = open(temp.path());
        assert_eq!(store.group(), Some(other));
        assert_eq!(store.read_vote().await.unwrap(), None);
        assert_eq!(ids(&mut store).await, []);
    }

    #[tokio::test]
    async fn the_files_do_not_grow_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = open(temp.path());
        store.begin(GROUP).await.unwrap();
        store.save_vote(&Vote::new(9, 9)).await.unwrap();
        for round in 0..40u64 {
            store.blocking_append((0..1000).map(|n| entry(1, round * 1000 + n))).await.unwrap();
            store.purge(log_id(1, round * 1000 + 989)).await.unwrap();
        }
        let stats = store.0.log.stats();
        assert!(stats.segments <= 3, "{} segments", stats.segments);
        drop(store);
        let mut store = open(temp.path());
        assert_eq!(ids(&mut store).await.len(), 10);
        assert_eq!(store.group(), Some(GROUP));
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(9, 9)));
    }

    #[test]
    fn a_hole_in_the_entries_is_found() {
        let mut state = State::default();
        assert_eq!(state.first_hole(), None);
        for index in [4, 5, 7] {
            state.apply(Record::Entry(entry(1, index)));
        }
        assert_eq!(state.first_hole(), Some(6));
        state.apply(Record::Purge(log_id(1, 6)));
        assert_eq!(state.first_hole(), None);
        state.apply(Record::Purge(log_id(1, 6)));
        state.apply(Record::Truncate(7));
        state.apply(Record::Entry(entry(2, 8)));
        assert_eq!(state.first_hole(), Some(7), "between the snapshot and the first entry");
    }
}
