//! From one segment to the next while the disk does nothing, and every way that can be cut short.

use super::super::format::Seal;
use super::super::reader;
use super::super::segment::lsn_of_name;
use super::*;

/// A log whose next segment is prepared.
fn prepared() -> (TempDir, Arc<Log>) {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    while log.writer.lock().prepared.is_none() {
        append(&log, 5, b"some bytes to fill segments with");
        log.sync().unwrap();
    }
    (directory, log)
}

/// Goes on into the next segment.
fn into_the_next(log: &Log) {
    let before = log.stats().segments;
    while log.stats().segments == before {
        append(log, 5, b"some bytes to fill segments with");
    }
    append(log, 6, b"in the next one");
}

/// The newest segment's header as a crash may leave it: half of its first sector.
fn tear_header(directory: &Path) {
    let file = std::fs::File::options().write(true).open(newest_segment(directory)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 492], 20).unwrap();
}

#[test]
fn the_next_segment_is_begun_without_waiting_for_the_disk() {
    let (directory, log) = prepared();
    let no_sync_runs = log.commit.exclusive.lock();
    // Whoever syncs now fails.
    faults::fail(directory.path(), Operation::Sync, libc::EIO);
    into_the_next(&log);
    assert!(log.writer.lock().fresh.is_some() && !log.is_poisoned());
    faults::heal(directory.path());
    drop(no_sync_runs);
    let end = log.end().lsn;
    assert_eq!(log.sync().unwrap(), end);
    assert!(log.writer.lock().fresh.is_none());
    drop(log);
    let (_, recovery, seen) = open(directory.path()).unwrap();
    assert_eq!((recovery.end, seen.last().unwrap().1), (end, 6));
}

#[test]
fn a_killed_process_loses_nothing_of_a_segment_that_was_fresh() {
    let (directory, log) = prepared();
    let _no_sync_runs = log.commit.exclusive.lock();
    into_the_next(&log);
    let killed = copy_of(directory.path());
    let (_, recovery, seen) = open(killed.path()).unwrap();
    assert_eq!((recovery.end, seen.last().unwrap().1), (log.end().lsn, 6));
}

#[test]
fn a_process_killed_while_it_seals_the_full_segment_loses_nothing() {
    let (directory, log) = prepared();
    let _no_sync_runs = log.commit.exclusive.lock();
    into_the_next(&log);
    let (full, first, end) = {
        let writer = log.writer.lock();
        let full = writer.sealed.back().unwrap();
        (full.path.file_name().unwrap().to_owned(), full.first_lsn, full.end_lsn)
    };
    let at = offset_of(end, first);
    let records = [(5, 4096); 200].into_iter().collect();
    let mut seal = Vec::new();
    Seal::encode(
        &records,
        end,
        at,
        &mut super::super::seal_index::Buffers::new(),
        &mut || (),
        &mut |piece| {
            seal.extend_from_slice(piece);
            Ok::<(), ()>(())
        },
    )
    .unwrap();
    for written in [1, 6, 100, seal.len() - 1, seal.len()] {
        let killed = copy_of(directory.path());
        let file = std::fs::File::options().write(true).open(killed.path().join(&full)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seal[..written], at).unwrap();
        let (_, recovery, seen) = open(killed.path()).unwrap();
        assert_eq!((recovery.end, seen.last().unwrap().1), (log.end().lsn, 6), "{written} bytes of the seal");
    }
}

#[test]
fn a_segment_that_cannot_be_prepared_is_made_when_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    // In the way of the prepared file.
    std::fs::create_dir(directory.path().join("prepared.wal.new")).unwrap();
    while !log.writer.lock().cannot_prepare {
        append(&log, 5, b"some bytes to fill segments with");
        log.sync().unwrap();
        assert_eq!(log.stats().segments, 1);
    }
    std::fs::remove_dir(directory.path().join("prepared.wal.new")).unwrap();
    log.sync().unwrap();
    assert!(log.writer.lock().prepared.is_none(), "not with every sync");
    into_the_next(&log);
    assert!(!log.writer.lock().cannot_prepare);
    let end = log.end().lsn;
    drop(log);
    assert_eq!(open(directory.path()).unwrap().1.end, end);
}

