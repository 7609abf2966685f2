//! Taking records and writing them; cutting, replacing and setting aside.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_words::{Epoch, Lsn, ShardId};

use super::error::{AppendError, OpenError};
use super::format::{
    EpochHistory, MORE_FOLLOWS, Mark, RecordFault, SegmentHeader, decode_record, group_length, place_records,
    record_length, record_slot,
};
use super::recovery::{FoundSegment, SegmentScan};
use super::rotate::Fresh;
use super::segment::{Active, HALF_MADE, Prepared, Sealed, file_name, offset_of};
use super::{GOOD, Log, LogHealth, NO_SPACE, POISONED};
use crate::platform::files::{self, File};

/// Folder below the log's, for what was cut.
pub const SET_ASIDE: &str = "set-aside";

/// Records appended and not yet written.
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// LSN of `bytes[0]`.
    start: Lsn,
}

impl Pending {
    pub(super) fn starting_at(start: Lsn) -> Self {
        Self { bytes: Vec::new(), start }
    }

    /// LSN after the last record.
    pub(super) fn end(&self) -> Lsn {
        self.start.advance(self.bytes.len() as u64)
    }
}

/// What whoever writes holds.
pub(super) struct Writer {
    pub(super) owner: ShardId,
    pub(super) active: Active,
    pub(super) sealed: VecDeque<Sealed>,
    /// Files, besides the active one, that hold bytes above the durable position.
    pub(super) unsynced: Vec<Arc<File>>,
    /// Released segments that may be written again.
    pub(super) spares: Vec<PathBuf>,
    /// The next segment, but for its place.
    pub(super) prepared: Option<Prepared>,
    /// The log's thread was told that the active segment is half full.
    pub(super) is_asked_for: bool,
    /// It tried in vain to prepare what follows the active segment.
    pub(super) cannot_prepare: bool,
    /// The active segment is not durable yet as such.
    pub(super) fresh: Option<Fresh>,
    /// The full segment that the log's thread is sealing.
    pub(super) sealing: Option<Arc<File>>,
    pub(super) mark: Mark,
    pub(super) history: EpochHistory,
    pub(super) spare_buffer: Vec<u8>,
}

impl Log {
    /// Takes encoded records, which get the next LSNs; returns the LSN after them. To be called under the lock of their
    /// slot, so that the slot's order is the log's. They are not written yet; memory takes them even when the disk is full
    /// (whoever writes asks [`Log::health`] first).
    ///
    /// # Errors
    /// When the log has failed for good.
    pub fn append(&self, records: &mut [u8]) -> Result<Lsn, AppendError> {
        if self.health.load(Ordering::Acquire) == POISONED {
            return Err(self.refusal());
        }
        let mut pending = self.pending.lock();
        let lsn = pending.end();
        place_records(records, lsn);
        pending.bytes.extend_from_slice(records);
        Ok(pending.end())
    }

