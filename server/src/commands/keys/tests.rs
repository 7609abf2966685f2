//! Commands on keys against a real redis-server, and what is ours alone.

use std::collections::BTreeSet;

use holdfast_words::Lsn;

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "SET t v",
    "SADD s e",
    "HSET h e e",
    "RPUSH l e",
    "ZADD z i e",
    "DEL t|s|h t s",
    "UNLINK l|z h",
    "EXISTS t t s h",
    "TOUCH t s",
    "TYPE t",
    "TYPE s",
    "TYPE h",
    "TYPE z",
    "TYPE l",
    "TTL t",
    "PTTL s",
    "EXPIRE t 100000|500000|-1|0 [NX|XX|GT|LT]",
    "PEXPIRE s 100000000|500000000|-1|0 [NX|XX|GT|LT] [XX]",
    "EXPIREAT h 4000000000|4100000000|4200000000|1 [NX|XX|GT|LT]",
    "PEXPIREAT z 4000000000123|4100000000499|4200000000500|-5 [NX|XX|GT|LT] [NX]",
    "EXPIRETIME h",
    "PEXPIRETIME h",
    "EXPIRETIME z",
    "PEXPIRETIME z",
    "PERSIST t",
    "PERSIST z",
    "RENAME t t",
    "RENAME h z",
    "RENAME z h",
    "RENAMENX h t",
    "RENAMENX t s",
    "COPY h h [REPLACE]",
    "COPY z l [REPLACE]",
    "COPY t t [DB 0] [REPLACE]",
    "KEYS *",
    "KEYS t*|?0|[hs]*|*[1-2]",
    "SCAN 0 COUNT 100000 [MATCH t*|?0|*] [TYPE string|hash|zset|set|list|junk]",
    "DBSIZE",
];

const DUMPS: &[&str] = &["KEYS *", "MGET t0 t1 t2 t3", "DBSIZE"];

#[test]
fn random_key_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        SET t v
        DEL
        EXISTS
        TYPE missing
        TTL missing
        PTTL missing
        EXPIRETIME missing
        PEXPIRETIME missing
        TTL t
        PEXPIRETIME t
        EXPIRE t
        EXPIRE t x
        EXPIRE t x NX XX
        EXPIRE t 1 junk
        EXPIRE t 1 NX XX
        EXPIRE t 1 NX GT
        EXPIRE t 1 NX LT
        EXPIRE t 1 GT LT
        EXPIRE t 100 XX GT
        EXPIRE t 100 XX
        EXPIRE t 100 GT
        EXPIRE t 100 LT
        EXPIRE t 100 LT
        EXPIRE t 200 XX GT
        TTL t
        EXPIRE t 9223372036854775807
        EXPIRE t -9223372036854775808
        EXPIRE missing 9223372036854775807
        EXPIRE t 9223372036854775
        PEXPIRE t 9223372036854775807
        PEXPIRE missing 5
        EXPIREAT t 9223372036854775807
        PEXPIREAT t 9223372036854775807
        PEXPIRETIME t
        EXPIRETIME t
        PERSIST t
        PERSIST t
        PERSIST missing
        PEXPIREAT t 9223372036854775807
        EXPIREAT t -9223372036854775
        EXISTS t
        SET t v
        PEXPIREAT t -9223372036854775808 LT
        EXISTS t
        RENAME missing missing
        RENAME missing t
        RENAMENX missing t
        SET t v
        RENAME t t
        RENAMENX t t
        RENAMENX t u
        RENAMENX u u
        SET t w
        RENAMENX t u
        EXPIRE t 1000
        RENAME t u
        TTL u
        GET u
        COPY u u
        COPY missing missing
        COPY missing u
        COPY u t
        COPY u t
        TTL t
        SET u x
        COPY u t REPLACE
        TTL t
        GET t
        COPY u t junk
        COPY u t DB
        COPY u t DB x
        COPY u t DB 0 REPLACE
        COPY u t DB 99
        OBJECT
        OBJECT junk t
        OBJECT ENCODING
        OBJECT ENCODING missing
        OBJECT FREQ t
        OBJECT FREQ missing
        OBJECT REFCOUNT t
        OBJECT REFCOUNT missing
        SET i 9999
        OBJECT REFCOUNT i
        SET i 10000
        OBJECT REFCOUNT i
        OBJECT HELP x
        MEMORY USAGE
        MEMORY USAGE missing
        MEMORY USAGE t SAMPLES
        MEMORY USAGE t SAMPLES x
        MEMORY USAGE t SAMPLES -1
        MEMORY USAGE t junk 1
        KEYS
        SCAN
        SCAN x
        SCAN -
        SCAN 0 COUNT
        SCAN 0 COUNT 0
        SCAN 0 COUNT x
        SCAN 0 MATCH
        SCAN 0 TYPE
        SCAN 0 junk
        SCAN 0 COUNT 1000 TYPE STRING
        SCAN 18446744073709551616
        DBSIZE x
        RANDOMKEY x
        FLUSHALL junk
        FLUSHALL ASYNC SYNC
        FLUSHDB junk
        FLUSHDB ASYNC
        DBSIZE
        RANDOMKEY
        SET only one
        RANDOMKEY
        FLUSHALL SYNC
        KEYS *
        ",
    );
}

