//! A small world on top of the storage crate whose every state can be told from its numbers, for tests that cut the power:
//! a writer fills it and says what it knows to be durable; afterwards the same code recovers it and compares.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use holdfast_storage::checkpoint::image_files::ImageFileError;
use holdfast_storage::checkpoint::image_format::{Compression, Entry, ImageBuilder, ImageKind, ImageStamp};
use holdfast_storage::checkpoint::load::{ImageVisitor, load_all};
use holdfast_storage::checkpoint::manifest::Manifest;
use holdfast_storage::checkpoint::pass::{Checkpointer, PassSettings, SlotSource, StoreChunks};
use holdfast_storage::data_dir::DataDir;
use holdfast_storage::log::{
    FsyncPolicy, Log, LogConfig, RecordHeader, RecordKind, RecordView, VisitError, encode_record,
};
use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};
use parking_lot::Mutex;

/// Slots in use.
pub const SLOTS: u16 = 64;
const KEYS_PER_SLOT: u64 = 16;
const NOTE: &str = "count";
const SHARD: ShardId = ShardId([1; 20]);
const METADATA: ShardId = ShardId([2; 20]);

/// What the writer knows to be durable; also one line of its output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// The directory is open, in this incarnation.
    Started(u64),
    /// The log holds a slot's record of this sequence, durably.
    Logged(u16, u64),
    /// A slot's image as of this sequence is durable, and so is the manifest.
    Imaged(u16, u64),
    /// A pass is complete: the images hold all records below this LSN.
    Covered(u64),
    /// The note has this value.
    Note(u64),
    /// The metadata log holds the entry of this number.
    Metadata(u64),
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(incarnation) => write!(f, "started {incarnation}"),
            Self::Logged(slot, sequence) => write!(f, "logged {slot} {sequence}"),
            Self::Imaged(slot, sequence) => write!(f, "imaged {slot} {sequence}"),
            Self::Covered(lsn) => write!(f, "covered {lsn}"),
            Self::Note(value) => write!(f, "note {value}"),
            Self::Metadata(number) => write!(f, "metadata {number}"),
        }
    }
}

impl Ack {
    /// Reads a line of the writer's output.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let verb = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(match verb {
            "started" => Self::Started(number()?),
            "logged" => Self::Logged(number()? as u16, number()?),
            "imaged" => Self::Imaged(number()? as u16, number()?),
            "covered" => Self::Covered(number()?),
            "note" => Self::Note(number()?),
            "metadata" => Self::Metadata(number()?),
            _ => return None,
        })
    }
}

/// All that was acknowledged, summed up.
#[derive(Clone, Default, Debug)]
pub struct Acked {
    /// Number of acknowledgements.
    pub count: u64,
    incarnation: u64,
    logged: BTreeMap<u16, u64>,
    imaged: BTreeMap<u16, u64>,
    covered: u64,
    note: u64,
    metadata: u64,
}

impl Acked {
    /// Adds an acknowledgement.
    pub fn add(&mut self, ack: Ack) {
        let raise = |known: &mut u64, value: u64| *known = value.max(*known);
        self.count += 1;
        match ack {
            Ack::Started(incarnation) => raise(&mut self.incarnation, incarnation),
            Ack::Logged(slot, sequence) => raise(self.logged.entry(slot).or_default(), sequence),
            Ack::Imaged(slot, sequence) => raise(self.imaged.entry(slot).or_default(), sequence),
            Ack::Covered(lsn) => raise(&mut self.covered, lsn),
            Ack::Note(value) => raise(&mut self.note, value),
            Ack::Metadata(number) => raise(&mut self.metadata, number),
        }
    }
}

fn key_of(sequence: u64) -> [u8; 1] {
    [(sequence % KEYS_PER_SLOT) as u8]
}

fn metadata_body(number: u64) -> Vec<u8> {
    value_of(u16::MAX, number)
}

fn encode(record: &mut Vec<u8>, kind: RecordKind, slot: SlotId, sequence: u64, body: &[u8]) {
    let sequence = SlotSequence(sequence);
    let header = RecordHeader { kind, flags: 0, slot, epoch: Epoch::ZERO, sequence, wall_clock_ms: 0 };
    encode_record(record, &header, body);
}

