//! A master's replicas: how far each is, what of the log they still need, what may be acknowledged to clients, who should be in
//! the in-sync set, and what clients are told of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_cluster::in_sync::{
    Absence, Ack, CommitRule, Follower, SetChange, Terms, WriteAck, commit_rule, next_set,
};
use holdfast_storage::log::{Commit, FsyncPolicy};
use holdfast_storage::store::{NeededByReplicas, Store};
use holdfast_words::{Lsn, NodeId};
use parking_lot::Mutex;

use crate::handle::{ReplicaInfo, Shared};
use crate::links::book::AddressBook;
use crate::platform;
use crate::platform::sabotage::{self, Switch};

/// What is told of it to those who ask.
mod shown;

/// A replica is let into the in-sync set when it has been streaming for so long.
const STEADY_MS: u64 = 300;

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

#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// Since when it has been at this stage.
    since_ms: u64,
    /// What it has yet to acknowledge, and since when.
    owes: Option<(Lsn, u64)>,
    /// Which connection it is about: an older one that ends late says nothing about the newer one.
    connection: u64,
}

impl Replica {
    fn away(now_ms: u64) -> Self {
        let (stage, progress) = (Stage::Away, Progress::default());
        Self { stage, progress, heard_ms: now_ms, since_ms: now_ms, owes: None, connection: 0 }
    }

    fn acked(&self) -> Ack {
        Ack { written_lsn: self.progress.written, durable_lsn: self.progress.durable }
    }
}

/// What this node is to its replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing may be acknowledged: who is master is being decided.
    Undecided,
    /// It is one itself: what it shows its own clients is what it has.
    Replica,
    /// Their master, this node.
    Master(NodeId),
}

struct State {
    standing: Standing,
    /// The rule in force.
    write_ack: WriteAck,
    /// `write-ack local` was asked for: it is in force when all that was logged by then is committed under the stricter rule.
    relax_at: Option<Lsn>,
    replicas: BTreeMap<NodeId, Replica>,
    /// Whom the registry has as replicas of this node's shard.
    expected: BTreeSet<NodeId>,
    /// Whom the registry has in the in-sync set.
    in_sync: BTreeSet<NodeId>,
    /// Who is about to be let in: waited for already.
    joining: BTreeSet<NodeId>,
    /// Whom this node, as master, asked to have dropped, and why.
    leaving: BTreeMap<NodeId, Absence>,
    /// Who was dropped since this node is master, why, and when (wall clock, ms).
    absent: BTreeMap<NodeId, (Absence, u64)>,
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
    /// None yet, and nothing may be acknowledged.
    pub fn new(store: Arc<Store>, shared: Arc<Shared>, book: AddressBook) -> Arc<Self> {
        let state = State {
            standing: Standing::Undecided,
            write_ack: WriteAck::Local,
            relax_at: None,
            replicas: BTreeMap::new(),
            expected: BTreeSet::new(),
            in_sync: BTreeSet::new(),
            joining: BTreeSet::new(),
            leaving: BTreeMap::new(),
            absent: BTreeMap::new(),
            next_connection: 0,
        };
        let this = Self { store, shared, book, state: Mutex::new(state) };
        this.settle(&mut this.state.lock());
        Arc::new(this)
    }

    /// `write-ack`. The stricter rule holds when this returns. The weaker one holds when every write that began under the
    /// stricter one is committed under it: nobody's write becomes weaker while it is waited for.
    pub fn set_write_ack(&self, write_ack: WriteAck) {
        let mut state = self.state.lock();
        let relaxes = state.write_ack == WriteAck::InSync && write_ack == WriteAck::Local;
        if relaxes && state.standing != Standing::Replica {
            if state.relax_at.is_none() {
                state.relax_at = Some(self.store.log().end().lsn);
            }
        } else {
            (state.write_ack, state.relax_at) = (write_ack, None);
        }
        self.settle(&mut state);
    }

