//! Putting back what damage took from a sealed segment. A whole new file is written beside the damaged one out of its sound bytes
//! and of those that another member of the shard has (members' logs are the same bytes); it is verified from end to end and
//! synced before it takes the damaged one's name. The damaged file is kept in the log's set-aside folder.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_words::{Epoch, Lsn};

use super::Log;
use super::append::unused_directory;
use super::format::{EpochHistory, Mark, RecordFault, SEGMENT_HEADER_SIZE, SegmentHeader, decode_record};
use super::recovery::SegmentScan;
use super::scrub::{DamagedPart, SegmentDamage, as_found, sound_seal};
use super::segment::{Active, Sealed, offset_of};
use crate::platform::files::{self, File};

/// How the mended file is called until it takes the damaged one's place.
pub(super) const MENDING: &str = ".wal.mend";
const BYTES_AT_ONCE: u64 = 1 << 20;

/// Why a segment is as damaged as before. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// Nobody could be asked, or nobody has the bytes.
    #[error("LSN {} to {}: {why}", .lost.start, .lost.end)]
    NoBytes {
        /// The bytes that are needed.
        lost: Range<Lsn>,
        /// Why they did not come.
        why: String,
    },
    /// What came is no record of this log.
    #[error("what came for LSN {lsn} is not what stood there: {why}")]
    Wrong {
        /// The record that is wrong.
        lsn: Lsn,
        /// How.
        why: String,
    },
    /// What stood there is not what is wanted: the log was cut or released meanwhile.
    #[error("the segment is no part of the log any more")]
    Gone,
    /// The files.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Who has the same bytes: another member of the shard.
pub trait SameBytes {
    /// The bytes of the log in this range, all of them.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn fetch(&mut self, range: Range<Lsn>) -> Result<Vec<u8>, String>;
}

impl<F: FnMut(Range<Lsn>) -> Result<Vec<u8>, String>> SameBytes for F {
    fn fetch(&mut self, range: Range<Lsn>) -> Result<Vec<u8>, String> {
        self(range)
    }
}

impl Log {
    /// Writes the segment anew without its damage and returns where the damaged file is kept.
    ///
    /// # Errors
    /// When the bytes cannot be had, are not what stood there, or the disk fails: everything is as before then.
    pub fn mend(
        &self,
        segment: &Sealed,
        damage: &[SegmentDamage],
        from: &mut dyn SameBytes,
    ) -> Result<PathBuf, MendError> {
        let io_error = |source| MendError::Io { path: segment.path.clone(), source };
        let history = self.epoch_history();
        let mut lost: Vec<Range<Lsn>> = damage
            .iter()
            .filter_map(|damage| match &damage.part {
                DamagedPart::Records(lost) => Some(lost.clone()),
                DamagedPart::Header | DamagedPart::Mark | DamagedPart::Seal => None,
            })
            .collect();
        lost.sort_unstable_by_key(|lost| lost.start);
        let path = segment.path.with_extension(&MENDING[1..]);
        if files::exists(&path).map_err(io_error)? {
            files::remove_file(&path).map_err(io_error)?;
        }
        let file = Arc::new(files::create_new(&path).map_err(io_error)?);
        let mended = Sealed { path: path.clone(), file, ..segment.clone() };
        let done = self
            .write_mended(segment, &mended, &lost, &history, from)
            .and_then(|()| self.take_place(segment, &mended));
        if done.is_err()
            && let Err(error) = files::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a half mended segment could not be removed; the next start removes it");
        }
        done
    }

    fn write_mended(
        &self,
        segment: &Sealed,
        mended: &Sealed,
        lost: &[Range<Lsn>],
        history: &EpochHistory,
        from: &mut dyn SameBytes,
    ) -> Result<(), MendError> {
        let io_error = |source| MendError::Io { path: segment.path.clone(), source };
        let block = self.header_of(segment, history).map_err(io_error)?;
        mended.file.write_all_at(&block, 0).map_err(io_error)?;
        let mut at = segment.first_lsn;
        for lost in lost {
            copy(&segment.file, &mended.file, segment.first_lsn, at..lost.start).map_err(io_error)?;
            let bytes = from.fetch(lost.clone());
            let bytes = bytes.map_err(|why| MendError::NoBytes { lost: lost.clone(), why })?;
            verify(&bytes, lost, history)?;
            let offset = offset_of(lost.start, segment.first_lsn);
            mended.file.write_all_at(&bytes, offset).map_err(io_error)?;
            at = lost.end;
        }
        copy(&segment.file, &mended.file, segment.first_lsn, at..segment.end_lsn).map_err(io_error)?;
        self.seal_mended(segment, mended)?;
        mended.file.sync_all().map_err(io_error)
    }

    /// The header as it was, when it can be read; otherwise out of what the log knows.
    fn header_of(&self, segment: &Sealed, history: &EpochHistory) -> io::Result<Vec<u8>> {
        let mut block = vec![0; SEGMENT_HEADER_SIZE as usize];
        let filled = segment.file.read_up_to_at(&mut block, 0)?;
        let known = SegmentHeader::decode(&block[..filled]).ok();
        let known =
            known.filter(|(header, _)| header.first_lsn == segment.first_lsn && header.shard == self.owner());
        if known.is_some() && filled == block.len() && Mark::faults(&block).is_empty() {
            // Both marks, as they are: nothing in it is damaged.
            return Ok(block);
        }
        let (header, mark) = known.unwrap_or_else(|| {
            let before = |start: Lsn| start < segment.first_lsn || start == Lsn::ZERO;
            let history = history.iter().copied().filter(|&(_, start)| before(start)).collect();
            let header = SegmentHeader { shard: self.owner(), first_lsn: segment.first_lsn, history };
            (header, Mark { counter: 1, durable_lsn: segment.first_lsn, boot: self.boot })
        });
        Ok(header.encode(&mark))
    }

    /// Reads every record of the new file back, writes the index, and compares it with the damaged file's, if that is sound.
    fn seal_mended(&self, segment: &Sealed, mended: &Sealed) -> Result<(), MendError> {
        let io_error = |source| MendError::Io { path: mended.path.clone(), source };
        let found = as_found(mended, offset_of(mended.end_lsn, mended.first_lsn));
        let mut active =
            Active::reopened(mended.path.clone(), mended.file.clone(), mended.first_lsn, found.length);
        let mut scan = SegmentScan::new(&found);
        while active.end_lsn < mended.end_lsn {
            match scan.next().map_err(|error| io_error(io::Error::other(error)))? {
                Ok(record) => active.note_record(record.header.slot.number(), record.bytes.len()),
                Err(fault) => return Err(MendError::Wrong { lsn: active.end_lsn, why: fault.to_string() }),
            }
        }
        active.seal().map_err(io_error)?;
        if let Some(before) = sound_seal(segment).map_err(io_error)?
            && sound_seal(mended).map_err(io_error)?.as_ref() != Some(&before)
        {
            let why = "the records stand at other places than the segment's index says".into();
            return Err(MendError::Wrong { lsn: segment.first_lsn, why });
        }
        Ok(())
    }

    fn take_place(&self, segment: &Sealed, mended: &Sealed) -> Result<PathBuf, MendError> {
        let io_error = |source| MendError::Io { path: segment.path.clone(), source };
        let kept = keep_damaged(&self.directory, segment).map_err(io_error)?;
        let mut writer = self.writer.lock();
        let own = writer.sealed.iter_mut();
        let Some(own) = own
            .into_iter()
            .find(|own| Arc::ptr_eq(&own.file, &segment.file) && own.end_lsn == segment.end_lsn)
        else {
            return Err(MendError::Gone);
        };
        files::rename(&mended.path, &segment.path).map_err(io_error)?;
        own.file = mended.file.clone();
        // The new file is synced already.
        writer.unsynced.retain(|file| !Arc::ptr_eq(file, &segment.file));
        files::sync_directory(&self.directory).map_err(io_error)?;
        Ok(kept)
    }
}

