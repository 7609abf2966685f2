//! The 16384 slots, each under a lock of its own. [`SlotSet`] is how anybody reads or changes them: it holds the locks of
//! the slots a command needs, applies its mutations, and appends its records to the log before it lets go. So within a slot
//! the order of the log is the order of execution, and no change is without its record.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use holdfast_words::{Epoch, Lsn, SLOT_COUNT, SlotId, SlotSequence};
use parking_lot::{Mutex, MutexGuard};

use crate::apply::{Applied, ApplyError, apply};
use crate::keyspace::{Keyspace, expiry_as_logged};
use crate::log::{
    AppendError, Log, MORE_FOLLOWS, RECORD_HEADER_SIZE, RecordHeader, RecordKind, RecordView, finish_record,
};
use crate::mutation::{BodyBuilder, DecodeError, Mutation, decode_body};
use crate::platform::sabotage::{self, Switch};
use crate::slot_copy::{Emit, SlotCopy, Stepped};
use crate::types::ValueRef;
use crate::types::prefetch::prefetch_all;
use crate::types::table::Own;
use crate::watch::{WatchFlag, Watchers};

/// What one slot knows.
#[derive(Default)]
pub struct Slot {
    keyspace: Keyspace,
    /// Number of the slot's newest record.
    sequence: SlotSequence,
    /// End of the slot's newest record: what a reply that shows the slot's state waits for.
    newest_lsn: Lsn,
    /// Sequence as of the newest checkpoint image; the slot is dirty when it lags behind `sequence`.
    imaged_sequence: SlotSequence,
    image_is_damaged: bool,
    watchers: Option<Box<Watchers>>,
    /// A copy of the slot that is being made step by step.
    copy: Option<Box<SlotCopy>>,
}

impl Slot {
    /// The slot's keys.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Number of the slot's newest record.
    pub fn sequence(&self) -> SlotSequence {
        self.sequence
    }

    /// End of the slot's newest record.
    pub fn newest_lsn(&self) -> Lsn {
        self.newest_lsn
    }

    /// Whether the slot has records that no checkpoint image covers.
    pub fn is_dirty(&self) -> bool {
        self.imaged_sequence < self.sequence || self.image_is_damaged
    }

    /// The slot's newest image cannot be relied on: the next checkpoint makes another.
    pub fn mark_not_imaged(&mut self) {
        self.image_is_damaged = true;
    }

    /// An image as of `sequence` is durable.
    pub fn mark_imaged(&mut self, sequence: SlotSequence) {
        debug_assert!(sequence <= self.sequence);
        self.imaged_sequence = self.imaged_sequence.max(sequence);
        self.image_is_damaged = false;
    }

    /// Starts over from an image as of `sequence`; whatever was here is gone. The image's keys follow by
    /// [`Self::load`].
    pub fn begin_load(&mut self, sequence: SlotSequence, newest_lsn: Lsn) {
        self.keyspace = Keyspace::default();
        self.sequence = sequence;
        self.imaged_sequence = sequence;
        self.image_is_damaged = false;
        self.newest_lsn = newest_lsn;
        self.copy = None;
        self.touch_all();
    }

    /// Takes in one key of an image, or with `is_more` a further part of its value, which is in the value format.
    ///
    /// # Errors
    /// When that is no value.
    pub fn load_entry(
        &mut self,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
        is_more: bool,
    ) -> Result<(), ApplyError> {
        self.keyspace.load(key, value, expires_at_ms.map(expiry_as_logged), is_more)?;
        Ok(())
    }

    /// About as many keys are going to be loaded.
    pub fn expect_keys(&mut self, count: usize) {
        self.keyspace.expect(count);
    }

    /// Begins a copy of the slot as it is now; one that was in progress is given up.
    pub(crate) fn begin_copy(&mut self) {
        self.copy = Some(Box::new(SlotCopy::new()));
    }

