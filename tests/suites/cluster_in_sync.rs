//! What an operator sees of the in-sync set, in a cluster of six real processes: who is in it, why one was dropped, what a write
//! waits for, in INFO, CLUSTER NODES and SHARDS, the log and `holdfast status`; and what becomes of a client that waits at a master
//! that is replaced.

use std::process::Command;
use std::time::Instant;

use holdfast_tests::client::{Client, Reply};
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place, text_of};
use holdfast_tests::cluster_view::{self, field};
use holdfast_tests::shared_cluster::SharedCluster;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_in_sync",
};
/// A replica is dropped well before the node timeout ends its connection.
static CLUSTER: SharedCluster =
    SharedCluster::new(PLACE, &["--wal-segment-size", "8mb", "--replica-lag-max", "700"]);

/// One shard, and what is asked about it.
struct Shard<'a> {
    cluster: &'a ClusterUnderTest,
    master: usize,
    replica: usize,
    key: String,
}

impl Shard<'_> {
    fn info(&self, node: usize, name: &str) -> String {
        let text = self.cluster.ask(node, &["INFO", "replication"]).text();
        field(&text, name).unwrap_or_default().trim().to_owned()
    }

    fn address(&self, node: usize) -> String {
        self.cluster.nodes[node].address().to_string()
    }

    /// `holdfast status`, and of it the replica's row.
    fn status(&self) -> (String, String) {
        let port = self.cluster.nodes[self.master].port.to_string();
        let output = Command::new(PLACE.binary).args(["status", "--port", &port]).output();
        let text = text_of(&output.expect("the tool starts"));
        let row =
            text.lines().find(|line| line.contains(&self.address(self.replica)) && line.contains("replica"));
        (text.clone(), row.unwrap_or_default().to_owned())
    }

    /// Whether the replica has the flag `insync`, in the eyes of the master, and its health in CLUSTER SHARDS.
    fn in_views(&self) -> (bool, String) {
        let nodes =
            cluster_view::nodes(self.cluster.nodes[self.master].address()).expect("the master answers");
        let port = self.cluster.nodes[self.replica].port;
        let flagged = nodes.iter().find(|node| node.port == port).is_some_and(|node| node.has("insync"));
        let shards = self.cluster.ask(self.master, &["CLUSTER", "SHARDS"]).array();
        let id = self.cluster.id(self.master);
        let replica = shards.into_iter().find_map(|shard| {
            let members: Vec<Vec<Reply>> =
                shard.array().remove(3).array().into_iter().map(Reply::array).collect();
            let value = |member: &[Reply], name: &str| {
                member.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone())
            };
            let is_mine = members.iter().any(|member| value(member, "id").is_some_and(|of| of.text() == id));
            let replica = members
                .into_iter()
                .find(|member| value(member, "role").is_some_and(|role| role.text() == "replica"));
            replica.filter(|_| is_mine).and_then(|member| value(&member, "health"))
        });
        (flagged, replica.expect("the shard has a replica").text())
    }

    /// Writes, which takes until the replica is dropped, and looks at everything that is to say why.
    fn is_out_of_sync(&self, client: &mut Client, why: &str) {
        self.cluster.wait_until("the replica to be dropped", PATIENCE, || {
            assert!(client.call(&["SET", &self.key, why]).is_ok());
            let sync = self.info(self.master, "sync_replica0");
            (!sync.contains("in_sync=no")).then_some(sync)
        });
        let sync = self.info(self.master, "sync_replica0");
        assert!(sync.contains(&format!("why={why},since=")), "{sync}");
        assert_eq!(self.info(self.master, "write_waits_for"), "own_disk", "the disk has to do");
        let said = format!("why=\"{why}\"");
        let log = self.cluster.nodes[self.master].log();
        assert!(
            log.lines().any(|line| line.contains("it is to leave the in-sync set") && line.contains(&said)),
            "{log}"
        );
        let (text, row) = self.status();
        assert!(row.contains(&format!("NO: {why} for ")), "{text}");
        assert!(text.contains("writes wait for own_disk"), "{text}");
        // What is asked of the registry may be a moment older.
        self.cluster.wait_until("the views to say so", PATIENCE, || {
            let views = self.in_views();
            (views.0 || views.1 == "online").then(|| format!("{views:?}"))
        });
    }

    fn is_in_sync(&self) {
        let both = format!("own_log,{}", self.address(self.replica));
        self.cluster.wait_until("the replica to be in sync", PATIENCE, || {
            let (waits_for, sync) =
                (self.info(self.master, "write_waits_for"), self.info(self.master, "sync_replica0"));
            let is_so = waits_for == both && sync.contains("in_sync=yes,link=up") && !sync.contains("why=");
            let seen = (self.info(self.replica, "in_sync"), self.in_views());
            (!is_so || seen != ("1".into(), (true, "online".into())))
                .then(|| format!("{waits_for} {sync} {seen:?}"))
        });
        let (text, row) = self.status();
        assert!(
            row.contains(" yes ")
                && text.contains(&format!("writes wait for own_log + {}", self.address(self.replica))),
            "{text}"
        );
    }
}

