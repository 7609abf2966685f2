//! The typed configuration that the server reads. Each field stands for the directive of the same name.

use std::fmt;

use holdfast_storage::log::{AckPoint, FsyncPolicy};

/// An enum whose members are spelled in the configuration.
macro_rules! choice {
    ($(#[$meta:meta])* $kind:ident { $($(#[$member_meta:meta])* $member:ident $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $kind { $($(#[$member_meta])* $member,)* }

        impl $kind {
            /// How the members are spelled.
            pub const NAMES: &[&str] = &[$($name,)*];

            /// How the member is spelled.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$member => $name,)* }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Value for $kind {
            fn read(text: &str) -> Option<Self> {
                match text { $($name => Some(Self::$member),)* _ => None }
            }
        }
    };
}

/// What a directive's text is turned into.
trait Value: Sized {
    fn read(text: &str) -> Option<Self>;
}

impl Value for bool {
    fn read(text: &str) -> Option<Self> {
        Some(text == "yes")
    }
}

impl Value for String {
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for Vec<String> {
    fn read(text: &str) -> Option<Self> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }
}

macro_rules! integers {
    ($($kind:ident)*) => {
        $(impl Value for $kind {
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
    };
}

integers!(u16 u64 i64 usize);

choice! {
    /// When the log is synced to disk.
    AppendFsync {
        /// About once a second.
        EverySec "everysec",
        /// Before a write is acknowledged.
        Always "always",
        /// When the system likes.
        No "no",
    }
}

choice! {
    /// What an acknowledged write has reached.
    WriteAck {
        /// This node's log, as `appendfsync` says.
        Local "local",
        /// The logs of every in-sync replica.
        InSync "in-sync",
    }
}

choice! {
    /// What log lines look like.
    LogFormat {
        /// For people.
        Text "text",
        /// For machines.
        Json "json",
    }
}

choice! {
    /// What is worth a log line.
    LogLevel {
        /// Everything.
        Debug "debug",
        /// Much.
        Verbose "verbose",
        /// What an operator wants to know.
        Notice "notice",
        /// What an operator must know.
        Warning "warning",
    }
}

choice! {
    /// Which keys go when memory is short.
    MaxmemoryPolicy {
        /// The least recently used of those that expire.
        VolatileLru "volatile-lru",
        /// The least frequently used of those that expire.
        VolatileLfu "volatile-lfu",
        /// Any of those that expire.
        VolatileRandom "volatile-random",
        /// Those that expire soonest.
        VolatileTtl "volatile-ttl",
        /// The least recently used.
        AllkeysLru "allkeys-lru",
        /// The least frequently used.
        AllkeysLfu "allkeys-lfu",
        /// Any.
        AllkeysRandom "allkeys-random",
        /// None: writes that need memory are refused.
        Noeviction "noeviction",
    }
}

choice! {
    /// What clients are told to connect to.
    EndpointType {
        /// The address.
        Ip "ip",
        /// The host name.
        Hostname "hostname",
        /// The address they know already.
        UnknownEndpoint "unknown-endpoint",
    }
}

choice! {
    /// Who may use DEBUG.
    DebugCommand {
        /// Nobody.
        No "no",
        /// Everybody.
        Yes "yes",
        /// Clients on this machine.
        Local "local",
    }
}

macro_rules! settings {
    ($(#[doc = $meaning:literal] $field:ident: $kind:ty = $name:literal,)*) => {
        /// The configuration as it is now.
        #[derive(Clone, PartialEq, Debug)]
        pub struct Config {
            $(#[doc = $meaning] pub $field: $kind,)*
        }

        impl Config {
            /// Directives that have a field.
            pub const FIELDS: &[&str] = &[$($name,)*];

            /// What each of them means, for docs/configuration.md.
            pub const MEANINGS: &[&str] = &[$($meaning,)*];

            /// Reads the fields; `value` gives a directive's text as the table has checked it.
            ///
            /// # Panics
            /// When the table allows what a field cannot hold; a test tries the ends of every range.
            pub fn read<'v>(mut value: impl FnMut(&str) -> &'v str) -> Self {
                Self {
                    $($field: {
                        let text = value($name);
                        <$kind as Value>::read(text)
                            .unwrap_or_else(|| panic!("the table lets {} be {text:?}", $name))
                    },)*
                }
            }
        }
    };
}

settings! {
    /// Addresses to listen on; one that begins with `-` may be missing.
    bind: Vec<String> = "bind",
    /// Without a password, only this machine's clients are served.
    protected_mode: bool = "protected-mode",
    /// Port for clients; 0 for any free one.
    port: u16 = "port",
    /// Connections that wait to be accepted.
    tcp_backlog: u64 = "tcp-backlog",
    /// Seconds after which an idle client is disconnected; 0 for never.
    timeout: u64 = "timeout",
    /// Seconds of silence after which the peer is probed; 0 for never.
    tcp_keepalive: u64 = "tcp-keepalive",
    /// Most clients at a time.
    maxclients: u64 = "maxclients",
    /// Longest argument, bytes.
    proto_max_bulk_len: usize = "proto-max-bulk-len",
    /// Most bytes a client may send before they make a command.
    client_query_buffer_limit: usize = "client-query-buffer-limit",
    /// File for the process id; empty for none.
    pidfile: String = "pidfile",
    /// What is logged.
    loglevel: LogLevel = "loglevel",
    /// File to log to; empty for standard output.
    logfile: String = "logfile",
    /// What log lines look like.
    log_format: LogFormat = "log-format",
    /// Workers; 0 for one per core.
    io_threads: usize = "io-threads",
    /// Rounds of background work per second.
    hz: u64 = "hz",
    /// The password; empty for none.
    requirepass: String = "requirepass",
    /// Who may use DEBUG.
    enable_debug_command: DebugCommand = "enable-debug-command",
    /// The data directory.
    dir: String = "dir",
    /// When the log is synced.
    appendfsync: AppendFsync = "appendfsync",
    /// Bytes of a log segment.
    wal_segment_size: u64 = "wal-segment-size",
    /// Bytes of log kept for replicas that are behind.
    wal_retain_size: u64 = "wal-retain-size",
    /// Bytes of log after which a checkpoint is taken.
    checkpoint_log_size: u64 = "checkpoint-log-size",
    /// Bytes per second of log and images that are looked through for damage; 0 for none.
    scrub_rate: u64 = "scrub-rate",
    /// Most memory for data, bytes; 0 for no limit.
    maxmemory: u64 = "maxmemory",
    /// Which keys go when it is used up.
    maxmemory_policy: MaxmemoryPolicy = "maxmemory-policy",
    /// Without a cluster: host and port of the master to follow.
    replicaof: Vec<String> = "replicaof",
    /// Without a cluster: what the master wants to be shown; empty for `requirepass`.
    masterauth: String = "masterauth",
    /// Without a cluster: seconds of silence after which master and replica give each other up.
    repl_timeout: u64 = "repl-timeout",
    /// Whether this is a cluster node.
    cluster_enabled: bool = "cluster-enabled",
    /// Port of the bus; 0 for 10000 above `port`.
    cluster_port: u16 = "cluster-port",
    /// Address told to others; empty for the one that they see.
    cluster_announce_ip: String = "cluster-announce-ip",
    /// Port told to others; 0 for `port`.
    cluster_announce_port: u16 = "cluster-announce-port",
    /// Port of the bus told to others; 0 for the real one.
    cluster_announce_bus_port: u16 = "cluster-announce-bus-port",
    /// Host name told to others; empty for none.
    cluster_announce_hostname: String = "cluster-announce-hostname",
    /// What clients are told to connect to.
    cluster_preferred_endpoint_type: EndpointType = "cluster-preferred-endpoint-type",
    /// What nodes show each other before they talk.
    cluster_secret: String = "cluster-secret",
    /// The machine (or rack) this node stands on; empty for its address.
    cluster_zone: String = "cluster-zone",
    /// Milliseconds of silence after which a node is suspected.
    cluster_node_timeout: u64 = "cluster-node-timeout",
    /// Whether all slots must be owned for any to be served.
    cluster_require_full_coverage: bool = "cluster-require-full-coverage",
    /// Whether reads go on while the cluster is down.
    cluster_allow_reads_when_down: bool = "cluster-allow-reads-when-down",
    /// Node timeouts after which a replica without its master is too old to be promoted; 0 for never.
    cluster_replica_validity_factor: u64 = "cluster-replica-validity-factor",
    /// Whether this node is never to be promoted by itself.
    cluster_replica_no_failover: bool = "cluster-replica-no-failover",
    /// Replicas that a master keeps when one migrates away.
    cluster_migration_barrier: u64 = "cluster-migration-barrier",
    /// Whether replicas migrate to masters that have none.
    cluster_allow_replica_migration: bool = "cluster-allow-replica-migration",
    /// Whether masters return to where they were spread.
    cluster_rebalance_masters: bool = "cluster-rebalance-masters",
    /// Whether a replica that may lack acknowledged writes is promoted when no other is left.
    unclean_failover: bool = "unclean-failover",
    /// What an acknowledged write has reached.
    write_ack: WriteAck = "write-ack",
    /// Seconds that a stopping master waits for its handover.
    shutdown_timeout: u64 = "shutdown-timeout",
    /// Milliseconds that a replica may be behind before it is dropped from the in-sync set.
    replica_lag_max: u64 = "replica-lag-max",
    /// Replicas without which writes are refused.
    min_replicas_to_write: usize = "min-replicas-to-write",
    /// Seconds within which they must have been heard.
    min_replicas_max_lag: u64 = "min-replicas-max-lag",
    /// Microseconds from which a command is slow; negative for none.
    slowlog_log_slower_than: i64 = "slowlog-log-slower-than",
    /// Slow commands remembered.
    slowlog_max_len: u64 = "slowlog-max-len",
    /// Milliseconds from which an event's latency is remembered; 0 for none.
    latency_monitor_threshold: u64 = "latency-monitor-threshold",
}

impl Config {
    /// Which position a reply waits for where this node's word is enough.
    pub fn local_ack_point(&self) -> AckPoint {
        match self.appendfsync {
            AppendFsync::Always => AckPoint::Durable,
            AppendFsync::EverySec | AppendFsync::No => AckPoint::Written,
        }
    }

    /// When the log is synced.
    pub fn fsync_policy(&self) -> FsyncPolicy {
        match self.appendfsync {
            AppendFsync::Always => FsyncPolicy::Always,
            AppendFsync::EverySec => FsyncPolicy::EverySecond,
            AppendFsync::No => FsyncPolicy::No,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        use super::directives::{DIRECTIVES, find};
        Self::read(|name| find(name).map_or("", |place| DIRECTIVES[place].default))
    }
}

#[cfg(test)]
mod tests {
    use super::super::directives::{DIRECTIVES, Status, find};
    use super::super::value::Kind;
    use super::*;

    #[test]
    fn a_directive_has_a_field_if_and_only_if_it_is_used() {
        for directive in DIRECTIVES {
            let has_field = Config::FIELDS.contains(&directive.name);
            assert_eq!(has_field, directive.status == Status::Used, "{}", directive.name);
        }
        assert!(Config::FIELDS.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn replies_wait_for_the_disk_only_when_it_is_always_synced() {
        let config = |appendfsync| Config { appendfsync, ..Config::default() };
        assert_eq!(config(AppendFsync::Always).local_ack_point(), AckPoint::Durable);
        assert_eq!(config(AppendFsync::EverySec).local_ack_point(), AckPoint::Written);
    }

    #[test]
    fn a_field_holds_whatever_the_table_allows() {
        let extremes = |kind: Kind| match kind {
            Kind::Integer { min, max } => vec![min.to_string(), max.to_string()],
            Kind::Memory { min, max } => vec![min.to_string(), max.to_string()],
            Kind::OneOf(names) => names.iter().map(|&name| name.to_owned()).collect(),
            _ => vec![],
        };
        for directive in DIRECTIVES.iter().filter(|row| row.status == Status::Used) {
            for extreme in extremes(directive.kind) {
                Config::read(|name| {
                    if name == directive.name {
                        &extreme
                    } else {
                        find(name).map_or("", |place| DIRECTIVES[place].default)
                    }
                });
            }
        }
    }
}
