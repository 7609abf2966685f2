//! Acceptance 2 of the second issue: `redis-cli --cluster` forms, checks, grows and shrinks a cluster as with Redis, and so do
//! the commands beneath it by hand.

use std::time::Duration;

use holdfast_tests::client::Reply;
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place, redis_cli, text_of, wait_for};
use holdfast_tests::cluster_view;
use holdfast_tests::mixed_keys::{connect, write};
use holdfast_tests::shared_cluster::SharedCluster;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_tools",
};
const OPTIONS: &[&str] = &["--wal-segment-size", "8mb"];
static CLUSTER: SharedCluster = SharedCluster::new(PLACE, OPTIONS);

/// Runs `redis-cli --cluster …`, which must succeed, and returns what it printed.
fn cluster_command(words: &[&str]) -> String {
    let output = redis_cli(&[&["--cluster"], words].concat());
    let text = text_of(&output);
    assert!(output.status.success(), "redis-cli --cluster {}:\n{text}", words.join(" "));
    text
}

fn assert_says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

fn wait_until_known(cluster: &ClusterUnderTest, count: usize) {
    wait_until_ports_know(cluster, &cluster.ports(), count);
}

fn wait_until_ports_know(cluster: &ClusterUnderTest, ports: &[u16], count: usize) {
    for &port in ports {
        wait_for(&format!("{port} to know {count} nodes"), PATIENCE, || {
            let known = cluster_view::nodes(port).map(|nodes| nodes.len());
            (known.as_ref().ok() != Some(&count)).then(|| format!("{known:?}\n{}", cluster.logs()))
        });
    }
}

#[test]
fn redis_cli_creates_checks_and_describes_a_cluster_of_six_empty_nodes() {
    let cluster = ClusterUnderTest::lone_nodes(PLACE, "created", 6, OPTIONS);
    let addresses = cluster.addresses();
    let mut words = vec!["create"];
    words.extend(addresses.iter().map(String::as_str));
    words.extend(["--cluster-replicas", "1", "--cluster-yes"]);
    let text = cluster_command(&words);
    assert_says(&text, &["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."]);
    cluster.wait_until_whole();
    write(&mut connect(&addresses), "tools", 0..300);
    for address in &addresses {
        let text = cluster_command(&["check", address]);
        assert_says(
            &text,
            &["[OK] 300 keys in 3 masters.", "[OK] All nodes agree about slots configuration."],
        );
        assert_says(&text, &["[OK] All 16384 slots covered.", "1 additional replica(s)"]);
    }
    let text = cluster_command(&["info", &addresses[0]]);
    assert_says(&text, &["[OK] 300 keys in 3 masters.", "slots | 1 slaves."]);
    let text = cluster_command(&["call", &addresses[4], "PING"]);
    assert_eq!(text.lines().filter(|line| line.ends_with("PONG")).count(), 6, "{text}");
    // A node that holds something is no material for a new cluster.
    let output =
        redis_cli(&["--cluster", "create", &addresses[0], &addresses[1], &addresses[2], "--cluster-yes"]);
    assert!(!output.status.success());
    assert_says(&text_of(&output), &["is not empty"]);
}

#[test]
fn redis_cli_adds_masters_and_replicas_and_deletes_them() {
    let cluster = CLUSTER.lend();
    let news = ClusterUnderTest::lone_nodes(PLACE, "added", 2, OPTIONS);
    let (member, new) = (&cluster.addresses()[0], news.addresses());
    cluster_command(&["add-node", &new[0], member]);
    wait_until_known(&cluster, 7);
    wait_until_ports_know(&news, &news.ports()[..1], 7);
    cluster_command(&["add-node", &new[1], member, "--cluster-slave", "--cluster-master-id", &cluster.id(0)]);
    wait_until_known(&cluster, 8);
    cluster.wait_until("the new replica to follow", PATIENCE, || {
        let link = cluster_view::info(news.nodes[1].port, "master_link_status");
        (!matches!(&link, Ok(Some(link)) if link == "up")).then(|| format!("{link:?}"))
    });
    assert_eq!(news.ask(1, &["ROLE"]).array()[0].text(), "slave");
    wait_until_known(&news, 8);
    for index in [1, 0] {
        cluster_command(&["del-node", member, &news.id(index)]);
    }
    wait_until_known(&cluster, 6);
    cluster.wait_until_whole();
}

#[test]
fn meet_joins_a_node_forget_removes_it_and_reset_makes_it_new() {
    let cluster = CLUSTER.lend();
    let lone = ClusterUnderTest::lone_nodes(PLACE, "met", 1, OPTIONS);
    let id = lone.id(0);
    let port = cluster.nodes[2].port.to_string();
    assert!(lone.ask(0, &["CLUSTER", "MEET", "127.0.0.1", &port]).is_ok());
    wait_until_known(&cluster, 7);
    wait_until_known(&lone, 7);
    for index in 0..6 {
        let reply = cluster.ask(index, &["CLUSTER", "FORGET", &id]);
        assert!(reply.is_ok(), "FORGET on node {index}: {reply}");
    }
    let reply = lone.ask(0, &["CLUSTER", "RESET", "HARD"]);
    assert!(reply.is_ok(), "{reply}\n{}", lone.logs());
    wait_until_known(&lone, 1);
    wait_until_known(&cluster, 6);
    assert_ne!(lone.id(0), id, "a hard reset gives a new id");
    // It stays forgotten, and the cluster serves.
    std::thread::sleep(Duration::from_secs(1));
    wait_until_known(&cluster, 6);
    assert!(lone.ask(0, &["CLUSTER", "MEET", "127.0.0.1", &port]).is_ok());
    wait_until_known(&cluster, 7);
    wait_until_known(&lone, 7);
    let reply = lone.ask(0, &["CLUSTER", "REPLICATE", &cluster.id(cluster.shards(0)[0].0)]);
    assert!(reply.is_ok(), "{reply}");
    for index in 0..6 {
        assert!(cluster.ask(index, &["CLUSTER", "FORGET", &lone.id(0)]).is_ok());
    }
    assert!(lone.ask(0, &["CLUSTER", "RESET", "SOFT"]).is_ok());
    wait_until_known(&cluster, 6);
}

#[test]
fn what_would_break_the_cluster_is_refused() {
    let cluster = CLUSTER.lend();
    let (master, replica) = cluster.shards(0)[0];
    write(&mut connect(&cluster.addresses()), "refused", 0..100);
    let is_error = |reply: Reply| match reply {
        Reply::Error(text) => text,
        other => panic!("an error was expected, not {other}"),
    };
    let own = cluster.id(master);
    let text = is_error(cluster.ask(master, &["CLUSTER", "FORGET", &own]));
    assert_eq!(text, "ERR I tried hard but I can't forget myself...");
    let text = is_error(cluster.ask(replica, &["CLUSTER", "FORGET", &own]));
    assert_eq!(text, "ERR Can't forget my master!");
    let text = is_error(cluster.ask(master, &["CLUSTER", "RESET"]));
    assert_eq!(text, "ERR CLUSTER RESET can't be called with master nodes containing keys");
    let text = is_error(cluster.ask(master, &["CLUSTER", "FAILOVER"]));
    assert_eq!(text, "ERR You should send CLUSTER FAILOVER to a replica");
    let text = is_error(cluster.ask(master, &["CLUSTER", "REPLICATE", &cluster.id(replica)]));
    assert!(text.starts_with("ERR "), "{text}");
    let text = is_error(cluster.ask(master, &["CLUSTER", "ADDSLOTS", "0"]));
    assert_eq!(text, "ERR Slot 0 is already busy");
    cluster.wait_until_whole();
}
