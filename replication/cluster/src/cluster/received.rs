//! What the core makes of each message: signs of life, rumours, the handshake of a MEET.

use alloc::string::String;

use crate::change::{Change, Refusal};
use crate::cluster::{Cluster, watch};
use crate::events::Event;
use crate::failure_detector::Watch;
use crate::gossip;
use crate::interface::{Destination, Outputs};
use crate::join::{Target, Verdict, seeds};
use crate::message::{Body, Header, JoinCard, Message, Rumour};
use holdfast_words::NodeId;

impl Cluster {
    pub(super) fn on_received(
        &mut self,
        now_ms: u64,
        message: Message,
        from_ip: Option<String>,
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
                if header.cluster == self.registry.cluster {
                    self.joining.take(token); // We are one cluster already.
                } else if self.joining.on_welcome(header.cluster, token, self.may_join()) {
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
            Body::Ping(_)
            | Body::Pong(_)
            | Body::Fail { .. }
            | Body::HandoverReady { .. }
            | Body::LeaseWithheld { .. } => {}
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
                self.send_pong(now_ms, header, out);
            }
            Body::Pong(rumours) => {
                if let Some(token) = header.grants {
                    self.on_grant(now_ms, sender, token);
                }
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
            Body::LeaseWithheld { shard, epoch, idle_ms } => {
                self.withheld.note(shard, epoch, sender, idle_ms, now_ms);
            }
            Body::Meet(_) | Body::Welcome { .. } | Body::MeetRefused { .. } => {}
        }
    }

    fn on_rumours(&mut self, watch: &Watch<'_>, sender: NodeId, rumours: &[Rumour], out: &mut Outputs) {
        if gossip::on_rumours(watch, &mut self.table, sender, rumours) {
            self.declare_failed(watch.now_ms, out);
            if !out.events.is_empty() {
                self.do_duties(watch.now_ms, out);
                self.refresh_view(watch.now_ms, out);
            }
        }
    }

    fn on_meet(&mut self, now_ms: u64, mut card: JoinCard, from_ip: Option<String>, out: &mut Outputs) {
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

    pub(super) fn welcome(&mut self, now_ms: u64, to: Target, token: u64, out: &mut Outputs) {
        let welcome = Body::Welcome { token, seeds: seeds(&self.registry) };
        self.send(now_ms, Destination::Address(to), welcome, out);
    }

    /// Whether this node can give its cluster up for another.
    pub(super) fn may_join(&self) -> bool {
        self.registry.nodes.len() == 1 && self.registry.nodes.contains_key(&self.me) && !self.holds_keys
    }

    pub(super) fn join_card(&self, token: u64) -> Option<JoinCard> {
        let mut node = self.registry.nodes.get(&self.me)?.clone();
        let (shard, register) = self.registry.shard_of(self.me)?;
        node.address = self.myself.address.clone();
        node.zone = self.myself.zone.clone();
        node.incarnation = self.myself.incarnation;
        node.no_failover = self.myself.no_failover;
        let claims = self.registry.slots.of_shard(shard).collect();
        Some(JoinCard { node, epoch: register.epoch, claims, may_join: self.may_join(), token })
    }
}
