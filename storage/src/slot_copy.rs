//! Copying a slot as of one moment while commands go on changing it: step by step, each step a short time under the slot's lock,
//! and no second copy of anything. What the copy has not reached yet and a mutation is about to change is copied first
//! ([`SlotCopy::before`]), and passed over later. So the parts together are the slot as it was when the copy began.
//!
//! Small values are copied whole. Of a large one, elements are: a hash's fields and a set's members in the order of scans, a sorted
//! set's members upwards, a list's elements from the head, a string's bytes from the front. A large value that is about to go, or
//! to be replaced, is taken over by the copy.
//!
//! Knows no lock: the slot owns its copy and calls it.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::keyspace::Keyspace;
use crate::mutation::{ListEnd, Mutation};
use crate::types::entry::{Entry, Held};
use crate::types::table::{Keyed, place_of};
use crate::types::value_format::{self, Part};
use crate::types::{List, SortedSet, ValueRef};

/// Bytes of memory of a value above which it is copied in parts.
const LARGE_BYTES: usize = 64 << 10;
/// Elements of a table that one look at it shows at most.
const SCAN_COUNT: usize = 256;

/// Takes what is copied: key, expiry, value in the value format, and whether it is a further part of the key's value.
pub(crate) type Emit<'e> = &'e mut dyn FnMut(&[u8], Option<u64>, &[u8], bool);

/// What a step did.
#[derive(Default)]
pub(crate) struct Stepped {
    /// Everything is copied.
    pub(crate) is_done: bool,
    /// What the copy had taken over and is through with; to be dropped when the slot is unlocked.
    pub(crate) garbage: Option<Held>,
}

/// A small value that was copied before its turn: key, expiry, value in the value format.
type Saved = (Box<[u8]>, Option<u64>, Vec<u8>);

/// A slot's copy in progress.
#[derive(Default)]
pub(crate) struct SlotCopy {
    /// Keys before this place are copied; `None`: all are.
    next: Option<u64>,
    /// Keys at or after it that are not to be copied any more, or are new.
    passed_over: HashSet<Box<[u8]>>,
    /// Small values that were about to change.
    saved: Vec<Saved>,
    /// Large values that are being copied.
    large: Vec<Large>,
}

struct Large {
    /// In the copy.
    key: Box<[u8]>,
    expires_at_ms: Option<u64>,
    /// Where the value is now.
    home: Home,
    has_begun: bool,
    part: Part,
    walk: Walk,
}

enum Home {
    Key(Box<[u8]>),
    Taken(Option<Held>),
}

/// How far the copy of a large value has come.
enum Walk {
    Text(TextWalk),
    /// A hash or a set.
    Table {
        /// Elements before this place are copied; `None`: all are.
        next: Option<u64>,
        passed_over: HashSet<Box<[u8]>>,
    },
    Sorted {
        /// The last one copied.
        last: Option<(f64, Box<[u8]>)>,
        is_done: bool,
        passed_over: HashSet<Box<[u8]>>,
    },
    List(ListWalk),
}

struct TextWalk {
    at: usize,
    end: usize,
    /// Bytes that were overwritten, oldest first.
    overwritten: Vec<(usize, Vec<u8>)>,
}

/// What is to be copied is `[next, end)` of the list as it is now, then `tail`.
struct ListWalk {
    next: usize,
    end: usize,
    /// What to add to an index to get a number that the element keeps while others come and go before it.
    shift: i64,
    /// Elements that were set to something else, by that number.
    replaced: BTreeMap<i64, Box<[u8]>>,
    tail: VecDeque<Box<[u8]>>,
}

impl SlotCopy {
    /// A copy as of now.
    pub(crate) fn new() -> Self {
        Self { next: Some(0), ..Self::default() }
    }

