//! A history that no order explains, cut down to what contradicts itself and drawn.

use std::collections::BTreeSet;
use std::fmt;

use super::linearizability::{Unexplained, explain};
use super::operation::{Answer, Call, Operation, Outcome, Shown, Tick};
use super::register::State;

/// Columns of the drawing.
const WIDTH: u64 = 48;
/// Work allowed to each attempt to leave something out.
const WORK_PER_CUT: u64 = 20_000;
/// Work allowed to all of them.
const WORK_OF_CUTS: u64 = 500_000;

/// What the operation shows that has no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A read of what nobody wrote.
    NeverWritten,
    /// A read of what only a write that surely failed can have written.
    FailedWriteSeen,
    /// A read of what had been written, but not at a time when this was there: it is stale, or a later write was lost.
    OldValue,
    /// A write whose answer or condition does not fit: an update was lost.
    LostUpdate,
}

/// Operations of one key that contradict each other.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// What is wrong, as far as one operation shows.
    pub kind: Kind,
    /// The operation that has no place.
    pub operation: Operation,
    /// What the register can have held when it ended.
    pub states: Vec<State>,
    /// The fewest operations found that contradict each other, by the time of their begin; the one above is among them.
    pub part: Vec<Operation>,
    /// Number of operations on the key.
    pub of: usize,
}

impl Conflict {
    /// Cuts a history down that ends in a contradiction at the end of `operations[at]`; `seen` are the states of all orders.
    pub(super) fn of(operations: &[Operation], at: usize, states: Vec<State>, seen: BTreeSet<State>) -> Self {
        let operation = operations[at].clone();
        let mut seen: Vec<State> = seen.into_iter().collect();
        seen.extend(operations.iter().filter_map(mentioned).map(Some));
        seen.push(None);
        let part = shortest_part(operations, &operation, &seen);
        Self { kind: kind_of(operations, &operation), operation, states, part, of: operations.len() }
    }
}

/// A value that the operation puts there or sees.
fn mentioned(operation: &Operation) -> Option<super::Value> {
    match (&operation.call, operation.answer()) {
        (Call::Set(new) | Call::CompareAndSet { new, .. }, _) => Some(new.clone()),
        (Call::Get, Some(Answer::Value(seen))) => seen.clone(),
        (Call::Incr(_), Some(Answer::Integer(number))) => Some(number.to_string().into()),
        _ => None,
    }
}

fn kind_of(operations: &[Operation], wrong: &Operation) -> Kind {
    let Some(Answer::Value(seen)) = wrong.answer() else { return Kind::LostUpdate };
    let writes = |operation: &&Operation| match (&operation.call, seen) {
        (Call::Get, _) => false,
        (Call::Set(new) | Call::CompareAndSet { new, .. }, Some(seen)) => new == seen,
        (Call::Incr(_), Some(seen)) => seen.parse::<i64>().is_ok(),
        (Call::Append(tail), Some(seen)) => seen.ends_with(&**tail),
        (Call::Del, None) => true,
        (_, None) | (Call::Del, Some(_)) => false,
    };
    let mut writers = operations.iter().filter(writes).peekable();
    match (seen, writers.peek().is_some()) {
        (Some(_), false) => Kind::NeverWritten,
        (Some(_), true) if writers.all(|writer| writer.outcome == Outcome::Failed) => Kind::FailedWriteSeen,
        _ => Kind::OldValue,
    }
}

/// Attempts to leave something out of a contradiction.
struct Scissors {
    work: u64,
}

impl Scissors {
    /// Whether the operations are found to contradict each other, whichever of these states the register held before them.
    fn contradict(&mut self, operations: &[Operation], initial: &[State]) -> bool {
        let allowed = self.work.min(WORK_PER_CUT);
        let mut left = allowed;
        let result = explain(operations, initial, &mut left, &mut BTreeSet::new());
        self.work -= allowed - left;
        matches!(result, Err(Unexplained::Contradiction { .. }))
    }
}

