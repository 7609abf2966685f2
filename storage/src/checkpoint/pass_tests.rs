//! Facts about passes, rewriting and loading, over slots that hold counters and a log that is a list.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use holdfast_words::{Epoch, ShardId};
use parking_lot::Mutex;

use super::*;
use crate::checkpoint::image_files;
use crate::checkpoint::image_files::ImageFileError;
use crate::checkpoint::image_format::{Entry, ImageKind, ImageStamp};
use crate::checkpoint::load::{ImageVisitor, LoadReport, load_all, load_one};
use crate::data_dir::DataDir;
use crate::platform::files::faults::{self, Operation};

type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Default, PartialEq, Debug)]
struct ModelSlot {
    sequence: u64,
    newest_lsn: u64,
    imaged: u64,
    keys: Keys,
}

/// Record: slot, sequence, key, value; takes 10 bytes of log.
type Record = (SlotId, u64, Vec<u8>, Vec<u8>);
const RECORD_SIZE: u64 = 10;

#[derive(Default)]
struct World {
    slots: Vec<Mutex<ModelSlot>>,
    log: Mutex<Vec<Record>>,
    log_is_lost: AtomicBool,
    waited: Mutex<Vec<u64>>,
    images: Option<std::path::PathBuf>,
    manifest: Option<Arc<Manifest>>,
}

impl World {
    fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Mutex::default()).collect(), ..Self::default() }
    }

    fn write(&self, number: usize, key: &[u8], value: &[u8]) {
        let mut slot = self.slots[number].lock();
        slot.sequence += 1;
        slot.keys.insert(key.to_vec(), value.to_vec());
        let mut log = self.log.lock();
        log.push((id(number), slot.sequence, key.to_vec(), value.to_vec()));
        slot.newest_lsn = log.len() as u64 * RECORD_SIZE;
    }

    fn state(&self) -> Vec<(u64, Keys)> {
        self.slots.iter().map(|slot| slot.lock()).map(|slot| (slot.sequence, slot.keys.clone())).collect()
    }

    /// As a restart does: images, then the log from the covered LSN on.
    fn recovered(&self, manifest: &Manifest) -> Vec<(u64, Keys)> {
        let loaded = Loaded { slots: self.slots.iter().map(|_| Mutex::default()).collect() };
        load_all(manifest, 4, &loaded).unwrap();
        let from = (manifest.covered_lsn().0 / RECORD_SIZE) as usize;
        for (slot, sequence, key, value) in self.log.lock().iter().skip(from) {
            let mut slot = loaded.slots[slot.index()].lock();
            if *sequence > slot.0 {
                assert_eq!(*sequence, slot.0 + 1, "a record is missing");
                slot.0 = *sequence;
                slot.1.insert(key.clone(), value.clone());
            }
        }
        loaded.slots.into_iter().map(Mutex::into_inner).collect()
    }
}

fn id(number: usize) -> SlotId {
    SlotId::new(number as u16).unwrap()
}

impl SlotSource for World {
    fn applied_lsn(&self) -> Lsn {
        Lsn(self.log.lock().len() as u64 * RECORD_SIZE)
    }

    fn dirty_slots(&self) -> Vec<SlotId> {
        let dirty = |slot: &ModelSlot| slot.imaged < slot.sequence;
        (0..self.slots.len()).filter(|&number| dirty(&self.slots[number].lock())).map(id).collect()
    }

    fn copy_slot(
        &self,
        slot: SlotId,
        image: &mut ImageBuilder,
        _store: StoreChunks<'_>,
    ) -> Result<(), ImageFileError> {
        let model = self.slots[slot.index()].lock();
        image.begin(ImageStamp {
            kind: ImageKind::Slot,
            shard: ShardId([7; 20]),
            slot,
            epoch: Epoch(1),
            sequence: SlotSequence(model.sequence),
            lsn: Lsn(model.newest_lsn),
            value_version: 1,
        });
        model.keys.iter().for_each(|(key, value)| image.push(key, None, value));
        Ok(())
    }

    fn wait_until_safe(&self, lsn: Lsn) -> Result<(), String> {
        self.waited.lock().push(lsn.0);
        if self.log_is_lost.load(Ordering::Relaxed) {
            return Err("the master has changed".to_owned());
        }
        if let (Some(images), Some(manifest)) = (&self.images, &self.manifest) {
            let newest = image_files::list(images, false).unwrap().into_keys().max().unwrap_or(0);
            assert_eq!(newest, manifest.rows().newest_file, "a file was published before the log was safe");
        }
        Ok(())
    }

    fn on_imaged(&self, slot: SlotId, sequence: SlotSequence) {
        if let Some(manifest) = &self.manifest {
            let row = manifest.rows().rows[&ImageOf::Slot(slot)];
            assert_eq!(row.sequence, sequence, "a slot was called imaged before the manifest had it");
        }
        self.slots[slot.index()].lock().imaged = sequence.0;
    }
}

