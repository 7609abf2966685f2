//! `holdfast cluster recover`: two of three machines are gone for good, and the third becomes a cluster again.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holdfast_tests::client::Reply;
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place, redis_cli, slot_of, text_of};
use holdfast_tests::cluster_view::{self, has_slot};

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_recover",
};
const KEYS: usize = 600;

/// Runs `holdfast cluster recover` on a node's directory and says this when asked.
fn recover(cluster: &ClusterUnderTest, node: usize, options: &[&str], answer: &str) -> Output {
    let mut tool = Command::new(PLACE.binary)
        .args(["cluster", "recover"])
        .arg(cluster.nodes[node].directory())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    // It may have ended without asking.
    tool.stdin.take().expect("it is piped").write_all(answer.as_bytes()).ok();
    tool.wait_with_output().expect("the tool ends")
}

fn done(output: &Output) -> String {
    let text = text_of(output);
    assert!(output.status.success(), "{text}");
    text
}

fn refused(output: &Output, because: &str) {
    let text = text_of(output);
    assert!(!output.status.success() && text.contains(because), "{because:?} is not in\n{text}");
}

fn key(n: usize) -> String {
    format!("recover:{n}")
}

/// The index in `shards` of a key's master.
fn shard_of(cluster: &ClusterUnderTest, shards: &[(usize, usize)], key: &str) -> usize {
    let master = cluster.master_of_slot(shards[0].0, slot_of(key));
    shards.iter().position(|shard| shard.0 == master).expect("a shard")
}

