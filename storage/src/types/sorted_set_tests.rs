//! Sorted sets against a sorted vector.

use super::*;
use proptest::prelude::*;

#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let at = self.0.iter().position(|(_, known)| known == member)?;
        Some(self.0.remove(at).0)
    }

    fn add(&mut self, member: &[u8], score: f64) -> Added {
        let known = self.remove(member);
        let before = |(known, name): &(f64, Vec<u8>)| *known < score || *known == score && &name[..] < member;
        let at = self.0.partition_point(before);
        self.0.insert(at, (score, member.to_vec()));
        match known {
            Some(known) if known == score => Added::Same,
            Some(_) => Added::Moved,
            None => Added::New,
        }
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> + ExactSizeIterator {
        self.0.iter().map(|(score, member)| (&member[..], *score))
    }
}

fn check(set: &SortedSet, model: &Model) {
    assert!(set.iter_from(0).eq(model.entries()));
    assert_eq!(set.len(), model.0.len());
    for (rank, (score, member)) in model.0.iter().enumerate().step_by(7) {
        assert_eq!((set.rank(member), set.score(member)), (Some(rank), Some(*score)));
        assert_eq!(set.nth(rank), Some((&member[..], *score)));
        assert!(set.iter_rev_from(rank).take(9).eq(model.entries().take(rank + 1).rev().take(9)));
        assert!(set.iter_from(rank).take(9).eq(model.entries().skip(rank).take(9)));
        let below = model.0.iter().filter(|(known, _)| known < score).count();
        assert_eq!(set.count_below_score(ScoreBound::Before(*score)), below);
        let up_to = model.0.iter().filter(|(known, _)| known <= score).count();
        assert_eq!(set.count_below_score(ScoreBound::After(*score)), up_to);
    }
    assert_eq!(set.nth(model.0.len()), None);
    let (mut cursor, mut scanned) = (0, Vec::new());
    loop {
        cursor = set.scan(cursor, 7, |member, score| scanned.push((score, member.to_vec())));
        if cursor == 0 {
            break;
        }
    }
    scanned.sort_by(|a, b| compare((&a.1, a.0), (&b.1, b.0)));
    assert_eq!(scanned, model.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 48 }))]
    #[test]
    fn a_sorted_set_behaves_like_a_sorted_vector_in_both_forms(
        range in prop::sample::select(vec![30u16, 110, 1_000]),
        steps in prop::collection::vec((any::<u16>(), -9..9i32, 0..10u8), 0..if cfg!(miri) { 60 } else { 1_500 })
    ) {
        let (mut set, mut model) = (SortedSet::default(), Model::default());
        for (number, score, action) in steps {
            let member = format!("m{}", number % range).into_bytes();
            let score = match number % 5 {
                0 => f64::from(score) / 3.0,
                1 => f64::from(score) * 1e9,
                2 if score == 8 => f64::INFINITY,
                2 if score == -9 => f64::NEG_INFINITY,
                _ => f64::from(score),
            };
            if action < 3 {
                prop_assert_eq!(set.remove(&member), model.remove(&member).is_some());
            } else {
                prop_assert_eq!(set.add(&member, score), model.add(&member, score));
            }
        }
        check(&set, &model);
    }
}

#[test]
fn a_set_that_shrinks_gives_its_memory_back_and_stays_in_order() {
    let (mut set, mut model) = (SortedSet::default(), Model::default());
    let mut dice = fastrand::Rng::with_seed(1);
    let members = if cfg!(miri) { 700 } else { 6_000u32 };
    for number in 0..members {
        let (member, score) = (format!("m{number}").into_bytes(), dice.u32(..1_000));
        set.add(&member, f64::from(score));
        model.0.push((f64::from(score), member));
    }
    model.0.sort_by(|a, b| compare((&a.1, a.0), (&b.1, b.0)));
    let full = set.memory_bytes();
    while model.0.len() > 200 {
        let (_, member) = model.0.swap_remove(dice.usize(..model.0.len()));
        assert!(set.remove(&member) && !set.remove(&member));
    }
    model.0.sort_by(|a, b| compare((&a.1, a.0), (&b.1, b.0)));
    check(&set, &model);
    assert!(cfg!(miri) || set.memory_bytes() < full / 5, "{} of {full} bytes left", set.memory_bytes());
}

#[test]
fn the_form_follows_number_and_length_and_bounds_by_name_hold_in_both() {
    let mut set = SortedSet::default();
    let mut names: Vec<Vec<u8>> = Vec::new();
    for number in 0..129u8 {
        names.push(vec![b'a' + number / 26, b'a' + number % 26]);
        set.add(names.last().unwrap(), 1.0);
        let rank = names.len() / 2;
        assert_eq!(set.encoding(), if names.len() <= 128 { "listpack" } else { "skiplist" });
        assert_eq!(set.count_below_lex(LexBound::Before(&names[rank])), rank);
        assert_eq!(set.count_below_lex(LexBound::After(&names[rank])), rank + 1);
        assert_eq!(set.count_below_lex(LexBound::Lowest), 0);
        assert_eq!(set.count_below_lex(LexBound::Highest), names.len());
    }
    let mut set = SortedSet::default();
    set.add(&[b'x'; 65], 1.0);
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn a_packed_score_reads_as_it_was_and_small_integers_are_short() {
    let short =
        [(0.0, 0), (1.0, 1), (-1.0, 1), (127.0, 1), (128.0, 2), (-128.0, 1), (-129.0, 2), (32_768.0, 3)];
    for (score, used) in short {
        assert_eq!(ScoreBytes::of(score).bytes().len(), used, "{score}");
    }
    let others =
        [0.1, -0.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_992.0, f64::MIN_POSITIVE];
    let powers = (0..62)
        .flat_map(|power| [(1i64 << power) as f64, -((1i64 << power) as f64), ((1i64 << power) - 1) as f64]);
    for score in short.iter().map(|(score, _)| *score).chain(others).chain(powers) {
        let read = ScoreBytes::score(ScoreBytes::of(score).bytes());
        assert_eq!(read.to_bits(), score.to_bits(), "{score}");
    }
}
