//! The core itself: feeds the parts, turns their answers into outputs. Only this file and `duties` know all parts;
//! the rules stand in the parts.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use holdfast_words::{Epoch, NodeId, ShardId};

use crate::change::{Change, Refusal};
use crate::dice::Dice;
use crate::events::{Event, Role};
use crate::failure_detector::Watch;
use crate::gossip::{self, Gossip};
use crate::handover::{Giving, GivingStep, Taking, TakingStep, may_fail_over};
use crate::interface::{Destination, Failover, Input, Myself, Outputs, Send, Settings};
use crate::join::{Joining, Target, Verdict, seeds};
use crate::lease::Lease;
use crate::message::{Body, Header, JoinCard, Message, MessageCounts, Positions, Rumour};
use crate::node_table::NodeTable;
use crate::registry::Registry;
use crate::shard_register::Pending;
use crate::view::{Down, Health, Liveness, Routes, View};

/// The driver ticks at least so often.
const TICK_MS: u64 = 100;
/// The same change is proposed again after this time if it is still needed.
const REPROPOSE_MS: u64 = 1000;
/// A snapshot is at most so old: ping and pong times move on.
const VIEW_MS_MAX: u64 = 1000;

/// One node's view of its cluster, and its part in it.
pub struct Cluster {
    pub(crate) me: NodeId,
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<Registry>,
    pub(crate) table: NodeTable,
    pub(crate) leader: Option<NodeId>,
    /// Elections this node watches as metadata leader: the epoch, and since when.
    pub(crate) elections: BTreeMap<ShardId, (Epoch, u64)>,
    pub(crate) voters_checked_ms: u64,
    myself: Myself,
    dice: Dice,
    gossip: Gossip,
    lease: Lease,
    joining: Joining,
    taking: Taking,
    giving: Giving,
    positions: Option<Positions>,
    holds_keys: bool,
    proposed: Vec<(Change, u64)>,
    /// Nodes proposed as members, to be welcomed once they are.
    welcoming: BTreeMap<NodeId, (Target, u64)>,
    told_role: Option<(ShardId, Epoch, Role)>,
    told_fence: Option<(ShardId, Epoch)>,
    told_serving: Option<Option<Down>>,
    ticked_ms: Option<u64>,
    sent: MessageCounts,
    received: MessageCounts,
    view: Arc<View>,
    routes_are_stale: bool,
}

impl Cluster {
    /// The core of node `me` as of its start. `registry` is what its metadata group's log says (unfounded on a node
    /// that is joining); `seed` is chance.
    pub fn new(me: NodeId, myself: Myself, settings: Settings, registry: Arc<Registry>, seed: u64) -> Self {
        let mut table = NodeTable::default();
        table.follow(&registry, me, 0);
        Self {
            me,
            settings,
            view: Arc::new(View::initial(me, &registry)),
            registry,
            table,
            leader: None,
            elections: BTreeMap::new(),
            voters_checked_ms: 0,
            myself,
            dice: Dice::new(seed),
            gossip: Gossip::default(),
            lease: Lease::default(),
            joining: Joining::default(),
            taking: Taking::default(),
            giving: Giving::default(),
            positions: None,
            holds_keys: false,
            proposed: Vec::new(),
            welcoming: BTreeMap::new(),
            told_role: None,
            told_fence: None,
            told_serving: None,
            ticked_ms: None,
            sent: MessageCounts::default(),
            received: MessageCounts::default(),
            routes_are_stale: true,
        }
    }

