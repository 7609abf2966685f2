//! What CLUSTER NODES, SLOTS, SHARDS and INFO are made of, and where a slot's commands go: immutable snapshots of
//! the registry and the liveness of nodes. Data, no text; decides nothing.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use holdfast_words::{Epoch, NodeId, SLOT_COUNT, ShardId, SlotId, SlotRange};

use crate::change::{NodeAddress, NodeRecord};
use crate::message::{MessageCounts, Positions};
use crate::registry::Registry;
use crate::shard_register::Pending;
use crate::slot_table::range_len;

/// A node's health as seen from here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Health {
    /// It answers, or has not had the time to.
    #[default]
    Fine,
    /// It has not answered for the node timeout (`fail?`, PFAIL).
    Suspected,
    /// A majority of voters says so (`fail`, FAIL).
    Failed,
}

/// What is known of a node's life, by the core's clock (the `now_ms` of `step`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Liveness {
    /// Its health.
    pub health: Health,
    /// When the ping still unanswered was sent; 0 when none is.
    pub ping_sent_ms: u64,
    /// When it last answered a ping; 0 when never.
    pub pong_received_ms: u64,
    /// The driver has a connection to it.
    pub connected: bool,
    /// Voters that report it as failing (CLUSTER COUNT-FAILURE-REPORTS).
    pub failure_reports: usize,
    /// Its log as it last told.
    pub positions: Option<Positions>,
}

/// Why the cluster is down (`cluster_state:fail`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// This node is not a member of a cluster yet.
    NotJoined,
    /// No majority of the voters was heard within the node timeout.
    Minority,
    /// After a start or a minority: this node's registry is not yet as new as the voters' it hears.
    CatchingUp,
    /// The voters do not let this node serve: it is being replaced, or has been and does not know it yet.
    NoLease,
    /// A slot has no owner (`cluster-require-full-coverage yes`).
    SlotUnassigned,
    /// A slot's master has failed (`cluster-require-full-coverage yes`).
    SlotFailed,
}

/// One node, for CLUSTER NODES and SHARDS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Id, address, zone, shard.
    pub record: NodeRecord,
    /// It is this node.
    pub myself: bool,
    /// Its master when it is a replica.
    pub replica_of: Option<NodeId>,
    /// It is in its shard's in-sync set.
    pub in_sync: bool,
    /// It votes in the metadata group.
    pub votes: bool,
    /// Its shard's epoch.
    pub config_epoch: Epoch,
    /// The slots it serves as master.
    pub slots: Vec<SlotRange>,
    /// Its life.
    pub liveness: Liveness,
}

/// One shard, for CLUSTER SHARDS and SLOTS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardView {
    /// The shard's id.
    pub id: ShardId,
    /// Its slots.
    pub slots: Vec<SlotRange>,
    /// Indexes into [`View::nodes`]: the master first.
    pub members: Vec<usize>,
}

/// Where a shard's commands go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRoute {
    /// The shard.
    pub shard: ShardId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its master.
    pub master: NodeId,
    /// Where its master is.
    pub address: NodeAddress,
    /// This node belongs to it.
    pub mine: bool,
    /// An election is under way: its master acknowledges nothing until it is over.
    pub electing: bool,
    /// Its master has failed.
    pub failed: bool,
}

