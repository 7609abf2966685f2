//! Numbered keys of all types, each with a value that follows from its number, written and checked through the cluster client
//! of the `redis` crate, as an application would.

use std::ops::Range;

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::{Cmd, FromRedisValue, Value};

const BATCH: u64 = 250;

/// A connection of the Rust cluster client.
///
/// # Panics
/// When no node answers.
pub fn connect(addresses: &[String]) -> ClusterConnection {
    let urls = addresses.iter().map(|address| format!("redis://{address}"));
    let client = ClusterClient::builder(urls).retries(20).build().expect("the addresses are valid");
    client.get_connection().expect("the cluster answers")
}

/// The key of a number; some share a slot by a hash tag.
pub fn key(prefix: &str, number: u64) -> String {
    match number % 10 {
        0 => format!("{prefix}:{{tag{}}}:{number}", number % 70),
        _ => format!("{prefix}:{number}"),
    }
}

fn writing(prefix: &str, number: u64) -> Cmd {
    let key = key(prefix, number);
    let mut command = Cmd::new();
    match number % 7 {
        0 => command.arg("SET").arg(key).arg(format!("value {number}")),
        1 => command.arg("SET").arg(key).arg(number),
        2 => command.arg("HSET").arg(key).arg("f").arg(number).arg("g").arg("text"),
        3 => command.arg("RPUSH").arg(key).arg("a").arg(number).arg("b"),
        4 => command.arg("SADD").arg(key).arg("a").arg(number),
        5 => command.arg("ZADD").arg(key).arg(number).arg("m").arg("-1.5").arg("n"),
        _ => command.arg("SET").arg(key).arg(vec![number as u8; 40]).arg("PX").arg(1_000_000_000),
    };
    command
}

fn reading(prefix: &str, number: u64) -> Cmd {
    let key = key(prefix, number);
    let mut command = Cmd::new();
    match number % 7 {
        2 => command.arg("HGETALL").arg(key),
        3 => command.arg("LRANGE").arg(key).arg(0).arg(-1),
        4 => command.arg("SMEMBERS").arg(key),
        5 => command.arg("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
        _ => command.arg("GET").arg(key),
    };
    command
}

fn expected(number: u64) -> Vec<Vec<u8>> {
    let text = number.to_string();
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
    match number % 7 {
        0 => words(&[&format!("value {number}")]),
        1 => words(&[&text]),
        2 => words(&["f", &text, "g", "text"]),
        3 => words(&["a", &text, "b"]),
        4 => words(&["a", &text]),
        5 => words(&["n", "-1.5", "m", &text]),
        _ => vec![vec![number as u8; 40]],
    }
}

fn found(number: u64, value: Value) -> Option<Vec<Vec<u8>>> {
    let mut words: Vec<Vec<u8>> = match value {
        Value::Nil => return None,
        Value::Array(values) | Value::Set(values) => {
            values.into_iter().filter_map(|value| Vec::<u8>::from_redis_value(value).ok()).collect()
        }
        value => vec![Vec::<u8>::from_redis_value(value).ok()?],
    };
    match number % 7 {
        2 => {
            let mut pairs: Vec<Vec<Vec<u8>>> = words.chunks(2).map(<[Vec<u8>]>::to_vec).collect();
            pairs.sort();
            words = pairs.concat();
        }
        4 => words.sort_by(|a, b| b.cmp(a)),
        _ => {}
    }
    Some(words)
}

/// Writes the keys of these numbers.
///
/// # Panics
/// When the cluster refuses.
pub fn write(connection: &mut ClusterConnection, prefix: &str, numbers: Range<u64>) {
    for batch in batches(numbers) {
        let mut pipe = cluster_pipe();
        for number in batch {
            pipe.add_command(writing(prefix, number)).ignore();
        }
        pipe.query::<()>(connection).expect("the cluster takes writes");
    }
}

/// What the keys of these numbers should hold and do not, for people; at most a few of them, and how many there are.
///
/// # Panics
/// When the cluster refuses.
pub fn wrong(connection: &mut ClusterConnection, prefix: &str, numbers: Range<u64>) -> (u64, Vec<String>) {
    let (mut count, mut shown) = (0, Vec::new());
    for batch in batches(numbers) {
        let mut pipe = cluster_pipe();
        for number in batch.clone() {
            pipe.add_command(reading(prefix, number));
        }
        let values: Vec<Value> = pipe.query(connection).expect("the cluster answers reads");
        assert_eq!(values.len() as u64, batch.end - batch.start, "a reply for each command");
        for (number, value) in batch.zip(values) {
            let text = format!("{value:?}");
            let mut expected = expected(number);
            if number % 7 == 4 {
                expected.sort_by(|a, b| b.cmp(a));
            }
            if found(number, value) != Some(expected) {
                count += 1;
                if shown.len() < 5 {
                    shown.push(format!("{}: {text}", key(prefix, number)));
                }
            }
        }
    }
    (count, shown)
}

/// All keys of these numbers hold what was written.
///
/// # Panics
/// When one does not.
pub fn assert_all_there(connection: &mut ClusterConnection, prefix: &str, numbers: Range<u64>) {
    let total = numbers.end - numbers.start;
    let (count, shown) = wrong(connection, prefix, numbers);
    assert_eq!(count, 0, "of {total} keys these are missing or wrong: {shown:#?}");
}

fn batches(numbers: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = numbers.end;
    numbers.step_by(BATCH as usize).map(move |start| start..(start + BATCH).min(end))
}