struct Loaded {
    slots: Vec<Mutex<(u64, Keys)>>,
}

impl ImageVisitor for Loaded {
    fn on_image(&self, stamp: &ImageStamp, _keys: u64) {
        *self.slots[stamp.slot.index()].lock() = (stamp.sequence.0, Keys::new());
    }

    fn on_entry(&self, stamp: &ImageStamp, entry: Entry<'_>) -> Result<(), String> {
        if entry.value == b"nonsense" {
            return Err("no value".to_owned());
        }
        self.slots[stamp.slot.index()].lock().1.insert(entry.key.to_vec(), entry.value.to_vec());
        Ok(())
    }
}

struct Scene {
    temp: tempfile::TempDir,
    dir: Arc<DataDir>,
    world: World,
    checkpointer: Checkpointer,
}

fn scene(slots: usize, file_size: u64) -> Scene {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Arc::new(Manifest::open(dir.clone()).unwrap());
    let mut world = World::new(slots);
    (world.images, world.manifest) = (Some(dir.images()), Some(manifest.clone()));
    let settings = PassSettings { file_size, compression: Compression::Lz4 };
    Scene { temp, dir, world, checkpointer: Checkpointer::new(manifest, settings) }
}

impl Scene {
    /// Closes the manifest and opens it again, as a restart does.
    fn reopened(&mut self) -> Arc<Manifest> {
        let settings = self.checkpointer.settings;
        self.world.manifest = None;
        let elsewhere = DataDir::open_or_create(&self.temp.path().join("elsewhere"), None).unwrap();
        let placeholder = Arc::new(Manifest::open(Arc::new(elsewhere)).unwrap());
        self.checkpointer = Checkpointer::new(placeholder, settings);
        let manifest = Arc::new(Manifest::open(self.dir.clone()).unwrap());
        self.checkpointer = Checkpointer::new(manifest.clone(), settings);
        manifest
    }
}

#[test]
fn images_and_the_log_above_them_are_the_state() {
    let mut scene = scene(50, 10_000);
    for number in 0..50 {
        for key in 0..20u8 {
            scene.world.write(number, &[key], &[number as u8; 100]);
        }
    }
    let report = scene.checkpointer.run(&scene.world).unwrap();
    assert_eq!((report.slots, report.keys, report.covered_lsn), (50, 1000, Lsn(10_000)));
    assert!(report.files > 1);
    scene.world.write(3, b"later", b"x");
    let state = scene.world.state();
    let manifest = scene.reopened();
    assert_eq!(manifest.covered_lsn(), Lsn(10_000));
    assert_eq!(scene.world.recovered(&manifest), state);

    let report = scene.checkpointer.run(&scene.world).unwrap();
    assert_eq!((report.slots, report.covered_lsn), (1, Lsn(10_010)));
    let report = scene.checkpointer.run(&scene.world).unwrap();
    assert_eq!((report.slots, report.files, report.covered_lsn), (0, 0, Lsn(10_010)));
    assert_eq!(scene.checkpointer.progress().passes(), (2, 0));
}

