//! A log applied on several threads: to the same state and the same refusals as on one.

use std::path::Path;

use holdfast_words::{Epoch, ShardId, SlotId, SlotSequence};

use super::*;
use crate::log::{FsyncPolicy, Log, LogConfig, OpenError, RecordHeader, RecordKind, encode_record};
use crate::mutation::{BodyBuilder, Few, ListEnd, Mutation};

const OWNER: ShardId = ShardId([7; 20]);

fn open(path: &Path, visitor: &mut dyn RecordVisitor) -> Result<std::sync::Arc<Log>, OpenError> {
    let config = LogConfig { segment_size: 1 << 20, fsync: FsyncPolicy::No, ..LogConfig::default() };
    Log::open(path, OWNER, &config, Lsn::ZERO, Lsn::ZERO, visitor).map(|(log, _)| log)
}

fn open_alone(path: &Path) -> (Slots, Result<u64, OpenError>) {
    let (slots, mut applied) = (Slots::default(), 0);
    let mut visitor = |record: &RecordView<'_>| -> Result<(), VisitError> {
        applied += u64::from(slots.apply_record(record)?);
        Ok(())
    };
    let opened = open(path, &mut visitor).map(drop);
    (slots, opened.map(|()| applied))
}

fn open_on_threads(path: &Path, count: usize) -> (Slots, Result<u64, OpenError>) {
    let slots = Slots::default();
    let applied =
        on_threads(&slots, count, |replay| open(path, replay).map(|_| replay.applied())).expect("threads");
    (slots, applied)
}

fn digests(slots: &Slots) -> Vec<u64> {
    SlotId::all().map(|id| slots.with(id, |slot| slot.keyspace().digest())).collect()
}

/// A record that pushes to a list of the slot: in another order the list is another one.
fn push(log: &Log, slot: u16, sequence: u64, number: u64) -> Lsn {
    let header = RecordHeader {
        kind: RecordKind::Mutations,
        flags: 0,
        slot: SlotId::new(slot).expect("a slot"),
        epoch: Epoch::ZERO,
        sequence: SlotSequence(sequence),
        wall_clock_ms: 1,
    };
    let value = format!("value {number:060}").into_bytes();
    let key = b"list".as_slice().into();
    let mut body = BodyBuilder::default();
    body.push(&Mutation::ListPush { key, end: ListEnd::Right, values: Few::of(vec![value.into()]) });
    let mut bytes = Vec::new();
    encode_record(&mut bytes, &header, body.finish());
    log.append(&mut bytes).expect("it is taken")
}

/// A log of `records` records over 50 slots; those at `skips` leave out a number of their slot. Returns where those stand.
fn fill(path: &Path, records: u64, skips: &[u64]) -> Vec<Lsn> {
    let log = open(path, &mut |_: &RecordView<'_>| -> Result<(), VisitError> { Ok(()) }).expect("a new log");
    let mut sequences = [0; 50];
    let mut places = Vec::new();
    let mut dice = fastrand::Rng::with_seed(11);
    for number in 0..records {
        let slot = dice.usize(..50);
        sequences[slot] += 1;
        if skips.contains(&number) {
            sequences[slot] += 1;
            places.push(log.end().lsn);
        }
        push(&log, slot as u16 * 321, sequences[slot], number);
    }
    log.write_up_to(log.end().lsn).expect("written");
    places
}

#[test]
fn any_number_of_threads_gives_the_state_that_one_gives() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path(), 30_000, &[]);
    let (alone, applied) = open_alone(directory.path());
    assert_eq!(applied.expect("sound"), 30_000);
    for count in [0, 1, 2, 7] {
        let (slots, applied) = open_on_threads(directory.path(), count);
        assert_eq!(applied.expect("sound"), 30_000, "{count}");
        assert!(digests(&slots) == digests(&alone), "{count}");
        assert_eq!(slots.key_count(), alone.key_count());
        assert_eq!(slots.memory_bytes(), alone.memory_bytes());
    }
}

#[test]
fn the_earliest_record_that_does_not_fit_is_refused_with_its_place_whatever_thread_meets_it() {
    for skips in [&[29_999][..], &[20_000, 20_001, 20_002, 20_003], &[100, 25_000], &[15_000, 15_400, 28_000]]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let places = fill(directory.path(), 30_000, skips);
        let refused = open_alone(directory.path()).1.expect_err("a record is missing").to_string();
        assert!(refused.contains(&format!("at LSN {} ", places[0])), "{refused}");
        for count in [1, 2, 7] {
            let error = open_on_threads(directory.path(), count).1.expect_err("a record is missing");
            assert_eq!(error.to_string(), refused, "{count}");
        }
    }
}

#[test]
fn a_record_that_does_not_fit_counts_for_more_than_damage_after_it() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path(), 30_000, &[5]);
    let segments = crate::log::reader::look(directory.path()).expect("segments").segments;
    let sealed = segments.iter().find(|segment| segment.seal.is_some()).expect("one is sealed");
    let file = std::fs::OpenOptions::new().write(true).open(&sealed.path).expect("it is there");
    file.write_all_at(&[0xff; 64], sealed.length / 2).expect("written");
    for count in [1, 3] {
        let error = open_on_threads(directory.path(), count).1.expect_err("refused");
        assert!(matches!(&error, OpenError::Visitor { path, .. } if *path == sealed.path), "{error}");
    }
}