/// The value that the record of this sequence writes.
fn value_of(slot: u16, sequence: u64) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(u64::from(slot) << 48 ^ sequence);
    let length = dice.usize(20..1500);
    let mut value = vec![0; length];
    dice.fill(&mut value);
    value
}

#[derive(Clone, Default)]
struct Slot {
    sequence: u64,
    newest_lsn: u64,
    imaged: u64,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Slot {
    fn apply(&mut self, slot: u16, sequence: u64) {
        self.keys.insert(key_of(sequence).to_vec(), value_of(slot, sequence));
        self.sequence = sequence;
    }

    /// What does not fit the slot's sequence.
    fn difference(&self, slot: u16) -> Option<String> {
        let mut expected = Self::default();
        let from = self.sequence.saturating_sub(KEYS_PER_SLOT) + 1;
        (from..=self.sequence).for_each(|sequence| expected.apply(slot, sequence));
        (expected.keys != self.keys).then(|| {
            format!("slot {slot}: what it holds is not what its {} records have written", self.sequence)
        })
    }
}

/// Starts on a directory again and again, telling `on_ack` each incarnation. Nothing but the header is synced here.
///
/// # Errors
/// The first failure.
pub fn start_for_ever(root: &Path, on_ack: impl Fn(Ack)) -> anyhow::Result<()> {
    loop {
        on_ack(Ack::Started(DataDir::open_or_create(root, None)?.identity().incarnation.0));
    }
}

/// The world, recovered from a directory and ready to go on.
pub struct World {
    dir: Arc<DataDir>,
    checkpointer: Checkpointer,
    log: Arc<Log>,
    metadata: Arc<Log>,
    next_metadata: AtomicU64,
    slots: Slots,
    next_note: AtomicU64,
}

struct Slots(Vec<Mutex<Slot>>);

impl std::ops::Deref for Slots {
    type Target = [Mutex<Slot>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Slots {
    /// A record that no image holds must be the slot's next one, and what it was written as.
    fn replay(&self, record: &RecordView<'_>) -> Result<(), String> {
        let RecordHeader { kind, slot: id, sequence, .. } = record.header;
        let mut slot = self.0.get(id.index()).ok_or("no such slot")?.lock();
        if kind != RecordKind::Mutations || sequence.0 <= slot.sequence {
            return Ok(());
        }
        if sequence.0 != slot.sequence + 1 {
            return Err(format!("{id:?}: record {sequence} follows on {}", slot.sequence));
        }
        if record.body != value_of(id.number(), sequence.0) {
            return Err(format!("{id:?}: record {sequence} is not what was written"));
        }
        slot.apply(id.number(), sequence.0);
        slot.newest_lsn = record.end().0;
        Ok(())
    }
}

impl ImageVisitor for Slots {
    fn on_image(&self, stamp: &ImageStamp, _keys: u64) {
        if let Some(slot) = self.get(stamp.slot.index()) {
            let (sequence, newest_lsn) = (stamp.sequence.0, stamp.lsn.0);
            *slot.lock() = Slot { sequence, newest_lsn, imaged: sequence, ..Slot::default() };
        }
    }

    fn on_entry(&self, stamp: &ImageStamp, entry: Entry<'_>) -> Result<(), String> {
        let slot = self.get(stamp.slot.index()).ok_or("no such slot")?;
        slot.lock().keys.insert(entry.key.to_vec(), entry.value.to_vec());
        Ok(())
    }
}

impl World {
    /// Opens the directory, creating it when there is none, and recovers what is in it.
    ///
    /// # Errors
    /// When anything in it cannot be opened or read: after a power cut, a loss.
    pub fn recover(root: &Path) -> anyhow::Result<Self> {
        let dir = Arc::new(DataDir::open_or_create(root, None)?);
        let manifest = Arc::new(Manifest::open(dir.clone())?);
        let slots = Slots((0..SLOTS).map(|_| Mutex::default()).collect());
        load_all(&manifest, 2, &slots)?;
        let note = manifest.state().note(NOTE)?.unwrap_or_default();
        let note = <[u8; 8]>::try_from(note.as_slice()).map_or(0, u64::from_le_bytes);
        let config = LogConfig {
            segment_size: 512 << 10,
            fsync: FsyncPolicy::Always,
            spare_segments: 2,
            boot: dir.boot(),
        };
        let covered = manifest.covered_lsn();
        let (log, _) =
            Log::open(&dir.wal(), SHARD, &config, Lsn::ZERO, covered, &mut |record: &RecordView<'_>| {
                slots.replay(record).map_err(VisitError::from)
            })?;
        let mut metadata_entries = 0;
        let mut count = |record: &RecordView<'_>| {
            metadata_entries += 1;
            let RecordHeader { kind, sequence, .. } = record.header;
            if (kind, sequence.0, record.body)
                != (RecordKind::Metadata, metadata_entries, &metadata_body(metadata_entries))
            {
                return Err(format!("metadata entry {metadata_entries} is another one").into());
            }
            Ok(())
        };
        let (metadata, _) = Log::open(&dir.metadata(), METADATA, &config, Lsn::ZERO, Lsn::ZERO, &mut count)?;
        let settings = PassSettings { file_size: 128 << 10, compression: Compression::Lz4 };
        let checkpointer = Checkpointer::new(manifest, settings);
        Ok(Self {
            dir,
            checkpointer,
            log,
            metadata,
            next_metadata: AtomicU64::new(metadata_entries + 1),
            slots,
            next_note: AtomicU64::new(note + 1),
        })
    }

