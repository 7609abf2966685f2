//! Whom to ping now, and what to tell about others. Every second the stalest of a few, and whoever was not heard of
//! for too long; a message carries a few random members and, from a voter, the suspected ones. What it costs with many nodes:
//! docs/gossip-scale.md.

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
/// Per node of the cluster, what a voter's interval grows by: its pings stay at 250 a second.
const VOTER_PING_EVERY_MS_PER_NODE: u64 = 4;
/// An unanswered ping is repeated at the latest after this time.
const REPEAT_PING_MS_MAX: u64 = 1000;
/// A voter that never answered since this node started is asked again so soon: its answer to the first ping is lost as long as it has
/// not dialed this node anew, and before a majority of voters has answered this node serves nothing.
const FIRST_PING_REPEAT_MS: u64 = 200;
/// Per silent node, what that time grows by: where many are silent, a hundred a second are asked again.
const REPEAT_PING_MS_PER_DOUBTED: u64 = 10;
/// A message tells of at least so many nodes, and of a tenth of all.
const RUMOURS_MIN: usize = 3;
/// A message tells of at most so many nodes that are not suspected. Hearsay only spares pings: who is a member stands in the
/// registry, and who suspects somebody tells of that besides.
const RUMOURS_MAX: usize = 30;
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
        let mut due: BTreeSet<NodeId> =
            table.iter().filter(|(_, peer)| ping_is_due(watch, table, peer)).map(|(id, _)| id).collect();
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

fn ping_is_due(watch: &Watch<'_>, table: &NodeTable, peer: &Peer) -> bool {
    let ago = |then_ms: u64| watch.now_ms.saturating_sub(then_ms);
    if peer.ping_sent_ms.is_some() {
        let quarter_ms = (watch.timeout_ms / 4).max(1);
        if peer.votes && peer.answered_ms.is_none() {
            return ago(peer.ping_repeated_ms) >= FIRST_PING_REPEAT_MS;
        }
        let many_ms = REPEAT_PING_MS_PER_DOUBTED * table.count_doubted() as u64;
        let every_ms = REPEAT_PING_MS_MAX.max(if peer.votes { 0 } else { many_ms }).min(quarter_ms);
        return ago(peer.ping_repeated_ms) >= every_ms;
    }
    let Some(answered_ms) = peer.answered_ms else { return true };
    if peer.votes && ago(answered_ms) >= watch.timeout_ms / 4 {
        return true; // Whether a majority of voters is there is judged by answers, not by hearsay.
    }
    let longest_ms = watch.timeout_ms / 2;
    let interval_ms = if table.i_vote() {
        (VOTER_PING_EVERY_MS_PER_NODE * table.ids().len() as u64).max(VOTER_PING_EVERY_MS_MIN).min(longest_ms)
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
    // Who is silent is asked whether it lives; it would hardly hear the rest.
    let is_silent = to.and_then(|to| table.get(to)).is_some_and(Peer::is_doubted);
    let mut tell = if table.i_vote() && !is_silent { suspects(table, dice) } else { Vec::new() };
    let others = if is_silent { RUMOURS_MIN } else { (ids.len() / 10).clamp(RUMOURS_MIN, RUMOURS_MAX) };
    let wanted = tell.len() + others;
    for _ in 0..3 * others.min(ids.len()) {
        if tell.len() >= wanted {
            break;
        }
        let place = dice.below(ids.len());
        if !tell.contains(&place) {
            tell.push(place);
        }
    }
    tell.sort_unstable();
    tell.into_iter()
        .filter_map(|place| table.at(place))
        .filter(|(id, _)| Some(*id) != to)
        // Of a node never heard there is nothing to tell, unless that it is silent.
        .filter(|(_, peer)| peer.heard_ms.is_some() || peer.is_doubted())
        .map(|(node, peer)| Rumour {
            node,
            idle_ms: peer.heard_ms.map_or(u64::MAX, |heard| now_ms.saturating_sub(heard)),
            suspected: peer.is_doubted(),
        })
        .collect()
}

/// The places of those whom a voter tells of as suspected: first those that a majority still has to agree on, then those that have
/// failed. Where there are too many for one message, each message starts at another one.
fn suspects(table: &NodeTable, dice: &mut Dice) -> Vec<usize> {
    let (mut open, mut settled): (Vec<_>, Vec<_>) =
        table.doubted().partition(|(_, peer)| peer.failed_ms.is_none());
    for list in [&mut open, &mut settled] {
        let first = dice.below(list.len());
        list.rotate_left(first);
    }
    open.into_iter().chain(settled).map(|(place, _)| place).take(SUSPECTS_MAX).collect()
}

/// What `reporter` told about others. Whether a majority may have lost somebody now. Only voters' suspicions count.
pub fn on_rumours(watch: &Watch<'_>, table: &mut NodeTable, reporter: NodeId, told: &[Rumour]) -> bool {
    let votes = watch.registry.voters.contains(&reporter);
    let mut is_news = false;
    for rumour in told.iter().filter(|rumour| rumour.node != watch.me) {
        let Some(peer) = table.get_mut(rumour.node) else { continue };
        if votes && rumour.node != reporter {
            is_news |= watch.on_report(peer, reporter, rumour.suspected);
        }
        // Hearsay postpones the next ping; it never answers one.
        if !rumour.suspected && rumour.idle_ms <= watch.timeout_ms {
            peer.vouched_ms = peer.vouched_ms.max(watch.now_ms.saturating_sub(rumour.idle_ms));
        }
    }
    is_news
}

#[cfg(test)]
#[path = "gossip_tests.rs"]
mod tests;
