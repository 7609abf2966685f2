//! Writers that go on while nodes fail, and know what was acknowledged to them. Each key is a set that belongs to one writer,
//! who adds ascending numbers and repeats a number until it is acknowledged: afterwards each set must hold all its acknowledged
//! numbers, so that no later write hides the loss of an earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::client::Reply;
use crate::router::Router;

const KEYS_PER_WRITER: u64 = 60;

/// What a load has written.
#[derive(Default, Debug)]
pub struct Written {
    /// Key → the numbers acknowledged.
    pub acknowledged: BTreeMap<String, Vec<u64>>,
    /// Number of acknowledged writes.
    pub count: u64,
    /// Error replies other than redirections, each once, with how often.
    pub errors: BTreeMap<String, u64>,
    /// How often a connection failed.
    pub failures: u64,
    /// How they failed, each once, with how often and when first, by the clock of the wall.
    pub failure_texts: BTreeMap<String, (u64, String)>,
    /// The most redirections that one write needed.
    pub longest_chain: usize,
    /// The longest time between two acknowledgements to one writer.
    pub longest_gap: Duration,
}

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Written>>,
}

impl Load {
    /// Starts writers on keys that begin with `prefix`.
    pub fn start(ports: &[u16], writers: usize, prefix: &str) -> Self {
        Self::start_with(|| Router::new(ports), writers, prefix)
    }

    /// The same, with clients made by `router`.
    pub fn start_with(router: impl Fn() -> Router, writers: usize, prefix: &str) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers = (0..writers).map(|writer| {
            let (stop, acknowledged, prefix) =
                (stop.clone(), acknowledged.clone(), format!("{prefix}:{writer}"));
            let router = router();
            std::thread::spawn(move || write(router, &prefix, &stop, &acknowledged))
        });
        let writers = writers.collect();
        Self { stop, acknowledged, writers }
    }

    /// Waits until this many more writes are acknowledged.
    ///
    /// # Panics
    /// When that takes two minutes.
    pub fn wait_for_more(&self, count: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "no {count} writes were acknowledged within two minutes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the load.
    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.writers {
            let one = writer.join().expect("a writer does not panic");
            all.acknowledged.extend(one.acknowledged);
            all.count += one.count;
            all.failures += one.failures;
            all.longest_chain = all.longest_chain.max(one.longest_chain);
            all.longest_gap = all.longest_gap.max(one.longest_gap);
            for (text, (count, first)) in one.failure_texts {
                all.failure_texts.entry(text).or_insert((0, first)).0 += count;
            }
            one.errors.into_iter().for_each(|(text, count)| *all.errors.entry(text).or_default() += count);
        }
        all
    }
}

fn write(mut router: Router, prefix: &str, stop: &AtomicBool, acknowledged: &AtomicU64) -> Written {
    let mut written = Written::default();
    let mut last = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{prefix}:{}", number % KEYS_PER_WRITER);
        match router.call(&["SADD", &key, &number.to_string()]) {
            Ok(Reply::Integer(_)) => {
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                written.acknowledged.entry(key).or_default().push(number);
                written.count += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            Ok(reply) => {
                *written.errors.entry(reply.to_string()).or_default() += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                written.failures += 1;
                let first = || (0, wall_clock());
                written.failure_texts.entry(error.to_string()).or_insert_with(first).0 += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    written.longest_chain = router.longest_chain;
    written
}

/// Hours, minutes, seconds and milliseconds, to be found in the nodes' logs.
fn wall_clock() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, ms) = (since.as_secs(), since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

impl Written {
    /// What was acknowledged and is not there: keys, and how many numbers they lack.
    pub fn lost(&self, ports: &[u16]) -> Vec<String> {
        self.lost_to(Router::new(ports))
    }

    /// The same, as this client sees it.
    pub fn lost_to(&self, mut router: Router) -> Vec<String> {
        let mut lost = Vec::new();
        for (key, numbers) in &self.acknowledged {
            let found = router.call(&["SMEMBERS", key]).expect("the cluster answers").array();
            let found: BTreeSet<u64> =
                found.iter().map(|member| member.text().parse().expect("a number")).collect();
            let missing: Vec<&u64> = numbers.iter().filter(|number| !found.contains(number)).collect();
            if let Some(first) = missing.first() {
                let (count, total) = (missing.len(), numbers.len());
                lost.push(format!("{key}: {count} of {total} acknowledged numbers, the first is {first}"));
            }
        }
        lost
    }
}
