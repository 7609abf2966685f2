//! Looking for damage in sealed segments of an open log: header, durable marks, every record, seal. Reads only, a slice at a time,
//! without the writer's lock; what is released or cut meanwhile is no damage. Says what is damaged and which bytes it cost;
//! [`super::mend`] puts them back.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_words::Lsn;

use super::Log;
use super::format::{
    FOOTER_SIZE, HeaderFault, Mark, SEGMENT_HEADER_SIZE, Seal, SegmentHeader, decode_record,
};
use super::recovery::{FoundSegment, SegmentScan, ends_in_sound_seal, read_seal};
use super::segment::{Sealed, offset_of};

/// Which part of a segment is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DamagedPart {
    /// The header or the epoch history in it: it can be written anew from what the log knows.
    Header,
    /// One of the two durable marks; the other one holds.
    Mark,
    /// Records: the bytes of this range are lost, and only another member of the shard has them.
    Records(Range<Lsn>),
    /// The index and footer at the end: they can be written anew from the records.
    Seal,
}

/// One damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentDamage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// Which part.
    pub part: DamagedPart,
    /// The slot of the first damaged record, when the segment's index says.
    pub slot: Option<u16>,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for SegmentDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, offset {}", self.path.display(), self.offset)?;
        match &self.part {
            DamagedPart::Header => write!(f, " (header)")?,
            DamagedPart::Mark => write!(f, " (durable mark)")?,
            DamagedPart::Records(lost) => {
                write!(f, " (LSN {} to {}, slot ", lost.start, lost.end)?;
                match self.slot {
                    Some(slot) => write!(f, "{slot})")?,
                    None => write!(f, "?)")?,
                }
            }
            DamagedPart::Seal => write!(f, " (index)")?,
        }
        write!(f, ": {}", self.what)
    }
}

/// What a look at a slice of a segment found.
#[derive(Debug)]
pub struct Slice {
    /// Where to go on.
    pub next: Lsn,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Vec<SegmentDamage>,
}

impl Log {
    /// The segments that take no more records and are sealed as far as they will be, oldest first.
    pub fn sealed(&self) -> Vec<Sealed> {
        let writer = self.writer.lock();
        writer.sealed.iter().filter(|segment| !writer.is_to_be_sealed(segment)).cloned().collect()
    }

    /// Whether the log still consists of this very file, among others.
    pub(super) fn still_has(&self, segment: &Sealed) -> bool {
        let writer = self.writer.lock();
        let same = |own: &Sealed| Arc::ptr_eq(&own.file, &segment.file) && own.end_lsn == segment.end_lsn;
        writer.sealed.iter().any(same)
    }

