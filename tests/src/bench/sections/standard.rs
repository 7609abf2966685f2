//! redis-benchmark's tests, one command per batch and sixteen.

use anyhow::Result;

use super::bench::{Bench, set_request};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::measure::{self, Pair, Test};
use crate::options::Options;
use crate::plots::{self, Series};
use crate::report::{self, Row};
use crate::servers::{Kind, Launch};
use crate::statistics::{Spread, median};

/// P=16: what writes.
const WRITES: &[&str] = &["set", "incr", "hset", "sadd", "zadd", "lpush", "rpop", "mset"];
/// P=16: what reads.
const READS: &[&str] = &["get", "lrange_100"];

/// One command per batch, all tests.
///
/// # Errors
/// When a server or redis-benchmark fails.
pub fn single(bench: &Bench<'_>) -> Result<Findings> {
    let rows = measure_all(bench, 1, |test| match test {
        "lrange_100" => 50_000,
        "lrange_300" | "lrange_500" | "lrange_600" => 20_000,
        "mset" => 40_000,
        _ => 100_000,
    })?;
    let work = "P=1, all standard tests";
    let all = |_: &str| true;
    let mut findings = Findings::default();
    findings.rows.extend([
        judge(work, "rate", &rows, all, rate, Bound::AtLeast(1.15)),
        judge(work, "CPU per request", &rows, all, cpu, Bound::AtMost(0.85)),
    ]);
    describe(&mut findings, 1, &rows, (&[1.15], &[0.85]))?;
    Ok(findings)
}

/// Sixteen commands per batch.
///
/// # Errors
/// When a server or redis-benchmark fails.
pub fn pipelined(bench: &Bench<'_>) -> Result<Findings> {
    let rows = measure_all(bench, 16, |test| match test {
        "lrange_100" => 100_000,
        "lrange_300" | "lrange_500" | "lrange_600" => 20_000,
        "mset" => 60_000,
        _ => 400_000,
    })?;
    let is_in = |names: &'static [&'static str]| {
        move |test: &str| names.iter().any(|name| name.eq_ignore_ascii_case(test))
    };
    let mut findings = Findings::default();
    findings.rows.extend([
        judge("P=16, writes", "rate", &rows, is_in(WRITES), rate, Bound::AtLeast(2.0)),
        judge("P=16, reads", "rate", &rows, is_in(READS), rate, Bound::AtLeast(1.6)),
        judge(
            "P=16, these writes and reads",
            "CPU per request",
            &rows,
            |test| is_in(WRITES)(test) || is_in(READS)(test),
            cpu,
            Bound::AtMost(0.6),
        ),
    ]);
    describe(&mut findings, 16, &rows, (&[1.6, 2.0], &[0.6]))?;
    Ok(findings)
}

fn measure_all(bench: &Bench<'_>, pipeline: u32, requests: fn(&str) -> u64) -> Result<Vec<Row>> {
    let tests = measure::chosen(&bench.options.tests)?;
    let servers = bench.start_both(|kind| Launch::of(kind).without_rewrites())?;
    let mut pairs: Vec<Vec<Pair>> = tests.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.rounds() {
        bench.say(&format!("P={pipeline}, round {} of {}", round + 1, bench.rounds()));
        for server in &servers {
            server.empty()?;
            bench.fill(server, &set_request(), bench.keys())?;
            server.rewrite()?;
        }
        for (test, pairs) in tests.iter().zip(&mut pairs) {
            let options = Options {
                requests: bench.count(requests(test.name)),
                keys: bench.keys(),
                cluster: true,
                ..bench.options.clone()
            };
            pairs.push(measure_pair(bench, &servers, test, pipeline, round, &options)?);
        }
    }
    let row = |(test, pairs): (&&Test, Vec<Pair>)| Row { test: test.name.to_owned(), pipeline, pairs };
    Ok(tests.iter().zip(pairs).map(row).collect())
}

