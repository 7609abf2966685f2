//! What the metadata leader's core does for everyone: begin elections for failed masters, end them, keep the voters
//! spread. All it needs is in the registry and the node table, so that the next leader goes on where this one stopped.

use alloc::vec::Vec;

use holdfast_words::{Epoch, NodeId, ShardId};

use crate::change::Change;
use crate::cluster::{Cluster, watch};
use crate::interface::{Destination, Outputs};
use crate::lease::FormerVoters;
use crate::message::{Body, Positions};
use crate::node_table::Peer;
use crate::promotion::{Decision, Election, Rules, Standing};
use crate::rebalance::Rebalance;
use crate::shard_register::{Pending, ShardRegister};
use crate::view::Health;
use crate::voters::desired_voters;

/// How often the spread of voters is looked at.
const VOTERS_EVERY_MS: u64 = 1000;

impl Cluster {
    /// Does what the leader of the metadata group has to do now; nothing on any other node.
    pub(super) fn do_duties(&mut self, now_ms: u64, out: &mut Outputs) {
        self.withheld.keep_only(&self.registry);
        if self.leader != Some(self.me) {
            self.elections.clear();
            self.rebalance = Rebalance::default();
            self.former_voters = FormerVoters::default();
            return;
        }
        let registry = self.registry.clone();
        self.elections.retain(|shard, (epoch, _)| {
            registry
                .shards
                .get(shard)
                .and_then(|r| r.pending)
                .is_some_and(|pending| pending.epoch() == *epoch)
        });
        for (&shard, register) in &registry.shards {
            match register.pending {
                Some(Pending::Election { epoch, candidate }) => {
                    let (_, since_ms) = *self.elections.entry(shard).or_insert((epoch, now_ms));
                    let watched_ms = now_ms.saturating_sub(since_ms);
                    let lease_is_over = self.lease_is_over(now_ms, shard, register, epoch);
                    let election = Election { shard, register, epoch, candidate, watched_ms, lease_is_over };
                    self.conduct(now_ms, election, out);
                }
                Some(Pending::Handover { .. }) | None => {
                    if self.needs_election(shard, register) {
                        let expected = register.seen();
                        let begin = Change::BeginElection { shard, expected, candidate: None };
                        self.propose(now_ms, begin, out);
                    }
                }
            }
        }
        if self.former_voters.can_retire(&watch(&registry, self, now_ms), &self.table) {
            let voters_version = registry.voters_version;
            self.propose(now_ms, Change::RetireFormerVoters { voters_version }, out);
        }
        self.spread_voters(now_ms, out);
        if self.settings.rebalance_masters {
            self.spread_masters(now_ms, out);
        } else {
            self.rebalance = Rebalance::default();
        }
    }

    fn spread_masters(&mut self, now_ms: u64, out: &mut Outputs) {
        let (me, table, timeout_ms) = (self.me, &self.table, self.settings.node_timeout_ms);
        let can_write = |at: Option<Positions>| at.is_none_or(|at| at.can_write);
        let is_well = |peer: &Peer| {
            peer.health() == Health::Fine
                && peer.heard_within(now_ms, timeout_ms)
                && can_write(peer.header.as_ref().and_then(|header| header.positions))
        };
        let own = self.positions;
        let is_well = |node| if node == me { can_write(own) } else { table.get(node).is_some_and(is_well) };
        if let Some(change) = self.rebalance.step(&self.registry, is_well, now_ms, timeout_ms) {
            self.propose(now_ms, change, out);
        }
    }

    /// This node's own word as a voter counts with the others'.
    fn lease_is_over(&mut self, now_ms: u64, shard: ShardId, register: &ShardRegister, epoch: Epoch) -> bool {
        // A master says with its positions that it has stopped serving.
        if self.registry.voters.contains(&self.me) && register.master != self.me {
            let idle_ms = self.granted_nothing_ms(now_ms, register.master);
            self.withheld.note(shard, epoch, self.me, idle_ms, now_ms);
        }
        self.withheld.is_over(&watch(&self.registry, self, now_ms), shard, epoch)
    }

    /// For how long this node has not let `master` serve.
    fn granted_nothing_ms(&self, now_ms: u64, master: NodeId) -> u64 {
        let granted_ms = self.table.get(master).and_then(|peer| peer.grant_given_ms);
        now_ms.saturating_sub(granted_ms.max(self.started_ms).unwrap_or(now_ms))
    }

