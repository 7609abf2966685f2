//! Members by score. Small: one packed run, ascending. Large: members in an arena, a table of their numbers by name, and a
//! counted tree of their numbers by score.

use std::cmp::Ordering;

use super::arena::Arena;
use super::limits::{ZSET_MAX_LISTPACK_ENTRIES, ZSET_MAX_LISTPACK_VALUE};
use super::packed::{Integer, Items, Packed};
use super::rank_tree::{RankTree, Walk};
use super::table::{Table, hash_of, hashes_of};
use super::thin::{Either, Kind, Thin};

#[derive(Default)]
struct Ordered {
    arena: Arena,
    members: Table<u32>,
    order: RankTree<Ranked>,
}

/// A member in the ordered tree.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    /// Its score, rounded. Rounding keeps the order but for what becomes equal, so where this differs from another score's it
    /// settles a comparison without a look at the member, whose memory is mostly not in the cache.
    near: f32,
    number: u32,
}

impl Ranked {
    fn of(number: u32, score: f64) -> Self {
        Self { near: score as f32, number }
    }

    /// Whether it comes before a place at `score`; `below` decides for scores that may be the same.
    fn is_before(self, arena: &Arena, score: f64, below: &impl Fn(&[u8], f64) -> bool) -> bool {
        let near = score as f32;
        if self.near == near {
            let (member, score) = arena.get(self.number);
            below(member, score)
        } else {
            self.near < near
        }
    }
}

/// A sorted set. Its small form is score (see [`ScoreBytes`]), member, score, member …, ascending by score, then member.
pub struct SortedSet(Either<(), Ordered, u32>);

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
        Self(Either::first(Packed::empty()))
    }
}

fn compare(a: (&[u8], f64), b: (&[u8], f64)) -> Ordering {
    // Scores are never NaN, and 0 equals -0.
    a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal).then_with(|| a.0.cmp(b.0))
}

/// A score in a packed run: an integer in as few bytes as it needs, at most 7; any other score in 8 bytes.
enum ScoreBytes {
    Integer(Integer),
    Other([u8; 8]),
}

impl ScoreBytes {
    fn of(score: f64) -> Self {
        const EXACT: f64 = (1u64 << 53) as f64;
        let is_integer =
            score.abs() <= EXACT && score == score.trunc() && score.to_bits() != (-0.0f64).to_bits();
        if is_integer { Self::Integer(Integer::of(score as i64)) } else { Self::Other(score.to_le_bytes()) }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Integer(integer) => integer.bytes(),
            Self::Other(bytes) => bytes,
        }
    }

    fn score(bytes: &[u8]) -> f64 {
        match bytes.try_into() {
            Ok(whole) => f64::from_le_bytes(whole),
            Err(_) => Integer::value(bytes) as f64,
        }
    }
}

/// Walks the members of a packed run.
struct Pairs<'s>(Items<'s>);

impl<'s> Iterator for Pairs<'s> {
    type Item = (&'s [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        let score = ScoreBytes::score(self.0.next()?);
        Some((self.0.next()?, score))
    }
}

fn pairs(packed: &Packed) -> Pairs<'_> {
    Pairs(packed.items())
}

/// Members with their scores, upwards (`DOWN` false) or downwards.
pub struct Entries<'s, const DOWN: bool>(Walking<'s, DOWN>);

