//! `cluster-rebalance-masters` with six real processes on what they take for three machines.

use std::time::Instant;

use holdfast_tests::cluster::{ClusterUnderTest, NODE_TIMEOUT, PATIENCE, Place};
use holdfast_tests::load::Load;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_rebalance",
};

fn set_rebalance(cluster: &ClusterUnderTest, value: &str) {
    for node in cluster.running() {
        let reply = cluster.ask(node, &["CONFIG", "SET", "cluster-rebalance-masters", value]);
        assert!(reply.is_ok(), "{reply}");
    }
}

#[test]
fn a_killed_master_that_returns_leads_again_and_nothing_acknowledged_is_lost() {
    let (mut cluster, shards) = ClusterUnderTest::on_three_machines(PLACE, "three_machines", &[]);
    let (master, replica) = shards[0];
    let load = Load::start(&cluster.ports(), 4, "rebalance");
    load.wait_for_more(500);
    cluster.kill9(master);
    cluster.wait_until_promoted(replica);
    load.wait_for_more(500);
    // Before it is back, so that there is time for what follows; once more, since the one that starts says what its file says.
    set_rebalance(&cluster, "no");
    cluster.restart(master);
    set_rebalance(&cluster, "no");
    cluster.wait_until_whole();
    std::thread::sleep(5 * NODE_TIMEOUT);
    assert!(cluster.is_master(replica) && !cluster.is_master(master), "switched off\n{}", cluster.logs());
    set_rebalance(&cluster, "yes");
    let back = Instant::now();
    cluster.wait_until("the returned master to lead again", PATIENCE, || {
        (!cluster.is_master(master)).then(|| "it does not".into())
    });
    let took = back.elapsed();
    println!("leads again {took:?} after it was switched on; node timeout {NODE_TIMEOUT:?}");
    cluster.wait_until_whole();
    load.wait_for_more(500);
    // On a busy machine another one may have been held for dead meanwhile: it returns in the same way.
    cluster.wait_until("every master to lead its shard", PATIENCE, || {
        let is_back =
            |(master, replica): &&(usize, usize)| cluster.is_master(*master) && !cluster.is_master(*replica);
        shards.iter().find(|shard| !is_back(shard)).map(|shard| format!("{shard:?}"))
    });
    let written = load.stop();
    // Between FAIL and the takeover.
    let unexpected = written.errors.keys().find(|error| !error.contains("CLUSTERDOWN"));
    assert_eq!(unexpected, None, "{:#?}", written.errors);
    let lost = written.lost(&cluster.ports());
    assert!(lost.is_empty(), "of {} acknowledged writes: {lost:#?}", written.count);
    cluster.assert_equal_digests();
    cluster.assert_no_errors_logged();
}
