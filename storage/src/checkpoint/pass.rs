//! The checkpoint pass: walks the dirty slots, stores an image of each, and says up to where the log is covered.
//!
//! Order on disk, for each file of images: written and synced → log durable and committed as far as any image in it reaches
//! → final name → manifest durable. Only after the last file is the covered LSN raised, durably, in the directory's header,
//! and only then may the caller release the log below it.
//!
//! **What is covered.** Let H be the end of what was applied to the slots when the pass began. A slot that was clean then has
//! all its records below H in an older image; a slot that was dirty then is imaged by this pass, later, so with all its
//! records below H; a slot that became dirty since has only records at or above H to show. So every record below H is in an
//! image, and H becomes the covered LSN, once the log is durable and committed up to H (or a cut of the log could undo
//! records that the manifest says are covered). It never goes back; an aborted pass leaves it as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_words::{Lsn, SlotId, SlotSequence};

use crate::checkpoint::image_files::{ImageFileError, ImageFileWriter};
use crate::checkpoint::image_format::{Compression, ImageBuilder};
use crate::checkpoint::manifest::{Manifest, ManifestError};
use crate::checkpoint::pace::{Course, Pace, Pacer};
use crate::checkpoint::rewrite;
use crate::node_state::{ImageOf, ImageRow};
use crate::platform::clock;

/// Compresses and stores what an unfinished image has so far, so that no image is in memory as a whole.
pub type StoreChunks<'s> = &'s mut dyn FnMut(&mut ImageBuilder) -> Result<(), ImageFileError>;

/// Where the pass gets images from. Implemented by what owns the slots and the log.
pub trait SlotSource {
    /// End of the log as far as it has been applied to the slots: every record that ends at or below it is in them.
    fn applied_lsn(&self) -> Lsn;

    /// Bytes that the log has grown by since it ended at `since`, and that it may grow by while a pass runs: when it grows faster
    /// the pass does not give way to commands.
    fn log_growth(&self, _since: Lsn) -> (u64, u64) {
        (0, u64::MAX)
    }

    /// Slots with records that no image holds, ascending. Asked once, after [`Self::applied_lsn`].
    fn dirty_slots(&self) -> Vec<SlotId>;

    /// Begins the slot's image and pushes its keys as of that moment, under the slot's lock; that of a large slot in steps, each a
    /// short time under the lock, with a call of `store` between them. The stamp's LSN is the end of the slot's newest
    /// record, or of the group that record belongs to. The image may be begun more than once; the last one counts.
    ///
    /// # Errors
    /// What `store` said.
    fn copy_slot(
        &self,
        slot: SlotId,
        image: &mut ImageBuilder,
        store: StoreChunks<'_>,
    ) -> Result<(), ImageFileError>;

    /// Returns when the log is durable and committed up to `lsn`.
    ///
    /// # Errors
    /// When it never will be; the pass ends, what it stored before stays.
    fn wait_until_safe(&self, lsn: Lsn) -> Result<(), String>;

    /// The slot's image as of `sequence` is durable.
    fn on_imaged(&self, slot: SlotId, sequence: SlotSequence);
}

/// Sizes that a pass goes by.
#[derive(Clone, Copy, Debug)]
pub struct PassSettings {
    /// A file that has reached this size gets no further image.
    pub file_size: u64,
    /// Whether images are compressed.
    pub compression: Compression,
}

impl Default for PassSettings {
    fn default() -> Self {
        Self { file_size: 256 << 20, compression: Compression::Lz4 }
    }
}

/// Why a pass ended early. The log must be kept; the next pass starts over with what is still dirty.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Another pass is running.
    #[error("a checkpoint is in progress already")]
    Running,
    /// The data are not a shard's whole data.
    #[error("no checkpoint: the data are being copied from the master")]
    Incomplete,
    /// An image file could not be written.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// The manifest could not be made durable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The log will not be durable and committed as far as the images reach.
    #[error("checkpoint given up: the log up to LSN {lsn} is not safe: {reason}")]
    LogNotSafe {
        /// How far it would have to be.
        lsn: Lsn,
        /// Why it will not be.
        reason: String,
    },
}

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PassReport {
    /// Every record of the log below it is in an image: the log below may be released.
    pub covered_lsn: Lsn,
    /// Slots imaged.
    pub slots: u64,
    /// Keys in these images.
    pub keys: u64,
    /// Bytes written for them.
    pub bytes: u64,
    /// Files written for them.
    pub files: u64,
    /// Mostly dead files whose images were moved together.
    pub rewritten_files: u64,
    /// Time it took.
    pub took_ms: u64,
}

