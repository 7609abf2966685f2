//! Reading a log from its files, at a start and offline, and the decision between a torn tail and damage.
//!
//! | row | what stands at the first place that is no record | decision |
//! |---|---|---|
//! | A | the end of a sealed segment's records, and the next segment begins there | go on |
//! | B | in the last segment: zeros or old bytes, at or above the durable mark | the end; what follows is cut |
//! | C | in an earlier segment, at or above every mark | a power cut lost it: the end; later segments are set aside |
//! | D | below the durable mark, anywhere | damage: refuse, with file, offset and slot |
//! | E | between segments: the next begins later than this one ends, below the mark | missing segment: refuse |
//! | F | a record group without its last record, at the end | cut at the group's beginning (as B or C), below the mark: D |
//! | G | the newest segment's header is damaged and nothing below the mark is in it (a crash while it was made): all zeros, or with marks from before it was made, after a segment that is not sealed | set it aside |
//! | H | a sound record of a kind this version does not know | a newer version wrote it: refuse |
//! | I | nothing after a sealed segment, which is sealed only when the next one is there | missing segment: refuse |
//!
//! The durable mark is the highest of all segments' marks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_words::{Lsn, ShardId};

use super::error::{OpenError, VisitError};
use super::format::{
    EpochHistory, FOOTER_SIZE, HeaderFault, MORE_FOLLOWS, Mark, RECORD_SIZE_MAX, RecordFault, RecordKind,
    RecordView, SEGMENT_HEADER_SIZE, Seal, SegmentHeader, checked_record, decode_record, record_slot,
};
use super::segment::{lsn_of_name, offset_of};
use crate::platform::files::{self, File};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Whoever reads the log: restart, verify, dump, replica. Sees whole groups only, in order.
pub trait RecordVisitor {
    /// One record.
    ///
    /// # Errors
    /// When it cannot be used; the reading ends there.
    fn record(&mut self, record: &RecordView<'_>) -> Result<(), VisitError>;

    /// No more will come, because the log ends, something is wrong with it, or the visitor wants no more. A visitor that uses
    /// records later than it takes them says now what became of them.
    ///
    /// # Errors
    /// When a record that it took cannot be used; which counts for more than what is wrong with the log after it.
    fn finish(&mut self) -> Result<(), Refused> {
        Ok(())
    }
}

/// A record that a visitor took and cannot use.
#[derive(Debug)]
pub struct Refused {
    /// Where it begins.
    pub lsn: Lsn,
    /// Why.
    pub source: VisitError,
}

impl<F: FnMut(&RecordView<'_>) -> Result<(), VisitError>> RecordVisitor for F {
    fn record(&mut self, record: &RecordView<'_>) -> Result<(), VisitError> {
        self(record)
    }
}

/// One segment as found on disk.
#[derive(Debug)]
pub struct FoundSegment {
    /// Its file.
    pub path: PathBuf,
    /// Open for reading and, unless offline, writing.
    pub file: Arc<File>,
    /// What its header says.
    pub header: SegmentHeader,
    /// Its newer mark.
    pub mark: Mark,
    /// Its seal, when it has a sound one.
    pub seal: Option<Seal>,
    /// Length of the file.
    pub length: u64,
    /// Where its records end, as far as they were read.
    pub end_lsn: Lsn,
}

/// A log as found on disk.
#[derive(Debug, Default)]
pub struct Found {
    /// Its segments, in order.
    pub segments: Vec<FoundSegment>,
    /// The highest mark.
    pub mark: Mark,
    /// End of the sound log.
    pub end_lsn: Lsn,
    /// The epochs of the log.
    pub history: EpochHistory,
    /// Bytes that look like records after the end, to be cut (rows B, C, F).
    pub torn_bytes: u64,
    /// Why the log ends where it ends, when it is not simply empty space.
    pub torn: Option<String>,
    /// Segments after the end (rows C, G).
    pub surplus: Vec<PathBuf>,
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> OpenError + '_ {
    move |source| OpenError::Io { path: path.to_owned(), source }
}

/// Opens all segments of a directory, without reading their records.
///
/// # Errors
/// When a header is damaged (save row G), newer, or of another shard.
pub fn find_segments(directory: &Path, owner: Option<ShardId>, writable: bool) -> Result<Found, OpenError> {
    let mut found = Found::default();
    let names = files::list(directory).map_err(io_error(directory))?;
    let mut names: Vec<String> = names.into_iter().filter(|name| lsn_of_name(name).is_some()).collect();
    names.sort();
    let last = names.len().saturating_sub(1);
    for (index, name) in names.into_iter().enumerate() {
        let path = directory.join(&name);
        let open = if writable { files::open_read_write } else { files::open_read };
        let file = open(&path).map_err(io_error(&path))?;
        let length = file.len().map_err(io_error(&path))?;
        let mut block = vec![0; SEGMENT_HEADER_SIZE as usize];
        let filled = file.read_up_to_at(&mut block, 0).map_err(io_error(&path))?;
        let (header, mark) = match SegmentHeader::decode(&block[..filled]) {
            Ok(decoded) => decoded,
            Err(HeaderFault::Damaged(_))
                if index == last
                    && let Some(before) = found.segments.last()
                    && let Some(first_lsn) = lsn_of_name(&name)
                    && never_used(&block[..filled], first_lsn, before) =>
            {
                found.surplus.push(path);
                continue;
            }
            Err(source) => return Err(OpenError::Header { path, source }),
        };
        if let Some(owner) = owner
            && header.shard != owner
        {
            return Err(OpenError::Foreign { path, found: header.shard, owner });
        }
        if Some(header.first_lsn) != lsn_of_name(&name) {
            let source = HeaderFault::Damaged("its first LSN is not the one of its name");
            return Err(OpenError::Header { path, source });
        }
        // A recycled file may still end in the seal of its earlier life, which names other LSNs.
        let seal = read_seal(&file, length).map_err(io_error(&path))?;
        let seal = seal.filter(|(seal, at)| {
            seal.end_lsn >= header.first_lsn && offset_of(seal.end_lsn, header.first_lsn) == *at
        });
        let seal = seal.map(|(seal, _)| seal);
        if (mark.durable_lsn, mark.counter) > (found.mark.durable_lsn, found.mark.counter) {
            found.mark = mark;
        }
        let end_lsn = header.first_lsn;
        found.segments.push(FoundSegment { path, file: Arc::new(file), header, mark, seal, length, end_lsn });
    }
    Ok(found)
}

/// Row G: a header block that never reached the disk as a whole. What is written after the segment `before` counts as durable only
/// when that one is sealed, durably, and marks that say so are written after that.
pub(super) fn never_used(block: &[u8], first_lsn: Lsn, before: &FoundSegment) -> bool {
    let is_whole = block.len() as u64 == SEGMENT_HEADER_SIZE;
    let counts = |mark: Mark| mark.durable_lsn > first_lsn;
    block.iter().all(|&byte| byte == 0)
        || (before.seal.is_none() && is_whole && !Mark::newest_in(block).is_some_and(counts))
}

/// Whether the file ends in a seal whose index and footer fit each other. As [`read_seal`], with little memory.
pub(super) fn ends_in_sound_seal(file: &File, length: u64) -> std::io::Result<bool> {
    const BYTES_AT_ONCE: u64 = 64 << 10;
    let mut footer = [0; FOOTER_SIZE];
    let Some(footer_at) = length.checked_sub(FOOTER_SIZE as u64) else { return Ok(false) };
    file.read_exact_at(&mut footer, footer_at)?;
    let Some((index_at, index_length)) = Seal::locate(&footer) else { return Ok(false) };
    if index_at.checked_add(u64::from(index_length)) != Some(footer_at) {
        return Ok(false);
    }
    let mut crc = crc32fast::Hasher::new();
    let (mut at, mut piece) = (index_at, Vec::new());
    while at < footer_at {
        piece.resize(BYTES_AT_ONCE.min(footer_at - at) as usize, 0);
        file.read_exact_at(&mut piece, at)?;
        crc.update(&piece);
        at += piece.len() as u64;
    }
    let (summed, sum) = footer.split_at(FOOTER_SIZE - 4);
    crc.update(summed);
    Ok(crc.finalize().to_le_bytes() == *sum)
}

/// The seal at the end of the file, and the offset at which its index begins.
pub(super) fn read_seal(file: &File, length: u64) -> std::io::Result<Option<(Seal, u64)>> {
    if length < SEGMENT_HEADER_SIZE + FOOTER_SIZE as u64 {
        return Ok(None);
    }
    let mut footer = [0; FOOTER_SIZE];
    file.read_exact_at(&mut footer, length - FOOTER_SIZE as u64)?;
    let Some((index_at, index_length)) = Seal::locate(&footer) else { return Ok(None) };
    if index_at.checked_add(u64::from(index_length)).and_then(|end| end.checked_add(FOOTER_SIZE as u64))
        != Some(length)
    {
        return Ok(None);
    }
    let mut bytes = vec![0; index_length as usize + FOOTER_SIZE];
    file.read_exact_at(&mut bytes, index_at)?;
    Ok(Seal::decode(&bytes).map(|seal| (seal, index_at)))
}

/// Reads all records, hands those at or above `from` to `visitor`, and decides where the log ends.
///
/// # Errors
/// Rows D and E, what the visitor says, or what the operating system says.
pub fn read_all(found: Found, from: Lsn, visitor: &mut dyn RecordVisitor) -> Result<Found, OpenError> {
    let places: Vec<(Lsn, PathBuf)> =
        found.segments.iter().map(|segment| (segment.header.first_lsn, segment.path.clone())).collect();
    let outcome = read_records(found, from, visitor);
    let Err(Refused { lsn, source }) = visitor.finish() else { return outcome };
    let (first_lsn, path) =
        places.into_iter().rfind(|(first_lsn, _)| *first_lsn <= lsn).expect("the record is of a segment");
    Err(OpenError::Visitor { path, offset: offset_of(lsn, first_lsn), source })
}

fn read_records(mut found: Found, from: Lsn, visitor: &mut dyn RecordVisitor) -> Result<Found, OpenError> {
    let Some(first) = found.segments.first() else { return Ok(found) };
    found.history = first.header.history.clone();
    let mut end = first.header.first_lsn;
    let mut group = Group::default();
    let mut ended_at = None;
    for index in 0..found.segments.len() {
        let segment = &found.segments[index];
        let durable = found.mark.durable_lsn;
        if segment.header.first_lsn != end {
            // Row E. Above the mark a later segment can be on disk without the end of the one before it: row C.
            if end < durable {
                return Err(OpenError::Missing {
                    path: segment.path.clone(),
                    end,
                    next: segment.header.first_lsn,
                });
            }
            ended_at = Some((index, format!("the next segment begins at LSN {}", segment.header.first_lsn)));
            break;
        }
        let mut scan = SegmentScan::new(segment);
        let fault = loop {
            match scan.next()? {
                Ok(record) => {
                    note_epoch(&mut found.history, &record);
                    group.take(&record, from, segment, visitor)?;
                    end = record.end();
                }
                Err(fault) => break fault,
            }
        };
        let sealed_end = segment.seal.as_ref().map(|seal| seal.end_lsn);
        let is_last = index + 1 == found.segments.len();
        let clean_end =
            sealed_end == Some(end) || (!is_last && found.segments[index + 1].header.first_lsn == end);
        let torn = scan.rest_is_not_empty();
        let bad_slot = scan.slot_here();
        found.segments[index].end_lsn = end;
        if clean_end {
            if is_last && found.surplus.is_empty() {
                // Row I.
                return Err(OpenError::MissingNewest { path: found.segments[index].path.clone(), end });
            }
            continue;
        }
        if end < durable {
            let segment = &found.segments[index];
            return Err(OpenError::Corrupt {
                path: segment.path.clone(),
                offset: offset_of(end, segment.header.first_lsn),
                lsn: end,
                slot: bad_slot,
                what: fault.to_string(),
                durable,
            });
        }
        if matches!(fault, RecordFault::Unknown { .. }) {
            // Row H: its CRC is right, so it is neither torn nor damaged.
            return Err(OpenError::NewerRecord {
                path: found.segments[index].path.clone(),
                offset: offset_of(end, found.segments[index].header.first_lsn),
                lsn: end,
                source: fault,
            });
        }
        let why = if torn { Some(fault.to_string()) } else { None };
        ended_at = Some((index + 1, why.clone().unwrap_or_default()));
        if let Some(why) = why {
            found.torn = Some(why);
            found.torn_bytes = found.segments[index]
                .length
                .saturating_sub(offset_of(end, found.segments[index].header.first_lsn));
        }
        break;
    }
    if let Some(start) = group.open_since() {
        // Row F.
        let durable = found.mark.durable_lsn;
        let index = found.segments.iter().rposition(|segment| segment.header.first_lsn <= start).unwrap_or(0);
        if start < durable {
            return Err(OpenError::Corrupt {
                path: found.segments[index].path.clone(),
                offset: offset_of(start, found.segments[index].header.first_lsn),
                lsn: start,
                slot: "?".into(),
                what: "a group of records lacks its last one".into(),
                durable,
            });
        }
        found.torn = Some("a group of records lacks its last one".into());
        found.torn_bytes += end.since(start);
        end = start;
        found.segments[index].end_lsn = end;
        ended_at = Some((index + 1, String::new()));
    }
    if let Some((keep, _)) = ended_at {
        // Row C: what stands after the end in later segments can no longer be reached.
        let surplus = found.segments.split_off(keep.max(1));
        found.surplus.extend(surplus.into_iter().map(|segment| segment.path));
    }
    found.history.retain(|&(_, start)| start < end || start == Lsn::ZERO);
    found.end_lsn = end;
    Ok(found)
}

/// An epoch begins with this record, if one does.
pub(super) fn note_epoch(history: &mut EpochHistory, record: &RecordView<'_>) {
    if record.header.kind != RecordKind::EpochStart {
        return;
    }
    if history.last().is_none_or(|&(epoch, _)| epoch < record.header.epoch) {
        history.push((record.header.epoch, record.lsn));
    }
}

/// Holds the records of a group back until its last one is there.
#[derive(Default)]
struct Group {
    since: Option<Lsn>,
    held: Vec<(Lsn, Vec<u8>)>,
}

impl Group {
    fn take(
        &mut self,
        record: &RecordView<'_>,
        from: Lsn,
        segment: &FoundSegment,
        visitor: &mut dyn RecordVisitor,
    ) -> Result<(), OpenError> {
        let fail = |lsn: Lsn, source: VisitError| OpenError::Visitor {
            path: segment.path.clone(),
            offset: offset_of(lsn, segment.header.first_lsn),
            source,
        };
        if record.header.flags & MORE_FOLLOWS != 0 {
            self.since.get_or_insert(record.lsn);
            self.held.push((record.lsn, record.bytes.to_vec()));
            return Ok(());
        }
        self.since = None;
        for (lsn, bytes) in self.held.drain(..) {
            if lsn >= from {
                visitor.record(&checked_record(&bytes, lsn)).map_err(|source| fail(lsn, source))?;
            }
        }
        if record.lsn >= from {
            visitor.record(record).map_err(|source| fail(record.lsn, source))
        } else {
            Ok(())
        }
    }

