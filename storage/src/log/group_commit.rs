//! fdatasync off the workers: one thread makes durable what was written meanwhile, as often as `appendfsync` says. Execution
//! and writes go on while an fdatasync is in flight. Under `everysec` it also has the disk begin to write early, a megabyte at a
//! time: an fdatasync of a second's records at once took the processor from the worker beside it for 4 ms and more. Under
//! `always` the thread writes too, what was appended meanwhile with each sync: a write can stand still for milliseconds while the
//! file system commits the sync before it, and no reply waits for less than its sync anyway. In a simulated world a task takes
//! the thread's place.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use holdfast_words::Lsn;
use parking_lot::{Condvar, Mutex};

use super::append::Writer;
use super::{AppendError, FsyncPolicy, Log, LogHealth};
use crate::platform::clock;
use crate::platform::sabotage::{self, Switch};
#[cfg(feature = "simulation")]
use crate::platform::simulation;
use crate::platform::threads::{self, JoinHandle};

/// `appendfsync everysec`
const PERIOD: Duration = Duration::from_secs(1);
/// Between two tries to write on a full disk.
const NO_SPACE_PERIOD: Duration = Duration::from_millis(200);
/// The disk begins to write when there is this much: some 200 µs of a processor.
const WRITE_OUT_BYTES: u64 = 1 << 20;

#[derive(Default)]
struct State {
    /// Somebody asked for durability now.
    requested: bool,
    stopped: bool,
    /// The task that does the thread's work in a simulated world.
    #[cfg(feature = "simulation")]
    task: Option<std::task::Waker>,
}

