//! `holdfast cluster`: what is done to a cluster's nodes while they do not run.

/// A cluster again, when a majority of voters is gone for good.
mod recover;
/// What a node's directory knows of its cluster, as text.
mod show;

use std::io::{BufRead, Write};

use anyhow::Result;
use clap::{Args, Subcommand};

/// What `holdfast cluster` takes.
#[derive(Args)]
pub struct ClusterArguments {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Subcommand)]
enum ClusterVerb {
    /// Make a cluster of what is left when a majority of voters is gone for good; without --keep or --lost it only shows what
    /// a stopped node's directory knows
    Recover(recover::RecoverArguments),
}

/// Runs the verb, asking on `input` and printing to `out`.
///
/// # Errors
/// When nothing was changed, and why; or when the directory could not be written.
pub fn cluster(arguments: &ClusterArguments, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<()> {
    match &arguments.verb {
        ClusterVerb::Recover(arguments) => recover::recover(arguments, input, out),
    }
}
