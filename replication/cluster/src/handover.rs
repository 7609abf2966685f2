//! Planned failover (CLUSTER FAILOVER): the replica asks through the register, the master holds writes and tells the
//! end of its log, the replica catches up and is promoted. Abort and promotion are compare-and-sets on one register,
//! so that writes resume only once the promotion can no longer happen. A master that is about to stop begins it itself.

use holdfast_words::{Epoch, LogPoint, NodeId, ShardId};

use crate::change::{Change, Refusal};
use crate::message::{Body, Positions};
use crate::registry::Registry;
use crate::shard_register::{Pending, ShardRegister};

/// How long a handover may take as the replica sees it (Redis's CLUSTER_MF_TIMEOUT).
pub const HANDOVER_MS_MAX: u64 = 5000;
/// A forced failover is tried for so long: a metadata group that lost its leader has another one by then.
const FORCING_MS_MAX: u64 = 10_000;
/// How much longer the master waits for the replica's own abort before it aborts itself.
const MASTER_GRACE_MS: u64 = 1000;

/// The end of the log is told again after this time: the message may be lost.
const REPEAT_READY_MS: u64 = 100;

/// The replica's side.
#[derive(Clone, Debug, Default)]
pub struct Taking {
    asked_ms: Option<u64>,
    /// When the time was up last: what is committed late is not taken up again.
    gave_up_ms: Option<u64>,
    ready: Option<(Epoch, LogPoint)>,
}

/// What the replica's side wants now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TakingStep {
    /// Nothing.
    Wait,
    /// Propose this.
    Propose(Change),
    /// The time is up and nothing is under way any more.
    GaveUp,
}

/// Whether `me` may begin a handover or a forced election now; its shard and register.
pub fn may_fail_over(registry: &Registry, me: NodeId) -> Result<(ShardId, &ShardRegister), Refusal> {
    let (shard, register) = registry.shard_of(me).ok_or(Refusal::UnknownNode(me))?;
    if register.master == me {
        return Err(Refusal::FailoverNeedsReplica);
    }
    Ok((shard, register))
}

/// The handover with which the master `me` leaves. Who takes over: of the replicas whom `positions` knows to be well, one in sync
/// rather than another (which is sure to have caught up, too, when it is promoted, but may need longer), and the freshest.
pub fn leave(
    registry: &Registry,
    me: NodeId,
    positions: impl Fn(NodeId) -> Option<Positions>,
) -> Result<Change, Refusal> {
    let (shard, register) = registry.shard_of(me).ok_or(Refusal::UnknownNode(me))?;
    if register.master != me {
        return Err(Refusal::NobodyTakesOver(shard));
    }
    if register.pending.is_some() {
        return Err(Refusal::ElectionUnderWay(shard));
    }
    let written = |node| {
        positions(node).filter(|at| at.shard == shard && at.whole && at.can_write).map(|at| at.written)
    };
    let may = |node: &&NodeId| registry.nodes.get(node).is_some_and(|record| !record.no_failover);
    let standing = |&node: &NodeId| Some((register.in_sync.contains(&node), written(node)?, node));
    let best = register.replicas.iter().filter(may).filter_map(standing).max();
    let (.., to) = best.ok_or(Refusal::NobodyTakesOver(shard))?;
    Ok(Change::BeginHandover { shard, expected: register.seen(), to })
}

/// The election with which the master `me`, whose log takes nothing any more, leaves at once. Its successor is the freshest member
/// of the in-sync set that is well: it has everything acknowledged, so that there is nothing to wait for.
pub fn leave_disabled(
    registry: &Registry,
    me: NodeId,
    positions: impl Fn(NodeId) -> Option<Positions>,
) -> Result<Change, Refusal> {
    let (shard, register) = registry.shard_of(me).ok_or(Refusal::UnknownNode(me))?;
    if register.master != me {
        return Err(Refusal::NobodyTakesOver(shard));
    }
    if matches!(register.pending, Some(Pending::Election { .. })) {
        return Err(Refusal::ElectionUnderWay(shard));
    }
    let is_well = |at: &Positions| at.shard == shard && at.whole && at.can_write && at.trusted;
    let may = |node: &&NodeId| {
        register.in_sync.contains(*node) && registry.nodes.get(node).is_some_and(|record| !record.no_failover)
    };
    let standing = |&node: &NodeId| Some((positions(node).filter(is_well)?.written, node));
    let best = register.replicas.iter().filter(may).filter_map(standing).max();
    let (_, candidate) = best.ok_or(Refusal::NobodyTakesOver(shard))?;
    Ok(Change::BeginElection { shard, expected: register.seen(), candidate: Some(candidate) })
}

impl Taking {
    /// The command was given.
    pub fn ask(&mut self, now_ms: u64) {
        *self = Self { asked_ms: Some(now_ms), ..Self::default() };
    }

    /// Whether a handover to this node is being tried.
    pub fn is_asked(&self) -> bool {
        self.asked_ms.is_some()
    }

    /// The master holds writes; its log ends at `end`.
    pub fn on_ready(&mut self, epoch: Epoch, end: LogPoint) {
        self.ready = Some((epoch, end));
    }

