//! `holdfast-bench`: holdfast-server against redis-server, in turn, with the same options, and a report of the ratios.
//!
//! * `cargo run --release -p holdfast-tests --bin holdfast-bench -- --all`: every row of the performance issue's table against its
//!   goal, in some 25 minutes, into docs/performance.md; `--section NAME` only some of it.
//! * without these: redis-benchmark's tests alone, as many as are asked for.
//!
//! Both servers run all the time; each round measures every test on one and then the other, and who comes first changes from
//! round to round. So the two measurements of a pair are moments apart, and the noise of a busy machine mostly hits both.
//! Modules in layer order, lowest first.

/// What is measured, and how: the command line.
mod options;
/// Medians of pairs.
mod statistics;
/// Processors and process times, as Linux tells them.
mod machine;
/// The two servers as real processes.
mod servers;
/// One test on one server: redis-benchmark's rate, the server's CPU time.
mod measure;
/// The table.
mod report;
/// Another measurement: what replicated writes cost.
mod replicated;
/// Our own load generator: closed and open loop.
mod load;
/// Rows against their goals.
mod findings;
/// Pictures.
mod plots;
/// The rows of the table, a section each.
mod sections;
/// The report of all sections, and where it goes.
mod document;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::document::Chapter;
use crate::machine::{Cores, Place};
use crate::measure::{Pair, Sample, Test};
use crate::options::Options;
use crate::report::Row;
use crate::sections::bench::Bench;
use crate::servers::{Kind, Launch, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The node that is measured is this very binary, so that one `cargo run --release` builds all there is to build.
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == servers::NODE_VERB) {
        return holdfast_server::main(arguments.skip(1).collect());
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.all || !options.section.is_empty() {
        return run_sections(options);
    }
    if options.replicated {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        return publish(options, &replicated::run(options, directory.path())?);
    }
    let tests = measure::chosen(&options.tests)?;
    let cores = Cores::choose();
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let start = |kind| {
        let launch = Launch { cluster: options.cluster, ..Launch::of(kind) };
        Server::start(&launch, directory.path(), &cores)
    };
    let servers = [start(Kind::Holdfast)?, start(Kind::Redis)?];
    let steps = options.pipeline.len() * usize::from(options.rounds) * tests.len() * servers.len();
    let progress = progress_bar(steps as u64);
    let mut rows = Vec::new();
    for &pipeline in &options.pipeline {
        let mut pairs: Vec<Vec<Pair>> = tests.iter().map(|_| Vec::new()).collect();
        for round in 0..usize::from(options.rounds) {
            servers.iter().try_for_each(Server::empty)?;
            for (test, pairs) in tests.iter().zip(&mut pairs) {
                progress.set_message(format!("P={pipeline} round {} {}", round + 1, test.name));
                pairs.push(measure_pair(&servers, test, pipeline, round, options, &cores, &progress)?);
            }
        }
        rows.extend(tests.iter().zip(pairs).map(|(test, pairs)| Row {
            test: test.name.to_owned(),
            pipeline,
            pairs,
        }));
    }
    progress.finish_and_clear();
    publish(options, &report::markdown(options, &cores, &servers, &rows))
}

/// The rows of the performance issue's table. A section that fails is reported, and the others go on.
fn run_sections(options: &Options) -> Result<()> {
    ensure!(options.scale > 0.0, "--scale {}: it must be above 0", options.scale);
    let sections = sections::chosen(if options.all { &[] } else { &options.section })?;
    let docs = options.docs.clone().or_else(|| options.all.then(|| PathBuf::from("docs")));
    let cores = Cores::choose();
    cores.move_myself(Place::LoadCore)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let versions = versions(directory.path(), &cores)?;
    let bench = Bench::new(options, &cores, directory.path());
    let mut chapters = Vec::new();
    for section in sections {
        bench.say(&format!("section {}: {}", section.name, section.title));
        let result = (section.run)(&bench);
        if let Err(error) = &result {
            bench.say(&format!("section {} FAILED: {error:#}", section.name));
        }
        chapters.push(Chapter { section, result });
        // What has been measured is not lost when the run is broken off.
        if let Some(docs) = &docs {
            let report = document::markdown(options, &cores, &versions, &chapters);
            document::write(docs, &report, &chapters)?;
        }
    }
    publish(options, &document::markdown(options, &cores, &versions, &chapters))?;
    let failed: Vec<&str> = chapters
        .iter()
        .filter(|chapter| chapter.result.is_err())
        .map(|chapter| chapter.section.name)
        .collect();
    ensure!(failed.is_empty(), "these sections failed: {}", failed.join(", "));
    Ok(())
}

/// What the programs say they are.
fn versions(below: &Path, cores: &Cores) -> Result<String> {
    let version = |kind| -> Result<String> {
        let launch = Launch { cluster: false, ..Launch::of(kind) };
        Ok(Server::start(&launch, below, cores)?.version.clone())
    };
    let (holdfast, redis) = (version(Kind::Holdfast)?, version(Kind::Redis)?);
    let build = match servers::other_build() {
        Some(path) => format!("the build in {}", path.display()),
        None if cfg!(debug_assertions) => "**debug build: the figures mean nothing**".to_owned(),
        None => "release build".to_owned(),
    };
    let load = servers::load_version();
    Ok(format!("holdfast-server {holdfast} ({build}), redis-server {redis}, {load}"))
}

/// To standard output and where it was asked for.
fn publish(options: &Options, text: &str) -> Result<()> {
    print!("{text}");
    if let Some(path) = &options.out {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One test on both servers; who comes first alternates.
fn measure_pair(
    servers: &[Server; 2],
    test: &Test,
    pipeline: u32,
    round: usize,
    options: &Options,
    cores: &Cores,
    progress: &ProgressBar,
) -> Result<Pair> {
    let mut samples = [Sample::default(); 2];
    for step in 0..servers.len() {
        let index = (step + round) % servers.len();
        let sample = measure::run(&servers[index], test, pipeline, options, cores);
        samples[index] =
            sample.with_context(|| format!("{} on {}", test.name, servers[index].kind.name()))?;
        progress.inc(1);
    }
    let [holdfast, redis] = samples;
    Ok(Pair { holdfast, redis })
}

/// On a terminal's standard error; nowhere otherwise.
fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of {duration}  {msg}");
    bar.with_style(style.expect("the template is right"))
}
