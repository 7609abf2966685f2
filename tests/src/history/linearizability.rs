//! The search for an order that explains a history of one register: whether each operation can be given a moment between
//! its sending and its end, so that the register, taking them in the order of these moments, gives the very answers.
//!
//! The operations' ends are walked in the order of time, each time with the [`Possibility`]s of what the register may hold and
//! which open operations it has taken (Lowe's just-in-time linearisation, memoised, depth first). An operation is taken only when
//! the end of one makes it necessary: that loses no explanation, as it could always have been taken later. What keeps the
//! possibilities few:
//! * A read is taken as soon as the register holds what it saw: that changes nothing for anybody.
//! * A blind write (SET) needs not be seen: it may stand just before another blind write while it is open. It is then *covered*
//!   and may end without having been taken. So no blind write is taken where another follows unseen.
//! * An operation of unknown outcome never ends, is taken only where somebody sees its effect, and of several equal ones the
//!   oldest first.
//! * Of two possibilities that differ only in which unknown operations are used up, the one with more used adds nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::operation::{Answer, Call, Operation, Outcome, Tick, Value};
use super::register::{State, is_blind, step};

/// Steps for a second look at a contradiction, which only serve to show it better.
const WORK_AGAIN: u64 = 50_000;

/// What may have happened so far. Operations are indices; each list is sorted.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Possibility {
    state: State,
    /// Open operations that were taken.
    taken: Vec<u32>,
    /// Open blind writes that may have been overwritten unseen.
    covered: Vec<u32>,
    /// Operations of unknown outcome that had their effect.
    used: Vec<u32>,
}

/// Why a history has no explanation.
pub enum Unexplained {
    /// No order fits.
    Contradiction {
        /// The first operation at whose end none is left.
        operation: usize,
        /// What the register may have held when that had to be taken.
        states: Vec<State>,
    },
    /// The search was given up.
    TooMuchWork,
}

/// Looks for an order of the operations, all of one key, on a register that holds one of the `initial` states at first, within
/// `work` steps, of which it takes off what it needed. Adds to `seen` every state that an order leads to.
///
/// # Errors
/// When there is none, or none was found within the work allowed.
pub fn explain(
    operations: &[Operation],
    initial: &[State],
    work: &mut u64,
    seen: &mut BTreeSet<State>,
) -> Result<(), Unexplained> {
    let longest = longest_of_appended(operations);
    let early = search(operations, initial, work, longest, seen);
    match early {
        // With a look at what was read later, a contradiction shows too early: the prefix that is one by itself is wanted.
        Err(Unexplained::Contradiction { .. }) if longest.is_some() => {
            let mut some_work = (*work).min(WORK_AGAIN);
            match search(operations, initial, &mut some_work, None, seen) {
                Err(Unexplained::TooMuchWork) => early,
                late => late,
            }
        }
        result => result,
    }
}

/// The longest value read from a register that is only appended to: at any time it held the beginning of that, or more.
fn longest_of_appended(operations: &[Operation]) -> Option<&Value> {
    let mut longest: Option<&Value> = None;
    for operation in operations.iter().filter(|one| one.outcome != Outcome::Failed) {
        match (&operation.call, operation.answer()) {
            (Call::Append(_), _) | (Call::Get, None | Some(Answer::Value(None))) => {}
            (Call::Get, Some(Answer::Value(Some(seen)))) => {
                longest = Some(longest.filter(|longest| longest.len() >= seen.len()).unwrap_or(seen));
            }
            _ => return None,
        }
    }
    longest
}

