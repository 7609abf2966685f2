//! Facts about the manifest: it comes back, and where it cannot, it is rebuilt.

use std::fs;

use holdfast_words::{Epoch, ShardId, SlotId, SlotSequence};

use super::*;
use crate::checkpoint::image_format::{Compression, ImageBuilder, ImageKind};

fn slot(number: u16) -> ImageOf {
    ImageOf::Slot(SlotId::new(number).unwrap())
}

/// Publishes a file with images of these slots as of `sequence`, without telling the manifest.
fn publish(manifest: &Manifest, slots: &[u16], sequence: u64) -> (Vec<(ImageOf, ImageRow)>, u64) {
    let mut writer = manifest.create_file().unwrap();
    let mut builder = ImageBuilder::new(Compression::None);
    let mut changes = Vec::new();
    for &number in slots {
        builder.begin(ImageStamp {
            kind: ImageKind::Slot,
            shard: ShardId([7; 20]),
            slot: SlotId::new(number).unwrap(),
            epoch: Epoch(1),
            sequence: SlotSequence(sequence),
            lsn: Lsn(sequence * 10),
            value_version: 1,
        });
        builder.push(b"key", None, &[0; 100]);
        let (stamp, image, size) = builder.finish();
        changes.push((stamp.of(), writer.append_image(stamp, image, size).unwrap()));
    }
    let number = writer.number();
    writer.sync().unwrap();
    writer.publish().unwrap();
    (changes, number)
}

fn store(manifest: &Manifest, slots: &[u16], sequence: u64) {
    let (changes, file) = publish(manifest, slots, sequence);
    manifest.commit(&changes, file).unwrap();
    manifest.raise_covered_lsn(Lsn(sequence)).unwrap();
}

fn sequences(manifest: &Manifest) -> Vec<(ImageOf, u64)> {
    manifest.rows().rows.iter().map(|(of, row)| (*of, row.sequence.0)).collect()
}

fn set_aside(dir: &DataDir) -> usize {
    fs::read_dir(dir.set_aside()).unwrap().count()
}

#[test]
fn rows_survive_a_restart_and_files_without_rows_go() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Manifest::open(dir.clone()).unwrap();
    store(&manifest, &[1, 2], 5);
    store(&manifest, &[2, 3], 6);
    store(&manifest, &[1], 7);
    assert_eq!(sequences(&manifest), [(slot(1), 7), (slot(2), 6), (slot(3), 6)]);
    assert_eq!(fs::read_dir(dir.images()).unwrap().count(), 2);
    let rows = manifest.rows();
    drop(manifest);
    let manifest = Manifest::open(dir.clone()).unwrap();
    assert_eq!(manifest.rows(), rows);
    assert_eq!(manifest.covered_lsn(), Lsn(7));
    assert_eq!(manifest.create_file().unwrap().number(), 4);
    assert_eq!(set_aside(&dir), 0);
}

#[test]
fn a_manifest_behind_its_files_is_brought_up_to_date_and_keeps_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Manifest::open(dir.clone()).unwrap();
    store(&manifest, &[1, 2], 5);
    manifest.state().put_note("n", b"kept").unwrap();
    publish(&manifest, &[2], 6);
    drop(manifest);
    for _ in 0..2 {
        let manifest = Manifest::open(dir.clone()).unwrap();
        assert_eq!(sequences(&manifest), [(slot(1), 5), (slot(2), 6)]);
        assert_eq!(manifest.covered_lsn(), Lsn(5));
        assert_eq!(manifest.state().note("n").unwrap().as_deref(), Some(b"kept".as_slice()));
        assert_eq!(set_aside(&dir), 0);
    }
}

#[test]
fn a_missing_or_broken_state_is_rebuilt_from_the_images() {
    type Breakage = fn(&Path);
    let breakages: [Breakage; 4] = [
        |state| fs::remove_dir_all(state).unwrap(),
        |state| {
            fs::remove_file(state.join("db")).unwrap();
            fs::create_dir(state.join("db")).unwrap();
        },
        |state| {
            let bytes = fs::read(state.join("db")).unwrap();
            fs::write(state.join("db"), vec![0xa5; bytes.len()]).unwrap();
        },
        |state| {
            let mut bytes = fs::read(state.join("db")).unwrap();
            bytes.iter_mut().step_by(61).for_each(|byte| *byte ^= 0x11);
            fs::write(state.join("db"), bytes).unwrap();
        },
    ];
    for (case, breakage) in breakages.into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let manifest = Manifest::open(dir.clone()).unwrap();
        store(&manifest, &(0..500).collect::<Vec<_>>(), 5);
        store(&manifest, &[2, 700], 6);
        let rows = manifest.rows().rows;
        drop(manifest);
        breakage(&dir.state());
        let manifest = Manifest::open(dir.clone()).unwrap();
        assert_eq!(manifest.rows().rows, rows, "case {case}");
        assert_eq!(manifest.covered_lsn(), Lsn(6), "what is covered does not depend on sled");
        if case == 1 {
            assert!(dir.set_aside().join("state.broken-1").is_dir());
        }
        store(&manifest, &[2], 7);
    }
}