/// A copy: the damaged file itself stays where it is until the mended one takes its place, in one step.
pub(super) fn keep_damaged(directory: &Path, segment: &Sealed) -> io::Result<PathBuf> {
    let name = format!("damaged-{:020}", segment.first_lsn.0);
    let kept = unused_directory(&directory.join(super::append::SET_ASIDE), &name)?;
    let path = kept.join(segment.path.file_name().unwrap_or_default());
    let copy = files::create_new(&path)?;
    copy_all(&segment.file, &copy)?;
    copy.sync_all()?;
    files::sync_directory(&kept)?;
    Ok(path)
}

/// Every byte of a file.
pub(super) fn copy_all(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; BYTES_AT_ONCE as usize];
    let mut offset = 0;
    loop {
        let filled = from.read_up_to_at(&mut buffer, offset)?;
        if filled == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..filled], offset)?;
        offset += filled as u64;
    }
}

fn copy(from: &File, to: &File, first_lsn: Lsn, range: Range<Lsn>) -> io::Result<()> {
    let (mut offset, end) = (offset_of(range.start, first_lsn), offset_of(range.end, first_lsn));
    let mut buffer = Vec::new();
    while offset < end {
        buffer.resize(BYTES_AT_ONCE.min(end - offset) as usize, 0);
        from.read_exact_at(&mut buffer, offset)?;
        to.write_all_at(&buffer, offset)?;
        offset += buffer.len() as u64;
    }
    Ok(())
}

/// Whole records, back to back, that fill the range and were made under the epochs that this log knows there. Another history of the
/// same shard may have sound records at the very same places.
pub(super) fn verify(bytes: &[u8], range: &Range<Lsn>, history: &EpochHistory) -> Result<(), MendError> {
    let wrong = |lsn, why: String| MendError::Wrong { lsn, why };
    if bytes.len() as u64 != range.end.since(range.start) {
        return Err(wrong(range.start, format!("{} bytes came", bytes.len())));
    }
    let mut at = 0;
    while at < bytes.len() {
        let lsn = range.start.advance(at as u64);
        let record =
            decode_record(&bytes[at..], lsn).map_err(|fault: RecordFault| wrong(lsn, fault.to_string()))?;
        let epoch = history.iter().rfind(|(_, start)| *start <= lsn).map_or(Epoch::ZERO, |(epoch, _)| *epoch);
        if record.header.epoch != epoch {
            return Err(wrong(lsn, format!("it is of epoch {}, not {epoch}", record.header.epoch)));
        }
        at += record.bytes.len();
    }
    Ok(())
}
