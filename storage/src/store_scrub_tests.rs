//! The scrub of a whole store: damaged images are made again out of memory, segments out of another member's bytes, and what could not
//! be mended is said.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::log::FsyncPolicy;
use crate::mutation::{Expiry, Mutation};
use crate::scrub::nobody;

fn config() -> StoreConfig {
    let log = LogConfig {
        segment_size: 64 << 10,
        fsync: FsyncPolicy::No,
        spare_segments: 1,
        ..LogConfig::default()
    };
    StoreConfig { log, load_threads: 1, checkpoint_log_size: 0, retain_bytes: 1 << 30 }
}

fn open(path: &Path) -> Arc<Store> {
    Store::open(path, config()).unwrap().0
}

fn fill(store: &Store, round: u32) {
    let mut scratch = Scratch::default();
    for number in 0..300u32 {
        let key = format!("key{number}");
        let value = format!("{round}-{number}-").repeat(40);
        let mut slots = store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
        let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
        slots.mutate(&Mutation::SetString { key, value, expiry: Expiry::Clear });
        let end = slots.commit().unwrap();
        store.log().write_up_to(end).unwrap();
    }
    // What is full is sealed then, and not only when the log's thread comes to it.
    store.log().sync().unwrap();
}

fn pass(store: &Store) {
    while !store.scrub(10_000, &mut nobody).1 {}
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn image_file(store: &Store) -> PathBuf {
    let file = store.manifest().rows().rows.values().next().unwrap().file;
    crate::checkpoint::image_files::path_of(store.manifest().directory(), file)
}

#[test]
fn a_sound_store_is_read_whole_and_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1);
    store.checkpoint().unwrap();
    fill(&store, 2);
    pass(&store);
    let stats = store.scrub_stats();
    let sealed: u64 = store.log().sealed().iter().map(|one| one.end_lsn.since(one.first_lsn)).sum();
    let images: u64 = store.manifest().rows().rows.values().map(|row| row.length).sum();
    assert!(sealed > 0 && images > 0);
    assert!(stats.pass_bytes >= sealed + images, "{stats:?}");
    assert_eq!((stats.passes, stats.found, stats.unmended), (1, 0, 0));
}

#[test]
fn an_image_damaged_anywhere_is_made_again_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    fill(&store, 1);
    store.checkpoint().unwrap();
    let digest = store.digest();
    let length = fs::metadata(image_file(&store)).unwrap().len();
    // The file's header, the first chunk's header, its body, the last chunk's end.
    for (times, offset) in [3, 64 + 10, 64 + 150, length - 1].into_iter().enumerate() {
        let damaged = image_file(&store);
        flip(&damaged, offset.min(fs::metadata(&damaged).unwrap().len() - 1));
        pass(&store);
        let stats = store.scrub_stats();
        assert!(stats.found > 0, "flip {times}: {stats:?}");
        assert_eq!((stats.mended, stats.unmended), (stats.found, 0), "flip {times}");
        assert!(stats.last_damage.contains(".img"), "{stats:?}");
        assert!(!damaged.exists(), "nobody needs the damaged file any more");
        pass(&store);
        assert_eq!(store.scrub_stats().found, stats.found, "flip {times}: once mended it is whole");
        drop(store);
        store = open(dir.path());
        assert_eq!(store.digest(), digest, "flip {times}");
    }
}

#[test]
fn without_the_scrub_a_damaged_image_keeps_the_node_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1);
    store.checkpoint().unwrap();
    flip(&image_file(&store), 64 + 150);
    drop(store);
    assert!(Store::open(dir.path(), config()).is_err());
}

#[test]
fn a_damaged_segment_that_nobody_else_has_is_counted_and_mended_when_somebody_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1);
    let segment = store.log().sealed()[0].clone();
    let whole = fs::read(&segment.path).unwrap();
    flip(&segment.path, 4096 + 300);
    pass(&store);
    let stats = store.scrub_stats();
    assert_eq!((stats.found, stats.mended, stats.unmended), (1, 0, 1), "{stats:?}");
    let mut from = |range: std::ops::Range<Lsn>| {
        let at = |lsn: Lsn| (4096 + lsn.since(segment.first_lsn)) as usize;
        Ok(whole[at(range.start)..at(range.end)].to_vec())
    };
    while !store.scrub(10_000, &mut from).1 {}
    let stats = store.scrub_stats();
    assert_eq!((stats.mended, stats.unmended), (1, 0), "{stats:?}");
    assert_eq!(fs::read(&segment.path).unwrap()[4096..], whole[4096..]);
    assert_eq!(store.set_aside_count().unwrap(), 1);
}