    /// Goes on with the copy; `None`: there is none any more, and it has to begin anew.
    pub(crate) fn copy_more(&mut self, budget: usize, emit: Emit<'_>) -> Option<Stepped> {
        let stepped = self.copy.as_mut()?.step(&self.keyspace, budget, emit);
        if stepped.is_done {
            self.copy = None;
        }
        Some(stepped)
    }

    /// Gives up a copy that is in progress.
    pub(crate) fn end_copy(&mut self) {
        self.copy = None;
    }

    /// Applies a mutation that stands for a part of an image. Not for commands: no record is made.
    pub fn load(&mut self, mutation: &Mutation<'_>) -> Result<(), ApplyError> {
        apply(&mut self.keyspace, mutation).map(|_| ())
    }

    fn apply(&mut self, mutation: &Mutation<'_>) -> Result<Applied, ApplyError> {
        if let Some(copy) = &mut self.copy
            && !copy.before(&mut self.keyspace, mutation)
        {
            self.copy = None;
        }
        let applied = apply(&mut self.keyspace, mutation)?;
        if applied.changed > 0
            && let Some(watchers) = &self.watchers
        {
            touch(watchers, mutation);
        }
        Ok(applied)
    }

    fn unwatch(&mut self, key: &[u8], flag: &WatchFlag) {
        if let Some(watchers) = &mut self.watchers {
            watchers.unwatch(key, flag);
            if watchers.is_empty() {
                self.watchers = None;
            }
        }
    }

    fn touch_all(&self) {
        if let Some(watchers) = &self.watchers {
            watchers.touch_all();
        }
    }
}

fn touch(watchers: &Watchers, mutation: &Mutation<'_>) {
    match mutation {
        Mutation::FlushSlot => watchers.touch_all(),
        Mutation::Rename { from, to } => {
            watchers.touch(from);
            watchers.touch(to);
        }
        Mutation::Copy { to, .. } => watchers.touch(to),
        other => {
            if let Some(key) = other.key() {
                watchers.touch(key);
            }
        }
    }
}

/// A record of the log that does not fit the slot's state: damage or a bug, never load.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A record of the slot is missing.
    #[error(
        "slot {slot}: record with sequence {found} at LSN {lsn} follows sequence {known}; records are missing between them"
    )]
    Gap {
        /// The slot.
        slot: SlotId,
        /// Sequence of the slot's newest known record.
        known: SlotSequence,
        /// Sequence of the record.
        found: SlotSequence,
        /// Where the record begins.
        lsn: Lsn,
    },
    /// The record's body cannot be read.
    #[error("slot {slot}, LSN {lsn}: {source}")]
    Body {
        /// The slot.
        slot: SlotId,
        /// Where the record begins.
        lsn: Lsn,
        /// Which mutation, and why.
        source: DecodeError,
    },
    /// A mutation contradicts the state.
    #[error("slot {slot}, LSN {lsn}: {source}")]
    Apply {
        /// The slot.
        slot: SlotId,
        /// Where the record begins.
        lsn: Lsn,
        /// What contradicts.
        source: ApplyError,
    },
}

/// All slots of a node.
pub struct Slots {
    slots: Box<[Place]>,
    /// Keys in all slots; follows the slots' own counts after each command.
    key_count: AtomicI64,
    /// Keys with an expiry in all slots.
    volatile_count: AtomicI64,
    /// Bytes of memory of keys and values in all slots.
    memory_bytes: AtomicI64,
    /// Nobody may change anything by command: another node is the slots' master, or is about to be.
    closed: AtomicBool,
}

impl Default for Slots {
    fn default() -> Self {
        let slots = (0..SLOT_COUNT).map(|_| Place::default()).collect();
        Self {
            slots,
            key_count: AtomicI64::new(0),
            volatile_count: AtomicI64::new(0),
            memory_bytes: AtomicI64::new(0),
            closed: AtomicBool::new(false),
        }
    }
}

/// A slot where it is locked, at the beginning of a line of the processor's memory.
#[derive(Default)]
#[repr(align(64))]
struct Place(Mutex<Slot>);