    /// A voter tells the metadata leader of the masters it lets serve no more.
    pub(super) fn tell_withheld_leases(&mut self, now_ms: u64, out: &mut Outputs) {
        let registry = self.registry.clone();
        let Some(leader) = self.leader.filter(|leader| *leader != self.me) else { return };
        if !registry.voters.contains(&self.me) {
            return;
        }
        for (&shard, register) in &registry.shards {
            if let Some(Pending::Election { epoch, .. }) = register.pending
                && register.master != self.me
            {
                let idle_ms = self.granted_nothing_ms(now_ms, register.master);
                let body = Body::LeaseWithheld { shard, epoch, idle_ms };
                self.send(now_ms, Destination::Node(leader), body, out);
            }
        }
    }

    /// The master of slots has failed, and there is somebody to take over.
    fn needs_election(&self, shard: ShardId, register: &ShardRegister) -> bool {
        self.table.health(register.master) == Health::Failed
            && self.registry.slots.owns_any(shard)
            && register.replicas.iter().any(|replica| self.table.health(*replica) != Health::Failed)
    }

    fn conduct(&mut self, now_ms: u64, election: Election<'_>, out: &mut Outputs) {
        let rules = Rules {
            write_ack: self.settings.write_ack,
            timeout_ms: self.settings.node_timeout_ms,
            validity_factor: self.settings.replica_validity_factor,
        };
        let standings: Vec<Standing> =
            election.register.members().map(|member| self.standing(now_ms, member)).collect();
        let (shard, expected) = (election.shard, election.register.seen());
        match election.decide(&rules, &standings) {
            Decision::Promote(master) => {
                self.propose(now_ms, Change::Promote { shard, expected, master }, out);
            }
            Decision::PromoteUnclean(master) => {
                self.propose(now_ms, Change::PromoteUnclean { shard, expected, master }, out);
            }
            Decision::Reopen => {
                self.propose(now_ms, Change::BeginElection { shard, expected, candidate: None }, out);
            }
            Decision::Wait => self.ask_for_positions(now_ms, &election, &standings, out),
        }
    }

    /// Members that have not answered under the election's epoch are asked again, at most once per tick.
    fn ask_for_positions(
        &mut self,
        now_ms: u64,
        election: &Election<'_>,
        standings: &[Standing],
        out: &mut Outputs,
    ) {
        let me = self.me;
        for standing in standings.iter().filter(|s| s.node != me && s.health != Health::Failed) {
            let answered = standing.positions.is_some_and(|p| p.fence >= election.epoch);
            let asked_lately =
                self.table.get(standing.node).is_some_and(|peer| now_ms < peer.ping_repeated_ms + 100);
            if !answered && !asked_lately {
                self.send_ping(now_ms, standing.node, out);
            }
        }
    }

    fn standing(&self, now_ms: u64, node: NodeId) -> Standing {
        let no_failover = self.registry.nodes.get(&node).is_some_and(|record| record.no_failover);
        if node == self.me {
            let positions = self.my_positions(now_ms);
            return Standing { node, health: Health::Fine, heard: true, no_failover, positions };
        }
        let peer = self.table.get(node);
        Standing {
            node,
            health: peer.map(Peer::health).unwrap_or_default(),
            heard: peer.is_some_and(|peer| peer.heard_within(now_ms, self.settings.node_timeout_ms)),
            no_failover,
            positions: peer.and_then(|peer| peer.header.as_ref()).and_then(|header| header.positions),
        }
    }

    fn spread_voters(&mut self, now_ms: u64, out: &mut Outputs) {
        let is_changing = !self.registry.former_voters.is_empty();
        if is_changing || now_ms.saturating_sub(self.voters_checked_ms) < VOTERS_EVERY_MS {
            return;
        }
        self.voters_checked_ms = now_ms;
        let alive = |id: NodeId| {
            id == self.me
                || self.table.get(id).is_some_and(|p| p.pong_ms.is_some() && p.health() != Health::Failed)
        };
        let to = desired_voters(&self.registry, alive);
        let from = self.registry.voters.clone();
        if to != from && !to.is_empty() {
            self.propose(now_ms, Change::SetVoters { from, to }, out);
        }
    }
}
