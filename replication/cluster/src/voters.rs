//! Who should vote: one node per zone (machine), an odd number up to seven, spread as nodes come and go, changed as
//! little as possible. Pure; the metadata leader proposes what comes out as `Change::SetVoters`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use holdfast_words::{NodeId, Zone};

use crate::change::NodeRecord;
use crate::registry::Registry;

/// Voters at most.
pub const VOTERS_MAX: usize = 7;
/// Voters at most while all nodes are in one zone: they guard against lost processes only.
pub const VOTERS_IN_ONE_ZONE_MAX: usize = 5;
/// Voters with two zones: losing the zone with one of them is survived.
const VOTERS_IN_TWO_ZONES: usize = 3;

/// The voters `registry` should have, given who is `alive`. The present voters when nothing better can be had.
pub fn desired_voters(registry: &Registry, alive: impl Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
    let rank = |node: &NodeRecord| {
        (!alive(node.id), !registry.voters.contains(&node.id), !registry.is_master(node.id), node.id)
    };
    // A node is taken on only while it answers; a voter stays until someone better is there.
    let mut zones: BTreeMap<&Zone, Vec<&NodeRecord>> = BTreeMap::new();
    for node in registry.nodes.values().filter(|n| alive(n.id) || registry.voters.contains(&n.id)) {
        zones.entry(&node.zone).or_default().push(node);
    }
    let seats = match zones.len() {
        0 => return registry.voters.clone(),
        1 => VOTERS_IN_ONE_ZONE_MAX,
        2 => VOTERS_IN_TWO_ZONES,
        many => many.min(VOTERS_MAX),
    };
    for nodes in zones.values_mut() {
        nodes.sort_by_key(|node| rank(node));
    }
    let candidates: usize = zones.values().map(Vec::len).sum();
    let seats = largest_odd(seats.min(candidates));

    // Round by round, each zone's next best; within a round the best zones first.
    let rounds = zones.values().map(Vec::len).max().unwrap_or(0);
    let in_order = (0..rounds).flat_map(|round| {
        let mut row: Vec<&NodeRecord> =
            zones.values().filter_map(|nodes| nodes.get(round).copied()).collect();
        row.sort_by_key(|node| rank(node));
        row
    });
    in_order.take(seats).map(|node| node.id).collect()
}

const fn largest_odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

#[cfg(test)]
#[path = "voters_tests.rs"]
mod tests;