fn search(
    operations: &[Operation],
    initial: &[State],
    work: &mut u64,
    longest: Option<&Value>,
    seen: &mut BTreeSet<State>,
) -> Result<(), Unexplained> {
    let ends = ends(operations);
    if ends.is_empty() {
        return Ok(());
    }
    let mut search = Search { operations, ends: &ends, work, longest, seen };
    let mut visited: Vec<Visited> = (0..=ends.len()).map(|_| Visited::default()).collect();
    // To be gone on from, with the number of ends that are behind; the last is the most promising.
    let mut todo: Vec<(usize, Possibility)> = Vec::new();
    for state in initial {
        let (taken, covered, used) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = Possibility { state: state.clone(), taken, covered, used };
        search.take_reads(0, &mut start);
        visited[0].is_new(&start);
        todo.push((0, start));
    }
    while let Some((at, possibility)) = todo.pop() {
        if at == ends.len() {
            return Ok(());
        }
        let mut next = search.end(at, &possibility)?;
        // Those that used up the fewest unknown operations first.
        next.sort_unstable_by(|a, b| {
            (b.used.len(), &b.used, &b.state).cmp(&(a.used.len(), &a.used, &a.state))
        });
        todo.extend(next.into_iter().filter(|one| visited[at + 1].is_new(one)).map(|one| (at + 1, one)));
    }
    let Some(farthest) = visited.iter().rposition(|visited| !visited.groups.is_empty()) else {
        return Ok(());
    };
    let states: BTreeSet<State> = visited[farthest].groups.keys().map(|(state, ..)| state.clone()).collect();
    let operation = ends[farthest].operation as usize;
    Err(Unexplained::Contradiction { operation, states: states.into_iter().collect() })
}

/// The end of an operation that has an answer, and what is open at that moment.
struct End {
    operation: u32,
    /// Operations with an answer that have begun and not ended, sorted; the one that ends is among them.
    open: Vec<u32>,
    /// Operations without one that have begun, oldest first.
    unknown: Vec<u32>,
}

/// The ends in the order of time; of what touches, begins come first. What cannot matter is left out: operations that failed, and
/// reads of unknown outcome.
fn ends(operations: &[Operation]) -> Vec<End> {
    let mut events: Vec<(Tick, bool, u32)> = Vec::new();
    for (index, operation) in (0_u32..).zip(operations) {
        match operation.outcome {
            Outcome::Failed => {}
            Outcome::Unknown if operation.call.is_read() => {}
            Outcome::Unknown => events.push((operation.invoked, false, index)),
            Outcome::Answered(_) => {
                events.push((operation.invoked, false, index));
                events.push((operation.returned, true, index));
            }
        }
    }
    events.sort_unstable();
    let (mut open, mut unknown, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (_, is_end, index) in events {
        if is_end {
            ends.push(End { operation: index, open: open.clone(), unknown: unknown.clone() });
            remove(&mut open, index);
        } else if operations[index as usize].answer().is_some() {
            insert(&mut open, index);
        } else {
            unknown.push(index);
        }
    }
    ends
}

/// State, taken and covered operations.
type Rest = (State, Vec<u32>, Vec<u32>);

/// The possibilities that were met at one end.
#[derive(Default)]
struct Visited {
    /// What they hold besides the used operations → those.
    groups: HashMap<Rest, Vec<Vec<u32>>>,
}

impl Visited {
    /// Whether it, or one that used up fewer unknown operations and is otherwise equal, was not met yet.
    fn is_new(&mut self, one: &Possibility) -> bool {
        let rest = (one.state.clone(), one.taken.clone(), one.covered.clone());
        let met = self.groups.entry(rest).or_default();
        let is_new = !met.iter().any(|used| used.iter().all(|index| one.used.binary_search(index).is_ok()));
        if is_new {
            met.push(one.used.clone());
        }
        is_new
    }
}

struct Search<'a> {
    operations: &'a [Operation],
    ends: &'a [End],
    /// Steps that may still be taken.
    work: &'a mut u64,
    /// See [`longest_of_appended`].
    longest: Option<&'a Value>,
    seen: &'a mut BTreeSet<State>,
}

