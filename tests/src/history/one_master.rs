//! Masters' periods: a shard is served by one node at a time, and epochs say in which order. What each master served, and when it
//! executed it, is told; of that only what was acknowledged to a client counts. A reply may be late (its node may have stood still
//! before it was sent), so the moment that counts is when the command was executed.

use std::collections::BTreeMap;
use std::fmt;

use super::operation::Tick;

/// One command that a master executed and acknowledged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Served {
    /// The shard, or the slot.
    pub shard: String,
    /// The epoch under which it was executed.
    pub epoch: u64,
    /// Who executed it.
    pub node: usize,
    /// When.
    pub at: Tick,
}

/// From the first to the last command that a node served under one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// The epoch.
    pub epoch: u64,
    /// The node.
    pub node: usize,
    /// The first command.
    pub first: Tick,
    /// The last one.
    pub last: Tick,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, node, first, last } = self;
        write!(f, "n{node} in epoch {epoch} from {first} to {last}")
    }
}

/// The periods of each shard, by epoch.
#[derive(Clone, Default, Debug)]
pub struct Periods(BTreeMap<String, Vec<Period>>);

impl Periods {
    /// Of all that was served, in any order.
    pub fn of(served: impl IntoIterator<Item = Served>) -> Self {
        let mut periods: BTreeMap<String, BTreeMap<(u64, usize), Period>> = BTreeMap::new();
        for Served { shard, epoch, node, at } in served {
            let new = Period { epoch, node, first: at, last: at };
            let period = periods.entry(shard).or_default().entry((epoch, node)).or_insert(new);
            period.first = period.first.min(at);
            period.last = period.last.max(at);
        }
        Self(periods.into_iter().map(|(shard, of)| (shard, of.into_values().collect())).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Two masters of one epoch; and whoever served before an older epoch was over. Two commands of one tick may have been executed
    /// one after the other.
    pub fn conflicts(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (shard, periods) in &self.0 {
            for (index, newer) in periods.iter().enumerate() {
                for older in &periods[..index] {
                    if older.epoch == newer.epoch {
                        found.push(format!("shard {shard}: two masters of one epoch: {older}, {newer}"));
                    } else if older.last > newer.first {
                        found.push(format!("shard {shard}: {older}, and meanwhile {newer}"));
                    }
                }
            }
        }
        found
    }
}
