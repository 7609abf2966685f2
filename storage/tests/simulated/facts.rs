//! What the seeds have found, and what a simulated disk promises, each as a scene of its own.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_storage::checkpoint::image_format::{Compression, ImageBuilder};
use holdfast_storage::data_dir::DataDir;
use holdfast_storage::log::{FsyncPolicy, LogConfig};
use holdfast_storage::mutation::{Expiry, Mutation};
use holdfast_storage::platform::files;
use holdfast_storage::platform::simulation::disk::{self, Faults};
use holdfast_storage::platform::simulation::{Installed, install};
use holdfast_storage::slots::Scratch;
use holdfast_storage::store::{Store, StoreConfig};
use holdfast_words::{Lsn, SlotId};

use crate::world::SmallWorld;

const ROOT: &str = "/simulated/machine/node";

fn world() -> (Rc<SmallWorld>, Installed) {
    let world = SmallWorld::of_seed(1);
    (world.clone(), install(world))
}

fn open(fsync: FsyncPolicy) -> Arc<Store> {
    let log = LogConfig { segment_size: 32 << 10, fsync, ..LogConfig::default() };
    let config = StoreConfig { log, checkpoint_log_size: 0, retain_bytes: 0, ..StoreConfig::default() };
    Store::open(Path::new(ROOT), config).unwrap().0
}

fn set(store: &Store, key: &str) -> Option<Lsn> {
    let mut scratch = Scratch::default();
    let mut slots = store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
    let (key, value) = (key.as_bytes().into(), [7; 900].as_slice().into());
    slots.mutate(&Mutation::SetString { key, value, expiry: Expiry::Clear });
    let end = slots.commit().ok()?;
    store.log().write_up_to(end).ok()?;
    Some(end)
}

#[test]
fn a_log_whose_sync_failed_is_written_again_by_the_next_start_and_so_survives_a_power_cut() {
    let (world, _installed) = world();
    let disk = disk::machine_disk("machine");
    let store = open(FsyncPolicy::No);
    let end = set(&store, "key").unwrap();
    disk.set_faults(Path::new(ROOT), Faults { sync_error: Some(libc::EIO), ..Faults::default() });
    store.log().sync().unwrap_err();
    drop(store);
    world.drop_tasks();
    disk.heal(Path::new(ROOT));
    let store = open(FsyncPolicy::No);
    assert_eq!(store.log().positions().durable_lsn(), end, "it says so");
    drop(store);
    world.drop_tasks();
    disk.cut_power(&mut fastrand::Rng::with_seed(1));
    assert_eq!(open(FsyncPolicy::No).slots().key_count(), 1);
}

#[test]
fn no_image_and_no_reply_says_what_a_failed_log_did_not_take() {
    let (_, _installed) = world();
    let disk = disk::machine_disk("machine");
    let store = open(FsyncPolicy::No);
    disk.set_faults(Path::new(ROOT), Faults { sync_error: Some(libc::EIO), ..Faults::default() });
    store.log().sync().unwrap_err();
    assert_eq!(set(&store, "key"), None);
    disk.heal(Path::new(ROOT));
    store.checkpoint().unwrap_err();
    let slot = SlotId::of_key(b"key");
    store.image_of(slot, &mut ImageBuilder::new(Compression::Lz4)).unwrap_err();
    let newest = store.slots().with(slot, |slot| slot.newest_lsn());
    assert!(newest > store.log().end().lsn, "a reply that shows it waits for ever");
    drop(store);
    disk.kill(Path::new(ROOT));
    assert_eq!(open(FsyncPolicy::No).slots().key_count(), 0);
}

#[test]
fn a_process_that_dies_before_it_has_caught_up_after_a_power_cut_leaves_the_log_doubtful() {
    let (_, _installed) = world();
    let disk = disk::machine_disk("machine");
    let start = || DataDir::open_or_create(Path::new(ROOT), None).unwrap();
    drop(start());
    assert!(start().is_same_boot(), "a process that only died has lost nothing");
    disk.cut_power(&mut fastrand::Rng::with_seed(1));
    assert!(!start().is_same_boot());
    let doubtful = start();
    assert!(!doubtful.is_same_boot(), "nobody has caught up in between");
    doubtful.confirm_log().unwrap();
    drop(doubtful);
    assert!(start().is_same_boot());
}

