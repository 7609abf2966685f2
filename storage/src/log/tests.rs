//! The log as a whole: what comes back after every kind of end.

mod closed;
mod damage;
mod durable_mark;
mod rotation;
mod trouble;
mod write_out;

use std::path::Path;
use std::sync::Arc;

use holdfast_words::{Epoch, Lsn, NodeId, ShardId, SlotId, SlotSequence};
use tempfile::TempDir;

use super::*;
use crate::platform::files::faults::{self, Operation};

const OWNER: ShardId = ShardId([9; 20]);

fn config() -> LogConfig {
    LogConfig { segment_size: 16 << 10, fsync: FsyncPolicy::No, spare_segments: 2, boot: BootId([1; 16]) }
}

/// Directories of open logs. A log that is dropped may live on for what its thread is doing; in a process that ends it does not.
static OPEN: Mutex<Vec<std::path::PathBuf>> = Mutex::new(Vec::new());

pub(super) fn note_open(directory: &Path) {
    OPEN.lock().push(directory.to_owned());
}

pub(super) fn note_closed(directory: &Path) {
    let mut open = OPEN.lock();
    if let Some(index) = open.iter().position(|it| it == directory) {
        open.swap_remove(index);
    }
}

/// Waits for that, as long as nobody keeps the log open on purpose.
pub(super) fn wait_until_closed(directory: &Path) {
    let deadline = crate::platform::clock::monotonic_ms() + 2000;
    while OPEN.lock().iter().any(|it| it == directory) && crate::platform::clock::monotonic_ms() < deadline {
        std::thread::yield_now();
    }
}

type Seen = Vec<(Lsn, u16, Vec<u8>)>;

fn open(directory: &Path) -> Result<(Arc<Log>, Recovery, Seen), OpenError> {
    let mut seen = Vec::new();
    let mut visitor = |record: &RecordView<'_>| -> Result<(), VisitError> {
        seen.push((record.lsn, record.header.slot.number(), record.body.to_vec()));
        Ok(())
    };
    let (log, recovery) = Log::open(directory, OWNER, &config(), Lsn::ZERO, Lsn::ZERO, &mut visitor)?;
    Ok((log, recovery, seen))
}

fn record(slot: u16, sequence: u64, flags: u8, body: &[u8]) -> Vec<u8> {
    record_of(Epoch::ZERO, slot, sequence, flags, body)
}

fn record_of(epoch: Epoch, slot: u16, sequence: u64, flags: u8, body: &[u8]) -> Vec<u8> {
    let header = RecordHeader {
        kind: RecordKind::Mutations,
        flags,
        slot: SlotId::new(slot).unwrap(),
        epoch,
        sequence: SlotSequence(sequence),
        wall_clock_ms: 1,
    };
    let mut bytes = Vec::new();
    encode_record(&mut bytes, &header, body);
    bytes
}

fn append(log: &Log, slot: u16, body: &[u8]) -> Lsn {
    let end = log.append(&mut record_of(log.epoch(), slot, 1, 0, body)).unwrap();
    log.write_up_to(end).unwrap();
    end
}

