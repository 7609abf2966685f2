//! The core itself: feeds the parts, turns their answers into outputs. Only this room knows all parts; the rules
//! stand in the parts.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use holdfast_words::{Epoch, NodeId, ShardId};

use crate::change::Change;
use crate::dice::Dice;
use crate::events::{Event, Role};
use crate::failure_detector::Watch;
use crate::gossip::{self, Gossip};
use crate::handover::{Forcing, Giving, Taking};
use crate::interface::{Destination, Input, Myself, Outputs, Send, Settings};
use crate::join::{Joining, Target};
use crate::lease::{self, FormerVoters, Lease, Withheld};
use crate::message::{Body, Header, Message, MessageCounts, Positions};
use crate::node_table::NodeTable;
use crate::rebalance::Rebalance;
use crate::registry::Registry;
use crate::view::{Down, Liveness, Routes, View};

mod duties;
mod news;
mod own_shard;
mod received;

/// The driver ticks at least so often.
const TICK_MS: u64 = 100;
/// The same change is proposed again after this time if it is still needed.
const REPROPOSE_MS: u64 = 1000;
/// A snapshot is at most so old: ping and pong times move on.
const VIEW_MS_MAX: u64 = 1000;

/// One node's view of its cluster, and its part in it.
pub struct Cluster {
    me: NodeId,
    settings: Settings,
    registry: Arc<Registry>,
    table: NodeTable,
    leader: Option<NodeId>,
    /// When this core began: what an earlier start of this node granted is not known, and counts from here.
    started_ms: Option<u64>,
    /// Added to the clock in pings' tokens: those of another start of this node mean nothing.
    token_base: u64,
    withheld: Withheld,
    former_voters: FormerVoters,
    /// Elections this node watches as metadata leader: the epoch, and since when.
    elections: BTreeMap<ShardId, (Epoch, u64)>,
    voters_checked_ms: u64,
    rebalance: Rebalance,
    myself: Myself,
    dice: Dice,
    gossip: Gossip,
    lease: Lease,
    joining: Joining,
    taking: Taking,
    giving: Giving,
    forcing: Forcing,
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
        let mut dice = Dice::new(seed);
        Self {
            me,
            settings,
            view: Arc::new(View::initial(me, &registry)),
            registry,
            table,
            leader: None,
            started_ms: None,
            token_base: dice.roll(),
            withheld: Withheld::default(),
            former_voters: FormerVoters::default(),
            elections: BTreeMap::new(),
            voters_checked_ms: 0,
            rebalance: Rebalance::default(),
            myself,
            dice,
            gossip: Gossip::default(),
            lease: Lease::default(),
            joining: Joining::default(),
            taking: Taking::default(),
            giving: Giving::default(),
            forcing: Forcing::default(),
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
        self.started_ms.get_or_insert(now_ms);
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
                if leader.is_some() && leader != self.leader {
                    // What was proposed while somebody else led, or nobody, may have got lost.
                    self.proposed.clear();
                }
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
            Input::Settings(settings) => {
                self.settings = settings;
                self.tell_shard_its_rule(now_ms, &mut out);
            }
        }
        self.step_handovers(now_ms, &mut out);
        out.lease_until_ms = self.lease_until_ms(now_ms);
        out
    }

    /// Until when this node may serve as master.
    pub fn lease_until_ms(&self, now_ms: u64) -> u64 {
        self.lease.until_ms(&watch(&self.registry, self, now_ms), &self.table)
    }

    /// The newest snapshot.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    // ---- time ----

    fn on_tick(&mut self, now_ms: u64, out: &mut Outputs) {
        let stood_still = self
            .ticked_ms
            .is_some_and(|then| now_ms.saturating_sub(then) > self.settings.node_timeout_ms / 2);
        self.ticked_ms = Some(now_ms);
        let registry = self.registry.clone();
        let watch = watch(&registry, self, now_ms);
        if stood_still {
            watch.forgive_own_pause(&mut self.table);
        }
        let suspects = watch.suspect(&mut self.table);
        let recovered = watch.recover(&mut self.table);
        let due = self.gossip.due_pings(&watch, &self.table, &mut self.dice);
        out.reconnect = gossip::due_reconnects(&watch, &mut self.table);
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
        self.tell_shard_its_rule(now_ms, out);
        self.follow_role(out);
        self.tell_withheld_leases(now_ms, out);
        self.do_duties(now_ms, out);
        self.refresh_view(now_ms, out);
    }

    fn declare_failed(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        for node in watch(&registry, self, now_ms).fail(&mut self.table) {
            self.routes_are_stale = true;
            out.events.push(Event::Failed { node, by: None });
            if !self.table.i_vote() {
                continue; // The voters tell everybody; a thousand nodes telling a thousand would be too much.
            }
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

    /// Whether the registry knows of this start: until then this node leads nothing and serves nothing.
    fn start_is_recorded(&self) -> bool {
        let record = self.registry.nodes.get(&self.me);
        record.is_none_or(|record| record.incarnation >= self.myself.incarnation)
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
            ping_token: self.token_base.wrapping_add(now_ms),
            grants: None,
        }
    }

    fn send(&mut self, now_ms: u64, to: Destination, body: Body, out: &mut Outputs) {
        self.sent.count(body.kind());
        out.send.push(Send { to, message: Message { header: self.header(now_ms), body } });
    }

    /// Answers a ping; a voter lets its sender serve for another lease time, unless it is being replaced.
    fn send_pong(&mut self, now_ms: u64, asking: &Header, out: &mut Outputs) {
        let node = asking.sender;
        let told = gossip::rumours(&self.table, Some(node), now_ms, &mut self.dice);
        let body = Body::Pong(told);
        let mut header = self.header(now_ms);
        // A start that is recorded knows again what an earlier one of this node had promised.
        let may_vote = self.registry.voters.contains(&self.me) && self.start_is_recorded();
        if may_vote && lease::may_grant(&self.registry, asking) {
            header.grants = Some(asking.ping_token);
            if let Some(peer) = self.table.get_mut(node) {
                peer.grant_given_ms = Some(now_ms);
            }
        }
        self.sent.count(body.kind());
        out.send.push(Send { to: Destination::Node(node), message: Message { header, body } });
    }

    /// A voter lets this node serve as from when the ping with this token was sent.
    fn on_grant(&mut self, now_ms: u64, voter: NodeId, token: u64) {
        let sent_ms = token.wrapping_sub(self.token_base);
        let is_mine = self.started_ms.is_some_and(|started| (started..=now_ms).contains(&sent_ms));
        if let Some(peer) = self.table.get_mut(voter).filter(|_| is_mine) {
            peer.granted_ms = peer.granted_ms.max(Some(sent_ms));
        }
    }

    fn send_ping(&mut self, now_ms: u64, node: NodeId, out: &mut Outputs) {
        let told = gossip::rumours(&self.table, Some(node), now_ms, &mut self.dice);
        self.table.on_ping_sent(node, now_ms);
        self.send(now_ms, Destination::Node(node), Body::Ping(told), out);
    }

    fn propose(&mut self, now_ms: u64, change: Change, out: &mut Outputs) {
        self.proposed.retain(|(_, then_ms)| now_ms.saturating_sub(*then_ms) < REPROPOSE_MS);
        if self.proposed.iter().all(|(proposed, _)| *proposed != change) {
            self.proposed.push((change.clone(), now_ms));
            out.propose.push(change);
        }
    }

    fn refresh_view(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        let down = {
            let watch = watch(&registry, self, now_ms);
            let down = self.lease.why_down(&watch, &self.table, self.settings.require_full_coverage);
            let is_behind = !self.start_is_recorded();
            if is_behind && !matches!(down, Some(Down::NotJoined | Down::Minority | Down::NoLease)) {
                Some(Down::CatchingUp)
            } else {
                down
            }
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

#[cfg(test)]
mod tests;
