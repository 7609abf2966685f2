//! Nodes are killed, paused, handed over and without power at random while clients write: whatever happens, the cluster becomes whole again by
//! itself, masters and replicas end with equal digests, and no restart loses what a node had acknowledged.
//! `HOLDFAST_TEST_ROUNDS` sets how long, `HOLDFAST_TEST_SEED` which way.

use std::time::Duration;

use holdfast_tests::cluster::{ClusterUnderTest, NODE_TIMEOUT, Place};
use holdfast_tests::load::Load;
use holdfast_tests::lost_tail::lose_tail;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_chaos",
};
/// A small log, so that checkpoints, retention and full copies are part of it.
const OPTIONS: &[&str] =
    &["--wal-segment-size", "1mb", "--wal-retain-size", "2mb", "--checkpoint-log-size", "1mb"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What happens to the cluster in one round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillMaster,
    KillReplica,
    KillShard,
    KillAll,
    PauseMaster,
    PauseReplica,
    HandOver,
    /// As a kill, but what was not on the disk is gone.
    PowerCutMaster,
    PowerCutReplica,
    PowerCutShard,
    PowerCutAll,
}

const FAULTS: [Fault; 11] = [
    Fault::KillMaster,
    Fault::KillReplica,
    Fault::KillShard,
    Fault::KillAll,
    Fault::PauseMaster,
    Fault::PauseReplica,
    Fault::HandOver,
    Fault::PowerCutMaster,
    Fault::PowerCutReplica,
    Fault::PowerCutShard,
    Fault::PowerCutAll,
];

fn strike(cluster: &mut ClusterUnderTest, fault: Fault, dice: &mut fastrand::Rng) {
    let shards = cluster.shards(0);
    let (master, replica) = shards[dice.usize(..shards.len())];
    let away = Duration::from_millis(dice.u64(10..2 * NODE_TIMEOUT.as_millis() as u64));
    let mut cut_power = |cluster: &mut ClusterUnderTest, nodes: &[usize]| {
        nodes.iter().for_each(|node| cluster.nodes[*node].signal(libc::SIGKILL));
        for &node in nodes {
            cluster.kill9(node);
            println!("  {} bytes lost at node {node}", lose_tail(cluster.nodes[node].directory(), dice));
        }
    };
    match fault {
        Fault::PowerCutMaster => cut_power(cluster, &[master]),
        Fault::PowerCutReplica => cut_power(cluster, &[replica]),
        Fault::PowerCutShard => cut_power(cluster, &[master, replica]),
        Fault::PowerCutAll => cut_power(cluster, &[0, 1, 2, 3, 4, 5]),
        Fault::KillMaster => cluster.kill9(master),
        Fault::KillReplica => cluster.kill9(replica),
        Fault::KillShard => {
            cluster.kill9(master);
            cluster.kill9(replica);
        }
        Fault::KillAll => cluster.kill9_all(),
        Fault::PauseMaster | Fault::PauseReplica => {
            let node = if matches!(fault, Fault::PauseMaster) { master } else { replica };
            cluster.pause(node);
            std::thread::sleep(away);
            return cluster.resume(node);
        }
        Fault::HandOver => {
            let reply = cluster.ask(replica, &["CLUSTER", "FAILOVER"]);
            assert!(reply.is_ok(), "{reply}");
        }
    }
    std::thread::sleep(away);
    cluster.restart_all();
}

#[test]
fn the_cluster_becomes_whole_by_itself_after_random_faults_under_load_and_replicas_equal_their_masters() {
    let (rounds, seed) = (number("HOLDFAST_TEST_ROUNDS", 4), number("HOLDFAST_TEST_SEED", fastrand::u64(..)));
    println!("HOLDFAST_TEST_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut cluster = ClusterUnderTest::formed(PLACE, "shared", OPTIONS);
    for round in 0..rounds {
        let fault = FAULTS[dice.usize(..FAULTS.len())];
        println!("round {round}: {fault:?}");
        let load = Load::start(&cluster.ports(), 4, &format!("round{round}"));
        load.wait_for_more(dice.u64(1..2000));
        strike(&mut cluster, fault, &mut dice);
        cluster.wait_until_whole();
        load.wait_for_more(200);
        let written = load.stop();
        let unexpected: Vec<&String> =
            written.errors.keys().filter(|text| !text.contains("CLUSTERDOWN")).collect();
        assert!(
            unexpected.is_empty(),
            "round {round}, {fault:?}, seed {seed}: {unexpected:#?}\n{}",
            cluster.logs()
        );
        cluster.assert_equal_digests();
        // What was acknowledged is on two machines: only both of them losing their power together can take it away.
        let lost = written.lost(&cluster.ports());
        println!(
            "  {} writes were acknowledged, the longest pause was {:?}, {} keys lost",
            written.count,
            written.longest_gap,
            lost.len()
        );
        if !matches!(fault, Fault::PowerCutShard | Fault::PowerCutAll) {
            assert!(lost.is_empty(), "round {round}, {fault:?}, seed {seed}: {lost:#?}\n{}", cluster.logs());
        }
        cluster.assert_no_errors_logged();
    }
}