fn newest_segment(directory: &Path) -> std::path::PathBuf {
    let mut names = files::list(directory).unwrap();
    names.retain(|name| name.ends_with(".wal"));
    directory.join(names.last().unwrap())
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in files::list(directory).unwrap() {
        if name.ends_with(".wal") {
            std::fs::copy(directory.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

#[test]
fn what_was_written_comes_back_in_order_over_many_segments() {
    let directory = tempfile::tempdir().unwrap();
    let (log, recovery, _) = open(directory.path()).unwrap();
    assert!(recovery.is_new);
    for number in 0..1000u32 {
        append(&log, (number % 7) as u16, &number.to_le_bytes());
    }
    let end = log.end().lsn;
    assert!(log.stats().segments > 2);
    drop(log);
    let (log, recovery, seen) = open(directory.path()).unwrap();
    assert_eq!((recovery.end, recovery.torn, seen.len()), (end, None, 1000));
    assert!(seen.iter().zip(0u32..).all(|((_, _, body), number)| *body == number.to_le_bytes()));
    append(&log, 3, b"more");
    drop(log);
    assert_eq!(open(directory.path()).unwrap().2.len(), 1001);
}

#[test]
fn a_record_longer_than_a_segment_gets_one_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"small");
    append(&log, 1, &vec![7; 100_000]);
    append(&log, 1, b"small");
    drop(log);
    let (log, _, seen) = open(directory.path()).unwrap();
    assert_eq!(seen.len(), 3);
    let mut chunk = Vec::new();
    let next = log.read_chunk(seen[1].0, 100, &mut chunk).unwrap();
    assert_eq!((chunk.len(), next), (100_036, seen[2].0));
}

#[test]
fn a_tail_cut_at_any_byte_above_the_mark_leaves_a_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"durable");
    log.sync().unwrap();
    let ends: Vec<Lsn> = (0..5).map(|number| append(&log, number, b"above the mark")).collect();
    drop(log);
    let newest = newest_segment(directory.path());
    let first = offset_of(ends[0], Lsn::ZERO) - 50;
    for cut in first..offset_of(ends[4], Lsn::ZERO) {
        let copy = copy_of(directory.path());
        let path = copy.path().join(newest.file_name().unwrap());
        std::fs::File::options().write(true).open(path).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| offset_of(**end, Lsn::ZERO) <= cut).count();
        let (log, _, seen) = open(copy.path()).unwrap();
        assert_eq!(seen.len(), 1 + whole, "cut at {cut}");
        append(&log, 9, b"goes on");
        drop(log);
        assert_eq!(open(copy.path()).unwrap().2.len(), 2 + whole);
    }
}

#[test]
fn a_flipped_bit_above_the_mark_ends_the_log_below_it_refuses_with_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let durable_end = (0..4).fold(Lsn::ZERO, |_, number| append(&log, 100 + number, b"below the mark"));
    log.sync().unwrap();
    let end = (0..4).fold(Lsn::ZERO, |_, number| append(&log, 200 + number, b"above the mark"));
    drop(log);
    let newest = newest_segment(directory.path());
    for offset in SEGMENT_HEADER_SIZE..offset_of(end, Lsn::ZERO) {
        let copy = copy_of(directory.path());
        let path = copy.path().join(newest.file_name().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset as usize] ^= 0x04;
        std::fs::write(&path, bytes).unwrap();
        let number = (offset - SEGMENT_HEADER_SIZE) / 50;
        if offset < offset_of(durable_end, Lsn::ZERO) {
            let error = open(copy.path()).unwrap_err();
            let OpenError::Corrupt { offset: place, path: named, .. } = &error else { panic!("{error}") };
            assert_eq!((*place, named), (SEGMENT_HEADER_SIZE + number * 50, &path), "flipped at {offset}");
        } else {
            assert_eq!(open(copy.path()).unwrap().2.len() as u64, number, "flipped at {offset}");
        }
    }
}

#[test]
fn garbage_after_the_end_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let end = append(&log, 1, b"last");
    drop(log);
    let newest = newest_segment(directory.path());
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = offset_of(end, Lsn::ZERO) as usize;
    bytes[at..at + 200].fill(0xa5);
    std::fs::write(&newest, bytes).unwrap();
    let (log, recovery, seen) = open(directory.path()).unwrap();
    assert_eq!(seen.len(), 1);
    assert!(recovery.torn.is_some());
    append(&log, 1, b"next");
    drop(log);
    assert_eq!(open(directory.path()).unwrap().2.len(), 2);
}