impl std::ops::Deref for Place {
    type Target = Mutex<Slot>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The key counts of a slot before a change, to be settled after it.
struct Counted {
    keys: usize,
    volatile: usize,
    memory: usize,
}

impl Counted {
    fn of(slot: &Slot) -> Self {
        Self {
            keys: slot.keyspace.len(),
            volatile: slot.keyspace.volatile_len(),
            memory: slot.keyspace.memory_bytes(),
        }
    }
}

impl Slots {
    /// Locks one slot for looking at it or for loading; see [`SlotSet`] for commands.
    pub fn with<R>(&self, id: SlotId, work: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slot = self.slots[id.index()].lock();
        let before = Counted::of(&slot);
        let result = work(&mut slot);
        self.settle(&before, &slot);
        result
    }

    /// As [`Self::with`]; who waits for the slot meanwhile gets it next. For work that comes back to the slot at once.
    pub(crate) fn with_fairly<R>(&self, id: SlotId, work: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slot = self.slots[id.index()].lock();
        let before = Counted::of(&slot);
        let result = work(&mut slot);
        self.settle(&before, &slot);
        MutexGuard::unlock_fair(slot);
        result
    }

    /// Locks one slot to load an image into it; what it holds is counted when `is_whole`.
    pub(crate) fn load<R>(&self, id: SlotId, is_whole: bool, work: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slot = self.slots[id.index()].lock();
        let result = work(&mut slot);
        if is_whole {
            self.settle(&Counted { keys: 0, volatile: 0, memory: 0 }, &slot);
        }
        result
    }

    /// Begins to fetch a slot.
    pub(crate) fn prefetch(&self, id: SlotId) {
        prefetch_all(&self.slots[id.index()]);
    }

    /// Begins to fetch the line of a slot's table that has the key of this hash, unless somebody uses the slot.
    pub(crate) fn prefetch_line(&self, id: SlotId, hash: u64) {
        self.peek_unheld(id, |slot| slot.keyspace.keys.prefetch_home(hash));
    }

    /// Looks at a slot, unless somebody uses it.
    pub(crate) fn peek_unheld(&self, id: SlotId, look: impl FnOnce(&Slot)) {
        if let Some(slot) = self.slots[id.index()].try_lock() {
            look(&slot);
        }
    }

    /// Begins to fetch what that line says to be of this hash, unless somebody uses the slot.
    pub(crate) fn prefetch_entry(&self, id: SlotId, hash: u64) {
        self.peek_unheld(id, |slot| slot.keyspace.keys.prefetch_elements(&Own, hash));
    }

    /// Number of keys in all slots.
    pub fn key_count(&self) -> u64 {
        self.key_count.load(Ordering::Relaxed).max(0) as u64
    }

    /// Bytes of memory of all keys and values.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// No command may change anything any more, until [`Slots::open_to_commands`]. When this returns, every command that was
    /// allowed to has appended its record: the log stands still, but for what a master sends.
    pub fn close_to_commands(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Commands look at the flag under the lock of their slots: whoever did not see it is through once its lock was ours.
        for slot in &self.slots {
            drop(slot.lock());
        }
    }