#[test]
fn writes_during_a_pass_are_in_the_images_or_above_the_covered_lsn() {
    let scene = scene(16, 3_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2u64 {
            let (world, stop) = (&scene.world, &stop);
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                while !stop.load(Ordering::Relaxed) {
                    world.write(dice.usize(0..16), &[dice.u8(0..8)], &dice.u64(..).to_le_bytes());
                }
            });
        }
        let mut busy_passes = 0;
        while busy_passes < 12 {
            busy_passes += u32::from(scene.checkpointer.run(&scene.world).unwrap().slots > 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(scene.checkpointer.manifest().covered_lsn() > Lsn::ZERO);
    assert_eq!(scene.world.recovered(scene.checkpointer.manifest()), scene.world.state());
}

#[test]
fn no_image_gets_ahead_of_a_log_that_was_cut() {
    let scene = scene(4, 1 << 20);
    scene.world.write(1, b"k", b"v");
    scene.checkpointer.run(&scene.world).unwrap();
    scene.world.write(1, b"k", b"lost");
    scene.world.write(2, b"k", b"lost");
    scene.world.log_is_lost.store(true, Ordering::Relaxed);
    let error = scene.checkpointer.run(&scene.world).unwrap_err();
    assert!(matches!(error, PassError::LogNotSafe { lsn: Lsn(30), .. }), "{error}");
    assert_eq!(scene.world.waited.lock().as_slice(), [10, 10, 30]);
    let manifest = scene.checkpointer.manifest();
    assert_eq!(manifest.covered_lsn(), Lsn(10));
    assert_eq!(manifest.rows().rows.len(), 1);
    assert_eq!(fs::read_dir(scene.dir.images()).unwrap().count(), 1, "the unfinished file is gone");
    assert_eq!(scene.checkpointer.progress().passes(), (1, 1));
    assert!(!scene.checkpointer.progress().is_running());
    scene.world.log_is_lost.store(false, Ordering::Relaxed);
    assert_eq!(scene.checkpointer.run(&scene.world).unwrap().covered_lsn, Lsn(30));
}

#[test]
fn a_clean_store_too_waits_for_the_log_before_calling_it_covered() {
    let scene = scene(4, 1 << 20);
    scene.world.write(1, b"k", b"v");
    scene.world.slots[1].lock().imaged = 1;
    scene.world.log_is_lost.store(true, Ordering::Relaxed);
    assert!(scene.checkpointer.run(&scene.world).is_err());
    assert_eq!(scene.checkpointer.manifest().covered_lsn(), Lsn::ZERO);
}

#[test]
fn one_pass_runs_at_a_time() {
    struct Nested<'a>(&'a World, &'a Checkpointer);
    impl SlotSource for Nested<'_> {
        fn applied_lsn(&self) -> Lsn {
            assert!(self.1.progress().is_running());
            assert!(matches!(self.1.run(self.0), Err(PassError::Running)));
            self.0.applied_lsn()
        }
        fn dirty_slots(&self) -> Vec<SlotId> {
            self.0.dirty_slots()
        }
        fn copy_slot(
            &self,
            slot: SlotId,
            image: &mut ImageBuilder,
            store: StoreChunks<'_>,
        ) -> Result<(), ImageFileError> {
            self.0.copy_slot(slot, image, store)
        }
        fn wait_until_safe(&self, lsn: Lsn) -> Result<(), String> {
            self.0.wait_until_safe(lsn)
        }
        fn on_imaged(&self, slot: SlotId, sequence: SlotSequence) {
            self.0.on_imaged(slot, sequence);
        }
    }
    let scene = scene(1, 1000);
    scene.world.write(0, b"k", b"v");
    scene.checkpointer.run(&Nested(&scene.world, &scene.checkpointer)).unwrap();
    scene.checkpointer.run(&scene.world).unwrap();
}

#[test]
fn mostly_dead_files_are_rewritten_and_nothing_is_lost() {
    let mut scene = scene(200, 8 << 10);
    let mut dice = fastrand::Rng::with_seed(9);
    for number in 0..200 {
        scene.world.write(number, b"first", &[1; 200]);
    }
    let mut rewritten = 0;
    for _ in 0..30 {
        for _ in 0..10 {
            scene.world.write(dice.usize(0..40), b"k", &dice.u64(..).to_le_bytes());
        }
        rewritten += scene.checkpointer.run(&scene.world).unwrap().rewritten_files;
    }
    assert!(rewritten > 0);
    let usage = scene.checkpointer.manifest().usage().unwrap();
    let (length, live): (u64, u64) =
        usage.values().fold((0, 0), |sum, file| (sum.0 + file.length, sum.1 + file.live));
    assert!(length < 3 * live, "{length} bytes for {live}");
    let on_disk = image_files::list(&scene.dir.images(), false).unwrap();
    assert_eq!(on_disk.into_keys().collect::<Vec<_>>(), usage.into_keys().collect::<Vec<_>>());
    let state = scene.world.state();
    assert_eq!(scene.world.recovered(scene.checkpointer.manifest()), state);
    // And from the files alone.
    let rows = scene.checkpointer.manifest().rows().rows;
    fs::remove_dir_all(scene.dir.state()).unwrap();
    let manifest = scene.reopened();
    assert_eq!(manifest.rows().rows, rows);
    assert_eq!(scene.world.recovered(&manifest), state);
}

#[test]
fn a_slot_larger_than_many_chunks_loads_back() {
    let scene = scene(2, 1 << 20);
    let mut dice = fastrand::Rng::with_seed(3);
    for key in 0..40u8 {
        let value: Vec<u8> = (0..200_000).map(|_| dice.u8(..)).collect();
        scene.world.write(1, &[key], &value);
    }
    scene.checkpointer.run(&scene.world).unwrap();
    assert!(scene.world.recovered(scene.checkpointer.manifest()) == scene.world.state());
}

