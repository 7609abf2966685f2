//! The table, in Markdown: medians of the ratios of pairs, with the smallest and largest.

use std::fmt::Write as _;

use crate::machine::{self, Cores};
use crate::measure::Pair;
use crate::options::Options;
use crate::servers::{self, Server};
use crate::statistics::Spread;

/// A line of the table.
pub struct Row {
    /// The test.
    pub test: String,
    /// Requests sent at once.
    pub pipeline: u32,
    /// What was measured.
    pub pairs: Vec<Pair>,
}

/// The whole report.
pub fn markdown(options: &Options, cores: &Cores, servers: &[Server; 2], rows: &[Row]) -> String {
    let mut text = format!(
        "Ratios are holdfast / redis-server, medians of {} pairs of runs with (smallest..largest): of the rate (higher is better) \
         and of the server's CPU time per request (lower is better).\n\n",
        options.rounds
    );
    let profile =
        if cfg!(debug_assertions) { "**debug build: the figures mean nothing**" } else { "release build" };
    let mode = if options.cluster { "cluster nodes that own all slots" } else { "standalone" };
    let lines = [
        format!("machine: {}; {}", machine::describe(), cores.describe()),
        format!(
            "holdfast-server {} ({profile}, `--io-threads 1`), redis-server {}, {}",
            servers[0].version,
            servers[1].version,
            servers::load_version()
        ),
        format!("both servers: {mode}, `{}`", servers::OPTIONS.join(" ").replace("--save ", "--save \"\"")),
        format!("redis-benchmark: `{}`", options.load_options(0).join(" ").replace("-P 0", "-P …")),
    ];
    for line in lines {
        text.push_str("* ");
        text.push_str(&line);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&table(rows));
    text
}

/// The table alone.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    text.push_str(
        "| test | P | rate | CPU per request | requests/s: holdfast | redis | CPU µs: holdfast | redis | load busy: holdfast | redis |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let of = |value: &dyn Fn(&Pair) -> f64| Spread::of(row.pairs.iter().map(value).collect());
    let rate = of(&|pair| pair.rate_ratio());
    let cpu = Spread::of(row.pairs.iter().filter_map(Pair::cpu_ratio).collect());
    let mut text =
        format!("| {} | {} | {} | {} |", row.test.to_uppercase(), row.pipeline, show(rate), show(cpu));
    let median = |value: &dyn Fn(&Pair) -> f64| of(value).map_or(f64::NAN, |spread| spread.median);
    writeln!(
        text,
        " {:.0} | {:.0} | {:.2} | {:.2} | {:.0} % | {:.0} % |",
        median(&|pair| pair.holdfast.rate),
        median(&|pair| pair.redis.rate),
        median(&|pair| pair.holdfast.cpu_us),
        median(&|pair| pair.redis.cpu_us),
        100.0 * median(&|pair| pair.holdfast.load_busy),
        100.0 * median(&|pair| pair.redis.load_busy),
    )
    .expect("writing to a String cannot fail");
    text
}

fn show(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "too short to tell".to_owned(), |spread| spread.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;

    fn pair(holdfast: (f64, f64), redis: (f64, f64)) -> Pair {
        let sample = |(rate, cpu_us)| Sample { rate, cpu_us, load_busy: 0.5 };
        Pair { holdfast: sample(holdfast), redis: sample(redis) }
    }

    #[test]
    fn a_row_shows_medians_of_paired_ratios_not_ratios_of_medians() {
        let pairs = vec![
            pair((100.0, 1.0), (100.0, 2.0)),
            pair((400.0, 3.0), (100.0, 2.0)),
            pair((300.0, 2.0), (200.0, 2.0)),
        ];
        let row = Row { test: "set".to_owned(), pipeline: 16, pairs };
        assert_eq!(
            line(&row),
            "| SET | 16 | **1.50** (1.00..4.00) | **1.00** (0.50..1.50) | 300 | 100 | 2.00 | 2.00 | 50 % | 50 % |\n"
        );
    }

    #[test]
    fn a_run_shorter_than_a_clock_tick_gives_no_ratio_of_cpu() {
        let row = Row { test: "get".to_owned(), pipeline: 1, pairs: vec![pair((1.0, 0.0), (2.0, 0.0))] };
        assert!(line(&row).contains("| **0.50** (0.50..0.50) | too short to tell |"), "{}", line(&row));
    }
}