/// The last operations that contradict each other whatever was before, without those that make no difference.
fn shortest_part(operations: &[Operation], wrong: &Operation, initial: &[State]) -> Vec<Operation> {
    let end = wrong.returned;
    let mut scissors = Scissors { work: WORK_OF_CUTS };
    let until: Vec<Operation> = operations
        .iter()
        .filter(|operation| operation.invoked <= end)
        .map(|one| ended_by(one, end))
        .collect();
    let since = |start: Tick| -> Vec<Operation> {
        let is_in = |one: &&Operation| one.outcome == Outcome::Unknown || one.returned >= start;
        until.iter().filter(is_in).cloned().collect()
    };
    // The later a part begins, the more explains it: the latest beginning that still contradicts is found by halving.
    let mut starts: Vec<Tick> =
        until.iter().map(|operation| operation.returned).filter(|&at| at <= end).collect();
    starts.sort_unstable();
    let contradicts_since = |start: &Tick| scissors.contradict(&since(*start), initial);
    let count = starts.partition_point(contradicts_since);
    let (mut part, initial) = match count.checked_sub(1) {
        Some(last) => (since(starts[last]), initial),
        // Only that the register held nothing at first makes the contradiction.
        None if scissors.contradict(&until, &[None]) => (until, &[None][..]),
        // Only what was seen later makes it.
        None => (operations.to_vec(), &[None][..]),
    };
    cut(&mut part, wrong, initial, &mut scissors);
    part.sort_by_key(|operation| (operation.invoked, operation.returned));
    part
}

/// An operation that ends after `end` has no answer yet.
fn ended_by(operation: &Operation, end: Tick) -> Operation {
    let mut operation = operation.clone();
    if operation.returned > end && operation.answer().is_some() {
        (operation.outcome, operation.returned) = (Outcome::Unknown, Tick::MAX);
    }
    operation
}

/// Leaves out what makes no difference: reads without which there still is a contradiction; writes that may have happened at any
/// later time or never without taking it away.
fn cut(part: &mut Vec<Operation>, wrong: &Operation, initial: &[State], scissors: &mut Scissors) {
    part.retain(|operation| operation.outcome != Outcome::Failed);
    let mut relaxed: Vec<Operation> = Vec::new();
    let mut index = 0;
    while let Some(candidate) = part.get(index)
        && scissors.work > 0
    {
        if candidate == wrong {
            index += 1;
            continue;
        }
        let removed = part.remove(index);
        let is_read = removed.call.is_read();
        if !is_read {
            relaxed.push(Operation { outcome: Outcome::Unknown, returned: Tick::MAX, ..removed.clone() });
        }
        let rest: Vec<Operation> = part.iter().chain(&relaxed).cloned().collect();
        if !scissors.contradict(&rest, initial) {
            if !is_read {
                relaxed.pop();
            }
            part.insert(index, removed);
            index += 1;
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, kind) = (&self.operation, self.kind);
        let what = match kind {
            Kind::NeverWritten => "reads what nobody wrote",
            Kind::FailedWriteSeen => "reads what only a failed write can have written",
            Kind::OldValue => "reads what was not there any more: it is stale, or a later write was lost",
            Kind::LostUpdate => "has an answer that does not fit: an update was lost",
        };
        writeln!(
            f,
            "key {:?}, client {}: {} -> {}",
            operation.key, operation.client, operation.call, operation.outcome
        )?;
        writeln!(f, "  {what}")?;
        let states: Vec<String> =
            self.states.iter().take(6).map(|state| Shown(state.as_ref()).to_string()).collect();
        let more = if self.states.len() > 6 { ", …" } else { "" };
        writeln!(f, "  before it the register can have held: {}{more}", states.join(", "))?;
        let (first, last) = self.span();
        writeln!(
            f,
            "  {} of the key's {} operations contradict each other, ticks {first} to {last}:",
            self.part.len(),
            self.of
        )?;
        for one in &self.part {
            let mark = if *one == self.operation { '>' } else { ' ' };
            let ends = if one.returned == Tick::MAX || one.outcome == Outcome::Unknown {
                "?".to_owned()
            } else {
                one.returned.to_string()
            };
            let bar = self.bar(one, first, last);
            writeln!(
                f,
                "{mark} |{bar}| {:>4} {:>10}..{ends:<10} {} -> {}",
                format!("c{}", one.client),
                one.invoked,
                one.call,
                one.outcome
            )?;
        }
        Ok(())
    }
}

impl Conflict {
    fn span(&self) -> (Tick, Tick) {
        let first = self.part.iter().map(|one| one.invoked).min().unwrap_or_default();
        (first, self.operation.returned.max(first))
    }

    fn bar(&self, one: &Operation, first: Tick, last: Tick) -> String {
        let length = (last - first).max(1);
        let column =
            |at: Tick| (at.clamp(first, last) - first) as u128 * u128::from(WIDTH - 1) / u128::from(length);
        let is_open = one.outcome == Outcome::Unknown;
        let (from, to) =
            (column(one.invoked), if is_open { u128::from(WIDTH) } else { column(one.returned) });
        (0..u128::from(WIDTH))
            .map(|at| match at {
                _ if at < from || at > to => ' ',
                _ if at == from => '[',
                _ if at == to => ']',
                _ if is_open => '.',
                _ => '-',
            })
            .collect()
    }
}
