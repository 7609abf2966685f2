//! The table: every directive that holdfast or Redis 7 knows, what it may hold, what it is when nobody says, whether it can
//! change while the server runs, and whether holdfast needs it.

use super::settings::{AppendFsync, EndpointType, LogFormat, LogLevel, MaxmemoryPolicy, WriteAck};
use super::value::Kind;

/// What holdfast does with a directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It says what holdfast does.
    Used,
    /// Redis knows it; holdfast accepts it, logs it once and goes on without: why.
    NotNeeded(&'static str),
    /// Redis knows it, holdfast cannot do what it asks for, and going on without would be a lie: why. Only its default is
    /// accepted.
    Unsupported(&'static str),
}

/// A row.
#[derive(Debug)]
pub struct Directive {
    /// Its name, lower case.
    pub name: &'static str,
    /// An older name.
    pub alias: Option<&'static str>,
    /// What it holds.
    pub kind: Kind,
    /// What it is when nobody says, as CONFIG GET shows it.
    pub default: &'static str,
    /// Whether CONFIG SET may change it.
    pub changes_at_run_time: bool,
    /// What holdfast does with it.
    pub status: Status,
}

impl Directive {
    const fn fixed(mut self) -> Self {
        self.changes_at_run_time = false;
        self
    }

    const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn not_needed(mut self, why: &'static str) -> Self {
        self.status = Status::NotNeeded(why);
        self
    }

    const fn unsupported(mut self, why: &'static str) -> Self {
        self.status = Status::Unsupported(why);
        self.changes_at_run_time = false;
        self
    }

    /// Whether the directive has this name, in any case.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.alias.is_some_and(|alias| alias.eq_ignore_ascii_case(name))
    }
}

/// The place in [`DIRECTIVES`] of the directive of this name, in any case.
pub fn find(name: &str) -> Option<usize> {
    DIRECTIVES.iter().position(|directive| directive.is_called(name))
}

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive { name, alias: None, kind, default, changes_at_run_time: true, status: Status::Used }
}

const fn flag(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::Bool, default)
}

const fn integer(name: &'static str, min: i64, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Integer { min, max }, default)
}

const fn count(name: &'static str, default: &'static str) -> Directive {
    integer(name, 0, i32::MAX as i64, default)
}

const fn memory(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::Memory { min: 0, max: u64::MAX }, default)
}

const fn text(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::Text, default)
}

const LOG_INSTEAD: &str = "the write-ahead log and checkpoints take the place of RDB and AOF files";
const OWN_LAYOUT: &str = "holdfast chooses its memory layouts itself";
const NO_FORK: &str = "holdfast never forks";
const NO_LAZY: &str = "huge collections are always freed by a thread of their own, all else at once";
const STREAMED: &str = "the shard's log is streamed: no backlog, no RDB transfer";
const BY_LOG: &str = "promotion goes by the freshest log";
const CLUSTER_SECRET: &str = "nodes show each other cluster-secret";
const TLS: &str = "TLS is not there yet";
const ACL: &str = "ACL users are not there yet; requirepass is";
const EVICTION: &str = "eviction samples five keys and needs no tuning";
const MODULES: &str = "there are no modules";
const SYSTEMD: &str = "systemd places and restarts the process; it is notified when NOTIFY_SOCKET is set";
const THREADS: &str = "systemd (CPUAffinity=) or taskset places the process";
const OUTPUT: &str = "a client that does not read is not read from";
const SCRIPTS: &str = "there are no scripts yet";
const TRACKING: &str = "client-side caching is not there yet";
const COMMAND_STATS: &str = "latencies by command are not collected";

