//! Expiry, scans and memory of a slot's keys.

use super::*;
use crate::apply::apply;
use crate::mutation::{DeleteReason, Few, ListEnd, Mutation};
use std::collections::BTreeMap;

/// Collections of all types, small and large, their keys and elements in the order of these dice.
fn keys_in_some_order(dice: &mut fastrand::Rng) -> Keyspace {
    let text = |kind: &str, number: usize| format!("{kind} {number}").into_bytes();
    let mut keys = Keyspace::default();
    let mut names: Vec<usize> = (0..400).collect();
    dice.shuffle(&mut names);
    for name in names {
        let mut elements: Vec<usize> = (0..if name % 25 < 5 { 600 } else { name % 7 + 1 }).collect();
        dice.shuffle(&mut elements);
        // In one go or one by one; and some elements that go away again.
        let passing = dice.usize(..300);
        let chunk = dice.usize(1..700);
        let key = text("key", name);
        let key = || key.as_slice().into();
        let integer = |number: usize| number.to_string().into_bytes();
        let member = |number| if name % 2 == 0 { integer(number) } else { text("member", number) };
        let gone = || (1_000..1_000 + passing).map(|number| member(number).into()).collect();
        let mut change = |mutation: Mutation<'_>| {
            apply(&mut keys, &mutation).unwrap();
        };
        match name % 5 {
            0 => {
                change(Mutation::SetAdd { key: key(), members: gone() });
                for part in elements.chunks(chunk) {
                    let members = part.iter().map(|&number| member(number).into()).collect();
                    change(Mutation::SetAdd { key: key(), members });
                }
                change(Mutation::SetRemove { key: key(), members: gone() });
            }
            1 => {
                let pairs = |part: &[usize]| {
                    part.iter().map(|&number| (member(number).into(), integer(number).into())).collect()
                };
                for part in elements.chunks(chunk) {
                    change(Mutation::HashSet { key: key(), pairs: pairs(part) });
                }
                change(Mutation::HashSet {
                    key: key(),
                    pairs: Few::of(vec![(text("x", 0).into(), text("y", 0).into())]),
                });
                change(Mutation::HashDelete { key: key(), fields: Few::of(vec![text("x", 0).into()]) });
            }
            2 => {
                let scored = |&number: &usize| ((number / 3) as f64, member(number).into());
                let entries = elements.iter().map(scored).collect();
                change(Mutation::SortedSetAdd { key: key(), entries });
                change(Mutation::SortedSetAdd {
                    key: key(),
                    entries: Few::of(vec![(9.0, text("x", 0).into())]),
                });
                change(Mutation::SortedSetRemove { key: key(), members: Few::of(vec![text("x", 0).into()]) });
            }
            3 => {
                // A list has an order; from which end it was filled does not count.
                let length = elements.len();
                let middle = dice.usize(..=length);
                let values = |part: std::ops::Range<usize>| {
                    part.map(|number| member(number).into()).collect::<Vec<_>>()
                };
                let (left, right) = (ListEnd::Left, ListEnd::Right);
                change(Mutation::ListPush {
                    key: key(),
                    end: right,
                    values: Few::of(values(middle..length)),
                });
                let mut before: Vec<_> = values(0..middle);
                before.reverse();
                change(Mutation::ListPush { key: key(), end: left, values: Few::of(before) });
            }
            _ => {
                let value = vec![b'x'; name];
                let split = dice.usize(..=name);
                change(Mutation::SetString {
                    key: key(),
                    value: value[..split].into(),
                    expiry: Expiry::At(7),
                });
                let bytes = value[split..].into();
                change(Mutation::SpliceString { key: key(), offset: split as u64, bytes });
            }
        }
    }
    keys
}

#[test]
fn the_digest_is_the_same_whatever_came_first_and_whatever_was_there_in_between() {
    let mut dice = fastrand::Rng::with_seed(4);
    let digest = keys_in_some_order(&mut dice).digest();
    for _ in 0..if cfg!(miri) { 1 } else { 5 } {
        let mut other = keys_in_some_order(&mut dice);
        assert_eq!(other.digest(), digest);
        apply(&mut other, &set("key 0", "other", Expiry::Clear)).unwrap();
        assert_ne!(other.digest(), digest);
    }
}

fn set<'a>(key: &'a str, value: &'a str, expiry: Expiry) -> Mutation<'a> {
    Mutation::SetString { key: key.as_bytes().into(), value: value.as_bytes().into(), expiry }
}

