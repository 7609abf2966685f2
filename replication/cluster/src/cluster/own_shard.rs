//! What the core does about its own shard: tells where its log stands, begins and carries out failovers by command.

use crate::change::{Change, Refusal};
use crate::cluster::{Cluster, watch};
use crate::events::Event;
use crate::handover::{GivingStep, TakingStep, leave, leave_disabled, may_fail_over};
use crate::in_sync::WriteAck;
use crate::interface::{Destination, Failover, Outputs};
use crate::message::Positions;
use crate::shard_register::Pending;
use crate::view::Health;
use holdfast_words::NodeId;

impl Cluster {
    pub(super) fn on_positions(&mut self, now_ms: u64, positions: Positions, out: &mut Outputs) {
        let fenced_before = self.positions.filter(|p| p.shard == positions.shard).map(|p| p.fence);
        self.positions = Some(positions);
        self.leave_if_disabled(now_ms, out);
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
                self.send_ping(now_ms, node, out);
            }
        }
        self.do_duties(now_ms, out);
    }

    pub(super) fn on_failover(
        &mut self,
        now_ms: u64,
        kind: Failover,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let registry = self.registry.clone();
        if kind == Failover::Away {
            let begin = if self.cannot_write() {
                leave_disabled(&registry, self.me, |node| self.told_by_heir(now_ms, node))?
            } else {
                leave(&registry, self.me, |node| self.told_by_well(now_ms, node))?
            };
            self.propose(now_ms, begin, out);
            return Ok(());
        }
        let (shard, register) = may_fail_over(&registry, self.me)?;
        if !watch(&registry, self, now_ms).hears_majority(&self.table) {
            return Err(Refusal::NoMajority);
        }
        match kind {
            Failover::Graceful if self.table.health(register.master) != Health::Fine => {
                Err(Refusal::FailoverMasterDown)
            }
            Failover::Graceful if register.pending.is_some() => Err(Refusal::ElectionUnderWay(shard)),
            Failover::Graceful => {
                self.taking.ask(now_ms);
                Ok(())
            }
            Failover::Force | Failover::Takeover | Failover::Away => {
                self.forcing.ask(now_ms, register.epoch);
                Ok(())
            }
        }
    }

    fn cannot_write(&self) -> bool {
        self.positions.is_some_and(|at| !at.can_write)
    }

    /// What a node under no suspicion told lately.
    fn told_by_well(&self, now_ms: u64, node: NodeId) -> Option<Positions> {
        let timeout_ms = self.settings.node_timeout_ms;
        let peer = self.table.get(node)?;
        let is_well = peer.health() == Health::Fine && peer.heard_within(now_ms, timeout_ms);
        peer.header.as_ref().filter(|_| is_well)?.positions
    }

    /// What a member told that may have everything this node acknowledged. Under `write-ack local` it must have all that is written
    /// here: nobody keeps the in-sync set then.
    fn told_by_heir(&self, now_ms: u64, node: NodeId) -> Option<Positions> {
        let written = self.positions.map(|at| at.written);
        let is_kept = self.settings.write_ack == WriteAck::InSync;
        self.told_by_well(now_ms, node).filter(|at| is_kept || Some(at.written) >= written)
    }

    /// A master whose log takes nothing any more hands over at once; with nobody to take over it stays, and serves reads.
    pub(super) fn leave_if_disabled(&mut self, now_ms: u64, out: &mut Outputs) {
        if !self.cannot_write() || !self.registry.serves_slots(self.me) {
            return;
        }
        let registry = self.registry.clone();
        if let Ok(begin) = leave_disabled(&registry, self.me, |node| self.told_by_heir(now_ms, node)) {
            let is_news = self.proposed.iter().all(|(proposed, _)| *proposed != begin);
            if is_news && let Change::BeginElection { shard, candidate: Some(to), .. } = begin {
                out.events.push(Event::LeavesDisabled { shard, to });
            }
            self.propose(now_ms, begin, out);
        }
    }

    /// A master has its shard's register follow its configuration. A shard without one keeps the rule it had.
    pub(super) fn tell_shard_its_rule(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        let Some((shard, register)) = registry.shard_of(self.me) else { return };
        let allowed = self.settings.unclean_failover;
        if register.master == self.me && register.pending.is_none() && register.unclean_failover != allowed {
            let expected = register.seen();
            self.propose(now_ms, Change::SetUncleanFailover { shard, expected, allowed }, out);
        }
    }

    pub(super) fn step_handovers(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        match self.taking.step(&registry, self.me, self.positions, now_ms) {
            TakingStep::Wait => {}
            TakingStep::Propose(change) => self.propose(now_ms, change, out),
            TakingStep::GaveUp => {
                let shard = registry.shard_of(self.me).map(|(shard, _)| shard).unwrap_or_default();
                out.events.push(Event::HandoverFailed { shard });
            }
        }
        match self.forcing.step(&registry, self.me, now_ms) {
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
    pub(super) fn my_positions(&self, now_ms: u64) -> Option<Positions> {
        let mut positions = self.positions?;
        let master = self.registry.shard_of(self.me).map(|(_, register)| register.master);
        if let Some(peer) = master.and_then(|master| self.table.get(master)) {
            let silent_since = peer.heard_ms.unwrap_or(peer.known_since_ms);
            positions.stream_down_ms =
                positions.stream_down_ms.saturating_sub(now_ms.saturating_sub(silent_since));
        }
        Some(positions)
    }
}
