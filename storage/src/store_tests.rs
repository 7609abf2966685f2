//! Two stores side by side: a full copy, what a crash leaves of one, and the barrier between commands and whoever takes the
//! slots away from them.

use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_words::Epoch;

use super::*;
use crate::checkpoint::image_format::Compression;
use crate::log::FsyncPolicy;
use crate::mutation::{Expiry, Few, Mutation};

fn config() -> StoreConfig {
    let log = LogConfig {
        segment_size: 1 << 20,
        fsync: FsyncPolicy::No,
        spare_segments: 1,
        ..LogConfig::default()
    };
    StoreConfig { log, load_threads: 1, checkpoint_log_size: 0, retain_bytes: 0 }
}

fn open(path: &Path) -> Arc<Store> {
    Store::open(path, config()).unwrap().0
}

fn set(store: &Store, key: &str, value: &str) {
    let mut scratch = Scratch::default();
    let mut slots = store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
    let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
    slots.mutate(&Mutation::SetString { key, value, expiry: Expiry::Clear });
    slots.commit().unwrap();
}

fn images(store: &Store) -> Vec<Vec<u8>> {
    let mut builder = ImageBuilder::new(Compression::Lz4);
    let mut chunks = Vec::new();
    for slot in SlotId::all() {
        if store.slots().with(slot, |slot| slot.sequence() == SlotSequence::ZERO) {
            continue;
        }
        store.image_of(slot, &mut builder).unwrap();
        let mut rest = builder.finish().1;
        while !rest.is_empty() {
            let length = ChunkHeader::decode(rest).unwrap().chunk_length() as usize;
            chunks.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
    }
    chunks
}

/// A master with data, and a copy of it that was begun and got all images.
fn copied(master: &Store, replica: &Store) -> Lsn {
    for number in 0..500 {
        set(master, &format!("key{number}"), &format!("value{number}"));
    }
    master.log().write_up_to(master.log().end().lsn).unwrap();
    let start = master.log().positions().written_lsn();
    replica.become_empty(replica.node_id(), master.shard_id(), start, master.log().epoch_history()).unwrap();
    let mut receiver = replica.image_receiver();
    // Written while the images are made: in some images already, and in the log after their beginning.
    for number in 0..50 {
        set(master, &format!("key{number}"), "newer");
    }
    for chunk in images(master) {
        replica.receive_image(&mut receiver, &chunk).unwrap();
    }
    replica.finish_images(&mut receiver).unwrap();
    start
}

#[test]
fn a_full_copy_and_the_log_after_it_give_the_masters_data_also_after_a_restart() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(one.path()), open(two.path()));
    set(&replica, "foreign", "goes away");
    let start = copied(&master, &replica);
    set(&master, "last", "word");
    master.log().write_up_to(master.log().end().lsn).unwrap();
    let mut bytes = Vec::new();
    let end = master.log().read_chunk(start, 1 << 20, &mut bytes).unwrap();
    assert_eq!(end, master.log().end().lsn);
    replica.append_received(start, &bytes).unwrap();
    assert!(!replica.is_whole());
    assert!(matches!(replica.checkpoint(), Err(PassError::Incomplete)));
    replica.log().sync().unwrap();
    replica.set_whole().unwrap();
    assert_eq!(replica.digest(), master.digest());
    assert!(replica.slots().key_count() == master.slots().key_count());
    drop(replica);
    let replica = open(two.path());
    assert!(replica.is_whole());
    assert_eq!((replica.digest(), replica.log().end().lsn), (master.digest(), end));
    replica.checkpoint().unwrap();
    drop(replica);
    assert_eq!(open(two.path()).digest(), master.digest());
}

#[test]
fn a_copy_that_a_crash_cut_short_is_thrown_away_at_the_next_start() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(one.path()), open(two.path()));
    copied(&master, &replica);
    assert!(replica.slots().key_count() > 0);
    drop(replica);
    let replica = open(two.path());
    assert!(!replica.is_whole());
    assert_eq!((replica.slots().key_count(), replica.log().end().lsn), (0, Lsn::ZERO));
    assert_eq!(replica.shard_id(), master.shard_id());
}

