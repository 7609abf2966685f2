//! The metadata state machine: who is a member, who owns which slots, every shard's register, who votes.
//! `apply` is deterministic and knows no clock, so that all nodes that applied the same changes hold equal registries.
//! It decides alone; openraft only puts the changes in one order.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use holdfast_words::{ClusterId, Epoch, NodeId, ShardId, SlotRange};

use crate::change::{Change, Expected, NodeRecord, Outcome, Refusal};
use crate::shard_register::ShardRegister;
use crate::slot_table::SlotTable;

/// How many forgotten nodes are remembered, so that CLUSTER FORGET sent to every node in turn succeeds on each.
const FORGOTTEN_KEPT: usize = 64;

/// The state every node agrees on. All fields are plain data; whoever stores or ships it converts them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Registry {
    /// The cluster's id; zero before the first [`Change::Found`].
    pub cluster: ClusterId,
    /// How many changes took effect; orders two registries of one cluster.
    pub version: u64,
    /// The members.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The shards' registers.
    pub shards: BTreeMap<ShardId, ShardRegister>,
    /// Who owns which slots.
    pub slots: SlotTable,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// The highest epoch ever handed out (Redis's currentEpoch).
    pub current_epoch: Epoch,
    /// Nodes forgotten lately, oldest first.
    pub forgotten: Vec<NodeId>,
    /// Who voted before the last change of voters, until nobody can hold a lease of theirs any more: meanwhile whoever is
    /// promoted needs a majority of both.
    pub former_voters: BTreeSet<NodeId>,
    /// The registry's version as of the last change of voters: no voter grants a lease to who does not know of it.
    pub voters_version: u64,
}

impl Registry {
    /// Whether the registry has had its [`Change::Found`]. A node that joins starts from an unfounded registry.
    pub fn is_founded(&self) -> bool {
        self.cluster != ClusterId::default()
    }

    /// The register of the shard `node` belongs to.
    pub fn shard_of(&self, node: NodeId) -> Option<(ShardId, &ShardRegister)> {
        let shard = self.nodes.get(&node)?.shard;
        Some((shard, self.shards.get(&shard)?))
    }

    /// Whether `node` is its shard's master.
    pub fn is_master(&self, node: NodeId) -> bool {
        self.shard_of(node).is_some_and(|(_, register)| register.master == node)
    }

    /// Whether `node` is the master of a shard that owns slots.
    pub fn serves_slots(&self, node: NodeId) -> bool {
        self.shard_of(node)
            .is_some_and(|(shard, register)| register.master == node && self.slots.owns_any(shard))
    }

    /// The voters other than `me`.
    pub fn others_voting(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().copied().filter(move |voter| *voter != me)
    }

    /// How many voters are more than half of them.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether these are more than half of the voters, and of those before them as long as they count.
    pub fn is_majority(&self, is_one: impl Fn(&NodeId) -> bool) -> bool {
        let has_majority = |of: &BTreeSet<NodeId>| of.iter().filter(|id| is_one(id)).count() > of.len() / 2;
        has_majority(&self.voters) && (self.former_voters.is_empty() || has_majority(&self.former_voters))
    }

    /// Applies one committed change. A refused change leaves everything as it was.
    pub fn apply(&mut self, change: &Change) -> Outcome {
        let outcome = self.try_apply(change).unwrap_or_else(Outcome::Refused);
        if matches!(outcome, Outcome::Done | Outcome::Joined { .. } | Outcome::Epoch(_)) {
            self.version += 1;
        }
        outcome
    }

