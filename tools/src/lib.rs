//! The `holdfast` command: a local cluster (`up`, `down`, `status`), the offline log tool (`wal`), disasters (`cluster`). A library, so that the
//! tests run the very same entry point. Modules in layer order, lowest first.

/// Talking to nodes.
pub mod nodes;
/// Text for terminals: tables, colours, values as redis-cli prints them.
pub mod print;
/// A bar while a log is walked.
pub mod progress;
/// `holdfast up` and `holdfast down`: a local cluster.
pub mod up;
/// `holdfast status`: who is who, and how far.
pub mod status;
/// `holdfast wal`: the offline log tool.
pub mod wal;
/// `holdfast cluster`: a cluster again, when a majority is gone for good.
pub mod cluster;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Redis Cluster whose acknowledged writes survive.
#[derive(Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a local cluster and keep it running until Ctrl-C; started again, it comes back with its data
    Up(up::UpArguments),
    /// Stop a local cluster that runs in the background
    Down(up::DownArguments),
    /// Show the nodes of a running cluster: roles, slots, log positions, lag
    Status(status::StatusArguments),
    /// Read a node's log, of a stopped or running node, without changing it
    Wal(wal::WalArguments),
    /// Work on a cluster whose nodes do not run: recover when a majority is gone for good
    Cluster(cluster::ClusterArguments),
    /// Run one node (the same as holdfast-server)
    #[command(hide = true, disable_help_flag = true)]
    Server {
        /// What holdfast-server takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Entry point of the `holdfast` command.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Server { arguments } => return holdfast_server::main(arguments),
        Verb::Up(arguments) => up::up(&arguments),
        Verb::Down(arguments) => up::down(&arguments),
        Verb::Status(arguments) => status::status(&arguments),
        Verb::Cluster(arguments) => {
            cluster::cluster(&arguments, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())
        }
        Verb::Wal(arguments) => wal::wal(&arguments, &mut std::io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