#[test]
fn a_string_changed_in_place_is_raw_as_in_redis() {
    compare_script(
        "
        SET {k}a 12
        OBJECT ENCODING {k}a
        APPEND {k}a 3
        OBJECT ENCODING {k}a
        INCR {k}a
        OBJECT ENCODING {k}a
        SET {k}a text
        OBJECT ENCODING {k}a
        APPEND {k}a x
        OBJECT ENCODING {k}a
        RENAME {k}a {k}b
        OBJECT ENCODING {k}b
        SETRANGE new 2 xx
        OBJECT ENCODING new
        APPEND newer x
        OBJECT ENCODING newer
        SETRANGE newer 0 y
        OBJECT ENCODING newer
        SET newer y
        OBJECT ENCODING newer
        ",
    );
}

fn bench_with_keys(keys: usize) -> Bench {
    let mut bench = Bench::new(Protocol::Resp2);
    for key in 0..keys {
        bench.run(&format!("SET key:{key} {key}"));
    }
    bench
}

fn scan_all(bench: &mut Bench, options: &str, mut between: impl FnMut(&mut Bench)) -> BTreeSet<String> {
    let (mut cursor, mut seen) = ("0".to_owned(), BTreeSet::new());
    loop {
        let mut page = bench.run(&format!("SCAN {cursor} {options}"));
        let Some([Reply::Bulk(next), Reply::Array(keys)]) = page.elements().map(|page| page.as_slice())
        else {
            panic!("{page:?}")
        };
        for key in keys {
            let Reply::Bulk(key) = key else { panic!("{key:?}") };
            seen.insert(key.clone());
        }
        cursor.clone_from(next);
        assert!(cursor.parse::<i64>().is_ok(), "{cursor} fits a signed number");
        if cursor == "0" {
            return seen;
        }
        between(bench);
    }
}

#[test]
fn a_scan_shows_every_key_that_is_there_all_the_time() {
    let mut bench = bench_with_keys(3000);
    let mut added = 0;
    let seen = scan_all(&mut bench, "COUNT 100", |bench| {
        // All of these are in one slot, so its table grows under the scan.
        for _ in 0..200 {
            bench.run(&format!("SET {{key:7}}{added} x"));
            added += 1;
        }
    });
    assert_eq!((0..3000).filter(|key| !seen.contains(&format!("key:{key}"))).count(), 0);
    assert_eq!(scan_all(&mut bench, "COUNT 7", |_| {}).len(), 3000 + added);
    assert_eq!(scan_all(&mut bench, "MATCH key:29?? COUNT 1000", |_| {}).len(), 100);
}

#[test]
fn an_expired_key_is_hidden_from_every_walk() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("SET gone x PX 5");
    bench.run("SET stays x");
    bench.now_ms += 5;
    assert_eq!(bench.run("KEYS *"), Reply::Array(vec![Reply::Bulk("stays".to_owned())]));
    assert_eq!(scan_all(&mut bench, "", |_| {}).into_iter().collect::<Vec<_>>(), ["stays"]);
    for _ in 0..50 {
        assert_eq!(bench.run("RANDOMKEY"), Reply::Bulk("stays".to_owned()));
    }
}

