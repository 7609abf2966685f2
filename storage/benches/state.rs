//! Slots, apply per type, slot images: `cargo bench -p holdfast-storage --bench state -- --quick`

#![allow(missing_docs, reason = "a measuring program")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast_storage::checkpoint::image_format::{
    Compression, ImageBuilder, ImageDecoder, ImageKind, ImageStamp,
};
use holdfast_storage::mutation::{Expiry, Few, ListEnd, Mutation};
use holdfast_storage::slots::Slots;
use holdfast_storage::types::Value;
use holdfast_storage::types::value_format::{self, VALUE_FORMAT_VERSION};
use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static VALUE: [u8; 100] = [b'v'; 100];
/// Keys, and members of a collection, that a mutation may meet.
const COUNT: usize = 100_000;

fn slot_hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot hash");
    for (name, key) in [("key of 16", "key:000000000001"), ("hash tag of 4", "{user}:profile:0000000001")] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| SlotId::of_key(std::hint::black_box(key.as_bytes())))
        });
    }
    group.finish();
}

/// One mutation after the other, of a number that goes through all of [`COUNT`] in no order.
fn apply(criterion: &mut Criterion) {
    let names: Vec<String> = (0..COUNT).map(|number| format!("key:{number:012}")).collect();
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    let mut measure = |name: &str, make: for<'a> fn(&'a [u8], usize) -> Mutation<'a>| {
        let slots = Slots::default();
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number = (number + 61_803) % COUNT;
                let mutation = make(names[number].as_bytes(), number);
                let slot = SlotId::of_key(mutation.key().expect("a key"));
                slots.with(slot, |slot| slot.load(&mutation)).expect("it fits");
            });
        });
    };
    measure("string of 100", |name, _| Mutation::SetString {
        key: name.into(),
        value: VALUE.as_slice().into(),
        expiry: Expiry::Clear,
    });
    measure("integer", |name, number| Mutation::SetInteger { key: name.into(), value: number as i64 });
    measure("hash, one of 100,000 fields", |name, _| Mutation::HashSet {
        key: b"big".as_slice().into(),
        pairs: Few::of(vec![(name.into(), name.into())]),
    });
    measure("set, one of 100,000 members", |name, _| Mutation::SetAdd {
        key: b"big".as_slice().into(),
        members: Few::of(vec![name.into()]),
    });
    measure("sorted set, one of 100,000 members", |name, number| Mutation::SortedSetAdd {
        key: b"big".as_slice().into(),
        entries: Few::of(vec![(number as f64, name.into())]),
    });
    measure("list, one element more", |name, _| Mutation::ListPush {
        key: b"big".as_slice().into(),
        end: ListEnd::Left,
        values: Few::of(vec![name.into()]),
    });
    group.finish();
}

fn images(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1000).map(|number| format!("key:{number:012}")).collect();
    let mut value = Vec::new();
    value_format::encode(Value::string(&VALUE).as_ref(), &mut value);
    let stamp = ImageStamp {
        kind: ImageKind::Slot,
        shard: ShardId([9; 20]),
        slot: SlotId::default(),
        epoch: Epoch::ZERO,
        sequence: SlotSequence(1),
        lsn: Lsn(4096),
        value_version: VALUE_FORMAT_VERSION,
    };
    let mut group = criterion.benchmark_group("image of 1,000 keys");
    group.throughput(Throughput::Elements(keys.len() as u64));
    for (name, compression) in [("plain", Compression::None), ("lz4", Compression::Lz4)] {
        let mut builder = ImageBuilder::new(compression);
        let mut build = || {
            builder.begin(stamp);
            keys.iter().for_each(|key| builder.push(key.as_bytes(), None, &value));
            builder.finish().1.to_vec()
        };
        let image = build();
        group.bench_function(format!("encode, {name}"), |bencher| bencher.iter(&mut build));
        let mut decoder = ImageDecoder::new();
        group.bench_function(format!("decode, {name}"), |bencher| {
            bencher.iter(|| {
                decoder.restart();
                let mut at = 0;
                while !decoder.is_done() {
                    let header = decoder.push_chunk(&image[at..], |_, entry| {
                        value_format::decode(entry.value).expect("a value");
                    });
                    at += header.expect("a sound image").chunk_length() as usize;
                }
                decoder.keys()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, slot_hash, apply, images);
criterion_main!(benches);
