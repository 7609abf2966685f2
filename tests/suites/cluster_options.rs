//! Options that say what an acknowledged write is worth, set at run time in a cluster of six real processes.

use std::time::Duration;

use holdfast_tests::client::Client;
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place};
use holdfast_tests::cluster_view;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_options",
};
/// A reply that has not come by then is held.
const HELD: Duration = Duration::from_millis(700);

fn set_write_ack(cluster: &ClusterUnderTest, node: usize, value: &str) {
    let reply = cluster.ask(node, &["CONFIG", "SET", "write-ack", value]);
    assert!(reply.is_ok(), "{reply}");
}

fn good_replicas(cluster: &ClusterUnderTest, node: usize) -> Option<String> {
    cluster_view::info(cluster.nodes[node].address(), "min_slaves_good_slaves").ok().flatten()
}

fn assert_held(client: &mut Client, what: &str) {
    client.set_patience(HELD);
    let reply = client.read();
    assert!(reply.is_err(), "{what}: {reply:?}");
    client.set_patience(PATIENCE);
}

#[test]
fn write_ack_set_at_run_time_holds_for_what_comes_after_and_weakens_nothing_that_waits() {
    let patient = ["--replica-lag-max", "600000"];
    let cluster = ClusterUnderTest::formed(PLACE, "write_ack", &patient);
    let master = cluster.master_of_slot(0, 0);
    let replica = cluster.replica_of(master, master);
    let key = cluster.key_served_by(master, "write_ack");
    cluster.wait_caught_up(master, replica);
    let (mut early, mut late) = (cluster.client(master), cluster.client(master));
    cluster.pause(replica);
    early.send(&["SET", &key, "in-sync"]).unwrap();
    assert_held(&mut early, "the replica does not have it");
    set_write_ack(&cluster, master, "local");
    assert_held(&mut early, "it began as in-sync");
    late.send(&["APPEND", &key, "-and-more"]).unwrap();
    assert_held(&mut late, "it shows what is not acknowledged yet");
    cluster.resume(replica);
    assert!(early.read().unwrap().is_ok());
    assert_eq!(late.read().unwrap().integer(), 16);
    cluster.wait_caught_up(master, replica);
    cluster.pause(replica);
    assert!(cluster.ask(master, &["SET", &key, "local"]).is_ok(), "this node's word is enough");
    set_write_ack(&cluster, master, "in-sync");
    early.send(&["SET", &key, "in-sync again"]).unwrap();
    assert_held(&mut early, "in-sync holds when CONFIG SET is answered");
    cluster.resume(replica);
    assert!(early.read().unwrap().is_ok());
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
}

#[test]
fn a_master_with_too_few_replicas_in_sync_refuses_writes_until_they_are_back() {
    let cluster = ClusterUnderTest::formed(PLACE, "min_replicas", &["--replica-lag-max", "3000"]);
    let master = cluster.master_of_slot(0, 0);
    let replica = cluster.replica_of(master, master);
    let key = cluster.key_served_by(master, "min_replicas");
    let set = |value: &str| cluster.ask(master, &["SET", &key, value]);
    let has = |good: &str| {
        let now = good_replicas(&cluster, master);
        (now.as_deref() != Some(good)).then(|| format!("min_slaves_good_slaves: {now:?}"))
    };
    assert_eq!(good_replicas(&cluster, master), None, "nobody asked for any");
    // So long that the replica stays good by this and is bad by the in-sync set alone.
    let options = ["CONFIG", "SET", "min-replicas-to-write", "1", "min-replicas-max-lag", "86400"];
    assert!(cluster.ask(master, &options).is_ok());
    cluster.wait_until("the replica to be in sync", PATIENCE, || has("1"));
    assert!(set("with it").is_ok());
    cluster.pause(replica);
    assert!(set("it leaves the set meanwhile").is_ok(), "its word came late, not its refusal");
    cluster.wait_until("the replica to be out of sync", PATIENCE, || has("0"));
    let refused = set("without it").to_string();
    assert!(refused.contains("NOREPLICAS Not enough good replicas to write."), "{refused}");
    assert_eq!(cluster.ask(master, &["GET", &key]).text(), "it leaves the set meanwhile");
    cluster.resume(replica);
    cluster.wait_until("the replica to be in sync again", PATIENCE, || has("1"));
    assert!(set("with it again").is_ok());
    assert!(cluster.ask(master, &["CONFIG", "SET", "min-replicas-to-write", "2"]).is_ok());
    assert!(set("one is not two").to_string().contains("NOREPLICAS"));
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
}
