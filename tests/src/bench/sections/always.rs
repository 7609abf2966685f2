//! `appendfsync always`: what waits for the disk, and what does not.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use super::bench::{Bench, CLIENTS, GET, SET, get_request, mixed, of, random, ratios, set_request};
use crate::findings::{Bound, Finding, Findings};
use crate::load::{self, Outcome, Pace, Until};
use crate::plots::{self, Series};
use crate::servers::{Kind, Launch, Server};
use crate::statistics::{median, short};

fn launch(kind: Kind) -> Launch {
    Launch::of(kind).without_rewrites().with_fsync("always")
}

/// What the log did during a run.
#[derive(Clone, Copy, Default)]
struct Synced {
    /// Not told by redis-server.
    syncs: Option<f64>,
    bytes: f64,
}

struct Writes {
    outcome: Outcome,
    synced: Synced,
}

impl Writes {
    fn syncs_per_second(&self) -> f64 {
        self.synced.syncs.map_or(f64::NAN, |syncs| syncs / self.outcome.elapsed.as_secs_f64())
    }

    fn bytes_per_sync(&self) -> f64 {
        self.synced.syncs.map_or(f64::NAN, |syncs| self.synced.bytes / syncs)
    }
}

fn synced(server: &Server) -> Result<Synced> {
    Ok(match server.kind {
        Kind::Holdfast => Synced {
            syncs: Some(server.number("log", "log_fsyncs")?),
            bytes: server.number("log", "log_written_lsn")?,
        },
        Kind::Redis => Synced { syncs: None, bytes: server.number("persistence", "aof_current_size")? },
    })
}

/// Writes of 50 and of 500 clients.
///
/// # Errors
/// When a server fails.
pub fn writes(bench: &Bench<'_>) -> Result<Findings> {
    let servers = bench.start_both(launch)?;
    let template = set_request();
    let mut findings = Findings::default();
    let mut lines = Vec::new();
    for clients in [CLIENTS, bench.count(500).max(CLIENTS as u64) as usize] {
        let pairs = bench.pairs(&format!("always, {clients} clients"), |kind| {
            let server = of(&servers, kind);
            let before = synced(server)?;
            let mut classes = [random(clients, 1, Pace::Closed, 0, &template, bench.keys())];
            let outcome = load::run(server.port, 1, &mut classes, Until::Elapsed(bench.seconds(3.0)))?;
            let after = synced(server)?;
            let syncs = after.syncs.zip(before.syncs).map(|(after, before)| after - before);
            Ok(Writes { outcome, synced: Synced { syncs, bytes: after.bytes - before.bytes } })
        })?;
        let rate = |writes: &Writes| writes.outcome.rate_of_all();
        let work = format!("`appendfsync always`, {clients} clients, writes");
        findings.rows.push(Finding::of_ratio(
            &work,
            "rate",
            ratios(&pairs, rate),
            Bound::AtLeast(1.5),
            &format!(
                "{:.0}/s against {:.0}/s",
                median(pairs.iter().map(|pair| rate(&pair[0]))),
                median(pairs.iter().map(|pair| rate(&pair[1])))
            ),
        ));
        for kind in Kind::BOTH {
            let figure = |figure: &dyn Fn(&Writes) -> f64| {
                short(median(pairs.iter().map(|pair| figure(of(pair, kind)))))
            };
            lines.push(vec![
                kind.name().to_owned(),
                clients.to_string(),
                figure(&rate),
                figure(&|writes| writes.outcome.latency_us(0, 0.5)),
                figure(&|writes| writes.outcome.latency_us(0, 0.99)),
                figure(&|writes| writes.outcome.latency_us(0, 0.999)),
                figure(&|writes| writes.outcome.latency_us(0, 1.0)),
                figure(&|writes| writes.synced.bytes / writes.outcome.answered() as f64),
                figure(&Writes::bytes_per_sync),
                figure(&Writes::syncs_per_second),
            ]);
        }
    }
    findings.paragraph(
        "SET with `appendfsync always`, closed loop, our own generator. Bytes are those of the log (holdfast: `log_written_lsn`; \
         redis-server: `aof_current_size`), syncs `log_fsyncs`; redis-server does not count its own: it syncs once in each turn of \
         its event loop.",
    );
    findings.table(
        &[
            "",
            "clients",
            "writes/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "log bytes/write",
            "log bytes/fdatasync",
            "fdatasyncs/s",
        ],
        lines,
    );
    bench.say("always, fio");
    findings.paragraph(&match fio(bench) {
        Ok(text) => text,
        Err(error) => format!("fio is skipped: {error:#}."),
    });
    Ok(findings)
}

