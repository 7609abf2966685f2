//! Bits that flip in files of one member of a shard, while it runs and while it is stopped: they are put back with another member's
//! bytes before anything of them is served. Six real processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_storage::log::reader;
use holdfast_storage::log::{RecordView, VisitError};
use holdfast_tests::cluster::{ClusterUnderTest, Place};
use holdfast_tests::cluster_view::{info, info_number};
use holdfast_words::Lsn;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "mending",
};
/// Many segments, none of which goes: no checkpoint but those that are asked for, and no scrub.
const OPTIONS: &[&str] = &[
    "--wal-segment-size",
    "1mb",
    "--checkpoint-log-size",
    "1gb",
    "--wal-retain-size",
    "1gb",
    "--scrub-rate",
    "0",
];
/// Others build and test on the same machine.
const LONG: Duration = Duration::from_secs(120);

struct Shard {
    cluster: ClusterUnderTest,
    master: usize,
    replica: usize,
    keys: Vec<String>,
}

impl Shard {
    /// A cluster; one of its shards holds what was acknowledged, in the logs of both members.
    fn filled(name: &str) -> Self {
        let cluster = ClusterUnderTest::formed(PLACE, name, OPTIONS);
        let (master, replica) = cluster.shards(0)[0];
        let tags: Vec<String> =
            (0..8).map(|number| cluster.key_served_by(master, &format!("m{number}"))).collect();
        let mut shard = Self { cluster, master, replica, keys: Vec::new() };
        let mut client = shard.cluster.client(master);
        for number in 0..800 {
            let key = format!("{}:{number}", tags[number % tags.len()]);
            assert!(client.call(&["SET", &key, &value(&key)]).is_ok());
            shard.keys.push(key);
        }
        shard.cluster.wait_caught_up(master, replica);
        for index in [master, replica] {
            // On the disk, whatever the policy: the marks say so.
            let end = info_number(shard.cluster.nodes[index].address(), "master_repl_offset").unwrap();
            shard.cluster.wait_until("the log to be durable", LONG, || {
                let durable = info_number(shard.cluster.nodes[index].address(), "log_durable_lsn");
                (!durable.as_ref().is_ok_and(|durable| *durable >= end))
                    .then(|| format!("{durable:?} of {end}"))
            });
        }
        shard
    }

    fn wal(&self, index: usize) -> PathBuf {
        self.cluster.nodes[index].directory().join("wal")
    }

    /// A segment in the middle of a node's log.
    fn segment(&self, index: usize) -> PathBuf {
        let mut segments = files(&self.wal(index), ".wal");
        assert!(segments.len() >= 4, "{segments:?}");
        segments.remove(segments.len() / 2)
    }

    fn assert_the_same_log(&self) {
        let (mine, theirs) = (records(&self.wal(self.master)), records(&self.wal(self.replica)));
        let shared = mine.keys().filter(|lsn| theirs.contains_key(lsn)).count();
        assert!(shared > 700, "{shared} records are in both logs");
        assert!(mine.iter().all(|(lsn, record)| theirs.get(lsn).is_none_or(|other| other == record)));
    }

    /// Whoever leads the shard has everything, and both have the same.
    fn assert_nothing_is_lost(&self) {
        self.cluster.wait_until_whole();
        self.cluster.assert_equal_digests();
        let leads = if self.cluster.is_master(self.master) { self.master } else { self.replica };
        let mut client = self.cluster.client(leads);
        for key in &self.keys {
            assert_eq!(client.call(&["GET", key]).text(), value(key), "{key}");
        }
    }

    fn number(&self, index: usize, name: &str) -> u64 {
        info_number(self.cluster.nodes[index].address(), name).unwrap()
    }

