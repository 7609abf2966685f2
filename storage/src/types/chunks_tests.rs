//! The table of lines against a map.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Of 8 bytes; counts those alive, so that one dropped twice, or not at all, shows.
struct Counted(Box<(u32, Rc<Cell<isize>>)>);

impl Counted {
    fn new(number: u32, alive: &Rc<Cell<isize>>) -> Self {
        alive.set(alive.get() + 1);
        Self(Box::new((number, alive.clone())))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.1.set(self.0.1.get() - 1);
    }
}

/// What tests need to know of an element.
trait Numbered {
    fn number(&self) -> u32;
}

impl Numbered for Counted {
    fn number(&self) -> u32 {
        self.0.0
    }
}

impl Numbered for u32 {
    fn number(&self) -> u32 {
        *self
    }
}

/// How numbers become hashes.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    /// As they should.
    Well,
    /// Few homes and few tags: lines overflow, and tags are the same.
    Few,
    /// One home, and one tag.
    One,
}

fn hash(number: u32, hashing: Hashing) -> u64 {
    // A step of SplitMix64.
    let mixed = |number: u32| {
        let mixed = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    match hashing {
        Hashing::Well => mixed(number),
        Hashing::Few => mixed(number % 5),
        Hashing::One => 0,
    }
}

/// What must hold inside.
fn check<T: Numbered>(table: &Chunks<T>, hashing: Hashing) {
    assert_eq!(table.iter().count(), table.len());
    assert!(table.len() <= Chunks::<T>::room_of(table.words));
    assert_eq!(table.memory_bytes() == 0, table.is_empty());
    let mut passed = vec![0usize; table.lines().max(1)];
    for element in table.iter() {
        let hash = hash(element.number(), hashing);
        let found =
            table.locate(hash, |known| std::ptr::eq(known, element)).expect("it is where it is looked for");
        let mut line = table.home(hash);
        for step in 0..found.passed {
            passed[line] += 1;
            line = table.line_after(line, hash, step);
        }
    }
    for (line, &passed) in passed.iter().enumerate() {
        // SAFETY: the front of a line.
        let counted = usize::from(unsafe { Chunks::<T>::passed(table.line(line)).read() });
        assert!(counted == passed || counted == 255, "{counted} {passed}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u32),
    Take(u32),
    Change(u32),
    Reserve(usize),
    /// Into a new table, the other way round.
    Move,
    /// Half of them are taken out by walking, the others dropped.
    Halve,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0..400u32;
    let step = prop_oneof![
        60 => number.clone().prop_map(Step::Put),
        30 => number.clone().prop_map(Step::Take),
        8 => number.prop_map(Step::Change),
        1 => (0..300usize).prop_map(Step::Reserve),
        1 => Just(Step::Move),
        1 => Just(Step::Halve),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 60 } else { 600 })
}

/// Does the steps, and the same to a map.
fn behaves<T: Numbered>(steps: &[Step], hashing: Hashing, make: impl Fn(u32) -> T) {
    let rehash = |element: &T| hash(element.number(), hashing);
    // The map counts how often a number is in: the table does not forbid it twice.
    let (mut table, mut model) = (Chunks::default(), HashMap::<u32, usize>::new());
    for &step in steps {
        match step {
            Step::Put(number) => {
                table.insert(hash(number, hashing), make(number), rehash);
                *model.entry(number).or_default() += 1;
            }
            Step::Take(number) => {
                let taken = table.remove(hash(number, hashing), |element| element.number() == number, rehash);
                let left = model.get_mut(&number).filter(|left| **left > 0);
                assert_eq!(taken.map(|element| element.number()), left.is_some().then_some(number));
                left.into_iter().for_each(|left| *left -= 1);
            }
            Step::Change(number) => {
                let found = table.find_mut(hash(number, hashing), |element| element.number() == number);
                let is_there = model.get(&number).is_some_and(|left| *left > 0);
                assert_eq!(found.is_some(), is_there);
                found.into_iter().for_each(|found| *found = make(number));
            }
            Step::Reserve(count) => {
                if !table.is_empty() {
                    table.reserve(count, rehash);
                    assert!(Chunks::<T>::room_of(table.words) >= count);
                }
            }
            Step::Move => {
                let all: Vec<T> = std::mem::take(&mut table).into_iter().collect();
                table = Chunks::with_room(all.len());
                let words = table.words;
                all.into_iter().rev().for_each(|element| table.insert(rehash(&element), element, rehash));
                assert_eq!(table.words, words, "there was room");
            }
            Step::Halve => {
                let half = table.len() / 2;
                let mut walk = std::mem::take(&mut table).into_iter();
                let stay: Vec<T> = walk.by_ref().take(half).collect();
                drop(walk);
                model.clear();
                for element in stay {
                    *model.entry(element.number()).or_default() += 1;
                    table.insert(rehash(&element), element, rehash);
                }
            }
        }
        assert_eq!(table.len(), model.values().sum::<usize>());
    }
    check(&table, hashing);
    let mut left = HashMap::<u32, usize>::new();
    table.iter().for_each(|element| *left.entry(element.number()).or_default() += 1);
    model.retain(|_, count| *count > 0);
    assert_eq!(left, model);
    for number in 0..400 {
        let found = table.find(hash(number, hashing), |element| element.number() == number);
        assert_eq!(found.is_some(), model.contains_key(&number));
    }
}

fn hashings() -> impl Strategy<Value = Hashing> {
    prop_oneof![Just(Hashing::Well), Just(Hashing::Few), Just(Hashing::One)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_table_of_pointers_behaves_like_a_map(steps in steps(), hashing in hashings()) {
        let alive = Rc::default();
        behaves(&steps, hashing, |number| Counted::new(number, &alive));
        prop_assert_eq!(alive.get(), 0, "each is dropped once");
    }

    #[test]
    fn a_table_of_numbers_behaves_like_a_map(steps in steps(), hashing in hashings()) {
        behaves(&steps, hashing, |number| number);
    }
}

/// A table of the numbers below `count`.
fn filled(count: u32, hashing: Hashing) -> Chunks<u64> {
    let mut table = Chunks::default();
    for number in 0..count {
        let hash = hash(number, hashing);
        table.insert(hash, hash, |&hash| hash);
    }
    table
}

#[test]
fn an_element_of_eight_bytes_takes_about_eleven() {
    let bytes = |count| filled(count, Hashing::Well).memory_bytes();
    assert_eq!((0..=8).map(bytes).collect::<Vec<_>>(), [0, 16, 32, 32, 48, 48, 64, 64, 128]);
    let each = (10..=201).map(|count| bytes(count) as f64 / f64::from(count));
    let mean = each.clone().sum::<f64>() / 201.0;
    assert!(mean < 11.3, "{mean}");
    assert!(each.fold(0.0, f64::max) < 15.0);
}

#[test]
fn a_lookup_almost_always_ends_in_the_first_line() {
    let (mut lookups, mut hit_lines, mut miss_lines, mut others) = (0, 0, 0, 0);
    for count in 10..=201 {
        let table = filled(count, Hashing::Well);
        for number in 0..count {
            let found = table.locate(hash(number, Hashing::Well), |&known| {
                let is_it = known == hash(number, Hashing::Well);
                others += u32::from(!is_it);
                is_it
            });
            hit_lines += 1 + found.unwrap().passed;
            let missing = hash(number + 1_000_000, Hashing::Well);
            let mut line = table.home(missing);
            let mut step = 0;
            // SAFETY: the front of a line.
            while unsafe { Chunks::<u64>::passed(table.line(line)).read() } > 0 {
                line = table.line_after(line, missing, step);
                step += 1;
            }
            miss_lines += 1 + step;
            lookups += 1;
        }
    }
    let mean = |lines: usize| lines as f64 / f64::from(lookups);
    println!("lines of a hit {}, of a miss {}", mean(hit_lines), mean(miss_lines));
    println!("other elements looked at {}", f64::from(others) / f64::from(lookups));
    assert!(mean(hit_lines) < 1.17 && mean(miss_lines) < 1.6);
    assert!(f64::from(others) / f64::from(lookups) < 0.03);
}

#[test]
fn what_is_likely_is_what_is_found() {
    let table = filled(60, Hashing::Well);
    let mut likely = 0;
    for number in 0..60 {
        let hash = hash(number, Hashing::Well);
        table.prefetch_home(hash);
        table.likely(hash, |&known| likely += usize::from(known == hash));
    }
    assert!(likely > 48, "{likely}");
    Chunks::<u64>::default().prefetch_home(1);
    Chunks::<u64>::default().likely(1, |_| unreachable!("there is none"));
}

#[test]
fn many_in_one_line_and_none_is_lost_when_it_no_longer_counts_them() {
    let mut table = filled(2_000, Hashing::One);
    for left in (0..2_000).rev() {
        assert!(table.remove(0, |_| true, |&hash| hash).is_some());
        assert_eq!((table.len(), table.iter().count()), (left, left));
    }
    assert!(table.find(0, |_| true).is_none());
}

#[test]
fn a_panic_of_the_hash_loses_elements_but_drops_each_once() {
    let alive = Rc::default();
    let mut table = Chunks::default();
    for number in 0..7 {
        table.insert(hash(number, Hashing::Well), Counted::new(number, &alive), |_| unreachable!("one line"));
    }
    let asked = Cell::new(0);
    let grow = std::panic::AssertUnwindSafe(|| {
        table.insert(0, Counted::new(7, &alive), |element| {
            asked.set(asked.get() + 1);
            assert!(asked.get() < 4, "a hash that fails");
            hash(element.number(), Hashing::Well)
        });
    });
    assert!(std::panic::catch_unwind(grow).is_err());
    assert_eq!((table.len(), alive.get()), (3, 3));
    check(&table, Hashing::Well);
    drop(table);
    assert_eq!(alive.get(), 0);
}
