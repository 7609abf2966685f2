//! Members by score. Small: one packed run, ascending. Large: a table of members and an ordered list with ranks, which share
//! each member's bytes.

use std::cmp::Ordering;
use std::sync::Arc;

use super::limits::{ZSET_MAX_LISTPACK_ENTRIES, ZSET_MAX_LISTPACK_VALUE};
use super::packed::Packed;
use super::rank_list::RankList;
use super::table::{Keyed, Table};

struct Member {
    name: Arc<[u8]>,
    score: f64,
}

impl Keyed for Member {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

enum Form {
    /// score (8 bytes, little endian), member, score, member …, ascending by score, then member.
    Packed(Packed),
    Table {
        members: Table<Member>,
        order: RankList<Member>,
    },
}

/// A sorted set.
pub struct SortedSet(Form);

/// A place between scores.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ScoreBound {
    /// Before the first member with this score.
    Before(f64),
    /// After the last member with this score.
    After(f64),
}

/// A place between members, where all have the same score.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LexBound<'a> {
    /// Before everything.
    Lowest,
    /// Before this member.
    Before(&'a [u8]),
    /// After this member.
    After(&'a [u8]),
    /// After everything.
    Highest,
}

impl Default for SortedSet {
    fn default() -> Self {
        Self(Form::Packed(Packed::default()))
    }
}

fn compare(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    // Scores are never NaN, and 0 equals -0.
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(b.1))
}

fn pairs(packed: &Packed) -> impl Iterator<Item = (&[u8], f64)> {
    let mut items = packed.iter();
    std::iter::from_fn(move || {
        let score = items.next()?.first_chunk().map_or(0.0, |bytes| f64::from_le_bytes(*bytes));
        Some((items.next()?, score))
    })
}

impl SortedSet {
    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table { members, .. } => members.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        match self.0 {
            Form::Packed(_) => "listpack",
            Form::Table { .. } => "skiplist",
        }
    }

    /// A member's score.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(packed) => pairs(packed).find(|(name, _)| *name == member).map(|(_, score)| score),
            Form::Table { members, .. } => members.get(member).map(|member| member.score),
        }
    }

    /// A member's rank; the lowest has 0.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.0 {
            Form::Packed(packed) => pairs(packed).position(|(name, _)| name == member),
            Form::Table { members, order } => {
                let score = members.get(member)?.score;
                Some(order.rank(|known| compare((known.score, &known.name), (score, member)).is_lt()))
            }
        }
    }

    /// The member with this rank, and its score.
    pub fn nth(&self, rank: usize) -> Option<(&[u8], f64)> {
        match &self.0 {
            Form::Packed(packed) => pairs(packed).nth(rank),
            Form::Table { order, .. } => order.get(rank).map(|member| (&*member.name, member.score)),
        }
    }

    /// Members and scores from this rank on, upwards.
    pub fn iter_from(&self, rank: usize) -> Box<dyn Iterator<Item = (&[u8], f64)> + '_> {
        match &self.0 {
            Form::Packed(packed) => Box::new(pairs(packed).skip(rank)),
            Form::Table { order, .. } => {
                Box::new(order.iter_from(rank).map(|member| (&*member.name, member.score)))
            }
        }
    }

    /// Members and scores from this rank on, downwards.
    pub fn iter_rev_from(&self, rank: usize) -> Box<dyn Iterator<Item = (&[u8], f64)> + '_> {
        match &self.0 {
            Form::Packed(packed) => {
                let all: Vec<_> = pairs(packed).take(rank.saturating_add(1)).collect();
                Box::new(all.into_iter().rev())
            }
            Form::Table { order, .. } => {
                Box::new(order.iter_rev_from(rank).map(|member| (&*member.name, member.score)))
            }
        }
    }

    /// How many members come before the bound: the rank of the first that does not.
    pub fn count_below_score(&self, bound: ScoreBound) -> usize {
        let below = |score: f64| match bound {
            ScoreBound::Before(bound) => score < bound,
            ScoreBound::After(bound) => score <= bound,
        };
        match &self.0 {
            Form::Packed(packed) => pairs(packed).take_while(|&(_, score)| below(score)).count(),
            Form::Table { order, .. } => order.rank(|member| below(member.score)),
        }
    }

    /// How many members come before the bound, where all have the same score.
    pub fn count_below_lex(&self, bound: LexBound<'_>) -> usize {
        let below = |member: &[u8]| match bound {
            LexBound::Lowest => false,
            LexBound::Before(bound) => member < bound,
            LexBound::After(bound) => member <= bound,
            LexBound::Highest => true,
        };
        match &self.0 {
            Form::Packed(packed) => pairs(packed).take_while(|&(member, _)| below(member)).count(),
            Form::Table { order, .. } => order.rank(|member| below(&member.name)),
        }
    }

    /// Shows about `count` members from `cursor` on; see [`Table::scan`].
    pub fn scan<'s>(&'s self, cursor: u64, count: usize, mut show: impl FnMut(&'s [u8], f64)) -> u64 {
        match &self.0 {
            Form::Packed(packed) => {
                pairs(packed).for_each(|(member, score)| show(member, score));
                0
            }
            Form::Table { members, .. } => {
                members.scan(cursor, count, |member| show(&member.name, member.score))
            }
        }
    }

    /// One member with its score, each as likely as any other.
    ///
    /// # Panics
    /// When the set is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> (&[u8], f64) {
        self.nth(dice.usize(..self.len())).expect("ranks are below the length")
    }

    /// The member has this score now; tells whether it is new, or had another one.
    pub(crate) fn add(&mut self, member: &[u8], score: f64) -> Added {
        let known = self.score(member);
        if known.is_some_and(|known| known.to_bits() == score.to_bits()) {
            return Added::Same;
        }
        if known.is_some() {
            self.remove(member);
        }
        if let Form::Packed(packed) = &mut self.0 {
            if packed.len() / 2 < ZSET_MAX_LISTPACK_ENTRIES.get()
                && member.len() <= ZSET_MAX_LISTPACK_VALUE.get()
            {
                let at = pairs(packed)
                    .take_while(|&(name, known)| compare((known, name), (score, member)).is_lt())
                    .count();
                packed.insert(at * 2, &[&score.to_le_bytes(), member]);
                return if known.is_some() { Added::Moved } else { Added::New };
            }
            self.grow();
        }
        let Form::Table { members, order } = &mut self.0 else { unreachable!("grown just now") };
        let name: Arc<[u8]> = member.into();
        members.insert(Member { name: name.clone(), score });
        order.insert(Member { name, score }, |known| {
            compare((known.score, &known.name), (score, member)).is_lt()
        });
        if known.is_some() { Added::Moved } else { Added::New }
    }

    fn grow(&mut self) {
        let (mut members, mut order) = (Table::default(), RankList::default());
        for (member, score) in self.iter_from(0) {
            let name: Arc<[u8]> = member.into();
            members.insert(Member { name: name.clone(), score });
            order.insert(Member { name, score }, |_| true);
        }
        self.0 = Form::Table { members, order };
    }

    /// The member is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Packed(packed) => {
                let found = pairs(packed).position(|(name, _)| name == member);
                found.map(|at| packed.remove(at * 2, 2)).is_some()
            }
            Form::Table { members, order } => {
                let Some(Member { score, .. }) = members.remove(member) else { return false };
                order.remove(|known| compare((known.score, &known.name), (score, member)).is_lt());
                true
            }
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Packed(packed) => packed.memory_bytes(),
                Form::Table { members, order } => {
                    let names: usize = members.iter().map(|member| member.name.len() + 16).sum();
                    members.memory_bytes() + order.memory_bytes() + names
                }
            }
    }
}

