//! A checkpoint under full write load; of redis-server, its rewrite by fork.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::bench::{Bench, CLIENTS, of, random, set_request};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::load::{self, Outcome, Pace, Until};
use crate::machine::{forget_peak, status_kib};
use crate::plots::{self, Series};
use crate::servers::{Kind, Launch, Server};
use crate::statistics::{Spread, median, short};

struct Run {
    without: Outcome,
    during: Outcome,
    resident_kib: f64,
    peak_kib: f64,
}

impl Run {
    fn tail_ratio(&self) -> f64 {
        self.during.latency_us(0, 0.999) / self.without.latency_us(0, 0.999)
    }

    fn peak_ratio(&self) -> f64 {
        self.peak_kib / self.resident_kib
    }
}

/// Writes at full rate, without and while a checkpoint runs.
///
/// # Errors
/// When a server fails.
pub fn under_load(bench: &Bench<'_>) -> Result<Findings> {
    let servers = bench.start_both(|kind| Launch::of(kind).without_rewrites())?;
    for server in &servers {
        bench.fill(server, &set_request(), bench.keys())?;
    }
    let pairs = bench.pairs("checkpoint under full write load", |kind| measure(bench, of(&servers, kind)))?;
    let own = |figure: &dyn Fn(&Run) -> f64, kind: Kind| -> Vec<f64> {
        pairs.iter().map(|pair| figure(of(pair, kind))).filter(|value| value.is_finite()).collect()
    };
    let show = |values: Vec<f64>| Spread::of(values).map_or_else(String::new, |spread| spread.to_string());
    let mut findings = Findings::default();
    let mut judge = |what: &str, figure: &dyn Fn(&Run) -> f64, bound: Bound, goal: String| {
        let ratio = own(figure, Kind::Holdfast);
        let verdict = Verdict::of(bound.holds(median(ratio.clone())));
        findings.rows.push(Finding {
            work: "checkpoint under full write load".to_owned(),
            measured: format!(
                "{what} {}× (redis-server's rewrite {}×)",
                show(ratio),
                show(own(figure, Kind::Redis))
            ),
            goal,
            verdict,
        });
    };
    judge("p99.9 with / without", &Run::tail_ratio, Bound::AtMost(2.0), "p99.9 ≤ 2× that without".to_owned());
    judge("peak memory", &Run::peak_ratio, Bound::AtMost(1.05), "peak memory ≤ +5 %".to_owned());
    findings.paragraph(
        "SET of 50 clients, one at a time, closed loop; then the same from BGREWRITEAOF until it is done. Peak: VmHWM of the process \
         while it runs against VmRSS before it began; the memory that redis-server's forked child copies is the child's own and not \
         in it.",
    );
    let mut lines = Vec::new();
    for kind in Kind::BOTH {
        for (name, outcome) in
            [("without", (|run| &run.without) as fn(&Run) -> &Outcome), ("during", |run| &run.during)]
        {
            let figure =
                |figure: &dyn Fn(&Outcome) -> f64| short(median(own(&|run| figure(outcome(run)), kind)));
            lines.push(vec![
                kind.name().to_owned(),
                name.to_owned(),
                figure(&|outcome| outcome.elapsed.as_secs_f64()),
                figure(&Outcome::rate_of_all),
                figure(&|outcome| outcome.latency_us(0, 0.5)),
                figure(&|outcome| outcome.latency_us(0, 0.99)),
                figure(&|outcome| outcome.latency_us(0, 0.999)),
                figure(&|outcome| outcome.latency_us(0, 1.0)),
            ]);
        }
    }
    findings
        .table(&["", "checkpoint", "seconds", "writes/s", "p50 µs", "p99 µs", "p99.9 µs", "max µs"], lines);
    if let Some(last) = pairs.last() {
        let lines = Kind::BOTH.map(|kind| Series::line(kind.name(), course(of(last, kind))));
        let title = "Longest latency of each 0.1 s; the checkpoint runs in the second part";
        let seconds = |seconds: f64| format!("{seconds:.1}");
        let svg = plots::lines(title, ("seconds", "latency, ms"), &seconds, &lines)?;
        findings.plot("checkpoint.svg", title, svg);
    }
    Ok(findings)
}

fn course(run: &Run) -> Vec<(f64, f64)> {
    let moments = run.without.moments.iter().chain(&run.during.moments).enumerate();
    moments.map(|(index, moment)| (index as f64 / 10.0, moment.longest_ns as f64 / 1e6)).collect()
}

fn measure(bench: &Bench<'_>, server: &Server) -> Result<Run> {
    let template = set_request();
    let writes = |until: Until<'_>| {
        let mut classes = [random(CLIENTS, 1, Pace::Closed, 0, &template, bench.keys())];
        load::run(server.port, 1, &mut classes, until)
    };
    let without = writes(Until::Elapsed(bench.seconds(2.0)))?;
    let resident_kib = status_kib(server.pid(), "VmRSS")? as f64;
    forget_peak(server.pid())?;
    let done = AtomicBool::new(false);
    let during = std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| {
            let result = server.rewrite();
            done.store(true, Ordering::Relaxed);
            result
        });
        let during = writes(Until::Told(&done));
        checkpoint.join().expect("the watcher does not panic").and(during)
    })?;
    let peak_kib = status_kib(server.pid(), "VmHWM")? as f64;
    Ok(Run { without, during, resident_kib, peak_kib })
}
