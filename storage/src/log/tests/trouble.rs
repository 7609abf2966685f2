//! Two troubles at once, operations that fail half way, and files that a crash or an operator left behind.

use super::super::reader::{self, SequenceCheck, SequenceGap};
use super::*;

fn names_ending(directory: &Path, ending: &str) -> Vec<String> {
    let mut names = files::list(directory).unwrap();
    names.retain(|name| name.ends_with(ending));
    names
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = crate::platform::clock::monotonic_ms() + 10_000;
    while !is_so() {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// So many records of slot 5.
fn fill(log: &Log, count: usize) {
    for _ in 0..count {
        append(log, 5, b"some bytes to fill segments with");
    }
}

/// A group of `count` records of different slots.
fn group(count: u16, body: &[u8]) -> Vec<u8> {
    (0..count)
        .flat_map(|slot| record(slot, 1, if slot + 1 < count { MORE_FOLLOWS } else { 0 }, body))
        .collect()
}

#[test]
fn a_full_disk_does_not_lift_the_poison_of_a_failed_fsync() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    append(&log, 1, b"x");
    faults::fail(directory.path(), Operation::Sync, libc::EIO);
    assert!(log.sync().is_err());
    faults::heal(directory.path());
    let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
    assert!(matches!(log.failed("writing the log", &full), AppendError::Poisoned(_)));
    assert!(log.is_poisoned());
    log.try_to_heal();
    assert!(log.is_poisoned());
}

#[test]
fn a_group_is_never_split_over_segments_or_chunks() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let mut bounds = vec![Lsn::ZERO];
    for _ in 0..40 {
        let end = log.append(&mut group(5, &[7; 300])).unwrap();
        log.write_up_to(end).unwrap();
        bounds.push(end);
    }
    // One longer than a segment, too.
    let end = log.append(&mut group(100, &[7; 300])).unwrap();
    log.write_up_to(end).unwrap();
    bounds.push(end);
    let mut at = Lsn::ZERO;
    while at < end {
        let mut chunk = Vec::new();
        at = log.read_chunk(at, 100, &mut chunk).unwrap();
        assert!(bounds.contains(&at), "a chunk ends inside a group, at {at}");
    }
    let found = reader::look(directory.path()).unwrap();
    assert!(found.segments.len() > 2);
    assert!(found.segments.iter().all(|segment| bounds.contains(&segment.header.first_lsn)));
}

#[test]
fn a_replica_refuses_half_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let mut whole = group(2, b"x");
    format::place_records(&mut whole, Lsn::ZERO);
    let half = &whole[..whole.len() / 2];
    assert!(matches!(log.append_foreign(Lsn::ZERO, half), Err(AppendError::OpenGroup { .. })));
    assert_eq!(log.end().lsn, Lsn::ZERO);
    assert_eq!(log.append_foreign(Lsn::ZERO, &whole).unwrap(), log.end().lsn);
}

#[test]
fn a_replica_whose_disk_fills_up_takes_each_chunk_wholly_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let mut first = record(1, 1, 0, b"first");
    format::place_records(&mut first, Lsn::ZERO);
    faults::fail(directory.path(), Operation::Write, libc::ENOSPC);
    let end = log.append_foreign(Lsn::ZERO, &first).unwrap();
    assert_eq!((log.end().lsn, log.positions().written_lsn()), (end, Lsn::ZERO));
    let mut second = record(1, 2, 0, b"second");
    format::place_records(&mut second, end);
    assert!(matches!(log.append_foreign(end, &second), Err(AppendError::NoSpace)));
    assert_eq!(log.end().lsn, end);
    faults::heal(directory.path());
    wait_until("healed", || log.health() == LogHealth::Good && log.positions().written_lsn() == end);
    log.append_foreign(end, &second).unwrap();
    drop(log);
    assert_eq!(open(directory.path()).unwrap().2.len(), 2);
}

