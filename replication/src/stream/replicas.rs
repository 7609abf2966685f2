//! A master's replicas: how far each is, what of the log they still need, and what clients are told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_storage::store::{NeededByReplicas, Store};
use holdfast_words::{Lsn, NodeId};
use parking_lot::Mutex;

use crate::handle::{ReplicaInfo, Shared};
use crate::links::book::AddressBook;
use crate::platform;

/// What a replica told last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Handed to its kernel.
    pub written: Lsn,
    /// On its disk.
    pub durable: Lsn,
    /// In its slots.
    pub applied: Lsn,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Gets images; the log is to follow from here.
    Copying(Lsn),
    Streaming,
    Away,
}

struct Replica {
    stage: Stage,
    progress: Progress,
    heard_ms: u64,
    /// Which connection it is about: an older one that ends late says nothing about the newer one.
    connection: u64,
}

#[derive(Default)]
struct State {
    replicas: BTreeMap<NodeId, Replica>,
    /// Whom the registry has as replicas of this node's shard.
    expected: Vec<NodeId>,
    next_connection: u64,
}

/// All replicas of this node.
pub struct Replicas {
    store: Arc<Store>,
    shared: Arc<Shared>,
    book: AddressBook,
    state: Mutex<State>,
}

impl Replicas {
    /// None yet.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>, book: AddressBook) -> Arc<Self> {
        Arc::new(Self { store, shared, book, state: Mutex::default() })
    }

    /// Whom the registry has in this node's shard besides it: for them log is kept, there or not.
    pub fn expect(&self, members: Vec<NodeId>) {
        let mut state = self.state.lock();
        state.replicas.retain(|node, _| members.contains(node));
        state.expected = members;
        self.settle(&state);
    }

    /// This node is not the master any more: what replicas told it counts no more.
    pub fn forget_all(&self) {
        let mut state = self.state.lock();
        state.replicas.clear();
        self.settle(&state);
    }

    /// A replica is connected and goes on at `written`; the connection's number.
    pub fn begin_streaming(&self, node: NodeId, written: Lsn) -> u64 {
        self.shared.count_catch_up(|catch_ups| catch_ups.partial += 1);
        let progress = Progress { written, durable: Lsn::ZERO, applied: written };
        self.begin(node, Stage::Streaming, progress)
    }

    /// A replica is connected and gets a full copy, then the log from `start_lsn`.
    pub fn begin_copying(&self, node: NodeId, start_lsn: Lsn) -> u64 {
        self.begin(node, Stage::Copying(start_lsn), Progress::default())
    }

    /// A replica, whose log ends at `their_end` and cannot go on, is to get all there is.
    pub fn count_full_copy(&self, their_end: Lsn) {
        self.shared.count_catch_up(|catch_ups| {
            catch_ups.full += 1;
            catch_ups.partial_refused += u64::from(their_end > Lsn::ZERO);
        });
    }

    fn begin(&self, node: NodeId, stage: Stage, progress: Progress) -> u64 {
        let mut state = self.state.lock();
        state.next_connection += 1;
        let connection = state.next_connection;
        let heard_ms = platform::now_ms();
        state.replicas.insert(node, Replica { stage, progress, heard_ms, connection });
        self.settle(&state);
        connection
    }

    /// A word of a replica.
    pub fn on_ack(&self, node: NodeId, connection: u64, progress: Progress) {
        self.change(node, connection, |replica| {
            replica.heard_ms = platform::now_ms();
            if let Stage::Copying(start_lsn) = replica.stage
                && progress.written >= start_lsn
            {
                replica.stage = Stage::Streaming;
            }
            replica.progress = progress;
        });
    }

    /// A sign of life.
    pub fn on_heartbeat(&self, node: NodeId, connection: u64) {
        self.change(node, connection, |replica| replica.heard_ms = platform::now_ms());
    }

    /// A connection ended.
    pub fn end(&self, node: NodeId, connection: u64) {
        self.change(node, connection, |replica| replica.stage = Stage::Away);
    }

    fn change(&self, node: NodeId, connection: u64, change: impl FnOnce(&mut Replica)) {
        let mut state = self.state.lock();
        if let Some(replica) = state.replicas.get_mut(&node)
            && replica.connection == connection
        {
            change(replica);
            self.settle(&state);
        }
    }

    /// Milliseconds since the replica's last word on this connection.
    pub fn silent_ms(&self, node: NodeId, connection: u64) -> u64 {
        let state = self.state.lock();
        let replica = state.replicas.get(&node).filter(|replica| replica.connection == connection);
        replica.map_or(u64::MAX, |replica| platform::now_ms().saturating_sub(replica.heard_ms))
    }

    /// Tells the store and the server.
    fn settle(&self, state: &State) {
        let copying = state.replicas.values().filter_map(|replica| match replica.stage {
            Stage::Copying(start_lsn) => Some(start_lsn),
            Stage::Streaming | Stage::Away => None,
        });
        let surely = copying.min();
        // Of one that never told where it is, nothing is known: as much as is allowed is kept for it.
        let position =
            |node: &NodeId| state.replicas.get(node).map_or(Lsn::ZERO, |replica| replica.progress.written);
        let if_possible = state.expected.iter().map(position).min();
        self.store.set_needed_by_replicas(NeededByReplicas { surely, if_possible });
        let now_ms = platform::now_ms();
        let shown = state.replicas.iter().filter(|(_, replica)| !matches!(replica.stage, Stage::Away));
        let shown = shown.filter_map(|(&node, replica)| {
            Some(ReplicaInfo {
                node,
                address: self.book.of(node)?.data,
                online: matches!(replica.stage, Stage::Streaming),
                written_lsn: replica.progress.written,
                durable_lsn: replica.progress.durable,
                applied_lsn: replica.progress.applied,
                lag_ms: now_ms.saturating_sub(replica.heard_ms),
            })
        });
        self.shared.set_replicas(shown.collect());
    }

    /// Brings the ages that clients see up to date.
    pub fn refresh(&self) {
        let state = self.state.lock();
        self.settle(&state);
    }
}
