//! Elections: who may win, who is freshest, when the answers suffice. Pure: standings in, a decision out. Chosen is
//! who has the highest (epoch, LSN) reported after the fence, never who was merely fastest.

use alloc::vec::Vec;
use core::cmp::Reverse;

use holdfast_words::{Epoch, NodeId, ShardId};

use crate::in_sync::WriteAck;
use crate::message::Positions;
use crate::shard_register::ShardRegister;
use crate::view::Health;

/// Answers are awaited at most so long, or half the node timeout if that is less.
const COLLECT_MS_MAX: u64 = 500;
/// A forced election waits so long for its candidate, then all may win.
const CANDIDATE_PATIENCE_MS: u64 = 5000;
/// Redis's repl-ping-replica-period, part of the replica validity rule.
const REPLICA_PING_PERIOD_MS: u64 = 10_000;

/// The configured rules of an election.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// In `in-sync` mode only members of the in-sync set may win.
    pub write_ack: WriteAck,
    /// `cluster-node-timeout`.
    pub timeout_ms: u64,
    /// `cluster-replica-validity-factor`; 0 lets any replica win.
    pub validity_factor: u64,
}

impl Rules {
    /// How long a replica's stream may have been down when its master fell silent.
    fn staleness_ms_max(&self) -> u64 {
        match self.validity_factor {
            0 => u64::MAX,
            factor => self.timeout_ms.saturating_mul(factor).saturating_add(REPLICA_PING_PERIOD_MS),
        }
    }

    fn collect_ms_max(&self) -> u64 {
        (self.timeout_ms / 2).min(COLLECT_MS_MAX)
    }
}

/// The election as the register has it, and how long the metadata leader has been watching it.
#[derive(Clone, Copy, Debug)]
pub struct Election<'a> {
    /// The shard.
    pub shard: ShardId,
    /// Its register.
    pub register: &'a ShardRegister,
    /// The epoch the winner will have.
    pub epoch: Epoch,
    /// The only node that may win, or any.
    pub candidate: Option<NodeId>,
    /// Since when this leader has been watching.
    pub watched_ms: u64,
    /// A majority of voters let the old master serve no more, and what they let it before has run out.
    pub lease_is_over: bool,
}

/// How a member stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The member.
    pub node: NodeId,
    /// Its health as the leader sees it.
    pub health: Health,
    /// It was heard within the node timeout.
    pub heard: bool,
    /// `cluster-replica-no-failover yes`.
    pub no_failover: bool,
    /// Its log as it last told.
    pub positions: Option<Positions>,
}

/// What to do about an election now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Wait for more answers.
    Wait,
    /// Promote this member.
    Promote(NodeId),
    /// Promote this member, which may lack acknowledged writes (`unclean-failover yes`).
    PromoteUnclean(NodeId),
    /// The forced candidate does not answer: begin again, open to all.
    Reopen,
}

