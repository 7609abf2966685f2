//! A shard's register: epoch, master, replicas, in-sync set, incarnations, and the election or handover under way.
//! It changes by compare-and-set only; this file has the rules and their refusals. It knows no slot and no address.

use alloc::collections::{BTreeMap, BTreeSet};

use holdfast_words::{Epoch, Incarnation, NodeId, ShardId};

use crate::change::{Expected, Refusal};

/// What is under way in a shard, and the epoch that was set aside for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// The master failed or was deposed: frames of older epochs are refused, members report positions.
    Election {
        /// The epoch the winner will have.
        epoch: Epoch,
        /// The only node that may win, or any.
        candidate: Option<NodeId>,
    },
    /// The master holds writes until `to` has caught up.
    Handover {
        /// The epoch `to` will have.
        epoch: Epoch,
        /// The replica that takes over.
        to: NodeId,
    },
}

impl Pending {
    /// The epoch set aside.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Election { epoch, .. } | Self::Handover { epoch, .. } => *epoch,
        }
    }
}

/// A shard's register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRegister {
    /// Moves with every change of master, never back.
    pub epoch: Epoch,
    /// The master.
    pub master: NodeId,
    /// The other members; never holds the master.
    pub replicas: BTreeSet<NodeId>,
    /// Members that have every acknowledged write; always holds the master.
    pub in_sync: BTreeSet<NodeId>,
    /// The incarnation at which a member was admitted to the in-sync set.
    pub incarnations: BTreeMap<NodeId, Incarnation>,
    /// The election or handover under way.
    pub pending: Option<Pending>,
    /// `unclean-failover`: whether a member out of sync may be promoted when none in sync can be reached.
    pub unclean_failover: bool,
    /// The epoch of the last promotion that may have lost acknowledged writes; zero: there was none.
    pub unclean_epoch: Epoch,
}

impl ShardRegister {
    /// A shard of one.
    pub fn new(master: NodeId, incarnation: Incarnation, epoch: Epoch) -> Self {
        Self {
            epoch,
            master,
            replicas: BTreeSet::new(),
            in_sync: BTreeSet::from([master]),
            incarnations: BTreeMap::from([(master, incarnation)]),
            pending: None,
            unclean_failover: false,
            unclean_epoch: Epoch::ZERO,
        }
    }

    /// What a proposer sees of this register.
    pub fn seen(&self) -> Expected {
        Expected { epoch: self.epoch, master: self.master, pending: self.pending.map(|p| p.epoch()) }
    }

