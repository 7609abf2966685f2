//! The smallest simulated world: one machine, one node, a clock that moves only when somebody says so.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use holdfast_storage::platform::simulation::{Task, World};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The world of one seed.
pub struct SmallWorld {
    clock: Rc<Clock>,
    dice: RefCell<fastrand::Rng>,
    tasks: RefCell<Vec<(Arc<Woken>, Task)>>,
    trace: RefCell<Vec<String>>,
}

#[derive(Default)]
struct Clock {
    now_us: Cell<u64>,
    timers: RefCell<Vec<(u64, Waker)>>,
}

impl SmallWorld {
    pub fn of_seed(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            clock: Rc::default(),
            dice: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x5eed)),
            tasks: RefCell::default(),
            trace: RefCell::default(),
        })
    }

    /// Lets time pass, and tasks run when they are due.
    pub fn run_for(&self, time: Duration) {
        let end_us = self.clock.now_us.get() + time.as_micros() as u64;
        loop {
            self.run_ready();
            let next_us = self.clock.timers.borrow().iter().map(|(due_us, _)| *due_us).min();
            let now_us = next_us.unwrap_or(end_us).min(end_us).max(self.clock.now_us.get());
            if now_us == self.clock.now_us.get() && now_us == end_us {
                return;
            }
            self.clock.now_us.set(now_us);
            let due = |timer: &mut (u64, Waker)| timer.0 <= now_us;
            let woken: Vec<(u64, Waker)> = self.clock.timers.borrow_mut().extract_if(.., due).collect();
            woken.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    fn run_ready(&self) {
        loop {
            let ready = |(woken, _): &mut (Arc<Woken>, Task)| woken.0.swap(false, Ordering::Relaxed);
            let ready: Vec<(Arc<Woken>, Task)> = self.tasks.borrow_mut().extract_if(.., ready).collect();
            if ready.is_empty() {
                return;
            }
            for (woken, mut task) in ready {
                let waker = Waker::from(woken.clone());
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    self.tasks.borrow_mut().push((woken, task));
                }
            }
        }
    }

    /// The node ends: its tasks are dropped.
    pub fn drop_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.clock.timers.borrow_mut().clear();
    }

    /// What has happened.
    pub fn trace(&self) -> Vec<String> {
        self.trace.borrow().clone()
    }
}

impl World for SmallWorld {
    fn monotonic_us(&self) -> u64 {
        self.clock.now_us.get()
    }

    fn wall_clock_us(&self) -> u64 {
        1_700_000_000_000_000 + self.clock.now_us.get()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.dice.borrow_mut().fill(bytes);
    }

    fn spawn(&self, _: &str, task: Task) {
        self.tasks.borrow_mut().push((Arc::new(Woken(AtomicBool::new(true))), task));
    }

    fn sleep(&self, time: Duration) -> Task {
        let due_us = self.clock.now_us.get() + time.as_micros() as u64;
        let clock = self.clock.clone();
        Box::pin(poll_fn(move |context| {
            if clock.now_us.get() >= due_us {
                return Poll::Ready(());
            }
            clock.timers.borrow_mut().push((due_us, context.waker().clone()));
            Poll::Pending
        }))
    }

    fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.borrow_mut().push(format!("{:>9} {what}", self.clock.now_us.get()));
    }
}
