//! How fast a pass works beside the commands: a few hundred microseconds of work, then a rest in proportion, so that a core that also
//! serves is the pass's for a moment only, and seldom. Should the log grow faster than the pass gets on, it no longer rests: it
//! must always come to its end before the log it makes superfluous is as long again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::platform::{clock, threads};

/// Processor time between two rests. What a request waits for the pass is about that long, unless the system lets the pass go on.
const WORK_US: u64 = 200;
/// Rest per unit of work: a pass gets a quarter of a core.
const REST_PER_WORK: u64 = 3;
/// No longer rest than this at once, however long a piece of work took.
const REST_US_MAX: u64 = 20_000;

/// What a pass is paced by.
#[derive(Default, Debug)]
pub struct Pace {
    hurried: AtomicBool,
}

impl Pace {
    /// From now on no pass rests: somebody waits for it, and nobody is served.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
    }
}

/// The course of one pass: how far it is, and how far the log has grown meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Slots done, and slots to do.
    pub slots: (u64, u64),
    /// Bytes that the log has grown by since the pass began.
    pub log_growth: u64,
    /// Bytes that it may have grown by when the pass is through.
    pub log_growth_max: u64,
}

impl Course {
    /// Whether the log would grow past the bound before the pass is through, if both went on like this.
    fn is_behind(&self) -> bool {
        let (done, all) = self.slots;
        // The first slots say little.
        let done = done + all / 64 + 1;
        u128::from(self.log_growth) * u128::from(all) > u128::from(self.log_growth_max) * u128::from(done)
    }
}

/// Rests for one pass, on its thread.
pub(crate) struct Pacer<'p> {
    pace: &'p Pace,
    worked_from_us: u64,
}

impl<'p> Pacer<'p> {
    pub(crate) fn new(pace: &'p Pace) -> Self {
        Self { pace, worked_from_us: clock::thread_cpu_us() }
    }

    /// To be called often, with no lock held: rests when it is time to.
    pub(crate) fn worked(&mut self, course: impl FnOnce() -> Course) {
        if !threads::are_real() {
            return;
        }
        let worked_us = clock::thread_cpu_us().saturating_sub(self.worked_from_us);
        if worked_us < WORK_US {
            return;
        }
        if let Some(rest) = rest_after(worked_us, self.pace.is_hurried() || course().is_behind()) {
            threads::sleep(rest);
        }
        self.worked_from_us = clock::thread_cpu_us();
    }
}

fn rest_after(worked_us: u64, at_full_speed: bool) -> Option<Duration> {
    (!at_full_speed).then(|| Duration::from_micros((worked_us * REST_PER_WORK).min(REST_US_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn course(done: u64, log_growth: u64) -> Course {
        Course { slots: (done, 1000), log_growth, log_growth_max: 1 << 20 }
    }

    #[test]
    fn a_pass_that_the_log_outgrows_does_not_rest() {
        assert!(!course(0, 0).is_behind());
        assert!(!course(500, 1 << 19).is_behind(), "half of the slots, half of the growth");
        assert!(course(400, 1 << 19).is_behind());
        assert!(course(1000, 2 << 20).is_behind());
        assert!(!course(1000, 1 << 20).is_behind());
        assert!(course(0, 1 << 20).is_behind(), "no slot done");
    }

    #[test]
    fn a_rest_is_three_times_the_work_and_bounded() {
        assert_eq!(rest_after(300, false), Some(Duration::from_micros(900)));
        assert_eq!(rest_after(1_000_000, false), Some(Duration::from_millis(20)));
        assert_eq!(rest_after(300, true), None);
    }

    #[test]
    fn a_paced_thread_works_a_quarter_of_the_time_and_a_hurried_one_all_of_it() {
        let share_of = |pace: &Pace| {
            let mut pacer = Pacer::new(pace);
            let (began_us, cpu_us) = (clock::monotonic_us(), clock::thread_cpu_us());
            while clock::thread_cpu_us() - cpu_us < 20_000 {
                pacer.worked(|| course(1000, 0));
            }
            (clock::thread_cpu_us() - cpu_us) as f64 / (clock::monotonic_us() - began_us) as f64
        };
        let pace = Pace::default();
        let paced = share_of(&pace);
        assert!(paced < 0.35, "{paced}");
        pace.hurry();
        let rests = rest_after(WORK_US, pace.is_hurried());
        assert_eq!(rests, None);
    }
}
