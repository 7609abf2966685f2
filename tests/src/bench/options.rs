//! What is measured, and how: the command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs redis-benchmark against holdfast-server and redis-server in turn and prints the ratios of rate and of server CPU per request
#[derive(Clone, Parser)]
#[command(name = "holdfast-bench", max_term_width = 100)]
pub struct Options {
    /// Pairs of runs per test; the table shows the median of their ratios
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Requests per run
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: u64,
    /// Connections
    #[arg(long, default_value_t = 50)]
    pub clients: u32,
    /// Tests of redis-benchmark, with commas between; the default is its default list
    #[arg(long, value_delimiter = ',')]
    pub tests: Vec<String>,
    /// Requests sent at once on a connection, with commas between
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pub pipeline: Vec<u32>,
    /// Different keys; 0 for redis-benchmark's single one
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub value_size: u64,
    /// Both servers as cluster nodes that own all slots
    #[arg(long)]
    pub cluster: bool,
    /// Measure something else: SETs to a master with a replica, write-ack in-sync, local, and redis-server with and without WAIT 1
    #[arg(long)]
    pub replicated: bool,
    /// Seconds of a run of --replicated
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Measure every row of the performance issue's table and write docs/performance.md and its plots; see --docs
    #[arg(long)]
    pub all: bool,
    /// Measure only these sections of --all, with commas between, and print the report
    #[arg(long, value_delimiter = ',')]
    pub section: Vec<String>,
    /// Where performance.md is: --all writes there (docs when not given), --section only when this is given
    #[arg(long)]
    pub docs: Option<PathBuf>,
    /// How large and how long --all and --section measure: 1 is what the goals say
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Restart with 10 M keys too (--all, --section restart; some minutes and 8 GB of memory)
    #[arg(long)]
    pub ten_million: bool,
    /// Write the table to this file too
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Options {
    /// redis-benchmark's options, as they are for both servers.
    pub fn load_options(&self, pipeline: u32) -> Vec<String> {
        let mut words = vec![
            "-n".to_owned(),
            self.requests.to_string(),
            "-c".to_owned(),
            self.clients.to_string(),
            "-P".to_owned(),
            pipeline.to_string(),
            "-d".to_owned(),
            self.value_size.to_string(),
        ];
        if self.keys > 0 {
            words.extend(["-r".to_owned(), self.keys.to_string()]);
        }
        words
    }
}