#[test]
fn any_key_can_be_the_random_one() {
    let mut bench = bench_with_keys(20);
    let seen: BTreeSet<Reply> = (0..1000).map(|_| bench.run("RANDOMKEY")).collect();
    assert_eq!(seen.len(), 20);
}

#[test]
fn rename_and_copy_reach_into_another_slot() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("HSET h f v");
    bench.run("PEXPIRE h 5000");
    assert_eq!(bench.run("COPY h g"), Reply::Integer(1));
    assert_eq!(bench.run("RENAME h i"), Reply::Simple("OK".to_owned()));
    for key in ["g", "i"] {
        assert_eq!(bench.run(&format!("HGET {key} f")), Reply::Bulk("v".to_owned()));
        assert_eq!(bench.run(&format!("PTTL {key}")), Reply::Integer(5000));
    }
    assert_eq!(bench.run("EXISTS h"), Reply::Integer(0));
}

#[test]
fn flushing_leaves_nothing_also_after_a_restart() {
    let mut bench = bench_with_keys(100);
    bench.run("FLUSHALL");
    bench.run("SET after x");
    let mut bench = bench.restarted();
    assert_eq!(bench.run("KEYS *"), Reply::Array(vec![Reply::Bulk("after".to_owned())]));
    assert_eq!(bench.run("DBSIZE"), Reply::Integer(1));
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("SET t v");
    bench.run("SET u v PX 1000");
    let end = bench.log_end();
    for command in [
        "DEL missing",
        "PERSIST t",
        "PERSIST missing",
        "EXPIRE missing 5",
        "EXPIRE t 5 XX",
        "PEXPIRE u 2000 LT",
        "RENAME t t",
        "RENAMENX t u",
        "COPY t u",
        "COPY missing x",
        "TOUCH t",
        "OBJECT ENCODING t",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("PERSIST u");
    assert!(bench.log_end() > end);
}

#[test]
fn a_walk_waits_for_the_newest_record_of_all_it_shows() {
    let mut bench = bench_with_keys(10);
    let end = bench.log_end();
    for command in ["KEYS *", "SCAN 0 COUNT 1000"] {
        bench.gate_lsn = Lsn::ZERO;
        bench.run(command);
        assert_eq!(bench.gate_lsn, end, "{command}");
    }
    bench.run("GET elsewhere");
    assert_eq!(bench.gate_lsn, Lsn::ZERO);
}

#[test]
fn in_a_transaction_the_walks_see_what_came_before() {
    let mut bench = bench_with_keys(3);
    let replies = bench.transaction(&[
        "DEL key:0 key:1",
        "SET x y",
        "DBSIZE",
        "KEYS x",
        "SCAN 0 COUNT 100 MATCH key*",
        "FLUSHALL",
        "DBSIZE",
        "RANDOMKEY",
    ]);
    let bulk = |text: &str| Reply::Bulk(text.to_owned());
    assert_eq!(
        replies[2..],
        [
            Reply::Integer(2),
            Reply::Array(vec![bulk("x")]),
            Reply::Array(vec![bulk("0"), Reply::Array(vec![bulk("key:2")])]),
            Reply::Simple("OK".to_owned()),
            Reply::Integer(0),
            Reply::NullBulk,
        ]
    );
    assert_eq!(bench.run("DBSIZE"), Reply::Integer(0));
}

#[test]
fn help_is_given_line_by_line() {
    let mut bench = Bench::new(Protocol::Resp3);
    for (command, first) in [("OBJECT HELP", "ENCODING <key>"), ("MEMORY HELP", "DOCTOR")] {
        let mut reply = bench.run(command);
        let lines = reply.elements().expect("an array");
        assert_eq!(lines[1], Reply::Simple(first.to_owned()));
        assert_eq!(lines.last(), Some(&Reply::Simple("    Print this help.".to_owned())));
    }
    assert!(matches!(bench.run("MEMORY DOCTOR"), Reply::Verbatim(text) if text.starts_with("txt:")));
    bench.run("RPUSH l a b c");
    let Reply::Integer(bytes) = bench.run("MEMORY USAGE l SAMPLES 0") else { panic!("a number of bytes") };
    assert!((1..1000).contains(&bytes), "{bytes}");
}