    /// The scrub of a running node finds a flipped bit and puts it back.
    fn scrub_mends(&self, index: usize) {
        let path = self.segment(index);
        let whole = fs::read(&path).unwrap();
        flip(&path, 4096 + 5000);
        assert!(self.cluster.ask(index, &["CONFIG", "SET", "scrub-rate", "100mb"]).is_ok());
        self.cluster.wait_until("the scrub to mend it", LONG, || {
            let mended = info_number(self.cluster.nodes[index].address(), "scrub_damage_mended");
            (!mended.as_ref().is_ok_and(|mended| *mended == 1)).then(|| format!("{mended:?}"))
        });
        assert!(self.cluster.ask(index, &["CONFIG", "SET", "scrub-rate", "0"]).is_ok());
        assert_eq!(self.number(index, "scrub_damage_found"), 1);
        assert_eq!(self.number(index, "scrub_damage_unmended"), 0);
        let told = info(self.cluster.nodes[index].address(), "scrub_last_damage").unwrap().unwrap();
        assert_names(&told, &path);
        assert!(fs::read(&path).unwrap() == whole, "the very bytes");
        let log = self.cluster.nodes[index].log();
        assert_names(log.lines().find(|line| line.contains("damage in the log")).unwrap(), &path);
        assert!(log.contains("was mended and verified"), "{log}");
    }
}

fn value(key: &str) -> String {
    key.repeat(8000 / key.len())
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    files.sort();
    files
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    file.sync_all().unwrap();
}

/// File, offset and slot.
fn assert_names(text: &str, path: &Path) {
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
    let number = |after: &str| text.split(after).nth(1).and_then(|rest| rest.chars().next());
    assert!(number("offset ").is_some_and(|digit| digit.is_ascii_digit()), "{text}");
    assert!(number("slot ").is_some_and(|digit| digit.is_ascii_digit()), "{text}");
}

fn records(wal: &Path) -> BTreeMap<Lsn, Vec<u8>> {
    let mut records = BTreeMap::new();
    let mut visitor = |record: &RecordView<'_>| -> Result<(), VisitError> {
        records.insert(record.lsn, record.bytes.to_vec());
        Ok(())
    };
    reader::read(wal, Lsn::ZERO, &mut visitor).unwrap();
    records
}

#[test]
fn a_bit_that_flips_in_the_log_of_a_running_replica_or_master_is_mended_by_the_scrub() {
    let shard = Shard::filled("running");
    shard.scrub_mends(shard.replica);
    shard.scrub_mends(shard.master);
    shard.assert_the_same_log();
    shard.assert_nothing_is_lost();
}

#[test]
fn a_bit_that_flips_in_the_log_of_a_stopped_node_is_mended_before_it_serves() {
    let mut shard = Shard::filled("stopped");
    for index in [shard.replica, shard.master] {
        shard.cluster.kill9(index);
        let path = shard.segment(index);
        let whole = fs::read(&path).unwrap();
        flip(&path, 4096 + 5000);
        shard.cluster.restart(index);
        let log = shard.cluster.nodes[index].log();
        let told =
            log.lines().find(|line| line.contains("mended with another member's bytes")).unwrap_or(&log);
        assert_names(told, &path);
        assert!(fs::read(&path).unwrap() == whole, "the very bytes");
        assert_eq!(shard.number(index, "scrub_damage_mended"), 1);
        assert_eq!(shard.number(index, "scrub_damage_unmended"), 0);
        shard.assert_the_same_log();
        shard.assert_nothing_is_lost();
    }
}

#[test]
fn a_node_whose_log_is_damaged_waits_for_the_member_that_has_the_bytes() {
    let mut shard = Shard::filled("waiting");
    let (master, replica) = (shard.master, shard.replica);
    shard.cluster.kill9(replica);
    shard.cluster.kill9(master);
    flip(&shard.segment(master), 4096 + 5000);
    shard.cluster.nodes[master].spawn();
    shard.cluster.wait_until("it to say what it waits for", LONG, || {
        let log = shard.cluster.nodes[master].log();
        (!log.contains("cannot be had yet")).then(|| "it does not".into())
    });
    shard.cluster.restart(replica);
    shard.cluster.nodes[master].wait_until_serves();
    shard.assert_nothing_is_lost();
}

