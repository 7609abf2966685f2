//! Values as bytes, whole and in pieces.

use super::*;
use crate::types::digest;
use proptest::prelude::*;

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value.as_ref(), &mut bytes);
    bytes
}

fn samples() -> Vec<Value> {
    let (mut hash, mut list, mut set, mut sorted) =
        (Hash::default(), List::default(), Set::default(), SortedSet::default());
    let (mut small_hash, mut integers) = (Hash::default(), Set::default());
    for number in 0..300 {
        let text = format!("item {number}");
        hash.set(text.as_bytes(), b"value");
        list.push(ListEnd::Left, text.as_bytes());
        set.add(text.as_bytes());
        sorted.add(text.as_bytes(), f64::from(number) / 3.0);
        integers.add(number.to_string().as_bytes());
    }
    small_hash.set(b"f", b"");
    vec![
        Value::string(b"text"),
        Value::string(b"-12"),
        Value::string(b""),
        Value::Hash(hash),
        Value::Hash(small_hash),
        Value::List(list),
        Value::Set(set),
        Value::Set(integers),
        Value::SortedSet(sorted),
    ]
}

fn assert_same(value: &Value, read: &Value) {
    assert_eq!(digest::of_value(value.as_ref()), digest::of_value(read.as_ref()));
    assert_eq!(value.as_ref().encoding(), read.as_ref().encoding());
    assert_eq!(encoded_len(value.as_ref()), encoded_len(read.as_ref()));
}

#[test]
fn a_value_reads_as_it_was_written_whole_and_in_pieces() {
    for value in samples() {
        let bytes = bytes_of(&value);
        assert_eq!(encoded_len(value.as_ref()), bytes.len() as u64);
        assert_same(&value, &decode(&bytes).unwrap());
        for chunk in [1, 2, 3, 7, 64, 1_000, 1 << 20] {
            let (mut decoder, mut pieces) = (Decoder::default(), Vec::new());
            encode_chunks(value.as_ref(), chunk, |piece| {
                assert!(piece.len() <= chunk && !piece.is_empty());
                pieces.extend_from_slice(piece);
                decoder.push(piece).unwrap();
            });
            assert_eq!(pieces, bytes);
            assert_same(&value, &decoder.finish().unwrap());
        }
    }
}

#[test]
fn known_values_have_the_bytes_they_had_in_version_1() {
    let (mut hash, mut list, mut set, mut sorted) =
        (Hash::default(), List::default(), Set::default(), SortedSet::default());
    hash.set(b"f", b"vw");
    list.push(ListEnd::Right, b"a");
    set.add(b"7");
    sorted.add(b"m", -1.5);
    let count = [1, 0, 0, 0, 0, 0, 0, 0];
    let golden: [(Value, u8, &[u8]); 4] = [
        (Value::Hash(hash), HASH, &[1, 0, 0, 0, b'f', 2, 0, 0, 0, b'v', b'w']),
        (Value::List(list), LIST, &[1, 0, 0, 0, b'a']),
        (Value::Set(set), SET, &[1, 0, 0, 0, b'7']),
        (Value::SortedSet(sorted), SORTED_SET, &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf, 1, 0, 0, 0, b'm']),
    ];
    for (value, kind, items) in golden {
        assert_eq!(bytes_of(&value), [&[1, kind], &count[..], items].concat());
    }
    assert_eq!(bytes_of(&Value::Int(-12)), [1, STRING, b'-', b'1', b'2']);
    assert_eq!(bytes_of(&Value::Bytes(b"text".to_vec())), b"\x01\x00text");
}

#[test]
fn bytes_that_end_early_or_late_are_no_value() {
    for value in samples().into_iter().skip(3) {
        let bytes = bytes_of(&value);
        for cut in (0..bytes.len()).step_by(13) {
            assert!(matches!(decode(&bytes[..cut]), Err(ValueFault::Length(at)) if at <= cut));
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()).err(), Some(ValueFault::Length(bytes.len())));
    }
    assert_eq!(decode(&[2, 0]).err(), Some(ValueFault::Unknown { version: 2, kind: 0 }));
    assert_eq!(decode(&[1, 9]).err(), Some(ValueFault::Unknown { version: 1, kind: 9 }));
}

#[test]
fn what_no_value_can_be_is_refused() {
    let with = |kind: u8, count: u64, items: &[u8]| [&[1, kind], &count.to_le_bytes()[..], items].concat();
    let refused = |bytes: &[u8]| matches!(decode(bytes), Err(ValueFault::Contents(_)));
    for kind in [HASH, LIST, SET, SORTED_SET] {
        assert!(refused(&with(kind, 0, b"")), "a collection of nothing");
    }
    assert!(refused(&with(SET, 2, b"\x01\0\0\0a\x01\0\0\0a")), "a member twice");
    assert!(refused(&with(HASH, 2, b"\x01\0\0\0a\0\0\0\0\x01\0\0\0a\0\0\0\0")), "a field twice");
    assert!(refused(&with(SORTED_SET, 1, &[&f64::NAN.to_le_bytes()[..], b"\x01\0\0\0a"].concat())), "NaN");
    assert!(decode(&with(LIST, 2, b"\x01\0\0\0a\x01\0\0\0a")).is_ok(), "a list may hold a thing twice");
}

proptest! {
    #[test]
    fn bytes_from_anywhere_are_a_value_or_a_fault_never_a_panic(
        kind in 0..6u8, count in 0..5u64, rest in prop::collection::vec(0..4u8, 0..60), cut in 1..20usize
    ) {
        let bytes = [&[1, kind], &count.to_le_bytes()[..], &rest].concat();
        let whole = decode(&bytes);
        let mut decoder = Decoder::default();
        let pieces = bytes.chunks(cut).try_for_each(|piece| decoder.push(piece)).and_then(|()| decoder.finish());
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => {
                prop_assert_eq!(digest::of_value(whole.as_ref()), digest::of_value(pieces.as_ref()));
                prop_assert_eq!(decode(&bytes_of(&whole)).is_ok(), true);
            }
            (whole, pieces) => prop_assert_eq!(whole.is_ok(), pieces.is_ok()),
        }
    }
}
