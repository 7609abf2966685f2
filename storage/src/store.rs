//! The façade that upper crates see: slots, log, checkpoints and the directory they live in, opened together and consistent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_words::{Lsn, NodeId, ShardId, SlotId, SlotSequence};

use crate::apply::ApplyError;
use crate::checkpoint::image_files::ImageFileError;
use crate::checkpoint::image_format::ChunkHeader;
use crate::checkpoint::image_format::{Entry, ImageBuilder, ImageKind, ImageStamp};
use crate::checkpoint::load::{self, ImageVisitor, LoadError};
use crate::checkpoint::manifest::{Manifest, ManifestError};
use crate::checkpoint::pass::{Checkpointer, PassError, PassReport, PassSettings, SlotSource, StoreChunks};
use crate::checkpoint::receive::ImageReceiver;
use crate::data_dir::{DataDir, DataDirError};
use crate::log::format::HeaderFault;
use crate::log::mend::SameBytes;
use crate::log::scrub::SegmentDamage;
use crate::log::segment::Sealed;
use crate::log::{
    AppendError, Log, LogConfig, LogHealth, OpenError, ReadError, RecordView, RecordVisitor, Recovery,
};
use crate::look_ahead::LookAhead;
use crate::platform::{clock, files};
use crate::replay;
use crate::scrub::{Scrub, ScrubStats};
use crate::slot_copy::Stepped;
use crate::slots::{ReplayError, Scratch, Slot, SlotSet, Slots};
use crate::types::value_format::{self, VALUE_FORMAT_VERSION};

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// How its log is kept.
    pub log: LogConfig,
    /// Threads that load images, and then the log, at a start.
    pub load_threads: usize,
    /// `checkpoint-log-size`: bytes of log after which a checkpoint is due; 0: never by itself.
    pub checkpoint_log_size: u64,
    /// `wal-retain-size`: bytes of log kept for replicas that were away.
    pub retain_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            load_threads: 2,
            checkpoint_log_size: 256 << 20,
            retain_bytes: 256 << 20,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// The index of the images.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The images.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log, once open.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log is gone as a whole: the rest of the directory says that there was one.
    #[error(
        "{path} is empty, but this node has had a log; refusing to go on from what was there before its last records. Bring the directory \
         back (is its file system mounted?); or, where another node has the data, move the node's whole directory away, start the node \
         empty and add it as a new replica",
        path = path.display()
    )]
    LogLost {
        /// The log's directory.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("start a thread to replay the log: {0}")]
    Thread(#[source] std::io::Error),
}

/// What a start that failed can have put right with the help of another member of the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Bytes of the log are not what was written: [`crate::damaged::mend_log`].
    Log,
    /// Slot images are not: [`Store::open_damaged`].
    Images,
}

impl StoreError {
    /// Whether bytes on the disk are not what was written, and which.
    pub fn damage(&self) -> Option<Damage> {
        match self {
            Self::Log(OpenError::Corrupt { .. })
            | Self::Log(OpenError::Header { source: HeaderFault::Damaged(_), .. }) => Some(Damage::Log),
            Self::Load(LoadError::File(ImageFileError::Header { .. } | ImageFileError::Image { .. })) => {
                Some(Damage::Images)
            }
            _ => None,
        }
    }
}

/// What replicas still need of the log: the lowest LSN of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NeededByReplicas {
    /// Kept however much it grows: a full copy that lost its log would begin anew, over and over.
    pub surely: Option<Lsn>,
    /// Kept within `wal-retain-size`.
    pub if_possible: Option<Lsn>,
}

/// A chunk that [`Store::receive_image`] took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceivedImage {
    /// Its slot.
    pub slot: SlotId,
    /// End of the newest record in the slot's image.
    pub lsn: Lsn,
    /// The slot's image is complete.
    pub last: bool,
}

