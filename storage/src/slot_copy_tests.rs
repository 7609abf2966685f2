//! Facts about copies that are made while the slot changes.

use super::*;
use crate::apply::apply;
use crate::mutation::{Bin, DeleteReason, Expiry, Few};
use crate::types::StringRef;

const LARGE: [&str; 5] = ["hash", "set", "zset", "list", "text"];

fn bytes(text: impl Into<String>) -> std::borrow::Cow<'static, [u8]> {
    text.into().into_bytes().into()
}

fn filled() -> Keyspace {
    let mut keys = Keyspace::default();
    let mut put = |mutation: Mutation<'_>| {
        apply(&mut keys, &mutation).unwrap();
    };
    for number in 0..4_000u32 {
        let name = || bytes(format!("member {number:08}"));
        put(Mutation::HashSet {
            key: bytes("hash"),
            pairs: Few::of(vec![(name(), bytes(format!("value {number:020}")))]),
        });
        put(Mutation::SetAdd {
            key: bytes("set"),
            members: Few::of(vec![bytes(format!("member {number:030}"))]),
        });
        put(Mutation::SortedSetAdd {
            key: bytes("zset"),
            entries: Few::of(vec![(f64::from(number / 3), name())]),
        });
        let values = vec![bytes(format!("element {number:020}"))];
        put(Mutation::ListPush { key: bytes("list"), end: ListEnd::Right, values: Few::of(values) });
    }
    let text = bytes("0123456789".repeat(20_000));
    put(Mutation::SpliceString { key: bytes("text"), offset: 0, bytes: text });
    for number in 0..600 {
        let expiry = if number % 3 == 0 { Expiry::At(number + 1) } else { Expiry::Clear };
        put(Mutation::SetString { key: bytes(format!("small {number}")), value: bytes("value"), expiry });
    }
    for key in LARGE {
        assert!(keys.weigh(key.as_bytes()).unwrap().1 > LARGE_BYTES, "{key}");
    }
    keys
}

/// Something that a command could do to the keys as they are.
fn any_mutation(keys: &Keyspace, dice: &mut fastrand::Rng, is_mild: bool) -> Mutation<'static> {
    let small = |dice: &mut fastrand::Rng| bytes(format!("small {}", dice.u32(..900)));
    let any = |dice: &mut fastrand::Rng| {
        if dice.bool() {
            bytes(*dice.choice(LARGE.iter()).unwrap())
        } else {
            bytes(format!("small {}", dice.u32(..900)))
        }
    };
    let member = |dice: &mut fastrand::Rng| bytes(format!("member {:08}", dice.u32(..5_000)));
    match dice.u32(..if is_mild { 20 } else { 27 }) {
        0..3 => Mutation::SetString { key: small(dice), value: bytes("new"), expiry: Expiry::Clear },
        3 => Mutation::Delete { key: small(dice), reason: DeleteReason::Command },
        4 => Mutation::ExpireAt { key: any(dice), at_ms: dice.u64(1..1_000_000) },
        5 => Mutation::Persist { key: any(dice) },
        20 => Mutation::Delete { key: any(dice), reason: DeleteReason::Command },
        21 => Mutation::SetString { key: any(dice), value: bytes("a string now"), expiry: Expiry::Keep },
        22..24 => {
            let (from, to) = (any(dice), any(dice));
            if keys.weigh(&from).is_none() || from == to {
                return Mutation::Persist { key: from };
            }
            if dice.bool() { Mutation::Copy { from, to } } else { Mutation::Rename { from, to } }
        }
        24..27 => {
            // What is in a large key moves to a small one's place, and is changed there from then on.
            let (from, to) = (bytes(*dice.choice(LARGE.iter()).unwrap()), small(dice));
            if keys.weigh(&from).is_none() {
                Mutation::Persist { key: from }
            } else {
                Mutation::Rename { from, to }
            }
        }
        _ => {
            // A key of any type, at its place or another's.
            let key = any(dice);
            match keys.weigh(&key).map(|(entry, _)| entry.value()) {
                None => Mutation::SetAdd { key, members: Few::of(vec![member(dice)]) },
                Some(ValueRef::Hash(_)) if dice.bool() => {
                    Mutation::HashDelete { key, fields: Few::of(vec![member(dice)]) }
                }
                Some(ValueRef::Hash(_)) => {
                    Mutation::HashSet { key, pairs: Few::of(vec![(member(dice), bytes("x"))]) }
                }
                Some(ValueRef::Set(set)) => {
                    let members = vec![bytes(format!("member {:030}", dice.u32(..5_000)))];
                    let is_there = set.contains(&members[0]);
                    let members = Few::of(members);
                    if is_there {
                        Mutation::SetRemove { key, members }
                    } else {
                        Mutation::SetAdd { key, members }
                    }
                }
                Some(ValueRef::SortedSet(_)) if dice.bool() => {
                    Mutation::SortedSetRemove { key, members: Few::of(vec![member(dice)]) }
                }
                Some(ValueRef::SortedSet(_)) => {
                    let score = f64::from(dice.u32(..2_000));
                    Mutation::SortedSetAdd { key, entries: Few::of(vec![(score, member(dice))]) }
                }
                Some(ValueRef::String(text)) => {
                    let offset = dice.u64(..text.len() as u64 + 100);
                    Mutation::SpliceString { key, offset, bytes: bytes("#".repeat(dice.usize(1..3_000))) }
                }
                Some(ValueRef::List(list)) => any_of_list(key, list.len() as u64, dice),
            }
        }
    }
}

