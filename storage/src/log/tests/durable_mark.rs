//! The mark says what is durable: at once after an explicit sync, a little later where syncs follow each other.

use std::time::Duration;

use super::*;

fn always(directory: &Path) -> Arc<Log> {
    let config = LogConfig { fsync: FsyncPolicy::Always, ..config() };
    let mut visitor = |_: &RecordView<'_>| -> Result<(), VisitError> { Ok(()) };
    Log::open(directory, OWNER, &config, Lsn::ZERO, Lsn::ZERO, &mut visitor).unwrap().0
}

/// What the newest segment's header block says.
fn marked(log: &Log) -> Lsn {
    let mut block = vec![0; SEGMENT_HEADER_SIZE as usize];
    log.writer.lock().active.file.read_exact_at(&mut block, 0).unwrap();
    SegmentHeader::decode(&block).unwrap().1.durable_lsn
}

/// As if a mark had been written a moment ago, however slow this machine is.
fn a_mark_was_written_just_now(log: &Log) {
    let in_an_hour_us = crate::platform::clock::monotonic_us() + 3_600_000_000;
    log.commit.marked_at_us.store(in_an_hour_us, std::sync::atomic::Ordering::Relaxed);
}

#[test]
fn syncs_that_follow_each_other_do_not_write_a_mark_each() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    a_mark_was_written_just_now(&log);
    let end = append(&log, 5, b"one");
    log.sync_up_to(Lsn(u64::MAX)).unwrap();
    assert_eq!((log.positions().durable_lsn(), marked(&log)), (end, Lsn::ZERO));
    // The log's thread, which looks around once a second, may come first; not over and over.
    let is_marked_in_time = (0..3).any(|_| {
        let end = append(&log, 5, b"two");
        log.commit.marked_at_us.store(0, std::sync::atomic::Ordering::Relaxed);
        log.sync_up_to(Lsn(u64::MAX)).unwrap();
        marked(&log) == end
    });
    assert!(is_marked_in_time);
}

#[test]
fn an_explicit_sync_writes_the_mark_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    a_mark_was_written_just_now(&log);
    let end = append(&log, 5, b"one");
    log.sync().unwrap();
    assert_eq!(marked(&log), end);
}

#[test]
fn the_mark_follows_the_last_sync_when_no_other_one_comes() {
    let directory = tempfile::tempdir().unwrap();
    let log = always(directory.path());
    for _ in 0..49 {
        append(&log, 5, b"one");
    }
    let end = append(&log, 5, b"one");
    let deadline = crate::platform::clock::monotonic_ms() + 30_000;
    // Less than the second after which an idle log looks around anyway would tell nothing on a busy machine: what counts is that
    // it comes without another write.
    while marked(&log) < end {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "the mark stays at {}", marked(&log));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_mark_that_was_behind_says_nothing_of_what_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    let kept = append(&log, 5, b"one");
    a_mark_was_written_just_now(&log);
    append(&log, 5, b"two");
    log.sync_up_to(Lsn(u64::MAX)).unwrap();
    log.truncate(kept).unwrap();
    log.catch_up_with_mark().unwrap();
    assert_eq!(marked(&log), kept);
    drop(log);
    assert_eq!(open(directory.path()).unwrap().1.end, kept);
}

#[test]
fn a_mark_that_cannot_be_written_fails_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (log, ..) = open(directory.path()).unwrap();
    a_mark_was_written_just_now(&log);
    append(&log, 5, b"one");
    log.sync_up_to(Lsn(u64::MAX)).unwrap();
    faults::fail(directory.path(), Operation::Write, libc::EIO);
    let failed = log.catch_up_with_mark();
    faults::heal(directory.path());
    assert!(failed.is_err() && log.is_poisoned());
}
