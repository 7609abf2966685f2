//! PFAIL, reports and their validity, FAIL by a majority of voters, and how each is cleared. Suspects only; who
//! takes over is the metadata group's business.

use alloc::vec::Vec;

use holdfast_words::NodeId;

use crate::node_table::{NodeTable, Peer};
use crate::registry::Registry;
use crate::view::Health;

/// A report of a suspicion counts for this many node timeouts.
pub const REPORT_VALIDITY_TIMEOUTS: u64 = 2;
/// A failed master with slots that answers again is believed after this many node timeouts without a successor.
pub const FAIL_UNDO_TIMEOUTS: u64 = 2;

/// The rules' fixed points: who looks, at which registry, when.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// This node.
    pub me: NodeId,
    /// What all agree on.
    pub registry: &'a Registry,
    /// Now.
    pub now_ms: u64,
    /// `cluster-node-timeout`.
    pub timeout_ms: u64,
}

impl Watch<'_> {
    /// Nodes that have just become suspected: a ping unanswered for the node timeout, and nothing else heard for as
    /// long. A FAIL stays a suspicion.
    pub fn suspect(&self, table: &mut NodeTable) -> Vec<NodeId> {
        let mut suspects = Vec::new();
        for (id, peer) in table.iter_mut() {
            let Some(ping_sent) = peer.ping_sent_ms else { continue };
            let silent_since = ping_sent.max(peer.heard_ms.unwrap_or(0));
            if peer.suspected_ms.is_none() && self.now_ms.saturating_sub(silent_since) > self.timeout_ms {
                peer.suspected_ms = Some(self.now_ms);
                suspects.push(id);
            }
        }
        table.note_doubted();
        suspects
    }

    /// `node` answered a ping: no suspicion is left. Whether it had been suspected.
    pub fn on_pong(&self, table: &mut NodeTable, node: NodeId) -> bool {
        let Some(peer) = table.get_mut(node) else { return false };
        if let Some(sent) = peer.ping_sent_ms.take() {
            peer.answered_ms = Some(sent);
        }
        peer.pong_ms = Some(self.now_ms);
        peer.suspected_ms.take().is_some()
    }

    /// A voter said whether it suspects the node that `peer` is. Whether that may make a majority.
    pub fn on_report(&self, peer: &mut Peer, reporter: NodeId, suspected: bool) -> bool {
        if suspected {
            let before = peer.reports.insert(reporter, self.now_ms);
            return peer.failed_ms.is_none()
                && before.is_none_or(|said_ms| !self.is_valid(reporter, said_ms));
        }
        if !peer.reports.is_empty() {
            peer.reports.remove(&reporter);
        }
        false
    }

    /// Valid reports on `node` by others (CLUSTER COUNT-FAILURE-REPORTS).
    pub fn count_reports(&self, peer: &Peer) -> usize {
        peer.reports.iter().filter(|(reporter, said_ms)| self.is_valid(**reporter, **said_ms)).count()
    }

    fn is_valid(&self, reporter: NodeId, said_ms: u64) -> bool {
        let age_ms = self.now_ms.saturating_sub(said_ms);
        self.registry.voters.contains(&reporter) && age_ms <= REPORT_VALIDITY_TIMEOUTS * self.timeout_ms
    }

    /// Nodes that have just failed: suspected here, and by a majority of the voters (this node among them if it is
    /// one).
    pub fn fail(&self, table: &mut NodeTable) -> Vec<NodeId> {
        let mine = usize::from(self.registry.voters.contains(&self.me));
        let mut failed = Vec::new();
        let suspected = |(place, peer): (usize, &Peer)| peer.failed_ms.is_none().then_some(place);
        for place in table.doubted().filter_map(suspected).collect::<Vec<_>>() {
            let Some((id, peer)) = table.at_mut(place) else { continue };
            peer.reports.retain(|reporter, said_ms| self.is_valid(*reporter, *said_ms));
            if mine + peer.reports.len() >= self.registry.majority() {
                peer.failed_ms = Some(self.now_ms);
                failed.push(id);
            }
        }
        failed
    }

    /// A member says that a majority has lost `node`. Whether that was news.
    pub fn on_fail_message(&self, table: &mut NodeTable, node: NodeId) -> bool {
        match table.get_mut(node) {
            Some(peer) if peer.failed_ms.is_none() => {
                peer.failed_ms = Some(self.now_ms);
                table.note_doubted();
                true
            }
            _ => false,
        }
    }

    /// Nodes whose FAIL is cleared now: they answered since, and they are replicas or without slots, or nobody can or
    /// did take over and nobody is being chosen.
    pub fn recover(&self, table: &mut NodeTable) -> Vec<NodeId> {
        let back = |peer: &Peer, failed_ms| {
            peer.suspected_ms.is_none() && peer.pong_ms.is_some_and(|pong| pong > failed_ms)
        };
        let recovered: Vec<NodeId> = table
            .iter()
            .filter_map(|(id, peer)| Some((id, peer, peer.failed_ms?)))
            .filter(|(id, peer, failed_ms)| {
                back(peer, *failed_ms) && self.may_recover(table, *id, *failed_ms)
            })
            .map(|(id, _, _)| id)
            .collect();
        recovered.iter().for_each(|id| self.clear(table, *id));
        recovered
    }

    fn may_recover(&self, table: &NodeTable, node: NodeId, failed_ms: u64) -> bool {
        if !self.registry.serves_slots(node) {
            return true;
        }
        let Some((_, register)) = self.registry.shard_of(node) else { return true };
        let has_heirs = register.replicas.iter().any(|id| table.health(*id) != Health::Failed);
        let long_ago = self.now_ms.saturating_sub(failed_ms) > FAIL_UNDO_TIMEOUTS * self.timeout_ms;
        register.pending.is_none() && (long_ago || !has_heirs)
    }

    /// The metadata group has just made `node` a master: it lives. Whether it was held for dead here.
    pub fn pardon(&self, table: &mut NodeTable, node: NodeId) -> bool {
        let was_failed = table.get(node).is_some_and(|peer| peer.failed_ms.is_some());
        if was_failed {
            self.clear(table, node);
        }
        was_failed
    }

    fn clear(&self, table: &mut NodeTable, node: NodeId) {
        if let Some(peer) = table.get_mut(node) {
            peer.failed_ms = None;
            peer.suspected_ms = None;
            peer.reports.clear();
            if let Some(ping_sent) = &mut peer.ping_sent_ms {
                *ping_sent = self.now_ms;
            }
        }
    }

    /// This node stood still for a while: what it did not hear meanwhile is nobody's fault. Pings count from now.
    pub fn forgive_own_pause(&self, table: &mut NodeTable) {
        for (_, peer) in table.iter_mut() {
            if let Some(ping_sent) = &mut peer.ping_sent_ms {
                *ping_sent = self.now_ms;
            }
        }
    }

    /// Whether a majority of the voters, this node included if it is one, answered pings sent within the node timeout.
    /// To be heard counts, not only to hear: a node whose words get lost is deposed without noticing.
    pub fn hears_majority(&self, table: &NodeTable) -> bool {
        let heard = self.voters_answering(table).count();
        let mine = usize::from(self.registry.voters.contains(&self.me));
        !self.registry.voters.is_empty() && heard + mine >= self.registry.majority()
    }

    /// The other voters that answered pings sent within the node timeout.
    pub fn voters_answering<'t>(&'t self, table: &'t NodeTable) -> impl Iterator<Item = &'t Peer> {
        self.registry
            .voters
            .iter()
            .filter_map(|voter| table.get(*voter))
            .filter(|peer| peer.answered_within(self.now_ms, self.timeout_ms))
    }
}

#[cfg(test)]
#[path = "failure_detector_tests.rs"]
mod tests;
