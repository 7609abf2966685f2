//! What clients did and saw, written down and judged. Nothing here knows a socket or a clock: times are ticks that the caller
//! counts, real or virtual, so that the simulation and the suites of real processes use the same judges.
//!
//! A client that reads and writes registers (GET, SET, INCR, APPEND, DEL, compare-and-set) records each operation with
//! [`Recorder`]; [`check`] then looks for an order of them that one register could have gone through, key by key. Sets to
//! which each writer adds elements of its own are judged by [`Ledger`], which needs no search and counts what is lost.
//! Modules in layer order, lowest first.

/// One operation: who, what, when, how it ended.
mod operation;
/// What a register does.
mod register;
/// Writing operations down while they happen.
mod recorder;
/// The search for an order that explains a history.
mod linearizability;
/// A history that no order explains, cut down to what contradicts itself and drawn.
mod conflict;
/// Every key of a history.
mod verdict;
/// Acknowledged elements of sets: present at the end, seen by every later read.
mod ledger;
/// Who served a shard, and when: one master at a time.
mod one_master;

pub use conflict::{Conflict, Kind};
pub use ledger::{Findings, Ledger};
pub use one_master::{Period, Periods, Served};
pub use operation::{Answer, Call, History, Operation, Outcome, Tick, Value, value};
pub use recorder::{Recorder, Token};
pub use verdict::{Failure, Verdict, WORK_MAX, check, check_within};

#[cfg(test)]
mod tests;
