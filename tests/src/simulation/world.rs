//! Clock, dice and tasks of the simulated nodes. Each node's clocks run at a rate of their own within the bound that leases
//! assume, and its wall clock is off by seconds.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use holdfast_storage::platform::simulation::{Task, World};
use holdfast_storage::platform::witness::Executed;
use holdfast_words::Lsn;

use super::trace::Trace;
use crate::history::Served;

/// 2026-01-01, µs since 1970.
const EPOCH_US: u64 = 1_767_225_600_000_000;
/// The most that a clock's rate is off, parts per million: between two clocks it is a little less than the eighth that leases assume.
const DRIFT_PPM_MAX: i64 = 55_000;

thread_local! {
    static RUNNING: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The node whose code is running on this thread.
pub fn running() -> Option<usize> {
    RUNNING.try_with(Cell::get).ok().flatten()
}

/// Until it is dropped, what runs on this thread is this node.
pub struct Running(Option<usize>);

impl Running {
    /// From now on.
    pub fn node(index: usize) -> Self {
        Self(RUNNING.replace(Some(index)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

/// A node's clocks.
#[derive(Clone, Copy, Default, Debug)]
struct Clock {
    drift_ppm: i64,
    wall_offset_us: i64,
}

/// What was executed for a client and not yet released, and when it was.
type Held = VecDeque<(Executed, u64)>;

/// What the nodes take for the world.
pub struct SimulatedWorld {
    trace: Rc<Trace>,
    dice: RefCell<fastrand::Rng>,
    clocks: RefCell<Vec<Clock>>,
    /// Of each client of each node.
    held: RefCell<BTreeMap<(usize, u64), Held>>,
    served: RefCell<Vec<Served>>,
}

impl SimulatedWorld {
    /// For so many nodes.
    pub fn new(seed: u64, nodes: usize, trace: Rc<Trace>) -> Rc<Self> {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut clock = || Clock {
            drift_ppm: dice.i64(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX),
            wall_offset_us: dice.i64(-5_000_000..=5_000_000),
        };
        let clocks = RefCell::new((0..nodes).map(|_| clock()).collect());
        let (held, served) = (RefCell::default(), RefCell::default());
        Rc::new(Self { trace, dice: RefCell::new(dice), clocks, held, served })
    }

    /// A node's wall clock jumps.
    pub fn jump(&self, node: usize, by_us: i64) {
        self.clocks.borrow_mut()[node].wall_offset_us += by_us;
    }

    /// A node is gone, and with it what it had not sent.
    pub fn forget_held(&self, node: usize) {
        self.held.borrow_mut().retain(|(of, _), _| *of != node);
    }

    /// What masters executed and acknowledged; times in microseconds.
    pub fn served(&self) -> Vec<Served> {
        self.served.borrow().clone()
    }

    /// Microseconds since the simulation began, by nobody's clock.
    pub fn now_us(&self) -> u64 {
        // Within a runtime time goes on between two steps; outside it stands at the step.
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(elapsed) = turmoil::sim_elapsed()
        {
            self.trace.set_now_us(elapsed.as_micros() as u64);
        }
        self.trace.now_us()
    }

    fn clock(&self) -> Clock {
        running().map_or(Clock::default(), |node| self.clocks.borrow()[node])
    }
}

impl World for SimulatedWorld {
    fn monotonic_us(&self) -> u64 {
        let now = self.now_us() as i64;
        (now + now / 1000 * self.clock().drift_ppm / 1000) as u64 + 1_000_000
    }

    fn wall_clock_us(&self) -> u64 {
        let own = self.monotonic_us() as i64 + self.clock().wall_offset_us;
        EPOCH_US.saturating_add_signed(own)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.dice.borrow_mut().fill(bytes);
    }

    fn spawn(&self, _name: &str, task: Task) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(async move { tokio::time::sleep(time).await })
    }

    fn executed(&self, what: Executed) {
        let Some(node) = running() else { return };
        let mut held = self.held.borrow_mut();
        held.entry((node, what.client)).or_default().push_back((what, self.now_us()));
    }

    fn released(&self, client: u64, reached: Lsn) {
        let Some(node) = running() else { return };
        let mut held = self.held.borrow_mut();
        let Some(replies) = held.get_mut(&(node, client)) else { return };
        while let Some((what, at)) = replies.pop_front_if(|(what, _)| what.lsn <= reached) {
            if what.as_master {
                let (shard, epoch) = (what.shard.to_string(), what.epoch.0);
                self.served.borrow_mut().push(Served { shard, epoch, node, at });
            }
        }
    }

    fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(what);
    }
}