    /// What was acknowledged and is not there, or is wrong.
    pub fn losses(&self, acked: &Acked) -> Vec<String> {
        let mut losses = Vec::new();
        let mut at_least = |what: String, found: u64, acked: u64| {
            if found < acked {
                losses.push(format!("{what}: {acked} was acknowledged, {found} is there"));
            }
        };
        // Recovering has taken the next one.
        at_least("incarnation".to_owned(), self.dir.identity().incarnation.0 - 1, acked.incarnation);
        at_least("note".to_owned(), self.next_note.load(Ordering::Relaxed) - 1, acked.note);
        at_least("covered LSN".to_owned(), self.checkpointer.manifest().covered_lsn().0, acked.covered);
        at_least("metadata log".to_owned(), self.next_metadata.load(Ordering::Relaxed) - 1, acked.metadata);
        for (slot, sequence) in &acked.imaged {
            let found = self.slots[usize::from(*slot)].lock().imaged;
            at_least(format!("image of slot {slot}"), found, *sequence);
        }
        for (slot, sequence) in &acked.logged {
            let found = self.slots[usize::from(*slot)].lock().sequence;
            at_least(format!("records of slot {slot}"), found, *sequence);
        }
        losses.extend((0..SLOTS).filter_map(|slot| self.slots[usize::from(slot)].lock().difference(slot)));
        losses
    }

    /// States that were set aside because sled could not read them: nothing that may not be lost, but a cut should not do
    /// that.
    pub fn broken_states(&self) -> impl Iterator<Item = String> {
        let names = std::fs::read_dir(self.dir.set_aside()).into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("state"))
    }

