//! Mending a log that cannot be opened: what a start found damaged below the durable mark, put back with the records that another
//! member of the shard has. The same walk as a start's, and the same decision what is damage and what a torn tail (rows A to I of
//! [`super::recovery`]); what is no damage is left to it.
//!
//! Lengths of damaged records say nothing, and the segment that was being written has no index. So the records that come from the
//! other member tell where the log's own go on: at the first record boundary of theirs at which a sound record of this log stands. A
//! mended segment is a whole new file, synced before it takes the damaged one's name; the damaged one is kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_words::{Epoch, LogPoint, Lsn, ShardId};

use super::format::{
    EpochHistory, HeaderFault, Mark, RECORD_HEADER_SIZE, SEGMENT_HEADER_SIZE, SegmentHeader, decode_record,
    record_length,
};
use super::mend::{MENDING, MendError, copy_all, keep_damaged, verify};
use super::recovery::{FoundSegment, SegmentScan, never_used, note_epoch, read_seal};
use super::scrub::{DamagedPart, SegmentDamage};
use super::segment::{Sealed, lsn_of_name, offset_of};
use crate::platform::files::{self, File};

/// What is known of a log that cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedLog {
    /// Whose it is.
    pub owner: ShardId,
    /// The epochs that can be read.
    pub history: EpochHistory,
    /// Where it begins.
    pub first_lsn: Lsn,
    /// Up to where it is known to have been durable, and the last epoch that can be read.
    pub end: LogPoint,
}

/// Who has the same records: another member of the shard.
pub trait SameRecords {
    /// Whole records of the log from an LSN on, at least one.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn records(&mut self, log: &ClosedLog, from: Lsn) -> Result<Vec<u8>, String>;
}

impl<F: FnMut(&ClosedLog, Lsn) -> Result<Vec<u8>, String>> SameRecords for F {
    fn records(&mut self, log: &ClosedLog, from: Lsn) -> Result<Vec<u8>, String> {
        self(log, from)
    }
}

/// What was put back.
#[derive(Debug, Default)]
pub struct Mended {
    /// What was damaged.
    pub places: Vec<SegmentDamage>,
    /// Where the damaged files are kept.
    pub kept: Vec<PathBuf>,
    /// The newest durable mark was lost: how far the log was durable is known from older ones only.
    pub mark_is_lost: bool,
}

/// A segment file, its header sound or not.
struct Part {
    found: FoundSegment,
    header: Option<HeaderFault>,
    block: Vec<u8>,
}

/// Mends every damaged segment of the closed log in `directory`.
///
/// # Errors
/// When bytes cannot be had, are not what stood there, or the disk fails. Segments mended before are mended, others as before.
pub fn mend_closed(
    directory: &Path,
    owner: ShardId,
    from: &mut dyn SameRecords,
) -> Result<Mended, MendError> {
    let parts = parts(directory, owner)?;
    let mut mended = Mended::default();
    let Some(first) = parts.first() else { return Ok(mended) };
    let sound = || parts.iter().filter(|part| part.header.is_none());
    let durable = sound().map(|part| part.found.mark.durable_lsn).max().unwrap_or_default();
    let history = known_history(&parts)?;
    let epoch = history.last().map_or(Epoch::ZERO, |&(epoch, _)| epoch);
    let log = ClosedLog {
        owner,
        history,
        first_lsn: first.found.header.first_lsn,
        end: LogPoint { epoch, lsn: durable },
    };
    for (index, part) in parts.iter().enumerate() {
        let next = parts.get(index + 1).map(|next| next.found.header.first_lsn);
        let places = Patient { directory, part, next, log: &log }.mend(from, &mut mended.kept)?;
        let lost_mark = part.header.is_some() && next.is_none() && Mark::newest_in(&part.block).is_none();
        mended.mark_is_lost |= lost_mark;
        mended.places.extend(places);
    }
    Ok(mended)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> MendError + '_ {
    move |source| MendError::Io { path: path.to_owned(), source }
}

