//! How far the log is: handed to the kernel, on this disk, acknowledged by all who must. Plain atomics that anybody reads;
//! whoever waits subscribes and looks again when woken.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use holdfast_words::Lsn;
use parking_lot::RwLock;

use crate::platform::sabotage::{self, Switch};

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

/// What counts as committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// Nothing: another node may be the master.
    Nothing,
    /// What is written here and `others` have.
    Written {
        /// What the others have; the highest LSN when nobody else has to have anything.
        others: Lsn,
    },
    /// What is durable here and `others` have.
    Durable {
        /// What the others have.
        others: Lsn,
    },
}

impl Default for Commit {
    fn default() -> Self {
        Self::Written { others: Lsn(u64::MAX) }
    }
}

type Subscriber = Box<dyn Fn() + Send + Sync>;

/// The positions of one log. Written and durable only move forward, except by [`Positions::restart`].
#[derive(Default)]
pub struct Positions {
    written: AtomicU64,
    durable: AtomicU64,
    commit: RwLock<Commit>,
    cuts: AtomicU64,
    /// How many send the log to replicas.
    shippers: AtomicUsize,
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

    /// End of what every member of the in-sync set has. It may go back, when somebody is let in who has less; what was
    /// acknowledged before was promised by those who were in the set then.
    pub fn committed_lsn(&self) -> Lsn {
        match *self.commit.read() {
            Commit::Nothing => Lsn::ZERO,
            Commit::Written { others } => others.min(self.written_lsn()),
            Commit::Durable { others } if sabotage::is_on(Switch::LoneMasterAcksUndurable) => {
                others.min(self.written_lsn())
            }
            Commit::Durable { others } => others.min(self.durable_lsn()),
        }
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

    /// Somebody begins to send the log to a replica, which waits for it to be written as soon as it can be.
    pub fn begin_shipping(&self) {
        self.shippers.fetch_add(1, Ordering::AcqRel);
    }

    /// Who called [`Self::begin_shipping`] is done.
    pub fn end_shipping(&self) {
        let before = self.shippers.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "shipping ended more often than it began");
    }

    /// Whether the log is sent to replicas.
    pub fn is_shipped(&self) -> bool {
        self.shippers.load(Ordering::Acquire) > 0
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

    /// From here on this counts as committed; wakes all subscribers. Called by replication.
    pub fn set_commit(&self, commit: Commit) {
        if std::mem::replace(&mut *self.commit.write(), commit) != commit {
            self.wake_all();
        }
    }

    /// What was read before may be taken back: this node is not the master any more, and its log may be cut. Whoever waits
    /// with a reply never sends it.
    pub fn take_back_replies(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
    }

    /// Wakes all subscribers: something they may be waiting for has changed (also a failure).
    pub fn wake_all(&self) {
        self.subscribers.read().iter().for_each(|wake| wake());
    }

    /// The log was opened, cut or replaced: all positions start over here.
    pub(super) fn restart(&self, written: Lsn, durable: Lsn) {
        self.written.store(written.0, Ordering::Release);
        self.durable.store(durable.0, Ordering::Release);
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
        positions.set_commit(Commit::Nothing);
        positions.set_commit(Commit::Nothing);
        assert_eq!(woken.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn committed_is_what_is_here_and_what_the_others_have() {
        let positions = Positions::default();
        positions.set_written(Lsn(30));
        positions.set_durable(Lsn(20));
        let committed = |commit| {
            positions.set_commit(commit);
            positions.reached(AckPoint::Committed).0
        };
        assert_eq!(positions.reached(AckPoint::Committed), Lsn(30), "alone");
        assert_eq!(committed(Commit::Written { others: Lsn(25) }), 25);
        assert_eq!(committed(Commit::Written { others: Lsn(40) }), 30);
        assert_eq!(committed(Commit::Durable { others: Lsn(25) }), 20);
        assert_eq!(committed(Commit::Durable { others: Lsn(15) }), 15);
        assert_eq!(committed(Commit::Nothing), 0);
    }
}
