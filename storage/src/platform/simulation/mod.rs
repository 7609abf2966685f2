//! The world of a deterministic simulation: the clock, dice, tasks and disks of simulated machines take the place of the real
//! ones for whatever runs on this thread. Compiled with the feature `simulation` only, which no production binary has; and
//! without an installed world everything is real even then.
//!
//! ```text
//! install(world) ── this thread's clock, dice, tasks ── World, written by the simulator (tests/)
//!                └─ files below /simulated/<machine>/ ── disk.rs: memory, faults, power cuts
//! ```

/// A file's bytes, synced and not.
mod contents;
/// The disks of simulated machines.
pub mod disk;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use holdfast_words::Lsn;

use super::witness::Executed;

/// A task of a simulated node, or a wait.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What the simulator provides. It answers for whichever node is running on the thread at the moment of the call.
pub trait World {
    /// Microseconds since some moment before the node's start, by the node's own clock; never goes back.
    fn monotonic_us(&self) -> u64;

    /// Microseconds since 1970 by the node's wall clock.
    fn wall_clock_us(&self) -> u64;

    /// Fills `bytes` with the simulation's dice.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Starts a task of the running node, on this thread; it is dropped with the node.
    fn spawn(&self, name: &str, task: Task);

    /// Is done when this much time of the simulation has passed.
    fn sleep(&self, time: Duration) -> Task;

    /// A command was executed; its reply is not on its way yet.
    fn executed(&self, what: Executed) {
        let _ = what;
    }

    /// The client's replies that wait for no more than `reached` are on their way.
    fn released(&self, client: u64, reached: Lsn) {
        let _ = (client, reached);
    }

    /// Something happened that a reader of the trace wants to know.
    fn note(&self, what: fmt::Arguments<'_>) {
        let _ = what;
    }
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// Ends the simulation on this thread when it is dropped: its disks are gone, everything is real again.
#[derive(Debug)]
#[must_use = "the world goes when this is dropped"]
pub struct Installed(std::marker::PhantomData<Rc<()>>);

/// From now on this thread lives in `world`.
///
/// # Panics
/// When it lives in one already.
pub fn install(world: Rc<dyn World>) -> Installed {
    let before = WORLD.with(|place| place.borrow_mut().replace(world));
    assert!(before.is_none(), "this thread lives in a simulated world already");
    Installed(std::marker::PhantomData)
}

impl Drop for Installed {
    fn drop(&mut self) {
        let world = WORLD.with(|place| place.borrow_mut().take());
        drop(world);
        disk::forget_all();
        super::sabotage::clear();
    }
}

/// The world of this thread, if it lives in a simulated one.
pub fn world() -> Option<Rc<dyn World>> {
    // A thread that ends, or one that drops its world, has none any more.
    WORLD.try_with(|place| place.try_borrow().ok()?.clone()).ok().flatten()
}