#[test]
fn a_damaged_image_is_named_and_not_loaded() {
    let scene = scene(20, 1 << 20);
    for number in 0..20 {
        scene.world.write(number, b"key", &[b'a' + number as u8; 30]);
    }
    scene.checkpointer.run(&scene.world).unwrap();
    let manifest = scene.checkpointer.manifest();
    let row = manifest.rows().rows[&ImageOf::Slot(id(7))];
    let path = image_files::path_of(&scene.dir.images(), row.file);
    let whole = fs::read(&path).unwrap();
    let loaded = || Loaded { slots: (0..20).map(|_| Mutex::default()).collect() };
    for at in row.offset..row.offset + row.length {
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 4;
        fs::write(&path, damaged).unwrap();
        let error = load_all(manifest, 3, &loaded()).unwrap_err().to_string();
        assert!(error.contains(&format!("{}, offset {}", path.display(), row.offset)), "{error}");
    }
    // A neighbour's image in its place is whole, but not the one that belongs there.
    let other = manifest.rows().rows[&ImageOf::Slot(id(8))];
    assert_eq!(other.length, row.length);
    let mut swapped = whole.clone();
    swapped.copy_within(other.offset as usize..(other.offset + other.length) as usize, row.offset as usize);
    fs::write(&path, swapped).unwrap();
    let error = load_all(manifest, 3, &loaded()).unwrap_err().to_string();
    assert!(error.contains("(slot 7)") && error.contains("another image"), "{error}");
    fs::write(&path, whole).unwrap();
    let report = load_all(manifest, 3, &loaded()).unwrap();
    assert_eq!((report.slots, report.keys), (20, 20));
}

#[test]
fn a_value_that_makes_no_sense_ends_loading_with_its_key() {
    let scene = scene(2, 1 << 20);
    scene.world.write(1, b"k\n", b"nonsense");
    scene.checkpointer.run(&scene.world).unwrap();
    let loaded = Loaded { slots: (0..2).map(|_| Mutex::default()).collect() };
    let error = load_all(scene.checkpointer.manifest(), 2, &loaded).unwrap_err().to_string();
    assert!(error.contains("slot 1") && error.contains("k\\\\n") && error.ends_with("no value"), "{error}");
}

#[test]
fn one_slot_can_be_loaded_alone_and_an_empty_manifest_loads() {
    let scene = scene(3, 1 << 20);
    let loaded = Loaded { slots: (0..3).map(|_| Mutex::default()).collect() };
    let manifest = scene.checkpointer.manifest();
    assert_eq!(load_all(manifest, 2, &loaded).unwrap(), LoadReport::default());
    scene.world.write(1, b"k", b"v");
    scene.checkpointer.run(&scene.world).unwrap();
    assert!(!load_one(manifest, ImageOf::Slot(id(2)), &loaded).unwrap());
    assert!(load_one(manifest, ImageOf::Slot(id(1)), &loaded).unwrap());
    assert_eq!(loaded.slots[1].lock().1[b"k".as_slice()], b"v");
}

#[test]
fn a_failing_disk_fails_the_pass_and_nothing_is_called_covered() {
    type Place = fn(&DataDir) -> std::path::PathBuf;
    let failures: [(&str, Place, Operation, i32); 5] = [
        ("image written", DataDir::images, Operation::Write, libc::ENOSPC),
        ("image synced", DataDir::images, Operation::Sync, libc::EIO),
        ("manifest synced", DataDir::state, Operation::Sync, libc::EIO),
        ("header written", |dir| dir.root().join("node.new"), Operation::Write, libc::ENOSPC),
        ("header synced", |dir| dir.root().join("node.new"), Operation::Sync, libc::EIO),
    ];
    let both = [true, false].into_iter().flat_map(|restarts| failures.map(|failure| (restarts, failure)));
    for (restarts, (name, place, operation, error)) in both {
        let mut scene = scene(4, 1 << 20);
        scene.world.write(1, b"k", b"v");
        scene.checkpointer.run(&scene.world).unwrap();
        scene.world.write(1, b"k", b"w");
        scene.world.write(2, b"k", b"w");
        let state = scene.world.state();
        let place = place(&scene.dir);
        faults::fail(&place, operation, error);
        let failed = scene.checkpointer.run(&scene.world).expect_err(name);
        assert!(
            failed.to_string().contains(&std::io::Error::from_raw_os_error(error).to_string()),
            "{failed}"
        );
        assert_eq!(scene.checkpointer.manifest().covered_lsn(), Lsn(10), "{name}");
        faults::heal(&place);
        if restarts {
            let manifest = scene.reopened();
            assert_eq!(scene.world.recovered(&manifest), state, "{name}");
        } else {
            // A file was published and its rows were not committed; the next pass does not mind.
            scene.world.images = None;
        }
        assert_eq!(scene.checkpointer.run(&scene.world).unwrap().covered_lsn, Lsn(30), "{name}");
        assert_eq!(scene.world.recovered(scene.checkpointer.manifest()), state, "{name}");
        let manifest = scene.reopened();
        assert_eq!(scene.world.recovered(&manifest), state, "{name}");
    }
}
