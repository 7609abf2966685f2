//! What goes wrong, and when: rounds of one or two faults that overlap, from the seed's dice.
//!
//! What holdfast promises is kept as long as a round takes away one copy of a shard for good at most, so that of the faults that
//! make an unsynced write disappear (power cuts, syncs that fail) a round has one, and between two rounds the cluster becomes whole.

use std::time::Duration;

use holdfast_storage::platform::simulation::disk::Faults;

use super::run::{MACHINES, Simulation};
use super::trace::note;

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// kill -9 of nodes at the same moment.
    Kill(Vec<usize>),
    /// A machine of two nodes loses its power.
    PowerCut(usize),
    /// SIGSTOP.
    Pause(usize),
    /// A node hears nobody and nobody hears it.
    Isolate(usize),
    /// A node hears no other node; clients reach it. The core of every fencing test.
    IsolateFromNodes(usize),
    /// What some nodes send to others is lost; answers come.
    OneWay(Vec<usize>, Vec<usize>),
    /// Everything between two groups waits.
    Stall(Vec<usize>, Vec<usize>),
    /// Now and then something that a node sends or should get is lost.
    Flicker(usize),
    /// A node's messages take up to this long.
    SlowLinks(usize, Duration),
    /// The log's syncs take this long.
    SlowSync(usize, Duration),
    /// Syncs fail; afterwards the node is restarted.
    SyncError(usize),
    /// The disk is full after some more bytes.
    DiskFull(usize),
    /// A node's wall clock jumps by so many seconds, and back.
    ClockJump(usize, i64),
    /// CLUSTER FAILOVER at a replica.
    HandOver,
    /// CLUSTER FAILOVER FORCE at a replica.
    TakeOver,
    /// CLUSTER REPLICATE: a replica goes to another shard, and comes back.
    MoveReplica,
    /// CLUSTER FORGET: a replica is removed, and is added again under a new id, with nothing.
    RemoveReplica,
    /// BGSAVE; nothing goes wrong.
    Checkpoint(usize),
}

impl Fault {
    /// As a report calls it; [`super::coverage::FAULTS`] are all that go wrong.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill(nodes) if nodes.len() == 1 => "kill",
            Self::Kill(nodes) if nodes.len() == MACHINES.len() => "kill-all",
            Self::Kill(_) => "kill-shard",
            Self::PowerCut(_) => "power-cut",
            Self::Pause(_) => "pause",
            Self::Isolate(_) => "isolate",
            Self::IsolateFromNodes(_) => "isolate-from-nodes",
            Self::OneWay(..) => "one-way",
            Self::Stall(..) => "stall",
            Self::Flicker(_) => "flicker",
            Self::SlowLinks(..) => "slow-links",
            Self::SlowSync(..) => "slow-sync",
            Self::SyncError(_) => "sync-error",
            Self::DiskFull(_) => "disk-full",
            Self::ClockJump(..) => "clock-jump",
            Self::HandOver => "hand-over",
            Self::TakeOver => "take-over",
            Self::MoveReplica => "move-replica",
            Self::RemoveReplica => "remove-replica",
            Self::Checkpoint(_) => "checkpoint",
        }
    }

    fn changes_membership(&self) -> bool {
        matches!(self, Self::MoveReplica | Self::RemoveReplica)
    }
}

/// A fault and its time within its round.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// When it begins.
    pub begin: Duration,
    /// When it is over.
    pub end: Duration,
}

/// EIO.
const SYNC_ERROR: i32 = 5;
/// How often something of a node that flickers is lost, on average.
const FLICKER_MS: u64 = 200;
/// How soon after a round every node is where it belongs.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// It takes away a copy of what may not be on a disk yet.
fn is_loss(fault: &Fault) -> bool {
    matches!(fault, Fault::PowerCut(_) | Fault::SyncError(_)) || fault.changes_membership()
}

/// A round of one or two faults.
pub fn plan(dice: &mut fastrand::Rng, shards: &[(usize, Vec<usize>)]) -> Vec<Planned> {
    let mut planned: Vec<Planned> = Vec::new();
    for _ in 0..dice.usize(1..=2) {
        let fault = pick(dice, shards);
        if planned.iter().any(|other| is_loss(&other.fault)) && is_loss(&fault) {
            continue;
        }
        let begin = Duration::from_millis(dice.u64(..1500));
        let lasts = match dice.u32(..3) {
            0 => dice.u64(10..600),
            1 => dice.u64(600..2500),
            _ => dice.u64(2500..7000),
        };
        planned.push(Planned { fault, begin, end: begin + Duration::from_millis(lasts) });
    }
    if dice.bool() {
        let fault = Fault::Checkpoint(dice.usize(..MACHINES.len()));
        let begin = Duration::from_millis(dice.u64(..3000));
        planned.push(Planned { fault, begin, end: begin });
    }
    planned
}

