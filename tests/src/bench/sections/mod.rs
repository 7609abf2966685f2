//! The rows of the performance issue's table, a section each. Modules in layer order, lowest first.

/// What every section needs.
pub mod bench;
/// A master and its replica.
mod shard;
/// redis-benchmark's tests.
mod standard;
/// Two workers against one.
mod workers;
/// `appendfsync always`.
mod always;
/// In-sync writes; the replica at full rate.
mod replication;
/// Resident memory.
mod memory;
/// Restart after kill -9; bytes written to the disk.
mod restart;
/// A checkpoint under load.
mod checkpoint;
/// A collection that grows.
mod growth;
/// Connections that do nothing.
mod idle;

use anyhow::{Result, bail};

use crate::findings::Findings;
use bench::Bench;

/// A section.
pub struct Section {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its title in the report.
    pub title: &'static str,
    /// Measures.
    pub run: fn(&Bench<'_>) -> Result<Findings>,
}

/// All sections, in the order of the table.
pub const SECTIONS: &[Section] = &[
    Section { name: "single", title: "One command per batch", run: standard::single },
    Section { name: "pipelined", title: "Sixteen commands per batch", run: standard::pipelined },
    Section { name: "workers", title: "Two workers against one", run: workers::two },
    Section { name: "always", title: "`appendfsync always`: writes", run: always::writes },
    Section {
        name: "always-open",
        title: "`appendfsync always`: a mixed load at a fixed rate",
        run: always::open_loop,
    },
    Section {
        name: "always-reads",
        title: "`appendfsync always`: reads beside writes",
        run: always::reads_beside_writes,
    },
    Section { name: "in-sync", title: "Acknowledged by two", run: replication::in_sync },
    Section { name: "memory", title: "Memory of keys", run: memory::keys },
    Section { name: "small", title: "Memory of small collections", run: memory::small_collections },
    Section { name: "large", title: "Large collections", run: memory::large_collections },
    Section { name: "restart", title: "Restart, and bytes on disk", run: restart::after_kill },
    Section { name: "checkpoint", title: "Checkpoint under load", run: checkpoint::under_load },
    Section { name: "growth", title: "Growth without stalls", run: growth::of_collections },
    Section { name: "replica", title: "A replica at the full write rate", run: replication::full_rate },
    Section { name: "idle", title: "Idle connections", run: idle::connections },
];

/// The sections of these names, or all; in the table's order.
///
/// # Errors
/// A name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Section>> {
    if let Some(unknown) = names.iter().find(|name| !SECTIONS.iter().any(|section| section.name == *name)) {
        let known: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        bail!("--section {unknown}: there is no such section; there are {}", known.join(", "));
    }
    let is_wanted = |section: &&Section| names.is_empty() || names.iter().any(|name| name == section.name);
    Ok(SECTIONS.iter().filter(is_wanted).collect())
}