    /// What to do now.
    pub fn step(
        &mut self,
        registry: &Registry,
        me: NodeId,
        positions: Option<Positions>,
        now_ms: u64,
    ) -> TakingStep {
        let Some((shard, register)) = registry.shard_of(me) else { return self.stop(now_ms) };
        if register.master == me {
            *self = Self::default();
            return TakingStep::Wait;
        }
        let expected = register.seen();
        let mine = match register.pending {
            Some(Pending::Handover { epoch, to }) if to == me => Some(epoch),
            _ => None,
        };
        if mine.is_some() && self.asked_ms.is_none() {
            // Begun by somebody else (the metadata leader spreads masters, the master stops), unless it was this node and it gave up since.
            let is_late = self.gave_up_ms.is_some_and(|then| now_ms.saturating_sub(then) < HANDOVER_MS_MAX);
            self.asked_ms = Some(if is_late { now_ms.saturating_sub(HANDOVER_MS_MAX) } else { now_ms });
        }
        let in_time = self.asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < HANDOVER_MS_MAX);
        match (mine, in_time) {
            (Some(epoch), true) if self.has_caught_up(epoch, shard, positions) => {
                TakingStep::Propose(Change::Promote { shard, expected, master: me })
            }
            (Some(_), true) => TakingStep::Wait,
            // Also one that was committed too late.
            (Some(_), false) => TakingStep::Propose(Change::AbortHandover { shard, expected }),
            (None, true) if register.pending.is_none() => {
                TakingStep::Propose(Change::BeginHandover { shard, expected, to: me })
            }
            (None, _) => self.stop(now_ms),
        }
    }

    fn stop(&mut self, now_ms: u64) -> TakingStep {
        if self.asked_ms.take().is_none() {
            return TakingStep::Wait;
        }
        self.gave_up_ms = Some(now_ms);
        TakingStep::GaveUp
    }

    fn has_caught_up(&self, epoch: Epoch, shard: ShardId, positions: Option<Positions>) -> bool {
        let Some(end) = self.ready.filter(|(of, _)| *of == epoch).map(|(_, end)| end) else { return false };
        positions.is_some_and(|at| at.shard == shard && at.whole && at.written >= end)
    }
}

/// A forced failover that this node asked for: begun again until the register has it, since a proposal gets lost while the metadata
/// group has no leader.
#[derive(Clone, Debug, Default)]
pub struct Forcing {
    asked: Option<(u64, Epoch)>,
}

impl Forcing {
    /// The command was given while the shard was at this epoch.
    pub fn ask(&mut self, now_ms: u64, epoch: Epoch) {
        self.asked = Some((now_ms, epoch));
    }

    /// What to do now.
    pub fn step(&mut self, registry: &Registry, me: NodeId, now_ms: u64) -> TakingStep {
        let Some((asked_ms, epoch)) = self.asked else { return TakingStep::Wait };
        let Some((shard, register)) = registry.shard_of(me) else {
            self.asked = None;
            return TakingStep::Wait;
        };
        let has_begun =
            matches!(register.pending, Some(Pending::Election { candidate, .. }) if candidate == Some(me));
        if has_begun || register.master == me || register.epoch > epoch {
            self.asked = None;
            TakingStep::Wait
        } else if now_ms.saturating_sub(asked_ms) > FORCING_MS_MAX {
            self.asked = None;
            TakingStep::GaveUp
        } else {
            let expected = register.seen();
            TakingStep::Propose(Change::BeginElection { shard, expected, candidate: Some(me) })
        }
    }
}

/// The master's side.
#[derive(Clone, Debug, Default)]
pub struct Giving {
    held: Option<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    shard: ShardId,
    epoch: Epoch,
    to: NodeId,
    since_ms: u64,
    end: Option<LogPoint>,
    told_ms: Option<u64>,
}

/// What the master's side wants now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GivingStep {
    /// Nothing.
    Wait,
    /// Hold writes, and tell where the log ends then.
    Pause {
        /// The shard.
        shard: ShardId,
        /// The handover's epoch.
        epoch: Epoch,
        /// Who takes over.
        to: NodeId,
    },
    /// Tell the replica.
    Tell(NodeId, Body),
    /// Propose this.
    Propose(Change),
    /// Let writes go on.
    Resume(ShardId),
}

impl Giving {
    /// Writes are held for the handover at `epoch`; the log ends at `end`.
    pub fn on_paused(&mut self, epoch: Epoch, end: LogPoint) {
        if let Some(held) = self.held.as_mut().filter(|held| held.epoch == epoch) {
            held.end = Some(end);
        }
    }

    /// What to do now.
    pub fn step(&mut self, registry: &Registry, me: NodeId, now_ms: u64) -> GivingStep {
        let mine = registry.shard_of(me).filter(|(_, register)| register.master == me);
        let pending = mine.and_then(|(_, register)| register.pending);
        match (self.held, pending, mine) {
            (None, Some(Pending::Handover { epoch, to }), Some((shard, _))) => {
                self.held = Some(Held { shard, epoch, to, since_ms: now_ms, end: None, told_ms: None });
                GivingStep::Pause { shard, epoch, to }
            }
            (Some(held), Some(Pending::Handover { epoch, .. }), Some((shard, register)))
                if held.epoch == epoch =>
            {
                if now_ms.saturating_sub(held.since_ms) >= HANDOVER_MS_MAX + MASTER_GRACE_MS {
                    return GivingStep::Propose(Change::AbortHandover { shard, expected: register.seen() });
                }
                let told_lately =
                    held.told_ms.is_some_and(|told| now_ms.saturating_sub(told) < REPEAT_READY_MS);
                match held.end.filter(|_| !told_lately) {
                    Some(end) => {
                        self.held = Some(Held { told_ms: Some(now_ms), ..held });
                        GivingStep::Tell(held.to, Body::HandoverReady { shard, epoch, end })
                    }
                    None => GivingStep::Wait,
                }
            }
            // An election overruled the handover: nothing may be acknowledged before it is over either.
            (Some(_), Some(Pending::Election { .. }), _) => GivingStep::Wait,
            (Some(held), _, _) => {
                self.held = None;
                GivingStep::Resume(held.shard)
            }
            (None, _, _) => GivingStep::Wait,
        }
    }
}
