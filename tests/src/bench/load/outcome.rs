//! What came out of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Length of a [`Moment`].
pub const MOMENT: Duration = Duration::from_millis(100);
/// Latencies longer than this are counted as this.
const LONGEST_NS: u64 = 120_000_000_000;

/// What was answered within a tenth of a second.
#[derive(Clone, Copy, Default, Debug)]
pub struct Moment {
    /// Requests.
    pub answered: u64,
    /// The longest of their latencies.
    pub longest_ns: u64,
}

/// What came out of a run.
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// CPU time of the generator's thread: when that is all the time there was, its rate is the generator's, not the server's.
    pub busy: Duration,
    /// Latencies in nanoseconds, by kind of request.
    pub kinds: Vec<Histogram<u64>>,
    /// The course of time.
    pub moments: Vec<Moment>,
}

impl Outcome {
    /// Nothing yet.
    pub fn new(kinds: usize) -> Self {
        let histogram =
            || Histogram::new_with_bounds(100, LONGEST_NS, 3).expect("these are bounds of a histogram");
        Self {
            elapsed: Duration::ZERO,
            busy: Duration::ZERO,
            kinds: (0..kinds).map(|_| histogram()).collect(),
            moments: Vec::new(),
        }
    }

    /// Notes an answer.
    pub fn note(&mut self, kind: usize, since_start_ns: u64, latency_ns: u64) {
        self.kinds[kind].saturating_record(latency_ns.max(1));
        let index = (since_start_ns / MOMENT.as_nanos() as u64) as usize;
        if self.moments.len() <= index {
            self.moments.resize(index + 1, Moment::default());
        }
        let moment = &mut self.moments[index];
        moment.answered += 1;
        moment.longest_ns = moment.longest_ns.max(latency_ns);
    }

    /// Answers of this kind per second.
    pub fn rate(&self, kind: usize) -> f64 {
        self.kinds[kind].len() as f64 / self.elapsed.as_secs_f64()
    }

    /// All answers.
    pub fn answered(&self) -> u64 {
        self.kinds.iter().map(Histogram::len).sum()
    }

    /// All answers per second.
    pub fn rate_of_all(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64()
    }

    /// The share of the time that the generator itself computed.
    pub fn busy_share(&self) -> f64 {
        self.busy.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the requests of a kind did not exceed, in microseconds.
    pub fn latency_us(&self, kind: usize, quantile: f64) -> f64 {
        self.kinds[kind].value_at_quantile(quantile) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_kind_and_by_time() {
        let mut outcome = Outcome::new(2);
        outcome.note(0, 5, 1000);
        outcome.note(0, 10, 3000);
        outcome.note(1, 150_000_000, 2_000_000);
        outcome.elapsed = Duration::from_millis(500);
        assert_eq!((outcome.rate(0), outcome.rate(1), outcome.rate_of_all()), (4.0, 2.0, 6.0));
        assert!((2990.0..3010.0).contains(&(outcome.latency_us(0, 1.0) * 1e3)));
        let longest: Vec<u64> = outcome.moments.iter().map(|moment| moment.longest_ns).collect();
        assert_eq!(longest, [3000, 2_000_000]);
    }
}