    /// One input at the time `now_ms` (monotonic, never back) → everything that is to be done about it.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Outputs {
        let mut out = Outputs { wake_at_ms: now_ms + TICK_MS, ..Outputs::default() };
        match input {
            Input::Tick => self.on_tick(now_ms, &mut out),
            Input::Received { message, from_ip } => self.on_received(now_ms, *message, from_ip, &mut out),
            Input::Link { node, connected } => {
                if let Some(peer) = self.table.get_mut(node) {
                    peer.connected = connected;
                }
            }
            Input::Registry(registry) => self.on_registry(now_ms, registry, &mut out),
            Input::Leader(leader) => {
                self.leader = leader;
                self.do_duties(now_ms, &mut out);
            }
            Input::Positions(positions) => self.on_positions(now_ms, positions, &mut out),
            Input::WritesPaused { epoch, end } => self.giving.on_paused(epoch, end),
            Input::HoldsKeys(holds_keys) => self.holds_keys = holds_keys,
            Input::Meet(target) => {
                self.joining.meet(target, self.dice.roll());
                out.answer = Some(Ok(()));
                self.send_meets(now_ms, &mut out);
            }
            Input::Failover(kind) => out.answer = Some(self.on_failover(now_ms, kind, &mut out)),
            Input::Myself(myself) => self.myself = myself,
            Input::Settings(settings) => self.settings = settings,
        }
        self.step_handovers(now_ms, &mut out);
        out
    }

    /// The newest snapshot.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// CLUSTER COUNT-FAILURE-REPORTS; `None` for a node that is not known.
    pub fn count_failure_reports(&self, now_ms: u64, node: NodeId) -> Option<usize> {
        if node == self.me {
            return Some(0);
        }
        self.table.get(node).map(|peer| self.watch(now_ms).count_reports(peer))
    }

    // ---- time ----

    fn on_tick(&mut self, now_ms: u64, out: &mut Outputs) {
        let stood_still =
            self.ticked_ms.is_some_and(|then| now_ms - then > self.settings.node_timeout_ms / 2);
        self.ticked_ms = Some(now_ms);
        let registry = self.registry.clone();
        let watch = watch(&registry, self, now_ms);
        if stood_still {
            watch.forgive_own_pause(&mut self.table);
        }
        let suspects = watch.suspect(&mut self.table);
        let recovered = watch.recover(&mut self.table);
        let due = self.gossip.due_pings(&watch, &self.table, &mut self.dice);
        self.routes_are_stale |= !suspects.is_empty() || !recovered.is_empty();
        for node in due {
            self.send_ping(now_ms, node, out);
        }
        if !suspects.is_empty() && registry.voters.contains(&self.me) {
            // The other voters learn of it at once, so that a majority is found as soon as there is one.
            for voter in registry.others_voting(self.me) {
                self.send_ping(now_ms, voter, out);
            }
        }
        out.events.extend(suspects.into_iter().map(Event::Suspected));
        out.events.extend(recovered.into_iter().map(Event::Recovered));
        self.declare_failed(now_ms, out);
        self.send_meets(now_ms, out);
        self.tell_registry_about_myself(now_ms, out);
        self.follow_role(out);
        self.do_duties(now_ms, out);
        self.refresh_view(now_ms, out);
    }

    fn declare_failed(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        for node in watch(&registry, self, now_ms).fail(&mut self.table) {
            self.routes_are_stale = true;
            out.events.push(Event::Failed { node, by: None });
            for to in self.table.ids().to_vec() {
                self.send(now_ms, Destination::Node(to), Body::Fail { node }, out);
            }
        }
    }

    fn send_meets(&mut self, now_ms: u64, out: &mut Outputs) {
        for target in self.joining.expired(now_ms, self.settings.node_timeout_ms) {
            out.events.push(Event::MeetFailed { target, refusal: None });
        }
        for (target, token) in self.joining.due(now_ms, self.may_join()) {
            let Some(card) = self.join_card(token) else { continue };
            self.send(now_ms, Destination::Address(target), Body::Meet(card), out);
        }
    }

    fn tell_registry_about_myself(&mut self, now_ms: u64, out: &mut Outputs) {
        let Some(record) = self.registry.nodes.get(&self.me) else { return };
        let mut address = self.myself.address.clone();
        if address.ip.is_empty() {
            address.ip = record.address.ip.clone();
        }
        let mut zone = self.myself.zone.clone();
        if zone.0.is_empty() {
            zone.0 = address.ip.clone();
        }
        let (incarnation, no_failover) = (self.myself.incarnation, self.myself.no_failover);
        if record.address == address
            && record.zone == zone
            && record.incarnation >= incarnation
            && record.no_failover == no_failover
        {
            return;
        }
        let update = Change::UpdateNode { node: self.me, address, zone, incarnation, no_failover };
        self.propose(now_ms, update, out);
    }

    // ---- messages ----

    fn on_received(
        &mut self,
        now_ms: u64,
        message: Message,
        from_ip: Option<alloc::string::String>,
        out: &mut Outputs,
    ) {
        let Message { header, body } = message;
        self.received.count(body.kind());
        if header.sender == self.me {
            return;
        }
        match body {
            Body::Meet(card) => return self.on_meet(now_ms, card, from_ip, out),
            Body::Welcome { token, seeds } => {
                if header.cluster != self.registry.cluster
                    && self.joining.on_welcome(header.cluster, token, self.may_join())
                {
                    out.events.push(Event::Join { cluster: header.cluster, seeds });
                }
                return;
            }
            Body::MeetRefused { token } => {
                if let Some(target) = self.joining.take(token) {
                    out.events.push(Event::MeetFailed { target, refusal: Some(Refusal::MergeRefused) });
                }
                return;
            }
            Body::Ping(_) | Body::Pong(_) | Body::Fail { .. } | Body::HandoverReady { .. } => {}
        }
        if !self.is_from_a_member(&header) {
            return;
        }
        self.table.on_heard(&header, now_ms);
        self.on_gossip(now_ms, &header, body, out);
        if self.leader == Some(self.me) && !self.elections.is_empty() {
            self.do_duties(now_ms, out);
        }
    }

    /// Of this cluster, a member as far as this node knows, and not from an earlier start of it.
    fn is_from_a_member(&self, header: &Header) -> bool {
        let recorded = self.registry.nodes.get(&header.sender).map(|record| record.incarnation);
        let told = self.table.get(header.sender).and_then(|p| p.header.as_ref()).map(|h| h.incarnation);
        header.cluster == self.registry.cluster
            && recorded.is_some_and(|recorded| header.incarnation >= recorded)
            && told.is_none_or(|told| header.incarnation >= told)
    }

    fn on_gossip(&mut self, now_ms: u64, header: &Header, body: Body, out: &mut Outputs) {
        let sender = header.sender;
        let registry = self.registry.clone();
        let watch = watch(&registry, self, now_ms);
        match body {
            Body::Ping(rumours) => {
                self.on_rumours(&watch, sender, &rumours, out);
                let told = gossip::rumours(&self.table, Some(sender), now_ms, &mut self.dice);
                self.send(now_ms, Destination::Node(sender), Body::Pong(told), out);
            }
            Body::Pong(rumours) => {
                if watch.on_pong(&mut self.table, sender) {
                    self.routes_are_stale = true;
                    out.events.push(Event::Answers(sender));
                }
                self.on_rumours(&watch, sender, &rumours, out);
            }
            Body::Fail { node } => {
                if watch.on_fail_message(&mut self.table, node) {
                    self.routes_are_stale = true;
                    out.events.push(Event::Failed { node, by: Some(sender) });
                    self.do_duties(now_ms, out);
                    self.refresh_view(now_ms, out);
                }
            }
            Body::HandoverReady { shard, epoch, end } => {
                if registry.shards.get(&shard).is_some_and(|register| register.master == sender) {
                    self.taking.on_ready(epoch, end);
                }
            }
            Body::Meet(_) | Body::Welcome { .. } | Body::MeetRefused { .. } => {}
        }
    }

    fn on_rumours(&mut self, watch: &Watch<'_>, sender: NodeId, rumours: &[Rumour], out: &mut Outputs) {
        gossip::on_rumours(watch, &mut self.table, sender, rumours);
        if rumours.iter().any(|rumour| rumour.suspected) {
            self.declare_failed(watch.now_ms, out);
            if !out.events.is_empty() {
                self.do_duties(watch.now_ms, out);
                self.refresh_view(watch.now_ms, out);
            }
        }
    }

    fn on_meet(
        &mut self,
        now_ms: u64,
        mut card: JoinCard,
        from_ip: Option<alloc::string::String>,
        out: &mut Outputs,
    ) {
        if card.node.address.ip.is_empty() {
            card.node.address.ip = from_ip.unwrap_or_default();
        }
        if card.node.zone.0.is_empty() {
            card.node.zone.0 = card.node.address.ip.clone();
        }
        let sender = Target { ip: card.node.address.ip.clone(), bus_port: card.node.address.bus_port };
        match self.joining.on_meet(&self.registry, self.me, self.may_join(), &card) {
            Verdict::Welcome => self.welcome(now_ms, sender, card.token, out),
            Verdict::Admit => {
                self.welcoming.insert(card.node.id, (sender, card.token));
                let add = Change::AddNode { node: card.node, epoch: card.epoch, claims: card.claims };
                self.propose(now_ms, add, out);
            }
            Verdict::AskBack => {
                self.joining.meet(sender, self.dice.roll());
                self.send_meets(now_ms, out);
            }
            Verdict::Refuse => {
                self.send(now_ms, Destination::Address(sender), Body::MeetRefused { token: card.token }, out);
            }
            Verdict::Ignore => {}
        }
    }

    fn welcome(&mut self, now_ms: u64, to: Target, token: u64, out: &mut Outputs) {
        let welcome = Body::Welcome { token, seeds: seeds(&self.registry) };
        self.send(now_ms, Destination::Address(to), welcome, out);
    }

    /// Whether this node can give its cluster up for another.
    fn may_join(&self) -> bool {
        self.registry.nodes.len() == 1 && self.registry.nodes.contains_key(&self.me) && !self.holds_keys
    }

    fn join_card(&self, token: u64) -> Option<JoinCard> {
        let mut node = self.registry.nodes.get(&self.me)?.clone();
        let (shard, register) = self.registry.shard_of(self.me)?;
        node.address = self.myself.address.clone();
        node.zone = self.myself.zone.clone();
        node.incarnation = self.myself.incarnation;
        node.no_failover = self.myself.no_failover;
        let claims = self.registry.slots.of_shard(shard).collect();
        Some(JoinCard { node, epoch: register.epoch, claims, may_join: self.may_join(), token })
    }

    // ---- the registry ----

    fn on_registry(&mut self, now_ms: u64, registry: Arc<Registry>, out: &mut Outputs) {
        let same_cluster = registry.cluster == self.registry.cluster;
        if same_cluster && registry.version <= self.registry.version && self.registry.is_founded() {
            return;
        }
        let before = core::mem::replace(&mut self.registry, registry);
        if !same_cluster {
            self.table = NodeTable::default();
            self.lease = Lease::default();
            self.proposed.clear();
            self.welcoming.clear();
        }
        let registry = self.registry.clone();
        self.table.follow(&registry, self.me, now_ms);
        self.joining.follow(&registry);
        self.routes_are_stale = true;
        tell_differences(&before, &registry, self.me, out);
        let (come, waiting) = core::mem::take(&mut self.welcoming)
            .into_iter()
            .partition(|(node, _)| registry.nodes.contains_key(node));
        self.welcoming = waiting;
        for (_, (target, token)) in BTreeMap::into_iter(come) {
            self.welcome(now_ms, target, token, out);
        }
        let recovered = watch(&registry, self, now_ms).recover(&mut self.table);
        out.events.extend(recovered.into_iter().map(Event::Recovered));
        self.follow_role(out);
        self.do_duties(now_ms, out);
        self.refresh_view(now_ms, out);
    }

    /// Tells the driver what this node is in its shard, and whether an election fences it.
    fn follow_role(&mut self, out: &mut Outputs) {
        let registry = self.registry.clone();
        let Some((shard, register)) = registry.shard_of(self.me) else { return };
        let role =
            if register.master == self.me { Role::Master } else { Role::Replica { master: register.master } };
        let now = (shard, register.epoch, role);
        if self.told_role != Some(now) {
            self.told_role = Some(now);
            out.events.push(Event::Role { shard, epoch: register.epoch, role });
        }
        if let Some(Pending::Election { epoch, .. }) = register.pending
            && self.told_fence != Some((shard, epoch))
        {
            self.told_fence = Some((shard, epoch));
            out.events.push(Event::Fence { shard, epoch });
        }
    }

    // ---- this node's log, and who leads its shard ----

    fn on_positions(&mut self, now_ms: u64, positions: Positions, out: &mut Outputs) {
        let fenced_before = self.positions.filter(|p| p.shard == positions.shard).map(|p| p.fence);
        self.positions = Some(positions);
        let registry = self.registry.clone();
        let Some((shard, register)) = registry.shard_of(self.me) else { return };
        let Some(Pending::Election { epoch, .. }) = register.pending else { return };
        let is_news = positions.shard == shard
            && positions.fence >= epoch
            && fenced_before.is_none_or(|fence| fence < epoch);
        if is_news {
            // Whoever leads the metadata group now or next needs to know at once.
            let leader = self.leader.filter(|leader| *leader != self.me && !registry.voters.contains(leader));
            for node in registry.others_voting(self.me).chain(leader) {
                self.send(now_ms, Destination::Node(node), Body::Pong(Vec::new()), out);
            }
        }
        self.do_duties(now_ms, out);
    }

    fn on_failover(&mut self, now_ms: u64, kind: Failover, out: &mut Outputs) -> Result<(), Refusal> {
        let registry = self.registry.clone();
        let (shard, register) = may_fail_over(&registry, self.me)?;
        if !watch(&registry, self, now_ms).hears_majority(&self.table) {
            return Err(Refusal::NoMajority);
        }
        let expected = register.seen();
        match kind {
            Failover::Graceful if self.table.health(register.master) != Health::Fine => {
                Err(Refusal::FailoverMasterDown)
            }
            Failover::Graceful if register.pending.is_some() => Err(Refusal::ElectionUnderWay(shard)),
            Failover::Graceful => {
                self.taking.ask(now_ms);
                Ok(())
            }
            Failover::Force | Failover::Takeover => {
                let begin = Change::BeginElection { shard, expected, candidate: Some(self.me) };
                self.propose(now_ms, begin, out);
                Ok(())
            }
        }
    }

    fn step_handovers(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        match self.taking.step(&registry, self.me, self.positions, now_ms) {
            TakingStep::Wait => {}
            TakingStep::Propose(change) => self.propose(now_ms, change, out),
            TakingStep::GaveUp => {
                let shard = registry.shard_of(self.me).map(|(shard, _)| shard).unwrap_or_default();
                out.events.push(Event::HandoverFailed { shard });
            }
        }
        match self.giving.step(&registry, self.me, now_ms) {
            GivingStep::Wait => {}
            GivingStep::Pause { shard, epoch, to } => {
                out.events.push(Event::PauseWrites { shard, epoch, to })
            }
            GivingStep::Tell(to, body) => self.send(now_ms, Destination::Node(to), body, out),
            GivingStep::Propose(change) => self.propose(now_ms, change, out),
            GivingStep::Resume(shard) => out.events.push(Event::ResumeWrites { shard }),
        }
    }

    /// This node's positions as told to others: the stream's silence counts only as far as it is older than the
    /// master's own, so that a long election makes nobody too stale to win it.
    pub(crate) fn my_positions(&self, now_ms: u64) -> Option<Positions> {
        let mut positions = self.positions?;
        let master = self.registry.shard_of(self.me).map(|(_, register)| register.master);
        if let Some(peer) = master.and_then(|master| self.table.get(master)) {
            let silent_since = peer.heard_ms.unwrap_or(peer.known_since_ms);
            positions.stream_down_ms =
                positions.stream_down_ms.saturating_sub(now_ms.saturating_sub(silent_since));
        }
        Some(positions)
    }

    // ---- what goes out ----

    fn header(&self, now_ms: u64) -> Header {
        let register = self.registry.shard_of(self.me).map(|(_, register)| register);
        Header {
            cluster: self.registry.cluster,
            sender: self.me,
            incarnation: self.myself.incarnation,
            registry_version: self.registry.version,
            epoch: register.map(|r| r.epoch).unwrap_or_default(),
            current_epoch: self.registry.current_epoch,
            is_master: register.is_some_and(|r| r.master == self.me),
            positions: self.my_positions(now_ms),
        }
    }

    fn send(&mut self, now_ms: u64, to: Destination, body: Body, out: &mut Outputs) {
        self.sent.count(body.kind());
        out.send.push(Send { to, message: Message { header: self.header(now_ms), body } });
    }

    pub(crate) fn send_ping(&mut self, now_ms: u64, node: NodeId, out: &mut Outputs) {
        let told = gossip::rumours(&self.table, Some(node), now_ms, &mut self.dice);
        self.table.on_ping_sent(node, now_ms);
        self.send(now_ms, Destination::Node(node), Body::Ping(told), out);
    }

    pub(crate) fn propose(&mut self, now_ms: u64, change: Change, out: &mut Outputs) {
        self.proposed.retain(|(_, then_ms)| now_ms.saturating_sub(*then_ms) < REPROPOSE_MS);
        if self.proposed.iter().all(|(proposed, _)| *proposed != change) {
            self.proposed.push((change.clone(), now_ms));
            out.propose.push(change);
        }
    }

    pub(crate) fn watch(&self, now_ms: u64) -> Watch<'_> {
        watch(&self.registry, self, now_ms)
    }

    fn refresh_view(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        let down = {
            let watch = watch(&registry, self, now_ms);
            self.lease.why_down(&watch, &self.table, self.settings.require_full_coverage)
        };
        if self.told_serving != Some(down) {
            self.told_serving = Some(down);
            self.routes_are_stale = true;
            out.events.push(Event::Serving(down));
        }
        if !self.routes_are_stale && now_ms.saturating_sub(self.view.taken_ms) < VIEW_MS_MAX {
            return;
        }
        let table = &self.table;
        let routes = if core::mem::take(&mut self.routes_are_stale) {
            Arc::new(Routes::new(self.me, &registry, |id| table.health(id), down))
        } else {
            self.view.routes.clone()
        };
        let liveness = |id: NodeId| {
            let mine =
                || Liveness { connected: true, positions: self.my_positions(now_ms), ..Liveness::default() };
            if id == self.me { mine() } else { table.liveness(id) }
        };
        let counts = (self.sent, self.received);
        self.view = Arc::new(View::new(&registry, &routes, liveness, counts, self.leader, now_ms));
        out.view = Some(self.view.clone());
    }
}

