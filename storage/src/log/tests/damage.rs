//! Bits that flip in a sealed segment: found wherever they are, and put back with another member's bytes.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use super::*;
use crate::log::mend::MendError;
use crate::log::scrub::{DamagedPart, SegmentDamage};

/// A log with sealed segments, and another with the same bytes.
struct Pair {
    own: TempDir,
    log: Arc<Log>,
    _other: TempDir,
    other: Arc<Log>,
}

impl Pair {
    fn new() -> Self {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = open(own.path()).unwrap().0;
        let copy = open(other.path()).unwrap().0;
        for number in 0..40u16 {
            append(&log, number % 7, &vec![number as u8; 1000]);
            append(&copy, number % 7, &vec![number as u8; 1000]);
        }
        // The log's thread seals what is full.
        log.sync().unwrap();
        assert!(log.sealed().len() >= 2);
        Self { own, log, _other: other, other: copy }
    }

    fn segment(&self) -> PathBuf {
        self.log.sealed()[1].path.clone()
    }

    fn flip(&self, offset: u64) {
        let mut bytes = fs::read(self.segment()).unwrap();
        bytes[offset as usize] ^= 4;
        let file = fs::File::options().write(true).open(self.segment()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }

    fn found(&self) -> Vec<SegmentDamage> {
        let mut all = Vec::new();
        for segment in self.log.sealed() {
            let mut next = segment.first_lsn;
            while next < segment.end_lsn {
                // In small slices, so that damage also lies at their borders.
                let slice = self.log.check_slice(&segment, next, 1500).unwrap();
                assert!(slice.next > next);
                next = slice.next;
                all.extend(slice.damage);
            }
        }
        all
    }

    fn fetch(&self, range: Range<Lsn>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let most = range.end.since(at) as usize;
            at = self.other.read_chunk(at, most, &mut bytes).map_err(|error| error.to_string())?;
        }
        Ok(bytes)
    }

    fn mend(&self) -> Result<PathBuf, MendError> {
        let damage = self.found();
        self.log.mend(&self.log.sealed()[1], &damage, &mut |range| self.fetch(range))
    }
}

#[test]
fn every_kind_of_damage_is_found_and_mended_to_the_very_bytes() {
    let pair = Pair::new();
    let whole = fs::read(pair.segment()).unwrap();
    assert_eq!(pair.found(), []);
    let length = whole.len() as u64;
    let mark = if whole[512..516] == *b"MARK" { 512 } else { 1024 };
    // Whether a sync came while it was the active one: the other mark holds then.
    let has_both = [512, 1024].iter().all(|&at| whole[at..at + 4] == *b"MARK");
    let of_mark = if has_both { DamagedPart::Mark } else { DamagedPart::Header };
    let segment = &pair.log.sealed()[1];
    let first = 4096;
    let second = first + 1036;
    let last = 4096 + segment.end_lsn.since(segment.first_lsn) - 1;
    let records = |from: u64| {
        DamagedPart::Records(
            segment.first_lsn.advance(from - 4096)..segment.first_lsn.advance(from - 4096 + 1036),
        )
    };
    let places = [
        // First: a mark that is lost is begun anew, perhaps in the other sector.
        (mark + 6, of_mark, None),
        (2, DamagedPart::Header, None),
        (20, DamagedPart::Header, None),
        (1537, DamagedPart::Header, None),
        (first + 1, records(first), true.into()),
        (second + 5, records(second), true.into()),
        (second + 12, records(second), true.into()),
        (second + 500, records(second), true.into()),
        (last, records(last + 1 - 1036), true.into()),
        (length - 50, DamagedPart::Seal, None),
        (length - 20, DamagedPart::Seal, None),
    ];
    for (offset, part, names_slot) in places {
        pair.flip(offset);
        let found = pair.found();
        assert_eq!(found.len(), 1, "flip at {offset}: {found:?}");
        assert_eq!(found[0].part, part, "flip at {offset}");
        assert_eq!(found[0].slot.is_some(), names_slot.unwrap_or(false), "flip at {offset}: {found:?}");
        assert_eq!(found[0].path, pair.segment());
        let damaged = fs::read(pair.segment()).unwrap();
        let kept = pair.mend().unwrap();
        assert_eq!(fs::read(kept).unwrap(), damaged, "the damaged file is kept");
        let mended = fs::read(pair.segment()).unwrap();
        // The marks are the node's own; what they said is lost with both of them.
        assert_eq!(mended[4096..], whole[4096..], "flip at {offset}");
        assert_eq!(pair.found(), []);
        let sealed = &pair.log.sealed()[1];
        let mut chunk = Vec::new();
        pair.log.read_chunk(sealed.first_lsn, 1 << 20, &mut chunk).unwrap();
        assert_eq!(chunk, whole[4096..4096 + chunk.len()], "readers read the mended file");
    }
    drop(pair.log);
    let (.., seen) = open(pair.own.path()).unwrap();
    assert_eq!(seen.len(), 40, "a start finds everything");
}

