//! Records and segments: `cargo bench -p holdfast-storage --bench log -- --quick`

#![allow(missing_docs, reason = "a measuring program")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_storage::log::{
    FsyncPolicy, Log, LogConfig, RecordHeader, RecordKind, RecordView, VisitError, encode_record, format,
    reader,
};
use holdfast_storage::mutation::{BodyBuilder, Expiry, Mutation, decode_body};
use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};

static VALUE: [u8; 100] = [b'v'; 100];
/// Records of the segment that is scanned.
const SCANNED: u64 = 100_000;

fn header(slot: u16, sequence: u64) -> RecordHeader {
    RecordHeader {
        kind: RecordKind::Mutations,
        flags: 0,
        slot: SlotId::new(slot).expect("a slot"),
        epoch: Epoch::ZERO,
        sequence: SlotSequence(sequence),
        wall_clock_ms: 1_700_000_000_000,
    }
}

fn set(key: &[u8]) -> Mutation<'_> {
    Mutation::SetString { key: key.into(), value: VALUE.as_slice().into(), expiry: Expiry::Clear }
}

fn body() -> Vec<u8> {
    let mut encoder = BodyBuilder::default();
    encoder.push(&set(b"key:000000000001"));
    encoder.finish().to_vec()
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let body = body();
    let mut encoder = BodyBuilder::default();
    let mutation = set(b"key:000000000001");
    group.bench_function("body of a SET", |bencher| {
        bencher.iter(|| {
            encoder.clear();
            encoder.push(&mutation);
            encoder.finish().len()
        });
    });
    group.bench_function("decode the body of a SET", |bencher| {
        bencher.iter(|| decode_body(&body, |mutation| drop(std::hint::black_box(mutation))));
    });
    let mut record = Vec::new();
    encode_record(&mut record, &header(1, 1), &body);
    format::place_records(&mut record, Lsn(4096));
    group.throughput(Throughput::Bytes(record.len() as u64));
    let mut out = Vec::new();
    group.bench_function("encode and crc", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_record(&mut out, &header(1, 1), &body);
            format::place_records(&mut out, Lsn(4096));
            out.len()
        });
    });
    group.bench_function("crc and decode", |bencher| {
        bencher.iter(|| format::decode_record(&record, Lsn(4096)).map(|record| record.body.len()));
    });
    group.finish();
}

fn new_log() -> (tempfile::TempDir, std::sync::Arc<Log>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = LogConfig { fsync: FsyncPolicy::No, ..LogConfig::default() };
    let mut nobody = |_: &RecordView<'_>| -> Result<(), VisitError> { Ok(()) };
    let open = Log::open(directory.path(), ShardId([9; 20]), &config, Lsn::ZERO, Lsn::ZERO, &mut nobody);
    let (log, _) = open.expect("a new log");
    (directory, log)
}

/// What a record holds the log's one lock for, that on the records not yet written: more workers than fit into it wait for it.
fn append(criterion: &mut Criterion) {
    let (_directory, log) = new_log();
    let mut record = Vec::new();
    encode_record(&mut record, &header(7, 1), &body());
    criterion.benchmark_group("log").bench_function("append of a SET", |bencher| {
        bencher.iter_custom(|count| {
            let mut taken = std::time::Duration::ZERO;
            let mut rest = count;
            while rest > 0 {
                let batch = rest.min(400);
                let began = std::time::Instant::now();
                for _ in 0..batch {
                    log.append(&mut record).expect("it takes records");
                }
                taken += began.elapsed();
                rest -= batch;
                log.write_up_to(log.end().lsn).expect("it can be written");
                log.release_below(log.end().lsn).expect("segments can be released");
            }
            taken
        });
    });
}

fn segments(criterion: &mut Criterion) {
    let (directory, log) = new_log();
    let body = body();
    let mut batch = Vec::new();
    for number in 0..SCANNED {
        let slot = (number % 16_384) as u16;
        encode_record(&mut batch, &header(slot, number / 16_384 + 1), &body);
        if batch.len() > 1 << 16 || number + 1 == SCANNED {
            let end = log.append(&mut batch).expect("it takes records");
            log.write_up_to(end).expect("it can be written");
            batch.clear();
        }
    }
    let bytes = log.stats().bytes;
    let mut group = criterion.benchmark_group("segment");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function(format!("scan of {SCANNED} records"), |bencher| {
        bencher.iter_batched(
            || 0_u64,
            |mut count| {
                let mut visitor = |_: &RecordView<'_>| -> Result<(), VisitError> {
                    count += 1;
                    Ok(())
                };
                reader::read(directory.path(), Lsn::ZERO, &mut visitor).expect("a sound log");
                assert_eq!(count, SCANNED);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, records, append, segments);
criterion_main!(benches);