/// Whose a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    /// This node's, as master.
    Me(&'a ShardRoute),
    /// This node is a replica of the owner.
    MyMaster(&'a ShardRoute),
    /// Another shard's.
    Other(&'a ShardRoute),
    /// Nobody's.
    Nobody,
}

/// The part of the view every command reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Routes {
    /// This node.
    pub me: NodeId,
    /// Why nothing may be served; `None` is `cluster_state:ok`.
    pub down: Option<Down>,
    /// The shards.
    pub shards: Vec<ShardRoute>,
    /// A handover to this node is under way. Whoever sends it a command of its shard now was perhaps sent by a master that knows
    /// already that the handover is done.
    pub taking_over: bool,
    /// Index into `shards` by slot; [`Routes::NOBODY`] where there is no owner.
    pub slot_owner: Box<[u16; SLOT_COUNT as usize]>,
}

impl Routes {
    /// In [`Routes::slot_owner`]: nobody owns the slot.
    pub const NOBODY: u16 = u16::MAX;

    /// Routes as `registry` and `health` have them.
    pub fn new(
        me: NodeId,
        registry: &Registry,
        health: impl Fn(NodeId) -> Health,
        down: Option<Down>,
    ) -> Self {
        let my_shard = registry.nodes.get(&me).map(|node| node.shard);
        let mut index = BTreeMap::new();
        let shards = registry.shards.iter().zip(0u16..).map(|((&shard, register), i)| {
            index.insert(shard, i);
            let address = registry.nodes.get(&register.master).map(|n| n.address.clone()).unwrap_or_default();
            ShardRoute {
                shard,
                epoch: register.epoch,
                master: register.master,
                address,
                mine: my_shard == Some(shard),
                electing: matches!(register.pending, Some(Pending::Election { .. })),
                failed: health(register.master) == Health::Failed,
            }
        });
        let shards = shards.collect();
        let mut slot_owner = Box::new([Self::NOBODY; SLOT_COUNT as usize]);
        for (range, shard) in registry.slots.ranges() {
            let owner = index.get(shard).copied().unwrap_or(Self::NOBODY);
            slot_owner[range.first.index()..=range.last.index()].fill(owner);
        }
        let pending = my_shard.and_then(|shard| registry.shards.get(&shard)?.pending);
        let taking_over = matches!(pending, Some(Pending::Handover { to, .. }) if to == me);
        Self { me, down, shards, taking_over, slot_owner }
    }

    /// Whose `slot` is.
    pub fn owner(&self, slot: SlotId) -> Owner<'_> {
        match self.shards.get(usize::from(self.slot_owner[slot.index()])) {
            None => Owner::Nobody,
            Some(route) if route.master == self.me => Owner::Me(route),
            Some(route) if route.mine => Owner::MyMaster(route),
            Some(route) => Owner::Other(route),
        }
    }
}

/// The figures of CLUSTER INFO that are not in the registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Slots with an owner.
    pub slots_assigned: usize,
    /// Slots whose master is fine.
    pub slots_ok: usize,
    /// Slots whose master is suspected.
    pub slots_pfail: usize,
    /// Slots whose master has failed.
    pub slots_fail: usize,
    /// Masters with slots.
    pub size: usize,
    /// The epoch of this node's shard.
    pub my_epoch: Epoch,
    /// Messages sent.
    pub sent: MessageCounts,
    /// Messages received.
    pub received: MessageCounts,
}

/// A snapshot of everything an operator or client may ask about the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// What all nodes agree on.
    pub registry: Arc<Registry>,
    /// Where commands go; shared with the view before while nothing in it changed.
    pub routes: Arc<Routes>,
    /// The nodes, by id.
    pub nodes: Vec<NodeView>,
    /// The shards, by id.
    pub shards: Vec<ShardView>,
    /// CLUSTER INFO's figures.
    pub figures: Figures,
    /// Who leads the metadata group, as far as is known.
    pub leader: Option<NodeId>,
    /// `now_ms` when the snapshot was taken: turns the times in it into wall-clock times.
    pub taken_ms: u64,
}

impl View {
    /// A snapshot out of its sources.
    pub fn new(
        registry: &Arc<Registry>,
        routes: &Arc<Routes>,
        liveness: impl Fn(NodeId) -> Liveness,
        (sent, received): (MessageCounts, MessageCounts),
        leader: Option<NodeId>,
        now_ms: u64,
    ) -> Self {
        let mut slots: BTreeMap<ShardId, Vec<SlotRange>> = BTreeMap::new();
        for &(range, shard) in registry.slots.ranges() {
            slots.entry(shard).or_default().push(range);
        }
        let nodes: Vec<NodeView> = registry
            .nodes
            .values()
            .filter_map(|n| node_view(registry, routes.me, n, &slots, &liveness))
            .collect();
        let index: BTreeMap<NodeId, usize> = nodes.iter().zip(0..).map(|(n, i)| (n.record.id, i)).collect();
        let shards = registry.shards.iter().map(|(&id, register)| ShardView {
            id,
            slots: slots.get(&id).cloned().unwrap_or_default(),
            members: register.members().filter_map(|member| index.get(&member).copied()).collect(),
        });
        let shards = shards.collect();
        let mut figures = Figures { sent, received, ..Figures::default() };
        for node in nodes.iter().filter(|node| !node.slots.is_empty()) {
            let count: usize = node.slots.iter().map(|range| range_len(*range)).sum();
            figures.size += 1;
            figures.slots_assigned += count;
            match node.liveness.health {
                Health::Fine => figures.slots_ok += count,
                Health::Suspected => figures.slots_pfail += count,
                Health::Failed => figures.slots_fail += count,
            }
        }
        figures.my_epoch = registry.shard_of(routes.me).map(|(_, r)| r.epoch).unwrap_or_default();
        let (registry, routes) = (registry.clone(), routes.clone());
        Self { registry, routes, nodes, shards, figures, leader, taken_ms: now_ms }
    }