#[test]
fn one_of_two_marks_is_found_damaged_and_a_restart_still_works() {
    let pair = Pair::new();
    // The other sector is empty unless the segment was synced while it was active.
    pair.flip(512);
    pair.flip(1024);
    let parts: Vec<DamagedPart> = pair.found().into_iter().map(|damage| damage.part).collect();
    assert!(matches!(parts[..], [DamagedPart::Header | DamagedPart::Mark]), "{parts:?}");
    pair.mend().unwrap();
    assert_eq!(pair.found(), []);
}

#[test]
fn damage_without_a_sound_index_reaches_to_the_end_and_is_mended_all_the_same() {
    let pair = Pair::new();
    let whole = fs::read(pair.segment()).unwrap();
    pair.flip(4096 + 2000);
    pair.flip(whole.len() as u64 - 10);
    let found = pair.found();
    let end = pair.log.sealed()[1].end_lsn;
    assert!(
        found.iter().any(|damage| matches!(&damage.part, DamagedPart::Records(lost) if lost.end == end)),
        "{found:?}"
    );
    pair.mend().unwrap();
    assert_eq!(fs::read(pair.segment()).unwrap()[4096..], whole[4096..]);
}

#[test]
fn wrong_bytes_from_elsewhere_mend_nothing() {
    let pair = Pair::new();
    pair.flip(4096 + 1036 + 600);
    let damaged = fs::read(pair.segment()).unwrap();
    let damage = pair.found();
    let segment = pair.log.sealed()[1].clone();
    let refused = |from: &mut dyn FnMut(Range<Lsn>) -> Result<Vec<u8>, String>| {
        let mut from = from;
        let error = pair.log.mend(&segment, &damage, &mut from).unwrap_err();
        assert_eq!(fs::read(pair.segment()).unwrap(), damaged);
        let names = files::list(pair.own.path()).unwrap();
        assert!(names.iter().all(|name| !name.contains("mend")), "{names:?}");
        error
    };
    assert!(matches!(refused(&mut |_| Err("gone".into())), MendError::NoBytes { .. }));
    assert!(matches!(refused(&mut |_| Ok(Vec::new())), MendError::Wrong { .. }));
    let flipped = refused(&mut |range| {
        let mut bytes = pair.fetch(range)?;
        bytes[700] ^= 1;
        Ok(bytes)
    });
    assert!(matches!(flipped, MendError::Wrong { .. }));
    // Sound, at its place, as long, but of another history.
    let foreign = refused(&mut |range| {
        let mut bytes = record_of(Epoch(9), 1, 1, 0, &vec![1; range.end.since(range.start) as usize - 36]);
        format::place_records(&mut bytes, range.start);
        Ok(bytes)
    });
    assert!(foreign.to_string().contains("epoch"), "{foreign}");
    // Of this epoch, but another slot than the index says.
    let elsewhere = refused(&mut |range| {
        let mut bytes =
            record_of(Epoch::ZERO, 600, 1, 0, &vec![1; range.end.since(range.start) as usize - 36]);
        format::place_records(&mut bytes, range.start);
        Ok(bytes)
    });
    assert!(elsewhere.to_string().contains("index"), "{elsewhere}");
    pair.mend().unwrap();
}

#[test]
fn a_segment_that_was_released_is_not_damaged_and_not_mended() {
    let pair = Pair::new();
    pair.flip(4096 + 100);
    let segment = pair.log.sealed()[1].clone();
    let damage = pair.found();
    assert_eq!(damage.len(), 1);
    pair.log.release_below(segment.end_lsn).unwrap();
    let slice = pair.log.check_slice(&segment, segment.first_lsn, 1 << 20).unwrap();
    assert!(slice.damage.is_empty() && slice.next == segment.end_lsn);
    let error = pair.log.mend(&segment, &damage, &mut |range| pair.fetch(range)).unwrap_err();
    assert!(matches!(error, MendError::Gone), "{error}");
}
