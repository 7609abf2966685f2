//! Strings against a real redis-server, and what is ours alone.

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "SET t v",
    "SET t v",
    "SET t v [NX|XX] [GET] [EX|PX 100000|5000000]",
    "SET t v [GET] [NX|XX] [KEEPTTL]",
    "SET t v [EXAT 4000000000] [NX]",
    "SET t v PXAT 4000000000123 [GET]",
    "SETNX t v",
    "SETEX t 100000|0|-1 v",
    "PSETEX t 5000000|0 v",
    "GET t",
    "GETSET t v",
    "GETDEL t",
    "GETEX t",
    "GETEX t EX|PX 100000|5000000",
    "GETEX t EXAT 4000000000|1",
    "GETEX t PERSIST",
    "MGET t t s",
    "MSET t,v+",
    "MSETNX t,v+",
    "APPEND t v",
    "STRLEN t",
    "GETRANGE t i i",
    "SUBSTR t i i",
    "SETRANGE t n v",
    "INCR t",
    "DECR t",
    "INCRBY t i",
    "DECRBY t i",
    "INCRBYFLOAT t d",
    "INCRBYFLOAT t f",
    "LCS t t [LEN]",
    "LCS t t IDX [MINMATCHLEN n] [WITHMATCHLEN]",
    "TTL t",
    "SADD s e",
];

const DUMPS: &[&str] = &["MGET t0 t1 t2 t3", "EXPIRETIME t0", "TTL t1", "TTL t2", "TTL t3", "DBSIZE"];

#[test]
fn random_string_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        SADD s a
        SET t v
        SET t v EX
        SET t v EX 0
        SET t v EX -1
        SET t v EX x
        SET t v EX 9223372036854775807
        SET t v PX 9223372036854775807
        SET t v EX 9223372036854775
        SET t v EXAT -5
        SET t v EX 10 PX 10
        SET t v EX 10 EX 20
        TTL t
        SET t v EX 10 KEEPTTL
        SET t v KEEPTTL EX 10
        SET t v KEEPTTL KEEPTTL
        SET t v NX XX
        SET t v XX NX
        SET t v NX NX
        SET t v NX GET
        SET t v XX GET
        SET missing v XX GET
        SET missing v XX
        SET missing v PERSIST
        SET s v GET
        SET s v NX GET
        SET s v GET EX 0
        SET t v junk
        SET t
        SET
        GET
        GET t t
        GET s
        GETSET s v
        GETSET missing1 v
        GETDEL s
        GETDEL missing
        GETEX s
        GETEX missing EX 0
        GETEX t EX 0
        GETEX t EX
        GETEX t NX
        GETEX t KEEPTTL
        GETEX t PERSIST EX 10
        GETEX t EX 10 PERSIST
        GETEX t EXAT 1
        GET t
        SETEX t 0 v
        SETEX t x v
        PSETEX t -1 v
        MSET a
        MSET a b c
        MSETNX a b c
        MSETNX a 1 s 2
        MSET a 1 a 2
        MGET a s missing a
        SET l 9223372036854775807
        INCR l
        DECRBY l -1
        DECRBY l -9223372036854775808
        INCRBY l x
        INCRBY s x
        INCRBY s 1
        INCRBY l 1.5
        INCRBY missing2 -9223372036854775808
        DECR missing2
        SET f 1.5
        INCR f
        INCRBYFLOAT f x
        INCRBYFLOAT s x
        INCRBYFLOAT f inf
        INCRBYFLOAT f -inf
        INCRBYFLOAT f nan
        INCRBYFLOAT f 1e400
        GET f
        SET f 1
        INCRBYFLOAT f 1e4932
        INCRBYFLOAT f 1e4932
        INCRBYFLOAT f 1e-4951
        SET f junk
        INCRBYFLOAT f junk
        INCRBYFLOAT missing3 -0
        INCRBYFLOAT missing3 3.0e3
        INCRBYFLOAT missing3 -0x10
        SET e ''
        INCR e
        INCRBYFLOAT e 1
        APPEND missing4 ''
        EXISTS missing4
        APPEND missing4 12
        APPEND missing5 12
        INCR missing5
        APPEND s x
        SETRANGE s x y
        SETRANGE s 0 ''
        SETRANGE missing6 5 ''
        EXISTS missing6
        SETRANGE missing6 -1 ''
        SETRANGE missing6 536870911 ab
        SETRANGE missing6 536870912 ''
        SETRANGE missing6 9223372036854775807 ab
        SETRANGE missing6 5 ab
        GET missing6
        SETRANGE t 536870911 ab
        GETRANGE missing 0 x
        GETRANGE missing 0 1
        GETRANGE s 0 1
        SET r Hello
        GETRANGE r 0 -100
        GETRANGE r -100 -99
        GETRANGE r -1 -3
        GETRANGE r -3 -1
        GETRANGE r 3 1
        GETRANGE r 9223372036854775807 -9223372036854775808
        GETRANGE r -9223372036854775808 9223372036854775807
        SUBSTR r 1 2
        STRLEN s
        STRLEN missing
        LCS a s
        LCS s s x
        LCS r missing LEN IDX
        LCS r missing junk
        LCS r missing MINMATCHLEN
        LCS r missing MINMATCHLEN x
        LCS r missing
        LCS r missing IDX
        LCS r missing LEN
        MSET k1 ohmytext k2 mynewtext
        LCS k1 k2
        LCS k1 k2 LEN
        LCS k1 k2 IDX
        LCS k1 k2 IDX MINMATCHLEN 4
        LCS k1 k2 IDX MINMATCHLEN -4 WITHMATCHLEN
        LCS k1 k2 IDX MINMATCHLEN 4 WITHMATCHLEN
        LCS k1 k1 WITHMATCHLEN
        ",
    );
}

