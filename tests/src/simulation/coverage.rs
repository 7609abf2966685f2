//! What runs were like: how often each fault occurred, and how often the nodes met what they are there for. A fault that never
//! happens, or happens without effect, proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Everything that can go wrong; [`super::faults::Fault::name`] gives one of them.
pub const FAULTS: [&str; 19] = [
    "kill",
    "kill-shard",
    "kill-all",
    "power-cut",
    "pause",
    "isolate",
    "isolate-from-nodes",
    "one-way",
    "stall",
    "flicker",
    "slow-links",
    "slow-sync",
    "sync-error",
    "disk-full",
    "clock-jump",
    "hand-over",
    "take-over",
    "move-replica",
    "remove-replica",
];

/// What the nodes say when they meet it, and its name in a report.
const EFFECTS: [(&str, &str); 20] = [
    ("suspicions", "does not answer (PFAIL)"),
    ("failures", "a majority of voters has lost it (FAIL)"),
    ("elections", " begins at epoch "),
    ("masters-changed", ", no longer by "),
    ("minorities", "Cluster state changed: fail (Minority)"),
    ("leases-over", "Cluster state changed: fail (NoLease)"),
    ("writes-held", "Holding writes: handing shard "),
    ("left-disabled", "This node cannot write its log: handing"),
    ("replicas-dropped", "it is to leave the in-sync set"),
    ("replicas-readmitted", "it is to join the in-sync set"),
    ("partial-catch-ups", "a replica follows: partial catch-up"),
    ("full-copies", "a replica needs a full copy"),
    ("tails-set-aside", "its tail was set aside"),
    ("doubtful-logs", "log may have lost its end"),
    ("logs-complete-again", "this node's log is complete again"),
    ("torn-tails", " torn=Some("),
    ("full-disks", "the disk is full; writes are refused"),
    ("failed-logs", "the log has failed for good"),
    ("checkpoints", "checkpoint complete"),
    ("voters-changed", "The metadata group's voters are now"),
];

/// What the simulation itself counts, besides faults and effects.
pub const CHECKS: [&str; 6] = [
    "digests-compared",
    "full-replays",
    "starts-from-images",
    "masters-periods",
    "sectors-lost",
    "sectors-torn",
];

/// Counts by name.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// It happened, so often.
    pub fn add(&mut self, name: &str, times: u64) {
        *self.0.entry(name.to_owned()).or_default() += times;
    }

    /// How often it happened.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What another run was like.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, times)| self.add(name, *times));
    }

    /// Counts the effects in a trace.
    pub fn count_effects(&mut self, trace: &str) {
        for line in trace.lines() {
            for (name, text) in EFFECTS {
                self.add(name, u64::from(line.contains(text)));
            }
            let is_start = line.contains(" image_keys=") && !line.contains(" image_keys=0 ");
            self.add("starts-from-images", u64::from(is_start));
        }
    }

    /// Everything that should happen sooner or later, and has not.
    pub fn missing(&self) -> Vec<&'static str> {
        let effects = EFFECTS.into_iter().map(|(name, _)| name);
        let all = FAULTS.into_iter().chain(effects).chain(CHECKS);
        all.filter(|name| self.count(name) == 0).collect()
    }

    /// Back from its one line.
    pub fn parse(line: &str) -> Self {
        let pair = |word: &str| {
            let (name, times) = word.split_once('=')?;
            Some((name.to_owned(), times.parse().ok()?))
        };
        Self(line.split(' ').filter_map(pair).collect())
    }

    /// Readable, several to a line.
    pub fn table(&self) -> String {
        let effects: Vec<&str> = EFFECTS.iter().map(|(name, _)| *name).collect();
        let mut text = String::new();
        for (title, names) in [("faults", &FAULTS[..]), ("effects", &effects), ("checks", &CHECKS)] {
            text.push_str(&format!("{title}:\n"));
            for names in names.chunks(4) {
                let cells = names.iter().map(|name| format!("  {name:<20} {:>7}", self.count(name)));
                text.push_str(&cells.collect::<String>());
                text.push('\n');
            }
        }
        text
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(name, times)| format!("{name}={times}")).collect();
        f.write_str(&words.join(" "))
    }
}