#[test]
fn a_node_whose_images_are_damaged_serves_nothing_before_it_has_copied_everything() {
    let mut shard = Shard::filled("images");
    for index in [shard.replica, shard.master] {
        assert!(shard.cluster.ask(index, &["SAVE"]).is_ok());
        shard.cluster.kill9(index);
        let image = files(&shard.cluster.nodes[index].directory().join("images"), ".img").pop().unwrap();
        flip(&image, fs::metadata(&image).unwrap().len() / 2);
        let leads = if index == shard.master { shard.replica } else { shard.master };
        shard.cluster.restart(index);
        let log = shard.cluster.nodes[index].log();
        assert!(log.contains("slot images are damaged"), "{log}");
        shard.cluster.wait_until("the other member to lead", LONG, || {
            (!shard.cluster.is_master(leads)).then(|| "it does not".into())
        });
        shard.assert_nothing_is_lost();
        assert!(shard.number(leads, "sync_full") > 0, "{}", shard.cluster.logs());
        assert_eq!(shard.number(index, "scrub_damage_found"), 1);
        assert_eq!(shard.number(index, "scrub_damage_mended"), 1);
        assert_eq!(shard.number(index, "scrub_damage_unmended"), 0);
        // What was copied is whole: it starts again by itself.
        shard.cluster.kill9(index);
        shard.cluster.restart(index);
        shard.assert_nothing_is_lost();
        if index == shard.replica {
            continue;
        }
        assert!(!shard.cluster.is_master(index), "it led on damaged images");
    }
}

#[test]
fn a_replica_that_needs_the_damaged_part_of_its_masters_log_gets_everything_all_the_same() {
    let mut shard = Shard::filled("lagging");
    let (master, replica) = (shard.master, shard.replica);
    shard.cluster.kill9(replica);
    // The only copy of what the replica lacks.
    let mut client = shard.cluster.client(master);
    client.set_patience(LONG);
    let key = shard.keys[0].clone();
    for _ in 0..300 {
        assert!(client.call(&["SET", &key, &value(&key)]).is_ok());
    }
    let segments = files(&shard.wal(master), ".wal");
    flip(&segments[segments.len() - 2], 4096 + 5000);
    shard.cluster.restart(replica);
    shard.assert_nothing_is_lost();
    let log = shard.cluster.nodes[master].log();
    assert!(log.contains("the log cannot be read for a replica"), "{log}");
    assert_eq!(shard.number(master, "sync_full"), 1, "{}", shard.cluster.logs());
    assert_eq!(shard.number(master, "scrub_damage_found"), 1);
    assert_eq!(shard.number(master, "scrub_damage_mended"), 0);
}

#[test]
fn a_lone_node_with_a_damaged_log_does_not_start_and_says_what_can_be_done() {
    let mut cluster = ClusterUnderTest::lone_nodes(PLACE, "lone", 1, OPTIONS);
    assert!(cluster.ask(0, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).is_ok());
    cluster.wait_until("it to serve", LONG, || {
        let reply = cluster.ask(0, &["SET", "key", "value"]);
        (!reply.is_ok()).then(|| reply.to_string())
    });
    let mut client = cluster.client(0);
    for number in 0..300 {
        let key = format!("key{number}");
        assert!(client.call(&["SET", &key, &value(&key)]).is_ok());
    }
    cluster.stop(0);
    let path = files(&cluster.nodes[0].directory().join("wal"), ".wal").remove(0);
    flip(&path, 4096 + 5000);
    cluster.nodes[0].spawn();
    assert!(!cluster.nodes[0].wait().success());
    let log = cluster.nodes[0].log();
    assert!(log.contains("holdfast wal verify") && log.contains(path.to_str().unwrap()), "{log}");
}