#[test]
fn a_torn_header_is_a_crash_while_the_segment_is_fresh_and_damage_after() {
    let (directory, log) = prepared();
    let no_sync_runs = log.commit.exclusive.lock();
    into_the_next(&log);
    let begins_at = log.writer.lock().active.first_lsn;
    let cut = copy_of(directory.path());
    tear_header(cut.path());
    assert_eq!(open(cut.path()).unwrap().1.end, begins_at, "all before it is there");
    assert!(cut.path().join(append::SET_ASIDE).exists(), "nothing is dropped silently");

    drop(no_sync_runs);
    log.sync().unwrap();
    let durable = copy_of(directory.path());
    let found = reader::look(durable.path()).unwrap();
    assert!(found.segments[found.segments.len() - 2].seal.is_some(), "what counts stands after a seal");
    tear_header(durable.path());
    assert!(matches!(open(durable.path()), Err(OpenError::Header { .. })));

    // Without the seal (a full disk) the mark alone says so.
    let unsealed = &found.segments[found.segments.len() - 2].path;
    let file = std::fs::File::options().write(true).open(unsealed).unwrap();
    let first = lsn_of_name(unsealed.file_name().unwrap().to_str().unwrap()).unwrap();
    file.set_len(offset_of(begins_at, first)).unwrap();
    assert!(matches!(open(durable.path()), Err(OpenError::Header { .. })));
}

#[test]
fn a_segment_that_is_still_to_be_sealed_is_neither_released_nor_looked_at() {
    let (_directory, log) = prepared();
    let no_sync_runs = log.commit.exclusive.lock();
    into_the_next(&log);
    let begins_at = log.writer.lock().active.first_lsn;
    assert!(log.sealed().is_empty());
    assert_eq!(log.release_below(begins_at).unwrap(), 0);
    log.settle(&mut log.writer.lock()).unwrap();
    assert_eq!(log.sealed().len(), 1);
    drop(no_sync_runs);
    assert_eq!(log.release_below(begins_at).unwrap(), 1);
}

#[test]
fn the_first_mark_of_a_segment_does_not_take_the_place_of_the_one_it_was_prepared_with() {
    for syncs in 0..4 {
        let (directory, log) = prepared();
        // The marks go on meanwhile, in the full one.
        for _ in 0..syncs {
            log.write_mark(log.positions().durable_lsn()).unwrap();
        }
        into_the_next(&log);
        log.sync().unwrap();
        let block = std::fs::read(newest_segment(directory.path())).unwrap();
        let (a, b) = (&block[512..1024], &block[1024..1536]);
        assert!(a.iter().any(|&byte| byte != 0) && b.iter().any(|&byte| byte != 0), "{syncs} syncs");
    }
}

#[test]
fn a_prepared_segment_of_other_epochs_is_not_taken() {
    let (directory, log) = prepared();
    log.start_epoch(Epoch(3), NodeId([1; 20]), 1).unwrap();
    into_the_next(&log);
    let end = log.end().lsn;
    drop(log);
    let found = reader::look(directory.path()).unwrap();
    assert_eq!(found.segments.last().unwrap().header.history.len(), 1);
    assert_eq!(open(directory.path()).unwrap().1.end, end);
}

#[test]
fn a_log_that_begins_anew_keeps_no_prepared_segment() {
    let (directory, log) = prepared();
    log.reset(OWNER, Lsn(1000), Vec::new()).unwrap();
    assert!(log.writer.lock().prepared.is_none());
    let names = files::list(directory.path()).unwrap();
    assert!(!names.iter().any(|name| name.contains("prepared")), "{names:?}");
}