impl Election<'_> {
    /// Decides. With nobody eligible it waits, for as long as it takes.
    pub fn decide(&self, rules: &Rules, standings: &[Standing]) -> Decision {
        match self.choose(rules, standings) {
            Decision::Promote(winner) | Decision::PromoteUnclean(winner)
                if !self.old_master_is_silent(standings, winner) =>
            {
                Decision::Wait
            }
            decision => decision,
        }
    }

    /// Nobody but the winner serves from now on: the old master has no lease any more, or has said that it knows of the
    /// election (it raises its fence after it has stopped serving), or is the winner.
    fn old_master_is_silent(&self, standings: &[Standing], winner: NodeId) -> bool {
        let master = self.register.master;
        let knows = |s: &Standing| {
            s.heard && s.positions.is_some_and(|at| at.shard == self.shard && at.fence >= self.epoch)
        };
        winner == master || self.lease_is_over || standings.iter().any(|s| s.node == master && knows(s))
    }

    fn choose(&self, rules: &Rules, standings: &[Standing]) -> Decision {
        if let Some(candidate) = self.candidate {
            return self.decide_forced(rules, standings, candidate);
        }
        // A suspect may be back in a moment, and fresher than all others: only the failed are not waited for.
        let all_answered =
            standings.iter().filter(|s| s.health != Health::Failed).all(|s| self.answer(s).is_some());
        if !all_answered && self.watched_ms < rules.collect_ms_max() {
            return Decision::Wait;
        }
        let leaders: Vec<(&Standing, Positions)> = standings
            .iter()
            .filter_map(|s| Some((s, self.answer(s)?)))
            .filter(|(s, positions)| self.may_lead(rules, s, positions))
            .collect();
        let vouched = |(s, _): &&(&Standing, Positions)| self.may_lose_nothing(rules, s.node);
        let mut eligible: Vec<_> = leaders.iter().filter(vouched).copied().collect();
        if rules.write_ack == WriteAck::InSync {
            if eligible.iter().any(|(_, positions)| positions.trusted) {
                eligible.retain(|(_, positions)| positions.trusted);
            } else if !self.all_in_sync_answered(standings) {
                // Each may have lost a tail; only among all of them is every acknowledged write that is left.
                eligible.clear();
            }
        }
        if let Some(winner) = self.freshest(&eligible) {
            return Decision::Promote(winner);
        }
        match self.freshest(&leaders) {
            Some(winner) if self.register.unclean_failover && self.set_is_lost(standings) => {
                Decision::PromoteUnclean(winner)
            }
            _ => Decision::Wait,
        }
    }

    fn freshest(&self, of: &[(&Standing, Positions)]) -> Option<NodeId> {
        let is_new = |node: NodeId| node != self.register.master;
        let rank = |(s, at): &&(&Standing, Positions)| (Reverse(at.written), is_new(s.node), s.node);
        of.iter().min_by_key(rank).map(|(winner, _)| winner.node)
    }

    /// No member of the in-sync set can be reached that is sure to have every acknowledged write: each has failed, or has said
    /// that its data or its log's end are gone. One that is merely late, or may not lead, is not lost.
    fn set_is_lost(&self, standings: &[Standing]) -> bool {
        let is_lost = |s: &Standing| match self.answer(s) {
            Some(positions) => !positions.trusted,
            None => s.health == Health::Failed || self.answered_without_data(s),
        };
        self.register.in_sync.iter().all(|node| standings.iter().any(|s| s.node == *node && is_lost(s)))
    }

    fn answered_without_data(&self, standing: &Standing) -> bool {
        standing.heard
            && standing
                .positions
                .is_some_and(|at| at.shard == self.shard && at.fence >= self.epoch && !at.whole)
    }

    fn all_in_sync_answered(&self, standings: &[Standing]) -> bool {
        let answered = |node: &NodeId| standings.iter().any(|s| s.node == *node && self.answer(s).is_some());
        self.register.in_sync.iter().all(answered)
    }

    fn decide_forced(&self, rules: &Rules, standings: &[Standing], candidate: NodeId) -> Decision {
        let standing = standings.iter().find(|s| s.node == candidate);
        let is_sure = |at: Positions| at.trusted || rules.write_ack == WriteAck::Local;
        let wins =
            |s: &Standing| self.answer(s).is_some_and(is_sure) && self.may_lose_nothing(rules, candidate);
        match standing {
            Some(standing) if wins(standing) => Decision::Promote(candidate),
            Some(s) if s.health != Health::Failed && self.watched_ms < CANDIDATE_PATIENCE_MS => {
                Decision::Wait
            }
            _ => Decision::Reopen,
        }
    }

    /// A member's position after the fence, of this shard's log, with the whole data behind it and a disk that takes more. It was told after the
    /// election began, so that a suspicion or FAIL from before says nothing any more.
    fn answer(&self, standing: &Standing) -> Option<Positions> {
        standing.positions.filter(|positions| {
            standing.heard
                && positions.shard == self.shard
                && positions.fence >= self.epoch
                && positions.whole
                && positions.can_write
        })
    }

    fn may_lead(&self, rules: &Rules, standing: &Standing, positions: &Positions) -> bool {
        let is_master = standing.node == self.register.master;
        let fresh_enough = positions.stream_down_ms <= rules.staleness_ms_max();
        is_master || (!standing.no_failover && fresh_enough)
    }

    /// Under `in-sync` only members of the set are sure to have every acknowledged write.
    fn may_lose_nothing(&self, rules: &Rules, node: NodeId) -> bool {
        rules.write_ack == WriteAck::Local || self.register.in_sync.contains(&node)
    }
}

#[cfg(test)]
#[path = "promotion_tests.rs"]
mod tests;