impl Search<'_> {
    fn operation(&self, index: u32) -> &Operation {
        &self.operations[index as usize]
    }

    /// What may have happened when the operation of this end has ended.
    fn end(&mut self, at: usize, before: &Possibility) -> Result<Vec<Possibility>, Unexplained> {
        let ended = self.ends[at].operation;
        let mut next = HashSet::new();
        // A possibility, and whether nobody saw its last write yet.
        let mut todo = vec![(before.clone(), false)];
        let mut visited: HashSet<(Possibility, bool)> = todo.iter().cloned().collect();
        while let Some((one, is_unseen)) = todo.pop() {
            let mut after = one.clone();
            if remove(&mut after.taken, ended) {
                next.insert(after);
                continue;
            }
            if remove(&mut after.covered, ended) {
                next.insert(after);
            }
            for index in self.candidates(at, &one) {
                *self.work = self.work.checked_sub(1).ok_or(Unexplained::TooMuchWork)?;
                if let Some(step) = self.take(at, &one, index, is_unseen)
                    && !visited.contains(&step)
                {
                    visited.insert(step.clone());
                    todo.push(step);
                }
            }
        }
        let mut next: Vec<Possibility> = next.into_iter().collect();
        if at + 1 < self.ends.len() {
            next.iter_mut().for_each(|one| _ = self.take_reads(at + 1, one));
        }
        Ok(next)
    }

    /// What may be taken next: reads are taken elsewhere.
    fn candidates(&self, at: usize, one: &Possibility) -> Vec<u32> {
        let is_untaken = |index: &&u32| one.taken.binary_search(index).is_err();
        let open = self.ends[at].open.iter().filter(is_untaken);
        let open = open.filter(|&&index| !self.operation(index).call.is_read());
        let mut candidates: Vec<u32> = open.copied().collect();
        let mut calls = HashSet::new();
        for &index in &self.ends[at].unknown {
            if one.used.binary_search(&index).is_err() && calls.insert(&self.operation(index).call) {
                candidates.push(index);
            }
        }
        candidates
    }

    /// What an operation makes of a possibility, if it fits there and may be seen there.
    fn take(
        &mut self,
        at: usize,
        one: &Possibility,
        index: u32,
        is_unseen: bool,
    ) -> Option<(Possibility, bool)> {
        let (call, answer) = (&self.operation(index).call, self.operation(index).answer());
        let is_blind = is_blind(call, answer.is_some());
        if is_blind && is_unseen {
            return None;
        }
        let is_unknown = answer.is_none();
        let state = step(&one.state, call, answer)?;
        if is_unknown && state == one.state {
            return None;
        }
        if let (Some(longest), Some(text)) = (self.longest, &state)
            && !longest.starts_with(&**text)
            && !text.starts_with(&**longest)
        {
            return None;
        }
        let mut after = Possibility { state, ..one.clone() };
        if is_unknown {
            insert(&mut after.used, index);
        } else {
            remove(&mut after.covered, index);
            insert(&mut after.taken, index);
        }
        if is_blind {
            self.cover(at, &mut after);
        }
        self.seen.insert(after.state.clone());
        let was_read = self.take_reads(at, &mut after);
        Some((after, (is_blind || is_unknown) && !was_read))
    }

    /// A blind write was taken: the open ones may stand before it.
    fn cover(&self, at: usize, one: &mut Possibility) {
        for &index in &self.ends[at].open {
            let operation = self.operation(index);
            if is_blind(&operation.call, true) && one.taken.binary_search(&index).is_err() {
                insert(&mut one.covered, index);
            }
        }
    }

    /// Takes the open reads that saw what the register holds; whether there are any.
    fn take_reads(&self, at: usize, one: &mut Possibility) -> bool {
        let mut was_read = false;
        for &index in &self.ends[at].open {
            let operation = self.operation(index);
            let sees = matches!(operation.answer(), Some(Answer::Value(seen)) if *seen == one.state);
            if operation.call.is_read() && sees && one.taken.binary_search(&index).is_err() {
                insert(&mut one.taken, index);
                was_read = true;
            }
        }
        was_read
    }
}

fn insert(list: &mut Vec<u32>, item: u32) {
    if let Err(place) = list.binary_search(&item) {
        list.insert(place, item);
    }
}

fn remove(list: &mut Vec<u32>, item: u32) -> bool {
    let found = list.binary_search(&item);
    found.map(|place| list.remove(place)).is_ok()
}