    fn try_apply(&mut self, change: &Change) -> Result<Outcome, Refusal> {
        if !self.is_founded() && !matches!(change, Change::Found { .. }) {
            return Err(Refusal::NotFounded);
        }
        match change {
            Change::Found { cluster, node } => self.found(*cluster, node),
            Change::AddNode { node, epoch, claims } => self.add_node(node, *epoch, claims),
            Change::ForgetNode { node, by } => self.forget(*node, *by),
            Change::ResetNode { node } => self.reset(*node),
            Change::UpdateNode { node, .. } => self.update(*node, change),
            Change::AssignSlots { node, slots } => self.assign(*node, slots),
            Change::UnassignSlots { slots } => self.unassign(slots),
            Change::FlushSlots { node } => self.flush(*node),
            Change::Replicate { node, master, node_is_empty } => {
                self.replicate(*node, *master, *node_is_empty)
            }
            Change::BeginElection { shard, expected, candidate } => {
                let epoch = self.current_epoch.next();
                self.register(*shard, expected)?.begin_election(epoch, *candidate)?;
                self.current_epoch = epoch;
                Ok(Outcome::Epoch(epoch))
            }
            Change::BeginHandover { shard, expected, to } => {
                let epoch = self.current_epoch.next();
                self.register(*shard, expected)?.begin_handover(*shard, epoch, *to)?;
                self.current_epoch = epoch;
                Ok(Outcome::Epoch(epoch))
            }
            Change::AbortHandover { shard, expected } => {
                self.register(*shard, expected)?.abort_handover(*shard)?;
                Ok(Outcome::Done)
            }
            Change::Promote { shard, expected, master } => {
                let register = self.register(*shard, expected)?;
                register.promote(*shard, *master)?;
                Ok(Outcome::Epoch(register.epoch))
            }
            Change::PromoteUnclean { shard, expected, master } => {
                let register = self.register(*shard, expected)?;
                register.promote_unclean(*shard, *master)?;
                Ok(Outcome::Epoch(register.epoch))
            }
            Change::SetUncleanFailover { shard, expected, allowed } => {
                let register = self.register(*shard, expected)?;
                let was = core::mem::replace(&mut register.unclean_failover, *allowed);
                Ok(if was == *allowed { Outcome::Unchanged } else { Outcome::Done })
            }
            Change::SetInSync { shard, expected, from, to } => self.set_in_sync(*shard, expected, from, to),
            Change::SetVoters { from, to } => self.set_voters(from, to),
            Change::RetireFormerVoters { voters_version } => self.retire_former_voters(*voters_version),
            Change::SetConfigEpoch { node, epoch } => self.set_config_epoch(*node, *epoch),
            Change::BumpEpoch { node } => self.bump_epoch(*node),
        }
    }

    fn register(&mut self, shard: ShardId, expected: &Expected) -> Result<&mut ShardRegister, Refusal> {
        let register = self.shards.get_mut(&shard).ok_or(Refusal::UnknownShard(shard))?;
        register.expect(shard, *expected)?;
        Ok(register)
    }

    fn record(&self, node: NodeId) -> Result<&NodeRecord, Refusal> {
        self.nodes.get(&node).ok_or(Refusal::UnknownNode(node))
    }

    fn found(&mut self, cluster: ClusterId, node: &NodeRecord) -> Result<Outcome, Refusal> {
        if self.is_founded() {
            return Err(Refusal::AlreadyFounded);
        }
        self.cluster = cluster;
        self.shards.insert(node.shard, ShardRegister::new(node.id, node.incarnation, Epoch::ZERO));
        self.nodes.insert(node.id, node.clone());
        self.voters.insert(node.id);
        Ok(Outcome::Done)
    }

    fn add_node(
        &mut self,
        node: &NodeRecord,
        epoch: Epoch,
        claims: &[SlotRange],
    ) -> Result<Outcome, Refusal> {
        if let Some((_, register)) = self.shard_of(node.id) {
            // Said before and the answer got lost: saying it again changes nothing.
            return Ok(Outcome::Joined { epoch: register.epoch, dropped: Vec::new() });
        }
        if self.shards.contains_key(&node.shard) {
            return Err(Refusal::ShardIdTaken(node.shard));
        }
        let (free, taken): (Vec<_>, Vec<_>) = claims
            .iter()
            .flat_map(|range| range.slots())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .partition(|&slot| self.slots.owner(slot).is_none());
        let free = SlotRange::fold(free);
        let epoch_is_used = self.shards.values().any(|r| r.epoch == epoch || r.fence() == epoch);
        let epoch = match epoch {
            Epoch::ZERO if free.is_empty() => Epoch::ZERO,
            _ if epoch_is_used => self.current_epoch.next(),
            _ => epoch,
        };
        self.current_epoch = self.current_epoch.max(epoch);
        self.shards.insert(node.shard, ShardRegister::new(node.id, node.incarnation, epoch));
        self.slots.set(&free, Some(node.shard));
        self.nodes.insert(node.id, node.clone());
        self.forgotten.retain(|&id| id != node.id);
        Ok(Outcome::Joined { epoch, dropped: SlotRange::fold(taken) })
    }

