//! Members without order. Small and all integers: a sorted run of them, each as wide as the widest needs. Small: one packed run.
//! Large: a table of blocks, one for each member.

use std::borrow::Cow;

use super::limits::{SET_MAX_INTSET_ENTRIES, SET_MAX_LISTPACK_ENTRIES, SET_MAX_LISTPACK_VALUE};
use super::packed::Packed;
use super::table::{Keyed, Own, Table, hash_of, hashes_of};
use super::thin::{Either, Kind, Thin};
use crate::number::parse_i64;

struct Member(Thin);

impl Keyed for Member {
    fn key(&self) -> &[u8] {
        self.0.bytes()
    }

    fn prefetch(&self) {
        self.0.prefetch();
    }
}

#[derive(Default)]
struct Members {
    table: Table<Member>,
    /// Bytes of memory of the members.
    bytes: usize,
}

/// A set. The word of its small form is the packed run's count, or [`INTEGERS`] and the bytes of one integer.
pub struct Set(Either<(), Members, u32>);

/// Says that a small set is a run of integers.
const INTEGERS: u32 = 1 << 31;
const WIDTH_MIN: usize = 2;

impl Default for Set {
    fn default() -> Self {
        Self(Either::first(Thin::new((), INTEGERS | WIDTH_MIN as u32, &[])))
    }
}

/// A sorted run of integers, little endian, `width` bytes each.
#[derive(Clone, Copy)]
struct Integers<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Integers<'a> {
    fn of(run: &'a Packed) -> Option<Self> {
        let is_integers = run.word() & INTEGERS != 0;
        is_integers.then(|| Self { bytes: run.bytes(), width: (run.word() & !INTEGERS) as usize })
    }

    fn len(self) -> usize {
        self.bytes.len() / self.width
    }

    fn get(self, index: usize) -> i64 {
        let bytes = &self.bytes[index * self.width..][..self.width];
        let mut wide = [if bytes[self.width - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
        wide[..self.width].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    }

    fn iter(self) -> impl Iterator<Item = i64> + 'a {
        (0..self.len()).map(move |index| self.get(index))
    }

    /// Where the integer is, or where it would be.
    fn find(self, wanted: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }
}

fn width_of(integer: i64) -> usize {
    if i16::try_from(integer).is_ok() {
        2
    } else if i32::try_from(integer).is_ok() {
        4
    } else {
        8
    }
}

fn integer_text<'a>(number: i64) -> Cow<'a, [u8]> {
    Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec())
}

impl Set {
    /// Number of members.
    pub fn len(&self) -> usize {
        match self.0.view() {
            Kind::First(run) => Integers::of(run).map_or_else(|| run.count(), Integers::len),
            Kind::Second(members) => members.header().table.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            Kind::First(run) if Integers::of(run).is_some() => "intset",
            Kind::First(_) => "listpack",
            Kind::Second(_) => "hashtable",
        }
    }

    /// Whether the member is there.
    pub fn contains(&self, member: &[u8]) -> bool {
        match self.0.view() {
            Kind::First(run) => match Integers::of(run) {
                Some(integers) => parse_i64(member).is_some_and(|number| integers.find(number).is_ok()),
                None => run.position(member, 0, 1).is_some(),
            },
            Kind::Second(members) => members.header().table.get(&Own, member).is_some(),
        }
    }

