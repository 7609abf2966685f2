//! Disaster: what becomes of a registry when a majority of its voters is gone for good and an operator says who is left
//! (`holdfast cluster recover`). Pure; who carries it out is offline and has the registry of one survivor only.
//!
//! Nothing here can be as safe as a majority: what the lost ones decided later, and what they acknowledged without a survivor,
//! is unknown. What can be done: the rest becomes a cluster of a new id, so that whoever returns of the lost is a stranger; every
//! shard gets an epoch that the lost ones cannot have reached; and of each shard somebody leads who, as far as is known, has
//! every acknowledged write.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use holdfast_words::{ClusterId, Epoch, NodeId, ShardId, SlotRange};

use crate::registry::Registry;
use crate::shard_register::ShardRegister;

/// By how much epochs leap: the lost ones may have gone on counting after the survivor heard of them last.
pub const EPOCH_LEAP: u64 = 1 << 20;

/// What becomes of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its master is left and goes on.
    Stays {
        /// The master.
        master: NodeId,
    },
    /// A replica that was in the in-sync set leads: it has every write that was acknowledged, unless it was dropped later from
    /// the set by the lost ones.
    TakenOver {
        /// The lost master.
        from: NodeId,
        /// Who leads.
        by: NodeId,
    },
    /// Only replicas outside the in-sync set are left: writes acknowledged since they were dropped are lost.
    TakenOverBehind {
        /// The lost master.
        from: NodeId,
        /// Who leads.
        by: NodeId,
    },
    /// Nobody is left: its data are lost, its slots have no owner.
    Lost,
}

/// A shard, and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardFate {
    /// The shard.
    pub shard: ShardId,
    /// Its slots.
    pub slots: Vec<SlotRange>,
    /// Members that are left.
    pub left: BTreeSet<NodeId>,
    /// What becomes of it.
    pub fate: Fate,
}

/// A registry for those who are left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What the new group begins with; `me` is its only voter, and the spread of voters follows from there.
    pub registry: Registry,
    /// The shards of before.
    pub shards: Vec<ShardFate>,
}

/// Makes of `known` a registry of those in `kept`, under the id `cluster`. `me` is one of them: the survivor that begins.
pub fn recover(known: &Registry, me: NodeId, kept: &BTreeSet<NodeId>, cluster: ClusterId) -> Recovered {
    assert!(kept.contains(&me) && kept.iter().all(|node| known.nodes.contains_key(node)));
    let mut registry = known.clone();
    registry.cluster = cluster;
    registry.version += EPOCH_LEAP;
    registry.nodes.retain(|node, _| kept.contains(node));
    registry.voters = BTreeSet::from([me]);
    // Those who were lost are no majority of anything any more.
    registry.former_voters.clear();
    registry.voters_version = 0;
    registry.shards = BTreeMap::new();
    registry.forgotten = known.nodes.keys().copied().filter(|node| !kept.contains(node)).collect();
    let mut epoch = Epoch(known.current_epoch.0 + EPOCH_LEAP);
    let mut shards = Vec::new();
    for (&shard, register) in &known.shards {
        let left: BTreeSet<NodeId> = register.members().filter(|member| kept.contains(member)).collect();
        let slots: Vec<SlotRange> = known.slots.of_shard(shard).collect();
        let fate = fate_of(register, &left, me);
        match master_after(fate) {
            Some(master) => {
                epoch = epoch.next();
                registry.shards.insert(shard, register_after(register, master, &left, epoch));
            }
            None => registry.slots.set(&slots, None),
        }
        shards.push(ShardFate { shard, slots, left, fate });
    }
    registry.current_epoch = epoch;
    Recovered { registry, shards }
}

fn master_after(fate: Fate) -> Option<NodeId> {
    match fate {
        Fate::Stays { master } => Some(master),
        Fate::TakenOver { by, .. } | Fate::TakenOverBehind { by, .. } => Some(by),
        Fate::Lost => None,
    }
}

fn fate_of(register: &ShardRegister, left: &BTreeSet<NodeId>, me: NodeId) -> Fate {
    let from = register.master;
    if left.contains(&from) {
        return Fate::Stays { master: from };
    }
    let pick = |of: &BTreeSet<NodeId>| if of.contains(&me) { Some(me) } else { of.first().copied() };
    let in_sync: BTreeSet<NodeId> = left.intersection(&register.in_sync).copied().collect();
    match (pick(&in_sync), pick(left)) {
        (Some(by), _) => Fate::TakenOver { from, by },
        (None, Some(by)) => Fate::TakenOverBehind { from, by },
        (None, None) => Fate::Lost,
    }
}

