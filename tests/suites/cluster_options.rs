//! Options that say what an acknowledged write is worth, set at run time in a cluster of six real processes.

use std::time::Duration;

use holdfast_tests::client::Client;
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place};

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
