//! What the tests of this crate share: short names for nodes, slots and registries.

use std::string::ToString;
use std::vec::Vec;

use holdfast_words::{ClusterId, Epoch, Incarnation, NodeId, ShardId, SlotId, SlotRange, Zone};

use crate::change::{Change, NodeAddress, NodeRecord, Outcome};
use crate::registry::Registry;

/// Node number `n`.
pub fn node_id(n: u8) -> NodeId {
    let mut bytes = [0; 20];
    bytes[0] = n;
    NodeId(bytes)
}

/// The shard node `n` founds.
pub fn shard_id(n: u8) -> ShardId {
    let mut bytes = [0; 20];
    bytes[0] = n;
    ShardId(bytes)
}

/// Slots `first..=last`.
pub fn slots(first: u16, last: u16) -> SlotRange {
    SlotRange { first: SlotId::new(first).unwrap(), last: SlotId::new(last).unwrap() }
}

/// Node `n` in zone `zone`, master of the shard it founds.
pub fn record(n: u8, zone: &str) -> NodeRecord {
    NodeRecord {
        id: node_id(n),
        address: NodeAddress {
            ip: "127.0.0.1".to_string(),
            hostname: "".to_string(),
            port: 7000 + u16::from(n),
            bus_port: 17000 + u16::from(n),
        },
        zone: Zone(zone.to_string()),
        shard: shard_id(n),
        incarnation: Incarnation(1),
        no_failover: false,
    }
}

/// The registry of node `n`, alone.
pub fn lone(n: u8, zone: &str) -> Registry {
    let mut registry = Registry::default();
    let found = Change::Found { cluster: ClusterId([n; 20]), node: record(n, zone) };
    assert_eq!(registry.apply(&found), Outcome::Done);
    registry
}

/// Applies a change that must take effect.
pub fn done(registry: &mut Registry, change: Change) -> Outcome {
    let outcome = registry.apply(&change);
    assert!(!matches!(outcome, Outcome::Refused(_)), "{change:?}: {outcome:?}");
    outcome
}

/// `masters` shards with `replicas` replicas each: nodes 1..=masters are masters, node `masters + i` replicates master
/// `(i - 1) % masters + 1`. All slots assigned; voters as desired with everybody alive.
pub fn cluster(masters: u8, replicas: u8) -> Registry {
    let count = masters * (replicas + 1);
    let mut registry = lone(1, "a");
    let share = 16384 / u16::from(masters);
    for n in 2..=count {
        done(
            &mut registry,
            Change::AddNode { node: record(n, "a"), epoch: Epoch(u64::from(n)), claims: Vec::new() },
        );
    }
    for n in 1..=masters {
        let first = share * u16::from(n - 1);
        let last = if n == masters { 16383 } else { first + share - 1 };
        done(&mut registry, Change::AssignSlots { node: node_id(n), slots: [slots(first, last)].into() });
    }
    for n in masters + 1..=count {
        let master = node_id((n - masters - 1) % masters + 1);
        done(&mut registry, Change::Replicate { node: node_id(n), master, node_is_empty: true });
    }
    let to = crate::voters::desired_voters(&registry, |_| true);
    let from = registry.voters.clone();
    if from != to {
        done(&mut registry, Change::SetVoters { from, to });
        let voters_version = registry.voters_version;
        done(&mut registry, Change::RetireFormerVoters { voters_version });
    }
    registry
}

/// The number of a node.
pub fn node_number(id: NodeId) -> u8 {
    id.0[0]
}
