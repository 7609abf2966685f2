//! `unclean-failover`: what happens to a shard of whose in-sync set nobody is left, in a cluster of six real processes.

use std::time::Duration;

use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place};
use holdfast_tests::cluster_view;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "unclean_failover",
};
/// A process under load is slow.
const LONG: Duration = Duration::from_secs(90);

/// A cluster, and of one shard the master, alone in sync, and the replica, which lacks the last acknowledged write of the key.
struct Stale {
    cluster: ClusterUnderTest,
    master: usize,
    replica: usize,
    key: String,
}

fn info(cluster: &ClusterUnderTest, index: usize, name: &str) -> String {
    let text = cluster.ask(index, &["INFO", "replication"]).text();
    cluster_view::field(&text, name).unwrap_or_default().to_owned()
}

/// The master's own setting is the shard's; every other node says the contrary.
fn stale(name: &str, allowed: &str, contrary: &str) -> Stale {
    let mut cluster = ClusterUnderTest::formed(PLACE, name, &[]);
    let master = cluster.master_of_slot(0, 0);
    let replica = cluster.replica_of(master, master);
    let key = cluster.key_served_by(master, "unclean");
    for index in 0..6 {
        let value = if index == master { allowed } else { contrary };
        assert!(cluster.ask(index, &["CONFIG", "SET", "unclean-failover", value]).is_ok());
    }
    cluster.wait_until("the shard to have its master's rule", LONG, || {
        let said = info(&cluster, replica, "unclean_failover");
        (said != allowed).then_some(said)
    });
    assert!(cluster.ask(master, &["SET", &key, "old"]).is_ok());
    cluster.wait_caught_up(master, replica);
    cluster.kill9(replica);
    let mut client = cluster.client(master);
    client.set_patience(PATIENCE);
    // Acknowledged when the replica is out of the set and the write on this node's disk.
    assert!(client.call(&["SET", &key, "new"]).is_ok());
    cluster.kill9(master);
    cluster.restart(replica);
    Stale { cluster, master, replica, key }
}

#[test]
fn without_unclean_failover_the_shard_stays_down_until_who_was_in_sync_returns_and_nothing_is_lost() {
    let Stale { mut cluster, master, replica, key } = stale("no", "no", "yes");
    let began = |log: &str| log.matches("An election for shard").count();
    cluster.wait_until("an election to be under way", LONG, || {
        (began(&cluster.nodes[replica].log()) == 0).then(|| "none".into())
    });
    // A forced failover of another shard, begun later and won, shows that elections are decided meanwhile.
    let (_, heir) =
        cluster.shards(replica).into_iter().find(|(other, _)| *other != master).expect("another shard");
    assert!(cluster.ask(heir, &["CLUSTER", "FAILOVER", "FORCE"]).is_ok());
    cluster.wait_until("the other shard's replica to take over", LONG, || {
        (!cluster.is_master(heir)).then(|| "not yet".into())
    });
    assert!(!cluster.is_master(replica), "one out of sync was promoted\n{}", cluster.logs());
    assert_eq!(info(&cluster, replica, "last_unclean_failover_epoch"), "0");
    let refused = cluster.ask(replica, &["SET", &key, "lost"]);
    assert!(refused.is_error_code("CLUSTERDOWN") || refused.is_error_code("MOVED"), "{refused}");
    cluster.restart(master);
    cluster.wait_until_whole();
    assert!(cluster.is_master(master));
    assert_eq!(cluster.ask(master, &["GET", &key]).text(), "new");
    cluster.assert_equal_digests();
}

#[test]
fn with_unclean_failover_the_stale_replica_takes_over_and_says_so() {
    let Stale { mut cluster, master, replica, key } = stale("yes", "yes", "no");
    cluster.wait_until("the stale replica to take over", LONG, || {
        (!cluster.is_master(replica)).then(|| "not yet".into())
    });
    cluster.wait_until_promoted(replica);
    assert_eq!(
        cluster.ask(replica, &["GET", &key]).text(),
        "old",
        "the last write is lost, as was asked for"
    );
    assert_ne!(info(&cluster, replica, "last_unclean_failover_epoch"), "0");
    for index in cluster.running() {
        let log = cluster.nodes[index].log();
        let said = log.lines().any(|line| line.contains("WARN") && line.contains("UNCLEAN FAILOVER"));
        assert!(said, "node {index} does not say so:\n{log}");
    }
    assert!(cluster.ask(replica, &["SET", &key, "newer"]).is_ok());
    cluster.restart(master);
    cluster.wait_until_whole();
    assert!(!cluster.is_master(master));
    cluster.wait_replicas_caught_up();
    cluster.assert_equal_digests();
    assert_eq!(cluster.ask(replica, &["GET", &key]).text(), "newer");
}
