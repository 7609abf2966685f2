//! Acceptance 5 of the first issue: a full disk. Writes are refused, reads served, no acknowledged write is lost, and the node
//! heals by itself when there is space again. Needs root for a small tmpfs; skipped with a message elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::client::Reply;
use holdfast_tests::cluster::{ClusterUnderTest, PATIENCE, Place};
use holdfast_tests::cluster_view;
use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

const PLACE: Place = Place { binary: BINARY, target: env!("CARGO_TARGET_TMPDIR"), suite: "full_disk" };
/// A process under load is slow.
const LONG: Duration = Duration::from_secs(90);

/// A tmpfs of its own; unmounted at the end.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("the mount point can be made");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path.display());
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_loses_nothing_and_heals() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mount = directory.path().join("disk");
    let Some(disk) = SmallDisk::mount(&mount, "24m") else {
        println!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    let options = ["--wal-segment-size", "1mb", "--checkpoint-log-size", "1gb", "--appendfsync", "always"];
    let mut node = Node::started(BINARY, &disk.path, &options);
    let mut client = node.client();
    client.set_patience(Duration::from_secs(5));

    let ballast = disk.path.join("ballast");
    std::fs::write(&ballast, vec![0; 12 << 20]).expect("the disk has room for the ballast");
    let value = "x".repeat(10_000);
    let mut acknowledged = 0;
    let refusal = loop {
        match client.try_call(&["SET", &format!("key:{acknowledged}"), &value]) {
            Ok(Reply::Error(text)) => break Some(text),
            Ok(reply) => {
                assert!(reply.is_ok(), "{reply}");
                acknowledged += 1;
            }
            // A write that met the full disk waits for space; it is not acknowledged.
            Err(_) => break None,
        }
        assert!(acknowledged < 10_000, "the disk never fills");
    };
    assert!(acknowledged > 50, "only {acknowledged} writes fitted");

    let mut second = node.client();
    let refused = refusal.unwrap_or_else(|| match second.call(&["SET", "another", "v"]) {
        Reply::Error(text) => text,
        other => panic!("a write on a full disk answered {other}"),
    });
    assert!(refused.starts_with("MISCONF"), "{refused}");
    assert!(refused.contains("space"), "the refusal does not say why: {refused}");
    for number in [0, acknowledged / 2, acknowledged - 1] {
        assert_eq!(second.call(&["GET", &format!("key:{number}")]).text(), value);
    }

    std::fs::remove_file(&ballast).expect("the ballast can go");
    let deadline = Instant::now() + LONG;
    while !second.call(&["SET", "healed", "yes"]).is_ok() {
        assert!(Instant::now() < deadline, "the node does not heal:\n{}", node.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    node.kill();
    node.start();
    let mut client = node.client();
    assert_eq!(client.call(&["GET", "healed"]).text(), "yes");
    for number in 0..acknowledged {
        assert_eq!(
            client.call(&["GET", &format!("key:{number}")]).text(),
            value,
            "key:{number} of {acknowledged}"
        );
    }
    drop(client);
    drop(node);
}

#[test]
fn a_master_whose_disk_is_full_hands_over_at_once_and_follows_when_there_is_space_again() {
    let options = ["--wal-segment-size", "1mb", "--checkpoint-log-size", "1gb"];
    let mut cluster = ClusterUnderTest::lone_nodes(PLACE, "hands_over", 0, &options);
    let Some(disk) = SmallDisk::mount(&cluster.directory_of(0), "64m") else {
        println!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    (0..6).for_each(|_| cluster.add_node(PLACE, &options));
    cluster.nodes.iter_mut().for_each(Node::wait_until_serves);
    cluster.form();
    let (master, replica) = (0, cluster.replica_of(0, 0));
    assert!(cluster.is_master(master), "the first nodes are the masters");
    cluster.wait_caught_up(master, replica);
    let key = cluster.key_served_by(master, "full");
    // Past the disk's room, which the ballast leaves little of; what is there already stays as it is.
    let ballast = disk.path.join("ballast");
    fill(&ballast, 8 << 20);
    let value = "x".repeat(10_000);
    let mut client = cluster.client(master);
    client.set_patience(PATIENCE);
    let mut acknowledged = 0;
    while client.try_call(&["RPUSH", &key, &value]).is_ok_and(|reply| !matches!(reply, Reply::Error(_))) {
        acknowledged += 1;
        assert!(acknowledged < 10_000, "the disk never fills");
    }
    assert!(acknowledged > 50, "only {acknowledged} writes fitted");
    cluster.wait_until("the replica to take over", PATIENCE, || {
        (!cluster.is_master(replica)).then(|| "not yet".into())
    });
    cluster.wait_until_promoted(replica);
    let log = cluster.nodes[master].log();
    assert!(log.contains("This node cannot write its log: handing shard"), "{log}");
    let length = |index| cluster.ask(index, &["LLEN", &key]).integer();
    // The last may have been taken without its client being told.
    assert!((acknowledged..=acknowledged + 1).contains(&length(replica)), "{acknowledged} acknowledged");
    let grown = cluster.ask(replica, &["RPUSH", &key, "written there"]).integer();

    std::fs::remove_file(&ballast).expect("the ballast can go");
    cluster.wait_until("the old master to follow and be in sync", LONG, || {
        let nodes = cluster_view::info(cluster.nodes[replica].address(), "slave0").ok().flatten();
        (!nodes.as_ref().is_some_and(|text| text.contains("in_sync=1"))).then(|| format!("{nodes:?}"))
    });
    assert!(!cluster.is_master(master));
    cluster.wait_until_whole();
    cluster.assert_equal_digests();
    assert_eq!(length(replica), grown);
    drop(client);
    drop(cluster);
    drop(disk);
}

/// Takes all room but `left` bytes.
fn fill(ballast: &Path, left: u64) {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(ballast.parent().unwrap()).output();
    let text = String::from_utf8(output.expect("df runs").stdout).expect("df writes text");
    let free: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("df says how much");
    std::fs::write(ballast, vec![0; usize::try_from(free.saturating_sub(left)).expect("it fits")])
        .expect("the disk has room for the ballast");
}
