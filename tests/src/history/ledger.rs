//! Acknowledged elements of sets: each element is added once, by one client. What was acknowledged before a read began must be in
//! what the read shows, and must be there at the end; what was never sent, or surely failed, must not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use super::operation::{Outcome, Tick};

struct Addition {
    invoked: Tick,
    /// When it was acknowledged.
    acknowledged: Option<Tick>,
    is_failed: bool,
}

struct Read {
    invoked: Tick,
    returned: Tick,
    elements: BTreeSet<u64>,
}

#[derive(Default)]
struct SetUnderTest {
    additions: BTreeMap<u64, Addition>,
    reads: Vec<Read>,
}

/// What was added to sets and what they showed.
#[derive(Default)]
pub struct Ledger {
    sets: Mutex<BTreeMap<Arc<str>, SetUnderTest>>,
}

/// What is wrong, one line each.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Number of acknowledged additions.
    pub acknowledged: usize,
    /// Acknowledged additions that are not there at the end.
    pub lost: Vec<String>,
    /// Reads that miss what was acknowledged before they began and is there at the end.
    pub stale_reads: Vec<String>,
    /// Reads that show what is not there at the end: it was lost after somebody saw it.
    pub taken_back: Vec<String>,
    /// Elements that were shown although their addition surely failed, had not begun, or is unknown to all.
    pub invented: Vec<String>,
}

impl Ledger {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An addition of an element that no other addition has, and how it ended; an error after which it may be repeated under
    /// the same number counts as its last attempt, begun with the first.
    pub fn added(&self, set: &Arc<str>, element: u64, invoked: Tick, returned: Tick, outcome: &Outcome) {
        let acknowledged = matches!(outcome, Outcome::Answered(_)).then_some(returned);
        let is_failed = *outcome == Outcome::Failed;
        let mut sets = self.sets.lock().expect("nobody panics while recording");
        let additions = &mut sets.entry(set.clone()).or_default().additions;
        additions.insert(element, Addition { invoked, acknowledged, is_failed });
    }

    /// A read of the whole set.
    pub fn read(&self, set: &Arc<str>, invoked: Tick, returned: Tick, elements: BTreeSet<u64>) {
        let mut sets = self.sets.lock().expect("nobody panics while recording");
        sets.entry(set.clone()).or_default().reads.push(Read { invoked, returned, elements });
    }

    /// The names of all sets.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.sets.lock().expect("nobody panics while recording").keys().cloned().collect()
    }

    /// Holds all that was seen against what the sets hold when all is over; a set that is not in `last` is empty.
    pub fn judge(&self, last: &BTreeMap<Arc<str>, BTreeSet<u64>>) -> Findings {
        let sets = self.sets.lock().expect("nobody panics while recording");
        let mut findings = Findings::default();
        let nothing = BTreeSet::new();
        for (name, set) in &*sets {
            set.judge(name, last.get(name).unwrap_or(&nothing), &mut findings);
        }
        findings
    }
}

impl SetUnderTest {
    fn judge(&self, name: &str, last: &BTreeSet<u64>, findings: &mut Findings) {
        for (element, addition) in &self.additions {
            let Some(at) = addition.acknowledged else { continue };
            findings.acknowledged += 1;
            if !last.contains(element) {
                findings.lost.push(format!("{name}: {element}, acknowledged at {at}"));
            }
        }
        for read in &self.reads {
            let was_there = |addition: &Addition| addition.acknowledged.is_some_and(|at| at < read.invoked);
            let mut missing = self.additions.iter().filter(|(element, addition)| {
                was_there(addition) && last.contains(element) && !read.elements.contains(element)
            });
            if let Some((element, addition)) = missing.next_back() {
                let acknowledged = addition.acknowledged.unwrap_or_default();
                let (from, to) = (read.invoked, read.returned);
                let line = format!(
                    "{name}: a read of {from}..{to} misses {element}, acknowledged at {acknowledged}"
                );
                findings.stale_reads.push(line);
            }
            if let Some(gone) = read.elements.iter().find(|element| !last.contains(element)) {
                let line =
                    format!("{name}: a read of {}..{} shows {gone}, later gone", read.invoked, read.returned);
                findings.taken_back.push(line);
            }
            self.find_invented(name, &read.elements, read.returned, findings);
        }
        self.find_invented(name, last, Tick::MAX, findings);
    }

    fn find_invented(&self, name: &str, shown: &BTreeSet<u64>, until: Tick, findings: &mut Findings) {
        for element in shown {
            let why = match self.additions.get(element) {
                None => "nobody added it",
                Some(addition) if addition.is_failed => "its addition failed",
                Some(addition) if addition.invoked > until => "its addition had not begun",
                Some(_) => continue,
            };
            findings.invented.push(format!("{name}: {element}: {why}"));
        }
    }
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        [&self.lost, &self.stale_reads, &self.taken_back, &self.invented].iter().all(|list| list.is_empty())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} additions were acknowledged", self.acknowledged)?;
        let lists = [
            ("acknowledged and lost", &self.lost),
            ("stale reads", &self.stale_reads),
            ("shown and taken back", &self.taken_back),
            ("invented", &self.invented),
        ];
        for (what, list) in lists {
            writeln!(f, "{what}: {}", list.len())?;
            list.iter().take(5).try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}