    /// Begins to fetch what lookups of these members will read.
    pub(crate) fn prefetch<'m>(&self, members: impl Iterator<Item = &'m [u8]>) {
        if let Kind::Second(large) = self.0.view() {
            large.header().table.prefetch(&Own, &hashes_of(members));
        }
    }

    /// The members.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Cow<'_, [u8]>> + '_> {
        match self.0.view() {
            Kind::First(run) => match Integers::of(run) {
                Some(integers) => Box::new(integers.iter().map(integer_text)),
                None => Box::new(run.items().map(Cow::Borrowed)),
            },
            Kind::Second(members) => {
                Box::new(members.header().table.iter().map(|member| Cow::Borrowed(member.key())))
            }
        }
    }

    /// Shows about `count` members from `cursor` on; see [`Table::scan`].
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8])) -> u64 {
        match self.0.view() {
            Kind::Second(members) => {
                members.header().table.scan(&Own, cursor, count, |member| show(member.key()))
            }
            Kind::First(_) => {
                self.iter().for_each(|member| show(&member));
                0
            }
        }
    }

    /// One member, each equally likely.
    ///
    /// # Panics
    /// When the set is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> Cow<'_, [u8]> {
        match self.0.view() {
            Kind::First(run) => match Integers::of(run) {
                Some(integers) => integer_text(integers.get(dice.usize(..integers.len()))),
                None => Cow::Borrowed(run.item(dice.usize(..run.count())).expect("a set has a member")),
            },
            Kind::Second(members) => {
                Cow::Borrowed(members.header().table.random(dice).expect("a set has a member").key())
            }
        }
    }

    /// The member is there now; `true` when it is new.
    pub(crate) fn add(&mut self, member: &[u8]) -> bool {
        if let Kind::First(run) = self.0.view_mut() {
            if let Some(integers) = Integers::of(run) {
                match parse_i64(member).map(|number| (number, integers.find(number))) {
                    Some((_, Ok(_))) => return false,
                    Some((number, Err(at))) if integers.len() < SET_MAX_INTSET_ENTRIES.get() => {
                        insert_integer(run, at, number);
                        return true;
                    }
                    _ => self.leave_integers(member),
                }
            } else if run.position(member, 0, 1).is_some() {
                return false;
            }
        }
        if let Kind::First(run) = self.0.view_mut() {
            if run.count() < SET_MAX_LISTPACK_ENTRIES.get() && member.len() <= SET_MAX_LISTPACK_VALUE.get() {
                run.push(member);
                return true;
            }
            self.grow();
        }
        let Kind::Second(members) = self.0.view_mut() else { unreachable!("grown just now") };
        members.header_mut().add(member)
    }

    /// The integers become strings: packed while that is small, with `next` to come.
    fn leave_integers(&mut self, next: &[u8]) {
        if self.len() < SET_MAX_LISTPACK_ENTRIES.get() && next.len() <= SET_MAX_LISTPACK_VALUE.get() {
            let members: Vec<_> = self.iter().collect();
            let packed = Packed::of(members.iter().map(|member| &**member));
            self.0 = Either::first(packed);
        } else {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let mut members = Members::default();
        for member in self.iter() {
            members.add(&member);
        }
        self.0 = Either::second(Thin::new(members, (), &[]));
    }

    /// The member is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match self.0.view_mut() {
            Kind::First(run) => match Integers::of(run) {
                Some(integers) => {
                    let found = parse_i64(member).and_then(|number| integers.find(number).ok());
                    let width = integers.width;
                    found.map(|at| run.splice(at * width..(at + 1) * width, &[])).is_some()
                }
                None => {
                    let found = run.position(member, 0, 1);
                    found.map(|at| run.remove(at, 1)).is_some()
                }
            },
            Kind::Second(members) => members.header_mut().remove(member),
        }
    }

    /// Bytes of memory that the set takes beside itself.
    pub fn memory_bytes(&self) -> usize {
        match self.0.view() {
            Kind::First(run) => run.memory_bytes(),
            Kind::Second(members) => {
                members.memory_bytes() + members.header().table.memory_bytes() + members.header().bytes
            }
        }
    }
}

/// Puts an integer in front of the one at `at`; all become wider when it needs that.
fn insert_integer(run: &mut Packed, at: usize, integer: i64) {
    let width = (run.word() & !INTEGERS) as usize;
    let wider = width_of(integer);
    if wider > width {
        let integers = Integers { bytes: run.bytes(), width };
        let bytes: Vec<u8> =
            integers.iter().flat_map(|integer| integer.to_le_bytes().into_iter().take(wider)).collect();
        *run = Thin::new((), INTEGERS | wider as u32, &[&bytes]);
    }
    let width = width.max(wider);
    run.splice(at * width..at * width, &[&integer.to_le_bytes()[..width]]);
}

