//! A master and a replica on this machine: what acknowledged by two costs, and whether the replica keeps up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bench::{Bench, CLIENTS, of, random, set_request};
use super::shard::Shard;
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::load::{self, Class, Outcome, Pace, Request, Template, Until};
use crate::machine::{Place, cpu_seconds};
use crate::servers::{Kind, Launch, Server};
use crate::statistics::{Spread, median, short};

/// Names of the variants, in the order in which they are measured.
const VARIANTS: [&str; 4] = [
    "holdfast-server, write-ack in-sync",
    "holdfast-server, write-ack local",
    "redis-server, no WAIT",
    "redis-server, WAIT 1 after each SET",
];

/// In-sync writes against redis-server's with and without WAIT.
///
/// # Errors
/// When a server fails.
pub fn in_sync(bench: &Bench<'_>) -> Result<Findings> {
    // Three programs on two cores: the scheduler decides where.
    bench.cores.move_myself(Place::BothCores)?;
    let result = measure_in_sync(bench);
    bench.cores.move_myself(Place::LoadCore)?;
    result
}

fn measure_in_sync(bench: &Bench<'_>) -> Result<Findings> {
    let holdfast = |ack: &str| {
        let launch = Launch::of(Kind::Holdfast).at(Place::BothCores);
        Shard::start(bench, &launch.with(Kind::Holdfast, &["--write-ack", ack]), Place::BothCores)
    };
    let redis = || Shard::start(bench, &Launch::of(Kind::Redis).at(Place::BothCores), Place::BothCores);
    // Whether replies wait for a replica does not change how it follows: one process measures both, and so with WAIT.
    let (in_sync, local, plain) = (holdfast("in-sync")?, holdfast("local")?, redis()?);
    let shards = [&in_sync, &local, &plain, &plain];
    let set = set_request();
    let wait = Template::of(&["WAIT", "1", "0"]);
    let mut rounds: Vec<[Outcome; 4]> = Vec::new();
    for round in 0..bench.rounds() {
        bench.say(&format!("in-sync replica, round {} of {}", round + 1, bench.rounds()));
        let mut outcomes = [const { None }; 4];
        for step in 0..shards.len() {
            let index = (step + round) % shards.len();
            let mut dice = fastrand::Rng::with_seed(round as u64);
            let (keys, set, wait) = (bench.keys(), &set, &wait);
            let next = Box::new(move |out: &mut Vec<u8>| {
                set.write(out, dice.u64(..keys));
                if index == 3 {
                    wait.write(out, 0);
                }
                Request { kind: 0, replies: if index == 3 { 2 } else { 1 } }
            });
            let mut classes = [Class { clients: CLIENTS, pipeline: 1, pace: Pace::Closed, next }];
            let length = Until::Elapsed(bench.seconds(3.0));
            let outcome = load::run(shards[index].master.port, 1, &mut classes, length);
            outcomes[index] = Some(outcome.context(VARIANTS[index])?);
        }
        rounds.push(outcomes.map(|outcome| outcome.expect("each has been measured")));
    }
    let to = |index: usize| -> Vec<f64> {
        rounds.iter().map(|round| round[0].rate_of_all() / round[index].rate_of_all()).collect()
    };
    let rate = |index: usize| median(rounds.iter().map(|round| round[index].rate_of_all()));
    let figures = |index: usize| format!("{:.0}/s against {:.0}/s", rate(0), rate(index));
    let mut findings = Findings::default();
    findings.rows.extend([
        Finding::of_ratio(
            "in-sync replica on this machine against redis-server + replica without WAIT",
            "rate",
            to(2),
            Bound::AtLeast(0.9),
            &figures(2),
        ),
        Finding::of_ratio(
            "… against redis-server with WAIT 1 after each write",
            "rate",
            to(3),
            Bound::AtLeast(2.0),
            &figures(3),
        ),
    ]);
    findings.paragraph(
        "A master, its replica and the load share two cores, none pinned. WAIT is sent with its SET in one packet and both answers \
         end the request.",
    );
    let lines = VARIANTS.iter().enumerate().map(|(index, name)| {
        let figure = |figure: &dyn Fn(&Outcome) -> f64| {
            short(median(rounds.iter().map(|round| figure(&round[index]))))
        };
        vec![
            (*name).to_owned(),
            figure(&Outcome::rate_of_all),
            figure(&|outcome| outcome.latency_us(0, 0.5)),
            figure(&|outcome| outcome.latency_us(0, 0.99)),
            figure(&|outcome| outcome.latency_us(0, 0.999)),
            Spread::of(to(index)).map_or_else(String::new, |spread| spread.to_string()),
        ]
    });
    findings.table(&["", "writes/s", "p50 µs", "p99 µs", "p99.9 µs", "in-sync's rate to this"], lines);
    Ok(findings)
}

/// A run of full writes.
struct Full {
    rate: f64,
    cpu_us: f64,
    lag_ms: f64,
    lag_bytes: f64,
    caught_up_ms: f64,
}