#[test]
fn due_keys_are_those_whose_time_is_past_the_longest_past_first() {
    let (mut keys, mut model) = (Keyspace::default(), BTreeMap::<String, u64>::new());
    let mut dice = fastrand::Rng::with_seed(8);
    for _ in 0..if cfg!(miri) { 200 } else { 20_000 } {
        let key = format!("k{}", dice.u16(..900));
        let at_ms = dice.u64(1..500);
        match dice.u8(..5) {
            0 => {
                let delete = Mutation::Delete { key: key.as_bytes().into(), reason: DeleteReason::Command };
                apply(&mut keys, &delete).unwrap();
                model.remove(&key);
            }
            1 => {
                apply(&mut keys, &set(&key, "v", Expiry::Clear)).unwrap();
                model.remove(&key);
            }
            2 => {
                apply(&mut keys, &Mutation::ExpireAt { key: key.as_bytes().into(), at_ms }).unwrap();
                if keys.contains(key.as_bytes(), 0) {
                    model.insert(key.clone(), at_ms);
                }
            }
            3 => drop(apply(&mut keys, &set(&key, "w", Expiry::Keep)).unwrap()),
            _ => {
                apply(&mut keys, &set(&key, "v", Expiry::At(at_ms))).unwrap();
                model.insert(key.clone(), at_ms);
            }
        }
        assert_eq!(keys.expiry_ms(key.as_bytes()), model.get(&key).copied());
    }
    assert_eq!((keys.volatile_len(), keys.next_expiry_ms()), (model.len(), model.values().min().copied()));
    let mut due = Vec::new();
    keys.collect_expired(250, usize::MAX, &mut due);
    let mut expected: Vec<_> = model.iter().filter(|(_, at_ms)| **at_ms <= 250).collect();
    assert!(due.iter().map(|key| model[std::str::from_utf8(key).unwrap()]).is_sorted());
    assert_eq!(due.len(), expected.len());
    due.sort();
    expected.sort();
    assert!(due.iter().map(|key| &**key).eq(expected.iter().map(|(key, _)| key.as_bytes())));
    let (mut first, before) = (Vec::new(), keys.len());
    while keys.is_due(250) {
        first.clear();
        keys.collect_expired(250, 7, &mut first);
        assert!(!first.is_empty() && first.len() <= 7);
        for key in &first {
            let delete = Mutation::Delete { key: (&**key).into(), reason: DeleteReason::Expired };
            assert_eq!(apply(&mut keys, &delete).unwrap().changed, 1, "each is chosen once");
        }
    }
    assert_eq!(keys.len(), before - due.len());
}

#[test]
fn a_scan_of_keys_shows_all_with_value_and_expiry() {
    let mut keys = Keyspace::default();
    for number in 0..2_000u64 {
        let expiry = if number % 2 == 0 { Expiry::At(number + 1) } else { Expiry::Clear };
        apply(&mut keys, &set(&format!("k{number}"), "v", expiry)).unwrap();
    }
    let (mut cursor, mut seen, mut calls) = (0, BTreeMap::new(), 0);
    loop {
        calls += 1;
        cursor = keys.scan(cursor, 10, |key, value, expiry| {
            assert_eq!(value.type_name(), "string");
            seen.insert(key.to_vec(), expiry);
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(calls > 150, "{calls} calls for 2000 keys, ten at a time");
    assert_eq!(seen.len(), 2_000);
    assert_eq!((seen[&b"k10"[..]], seen[&b"k11"[..]]), (Some(11), None));
}

#[test]
fn reading_a_key_makes_it_used_looking_at_it_does_not() {
    let mut keys = Keyspace::default();
    apply(&mut keys, &set("k", "v", Expiry::Clear)).unwrap();
    let long_ago = clock::coarse_seconds().saturating_sub(100);
    keys.entry(b"k").unwrap().touch(long_ago);
    keys.peek(b"k", 0);
    assert!(keys.idle_seconds(b"k", 0).unwrap() >= 100.min(u64::from(clock::coarse_seconds())));
    keys.get(b"k", 0);
    assert!(keys.idle_seconds(b"k", 0).unwrap() < 50);
}

#[test]
fn memory_is_counted_as_it_comes_and_goes() {
    let mut keys = Keyspace::default();
    assert_eq!((keys.memory_bytes(), size_of::<Keyspace>() <= 80), (0, true));
    apply(&mut keys, &set("k", &"v".repeat(5_000), Expiry::At(9))).unwrap();
    let long = keys.memory_bytes();
    assert!((5_000..5_400).contains(&long), "{long}");
    assert!(keys.memory_usage(b"k", 0).is_some_and(|usage| (5_000..5_200).contains(&usage)));
    apply(&mut keys, &set("k", "v", Expiry::Keep)).unwrap();
    assert!(keys.memory_bytes() < 200);
    let members: Vec<_> = (0..1_000).map(|number| format!("member {number}").into_bytes().into()).collect();
    apply(&mut keys, &Mutation::SetAdd { key: b"s".as_slice().into(), members: Few::of(members) }).unwrap();
    assert!((20_000..80_000).contains(&keys.memory_bytes()), "{}", keys.memory_bytes());
    apply(&mut keys, &Mutation::Delete { key: b"s".as_slice().into(), reason: DeleteReason::Evicted })
        .unwrap();
    assert!(keys.memory_bytes() < 200);
}
