//! Bits that flip while nobody has the log open: a start refuses, and another member's records put it right.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::log::mend::MendError;
use crate::log::mend_closed::{ClosedLog, Mended, mend_closed};
use crate::log::scrub::DamagedPart;

/// A closed log, durable to its end, of three epochs and several segments; and another one, open, with the same bytes and more.
struct Pair {
    own: TempDir,
    _other: TempDir,
    other: Arc<Log>,
    /// Where each record stands.
    places: Vec<Lsn>,
}

fn fill(log: &Log, numbers: std::ops::Range<u16>) {
    for number in numbers {
        append(log, number % 7, &vec![number as u8; 1000]);
    }
}

impl Pair {
    fn new() -> Self {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let master = NodeId([3; 20]);
        let write = |log: &Log| {
            for epoch in 1..=3u16 {
                log.start_epoch(Epoch(u64::from(epoch)), master, 5).unwrap();
                fill(log, epoch * 20..epoch * 20 + 20);
            }
        };
        write(&open(own.path()).unwrap().0);
        // A start makes everything durable that it finds, and says so.
        let seen = open(own.path()).unwrap().2;
        let copy = open(other.path()).unwrap().0;
        write(&copy);
        fill(&copy, 100..110);
        Self { own, _other: other, other: copy, places: seen.into_iter().map(|(lsn, ..)| lsn).collect() }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut names = files::list(self.own.path()).unwrap();
        names.retain(|name| name.ends_with(".wal"));
        names.into_iter().map(|name| self.own.path().join(name)).collect()
    }

    /// The segment and the offset of a record.
    fn place(&self, record: usize) -> (PathBuf, u64) {
        let lsn = self.places[record];
        let first =
            |path: &PathBuf| segment::lsn_of_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
        let path = self.segments().into_iter().rfind(|path| first(path) <= lsn).unwrap();
        let offset = offset_of(lsn, first(&path));
        (path, offset)
    }

