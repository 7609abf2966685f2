//! fdatasync off the workers: one thread makes durable what was written meanwhile, as often as `appendfsync` says. Execution
//! and writes go on while an fdatasync is in flight.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use holdfast_words::Lsn;
use parking_lot::{Condvar, Mutex};

use super::{AppendError, FsyncPolicy, Log, LogHealth};
use crate::platform::clock;
use crate::platform::threads::{self, JoinHandle};

/// `appendfsync everysec`
const PERIOD: Duration = Duration::from_secs(1);
/// Between two tries to write on a full disk.
const NO_SPACE_PERIOD: Duration = Duration::from_millis(200);

#[derive(Default)]
struct State {
    /// Somebody asked for durability now.
    requested: bool,
    stopped: bool,
}

/// What workers and the thread share.
pub(super) struct GroupCommit {
    policy: AtomicU8,
    /// Somebody waits for whatever is written to be durable, whatever the policy says.
    awaited: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    /// Spares the workers the mutex while the thread has not taken up the last request.
    signalled: AtomicBool,
    /// Held during a sync and during a cut: a cut must not meet a sync of what it cuts.
    pub(super) exclusive: Mutex<()>,
    fsyncs: AtomicU64,
    last_fsync_us: AtomicU64,
}

impl GroupCommit {
    pub(super) fn new(policy: FsyncPolicy) -> Self {
        Self {
            policy: AtomicU8::new(policy as u8),
            awaited: AtomicBool::new(false),
            state: Mutex::default(),
            wake: Condvar::new(),
            signalled: AtomicBool::new(false),
            exclusive: Mutex::new(()),
            fsyncs: AtomicU64::new(0),
            last_fsync_us: AtomicU64::new(0),
        }
    }

    pub(super) fn set_policy(&self, policy: FsyncPolicy) {
        self.policy.store(policy as u8, Ordering::Release);
        self.request();
    }

    pub(super) fn policy(&self) -> FsyncPolicy {
        match self.policy.load(Ordering::Acquire) {
            code if code == FsyncPolicy::Always as u8 => FsyncPolicy::Always,
            code if code == FsyncPolicy::No as u8 => FsyncPolicy::No,
            _ => FsyncPolicy::EverySecond,
        }
    }

    /// Something was written.
    pub(super) fn written(&self) {
        if self.policy() == FsyncPolicy::Always || self.awaited.load(Ordering::Acquire) {
            self.request();
        }
    }

    /// From now on (or no longer) everything written is awaited to be durable.
    pub(super) fn set_awaited(&self, awaited: bool) {
        if self.awaited.swap(awaited, Ordering::AcqRel) != awaited && awaited {
            self.request();
        }
    }

    /// Have everything written made durable now.
    pub(super) fn request(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.state.lock().requested = true;
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_one();
    }

    /// fdatasyncs so far, and how long the last took in microseconds.
    pub(super) fn figures(&self) -> (u64, u64) {
        (self.fsyncs.load(Ordering::Relaxed), self.last_fsync_us.load(Ordering::Relaxed))
    }

    /// Sleeps until there may be something to sync; `false` when the log is gone.
    fn wait(&self, period: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        if !state.requested && !state.stopped {
            match period {
                Some(period) => drop(self.wake.wait_for(&mut state, period)),
                None => self.wake.wait(&mut state),
            }
        }
        state.requested = false;
        self.signalled.store(false, Ordering::Release);
        !state.stopped
    }
}

/// Starts the thread of a log; it ends when the log is dropped.
pub(super) fn start(log: &Arc<Log>) -> io::Result<JoinHandle<()>> {
    let (commit, log) = (log.commit.clone(), Arc::downgrade(log));
    threads::spawn("log-sync", move || run(&commit, &log))
}

fn run(commit: &GroupCommit, log: &Weak<Log>) {
    let mut period = Some(PERIOD);
    while commit.wait(period) {
        let Some(log) = log.upgrade() else { return };
        period = match log.health() {
            LogHealth::Poisoned(_) => None,
            LogHealth::NoSpace => {
                // Whether there is space again only a write can tell. Its own error is reported where it is latched.
                if log.try_to_heal() { Some(Duration::ZERO) } else { Some(NO_SPACE_PERIOD) }
            }
            LogHealth::Good => {
                let is_due = log.positions.durable_lsn() < log.positions.written_lsn();
                if is_due && log.sync().is_err() {
                    None
                } else {
                    (commit.policy() == FsyncPolicy::EverySecond).then_some(PERIOD)
                }
            }
        };
        if log.health() == LogHealth::NoSpace {
            period = Some(NO_SPACE_PERIOD);
        }
        // A log that is idle under `always` and `no` still looks now and then whether its disk is full.
        period = period.or(Some(PERIOD));
    }
}

impl Log {
    /// Makes everything written durable; returns the LSN up to which it is.
    ///
    /// # Errors
    /// When the disk fails: the log takes nothing more then.
    pub fn sync(&self) -> Result<Lsn, AppendError> {
        let _exclusive = self.commit.exclusive.lock();
        if let LogHealth::Poisoned(reason) = self.health() {
            return Err(AppendError::Poisoned(reason));
        }
        let (target, files) = {
            let mut writer = self.writer.lock();
            let mut files = std::mem::take(&mut writer.unsynced);
            files.push(writer.active.file.clone());
            (writer.active.end_lsn, files)
        };
        let started_us = clock::monotonic_us();
        for file in files {
            // Never tried again: the kernel may have dropped what it could not write, and would say that all is well.
            file.sync_data().map_err(|error| self.failed_for_good("fsync of the log", &error))?;
        }
        self.commit.last_fsync_us.store(clock::monotonic_us() - started_us, Ordering::Relaxed);
        self.commit.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.write_mark(target).map_err(|error| self.failed_for_good("writing the durable mark", &error))?;
        self.positions.set_durable(target);
        Ok(target)
    }

    /// Asks for everything written to be made durable soon, whatever the policy.
    pub fn request_sync(&self) {
        self.commit.request();
    }
}
