//! What a replica holds is what its master did: effects of random and floating-point commands, expiry, transactions as a whole,
//! large values, FLUSHALL, and what WAIT counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_tests::client::{Client, Reply};
use holdfast_tests::cluster::{ClusterUnderTest, Place};
use holdfast_tests::model::random_command;
use holdfast_tests::shared_cluster::SharedCluster;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_replication",
};
static CLUSTER: SharedCluster = SharedCluster::new(PLACE, &["--wal-segment-size", "8mb"]);

/// A master, its replica, and a hash tag of theirs.
fn shard(cluster: &ClusterUnderTest, prefix: &str) -> (usize, usize, String) {
    let (master, replica) = cluster.shards(0)[0];
    (master, replica, cluster.key_served_by(master, prefix))
}

fn reader(cluster: &ClusterUnderTest, replica: usize) -> Client {
    let mut client = cluster.client(replica);
    assert!(client.call(&["READONLY"]).is_ok());
    client
}

fn assert_equal(cluster: &ClusterUnderTest, master: usize, replica: usize) {
    cluster.wait_caught_up(master, replica);
    assert_eq!(cluster.digest(master), cluster.digest(replica));
}

#[test]
fn commands_with_random_or_inexact_outcomes_end_the_same_on_the_replica() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "random");
    let mut client = cluster.client(master);
    let mut dice = fastrand::Rng::with_seed(5);
    for round in 0..3000 {
        let words = random_command(&mut dice, &tag);
        let reply = client.call(&words);
        assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply}");
        if round % 3 == 0 {
            let number = dice.u32(..6);
            let extra: Vec<String> = match dice.u32(..12) {
                0 => vec!["SPOP".into(), format!("{tag}S{number}"), "2".into()],
                1 => vec!["INCRBYFLOAT".into(), format!("{tag}float{number}"), "0.1".into()],
                2 => vec!["HINCRBYFLOAT".into(), format!("{tag}floats{number}"), "f".into(), "1e-3".into()],
                3 => vec!["EXPIRE".into(), format!("{tag}h{number}"), "10000".into()],
                4 => vec!["SET".into(), format!("{tag}s{number}"), "v".into(), "EX".into(), "10000".into()],
                5 => vec!["ZPOPMIN".into(), format!("{tag}z{number}"), "2".into()],
                6 => vec![
                    "LMOVE".into(),
                    format!("{tag}l{number}"),
                    format!("{tag}l{}", number + 1),
                    "LEFT".into(),
                    "RIGHT".into(),
                ],
                7 => vec![
                    "COPY".into(),
                    format!("{tag}z{number}"),
                    format!("{tag}copy{number}"),
                    "REPLACE".into(),
                ],
                8 => vec!["GETEX".into(), format!("{tag}s{number}"), "PX".into(), "9999999".into()],
                9 => vec!["PERSIST".into(), format!("{tag}s{number}")],
                10 => vec![
                    "SUNIONSTORE".into(),
                    format!("{tag}union"),
                    format!("{tag}S{number}"),
                    format!("{tag}S{}", number + 1),
                ],
                _ => vec![
                    "ZUNIONSTORE".into(),
                    format!("{tag}zunion"),
                    "2".into(),
                    format!("{tag}z{number}"),
                    format!("{tag}z{}", number + 1),
                    "WEIGHTS".into(),
                    "0.3".into(),
                    "1.7".into(),
                ],
            };
            let reply = client.call(&extra);
            assert!(!matches!(reply, Reply::Error(_)), "{extra:?}: {reply}");
        }
        if round % 1000 == 999 {
            assert_equal(&cluster, master, replica);
        }
    }
}