/// Why a full copy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// No chunk.
    #[error("received image: {0}")]
    Header(#[source] crate::checkpoint::image_format::ImageError),
    /// Not of this shard.
    #[error("received image of slot {slot} is of shard {shard}, which is not this node's")]
    Foreign {
        /// The slot.
        slot: SlotId,
        /// The shard.
        shard: ShardId,
    },
    /// The chunk, or the disk.
    #[error(transparent)]
    Receive(#[from] crate::checkpoint::receive::ReceiveError),
    /// An entry is no value.
    #[error("received image of slot {slot}: {source}")]
    Entry {
        /// The slot.
        slot: SlotId,
        /// What is wrong.
        source: crate::apply::ApplyError,
    },
    /// The directory.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct Restart {
    /// Keys loaded from images.
    pub image_keys: u64,
    /// Records of the log applied over them.
    pub records: u64,
    /// What the log's recovery found.
    pub recovery: Recovery,
    /// How long it took.
    pub took_ms: u64,
}

/// What INFO says of checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointStats {
    /// One is running.
    pub running: bool,
    /// The newest one failed.
    pub last_failed: bool,
    /// When the newest one was complete, wall clock, ms; the node's start when there was none.
    pub last_at_ms: u64,
    /// How long the newest one took.
    pub last_took_ms: u64,
    /// Everything below is in images.
    pub covered_lsn: Lsn,
    /// Bytes of log that no image covers.
    pub log_bytes_since: u64,
}

/// A node's data.
pub struct Store {
    directory: Arc<DataDir>,
    slots: Slots,
    log: Arc<Log>,
    checkpointer: Checkpointer,
    config: StoreConfig,
    checkpoint_log_size: AtomicU64,
    retain_bytes: AtomicU64,
    needed_by_replicas: parking_lot::Mutex<NeededByReplicas>,
    /// Held by whoever takes a checkpoint or replaces the data: the one would make an image of what the other takes away.
    maintaining: parking_lot::Mutex<()>,
    /// Held while a large slot is copied in steps: a slot has one such copy at a time.
    copying: parking_lot::Mutex<()>,
    last_checkpoint_at_ms: AtomicU64,
    last_checkpoint_failed: AtomicBool,
    scrub: parking_lot::Mutex<Scrub>,
    /// What INFO says of the scrub: a step may take a while.
    scrub_stats: parking_lot::Mutex<ScrubStats>,
    /// Held while received records are in the log and not yet all in the slots.
    receiving: parking_lot::Mutex<()>,
    /// Images were damaged at the start: the slots are empty, whatever the log says.
    damaged: AtomicBool,
    /// What takes their place is not complete yet.
    copies_damaged: AtomicBool,
    /// Log and slots are the shard's whole data; what the directory's header says, for who asks at every command.
    whole: AtomicBool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "store in {}", self.directory.root().display())
    }
}

/// Fills the slots from images.
struct Fill<'s>(&'s Slots);

impl ImageVisitor for Fill<'_> {
    fn on_image(&self, stamp: &ImageStamp, keys: u64) {
        self.0.with(stamp.slot, |slot| {
            slot.begin_load(stamp.sequence, stamp.lsn);
            slot.expect_keys(keys as usize);
        });
    }

    fn on_entry(&self, stamp: &ImageStamp, entry: Entry<'_>) -> Result<(), String> {
        let loaded = self.0.load(stamp.slot, false, |slot| load_entry(slot, entry));
        loaded.map_err(|error| error.to_string())
    }

    fn on_end(&self, stamp: &ImageStamp) {
        self.0.load(stamp.slot, true, |_| ());
    }
}

fn load_entry(slot: &mut Slot, entry: Entry<'_>) -> Result<(), ApplyError> {
    slot.load_entry(entry.key, entry.value, entry.expiry_ms, entry.is_more)
}

impl Store {
    /// Opens the data of a directory, or makes it: images, then the log from where they end.
    ///
    /// # Errors
    /// When anything in it is damaged, missing, foreign or newer; the message names file, offset and slot.
    pub fn open(root: &Path, config: StoreConfig) -> Result<(Arc<Self>, Restart), StoreError> {
        Self::open_with(root, config, false)
    }

