//! Lists against a real redis-server, and what is ours alone.

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "LPUSH l e+",
    "RPUSH l e+",
    "RPUSH l e+",
    "LPUSHX l e+",
    "RPUSHX l e+",
    "LPOP l [n]",
    "RPOP l [n]",
    "LLEN l",
    "LINDEX l i",
    "LSET l i e",
    "LINSERT l BEFORE|AFTER e e",
    "LRANGE l i i",
    "LRANGE l 0 -1",
    "LTRIM l i i",
    "LTRIM l 0 c",
    "LREM l i e",
    "LPOS l e [RANK i] [COUNT n] [MAXLEN n]",
    "LMOVE l l LEFT|RIGHT LEFT|RIGHT",
    "RPOPLPUSH l l",
    "LMPOP #l LEFT|RIGHT [COUNT n]",
    "SADD s e",
];

const DUMPS: &[&str] =
    &["LRANGE l0 0 -1", "LRANGE l1 0 -1", "LRANGE l2 0 -1", "LRANGE l3 0 -1", "LRANGE s0 0 -1"];

#[test]
fn random_list_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

#[test]
fn long_lists_are_answered_as_redis_answers_them() {
    const TEMPLATES: &[&str] = &[
        "LPUSH l w^",
        "RPUSH l w^",
        "RPUSH l e+",
        "LPOP l [c]",
        "RPOP l 20",
        "LINDEX l 150",
        "LINDEX l -150",
        "LSET l 120 e",
        "LSET l -120 w",
        "LINSERT l BEFORE|AFTER w e",
        "LRANGE l 50 300",
        "LRANGE l -300 -50",
        "LTRIM l 0 1000",
        "LTRIM l 10 -10",
        "LREM l i w",
        "LPOS l w [RANK i] [COUNT n]",
        "LMOVE l l LEFT|RIGHT LEFT|RIGHT",
        "LMPOP #l LEFT|RIGHT COUNT 150",
    ];
    compare_random(TEMPLATES, DUMPS, 1, 1500);
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        SADD s a
        RPUSH l a b c 1 2 3 a
        LPUSH s x
        LPUSHX s x
        RPUSHX missing x
        LLEN s
        LINDEX missing notanumber
        LINDEX l notanumber
        LINDEX s notanumber
        LINDEX l -8
        LINDEX l -7
        LSET missing notanumber x
        LSET l notanumber x
        LSET l 7 x
        LSET l -8 x
        LSET l -9223372036854775808 x
        LSET s 0 x
        LINSERT missing SIDEWAYS a b
        LINSERT missing before a b
        LINSERT l after missing b
        LINSERT s before a b
        LRANGE missing x y
        LRANGE s 0 1
        LRANGE l -9223372036854775808 9223372036854775807
        LTRIM missing 0 0
        LTRIM l x 0
        LTRIM s 0 0
        LREM missing x a
        LREM missing 0 a
        LREM s 0 a
        LREM l -9223372036854775808 zzz
        LPOP missing
        LPOP missing 1
        LPOP missing -1
        LPOP l -1
        LPOP l x
        LPOP l 0
        LPOP l 1 1
        LPOP s
        LPOP s 0
        LPOP missing 9223372036854775808
        RPOP l 9223372036854775807
        RPUSH l a b a c a
        LPOS l a RANK 0
        LPOS l a RANK x
        LPOS l a RANK -9223372036854775807
        LPOS l a RANK -1
        LPOS l a RANK 2 COUNT 0
        LPOS l a RANK -2 COUNT 0
        LPOS l a COUNT -1
        LPOS l a MAXLEN -1
        LPOS l a COUNT
        LPOS l a COUNT 1 NOPE
        LPOS l zzz COUNT 1
        LPOS l zzz
        LPOS missing zzz COUNT 1
        LPOS missing zzz
        LPOS s zzz
        LPOS l c MAXLEN 3
        LPOS l c MAXLEN 4
        LPOS l a RANK -1 MAXLEN 2 COUNT 0
        LMOVE missing l UP LEFT
        LMOVE missing s LEFT LEFT
        LMOVE l s LEFT LEFT
        LMOVE s l LEFT LEFT
        LMOVE l l LEFT RIGHT
        LMOVE l l LEFT LEFT
        RPOPLPUSH missing s
        RPOPLPUSH l s
        LMPOP 0 l LEFT
        LMPOP x l LEFT
        LMPOP 2 l LEFT
        LMPOP 1 l MIDDLE
        LMPOP 1 l LEFT COUNT 0
        LMPOP 1 l LEFT COUNT x
        LMPOP 1 l LEFT COUNT
        LMPOP 1 l LEFT COUNT 1 COUNT 1
        LMPOP 9223372036854775807 l LEFT
        LMPOP 2 missing s LEFT
        LMPOP 2 missing missing LEFT
        LMPOP 2 missing l RIGHT COUNT 2
        LMPOP 2 l s LEFT COUNT 100
        LRANGE l 0 -1
        ",
    );
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("RPUSH l a b");
    let end = bench.log_end();
    for command in [
        "LTRIM l 0 -1",
        "LREM l 0 zzz",
        "LPOP l 0",
        "LMOVE l l LEFT LEFT",
        "LINSERT l BEFORE zzz x",
        "LPUSHX missing x",
        "LRANGE l 0 -1",
        "LSET l 9 x",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("LMOVE l l LEFT RIGHT");
    assert!(bench.log_end() > end);
}

#[test]
fn a_list_that_becomes_empty_is_gone() {
    let mut bench = Bench::new(Protocol::Resp2);
    for last in ["LPOP l", "RPOP l 5", "LREM l 0 a", "LTRIM l 1 0", "RPOPLPUSH l other", "LMPOP 1 l LEFT"] {
        bench.run("RPUSH l a");
        bench.run(last);
        assert_eq!(bench.run("RPUSHX l b"), Reply::Integer(0), "{last}");
    }
}