enum Walking<'s, const DOWN: bool> {
    Up(std::iter::Skip<Pairs<'s>>),
    Down(std::iter::Rev<std::vec::IntoIter<(&'s [u8], f64)>>),
    Tree(&'s Arena, Walk<'s, Ranked, DOWN>),
}

impl<'s, const DOWN: bool> Iterator for Entries<'s, DOWN> {
    type Item = (&'s [u8], f64);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walking::Up(pairs) => pairs.next(),
            Walking::Down(pairs) => pairs.next(),
            Walking::Tree(arena, walk) => walk.next().map(|ranked| arena.get(ranked.number)),
        }
    }
}

impl SortedSet {
    /// Number of members.
    pub fn len(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.count() / 2,
            Kind::Second(ordered) => ordered.header().order.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            Kind::First(_) => "listpack",
            Kind::Second(_) => "skiplist",
        }
    }

    /// A member's score.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.view() {
            Kind::First(packed) => pairs(packed).find(|(name, _)| *name == member).map(|(_, score)| score),
            Kind::Second(ordered) => ordered.header().find(member).map(|(_, score)| score),
        }
    }

    /// Begins to fetch what lookups of these members will read.
    pub(crate) fn prefetch<'m>(&self, members: impl Iterator<Item = &'m [u8]>) {
        if let Kind::Second(large) = self.0.view() {
            let Ordered { arena, members: table, .. } = large.header();
            table.prefetch(arena, &hashes_of(members));
        }
    }

    /// A member's rank; the lowest has 0.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match self.0.view() {
            Kind::First(packed) => pairs(packed).position(|(name, _)| name == member),
            Kind::Second(ordered) => {
                let ordered = ordered.header();
                ordered.find(member).map(|(_, score)| ordered.rank(member, score))
            }
        }
    }

    /// The member with this rank, and its score.
    pub fn nth(&self, rank: usize) -> Option<(&[u8], f64)> {
        match self.0.view() {
            Kind::First(packed) => pairs(packed).nth(rank),
            Kind::Second(ordered) => {
                let ordered = ordered.header();
                ordered.order.get(rank).map(|ranked| ordered.arena.get(ranked.number))
            }
        }
    }

    /// Members and scores from this rank on, upwards.
    pub fn iter_from(&self, rank: usize) -> Entries<'_, false> {
        Entries(match self.0.view() {
            Kind::First(packed) => Walking::Up(pairs(packed).skip(rank)),
            Kind::Second(ordered) => {
                let ordered = ordered.header();
                Walking::Tree(&ordered.arena, ordered.order.iter_from(rank))
            }
        })
    }

    /// Members and scores from this rank on, downwards.
    pub fn iter_rev_from(&self, rank: usize) -> Entries<'_, true> {
        Entries(match self.0.view() {
            Kind::First(packed) => {
                let up_to: Vec<_> = pairs(packed).take(rank.saturating_add(1)).collect();
                Walking::Down(up_to.into_iter().rev())
            }
            Kind::Second(ordered) => {
                let ordered = ordered.header();
                Walking::Tree(&ordered.arena, ordered.order.iter_rev_from(rank))
            }
        })
    }

    /// How many members come before the bound: the rank of the first that does not.
    pub fn count_below_score(&self, bound: ScoreBound) -> usize {
        let (ScoreBound::Before(place) | ScoreBound::After(place)) = bound;
        self.count_below(Some(place), |_, score| match bound {
            ScoreBound::Before(bound) => score < bound,
            ScoreBound::After(bound) => score <= bound,
        })
    }

    /// How many members come before the bound, where all have the same score.
    pub fn count_below_lex(&self, bound: LexBound<'_>) -> usize {
        self.count_below(None, |member, _| match bound {
            LexBound::Lowest => false,
            LexBound::Before(bound) => member < bound,
            LexBound::After(bound) => member <= bound,
            LexBound::Highest => true,
        })
    }

    /// How many members come before a place between members, which need not be there, or stand at it.
    pub(crate) fn count_up_to(&self, member: &[u8], score: f64) -> usize {
        self.count_below(Some(score), |known, known_score| {
            compare((known, known_score), (member, score)).is_le()
        })
    }

    /// `place`: the score at which `below` turns false, unless it does not go by scores.
    fn count_below(&self, place: Option<f64>, below: impl Fn(&[u8], f64) -> bool) -> usize {
        match self.0.view() {
            Kind::First(packed) => pairs(packed).take_while(|&(member, score)| below(member, score)).count(),
            Kind::Second(ordered) => {
                let Ordered { arena, order, .. } = ordered.header();
                match place {
                    Some(place) => order.rank(|ranked| ranked.is_before(arena, place, &below)),
                    None => order.rank(|ranked| {
                        let (member, score) = arena.get(ranked.number);
                        below(member, score)
                    }),
                }
            }
        }
    }

    /// Shows about `count` members from `cursor` on; see [`Table::scan`].
    pub fn scan<'s>(&'s self, cursor: u64, count: usize, mut show: impl FnMut(&'s [u8], f64)) -> u64 {
        match self.0.view() {
            Kind::First(packed) => {
                pairs(packed).for_each(|(member, score)| show(member, score));
                0
            }
            Kind::Second(ordered) => {
                let Ordered { arena, members, .. } = ordered.header();
                members.scan(arena, cursor, count, |&number| {
                    let (member, score) = arena.get(number);
                    show(member, score);
                })
            }
        }
    }

    /// One member, each equally likely.
    ///
    /// # Panics
    /// When the set is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> (&[u8], f64) {
        self.nth(dice.usize(..self.len())).expect("ranks are below the length")
    }

    /// The member has this score, which is not NaN, now; tells whether it is new, or had another one.
    pub(crate) fn add(&mut self, member: &[u8], score: f64) -> Added {
        if let Kind::First(packed) = self.0.view_mut() {
            let known = pairs(packed).enumerate().find(|(_, (name, _))| *name == member);
            let known = known.map(|(at, (_, score))| (at, score));
            if known.is_some_and(|(_, known)| known == score) {
                return Added::Same;
            }
            let fits = packed.count() / 2 < ZSET_MAX_LISTPACK_ENTRIES.get()
                && member.len() <= ZSET_MAX_LISTPACK_VALUE.get();
            if known.is_some() || fits {
                if let Some((at, _)) = known {
                    packed.remove(at * 2, 2);
                }
                let before = |&(name, known): &(&[u8], f64)| compare((name, known), (member, score)).is_lt();
                let at = pairs(packed).take_while(before).count();
                packed.insert_pair(at * 2, ScoreBytes::of(score).bytes(), member);
                return if known.is_some() { Added::Moved } else { Added::New };
            }
            self.grow();
        }
        let Kind::Second(ordered) = self.0.view_mut() else { unreachable!("grown just now") };
        ordered.header_mut().add(member, score)
    }

    fn grow(&mut self) {
        let mut ordered = Ordered::default();
        for (member, score) in self.iter_from(0) {
            ordered.add(member, score);
        }
        self.0 = Either::second(Thin::new(ordered, (), &[]));
    }

    /// The member is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match self.0.view_mut() {
            Kind::First(packed) => {
                let found = packed.position(member, 1, 2);
                found.map(|at| packed.remove(at - 1, 2)).is_some()
            }
            Kind::Second(ordered) => ordered.header_mut().remove(member),
        }
    }

    /// Bytes of memory that the set takes beside itself.
    pub fn memory_bytes(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.memory_bytes(),
            Kind::Second(ordered) => {
                let Ordered { arena, members, order } = ordered.header();
                ordered.memory_bytes() + arena.memory_bytes() + members.memory_bytes() + order.memory_bytes()
            }
        }
    }
}

