//! The same commands on a [`Bench`] and on a real redis-server, in both protocols; the first difference ends the test.

use holdfast_storage::platform::clock;

use super::grammar::Grammar;
use super::redis::{RedisClient, RedisServer};
use super::{Bench, Reply, words};
use crate::resp::Protocol;

/// Compares a script, one command per line.
pub fn compare_script(script: &str) {
    let commands: Vec<_> = script.lines().map(words).filter(|words| !words.is_empty()).collect();
    in_both_protocols(|mut pair| commands.iter().for_each(|command| pair.compare(command)));
}

/// Compares `count` random commands after the templates (see [`Grammar`]), the dumps of all keys in between and once more
/// after a restart.
pub fn compare_random(templates: &'static [&'static str], dumps: &[&str], seed: u64, count: usize) {
    in_both_protocols(|mut pair| {
        let mut grammar = Grammar::new(templates, seed);
        for number in 1..=count {
            pair.compare(&grammar.command());
            if number % 100 == 0 {
                dumps.iter().for_each(|dump| pair.compare(&words(dump)));
            }
        }
        // The log says what the commands did.
        let Pair { bench, redis, history } = pair;
        let mut pair = Pair { bench: bench.restarted(), redis, history };
        dumps.iter().for_each(|dump| pair.compare(&words(dump)));
    });
}

fn in_both_protocols(work: impl Fn(Pair)) {
    let Some(server) = RedisServer::start() else { return };
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        work(Pair { bench: Bench::new(protocol), redis: server.connect(protocol), history: Vec::new() });
    }
}

struct Pair {
    bench: Bench,
    redis: RedisClient,
    /// The last commands, for the message.
    history: Vec<String>,
}

impl Pair {
    fn compare(&mut self, words: &[Vec<u8>]) {
        const SHOWN: usize = 30;
        let line = words.iter().map(|word| format!("\"{}\" ", word.escape_ascii())).collect();
        self.history.push(line);
        self.bench.now_ms = clock::wall_clock_ms();
        let ours = normalized(words, self.bench.call(words));
        let theirs = normalized(words, self.redis.call(words));
        if ours != theirs {
            let recent = &self.history[self.history.len().saturating_sub(SHOWN)..];
            panic!("after\n{}\nholdfast says {ours:?}\nredis says    {theirs:?}", recent.join("\n"));
        }
    }
}

/// Puts in order what Redis gives no order.
fn normalized(words: &[Vec<u8>], mut reply: Reply) -> Reply {
    if words[0].first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'z')) {
        unify_scores(&mut reply);
    }
    match words[0].to_ascii_lowercase().as_slice() {
        b"smembers" | b"sinter" | b"sunion" | b"sdiff" | b"spop" | b"srandmember" | b"keys" | b"hkeys"
        | b"hvals" => {
            if let Some(elements) = reply.elements() {
                elements.sort();
            }
        }
        b"hrandfield" if is_flat_pairs(words, &reply) => sort_pairs(&mut reply),
        b"hrandfield" => {
            if let Some(elements) = reply.elements() {
                elements.sort();
            }
        }
        b"pttl" => {
            if let Reply::Integer(ms @ 0..) = &mut reply {
                *ms = (*ms + 500) / 1000;
            }
        }
        b"hgetall" => sort_pairs(&mut reply),
        b"sscan" | b"scan" => {
            if let Some([_, page]) = reply.elements().map(Vec::as_mut_slice) {
                page.elements().expect("a page is an array").sort();
            }
        }
        b"zscan" | b"hscan" => {
            if let Some([_, page]) = reply.elements().map(Vec::as_mut_slice) {
                sort_pairs(page);
            }
        }
        _ => {}
    }
    reply
}

/// Redis 7.0 prints more digits than 7.2, and than are needed; and whether a zero keeps its sign depends on the sorted
/// set's encoding there.
fn unify_scores(reply: &mut Reply) {
    match reply {
        Reply::Bulk(text) | Reply::Double(text) => {
            if let Ok(score) = text.parse::<f64>() {
                *text = format!("{:e}", score + 0.0);
            }
        }
        other => other.elements().into_iter().flatten().for_each(unify_scores),
    }
}

/// Whether HRANDFIELD's fields and values stand in one array, as RESP2 has them.
fn is_flat_pairs(words: &[Vec<u8>], reply: &Reply) -> bool {
    matches!(reply, Reply::Array(elements) if words.len() == 4 && matches!(elements.first(), Some(Reply::Bulk(_))))
}

/// Sorts a flat sequence of pairs.
fn sort_pairs(reply: &mut Reply) {
    if let Some(elements) = reply.elements() {
        let mut pairs: Vec<_> = elements.chunks(2).map(<[Reply]>::to_vec).collect();
        pairs.sort();
        *elements = pairs.concat();
    }
}