fn parts(directory: &Path, owner: ShardId) -> Result<Vec<Part>, MendError> {
    let mut names = files::list(directory).map_err(io_error(directory))?;
    names.retain(|name| lsn_of_name(name).is_some());
    names.sort();
    let last = names.len().saturating_sub(1);
    let mut parts = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let path = directory.join(&name);
        let first_lsn = lsn_of_name(&name).unwrap_or_default();
        let file = files::open_read(&path).map_err(io_error(&path))?;
        let length = file.len().map_err(io_error(&path))?;
        let mut block = vec![0; SEGMENT_HEADER_SIZE as usize];
        let filled = file.read_up_to_at(&mut block, 0).map_err(io_error(&path))?;
        block.truncate(filled);
        if index == last
            && parts.last().is_some_and(|before: &Part| never_used(&block, first_lsn, &before.found))
        {
            continue; // Row G.
        }
        let (header, mark, fault) = match SegmentHeader::decode(&block) {
            Ok((header, mark)) => (header, mark, None),
            Err(fault @ HeaderFault::Damaged(_)) => {
                (SegmentHeader { shard: owner, first_lsn, history: Vec::new() }, Mark::default(), Some(fault))
            }
            Err(fault @ HeaderFault::Newer { .. }) => {
                return Err(MendError::Wrong { lsn: first_lsn, why: fault.to_string() });
            }
        };
        if header.shard != owner || header.first_lsn != first_lsn {
            let why = "the segment is another log's".into();
            return Err(MendError::Wrong { lsn: first_lsn, why });
        }
        let seal = read_seal(&file, length).map_err(io_error(&path))?;
        let seal = seal
            .filter(|(seal, at)| seal.end_lsn >= first_lsn && offset_of(seal.end_lsn, first_lsn) == *at)
            .map(|(seal, _)| seal);
        let (file, end_lsn) = (Arc::new(file), first_lsn);
        let found = FoundSegment { path, file, header, mark, seal, length, end_lsn };
        parts.push(Part { found, header: fault, block });
    }
    Ok(parts)
}

/// The newest header that can be read knows the epochs before it; those after it stand in the records.
fn known_history(parts: &[Part]) -> Result<EpochHistory, MendError> {
    let newest = parts.iter().rposition(|part| part.header.is_none());
    let mut history =
        newest.and_then(|at| parts.get(at)).map_or_else(Vec::new, |part| part.found.header.history.clone());
    for part in &parts[newest.unwrap_or(0)..] {
        let mut scan = SegmentScan::new(&part.found);
        while let Ok(record) = scan.next().map_err(|error| other(&part.found.path, error))? {
            note_epoch(&mut history, &record);
        }
    }
    Ok(history)
}

fn other(path: &Path, error: super::OpenError) -> MendError {
    MendError::Io { path: path.to_owned(), source: io::Error::other(error) }
}

/// One segment of the log, damaged or not.
struct Patient<'a> {
    directory: &'a Path,
    part: &'a Part,
    /// Where the next segment begins.
    next: Option<Lsn>,
    log: &'a ClosedLog,
}

