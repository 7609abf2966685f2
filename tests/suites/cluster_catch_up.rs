//! Acceptance 4 of the second issue: replicas that fell behind. One away for a while goes on where it was; one away past the
//! log's retention takes a full copy; both end with their master's digest.

use holdfast_tests::client::Reply;
use holdfast_tests::cluster::{ClusterUnderTest, NODE_TIMEOUT, PATIENCE, Place, peer};
use holdfast_tests::cluster_view::info_number;
use holdfast_tests::load::Load;
use holdfast_tests::mixed_keys::{connect, write};
use holdfast_tests::router::Router;
use holdfast_tests::shared_cluster::SharedCluster;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_catch_up",
};
/// A log that is soon cut off below.
const SMALL_LOG: &[&str] =
    &["--wal-segment-size", "1mb", "--wal-retain-size", "2mb", "--checkpoint-log-size", "1mb"];
static CLUSTER: SharedCluster = SharedCluster::new(PLACE, SMALL_LOG);

/// `(full, partial)` catch-ups that a master has served.
fn served(cluster: &ClusterUnderTest, master: usize) -> (u64, u64) {
    let number = |name: &str| info_number(cluster.nodes[master].port, name).expect("the master answers");
    (number("sync_full"), number("sync_partial_ok"))
}

/// Writes values of 16 KiB, in all `mib`, to 16 slots of a master.
fn write_mib(cluster: &ClusterUnderTest, master: usize, prefix: &str, mib: usize) {
    let mut client = cluster.client(master);
    let mut dice = fastrand::Rng::with_seed(mib as u64);
    let tags: Vec<String> =
        (0..16).map(|number| cluster.key_served_by(master, &format!("{prefix}{number}"))).collect();
    for number in 0..mib * 64 {
        let value: Vec<u8> = (0..16 << 10).map(|_| dice.u8(..)).collect();
        let key = format!("{}:{}", tags[number % 16], number % 400);
        let reply = client.call(&[b"SET".as_slice(), key.as_bytes(), &value]);
        assert!(reply.is_ok(), "{reply}");
    }
}

/// How far a master's log goes.
fn log_end(cluster: &ClusterUnderTest, master: usize) -> u64 {
    info_number(cluster.nodes[master].port, "master_repl_offset").expect("the master answers")
}

/// Writes until the master's log no longer reaches back to `end`.
fn write_past(cluster: &ClusterUnderTest, master: usize, prefix: &str, end: u64) {
    write_mib(cluster, master, prefix, 16);
    cluster.wait_until("the log to be cut off below", PATIENCE, || {
        let first = info_number(cluster.nodes[master].port, "repl_backlog_first_byte_offset");
        (!first.as_ref().is_ok_and(|&first| first > end))
            .then(|| format!("it begins at {first:?}, not past {end}"))
    });
}

fn assert_equal_digests(cluster: &ClusterUnderTest) {
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
}

#[test]
fn a_replica_paused_under_writes_catches_up_without_a_full_copy() {
    let cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[0];
    let (full, _) = served(&cluster, master);
    let load = Load::start(&cluster.ports(), 3, "paused");
    load.wait_for_more(300);
    cluster.pause(replica);
    std::thread::sleep(NODE_TIMEOUT / 2);
    load.wait_for_more(300);
    cluster.resume(replica);
    load.wait_for_more(300);
    let written = load.stop();
    assert!(written.errors.is_empty() && written.failures == 0, "{written:#?}");
    assert_equal_digests(&cluster);
    assert_eq!(served(&cluster, master).0, full, "full copies\n{}", cluster.logs());
}

#[test]
fn a_replica_paused_past_the_node_timeout_is_failed_and_catches_up_without_a_full_copy() {
    let cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[1];
    let (full, _) = served(&cluster, master);
    cluster.pause(replica);
    let id = cluster.ask(master, &["CLUSTER", "NODES"]).text();
    let id = id
        .lines()
        .find(|line| line.contains(&format!(":{}@", cluster.nodes[replica].port)))
        .and_then(|line| line.split(' ').next())
        .expect("the master knows its replica");
    cluster.wait_until("the paused replica to be failed", PATIENCE, || {
        let text = cluster.ask(master, &["CLUSTER", "NODES"]).text();
        let line = text.lines().find(|line| line.starts_with(id)).unwrap_or_default().to_owned();
        let flags = line.split(' ').nth(2).unwrap_or_default();
        (!flags.split(',').any(|flag| flag == "fail")).then_some(line)
    });
    write_mib(&cluster, master, "failed", 1);
    cluster.resume(replica);
    assert_equal_digests(&cluster);
    assert_eq!(served(&cluster, master).0, full, "full copies\n{}", cluster.logs());
}