fn pick(dice: &mut fastrand::Rng, shards: &[(usize, Vec<usize>)]) -> Fault {
    let (master, replicas) = &shards[dice.usize(..shards.len())];
    let replica = replicas.first().copied().unwrap_or(*master);
    let any = dice.usize(..MACHINES.len());
    let mostly_master = if dice.u32(..3) > 0 { *master } else { any };
    let halves = |dice: &mut fastrand::Rng| {
        let first: Vec<usize> = (0..MACHINES.len()).filter(|_| dice.bool()).collect();
        let second = (0..MACHINES.len()).filter(|node| !first.contains(node)).collect();
        (first, second)
    };
    match dice.u32(..23) {
        0 | 1 => Fault::Kill(vec![mostly_master]),
        2 => Fault::Kill(vec![*master, replica]),
        3 => Fault::Kill((0..MACHINES.len()).collect()),
        4 | 5 => Fault::PowerCut(MACHINES[mostly_master]),
        6 => Fault::Pause(mostly_master),
        7 => Fault::Isolate(mostly_master),
        8 | 9 => Fault::IsolateFromNodes(mostly_master),
        10 => {
            let (from, to) = halves(dice);
            Fault::OneWay(from, to)
        }
        11 => Fault::OneWay(
            vec![mostly_master],
            (0..MACHINES.len()).filter(|node| *node != mostly_master).collect(),
        ),
        12 => {
            let (from, to) = halves(dice);
            Fault::Stall(from, to)
        }
        13 => Fault::SlowLinks(any, Duration::from_millis(dice.u64(5..400))),
        14 => Fault::SlowSync(any, Duration::from_millis(dice.u64(5..3000))),
        15 => Fault::SyncError(mostly_master),
        16 => Fault::DiskFull(mostly_master),
        17 => Fault::Flicker(mostly_master),
        18 => Fault::ClockJump(any, dice.i64(-100_000..=100_000)),
        19 => Fault::TakeOver,
        20 => Fault::MoveReplica,
        21 => Fault::RemoveReplica,
        _ => Fault::HandOver,
    }
}

impl Simulation {
    /// Lets a round of faults happen, each from its begin to its end; then every node is where it belongs.
    ///
    /// # Errors
    /// When a node does not come back to its place.
    pub fn suffer(&mut self, round: &[Planned]) -> Result<(), String> {
        let start = self.elapsed();
        let mut moments: Vec<(Duration, usize, bool)> = Vec::new();
        for (index, planned) in round.iter().enumerate() {
            moments.push((start + planned.begin, index, true));
            moments.push((start + planned.end, index, false));
        }
        moments.sort();
        let mut lost = Vec::new();
        for (moment, index, begins) in moments {
            while self.elapsed() < moment {
                self.step();
                self.flicker(&mut lost);
            }
            let fault = &round[index].fault;
            note(format_args!("FAULT {} {fault:?}", if begins { "begins:" } else { "ends:" }));
            self.strike(fault, begins);
        }
        for (_, from, to) in lost {
            self.cut(&from, &to, false);
        }
        // Whoever died of it is started by its supervisor.
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
        if round.iter().any(|planned| planned.fault.changes_membership()) {
            self.settle_membership(SETTLED_AFTER)?;
        }
        Ok(())
    }

    /// Cuts of some milliseconds, between nodes that flicker and others.
    fn flicker(&mut self, lost: &mut Vec<(Duration, String, String)>) {
        let now = self.elapsed();
        for (_, from, to) in lost.extract_if(.., |(until, _, _)| *until <= now) {
            self.cut(&from, &to, false);
        }
        for node in self.flickering.clone() {
            let other = self.dice.usize(..MACHINES.len());
            if other == node || self.dice.u64(..FLICKER_MS) > 0 {
                continue;
            }
            let (mut from, mut to) = (self.nodes[node].name.clone(), self.nodes[other].name.clone());
            if self.dice.bool() {
                std::mem::swap(&mut from, &mut to);
            }
            self.cut(&from, &to, true);
            lost.push((now + Duration::from_millis(self.dice.u64(1..10)), from, to));
        }
    }