#[test]
fn one_machine_of_three_becomes_a_cluster_again_with_what_it_has_and_the_others_stay_out() {
    let (mut cluster, shards) = ClusterUnderTest::on_three_machines(PLACE, "two_machines_lost", &[]);
    // On machine a: the master of the first shard, the replica of the third.
    let (master, replica) = (shards[0].0, shards[2].1);
    let of_shard: Vec<usize> = (0..KEYS).map(|n| shard_of(&cluster, &shards, &key(n))).collect();
    let clients: Vec<_> = shards.iter().map(|(master, _)| cluster.client(*master)).collect();
    for (mut client, shard) in clients.into_iter().zip(0..) {
        for n in (0..KEYS).filter(|n| of_shard[*n] == shard) {
            assert!(client.call(&["SET", &key(n), &format!("value {n}")]).is_ok());
        }
    }
    refused(&recover(&cluster, master, &["--keep", "x"], ""), "is in use by process");

    let lost: Vec<usize> = (0..6).filter(|node| ![master, replica].contains(node)).collect();
    let ids: Vec<String> = (0..6).map(|node| cluster.id(node)).collect();
    lost.iter().for_each(|node| cluster.kill9(*node));
    cluster.wait_until("the survivors to serve nothing", PATIENCE, || {
        let reply = cluster.ask(master, &["GET", &key(0)]);
        (!reply.is_error_code("CLUSTERDOWN")).then(|| reply.to_string())
    });
    // One of the lost will come back in spite of all; the disks of the others are gone.
    let (returning, gone) = lost.split_first().unwrap();
    gone.iter().for_each(|node| std::fs::remove_dir_all(cluster.nodes[*node].directory()).unwrap());
    cluster.stop(master);
    cluster.stop(replica);

    let shown = done(&recover(&cluster, replica, &[], ""));
    assert!(ids.iter().all(|id| shown.contains(id)) && shown.contains("Nothing is changed"), "{shown}");
    let keep = format!("{},{}", &ids[master][..12], cluster.addresses()[replica]);
    refused(&recover(&cluster, replica, &["--keep", &keep], "y\n"), "nothing was changed");
    refused(
        &recover(&cluster, replica, &["--lost", &ids[lost[0]]], "yes\n"),
        "a majority of the voters is left",
    );
    refused(&recover(&cluster, replica, &["--lost", &ids[replica]], "yes\n"), "cannot be among the lost");
    let text = done(&recover(&cluster, replica, &["--keep", &keep], "yes\n"));
    println!("{text}");
    assert!(text.contains("nobody is left: its keys are LOST"), "{text}");
    let into = text.split("--into ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an id");
    done(&recover(&cluster, master, &["--into", into, "--yes"], ""));
    refused(&recover(&cluster, master, &["--into", into, "--yes"], ""), "start it");

    cluster.nodes[master].spawn();
    cluster.nodes[replica].spawn();
    cluster.wait_until("the survivors to lead their shards", PATIENCE, || {
        let leads = |node: usize| {
            let nodes = cluster_view::nodes(cluster.nodes[node].port).unwrap_or_default();
            nodes.len() == 2 && nodes.iter().all(|node| node.master.is_none() && !node.slots.is_empty())
        };
        (!leads(master) || !leads(replica)).then(|| "not yet".into())
    });
    let nodes = cluster_view::nodes(cluster.nodes[master].port).unwrap();
    let has_owner = |slot: &u16| nodes.iter().any(|node| has_slot(node, *slot));
    let free: Vec<u16> = (0..16384).filter(|slot| !has_owner(slot)).collect();
    let (first, last) = (free[0].to_string(), free[free.len() - 1].to_string());
    assert!((0..KEYS).filter(|n| of_shard[*n] == 1).all(|n| free.contains(&slot_of(&key(n)))));
    let reply = cluster.ask(master, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
    assert!(reply.is_ok(), "{reply}");
    cluster.wait_until("the cluster to be up", PATIENCE, || {
        let states = [master, replica]
            .map(|node| cluster_view::cluster_info(cluster.nodes[node].port, "cluster_state").unwrap());
        states.iter().any(|state| state.as_deref() != Some("ok")).then(|| format!("{states:?}"))
    });
    let check = redis_cli(&["--cluster", "check", &cluster.addresses()[master]]);
    assert!(
        check.status.success() && text_of(&check).contains("All 16384 slots covered"),
        "{}",
        text_of(&check)
    );
    for (n, &shard) in of_shard.iter().enumerate() {
        let reply = match shard {
            0 | 1 => cluster.ask(master, &["GET", &key(n)]),
            _ => cluster.ask(replica, &["GET", &key(n)]),
        };
        match shard {
            1 => assert_eq!(reply, Reply::Null, "its shard was lost"),
            _ => assert_eq!(reply.text(), format!("value {n}"), "{}", key(n)),
        }
    }

    // One of the lost comes back with its directory: it is a stranger, and serves nothing alone.
    cluster.nodes[*returning].spawn();
    cluster.nodes[*returning].wait_until_serves();
    std::thread::sleep(Duration::from_secs(5));
    for node in [master, replica] {
        assert_eq!(cluster_view::nodes(cluster.nodes[node].port).unwrap().len(), 2, "{}", cluster.logs());
    }
    let reply = cluster.ask(*returning, &["GET", &key(0)]);
    assert!(reply.is_error_code("CLUSTERDOWN"), "{reply}");

    // The cluster grows again.
    cluster.add_node(PLACE, &["--cluster-zone", "b"]);
    let new = cluster.nodes.len() - 1;
    cluster.nodes[new].wait_until_serves();
    let port = cluster.nodes[new].port.to_string();
    assert!(cluster.ask(master, &["CLUSTER", "MEET", "127.0.0.1", &port]).is_ok());
    cluster.wait_until("the new node to be a member", PATIENCE, || {
        let nodes = cluster_view::nodes(cluster.nodes[new].port).unwrap_or_default();
        (nodes.len() != 3).then(|| format!("it knows {} nodes", nodes.len()))
    });
    let reply = cluster.ask(new, &["CLUSTER", "REPLICATE", &ids[replica]]);
    assert!(reply.is_ok(), "{reply}");
    cluster.wait_caught_up(replica, new);
    assert_eq!(cluster.digest(replica), cluster.digest(new));
}

#[test]
fn a_node_that_lost_only_its_metadata_refuses_to_begin_a_cluster_of_its_own() {
    let mut cluster = ClusterUnderTest::lone_nodes(PLACE, "metadata_lost", 1, &[]);
    let id = cluster.id(0);
    cluster.stop(0);
    let metadata = cluster.nodes[0].directory().join("metadata");
    let away = cluster.nodes[0].directory().join("metadata.away");
    std::fs::rename(&metadata, &away).unwrap();
    cluster.nodes[0].spawn();
    let status = cluster.nodes[0].wait();
    let log = cluster.nodes[0].log();
    assert!(!status.success(), "{log}");
    assert!(
        log.contains("has been a member of a cluster") && log.contains("holdfast cluster recover"),
        "{log}"
    );
    std::fs::remove_dir_all(&metadata).unwrap();
    std::fs::rename(&away, &metadata).unwrap();
    cluster.restart(0);
    assert_eq!(cluster.id(0), id);
}