/// Figures for INFO. Each is right by itself; together they may be from different moments.
#[derive(Default, Debug)]
pub struct PassProgress {
    running: AtomicBool,
    slots_total: AtomicU64,
    slots_done: AtomicU64,
    bytes_written: AtomicU64,
    passes_done: AtomicU64,
    passes_failed: AtomicU64,
    last_took_ms: AtomicU64,
}

impl PassProgress {
    /// Whether a pass is running.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Slots that the running or newest pass has to image, and has imaged.
    pub fn slots(&self) -> (u64, u64) {
        (self.slots_total.load(Ordering::Relaxed), self.slots_done.load(Ordering::Relaxed))
    }

    /// Bytes that the running or newest pass has written.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// Passes that went through, and that did not, since the start.
    pub fn passes(&self) -> (u64, u64) {
        (self.passes_done.load(Ordering::Relaxed), self.passes_failed.load(Ordering::Relaxed))
    }

    /// Time that the newest pass took.
    pub fn last_took_ms(&self) -> u64 {
        self.last_took_ms.load(Ordering::Relaxed)
    }
}

/// Runs passes over a manifest, one at a time.
pub struct Checkpointer {
    manifest: Arc<Manifest>,
    settings: PassSettings,
    progress: PassProgress,
    pace: Pace,
}

/// Ends the time in which no other pass may start.
struct Running<'a>(&'a PassProgress);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl Checkpointer {
    /// A checkpointer that stores its images in `manifest`.
    pub fn new(manifest: Arc<Manifest>, settings: PassSettings) -> Self {
        Self { manifest, settings, progress: PassProgress::default(), pace: Pace::default() }
    }

    /// The manifest it stores into.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// How fast it works.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Figures of the running or newest pass.
    pub fn progress(&self) -> &PassProgress {
        &self.progress
    }

    /// Stores an image of every slot that is dirty now, then tidies up files that are mostly dead. Takes as long as that
    /// takes: call it on a thread for such work.
    ///
    /// # Errors
    /// When a pass is running, or the images, the manifest or the log cannot be made durable. Nothing the images cover may
    /// be released from the log then.
    pub fn run(&self, source: &impl SlotSource) -> Result<PassReport, PassError> {
        if self.progress.running.swap(true, Ordering::Acquire) {
            return Err(PassError::Running);
        }
        let running = Running(&self.progress);
        let began = clock::monotonic_ms();
        let outcome = self.pass(source);
        let took_ms = clock::monotonic_ms().saturating_sub(began);
        self.progress.last_took_ms.store(took_ms, Ordering::Relaxed);
        match &outcome {
            Ok(_) => &self.progress.passes_done,
            Err(_) => &self.progress.passes_failed,
        }
        .fetch_add(1, Ordering::Relaxed);
        drop(running);
        outcome.map(|report| PassReport { took_ms, ..report })
    }