#[test]
fn replies_wait_as_long_as_a_slow_disk_takes_and_what_is_written_meanwhile_waits_for_the_next_sync() {
    let (world, _installed) = world();
    let disk = disk::machine_disk("machine");
    let sync_delay = Duration::from_millis(300);
    let store = open(FsyncPolicy::Always);
    world.run_for(Duration::from_millis(1));
    disk.set_faults(Path::new(ROOT), Faults { sync_delay, ..Faults::default() });
    let first = set(&store, "one").unwrap();
    world.run_for(Duration::from_millis(200));
    let second = set(&store, "two").unwrap();
    assert!(store.log().positions().durable_lsn() < first);
    world.run_for(Duration::from_millis(200));
    assert_eq!(store.log().positions().durable_lsn(), first);
    world.run_for(Duration::from_millis(300));
    assert_eq!(store.log().positions().durable_lsn(), second);
}

#[test]
fn names_survive_a_power_cut_once_their_directory_is_synced_and_a_rename_is_there_or_not() {
    let (_, _installed) = world();
    let root = Path::new(ROOT);
    let mut seen = [0; 2];
    for seed in 0..100 {
        let disk = disk::machine_disk(&format!("of-seed-{seed}"));
        let root = Path::new("/simulated").join(format!("of-seed-{seed}"));
        let (old, new) = (root.join("old"), root.join("new"));
        files::create_new(&old).unwrap().sync_all().unwrap();
        files::sync_directory(&root).unwrap();
        files::rename(&old, &new).unwrap();
        disk.cut_power(&mut fastrand::Rng::with_seed(seed));
        let names = files::list(&root).unwrap();
        assert!(names == ["old"] || names == ["new"], "{names:?}");
        seen[usize::from(names == ["new"])] += 1;
    }
    assert!(seen.iter().all(|&count| count > 10), "{seen:?}");
    assert_eq!(files::open_read(&root.join("nothing")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_lock_goes_with_its_file_and_with_its_process_and_a_dead_processs_files_do_nothing_more() {
    let (_, _installed) = world();
    let disk = disk::machine_disk("machine");
    let path = Path::new("/simulated/machine/LOCK");
    let first = files::open_read_write(path).unwrap();
    assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
    let second = files::open_read_write(path).unwrap();
    assert!(!second.try_lock().unwrap());
    drop(first);
    assert!(second.try_lock().unwrap());
    disk.kill(path);
    assert_eq!(second.write_all_at(b"late", 0).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(files::open_read_write(path).unwrap().try_lock().unwrap());
    assert_eq!(files::read(path).unwrap(), b"");
}

#[test]
fn a_full_disk_takes_what_is_reserved_and_has_space_again_when_a_file_goes() {
    let (_, _installed) = world();
    let disk = disk::machine_disk("machine");
    let root = Path::new("/simulated/machine");
    disk.set_faults(root, Faults { space_left: Some(1000), ..Faults::default() });
    let file = files::create_new(&root.join("a")).unwrap();
    file.reserve(0, 600).unwrap();
    let full = |outcome: std::io::Result<()>| outcome.unwrap_err().kind() == std::io::ErrorKind::StorageFull;
    let other = files::create_new(&root.join("b")).unwrap();
    assert!(full(other.reserve(0, 500)));
    other.write_all_at(&[1; 400], 0).unwrap();
    assert!(full(other.write_all_at(&[1; 1], 400)));
    file.write_all_at(&[1; 600], 0).unwrap();
    drop(file);
    files::remove_file(&root.join("a")).unwrap();
    files::sync_directory(root).unwrap();
    other.write_all_at(&[1; 500], 400).unwrap();
}