    /// Writes everything pending, at least up to `lsn`.
    ///
    /// # Errors
    /// `NoSpace`: what could not be written stays pending and is written when there is space. `Poisoned`: never.
    pub fn write_up_to(&self, lsn: Lsn) -> Result<(), AppendError> {
        if self.positions.written_lsn() >= lsn {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        if self.positions.written_lsn() >= lsn {
            // Another worker wrote ours together with its own.
            return Ok(());
        }
        if self.is_poisoned() {
            return Err(self.refusal());
        }
        let mut batch = std::mem::take(&mut writer.spare_buffer);
        let start = {
            let mut pending = self.pending.lock();
            let start = pending.start;
            std::mem::swap(&mut batch, &mut pending.bytes);
            pending.start = start.advance(batch.len() as u64);
            start
        };
        debug_assert_eq!(start, writer.active.end_lsn, "batches follow each other");
        let result = self.write_batch(&mut writer, &batch);
        let written = writer.active.end_lsn;
        if let Err(error) = result {
            // Whatever was not written goes back in front of what was appended meanwhile.
            let rest = written.since(start) as usize;
            let mut pending = self.pending.lock();
            batch.drain(..rest);
            batch.extend_from_slice(&pending.bytes);
            pending.bytes = batch;
            pending.start = written;
            drop(pending);
            self.positions.set_written(written);
            drop(writer);
            return Err(self.failed("writing the log", &error));
        }
        // Before the position moves: whoever sees its record written may send the next one at once.
        self.space_is_back();
        self.positions.set_written(written);
        const KEPT_BYTES: usize = 1 << 20;
        batch.clear();
        batch.shrink_to(KEPT_BYTES);
        writer.spare_buffer = batch;
        self.ask_for_next(&mut writer);
        self.ask_for_write_out(&writer);
        drop(writer);
        self.commit.written();
        Ok(())
    }

    /// A full disk is over. What has failed for good stays so: only the step from "no space" is taken.
    fn space_is_back(&self) {
        if self.health.compare_exchange(NO_SPACE, GOOD, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            tracing::info!("the log's disk has space again; writes are accepted");
        }
    }

    /// Tries what a full disk refused; `false` while it still does. With nothing left to write, the next write will tell.
    pub(super) fn try_to_heal(&self) -> bool {
        let end = self.end().lsn;
        let is_written = self.write_up_to(end).is_ok();
        if is_written {
            self.space_is_back();
        }
        is_written
    }

    /// Writes whole groups of records into the active segment, and the next ones when it is full: neither a segment nor a
    /// position ever ends inside a group. After an error the active segment's end says how far it came.
    fn write_batch(&self, writer: &mut Writer, batch: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < batch.len() {
            let room = writer.active.reserved.saturating_sub(writer.active.end_offset()) as usize;
            let rest = batch.len() - at;
            let mut fits = if rest <= room { rest } else { 0 };
            while let Some(length) = group_length(&batch[at + fits..])
                && fits + length <= room
            {
                fits += length;
            }
            if fits == 0 {
                let length = group_length(&batch[at..]).expect("what is pending is whole groups");
                self.rotate(writer, length as u64)?;
                continue;
            }
            let part = &batch[at..at + fits];
            writer.active.file.write_all_at(part, writer.active.end_offset())?;
            let mut record = 0;
            while let Some(length) = record_length(&part[record..]) {
                if let Ok(view) = decode_epoch_start(&part[record..record + length]) {
                    let lsn = writer.active.end_lsn;
                    writer.history.push((view, lsn));
                }
                writer.active.note_record(record_slot(&part[record..]), length);
                record += length;
            }
            at += fits;
        }
        Ok(())
    }

    /// Takes whole groups of records that the master sent, which must begin exactly at the log's end, and writes them.
    /// Should the disk fill up meanwhile, they count as taken: they wait in memory, and the written position, which is what a
    /// replica acknowledges, moves when they are written. Nothing more is taken until then.
    ///
    /// # Errors
    /// When they do not continue the log, are damaged, not whole groups or of an older epoch, or the disk was full already:
    /// nothing was taken then. `Poisoned` when the log has failed.
    pub fn append_foreign(&self, at: Lsn, bytes: &[u8]) -> Result<Lsn, AppendError> {
        if self.health.load(Ordering::Acquire) != GOOD {
            return Err(self.refusal());
        }
        let end = self.end().lsn;
        if end != at {
            return Err(AppendError::Gap { end, found: at });
        }
        let known = self.epoch();
        let mut newest = known;
        let mut offset = 0;
        let mut in_group = false;
        while offset < bytes.len() {
            let lsn = at.advance(offset as u64);
            let record =
                decode_record(&bytes[offset..], lsn).map_err(|fault| AppendError::Damaged { lsn, fault })?;
            if record.header.epoch < newest {
                return Err(AppendError::OldEpoch { known: newest, found: record.header.epoch });
            }
            newest = record.header.epoch;
            in_group = record.header.flags & MORE_FOLLOWS != 0;
            offset += record.bytes.len();
        }
        if in_group {
            return Err(AppendError::OpenGroup { end: at.advance(offset as u64) });
        }
        let end = {
            let mut pending = self.pending.lock();
            if pending.end() != at {
                return Err(AppendError::Gap { end: pending.end(), found: at });
            }
            pending.bytes.extend_from_slice(bytes);
            pending.end()
        };
        self.epoch.fetch_max(newest.0, Ordering::AcqRel);
        match self.write_up_to(end) {
            Ok(()) | Err(AppendError::NoSpace) => Ok(end),
            Err(error) => Err(error),
        }
    }

    /// Cuts the log at `at`; the tail is kept as a readable log in a directory of its own, which is returned. What was
    /// appended and not yet written is written first, so that the tail holds it too. Nobody may append meanwhile.
    ///
    /// # Errors
    /// `NoSpace`: there is no room for the tail, and nothing was changed. `Poisoned`: the log is neither whole nor cut.
    pub fn set_aside(&self, at: Lsn) -> Result<PathBuf, AppendError> {
        self.write_up_to(self.end().lsn)?;
        let _exclusive = self.commit.exclusive.lock();
        let mut writer = self.writer.lock();
        self.settle(&mut writer).map_err(|error| self.failed("making a segment durable", &error))?;
        // A copy that fails leaves the log whole; only a disk that cannot be read or written is a reason to stop.
        let kept = self
            .copy_tail(&writer, at)
            .map_err(|error| self.failed("setting the log's tail aside", &error))?;
        self.cut(&mut writer, at).map_err(|error| self.failed_for_good("cutting the log", &error))?;
        Ok(kept)
    }

    /// Cuts the log at `at` and keeps nothing of the tail. For the metadata group's log.
    ///
    /// # Errors
    /// As [`Log::set_aside`].
    pub fn truncate(&self, at: Lsn) -> Result<(), AppendError> {
        let _exclusive = self.commit.exclusive.lock();
        let mut writer = self.writer.lock();
        self.settle(&mut writer).map_err(|error| self.failed_for_good("making a segment durable", &error))?;
        self.cut(&mut writer, at).map_err(|error| self.failed_for_good("cutting the log", &error))
    }

    /// The segments that hold something at or above `at`, copied whole: they read like any log.
    fn copy_tail(&self, writer: &Writer, at: Lsn) -> io::Result<PathBuf> {
        let directory = unused_directory(&self.directory.join(SET_ASIDE), &format!("{:020}", at.0))?;
        if let Err(error) = Self::copy_segments(writer, at, &directory) {
            // Half a tail would be taken for a whole one.
            files::remove_directory(&directory)?;
            return Err(error);
        }
        Ok(directory)
    }

    fn copy_segments(writer: &Writer, at: Lsn, directory: &Path) -> io::Result<()> {
        let sealed = writer.sealed.iter().map(|segment| (&segment.file, segment.first_lsn, segment.end_lsn));
        let all = sealed.chain([(&writer.active.file, writer.active.first_lsn, writer.active.end_lsn)]);
        for (file, first_lsn, _) in all.filter(|(_, _, end_lsn)| *end_lsn > at) {
            let copy = files::create_new(&directory.join(file_name(first_lsn)))?;
            let length = file.len()?;
            let mut buffer = vec![0; 1 << 20];
            let mut offset = 0;
            while offset < length {
                let filled = file.read_up_to_at(&mut buffer, offset)?;
                if filled == 0 {
                    break;
                }
                copy.write_all_at(&buffer[..filled], offset)?;
                offset += filled as u64;
            }
            copy.sync_all()?;
        }
        files::sync_directory(directory)
    }

    fn cut(&self, writer: &mut Writer, at: Lsn) -> io::Result<()> {
        assert!(
            at <= writer.active.end_lsn,
            "the log is cut at {at}, after its end {}",
            writer.active.end_lsn
        );
        let first = writer.sealed.front().map_or(writer.active.first_lsn, |segment| segment.first_lsn);
        assert!(at >= first, "the log is cut at {at}, before its beginning {first}");
        // What stays counts as durable from here on, so it has to be, before any mark says so.
        for file in std::mem::take(&mut writer.unsynced) {
            file.sync_data()?;
        }
        writer.active.file.sync_data()?;
        writer.history.retain(|&(_, start)| start < at);
        let size = self.segment_size.load(Ordering::Relaxed);
        // Newest segments first, so that a crash in between leaves a log without a hole.
        while writer.active.first_lsn > at || (writer.active.first_lsn == at && !writer.sealed.is_empty()) {
            let previous = writer.sealed.pop_back().expect("the log begins at or below the cut");
            // First its seal: a sealed segment that nothing follows means that a segment is missing.
            previous.file.set_len(offset_of(previous.end_lsn, previous.first_lsn))?;
            previous.file.sync_all()?;
            files::remove_file(&writer.active.path)?;
            // Its mark must not come back: it would call damage what is cut below.
            files::sync_directory(&self.directory)?;
            // One that begins after the cut too goes in the next turn; its records do not matter.
            writer.active = rescan(&previous, at.max(previous.first_lsn).min(previous.end_lsn))?;
        }
        let active = &mut writer.active;
        if active.end_lsn > at {
            let sealed = Sealed {
                path: active.path.clone(),
                first_lsn: active.first_lsn,
                end_lsn: at,
                file: active.file.clone(),
            };
            *active = rescan(&sealed, at)?;
        }
        // The mark first: a crash before the cut is then a torn tail, not damage.
        let mut block = vec![0; super::SEGMENT_HEADER_SIZE as usize];
        writer.active.file.read_exact_at(&mut block, 0)?;
        let (_, own) = SegmentHeader::decode(&block).map_err(io::Error::other)?;
        writer.mark.counter = writer.mark.counter_beside(&own);
        writer.mark = Mark { counter: writer.mark.counter + 1, durable_lsn: at, boot: self.boot };
        writer.active.file.write_all_at(&writer.mark.encode(), writer.mark.offset())?;
        writer.active.file.sync_data()?;
        writer.mark.counter += 1;
        writer.active.file.write_all_at(&writer.mark.encode(), writer.mark.offset())?;
        let end = writer.active.end_offset();
        writer.active.file.set_len(end)?;
        writer.active.file.reserve(0, size.max(end))?;
        writer.active.reserved = size.max(end);
        writer.active.file.sync_all()?;
        files::sync_directory(&self.directory)?;
        let epoch = writer.history.last().map_or(Epoch::ZERO, |&(epoch, _)| epoch);
        self.epoch.store(epoch.0, Ordering::Release);
        *self.pending.lock() = Pending::starting_at(at);
        self.positions.restart(at, at);
        self.space_is_back();
        Ok(())
    }

    /// Drops everything and begins again as the log of `owner` at `first_lsn`, under the epochs of `history`: after a full
    /// copy, or when the node changes its shard. What was there, if anything, is kept in a directory of its own, which is
    /// returned.
    ///
    /// # Errors
    /// What the operating system said; the log is poisoned then.
    pub fn reset(
        &self,
        owner: ShardId,
        first_lsn: Lsn,
        history: EpochHistory,
    ) -> Result<Option<PathBuf>, AppendError> {
        let _exclusive = self.commit.exclusive.lock();
        let mut writer = self.writer.lock();
        let result = self.replace_all(&mut writer, owner, first_lsn, history);
        result.map_err(|error| self.failed_for_good("replacing the log", &error))
    }

    fn replace_all(
        &self,
        writer: &mut Writer,
        owner: ShardId,
        first_lsn: Lsn,
        history: EpochHistory,
    ) -> io::Result<Option<PathBuf>> {
        self.settle(writer)?;
        let is_empty = writer.sealed.is_empty() && writer.active.first_lsn == writer.active.end_lsn;
        let kept = if is_empty {
            None
        } else {
            let name = format!("replaced-{:020}", first_lsn.0);
            Some(unused_directory(&self.directory.join(SET_ASIDE), &name)?)
        };
        let paths: Vec<PathBuf> = writer
            .sealed
            .iter()
            .map(|segment| segment.path.clone())
            .chain([writer.active.path.clone()])
            .collect();
        for path in paths {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            match &kept {
                Some(kept) => files::rename(&path, &kept.join(name))?,
                None => files::remove_file(&path)?,
            }
        }
        if let Some(kept) = &kept {
            files::sync_directory(kept)?;
        }
        // Old bytes are told from records by their place; another history may come to the very same places.
        while let Some(spare) = writer.spares.last() {
            files::remove_file(spare)?;
            writer.spares.pop();
        }
        Self::drop_prepared(writer)?;
        writer.owner = owner;
        writer.sealed.clear();
        writer.unsynced.clear();
        writer.mark = Mark { counter: 1, durable_lsn: first_lsn, boot: self.boot };
        let header = SegmentHeader { shard: owner, first_lsn, history: history.clone() };
        let size = self.segment_size.load(Ordering::Relaxed);
        writer.active = Active::create(&self.directory, &header, &writer.mark, size, None)?;
        let epoch = history.last().map_or(Epoch::ZERO, |&(epoch, _)| epoch);
        writer.history = history;
        self.epoch.store(epoch.0, Ordering::Release);
        *self.pending.lock() = Pending::starting_at(first_lsn);
        self.positions.restart(first_lsn, first_lsn);
        self.space_is_back();
        Ok(kept)
    }

    /// Released segments of an earlier run: up to the configured number are used again, the rest is removed, as is a segment
    /// that a crash left half made.
    pub(super) fn adopt_spares(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let names = files::list(&self.directory)?;
        for name in
            names.iter().filter(|name| name.ends_with(HALF_MADE) || name.ends_with(super::mend::MENDING))
        {
            files::remove_file(&self.directory.join(name))?;
        }
        for name in names.into_iter().filter(|name| name.ends_with(".wal.spare")) {
            let path = self.directory.join(name);
            if writer.spares.len() < self.spare_segments {
                writer.spares.push(path);
            } else {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// An operation failed: a full disk is waited out, anything else is for good.
    pub(super) fn failed(&self, what: &str, error: &io::Error) -> AppendError {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            if self.health.compare_exchange(GOOD, NO_SPACE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                tracing::error!(%error, "{what}: the disk is full; writes are refused, reads served, until there is space");
            }
            // A failed fsync may have been latched meanwhile, and that is what counts.
            return self.refusal();
        }
        self.failed_for_good(what, error)
    }

    pub(super) fn failed_for_good(&self, what: &str, error: &io::Error) -> AppendError {
        let mut failure = self.failure.lock();
        if self.health.swap(POISONED, Ordering::AcqRel) != POISONED {
            *failure = format!("{what} in {}: {error}", self.directory.display());
            tracing::error!(reason = %failure, "the log has failed for good; nothing is acknowledged any more");
        }
        drop(failure);
        self.positions.wake_all();
        self.refusal()
    }

    fn refusal(&self) -> AppendError {
        match self.health() {
            LogHealth::Poisoned(reason) => AppendError::Poisoned(reason),
            LogHealth::Good | LogHealth::NoSpace => AppendError::NoSpace,
        }
    }
}

fn decode_epoch_start(record: &[u8]) -> Result<Epoch, RecordFault> {
    // The writer's own or checked records: only the kind is looked at.
    const KIND_AT: usize = 8;
    const EPOCH_START: u8 = 2;
    if record.get(KIND_AT) != Some(&EPOCH_START) {
        return Err(RecordFault::Empty);
    }
    let epoch = record.get(12..20).and_then(|bytes| bytes.first_chunk().copied()).map(u64::from_le_bytes);
    epoch.map(Epoch).ok_or(RecordFault::Empty)
}

/// The segment that a recovery ended in, cut after its last sound record and ready to go on.
pub(super) fn reopen(found: FoundSegment, segment_size: u64) -> Result<Active, OpenError> {
    let path = found.path.clone();
    let io_error = |source| OpenError::Io { path: path.clone(), source };
    let first_lsn = found.header.first_lsn;
    let sealed =
        Sealed { path: found.path.clone(), first_lsn, end_lsn: found.end_lsn, file: found.file.clone() };
    let mut active = rescan(&sealed, found.end_lsn).map_err(io_error)?;
    let end = active.end_offset();
    active.file.set_len(end).map_err(io_error)?;
    let size = segment_size.max(end);
    match active.file.reserve(0, size) {
        Ok(()) => active.reserved = size,
        // A full disk does not keep the node from starting: it serves reads, and writes when there is space.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => active.reserved = end,
        Err(error) => return Err(io_error(error)),
    }
    Ok(active)
}

/// Reads a segment's records up to `end` again, for its index.
fn rescan(segment: &Sealed, end: Lsn) -> io::Result<Active> {
    let length = segment.file.len()?;
    let found = FoundSegment {
        path: segment.path.clone(),
        file: segment.file.clone(),
        header: SegmentHeader {
            shard: ShardId::default(),
            first_lsn: segment.first_lsn,
            history: Vec::new(),
        },
        mark: Mark::default(),
        seal: None,
        length,
        end_lsn: end,
    };
    let mut active = Active::reopened(segment.path.clone(), segment.file.clone(), segment.first_lsn, length);
    let mut scan = SegmentScan::new(&found);
    while active.end_lsn < end {
        match scan.next().map_err(io::Error::other)? {
            Ok(record) => active.note_record(record.header.slot.number(), record.bytes.len()),
            Err(fault) => {
                let offset = offset_of(active.end_lsn, segment.first_lsn);
                return Err(io::Error::other(format!("{} offset {offset}: {fault}", segment.path.display())));
            }
        }
    }
    if active.end_lsn != end {
        return Err(io::Error::other(format!("{}: LSN {end} is inside a record", segment.path.display())));
    }
    Ok(active)
}

/// Moves a file that does not belong to the log any more out of its way.
pub(super) fn set_file_aside(directory: &Path, path: &Path) -> io::Result<()> {
    let kept = unused_directory(&directory.join(SET_ASIDE), "surplus")?;
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    tracing::warn!(file = %path.display(), to = %kept.display(), "a segment after the end of the log is set aside");
    files::rename(path, &kept.join(name))?;
    files::sync_directory(&kept)?;
    files::sync_directory(directory)
}

pub(super) fn unused_directory(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let mut number = 0;
    let path = loop {
        let path = parent.join(if number == 0 { name.to_owned() } else { format!("{name}.{number}") });
        if !files::exists(&path)? {
            break path;
        }
        number += 1;
    };
    files::create_dir_all(&path)?;
    files::sync_directory(parent)?;
    Ok(path)
}