    /// All members: the master, then the replicas.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        core::iter::once(self.master).chain(self.replicas.iter().copied())
    }

    /// Whether `node` is a member.
    pub fn has_member(&self, node: NodeId) -> bool {
        self.master == node || self.replicas.contains(&node)
    }

    /// The epoch whose frames alone may be taken: the pending election's while there is one, else the shard's.
    pub fn fence(&self) -> Epoch {
        match self.pending {
            Some(Pending::Election { epoch, .. }) => epoch,
            _ => self.epoch,
        }
    }

    /// The compare of every compare-and-set.
    pub fn expect(&self, shard: ShardId, expected: Expected) -> Result<(), Refusal> {
        let now = self.seen();
        if now == expected { Ok(()) } else { Err(Refusal::RegisterMoved { shard, now }) }
    }

    /// Fences the present epoch. A handover under way is overruled; an election is replaced by one at a newer epoch.
    pub fn begin_election(&mut self, epoch: Epoch, candidate: Option<NodeId>) -> Result<(), Refusal> {
        debug_assert!(epoch > self.epoch);
        if let Some(node) = candidate
            && !self.replicas.contains(&node)
        {
            return Err(Refusal::NotAMember(node));
        }
        self.pending = Some(Pending::Election { epoch, candidate });
        Ok(())
    }

    /// `node` has started again; whether it goes on as master at `epoch`. A handover under way is off. Where an election is
    /// under way its winner has a new epoch anyway, and a shard of one has nobody to differ from.
    pub fn begin_epoch_of_start(&mut self, node: NodeId, epoch: Epoch) -> bool {
        debug_assert!(epoch > self.epoch);
        let is_electing = matches!(self.pending, Some(Pending::Election { .. }));
        if self.master != node || self.replicas.is_empty() || is_electing {
            return false;
        }
        self.epoch = epoch;
        self.pending = None;
        true
    }

    /// Asks the master to hold writes for `to`.
    pub fn begin_handover(&mut self, shard: ShardId, epoch: Epoch, to: NodeId) -> Result<(), Refusal> {
        debug_assert!(epoch > self.epoch);
        if self.pending.is_some() {
            return Err(Refusal::ElectionUnderWay(shard));
        }
        if !self.replicas.contains(&to) {
            return Err(Refusal::NotAMember(to));
        }
        self.pending = Some(Pending::Handover { epoch, to });
        Ok(())
    }

    /// Lets the master go on. An election cannot be aborted: members may have refused the old epoch's frames.
    pub fn abort_handover(&mut self, shard: ShardId) -> Result<(), Refusal> {
        match self.pending {
            Some(Pending::Handover { .. }) => {
                self.pending = None;
                Ok(())
            }
            _ => Err(Refusal::RegisterMoved { shard, now: self.seen() }),
        }
    }

    /// Ends the election or handover under way. The winner of an election may be the old master, back again.
    pub fn promote(&mut self, shard: ShardId, winner: NodeId) -> Result<(), Refusal> {
        let moved = Refusal::RegisterMoved { shard, now: self.seen() };
        let Some(pending) = self.pending else { return Err(moved) };
        let only = match pending {
            Pending::Election { candidate, .. } => candidate,
            Pending::Handover { to, .. } => Some(to),
        };
        if only.is_some_and(|only| only != winner) {
            return Err(moved);
        }
        if !self.has_member(winner) {
            return Err(Refusal::NotAMember(winner));
        }
        let old = core::mem::replace(&mut self.master, winner);
        if old != winner {
            self.replicas.remove(&winner);
            self.replicas.insert(old);
            if matches!(pending, Pending::Election { .. }) {
                // Its log may end in writes nobody else has: it is out of the set until it has followed.
                self.in_sync.remove(&old);
            }
            self.in_sync.insert(winner);
        }
        debug_assert!(pending.epoch() > self.epoch);
        self.epoch = pending.epoch();
        self.pending = None;
        Ok(())
    }

    /// Ends an election with a winner that may lack acknowledged writes. Nobody else is in sync from then on, also who has more:
    /// the shard's log goes on at the winner's end.
    pub fn promote_unclean(&mut self, shard: ShardId, winner: NodeId) -> Result<(), Refusal> {
        if !self.unclean_failover || !matches!(self.pending, Some(Pending::Election { .. })) {
            return Err(Refusal::UncleanNotAllowed(shard));
        }
        self.promote(shard, winner)?;
        self.in_sync = BTreeSet::from([winner]);
        self.incarnations.retain(|node, _| *node == winner);
        self.unclean_epoch = self.epoch;
        Ok(())
    }

    /// A smaller or larger in-sync set. Refused while a master is being chosen: the candidates are the set's members.
    pub fn set_in_sync(
        &mut self,
        shard: ShardId,
        from: &BTreeSet<NodeId>,
        to: BTreeSet<NodeId>,
    ) -> Result<(), Refusal> {
        if self.pending.is_some() {
            return Err(Refusal::ElectionUnderWay(shard));
        }
        if self.in_sync != *from || !to.contains(&self.master) || to.iter().any(|&n| !self.has_member(n)) {
            return Err(Refusal::InSyncSetMoved);
        }
        self.incarnations.retain(|node, _| to.contains(node));
        self.in_sync = to;
        Ok(())
    }

    /// Takes a member out. With the master gone the lowest replica takes its place at `epoch`; `false` when nobody is
    /// left.
    pub fn remove(&mut self, node: NodeId, epoch: Epoch) -> bool {
        self.replicas.remove(&node);
        self.in_sync.remove(&node);
        self.incarnations.remove(&node);
        let named = match self.pending {
            Some(Pending::Election { candidate, .. }) => candidate == Some(node),
            Some(Pending::Handover { to, .. }) => to == node,
            None => false,
        };
        if self.master != node {
            if named {
                self.pending = match self.pending {
                    Some(Pending::Election { epoch, .. }) => {
                        Some(Pending::Election { epoch, candidate: None })
                    }
                    _ => None,
                };
            }
            return true;
        }
        let Some(heir) = self.replicas.pop_first() else { return false };
        debug_assert!(epoch > self.epoch);
        self.master = heir;
        self.in_sync.insert(heir);
        self.epoch = epoch;
        self.pending = None;
        true
    }
}
