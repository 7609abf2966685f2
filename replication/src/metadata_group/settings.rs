//! Raft's times and sizes.

use std::time::Duration;

use holdfast_words::ClusterId;
use openraft::{Config, SnapshotPolicy};

use super::error::GroupError;
use crate::wire::metadata::SNAPSHOT_CHUNK_BYTES;

/// For sending and installing the last piece of a snapshot, ms.
const SNAPSHOT_TIME_MS: u64 = 10_000;
/// Entries sent at once.
const ENTRIES_AT_ONCE: u64 = 64;

/// What differs between deployments, and in tests.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The cluster's node timeout: a new leader is to be there well before it is over.
    pub node_timeout_ms: u64,
    /// Entries after which a new snapshot is made.
    pub snapshot_after: u64,
    /// Entries kept although a snapshot has them, for members that are a little behind.
    pub keep: u64,
}

impl Settings {
    /// The usual ones for this node timeout.
    pub fn new(node_timeout_ms: u64) -> Self {
        Self { node_timeout_ms, snapshot_after: 4000, keep: 1000 }
    }

    /// Between two heartbeats of the leader, ms.
    pub fn heartbeat_ms(&self) -> u64 {
        (self.node_timeout_ms / 12).clamp(50, 500)
    }

    /// The longest a member that heard from a leader keeps to it, ms. An election begins after this time and another, random
    /// one between half of it and it; it is noticed at a heartbeat. All in all about half the node timeout at most.
    pub fn lease_ms(&self) -> u64 {
        (self.node_timeout_ms / 5).clamp(200, 2500)
    }

    /// The time a change may take to be committed once there is a leader.
    pub fn commit_time(&self) -> Duration {
        Duration::from_millis(self.node_timeout_ms.max(1000))
    }

    /// The same for openraft.
    ///
    /// # Errors
    /// Never in practice: the times fit each other.
    pub fn raft_config(&self, cluster: ClusterId) -> Result<Config, GroupError> {
        Config {
            cluster_name: cluster.to_string(),
            heartbeat_interval: self.heartbeat_ms(),
            election_timeout_min: self.lease_ms() / 2,
            election_timeout_max: self.lease_ms(),
            install_snapshot_timeout: SNAPSHOT_TIME_MS,
            max_payload_entries: ENTRIES_AT_ONCE,
            replication_lag_threshold: self.keep,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            max_in_snapshot_log_to_keep: self.keep,
            // Switched on when a majority wants one.
            enable_elect: false,
            ..Config::default()
        }
        .validate()
        .map_err(GroupError::raft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_leader_is_there_well_before_the_node_timeout_is_over() {
        for node_timeout_ms in [1, 100, 500, 1000, 2000, 5000, 15_000, 60_000, 10_000_000] {
            let settings = Settings::new(node_timeout_ms);
            let config = settings.raft_config(ClusterId::default()).unwrap();
            // Members keep to a leader for its lease and then wait at least for the shortest election time.
            let earliest = config.election_timeout_max + config.election_timeout_min;
            assert!(config.heartbeat_interval * 3 <= earliest, "{node_timeout_ms}: {earliest}");
            let latest = config.election_timeout_max * 2 + config.heartbeat_interval;
            assert!(latest <= (node_timeout_ms / 2).max(450), "{node_timeout_ms}: {latest}");
        }
    }
}