    /// What is known before anything was heard: `me`, in no cluster or in `registry`.
    pub fn initial(me: NodeId, registry: &Arc<Registry>) -> Self {
        let routes = Arc::new(Routes::new(me, registry, |_| Health::Fine, Some(Down::NotJoined)));
        Self::new(registry, &routes, |_| Liveness::default(), Default::default(), None, 0)
    }

    /// Whether `cluster_state` is ok.
    pub fn cluster_is_up(&self) -> bool {
        self.routes.down.is_none()
    }

    /// Whose `slot` is.
    pub fn owner(&self, slot: SlotId) -> Owner<'_> {
        self.routes.owner(slot)
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.binary_search_by_key(&id, |node| node.record.id).ok().map(|i| &self.nodes[i])
    }

    /// This node; `None` before it joined.
    pub fn myself(&self) -> Option<&NodeView> {
        self.node(self.routes.me)
    }

    /// The replicas of a master, for CLUSTER REPLICAS.
    pub fn replicas_of(&self, master: NodeId) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter(move |node| node.replica_of == Some(master))
    }
}

fn node_view(
    registry: &Registry,
    me: NodeId,
    node: &NodeRecord,
    slots: &BTreeMap<ShardId, Vec<SlotRange>>,
    liveness: impl Fn(NodeId) -> Liveness,
) -> Option<NodeView> {
    let register = registry.shards.get(&node.shard)?;
    let is_master = register.master == node.id;
    Some(NodeView {
        record: node.clone(),
        myself: node.id == me,
        replica_of: (!is_master).then_some(register.master),
        in_sync: register.in_sync.contains(&node.id),
        votes: registry.voters.contains(&node.id),
        config_epoch: register.epoch,
        slots: if is_master { slots.get(&node.shard).cloned().unwrap_or_default() } else { vec![] },
        liveness: liveness(node.id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, node_id, shard_id};

    fn owner_number(routes: &Routes, slot: u16) -> Owner<'_> {
        routes.owner(SlotId::new(slot).unwrap())
    }

    #[test]
    fn a_slot_leads_to_me_my_master_another_or_nobody() {
        let mut registry = cluster(3, 1);
        registry.slots.set(&[crate::testing::slots(16383, 16383)], None);
        let as_master = Routes::new(node_id(1), &registry, |_| Health::Fine, None);
        let as_replica = Routes::new(node_id(4), &registry, |_| Health::Fine, None);
        assert!(matches!(owner_number(&as_master, 0), Owner::Me(_)));
        assert!(matches!(owner_number(&as_replica, 0), Owner::MyMaster(r) if r.master == node_id(1)));
        assert!(matches!(owner_number(&as_master, 6000), Owner::Other(r) if r.address.port == 7002));
        assert_eq!(owner_number(&as_master, 16383), Owner::Nobody);
    }

    #[test]
    fn figures_count_slots_by_their_masters_health() {
        let registry = Arc::new(cluster(3, 1));
        let health = |id| match id {
            id if id == node_id(1) => Health::Failed,
            id if id == node_id(2) => Health::Suspected,
            id if id == node_id(6) => Health::Failed,
            _ => Health::Fine,
        };
        let routes = Arc::new(Routes::new(node_id(3), &registry, health, Some(Down::SlotFailed)));
        let liveness = |id| Liveness { health: health(id), ..Liveness::default() };
        let view = View::new(&registry, &routes, liveness, Default::default(), None, 5);
        let f = view.figures;
        assert_eq!((f.slots_assigned, f.slots_ok, f.slots_pfail, f.slots_fail), (16384, 5462, 5461, 5461));
        assert_eq!(f.size, 3);
        assert!(view.routes.shards[0].failed);
        assert_eq!(view.myself().unwrap().slots.len(), 1);
        assert_eq!(view.replicas_of(node_id(3)).next().unwrap().record.id, node_id(6));
        assert_eq!(view.shards[2].id, shard_id(3));
        assert_eq!(view.nodes[view.shards[2].members[0]].record.id, node_id(3));
    }
}