#[test]
fn a_lost_or_cut_image_file_is_refused_and_never_papered_over() {
    for (cut, behind) in [(None, false), (Some(100), false), (None, true)] {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let manifest = Manifest::open(dir.clone()).unwrap();
        store(&manifest, &[1], 5);
        store(&manifest, &[2], 6);
        if behind {
            publish(&manifest, &[3], 7);
        }
        drop(manifest);
        let path = image_files::path_of(&dir.images(), 2);
        match cut {
            None => fs::remove_file(path).unwrap(),
            Some(length) => fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap(),
        }
        let error = Manifest::open(dir.clone()).err().unwrap();
        assert!(matches!(error, ManifestError::ImagesLost { .. }), "{error}");
        assert!(
            error.to_string().contains("slot 2") && error.to_string().contains("image file 2"),
            "{error}"
        );
        assert_eq!(set_aside(&dir), 0);
    }
}

#[test]
fn a_rebuild_over_a_damaged_file_is_refused_with_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Manifest::open(dir.clone()).unwrap();
    store(&manifest, &[1], 5);
    drop(manifest);
    let path = image_files::path_of(&dir.images(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_dir_all(dir.state()).unwrap();
    let error = Manifest::open(dir.clone()).err().unwrap();
    assert!(matches!(error, ManifestError::Rebuild { .. }));
    assert!(error.to_string().contains(&format!("{}, offset 64", path.display())), "{error}");
}

#[test]
fn void_images_never_come_back_whatever_survives() {
    for survivor in ["nothing", "the state", "the files"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let manifest = Manifest::open(dir.clone()).unwrap();
        store(&manifest, &[1, 2], 5);
        let path = image_files::path_of(&dir.images(), 1);
        let bytes = fs::read(&path).unwrap();
        if survivor == "the state" {
            // The crash came right after the header was written.
            dir.void_images_below(2).unwrap();
        } else {
            manifest.void_all().unwrap();
            assert!(!path.exists() && manifest.rows().rows.is_empty());
            assert_eq!(manifest.covered_lsn(), Lsn::ZERO);
        }
        drop(manifest);
        if survivor == "the files" {
            fs::write(&path, bytes).unwrap();
            fs::remove_dir_all(dir.state()).unwrap();
        }
        let manifest = Manifest::open(dir.clone()).unwrap();
        assert!(manifest.rows().rows.is_empty(), "{survivor}");
        assert!(!path.exists(), "{survivor}");
        store(&manifest, &[3], 1);
        drop(manifest);
        assert_eq!(sequences(&Manifest::open(dir.clone()).unwrap()), [(slot(3), 1)]);
    }
}

#[test]
fn usage_counts_the_newest_images_only() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Manifest::open(dir.clone()).unwrap();
    store(&manifest, &[1, 2], 5);
    store(&manifest, &[2], 6);
    let usage = manifest.usage().unwrap();
    let image = manifest.rows().rows[&slot(1)].length;
    assert_eq!(usage[&1], FileUsage { length: 64 + 2 * image, live: image });
    assert_eq!(usage[&2], FileUsage { length: 64 + image, live: image });
}

#[test]
fn a_change_of_rows_that_is_not_durable_is_taken_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
    let manifest = Manifest::open(dir).unwrap();
    store(&manifest, &[1, 2], 1);
    let before = manifest.rows();
    let (mut changes, number) = publish(&manifest, &[2, 3], 2);
    // One of them twice: the first one's row is what was there before.
    changes.push(changes[0]);
    let mut rows = before.clone();
    let undo = Undo::change(&mut rows, &changes, number);
    assert_eq!((rows.newest_file, rows.rows.len()), (number, 3));
    undo.take_back(&mut rows);
    assert_eq!(rows, before);
}