    /// Copies about `budget` bytes more.
    pub(crate) fn step(&mut self, keys: &Keyspace, budget: usize, emit: Emit<'_>) -> Stepped {
        for (key, expires_at_ms, value) in self.saved.drain(..) {
            emit(&key, expires_at_ms, &value, false);
        }
        if let Some(large) = self.large.last_mut() {
            let is_through = large.step(keys, budget);
            large.hand_over(emit);
            let through = if is_through { self.large.pop() } else { None };
            let garbage = through.and_then(|large| match large.home {
                Home::Taken(held) => held,
                Home::Key(_) => None,
            });
            return Stepped { is_done: false, garbage };
        }
        let Some(next) = self.next else { return Stepped { is_done: true, garbage: None } };
        // As many as make up the budget, when they are of average size.
        let each = (keys.memory_bytes() / keys.len().max(1)).max(1);
        let mut value = Vec::new();
        let (passed_over, large) = (&self.passed_over, &mut self.large);
        let after = keys.scan_entries(next, (budget / each).clamp(1, SCAN_COUNT), |entry| {
            if passed_over.contains(entry.key()) {
                return;
            }
            if entry.memory_bytes() > LARGE_BYTES {
                large.push(Large::of(entry));
                return;
            }
            value.clear();
            value_format::encode(entry.value(), &mut value);
            emit(entry.key(), entry.expires_at_ms(), &value, false);
        });
        self.next = (after != 0).then_some(after);
        if self.next.is_none() {
            self.passed_over.clear();
        }
        Stepped::default()
    }

    /// The mutation is about to be applied. `false`: the copy cannot go on, and has to begin anew.
    pub(crate) fn before(&mut self, keys: &mut Keyspace, mutation: &Mutation<'_>) -> bool {
        match mutation {
            Mutation::FlushSlot => return false,
            Mutation::Rename { from, to } | Mutation::Copy { from, to } if from == to => {}
            Mutation::Rename { from, to } => {
                self.replaced(keys, to);
                if let Some(index) = self.reach(keys, from) {
                    self.large[index].home = Home::Key((**to).into());
                }
            }
            Mutation::Copy { to: key, .. }
            | Mutation::SetString { key, .. }
            | Mutation::SetInteger { key, .. }
            | Mutation::Restore { key, .. }
            | Mutation::Delete { key, .. } => self.replaced(keys, key),
            other => {
                let Some(key) = other.key() else { return false };
                if let Some(index) = self.reach(keys, key) {
                    match keys.weigh(key) {
                        Some((entry, _)) => self.large[index].before(entry.value(), other),
                        // It went element by element, all of them copied before; what comes here now is another value.
                        None => self.large[index].home = Home::Taken(None),
                    }
                }
            }
        }
        true
    }

    /// The key's value is about to go.
    fn replaced(&mut self, keys: &mut Keyspace, key: &[u8]) {
        if let Some(index) = self.reach(keys, key) {
            self.large[index].home = Home::Taken(keys.detach(key));
        }
    }

    /// Something is about to happen to the key: what it holds is copied now, unless it has been, or is large; then which one.
    fn reach(&mut self, keys: &Keyspace, key: &[u8]) -> Option<usize> {
        let is_it = |large: &Large| matches!(&large.home, Home::Key(home) if **home == *key);
        if let Some(index) = self.large.iter().position(is_it) {
            return Some(index);
        }
        if place_of(key) < self.next? || !self.passed_over.insert(key.into()) {
            return None;
        }
        let (entry, bytes) = keys.weigh(key)?;
        if bytes > LARGE_BYTES {
            self.large.push(Large::of(entry));
            return Some(self.large.len() - 1);
        }
        let mut value = Vec::new();
        value_format::encode(entry.value(), &mut value);
        self.saved.push((key.into(), entry.expires_at_ms(), value));
        None
    }
}