impl Patient<'_> {
    fn mend(
        &self,
        from: &mut dyn SameRecords,
        kept: &mut Vec<PathBuf>,
    ) -> Result<Vec<SegmentDamage>, MendError> {
        let found = &self.part.found;
        let path = found.path.with_extension(&MENDING[1..]);
        let mut work = Work { path: &path, file: None, places: Vec::new() };
        let done = self.patch(&mut work, from).and_then(|()| match &work.file {
            None => Ok(()),
            Some(file) => self.take_place(file, &path, kept),
        });
        if done.is_err() && work.file.is_some() {
            files::remove_file(&path).map_err(io_error(&path))?;
        }
        done.map(|()| work.places)
    }

    fn patch(&self, work: &mut Work<'_>, from: &mut dyn SameRecords) -> Result<(), MendError> {
        let found = &self.part.found;
        let mut log = self.log.clone();
        if let Some(fault) = &self.part.header {
            let block = self.new_header()?;
            work.write(found, 0, &block)?;
            work.note(found, 0, DamagedPart::Header, None, fault.to_string());
        }
        // Above the mark a bad record of any segment is a torn tail: a start cuts there.
        let durable = self.log.end.lsn;
        let end = self.next.unwrap_or(durable);
        let mut at = found.header.first_lsn;
        loop {
            let mut scan = SegmentScan::starting_at(found, at);
            let fault = loop {
                at = scan.lsn();
                if self.next.is_some_and(|next| at >= next) {
                    return Ok(());
                }
                match scan.next().map_err(|error| other(&found.path, error))? {
                    Ok(record) => note_epoch(&mut log.history, &record),
                    Err(fault) => break fault,
                }
            };
            let is_sealed_end = found.seal.as_ref().is_some_and(|seal| seal.end_lsn == at);
            if at >= end || at >= durable || is_sealed_end {
                return Ok(());
            }
            log.end.epoch = log.history.last().map_or(Epoch::ZERO, |&(epoch, _)| epoch);
            let bytes = self.lost_records(&log, at, from)?;
            let lost = at..at.advance(bytes.len() as u64);
            work.write(found, offset_of(at, found.header.first_lsn), &bytes)?;
            let slot = decode_record(&bytes, at).ok().map(|record| record.header.slot.number());
            let offset = offset_of(at, found.header.first_lsn);
            work.note(found, offset, DamagedPart::Records(lost.clone()), slot, fault.to_string());
            at = lost.end;
        }
    }

    /// The other member's records from `at` on, up to where this log has its own again, verified.
    fn lost_records(
        &self,
        log: &ClosedLog,
        at: Lsn,
        from: &mut dyn SameRecords,
    ) -> Result<Vec<u8>, MendError> {
        let durable = log.end.lsn;
        let end = self.next.unwrap_or(durable);
        let mut lost: Vec<u8> = Vec::new();
        loop {
            let asked = at.advance(lost.len() as u64);
            let bytes = from.records(log, asked);
            let bytes = bytes.map_err(|why| MendError::NoBytes { lost: asked..end.max(asked), why })?;
            if bytes.is_empty() {
                let why = "nothing came".into();
                return Err(MendError::NoBytes { lost: asked..end.max(asked), why });
            }
            let mut next = 0;
            while next < bytes.len() {
                let lsn = asked.advance(next as u64);
                let length = record_length(&bytes[next..]).filter(|&length| length >= RECORD_HEADER_SIZE);
                let record = length
                    .and_then(|length| bytes.get(next..next + length))
                    .ok_or_else(|| MendError::Wrong { lsn, why: "it is no whole record".into() })?;
                let after = lsn.advance(record.len() as u64);
                if self.next.is_some_and(|next| after > next) {
                    let why = "it reaches into the next segment".into();
                    return Err(MendError::Wrong { lsn, why });
                }
                verify(record, &(lsn..after), &log.history)?;
                lost.extend_from_slice(record);
                next += record.len();
                let is_torn_from_here = self.next.is_none() && after >= durable;
                if Some(after) == self.next || self.has_record_at(after)? || is_torn_from_here {
                    return Ok(lost);
                }
            }
        }
    }

    /// Whether a sound record of this log's own stands there: its CRC is mixed with its place.
    fn has_record_at(&self, lsn: Lsn) -> Result<bool, MendError> {
        let found = &self.part.found;
        let offset = offset_of(lsn, found.header.first_lsn);
        let read = |length: usize| {
            let mut bytes = vec![0; length];
            let filled = found.file.read_up_to_at(&mut bytes, offset).map_err(io_error(&found.path))?;
            bytes.truncate(filled);
            Ok::<_, MendError>(bytes)
        };
        let head = read(RECORD_HEADER_SIZE)?;
        let length = record_length(&head).filter(|&length| {
            length >= RECORD_HEADER_SIZE && (length as u64) <= found.length.saturating_sub(offset)
        });
        let Some(length) = length else { return Ok(false) };
        Ok(decode_record(&read(length)?, lsn).is_ok())
    }

    /// A new header block out of what the rest of the log knows, with the marks that can be read.
    fn new_header(&self) -> Result<Vec<u8>, MendError> {
        let first_lsn = self.part.found.header.first_lsn;
        let mut history = self.log.history.clone();
        history.retain(|&(_, start)| start < first_lsn);
        if history.is_empty()
            && first_lsn > Lsn::ZERO
            && self.next.is_none()
            && self.log.first_lsn == first_lsn
        {
            let why =
                "it is the log's only segment, and which epochs came before it stood nowhere else".into();
            return Err(MendError::Wrong { lsn: first_lsn, why });
        }
        let mark = Mark::newest_in(&self.part.block).unwrap_or(Mark {
            counter: 1,
            durable_lsn: first_lsn.max(if self.next.is_none() { self.log.end.lsn } else { Lsn::ZERO }),
            boot: Default::default(),
        });
        Ok(SegmentHeader { shard: self.log.owner, first_lsn, history }.encode(&mark))
    }

    fn take_place(&self, file: &File, path: &Path, kept: &mut Vec<PathBuf>) -> Result<(), MendError> {
        let found = &self.part.found;
        file.sync_all().map_err(io_error(path))?;
        let damaged = Sealed {
            path: found.path.clone(),
            first_lsn: found.header.first_lsn,
            end_lsn: found.end_lsn,
            file: found.file.clone(),
        };
        kept.push(keep_damaged(self.directory, &damaged).map_err(io_error(&found.path))?);
        files::rename(path, &found.path).map_err(io_error(path))?;
        files::sync_directory(self.directory).map_err(io_error(self.directory))
    }
}

/// The new file, from the first thing on that is written into it.
struct Work<'a> {
    path: &'a Path,
    file: Option<File>,
    places: Vec<SegmentDamage>,
}

impl Work<'_> {
    fn write(&mut self, found: &FoundSegment, offset: u64, bytes: &[u8]) -> Result<(), MendError> {
        if self.file.is_none() {
            if files::exists(self.path).map_err(io_error(self.path))? {
                files::remove_file(self.path).map_err(io_error(self.path))?;
            }
            let file = self.file.insert(files::create_new(self.path).map_err(io_error(self.path))?);
            copy_all(&found.file, file).map_err(io_error(self.path))?;
        }
        let file = self.file.as_ref().expect("it was made just now");
        file.write_all_at(bytes, offset).map_err(io_error(self.path))
    }

    fn note(
        &mut self,
        found: &FoundSegment,
        offset: u64,
        part: DamagedPart,
        slot: Option<u16>,
        what: String,
    ) {
        self.places.push(SegmentDamage { path: found.path.clone(), offset, part, slot, what });
    }
}