impl State {
    fn wake_task(&mut self) {
        #[cfg(feature = "simulation")]
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// What the thread does next.
enum Work {
    /// What is due.
    Sync,
    WriteOut,
    /// The log is gone.
    Stop,
}

/// What workers and the thread share.
pub(super) struct GroupCommit {
    policy: AtomicU8,
    /// Somebody waits for whatever is written to be durable, whatever the policy says.
    awaited: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    /// What is pending is for the thread to write.
    handed_over: AtomicBool,
    /// Enough was written for the disk to begin with.
    write_out: AtomicBool,
    /// Spares the workers the mutex while the thread has not taken up the last request.
    signalled: AtomicBool,
    /// Held during a sync and during a cut: a cut must not meet a sync of what it cuts.
    pub(super) exclusive: Mutex<()>,
    fsyncs: AtomicU64,
    last_fsync_us: AtomicU64,
    /// When the durable mark was written, of the monotonic clock.
    pub(super) marked_at_us: AtomicU64,
}

impl GroupCommit {
    pub(super) fn new(policy: FsyncPolicy) -> Self {
        Self {
            policy: AtomicU8::new(policy as u8),
            awaited: AtomicBool::new(false),
            state: Mutex::default(),
            wake: Condvar::new(),
            handed_over: AtomicBool::new(false),
            write_out: AtomicBool::new(false),
            signalled: AtomicBool::new(false),
            exclusive: Mutex::new(()),
            fsyncs: AtomicU64::new(0),
            last_fsync_us: AtomicU64::new(0),
            marked_at_us: AtomicU64::new(0),
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

    /// Whether somebody waits for everything that is written to be durable.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// Something was written.
    pub(super) fn written(&self) {
        if self.policy() == FsyncPolicy::Always || self.awaited.load(Ordering::Acquire) {
            self.request();
        }
    }

    /// The thread is to write what is pending, and to make it durable.
    fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.request();
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
            let mut state = self.state.lock();
            state.requested = true;
            state.wake_task();
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.wake_task();
        drop(state);
        self.wake.notify_one();
    }

    /// fdatasyncs so far, and how long the last took in microseconds.
    pub(super) fn figures(&self) -> (u64, u64) {
        (self.fsyncs.load(Ordering::Relaxed), self.last_fsync_us.load(Ordering::Relaxed))
    }

    /// The disk is to begin writing; nothing waits for it.
    fn request_write_out(&self) {
        if !self.write_out.swap(true, Ordering::AcqRel) {
            // Whoever looked at the flag before it was set waits by now, or has not looked at it yet.
            drop(self.state.lock());
            self.wake.notify_one();
        }
    }

    /// Sleeps until there is something to do, for a sync at most up to `due_us` of the monotonic clock.
    fn wait(&self, due_us: Option<u64>) -> Work {
        let mut state = self.state.lock();
        loop {
            let now_us = clock::monotonic_us();
            if state.requested || state.stopped || due_us.is_some_and(|due_us| due_us <= now_us) {
                return if self.take_up(&mut state) { Work::Sync } else { Work::Stop };
            }
            if self.write_out.swap(false, Ordering::AcqRel) {
                return Work::WriteOut;
            }
            match due_us {
                Some(due_us) => {
                    self.wake.wait_for(&mut state, Duration::from_micros(due_us - now_us));
                }
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// What was requested is being done now; `false` when the log is gone.
    fn take_up(&self, state: &mut State) -> bool {
        state.requested = false;
        // Not a mere store: whoever found it set and went away has its request, or what it handed over, seen from here on.
        self.signalled.swap(false, Ordering::AcqRel);
        !state.stopped
    }
}

/// Starts the thread of a log, or in a simulated world the task; it ends when the log is dropped.
pub(super) fn start(log: &Arc<Log>) -> io::Result<Option<JoinHandle<()>>> {
    let (commit, log) = (log.commit.clone(), Arc::downgrade(log));
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        world.spawn("log-sync", Box::pin(simulated::run(commit, log)));
        return Ok(None);
    }
    threads::spawn("log-sync", move || run(&commit, &log)).map(Some)
}

fn run(commit: &GroupCommit, log: &Weak<Log>) {
    let due_us_in = |period: Option<Duration>| Some(clock::monotonic_us() + period?.as_micros() as u64);
    let mut due_us = due_us_in(Some(PERIOD));
    loop {
        let work = commit.wait(due_us);
        let Some(log) = log.upgrade() else { return };
        match work {
            Work::Stop => return,
            Work::WriteOut => log.begin_write_out(),
            Work::Sync => due_us = due_us_in(turn(&log, || log.sync_up_to(Lsn(u64::MAX)))),
        }
    }
}

/// Does what is due, once; returns how long to wait for more.
fn turn(log: &Log, sync: impl FnOnce() -> Result<Lsn, AppendError>) -> Option<Duration> {
    let period = match log.health() {
        LogHealth::Poisoned(_) => None,
        LogHealth::NoSpace => {
            // Whether there is space again only a write can tell. Its own error is reported where it is latched.
            if log.try_to_heal() { Some(Duration::ZERO) } else { Some(NO_SPACE_PERIOD) }
        }
        LogHealth::Good => {
            log.write_what_was_handed_over();
            let is_due = log.positions.durable_lsn() < log.positions.written_lsn();
            let is_mark_due = || log.until_mark().is_some_and(|until| until.is_zero());
            let has_failed = is_due && sync().is_err() || is_mark_due() && log.catch_up_with_mark().is_err();
            if has_failed { None } else { log.until_mark() }
        }
    };
    if log.health() == LogHealth::NoSpace {
        return Some(NO_SPACE_PERIOD);
    }
    // A log that is idle under `always` and `no` still looks now and then whether its disk is full.
    period.or(Some(PERIOD))
}

/// The thread's work as a task of a simulated node.
#[cfg(feature = "simulation")]
mod simulated {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::{Arc, Duration, GroupCommit, Log, LogHealth, Lsn, PERIOD, Weak, simulation, turn};

    pub(super) async fn run(commit: Arc<GroupCommit>, log: Weak<Log>) {
        let mut period = Some(PERIOD);
        while woken(&commit, period).await {
            // What is written while the disk works on the sync is not part of it.
            let Some((target, cuts, delay)) = log.upgrade().map(|log| begin(&log)) else { return };
            if !delay.is_zero()
                && let Some(world) = simulation::world()
            {
                world.sleep(delay).await;
            }
            let Some(log) = log.upgrade() else { return };
            if log.health() == LogHealth::Good && cuts != log.positions.cuts() {
                // Cut meanwhile: what was to be synced may be no more.
                period = Some(Duration::ZERO);
                continue;
            }
            period = turn(&log, || log.sync_up_to(target));
        }
    }

    /// Up to where a sync that begins now reaches, which history of the log that is, and how long it takes.
    fn begin(log: &Log) -> (Lsn, u64, Duration) {
        log.write_what_was_handed_over();
        let positions = &log.positions;
        let target = positions.written_lsn();
        let delay = if positions.durable_lsn() < target { log.sync_delay() } else { Duration::ZERO };
        (target, positions.cuts(), delay)
    }

    /// Waits until there may be something to sync; `false` when the log is gone.
    async fn woken(commit: &GroupCommit, period: Option<Duration>) -> bool {
        let mut timer = period.and_then(|period| Some(simulation::world()?.sleep(period)));
        poll_fn(|context| {
            let mut state = commit.state.lock();
            let is_over = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
            if is_over || state.requested || state.stopped {
                return Poll::Ready(commit.take_up(&mut state));
            }
            state.task = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Log {
    /// Sees to it that everything appended up to `lsn` is written, and synced as often as the policy says. Under `always`, unless
    /// replicas wait for the log, that is left to the log's thread: whoever calls waits for no disk then.
    ///
    /// # Errors
    /// As [`Log::write_up_to`], as far as it is known now.
    pub fn submit(&self, lsn: Lsn) -> Result<(), AppendError> {
        if self.commit.policy() != FsyncPolicy::Always || self.positions.is_shipped() {
            return self.write_up_to(lsn);
        }
        if let LogHealth::Poisoned(reason) = self.health() {
            return Err(AppendError::Poisoned(reason));
        }
        if self.positions.written_lsn() < lsn {
            self.commit.hand_over();
        }
        Ok(())
    }

    fn write_what_was_handed_over(&self) {
        if self.commit.handed_over.swap(false, Ordering::AcqRel)
            && let Err(error) = self.write_up_to(self.end().lsn)
        {
            // Latched, and logged where it was; what waits for it is told or tried again as after any failed write.
            tracing::debug!(%error, "what was appended could not be written");
        }
    }

    /// Makes everything written durable; returns the LSN up to which it is.
    ///
    /// # Errors
    /// When the disk fails: the log takes nothing more then.
    pub fn sync(&self) -> Result<Lsn, AppendError> {
        let durable = self.sync_up_to(Lsn(u64::MAX))?;
        self.catch_up_with_mark()?;
        Ok(durable)
    }

    /// As [`Self::sync`], but that the mark may follow a little later; what lies above `limit` may be durable then, but counts as such
    /// only after the next sync.
    pub(super) fn sync_up_to(&self, limit: Lsn) -> Result<Lsn, AppendError> {
        let _exclusive = self.commit.exclusive.lock();
        if let LogHealth::Poisoned(reason) = self.health() {
            return Err(AppendError::Poisoned(reason));
        }
        let (target, active, files) = {
            let mut writer = self.writer.lock();
            self.write_ahead(&mut writer)?;
            let files = std::mem::take(&mut writer.unsynced);
            (writer.active.end_lsn.min(limit), writer.active.file.clone(), files)
        };
        let started_us = clock::monotonic_us();
        for file in files.iter().chain([&active]) {
            // Never tried again: the kernel may have dropped what it could not write, and would say that all is well.
            if !sabotage::is_on(Switch::FsyncSkipped) {
                file.sync_data().map_err(|error| self.failed_for_good("fsync of the log", &error))?;
            }
        }
        self.settle_synced(&active)?;
        self.commit.last_fsync_us.store(clock::monotonic_us() - started_us, Ordering::Relaxed);
        self.commit.fsyncs.fetch_add(1, Ordering::Relaxed);
        if self.until_next_mark().is_zero() {
            self.mark(target)?;
        }
        self.positions.set_durable(target);
        self.prepare_next();
        Ok(target)
    }

    /// Under `always` a sync is waited for, and one into space that was never written takes a third longer (measured on ext4: 260 to
    /// 306 µs instead of 200): the file system has to make durable that the space is in use. So zeros go ahead of the records,
    /// many at once, where no recycled segment has old ones.
    fn write_ahead(&self, writer: &mut Writer) -> Result<(), AppendError> {
        const BYTES_AHEAD: u64 = 256 << 10;
        if self.commit.policy() != FsyncPolicy::Always {
            return Ok(());
        }
        match writer.active.write_ahead(BYTES_AHEAD) {
            Ok(()) => Ok(()),
            // Where nothing can be reserved space may run out here first; the records' own write will tell.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(self.failed_for_good("writing ahead in the log", &error)),
        }
    }

    /// Tells the log's thread when there is enough for the disk to begin with.
    pub(super) fn ask_for_write_out(&self, writer: &Writer) {
        let active = &writer.active;
        if self.commit.policy() == FsyncPolicy::EverySecond
            && threads::are_real()
            && active.end_offset() - active.writing_out >= WRITE_OUT_BYTES
        {
            self.commit.request_write_out();
        }
    }

    /// Has the disk begin to write what stands in the active segment; the sync finds it done then.
    fn begin_write_out(&self) {
        let (file, mut range) = {
            let mut writer = self.writer.lock();
            (writer.active.file.clone(), writer.active.take_for_write_out())
        };
        while !range.is_empty() {
            let length = WRITE_OUT_BYTES.min(range.end - range.start);
            if let Err(error) = file.begin_write_out(range.start, length) {
                // As with a sync; latched, and logged where it was.
                let _known_to_all = self.failed_for_good("beginning to write the log to disk", &error);
                return;
            }
            range.start += length;
            if !range.is_empty() {
                self.rest();
            }
        }
    }

    /// How long the simulated disk takes for a sync.
    #[cfg(feature = "simulation")]
    fn sync_delay(&self) -> Duration {
        simulation::disk::of(&self.directory).map_or(Duration::ZERO, |disk| disk.sync_delay(&self.directory))
    }

    /// Asks for everything written to be made durable soon, whatever the policy.
    pub fn request_sync(&self) {
        self.commit.request();
    }
}
