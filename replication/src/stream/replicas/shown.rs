//! What is told of replicas and the in-sync set to those who ask: what a write waits for, who is out of the set and why. Looked up
//! when it is asked for, so that an acknowledgement costs nothing for it.

use std::collections::BTreeSet;

use holdfast_cluster::in_sync::{Absence, Condition, WriteAck, why_absent};
use holdfast_words::NodeId;

use super::{Replica, Replicas, Stage, Standing, State, reached};
use crate::handle::{LinkState, OwnPart, ReplicaSync, SyncState};
use crate::platform;

impl State {
    /// The registry has a new in-sync set: why who is missing in it went, for as long as it is missing.
    pub(super) fn note_set_change(
        &mut self,
        dropped: &[NodeId],
        members: &BTreeSet<NodeId>,
        in_sync: &BTreeSet<NodeId>,
    ) {
        if !matches!(self.standing, Standing::Master(_)) {
            return;
        }
        for node in in_sync.difference(&self.in_sync).filter(|node| members.contains(node)) {
            tracing::info!(replica = %node, "a replica is in the in-sync set: writes wait for it");
        }
        for &node in dropped {
            let why = self.leaving.remove(&node).unwrap_or(Absence::Left);
            tracing::info!(replica = %node, why = why.name(), "a replica is out of the in-sync set: no write waits for it");
            self.absent.insert(node, (why, platform::wall_clock_ms()));
        }
        self.absent.retain(|node, _| members.contains(node) && !in_sync.contains(node));
    }
}

impl Replicas {
    /// What keeps a replica, as it is now, from being in sync.
    pub(super) fn why_absent(&self, node: NodeId, replica: &Replica) -> Absence {
        let now_ms = platform::now_ms();
        let is_durable = self.is_durable();
        let target = replica.owes.map(|(target, _)| target);
        why_absent(&Condition {
            is_connected: replica.stage != Stage::Away,
            is_copying: matches!(replica.stage, Stage::Copying(_)),
            can_write: self.shared.can_write(node),
            owes_ms: replica.owes.map(|(_, since_ms)| now_ms.saturating_sub(since_ms)),
            owes_sync_only: is_durable && target.is_some_and(|target| replica.progress.written >= target),
            silent_ms: now_ms.saturating_sub(replica.heard_ms),
        })
    }

    /// Why this node asked to have a replica dropped from the in-sync set.
    pub fn why_leaves(&self, node: NodeId) -> Option<Absence> {
        self.state.lock().leaving.get(&node).copied()
    }

    /// What a write waits for now, and how each replica of the shard stands to the in-sync set.
    pub fn sync_state(&self) -> SyncState {
        let mut state = self.state.lock();
        self.note_debts(&mut state);
        let waits = state.write_ack == WriteAck::InSync && matches!(state.standing, Standing::Master(_));
        let is_needed =
            |node: &NodeId| waits && (state.in_sync.contains(node) || state.joining.contains(node));
        let has_company = state.expected.iter().any(is_needed);
        let is_alone = waits && !state.expected.is_empty() && !has_company;
        let own = match state.standing {
            Standing::Master(_) if self.is_durable() || is_alone => Some(OwnPart::Disk),
            Standing::Master(_) => Some(OwnPart::Log),
            Standing::Undecided | Standing::Replica => None,
        };
        let (now_ms, wall_ms) = (platform::now_ms(), platform::wall_clock_ms());
        let end = self.store.log().positions().written_lsn();
        let of = |node: &NodeId| {
            let replica = state.replicas.get(node);
            let in_sync = state.in_sync.contains(node);
            let since_ms =
                |replica: &Replica| wall_ms.saturating_sub(now_ms.saturating_sub(replica.since_ms));
            let now = || replica.map(|replica| (self.why_absent(*node, replica), since_ms(replica)));
            let absent = state.absent.get(node).copied().or_else(now);
            ReplicaSync {
                node: *node,
                in_sync,
                waited_for: is_needed(node),
                link: match replica.map(|replica| replica.stage) {
                    Some(Stage::Streaming) => LinkState::Streaming,
                    Some(Stage::Copying(_)) => LinkState::Copying,
                    Some(Stage::Away) | None => LinkState::Connecting,
                },
                owes_bytes: replica
                    .map_or(0, |replica| end.since(reached(replica, self.is_durable()).min(end))),
                owes_ms: replica
                    .and_then(|replica| replica.owes)
                    .map_or(0, |(_, ms)| now_ms.saturating_sub(ms)),
                absent: absent.filter(|_| !in_sync),
            }
        };
        SyncState { own, replicas: state.expected.iter().map(of).collect() }
    }
}