fn any_of_list(key: Bin<'static>, length: u64, dice: &mut fastrand::Rng) -> Mutation<'static> {
    let end = if dice.bool() { ListEnd::Left } else { ListEnd::Right };
    let value = bytes(format!("new {}", dice.u32(..)));
    match dice.u32(..60) {
        0..15 => Mutation::ListPush { key, end, values: Few::of(vec![value.clone(), value]) },
        15..35 => Mutation::ListPop { key, end, count: dice.u64(1..=3.min(length)) },
        35..50 => Mutation::ListSet { key, index: dice.u64(..length), value },
        50..54 => Mutation::ListInsert { key, index: dice.u64(..=length), value },
        54..59 => {
            let mut indexes: Vec<u64> = (0..3).map(|_| dice.u64(..length)).collect();
            indexes.sort_unstable();
            indexes.dedup();
            Mutation::ListRemove { key, indexes }
        }
        _ => {
            let start = dice.u64(..length);
            Mutation::ListTrim { key, start: start / 8, length: length - start / 4 }
        }
    }
}

/// Copies the keys, changing them between the steps; returns how many bytes the largest step copied.
fn copy_while_changing(keys: &mut Keyspace, dice: &mut fastrand::Rng, changes: u32, is_mild: bool) -> usize {
    let (digest, length) = (keys.digest(), keys.len());
    let (mut copy, mut loaded, mut most) = (SlotCopy::new(), Keyspace::default(), 0);
    let mut first_parts = 0;
    loop {
        for _ in 0..dice.u32(..=changes) {
            let mutation = any_mutation(keys, dice, is_mild);
            assert!(copy.before(keys, &mutation));
            apply(keys, &mutation).unwrap();
        }
        let mut copied = 0;
        let stepped = copy.step(keys, 4 << 10, &mut |key, expires_at_ms, value, is_more| {
            copied += value.len();
            first_parts += usize::from(!is_more);
            loaded.load(key, value, expires_at_ms, is_more).unwrap();
        });
        most = most.max(copied);
        if stepped.is_done {
            break;
        }
    }
    assert_eq!((first_parts, loaded.len()), (length, length), "each key is copied once");
    assert_eq!(loaded.digest(), digest, "the copy is the slot as it was when the copy began");
    most
}

#[test]
fn a_copy_is_the_slot_as_it_was_whatever_happens_meanwhile() {
    for seed in 0..12 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut keys = filled();
        copy_while_changing(&mut keys, &mut dice, 12, seed % 2 == 0);
        // And once more, from what that left.
        copy_while_changing(&mut keys, &mut dice, 3, false);
    }
}

#[test]
fn no_step_copies_much_more_than_it_is_told_to() {
    let mut keys = filled();
    let most = copy_while_changing(&mut keys, &mut fastrand::Rng::with_seed(1), 0, true);
    assert!(most < 24 << 10, "{most} bytes in one step");
}

#[test]
fn a_slot_that_is_emptied_is_copied_anew() {
    let mut keys = filled();
    assert!(!SlotCopy::new().before(&mut keys, &Mutation::FlushSlot));
}

#[test]
fn a_large_value_that_is_replaced_is_handed_back_to_be_dropped() {
    let mut keys = filled();
    let mut copy = SlotCopy::new();
    let mutation = Mutation::SetInteger { key: bytes("hash"), value: 7 };
    assert!(copy.before(&mut keys, &mutation));
    apply(&mut keys, &mutation).unwrap();
    assert_eq!(
        keys.peek(b"hash", 0).map(|value| matches!(value, ValueRef::String(StringRef::Int(7)))),
        Some(true)
    );
    let mut garbage = 0;
    loop {
        let stepped = copy.step(&keys, usize::MAX, &mut |_, _, _, _| {});
        garbage += usize::from(matches!(stepped.garbage, Some(Held::Hash(hash)) if hash.len() == 4_000));
        if stepped.is_done {
            break;
        }
    }
    assert_eq!(garbage, 1);
}

#[test]
fn what_takes_the_place_of_an_emptied_collection_is_not_copied() {
    let mut keys = filled();
    let (digest, mut copy, mut loaded) = (keys.digest(), SlotCopy::new(), Keyspace::default());
    let all = |name: &str, width: usize| {
        (0..4_000).map(|number| bytes(format!("{name} {number:0width$}"))).collect()
    };
    let changes = [
        Mutation::HashDelete { key: bytes("hash"), fields: all("member", 8) },
        Mutation::HashSet { key: bytes("hash"), pairs: Few::of(vec![(bytes("new"), bytes("new"))]) },
        Mutation::SetRemove { key: bytes("set"), members: all("member", 30) },
        Mutation::HashSet { key: bytes("set"), pairs: Few::of(vec![(bytes("new"), bytes("new"))]) },
        Mutation::SortedSetRemove { key: bytes("zset"), members: all("member", 8) },
        Mutation::SortedSetAdd { key: bytes("zset"), entries: Few::of(vec![(1e9, bytes("new"))]) },
        Mutation::ListPop { key: bytes("list"), end: ListEnd::Right, count: 4_000 },
        Mutation::ListPush { key: bytes("list"), end: ListEnd::Right, values: Few::of(vec![bytes("new")]) },
    ];
    for mutation in &changes {
        assert!(copy.before(&mut keys, mutation));
        assert!(apply(&mut keys, mutation).unwrap().changed > 0);
    }
    let mut load = |key: &[u8], expires_at_ms: Option<u64>, value: &[u8], is_more: bool| {
        loaded.load(key, value, expires_at_ms, is_more).unwrap();
    };
    while !copy.step(&keys, 1 << 10, &mut load).is_done {}
    assert_eq!(loaded.digest(), digest);
}