    /// Whom the registry has in this node's shard besides it (for them log is kept, there or not), and in the in-sync set.
    pub fn expect(&self, members: BTreeSet<NodeId>, in_sync: BTreeSet<NodeId>) {
        let mut state = self.state.lock();
        state.replicas.retain(|node, _| members.contains(node));
        state.joining.retain(|node| members.contains(node) && !in_sync.contains(node));
        let dropped: Vec<NodeId> = state.in_sync.difference(&in_sync).copied().collect();
        for &node in &dropped {
            // It has to be steady anew before it is let in again.
            if let Some(replica) = state.replicas.get_mut(&node) {
                replica.since_ms = platform::now_ms();
            }
        }
        state.note_set_change(&dropped, &members, &in_sync);
        (state.expected, state.in_sync) = (members, in_sync);
        self.settle(&mut state);
    }

    /// This node is something else from now on. What replicas told it before counts no more.
    pub fn stand(&self, standing: Standing) {
        let mut state = self.state.lock();
        state.standing = standing;
        if standing == Standing::Replica && state.relax_at.take().is_some() {
            // Whoever waited here never gets an answer.
            state.write_ack = WriteAck::Local;
        }
        if standing != Standing::Undecided {
            state.replicas.clear();
            state.joining.clear();
            state.leaving.clear();
            state.absent.clear();
        }
        self.settle(&mut state);
    }

    /// Another node is the master: nothing is acknowledged until this node has become what it is now.
    pub fn depose(&self) {
        let mut state = self.state.lock();
        if matches!(state.standing, Standing::Master(_)) {
            state.standing = Standing::Undecided;
            self.settle(&mut state);
        }
    }

    /// What to ask of the metadata group about the in-sync set now. Who is to be let in is waited for from here on, until
    /// [`Replicas::expect`] says that it is in, or [`Replicas::was_refused`] that it is not.
    pub fn wanted_in_sync(&self, lag_max_ms: u64) -> Option<(BTreeSet<NodeId>, BTreeSet<NodeId>)> {
        let mut state = self.state.lock();
        if !matches!(state.standing, Standing::Master(_)) || state.write_ack == WriteAck::Local {
            return None;
        }
        self.settle(&mut state);
        let now_ms = platform::now_ms();
        let committed = self.store.log().positions().committed_lsn();
        let is_durable = self.is_durable();
        let followers: Vec<Follower> = state
            .expected
            .iter()
            .filter_map(|node| Some((*node, state.replicas.get(node)?)))
            .map(|(node, replica)| Follower {
                node,
                lag_ms: replica.owes.map_or(0, |(_, since_ms)| now_ms.saturating_sub(since_ms)),
                is_ready: replica.stage == Stage::Streaming
                    && now_ms.saturating_sub(replica.since_ms) >= STEADY_MS
                    && reached(replica, is_durable) >= committed,
            })
            .collect();
        let from = state.in_sync.clone();
        let to = match next_set(&from, &followers, lag_max_ms)? {
            SetChange::Shrink(to) => {
                let why = |node: &NodeId| Some((*node, self.why_absent(*node, state.replicas.get(node)?)));
                state.leaving = from.difference(&to).filter_map(why).collect();
                if sabotage::is_on(Switch::ShrinkBeforeCommit) {
                    state.in_sync = to.clone();
                    self.settle(&mut state);
                }
                to
            }
            SetChange::Grow(to) => {
                state.joining = to.difference(&from).copied().collect();
                self.settle(&mut state);
                to
            }
        };
        Some((from, to))
    }

    /// The metadata group refused the larger set: nobody is about to be let in.
    pub fn was_refused(&self) {
        let mut state = self.state.lock();
        state.joining.clear();
        self.settle(&mut state);
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
        let now_ms = platform::now_ms();
        let owes = state.replicas.get(&node).and_then(|replica| replica.owes);
        let replica = Replica { stage, progress, heard_ms: now_ms, since_ms: now_ms, owes, connection };
        state.replicas.insert(node, replica);
        self.settle(&mut state);
        connection
    }

