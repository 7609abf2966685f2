//! apply: what each mutation does, what it refuses, and that all ways to a state give the same one.

use super::*;
use crate::mutation::{BodyBuilder, DeleteReason, Few, decode_body};
use proptest::prelude::*;

fn bin(text: &str) -> Bin<'_> {
    text.as_bytes().into()
}

#[test]
fn an_empty_collection_goes_with_its_key() {
    let mut keys = Keyspace::default();
    apply(&mut keys, &Mutation::SetAdd { key: bin("k"), members: Few::of(vec![bin("a")]) }).unwrap();
    assert_eq!(keys.len(), 1);
    let removed =
        apply(&mut keys, &Mutation::SetRemove { key: bin("k"), members: Few::of(vec![bin("a"), bin("b")]) })
            .unwrap();
    assert_eq!((removed.changed, keys.len(), keys.memory_bytes()), (1, 0, 0));
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let mut keys = Keyspace::default();
    apply(
        &mut keys,
        &Mutation::ListPush { key: bin("l"), end: ListEnd::Left, values: Few::of(vec![bin("x")]) },
    )
    .unwrap();
    apply(&mut keys, &Mutation::SetString { key: bin("text"), value: bin("v"), expiry: Expiry::Clear })
        .unwrap();
    let digest = keys.digest();
    for wrong in [
        Mutation::HashSet { key: bin("l"), pairs: Few::of(vec![(bin("f"), bin("v"))]) },
        Mutation::ListSet { key: bin("l"), index: 1, value: bin("y") },
        Mutation::ListPop { key: bin("missing"), end: ListEnd::Left, count: 1 },
        Mutation::ListRemove { key: bin("l"), indexes: vec![0, 0] },
        Mutation::Rename { from: bin("missing"), to: bin("l") },
        Mutation::Restore { key: bin("l"), value: bin("??"), expiry: Expiry::Clear },
        Mutation::SpliceString { key: bin("l"), offset: 0, bytes: bin("x") },
        Mutation::SpliceString { key: bin("missing"), offset: u64::MAX, bytes: bin("x") },
        Mutation::SpliceString { key: bin("missing"), offset: STRING_MAX as u64, bytes: bin("x") },
        Mutation::SortedSetAdd {
            key: bin("missing"),
            entries: Few::of(vec![(1.0, bin("a")), (f64::NAN, bin("b"))]),
        },
        Mutation::SetAdd { key: bin("text"), members: Few::of(vec![bin("a")]) },
        Mutation::ListTrim { key: bin("l"), start: u64::MAX, length: 2 },
    ] {
        assert!(apply(&mut keys, &wrong).is_err(), "{wrong:?}");
        assert_eq!(keys.digest(), digest, "{wrong:?}");
    }
}

#[test]
fn an_expiry_hides_the_key_makes_it_due_and_can_be_moved() {
    let mut keys = Keyspace::default();
    let set = |expiry| Mutation::SetString { key: bin("k"), value: bin("v"), expiry };
    apply(&mut keys, &set(Expiry::At(1000))).unwrap();
    assert!(keys.get(b"k", 999).is_some() && keys.get(b"k", 1000).is_none() && keys.is_expired(b"k", 1000));
    apply(&mut keys, &set(Expiry::Keep)).unwrap();
    assert_eq!((keys.expiry_ms(b"k"), keys.volatile_len()), (Some(1000), 1));
    let mut due = Vec::new();
    keys.collect_expired(999, 10, &mut due);
    assert!(due.is_empty());
    apply(&mut keys, &Mutation::ExpireAt { key: bin("k"), at_ms: 2000 }).unwrap();
    keys.collect_expired(1500, 10, &mut due);
    assert!(due.is_empty(), "the expiry of before no longer counts");
    keys.collect_expired(2000, 10, &mut due);
    assert_eq!(due, [b"k".to_vec().into_boxed_slice()]);
    apply(&mut keys, &Mutation::Delete { key: bin("k"), reason: DeleteReason::Expired }).unwrap();
    assert_eq!(keys.volatile_len(), 0);
}

#[test]
fn rename_and_copy_take_value_and_expiry_along() {
    let mut keys = Keyspace::default();
    apply(&mut keys, &Mutation::SetString { key: bin("a"), value: bin("7"), expiry: Expiry::At(5000) })
        .unwrap();
    apply(&mut keys, &Mutation::Copy { from: bin("a"), to: bin("b") }).unwrap();
    apply(&mut keys, &Mutation::Rename { from: bin("a"), to: bin("c") }).unwrap();
    assert_eq!((keys.expiry_ms(b"b"), keys.expiry_ms(b"c"), keys.len()), (Some(5000), Some(5000), 2));
    assert!(matches!(keys.get(b"c", 0), Some(ValueRef::String(StringRef::Int(7)))));
}