impl Large {
    fn of(entry: &Entry) -> Self {
        let value = entry.value();
        let walk = match value {
            ValueRef::String(text) => {
                Walk::Text(TextWalk { at: 0, end: text.len(), overwritten: Vec::new() })
            }
            ValueRef::Hash(_) | ValueRef::Set(_) => {
                Walk::Table { next: Some(0), passed_over: HashSet::new() }
            }
            ValueRef::SortedSet(_) => {
                Walk::Sorted { last: None, is_done: false, passed_over: HashSet::new() }
            }
            ValueRef::List(list) => Walk::List(ListWalk {
                next: 0,
                end: list.len(),
                shift: 0,
                replaced: BTreeMap::new(),
                tail: VecDeque::new(),
            }),
        };
        Self {
            key: entry.key().into(),
            expires_at_ms: entry.expires_at_ms(),
            home: Home::Key(entry.key().into()),
            has_begun: false,
            part: Part::like(value),
            walk,
        }
    }

    fn hand_over(&mut self, emit: Emit<'_>) {
        if let Some(value) = self.part.take() {
            emit(&self.key, self.expires_at_ms, &value, self.has_begun);
            self.has_begun = true;
        }
    }

    /// Copies about `budget` bytes more; `true`: that was the rest.
    fn step(&mut self, keys: &Keyspace, budget: usize) -> bool {
        let value = match &self.home {
            Home::Key(key) => keys.weigh(key).map(|(entry, _)| entry.value()),
            Home::Taken(held) => held.as_ref().map(Held::as_ref),
        };
        let part = &mut self.part;
        match (&mut self.walk, value) {
            (Walk::Text(walk), Some(ValueRef::String(text))) => {
                walk.step(text.bytes(&mut itoa::Buffer::new()), budget, part)
            }
            (Walk::Table { next, passed_over }, Some(value)) => {
                step_through_table(value, next, passed_over, budget, part)
            }
            (Walk::Sorted { last, is_done, passed_over }, Some(ValueRef::SortedSet(set))) => {
                *is_done = step_upwards(set, last, passed_over, budget, part);
                *is_done
            }
            (Walk::List(walk), list) => {
                let list = if let Some(ValueRef::List(list)) = list { Some(list) } else { None };
                walk.step(list, budget, part)
            }
            // It went element by element, and each was copied before it did.
            _ => true,
        }
    }

    /// The mutation is about to change the value.
    fn before(&mut self, value: ValueRef<'_>, mutation: &Mutation<'_>) {
        let part = &mut self.part;
        match (&mut self.walk, value, mutation) {
            (Walk::Text(walk), ValueRef::String(text), Mutation::SpliceString { offset, bytes, .. }) => {
                walk.before(text.bytes(&mut itoa::Buffer::new()), *offset as usize, bytes.len());
            }
            (Walk::Table { next: Some(next), passed_over }, value, mutation) => {
                let mut save = |element: &[u8]| {
                    if place_of(element) < *next || !passed_over.insert(element.into()) {
                        return;
                    }
                    match value {
                        ValueRef::Hash(hash) => {
                            if let Some(value) = hash.get(element) {
                                part.item(&[element, value]);
                            }
                        }
                        ValueRef::Set(set) if set.contains(element) => part.item(&[element]),
                        _ => {}
                    }
                };
                match mutation {
                    Mutation::HashSet { pairs, .. } => pairs.iter().for_each(|(field, _)| save(field)),
                    Mutation::HashDelete { fields: elements, .. }
                    | Mutation::SetAdd { members: elements, .. }
                    | Mutation::SetRemove { members: elements, .. } => {
                        elements.iter().for_each(|it| save(it))
                    }
                    _ => {}
                }
            }
            (Walk::Sorted { last, is_done: false, passed_over }, ValueRef::SortedSet(set), mutation) => {
                let mut save = |member: &[u8]| {
                    let score = set.score(member);
                    let is_copied = |score| last.as_ref().is_some_and(|last| !is_after(member, score, last));
                    if score.is_some_and(is_copied) || !passed_over.insert(member.into()) {
                        // A copied one may move to where the copy still has to come.
                        passed_over.insert(member.into());
                        return;
                    }
                    if let Some(score) = score {
                        part.scored(member, score);
                    }
                };
                match mutation {
                    Mutation::SortedSetAdd { entries, .. } => entries.iter().for_each(|(_, it)| save(it)),
                    Mutation::SortedSetRemove { members, .. } => members.iter().for_each(|it| save(it)),
                    _ => {}
                }
            }
            (Walk::List(walk), ValueRef::List(list), mutation) => walk.before(list, mutation, part),
            _ => {}
        }
    }
}