/// The detector's fixed points, borrowing the registry apart from the core so that its table can be changed.
fn watch<'a>(registry: &'a Registry, cluster: &Cluster, now_ms: u64) -> Watch<'a> {
    Watch { me: cluster.me, registry, now_ms, timeout_ms: cluster.settings.node_timeout_ms }
}

/// The news between two registries.
fn tell_differences(before: &Registry, after: &Registry, me: NodeId, out: &mut Outputs) {
    if before.cluster == after.cluster && before.nodes.contains_key(&me) && !after.nodes.contains_key(&me) {
        out.events.push(Event::Removed);
    }
    let joined = after.nodes.keys().filter(|id| !before.nodes.contains_key(id));
    out.events.extend(joined.copied().map(Event::NodeJoined));
    let left = before.nodes.keys().filter(|id| !after.nodes.contains_key(id));
    out.events.extend(left.copied().map(Event::NodeLeft));
    if before.voters != after.voters {
        out.events.push(Event::Voters(after.voters.clone()));
    }
    for (&shard, register) in &after.shards {
        let Some(old) = before.shards.get(&shard) else { continue };
        if old.master != register.master {
            let (epoch, master, was) = (register.epoch, register.master, old.master);
            out.events.push(Event::MasterChanged { shard, epoch, master, was });
        }
        if let Some(Pending::Election { epoch, .. }) = register.pending
            && old.pending != register.pending
        {
            out.events.push(Event::ElectionBegan { shard, epoch });
        }
    }
}