/// What the disk gives: 4 KiB write + fdatasync, one after the other.
fn fio(bench: &Bench<'_>) -> Result<String> {
    let directory = format!("--directory={}", bench.below.display());
    let runtime = format!("--runtime={}", bench.seconds(3.0).as_secs_f64().ceil());
    let fixed =
        "--name=holdfast-bench --rw=write --bs=4k --size=64m --fdatasync=1 --time_based --output-format=json";
    let output = Command::new("fio").arg(directory).arg(runtime).args(fixed.split(' ')).output();
    let output = output.context("it cannot be started; is it installed?")?;
    ensure!(output.status.success(), "it failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    // fio may print warnings before the document.
    let json: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap_or(0)..])?;
    let job = &json["jobs"][0];
    let number = |value: &serde_json::Value| value.as_f64().context("its answer is not understood");
    let sync_us = number(&job["sync"]["lat_ns"]["mean"])? / 1e3;
    let p99_us = job["sync"]["lat_ns"]["percentile"]["99.000000"].as_f64().unwrap_or(f64::NAN) / 1e3;
    Ok(format!(
        "{} on the same disk, 4 KiB write + fdatasync one after the other into space that is there: {:.0} a second, fdatasync {:.0} µs \
         (mean), {} µs (p99).",
        json["fio version"].as_str().unwrap_or("fio"),
        number(&job["write"]["iops"])?,
        sync_us,
        short(p99_us),
    ))
}

/// 90 % GET, 10 % SET at half of what redis-server can do.
///
/// # Errors
/// When a server fails.
pub fn open_loop(bench: &Bench<'_>) -> Result<Findings> {
    let servers = bench.start_both(launch)?;
    let (get, set) = (get_request(), set_request());
    for server in &servers {
        bench.fill(server, &set, bench.keys())?;
    }
    let mix = |pace| mixed(CLIENTS, pace, 10, [&get, &set], bench.keys());
    bench.say("always 90/10, the limit of redis-server");
    let closed =
        |server: &Server, length| load::run(server.port, 2, &mut [mix(Pace::Closed)], Until::Elapsed(length));
    let limits = [&servers[0], &servers[1]].map(|server| closed(server, bench.seconds(3.0)));
    let [holdfast_limit, limit] = limits;
    let (holdfast_limit, limit) = (holdfast_limit?.rate_of_all(), limit?.rate_of_all());
    let rate = limit / 2.0;
    let mut merged = [Outcome::new(2), Outcome::new(2)];
    let pairs = bench.pairs("always 90/10, open loop", |kind| {
        let length = Until::Elapsed(bench.seconds(4.0));
        let outcome = load::run(of(&servers, kind).port, 2, &mut [mix(Pace::Open(rate))], length)?;
        for (all, own) in merged[kind as usize].kinds.iter_mut().zip(&outcome.kinds) {
            all.add(own)?;
        }
        Ok(outcome)
    })?;
    let p99 = |outcome: &Outcome| outcome.latency_us(GET, 0.99);
    let mut findings = Findings::default();
    findings.rows.push(Finding::of_ratio(
        "`appendfsync always`, 90 % GET / 10 % SET, open loop at half of redis-server's limit",
        "GET p99",
        ratios(&pairs, p99),
        Bound::AtMost(0.3),
        &format!(
            "{:.0} µs against {:.0} µs at {rate:.0} requests/s",
            median(pairs.iter().map(|pair| p99(&pair[0]))),
            median(pairs.iter().map(|pair| p99(&pair[1])))
        ),
    ));
    findings.paragraph(&format!(
        "Closed loop, {CLIENTS} clients: redis-server {limit:.0} requests/s, holdfast {holdfast_limit:.0}. Then both at a fixed {rate:.0} \
         requests/s over {CLIENTS} connections; latency from when a request was due.",
    ));
    findings.table(LATENCY_HEADS, latency_lines(&pairs));
    let title = format!("appendfsync always, 90 % GET / 10 % SET at {rate:.0} requests/s, open loop");
    let lines: Vec<Series> = Kind::BOTH
        .into_iter()
        .flat_map(|kind| [("GET", GET), ("SET", SET)].map(|(name, index)| (kind, name, index)))
        .map(|(kind, name, index)| {
            let name = format!("{} {name}", kind.name());
            Series::line(&name, percentiles(&merged[kind as usize].kinds[index]))
        })
        .collect();
    let svg = plots::lines(&title, ("percentile", "latency, ms"), &percentile_label, &lines)?;
    findings.plot("always-open-loop.svg", &title, svg);
    Ok(findings)
}

