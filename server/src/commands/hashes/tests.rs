//! Hashes against a real redis-server, and what is ours alone.

use std::collections::BTreeMap;

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "HSET h e,v+",
    "HSET h e,v+",
    "HMSET h e,v+",
    "HSETNX h e v",
    "HGET h e",
    "HMGET h e+",
    "HGETALL h",
    "HKEYS h",
    "HVALS h",
    "HLEN h",
    "HSTRLEN h e",
    "HEXISTS h e",
    "HDEL h e+",
    "HINCRBY h e i",
    "HINCRBYFLOAT h e d",
    "HINCRBYFLOAT h e f",
    "HSCAN h 0 [MATCH g] COUNT 100000",
    "HRANDFIELD h c",
    "HRANDFIELD h c WITHVALUES",
    "OBJECT ENCODING h",
    "SET t v",
];

const DUMPS: &[&str] = &["HGETALL h0", "HGETALL h1", "HGETALL h2", "HGETALL h3", "DBSIZE"];

#[test]
fn random_hash_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

const LARGE_TEMPLATES: &[&str] = &[
    "HSET h w,v^",
    "HSET h w,v^",
    "HDEL h w^",
    "HSET h w,v+",
    "HDEL h w+",
    "HMGET h w^",
    "HLEN h",
    "HINCRBY h w i",
    "HSETNX h w v",
    "HGETALL h",
    "HSCAN h 0 COUNT 100000",
    "HRANDFIELD h c WITHVALUES",
    "OBJECT ENCODING h",
    "DEL h",
];

#[test]
fn large_hashes_are_answered_as_redis_answers_them() {
    compare_random(LARGE_TEMPLATES, DUMPS, 1, 1500);
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        SET t v
        HSET h
        HSET h f
        HSET h f v g
        HMSET h f v g
        HSET t f v
        HMSET t f v
        HSET h f v f w g x
        HMSET h f v i 12 fl 1.5 e ''
        HSETNX t f v
        HSETNX h f v
        HSETNX h n v
        HGET t f
        HGET missing f
        HMGET t f
        HMGET missing f g
        HGETALL t
        HGETALL missing
        HKEYS missing
        HVALS t
        HLEN t
        HSTRLEN h i
        HSTRLEN h missing
        HSTRLEN t f
        HEXISTS t f
        HDEL t f
        HDEL missing f
        HDEL h n n n
        HINCRBY t f x
        HINCRBY t f 1
        HINCRBY h f 1
        HINCRBY h e 1
        HINCRBY h fl 1
        HINCRBY h i 9223372036854775807
        HINCRBY h i 1
        HINCRBY h new -9223372036854775808
        HINCRBY h new -1
        HINCRBYFLOAT t f x
        HINCRBYFLOAT t f 1
        HINCRBYFLOAT h f 1
        HINCRBYFLOAT h e 1
        HINCRBYFLOAT h fl inf
        HINCRBYFLOAT h fl nan
        HINCRBYFLOAT h fl 1e4932
        HINCRBYFLOAT h fl 1e4932
        HINCRBYFLOAT h new2 0.1
        HINCRBYFLOAT h new2 0.2
        HSCAN h x
        HSCAN t 0
        HSCAN missing 0 COUNT 0
        HSCAN h 0 COUNT 0
        HSCAN h 0 COUNT x
        HSCAN h 0 COUNT
        HSCAN h 0 TYPE string
        HSCAN h 0 MATCH
        HSCAN h 0 MATCH f*
        HSCAN h 18446744073709551616
        HRANDFIELD missing
        HRANDFIELD t
        HRANDFIELD missing 5
        HRANDFIELD missing -5
        HRANDFIELD h 0
        HRANDFIELD h x
        HRANDFIELD h 5 WITHVALUE
        HRANDFIELD h 5 WITHVALUES x
        HRANDFIELD h -9223372036854775808
        HRANDFIELD h 9223372036854775807
        HRANDFIELD h 9223372036854775807 WITHVALUES
        HRANDFIELD h -9223372036854775807 WITHVALUES
        DEL h
        HSET h f v
        HRANDFIELD h
        HRANDFIELD h -3
        HRANDFIELD h -3 WITHVALUES
        HRANDFIELD h 3 WITHVALUES
        ",
    );
}

fn bench_with_hash(fields: usize) -> Bench {
    let mut bench = Bench::new(Protocol::Resp3);
    for field in 0..fields {
        bench.run(&format!("HSET h f{field} v{field}"));
    }
    bench
}

fn elements(mut reply: Reply) -> Vec<Reply> {
    reply.elements().expect("an aggregate").clone()
}

#[test]
fn random_fields_are_different_and_each_comes_up() {
    for (fields, count) in [(10, 3), (10, 6), (1000, 5), (1000, 600)] {
        let mut bench = bench_with_hash(fields);
        let mut seen = BTreeMap::new();
        for _ in 0..(20 * fields / count) {
            let pairs = elements(bench.run(&format!("HRANDFIELD h {count} WITHVALUES")));
            let mut distinct = pairs.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!((pairs.len(), distinct.len()), (count, count));
            distinct.into_iter().for_each(|pair| *seen.entry(pair).or_insert(0) += 1);
        }
        // Each is expected 20 times: one that never comes has a chance of 2·10⁻⁹.
        assert_eq!(seen.len(), fields, "{count} of {fields}");
    }
}

#[test]
fn a_scan_shows_every_field_with_its_value() {
    let mut bench = bench_with_hash(3000);
    let (mut cursor, mut seen) = ("0".to_owned(), BTreeMap::new());
    loop {
        let page = elements(bench.run(&format!("HSCAN h {cursor} COUNT 100")));
        let [Reply::Bulk(next), Reply::Array(pairs)] = page.as_slice() else { panic!("{page:?}") };
        for pair in pairs.chunks(2) {
            seen.insert(pair[0].clone(), pair[1].clone());
        }
        cursor.clone_from(next);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 3000);
    assert_eq!(seen[&Reply::Bulk("f7".to_owned())], Reply::Bulk("v7".to_owned()));
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("HSET h f v");
    let end = bench.log_end();
    for command in [
        "HSETNX h f w",
        "HDEL h missing",
        "HDEL missing f",
        "HINCRBY h f 1",
        "HINCRBYFLOAT h f 1",
        "HSET h f",
        "HRANDFIELD h",
        "HGETALL h",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("HDEL h f");
    assert!(bench.log_end() > end);
}