#[test]
fn a_segment_that_cannot_be_released_leaves_no_hole() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    fill(&log, 1000);
    let end = log.sync().unwrap();
    // Something stands where the first segment would go.
    let in_the_way = directory.path().join(format!("{}.spare", segment::file_name(Lsn::ZERO)));
    std::fs::create_dir_all(in_the_way.join("x")).unwrap();
    assert!(log.release_below(end).is_err());
    assert_eq!(log.first_lsn(), Lsn::ZERO);
    assert!(log.read_chunk(Lsn::ZERO, 100, &mut Vec::new()).is_ok());
    std::fs::remove_dir_all(&in_the_way).unwrap();
    assert!(log.release_below(end).unwrap() > 2);
    assert!(matches!(log.read_chunk(Lsn::ZERO, 100, &mut Vec::new()), Err(ReadError::TooOld { .. })));
    let first = log.first_lsn();
    drop(log);
    Log::open(directory.path(), OWNER, &config(), Lsn::ZERO, first, &mut |_: &RecordView<'_>| Ok(()))
        .unwrap();
}

#[test]
fn a_crash_while_a_segment_is_made_leaves_nothing_that_counts() {
    let directory = tempfile::tempdir().unwrap();
    let half_made = directory.path().join("00000000000000000000.wal.new");
    std::fs::write(&half_made, vec![0; 5000]).unwrap();
    let (log, recovery, _) = open(directory.path()).unwrap();
    assert!(recovery.is_new);
    assert!(!half_made.exists());
    append(&log, 1, b"x");
    drop(log);
    std::fs::write(directory.path().join("00000000000000000041.wal.new"), []).unwrap();
    assert_eq!(open(directory.path()).unwrap().2.len(), 1);
    assert!(names_ending(directory.path(), ".new").is_empty());
}

#[test]
fn a_record_of_a_newer_version_is_refused_and_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let place = append(&log, 1, b"known");
    let mut unknown = record(1, 2, 0, b"unknown");
    unknown[8] = 200;
    let crc = crc32fast::hash(&unknown[8..]);
    unknown[4..8].copy_from_slice(&crc.to_le_bytes());
    let end = log.append(&mut unknown).unwrap();
    log.write_up_to(end).unwrap();
    drop(log);
    let before = std::fs::read(newest_segment(directory.path())).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(error, OpenError::NewerRecord { lsn, offset, .. } if lsn == place && offset == offset_of(place, Lsn::ZERO)),
        "{error}"
    );
    assert!(std::fs::read(newest_segment(directory.path())).unwrap() == before, "nothing was changed");
}

#[test]
fn a_log_without_its_newest_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    fill(&log, 500);
    log.sync().unwrap();
    drop(log);
    std::fs::remove_file(newest_segment(directory.path())).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::MissingNewest { path, .. } if *path == newest_segment(directory.path())),
        "{error}"
    );
}

#[test]
fn a_cut_back_over_several_segments_can_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let ends: Vec<Lsn> = (0..1500).map(|_| append(&log, 5, b"some bytes to fill segments with")).collect();
    log.sync().unwrap();
    log.truncate(ends[200]).unwrap();
    drop(log);
    let (log, _, seen) = open(directory.path()).unwrap();
    assert_eq!((seen.len(), log.end().lsn), (201, ends[200]));
    // At a segment's very first record, too.
    fill(&log, 500);
    let first = reader::look(directory.path()).unwrap().segments.last().unwrap().header.first_lsn;
    log.truncate(first).unwrap();
    drop(log);
    assert_eq!(open(directory.path()).unwrap().0.end().lsn, first);
}

#[test]
fn a_replaced_log_keeps_no_old_segments_to_write_over() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    fill(&log, 1000);
    let end = log.sync().unwrap();
    log.release_below(end).unwrap();
    assert!(!names_ending(directory.path(), ".spare").is_empty());
    log.reset(OWNER, Lsn::ZERO, Vec::new()).unwrap();
    assert!(names_ending(directory.path(), ".spare").is_empty());
}

