//! Acceptance 1 of the second issue: masters die and replicas take over, in a cluster of six real processes. One cluster for all
//! tests, lent to one at a time. `HOLDFAST_TEST_KEYS=100000` writes as many keys as the acceptance by hand.

use std::time::{Duration, Instant};

use holdfast_tests::client::Reply;
use holdfast_tests::cluster::{ClusterUnderTest, NODE_TIMEOUT, PATIENCE, Place, peer, slot_of};
use holdfast_tests::cluster_view;
use holdfast_tests::load::Load;
use holdfast_tests::lost_tail::lose;
use holdfast_tests::mixed_keys::{assert_all_there, connect, write};
use holdfast_tests::router::{Router, redirection};
use holdfast_tests::shared_cluster::SharedCluster;
use holdfast_words::Lsn;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_failover",
};
static CLUSTER: SharedCluster = SharedCluster::new(PLACE, &["--wal-segment-size", "8mb"]);

/// A machine under load is slow; what is measured is printed, and only what cannot be slowness fails.
const SLACK: Duration = Duration::from_secs(20);

fn key_count() -> u64 {
    std::env::var("HOLDFAST_TEST_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn wait_until_role(cluster: &ClusterUnderTest, index: usize, master: bool) {
    let what = format!("node {index} to be {}", if master { "a master" } else { "a replica" });
    cluster.wait_until(&what, PATIENCE, || (cluster.is_master(index) != master).then(|| "not yet".into()));
}

/// Writes to a replica until it serves; every answer before is a redirection or CLUSTERDOWN.
fn wait_until_serves(cluster: &ClusterUnderTest, replica: usize, key: &str, since: Instant) -> Duration {
    let mut client = cluster.client(replica);
    loop {
        let reply = client.call(&["SET", key, "after"]);
        if reply.is_ok() {
            return since.elapsed();
        }
        let expected = matches!(&reply, Reply::Error(text) if redirection(text).is_some())
            || reply.is_error_code("CLUSTERDOWN");
        assert!(expected, "{reply}");
        let waited = since.elapsed();
        assert!(waited < NODE_TIMEOUT + SLACK, "no failover within {waited:?}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_replica_of_a_killed_master_serves_every_key_and_the_master_returns_as_its_replica() {
    let mut cluster = CLUSTER.lend();
    let count = key_count();
    let mut connection = connect(&cluster.addresses());
    let started = Instant::now();
    write(&mut connection, "killed", 0..count);
    println!("{count} mixed keys written in {:?}", started.elapsed());
    cluster.wait_replicas_caught_up();
    let (master, replica) = cluster.shards(0)[0];
    let key = cluster.key_served_by(master, "probe");
    cluster.kill9(master);
    let took = wait_until_serves(&cluster, replica, &key, Instant::now());
    println!(
        "kill -9 of a master: its replica serves after {took:?}; node timeout {NODE_TIMEOUT:?}, allowed {:?}",
        NODE_TIMEOUT + Duration::from_secs(2)
    );
    cluster.wait_until_promoted(replica);
    let mut connection = connect(&cluster.addresses());
    assert_all_there(&mut connection, "killed", 0..count);
    write(&mut connection, "while away", 0..1000);
    cluster.restart(master);
    cluster.wait_until_whole();
    assert!(!cluster.is_master(master) && cluster.is_master(replica), "{}", cluster.logs());
    assert_eq!(cluster.replica_of(replica, replica), master);
    cluster.assert_equal_digests();
    assert_all_there(&mut connection, "while away", 0..1000);
}

#[test]
fn a_master_that_is_stopped_hands_over_first_and_no_write_fails() {
    let mut cluster = CLUSTER.lend();
    let load = Load::start(&cluster.ports(), 4, "stopped");
    load.wait_for_more(1000);
    let (master, replica) = cluster.shards(0)[0];
    let stopping = Instant::now();
    cluster.stop(master);
    println!("a master stopped within {:?}", stopping.elapsed());
    assert!(cluster.is_master(replica), "it took over before the stop ended\n{}", cluster.logs());
    load.wait_for_more(1000);
    cluster.restart(master);
    cluster.wait_until_whole();
    let written = load.stop();
    println!("the longest wait of a writer was {:?}", written.longest_gap);
    assert_eq!((&written.errors, written.failures), (&Default::default(), 0));
    assert_eq!(written.lost(&cluster.ports()), Vec::<String>::new());
    cluster.assert_equal_digests();
}

#[test]
fn every_acknowledged_write_is_there_after_all_six_are_killed_at_once() {
    let mut cluster = CLUSTER.lend();
    let count = key_count();
    write(&mut connect(&cluster.addresses()), "all", 0..count);
    let load = Load::start(&cluster.ports(), 4, "in flight");
    load.wait_for_more(2000);
    cluster.kill9_all();
    let written = load.stop();
    let started = Instant::now();
    cluster.restart_all();
    cluster.wait_until_whole();
    println!("kill -9 of all six with {count} keys: whole again {:?} after their start", started.elapsed());
    assert_all_there(&mut connect(&cluster.addresses()), "all", 0..count);
    let lost = written.lost(&cluster.ports());
    assert!(lost.is_empty(), "of {} acknowledged writes in flight: {lost:#?}", written.count);
    assert!(written.errors.is_empty(), "{:#?}", written.errors);
    cluster.assert_equal_digests();
}

#[test]
fn a_handover_under_load_loses_no_acknowledged_write_and_shows_only_redirections() {
    let cluster = CLUSTER.lend();
    let load = Load::start(&cluster.ports(), 8, "handover");
    load.wait_for_more(500);
    for round in 0..9 {
        let (master, replica) = cluster.shards(0)[round % 3];
        assert!(cluster.ask(replica, &["CLUSTER", "FAILOVER"]).is_ok());
        wait_until_role(&cluster, replica, true);
        wait_until_role(&cluster, master, false);
        cluster.wait_until_whole();
        load.wait_for_more(500);
    }
    let written = load.stop();
    println!(
        "9 handovers under {} acknowledged writes: longest pause of a writer {:?}, most redirections of a write {}",
        written.count, written.longest_gap, written.longest_chain
    );
    assert!(
        written.errors.is_empty() && written.failures == 0,
        "{:#?}, {}",
        written.errors,
        written.failures
    );
    // From a node that has nothing to do with it, from the old master: the new one keeps whom it cannot serve yet.
    assert!(
        written.longest_chain <= 3,
        "a write was sent to and fro: {} redirections",
        written.longest_chain
    );
    let lost = written.lost(&cluster.ports());
    assert!(lost.is_empty(), "of {} acknowledged writes: {lost:#?}", written.count);
    cluster.assert_equal_digests();
}

#[test]
fn failover_force_and_takeover_promote_the_replica_of_a_silent_master() {
    let cluster = CLUSTER.lend();
    for mode in ["FORCE", "TAKEOVER"] {
        let (master, replica) = cluster.shards(0)[1];
        let key = cluster.key_served_by(master, mode);
        assert!(cluster.ask(master, &["SET", &key, "before"]).is_ok());
        cluster.wait_caught_up(master, replica);
        cluster.pause(master);
        let asked = Instant::now();
        let reply = cluster.ask(replica, &["CLUSTER", "FAILOVER", mode]);
        assert!(reply.is_ok(), "{mode}: {reply}");
        let mut client = cluster.client(replica);
        cluster.wait_until(&format!("the replica to serve after {mode}"), PATIENCE, || {
            let reply = client.call(&["GET", &key]);
            (reply != Reply::Bulk(b"before".to_vec())).then(|| reply.to_string())
        });
        println!("CLUSTER FAILOVER {mode}: the replica serves after {:?}", asked.elapsed());
        cluster.resume(master);
        wait_until_role(&cluster, master, false);
        cluster.wait_until_whole();
    }
    cluster.assert_equal_digests();
}

#[test]
fn without_a_majority_the_rest_says_clusterdown_and_all_is_served_when_it_is_back() {
    let mut cluster = CLUSTER.lend();
    let mut connection = connect(&cluster.addresses());
    write(&mut connection, "majority", 0..1000);
    cluster.wait_replicas_caught_up();
    let shards = cluster.shards(0);
    let (survivor, _) = shards[2];
    let key = cluster.key_served_by(survivor, "alone");
    for (master, replica) in &shards[..2] {
        cluster.kill9(*master);
        cluster.kill9(*replica);
    }
    let mut client = cluster.client(survivor);
    cluster.wait_until("the lone master to refuse", PATIENCE, || {
        let reply = client.call(&["SET", &key, "v"]);
        (!reply.is_error_code("CLUSTERDOWN")).then(|| reply.to_string())
    });
    let info = client.call(&["CLUSTER", "INFO"]).text();
    assert!(info.contains("cluster_state:fail"), "{info}");
    cluster.restart_all();
    cluster.wait_until_whole();
    assert!(
        Router::new(&cluster.ports()).call(&["SET", &key, "again"]).expect("the cluster answers").is_ok()
    );
    assert_all_there(&mut connect(&cluster.addresses()), "majority", 0..1000);
}

#[test]
fn a_replica_serves_reads_after_readonly_and_redirects_without_it() {
    let cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[0];
    let key = cluster.key_served_by(master, "readonly");
    assert!(cluster.ask(master, &["SET", &key, "value"]).is_ok());
    cluster.wait_caught_up(master, replica);
    let mut client = cluster.client(replica);
    let moved = Reply::Error(format!("MOVED {} 127.0.0.1:{}", slot_of(&key), cluster.nodes[master].port));
    assert_eq!(client.call(&["GET", &key]), moved, "before READONLY");
    assert!(client.call(&["READONLY"]).is_ok());
    assert_eq!(client.call(&["GET", &key]), Reply::Bulk(b"value".to_vec()));
    assert_eq!(client.call(&["SET", &key, "other"]), moved, "a write after READONLY");
    assert!(client.call(&["READWRITE"]).is_ok());
    assert_eq!(client.call(&["GET", &key]), moved, "after READWRITE");
}

#[test]
fn a_tail_that_no_replica_got_is_set_aside_when_its_master_returns_and_both_end_equal() {
    if peer().is_some() {
        return;
    }
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[1];
    let tag = cluster.key_served_by(master, "tail");
    cluster.wait_caught_up(master, replica);
    let set_aside = |cluster: &ClusterUnderTest| {
        std::fs::read_dir(cluster.nodes[master].directory().join("wal/set-aside")).map_or(0, Iterator::count)
    };
    let before = set_aside(&cluster);
    let start =
        cluster_view::info_number(cluster.nodes[master].port, "master_repl_offset").expect("it answers");
    cluster.pause(replica);
    // More than what sockets hold for a process that does not read. Nobody is told that any of it is done.
    let value = vec![b'x'; 1 << 20];
    let mut client = cluster.client(master);
    for number in 0..32 {
        let key = format!("{tag}{number}");
        client.send(&[b"SET".as_slice(), key.as_bytes(), &value]).expect("the master takes it");
    }
    cluster.wait_until("the master to log all of it", PATIENCE, || {
        let end =
            cluster_view::info_number(cluster.nodes[master].port, "master_repl_offset").expect("it answers");
        (end < start + (32 << 20)).then(|| format!("{end}"))
    });
    cluster.kill9(master);
    assert!(client.read().is_err(), "a write was acknowledged that only its master had");
    cluster.resume(replica);
    wait_until_serves(&cluster, replica, &tag, Instant::now());
    let held = cluster.ask(replica, &["DBSIZE"]).integer();
    cluster.restart(master);
    cluster.wait_until_whole();
    assert!(cluster.is_master(replica) && !cluster.is_master(master));
    cluster.assert_equal_digests();
    assert_eq!(cluster.ask(master, &["DBSIZE"]).integer(), held, "what the new master never had is gone");
    assert!(set_aside(&cluster) > before, "nothing was set aside\n{}", cluster.logs());
}

#[test]
fn a_master_that_lost_its_disk_wipes_nobody_and_can_be_replaced_at_its_address() {
    let mut cluster = CLUSTER.lend();
    let mut connection = connect(&cluster.addresses());
    write(&mut connection, "disk", 0..2000);
    cluster.wait_replicas_caught_up();
    let (master, replica) = cluster.shards(0)[2];
    let (lost, witness) = (cluster.id(master), cluster.shards(0)[0].0);
    cluster.kill9(master);
    std::fs::remove_dir_all(cluster.nodes[master].directory()).expect("the disk can be lost");
    std::fs::create_dir_all(cluster.nodes[master].directory()).expect("a new disk");
    cluster.restart(master);
    assert_ne!(cluster.id(master), lost, "it is another node now");
    cluster.wait_until("the replica to be promoted", PATIENCE, || {
        (!cluster.is_master(replica)).then(|| "it is a replica".into())
    });
    let others: Vec<String> = cluster
        .addresses()
        .into_iter()
        .filter(|address| !address.ends_with(&cluster.nodes[master].port.to_string()))
        .collect();
    cluster.wait_until("the cluster to serve", PATIENCE, || {
        let state = cluster_view::cluster_info(cluster.nodes[witness].port, "cluster_state");
        (!matches!(&state, Ok(Some(state)) if state == "ok")).then(|| format!("{state:?}"))
    });
    assert_all_there(&mut connect(&others), "disk", 0..2000);
    // What an operator does then.
    for index in (0..6).filter(|index| *index != master) {
        assert!(cluster.ask(index, &["CLUSTER", "FORGET", &lost]).is_ok());
    }
    let port = cluster.nodes[witness].port.to_string();
    assert!(cluster.ask(master, &["CLUSTER", "MEET", "127.0.0.1", &port]).is_ok());
    let promoted = cluster.id(replica);
    cluster.wait_until("the new node to be a replica", PATIENCE, || {
        let reply = cluster.ask(master, &["CLUSTER", "REPLICATE", &promoted]);
        (!reply.is_ok()).then(|| reply.to_string())
    });
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
    assert_all_there(&mut connect(&cluster.addresses()), "disk", 0..2000);
}

#[test]
fn what_a_master_lost_by_a_power_cut_is_still_there_because_its_replica_has_it() {
    if peer().is_some() {
        return;
    }
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[0];
    let tag = cluster.key_served_by(master, "power");
    let end =
        || cluster_view::info_number(cluster.nodes[master].port, "master_repl_offset").expect("it answers");
    let mut client = cluster.client(master);
    assert!(client.call(&["SET", &format!("{tag}before"), "v"]).is_ok());
    assert!(client.call(&["CONFIG", "SET", "appendfsync", "no"]).is_ok());
    // What was under way to the disk is there.
    std::thread::sleep(Duration::from_millis(1500));
    let from = end();
    for number in 0..5 {
        assert!(client.call(&["SET", &format!("{tag}lost{number}"), "v"]).is_ok());
    }
    cluster.wait_caught_up(master, replica);
    let to = end();
    cluster.kill9(master);
    lose(cluster.nodes[master].directory(), Lsn(from), Lsn(to));
    cluster.restart(master);
    // More than was lost, so that the positions alone would fit again.
    let mut router = Router::new(&cluster.ports());
    for number in 0..50 {
        let key = format!("{tag}after{number}");
        cluster.wait_until("the shard to take writes", PATIENCE, || {
            match router.call(&["SET", &key, "value"]) {
                Ok(reply) if reply.is_ok() => None,
                other => Some(format!("{other:?}")),
            }
        });
    }
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
    let names = ["before", "lost0", "lost1", "lost2", "lost3", "lost4", "after0", "after49"];
    for name in names {
        let found = router.call(&["EXISTS", &format!("{tag}{name}")]);
        assert_eq!(found.expect("the cluster answers"), Reply::Integer(1), "{name}");
    }
}

#[test]
fn what_a_master_acknowledged_after_its_replica_fell_out_of_the_set_is_never_lost() {
    let mut cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[2];
    let tag = cluster.key_served_by(master, "alone");
    cluster.wait_caught_up(master, replica);
    cluster.pause(replica);
    let mut client = cluster.client(master);
    client.set_patience(PATIENCE);
    // Held until the replica is out of the in-sync set, then until it is on the master's disk.
    assert!(client.call(&["SET", &tag, "acknowledged"]).is_ok());
    let info = client.call(&["INFO", "log"]).text();
    let lsn = |name: &str| -> u64 {
        let field = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.and_then(|value| value.trim().parse().ok()).expect(name)
    };
    assert!(lsn("log_durable_lsn") >= lsn("log_committed_lsn"));
    cluster.kill9(master);
    cluster.resume(replica);
    // It lacks the write: however long its master is away, it must not take over.
    std::thread::sleep(NODE_TIMEOUT * 3);
    assert!(!cluster.is_master(replica), "a replica outside the in-sync set was promoted");
    cluster.restart(master);
    cluster.wait_until_whole();
    assert_eq!(cluster.ask(master, &["GET", &tag]), Reply::Bulk(b"acknowledged".to_vec()));
    cluster.assert_equal_digests();
}