    fn records(&self, from: Lsn) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.other.read_chunk(from, 1500, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn mend(&self) -> Result<Mended, MendError> {
        mend_closed(self.own.path(), OWNER, &mut |_: &ClosedLog, from: Lsn| self.records(from))
    }

    fn refuses_to_open(&self) -> OpenError {
        open(self.own.path()).map(|(_, recovery, seen)| (recovery, seen.len())).unwrap_err()
    }
}

fn flip(path: &PathBuf, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_bit_that_flips_in_any_record_is_mended_to_the_very_bytes() {
    let pair = Pair::new();
    assert!(pair.segments().len() >= 4);
    assert!(pair.mend().unwrap().places.is_empty(), "a sound log");
    for record in (0..pair.places.len())
        .filter(|record| record % 5 == 0 || *record > 60 || [1, 21, 42].contains(record))
    {
        let (path, at) = pair.place(record);
        let whole = fs::read(&path).unwrap();
        for within in [0, 5, 9, 13, 20, 50] {
            flip(&path, at + within);
            let damaged = fs::read(&path).unwrap();
            let error = pair.refuses_to_open();
            assert!(matches!(error, OpenError::Corrupt { .. }), "record {record}, byte {within}: {error}");
            let mended = pair.mend().unwrap();
            let [place] = &mended.places[..] else { panic!("record {record}: {mended:?}") };
            assert_eq!((&place.path, place.offset), (&path, at));
            assert!(place.slot.is_some() && !mended.mark_is_lost);
            assert!(fs::read(&mended.kept[0]).unwrap() == damaged, "the damaged file is kept");
            assert!(fs::read(&path).unwrap() == whole, "record {record}, byte {within}");
        }
    }
    assert_eq!(open(pair.own.path()).unwrap().2.len(), pair.places.len());
}

#[test]
fn several_places_of_several_segments_are_mended_at_once() {
    let pair = Pair::new();
    let whole: Vec<Vec<u8>> = pair.segments().iter().map(|path| fs::read(path).unwrap()).collect();
    for record in [1, 2, 3, 17, 30, pair.places.len() - 1] {
        let (path, at) = pair.place(record);
        flip(&path, at + 300);
    }
    // A segment of which nothing is left but its name.
    fs::write(&pair.segments()[2], vec![0xAA; 900]).unwrap();
    assert!(pair.mend().unwrap().places.len() >= 5);
    for (path, whole) in
        pair.segments().iter().zip(&whole).enumerate().filter(|(at, _)| *at != 2).map(|(_, it)| it)
    {
        assert!(fs::read(path).unwrap()[4096..] == whole[4096..]);
    }
    assert_eq!(open(pair.own.path()).unwrap().2.len(), pair.places.len());
}

#[test]
fn a_damaged_header_is_written_anew_out_of_what_the_other_segments_know() {
    let pair = Pair::new();
    let history = open(pair.own.path()).unwrap().0.epoch_history();
    for (index, path) in pair.segments().iter().enumerate() {
        for offset in [2, 20, 47, 1537] {
            let whole = fs::read(path).unwrap();
            flip(path, offset);
            assert!(matches!(pair.refuses_to_open(), OpenError::Header { .. }));
            let mended = pair.mend().unwrap();
            assert_eq!(mended.places[0].part, DamagedPart::Header);
            assert!(!mended.mark_is_lost);
            let now = fs::read(path).unwrap();
            assert_eq!(now[..48], whole[..48], "segment {index}, byte {offset}");
            assert!(now[1536..] == whole[1536..], "segment {index}, byte {offset}: history and records");
        }
    }
    let (log, _, seen) = open(pair.own.path()).unwrap();
    assert_eq!((log.epoch_history(), seen.len()), (history, pair.places.len()));
}

#[test]
fn a_newest_mark_that_is_lost_is_said() {
    let pair = Pair::new();
    let last = pair.segments().pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[512..1536].fill(0x55);
    fs::write(&last, bytes).unwrap();
    assert!(pair.mend().unwrap().mark_is_lost);
    assert_eq!(open(pair.own.path()).unwrap().2.len(), pair.places.len());
}

#[test]
fn a_torn_tail_is_no_damage() {
    let pair = Pair::new();
    let (log, ..) = open(pair.own.path()).unwrap();
    fill(&log, 200..203);
    drop(log);
    let copy = copy_of(pair.own.path());
    let last = newest_segment(copy.path());
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end] ^= 1;
    fs::write(&last, bytes).unwrap();
    let asked = &mut |_: &ClosedLog, _: Lsn| -> Result<Vec<u8>, String> { panic!("nobody is to be asked") };
    assert!(mend_closed(copy.path(), OWNER, asked).unwrap().places.is_empty());
    assert_eq!(open(copy.path()).unwrap().2.len(), pair.places.len() + 2);
}

#[test]
fn what_comes_from_elsewhere_is_verified_and_wrong_bytes_change_nothing() {
    let pair = Pair::new();
    for record in [4, pair.places.len() - 2] {
        let (path, at) = pair.place(record);
        let whole = fs::read(&path).unwrap();
        flip(&path, at + 300);
        let damaged = fs::read(&path).unwrap();
        let (lsn, epoch) = (pair.places[record], pair.other.epoch_history());
        let refused = |from: &mut dyn FnMut(Lsn) -> Result<Vec<u8>, String>| {
            let mut from = |_: &ClosedLog, lsn: Lsn| from(lsn);
            let error = mend_closed(pair.own.path(), OWNER, &mut from).unwrap_err();
            assert!(fs::read(&path).unwrap() == damaged);
            let names = files::list(pair.own.path()).unwrap();
            assert!(names.iter().all(|name| !name.contains("mend")), "{names:?}");
            pair.refuses_to_open();
            error
        };
        assert!(matches!(refused(&mut |_| Err("gone".into())), MendError::NoBytes { .. }));
        assert!(matches!(refused(&mut |_| Ok(Vec::new())), MendError::NoBytes { .. }));
        assert!(matches!(refused(&mut |_| Ok(vec![7; 2000])), MendError::Wrong { .. }));
        let flipped = refused(&mut |from| {
            pair.records(from).map(|mut bytes| {
                bytes[700] ^= 1;
                bytes
            })
        });
        assert!(matches!(flipped, MendError::Wrong { .. }), "{flipped}");
        let elsewhere = refused(&mut |from| pair.records(from.advance(1036)));
        assert!(matches!(elsewhere, MendError::Wrong { .. }), "{elsewhere}");
        // Sound, at its place, as long, but of another history.
        let foreign = refused(&mut |from| {
            let mut bytes = record_of(Epoch(9), 1, 1, 0, &[1; 1000]);
            format::place_records(&mut bytes, from);
            Ok(bytes)
        });
        assert!(foreign.to_string().contains("epoch"), "{foreign}, {lsn}, {epoch:?}");
        pair.mend().unwrap();
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn the_own_tail_that_nobody_else_has_stays() {
    let pair = Pair::new();
    let (log, ..) = open(pair.own.path()).unwrap();
    // Durable here, and nowhere else at all.
    append(&log, 9, &[9; 77]);
    drop(log);
    drop(open(pair.own.path()).unwrap());
    let (path, at) = pair.place(pair.places.len() - 1);
    flip(&path, at + 100);
    let only_what_is_the_same = |_: &ClosedLog, from: Lsn| {
        let mut bytes = pair.records(from)?;
        bytes.truncate(record_length(&bytes).unwrap());
        Ok(bytes)
    };
    let mended = mend_closed(pair.own.path(), OWNER, &mut { only_what_is_the_same }).unwrap();
    assert_eq!(mended.places.len(), 1);
    let seen = open(pair.own.path()).unwrap().2;
    assert_eq!(seen.len(), pair.places.len() + 1);
    assert_eq!(seen.last().unwrap().2, [9; 77]);
}