#[test]
fn damage_in_a_sealed_segment_and_a_missing_one_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    for _ in 0..1000 {
        append(&log, 5, b"some bytes to fill segments with");
    }
    log.sync().unwrap();
    drop(log);
    let names: Vec<String> = files::list(directory.path()).unwrap();
    let second = names[1].clone();
    let damaged = copy_of(directory.path());
    let path = damaged.path().join(&second);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[SEGMENT_HEADER_SIZE as usize + 500] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = open(damaged.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Corrupt { path: named, slot, .. } if *named == path && slot == "5"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = open(damaged.path()).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(matches!(
        Log::open(
            directory.path(),
            ShardId([1; 20]),
            &config(),
            Lsn::ZERO,
            Lsn::ZERO,
            &mut |_: &RecordView<'_>| Ok(())
        ),
        Err(OpenError::Foreign { .. })
    ));
}

#[test]
fn a_group_counts_wholly_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"alone");
    let mut group = record(1, 2, MORE_FOLLOWS, b"first of two");
    let first_length = group.len();
    group.extend(record(2, 1, 0, b"second of two"));
    let start = log.end().lsn;
    let end = log.append(&mut group).unwrap();
    log.write_up_to(end).unwrap();
    drop(log);
    assert_eq!(open(directory.path()).unwrap().2.len(), 3);
    let newest = newest_segment(directory.path());
    let torn = offset_of(start, Lsn::ZERO) + first_length as u64;
    // The recovery made everything durable; take the mark back, as a crash before any sync would have left it.
    let copy = tempfile::tempdir().unwrap();
    let (log, ..) = open(copy.path()).unwrap();
    append(&log, 1, b"alone");
    let mut group = record(1, 2, MORE_FOLLOWS, b"first of two");
    group.extend(record(2, 1, 0, b"second of two"));
    let end = log.append(&mut group).unwrap();
    log.write_up_to(end).unwrap();
    drop(log);
    let path = copy.path().join(newest.file_name().unwrap());
    std::fs::File::options().write(true).open(path).unwrap().set_len(torn).unwrap();
    let (_, recovery, seen) = open(copy.path()).unwrap();
    assert_eq!((seen.len(), recovery.end), (1, start));
}

#[test]
fn a_recycled_segment_never_brings_its_old_records_back() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    for _ in 0..1500 {
        append(&log, 5, b"same length, every one of them");
    }
    let released = log.release_below(log.end().lsn).unwrap();
    assert!(released > 2);
    let spares =
        || files::list(directory.path()).unwrap().iter().filter(|name| name.ends_with(".spare")).count();
    assert_eq!(spares(), 2);
    let first = log.first_lsn();
    while spares() == 2 {
        append(&log, 5, b"same length, every one of them");
    }
    let end = log.end().lsn;
    drop(log);
    let mut seen = 0;
    let mut visitor = |_: &RecordView<'_>| -> Result<(), VisitError> {
        seen += 1;
        Ok(())
    };
    let (log, recovery) =
        Log::open(directory.path(), OWNER, &config(), Lsn::ZERO, first, &mut visitor).unwrap();
    assert_eq!(recovery.end, end);
    assert_eq!(seen, end.since(first) / 66);
    drop(log);
    assert!(matches!(open(directory.path()), Err(OpenError::TooShort { .. })));
}

