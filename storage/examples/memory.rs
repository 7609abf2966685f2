//! Resident memory per key and the time of the steps that hurt: `cargo run --release -p holdfast-storage --example memory`.
//! Each load fills fresh slots in a process of its own, so that one does not use the memory another gave back.

#![allow(missing_docs, reason = "a measuring program")]

use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_storage::mutation::{Expiry, Few, ListEnd, Mutation};
use holdfast_storage::slots::Slots;
use holdfast_words::SlotId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LOADS: [(&str, usize); 15] = [
    ("strings 16+100", 1_000_000),
    ("strings 16+100, expiring", 1_000_000),
    ("integers", 1_000_000),
    ("small hashes 10x(10+10)", 200_000),
    ("small lists 10x10", 200_000),
    ("small sets 10x10", 200_000),
    ("small integer sets 10", 200_000),
    ("small sorted sets 10x10", 200_000),
    ("one hash 1M", 1_000_000),
    ("one set 1M", 1_000_000),
    ("one sorted set 1M, ascending", 1_000_000),
    ("one sorted set 1M, random", 1_000_000),
    ("one list 1M", 1_000_000),
    ("one set 5M", 5_000_000),
    ("one sorted set 5M, random", 5_000_000),
];

fn main() {
    match std::env::args().nth(1) {
        Some(load) => measure(load.parse().expect("the number of a load")),
        None => {
            println!(
                "{:32} {:>9} {:>12} {:>9} {:>10} {:>9}",
                "load", "count", "bytes each", "ns each", "longest", "over 1 ms"
            );
            let this = std::env::current_exe().expect("a path of this program");
            for index in 0..LOADS.len() {
                let status = Command::new(&this).arg(index.to_string()).status().expect("it can be started");
                assert!(status.success());
            }
        }
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}

/// What this thread has computed so far: a wait for the processor, which others use too, is no pause of ours.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn measure(index: usize) {
    let (name, count) = LOADS[index];
    let slots = Slots::default();
    let before = resident_bytes();
    let (mut longest, mut over, began) = (Duration::ZERO, 0, Instant::now());
    let mut apply = |mutation: Mutation<'_>| {
        let slot = SlotId::of_key(mutation.key().expect("a key"));
        let began = cpu_time();
        slots.with(slot, |slot| slot.load(&mutation)).expect("it fits");
        let took = cpu_time() - began;
        longest = longest.max(took);
        over += u32::from(took > Duration::from_millis(1));
    };
    let value = [b'v'; 100];
    let scattered = |number: usize| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    for number in 0..count {
        let key = format!("key:{number:012}");
        let key = key.as_bytes().into();
        let items: Vec<String> = (0..10).map(|item| format!("m{:09}", number * 10 + item)).collect();
        let item = items[0].as_bytes();
        let bins = || items.iter().map(|item| item.as_bytes().into());
        let big = b"big".as_slice().into();
        apply(match index {
            0 => Mutation::SetString { key, value: value.as_slice().into(), expiry: Expiry::Clear },
            1 => {
                let expiry = Expiry::At(2_000_000_000_000 + scattered(number) % 1_000_000);
                Mutation::SetString { key, value: value.as_slice().into(), expiry }
            }
            2 => Mutation::SetInteger { key, value: number as i64 },
            3 => Mutation::HashSet { key, pairs: bins().zip(bins()).collect() },
            4 => Mutation::ListPush { key, end: ListEnd::Right, values: bins().collect() },
            5 => Mutation::SetAdd { key, members: bins().collect() },
            6 => {
                let members = (0..10).map(|item| (number + item).to_string().into_bytes().into()).collect();
                Mutation::SetAdd { key, members }
            }
            7 => {
                let entries = bins().enumerate().map(|(score, member)| (score as f64, member)).collect();
                Mutation::SortedSetAdd { key, entries }
            }
            8 => Mutation::HashSet { key: big, pairs: Few::of(vec![(item.into(), item.into())]) },
            9 | 13 => Mutation::SetAdd { key: big, members: Few::of(vec![item.into()]) },
            10 => Mutation::SortedSetAdd { key: big, entries: Few::of(vec![(number as f64, item.into())]) },
            11 | 14 => Mutation::SortedSetAdd {
                key: big,
                entries: Few::of(vec![(scattered(number) as f64, item.into())]),
            },
            _ => Mutation::ListPush { key: big, end: ListEnd::Right, values: Few::of(vec![item.into()]) },
        });
    }
    let took = began.elapsed();
    let bytes = resident_bytes().saturating_sub(before) as f64 / count as f64;
    let each = took.as_nanos() as f64 / count as f64;
    println!("{name:32} {count:>9} {bytes:>12.1} {each:>9.0} {longest:>10.0?} {over:>9}");
}