#[test]
fn a_replica_hides_what_has_expired_and_keeps_the_times_of_the_rest() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "expiry");
    let mut client = cluster.client(master);
    assert!(client.call(&["SET", &tag, "v", "PX", "300"]).is_ok());
    let long = format!("{tag}long");
    assert!(client.call(&["SET", &long, "v", "EX", "1000"]).is_ok());
    cluster.wait_caught_up(master, replica);
    let mut reader = reader(&cluster, replica);
    let left = reader.call(&["PTTL", &long]).integer();
    assert!((900_000..=1_000_000).contains(&left), "{left}");
    // The master cannot say that the key is gone: the replica sees it by the clock.
    cluster.pause(master);
    std::thread::sleep(Duration::from_millis(400));
    let (found, exists) = (reader.call(&["GET", &tag]), reader.call(&["EXISTS", &tag]));
    cluster.resume(master);
    assert_eq!((found, exists), (Reply::Null, Reply::Integer(0)));
    // On access the master removes it, and the replica then, too.
    assert_eq!(client.call(&["GET", &tag]), Reply::Null);
    assert_equal(&cluster, master, replica);
}

#[test]
fn readers_of_a_replica_see_transactions_as_a_whole() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "whole");
    let (one, two) = (format!("{tag}1"), format!("{tag}2"));
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reader = reader(&cluster, replica);
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let values = reader.call(&["MGET", &one, &two]).array();
                assert_eq!(values[0], values[1], "half of a transaction");
                seen.insert(values[0].to_string());
            }
            seen.len()
        });
        let mut client = cluster.client(master);
        for _ in 0..3000 {
            client.call(&["MULTI"]);
            client.call(&["INCR", &one]);
            client.call(&["INCR", &two]);
            assert_eq!(client.call(&["EXEC"]).array().len(), 2);
        }
        stop.store(true, Ordering::Relaxed);
        reading.join().expect("the reader")
    });
    assert!(seen > 10, "the reader saw only {seen} states: it did not run beside the writer");
    assert_equal(&cluster, master, replica);
}

#[test]
fn large_values_and_large_collections_reach_the_replica() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "large");
    let mut client = cluster.client(master);
    let value = vec![b'x'; 48 << 20];
    assert!(client.call(&[b"SET".as_slice(), format!("{tag}value").as_bytes(), &value]).is_ok());
    for chunk in 0..30 {
        let mut words = vec!["ZADD".to_owned(), format!("{tag}zset")];
        for number in 0..5000 {
            words.extend([format!("{number}.5"), format!("member {chunk} {number}")]);
        }
        assert_eq!(client.call(&words).integer(), 5000);
    }
    assert_equal(&cluster, master, replica);
    let mut reader = reader(&cluster, replica);
    assert_eq!(reader.call(&["STRLEN", &format!("{tag}value")]), Reply::Integer(48 << 20));
    assert_eq!(reader.call(&["ZCARD", &format!("{tag}zset")]), Reply::Integer(150_000));
    assert_eq!(client.call(&["DEL", &format!("{tag}value"), &format!("{tag}zset")]).integer(), 2);
}

#[test]
fn flushall_empties_the_replica_too() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "flushed");
    let mut client = cluster.client(master);
    assert!(client.call(&["SET", &tag, "v"]).is_ok());
    cluster.wait_caught_up(master, replica);
    assert!(cluster.ask(replica, &["DBSIZE"]).integer() > 0);
    assert!(client.call(&["FLUSHALL"]).is_ok());
    cluster.wait_caught_up(master, replica);
    assert_eq!(cluster.ask(replica, &["DBSIZE"]), Reply::Integer(0));
    assert!(client.call(&["SET", &tag, "again"]).is_ok());
    assert_equal(&cluster, master, replica);
}

#[test]
fn wait_counts_replicas_that_have_the_write_and_gives_up_in_time() {
    let cluster = CLUSTER.lend();
    let (master, replica, tag) = shard(&cluster, "wait");
    let mut client = cluster.client(master);
    assert!(client.call(&["SET", &tag, "1"]).is_ok());
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Reply::Integer(1));
    cluster.pause(replica);
    let set = client.call(&["SET", &tag, "2"]);
    let waited = client.call(&["WAIT", "1", "300"]);
    cluster.resume(replica);
    assert!(set.is_ok());
    assert_eq!(waited, Reply::Integer(0), "a paused replica has nothing");
    assert_eq!(client.call(&["WAIT", "1", "10000"]), Reply::Integer(1));
}