#[test]
fn the_durable_position_moves_only_with_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let end = append(&log, 1, b"x");
    assert_eq!((log.positions().written_lsn(), log.positions().durable_lsn()), (end, Lsn::ZERO));
    assert_eq!(log.sync().unwrap(), end);
    assert_eq!(log.positions().durable_lsn(), end);
    log.set_fsync_policy(FsyncPolicy::Always);
    let end = append(&log, 1, b"y");
    let deadline = crate::platform::clock::monotonic_ms() + 10_000;
    while log.positions().durable_lsn() < end {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "nobody syncs under always");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_submitted_under_always_is_written_by_the_logs_thread_unless_replicas_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    log.set_fsync_policy(FsyncPolicy::Always);
    let first = log.append(&mut record(1, 1, 0, b"x")).unwrap();
    log.submit(first).unwrap();
    let end = log.append(&mut record(1, 2, 0, b"y")).unwrap();
    log.positions().begin_shipping();
    log.submit(end).unwrap();
    assert_eq!(log.positions().written_lsn(), end, "whoever submits writes, replicas wait for it");
    log.positions().end_shipping();
    assert!(!log.positions().is_shipped());
    let wait_for = |end: Lsn| {
        let deadline = crate::platform::clock::monotonic_ms() + 10_000;
        while log.positions().durable_lsn() < end {
            assert!(crate::platform::clock::monotonic_ms() < deadline, "nobody writes and syncs");
            std::thread::yield_now();
        }
    };
    wait_for(end);
    let end = log.append(&mut record(1, 3, 0, b"z")).unwrap();
    log.submit(end).unwrap();
    wait_for(end);
    // Also when the policy changes before the thread comes to it.
    let end = log.append(&mut record(1, 4, 0, b"w")).unwrap();
    log.submit(end).unwrap();
    log.set_fsync_policy(FsyncPolicy::No);
    wait_for(end);
    faults::fail(directory.path(), Operation::Write, libc::EIO);
    log.set_fsync_policy(FsyncPolicy::Always);
    let end = log.append(&mut record(1, 5, 0, b"v")).unwrap();
    log.submit(end).unwrap();
    let deadline = crate::platform::clock::monotonic_ms() + 10_000;
    while !log.is_poisoned() {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "a failed write is not noticed");
        std::thread::yield_now();
    }
    assert!(matches!(log.submit(end), Err(AppendError::Poisoned(_))));
    assert!(log.positions().durable_lsn() < end);
}

#[test]
fn zeros_go_ahead_of_the_records_under_always_and_never_over_them() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"before");
    log.sync().unwrap();
    assert_eq!(log.writer.lock().active.written_once, 0, "no sync is waited for");
    log.set_fsync_policy(FsyncPolicy::Always);
    let mut bodies = vec![b"before".to_vec()];
    for number in 0..600u32 {
        let body = number.to_le_bytes().repeat(20);
        append(&log, 1, &body);
        bodies.push(body);
        if number % 7 == 0 {
            log.sync().unwrap();
            let writer = log.writer.lock();
            assert!(writer.active.written_once >= writer.active.end_offset());
            assert!(writer.active.written_once <= writer.active.reserved);
        }
    }
    let segments = log.writer.lock().sealed.len();
    assert!(segments > 2, "{segments}");
    drop(log);
    let found: Vec<Vec<u8>> =
        open(directory.path()).unwrap().2.into_iter().map(|(_, _, body)| body).collect();
    assert!(found == bodies);
}

#[test]
fn a_failed_fsync_poisons_the_log_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let end = append(&log, 1, b"x");
    faults::fail(directory.path(), Operation::Sync, libc::EIO);
    assert!(matches!(log.sync(), Err(AppendError::Poisoned(_))));
    faults::heal(directory.path());
    assert!(matches!(log.sync(), Err(AppendError::Poisoned(_))), "an fsync that failed is not tried again");
    assert!(log.append(&mut record(1, 2, 0, b"y")).is_err());
    assert!(log.positions().durable_lsn() < end);
    assert!(log.health().to_string().contains("fsync"), "{}", log.health());
}

#[test]
fn a_full_disk_keeps_what_it_took_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"before");
    faults::fail(directory.path(), Operation::Write, libc::ENOSPC);
    let end = log.append(&mut record(1, 2, 0, b"meanwhile")).unwrap();
    assert!(matches!(log.write_up_to(end), Err(AppendError::NoSpace)));
    assert_eq!(log.health(), LogHealth::NoSpace);
    assert!(log.positions().written_lsn() < end);
    faults::heal(directory.path());
    let deadline = crate::platform::clock::monotonic_ms() + 10_000;
    while log.positions().written_lsn() < end {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "the log does not heal");
        std::thread::yield_now();
    }
    assert_eq!(log.health(), LogHealth::Good);
    append(&log, 1, b"after");
    drop(log);
    let bodies: Vec<Vec<u8>> =
        open(directory.path()).unwrap().2.into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(bodies, [&b"before"[..], b"meanwhile", b"after"]);
}

