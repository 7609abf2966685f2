//! One test on one server: redis-benchmark's rate, the server's CPU time.

use anyhow::{Context as _, Result, bail, ensure};

use crate::machine::{Cores, Place, cpu_seconds, cpu_seconds_of_ended_children};
use crate::options::Options;
use crate::servers::Server;

/// The list that the LRANGE tests read. redis-benchmark would fill one in the same run, and that would be measured too.
pub const RANGE_LIST: &str = "bench:range";

/// A test of redis-benchmark.
pub struct Test {
    /// Its name there.
    pub name: &'static str,
    /// The command, where the test is none of its own.
    command: &'static [&'static str],
}

/// redis-benchmark's default list, in its order: what is popped was pushed before.
const TESTS: &[Test] = &[
    Test { name: "ping_inline", command: &[] },
    Test { name: "ping_mbulk", command: &[] },
    Test { name: "set", command: &[] },
    Test { name: "get", command: &[] },
    Test { name: "incr", command: &[] },
    Test { name: "lpush", command: &[] },
    Test { name: "rpush", command: &[] },
    Test { name: "lpop", command: &[] },
    Test { name: "rpop", command: &[] },
    Test { name: "sadd", command: &[] },
    Test { name: "hset", command: &[] },
    Test { name: "spop", command: &[] },
    Test { name: "zadd", command: &[] },
    Test { name: "zpopmin", command: &[] },
    Test { name: "lrange_100", command: &["LRANGE", RANGE_LIST, "0", "99"] },
    Test { name: "lrange_300", command: &["LRANGE", RANGE_LIST, "0", "299"] },
    Test { name: "lrange_500", command: &["LRANGE", RANGE_LIST, "0", "499"] },
    Test { name: "lrange_600", command: &["LRANGE", RANGE_LIST, "0", "599"] },
    Test { name: "mset", command: &[] },
];

/// The tests of these names, or all; always in the list's order.
///
/// # Errors
/// A name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Test>> {
    let is_called = |test: &Test, name: &str| test.name.eq_ignore_ascii_case(name);
    if let Some(unknown) = names.iter().find(|name| !TESTS.iter().any(|test| is_called(test, name))) {
        let known: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
        bail!("--tests {unknown}: there is no such test; there are {}", known.join(", "));
    }
    let wanted = |test: &&Test| names.is_empty() || names.iter().any(|name| is_called(test, name));
    Ok(TESTS.iter().filter(wanted).collect())
}

/// What one run gave.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sample {
    /// Requests per second.
    pub rate: f64,
    /// Microseconds of the server's CPU per request.
    pub cpu_us: f64,
    /// The part of the time in which redis-benchmark had a core: near 1 the rate is its own limit.
    pub load_busy: f64,
}

/// The same test on both servers, one after the other.
pub struct Pair {
    /// This build.
    pub holdfast: Sample,
    /// redis-server.
    pub redis: Sample,
}

impl Pair {
    /// Larger is better.
    pub fn rate_ratio(&self) -> f64 {
        self.holdfast.rate / self.redis.rate
    }

    /// Smaller is better; none where the run was too short for the kernel's clock ticks.
    pub fn cpu_ratio(&self) -> Option<f64> {
        (self.holdfast.cpu_us > 0.0 && self.redis.cpu_us > 0.0)
            .then(|| self.holdfast.cpu_us / self.redis.cpu_us)
    }
}

/// Runs redis-benchmark once, on the core of the load.
///
/// # Errors
/// When it fails, or says something else than a rate.
pub fn run(server: &Server, test: &Test, pipeline: u32, options: &Options, cores: &Cores) -> Result<Sample> {
    run_at(Place::LoadCore, server, test, pipeline, options, cores)
}

/// Runs redis-benchmark once.
///
/// # Errors
/// When it fails, or says something else than a rate.
pub fn run_at(
    place: Place,
    server: &Server,
    test: &Test,
    pipeline: u32,
    options: &Options,
    cores: &Cores,
) -> Result<Sample> {
    let mut command = cores.command_at(place, "redis-benchmark");
    let port = server.port.to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "--csv"]).args(options.load_options(pipeline));
    if test.name == "mset" && options.cluster {
        command.args(mset_of_one_slot(options));
    } else if test.command.is_empty() {
        command.args(["-t", test.name]);
    } else {
        command.args(test.command);
    }
    let (before, load_before) = (cpu_seconds(server.pid())?, cpu_seconds_of_ended_children()?);
    let output = command.output().context("redis-benchmark cannot be started; is it installed?")?;
    let used = cpu_seconds(server.pid())? - before;
    let load_used = cpu_seconds_of_ended_children()? - load_before;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "redis-benchmark failed with {}: {said}{complaint}", output.status);
    let rate = rate_of(&said).with_context(|| format!("redis-benchmark gives no rate: {said}{complaint}"))?;
    let requests = options.requests as f64;
    Ok(Sample { rate, cpu_us: used * 1e6 / requests, load_busy: load_used * rate / requests })
}

/// MSET as redis-benchmark sends it, but with keys of one slot, as a cluster node demands.
fn mset_of_one_slot(options: &Options) -> Vec<String> {
    let value = "x".repeat(options.value_size as usize);
    let pair = ["{key}:__rand_int__".to_owned(), value];
    std::iter::once("MSET".to_owned()).chain(std::iter::repeat_n(pair, 10).flatten()).collect()
}

/// The second column of the last line, which is the only test's.
fn rate_of(csv: &str) -> Option<f64> {
    let line = csv.lines().rev().find(|line| line.starts_with('"'))?;
    // A command of ours may have commas in its name: the columns are what stands between quotes.
    let rate = line.split("\",\"").nth(1)?.trim_matches('"').parse().ok()?;
    (rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_redis_benchmark_s_lines() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"123456.78\",\"0.2\"\n";
        assert_eq!(rate_of(text), Some(123_456.78));
        assert_eq!(rate_of("\"test\",\"rps\"\n"), None);
        assert_eq!(rate_of(""), None);
    }

    #[test]
    fn tests_are_run_in_the_list_s_order_and_unknown_ones_are_refused() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            chosen(&names).map(|tests| tests.iter().map(|test| test.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["GET", "set"]).unwrap(), ["set", "get"]);
        assert_eq!(names(&[]).unwrap().len(), TESTS.len());
        assert!(names(&["sett"]).unwrap_err().to_string().contains("there is no such test"));
    }
}
