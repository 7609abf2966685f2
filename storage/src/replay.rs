//! Applying a log on several threads. All records of a slot go to one thread, in the log's order; slots know nothing of each
//! other, so nothing else needs an order. Who reads the log checks it and hands the records on in batches, few at a time; when one
//! thread is enough, it applies them itself.
//!
//! What is refused is what one thread alone would have refused: the earliest record that does not fit.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use holdfast_words::Lsn;
use parking_lot::Mutex;

use crate::log::format::checked_record;
use crate::log::recovery::{RecordVisitor, Refused};
use crate::log::{RecordView, VisitError};
use crate::look_ahead::LookAhead;
use crate::platform::threads::{self, ScopedJoinHandle};
use crate::slots::{ReplayError, Slots};

/// A batch is handed on when it has as many bytes.
const BATCH_BYTES: usize = 64 << 10;
/// Batches that wait for a thread at most.
const BATCHES: usize = 4;

/// Records of the slots of one thread, one after the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where in the log each begins.
    lsns: Vec<Lsn>,
}

struct Worker<'scope> {
    thread: ScopedJoinHandle<'scope, ()>,
    batches: SyncSender<Batch>,
    filling: Batch,
}

impl Worker<'_> {
    fn hand_on(&mut self) {
        // Fails only when the thread has panicked, which joining it passes on.
        let _ = self.batches.send(std::mem::take(&mut self.filling));
    }
}

#[derive(Default)]
struct Outcome {
    has_failed: AtomicBool,
    earliest: Mutex<Option<(Lsn, ReplayError)>>,
    applied: AtomicU64,
}

impl Outcome {
    fn refuse(&self, lsn: Lsn, error: ReplayError) {
        let mut earliest = self.earliest.lock();
        if earliest.as_ref().is_none_or(|(known, _)| lsn < *known) {
            *earliest = Some((lsn, error));
        }
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

/// Takes the records of a log in order and has them applied.
pub(crate) struct Replay<'scope> {
    slots: &'scope Slots,
    /// None: the reader's own thread does it.
    workers: Vec<Worker<'scope>>,
    outcome: &'scope Outcome,
}

/// Runs `feed` with a [`Replay`] that applies on as many threads. What `feed` hands to it is applied once it has closed it.
///
/// # Errors
/// When the threads cannot be started.
pub(crate) fn on_threads<R>(
    slots: &Slots,
    count: usize,
    feed: impl FnOnce(&mut Replay<'_>) -> R,
) -> io::Result<R> {
    let outcome = Outcome::default();
    threads::scope(|scope| {
        let mut replay = Replay { slots, workers: Vec::new(), outcome: &outcome };
        let count = threads::at_most(count);
        for _ in 0..if count > 1 { count } else { 0 } {
            let (batches, waiting) = sync_channel(BATCHES);
            let outcome = &outcome;
            let thread = threads::spawn_scoped(scope, "replay", move || apply(slots, &waiting, outcome))?;
            replay.workers.push(Worker { thread, batches, filling: Batch::default() });
        }
        Ok(feed(&mut replay))
    })
}

fn apply(slots: &Slots, waiting: &Receiver<Batch>, outcome: &Outcome) {
    let mut applied = 0;
    let mut ahead = LookAhead::default();
    for batch in waiting {
        let mut rest = &batch.bytes[..];
        let mut not_looked_at = rest.len();
        for &lsn in &batch.lsns {
            if rest.len() <= not_looked_at {
                not_looked_at = rest.len() - ahead.records(rest, slots);
            }
            let record = checked_record(rest, lsn);
            match slots.apply_record(&record) {
                Ok(is_new) => applied += u64::from(is_new),
                // What comes after it on this thread is not looked at; who hands over waits for nobody who is gone.
                Err(error) => {
                    outcome.refuse(lsn, error);
                    return waiting.iter().for_each(drop);
                }
            }
            rest = &rest[record.bytes.len()..];
        }
    }
    outcome.applied.fetch_add(applied, Ordering::Relaxed);
}

impl Replay<'_> {
    /// Has a record applied; `false`: one before it does not fit, and more are of no use.
    pub(crate) fn push(&mut self, record: &RecordView<'_>) -> bool {
        if self.workers.is_empty() {
            return self.apply_here(record);
        }
        let index = record.header.slot.index() % self.workers.len();
        let worker = &mut self.workers[index];
        worker.filling.bytes.extend_from_slice(record.bytes);
        worker.filling.lsns.push(record.lsn);
        if worker.filling.bytes.len() >= BATCH_BYTES {
            worker.hand_on();
        }
        !self.outcome.has_failed.load(Ordering::Relaxed)
    }

    fn apply_here(&self, record: &RecordView<'_>) -> bool {
        if self.outcome.has_failed.load(Ordering::Relaxed) {
            return false;
        }
        match self.slots.apply_record(record) {
            Ok(is_new) => drop(self.outcome.applied.fetch_add(u64::from(is_new), Ordering::Relaxed)),
            Err(error) => self.outcome.refuse(record.lsn, error),
        }
        !self.outcome.has_failed.load(Ordering::Relaxed)
    }

    /// Waits until all is applied.
    ///
    /// # Errors
    /// The earliest record that does not fit, and why.
    pub(crate) fn close(&mut self) -> Result<(), (Lsn, ReplayError)> {
        let mut workers = std::mem::take(&mut self.workers);
        workers.iter_mut().for_each(Worker::hand_on);
        for Worker { thread, batches, .. } in workers {
            drop(batches);
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        self.outcome.earliest.lock().take().map_or(Ok(()), Err)
    }

    /// Records that were applied, when it is closed.
    pub(crate) fn applied(&self) -> u64 {
        self.outcome.applied.load(Ordering::Relaxed)
    }
}

impl RecordVisitor for Replay<'_> {
    fn record(&mut self, record: &RecordView<'_>) -> Result<(), VisitError> {
        if self.push(record) { Ok(()) } else { Err("an earlier record does not fit".into()) }
    }

    fn finish(&mut self) -> Result<(), Refused> {
        self.close().map_err(|(lsn, source)| Refused { lsn, source: source.into() })
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