    /// A fault begins or ends.
    pub fn strike(&mut self, fault: &Fault, begins: bool) {
        if begins {
            self.coverage.add(fault.name(), 1);
        }
        match fault {
            Fault::Kill(nodes) if begins => {
                nodes
                    .iter()
                    .filter(|node| self.nodes[**node].is_up())
                    .copied()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|node| self.kill(node));
            }
            Fault::Kill(nodes) => nodes.iter().for_each(|node| self.restart(*node)),
            Fault::PowerCut(machine) if begins => self.cut_power(*machine),
            Fault::PowerCut(machine) => {
                (0..MACHINES.len())
                    .filter(|node| MACHINES[*node] == *machine)
                    .for_each(|node| self.restart(node));
            }
            Fault::Pause(node) => {
                if self.nodes[*node].is_up() {
                    self.pause(*node, begins);
                }
            }
            Fault::Isolate(node) => self.isolate(*node, begins),
            Fault::IsolateFromNodes(node) => {
                let others: Vec<usize> = (0..MACHINES.len()).filter(|other| other != node).collect();
                self.cut_between(&[*node], &others, begins);
                self.cut_between(&others, &[*node], begins);
            }
            Fault::OneWay(from, to) => self.cut_between(from, to, begins),
            Fault::Stall(from, to) => {
                for (a, b) in self.pairs(from, to) {
                    self.hold(&a, &b, begins);
                }
            }
            Fault::SlowLinks(node, longest) => {
                let longest = if begins { *longest } else { super::network::LATENCY.1 };
                for other in (0..MACHINES.len()).filter(|other| other != node) {
                    let (a, b) = (self.nodes[*node].name.clone(), self.nodes[other].name.clone());
                    self.set_latency(&a, &b, longest);
                }
            }
            Fault::SlowSync(node, delay) => {
                let faults = Faults { sync_delay: *delay, ..Faults::default() };
                self.set_disk_faults(*node, begins.then_some(faults));
            }
            Fault::SyncError(node) => {
                let faults = Faults { sync_error: Some(SYNC_ERROR), ..Faults::default() };
                self.set_disk_faults(*node, begins.then_some(faults));
                if !begins {
                    if self.nodes[*node].is_up() {
                        self.kill(*node);
                    }
                    self.restart(*node);
                }
            }
            Fault::DiskFull(node) => {
                let faults = Faults { space_left: Some(10_000), ..Faults::default() };
                self.set_disk_faults(*node, begins.then_some(faults));
            }
            Fault::Flicker(node) if begins => self.flickering.push(*node),
            Fault::Flicker(node) => self.flickering.retain(|other| other != node),
            Fault::ClockJump(node, seconds) => {
                let seconds = if begins { *seconds } else { -*seconds };
                self.world.jump(*node, seconds * 1_000_000);
            }
            Fault::Checkpoint(node) if begins => drop(self.order(*node, "BGSAVE")),
            Fault::HandOver | Fault::TakeOver | Fault::MoveReplica | Fault::RemoveReplica if begins => {
                self.operator_acts(fault);
            }
            Fault::HandOver
            | Fault::TakeOver
            | Fault::MoveReplica
            | Fault::RemoveReplica
            | Fault::Checkpoint(_) => {}
        }
    }

    /// One command, and what came of it.
    fn order(&mut self, node: usize, command: &str) -> Option<String> {
        let reply = self.ask(node, command);
        note(format_args!("{command} at n{node}: {reply:?}"));
        reply.ok().map(|reply| reply.text())
    }

    /// A replica is handed over to, moved to another shard, or removed.
    fn operator_acts(&mut self, fault: &Fault) {
        let shards = self.shards();
        let pairs: Vec<(usize, usize)> = shards
            .iter()
            .flat_map(|(master, replicas)| replicas.iter().map(|replica| (*master, *replica)))
            .collect();
        if pairs.is_empty() {
            return;
        }
        let (master, replica) = pairs[self.dice.usize(..pairs.len())];
        let others: Vec<usize> =
            shards.iter().map(|(other, _)| *other).filter(|other| *other != master).collect();
        match fault {
            Fault::HandOver => drop(self.order(replica, "CLUSTER FAILOVER")),
            Fault::TakeOver => drop(self.order(replica, "CLUSTER FAILOVER FORCE")),
            Fault::MoveReplica if !others.is_empty() => {
                let to = others[self.dice.usize(..others.len())];
                if let Some(id) = self.order(to, "CLUSTER MYID") {
                    self.order(replica, &format!("CLUSTER REPLICATE {id}"));
                }
            }
            Fault::RemoveReplica => {
                if let Some(id) = self.order(replica, "CLUSTER MYID") {
                    self.order(master, &format!("CLUSTER FORGET {id}"));
                }
            }
            _ => {}
        }
    }

    fn pairs(&self, from: &[usize], to: &[usize]) -> Vec<(String, String)> {
        let name = |node: &usize| self.nodes[*node].name.clone();
        from.iter().flat_map(|a| to.iter().map(move |b| (name(a), name(b)))).collect()
    }

    fn cut_between(&mut self, from: &[usize], to: &[usize], cut: bool) {
        for (a, b) in self.pairs(from, to) {
            self.cut(&a, &b, cut);
        }
    }
}
