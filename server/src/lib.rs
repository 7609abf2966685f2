//! What holdfast's clients see: RESP, configuration, commands, connections. Modules in layer order, lowest first; a module
//! names only modules above it in this list.

/// Clocks, sleep, the configuration file, facts about the process.
pub mod platform;
/// The Redis serialization protocol: requests in, replies out.
pub mod resp;
/// Patterns with `*`, `?` and classes.
pub mod glob;
/// redis.conf and the command line.
pub mod config;
/// What commands there are and what is common to all of them.
pub mod command;

/// The node's own log.
pub mod logging;
/// Counters that INFO shows.
pub mod stats;
/// Who is connected.
pub mod clients;
/// SLOWLOG.
pub mod slowlog;
/// LATENCY.
pub mod latency;
/// CLIENT PAUSE and handovers.
pub mod pause;
/// What one client is.
pub mod session;
/// Slot → serve, or where to go instead.
pub mod route;
/// What all workers share.
pub mod node;
/// The commands.
pub mod commands;
/// CommandId → handler.
pub mod dispatch;
/// Making room when the data outgrow `maxmemory`.
pub mod eviction;
/// Replies in order, each held until the log has what it shows.
pub mod reply_gate;
/// One request: admitted, locked, run, logged.
pub mod run;
/// One client's connection.
pub mod connection;
/// THE WALK: a worker and its connections.
pub mod worker;
/// The data port.
pub mod listener;
/// What the node does by itself.
pub mod housekeeping;
/// Going without costing clients a write.
pub mod leave;
/// What systemd is told.
pub mod supervisor;
/// Starting and stopping.
pub mod start;
/// A whole node in a simulated world.
#[cfg(feature = "simulation")]
pub mod simulation;

pub use start::main;

/// The Redis version whose commands and replies these are, as clients ask for it.
pub const REDIS_VERSION: &str = "7.2.4";
