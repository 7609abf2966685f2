//! Two workers against one.

use anyhow::Result;

use super::bench::{Bench, set_request};
use crate::findings::{Bound, Finding, Findings};
use crate::machine::Place;
use crate::measure::{self, Sample};
use crate::options::Options;
use crate::servers::{Kind, Launch};
use crate::statistics::{Spread, median};

const TESTS: &[&str] = &["set", "get", "incr", "hset", "lpush", "lrange_100"];

/// P=16 on both cores, which carry the load generator too.
///
/// # Errors
/// When a server or redis-benchmark fails.
pub fn two(bench: &Bench<'_>) -> Result<Findings> {
    let start = |workers| {
        bench.start(&Launch { workers, ..Launch::of(Kind::Holdfast).without_rewrites().at(Place::BothCores) })
    };
    let servers = [start(1)?, start(2)?];
    for server in &servers {
        server.empty()?;
        bench.fill(server, &set_request(), bench.keys())?;
    }
    let names: Vec<String> = TESTS.iter().map(|&test| test.to_owned()).collect();
    let tests = measure::chosen(&names)?;
    let mut samples: Vec<Vec<[Sample; 2]>> = tests.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.rounds() {
        bench.say(&format!("two workers against one, round {} of {}", round + 1, bench.rounds()));
        for (test, samples) in tests.iter().zip(&mut samples) {
            let requests = bench.count(if test.name == "lrange_100" { 100_000 } else { 400_000 });
            let options = Options { requests, keys: bench.keys(), cluster: true, ..bench.options.clone() };
            let mut pair = [Sample::default(); 2];
            for step in 0..2 {
                let index = (step + round) % 2;
                pair[index] =
                    measure::run_at(Place::BothCores, &servers[index], test, 16, &options, bench.cores)?;
            }
            samples.push(pair);
        }
    }
    let ratios = |figure: fn(&Sample) -> f64, own: &[[Sample; 2]]| -> Vec<f64> {
        let ratio = |[one, two]: &[Sample; 2]| figure(two) / figure(one);
        own.iter().map(ratio).filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect()
    };
    let medians = |figure: fn(&Sample) -> f64| -> Vec<f64> {
        let of_test = |own: &Vec<[Sample; 2]>| median(ratios(figure, own));
        samples.iter().map(of_test).filter(|median| median.is_finite()).collect()
    };
    let cpu = medians(|sample| sample.cpu_us);
    let rate = medians(|sample| sample.rate);
    let work = "two workers against one, P=16, both cores also carry the load";
    let over = "over the tests (smallest..largest)";
    let mut findings = Findings::default();
    findings.rows.extend([
        Finding::of_ratio(work, "CPU per request", cpu, Bound::AtMost(1.1), over),
        Finding::of_ratio(work, "rate", rate, Bound::AtLeast(1.0), over),
    ]);
    findings.paragraph(
        "holdfast-server with `--io-threads 2` against `--io-threads 1`; neither is pinned to one of the two cores, and \
         redis-benchmark is not either. Ratios two / one.",
    );
    let show = |values: Vec<f64>| Spread::of(values).map_or_else(String::new, |spread| spread.to_string());
    let rows = tests.iter().zip(&samples).map(|(test, own)| {
        vec![
            test.name.to_uppercase(),
            show(ratios(|sample| sample.rate, own)),
            show(ratios(|sample| sample.cpu_us, own)),
            format!("{:.0}", median(own.iter().map(|pair| pair[0].rate))),
            format!("{:.0}", median(own.iter().map(|pair| pair[1].rate))),
        ]
    });
    findings.table(&["test", "rate", "CPU per request", "requests/s: one", "two"], rows);
    Ok(findings)
}
