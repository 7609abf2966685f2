//! The registry as Raft's state machine: committed changes are applied to it in order, and each new registry is published.
//! It lives in memory; on disk are the newest snapshot and the entries after it, in the group's log.

use std::io::Cursor;
use std::sync::Arc;

use holdfast_cluster::Registry;
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};

use super::log_store::{LogStore, StoredSnapshot};
use super::published::Publisher;
use crate::wire::body::{self, BodyError};
use crate::wire::metadata::{LoggedOutcome, Member, PackedRegistry, TypeConfig};

type Entry = openraft::Entry<TypeConfig>;

/// The registry, and how far it is.
#[derive(Clone, Default)]
struct Applied {
    registry: Arc<Registry>,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, Member>,
}

impl Applied {
    fn of(snapshot: &StoredSnapshot) -> Result<Self, BodyError> {
        let PackedRegistry(registry) = body::decode(&snapshot.registry)?;
        let SnapshotMeta { last_log_id, last_membership, .. } = snapshot.meta.clone();
        Ok(Self { registry: Arc::new(registry), last: last_log_id, membership: last_membership })
    }
}

/// Applies changes; one per time Raft is started.
pub struct StateMachine {
    store: LogStore,
    applied: Applied,
    publisher: Publisher,
}

impl StateMachine {
    /// As of the newest snapshot; Raft applies what was committed after it.
    ///
    /// # Errors
    /// When the snapshot is none.
    pub fn new(store: LogStore, publisher: Publisher) -> Result<Self, BodyError> {
        let applied = store.snapshot().as_ref().map(Applied::of).transpose()?.unwrap_or_default();
        publisher.registry(&applied.registry);
        Ok(Self { store, applied, publisher })
    }
}

fn read_error(error: &(impl std::error::Error + 'static)) -> StorageError<u64> {
    StorageIOError::read_snapshot(None, AnyError::new(error)).into()
}

fn write_error(error: &(impl std::error::Error + 'static)) -> StorageError<u64> {
    StorageIOError::write_snapshot(None, AnyError::new(error)).into()
}

fn shipped(snapshot: StoredSnapshot) -> Snapshot<TypeConfig> {
    Snapshot { meta: snapshot.meta, snapshot: Box::new(Cursor::new(snapshot.registry)) }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<LoggedOutcome>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        let before = self.applied.registry.version;
        for entry in entries {
            self.applied.last = Some(entry.log_id);
            outcomes.push(match entry.payload {
                EntryPayload::Normal(change) => {
                    Arc::make_mut(&mut self.applied.registry).apply(&change.0).into()
                }
                EntryPayload::Membership(membership) => {
                    self.applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    LoggedOutcome::Done
                }
                EntryPayload::Blank => LoggedOutcome::Unchanged,
            });
        }
        if self.applied.registry.version != before {
            self.publisher.registry(&self.applied.registry);
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { store: self.store.clone(), applied: self.applied.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, Member>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let snapshot = StoredSnapshot { meta: meta.clone(), registry: snapshot.into_inner() };
        let applied = Applied::of(&snapshot).map_err(|error| {
            self.store.fail();
            read_error(&error)
        })?;
        self.store.save_snapshot(snapshot).await.map_err(|error| write_error(&error))?;
        self.publisher.registry(&applied.registry);
        self.applied = applied;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        Ok(self.store.snapshot().map(shipped))
    }
}

/// Makes a snapshot of the registry as it was when this was made.
pub struct SnapshotBuilder {
    store: LogStore,
    applied: Applied,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let Applied { registry, last, membership } = &self.applied;
        let packed = body::encode(&PackedRegistry(Registry::clone(registry)));
        let meta = SnapshotMeta {
            last_log_id: *last,
            last_membership: membership.clone(),
            snapshot_id: last.map(|last| last.to_string()).unwrap_or_default(),
        };
        let registry = packed.map_err(|error| write_error(&error))?;
        let snapshot = StoredSnapshot { meta, registry };
        self.store.save_snapshot(snapshot.clone()).await.map_err(|error| write_error(&error))?;
        Ok(shipped(snapshot))
    }
}
