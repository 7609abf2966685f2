//! Acknowledgements → committed LSN, for the reply gate, WAIT and WAITAOF. Pure arithmetic over what members told;
//! when to ask for a smaller or larger in-sync set will be decided here as well.

use alloc::collections::{BTreeMap, BTreeSet};

use holdfast_words::{Lsn, NodeId};

/// When a write is acknowledged (`write-ack`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteAck {
    /// When the master has it, as in Redis.
    #[default]
    Local,
    /// When every member of the in-sync set has it.
    InSync,
}

/// How far a member's log goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ack {
    /// Handed to the kernel.
    pub written_lsn: Lsn,
    /// Synced.
    pub durable_lsn: Lsn,
}

impl Ack {
    fn at(&self, durable: bool) -> Lsn {
        if durable { self.durable_lsn } else { self.written_lsn }
    }
}

/// What the replicas of a master acknowledged in the master's present epoch.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    by_replica: BTreeMap<NodeId, Ack>,
}

impl Acks {
    /// A replica's word; positions never go back within an epoch.
    pub fn on_ack(&mut self, replica: NodeId, ack: Ack) {
        let known = self.by_replica.entry(replica).or_default();
        known.written_lsn = known.written_lsn.max(ack.written_lsn);
        known.durable_lsn = known.durable_lsn.max(ack.durable_lsn);
    }

    /// The replica left the shard or its log was cut: what it acknowledged counts no more.
    pub fn forget(&mut self, replica: NodeId) {
        self.by_replica.remove(&replica);
    }

    /// How far `replica` is.
    pub fn of(&self, replica: NodeId) -> Option<Ack> {
        self.by_replica.get(&replica).copied()
    }

    /// How many replicas have everything below `lsn` (WAIT), or have it synced (WAITAOF).
    pub fn count(&self, lsn: Lsn, durable: bool) -> usize {
        self.by_replica.values().filter(|ack| ack.at(durable) >= lsn).count()
    }

    /// The position below which writes are acknowledged to clients. `durable`: `appendfsync always`, or nobody else
    /// is left in a set that once had more.
    pub fn committed_lsn(
        &self,
        mode: WriteAck,
        me: NodeId,
        mine: Ack,
        in_sync: &BTreeSet<NodeId>,
        durable: bool,
    ) -> Lsn {
        let own = mine.at(durable);
        match mode {
            WriteAck::Local => own,
            WriteAck::InSync => in_sync
                .iter()
                .filter(|member| **member != me)
                .map(|member| self.of(*member).unwrap_or_default().at(durable))
                .fold(own, Lsn::min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node_id;

    fn ack(written: u64, durable: u64) -> Ack {
        Ack { written_lsn: Lsn(written), durable_lsn: Lsn(durable) }
    }

    #[test]
    fn a_write_is_committed_when_every_in_sync_member_has_it() {
        let mut acks = Acks::default();
        let (me, set) = (node_id(1), BTreeSet::from([1, 2, 3].map(node_id)));
        acks.on_ack(node_id(2), ack(80, 40));
        let committed =
            |acks: &Acks, mode, durable| acks.committed_lsn(mode, me, ack(100, 60), &set, durable);
        assert_eq!(committed(&acks, WriteAck::InSync, false), Lsn(0), "one member has not answered");
        acks.on_ack(node_id(3), ack(90, 30));
        assert_eq!(committed(&acks, WriteAck::InSync, false), Lsn(80));
        assert_eq!(committed(&acks, WriteAck::InSync, true), Lsn(30));
        assert_eq!(committed(&acks, WriteAck::Local, false), Lsn(100));
        assert_eq!(committed(&acks, WriteAck::Local, true), Lsn(60));
    }

    #[test]
    fn a_member_outside_the_set_counts_for_wait_only() {
        let mut acks = Acks::default();
        acks.on_ack(node_id(2), ack(50, 50));
        acks.on_ack(node_id(2), ack(20, 60));
        assert_eq!(acks.of(node_id(2)), Some(ack(50, 60)), "acknowledgements never go back");
        acks.on_ack(node_id(4), ack(100, 10));
        assert_eq!((acks.count(Lsn(50), false), acks.count(Lsn(50), true)), (2, 1));
        let set = BTreeSet::from([1, 4].map(node_id));
        assert_eq!(acks.committed_lsn(WriteAck::InSync, node_id(1), ack(200, 0), &set, false), Lsn(100));
        acks.forget(node_id(4));
        assert_eq!(acks.count(Lsn(50), false), 1);
    }
}
