//! What happens to a cluster on three machines, planned from a seed: when, what, for how long. Which node is a shard's master is
//! found out when its time comes.

use std::time::{Duration, Instant};

use crate::cluster::ClusterUnderTest;
use crate::cluster_view;
use crate::network::{MACHINES, Network};

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9 of a shard's master; started again later.
    KillMaster(usize),
    /// kill -9 of a shard's replica.
    KillReplica(usize),
    /// kill -9 of both nodes of a machine.
    KillMachine(usize),
    /// SIGSTOP of a shard's master; SIGCONT later.
    PauseMaster(usize),
    /// SIGSTOP of both nodes of a machine.
    PauseMachine(usize),
    /// The machine of a shard's master and the others do not hear each other; clients still reach all.
    CutOffMaster(usize),
    /// Two machines do not hear each other.
    CutPair(usize, usize),
    /// The second machine does not hear the first.
    CutOneWay(usize, usize),
    /// A machine's cable is pulled: clients do not reach it either.
    Unplug(usize),
    /// A machine's cable is slow and loses.
    SlowDown(usize),
    /// CLUSTER FAILOVER, asked from a shard's replica.
    HandOver(usize),
    /// CLUSTER FAILOVER, and the old master dies so many milliseconds later.
    HandOverAndKill(usize, u64),
}

/// One line of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// When it begins.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// When it ends again.
    pub until: Duration,
}

/// What may happen in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// Everything.
    All,
    /// Masters are cut off for longer than a failover takes, and nothing else.
    Partitions,
}

/// The plan of a run of this length: one after the other, with some quiet between.
pub fn plan(seed: u64, length: Duration, mix: Mix) -> Vec<Step> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut steps = Vec::new();
    let mut at = Duration::from_millis(dice.u64(1_000..3_000));
    loop {
        let (shard, machine) = (dice.usize(..3), dice.usize(..MACHINES));
        let other = (machine + dice.usize(1..MACHINES)) % MACHINES;
        let fault = match dice.u32(..16) {
            0..=1 => Fault::KillMaster(shard),
            2 => Fault::KillReplica(shard),
            3 => Fault::KillMachine(machine),
            4..=5 => Fault::PauseMaster(shard),
            6 => Fault::PauseMachine(machine),
            7..=9 => Fault::CutOffMaster(shard),
            10 => Fault::CutPair(machine, other),
            11 => Fault::CutOneWay(machine, other),
            12 => Fault::Unplug(machine),
            13 => Fault::SlowDown(machine),
            14 => Fault::HandOver(shard),
            _ => Fault::HandOverAndKill(shard, dice.u64(..60)),
        };
        let (fault, lasts) = match mix {
            Mix::All => (fault, dice.u64(2_000..8_000)),
            Mix::Partitions => (Fault::CutOffMaster(shard), dice.u64(6_000..10_000)),
        };
        let until = at + Duration::from_millis(lasts);
        if until + Duration::from_secs(1) > length {
            return steps;
        }
        steps.push(Step { at, fault, until });
        at = until + Duration::from_millis(dice.u64(1_500..5_000));
    }
}

/// Lets the plan happen; returns when it is over and everything runs again. `tell` is told what happens.
///
/// # Panics
/// When the network or a process cannot be handled.
pub fn carry_out(
    steps: &[Step],
    length: Duration,
    cluster: &mut ClusterUnderTest,
    network: &Network,
    mut tell: impl FnMut(String),
) {
    let began = Instant::now();
    let wait_until = |at: Duration| std::thread::sleep(at.saturating_sub(began.elapsed()));
    for step in steps {
        wait_until(step.at);
        let what = begin(step.fault, cluster, network);
        tell(format!("{:?}: {what}", step.fault));
        wait_until(step.until);
        end(cluster, network);
        tell("  over".to_owned());
    }
    wait_until(length);
}

/// `(master, replica)` of the shards in the eyes of any running node that answers; the shards' order is that of their slots.
fn shards(cluster: &ClusterUnderTest) -> Vec<(usize, Option<usize>)> {
    for witness in cluster.running() {
        let Ok(nodes) = cluster_view::nodes(cluster.nodes[witness].address()) else { continue };
        let mut masters: Vec<_> = nodes.iter().filter(|node| !node.slots.is_empty()).collect();
        masters.sort_by_key(|node| first_slot(&node.slots[0]));
        let index = |port: u16| cluster.nodes.iter().position(|node| node.port == port);
        let replica_of = |id: &String| nodes.iter().find(|node| node.master.as_ref() == Some(id));
        let shard =
            |id: &String, port: u16| Some((index(port)?, replica_of(id).and_then(|node| index(node.port))));
        return masters.iter().filter_map(|node| shard(&node.id, node.port)).collect();
    }
    Vec::new()
}