fn bench() -> Bench {
    Bench::new(Protocol::Resp2)
}

#[test]
fn a_key_set_to_expire_in_the_past_is_gone_in_the_log_too() {
    let mut bench = bench();
    bench.run("SET t v");
    assert_eq!(bench.run("SET t w PXAT 5"), Reply::Simple("OK".to_owned()));
    assert_eq!(bench.run("EXISTS t"), Reply::Integer(0));
    assert_eq!(bench.run("DBSIZE"), Reply::Integer(0));
}

#[test]
fn a_counter_keeps_its_expiry_and_a_fresh_value_does_not() {
    let mut bench = bench();
    bench.run("SET t 5 EX 100");
    bench.run("INCR t");
    bench.run("INCRBYFLOAT t 1.5");
    bench.run("APPEND t 5");
    assert_eq!(bench.run("TTL t"), Reply::Integer(100));
    assert_eq!(bench.run("GET t"), Reply::Bulk("7.55".to_owned()));
    bench.run("GETSET t 5");
    assert_eq!(bench.run("TTL t"), Reply::Integer(-1));
}

#[test]
fn an_expired_key_counts_as_missing_for_every_writer() {
    let mut bench = bench();
    bench.run("MSET a 5 b 5 c 5");
    for key in ["a", "b", "c"] {
        bench.run(&format!("PEXPIRE {key} 10"));
    }
    bench.now_ms += 10;
    assert_eq!(bench.run("INCR a"), Reply::Integer(1));
    assert_eq!(bench.run("APPEND b x"), Reply::Integer(1));
    assert_eq!(bench.run("SETNX c x"), Reply::Integer(1));
    bench.now_ms += 1000;
    assert_eq!(bench.run("EXISTS a b c"), Reply::Integer(3));
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("SET t v");
    bench.run("SADD s a");
    let end = bench.log_end();
    for command in [
        "SET t w NX",
        "SET missing w XX",
        "SET missing v PXAT 5",
        "SETNX t w",
        "GETEX t",
        "GETEX t PERSIST",
        "GETEX missing EX 5",
        "GETDEL missing",
        "MSETNX u 1 t 2",
        "APPEND t ''",
        "SETRANGE missing 5 ''",
        "INCR t",
        "INCRBYFLOAT t 1",
        "SET s v GET",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("GETEX t EX 5");
    assert!(bench.log_end() > end);
}
