//! Sorted sets against a real redis-server, and what is ours alone.

use crate::commands::testing::{Bench, Reply, compare_random, compare_script};
use crate::resp::Protocol;

const TEMPLATES: &[&str] = &[
    "ZADD z f,e+",
    "ZADD z f,e+",
    "ZADD z [NX|XX] [GT|LT] [CH] f,e+",
    "ZADD z [NX|XX] [GT|LT] [CH] INCR f e",
    "ZINCRBY z f e",
    "ZREM z e+",
    "ZSCORE z e",
    "ZMSCORE z e+",
    "ZCARD z",
    "ZCOUNT z b b",
    "ZRANK z e",
    "ZREVRANK z e",
    "ZRANGE z i i [REV] [WITHSCORES]",
    "ZRANGE z b b BYSCORE [REV] [LIMIT i i] [WITHSCORES]",
    "ZRANGEBYSCORE z b b [WITHSCORES] [LIMIT i i]",
    "ZREVRANGEBYSCORE z b b [WITHSCORES] [LIMIT i i]",
    "ZREVRANGE z i i [WITHSCORES]",
    "ZRANGESTORE z z i i [REV]",
    "ZRANGESTORE z z b b BYSCORE [REV] [LIMIT n n]",
    "ZREMRANGEBYRANK z i i",
    "ZREMRANGEBYSCORE z b b",
    "ZUNION #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]",
    "ZINTER #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]",
    "ZDIFF #z [WITHSCORES]",
    "ZUNIONSTORE z #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX]",
    "ZINTERSTORE z #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX]",
    "ZDIFFSTORE z #z",
    "ZINTERCARD #z [LIMIT n]",
    "ZPOPMIN z [n]",
    "ZPOPMAX z [n]",
    "ZMPOP #z MIN|MAX [COUNT n]",
    "ZRANDMEMBER z c [WITHSCORES]",
    "ZSCAN z 0 COUNT 100000 [MATCH g]",
    "SADD s e+",
    "ZUNION #s WITHSCORES",
    "RPUSH l e",
];

const DUMPS: &[&str] = &[
    "ZRANGE z0 0 -1 WITHSCORES",
    "ZRANGE z1 0 -1 WITHSCORES",
    "ZRANGE z2 0 -1 WITHSCORES",
    "ZRANGE z3 0 -1 WITHSCORES",
    "LRANGE l0 0 -1",
];

#[test]
fn random_sorted_set_commands_are_answered_as_redis_answers_them() {
    for seed in 0..4 {
        compare_random(TEMPLATES, DUMPS, seed, 4000);
    }
}

#[test]
fn large_sorted_sets_are_answered_as_redis_answers_them() {
    const TEMPLATES: &[&str] = &[
        "ZADD z f,w^",
        "ZADD z GT CH f,w^",
        "ZADD z f e",
        "ZINCRBY z f w",
        "ZREM z w^",
        "ZSCORE z w",
        "ZCOUNT z b b",
        "ZRANK z w",
        "ZREVRANK z w",
        "ZRANGE z 100 200 [REV] [WITHSCORES]",
        "ZRANGE z b b BYSCORE [REV] LIMIT 50 100 [WITHSCORES]",
        "ZREVRANGE z -200 -100",
        "ZRANGESTORE z z 0 300",
        "ZREMRANGEBYRANK z 0 150",
        "ZREMRANGEBYRANK z -50 -1",
        "ZREMRANGEBYSCORE z b b",
        "ZUNIONSTORE z #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX]",
        "ZINTERSTORE z #z [WEIGHTS f*] [AGGREGATE SUM|MIN|MAX]",
        "ZDIFF #z [WITHSCORES]",
        "ZINTERCARD #z [LIMIT n]",
        "ZPOPMIN z 30",
        "ZPOPMAX z 30",
        "ZRANDMEMBER z c [WITHSCORES]",
        "ZSCAN z 0 COUNT 100000 [MATCH g]",
    ];
    compare_random(TEMPLATES, DUMPS, 1, 1500);
}