    fn forget(&mut self, node: NodeId, by: NodeId) -> Result<Outcome, Refusal> {
        if node == by {
            return Err(Refusal::ForgetMyself);
        }
        if self.forgotten.contains(&node) {
            return Ok(Outcome::Unchanged);
        }
        self.record(node)?;
        if !self.is_master(by) && self.shard_of(by).is_some_and(|(_, register)| register.master == node) {
            return Err(Refusal::ForgetMyMaster);
        }
        if self.serves_slots(node) {
            return Err(Refusal::ForgetServingMaster(node));
        }
        self.remove(node);
        self.forgotten.push(node);
        if self.forgotten.len() > FORGOTTEN_KEPT {
            self.forgotten.remove(0);
        }
        Ok(Outcome::Done)
    }

    fn reset(&mut self, node: NodeId) -> Result<Outcome, Refusal> {
        if self.forgotten.contains(&node) {
            // It was forgotten and may not have heard of it yet: it may go.
            return Ok(Outcome::Unchanged);
        }
        self.record(node)?;
        self.remove(node);
        Ok(Outcome::Done)
    }

    /// Takes a member out of its shard, the voters and the table of nodes.
    fn remove(&mut self, node: NodeId) {
        self.leave_shard(node);
        if self.voters.contains(&node) {
            let mut left = self.voters.clone();
            left.remove(&node);
            self.replace_voters(left);
        }
        self.nodes.remove(&node);
    }

    /// Takes a member out of its shard; a shard left empty goes, with its slots.
    fn leave_shard(&mut self, node: NodeId) {
        let epoch = self.current_epoch.next();
        let Some(shard) = self.nodes.get(&node).map(|record| record.shard) else { return };
        let Some(register) = self.shards.get_mut(&shard) else { return };
        if !register.remove(node, epoch) {
            self.shards.remove(&shard);
            let slots: Vec<_> = self.slots.of_shard(shard).collect();
            self.slots.set(&slots, None);
        } else if register.epoch == epoch {
            self.current_epoch = epoch;
        }
    }

    fn update(&mut self, node: NodeId, change: &Change) -> Result<Outcome, Refusal> {
        let Change::UpdateNode { address, zone, incarnation, no_failover, .. } = change else {
            return Ok(Outcome::Unchanged);
        };
        let record = self.nodes.get_mut(&node).ok_or(Refusal::UnknownNode(node))?;
        if *incarnation < record.incarnation {
            return Err(Refusal::StaleIncarnation { recorded: record.incarnation });
        }
        let updated = NodeRecord {
            id: node,
            address: address.clone(),
            zone: zone.clone(),
            shard: record.shard,
            incarnation: *incarnation,
            no_failover: *no_failover,
        };
        if *record == updated {
            return Ok(Outcome::Unchanged);
        }
        let is_new_start = record.incarnation < *incarnation;
        *record = updated;
        if is_new_start {
            self.begin_epoch_of_start(node);
        }
        Ok(Outcome::Done)
    }

    /// A master that starts again may lack what it had sent to its replicas (the power failed before it was on the disk).
    /// What it writes from now on is of another epoch than that, so that the two are never taken for the same.
    fn begin_epoch_of_start(&mut self, node: NodeId) {
        let epoch = self.current_epoch.next();
        let Some(shard) = self.nodes.get(&node).map(|record| record.shard) else { return };
        let Some(register) = self.shards.get_mut(&shard) else { return };
        if register.begin_epoch_of_start(node, epoch) {
            self.current_epoch = epoch;
        }
    }

    fn assign(&mut self, node: NodeId, slots: &[SlotRange]) -> Result<Outcome, Refusal> {
        let shard = self.record(node)?.shard;
        if !self.is_master(node) {
            return Err(Refusal::SlotsNeedMaster);
        }
        let busy = slots.iter().flat_map(|r| r.slots()).find(|&slot| self.slots.owner(slot).is_some());
        if let Some(slot) = busy {
            return Err(Refusal::SlotBusy(slot));
        }
        self.slots.set(slots, Some(shard));
        Ok(Outcome::Done)
    }

    fn unassign(&mut self, slots: &[SlotRange]) -> Result<Outcome, Refusal> {
        let free = slots.iter().flat_map(|r| r.slots()).find(|&slot| self.slots.owner(slot).is_none());
        if let Some(slot) = free {
            return Err(Refusal::SlotUnassigned(slot));
        }
        self.slots.set(slots, None);
        Ok(Outcome::Done)
    }

