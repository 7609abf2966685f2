//! One collection that grows to 5 M members while others use it: does a request wait for the growth?

use anyhow::{Context as _, Result};
use holdfast_tests::client::{Client, Reply};

use super::bench::{Bench, of};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::load::{self, Class, Outcome, Pace, Request, Template, Until};
use crate::plots::{self, Series};
use crate::servers::{Kind, Launch, Server};
use crate::statistics::short;

/// Kinds of requests.
const GROW: usize = 0;
const USE: usize = 1;
/// Requests of others a second.
const OTHERS: f64 = 500.0;

struct Growth {
    outcome: Outcome,
    /// The longest execution that SLOWLOG knows.
    slowest_ms: f64,
}

/// A hash, a set, a sorted set and a list.
///
/// # Errors
/// When a server fails.
pub fn of_collections(bench: &Bench<'_>) -> Result<Findings> {
    let count = bench.count(5_000_000);
    let types: [(&str, &[&str], &[&str]); 4] = [
        ("hash", &["HSET", "big", "m#########", "v#########"], &["HGET", "big", "m#########"]),
        ("set", &["SADD", "big", "m#########"], &["SISMEMBER", "big", "m#########"]),
        ("sorted set", &["ZADD", "big", "#########", "m#########"], &["ZSCORE", "big", "m#########"]),
        ("list", &["RPUSH", "big", "v#########"], &["LINDEX", "big", "-1"]),
    ];
    let mut findings = Findings::default();
    let mut lines = Vec::new();
    let mut courses = Vec::new();
    for (name, grow, other) in types {
        bench.say(&format!("growing a {name} to {count} members"));
        let (grow, other) = (Template::of(grow), Template::of(other));
        let measure = |kind| {
            let server = bench.start(&Launch::of(kind).without_rewrites())?;
            grow_to(&server, &grow, &other, count).with_context(|| format!("{name}, {}", kind.name()))
        };
        let pair = [measure(Kind::Holdfast)?, measure(Kind::Redis)?];
        let bound = Bound::AtMost(10.0);
        findings.rows.push(Finding {
            work: format!("growing one {name} to {count} members under load"),
            measured: format!(
                "longest execution **{} ms**, longest wait of a client {:.1} ms (redis-server {} ms, {:.1} ms)",
                slowest(pair[0].slowest_ms),
                pair[0].longest_ms(),
                slowest(pair[1].slowest_ms),
                pair[1].longest_ms()
            ),
            goal: "no request over 10 ms from growth".to_owned(),
            verdict: Verdict::of(bound.holds(pair[0].slowest_ms)),
        });
        for kind in Kind::BOTH {
            let growth = of(&pair, kind);
            let latency = |quantile| short(growth.outcome.latency_us(USE, quantile));
            lines.push(vec![
                name.to_owned(),
                kind.name().to_owned(),
                format!("{:.0}", growth.outcome.rate(GROW)),
                slowest(growth.slowest_ms),
                latency(0.5),
                latency(0.99),
                latency(0.999),
                latency(1.0),
                short(growth.outcome.latency_us(GROW, 1.0)),
            ]);
        }
        courses.push((name, pair));
    }
    findings.paragraph(&format!(
        "Four clients add members, 16 at a time; ten others read members at {OTHERS} requests a second (open loop). No checkpoint or \
         rewrite runs. What a request takes in the server is SLOWLOG's longest, and that is judged; what a client waited has the \
         load generator, the kernel and the disk in it too.",
    ));
    findings.table(
        &[
            "",
            "",
            "members/s",
            "longest execution ms",
            "others: p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "growing: max µs",
        ],
        lines,
    );
    for (name, pair) in &courses {
        let lines = Kind::BOTH.map(|kind| {
            let moments = of(pair, kind).outcome.moments.iter().enumerate();
            let points = moments.map(|(index, moment)| (index as f64 / 10.0, moment.longest_ns as f64 / 1e6));
            Series::line(kind.name(), points.collect())
        });
        let title = format!("Growing a {name}: longest latency of each 0.1 s");
        let seconds = |seconds: f64| format!("{seconds:.0}");
        let svg = plots::lines(&title, ("seconds", "latency, ms"), &seconds, &lines)?;
        findings.plot(&format!("growth-{}.svg", name.replace(' ', "-")), &title, svg);
    }
    Ok(findings)
}

impl Growth {
    fn longest_ms(&self) -> f64 {
        self.outcome.kinds.iter().map(|kind| kind.max()).max().unwrap_or(0) as f64 / 1e6
    }
}

fn slowest(ms: f64) -> String {
    if ms < 1.0 { "< 1".to_owned() } else { format!("{ms:.1}") }
}

fn grow_to(server: &Server, grow: &Template, other: &Template, count: u64) -> Result<Growth> {
    server.ask(&["CONFIG", "SET", "slowlog-log-slower-than", "1000", "slowlog-max-len", "10000"])?;
    let done = std::cell::Cell::new(0);
    let add = |out: &mut Vec<u8>| {
        grow.write(out, done.get());
        done.set(done.get() + 1);
        Request::of(GROW)
    };
    let mut dice = fastrand::Rng::with_seed(5);
    let read = |out: &mut Vec<u8>| {
        other.write(out, dice.u64(..done.get().max(1)));
        Request::of(USE)
    };
    let mut classes = [
        Class { clients: 4, pipeline: 16, pace: Pace::Closed, next: Box::new(add) },
        Class { clients: 10, pipeline: 1, pace: Pace::Open(OTHERS), next: Box::new(read) },
    ];
    let outcome = load::run(server.port, 2, &mut classes, Until::Requests(count))?;
    let slow = Client::connect(server.port)?.try_call(&["SLOWLOG", "GET", "-1"])?;
    let Reply::Array(entries) = slow else { anyhow::bail!("SLOWLOG is answered {slow}") };
    let microseconds = entries.into_iter().map(|entry| match entry {
        Reply::Array(fields) => fields.get(2).map_or(0, Reply::integer),
        _ => 0,
    });
    Ok(Growth { outcome, slowest_ms: microseconds.max().unwrap_or(0) as f64 / 1e3 })
}