#[test]
fn a_tail_set_aside_holds_what_was_not_written_yet() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let cut = append(&log, 1, b"kept");
    log.append(&mut record(1, 2, 0, b"pending")).unwrap();
    let kept = log.set_aside(cut).unwrap();
    let mut bodies = Vec::new();
    let mut visitor = |record: &RecordView<'_>| -> Result<(), VisitError> {
        bodies.push(record.body.to_vec());
        Ok(())
    };
    reader::read(&kept, cut, &mut visitor).unwrap();
    assert_eq!(bodies, [b"pending"]);
}

#[test]
fn a_tail_that_finds_no_room_leaves_the_log_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let cut = append(&log, 1, b"one");
    let end = append(&log, 1, b"two");
    faults::fail(&directory.path().join("set-aside"), Operation::Write, libc::ENOSPC);
    assert!(matches!(log.set_aside(cut), Err(AppendError::NoSpace)));
    assert_eq!(log.end().lsn, end);
    assert!(files::list(&directory.path().join("set-aside")).unwrap().is_empty());
    faults::heal(&directory.path().join("set-aside"));
    wait_until("healed", || log.health() == LogHealth::Good);
    log.set_aside(cut).unwrap();
    assert_eq!(log.end().lsn, cut);
}

#[test]
fn the_sealed_index_names_every_record_by_slot() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    for number in 0..1000u16 {
        append(&log, 9999 - number % 7, b"some bytes to fill segments with");
    }
    drop(log);
    let found = reader::look(directory.path()).unwrap();
    let segment = &found.segments[1];
    let mut scanned = Vec::new();
    let mut scan = recovery::SegmentScan::new(segment);
    while let Ok(record) = scan.next().unwrap() {
        let offset = offset_of(record.lsn, segment.header.first_lsn) as u32;
        scanned.push((record.header.slot.number(), offset));
    }
    let seal = segment.seal.as_ref().unwrap();
    assert_eq!(seal.records as usize, scanned.len());
    scanned.sort_unstable();
    let indexed: Vec<(u16, u32)> =
        seal.index.iter().flat_map(|(slot, offsets)| offsets.iter().map(|&offset| (*slot, offset))).collect();
    assert_eq!(indexed, scanned);
}

#[test]
fn a_gap_in_a_slots_numbers_is_named_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let mut place = Lsn::ZERO;
    for (slot, sequence) in [(1, 4), (2, 1), (1, 5), (2, 2), (1, 7)] {
        place = log.end().lsn;
        log.append(&mut record(slot, sequence, 0, b"x")).unwrap();
    }
    log.write_up_to(log.end().lsn).unwrap();
    let error = reader::read(directory.path(), Lsn::ZERO, &mut SequenceCheck::default()).unwrap_err();
    let OpenError::Visitor { source, offset, .. } = &error else { panic!("{error}") };
    let gap = source.downcast_ref::<SequenceGap>().unwrap();
    assert_eq!((gap.slot.number(), gap.before, gap.found), (1, SlotSequence(5), SlotSequence(7)));
    assert_eq!((gap.lsn, *offset), (place, offset_of(place, Lsn::ZERO)));
    let mut check = SequenceCheck::default();
    assert!(reader::read(directory.path(), place, &mut check).is_ok());
    assert_eq!(check.newest().len(), 1);
}

#[test]
fn a_reader_beside_a_running_writer_sees_a_prefix_and_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u32;
            while !stop.load(Ordering::Relaxed) && number < 20_000 {
                append(&log, 1, &number.to_le_bytes());
                number += 1;
                if number.is_multiple_of(100) {
                    log.sync().unwrap();
                }
            }
        });
        for _ in 0..20 {
            let mut next = 0u32;
            let mut visitor = |record: &RecordView<'_>| -> Result<(), VisitError> {
                assert_eq!(record.body, next.to_le_bytes());
                next += 1;
                Ok(())
            };
            let result = reader::read(directory.path(), Lsn::ZERO, &mut visitor);
            if let Err(error) = result {
                stop.store(true, Ordering::Relaxed);
                panic!("{error}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
