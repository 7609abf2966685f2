//! What every section needs: how much, where, and pairs in turn.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::load::{self, Class, Outcome, Pace, Request, Template, Until};
use crate::machine::Cores;
use crate::options::Options;
use crate::servers::{Kind, Launch, Server};

/// Clients, unless a row says something else.
pub const CLIENTS: usize = 50;
/// Bytes of a value.
pub const VALUE_SIZE: usize = 100;
/// Bytes of a key.
pub const KEY_SIZE: usize = 16;
/// Kinds of requests of mixed loads.
pub const GET: usize = 0;
/// Kinds of requests of mixed loads.
pub const SET: usize = 1;

/// What every section needs.
pub struct Bench<'a> {
    /// The command line.
    pub options: &'a Options,
    /// Where servers and load run.
    pub cores: &'a Cores,
    /// Where data directories are made.
    pub below: PathBuf,
    began: Instant,
}

impl<'a> Bench<'a> {
    /// Servers keep their data below this directory.
    pub fn new(options: &'a Options, cores: &'a Cores, below: &Path) -> Self {
        Self { options, cores, below: below.to_owned(), began: Instant::now() }
    }

    /// A line about progress.
    pub fn say(&self, text: &str) {
        let seconds = self.began.elapsed().as_secs();
        eprintln!("{:3}:{:02}  {text}", seconds / 60, seconds % 60);
    }

    /// So many, at full size.
    pub fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.options.scale) as u64).max(20)
    }

    /// So long, at full size.
    pub fn seconds(&self, full: f64) -> Duration {
        Duration::from_secs_f64((full * self.options.scale).max(0.1))
    }

    /// Keys.
    pub fn keys(&self) -> u64 {
        self.count(1_000_000)
    }

    /// Pairs of runs.
    pub fn rounds(&self) -> usize {
        usize::from(self.options.rounds)
    }

    /// A started server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, launch: &Launch) -> Result<Server> {
        Server::start(launch, &self.below, self.cores)
    }

    /// Both servers, holdfast first.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_both(&self, launch: impl Fn(Kind) -> Launch) -> Result<[Server; 2]> {
        Ok([self.start(&launch(Kind::Holdfast))?, self.start(&launch(Kind::Redis))?])
    }

    /// Measures one thing on both, in every round; who comes first alternates.
    ///
    /// # Errors
    /// The first error.
    pub fn pairs<T>(&self, what: &str, mut measure: impl FnMut(Kind) -> Result<T>) -> Result<Vec<[T; 2]>> {
        let mut pairs = Vec::new();
        for round in 0..self.rounds() {
            self.say(&format!("{what}, round {} of {}", round + 1, self.rounds()));
            let order = if round.is_multiple_of(2) { Kind::BOTH } else { [Kind::Redis, Kind::Holdfast] };
            let mut measure = |kind: Kind| measure(kind).with_context(|| format!("{what}, {}", kind.name()));
            let (first, second) = (measure(order[0])?, measure(order[1])?);
            pairs.push(if round.is_multiple_of(2) { [first, second] } else { [second, first] });
        }
        Ok(pairs)
    }

    /// Sends this request once for each number below `count`, in order, many at a time.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn fill(&self, server: &Server, template: &Template, count: u64) -> Result<Outcome> {
        let mut number = 0;
        let next = Box::new(move |out: &mut Vec<u8>| {
            template.write(out, number % count);
            number += 1;
            Request::of(0)
        });
        let class = Class { clients: 8, pipeline: 64, pace: Pace::Closed, next };
        load::run(server.port, 1, &mut [class], Until::Requests(count))
            .with_context(|| format!("filling {}", server.kind.name()))
    }
}

/// The one of a pair.
pub fn of<T>(pair: &[T; 2], kind: Kind) -> &T {
    match kind {
        Kind::Holdfast => &pair[0],
        Kind::Redis => &pair[1],
    }
}

/// Ratios holdfast / redis-server of a figure.
pub fn ratios<T>(pairs: &[[T; 2]], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    let ratio = |[holdfast, redis]: &[T; 2]| figure(holdfast) / figure(redis);
    pairs.iter().map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

/// `SET key:… value`
pub fn set_request() -> Template {
    Template::of(&["SET", "key:############", &"x".repeat(VALUE_SIZE)])
}

/// `GET key:…`
pub fn get_request() -> Template {
    Template::of(&["GET", "key:############"])
}

/// Connections that send this request with random numbers below `keys`.
pub fn random<'a>(
    clients: usize,
    pipeline: usize,
    pace: Pace,
    kind: usize,
    template: &'a Template,
    keys: u64,
) -> Class<'a> {
    let mut dice = fastrand::Rng::with_seed(clients as u64 + 1);
    let next = Box::new(move |out: &mut Vec<u8>| {
        template.write(out, dice.u64(..keys));
        Request::of(kind)
    });
    Class { clients, pipeline, pace, next }
}

/// Connections of which one request in `part` is a SET, the others GETs.
pub fn mixed<'a>(
    clients: usize,
    pace: Pace,
    part: u64,
    templates: [&'a Template; 2],
    keys: u64,
) -> Class<'a> {
    let mut dice = fastrand::Rng::with_seed(7);
    let next = Box::new(move |out: &mut Vec<u8>| {
        let kind = if dice.u64(..part) == 0 { SET } else { GET };
        templates[kind].write(out, dice.u64(..keys));
        Request::of(kind)
    });
    Class { clients, pipeline: 1, pace, next }
}