fn first_slot(range: &str) -> u16 {
    range.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(u16::MAX)
}

/// Begins a fault and says whom it hits.
fn begin(fault: Fault, cluster: &mut ClusterUnderTest, network: &Network) -> String {
    let shards = shards(cluster);
    let of = |shard: usize| shards.get(shard % shards.len().max(1)).copied();
    let works = |result: anyhow::Result<()>| result.expect("the network does what is asked");
    let (nodes, what) = match fault {
        Fault::KillMaster(shard) | Fault::PauseMaster(shard) | Fault::CutOffMaster(shard) => {
            let Some((master, _)) = of(shard) else { return "there is no such master".to_owned() };
            (vec![master], format!("node {master}, machine {}", master % MACHINES))
        }
        Fault::KillReplica(shard) | Fault::HandOver(shard) | Fault::HandOverAndKill(shard, _) => {
            let Some((master, Some(replica))) = of(shard) else {
                return "there is no such replica".to_owned();
            };
            (vec![replica, master], format!("replica {replica} of {master}"))
        }
        Fault::KillMachine(machine) | Fault::PauseMachine(machine) => {
            let nodes = vec![machine, machine + MACHINES];
            (nodes, format!("nodes {machine} and {}", machine + MACHINES))
        }
        _ => (Vec::new(), String::new()),
    };
    match fault {
        Fault::KillMaster(_) => cluster.kill9(nodes[0]),
        Fault::KillReplica(_) => cluster.kill9(nodes[0]),
        Fault::KillMachine(_) => {
            nodes.iter().for_each(|&node| cluster.nodes[node].signal(libc::SIGKILL));
            nodes.iter().for_each(|&node| cluster.kill9(node));
        }
        Fault::PauseMaster(_) | Fault::PauseMachine(_) => nodes.iter().for_each(|&node| cluster.pause(node)),
        Fault::CutOffMaster(_) => works(network.cut_off(nodes[0] % MACHINES)),
        Fault::CutPair(one, other) => {
            works(network.cut(one, other));
            works(network.cut(other, one));
        }
        Fault::CutOneWay(from, to) => works(network.cut(from, to)),
        Fault::Unplug(machine) => works(network.unplug(machine)),
        Fault::SlowDown(machine) => works(network.slow_down(machine)),
        Fault::HandOver(_) | Fault::HandOverAndKill(..) => {
            let asked = cluster_view::ask(cluster.nodes[nodes[0]].address(), &["CLUSTER", "FAILOVER"]);
            if let Fault::HandOverAndKill(_, delay_ms) = fault {
                std::thread::sleep(Duration::from_millis(delay_ms));
                cluster.kill9(nodes[1]);
            }
            return format!("{what}: {asked:?}");
        }
    }
    what
}

/// Ends whatever there is.
fn end(cluster: &mut ClusterUnderTest, network: &Network) {
    network.heal().expect("the network does what is asked");
    cluster.running().into_iter().for_each(|node| cluster.resume(node));
    cluster.nodes.iter_mut().filter(|node| !node.is_running()).for_each(crate::process::Node::spawn);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_what_begins_ends_before_the_next() {
        let length = Duration::from_secs(180);
        let steps = plan(7, length, Mix::All);
        assert_eq!(steps, plan(7, length, Mix::All));
        assert_ne!(steps, plan(8, length, Mix::All));
        assert!(steps.len() > 10, "{steps:?}");
        assert!(steps.iter().all(|step| step.at < step.until && step.until < length));
        assert!(steps.windows(2).all(|two| two[0].until < two[1].at));
        // Long enough a run has all kinds.
        let many: Vec<Step> = (0..20).flat_map(|seed| plan(seed, length, Mix::All)).collect();
        assert!(many.iter().any(|step| matches!(step.fault, Fault::CutOffMaster(_))));
        assert!(many.iter().any(|step| matches!(step.fault, Fault::HandOverAndKill(..))));
    }
}