    fn pass(&self, source: &impl SlotSource) -> Result<PassReport, PassError> {
        let horizon = source.applied_lsn();
        let dirty = source.dirty_slots();
        let progress = &self.progress;
        progress.slots_total.store(dirty.len() as u64, Ordering::Relaxed);
        progress.slots_done.store(0, Ordering::Relaxed);
        progress.bytes_written.store(0, Ordering::Relaxed);

        let mut report = PassReport::default();
        let mut builder = ImageBuilder::new(self.settings.compression);
        let mut open: Option<OpenFile> = None;
        let mut pacer = Pacer::new(&self.pace);
        let course = |slots: u64| {
            let (log_growth, log_growth_max) = source.log_growth(horizon);
            Course { slots: (slots, progress.slots().0), log_growth, log_growth_max }
        };
        for slot in dirty {
            let file = match &mut open {
                Some(file) => file,
                None => open.insert(OpenFile::new(self.manifest.create_file()?)),
            };
            let begins_at = file.writer.len();
            source.copy_slot(slot, &mut builder, &mut |image| {
                pacer.worked(|| course(report.slots));
                file.store(image, begins_at)
            })?;
            let (stamp, rest, size) = builder.finish();
            assert_eq!(stamp.of(), ImageOf::Slot(slot), "an image of another slot than was asked for");
            let row = file.writer.append_rest(stamp, begins_at, rest, size)?;
            file.note(stamp.of(), row);
            file.highest_lsn = file.highest_lsn.max(stamp.lsn);
            report.slots += 1;
            report.keys += size.keys;
            report.bytes += size.stored_bytes;
            progress.slots_done.store(report.slots, Ordering::Relaxed);
            progress.bytes_written.store(report.bytes, Ordering::Relaxed);
            pacer.worked(|| course(report.slots));
            if file.writer.len() >= self.settings.file_size
                && let Some(full) = open.take()
            {
                self.finish(full, source, &mut || pacer.worked(|| course(report.slots)))?;
                report.files += 1;
            }
        }
        if let Some(last) = open.take() {
            self.finish(last, source, &mut || pacer.worked(|| course(report.slots)))?;
            report.files += 1;
        }
        wait(source, horizon)?;
        self.manifest.raise_covered_lsn(horizon)?;
        report.covered_lsn = self.manifest.covered_lsn();
        assert!(report.covered_lsn >= horizon, "what is covered never goes back");
        report.rewritten_files = rewrite::run(&self.manifest, self.settings.file_size)?;
        Ok(report)
    }

    /// Image synced → log safe → final name → manifest durable, some rows after the other: each stands for itself, and all of them
    /// at once took memory and time in one piece that whoever is served beside the pass felt.
    fn finish(
        &self,
        mut file: OpenFile,
        source: &impl SlotSource,
        rest: &mut dyn FnMut(),
    ) -> Result<(), PassError> {
        file.writer.sync()?;
        wait(source, file.highest_lsn)?;
        let number = file.writer.number();
        file.writer.publish()?;
        for rows in &file.rows {
            self.manifest.commit(rows, number)?;
            for (of, row) in rows {
                let ImageOf::Slot(slot) = of;
                source.on_imaged(*slot, row.sequence);
            }
            rest();
        }
        Ok(())
    }
}

fn wait(source: &impl SlotSource, lsn: Lsn) -> Result<(), PassError> {
    source.wait_until_safe(lsn).map_err(|reason| PassError::LogNotSafe { lsn, reason })
}

/// Rows made durable at once.
const ROWS_AT_ONCE: usize = 2048;

struct OpenFile {
    writer: ImageFileWriter,
    /// In pieces of [`ROWS_AT_ONCE`].
    rows: Vec<Vec<(ImageOf, ImageRow)>>,
    highest_lsn: Lsn,
}

impl OpenFile {
    fn new(writer: ImageFileWriter) -> Self {
        Self { writer, rows: Vec::new(), highest_lsn: Lsn::ZERO }
    }

    /// There is an image in it.
    fn note(&mut self, of: ImageOf, row: ImageRow) {
        match self.rows.last_mut() {
            Some(rows) if rows.len() < ROWS_AT_ONCE => rows.push((of, row)),
            _ => {
                let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
                rows.push((of, row));
                self.rows.push(rows);
            }
        }
    }

    /// Stores what the image that begins at `begins_at` has so far.
    fn store(&mut self, image: &mut ImageBuilder, begins_at: u64) -> Result<(), ImageFileError> {
        image.pack();
        let (is_first, chunks) = image.take_chunks();
        if is_first {
            // It was begun anew: what was stored of it is void.
            self.writer.cut(begins_at);
        }
        self.writer.append(&chunks)
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
