//! Counters that INFO shows: relaxed atomics, one set per node, and per command.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::command::CommandId;

/// A counter.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Back to 0 (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What one command did so far (INFO commandstats).
#[derive(Default, Debug)]
pub struct CommandStats {
    /// Executions.
    pub calls: Counter,
    /// Time in them, nanoseconds.
    pub nanoseconds: Counter,
    /// Refused before execution (arity, OOM, …).
    pub rejected: Counter,
    /// Answered with an error.
    pub failed: Counter,
}

/// The node's counters.
#[derive(Debug)]
pub struct Stats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: Counter,
    /// Commands executed.
    pub commands: Counter,
    /// Bytes read from clients.
    pub input_bytes: Counter,
    /// Bytes sent to clients.
    pub output_bytes: Counter,
    /// Keys deleted because their time had come.
    pub expired_keys: Counter,
    /// Keys deleted because memory was needed.
    pub evicted_keys: Counter,
    /// Reads that found their key.
    pub keyspace_hits: Counter,
    /// Reads that did not.
    pub keyspace_misses: Counter,
    /// Commands sent to another node (MOVED).
    pub redirections: Counter,
    /// Error replies.
    pub error_replies: Counter,
    /// Per command, by [`CommandId`].
    per_command: Box<[CommandStats]>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            commands: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            expired_keys: Counter::default(),
            evicted_keys: Counter::default(),
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            redirections: Counter::default(),
            error_replies: Counter::default(),
            per_command: CommandId::all().map(|_| CommandStats::default()).collect(),
        }
    }
}

impl Stats {
    /// One command's counters.
    pub fn command(&self, id: CommandId) -> &CommandStats {
        &self.per_command[id as usize]
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        let counters = [
            &self.connections,
            &self.rejected_connections,
            &self.commands,
            &self.input_bytes,
            &self.output_bytes,
            &self.expired_keys,
            &self.evicted_keys,
            &self.keyspace_hits,
            &self.keyspace_misses,
            &self.redirections,
            &self.error_replies,
        ];
        counters.into_iter().for_each(Counter::reset);
        for command in &self.per_command {
            [&command.calls, &command.nanoseconds, &command.rejected, &command.failed]
                .into_iter()
                .for_each(Counter::reset);
        }
    }
}
