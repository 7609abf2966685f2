//! LATENCY: events that took longer than `latency-monitor-threshold`, a bounded history of each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::platform;

/// Samples kept of an event (Redis: LATENCY_TS_LEN).
const SAMPLES_MAX: usize = 160;

#[derive(Default)]
struct Samples {
    /// `(wall clock in seconds, ms)`, oldest first.
    newest: VecDeque<(u64, u64)>,
    max_ms: u64,
}

/// An event's latest sample.
#[derive(Debug)]
pub struct Latest {
    /// Name of the event.
    pub name: &'static str,
    /// When, wall clock, seconds.
    pub at_seconds: u64,
    /// How long the latest took.
    pub last_ms: u64,
    /// How long the longest took.
    pub max_ms: u64,
}

/// The latency monitor of a node.
#[derive(Default)]
pub struct Latency {
    threshold_ms: AtomicU64,
    events: Mutex<BTreeMap<&'static str, Samples>>,
}

impl Latency {
    /// `latency-monitor-threshold`, milliseconds; 0: off.
    pub fn configure(&self, threshold_ms: u64) {
        self.threshold_ms.store(threshold_ms, Ordering::Relaxed);
    }

    /// An event took this long.
    pub fn consider(&self, name: &'static str, took_ms: u64) {
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        if threshold_ms == 0 || took_ms < threshold_ms {
            return;
        }
        let now_seconds = platform::wall_clock_ms() / 1000;
        let mut events = self.events.lock();
        let samples = events.entry(name).or_default();
        samples.max_ms = samples.max_ms.max(took_ms);
        match samples.newest.back_mut() {
            // One sample a second, the longest, as Redis keeps them.
            Some((second, ms)) if *second == now_seconds => *ms = took_ms.max(*ms),
            _ => samples.newest.push_back((now_seconds, took_ms)),
        }
        if samples.newest.len() > SAMPLES_MAX {
            samples.newest.pop_front();
        }
    }

    /// LATENCY LATEST
    pub fn latest(&self) -> Vec<Latest> {
        let events = self.events.lock();
        let latest = |(&name, samples): (&&'static str, &Samples)| {
            let &(at_seconds, last_ms) = samples.newest.back()?;
            Some(Latest { name, at_seconds, last_ms, max_ms: samples.max_ms })
        };
        events.iter().filter_map(latest).collect()
    }

    /// LATENCY HISTORY: `(wall clock in seconds, ms)`, oldest first.
    pub fn history(&self, name: &str) -> Vec<(u64, u64)> {
        self.events
            .lock()
            .get(name)
            .map(|samples| samples.newest.iter().copied().collect())
            .unwrap_or_default()
    }

    /// LATENCY RESET: all events, or the named ones; returns how many were known.
    pub fn reset(&self, names: &[String]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| !names.is_empty() && !names.iter().any(|wanted| wanted == name));
        before - events.len()
    }

    /// LATENCY DOCTOR
    pub fn doctor(&self) -> String {
        if self.threshold_ms.load(Ordering::Relaxed) == 0 {
            return "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
                    \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it."
                .to_owned();
        }
        let latest = self.latest();
        if latest.is_empty() {
            return "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest \
                    bit. I honestly think you ought to sit down calmly, take a stress pill, and think things over."
                .to_owned();
        }
        let line = |event: &Latest| {
            format!("{}: latest {} ms, longest {} ms", event.name, event.last_ms, event.max_ms)
        };
        latest.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_the_threshold_is_kept() {
        let latency = Latency::default();
        latency.consider("command", 1000);
        assert!(latency.latest().is_empty(), "off by default");
        latency.configure(100);
        latency.consider("command", 99);
        assert!(latency.latest().is_empty());
        latency.consider("command", 150);
        latency.consider("command", 120);
        assert_eq!(latency.latest()[0].max_ms, 150);
        assert_eq!(latency.reset(&["fork".into()]), 0);
        assert_eq!(latency.reset(&[]), 1);
    }
}