    fn flush(&mut self, node: NodeId) -> Result<Outcome, Refusal> {
        let shard = self.record(node)?.shard;
        if !self.is_master(node) {
            return Err(Refusal::SlotsNeedMaster);
        }
        let slots: Vec<_> = self.slots.of_shard(shard).collect();
        if slots.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.slots.set(&slots, None);
        Ok(Outcome::Done)
    }

    fn replicate(&mut self, node: NodeId, master: NodeId, node_is_empty: bool) -> Result<Outcome, Refusal> {
        if node == master {
            return Err(Refusal::ReplicateMyself);
        }
        let from = self.record(node)?.shard;
        let to = self.record(master)?.shard;
        if !self.is_master(master) {
            return Err(Refusal::ReplicateReplica);
        }
        if self.is_master(node) && (!node_is_empty || self.slots.owns_any(from)) {
            return Err(Refusal::ReplicatorNotEmpty);
        }
        if from == to {
            return Ok(Outcome::Unchanged);
        }
        for shard in [from, to] {
            if self.shards.get(&shard).is_some_and(|register| register.pending.is_some()) {
                return Err(Refusal::ElectionUnderWay(shard));
            }
        }
        self.leave_shard(node);
        if let Some(register) = self.shards.get_mut(&to) {
            register.replicas.insert(node);
        }
        if let Some(record) = self.nodes.get_mut(&node) {
            record.shard = to;
        }
        Ok(Outcome::Done)
    }

    fn set_in_sync(
        &mut self,
        shard: ShardId,
        expected: &Expected,
        from: &BTreeSet<NodeId>,
        to: &BTreeSet<NodeId>,
    ) -> Result<Outcome, Refusal> {
        let incarnations: Vec<_> =
            to.iter().filter_map(|id| self.nodes.get(id)).map(|n| (n.id, n.incarnation)).collect();
        let register = self.register(shard, expected)?;
        register.set_in_sync(shard, from, to.clone())?;
        for (node, incarnation) in incarnations {
            register.incarnations.entry(node).or_insert(incarnation);
        }
        Ok(Outcome::Done)
    }

    fn set_voters(&mut self, from: &BTreeSet<NodeId>, to: &BTreeSet<NodeId>) -> Result<Outcome, Refusal> {
        if self.voters != *from || !self.former_voters.is_empty() {
            return Err(Refusal::VotersMoved);
        }
        if to.len().is_multiple_of(2) || to.iter().any(|id| !self.nodes.contains_key(id)) {
            return Err(Refusal::BadVoters);
        }
        if from == to {
            return Ok(Outcome::Unchanged);
        }
        self.replace_voters(to.clone());
        Ok(Outcome::Done)
    }

    fn replace_voters(&mut self, voters: BTreeSet<NodeId>) {
        let former = core::mem::replace(&mut self.voters, voters);
        if self.former_voters.is_empty() {
            self.former_voters = former;
        }
        // As of when this change is applied.
        self.voters_version = self.version + 1;
    }

    fn retire_former_voters(&mut self, voters_version: u64) -> Result<Outcome, Refusal> {
        if self.voters_version != voters_version {
            return Err(Refusal::VotersMoved);
        }
        if self.former_voters.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        self.former_voters.clear();
        Ok(Outcome::Done)
    }

    fn set_config_epoch(&mut self, node: NodeId, epoch: Epoch) -> Result<Outcome, Refusal> {
        let shard = self.record(node)?.shard;
        if self.nodes.len() > 1 {
            return Err(Refusal::ConfigEpochNotAlone);
        }
        let register = self.shards.get_mut(&shard).ok_or(Refusal::UnknownShard(shard))?;
        if register.epoch != Epoch::ZERO {
            return Err(Refusal::ConfigEpochSet);
        }
        register.epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
        Ok(Outcome::Epoch(epoch))
    }

    fn bump_epoch(&mut self, node: NodeId) -> Result<Outcome, Refusal> {
        let shard = self.record(node)?.shard;
        let highest = self.shards.values().map(|r| r.epoch).max().unwrap_or_default();
        let epoch = self.current_epoch.next();
        let register = self.shards.get_mut(&shard).ok_or(Refusal::UnknownShard(shard))?;
        if register.epoch != Epoch::ZERO && register.epoch == highest {
            return Ok(Outcome::Unchanged);
        }
        if register.pending.is_some() {
            return Err(Refusal::ElectionUnderWay(shard));
        }
        register.epoch = epoch;
        self.current_epoch = epoch;
        Ok(Outcome::Epoch(epoch))
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
pub(crate) mod tests;
