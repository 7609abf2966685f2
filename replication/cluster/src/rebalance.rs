//! `cluster-rebalance-masters`: after a machine is back and its nodes are in sync, masters return to the spread, as many on one
//! machine (`cluster-zone`, by default the address) as on another. Pure; the metadata leader proposes what comes out, and the
//! hand-over is the one of CLUSTER FAILOVER. No copy moves: which machines hold a shard stays as it is.
//!
//! Never flaps: each hand-over brings masters from a machine to one with at least two fewer, or makes room for that on the way;
//! nothing is begun before the whole cluster has been well and nothing has changed for a while, nor twice as soon after a
//! hand-over that failed.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use holdfast_words::{NodeId, ShardId, Zone};

use crate::change::Change;
use crate::registry::Registry;

/// The cluster has to be well and unchanged for so many node timeouts.
pub const CALM_TIMEOUTS: u64 = 3;
/// Each failure doubles that time, at most so many times.
const DOUBLINGS_MAX: u32 = 6;

/// What the metadata leader remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Rebalance {
    /// The registry's version that has held since, and since when.
    calm: Option<(u64, u64)>,
    /// The hand-over begun last.
    begun: Option<Move>,
    failures: u32,
}

/// A master to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The shard.
    pub shard: ShardId,
    /// The replica that takes over.
    pub to: NodeId,
}

impl Rebalance {
    /// What to propose now. `is_well`: the node is heard and under no suspicion.
    pub fn step(
        &mut self,
        registry: &Registry,
        is_well: impl Fn(NodeId) -> bool,
        now_ms: u64,
        timeout_ms: u64,
    ) -> Option<Change> {
        if !may_move(registry, is_well) {
            self.calm = None;
            return None;
        }
        let since_ms = match self.calm {
            Some((version, since_ms)) if version == registry.version => since_ms,
            _ => {
                self.note_outcome(registry);
                self.calm = Some((registry.version, now_ms));
                now_ms
            }
        };
        let calm_ms = (CALM_TIMEOUTS * timeout_ms) << self.failures;
        if now_ms.saturating_sub(since_ms) < calm_ms {
            return None;
        }
        let next = next_move(registry)?;
        let expected = registry.shards.get(&next.shard)?.seen();
        self.begun = Some(next);
        // Should the change get lost, all is to be calm for as long again.
        self.calm = Some((registry.version, now_ms));
        Some(Change::BeginHandover { shard: next.shard, expected, to: next.to })
    }

    fn note_outcome(&mut self, registry: &Registry) {
        let Some(Move { shard, to }) = self.begun.take() else { return };
        let is_done = registry.shards.get(&shard).is_some_and(|register| register.master == to);
        self.failures = if is_done { 0 } else { (self.failures + 1).min(DOUBLINGS_MAX) };
    }
}

/// Everybody is well, every copy is in sync, nobody is being chosen.
fn may_move(registry: &Registry, is_well: impl Fn(NodeId) -> bool) -> bool {
    registry.nodes.values().all(|node| !node.zone.0.is_empty() && is_well(node.id))
        && registry.shards.values().all(|register| {
            register.pending.is_none() && register.members().all(|member| register.in_sync.contains(&member))
        })
}

/// The next hand-over on the way to an even spread; `None` when none makes it more even.
///
/// Machines are joined where a shard's master is on one and a replica on the other. Sought is the shortest way from a machine to
/// one with at least two masters fewer; its last step comes first, so that no machine gets more than it has to hold.
pub fn next_move(registry: &Registry) -> Option<Move> {
    let zone_of = |node: NodeId| registry.nodes.get(&node).map(|record| &record.zone);
    let mut masters: BTreeMap<&Zone, usize> = registry.nodes.values().map(|node| (&node.zone, 0)).collect();
    let mut steps: BTreeMap<&Zone, Vec<(&Zone, Move)>> = BTreeMap::new();
    for (&shard, register) in registry.shards.iter().filter(|(shard, _)| registry.slots.owns_any(**shard)) {
        let from = zone_of(register.master)?;
        *masters.entry(from).or_default() += 1;
        for &to in &register.replicas {
            let may_lead = registry.nodes.get(&to).is_some_and(|record| !record.no_failover);
            match zone_of(to).filter(|zone| may_lead && *zone != from) {
                Some(zone) => steps.entry(from).or_default().push((zone, Move { shard, to })),
                None => continue,
            }
        }
    }
    let ways = masters.iter().filter_map(|(&from, &count)| shortest_way(from, count, &masters, &steps));
    ways.min_by_key(|way| (way.length, core::cmp::Reverse(way.gain))).map(|way| way.last)
}

struct Way {
    length: usize,
    gain: usize,
    last: Move,
}

/// From a machine with so many masters to the nearest one with at least two fewer; of equally near ones that with the fewest.
fn shortest_way(
    from: &Zone,
    count: usize,
    masters: &BTreeMap<&Zone, usize>,
    steps: &BTreeMap<&Zone, Vec<(&Zone, Move)>>,
) -> Option<Way> {
    let mut seen = BTreeSet::from([from]);
    let mut row = VecDeque::from([(from, 0)]);
    let mut best: Option<Way> = None;
    while let Some((zone, length)) = row.pop_front() {
        if best.as_ref().is_some_and(|best| best.length <= length) {
            break;
        }
        for &(next, last) in steps.get(zone).into_iter().flatten() {
            if !seen.insert(next) {
                continue;
            }
            row.push_back((next, length + 1));
            let gain = count.saturating_sub(masters.get(next).copied().unwrap_or(0));
            if gain >= 2 && best.as_ref().is_none_or(|best| best.gain < gain) {
                best = Some(Way { length: length + 1, gain, last });
            }
        }
    }
    best
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