/// The replica at the master's full write rate.
///
/// # Errors
/// When a server fails.
pub fn full_rate(bench: &Bench<'_>) -> Result<Findings> {
    // The replica shares the load's core: the master has its own, as without.
    let launch = |kind| {
        let launch = Launch::of(kind).without_rewrites().with(Kind::Holdfast, &["--write-ack", "local"]);
        launch.with(Kind::Redis, &["--client-output-buffer-limit", "replica 0 0 0"])
    };
    let alone = bench.start_both(launch)?;
    let shard = |kind| Shard::start(bench, &launch(kind), Place::LoadCore);
    let shards = [shard(Kind::Holdfast)?, shard(Kind::Redis)?];
    let pairs = bench.pairs("replica at the master's full write rate", |kind| {
        let without = full_writes(bench, of(&alone, kind), None)?;
        let shard = of(&shards, kind);
        Ok([without, full_writes(bench, &shard.master, Some(shard))?])
    })?;
    let cost = |kind: Kind| -> Vec<f64> {
        let cost = |pair: &[[Full; 2]; 2]| {
            let [without, with] = of(pair, kind);
            1.0 - without.cpu_us / with.cpu_us
        };
        pairs.iter().map(cost).filter(|cost| cost.is_finite()).collect()
    };
    let own = |figure: &dyn Fn(&[Full; 2]) -> f64, kind: Kind| {
        median(pairs.iter().map(|pair| figure(of(pair, kind))))
    };
    let mut findings = Findings::default();
    let work = "replica at the master's full write rate, P=16";
    let lag = |kind| own(&|[_, with]| with.lag_ms, kind);
    let caught_up = |kind| own(&|[_, with]| with.caught_up_ms, kind);
    findings.rows.push(Finding {
        work: work.to_owned(),
        measured: format!(
            "largest lag **{:.0} ms** of the log ({:.1} MB), caught up {:.0} ms after the load; redis-server {:.0} ms ({:.1} MB), {:.0} ms",
            lag(Kind::Holdfast),
            own(&|[_, with]| with.lag_bytes / 1e6, Kind::Holdfast),
            caught_up(Kind::Holdfast),
            lag(Kind::Redis),
            own(&|[_, with]| with.lag_bytes / 1e6, Kind::Redis),
            caught_up(Kind::Redis),
        ),
        goal: "keeps up: never over 1 s behind".to_owned(),
        verdict: Verdict::of(lag(Kind::Holdfast) <= 1000.0),
    });
    let bound = Bound::AtMost(0.15);
    findings.rows.push(match Spread::of(cost(Kind::Holdfast)) {
        Some(spread) => Finding {
            work: work.to_owned(),
            measured: format!(
                "cost in the master's CPU per request {spread} of its rate (redis-server {:.2}); rate with / without {:.2}",
                median(cost(Kind::Redis)),
                own(&|[without, with]| with.rate / without.rate, Kind::Holdfast)
            ),
            goal: format!("cost to the master's rate {}", bound.text("")),
            verdict: Verdict::of(bound.holds(spread.median)),
        },
        None => Finding::reported(work, "too short to tell what it costs the master".to_owned()),
    });
    findings.paragraph(
        "SET, 16 at a time, closed loop; the master alone on its core, the replica on the core of the load. So the load is slower \
         beside a replica, and what the replica costs the master is judged by the master's CPU per request: 1 - without / with. \
         holdfast with `write-ack local`, as redis-server replicates. Lag is what the master has and the replica has not acknowledged, \
         every 50 ms, in bytes and in time at the rate of the run.",
    );
    let lines = Kind::BOTH.map(|kind| {
        let figure = |figure: &dyn Fn(&[Full; 2]) -> f64| short(own(figure, kind));
        vec![
            kind.name().to_owned(),
            figure(&|[without, _]| without.rate),
            figure(&|[_, with]| with.rate),
            figure(&|[without, _]| without.cpu_us),
            figure(&|[_, with]| with.cpu_us),
            figure(&|[_, with]| with.lag_bytes / 1e6),
            figure(&|[_, with]| with.lag_ms),
            figure(&|[_, with]| with.caught_up_ms),
        ]
    });
    findings.table(
        &[
            "",
            "writes/s alone",
            "with replica",
            "CPU µs alone",
            "with replica",
            "largest lag MB",
            "largest lag ms",
            "caught up after ms",
        ],
        lines,
    );
    Ok(findings)
}

fn full_writes(bench: &Bench<'_>, master: &Server, shard: Option<&Shard>) -> Result<Full> {
    let template = set_request();
    let done = AtomicBool::new(false);
    let cpu_before = cpu_seconds(master.pid())?;
    let bytes_before = end_of_log(master)?;
    let (outcome, lags) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Vec<f64>> {
            let mut lags = Vec::new();
            while let Some(shard) = shard
                && !done.load(Ordering::Relaxed)
            {
                lags.push(shard.lag_bytes()?);
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(lags)
        });
        let mut classes = [random(CLIENTS, 16, Pace::Closed, 0, &template, bench.keys())];
        let outcome = load::run(master.port, 1, &mut classes, Until::Elapsed(bench.seconds(4.0)));
        done.store(true, Ordering::Relaxed);
        (outcome, watcher.join().expect("the watcher does not panic"))
    });
    let (outcome, lags) = (outcome?, lags?);
    let cpu = cpu_seconds(master.pid())? - cpu_before;
    let bytes_per_ms = (end_of_log(master)? - bytes_before) / outcome.elapsed.as_secs_f64() / 1e3;
    let ended = Instant::now();
    while let Some(shard) = shard
        && shard.lag_bytes()? > 0.0
        && ended.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let lag_bytes = lags.into_iter().fold(0.0, f64::max);
    Ok(Full {
        rate: outcome.rate_of_all(),
        cpu_us: cpu * 1e6 / outcome.answered() as f64,
        lag_ms: lag_bytes / bytes_per_ms.max(1.0),
        lag_bytes,
        caught_up_ms: ended.elapsed().as_secs_f64() * 1e3,
    })
}

fn end_of_log(server: &Server) -> Result<f64> {
    server.number("replication", "master_repl_offset")
}
