//! The metadata group's log while its node does not run: what it knows, and how another group begins out of it when a majority
//! of voters is gone for good. What to make of the registry decides [`holdfast_cluster::recover`].
//!
//! What is changed: only the directory `metadata/`, by appending to its log. For the node that begins the new group one batch of
//! four records, all or nothing: Begin (the new cluster's id, founder), Snapshot (the new registry; Raft's membership is this node
//! alone), Purge (up to the entry that the snapshot is said to be of, one after the last there was) and Vote (the next term, for this
//! node). For any other survivor one record: Begin (the new cluster's id, let in). Everything before a Begin is void to its readers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use holdfast_cluster::Registry;
use holdfast_words::{BootId, ClusterId, NodeId};
use openraft::{CommittedLeaderId, EntryPayload, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

use super::error::GroupError;
use super::log_store::{Group, LogStore, StoredSnapshot};
use crate::platform;
use crate::wire::body;
use crate::wire::metadata::{Member, PackedRegistry, raft_id};

/// What one node's log of the metadata group knows.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whose group it is.
    pub group: Option<Group>,
    /// The registry after every entry in the log, also those this node does not know to be committed: one that was committed
    /// must not be left out.
    pub registry: Registry,
    /// The last entry: its term and its index.
    pub last: Option<(u64, u64)>,
    /// When the newest entry was written, ms since 1970; 0 in an empty log.
    pub written_ms: u64,
}

/// The log, locked by whoever has its data directory open.
pub struct OfflineGroup {
    store: LogStore,
    runtime: tokio::runtime::Runtime,
    known: Known,
}

impl OfflineGroup {
    /// Opens the log in `directory`. The caller holds the lock of the data directory.
    ///
    /// # Errors
    /// Damage, with its place.
    pub fn open(directory: &Path, boot: BootId) -> Result<Self, GroupError> {
        let runtime = platform::runtime().map_err(GroupError::raft)?;
        let store = LogStore::open(directory, boot)?;
        let known = known(&store)?;
        Ok(Self { store, runtime, known })
    }

    /// What it knows.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Begins the group of another cluster with this registry and `me` as its only voter, durably.
    ///
    /// # Errors
    /// When it cannot be written; the log is as it was then, or the new group is there whole.
    pub fn begin_group(&mut self, me: NodeId, registry: &Registry) -> Result<(), GroupError> {
        let id = raft_id(me);
        let term_known = self.store.vote().map_or(0, |vote| vote.leader_id().term);
        let (last_term, last_index) = self.known.last.unwrap_or_default();
        let term = term_known.max(last_term) + 1;
        let last = LogId::new(CommittedLeaderId::new(term, id), last_index + 1);
        let nodes = BTreeMap::from([(id, Member::new(me))]);
        let membership = Membership::new(vec![BTreeSet::from([id])], nodes);
        let registry_bytes = body::encode(&PackedRegistry(registry.clone())).map_err(GroupError::raft)?;
        let snapshot = StoredSnapshot {
            meta: SnapshotMeta {
                last_log_id: Some(last),
                last_membership: StoredMembership::new(Some(last), membership),
                snapshot_id: last.to_string(),
            },
            registry: registry_bytes,
        };
        let group = Group { cluster: registry.cluster, founder: true };
        let begun = self.store.begin_with(group, snapshot, Vote::new(term, id));
        self.runtime.block_on(begun).map_err(GroupError::from)
    }

    /// Leaves its group for that of `cluster`, with nothing of its own: its leader tells it all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn join_group(&mut self, cluster: ClusterId) -> Result<(), GroupError> {
        let begun = self.store.begin(Group { cluster, founder: false });
        self.runtime.block_on(begun).map_err(GroupError::from)
    }
}

fn known(store: &LogStore) -> Result<Known, GroupError> {
    let snapshot = store.snapshot();
    let mut registry = match &snapshot {
        Some(snapshot) => body::decode::<PackedRegistry>(&snapshot.registry).map_err(io::Error::other)?.0,
        None => Registry::default(),
    };
    let mut last = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
    for entry in store.entries() {
        if Some(entry.log_id) <= last {
            continue; // In the snapshot already.
        }
        last = Some(entry.log_id);
        if let EntryPayload::Normal(change) = &entry.payload {
            // A refusal is an outcome as good as any: the group refused it, too.
            let _outcome = registry.apply(&change.0);
        }
    }
    let last = last.map(|last| (last.leader_id.term, last.index));
    Ok(Known { group: store.group(), registry, last, written_ms: store.newest_entry_ms() })
}