#[test]
fn a_splice_pads_with_zeros_and_turns_integers_into_text() {
    let mut keys = Keyspace::default();
    apply(&mut keys, &Mutation::SetInteger { key: bin("k"), value: 12 }).unwrap();
    apply(&mut keys, &Mutation::SpliceString { key: bin("k"), offset: 4, bytes: bin("x") }).unwrap();
    assert!(matches!(keys.get(b"k", 0), Some(ValueRef::String(StringRef::Bytes(b"12\0\0x")))));
}

fn replay(keys: &mut Keyspace, body: &[u8]) {
    if !body.is_empty() {
        decode_body(body, |mutation| assert!(apply(keys, &mutation).is_ok())).unwrap();
    }
}

#[test]
fn an_expiry_is_live_what_it_is_after_a_replay() {
    for at_ms in [0, 1, i64::MAX as u64, u64::MAX] {
        for mutations in [
            vec![Mutation::SetString { key: bin("k"), value: bin("v"), expiry: Expiry::At(at_ms) }],
            vec![
                Mutation::SetInteger { key: bin("k"), value: 1 },
                Mutation::ExpireAt { key: bin("k"), at_ms },
            ],
        ] {
            let (mut live, mut replayed, mut body) =
                (Keyspace::default(), Keyspace::default(), BodyBuilder::default());
            for mutation in &mutations {
                apply(&mut live, mutation).unwrap();
                body.push(mutation);
            }
            replay(&mut replayed, body.finish());
            assert_eq!((live.digest(), live.volatile_len()), (replayed.digest(), 1), "{at_ms}");
        }
    }
}

#[test]
fn a_rename_onto_itself_and_a_copy_over_another_type_keep_the_counts() {
    let mut keys = Keyspace::default();
    apply(&mut keys, &Mutation::SetAdd { key: bin("s"), members: Few::of(vec![bin("a"), bin("b")]) })
        .unwrap();
    apply(&mut keys, &Mutation::ExpireAt { key: bin("s"), at_ms: 9 }).unwrap();
    let digest = keys.digest();
    apply(&mut keys, &Mutation::Rename { from: bin("s"), to: bin("s") }).unwrap();
    assert_eq!((keys.digest(), keys.len(), keys.volatile_len()), (digest, 1, 1));
    apply(&mut keys, &Mutation::SetString { key: bin("t"), value: bin("x"), expiry: Expiry::At(4) }).unwrap();
    apply(&mut keys, &Mutation::Copy { from: bin("s"), to: bin("t") }).unwrap();
    assert_eq!((keys.expiry_ms(b"t"), keys.len(), keys.volatile_len()), (Some(9), 2, 2));
    for key in ["s", "t"] {
        apply(&mut keys, &Mutation::Delete { key: bin(key), reason: DeleteReason::Command }).unwrap();
    }
    assert_eq!((keys.len(), keys.volatile_len(), keys.memory), (0, 0, 0));
}

