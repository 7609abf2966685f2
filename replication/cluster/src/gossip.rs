//! Whom to ping now, and what to tell about others. Every second the stalest of a few, and whoever was not heard of
//! for too long; a message carries a few random members and all suspected ones.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use holdfast_words::NodeId;

use crate::dice::Dice;
use crate::failure_detector::Watch;
use crate::message::Rumour;
use crate::node_table::{NodeTable, Peer};

/// One random ping a second.
const RANDOM_PING_EVERY_MS: u64 = 1000;
/// Out of so many sampled nodes, the one whose pong is oldest.
const RANDOM_PING_SAMPLE: usize = 5;
/// A voter pings everyone at least this often in a small cluster, so that a silent node is noticed at once.
const VOTER_PING_EVERY_MS_MIN: u64 = 250;
/// Per node of the cluster, what a voter's interval grows by: its pings stay at about a hundred a second.
const VOTER_PING_EVERY_MS_PER_NODE: u64 = 10;
/// An unanswered ping is repeated at the latest after this time.
const REPEAT_PING_MS_MAX: u64 = 1000;
/// A message tells of at least so many nodes, and of a tenth of all.
const RUMOURS_MIN: usize = 3;
/// A message tells of at most so many suspected nodes.
const SUSPECTS_MAX: usize = 100;

/// The pinging side's own state.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    random_ping_ms: u64,
}

impl Gossip {
    /// Whom to ping now, each at most once.
    pub fn due_pings(&mut self, watch: &Watch<'_>, table: &NodeTable, dice: &mut Dice) -> BTreeSet<NodeId> {
        let mut due: BTreeSet<NodeId> = table
            .iter()
            .filter(|(id, peer)| ping_is_due(watch, *id, peer, table.ids().len()))
            .map(|(id, _)| id)
            .collect();
        if watch.now_ms.saturating_sub(self.random_ping_ms) >= RANDOM_PING_EVERY_MS {
            self.random_ping_ms = watch.now_ms;
            due.extend(stalest_of_a_few(table, dice));
        }
        due
    }
}

/// Whose connection to replace: a ping went unanswered for half the timeout, perhaps because the connection is dead
/// and does not know it yet.
pub fn due_reconnects(watch: &Watch<'_>, table: &mut NodeTable) -> Vec<NodeId> {
    let half_ms = watch.timeout_ms / 2;
    let mut due = Vec::new();
    for (id, peer) in table.iter_mut().filter(|(_, peer)| peer.connected) {
        let unanswered = peer.ping_sent_ms.is_some_and(|sent| watch.now_ms.saturating_sub(sent) > half_ms);
        if unanswered && watch.now_ms.saturating_sub(peer.reconnect_ms) > half_ms {
            peer.reconnect_ms = watch.now_ms;
            due.push(id);
        }
    }
    due
}

fn ping_is_due(watch: &Watch<'_>, id: NodeId, peer: &Peer, nodes: usize) -> bool {
    let ago = |then_ms: u64| watch.now_ms.saturating_sub(then_ms);
    if peer.ping_sent_ms.is_some() {
        return ago(peer.ping_repeated_ms) >= (watch.timeout_ms / 4).clamp(1, REPEAT_PING_MS_MAX);
    }
    let Some(answered_ms) = peer.answered_ms else { return true };
    if watch.registry.voters.contains(&id) && ago(answered_ms) >= watch.timeout_ms / 4 {
        return true; // Whether a majority of voters is there is judged by answers, not by hearsay.
    }
    let longest_ms = watch.timeout_ms / 2;
    let interval_ms = if watch.registry.voters.contains(&watch.me) {
        (VOTER_PING_EVERY_MS_PER_NODE * nodes as u64).max(VOTER_PING_EVERY_MS_MIN).min(longest_ms)
    } else {
        longest_ms
    };
    ago(peer.vouched_ms) >= interval_ms
}

fn stalest_of_a_few(table: &NodeTable, dice: &mut Dice) -> Option<NodeId> {
    let ids = table.ids();
    (0..RANDOM_PING_SAMPLE.min(ids.len()))
        .map(|_| ids[dice.below(ids.len())])
        .filter(|id| table.get(*id).is_some_and(|peer| peer.ping_sent_ms.is_none()))
        .min_by_key(|id| table.get(*id).and_then(|peer| peer.pong_ms))
}

/// What to tell `to` about the others.
pub fn rumours(table: &NodeTable, to: Option<NodeId>, now_ms: u64, dice: &mut Dice) -> Vec<Rumour> {
    let ids = table.ids();
    let suspects = table.iter().filter(|(_, peer)| peer.suspected_ms.or(peer.failed_ms).is_some());
    let mut tell: BTreeSet<NodeId> = suspects.map(|(id, _)| id).take(SUSPECTS_MAX).collect();
    let wanted = tell.len() + RUMOURS_MIN.max(ids.len() / 10);
    for _ in 0..3 * RUMOURS_MIN.max(ids.len() / 10).min(ids.len()) {
        if tell.len() >= wanted {
            break;
        }
        tell.insert(ids[dice.below(ids.len())]);
    }
    tell.into_iter()
        .filter(|id| Some(*id) != to)
        .filter_map(|id| table.get(id).map(|peer| (id, peer)))
        // Of a node never heard there is nothing to tell, unless that it is silent.
        .filter(|(_, peer)| peer.heard_ms.is_some() || peer.suspected_ms.or(peer.failed_ms).is_some())
        .map(|(node, peer)| Rumour {
            node,
            idle_ms: peer.heard_ms.map_or(u64::MAX, |heard| now_ms.saturating_sub(heard)),
            suspected: peer.suspected_ms.or(peer.failed_ms).is_some(),
        })
        .collect()
}

/// What `reporter` told about others.
pub fn on_rumours(watch: &Watch<'_>, table: &mut NodeTable, reporter: NodeId, told: &[Rumour]) {
    for rumour in told.iter().filter(|rumour| rumour.node != watch.me) {
        watch.on_report(table, reporter, rumour.node, rumour.suspected);
        let Some(peer) = table.get_mut(rumour.node) else { continue };
        // Hearsay postpones the next ping; it never answers one.
        if !rumour.suspected && rumour.idle_ms <= watch.timeout_ms {
            peer.vouched_ms = peer.vouched_ms.max(watch.now_ms.saturating_sub(rumour.idle_ms));
        }
    }
}

#[cfg(test)]
#[path = "gossip_tests.rs"]
mod tests;