    /// Commands may change the slots again.
    pub fn open_to_commands(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Whether commands may change the slots.
    pub fn are_open_to_commands(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    /// `flag` no longer hears of `key`.
    pub fn unwatch(&self, key: &[u8], flag: &WatchFlag) {
        self.with(SlotId::of_key(key), |slot| slot.unwatch(key, flag));
    }

    /// Number of keys with an expiry in all slots.
    pub fn volatile_count(&self) -> u64 {
        self.volatile_count.load(Ordering::Relaxed).max(0) as u64
    }

    fn settle(&self, before: &Counted, slot: &Slot) {
        let after = Counted::of(slot);
        if after.keys != before.keys {
            self.key_count.fetch_add(after.keys as i64 - before.keys as i64, Ordering::Relaxed);
        }
        if after.memory != before.memory {
            self.memory_bytes.fetch_add(after.memory as i64 - before.memory as i64, Ordering::Relaxed);
        }
        if after.volatile != before.volatile {
            self.volatile_count.fetch_add(after.volatile as i64 - before.volatile as i64, Ordering::Relaxed);
        }
    }

    /// Applies a record that came from the log or from the master. A record at or below the slot's sequence is skipped, so
    /// that replay over a checkpoint is idempotent; `false` says that it was.
    ///
    /// # Errors
    /// When the record does not follow on the slot's newest one or contradicts its state; the slot must not be served then.
    pub fn apply_record(&self, record: &RecordView<'_>) -> Result<bool, ReplayError> {
        let RecordHeader { slot: id, sequence, .. } = record.header;
        if record.header.kind != RecordKind::Mutations {
            return Ok(false);
        }
        self.with(id, |slot| {
            let is_checked = !sabotage::is_on(Switch::SequenceCheckSkipped);
            if is_checked && sequence <= slot.sequence {
                return Ok(false);
            }
            if is_checked && sequence != slot.sequence.next() {
                return Err(ReplayError::Gap {
                    slot: id,
                    known: slot.sequence,
                    found: sequence,
                    lsn: record.lsn,
                });
            }
            let mut failed = None;
            decode_body(record.body, |mutation| {
                if failed.is_none() {
                    failed = slot.apply(&mutation).err();
                }
            })
            .map_err(|source| ReplayError::Body { slot: id, lsn: record.lsn, source })?;
            if let Some(source) = failed {
                return Err(ReplayError::Apply { slot: id, lsn: record.lsn, source });
            }
            slot.sequence = sequence;
            slot.newest_lsn = record.lsn.advance(record.bytes.len() as u64);
            Ok(true)
        })
    }

    /// Empties all slots and forgets their sequences: before the node is rebuilt from a checkpoint or a full copy.
    pub fn clear(&self) {
        for id in SlotId::all() {
            self.with(id, |slot| slot.begin_load(SlotSequence::ZERO, Lsn::ZERO));
        }
    }

    /// Locks the slots, which must be ascending and without doubles, for one command at wall-clock time `now_ms`.
    pub fn lock<'a>(
        &'a self,
        ids: &[SlotId],
        now_ms: u64,
        log: &'a Log,
        scratch: &'a mut Scratch,
    ) -> SlotSet<'a> {
        debug_assert!(
            ids.is_sorted_by(|a, b| a < b),
            "slots are locked in order, or two commands could block each other"
        );
        let Scratch { first, more, group } = scratch;
        let hold = |id: SlotId, body| Held { id, slot: self.slots[id.index()].lock(), before: None, body };
        let mut held = smallvec::SmallVec::new();
        if let Some((&id, others)) = ids.split_first() {
            held.push(hold(id, first));
            while more.len() < others.len() {
                more.push(Scratch::body());
            }
            held.extend(others.iter().zip(more).map(|(&id, body)| hold(id, body)));
        }
        SlotSet { slots: self, log, held, now_ms, group, visited_lsn: Cell::default() }
    }
}

/// Memory that a worker lends to one command after the other.
pub struct Scratch {
    first: BodyBuilder,
    more: Vec<BodyBuilder>,
    group: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { first: Self::body(), more: Vec::new(), group: Vec::new() }
    }
}

impl Scratch {
    /// Bodies grow behind the place of their record's header, so that nothing is moved when the record is finished.
    fn body() -> BodyBuilder {
        BodyBuilder::behind(RECORD_HEADER_SIZE)
    }
}

struct Held<'a> {
    id: SlotId,
    slot: MutexGuard<'a, Slot>,
    /// The counts before the command's first mutation.
    before: Option<Counted>,
    body: &'a mut BodyBuilder,
}

