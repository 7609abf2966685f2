//! How far the log is: handed to the kernel, on this disk, acknowledged by all who must. Plain atomics that anybody reads;
//! whoever waits subscribes and looks again when woken.

use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_words::Lsn;
use parking_lot::RwLock;

/// Which position a reply waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AckPoint {
    /// Handed to the kernel: survives kill -9.
    #[default]
    Written,
    /// On this disk: survives a power cut.
    Durable,
    /// In the logs of all members of the in-sync set.
    Committed,
}

type Subscriber = Box<dyn Fn() + Send + Sync>;

/// The positions of one log. Each only moves forward, except by [`Positions::restart`].
#[derive(Default)]
pub struct Positions {
    written: AtomicU64,
    durable: AtomicU64,
    committed: AtomicU64,
    cuts: AtomicU64,
    subscribers: RwLock<Vec<Subscriber>>,
    written_subscribers: RwLock<Vec<Subscriber>>,
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "written {}, durable {}, committed {}",
            self.written_lsn(),
            self.durable_lsn(),
            self.committed_lsn()
        )
    }
}

impl Positions {
    /// End of what was handed to the kernel.
    pub fn written_lsn(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    /// End of what is on this disk.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// End of what every member of the in-sync set has.
    pub fn committed_lsn(&self) -> Lsn {
        Lsn(self.committed.load(Ordering::Acquire))
    }

    /// The position of this kind.
    pub fn reached(&self, point: AckPoint) -> Lsn {
        match point {
            AckPoint::Written => self.written_lsn(),
            AckPoint::Durable => self.durable_lsn(),
            AckPoint::Committed => self.committed_lsn(),
        }
    }

    /// Calls `wake` whenever a position may have moved, from any thread; it must be quick.
    pub fn subscribe(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.subscribers.write().push(Box::new(wake));
    }

    /// Calls `wake` whenever something was written, from the thread that wrote: for those who ship the log.
    pub fn subscribe_written(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.written_subscribers.write().push(Box::new(wake));
    }

    /// How often the log was cut or replaced since it was opened: what was read of it before may have been taken back.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }

    /// Moves the written position and wakes those who ship it. Whoever waits for a reply is not woken: who wrote releases its
    /// own replies itself.
    pub(super) fn set_written(&self, lsn: Lsn) {
        self.written.fetch_max(lsn.0, Ordering::AcqRel);
        self.written_subscribers.read().iter().for_each(|wake| wake());
    }

    /// Moves the durable position and wakes all subscribers.
    pub(super) fn set_durable(&self, lsn: Lsn) {
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
        self.wake_all();
    }

    /// Moves the committed position and wakes all subscribers. Called by replication.
    pub fn set_committed(&self, lsn: Lsn) {
        if self.committed.fetch_max(lsn.0, Ordering::AcqRel) < lsn.0 {
            self.wake_all();
        }
    }

    /// Wakes all subscribers: something they may be waiting for has changed (also a failure).
    pub fn wake_all(&self) {
        self.subscribers.read().iter().for_each(|wake| wake());
    }

    /// The log was opened, cut or replaced: all positions start over here.
    pub(super) fn restart(&self, written: Lsn, durable: Lsn) {
        self.written.store(written.0, Ordering::Release);
        self.durable.store(durable.0, Ordering::Release);
        self.committed.store(durable.0.min(written.0), Ordering::Release);
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn positions_never_go_back_and_wake_their_subscribers() {
        let positions = Positions::default();
        let woken = Arc::new(AtomicUsize::new(0));
        positions.subscribe({
            let woken = woken.clone();
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
        positions.set_durable(Lsn(10));
        positions.set_durable(Lsn(5));
        assert_eq!(positions.reached(AckPoint::Durable), Lsn(10));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        positions.set_committed(Lsn(3));
        positions.set_committed(Lsn(3));
        assert_eq!(woken.load(Ordering::Relaxed), 3);
    }
}