#[test]
fn who_is_in_sync_why_one_was_dropped_and_what_a_write_waits_for_can_be_seen_everywhere() {
    let mut lent = CLUSTER.lend();
    let (master, replica) = lent.shards(0)[0];
    let key = lent.key_served_by(master, "seen");
    lent.wait_caught_up(master, replica);
    fn shard<'a>(cluster: &'a ClusterUnderTest, (master, replica, key): (usize, usize, &str)) -> Shard<'a> {
        Shard { cluster, master, replica, key: key.to_owned() }
    }
    let of = (master, replica, key.as_str());
    shard(&lent, of).is_in_sync();
    let mut client = lent.client(master);
    client.set_patience(PATIENCE);

    lent.pause(replica);
    shard(&lent, of).is_out_of_sync(&mut client, "silent");
    lent.resume(replica);
    lent.wait_until_whole();
    shard(&lent, of).is_in_sync();

    lent.kill9(replica);
    shard(&lent, of).is_out_of_sync(&mut client, "link_down");
    lent.restart(replica);
    lent.wait_until_whole();
    shard(&lent, of).is_in_sync();

    lent.stop(replica);
    let one = shard(&lent, of);
    lent.wait_until("the replica to have left", PATIENCE, || {
        let sync = one.info(master, "sync_replica0");
        (!sync.contains("in_sync=no") || !sync.contains("why=left")).then_some(sync)
    });
    // Nobody waits for one that said good-bye.
    assert_eq!(one.info(master, "write_waits_for"), "own_disk");
    assert!(client.call(&["SET", &key, "alone"]).is_ok());
    assert!(lent.ask(master, &["CONFIG", "SET", "write-ack", "local"]).is_ok());
    assert_eq!(
        (one.info(master, "write_ack"), one.info(master, "write_waits_for")),
        ("local".into(), "own_log".into())
    );
    assert!(lent.ask(master, &["CONFIG", "SET", "write-ack", "in-sync"]).is_ok());
    lent.restart(replica);
    lent.wait_until_whole();
    shard(&lent, of).is_in_sync();
}

#[test]
fn the_metadata_groups_leader_and_voters_can_be_seen() {
    let lent = CLUSTER.lend();
    lent.wait_until("five voters, as on one machine", PATIENCE, || {
        let voters =
            cluster_view::cluster_info(lent.nodes[0].address(), "cluster_metadata_voters").ok().flatten();
        let count = voters.as_ref().map_or(0, |ids| ids.split(',').count());
        (count != 5).then(|| format!("{voters:?}"))
    });
    let zones = cluster_view::cluster_info(lent.nodes[0].address(), "cluster_metadata_voter_zones");
    assert_eq!(zones.expect("it answers").as_deref(), Some("1"));
    let one = Shard { cluster: &lent, master: 0, replica: 0, key: String::new() };
    let (text, _) = one.status();
    assert!(
        text.contains("voters: 5 in 1 zones: 127.0.0.1:") && text.contains("led by 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn waitaof_counts_the_disks_that_have_the_write() {
    let lent = CLUSTER.lend();
    let (master, replica) = lent.shards(0)[1];
    let key = lent.key_served_by(master, "waitaof");
    lent.wait_caught_up(master, replica);
    let mut client = lent.client(master);
    client.set_patience(PATIENCE);
    assert!(client.call(&["SET", &key, "1"]).is_ok());
    let both = Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(client.call(&["WAITAOF", "1", "1", "30000"]), both);
    lent.pause(replica);
    assert!(client.call(&["SET", &key, "2"]).is_ok());
    let waited = client.call(&["WAITAOF", "1", "1", "300"]);
    lent.resume(replica);
    assert_eq!(
        waited,
        Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]),
        "a paused replica syncs nothing"
    );
    assert_eq!(client.call(&["WAITAOF", "1", "1", "30000"]), both);
}