/// Whether something stands at or before the member of this number.
fn up_to<'a>(arena: &'a Arena, number: u32, place: (&'a [u8], f64)) -> impl Fn(&Ranked) -> bool + 'a {
    let below = move |known: &[u8], other: f64| compare((known, other), place).is_lt();
    move |ranked| ranked.number == number || ranked.is_before(arena, place.1, &below)
}

impl Ordered {
    fn find(&self, member: &[u8]) -> Option<(u32, f64)> {
        let number = *self.members.get(&self.arena, member)?;
        Some((number, self.arena.get(number).1))
    }

    fn rank(&self, member: &[u8], score: f64) -> usize {
        let below = |known: &[u8], other: f64| compare((known, other), (member, score)).is_lt();
        self.order.rank(|ranked| ranked.is_before(&self.arena, score, &below))
    }

    fn add(&mut self, member: &[u8], score: f64) -> Added {
        let added = match self.find(member) {
            Some((_, known)) if known == score => return Added::Same,
            Some((number, known)) => {
                self.leave_order(number, member, known);
                self.arena.set_score(number, score);
                (Added::Moved, number)
            }
            None => {
                let number = self.arena.add(member, score);
                self.members.insert(&self.arena, hash_of(member), number);
                (Added::New, number)
            }
        };
        let arena = &self.arena;
        let below = |known: &[u8], other: f64| compare((known, other), (member, score)).is_lt();
        let ranked = Ranked::of(added.1, score);
        self.order.insert(ranked, |known| known.is_before(arena, score, &below));
        added.0
    }

    /// Takes a member, which has this number and score, out of the ordered tree.
    fn leave_order(&mut self, number: u32, member: &[u8], score: f64) {
        let gone = self.order.remove_last(up_to(&self.arena, number, (member, score)));
        assert_eq!(gone.number, number, "a member stands where its score says");
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some((number, score)) = self.find(member) else { return false };
        self.leave_order(number, member, score);
        self.members.remove(&self.arena, hash_of(member), |&known| known == number);
        self.arena.remove(number);
        while let Some((last, to)) = self.arena.next_move() {
            let arena = &self.arena;
            let (member, score) = arena.get(last);
            let gone = self.order.replace_last(up_to(arena, last, (member, score)), Ranked::of(to, score));
            assert_eq!(gone.number, last, "a member stands where its score says");
            let hash = hash_of(member);
            if let Some(known) = self.members.find_mut(hash, |&known| known == last) {
                *known = to;
            }
            self.arena.carry_out((last, to));
        }
        true
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
#[path = "sorted_set_tests.rs"]
mod tests;
