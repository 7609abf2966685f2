//! Acceptance 5 of the first issue: a full disk. Writes are refused, reads served, no acknowledged write is lost, and the node
//! heals by itself when there is space again. Needs root for a small tmpfs; skipped with a message elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::client::Reply;
use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

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
    let deadline = Instant::now() + Duration::from_secs(20);
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