impl TextWalk {
    fn step(&mut self, text: &[u8], budget: usize, part: &mut Part) -> bool {
        let until = self.end.min(self.at.saturating_add(budget.max(1)));
        let mut piece = text[self.at..until].to_vec();
        for (offset, old) in self.overwritten.iter().rev() {
            let (from, to) = ((*offset).max(self.at), (offset + old.len()).min(until));
            if from < to {
                piece[from - self.at..to - self.at].copy_from_slice(&old[from - offset..to - offset]);
            }
        }
        part.text(&piece);
        self.at = until;
        self.at == self.end
    }

    fn before(&mut self, text: &[u8], offset: usize, length: usize) {
        let (from, to) = (offset.max(self.at), offset.saturating_add(length).min(self.end));
        if from < to {
            self.overwritten.push((from, text[from..to].to_vec()));
        }
    }
}

fn step_through_table(
    value: ValueRef<'_>,
    next: &mut Option<u64>,
    passed_over: &mut HashSet<Box<[u8]>>,
    budget: usize,
    part: &mut Part,
) -> bool {
    while let Some(from) = *next
        && part.len() < budget
    {
        // What is not a table any more shows everything at once.
        let is_left = |element: &[u8]| !passed_over.contains(element) && place_of(element) >= from;
        let after = match value {
            ValueRef::Hash(hash) => hash.scan(from, SCAN_COUNT, |field, value| {
                if is_left(field) {
                    part.item(&[field, value]);
                }
            }),
            ValueRef::Set(set) => set.scan(from, SCAN_COUNT, |member| {
                if is_left(member) {
                    part.item(&[member]);
                }
            }),
            _ => 0,
        };
        *next = (after != 0).then_some(after);
    }
    if next.is_none() {
        *passed_over = HashSet::new();
    }
    next.is_none()
}

/// Whether the member comes after this one.
fn is_after(member: &[u8], score: f64, last: &(f64, Box<[u8]>)) -> bool {
    score > last.0 || (score == last.0 && *member > *last.1)
}

fn step_upwards(
    set: &SortedSet,
    last: &mut Option<(f64, Box<[u8]>)>,
    passed_over: &HashSet<Box<[u8]>>,
    budget: usize,
    part: &mut Part,
) -> bool {
    let from = last.as_ref().map_or(0, |last| set.count_up_to(&last.1, last.0));
    let mut newest: Option<(&[u8], f64)> = None;
    for (member, score) in set.iter_from(from) {
        if part.len() >= budget {
            if let Some((member, score)) = newest {
                *last = Some((score, member.into()));
            }
            return false;
        }
        if !passed_over.contains(member) {
            part.scored(member, score);
        }
        newest = Some((member, score));
    }
    true
}

impl ListWalk {
    fn step(&mut self, list: Option<&List>, budget: usize, part: &mut Part) -> bool {
        if let Some(list) = list {
            // In pieces of bounded length: elements may be of any size.
            while self.next < self.end && part.len() < budget {
                self.copy_up_to(list, self.end.min(self.next + 64), part);
            }
        } else {
            self.next = self.end;
        }
        while self.next >= self.end && part.len() < budget {
            let Some(element) = self.tail.pop_front() else { return true };
            part.item(&[&element]);
        }
        false
    }