fn measure_pair(
    bench: &Bench<'_>,
    servers: &[crate::servers::Server; 2],
    test: &Test,
    pipeline: u32,
    round: usize,
    options: &Options,
) -> Result<Pair> {
    let measure = |server| measure::run(server, test, pipeline, options, bench.cores);
    Ok(if round.is_multiple_of(2) {
        let holdfast = measure(&servers[0])?;
        Pair { holdfast, redis: measure(&servers[1])? }
    } else {
        let redis = measure(&servers[1])?;
        Pair { holdfast: measure(&servers[0])?, redis }
    })
}

fn rate(pair: &Pair) -> Option<f64> {
    Some(pair.rate_ratio())
}

fn cpu(pair: &Pair) -> Option<f64> {
    pair.cpu_ratio()
}

/// Every test must hold the bound; those that do not are named.
fn judge(
    work: &str,
    of: &str,
    rows: &[Row],
    is_meant: impl Fn(&str) -> bool,
    figure: fn(&Pair) -> Option<f64>,
    bound: Bound,
) -> Finding {
    let medians: Vec<(&str, f64)> = rows
        .iter()
        .filter(|row| is_meant(&row.test))
        .map(|row| (row.test.as_str(), median(row.pairs.iter().filter_map(figure))))
        .filter(|(_, median)| median.is_finite())
        .collect();
    let missed: Vec<String> = medians
        .iter()
        .filter(|(_, median)| !bound.holds(*median))
        .map(|(test, median)| format!("{} {median:.2}", test.to_uppercase()))
        .collect();
    let spread = Spread::of(medians.iter().map(|(_, median)| *median).collect());
    let over = spread.map_or_else(|| "too short to tell".to_owned(), |spread| spread.to_string());
    let mut measured =
        format!("{of} over the tests {over}; {} of {} reach it", medians.len() - missed.len(), medians.len());
    if !missed.is_empty() {
        measured.push_str(", not: ");
        measured.push_str(&missed.join(", "));
    }
    let verdict = if medians.is_empty() { Verdict::Reported } else { Verdict::of(missed.is_empty()) };
    Finding { work: work.to_owned(), measured, goal: format!("{of} {}", bound.text("×")), verdict }
}

fn describe(findings: &mut Findings, pipeline: u32, rows: &[Row], goals: (&[f64], &[f64])) -> Result<()> {
    findings.paragraph(&format!(
        "redis-benchmark, 50 clients, {pipeline} request{} at a time. Ratios are {} / {}: of the rate (higher is better) and of the \
         server's CPU time per request (lower is better), medians of pairs with (smallest..largest). Load busy: the part of the time in \
         which redis-benchmark had its core; near 100 % the rate is its limit and not the server's.",
        if pipeline == 1 { "" } else { "s" },
        Kind::Holdfast.name(),
        Kind::Redis.name(),
    ));
    findings.details.push_str(&report::table(rows));
    findings.details.push('\n');
    let labels: Vec<String> = rows.iter().map(|row| row.test.to_uppercase()).collect();
    let bars = |name, figure: fn(&Pair) -> Option<f64>| {
        Series::bars(name, rows.iter().map(|row| median(row.pairs.iter().filter_map(figure))))
    };
    let title = format!("P={pipeline}: rate, holdfast / redis-server (dashed: goals; higher is better)");
    let svg = plots::bars(&title, "ratio", &labels, &[bars("rate", rate)], goals.0)?;
    findings.plot(&format!("p{pipeline}-rate.svg"), &title, svg);
    let title = format!(
        "P={pipeline}: server CPU per request, holdfast / redis-server (dashed: goal; lower is better)"
    );
    let svg = plots::bars(&title, "ratio", &labels, &[bars("CPU", cpu)], goals.1)?;
    findings.plot(&format!("p{pipeline}-cpu.svg"), &title, svg);
    Ok(())
}
