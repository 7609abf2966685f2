//! What a checkpoint costs in memory and how fast a start is: `cargo run --release -p holdfast-storage --example restart -- [KEYS
//! [UPDATES [DIRECTORY]]]`. Fills a store with keys of 16 and values of 100 bytes, takes a checkpoint, updates keys at random, and
//! opens the directory again in a process of its own, as after a kill.

#![allow(missing_docs, reason = "a measuring program")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use holdfast_storage::mutation::{Expiry, Mutation};
use holdfast_storage::slots::Scratch;
use holdfast_storage::store::{Store, StoreConfig};
use holdfast_words::SlotId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, directory] = &arguments[..]
        && first == "open"
    {
        return open(Path::new(directory));
    }
    let number =
        |at: usize, otherwise| arguments.get(at).map_or(otherwise, |text| text.parse().expect("a number"));
    let (keys, updates) = (number(0, 1_000_000), number(1, 1_000_000));
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = arguments.get(2).map_or(temporary.path(), Path::new);
    fill(directory, keys, updates);
    for _ in 0..3 {
        let this = std::env::current_exe().expect("a path of this program");
        assert!(Command::new(this).arg("open").arg(directory).status().expect("it starts").success());
    }
}

/// Resident bytes now, and the most there ever were.
fn resident_mb() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        let kb: f64 = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number");
        kb / 1024.0
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn say(what: &str) {
    let (now, most) = resident_mb();
    println!("{what:40} resident {now:7.1} MB, most {most:7.1} MB");
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn fill(directory: &Path, keys: u64, updates: u64) {
    let config = StoreConfig { checkpoint_log_size: 0, ..StoreConfig::default() };
    let (store, _) = Store::open(directory, config).expect("a store");
    say("empty");
    let value = [b'v'; 100];
    let mut scratch = Scratch::default();
    let mut set = |number: u64| {
        let key = format!("key:{number:012}");
        let mut slots = store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
        slots.mutate(&Mutation::SetString {
            key: key.as_bytes().into(),
            value: value.as_slice().into(),
            expiry: Expiry::Clear,
        });
        let end = slots.commit().expect("logged");
        if number.is_multiple_of(16) {
            store.log().write_up_to(end).expect("written");
        }
    };
    (0..keys).for_each(&mut set);
    say("keys");
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let report = store.checkpoint().expect("a checkpoint");
    let (took, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    say("checkpoint");
    println!("  {} bytes in {took:.2?}, {cpu:.2} s of processor", report.bytes);
    let mut dice = fastrand::Rng::with_seed(1);
    (0..updates).for_each(|_| set(dice.u64(..keys)));
    store.log().write_up_to(store.log().end().lsn).expect("written");
    say("updates");
}

fn open(directory: &Path) {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let (_store, restart) = Store::open(directory, StoreConfig::default()).expect("a store");
    let (took, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    say("opened");
    println!(
        "  {} keys of images, {} records of the log in {took:.2?}, {cpu:.2} s of processor",
        restart.image_keys, restart.records
    );
}