/// Whatever was under way is off: the new epoch is above all that was set aside for it.
fn register_after(
    register: &ShardRegister,
    master: NodeId,
    left: &BTreeSet<NodeId>,
    epoch: Epoch,
) -> ShardRegister {
    let mut in_sync: BTreeSet<NodeId> = left.intersection(&register.in_sync).copied().collect();
    in_sync.insert(master);
    let incarnations = register.incarnations.iter().filter(|(node, _)| in_sync.contains(node));
    ShardRegister {
        epoch,
        master,
        replicas: left.iter().copied().filter(|node| *node != master).collect(),
        incarnations: incarnations.map(|(node, incarnation)| (*node, *incarnation)).collect(),
        in_sync,
        pending: None,
        unclean_failover: register.unclean_failover,
        unclean_epoch: register.unclean_epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::testing::{cluster, done, node_id, shard_id};
    use crate::world::World;

    const NEW: ClusterId = ClusterId([99; 20]);

    fn kept(numbers: &[u8]) -> BTreeSet<NodeId> {
        numbers.iter().map(|n| node_id(*n)).collect()
    }

    /// Masters 1 to 3; replicas 4 to 6 of them, in sync.
    fn known() -> Registry {
        let mut registry = cluster(3, 1);
        for register in registry.shards.values_mut() {
            register.in_sync = register.members().collect();
        }
        registry
    }

    #[test]
    fn masters_that_are_left_stay_replicas_in_sync_take_over_and_the_rest_is_lost() {
        let known = known();
        let Recovered { registry, shards } = recover(&known, node_id(6), &kept(&[1, 6]), NEW);
        let fates: Vec<Fate> = shards.iter().map(|shard| shard.fate).collect();
        let taken = Fate::TakenOver { from: node_id(3), by: node_id(6) };
        assert_eq!(fates, [Fate::Stays { master: node_id(1) }, Fate::Lost, taken]);
        assert_eq!(registry.slots.assigned(), 16384 - 5461);
        assert_eq!(registry.slots.of_shard(shard_id(2)).count(), 0);
        assert_eq!(registry.nodes.keys().copied().collect::<BTreeSet<_>>(), kept(&[1, 6]));
        assert_eq!((registry.cluster, registry.voters.clone()), (NEW, kept(&[6])));
        assert_eq!(registry.shards[&shard_id(1)].in_sync, kept(&[1]));
        assert!(registry.forgotten.contains(&node_id(2)) && !registry.forgotten.contains(&node_id(1)));
    }

    #[test]
    fn every_shard_gets_an_epoch_of_its_own_above_all_there_could_have_been() {
        let mut known = known();
        let expected = known.shards[&shard_id(1)].seen();
        done(&mut known, Change::BeginElection { shard: shard_id(1), expected, candidate: None });
        let Recovered { registry, .. } = recover(&known, node_id(1), &kept(&[1, 2, 4, 6]), NEW);
        let epochs: BTreeSet<Epoch> = registry.shards.values().map(|register| register.epoch).collect();
        assert_eq!(epochs.len(), 3);
        assert!(epochs.iter().all(|epoch| epoch.0 > known.current_epoch.0 + EPOCH_LEAP));
        assert_eq!(registry.current_epoch, *epochs.last().unwrap());
        assert!(registry.shards.values().all(|register| register.pending.is_none()));
    }

    #[test]
    fn a_replica_outside_the_in_sync_set_leads_only_where_no_other_is_left() {
        let mut known = cluster(1, 3); // Master 1, replicas 2 to 4.
        known.shards.get_mut(&shard_id(1)).unwrap().in_sync = kept(&[1, 3]);
        let fate = |left: &[u8], me| recover(&known, node_id(me), &kept(left), NEW).shards[0].fate;
        assert_eq!(fate(&[2, 3, 4], 2), Fate::TakenOver { from: node_id(1), by: node_id(3) });
        assert_eq!(fate(&[2, 4], 4), Fate::TakenOverBehind { from: node_id(1), by: node_id(4) });
        let behind = recover(&known, node_id(4), &kept(&[2, 4]), NEW).registry;
        assert_eq!(behind.shards[&shard_id(1)].in_sync, kept(&[4]));
    }

    #[test]
    fn those_who_are_left_serve_again_and_spread_their_voters() {
        let Recovered { mut registry, .. } = recover(&known(), node_id(1), &kept(&[1, 3, 5, 6]), NEW);
        assert_eq!(registry.slots.assigned(), 16384);
        let w = World::with(registry.clone(), 5);
        assert!(w.all_ok());
        assert_eq!(w.registry(1).voters.len(), 3);
        assert_eq!(w.master_of(2, 1), 5);
        // And what was lost can be given out anew.
        let slots: Vec<_> = registry.slots.of_shard(shard_id(3)).collect();
        done(&mut registry, Change::UnassignSlots { slots: slots.clone() });
        done(&mut registry, Change::AssignSlots { node: node_id(1), slots });
    }
}