/// What [`SortedSet::add`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// The member is new.
    New,
    /// It had another score.
    Moved,
    /// Nothing.
    Same,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ranks_and_bounds_are_those_of_a_sorted_vector_in_both_forms() {
        for size in [60, 3_000] {
            let (mut set, mut model) = (SortedSet::default(), Vec::<(i64, Vec<u8>)>::new());
            let mut dice = fastrand::Rng::with_seed(size);
            for _ in 0..size * 3 {
                let member = format!("m{}", dice.u64(..size)).into_bytes();
                let score = dice.i64(-20..20);
                model.retain(|(_, known)| *known != member);
                if dice.u8(..5) == 0 {
                    set.remove(&member);
                } else {
                    set.add(&member, score as f64);
                    model.push((score, member));
                }
            }
            model.sort();
            assert_eq!(set.encoding(), if size == 60 { "listpack" } else { "skiplist" });
            let expected = || model.iter().map(|(score, member)| (&member[..], *score as f64));
            assert!(set.iter_from(0).eq(expected()));
            assert!(set.iter_rev_from(model.len() - 1).eq(expected().rev()));
            assert!(set.iter_rev_from(3).eq(expected().take(4).rev()));
            for (rank, (score, member)) in model.iter().enumerate().step_by(7) {
                assert_eq!(set.rank(member), Some(rank));
                assert_eq!(set.nth(rank), Some((&member[..], *score as f64)));
                let below = model.iter().filter(|(known, _)| known < score).count();
                assert_eq!(set.count_below_score(ScoreBound::Before(*score as f64)), below);
                let up_to = model.iter().filter(|(known, _)| known <= score).count();
                assert_eq!(set.count_below_score(ScoreBound::After(*score as f64)), up_to);
            }
        }
    }
}
