//! Gossip and failure detection alone, at up to a thousand nodes: the real core of every node, the real bytes of every
//! message, in virtual time and from one seed.
//! `cargo run --release -p holdfast-replication --example gossip-scale -- --out docs/gossip-scale.md`

/// Many cores in one process.
mod world;
/// One size of cluster.
mod measure;
/// The table.
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::measure::{Plan, measure};

/// Measures holdfast's gossip and failure detection alone, at several sizes of cluster.
#[derive(Parser)]
struct Options {
    /// Sizes of cluster.
    #[arg(long, value_delimiter = ',', default_value = "6,30,100,300,1000")]
    nodes: Vec<usize>,
    /// cluster-node-timeout in milliseconds, one table each.
    #[arg(long, value_delimiter = ',', default_value = "5000")]
    timeout: Vec<u64>,
    /// Chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes killed one after another, at most a sixth of all.
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Writes the tables to this file too.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut tables = Vec::new();
    for &timeout_ms in &options.timeout {
        let plan = Plan { timeout_ms, seed: options.seed, kills: options.kills };
        let one = |&count: &usize| {
            let began = Instant::now();
            let figures = measure(count, plan);
            eprintln!(
                "{count} nodes, node timeout {timeout_ms} ms: {:.1?}, {:?}",
                began.elapsed(),
                figures.brief()
            );
            figures
        };
        tables.push((timeout_ms, options.nodes.iter().map(one).collect::<Vec<_>>()));
    }
    let text = report::markdown(&options.nodes, options.seed, &tables);
    print!("{text}");
    match options.out.map(|path| (std::fs::write(&path, &text), path)) {
        Some((Err(error), path)) => {
            eprintln!("gossip-scale: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