/// Every directive, in the order of a configuration file.
pub static DIRECTIVES: &[Directive] = &[
    // Network.
    row("bind", Kind::Words, "* -::*").fixed(),
    flag("protected-mode", "yes"),
    integer("port", 0, 65535, "6379").fixed(),
    count("tcp-backlog", "511").fixed(),
    count("timeout", "0"),
    count("tcp-keepalive", "300"),
    integer("maxclients", 1, u32::MAX as i64, "10000"),
    row("proto-max-bulk-len", Kind::Memory { min: 1 << 20, max: i64::MAX as u64 }, "536870912"),
    row("client-query-buffer-limit", Kind::Memory { min: 1 << 20, max: i64::MAX as u64 }, "1073741824"),
    row(
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    )
    .not_needed(OUTPUT),
    row("maxmemory-clients", Kind::MemoryOrPercent, "0").not_needed(OUTPUT),
    text("unixsocket", "").unsupported("clients connect by TCP"),
    text("unixsocketperm", "0").unsupported("clients connect by TCP"),
    text("bind-source-addr", "").unsupported("the system chooses the address of outgoing connections"),
    integer("socket-mark-id", 0, u32::MAX as i64, "0").unsupported("connections are not marked"),
    integer("tls-port", 0, 65535, "0").unsupported(TLS),
    flag("tls-cluster", "no").unsupported(TLS),
    flag("tls-replication", "no").unsupported(TLS),
    text("tls-cert-file", "").unsupported(TLS),
    text("tls-key-file", "").unsupported(TLS),
    text("tls-key-file-pass", "").unsupported(TLS),
    text("tls-client-cert-file", "").unsupported(TLS),
    text("tls-client-key-file", "").unsupported(TLS),
    text("tls-client-key-file-pass", "").unsupported(TLS),
    text("tls-dh-params-file", "").unsupported(TLS),
    text("tls-ca-cert-file", "").unsupported(TLS),
    text("tls-ca-cert-dir", "").unsupported(TLS),
    row("tls-auth-clients", Kind::OneOf(&["no", "yes", "optional"]), "yes").not_needed(TLS),
    text("tls-protocols", "").not_needed(TLS),
    text("tls-ciphers", "").not_needed(TLS),
    text("tls-ciphersuites", "").not_needed(TLS),
    flag("tls-prefer-server-ciphers", "no").not_needed(TLS),
    flag("tls-session-caching", "yes").not_needed(TLS),
    count("tls-session-cache-size", "20480").not_needed(TLS),
    count("tls-session-cache-timeout", "300").not_needed(TLS),
    // The process.
    flag("daemonize", "no")
        .fixed()
        .not_needed("holdfast stays in the foreground, under systemd or `holdfast up --detach`"),
    row("supervised", Kind::OneOf(&["upstart", "systemd", "auto", "no"]), "no").fixed().not_needed(SYSTEMD),
    text("pidfile", "").fixed(),
    row("loglevel", Kind::OneOf(LogLevel::NAMES), "notice"),
    text("logfile", "").fixed(),
    row("log-format", Kind::OneOf(LogFormat::NAMES), "text").fixed(),
    flag("syslog-enabled", "no")
        .unsupported("log to standard output, which systemd's journal takes, or to a logfile"),
    text("syslog-ident", "redis").fixed().not_needed("there is no syslog output"),
    text("syslog-facility", "local0").fixed().not_needed("there is no syslog output"),
    flag("crash-log-enabled", "yes").not_needed("a panic is always logged"),
    flag("crash-memcheck-enabled", "yes").not_needed("a panic is always logged"),
    flag("always-show-logo", "no").fixed().not_needed("there is no logo"),
    flag("set-proc-title", "yes").fixed().not_needed("the command line says what runs"),
    text("proc-title-template", "{title} {listen-addr} {server-mode}")
        .not_needed("the command line says what runs"),
    integer("databases", 1, i32::MAX as i64, "16")
        .fixed()
        .not_needed("there is one database, 0, as in every cluster"),
    integer("io-threads", 0, 512, "0").fixed(),
    flag("io-threads-do-reads", "no").fixed().not_needed("every worker reads, runs and writes"),
    text("server_cpulist", "").fixed().not_needed(THREADS),
    text("bio_cpulist", "").fixed().not_needed(THREADS),
    text("aof_rewrite_cpulist", "").fixed().not_needed(THREADS),
    text("bgsave_cpulist", "").fixed().not_needed(THREADS),
    row("oom-score-adj", Kind::OneOf(&["no", "yes", "relative", "absolute"]), "no")
        .not_needed("systemd's OOMScoreAdjust= sets it"),
    row("oom-score-adj-values", Kind::Words, "0 200 800").not_needed("systemd's OOMScoreAdjust= sets it"),
    flag("disable-thp", "yes").fixed().not_needed(NO_FORK),
    text("ignore-warnings", "").not_needed("there are no start-up warnings to ignore"),
    integer("hz", 0, i32::MAX as i64, "10"),
    flag("dynamic-hz", "yes").not_needed("background work adapts itself"),
    count("shutdown-timeout", "10"),
    row("shutdown-on-sigint", Kind::Words, "default")
        .not_needed("SIGINT and SIGTERM hand over, take a checkpoint and stop"),
    row("shutdown-on-sigterm", Kind::Words, "default")
        .not_needed("SIGINT and SIGTERM hand over, take a checkpoint and stop"),
    // Who may do what.
    text("requirepass", ""),
    text("masterauth", "").fixed(),
    text("masteruser", "").not_needed(CLUSTER_SECRET),
    text("aclfile", "").unsupported(ACL),
    row("user", Kind::Words, "").unsupported(ACL),
    integer("acllog-max-len", 0, i64::MAX, "128").not_needed(ACL),
    row("acl-pubsub-default", Kind::OneOf(&["allchannels", "resetchannels"]), "resetchannels")
        .not_needed(ACL),
    row("rename-command", Kind::Words, "").unsupported("commands keep their names"),
    row("enable-debug-command", Kind::OneOf(&["no", "yes", "local"]), "local").fixed(),
    row("enable-protected-configs", Kind::OneOf(&["no", "yes", "local"]), "no")
        .fixed()
        .not_needed("where data lies is fixed when the server starts"),
    row("enable-module-command", Kind::OneOf(&["no", "yes", "local"]), "no").fixed().not_needed(MODULES),
    row("loadmodule", Kind::Words, "").unsupported(MODULES),
    // Data on disk.
    text("dir", ".").fixed(),
    row("appendfsync", Kind::OneOf(AppendFsync::NAMES), "everysec"),
    row("wal-segment-size", Kind::Memory { min: 1 << 20, max: 4 << 30 }, "67108864"),
    memory("wal-retain-size", "1073741824"),
    row("checkpoint-log-size", Kind::Memory { min: 1 << 20, max: u64::MAX }, "268435456"),
    memory("scrub-rate", "10485760"),
    flag("appendonly", "no").not_needed("everything is logged, always"),
    text("appendfilename", "appendonly.aof").fixed().not_needed(LOG_INSTEAD),
    text("appenddirname", "appendonlydir").fixed().not_needed(LOG_INSTEAD),
    flag("no-appendfsync-on-rewrite", "no").not_needed(LOG_INSTEAD),
    count("auto-aof-rewrite-percentage", "100").not_needed(LOG_INSTEAD),
    memory("auto-aof-rewrite-min-size", "67108864").not_needed(LOG_INSTEAD),
    flag("aof-load-truncated", "yes").not_needed(LOG_INSTEAD),
    flag("aof-use-rdb-preamble", "yes").not_needed(LOG_INSTEAD),
    flag("aof-timestamp-enabled", "no").not_needed(LOG_INSTEAD),
    flag("aof-disable-auto-gc", "no").not_needed(LOG_INSTEAD),
    flag("aof-rewrite-incremental-fsync", "yes").not_needed(LOG_INSTEAD),
    row("save", Kind::SavePoints, "3600 1 300 100 60 10000")
        .not_needed("a checkpoint is taken when the log has grown by checkpoint-log-size"),
    text("dbfilename", "dump.rdb").fixed().not_needed(LOG_INSTEAD),
    flag("stop-writes-on-bgsave-error", "yes").not_needed("writes stop when they cannot be logged"),
    flag("rdbcompression", "yes").not_needed(LOG_INSTEAD),
    flag("rdbchecksum", "yes").fixed().not_needed(LOG_INSTEAD),
    flag("rdb-del-sync-files", "no").not_needed(LOG_INSTEAD),
    flag("rdb-save-incremental-fsync", "yes").not_needed(LOG_INSTEAD),
    row("sanitize-dump-payload", Kind::OneOf(&["no", "yes", "clients"]), "no")
        .not_needed("what comes in is always checked"),
    // Memory.
    memory("maxmemory", "0"),
    row("maxmemory-policy", Kind::OneOf(MaxmemoryPolicy::NAMES), "noeviction"),
    integer("maxmemory-samples", 1, i32::MAX as i64, "5").not_needed(EVICTION),
    integer("maxmemory-eviction-tenacity", 0, 100, "10").not_needed(EVICTION),
    count("lfu-log-factor", "10").not_needed(EVICTION),
    count("lfu-decay-time", "1").not_needed(EVICTION),
    integer("active-expire-effort", 1, 10, "1").not_needed("expiry adapts itself"),
    flag("lazyfree-lazy-eviction", "no").not_needed(NO_LAZY),
    flag("lazyfree-lazy-expire", "no").not_needed(NO_LAZY),
    flag("lazyfree-lazy-server-del", "no").not_needed(NO_LAZY),
    flag("lazyfree-lazy-user-del", "no").not_needed(NO_LAZY),
    flag("lazyfree-lazy-user-flush", "no").not_needed(NO_LAZY),
    integer("hash-max-listpack-entries", 0, i64::MAX, "512")
        .alias("hash-max-ziplist-entries")
        .not_needed(OWN_LAYOUT),
    memory("hash-max-listpack-value", "64").alias("hash-max-ziplist-value").not_needed(OWN_LAYOUT),
    integer("list-max-listpack-size", i32::MIN as i64, i32::MAX as i64, "-2")
        .alias("list-max-ziplist-size")
        .not_needed(OWN_LAYOUT),
    count("list-compress-depth", "0").not_needed(OWN_LAYOUT),
    integer("set-max-intset-entries", 0, i64::MAX, "512").not_needed(OWN_LAYOUT),
    integer("zset-max-listpack-entries", 0, i64::MAX, "128")
        .alias("zset-max-ziplist-entries")
        .not_needed(OWN_LAYOUT),
    memory("zset-max-listpack-value", "64").alias("zset-max-ziplist-value").not_needed(OWN_LAYOUT),
    memory("hll-sparse-max-bytes", "3000").not_needed(OWN_LAYOUT),
    memory("stream-node-max-bytes", "4096").not_needed(OWN_LAYOUT),
    integer("stream-node-max-entries", 0, i64::MAX, "100").not_needed(OWN_LAYOUT),
    flag("activerehashing", "yes").not_needed(OWN_LAYOUT),
    flag("activedefrag", "no").not_needed(OWN_LAYOUT),
    memory("active-defrag-ignore-bytes", "104857600").not_needed(OWN_LAYOUT),
    integer("active-defrag-threshold-lower", 0, 1000, "10").not_needed(OWN_LAYOUT),
    integer("active-defrag-threshold-upper", 0, 1000, "100").not_needed(OWN_LAYOUT),
    integer("active-defrag-cycle-min", 1, 99, "1").not_needed(OWN_LAYOUT),
    integer("active-defrag-cycle-max", 1, 99, "25").not_needed(OWN_LAYOUT),
    integer("active-defrag-max-scan-fields", 1, i64::MAX, "1000").not_needed(OWN_LAYOUT),
    flag("jemalloc-bg-thread", "yes").not_needed(OWN_LAYOUT),
    // The cluster.
    flag("cluster-enabled", "no").fixed(),
    integer("cluster-port", 0, 65535, "0").fixed(),
    text("cluster-announce-ip", "").fixed(),
    integer("cluster-announce-port", 0, 65535, "0").fixed(),
    integer("cluster-announce-bus-port", 0, 65535, "0").fixed(),
    integer("cluster-announce-tls-port", 0, 65535, "0").fixed().not_needed(TLS),
    text("cluster-announce-hostname", "").fixed(),
    row("cluster-preferred-endpoint-type", Kind::OneOf(EndpointType::NAMES), "ip").fixed(),
    text("cluster-secret", "").fixed(),
    text("cluster-zone", "").fixed(),
    integer("cluster-node-timeout", 100, i32::MAX as i64, "15000").fixed(),
    flag("cluster-require-full-coverage", "yes").fixed(),
    flag("cluster-allow-reads-when-down", "no").fixed(),
    count("cluster-replica-validity-factor", "10").alias("cluster-slave-validity-factor").fixed(),
    flag("cluster-replica-no-failover", "no").alias("cluster-slave-no-failover").fixed(),
    count("cluster-migration-barrier", "1").fixed(),
    flag("cluster-allow-replica-migration", "yes").fixed(),
    flag("cluster-rebalance-masters", "yes"),
    flag("unclean-failover", "no"),
    text("cluster-config-file", "nodes.conf")
        .fixed()
        .not_needed("the cluster's state lies in the data directory"),
    memory("cluster-link-sendbuf-limit", "0").not_needed("the bus bounds its buffers itself"),
    flag("cluster-allow-pubsubshard-when-down", "yes").not_needed("publish and subscribe are not there yet"),
    // Replicas.
    row("write-ack", Kind::OneOf(WriteAck::NAMES), "in-sync"),
    count("replica-lag-max", "2000").fixed(),
    count("min-replicas-to-write", "0").alias("min-slaves-to-write"),
    count("min-replicas-max-lag", "10").alias("min-slaves-max-lag"),
    row("replicaof", Kind::Words, "").alias("slaveof").fixed(),
    flag("replica-serve-stale-data", "yes")
        .alias("slave-serve-stale-data")
        .not_needed("a replica serves what is committed"),
    flag("replica-read-only", "yes").alias("slave-read-only").not_needed("a replica is always read-only"),
    flag("replica-lazy-flush", "no").alias("slave-lazy-flush").not_needed(STREAMED),
    count("replica-priority", "100").alias("slave-priority").not_needed(BY_LOG),
    text("replica-announce-ip", "")
        .alias("slave-announce-ip")
        .not_needed("cluster-announce-ip is the one announced"),
    integer("replica-announce-port", 0, 65535, "0")
        .alias("slave-announce-port")
        .not_needed("cluster-announce-port is the one announced"),
    flag("replica-announced", "yes").not_needed("every member is announced"),
    flag("replica-ignore-maxmemory", "yes").alias("slave-ignore-maxmemory").not_needed(EVICTION),
    flag("replica-ignore-disk-write-errors", "no").not_needed("a replica that cannot log is no replica"),
    row("propagation-error-behavior", Kind::OneOf(&["ignore", "panic", "panic-on-replicas"]), "ignore")
        .not_needed(STREAMED),
    memory("repl-backlog-size", "1048576").not_needed(STREAMED),
    integer("repl-backlog-ttl", 0, i64::MAX, "3600").not_needed(STREAMED),
    flag("repl-disable-tcp-nodelay", "no").not_needed(STREAMED),
    flag("repl-diskless-sync", "yes").not_needed(STREAMED),
    count("repl-diskless-sync-delay", "5").not_needed(STREAMED),
    count("repl-diskless-sync-max-replicas", "0").not_needed(STREAMED),
    row("repl-diskless-load", Kind::OneOf(&["disabled", "on-empty-db", "swapdb"]), "disabled")
        .not_needed(STREAMED),
    integer("repl-ping-replica-period", 1, i32::MAX as i64, "10")
        .alias("repl-ping-slave-period")
        .not_needed(STREAMED),
    integer("repl-timeout", 1, i32::MAX as i64, "60").fixed(),
    // Seeing what happens.
    integer("slowlog-log-slower-than", -1, i64::MAX, "10000"),
    integer("slowlog-max-len", 0, i64::MAX, "128"),
    integer("latency-monitor-threshold", 0, i64::MAX, "0"),
    flag("latency-tracking", "yes").not_needed(COMMAND_STATS),
    row("latency-tracking-info-percentiles", Kind::Words, "50 99 99.9").not_needed(COMMAND_STATS),
    text("notify-keyspace-events", "").unsupported("publish and subscribe are not there yet"),
    integer("tracking-table-max-keys", 0, i64::MAX, "1000000").not_needed(TRACKING),
    integer("busy-reply-threshold", 0, i64::MAX, "5000").alias("lua-time-limit").not_needed(SCRIPTS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_what_its_kind_allows_in_the_form_it_is_shown() {
        for directive in DIRECTIVES {
            let words = directive.kind.split(directive.default);
            assert_eq!(
                directive.kind.normalize(&words, directive.default).as_deref(),
                Ok(directive.default),
                "{}",
                directive.name
            );
        }
    }

    #[test]
    fn no_name_stands_for_two_directives() {
        let mut names: Vec<&str> =
            DIRECTIVES.iter().flat_map(|row| [Some(row.name), row.alias]).flatten().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn names_are_found_in_any_case_and_by_their_older_name() {
        assert_eq!(find("MaxMemory").map(|place| DIRECTIVES[place].name), Some("maxmemory"));
        assert_eq!(
            find("min-slaves-to-write").map(|place| DIRECTIVES[place].name),
            Some("min-replicas-to-write")
        );
        assert_eq!(find("maxmemory "), None);
    }
}
