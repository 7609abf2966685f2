//! Under `everysec` the disk begins to write before the second is over, and the second is over nevertheless.

use std::time::Duration;

use super::*;

/// Longer than anything here may take, also on a busy machine.
const PATIENCE_MS: u64 = 30_000;

fn every_second(directory: &Path) -> Arc<Log> {
    let config = LogConfig { segment_size: 64 << 20, fsync: FsyncPolicy::EverySecond, ..config() };
    let mut visitor = |_: &RecordView<'_>| -> Result<(), VisitError> { Ok(()) };
    Log::open(directory, OWNER, &config, Lsn::ZERO, Lsn::ZERO, &mut visitor).unwrap().0
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = crate::platform::clock::monotonic_ms() + PATIENCE_MS;
    while !is_so() {
        assert!(crate::platform::clock::monotonic_ms() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_megabyte_is_written_out_and_its_last_page_left_for_the_next_record() {
    let directory = tempfile::tempdir().unwrap();
    let log = every_second(directory.path());
    append(&log, 5, &[7; 1000]);
    let end = append(&log, 5, &vec![7; 1 << 20]);
    until("the disk begins to write", || log.writer.lock().active.writing_out > 0);
    let writer = log.writer.lock();
    assert_eq!(writer.active.writing_out, (SEGMENT_HEADER_SIZE + end.0) / 4096 * 4096);
}

#[test]
fn a_disk_that_fails_while_it_begins_to_write_fails_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = every_second(directory.path());
    faults::fail(directory.path(), Operation::WriteOut, libc::EIO);
    append(&log, 5, &vec![7; 1 << 20]);
    until("the log has failed", || log.is_poisoned());
    faults::heal(directory.path());
    assert!(log.append(&mut record(5, 1, 0, b"more")).is_err(), "nothing is taken any more");
}

#[test]
fn a_log_that_is_written_out_all_the_time_is_synced_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let log = every_second(directory.path());
    let record = vec![7; 1 << 20];
    let first = append(&log, 5, &record);
    // Less than half a segment in all: that has a sync of its own.
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(200));
        if log.positions().durable_lsn() >= first {
            return;
        }
        append(&log, 5, &record);
    }
    panic!("no sync in five seconds");
}