/// One of all kinds of mutations, on few keys, so that types clash and keys come and go.
fn any_mutation() -> impl Strategy<Value = Mutation<'static>> {
    let key = || (0..4u8).prop_map(|number| Bin::Owned(format!("key {number}").into_bytes()));
    let item = || {
        prop_oneof![
            4 => (0..40u32).prop_map(|number| number.to_string().into_bytes()),
            4 => (0..40u32).prop_map(|number| format!("item {number}").into_bytes()),
            1 => (0..90usize).prop_map(|length| vec![b'x'; length]),
            1 => (900..1_200usize).prop_map(|length| vec![b'y'; length]),
        ]
        .prop_map(Bin::Owned)
    };
    let items = move || prop::collection::vec(item(), 0..30);
    let end = || prop::bool::ANY.prop_map(|left| if left { ListEnd::Left } else { ListEnd::Right });
    let expiry = || prop_oneof![Just(Expiry::Clear), Just(Expiry::Keep), (0..99u64).prop_map(Expiry::At)];
    let score = || prop_oneof![(-9..9i32).prop_map(f64::from), Just(0.25), Just(f64::INFINITY)];
    let small = || 0..12u64;
    prop_oneof![
        (key(), item(), expiry()).prop_map(|(key, value, expiry)| Mutation::SetString { key, value, expiry }),
        (key(), any::<i64>()).prop_map(|(key, value)| Mutation::SetInteger { key, value }),
        (key(), 0..1_100u64, item()).prop_map(|(key, offset, bytes)| Mutation::SpliceString {
            key,
            offset,
            bytes
        }),
        key().prop_map(|key| Mutation::Delete { key, reason: DeleteReason::Command }),
        (key(), 0..99u64).prop_map(|(key, at_ms)| Mutation::ExpireAt { key, at_ms }),
        key().prop_map(|key| Mutation::Persist { key }),
        (key(), key()).prop_map(|(from, to)| Mutation::Rename { from, to }),
        (key(), key()).prop_map(|(from, to)| Mutation::Copy { from, to }),
        (key(), items()).prop_map(|(key, items)| {
            Mutation::HashSet { key, pairs: items.iter().cloned().zip(items.iter().rev().cloned()).collect() }
        }),
        (key(), items()).prop_map(|(key, fields)| Mutation::HashDelete { key, fields: Few::of(fields) }),
        (key(), end(), items()).prop_map(|(key, end, values)| Mutation::ListPush {
            key,
            end,
            values: Few::of(values)
        }),
        (key(), end(), small()).prop_map(|(key, end, count)| Mutation::ListPop { key, end, count }),
        (key(), small(), item()).prop_map(|(key, index, value)| Mutation::ListSet { key, index, value }),
        (key(), small(), item()).prop_map(|(key, index, value)| Mutation::ListInsert { key, index, value }),
        (key(), prop::collection::btree_set(small(), 0..6))
            .prop_map(|(key, indexes)| Mutation::ListRemove { key, indexes: indexes.into_iter().collect() }),
        (key(), small(), small()).prop_map(|(key, start, length)| Mutation::ListTrim { key, start, length }),
        (key(), items()).prop_map(|(key, members)| Mutation::SetAdd { key, members: Few::of(members) }),
        (key(), items()).prop_map(|(key, members)| Mutation::SetRemove { key, members: Few::of(members) }),
        (key(), prop::collection::vec((score(), item()), 0..30))
            .prop_map(|(key, entries)| Mutation::SortedSetAdd { key, entries: Few::of(entries) }),
        (key(), items())
            .prop_map(|(key, members)| Mutation::SortedSetRemove { key, members: Few::of(members) }),
    ]
}

/// The same keys, written as an image is and read again.
fn through_an_image(keys: &Keyspace) -> Keyspace {
    let mut loaded = Keyspace::default();
    keys.for_each(|key, value, expiry| {
        let mut bytes = Vec::new();
        value_format::encode(value, &mut bytes);
        let expiry = expiry.map_or(Expiry::Clear, Expiry::At);
        apply(&mut loaded, &Mutation::Restore { key: key.into(), value: bytes.into(), expiry }).unwrap();
    });
    loaded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 192 }))]
    /// A checkpoint in the middle, or none; what is refused, refused everywhere; counts exact.
    #[test]
    fn every_way_to_a_state_gives_the_same_state(
        mutations in prop::collection::vec(any_mutation(), 1..60), image_after in 0..60usize
    ) {
        let (mut live, mut other, mut body) =
            (Keyspace::default(), Keyspace::default(), BodyBuilder::default());
        for (step, mutation) in mutations.iter().enumerate() {
            if step == image_after {
                other = through_an_image(&other);
            }
            let digest = live.digest();
            let applied = apply(&mut live, mutation);
            prop_assert_eq!(&applied, &apply(&mut other, mutation));
            match applied {
                Ok(Applied { changed: 0, .. }) | Err(_) => prop_assert_eq!(live.digest(), digest),
                Ok(_) => body.push(mutation),
            }
            prop_assert_eq!(live.digest(), other.digest());
        }
        let mut replayed = Keyspace::default();
        replay(&mut replayed, body.finish());
        prop_assert_eq!(replayed.digest(), live.digest());
        prop_assert_eq!(through_an_image(&live).digest(), live.digest());
        let (mut volatile, mut memory) = (0, 0);
        for entry in live.keys.iter() {
            volatile += usize::from(entry.expires_at_ms().is_some());
            memory += entry.memory_bytes();
        }
        prop_assert_eq!((live.volatile_len(), live.memory), (volatile, memory));
    }
}
