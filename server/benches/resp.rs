//! Requests parsed, replies written: `cargo bench -p holdfast-server --bench resp -- --quick`

#![allow(missing_docs, reason = "a measuring program")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast_server::resp::{Batch, Limits, Protocol, ReplyWriter, RequestParser};

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn parse(criterion: &mut Criterion) {
    let value = [b'v'; 100];
    let key = b"key:000000000001";
    let mset: Vec<&[u8]> =
        std::iter::once(b"MSET".as_slice()).chain((0..10).flat_map(|_| [key.as_slice(), &value])).collect();
    let requests = [
        ("PING", request(&[b"PING"])),
        ("GET", request(&[b"GET", key])),
        ("SET of 100", request(&[b"SET", key, &value])),
        ("MSET of 10 × 100", request(&mset)),
        ("inline PING", b"PING\r\n".to_vec()),
    ];
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in &requests {
        let mut parser = RequestParser::default();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let (bytes, mut batch) = (std::hint::black_box(bytes.as_slice()), Batch::default());
                if parser.batch(bytes, &mut batch, &limits) {
                    return batch.next_request().expect("a request").0.len();
                }
                let request = parser.next(bytes, &mut 0, &limits);
                request.expect("a request").expect("all of it").arguments().len()
            });
        });
    }
    let bytes = requests[2].1.repeat(16);
    group.throughput(Throughput::Elements(16));
    group.bench_function("16 SETs in one buffer", |bencher| {
        let mut parser = RequestParser::default();
        bencher.iter(|| {
            let mut words = 0;
            let mut batch = Batch::default();
            assert!(parser.batch(&bytes, &mut batch, &limits));
            while let Some((arguments, _)) = batch.next_request() {
                words += arguments.len();
            }
            words
        });
    });
    group.finish();
}

fn reply(criterion: &mut Criterion) {
    let value = [b'v'; 100];
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("reply");
    let mut measure = |name: &str, write: &dyn Fn(&mut ReplyWriter<'_>)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write(&mut ReplyWriter::new(&mut out, Protocol::Resp2));
                out.len()
            });
        });
    };
    measure("OK", &|reply| reply.ok());
    measure("integer", &|reply| reply.integer(123_456));
    measure("bulk of 100", &|reply| reply.bulk(&value));
    measure("array of 100 bulks of 3", &|reply| {
        reply.array(100);
        (0..100).for_each(|_| reply.bulk(b"xxx"));
    });
    group.finish();
}

criterion_group!(benches, parse, reply);
criterion_main!(benches);
