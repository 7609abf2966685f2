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
    /// A node's messages take up to this long.
    SlowLinks(usize, Duration),
    /// The log's syncs take this long.
    SlowSync(usize, Duration),
    /// Syncs fail; afterwards the node is restarted.
    SyncError(usize),
    /// The disk is full after some more bytes.
    DiskFull(usize),
    /// CLUSTER FAILOVER at a replica.
    HandOver,
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

/// ENOSPC and EIO.
const SYNC_ERROR: i32 = 5;

fn is_loss(fault: &Fault) -> bool {
    matches!(fault, Fault::PowerCut(_) | Fault::SyncError(_))
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
    match dice.u32(..18) {
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
        _ => Fault::HandOver,
    }
}

impl Simulation {
    /// Lets a round of faults happen, each from its begin to its end.
    pub fn suffer(&mut self, round: &[Planned]) {
        let start = self.elapsed();
        let mut moments: Vec<(Duration, usize, bool)> = Vec::new();
        for (index, planned) in round.iter().enumerate() {
            moments.push((start + planned.begin, index, true));
            moments.push((start + planned.end, index, false));
        }
        moments.sort();
        for (moment, index, begins) in moments {
            while self.elapsed() < moment {
                self.step();
            }
            let fault = &round[index].fault;
            note(format_args!("FAULT {} {fault:?}", if begins { "begins:" } else { "ends:" }));
            self.strike(fault, begins);
        }
        // Whoever died of it is started by its supervisor.
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
    }

    /// A fault begins or ends.
    pub fn strike(&mut self, fault: &Fault, begins: bool) {
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
            Fault::HandOver if begins => {
                let replicas: Vec<usize> =
                    self.shards().into_iter().flat_map(|(_, replicas)| replicas).collect();
                if !replicas.is_empty() {
                    let replica = replicas[self.dice.usize(..replicas.len())];
                    let reply = self.ask(replica, "CLUSTER FAILOVER");
                    note(format_args!("CLUSTER FAILOVER at n{replica}: {reply:?}"));
                }
            }
            Fault::HandOver => {}
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