#[test]
fn an_image_of_another_shard_or_a_damaged_one_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(one.path()), open(two.path()));
    set(&master, "key", "value");
    let mut chunk = images(&master).remove(0);
    let mut receiver = replica.image_receiver();
    assert!(matches!(replica.receive_image(&mut receiver, &chunk), Err(CopyError::Foreign { .. })));
    replica.become_empty(replica.node_id(), master.shard_id(), Lsn::ZERO, Vec::new()).unwrap();
    let last = chunk.len() - 1;
    chunk[last] ^= 1;
    assert!(matches!(replica.receive_image(&mut receiver, &chunk), Err(CopyError::Receive(_))));
    chunk[last] ^= 1;
    assert!(replica.receive_image(&mut receiver, &chunk).unwrap().last);
}

#[test]
fn a_cut_takes_back_what_came_after_it_unless_an_image_holds_it() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    store.log().start_epoch(Epoch(1), store.node_id(), 1).unwrap();
    set(&store, "kept", "1");
    store.log().write_up_to(store.log().end().lsn).unwrap();
    let (at, digest) = (store.log().end().lsn, store.digest());
    set(&store, "kept", "2");
    set(&store, "taken back", "3");
    let cuts = store.log().positions().cuts();
    assert!(store.can_cut_at(at));
    let kept = store.cut_at(at).unwrap();
    assert!(kept.is_dir() && store.log().positions().cuts() > cuts);
    assert_eq!((store.digest(), store.log().end().lsn), (digest, at));
    set(&store, "kept", "4");
    store.checkpoint().unwrap();
    assert!(!store.can_cut_at(at));
}

#[test]
fn when_the_slots_are_closed_every_command_that_was_let_in_is_in_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut scratch = Scratch::default();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{thread}:{number}");
                    let mut slots = store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
                    if slots.may_change() {
                        let (key, value) = (key.as_bytes().into(), b"value".as_slice().into());
                        slots.mutate(&Mutation::SetString { key, value, expiry: Expiry::Clear });
                    }
                    slots.commit().unwrap();
                }
            });
        }
        while store.log().end().lsn == Lsn::ZERO {
            std::thread::yield_now();
        }
        for _ in 0..30 {
            store.slots().close_to_commands();
            let end = store.log().end().lsn;
            for _ in 0..1000 {
                std::hint::spin_loop();
            }
            assert_eq!(store.log().end().lsn, end, "something was appended behind the barrier");
            store.slots().open_to_commands();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_directory_whose_log_is_gone_is_refused_and_one_that_never_had_a_log_is_not() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    drop(store);
    let wal = root.path().join("wal");
    std::fs::remove_dir_all(&wal).unwrap();
    // A crash at the very first start may leave as much.
    let store = open(root.path());
    set(&store, "key", "value");
    store.directory().set_in_group().unwrap();
    drop(store);
    let away = root.path().join("wal.away");
    std::fs::rename(&wal, &away).unwrap();
    for _ in 0..2 {
        let refused = Store::open(root.path(), config()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, StoreError::LogLost { .. }), "{refused}");
    }
    std::fs::remove_dir_all(&wal).ok();
    std::fs::rename(&away, &wal).unwrap();
    open(root.path());
}

#[test]
fn no_checkpoint_is_due_while_a_masters_data_are_being_copied() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), StoreConfig { checkpoint_log_size: 1, ..config() }).unwrap().0;
    assert!(!store.checkpoint_is_due());
    store.become_empty(store.node_id(), store.shard_id(), Lsn(5000), Vec::new()).unwrap();
    assert!(!store.checkpoint_is_due(), "it would fail");
    store.set_whole().unwrap();
    assert!(store.checkpoint_is_due());
}

#[test]
fn a_checkpoint_of_a_large_hash_is_of_one_moment_while_commands_change_it() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let mut scratch = Scratch::default();
    let mut change = |number: u32| {
        let mut slots = store.lock(&[SlotId::of_key(b"hash")], 1, &mut scratch);
        let field = format!("field {}", number % 20_000).into_bytes();
        let pairs = vec![(field.into(), format!("value {number}").into_bytes().into())];
        slots.mutate(&Mutation::HashSet { key: b"hash".as_slice().into(), pairs: Few::of(pairs) });
        slots.commit().unwrap()
    };
    for number in 0..20_000 {
        change(number);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let report = store.checkpoint().unwrap();
            assert_eq!(report.keys, 1);
            done.store(true, Ordering::Relaxed);
        });
        let mut number = 20_000;
        while !done.load(Ordering::Relaxed) {
            store.log().write_up_to(change(number)).unwrap();
            number += 1;
        }
    });
    let digest = store.digest();
    drop(store);
    // What the image says and the log after it are the state: a record in both, or in neither, would show.
    assert_eq!(open(temp.path()).digest(), digest);
}