#[test]
fn a_replica_killed_and_started_again_within_retention_goes_on_from_its_log() {
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[2];
    let (full, partial) = served(&cluster, master);
    write_mib(&cluster, master, "before the kill", 1);
    cluster.wait_caught_up(master, replica);
    cluster.kill9(replica);
    write_mib(&cluster, master, "within", 1);
    cluster.restart(replica);
    assert_equal_digests(&cluster);
    if peer().is_none() {
        let (full_after, partial_after) = served(&cluster, master);
        assert_eq!(full_after, full, "full copies\n{}", cluster.logs());
        assert!(partial_after > partial, "no partial catch-up is counted\n{}", cluster.logs());
    }
}

#[test]
fn a_replica_away_past_retention_takes_a_full_copy() {
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[0];
    let (full, _) = served(&cluster, master);
    // Keys that the copy must remove on the replica, too.
    let doomed = cluster.key_served_by(master, "doomed");
    assert!(cluster.ask(master, &["SET", &doomed, "v"]).is_ok());
    cluster.wait_caught_up(master, replica);
    cluster.stop(replica);
    let end = log_end(&cluster, master);
    assert_eq!(cluster.ask(master, &["DEL", &doomed]).integer(), 1);
    write_past(&cluster, master, "past", end);
    cluster.restart(replica);
    assert_equal_digests(&cluster);
    assert!(served(&cluster, master).0 > full, "no full copy is counted\n{}", cluster.logs());
}

#[test]
fn a_full_copy_under_concurrent_writes_ends_with_equal_digests() {
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[1];
    let (full, _) = served(&cluster, master);
    write(&mut connect(&cluster.addresses()), "copied", 0..5000);
    cluster.kill9(replica);
    let end = log_end(&cluster, master);
    write_past(&cluster, master, "concurrent", end);
    let load = Load::start(&cluster.ports()[..1], 3, "during the copy");
    load.wait_for_more(100);
    cluster.restart(replica);
    cluster.wait_until_whole();
    load.wait_for_more(500);
    let written = load.stop();
    assert!(written.errors.is_empty(), "{written:#?}");
    assert_equal_digests(&cluster);
    assert!(served(&cluster, master).0 > full, "no full copy is counted\n{}", cluster.logs());
    let lost = written.lost(&cluster.ports());
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn a_full_copy_brings_values_larger_than_a_segment_and_large_collections() {
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[2];
    let (full, _) = served(&cluster, master);
    let tag = cluster.key_served_by(master, "large");
    cluster.stop(replica);
    let end = log_end(&cluster, master);
    let mut client = cluster.client(master);
    let value = vec![b'x'; 20 << 20];
    assert!(client.call(&[b"SET".as_slice(), format!("{tag}value").as_bytes(), &value]).is_ok());
    for chunk in 0..30 {
        let (mut zset, mut hash) =
            (vec!["ZADD".to_owned(), format!("{tag}zset")], vec!["HSET".to_owned(), format!("{tag}hash")]);
        for number in 0..5000 {
            zset.extend([format!("{number}.5"), format!("member {chunk} {number}")]);
            hash.extend([format!("field {chunk} {number}"), format!("value {number}")]);
        }
        assert_eq!(client.call(&zset).integer(), 5000);
        assert_eq!(client.call(&hash).integer(), 5000);
    }
    write_past(&cluster, master, "after the large ones", end);
    cluster.restart(replica);
    assert_equal_digests(&cluster);
    assert!(served(&cluster, master).0 > full, "no full copy is counted\n{}", cluster.logs());
    // What was copied survives the replica's own restart, and a restart of the master.
    cluster.kill9(replica);
    cluster.kill9(master);
    cluster.restart_all();
    assert_equal_digests(&cluster);
    let mut router = Router::new(&cluster.ports());
    let length = router.call(&["STRLEN", &format!("{tag}value")]).expect("the cluster answers");
    assert_eq!(length, Reply::Integer(20 << 20));
}
