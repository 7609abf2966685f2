//! How long a shard is without a master after `kill -9`: until the successor acknowledges its first write, `cluster-node-timeout` taken off.
//! Three masters and three replicas on this machine. The figures are printed, not asserted: a busy machine is no defect.
//!
//! The table of docs/safety.md: `HOLDFAST_TEST_ROUNDS=20 cargo test -p holdfast-tests --test failover_time -- --nocapture`; the same of Redis
//! with `HOLDFAST_TEST_PEER=redis-server` before it.

use std::time::{Duration, Instant};

use holdfast_tests::client::Client;
use holdfast_tests::cluster::{ClusterUnderTest, NODE_TIMEOUT, Place, peer};
use holdfast_tests::cluster_view;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "failover_time",
};
/// A shard without a master for so long will not get one.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Case {
    OrdinaryMaster,
    MasterThatLeadsTheMetadataGroup,
    TwoMastersAtOnce,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The node that leads the metadata group; Redis has none.
fn metadata_leader(cluster: &ClusterUnderTest) -> Option<usize> {
    let id = cluster_view::cluster_info(cluster.nodes[0].port, "cluster_metadata_leader").ok()??;
    (0..cluster.nodes.len()).find(|&index| cluster.id(index) == id)
}

/// The masters to kill and their replicas. The metadata group's leader is handed the mastership of its shard where it has none.
fn choose(cluster: &ClusterUnderTest, case: Case) -> Option<Vec<(usize, usize)>> {
    let shards = cluster.shards(0);
    let leader = metadata_leader(cluster);
    match case {
        Case::TwoMastersAtOnce => Some(shards[..2].to_vec()),
        Case::OrdinaryMaster => {
            Some(vec![*shards.iter().find(|(master, _)| Some(*master) != leader).expect("three masters")])
        }
        Case::MasterThatLeadsTheMetadataGroup => {
            let leader = leader?;
            if let Some(shard) = shards.iter().find(|(master, _)| *master == leader) {
                return Some(vec![*shard]);
            }
            let (master, _) =
                *shards.iter().find(|(_, replica)| *replica == leader).expect("it is in a shard");
            assert!(cluster.ask(leader, &["CLUSTER", "FAILOVER"]).is_ok());
            cluster.wait_until_promoted(leader);
            cluster.wait_until_whole();
            Some(vec![(leader, master)])
        }
    }
}

/// From now until the node acknowledges a write to the key.
fn until_it_writes(port: u16, key: &str, since: Instant) -> Option<Duration> {
    let mut client = Client::connect(port).expect("the successor answers");
    client.set_patience(PATIENCE);
    while since.elapsed() < PATIENCE {
        match client.try_call(&["SET", key, "written"]) {
            Ok(reply) if reply.is_ok() => return Some(since.elapsed()),
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => client = Client::connect(port).expect("the successor answers"),
        }
    }
    None
}

/// Kills the masters and waits for all successors; `None` when one does not take over.
fn round(cluster: &mut ClusterUnderTest, victims: &[(usize, usize)]) -> Option<Duration> {
    for &(master, replica) in victims {
        cluster.wait_caught_up(master, replica);
    }
    let keys: Vec<(u16, String)> = victims
        .iter()
        .map(|&(master, replica)| (cluster.nodes[replica].port, cluster.key_served_by(master, "failover")))
        .collect();
    let since = Instant::now();
    victims.iter().for_each(|&(master, _)| cluster.nodes[master].signal(libc::SIGKILL));
    let times: Vec<Option<Duration>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            keys.iter().map(|(port, key)| scope.spawn(move || until_it_writes(*port, key, since))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    victims.iter().for_each(|&(master, _)| cluster.kill9(master));
    cluster.restart_all();
    cluster.wait_until_whole();
    times.into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[test]
fn a_successor_acknowledges_writes_soon_after_the_node_timeout() {
    let rounds = number("HOLDFAST_TEST_ROUNDS", 1);
    let name = peer().unwrap_or_else(|| "holdfast".to_owned());
    let mut cluster = ClusterUnderTest::formed(PLACE, &name, &[]);
    let mut table = format!(
        "| {name}, {rounds} rounds, cluster-node-timeout {} ms | median | smallest | largest | none within {PATIENCE:?} |\n\
         |---|---|---|---|---|\n",
        NODE_TIMEOUT.as_millis()
    );
    for case in [Case::OrdinaryMaster, Case::MasterThatLeadsTheMetadataGroup, Case::TwoMastersAtOnce] {
        let (mut times, mut missing) = (Vec::new(), 0);
        for _ in 0..rounds {
            let Some(victims) = choose(&cluster, case) else { break };
            match round(&mut cluster, &victims) {
                Some(time) => times.push(time.as_millis() as i64 - NODE_TIMEOUT.as_millis() as i64),
                None => missing += 1,
            }
            println!("{case:?}: {:?} ms after the timeout", times.last());
            if missing > 1 && times.is_empty() {
                break;
            }
        }
        times.sort_unstable();
        if peer().is_none() {
            assert_eq!(missing, 0, "{case:?}: a shard stays without a master\n{}", cluster.logs());
        }
        table.push_str(&match times[..] {
            [] => format!("| {case:?} | | | | {missing} |\n"),
            [first, ..] => {
                let last = times[times.len() - 1];
                let median = (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2;
                format!("| {case:?} | {median} ms | {first} ms | {last} ms | {missing} |\n")
            }
        });
    }
    println!(
        "Time from kill -9 to the first write that the successor acknowledges, less the timeout:\n\n{table}"
    );
}
