//! Sets against a real redis-server, and what is ours alone.

use std::collections::BTreeMap;

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "SADD s e+",
    "SADD s e+",
    "SADD s i+",
    "SREM s e+",
    "SISMEMBER s e",
    "SMISMEMBER s e+",
    "SCARD s",
    "SMEMBERS s",
    "SMOVE s s e",
    "SPOP s c",
    "SRANDMEMBER s c",
    "SINTER s+",
    "SUNION s+",
    "SDIFF s+",
    "SINTERSTORE s s+",
    "SUNIONSTORE s s+",
    "SDIFFSTORE s s+",
    "SINTERCARD #s [LIMIT n]",
    "SSCAN s 0 COUNT c",
    "SSCAN s 0 COUNT 100000 [MATCH g]",
    "RPUSH l e",
];

const DUMPS: &[&str] = &["SMEMBERS s0", "SMEMBERS s1", "SMEMBERS s2", "SMEMBERS s3", "LRANGE l0 0 -1"];

#[test]
fn random_set_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

#[test]
fn large_sets_are_answered_as_redis_answers_them() {
    const TEMPLATES: &[&str] = &[
        "SADD s w^",
        "SADD s i e",
        "SREM s w^",
        "SREM s w+",
        "SMISMEMBER s w+",
        "SMOVE s s w",
        "SCARD s",
        "SPOP s c",
        "SRANDMEMBER s c",
        "SINTER s+",
        "SUNION s+",
        "SDIFF s+",
        "SINTERSTORE s s+",
        "SUNIONSTORE s s+",
        "SDIFFSTORE s s+",
        "SINTERCARD #s [LIMIT n]",
        "SSCAN s 0 COUNT 100000 [MATCH g]",
    ];
    compare_random(TEMPLATES, DUMPS, 1, 1500);
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        RPUSH l a
        SADD s a b c 1 2 3
        SADD l a
        SREM l a
        SREM missing a
        SISMEMBER l a
        SISMEMBER missing a
        SMISMEMBER missing a b
        SMISMEMBER l a
        SCARD missing
        SCARD l
        SMEMBERS missing
        SMEMBERS l
        SMOVE missing l a
        SMOVE s l a
        SMOVE s l zzz
        SMOVE l s a
        SMOVE s s a
        SMOVE s s zzz
        SMOVE s other zzz
        SMOVE s other a
        SPOP missing
        SPOP missing 1
        SPOP missing -1
        SPOP missing x
        SPOP l
        SPOP l 0
        SPOP s 0
        SPOP s 1 1
        SRANDMEMBER missing
        SRANDMEMBER missing 5
        SRANDMEMBER missing x
        SRANDMEMBER missing -9223372036854775808
        SRANDMEMBER s 0
        SRANDMEMBER s 1 1
        SRANDMEMBER l
        SRANDMEMBER other
        SRANDMEMBER other -3
        SRANDMEMBER other 3
        SINTER missing l
        SINTER s missing
        SINTER s l
        SUNION missing l
        SUNION missing missing
        SDIFF missing l
        SDIFF s missing
        SDIFF s s
        SINTERSTORE l s other
        SINTERSTORE l s s
        SUNIONSTORE missing missing
        SDIFFSTORE l l s
        SDIFFSTORE s s other
        SMEMBERS s
        SMEMBERS l
        SINTERCARD 0 s
        SINTERCARD x s
        SINTERCARD 2 s
        SINTERCARD 1 s LIMIT
        SINTERCARD 1 s LIMIT -1
        SINTERCARD 1 s LIMIT x
        SINTERCARD 1 s NOPE 1
        SINTERCARD 1 s LIMIT 2
        SINTERCARD 1 s LIMIT 0
        SINTERCARD 2 s missing LIMIT 1
        SINTERCARD 9223372036854775807 s
        SSCAN missing x
        SSCAN missing 0 NOPE
        SSCAN s 0 NOPE
        SSCAN s 0 COUNT 0
        SSCAN s 0 COUNT x
        SSCAN s 0 COUNT
        SSCAN s 0 MATCH
        SSCAN s 0 MATCH [0-9]
        SSCAN s 1x
        ",
    );
}

fn members(reply: Reply) -> Vec<String> {
    let (Reply::Array(elements) | Reply::Set(elements)) = reply else { panic!("members in {reply:?}") };
    let text =
        |element| if let Reply::Bulk(text) = element { text } else { panic!("a member in {element:?}") };
    elements.into_iter().map(text).collect()
}

#[test]
fn popped_members_are_different_members_and_are_gone() {
    for count in [1, 5, 30, 80, 99, 100, 1000] {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut bench = Bench::new(protocol);
            bench.seed(count);
            for number in 0..100 {
                bench.run(&format!("SADD s m{number}"));
            }
            let mut popped = members(bench.run(&format!("SPOP s {count}")));
            assert_eq!(popped.len() as u64, count.min(100));
            // The log knows which members were chosen.
            let mut bench = bench.restarted();
            popped.extend(members(bench.run("SMEMBERS s")));
            assert_eq!(popped.len(), 100, "what was popped is gone");
            popped.sort();
            popped.dedup();
            assert_eq!(popped.len(), 100);
        }
    }
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("SADD s only");
    assert_eq!(bench.run("SPOP s"), Reply::Bulk("only".to_owned()));
    assert_eq!(bench.run("SPOP s"), Reply::NullBulk);
}

#[test]
fn random_members_come_with_and_without_repetition_and_all_have_their_turn() {
    let mut bench = Bench::new(Protocol::Resp3);
    bench.run("SADD s 1 2 3 4 5 6 7 8 9 10");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for count in [1, 3, 7, 10, 11] {
        for _ in 0..200 {
            let mut chosen = members(bench.run(&format!("SRANDMEMBER s {count}")));
            chosen.iter().for_each(|member| *seen.entry(member.clone()).or_default() += 1);
            assert_eq!(chosen.len(), count.min(10));
            chosen.sort();
            chosen.dedup();
            assert_eq!(chosen.len(), count.min(10), "no member comes twice");
        }
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(members(bench.run("SRANDMEMBER s -50")).len(), 50);
    assert!(matches!(bench.run("SRANDMEMBER s"), Reply::Bulk(_)));
    assert_eq!(bench.run("SCARD s"), Reply::Integer(10), "looking takes nothing away");
    assert!(
        matches!(bench.run("SRANDMEMBER s -9000000000"), Reply::Error(_)),
        "a reply that no memory can hold is refused"
    );
}

#[test]
fn a_scan_visits_every_member_of_a_large_set_page_by_page() {
    let mut bench = Bench::new(Protocol::Resp2);
    for number in 0..2000 {
        bench.run(&format!("SADD s member:{number}"));
    }
    let (mut cursor, mut seen, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let Reply::Array(mut parts) = bench.run(&format!("SSCAN s {cursor} COUNT 50")) else {
            panic!("a page")
        };
        seen.extend(members(parts.pop().unwrap()));
        pages += 1;
        let Some(Reply::Bulk(next)) = parts.pop() else { panic!("a cursor") };
        if next == "0" {
            break;
        }
        cursor = next;
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2000);
    assert!(pages > 5, "{pages} pages");
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("SADD s a b");
    let end = bench.log_end();
    for command in [
        "SADD s a",
        "SREM s zzz",
        "SMOVE s s a",
        "SMOVE s t zzz",
        "SPOP s 0",
        "SINTERSTORE t s u",
        "SRANDMEMBER s",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("SPOP s");
    assert!(bench.log_end() > end);
}
