//! When the durable mark is written. Every explicit sync writes it; syncs that follow each other as fast as the disk goes write it once
//! in [`MARK_PERIOD`]: it stands in the header block of the segment, and the next sync then has a second place of the file to write.
//! Measured in a virtual machine (ext4, 4000 bytes and an fdatasync, over and over): 290 µs, of which 52 µs of a processor, without
//! a mark, 420 µs and 85 µs with one each time. What was made durable last may hence lie above the mark for that long; where it is
//! damaged and the node is killed in the same moment, the damage is taken for a torn tail.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_words::Lsn;

use super::format::Mark;
use super::{AppendError, Log};
use crate::platform::clock;

/// Between two marks under a load of syncs, and from a sync to its mark when no other one follows.
pub(super) const MARK_PERIOD: Duration = Duration::from_millis(10);

impl Log {
    /// Writes the durable mark into the active segment; the next sync makes it durable.
    pub(super) fn write_mark(&self, durable: Lsn) -> io::Result<()> {
        let mut writer = self.writer.lock();
        writer.mark = Mark { counter: writer.mark.counter + 1, durable_lsn: durable, boot: self.boot };
        writer.marked_file().write_all_at(&writer.mark.encode(), writer.mark.offset())?;
        self.commit.marked_at_us.store(clock::monotonic_us(), Ordering::Relaxed);
        Ok(())
    }

    /// How long until the mark is to be written, when it does not say yet what is durable.
    pub(super) fn until_mark(&self) -> Option<Duration> {
        self.is_mark_behind().then(|| self.until_next_mark())
    }

    /// How long until the next mark, whatever it will say.
    pub(super) fn until_next_mark(&self) -> Duration {
        let since_us = clock::monotonic_us().saturating_sub(self.commit.marked_at_us.load(Ordering::Relaxed));
        MARK_PERIOD.saturating_sub(Duration::from_micros(since_us))
    }

    fn is_mark_behind(&self) -> bool {
        self.writer.lock().mark.durable_lsn < self.positions.durable_lsn()
    }

    /// Has the mark say what is durable.
    ///
    /// # Errors
    /// When the disk fails: the log takes nothing more then.
    pub(super) fn catch_up_with_mark(&self) -> Result<(), AppendError> {
        // A cut must not come between the look at what is durable and the mark that says so.
        let _exclusive = self.commit.exclusive.lock();
        if self.is_mark_behind() { self.mark(self.positions.durable_lsn()) } else { Ok(()) }
    }

    /// As [`Self::write_mark`].
    ///
    /// # Errors
    /// When the disk fails: the log takes nothing more then.
    pub(super) fn mark(&self, durable: Lsn) -> Result<(), AppendError> {
        self.write_mark(durable).map_err(|error| self.failed_for_good("writing the durable mark", &error))
    }
}