    /// Opens the data of a directory whose images are damaged: the log is whole and says where this node stands, the slots are empty,
    /// and the data count as not whole until all of it was copied from another member of the shard ([`Store::become_empty`] on).
    /// Nothing on the disk says so: the next start finds the damage again.
    ///
    /// # Errors
    /// As [`Store::open`], but for the images.
    pub fn open_damaged(
        root: &Path,
        config: StoreConfig,
        what: &StoreError,
    ) -> Result<(Arc<Self>, Restart), StoreError> {
        let (store, restart) = Self::open_with(root, config, true)?;
        store.with_scrub(|scrub| scrub.note_damaged_images(what.to_string()));
        Ok((store, restart))
    }

    /// For INFO: the start before this one met damage in the log and had it mended.
    pub fn note_mended_at_start(&self, damage: &[SegmentDamage]) {
        self.with_scrub(|scrub| scrub.note_mended_at_start(damage));
    }

    fn with_scrub<R>(&self, work: impl FnOnce(&mut Scrub) -> R) -> R {
        let mut scrub = self.scrub.lock();
        let result = work(&mut scrub);
        *self.scrub_stats.lock() = scrub.stats().clone();
        result
    }

    fn open_with(
        root: &Path,
        config: StoreConfig,
        damaged: bool,
    ) -> Result<(Arc<Self>, Restart), StoreError> {
        let started_ms = clock::monotonic_ms();
        let directory = Arc::new(DataDir::open_or_create(root, None)?);
        let manifest = Arc::new(Manifest::open(directory.clone())?);
        if directory.identity().incomplete {
            tracing::warn!(
                "the copy of a master's data was not finished; what there was of it is put aside, it begins anew"
            );
            manifest.void_all()?;
            directory.put_aside(&directory.wal(), "incomplete-wal")?;
        }
        let slots = Slots::default();
        let loaded = match damaged {
            true => load::LoadReport::default(),
            false => load::load_all(&manifest, config.load_threads, &Fill(&slots))?,
        };
        let identity = directory.identity();
        let covered = manifest.covered_lsn();
        // A node begins its log before it becomes anything in a cluster, and before anything is covered by images.
        let has_had_a_log = identity.in_group || covered > Lsn::ZERO;
        if has_had_a_log && !identity.incomplete && !Log::is_begun(&directory.wal())? {
            return Err(StoreError::LogLost { path: directory.wal() });
        }
        let mut log_config = config.log.clone();
        log_config.boot = directory.boot();
        let open_log = |visitor: &mut dyn RecordVisitor| {
            Log::open(&directory.wal(), identity.shard, &log_config, covered, covered, visitor)
        };
        let (opened, records) = if damaged {
            (open_log(&mut |_: &RecordView<'_>| Ok(())), 0)
        } else {
            let replayed = replay::on_threads(&slots, config.load_threads, |replay| {
                let log = open_log(replay);
                (log, replay.applied())
            });
            replayed.map_err(StoreError::Thread)?
        };
        let (log, recovery) = opened?;
        let restart = Restart {
            image_keys: loaded.keys,
            records,
            recovery,
            took_ms: clock::monotonic_ms() - started_ms,
        };
        let store = Self {
            directory,
            slots,
            log,
            checkpointer: Checkpointer::new(manifest, PassSettings::default()),
            checkpoint_log_size: AtomicU64::new(config.checkpoint_log_size),
            retain_bytes: AtomicU64::new(config.retain_bytes),
            config,
            needed_by_replicas: parking_lot::Mutex::default(),
            maintaining: parking_lot::Mutex::new(()),
            copying: parking_lot::Mutex::new(()),
            last_checkpoint_at_ms: AtomicU64::new(clock::wall_clock_ms()),
            last_checkpoint_failed: AtomicBool::new(false),
            scrub: parking_lot::Mutex::default(),
            scrub_stats: parking_lot::Mutex::default(),
            receiving: parking_lot::Mutex::new(()),
            damaged: AtomicBool::new(damaged),
            copies_damaged: AtomicBool::new(false),
            whole: AtomicBool::new(!damaged && !identity.incomplete),
        };
        Ok((Arc::new(store), restart))
    }

    /// The slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The directory.
    pub fn directory(&self) -> &Arc<DataDir> {
        &self.directory
    }

    /// The index of the images.
    pub fn manifest(&self) -> &Arc<Manifest> {
        self.checkpointer.manifest()
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.directory.identity().node
    }

    /// The shard whose data this is.
    pub fn shard_id(&self) -> ShardId {
        self.directory.identity().shard
    }

    /// Locks slots, ascending and without doubles, for one command.
    pub fn lock<'a>(&'a self, ids: &[SlotId], now_ms: u64, scratch: &'a mut Scratch) -> SlotSet<'a> {
        self.slots.lock(ids, now_ms, &self.log, scratch)
    }

    /// Takes whole records that the master sent and that continue the log: writes them, then applies them.
    ///
    /// # Errors
    /// When they do not continue the log or cannot be written (nothing was taken), or do not fit the state: the node must
    /// copy its data anew then.
    pub fn append_received(&self, at: Lsn, bytes: &[u8]) -> Result<Lsn, ReceiveError> {
        let _receiving = self.receiving.lock();
        let end = self.log.append_foreign(at, bytes)?;
        let mut offset = 0;
        let (mut ahead, mut looked_at) = (LookAhead::default(), 0);
        while offset < bytes.len() {
            if offset >= looked_at {
                looked_at = offset + ahead.records(&bytes[offset..], &self.slots);
            }
            let lsn = at.advance(offset as u64);
            // The log has just verified it.
            let record = crate::log::format::checked_record(&bytes[offset..], lsn);
            self.slots.apply_record(&record)?;
            offset += record.bytes.len();
        }
        Ok(end)
    }

    /// Empties the slots and fills them again from images and log: after the log was cut, since memory may be ahead of it.
    ///
    /// # Errors
    /// When images or log cannot be read; the node must not serve then.
    pub fn rebuild(&self) -> Result<(), RebuildError> {
        self.slots.clear();
        load::load_all(self.manifest(), self.config.load_threads, &Fill(&self.slots))?;
        replay::on_threads(&self.slots, self.config.load_threads, |replay| {
            let fed = self.feed(replay);
            replay.close().map_err(|(_, error)| error)?;
            fed
        })
        .map_err(RebuildError::Thread)?
    }

    /// Hands all records that no image covers over.
    fn feed(&self, replay: &mut replay::Replay<'_>) -> Result<(), RebuildError> {
        const CHUNK_BYTES: usize = 1 << 20;
        let end = self.log.positions().written_lsn();
        let mut at = self.manifest().covered_lsn();
        let mut chunk = Vec::new();
        while at < end {
            chunk.clear();
            let next = self.log.read_chunk(at, CHUNK_BYTES, &mut chunk)?;
            let mut offset = 0;
            while offset < chunk.len() {
                let lsn = at.advance(offset as u64);
                let record = crate::log::format::checked_record(&chunk[offset..], lsn);
                if !replay.push(&record) {
                    return Ok(());
                }
                offset += record.bytes.len();
            }
            at = next;
        }
        Ok(())
    }

    /// Throws all data away and begins as the (empty) member of `shard`, whose log it will get from `first_lsn` on, as the
    /// node `node`. The log of before is kept in the log's set-aside folder. The data count as incomplete until
    /// [`Store::set_whole`]; a crash before it has the next start throw away whatever there is.
    ///
    /// # Errors
    /// When the directory cannot be changed; the log is poisoned then.
    pub fn become_empty(
        &self,
        node: NodeId,
        shard: ShardId,
        first_lsn: Lsn,
        history: crate::log::EpochHistory,
    ) -> Result<(), StoreError> {
        let _maintaining = self.maintaining.lock();
        let _receiving = self.receiving.lock();
        self.directory.begin_anew(node, shard)?;
        self.whole.store(false, Ordering::Release);
        self.manifest().void_all()?;
        self.slots.clear();
        self.log.reset(shard, first_lsn, history)?;
        if self.damaged.swap(false, Ordering::AcqRel) {
            self.copies_damaged.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Whether log and images are the shard's whole data.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether the images were damaged at the start and nothing has taken their place yet ([`Store::open_damaged`]).
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// Log and images are the shard's whole data from now on, durably: nothing was there to be copied, or all of it has come.
    ///
    /// # Errors
    /// When that cannot be made durable.
    ///
    /// # Panics
    /// When the images were damaged and nothing has taken their place: a bug, nobody may lead or follow on such data.
    pub fn set_whole(&self) -> Result<(), StoreError> {
        assert!(!self.is_damaged(), "damaged images do not become whole by saying so");
        self.directory.set_whole()?;
        self.whole.store(true, Ordering::Release);
        if self.copies_damaged.swap(false, Ordering::AcqRel) {
            self.with_scrub(Scrub::note_images_copied);
        }
        Ok(())
    }

    /// For the images of a full copy.
    pub fn image_receiver(&self) -> ImageReceiver {
        ImageReceiver::new(self.manifest().clone())
    }

    /// Takes the next chunk of a full copy into the slots and the image file; returns its slot's LSN.
    ///
    /// # Errors
    /// When it is damaged, of another shard, or cannot be stored. The slot is incomplete then, the images before it stay.
    pub fn receive_image(
        &self,
        receiver: &mut ImageReceiver,
        chunk: &[u8],
    ) -> Result<ReceivedImage, CopyError> {
        let header = ChunkHeader::decode(chunk).map_err(CopyError::Header)?;
        let stamp = header.stamp;
        if stamp.kind != ImageKind::Slot || stamp.shard != self.shard_id() {
            return Err(CopyError::Foreign { slot: stamp.slot, shard: stamp.shard });
        }
        if header.index == 0 {
            self.slots.with(stamp.slot, |slot| slot.begin_load(stamp.sequence, stamp.lsn));
        }
        let mut failed = None;
        receiver.push_chunk(chunk, |stamp, entry| {
            let loaded = self.slots.with(stamp.slot, |slot| load_entry(slot, entry));
            failed = failed.take().or(loaded.err());
        })?;
        match failed {
            Some(source) => Err(CopyError::Entry { slot: stamp.slot, source }),
            None => Ok(ReceivedImage { slot: stamp.slot, lsn: stamp.lsn, last: header.last }),
        }
    }

    /// All images of a full copy have come: they are made durable and stand for the log below its beginning. The data are
    /// whole once the log reaches as far as the newest image.
    ///
    /// # Errors
    /// When they are not durable.
    pub fn finish_images(&self, receiver: &mut ImageReceiver) -> Result<(), CopyError> {
        receiver.make_durable()?;
        self.manifest().raise_covered_lsn(self.log.first_lsn())?;
        Ok(())
    }

    /// Whether the log can be cut at `lsn`: no image holds anything of what would be cut.
    pub fn can_cut_at(&self, lsn: Lsn) -> bool {
        let rows = self.manifest().rows();
        let newest = rows.rows.values().map(|row| row.lsn).max().unwrap_or_default();
        lsn >= self.log.first_lsn() && newest.max(self.manifest().covered_lsn()) <= lsn
    }

    /// Cuts the log at `lsn`, keeps the tail in a directory of its own, and fills the slots again from what is left.
    ///
    /// # Errors
    /// When there is no room for the tail (nothing was changed), or images or log fail; the node must not serve then.
    pub fn cut_at(&self, lsn: Lsn) -> Result<PathBuf, RebuildError> {
        let _maintaining = self.maintaining.lock();
        let _receiving = self.receiving.lock();
        let kept = self.log.set_aside(lsn)?;
        self.rebuild()?;
        Ok(kept)
    }

    /// A checkpoint: images of all slots that changed, then the log below them is released as far as nobody needs it.
    ///
    /// # Errors
    /// When one is running or something cannot be made durable; the log then keeps everything.
    pub fn checkpoint(&self) -> Result<PassReport, PassError> {
        let _maintaining = self.maintaining.try_lock().ok_or(PassError::Running)?;
        if !self.is_whole() {
            return Err(PassError::Incomplete);
        }
        let result = self.checkpointer.run(&Source(self));
        self.last_checkpoint_failed.store(result.is_err(), Ordering::Relaxed);
        let report = result?;
        self.last_checkpoint_at_ms.store(clock::wall_clock_ms(), Ordering::Relaxed);
        let horizon = self.oldest_to_keep(report.covered_lsn);
        match self.log.release_below(horizon) {
            Ok(released) => tracing::info!(
                slots = report.slots,
                keys = report.keys,
                bytes = report.bytes,
                took_ms = report.took_ms,
                covered_lsn = report.covered_lsn.0,
                released_segments = released,
                "checkpoint complete"
            ),
            Err(error) => tracing::warn!(%error, "segments that are no longer needed could not be removed"),
        }
        Ok(report)
    }

    /// Checkpoints no longer give way to commands, the running one too: the node stops.
    pub fn hurry_checkpoints(&self) {
        self.checkpointer.pace().hurry();
    }

    fn oldest_to_keep(&self, checkpoint_lsn: Lsn) -> Lsn {
        use crate::log::retention::{Holders, oldest_to_keep};
        let needed = *self.needed_by_replicas.lock();
        oldest_to_keep(&Holders {
            checkpoint_lsn,
            in_sync: needed.surely.into_iter().collect(),
            laggards: needed.if_possible.into_iter().collect(),
            end_lsn: self.log.positions().written_lsn(),
            retain_bytes: self.retain_bytes.load(Ordering::Relaxed),
        })
    }

    /// Replication tells what replicas still need of the log.
    pub fn set_needed_by_replicas(&self, needed: NeededByReplicas) {
        *self.needed_by_replicas.lock() = needed;
    }

    /// Whether the log has grown so far past the checkpoint that another one is due. While a master's data are being copied there can
    /// be none, and none is missing.
    pub fn checkpoint_is_due(&self) -> bool {
        let limit = self.checkpoint_log_size.load(Ordering::Relaxed);
        limit > 0
            && self.is_whole()
            && !self.checkpointer.progress().is_running()
            && self.checkpoint_stats().log_bytes_since > limit
    }

    /// `CONFIG SET checkpoint-log-size`, `wal-retain-size`
    pub fn set_sizes(&self, checkpoint_log_size: u64, retain_bytes: u64) {
        self.checkpoint_log_size.store(checkpoint_log_size, Ordering::Relaxed);
        self.retain_bytes.store(retain_bytes, Ordering::Relaxed);
    }

    /// What INFO says of checkpoints.
    pub fn checkpoint_stats(&self) -> CheckpointStats {
        let progress = self.checkpointer.progress();
        let covered_lsn = self.manifest().covered_lsn();
        CheckpointStats {
            running: progress.is_running(),
            last_failed: self.last_checkpoint_failed.load(Ordering::Relaxed),
            last_at_ms: self.last_checkpoint_at_ms.load(Ordering::Relaxed),
            last_took_ms: progress.last_took_ms(),
            covered_lsn,
            log_bytes_since: self.log.positions().written_lsn().since(covered_lsn),
        }
    }

    /// Verifies about `max_bytes` more of segments and images, and mends what is damaged: the log with bytes from elsewhere, images
    /// out of memory. Returns how many bytes that were, and whether they ended a pass through everything.
    pub fn scrub(&self, max_bytes: u64, from: &mut dyn SameBytes) -> (u64, bool) {
        let mut scrub = self.scrub.lock();
        if !self.is_whole() {
            // What is there is about to be replaced.
            return (0, true);
        }
        let step = scrub.step(&self.log, self.manifest(), max_bytes, from);
        if !step.image_again.is_empty() {
            // All images of a damaged file: it goes when nobody needs it any more.
            for &slot in &step.image_again {
                self.slots.with(slot, |slot| slot.mark_not_imaged());
            }
            scrub.images_made_again(self.checkpoint().map(|_| ()).map_err(|error| error.to_string()));
        }
        *self.scrub_stats.lock() = scrub.stats().clone();
        (step.bytes, step.pass_done)
    }

    /// Somebody could not read the log at `lsn`: what is damaged there is mended at once, with bytes from elsewhere.
    ///
    /// # Errors
    /// Why it is as damaged as before.
    pub fn mend_at(&self, lsn: Lsn, from: &mut dyn SameBytes) -> Result<(), String> {
        let holds = |segment: &Sealed| segment.first_lsn <= lsn && lsn < segment.end_lsn;
        let segment = self.log.sealed().into_iter().find(holds);
        let segment = segment.ok_or(
            "it is in the segment that is being written: it can be mended when that is full, or at a start",
        )?;
        self.with_scrub(|scrub| scrub.look_now(&self.log, &segment, from))
    }

    /// What INFO says of the scrub.
    pub fn scrub_stats(&self) -> ScrubStats {
        self.scrub_stats.lock().clone()
    }

    /// How many tails and logs were set aside and are still there.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn set_aside_count(&self) -> std::io::Result<usize> {
        let path = self.log.directory().join("set-aside");
        if files::exists(&path)? { Ok(files::list(&path)?.len()) } else { Ok(0) }
    }

    /// One slot's image as of now, encoded: for a replica's full copy.
    ///
    /// # Errors
    /// When the log has failed: the slot may hold changes that it did not take, which nobody else must see.
    pub fn image_of(&self, slot: SlotId, builder: &mut ImageBuilder) -> Result<(), AppendError> {
        let keep = &mut |image: &mut ImageBuilder| {
            image.pack();
            Ok(())
        };
        Source(self).copy_slot(slot, builder, keep).expect("what is kept in memory needs no file");
        self.check_log()
    }

    /// Whether memory is not ahead of the log. To be asked after the slots were looked at: a change that the log refuses is in its
    /// slot only when it has failed.
    fn check_log(&self) -> Result<(), AppendError> {
        match self.log.health() {
            LogHealth::Poisoned(reason) => Err(AppendError::Poisoned(reason)),
            LogHealth::Good | LogHealth::NoSpace => Ok(()),
        }
    }

    /// Digest of all slots: equal data, equal digests.
    pub fn digest(&self) -> u64 {
        SlotId::all().fold(0, |sum: u64, id| {
            sum.wrapping_add(self.slot_digest(id).rotate_left(u32::from(id.number()) % 64))
        })
    }

    /// Digest of one slot.
    pub fn slot_digest(&self, slot: SlotId) -> u64 {
        self.slots.with(slot, |slot| slot.keyspace().digest())
    }
}

/// Why records from the master were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// They do not continue the log, or it cannot be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// They do not fit the state.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Why the slots could not be filled again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The images.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log, or a record of it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A record that does not fit.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A thread could not be started.
    #[error("start a thread to replay the log: {0}")]
    Thread(#[source] std::io::Error),
}

/// The store as a checkpoint pass sees it.
struct Source<'s>(&'s Store);

/// Bytes of memory of a slot up to which it is copied in one go.
const COPY_WHOLE_BYTES: usize = 128 << 10;
/// Bytes that are copied of a larger one while it is locked, and unlocked again.
const COPY_STEP_BYTES: usize = 64 << 10;

/// Ends a copy that did not get to its end.
struct EndCopy<'s>(&'s Slots, SlotId);

impl Drop for EndCopy<'_> {
    fn drop(&mut self) {
        self.0.with(self.1, Slot::end_copy);
    }
}