    /// Verifies about `max_bytes` of a segment from `from` on; at its beginning also all that is not records.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn check_slice(&self, segment: &Sealed, from: Lsn, max_bytes: u64) -> io::Result<Slice> {
        assert!(from >= segment.first_lsn && from <= segment.end_lsn, "LSN {from} is in another segment");
        // What the kernel holds of the file tells nothing about the disk.
        segment.file.forget_cached(offset_of(from, segment.first_lsn), max_bytes);
        let mut slice = Slice { next: from, bytes: 0, damage: Vec::new() };
        let checked = self.check(segment, max_bytes, &mut slice);
        if !self.still_has(segment) {
            // Released, perhaps written again, or cut: what was read was not the segment.
            return Ok(Slice { next: segment.end_lsn, bytes: slice.bytes, damage: Vec::new() });
        }
        checked.map(|()| slice)
    }

    fn check(&self, segment: &Sealed, max_bytes: u64, slice: &mut Slice) -> io::Result<()> {
        let damaged = |offset, part, slot, what: String| SegmentDamage {
            path: segment.path.clone(),
            offset,
            part,
            slot,
            what,
        };
        let from = slice.next;
        if from == segment.first_lsn {
            segment.file.forget_cached(0, SEGMENT_HEADER_SIZE);
            let mut block = vec![0; SEGMENT_HEADER_SIZE as usize];
            let filled = segment.file.read_up_to_at(&mut block, 0)?;
            slice.bytes += filled as u64;
            match self.check_header(segment, &block[..filled]) {
                Err(fault) => slice.damage.push(damaged(0, DamagedPart::Header, None, fault.to_string())),
                Ok(()) => {
                    let faults = Mark::faults(&block).into_iter();
                    slice.damage.extend(
                        faults.map(|(offset, fault)| {
                            damaged(offset, DamagedPart::Mark, None, fault.to_string())
                        }),
                    );
                }
            }
            if let Err((offset, what)) = self.check_seal(segment)? {
                slice.damage.push(damaged(offset, DamagedPart::Seal, None, what.into()));
            }
        }
        let found = as_found(segment, segment.file.len()?);
        let mut scan = SegmentScan::starting_at(&found, from);
        let fault = loop {
            let at = scan.lsn();
            if at >= segment.end_lsn || at.since(from) >= max_bytes {
                break None;
            }
            if let Err(fault) = scan.next().map_err(io::Error::other)? {
                break Some((at, fault));
            }
        };
        slice.next = scan.lsn();
        slice.bytes += slice.next.since(from);
        if let Some((at, fault)) = fault {
            let (slot, next) = resume_after(segment, at)?;
            slice.next = next;
            let offset = offset_of(at, segment.first_lsn);
            slice.damage.push(damaged(offset, DamagedPart::Records(at..next), slot, fault.to_string()));
        }
        Ok(())
    }

    fn check_header(&self, segment: &Sealed, block: &[u8]) -> Result<(), HeaderFault> {
        let (header, _) = SegmentHeader::decode(block)?;
        if header.first_lsn != segment.first_lsn || header.shard != self.owner() {
            return Err(HeaderFault::Damaged("it is another segment's"));
        }
        Ok(())
    }

    /// A segment may lack its seal (a crash, a full disk), but what looks like one must be one.
    fn check_seal(&self, segment: &Sealed) -> io::Result<Result<(), (u64, &'static str)>> {
        let length = segment.file.len()?;
        let end = offset_of(segment.end_lsn, segment.first_lsn);
        if length < end + FOOTER_SIZE as u64 {
            return Ok(if length < end { Err((length, "the file is cut")) } else { Ok(()) });
        }
        segment.file.forget_cached(end, length - end);
        let mut footer = [0; FOOTER_SIZE];
        let at = length - FOOTER_SIZE as u64;
        segment.file.read_exact_at(&mut footer, at)?;
        if Seal::locate(&footer).is_none() {
            return Ok(Ok(()));
        }
        // Decoded it would take megabytes, which nobody needs here.
        if ends_in_sound_seal(&segment.file, length)? {
            Ok(Ok(()))
        } else {
            Ok(Err((at, "the index and its footer do not fit each other")))
        }
    }
}

/// The segment as the scan of a start sees it, its records ending where the log knows them to end.
pub(super) fn as_found(segment: &Sealed, length: u64) -> FoundSegment {
    FoundSegment {
        path: segment.path.clone(),
        file: segment.file.clone(),
        header: SegmentHeader {
            shard: holdfast_words::ShardId::default(),
            first_lsn: segment.first_lsn,
            history: Vec::new(),
        },
        mark: Mark::default(),
        seal: Some(Seal { end_lsn: segment.end_lsn, records: 0, index: Vec::new() }),
        length,
        end_lsn: segment.end_lsn,
    }
}

/// The segment's own seal, when it is sound.
pub(super) fn sound_seal(segment: &Sealed) -> io::Result<Option<Seal>> {
    let seal = read_seal(&segment.file, segment.file.len()?)?.map(|(seal, _)| seal);
    Ok(seal.filter(|seal| seal.end_lsn == segment.end_lsn))
}

/// The slot of the record that should stand at `damaged`, and the first sound record after it. Lengths cannot be trusted any
/// more; the index at the segment's end knows where records begin. Without it everything up to the end is lost.
fn resume_after(segment: &Sealed, damaged: Lsn) -> io::Result<(Option<u16>, Lsn)> {
    let Some(seal) = sound_seal(segment)? else { return Ok((None, segment.end_lsn)) };
    let mut places: Vec<(u64, u16)> = seal
        .index
        .iter()
        .flat_map(|(slot, offsets)| offsets.iter().map(|&offset| (u64::from(offset), *slot)))
        .collect();
    places.sort_unstable();
    let bad_at = offset_of(damaged, segment.first_lsn);
    let first = places.partition_point(|(offset, _)| *offset < bad_at);
    let slot = places.get(first).filter(|(offset, _)| *offset == bad_at).map(|(_, slot)| *slot);
    let end = offset_of(segment.end_lsn, segment.first_lsn);
    let mut bytes = Vec::new();
    for (index, &(offset, _)) in places.iter().enumerate().skip(first) {
        let next = places.get(index + 1).map_or(end, |(next, _)| *next);
        if offset <= bad_at || next <= offset {
            continue;
        }
        let lsn = segment.first_lsn.advance(offset - SEGMENT_HEADER_SIZE);
        bytes.resize((next - offset) as usize, 0);
        if segment.file.read_up_to_at(&mut bytes, offset)? == bytes.len()
            && decode_record(&bytes, lsn).is_ok()
        {
            return Ok((slot, lsn));
        }
    }
    Ok((slot, segment.end_lsn))
}
