//! Every key of a history, judged by itself: registers are independent of each other, so a history is linearizable if that of
//! each key is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::conflict::Conflict;
use super::linearizability::{Unexplained, explain};
use super::operation::{History, Operation};

/// Steps that the search may take for one key: seconds.
pub const WORK_MAX: u64 = 2_000_000;

/// Why a key's history is not accepted.
#[derive(Clone, Debug)]
pub enum Failure {
    /// No order of the operations explains what clients saw.
    NotLinearizable(Box<Conflict>),
    /// The search was given up: nothing is known.
    TooMuchWork {
        /// The key.
        key: Arc<str>,
        /// How many operations it has.
        operations: usize,
        /// The steps that were not enough.
        work: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearizable(conflict) => conflict.fmt(f),
            Self::TooMuchWork { key, operations, work } => writeln!(
                f,
                "key {key:?}: {work} steps were not enough to judge {operations} operations; use more keys, fewer clients or a \
                 shorter run"
            ),
        }
    }
}

/// What a history is worth.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Number of operations.
    pub operations: usize,
    /// Number of keys.
    pub keys: usize,
    /// What is wrong, key by key.
    pub failures: Vec<Failure>,
}

impl Verdict {
    /// Whether all clients saw what one register per key would have shown them.
    pub fn is_linearizable(&self) -> bool {
        self.failures.is_empty()
    }

    /// The conflicts among the failures.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.failures.iter().filter_map(|failure| match failure {
            Failure::NotLinearizable(conflict) => Some(&**conflict),
            Failure::TooMuchWork { .. } => None,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operations, keys, bad) = (self.operations, self.keys, self.failures.len());
        writeln!(f, "{operations} operations on {keys} keys, {bad} keys not linearizable or not judged")?;
        self.failures.iter().try_for_each(|failure| failure.fmt(f))
    }
}

/// Judges a history of registers that hold nothing at first.
pub fn check(history: &History) -> Verdict {
    check_within(history, WORK_MAX)
}

/// As [`check`], within so many steps per key.
pub fn check_within(history: &History, work: u64) -> Verdict {
    let mut keys: BTreeMap<&Arc<str>, Vec<Operation>> = BTreeMap::new();
    for operation in &history.operations {
        keys.entry(&operation.key).or_default().push(operation.clone());
    }
    let failures = keys.iter().filter_map(|(key, operations)| {
        let mut seen = BTreeSet::new();
        match explain(operations, &[None], &mut work.clone(), &mut seen) {
            Ok(()) => None,
            Err(Unexplained::Contradiction { operation, states }) => {
                let conflict = Conflict::of(operations, operation, states, seen);
                Some(Failure::NotLinearizable(Box::new(conflict)))
            }
            Err(Unexplained::TooMuchWork) => {
                Some(Failure::TooMuchWork { key: (*key).clone(), operations: operations.len(), work })
            }
        }
    });
    let failures = failures.collect();
    Verdict { operations: history.operations.len(), keys: keys.len(), failures }
}