impl Held<'_> {
    /// Keys that the command has added so far, or taken away.
    fn new_keys(&self) -> i64 {
        let now = self.slot.keyspace.len();
        now as i64 - self.before.as_ref().map_or(now, |before| before.keys) as i64
    }

    /// The record of what the command did here.
    fn finish_record(&mut self, epoch: Epoch, now_ms: u64, more_follow: bool) -> &mut [u8] {
        self.slot.sequence = self.slot.sequence.next();
        let header = RecordHeader {
            kind: RecordKind::Mutations,
            flags: if more_follow { MORE_FOLLOWS } else { 0 },
            slot: self.id,
            epoch,
            sequence: self.slot.sequence,
            wall_clock_ms: now_ms,
        };
        let record = self.body.finish_behind();
        finish_record(record, &header);
        record
    }
}

/// The slots of one command (or transaction, or script), locked. Reads see the state as of `now_ms`: what has expired by
/// then is hidden. Mutations are applied at once and logged, all or nothing, by [`SlotSet::commit`].
pub struct SlotSet<'a> {
    slots: &'a Slots,
    log: &'a Log,
    held: smallvec::SmallVec<[Held<'a>; 1]>,
    now_ms: u64,
    /// Records of several slots, one after the other.
    group: &'a mut Vec<u8>,
    /// The newest LSN of the slots that were visited without being held.
    visited_lsn: Cell<Lsn>,
}