impl Source<'_> {
    fn begin_image(&self, id: SlotId, slot: &Slot, image: &mut ImageBuilder) {
        image.begin(ImageStamp {
            kind: ImageKind::Slot,
            shard: self.0.shard_id(),
            slot: id,
            epoch: self.0.log.epoch(),
            sequence: slot.sequence(),
            lsn: slot.newest_lsn(),
            value_version: VALUE_FORMAT_VERSION,
        });
    }

    fn copy_in_steps(
        &self,
        id: SlotId,
        image: &mut ImageBuilder,
        store: StoreChunks<'_>,
    ) -> Result<(), ImageFileError> {
        let slots = &self.0.slots;
        let _alone = self.0.copying.lock();
        let _end = EndCopy(slots, id);
        loop {
            slots.with(id, |slot| {
                self.begin_image(id, slot, image);
                slot.begin_copy();
            });
            loop {
                let stepped = slots.with_fairly(id, |slot| {
                    slot.copy_more(COPY_STEP_BYTES, &mut |key, expiry_ms, value, is_more| {
                        if is_more {
                            image.push_more(key, expiry_ms, value);
                        } else {
                            image.push(key, expiry_ms, value);
                        }
                    })
                });
                // The slot was emptied meanwhile: from the beginning.
                let Some(stepped) = stepped else { break };
                let Stepped { is_done, garbage } = stepped;
                drop(garbage);
                store(image)?;
                if is_done {
                    return Ok(());
                }
            }
        }
    }
}