impl Members {
    fn add(&mut self, member: &[u8]) -> bool {
        let hash = hash_of(member);
        if self.table.find(hash, |known| known.key() == member).is_some() {
            return false;
        }
        let new = Member(Thin::new((), (), &[member]));
        self.bytes += new.0.memory_bytes();
        self.table.insert(&Own, hash, new);
        true
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let gone = self.table.remove(&Own, hash_of(member), |known| known.key() == member);
        if let Some(gone) = &gone {
            self.bytes -= gone.0.memory_bytes();
        }
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn member(kind: u8, number: i64) -> Vec<u8> {
        match kind {
            0 => number.to_string().into_bytes(),
            1 => (number * 1_000_003).to_string().into_bytes(),
            2 => number.wrapping_mul(i64::MAX / 50).to_string().into_bytes(),
            3 => format!("m{number}").into_bytes(),
            _ => vec![b'x'; 60 + (number.unsigned_abs() % 10) as usize],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 64 }))]
        #[test]
        fn a_set_behaves_like_a_set_in_every_form(
            kinds in 1..6u8,
            steps in prop::collection::vec((any::<u8>(), -300..300i64, 0..10u8), 0..if cfg!(miri) { 60 } else { 1_500 })
        ) {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            for (kind, number, action) in steps {
                let member = member(kind % kinds, number);
                if action < 3 {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                } else {
                    prop_assert_eq!(set.add(&member), model.insert(member.clone()));
                }
                prop_assert_eq!((set.contains(&member), set.len()), (model.contains(&member), model.len()));
            }
            let all: BTreeSet<_> = set.iter().map(Cow::into_owned).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!(set.iter().count(), model.len());
            let (mut cursor, mut scanned) = (0, BTreeSet::new());
            loop {
                cursor = set.scan(cursor, 7, |member| { scanned.insert(member.to_vec()); });
                if cursor == 0 { break }
            }
            prop_assert_eq!(&scanned, &model);
            if let Kind::Second(members) = set.0.view() {
                let exact: usize = members.header().table.iter().map(|member| member.0.memory_bytes()).sum();
                prop_assert_eq!(members.header().bytes, exact);
            }
            if !model.is_empty() {
                prop_assert!(model.contains(&*set.random(&mut fastrand::Rng::with_seed(1))));
            }
        }
    }

    #[test]
    fn the_form_follows_the_members_and_the_contents_stay() {
        let mut set = Set::default();
        assert!(set.add(b"1") && set.add(b"-7") && !set.add(b"1"));
        assert_eq!(set.encoding(), "intset");
        assert!(!set.contains(b"01"), "only what prints the same is the same member");
        assert!(set.add(b"01"));
        assert_eq!(set.encoding(), "listpack");
        for number in 0..200 {
            set.add(format!("m{number}").as_bytes());
        }
        assert_eq!((set.encoding(), set.len()), ("hashtable", 203));
        assert!(set.contains(b"1") && set.contains(b"-7") && set.contains(b"01"));
        assert!(set.remove(b"-7") && !set.remove(b"-7"));
    }

    #[test]
    fn integers_are_as_wide_as_the_widest_needs() {
        let mut set = Set::default();
        let bytes_after = |set: &mut Set, number: i64| {
            assert!(set.add(number.to_string().as_bytes()));
            set.memory_bytes() - Packed::empty().memory_bytes()
        };
        assert_eq!(bytes_after(&mut set, -32_768), 2);
        assert_eq!(bytes_after(&mut set, 32_768), 8);
        assert_eq!(bytes_after(&mut set, i64::MIN), 24);
        assert_eq!(bytes_after(&mut set, i64::MAX), 32);
        let mut members: Vec<_> =
            set.iter().map(|member| String::from_utf8(member.into_owned()).unwrap()).collect();
        members.sort();
        assert_eq!(members, ["-32768", "-9223372036854775808", "32768", "9223372036854775807"]);
        assert_eq!(set.encoding(), "intset");
    }
}