#[test]
fn a_client_that_waits_at_a_master_that_is_replaced_gets_an_error_and_its_write_is_set_aside_readably() {
    // Nobody is dropped: what the replica does not have stays unacknowledged.
    let lent = ClusterUnderTest::formed(PLACE, "held", &["--replica-lag-max", "600000"]);
    let (master, replica) = lent.shards(0)[2];
    let key = lent.key_served_by(master, "held");
    lent.wait_caught_up(master, replica);
    let number =
        |name: &str| cluster_view::info_number(lent.nodes[master].address(), name).expect("it answers");
    let (start, aside) = (number("master_repl_offset"), number("log_set_aside"));
    let mut client = lent.client(master);
    client.set_patience(PATIENCE);
    lent.pause(replica);
    // More than what sockets hold for a process that does not read.
    let value = vec![b'x'; 1 << 20];
    for number in 0..32 {
        let key = format!("{key}{number}");
        client.send(&[b"SET".as_slice(), key.as_bytes(), &value]).expect("the master takes it");
    }
    lent.wait_until("the master to log all of it", PATIENCE, || {
        let end = number("master_repl_offset");
        (end < start + (32 << 20)).then(|| format!("{end}"))
    });
    let stopped = Instant::now();
    lent.pause(master);
    lent.resume(replica);
    lent.wait_until("the replica to take over", PATIENCE, || {
        (!lent.is_master(replica)).then(|| "not yet".into())
    });
    println!("the replica took over {:?} after its master stood still", stopped.elapsed());
    lent.resume(master);
    // What the replica had got by then is acknowledged, and it has it; then the client is told that nothing more comes.
    let mut acknowledged = 0;
    while client.read().is_ok_and(|reply| reply.is_ok()) {
        acknowledged += 1;
    }
    assert!(acknowledged < 32, "the replica cannot have had all of it");
    let refused = client.try_call(&["PING"]);
    assert!(!refused.is_ok_and(|reply| reply.is_pong()), "the connection goes on as if nothing had happened");
    lent.wait_until_whole();
    lent.wait_until("a tail to be set aside", PATIENCE, || {
        let count = number("log_set_aside");
        (count <= aside).then(|| format!("{count}"))
    });
    let log = lent.nodes[master].log();
    assert!(log.contains("its tail was set aside"), "{log}");
    let wal = lent.nodes[master].directory().join("wal");
    let ls = Command::new(PLACE.binary).args(["wal", "ls"]).arg(lent.nodes[master].directory()).output();
    let ls = text_of(&ls.expect("the tool starts"));
    let kept =
        ls.lines().filter_map(|line| line.strip_prefix("set aside: ")).next_back().expect("wal ls shows it");
    assert!(kept.starts_with(&wal.display().to_string()), "{ls}");
    let dump = Command::new(PLACE.binary).args(["wal", "dump", kept]).output().expect("the tool starts");
    assert!(dump.status.success() && text_of(&dump).contains(&key), "{} bytes of dump", dump.stdout.len());
    lent.assert_equal_digests();
    for number in 0..acknowledged {
        let key = format!("{key}{number}");
        assert_eq!(lent.ask(replica, &["STRLEN", &key]).integer(), 1 << 20, "{key} was acknowledged");
    }
}