impl SlotSource for Source<'_> {
    fn applied_lsn(&self) -> Lsn {
        self.0.applied_lsn()
    }

    fn log_growth(&self, since: Lsn) -> (u64, u64) {
        let limit = self.0.checkpoint_log_size.load(Ordering::Relaxed);
        // Half of what makes the next one due: what was written during this pass is the next one's.
        let bound = if limit > 0 { limit / 2 } else { StoreConfig::default().checkpoint_log_size };
        (self.0.log.positions().written_lsn().0.saturating_sub(since.0), bound)
    }

    fn dirty_slots(&self) -> Vec<SlotId> {
        SlotId::all().filter(|&id| self.0.slots.with(id, |slot| slot.is_dirty())).collect()
    }

    fn copy_slot(
        &self,
        id: SlotId,
        image: &mut ImageBuilder,
        store: StoreChunks<'_>,
    ) -> Result<(), ImageFileError> {
        let slots = &self.0.slots;
        let is_large = |slot: &Slot| slot.keyspace().memory_bytes() > COPY_WHOLE_BYTES;
        let is_whole = slots.with(id, |slot| {
            if is_large(slot) {
                return false;
            }
            self.begin_image(id, slot, image);
            let mut bytes = Vec::new();
            slot.keyspace().for_each(|key, value, expiry_ms| {
                bytes.clear();
                value_format::encode(value, &mut bytes);
                image.push(key, expiry_ms, &bytes);
            });
            true
        });
        if is_whole { Ok(()) } else { self.copy_in_steps(id, image, store) }
    }

    fn wait_until_safe(&self, lsn: Lsn) -> Result<(), String> {
        let log = &self.0.log;
        self.0.check_log().map_err(|error| error.to_string())?;
        if log.positions().durable_lsn() >= lsn {
            return Ok(());
        }
        log.write_up_to(lsn).and_then(|()| log.sync()).map_err(|error| error.to_string())?;
        let durable = log.positions().durable_lsn();
        if durable >= lsn { Ok(()) } else { Err(format!("the log is durable only up to {durable}")) }
    }

    fn on_imaged(&self, id: SlotId, sequence: SlotSequence) {
        self.0.slots.with(id, |slot| slot.mark_imaged(sequence));
    }
}

impl Store {
    /// Every record that ends at or below it is in the slots. A master applies a record before it appends it; a replica appends
    /// first, and nobody looks in between.
    pub fn applied_lsn(&self) -> Lsn {
        let _received = self.receiving.lock();
        self.log.end().lsn
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "store_scrub_tests.rs"]
mod scrub_tests;