    fn copy_up_to(&mut self, list: &List, until: usize, part: &mut Part) {
        let (next, shift) = (self.next, self.shift);
        for (index, element) in list.range(next, until - next).enumerate() {
            let replaced = self.replaced.remove(&((next + index) as i64 + shift));
            part.item(&[replaced.as_deref().unwrap_or(element)]);
        }
        self.next = until;
    }

    /// What is to be copied from `from` on moves to the tail.
    fn save_from(&mut self, list: &List, from: usize) {
        let mut saved: Vec<Box<[u8]>> = Vec::new();
        for (index, element) in list.range(from, self.end - from).enumerate() {
            let replaced = self.replaced.remove(&((from + index) as i64 + self.shift));
            saved.push(replaced.unwrap_or_else(|| element.into()));
        }
        saved.into_iter().rev().for_each(|element| self.tail.push_front(element));
        self.end = from;
    }

    fn before(&mut self, list: &List, mutation: &Mutation<'_>, part: &mut Part) {
        match mutation {
            Mutation::ListPush { end: ListEnd::Left, values, .. } => self.moved_up(values.len()),
            Mutation::ListPop { end: ListEnd::Left, count, .. } => self.cut_head(list, *count as usize, part),
            Mutation::ListPop { end: ListEnd::Right, count, .. } => {
                self.cut_tail(list, list.len().saturating_sub(*count as usize));
            }
            Mutation::ListTrim { start, length, .. } => {
                self.cut_tail(list, (*start + *length) as usize);
                self.cut_head(list, *start as usize, part);
            }
            Mutation::ListSet { index, .. } => self.set(list, *index as usize),
            Mutation::ListInsert { index, .. } => self.inserted(list, *index as usize, part),
            Mutation::ListRemove { indexes, .. } => self.removed(list, indexes, part),
            _ => {}
        }
    }

    fn moved_up(&mut self, count: usize) {
        self.next += count;
        self.end += count;
        self.shift -= count as i64;
    }

    fn moved_down(&mut self, count: usize) {
        self.next -= count;
        self.end -= count;
        self.shift += count as i64;
    }

    fn cut_head(&mut self, list: &List, count: usize, part: &mut Part) {
        let until = count.min(self.end);
        if until > self.next {
            self.copy_up_to(list, until, part);
        }
        if count > self.next {
            // Nothing is left that could move.
            (self.next, self.end) = (0, 0);
        } else {
            self.moved_down(count);
        }
    }

    fn cut_tail(&mut self, list: &List, length: usize) {
        if length < self.end && self.next < self.end {
            self.save_from(list, length.max(self.next));
        }
        self.end = self.end.min(length);
        self.next = self.next.min(self.end);
    }

    fn set(&mut self, list: &List, index: usize) {
        if (self.next..self.end).contains(&index)
            && let Some(element) = list.get(index)
        {
            self.replaced.entry(index as i64 + self.shift).or_insert_with(|| element.into());
        }
    }

    fn inserted(&mut self, list: &List, index: usize, part: &mut Part) {
        // In the middle of what is to be copied, the shorter side is copied at once: the command walks as far itself.
        if self.next < index && index < self.end {
            if index - self.next <= self.end - index {
                self.copy_up_to(list, index, part);
            } else {
                self.save_from(list, index);
            }
        }
        if index <= self.next {
            self.moved_up(1);
        }
    }

    fn removed(&mut self, list: &List, indexes: &[u64], part: &mut Part) {
        let is_ahead = |index: &&u64| (self.next..self.end).contains(&(**index as usize));
        let mut ahead = indexes.iter().filter(is_ahead);
        if let Some(&first) = ahead.next() {
            let (first, behind) = (first as usize, *ahead.next_back().unwrap_or(&first) as usize + 1);
            if behind - self.next <= self.end - first {
                self.copy_up_to(list, behind, part);
            } else {
                self.save_from(list, first);
            }
        }
        self.moved_down(indexes.iter().filter(|index| (**index as usize) < self.next).count());
    }
}

#[cfg(test)]
#[path = "slot_copy_tests.rs"]
mod tests;