#[test]
fn a_tail_set_aside_is_readable_and_the_log_goes_on_at_the_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let ends: Vec<Lsn> = (0..900u32).map(|number| append(&log, 1, &number.to_le_bytes())).collect();
    let cut = ends[299];
    let kept = log.set_aside(cut).unwrap();
    assert_eq!((log.end().lsn, log.positions().written_lsn()), (cut, cut));
    append(&log, 1, b"new history");
    drop(log);
    let seen = open(directory.path()).unwrap().2;
    assert_eq!((seen.len(), &seen[300].2[..]), (301, &b"new history"[..]));
    let mut tail = 0;
    let mut visitor = |_: &RecordView<'_>| -> Result<(), VisitError> {
        tail += 1;
        Ok(())
    };
    let found = recovery::find_segments(&kept, None, false).unwrap();
    recovery::read_all(found, cut, &mut visitor).unwrap();
    assert_eq!(tail, 600);
}

#[test]
fn a_replica_takes_only_what_continues_its_log_and_is_sound() {
    let (master_dir, replica_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, ..) = open(master_dir.path()).unwrap();
    let (replica, ..) = open(replica_dir.path()).unwrap();
    master.start_epoch(Epoch(4), NodeId([2; 20]), 1).unwrap();
    let end = append(&master, 1, b"one");
    let mut chunk = Vec::new();
    assert_eq!(master.read_chunk(Lsn::ZERO, 1 << 20, &mut chunk).unwrap(), end);
    let mut damaged = chunk.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(replica.append_foreign(Lsn::ZERO, &damaged), Err(AppendError::Damaged { .. })));
    assert!(matches!(replica.append_foreign(Lsn(7), &chunk), Err(AppendError::Gap { .. })));
    assert_eq!(replica.append_foreign(Lsn::ZERO, &chunk).unwrap(), end);
    assert_eq!(replica.epoch(), Epoch(4));
    assert_eq!(replica.epoch_history(), [(Epoch(4), Lsn::ZERO)]);
    let mut old = record(1, 9, 0, b"of epoch 0");
    format::place_records(&mut old, end);
    assert!(matches!(replica.append_foreign(end, &old), Err(AppendError::OldEpoch { .. })));
    drop(replica);
    assert_eq!(open(replica_dir.path()).unwrap().0.end(), master.end());
    let bytes = |directory: &Path| {
        std::fs::read(newest_segment(directory)).unwrap()[4096..4096 + end.0 as usize].to_vec()
    };
    assert_eq!(bytes(master_dir.path()), bytes(replica_dir.path()), "members hold the same bytes");
}

#[test]
fn a_log_replaced_by_a_full_copy_begins_at_its_lsn_with_its_history() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"old");
    let other = ShardId([4; 20]);
    log.reset(other, Lsn(5000), vec![(Epoch(2), Lsn(10))]).unwrap();
    assert_eq!((log.end(), log.owner()), (LogPoint { epoch: Epoch(2), lsn: Lsn(5000) }, other));
    drop(log);
    let opened =
        Log::open(directory.path(), other, &config(), Lsn::ZERO, Lsn(5000), &mut |_: &RecordView<'_>| Ok(()));
    let (log, _) = opened.unwrap();
    assert_eq!(log.epoch_history(), [(Epoch(2), Lsn(10))]);
}

#[test]
fn several_workers_append_and_every_record_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4u16 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..500u32 {
                    append(log, worker, &number.to_le_bytes());
                }
            });
        }
    });
    drop(log);
    let seen = open(directory.path()).unwrap().2;
    for worker in 0..4 {
        let numbers: Vec<u32> = seen
            .iter()
            .filter(|(_, slot, _)| *slot == worker)
            .map(|(_, _, body)| u32::from_le_bytes(body[..].try_into().unwrap()))
            .collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "a worker's order is the log's");
    }
}
