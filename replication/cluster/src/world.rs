//! A small world for the scenes: many cores, messages with delays and cuts, a metadata group that orders changes at
//! once wherever a majority of voters is reachable, and logs that are numbers. Everything follows from one seed.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use holdfast_words::{ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId, ShardId, SlotRange};

use crate::dice::Dice;
use crate::testing::{node_number, record};
use crate::view::Owner;
use crate::*;

/// The node timeout in every scene.
pub const TIMEOUT_MS: u64 = 2000;
/// The metadata group is without a leader for so long after losing one.
const LEADERLESS_MS: u64 = 300;
const TICK_MS: u64 = 100;
const STREAM_MS: u64 = 10;

/// One node: a core and what stands in for its driver and its log.
pub struct Node {
    pub id: NodeId,
    core: Option<Cluster>,
    group: ClusterId,
    /// What its own metadata log says: it starts from that.
    applied: Arc<Registry>,
    incarnation: u64,
    pub positions: Positions,
    pub log: LogPoint,
    role: Option<(ShardId, Epoch, Role)>,
    fence: Epoch,
    paused_writes: bool,
    /// It takes nothing from its master's stream.
    pub stalled: bool,
    /// Its log takes nothing.
    disk_is_full: bool,
    stream_up_ms: u64,
    frozen: bool,
    next_tick_ms: u64,
    pub settings: Settings,
    pub no_failover: bool,
}

struct Group {
    registry: Registry,
    leader: Option<NodeId>,
    leaderless_since_ms: u64,
}

enum Delivery {
    Message { to: NodeId, message: Box<Message> },
    Registry { to: NodeId, registry: Arc<Registry> },
}

/// The world.
pub struct World {
    pub now_ms: u64,
    pub nodes: BTreeMap<NodeId, Node>,
    groups: BTreeMap<ClusterId, Group>,
    in_flight: BTreeMap<(u64, u64), Delivery>,
    cut: BTreeSet<(NodeId, NodeId)>,
    sequence: u64,
    dice: Dice,
    pub events: Vec<(u64, NodeId, Event)>,
    pub answers: Vec<Result<(), Refusal>>,
    /// Per shard: the last position acknowledged to a client.
    pub acknowledged: BTreeMap<ShardId, LogPoint>,
    pub messages: u64,
    pub rumours: u64,
    /// Messages of this kind are lost.
    pub lose: Option<MessageKind>,
    /// These get no news of the registry.
    pub unfed: BTreeSet<NodeId>,
    /// Nothing is proposed by this node.
    pub mute: Option<NodeId>,
}

impl World {
    /// `count` nodes, each the only one of its cluster; node `n` in zone `zone(n)`.
    pub fn lone(count: u8, seed: u64, zone: impl Fn(u8) -> &'static str) -> Self {
        let mut world = Self {
            now_ms: 10_000,
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            cut: BTreeSet::new(),
            sequence: 0,
            dice: Dice::new(seed),
            events: Vec::new(),
            answers: Vec::new(),
            acknowledged: BTreeMap::new(),
            messages: 0,
            rumours: 0,
            lose: None,
            unfed: BTreeSet::new(),
            mute: None,
        };
        for n in 1..=count {
            let cluster = ClusterId([n; 20]);
            let mut registry = Registry::default();
            registry.apply(&Change::Found { cluster, node: record(n, zone(n)) });
            world.add_group(cluster, registry);
            world.add_node(n, cluster);
            world.start(n);
        }
        world
    }

    /// A cluster as `registry` has it, all nodes up, warmed up for two seconds.
    pub fn with(registry: Registry, seed: u64) -> Self {
        let mut world = Self::lone(0, seed, |_| "a");
        let cluster = registry.cluster;
        let numbers: Vec<u8> = registry.nodes.keys().map(|id| node_number(*id)).collect();
        world.add_group(cluster, registry);
        for n in &numbers {
            world.add_node(*n, cluster);
        }
        for n in numbers {
            world.start(n);
        }
        world.run(2000);
        world.events.clear();
        world
    }