    /// Writes on several threads, telling `on_ack` what is durable, until the process is killed or something fails.
    ///
    /// # Errors
    /// The first failure.
    pub fn write_for_ever(&self, on_ack: impl Fn(Ack) + Sync) -> anyhow::Result<()> {
        on_ack(Ack::Started(self.dir.identity().incarnation.0));
        let on_ack = &on_ack;
        let failures = Mutex::new(Vec::new());
        let run = |name: &'static str, turn: &(dyn Fn() -> anyhow::Result<()> + Sync)| {
            while failures.lock().is_empty() {
                if let Err(error) = turn().context(name) {
                    failures.lock().push(error);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| run("write", &|| self.write(on_ack)));
            scope.spawn(|| run("write", &|| self.write(on_ack)));
            scope.spawn(|| run("metadata", &|| self.write_metadata(on_ack)));
            scope.spawn(|| run("checkpoint", &|| self.checkpoint(on_ack)));
            scope.spawn(|| run("note", &|| self.note(on_ack)));
        });
        match failures.into_inner().pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// As a worker does: some records, one write, and an acknowledgement for each when they are durable.
    fn write(&self, on_ack: &impl Fn(Ack)) -> anyhow::Result<()> {
        let mut written = Vec::new();
        let mut record = Vec::new();
        let mut end = Lsn::ZERO;
        for _ in 0..fastrand::usize(1..20) {
            let number = fastrand::u16(0..SLOTS);
            let mut slot = self.slots[usize::from(number)].lock();
            let sequence = slot.sequence + 1;
            slot.apply(number, sequence);
            record.clear();
            let id = SlotId::new(number).context("a slot")?;
            encode(&mut record, RecordKind::Mutations, id, sequence, &value_of(number, sequence));
            end = self.log.append(&mut record)?;
            slot.newest_lsn = end.0;
            written.push(Ack::Logged(number, sequence));
        }
        self.make_durable(end)?;
        written.into_iter().for_each(on_ack);
        Ok(())
    }

    fn make_durable(&self, lsn: Lsn) -> anyhow::Result<()> {
        self.log.write_up_to(lsn)?;
        while self.log.positions().durable_lsn() < lsn {
            anyhow::ensure!(!self.log.is_poisoned(), "the log has failed");
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn write_metadata(&self, on_ack: &impl Fn(Ack)) -> anyhow::Result<()> {
        let number = self.next_metadata.fetch_add(1, Ordering::Relaxed);
        let mut record = Vec::new();
        encode(&mut record, RecordKind::Metadata, SlotId::default(), number, &metadata_body(number));
        let end = self.metadata.append(&mut record)?;
        self.metadata.write_up_to(end)?;
        self.metadata.sync()?;
        on_ack(Ack::Metadata(number));
        Ok(())
    }

    fn checkpoint(&self, on_ack: &impl Fn(Ack)) -> anyhow::Result<()> {
        let source = Source { world: self, on_ack };
        let report = self.checkpointer.run(&source)?;
        on_ack(Ack::Covered(report.covered_lsn.0));
        self.log.release_below(report.covered_lsn)?;
        Ok(())
    }

    fn note(&self, on_ack: &impl Fn(Ack)) -> anyhow::Result<()> {
        let value = self.next_note.fetch_add(1, Ordering::Relaxed);
        self.checkpointer.manifest().state().put_note(NOTE, &value.to_le_bytes())?;
        on_ack(Ack::Note(value));
        Ok(())
    }
}

struct Source<'a, F> {
    world: &'a World,
    on_ack: &'a F,
}

impl<F: Fn(Ack)> SlotSource for Source<'_, F> {
    fn applied_lsn(&self) -> Lsn {
        self.world.log.end().lsn
    }

    fn dirty_slots(&self) -> Vec<SlotId> {
        let dirty = |slot: &Slot| slot.imaged < slot.sequence;
        SlotId::all()
            .zip(self.world.slots.iter())
            .filter(|(_, slot)| dirty(&slot.lock()))
            .map(|(id, _)| id)
            .collect()
    }

    fn copy_slot(
        &self,
        slot: SlotId,
        image: &mut ImageBuilder,
        _store: StoreChunks<'_>,
    ) -> Result<(), ImageFileError> {
        let held = self.world.slots[slot.index()].lock();
        image.begin(ImageStamp {
            kind: ImageKind::Slot,
            shard: SHARD,
            slot,
            epoch: Epoch(1),
            sequence: SlotSequence(held.sequence),
            lsn: Lsn(held.newest_lsn),
            value_version: 1,
        });
        held.keys.iter().for_each(|(key, value)| image.push(key, None, value));
        Ok(())
    }

    fn wait_until_safe(&self, lsn: Lsn) -> Result<(), String> {
        self.world.make_durable(lsn).map_err(|error| format!("{error:#}"))
    }

    fn on_imaged(&self, slot: SlotId, sequence: SlotSequence) {
        self.world.slots[slot.index()].lock().imaged = sequence.0;
        (self.on_ack)(Ack::Imaged(slot.number(), sequence.0));
    }
}