    /// A word of a replica.
    pub fn on_ack(&self, node: NodeId, connection: u64, progress: Progress) {
        self.change(node, connection, |replica| {
            replica.heard_ms = platform::now_ms();
            if let Stage::Copying(start_lsn) = replica.stage
                && progress.written >= start_lsn
            {
                (replica.stage, replica.since_ms) = (Stage::Streaming, replica.heard_ms);
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
        self.change(node, connection, |replica| {
            (replica.stage, replica.since_ms) = (Stage::Away, platform::now_ms());
        });
    }

    fn change(&self, node: NodeId, connection: u64, change: impl FnOnce(&mut Replica)) {
        let mut state = self.state.lock();
        if let Some(replica) = state.replicas.get_mut(&node)
            && replica.connection == connection
        {
            change(replica);
            self.settle(&mut state);
        }
    }

    /// Milliseconds since the replica's last word on this connection; `None`: it is a replica on this connection no more.
    pub fn silent_ms(&self, node: NodeId, connection: u64) -> Option<u64> {
        let state = self.state.lock();
        let replica = state.replicas.get(&node).filter(|replica| replica.connection == connection)?;
        Some(platform::now_ms().saturating_sub(replica.heard_ms))
    }

    fn is_durable(&self) -> bool {
        self.store.log().fsync_policy() == FsyncPolicy::Always
    }

    /// Tells the store and the server what follows from the state.
    fn settle(&self, state: &mut State) {
        self.note_debts(state);
        self.settle_commit(state);
        if state.relax_at.is_some_and(|end| self.store.log().positions().committed_lsn() >= end) {
            (state.write_ack, state.relax_at) = (WriteAck::Local, None);
            self.settle_commit(state);
        }
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
        let shown = state.replicas.iter().filter(|(_, replica)| replica.stage != Stage::Away);
        let shown = shown.filter_map(|(&node, replica)| {
            Some(ReplicaInfo {
                node,
                address: self.book.of(node)?.data,
                online: replica.stage == Stage::Streaming,
                written_lsn: replica.progress.written,
                durable_lsn: replica.progress.durable,
                applied_lsn: replica.progress.applied,
                lag_ms: now_ms.saturating_sub(replica.heard_ms),
            })
        });
        self.shared.set_replicas(shown.collect());
    }

    /// Since when each owes an acknowledgement of something that is written here.
    fn note_debts(&self, state: &mut State) {
        if !matches!(state.standing, Standing::Master(_)) {
            return;
        }
        let now_ms = platform::now_ms();
        for &node in &state.expected {
            state.replicas.entry(node).or_insert_with(|| Replica::away(now_ms));
        }
        let (end, is_durable) = (self.store.log().positions().written_lsn(), self.is_durable());
        for replica in state.replicas.values_mut() {
            let acked = reached(replica, is_durable);
            if acked >= end {
                replica.owes = None;
            } else if replica.owes.is_none_or(|(target, _)| acked >= target) {
                replica.owes = Some((end, now_ms));
            }
        }
    }

    fn settle_commit(&self, state: &State) {
        let log = self.store.log();
        let everything = Lsn(u64::MAX);
        let (commit, alone) = match (state.standing, state.write_ack) {
            (Standing::Undecided, _) => (Commit::Nothing, false),
            (Standing::Master(_), WriteAck::Local) if self.is_durable() => {
                (Commit::Durable { others: everything }, false)
            }
            (Standing::Replica, _) | (Standing::Master(_), WriteAck::Local) => (Commit::default(), false),
            (Standing::Master(me), WriteAck::InSync) => {
                let needed = state.in_sync.union(&state.joining).copied().collect();
                let has_replicas = !state.expected.is_empty();
                let terms = Terms { me, needed: &needed, has_replicas, durable: self.is_durable() };
                let acked = |node| state.replicas.get(&node).map(Replica::acked).unwrap_or_default();
                match commit_rule(&terms, acked) {
                    CommitRule::Written { others } => (Commit::Written { others }, false),
                    CommitRule::Durable { others } => (Commit::Durable { others }, others == everything),
                }
            }
        };
        let commit = match commit {
            Commit::Written { .. } | Commit::Durable { .. } if sabotage::is_on(Switch::AckBeforeReplica) => {
                Commit::Written { others: everything }
            }
            commit => commit,
        };
        log.await_durability(alone);
        log.positions().set_commit(commit);
    }

    /// Brings the ages that clients see up to date.
    pub fn refresh(&self) {
        self.settle(&mut self.state.lock());
    }
}

fn reached(replica: &Replica, is_durable: bool) -> Lsn {
    if is_durable { replica.progress.durable } else { replica.progress.written }
}