    fn open_since(&self) -> Option<Lsn> {
        self.since
    }
}

/// Walks the records of one segment with bounded memory.
pub struct SegmentScan<'s> {
    segment: &'s FoundSegment,
    /// File offset of `buffer[0]`.
    buffer_at: u64,
    buffer: Vec<u8>,
    /// Index into `buffer` of the next record.
    next: usize,
}

impl<'s> SegmentScan<'s> {
    /// From the first record on.
    pub fn new(segment: &'s FoundSegment) -> Self {
        Self { segment, buffer_at: SEGMENT_HEADER_SIZE, buffer: Vec::new(), next: 0 }
    }

    /// From the record at `lsn` on.
    pub fn starting_at(segment: &'s FoundSegment, lsn: Lsn) -> Self {
        let buffer_at = offset_of(lsn, segment.header.first_lsn);
        Self { segment, buffer_at, buffer: Vec::new(), next: 0 }
    }

    /// Where records can stand at most: before a seal, or the end of the file.
    fn records_end(&self) -> u64 {
        match &self.segment.seal {
            Some(seal) => offset_of(seal.end_lsn, self.segment.header.first_lsn).min(self.segment.length),
            None => self.segment.length,
        }
    }

    /// LSN of the next record.
    pub fn lsn(&self) -> Lsn {
        self.segment.header.first_lsn.advance(self.buffer_at + self.next as u64 - SEGMENT_HEADER_SIZE)
    }

