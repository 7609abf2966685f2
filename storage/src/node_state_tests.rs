//! Facts about the node's small state.

use std::fs;

use super::*;

fn slot(number: u16) -> ImageOf {
    ImageOf::Slot(SlotId::new(number).unwrap())
}

fn row(file: u64, offset: u64) -> ImageRow {
    ImageRow { file, offset, length: 100, epoch: Epoch(2), sequence: SlotSequence(5), lsn: Lsn(6), keys: 7 }
}

fn rows(count: u16) -> ImageRows {
    let mut rows: BTreeMap<_, _> = (0..count).map(|n| (slot(n), row(1, u64::from(n) * 100))).collect();
    rows.insert(slot(16_383), row(2, 64));
    ImageRows { rows, newest_file: 2, generation: 1 }
}

fn state_with(path: &Path, all: &ImageRows) {
    let (state, found) = NodeState::open(path).unwrap();
    assert_eq!(found, ImageRows::default());
    state.put_images(all, all.rows.keys().copied()).unwrap();
}

#[test]
fn rows_and_notes_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut all = rows(300);
    state_with(&path, &all);
    let (state, found) = NodeState::open(&path).unwrap();
    assert_eq!(found, all);

    all.rows.remove(&slot(17));
    all.rows.insert(slot(18), row(3, 64));
    (all.newest_file, all.generation) = (3, 2);
    state.put_images(&all, [slot(17), slot(18)]).unwrap();
    state.put_note("last-save", b"12").unwrap();
    drop(state);
    let (state, found) = NodeState::open(&path).unwrap();
    assert_eq!(found, all);
    assert_eq!(state.note("last-save").unwrap().as_deref(), Some(b"12".as_slice()));
    assert_eq!(state.note("other").unwrap(), None);
}

#[test]
fn every_put_is_synced_by_the_function_that_sled_calls_in_this_binary() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = NodeState::open(&dir.path().join("state")).unwrap();
    for turn in 0..20u64 {
        let before = sync_file_range::count();
        state.put_note("n", &turn.to_le_bytes()).unwrap();
        assert!(sync_file_range::count() > before, "put {turn} was flushed without an fdatasync");
    }
}

#[test]
fn a_row_that_was_lost_or_changed_is_noticed() {
    type Tamper = fn(&sled::Tree);
    let tamper: [(&str, Tamper); 4] = [
        ("removed", |tree| drop(tree.remove(0u16.to_be_bytes()).unwrap())),
        ("older", |tree| {
            let mut older = rows(10);
            older.rows.insert(slot(3), row(1, 999));
            drop(tree.insert(0u16.to_be_bytes(), older.encode_group(0).unwrap()).unwrap());
        }),
        ("no row", |tree| drop(tree.insert(0u16.to_be_bytes(), b"x").unwrap())),
        ("no stamp", |tree| drop(tree.remove(STAMP_KEY).unwrap())),
    ];
    for (name, tamper) in tamper {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        state_with(&path, &rows(10));
        wait_for_lock(&path).unwrap();
        let db = sled::Config::new().path(&path).segment_size(SEGMENT_SIZE).open().unwrap();
        tamper(&db.open_tree("images").unwrap());
        drop(db);
        let error = NodeState::open(&path).err().expect(name);
        assert!(matches!(error, NodeStateError::Inconsistent { .. }), "{name}: {error}");
    }
}

#[test]
fn sled_panicking_at_open_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    state_with(&path, &rows(3000));
    // Bytes all over the file, so that sled meets them whatever it reads.
    let db = path.join("db");
    let mut bytes = fs::read(&db).unwrap();
    bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
    fs::write(&db, bytes).unwrap();
    let outcome = NodeState::open(&path);
    // sled may also take the damage for an empty state; rows it returns are those that were written, or none.
    if let Ok((_, found)) = outcome {
        assert_eq!(found, ImageRows::default());
    }
}

#[test]
fn a_panic_in_a_call_is_an_error_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = NodeState::open(&dir.path().join("state")).unwrap();
    let error = state.run::<()>("try", |_| panic!("as sled does")).unwrap_err();
    assert!(error.to_string().ends_with("try: sled panicked: as sled does"), "{error}");
    assert_eq!(state.put_note("n", b"v").unwrap_err().to_string(), error.to_string());
}

#[test]
fn records_that_sled_would_put_into_unsynced_files_are_refused_and_allowed_ones_never_get_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (state, _) = NodeState::open(&path).unwrap();
    let error = state.put_note("n", &vec![0; NOTE_SIZE_MAX]).unwrap_err();
    assert!(matches!(error, NodeStateError::NoteTooLarge { .. }), "{error}");
    let mut dice = fastrand::Rng::with_seed(4);
    for turn in 0..300 {
        let value: Vec<u8> = (0..NOTE_SIZE_MAX - 8).map(|_| dice.u8(..)).collect();
        state.put_note(&format!("n{}", turn % 70), &value).unwrap();
    }
    drop(state);
    assert_eq!(fs::read_dir(path.join("blobs")).unwrap().count(), 0);
}