    fn add_group(&mut self, cluster: ClusterId, registry: Registry) {
        let group = Group { registry, leader: None, leaderless_since_ms: 0 };
        self.groups.insert(cluster, group);
    }

    fn add_node(&mut self, n: u8, group: ClusterId) {
        let id = crate::testing::node_id(n);
        let node = Node {
            id,
            core: None,
            group,
            applied: Arc::new(self.groups.get(&group).map(|g| g.registry.clone()).unwrap_or_default()),
            incarnation: 0,
            positions: Positions::default(),
            log: LogPoint::default(),
            role: None,
            fence: Epoch::ZERO,
            paused_writes: false,
            stalled: false,
            disk_is_full: false,
            stream_up_ms: self.now_ms,
            frozen: false,
            next_tick_ms: self.now_ms + self.dice.below(TICK_MS as usize) as u64,
            settings: Settings { node_timeout_ms: TIMEOUT_MS, ..Settings::default() },
            no_failover: false,
        };
        self.nodes.insert(id, node);
    }

    // ---- what befalls nodes ----

    /// Starts (again) node `n`.
    pub fn start(&mut self, n: u8) {
        let id = crate::testing::node_id(n);
        let seed = self.dice.roll();
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).unwrap();
        node.incarnation += 1;
        let registry = node.applied.clone();
        let zone = registry.nodes.get(&id).map(|n| n.zone.clone()).unwrap_or_default();
        let myself = Myself {
            address: record(n, "a").address,
            zone,
            incarnation: Incarnation(node.incarnation),
            no_failover: node.no_failover,
        };
        node.role = None;
        node.paused_writes = false;
        node.stream_up_ms = now_ms;
        node.core = Some(Cluster::new(id, myself, node.settings, registry, seed));
        node.next_tick_ms = now_ms;
    }

    /// Kills node `n`; its log stays.
    pub fn kill(&mut self, n: u8) {
        self.nodes.get_mut(&crate::testing::node_id(n)).unwrap().core = None;
    }

    /// Whether node `n` is not running.
    pub fn is_down(&self, n: u8) -> bool {
        self.nodes[&crate::testing::node_id(n)].core.is_none()
    }

    /// Stops node `n`'s clock and ears, and lets them go on.
    pub fn freeze(&mut self, n: u8, frozen: bool) {
        self.nodes.get_mut(&crate::testing::node_id(n)).unwrap().frozen = frozen;
    }

    /// Cuts or mends the links between two groups of nodes.
    pub fn partition(&mut self, one: &[u8], other: &[u8], cut: bool) {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.cut_one_way(a, b, cut);
            self.cut_one_way(b, a, cut);
        }
    }

    /// Cuts or mends what `from` says to `to`.
    pub fn cut_one_way(&mut self, from: u8, to: u8, cut: bool) {
        let link = (crate::testing::node_id(from), crate::testing::node_id(to));
        if cut {
            self.cut.insert(link);
        } else {
            self.cut.remove(&link);
        }
    }

    /// An operator's input at node `n`.
    pub fn command(&mut self, n: u8, input: Input) {
        self.feed(crate::testing::node_id(n), input);
    }

    /// An operator's change, proposed at node `n`.
    pub fn propose(&mut self, n: u8, change: Change) -> Outcome {
        self.try_propose(n, change).unwrap_or_else(|| panic!("no majority reachable from node {n}"))
    }

    /// The same; `None` without a majority.
    pub fn try_propose(&mut self, n: u8, change: Change) -> Option<Outcome> {
        let id = crate::testing::node_id(n);
        let group = self.nodes[&id].group;
        self.can_commit(id, group).then(|| self.commit(group, change))
    }

    /// Node `n`'s log takes nothing any more, or takes records again.
    pub fn fill_disk(&mut self, n: u8, is_full: bool) {
        let id = crate::testing::node_id(n);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk_is_full = is_full;
        }
        self.tell_positions(id);
    }

    /// Node `n` tries to write once; whether it was acknowledged (`write-ack local`).
    pub fn write(&mut self, n: u8) -> bool {
        let id = crate::testing::node_id(n);
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let (Some(core), Some((shard, epoch, Role::Master))) = (&node.core, node.role) else { return false };
        let view = core.view();
        let fenced = node.fence > epoch;
        let has_lease = self.now_ms < core.lease_until_ms(self.now_ms);
        if node.frozen
            || node.disk_is_full
            || node.paused_writes
            || fenced
            || !has_lease
            || view.routes.down.is_some()
        {
            return false;
        }
        node.log = LogPoint { epoch, lsn: node.log.lsn.advance(100) };
        self.acknowledged.insert(shard, node.log);
        true
    }

    // ---- looking ----

    /// The core of node `n`.
    pub fn core(&self, n: u8) -> &Cluster {
        self.nodes[&crate::testing::node_id(n)].core.as_ref().expect("node is up")
    }

    /// Node `n`'s view.
    pub fn view(&self, n: u8) -> &View {
        self.core(n).view()
    }

    /// The registry of the group node `n` belongs to.
    pub fn registry(&self, n: u8) -> &Registry {
        &self.groups[&self.nodes[&crate::testing::node_id(n)].group].registry
    }

    /// Who leads the metadata group of node `n`.
    pub fn leader(&self, n: u8) -> u8 {
        node_number(self.groups[&self.nodes[&crate::testing::node_id(n)].group].leader.expect("a leader"))
    }

    /// The number of the master of the shard node `n` founded.
    pub fn master_of(&self, n: u8, seen_by: u8) -> u8 {
        node_number(self.registry(seen_by).shards[&crate::testing::shard_id(n)].master)
    }

    /// Whether every running node says that the cluster is fine.
    pub fn all_ok(&self) -> bool {
        self.nodes.values().filter_map(|n| n.core.as_ref()).all(|c| c.view().routes.down.is_none())
    }

    /// Which running nodes think they serve `slot` as master and may.
    pub fn serving(&self, slot: SlotRange) -> Vec<u8> {
        let serves = |node: &&Node| {
            let Some(core) = &node.core else { return false };
            let routes = &core.view().routes;
            let is_fenced = node.role.is_some_and(|(_, epoch, _)| node.fence > epoch);
            self.now_ms < core.lease_until_ms(self.now_ms)
                && !(node.frozen || node.paused_writes || is_fenced)
                && routes.down.is_none()
                && matches!(routes.owner(slot.first), Owner::Me(route) if !route.electing)
        };
        self.nodes.values().filter(serves).map(|node| node_number(node.id)).collect()
    }

    /// When an event was first seen at any node.
    pub fn first(&self, is: impl Fn(&Event) -> bool) -> Option<u64> {
        self.events.iter().find(|(_, _, event)| is(event)).map(|(at, _, _)| *at)
    }

    // ---- time ----

    /// Lets `ms` pass.
    pub fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        self.run_until(ms, |world| world.now_ms >= until);
    }

    /// Lets time pass until `done`, at most `ms`; how long it took, or `None`.
    pub fn run_until(&mut self, ms: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        let start = self.now_ms;
        while !done(self) {
            if self.now_ms >= start + ms {
                return None;
            }
            self.now_ms += 1;
            self.millisecond();
        }
        Some(self.now_ms - start)
    }

    fn millisecond(&mut self) {
        self.elect_leaders();
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now_ms
        {
            match entry.remove() {
                Delivery::Message { to, message } => {
                    self.feed(to, Input::Received { message, from_ip: Some("127.0.0.1".to_string()) });
                }
                Delivery::Registry { to, registry } => self.feed(to, Input::Registry(registry)),
            }
        }
        if self.now_ms.is_multiple_of(STREAM_MS) {
            self.stream();
        }
        let due: Vec<NodeId> =
            self.nodes.values().filter(|n| n.next_tick_ms <= self.now_ms).map(|n| n.id).collect();
        for id in due {
            self.nodes.get_mut(&id).unwrap().next_tick_ms += TICK_MS;
            self.catch_up(id);
            self.tell_positions(id);
            self.feed(id, Input::Tick);
        }
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.core.is_some() && !node.frozen)
    }

    fn connected(&self, a: NodeId, b: NodeId) -> bool {
        a == b || (!self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a)))
    }

    fn can_commit(&self, leader: NodeId, group: ClusterId) -> bool {
        let registry = &self.groups[&group].registry;
        let reached =
            |v: &&NodeId| self.is_up(**v) && self.connected(leader, **v) && self.nodes[*v].group == group;
        registry.voters.iter().filter(reached).count() >= registry.majority()
    }

    fn elect_leaders(&mut self) {
        let groups: Vec<ClusterId> = self.groups.keys().copied().collect();
        for group in groups {
            let leads = |id: NodeId| {
                self.groups[&group].registry.voters.contains(&id)
                    && self.is_up(id)
                    && self.nodes[&id].group == group
                    && self.can_commit(id, group)
            };
            let leader = self.groups[&group].leader;
            if leader.is_some_and(leads) {
                continue;
            }
            let next = self.groups[&group].registry.voters.iter().copied().find(|id| leads(*id));
            let state = self.groups.get_mut(&group).unwrap();
            if state.leader.take().is_some() {
                state.leaderless_since_ms = self.now_ms;
                self.tell_leader(group, None);
            } else if next.is_some() && self.now_ms >= state.leaderless_since_ms + LEADERLESS_MS {
                state.leader = next;
                self.tell_leader(group, next);
            }
        }
    }

    fn tell_leader(&mut self, group: ClusterId, leader: Option<NodeId>) {
        let members: Vec<NodeId> = self.nodes.values().filter(|n| n.group == group).map(|n| n.id).collect();
        for id in members {
            if leader.is_none_or(|leader| self.connected(id, leader)) {
                self.feed(id, Input::Leader(leader));
            }
        }
    }

    /// Raft's catching up: who missed a registry or the leader's name gets it with the next tick.
    fn catch_up(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let group = &self.groups[&node.group];
        let Some(leader) = group.leader else { return };
        if self.is_up(id) && self.connected(id, leader) {
            let news =
                (node.applied.version < group.registry.version).then(|| Arc::new(group.registry.clone()));
            self.feed(id, Input::Leader(Some(leader)));
            if let Some(registry) = news {
                self.feed(id, Input::Registry(registry));
            }
        }
    }

    /// What stands in for the log streams: whoever follows a live master has its log.
    fn stream(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = &self.nodes[&id];
            let Some((shard, epoch, Role::Replica { master })) = node.role else { continue };
            let up = self.is_up(id) && self.is_up(master) && self.connected(id, master) && !node.stalled;
            let from = self.nodes.get(&master).filter(|m| m.role == Some((shard, epoch, Role::Master)));
            let (true, Some(from)) = (up, from) else { continue };
            if node.fence > epoch {
                continue; // Frames of an older epoch are refused.
            }
            let log = from.log;
            let now_ms = self.now_ms;
            let node = self.nodes.get_mut(&id).unwrap();
            let moved = node.log != log || !node.positions.whole;
            node.log = log;
            node.positions.whole = true;
            node.stream_up_ms = now_ms;
            if moved {
                self.tell_positions(id);
            }
        }
    }

    fn tell_positions(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.role.is_some()) else { return };
        let Some((shard, _, role)) = node.role else { return };
        let stream_down_ms = match role {
            Role::Master => 0,
            Role::Replica { .. } => (now_ms - node.stream_up_ms).saturating_sub(STREAM_MS),
        };
        node.positions = Positions {
            shard,
            fence: node.fence,
            written: node.log,
            durable_lsn: node.log.lsn,
            applied_lsn: node.log.lsn,
            whole: node.positions.whole,
            trusted: true,
            stream_down_ms,
            can_write: !node.disk_is_full,
        };
        let positions = node.positions;
        self.feed(id, Input::Positions(positions));
    }

    fn feed(&mut self, id: NodeId, input: Input) {
        if !self.is_up(id) || (matches!(input, Input::Registry(_)) && self.unfed.contains(&id)) {
            return;
        }
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).unwrap();
        if let Input::Registry(registry) = &input {
            if registry.cluster != node.group {
                return;
            }
            if registry.cluster != node.applied.cluster || registry.version > node.applied.version {
                node.applied = registry.clone();
            }
        }
        let out = node.core.as_mut().unwrap().step(now_ms, input);
        self.answers.extend(out.answer);
        for event in out.events {
            self.on_event(id, event);
        }
        for change in out.propose {
            let group = self.nodes[&id].group;
            let leader = self.groups[&group].leader;
            if self.mute != Some(id)
                && leader.is_some_and(|l| self.connected(id, l) && self.can_commit(l, group))
            {
                self.commit(group, change);
            }
        }
        for Send { to, message } in out.send {
            self.post(id, to, message);
        }
    }

    fn post(&mut self, from: NodeId, to: Destination, message: Message) {
        let to = match to {
            Destination::Node(id) => id,
            Destination::Address(target) => crate::testing::node_id((target.bus_port - 17000) as u8),
        };
        self.messages += 1;
        if let Body::Ping(told) | Body::Pong(told) = &message.body {
            self.rumours += told.len() as u64;
        }
        if self.cut.contains(&(from, to)) || self.lose == Some(message.body.kind()) {
            return;
        }
        self.deliver(Delivery::Message { to, message: Box::new(message) });
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.sequence += 1;
        let at = self.now_ms + 1 + self.dice.below(4) as u64;
        self.in_flight.insert((at, self.sequence), delivery);
    }

    fn commit(&mut self, group: ClusterId, change: Change) -> Outcome {
        let state = self.groups.get_mut(&group).unwrap();
        let outcome = state.registry.apply(&change);
        if matches!(outcome, Outcome::Refused(_)) {
            return outcome;
        }
        let registry = Arc::new(state.registry.clone());
        let leader = state.leader;
        let members: Vec<NodeId> = self.nodes.values().filter(|n| n.group == group).map(|n| n.id).collect();
        for to in members {
            if leader.is_none_or(|leader| self.connected(leader, to)) {
                self.deliver(Delivery::Registry { to, registry: registry.clone() });
            }
        }
        outcome
    }

    /// The driver's duties.
    fn on_event(&mut self, id: NodeId, event: Event) {
        self.events.push((self.now_ms, id, event.clone()));
        let node = self.nodes.get_mut(&id).unwrap();
        match event {
            Event::Role { shard, epoch, role } => {
                let stays = node.role.is_none_or(|(old, _, _)| old == shard);
                if !stays {
                    node.log = LogPoint::default();
                }
                node.fence = if stays { node.fence.max(epoch) } else { epoch };
                node.role = Some((shard, epoch, role));
                if role == Role::Master {
                    node.positions.whole = true;
                    if node.log.epoch < epoch {
                        node.log = LogPoint { epoch, lsn: node.log.lsn.advance(1) };
                    }
                } else if !stays {
                    node.positions.whole = false;
                }
                self.tell_positions(id);
            }
            Event::Fence { epoch, .. } => {
                node.fence = node.fence.max(epoch);
                self.tell_positions(id);
            }
            Event::PauseWrites { epoch, .. } => {
                node.paused_writes = true;
                let end = node.log;
                self.feed(id, Input::WritesPaused { epoch, end });
            }
            Event::ResumeWrites { .. } => node.paused_writes = false,
            Event::Join { cluster, .. } => {
                node.group = cluster;
                node.applied = Arc::new(Registry::default());
            }
            _ => {}
        }
    }

    /// The end of node `n`'s log.
    pub fn log_of(&self, n: u8) -> LogPoint {
        self.nodes[&crate::testing::node_id(n)].log
    }

    /// Node `n`'s log as if it ended so many bytes earlier.
    pub fn shorten_log(&mut self, n: u8, bytes: u64) {
        let node = self.nodes.get_mut(&crate::testing::node_id(n)).unwrap();
        node.log.lsn = Lsn(node.log.lsn.0.saturating_sub(bytes));
    }
}