/// All members have the same score, as BYLEX wants it.
#[test]
fn random_ranges_of_members_are_answered_as_redis_answers_them() {
    const TEMPLATES: &[&str] = &[
        "ZADD z 0 e 0 e 0 e",
        "ZLEXCOUNT z x x",
        "ZRANGE z x x BYLEX [REV] [LIMIT i i]",
        "ZRANGEBYLEX z x x [LIMIT i i]",
        "ZREVRANGEBYLEX z x x [LIMIT i i]",
        "ZRANGESTORE z z x x BYLEX [REV] [LIMIT n n]",
        "ZREMRANGEBYLEX z x x",
    ];
    compare_random(TEMPLATES, DUMPS, 1, 4000);
}

#[test]
fn mistakes_are_refused_in_redis_words_and_order() {
    compare_script(
        "
        RPUSH l a
        SADD s a b
        ZADD z 1 a 2 b 3 c
        ZADD l 1 a
        ZADD l x a
        ZADD z
        ZADD z NX
        ZADD z NX XX 1 a
        ZADD z NX GT 1 a
        ZADD z GT LT 1 a
        ZADD z XX GT 9 a
        ZADD z INCR 1 a 2 b
        ZADD z INCR NX 1 a
        ZADD z INCR XX 1 zzz
        ZADD missing XX 1 a
        ZADD missing XX INCR 1 a
        ZADD z 1 a 2
        ZADD z nan a
        ZADD z 1 a x b
        ZADD z CH 5 d 6 d 6 d
        ZADD z 1 e 1 e
        ZADD z inf i -inf j
        ZINCRBY z -inf i
        ZADD z INCR inf j
        ZINCRBY z x a
        ZINCRBY z nx a
        ZINCRBY l 1 a
        ZREM l a
        ZREM missing a
        ZREM z a a zzz
        ZSCORE missing a
        ZSCORE l a
        ZSCORE z zzz
        ZMSCORE missing a b
        ZMSCORE l a
        ZCARD l
        ZCARD s
        ZCOUNT missing x 1
        ZCOUNT missing 1 2
        ZCOUNT z (1 (2
        ZCOUNT z ( (
        ZCOUNT z '' 5
        ZCOUNT z -inf +inf
        ZCOUNT z 1e400 5
        ZCOUNT z nan 5
        ZCOUNT z 0x1 0x3
        ZCOUNT l 1 2
        ZLEXCOUNT missing a b
        ZLEXCOUNT z - +
        ZLEXCOUNT z + -
        ZLEXCOUNT z -x +
        ZLEXCOUNT z [ [z
        ZLEXCOUNT z '' +
        ZRANK missing a
        ZRANK z zzz
        ZRANK l a
        ZRANGE missing x y
        ZRANGE missing 0 1
        ZRANGE l 0 1
        ZRANGE z 0 1 NOPE
        ZRANGE z 0 1 LIMIT 0 1
        ZRANGE z 0 1 LIMIT 0 -1
        ZRANGE z 0 1 LIMIT 0
        ZRANGE z 0 1 BYSCORE BYLEX
        ZRANGE z 0 1 REV REV
        ZRANGE z [a [b BYLEX WITHSCORES
        ZRANGE z a b BYLEX
        ZRANGE z a b BYSCORE
        ZRANGE z 0 9 BYSCORE LIMIT x 1
        ZRANGE z 0 9 BYSCORE LIMIT -1 1
        ZRANGE z 0 9 BYSCORE LIMIT 1 -5
        ZRANGE z 0 9 BYSCORE LIMIT 100 1
        ZRANGE z 9 0 BYSCORE REV LIMIT 1 1 WITHSCORES
        ZRANGE z -100 100
        ZRANGE z 2 1
        ZREVRANGE z 0 1 REV
        ZREVRANGE z 0 1 BYSCORE
        ZREVRANGE z 0 1 WITHSCORES WITHSCORES
        ZREVRANGE z 0 1 LIMIT 0 1
        ZRANGEBYSCORE z 0 9 REV
        ZRANGEBYSCORE z 0 9 WITHSCORES LIMIT 0 1
        ZREVRANGEBYSCORE z 9 0 LIMIT 0 1 WITHSCORES
        ZRANGEBYLEX z - + WITHSCORES
        ZREVRANGEBYLEX z + - LIMIT 0 2
        ZRANGESTORE d z 0 1 WITHSCORES
        ZRANGESTORE d z 0 1
        ZRANGE d 0 -1 WITHSCORES
        ZRANGESTORE d l 0 1
        ZRANGESTORE l z 5 9
        ZRANGESTORE d missing 0 1
        ZCARD d
        RPUSH l a
        ZREMRANGEBYRANK z x 1
        ZREMRANGEBYRANK l 0 1
        ZREMRANGEBYSCORE z x 1
        ZREMRANGEBYLEX z x 1
        ZREMRANGEBYRANK missing 0 1
        ZUNION 0 z
        ZUNIONSTORE d 0 z
        ZINTERCARD 0 z
        ZDIFF -1 z
        ZUNION x z
        ZUNION 3 z l
        ZUNION 2 missing l
        ZUNION 1 z NOPE
        ZUNION 2 z s WEIGHTS 1
        ZUNION 2 z s WEIGHTS 1 x
        ZUNION 2 z s WEIGHTS 2 3 WITHSCORES
        ZUNION 2 z s AGGREGATE AVG
        ZUNION 2 z s AGGREGATE
        ZUNION 2 z s AGGREGATE MAX AGGREGATE MIN WITHSCORES
        ZUNIONSTORE d 2 z s WITHSCORES
        ZUNIONSTORE d 2 z s WEIGHTS 1 -1 AGGREGATE MIN
        ZRANGE d 0 -1 WITHSCORES
        ZUNIONSTORE d 2 d d WEIGHTS 2 3
        ZRANGE d 0 -1 WITHSCORES
        ZINTER 2 z s WITHSCORES
        ZINTER 2 z z WITHSCORES
        ZINTER 2 z missing
        ZINTERSTORE d 2 z missing
        ZDIFF 2 z s WITHSCORES
        ZDIFF 2 z s WEIGHTS 1 1
        ZDIFF 1 s WITHSCORES
        ZDIFFSTORE s 2 z s
        ZRANGE s 0 -1 WITHSCORES
        ZDIFFSTORE s 2 s s
        ZINTERCARD 2 z z LIMIT 2
        ZINTERCARD 2 z z LIMIT 0
        ZINTERCARD 2 z z LIMIT -1
        ZINTERCARD 2 z z LIMIT x
        ZINTERCARD 2 z z WITHSCORES
        ZUNION 9223372036854775807 z
        ZADD inf inf a -inf b
        ZUNION 2 inf inf WEIGHTS 1 -1 WITHSCORES
        ZUNION 1 inf WEIGHTS 0 WITHSCORES
        ZINTER 2 inf inf WEIGHTS 1 -1 AGGREGATE MAX WITHSCORES
        ZPOPMIN missing
        ZPOPMIN missing 1
        ZPOPMIN missing x
        ZPOPMIN z -1
        ZPOPMIN z 0
        ZPOPMIN z 1 1
        ZPOPMIN l
        ZPOPMIN l 0
        ZPOPMAX z
        ZPOPMAX z 1
        ZPOPMIN z 1
        ZMPOP 0 z MIN
        ZMPOP x z MIN
        ZMPOP 2 z MIN
        ZMPOP 1 z MIDDLE
        ZMPOP 1 z MIN COUNT 0
        ZMPOP 1 z MIN COUNT 1 COUNT 1
        ZMPOP 2 missing l MIN
        ZMPOP 2 missing missing MIN
        ZMPOP 2 missing z MAX COUNT 2
        ZMPOP 1 z MIN COUNT 200
        ZADD z 1 a
        ZRANDMEMBER missing
        ZRANDMEMBER missing 1
        ZRANDMEMBER missing x
        ZRANDMEMBER z
        ZRANDMEMBER z 0
        ZRANDMEMBER z -3
        ZRANDMEMBER z -3 WITHSCORES
        ZRANDMEMBER z 3 WITHSCORES
        ZRANDMEMBER z 3 NOPE
        ZRANDMEMBER z 3 WITHSCORES NOPE
        ZRANDMEMBER z 9223372036854775807 WITHSCORES
        ZRANDMEMBER z -9223372036854775808
        ZRANDMEMBER l
        ZSCAN missing x
        ZSCAN missing 0 NOPE
        ZSCAN z 0 NOPE
        ZSCAN z 0 COUNT 0
        ZSCAN z 0 MATCH b*
        ZSCAN z 0 MATCH a*
        ",
    );
}

#[test]
fn a_rank_comes_with_its_score_when_asked() {
    let mut bench = Bench::new(Protocol::Resp3);
    bench.run("ZADD z 1 a 2.5 b 3 c");
    let pair = |rank, score: &str| Reply::Array(vec![Reply::Integer(rank), Reply::Double(score.to_owned())]);
    assert_eq!(bench.run("ZRANK z b WITHSCORE"), pair(1, "2.5"));
    assert_eq!(bench.run("ZREVRANK z a withscore"), pair(2, "1"));
    assert_eq!(bench.run("ZRANK z zzz WITHSCORE"), Reply::Null);
    assert_eq!(bench.run("ZRANK z b NOPE"), Reply::Error("ERR syntax error".to_owned()));
    assert_eq!(
        bench.run("ZRANK z b WITHSCORE NOPE"),
        Reply::Error("ERR wrong number of arguments for 'zrank' command".to_owned())
    );
    let mut bench = Bench::new(Protocol::Resp2);
    assert_eq!(bench.run("ZRANK z b WITHSCORE"), Reply::NullArray);
    bench.run("ZADD z 0.1 b");
    assert_eq!(
        bench.run("ZREVRANK z b WITHSCORE"),
        Reply::Array(vec![Reply::Integer(0), Reply::Bulk("0.1".to_owned())])
    );
}

#[test]
fn a_scan_visits_every_member_of_a_large_sorted_set_page_by_page() {
    let mut bench = Bench::new(Protocol::Resp3);
    for number in 0..1000 {
        bench.run(&format!("ZADD z {number} member:{number}"));
    }
    let (mut cursor, mut seen, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let Reply::Array(parts) = bench.run(&format!("ZSCAN z {cursor} COUNT 50")) else { panic!("a page") };
        let [Reply::Bulk(next), Reply::Array(page)] = parts.as_slice() else { panic!("a cursor and a page") };
        for pair in page.chunks(2) {
            let [Reply::Bulk(member), Reply::Bulk(score)] = pair else { panic!("a member and its score") };
            assert_eq!(*member, format!("member:{score}"));
            seen.push(member.clone());
        }
        pages += 1;
        if next == "0" {
            break;
        }
        cursor = next.clone();
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
    assert!(pages > 5, "{pages} pages");
}

#[test]
fn random_members_are_different_and_carry_their_scores() {
    let mut bench = Bench::new(Protocol::Resp3);
    for number in 0..50 {
        bench.run(&format!("ZADD z {number} m{number}"));
    }
    for count in [1, 5, 20, 49] {
        let Reply::Array(pairs) = bench.run(&format!("ZRANDMEMBER z {count} WITHSCORES")) else {
            panic!("pairs")
        };
        let mut members: Vec<String> = pairs
            .into_iter()
            .map(|pair| match pair {
                Reply::Array(pair) => match pair.as_slice() {
                    [Reply::Bulk(member), Reply::Double(score)] if *member == format!("m{score}") => {
                        member.clone()
                    }
                    other => panic!("{other:?} is no member with its score"),
                },
                other => panic!("{other:?} is no pair"),
            })
            .collect();
        members.sort();
        members.dedup();
        assert_eq!(members.len(), count);
    }
}

#[test]
fn a_command_that_changes_nothing_logs_nothing() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("ZADD z 1 a 2 b");
    let end = bench.log_end();
    for command in [
        "ZADD z 1 a",
        "ZADD z NX 5 a",
        "ZADD z GT 0 a",
        "ZADD z XX 1 zzz",
        "ZINCRBY z 0 a",
        "ZREM z zzz",
        "ZREMRANGEBYSCORE z 5 9",
        "ZPOPMIN z 0",
        "ZRANGESTORE d z 5 9",
        "ZINTERSTORE d 2 z missing",
    ] {
        bench.run(command);
        assert_eq!(bench.log_end(), end, "{command}");
    }
    bench.run("ZPOPMIN z");
    assert!(bench.log_end() > end);
}

#[test]
fn a_zero_is_kept_without_a_sign() {
    let mut bench = Bench::new(Protocol::Resp2);
    bench.run("ZADD z -0 a -1 b");
    bench.run("ZUNIONSTORE d 1 z WEIGHTS 0");
    for (key, member) in [("z", "a"), ("d", "b")] {
        assert_eq!(bench.run(&format!("ZSCORE {key} {member}")), Reply::Bulk("0".to_owned()));
    }
}