const LATENCY_HEADS: &[&str] = &["", "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "max µs"];

fn latency_lines(pairs: &[[Outcome; 2]]) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for kind in Kind::BOTH {
        for (name, index) in [("GET", GET), ("SET", SET)] {
            let figure = |figure: &dyn Fn(&Outcome) -> f64| {
                short(median(pairs.iter().map(|pair| figure(of(pair, kind)))))
            };
            let mut line =
                vec![kind.name().to_owned(), name.to_owned(), figure(&|outcome| outcome.rate(index))];
            let quantiles = [0.5, 0.99, 0.999, 1.0];
            line.extend(quantiles.map(|quantile| figure(&|outcome| outcome.latency_us(index, quantile))));
            lines.push(line);
        }
    }
    lines
}

/// Nines on the axis: 0 is nothing, 1 is 90 %, 2 is 99 %.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let nines = (0..=80).map(|step| f64::from(step) / 20.0);
    nines
        .map(|nines| {
            let quantile = 1.0 - 10f64.powf(-nines);
            (nines, histogram.value_at_quantile(quantile) as f64 / 1e6)
        })
        .collect()
}

fn percentile_label(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    format!("{percent:.*}", nines.ceil().max(1.0) as usize - 1)
}

/// 50 GET clients beside 8 SET clients.
///
/// # Errors
/// When a server fails.
pub fn reads_beside_writes(bench: &Bench<'_>) -> Result<Findings> {
    let servers = bench.start_both(launch)?;
    let (get, set) = (get_request(), set_request());
    for server in &servers {
        bench.fill(server, &set, bench.keys())?;
    }
    let pairs = bench.pairs("always, 50 GET clients beside 8 SET clients", |kind| {
        let mut classes = [
            random(CLIENTS, 1, Pace::Closed, GET, &get, bench.keys()),
            random(8, 1, Pace::Closed, SET, &set, bench.keys()),
        ];
        load::run(of(&servers, kind).port, 2, &mut classes, Until::Elapsed(bench.seconds(4.0)))
    })?;
    let work = "`appendfsync always`, 50 GET clients beside 8 SET clients, closed loop";
    let between = |figure: &dyn Fn(&Outcome) -> f64, unit: &str| {
        let median = |index: usize| median(pairs.iter().map(|pair| figure(&pair[index])));
        format!("{:.0}{unit} against {:.0}{unit}", median(0), median(1))
    };
    let get_rate = |outcome: &Outcome| outcome.rate(GET);
    let p99 = |outcome: &Outcome| outcome.latency_us(GET, 0.99);
    let set_rate = |outcome: &Outcome| outcome.rate(SET);
    let mut findings = Findings::default();
    findings.rows.extend([
        Finding::of_ratio(
            work,
            "GET rate",
            ratios(&pairs, get_rate),
            Bound::AtLeast(2.0),
            &between(&get_rate, "/s"),
        ),
        Finding::of_ratio(work, "GET p99", ratios(&pairs, p99), Bound::AtMost(0.3), &between(&p99, " µs")),
        Finding::of_ratio(
            work,
            "SET rate",
            ratios(&pairs, set_rate),
            Bound::AtLeast(1.0),
            &between(&set_rate, "/s"),
        ),
    ]);
    findings.table(LATENCY_HEADS, latency_lines(&pairs));
    Ok(findings)
}