impl SlotSet<'_> {
    /// The command's wall-clock time, milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The slots that are held.
    pub fn ids(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.held.iter().map(|held| held.id)
    }

    fn position(&self, id: SlotId) -> Option<usize> {
        self.held.binary_search_by_key(&id, |held| held.id).ok()
    }

    fn position_of_key(&self, key: &[u8]) -> usize {
        if self.held.len() == 1 {
            debug_assert_eq!(
                self.held[0].id,
                SlotId::of_key(key),
                "a command touches only the keys it declares"
            );
            return 0;
        }
        self.position(SlotId::of_key(key)).expect("a command touches only the keys it declares")
    }

    /// The keys of the slot of `key`, which the command must have declared.
    pub fn keyspace(&self, key: &[u8]) -> &Keyspace {
        &self.held[self.position_of_key(key)].slot.keyspace
    }

    /// What `key` holds, unless it has expired.
    pub fn get(&self, key: &[u8]) -> Option<ValueRef<'_>> {
        self.keyspace(key).get(key, self.now_ms)
    }

    /// When `key` expires, in milliseconds since 1970; `None` when it does not, is missing or has expired.
    pub fn expiry_ms(&self, key: &[u8]) -> Option<u64> {
        self.keyspace(key).expiry_ms(key).filter(|&at_ms| at_ms > self.now_ms)
    }

    /// Up to `limit` keys of a held slot whose time is past; the caller deletes them.
    pub fn take_expired(&mut self, id: SlotId, limit: usize, out: &mut Vec<Box<[u8]>>) {
        let position = self.position(id).expect("a command touches only the slots it holds");
        self.held[position].slot.keyspace.collect_expired(self.now_ms, limit, out);
    }

    /// Runs `work` on a slot's keys: the held ones when the slot is held, else locked for the moment. A command that holds
    /// some slots may visit only those, or two commands could block each other.
    pub fn visit<R>(&self, id: SlotId, work: impl FnOnce(&Keyspace) -> R) -> R {
        match self.position(id) {
            Some(position) => work(&self.held[position].slot.keyspace),
            None => {
                assert!(self.held.is_empty(), "{id:?} is visited while other slots are held");
                self.slots.with(id, |slot| {
                    self.visited_lsn.set(self.visited_lsn.get().max(slot.newest_lsn));
                    work(&slot.keyspace)
                })
            }
        }
    }

    /// Number of keys in all slots, with what this command has changed so far.
    pub fn key_count(&self) -> u64 {
        let unsettled: i64 = self.held.iter().map(Held::new_keys).sum();
        self.slots.key_count().saturating_add_signed(unsettled)
    }

    /// Applies the mutation and adds it to the command's record, unless it changed nothing.
    ///
    /// # Panics
    /// When the mutation contradicts the state: the command has to look before it decides, so this is a bug.
    pub fn mutate(&mut self, mutation: &Mutation<'_>) -> Applied {
        let key = mutation.key().expect("a mutation of a key; see flush_slot");
        let position = self.position_of_key(key);
        self.mutate_at(position, mutation)
    }

    /// Empties a held slot.
    pub fn flush_slot(&mut self, id: SlotId) -> Applied {
        let position = self.position(id).expect("a command touches only the slots it holds");
        self.mutate_at(position, &Mutation::FlushSlot)
    }

    fn mutate_at(&mut self, position: usize, mutation: &Mutation<'_>) -> Applied {
        let held = &mut self.held[position];
        if held.before.is_none() {
            held.before = Some(Counted::of(&held.slot));
        }
        match held.slot.apply(mutation) {
            Ok(applied) => {
                if applied.changed > 0 {
                    held.body.push(mutation);
                }
                applied
            }
            Err(error) => panic!("a command decided on a mutation that does not fit the state: {error}"),
        }
    }

    /// From now on a change of `key` sets `flag`.
    pub fn watch(&mut self, key: &[u8], flag: &WatchFlag) {
        let position = self.position_of_key(key);
        self.held[position].slot.watchers.get_or_insert_default().watch(key, flag);
    }

    /// `flag` no longer hears of `key`.
    pub fn unwatch(&mut self, key: &[u8], flag: &WatchFlag) {
        let position = self.position_of_key(key);
        self.held[position].slot.unwatch(key, flag);
    }

    /// Whether a command may change these slots ([`Slots::close_to_commands`]); holds until they are let go.
    pub fn may_change(&self) -> bool {
        !self.slots.closed.load(Ordering::SeqCst)
    }

    /// Whether a key of the held slots expires.
    pub fn has_volatile_keys(&self) -> bool {
        self.held.iter().any(|held| held.slot.keyspace.volatile_len() > 0)
    }

    /// Whether the command has changed anything so far.
    pub fn has_changes(&self) -> bool {
        self.held.iter().any(|held| !held.body.is_empty())
    }

    /// Appends the command's records, all or nothing, and lets go of the slots. Returns the LSN that a reply showing these
    /// slots, and those it visited, must wait for, whether or not this command changed them.
    ///
    /// # Errors
    /// When the log can take nothing any more; memory is then ahead of the log and the node must stop serving.
    pub fn commit(mut self) -> Result<Lsn, AppendError> {
        let mut left = self.held.iter().filter(|held| !held.body.is_empty()).count();
        if left > 0 {
            let epoch = self.log.epoch();
            let appended = if let ([held], 1) = (&mut *self.held, left) {
                self.log.append(held.finish_record(epoch, self.now_ms, false))
            } else {
                self.group.clear();
                for held in self.held.iter_mut().filter(|held| !held.body.is_empty()) {
                    left -= 1;
                    self.group.extend_from_slice(held.finish_record(epoch, self.now_ms, left > 0));
                }
                self.log.append(self.group)
            };
            // Should it have failed, nobody commits them any more, and no reply may show them: it would wait for an LSN that
            // never comes.
            let newest_lsn = *appended.as_ref().unwrap_or(&Lsn(u64::MAX));
            for held in self.held.iter_mut().filter(|held| !held.body.is_empty()) {
                held.slot.newest_lsn = newest_lsn;
                held.body.clear();
                if let Some(before) = held.before.take() {
                    self.slots.settle(&before, &held.slot);
                }
            }
            appended?;
        }
        let held_lsn = self.held.iter().map(|held| held.slot.newest_lsn).max().unwrap_or_default();
        Ok(held_lsn.max(self.visited_lsn.get()))
    }
}

impl Drop for SlotSet<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            debug_assert!(!self.has_changes(), "changes that were not committed");
        }
        for held in &mut self.held {
            held.body.clear();
        }
    }
}
