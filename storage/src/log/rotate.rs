//! From a full segment to the next one, without a wait for the disk under the writer's lock.
//!
//! A segment has to be durable, name and all, before anything in it counts as durable. The log's thread prepares the next one while
//! there is room in the active one; the writer then only fills in its place and gives it its name, and goes on. Until the log's thread
//! has made that durable the new segment is *fresh*:
//!
//! 1. fdatasync of the full segment and of the fresh one, sync of the directory: the fresh one is there after a power cut.
//! 2. The full one is sealed, durably: from here on a missing or damaged successor is damage, and not a crash (rows G and I of
//!    [`super::recovery`]).
//! 3. Only then marks are written into the fresh one, and the durable position moves into it.
//!
//! At most one segment is fresh: without a prepared one the writer does all of that itself, and waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::append::Writer;
use super::format::{Mark, SegmentHeader};
use super::segment::{Active, Prepared, Sealed};
use super::{AppendError, FsyncPolicy, Log, SEGMENT_HEADER_SIZE};
use crate::platform::files::{self, File};
use crate::platform::threads;

/// The active segment is not durable yet as such.
pub(super) struct Fresh {
    /// The one before it, full and not sealed.
    full: Active,
    /// The only mark in its header block, which the next one is not to overwrite.
    mark: Mark,
}

impl Writer {
    /// Whether the segment is full, and its index is still to be written.
    pub(super) fn is_to_be_sealed(&self, segment: &Sealed) -> bool {
        let full = self.fresh.as_ref().map(|fresh| &fresh.full.file);
        full.into_iter().chain(&self.sealing).any(|file| Arc::ptr_eq(file, &segment.file))
    }

    /// The file that takes the next durable mark.
    pub(super) fn marked_file(&self) -> &File {
        self.fresh.as_ref().map_or(&self.active.file, |fresh| &fresh.full.file)
    }

    /// The active segment is durable now; returns the one before it, to be sealed.
    fn is_durable(&mut self) -> Option<Active> {
        let Fresh { full, mark } = self.fresh.take()?;
        self.mark.counter = self.mark.counter_beside(&mark);
        Some(full)
    }

    fn header_of_next(&self) -> SegmentHeader {
        SegmentHeader { shard: self.owner, first_lsn: self.active.end_lsn, history: self.history.clone() }
    }
}

impl Log {
    /// Ends the active segment and begins the next, which has room for a group of records of this length.
    pub(super) fn rotate(&self, writer: &mut Writer, group_length: u64) -> io::Result<()> {
        let size = self.segment_size.load(Ordering::Relaxed).max(SEGMENT_HEADER_SIZE + group_length);
        let header = writer.header_of_next();
        (writer.is_asked_for, writer.cannot_prepare) = (false, false);
        match writer.prepared.take_if(|prepared| prepared.suits(&header, size)) {
            Some(prepared) => {
                assert!(writer.fresh.is_none(), "a segment is prepared when the one before it is durable");
                let mark = prepared.mark;
                let next = Active::of_prepared(&self.directory, prepared, &header)?;
                let full = std::mem::replace(&mut writer.active, next);
                writer.unsynced.push(full.file.clone());
                writer.sealed.push_back(full.as_sealed());
                writer.fresh = Some(Fresh { full, mark });
                // The next one is needed as soon as this one was.
                self.commit.request();
                Ok(())
            }
            None => self.rotate_and_wait(writer, &header, size),
        }
    }

    fn rotate_and_wait(&self, writer: &mut Writer, header: &SegmentHeader, size: u64) -> io::Result<()> {
        self.settle(writer)?;
        let spare = writer.spares.last().cloned();
        let next = Active::create(&self.directory, header, &writer.mark, size, spare.as_deref())?;
        if spare.is_some() {
            writer.spares.pop();
        }
        let mut full = std::mem::replace(&mut writer.active, next);
        self.seal(&mut full, &mut || ());
        writer.unsynced.push(full.file.clone());
        writer.sealed.push_back(full.into_sealed());
        Ok(())
    }

    /// Makes a fresh segment durable at once, for whoever holds the writer's lock and changes more than the log's end.
    pub(super) fn settle(&self, writer: &mut Writer) -> io::Result<()> {
        if writer.fresh.is_none() {
            return Ok(());
        }
        writer.active.file.sync_all()?;
        files::sync_directory(&self.directory)?;
        if let Some(mut full) = writer.is_durable() {
            self.seal(&mut full, &mut || ());
            // The seal is durable before anything after it counts as such: with the next sync.
            writer.unsynced.push(full.file);
        }
        Ok(())
    }