    /// The next record, or what stands in its place.
    ///
    /// # Errors
    /// What the operating system says.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the scan's buffer")]
    pub fn next(&mut self) -> Result<Result<RecordView<'_>, RecordFault>, OpenError> {
        let lsn = self.lsn();
        let mut needed = 0;
        loop {
            match decode_record(&self.buffer[self.next..], lsn) {
                Ok(record) => {
                    let length = record.bytes.len();
                    let at = self.next;
                    self.next += length;
                    return Ok(Ok(checked_record(&self.buffer[at..at + length], lsn)));
                }
                Err(RecordFault::Short(more)) if more > needed && self.can_grow(more) => {
                    needed = more;
                    self.fill(more)?;
                }
                Err(RecordFault::Empty) if needed == 0 && self.can_grow(1) => {
                    needed = 1;
                    self.fill(super::format::RECORD_HEADER_SIZE)?;
                }
                Err(fault) => return Ok(Err(fault)),
            }
        }
    }

    fn can_grow(&self, needed: usize) -> bool {
        let have = self.buffer.len() - self.next;
        needed <= RECORD_SIZE_MAX
            && have < needed.max(super::format::RECORD_HEADER_SIZE)
            && self.buffer_at + (self.buffer.len() as u64) < self.records_end()
    }

    fn fill(&mut self, needed: usize) -> Result<(), OpenError> {
        self.buffer.drain(..self.next);
        self.buffer_at += self.next as u64;
        self.next = 0;
        let have = self.buffer.len();
        let room = self.records_end().saturating_sub(self.buffer_at) as usize;
        let wanted = needed.max(READ_BYTES).min(room);
        if wanted > have {
            self.buffer.resize(wanted, 0);
            let offset = self.buffer_at + have as u64;
            let filled = self.segment.file.read_up_to_at(&mut self.buffer[have..], offset);
            let filled = filled.map_err(io_error(&self.segment.path))?;
            self.buffer.truncate(have + filled);
        }
        Ok(())
    }

    /// Whether something other than zeros stands where the next record would, as far as the buffer shows.
    fn rest_is_not_empty(&self) -> bool {
        self.buffer[self.next..].iter().any(|&byte| byte != 0)
    }

    /// The slot that the bytes here name, for messages about damage.
    fn slot_here(&self) -> String {
        match &self.segment.seal {
            // The sealed index knows what should stand here.
            Some(seal) => {
                let offset = (self.buffer_at + self.next as u64) as u32;
                let named = seal.index.iter().find(|(_, offsets)| offsets.binary_search(&offset).is_ok());
                named.map_or_else(|| "?".into(), |(slot, _)| slot.to_string())
            }
            None if self.buffer.len() >= self.next + 12 => record_slot(&self.buffer[self.next..]).to_string(),
            None => "?".into(),
        }
    }
}