    /// Has the log's thread prepare the next segment when the active one is half full.
    pub(super) fn ask_for_next(&self, writer: &mut Writer) {
        if writer.prepared.is_none() && !writer.is_asked_for && is_half_full(&writer.active) {
            writer.is_asked_for = true;
            self.commit.request();
        }
    }

    /// The files of a sync are durable, `active` among them: when it was fresh it is not any more after this.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn settle_synced(&self, active: &Arc<File>) -> Result<(), AppendError> {
        let is_it = |writer: &Writer| writer.fresh.is_some() && Arc::ptr_eq(&writer.active.file, active);
        if !is_it(&self.writer.lock()) {
            return Ok(());
        }
        files::sync_directory(&self.directory)
            .map_err(|error| self.failed_for_good("making a segment's name durable", &error))?;
        let mut full = {
            let mut writer = self.writer.lock();
            // Or the writer was quicker.
            let full = if is_it(&writer) { writer.is_durable() } else { None };
            let Some(full) = full else { return Ok(()) };
            writer.sealing = Some(full.file.clone());
            full
        };
        self.seal(&mut full, &mut || self.rest());
        let synced = full.file.sync_data();
        self.writer.lock().sealing = None;
        synced.map_err(|error| self.failed_for_good("fsync of a full segment", &error))
    }

    fn seal(&self, full: &mut Active, rest: &mut dyn FnMut()) {
        if let Err(error) = full.seal_resting(&mut self.seal_buffers.lock(), rest) {
            // The segment is whole without its index; only the offline tool is slower on it.
            tracing::warn!(path = %full.path.display(), %error, "a full segment could not be sealed");
        }
    }

    /// After a piece of the log thread's work. Sealing half a million records takes some 30 ms of a processor that may be the one
    /// that serves; in one piece, requests stood still for the system's time slices of 4 ms. Only where replies wait for the next
    /// sync it is done without a rest.
    pub(super) fn rest(&self) {
        const REST: Duration = Duration::from_micros(300);
        if threads::are_real() && self.commit.policy() != FsyncPolicy::Always && !self.commit.is_awaited() {
            threads::sleep(REST);
        }
    }

    /// Prepares the next segment when it will be needed soon. What fails here is left to the writer, which makes the segment itself when
    /// the active one is full: on a full disk every sync would try in vain.
    pub(super) fn prepare_next(&self) {
        let size = self.segment_size.load(Ordering::Relaxed);
        let (header, mark, spare) = {
            let mut writer = self.writer.lock();
            if writer.fresh.is_some() || writer.cannot_prepare || !is_half_full(&writer.active) {
                return;
            }
            let header = writer.header_of_next();
            if writer.prepared.as_ref().is_some_and(|prepared| prepared.suits(&header, size)) {
                return;
            }
            let unsuited = writer.prepared.take();
            writer.is_asked_for = true;
            let (mark, spare) = (writer.mark, writer.spares.pop());
            drop(writer);
            if let Some(unsuited) = unsuited {
                remove(unsuited);
            }
            (header, mark, spare)
        };
        let made =
            Prepared::make(&self.directory, header.shard, header.history, mark, size, spare.as_deref());
        let mut writer = self.writer.lock();
        match made {
            Ok(prepared) => writer.prepared = Some(prepared),
            Err(error) => {
                tracing::warn!(%error, "the next segment of the log could not be prepared; it is made when it is needed");
                writer.cannot_prepare = true;
                writer.spares.extend(spare);
            }
        }
    }

    /// Forgets the prepared segment: its old bytes may be taken for records of another history.
    pub(super) fn drop_prepared(writer: &mut Writer) -> io::Result<()> {
        writer.prepared.take().map_or(Ok(()), Prepared::remove)
    }
}

fn is_half_full(active: &Active) -> bool {
    active.end_offset() > active.reserved / 2
}

fn remove(prepared: Prepared) {
    if let Err(error) = prepared.remove() {
        tracing::warn!(%error, "a segment that was prepared in vain could not be removed; the next start removes it");
    }
}
