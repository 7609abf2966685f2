//! INFO: Redis's sections and field names, and a `# Log` section of our own.

use std::fmt::Write as _;
use std::sync::Arc;

use holdfast_storage::log::LogHealth;

use crate::command::CommandId;
use crate::commands::context::{CommandResult, Next, NodeContext};
use crate::commands::sync_fields;
use crate::config::WriteAck;
use crate::node::Node;
use crate::platform;

type Section = fn(&Node, &mut String);

/// Every section, in the order in which INFO prints them; `true`: part of plain INFO.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Log", true, log),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, modules),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
];

/// INFO [section …]
pub fn info(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let wanted: Vec<String> = context.call.arguments[1..]
        .iter()
        .map(|word| String::from_utf8_lossy(word).to_ascii_lowercase())
        .collect();
    let text = describe(context.node, &wanted);
    context.call.reply.verbatim(b"txt", text.as_bytes());
    Ok(Next::Reply)
}

fn describe(node: &Arc<Node>, wanted: &[String]) -> String {
    let mut text = String::new();
    for &(name, by_default, section) in SECTIONS {
        let chosen = if wanted.is_empty() {
            by_default
        } else {
            wanted.iter().any(|word| match word.as_str() {
                "default" => by_default,
                "all" | "everything" => true,
                word => name.eq_ignore_ascii_case(word),
            })
        };
        if chosen {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            line(&mut text, format_args!("# {name}"));
            section(node, &mut text);
        }
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    write!(text, "{content}\r\n").expect("writing to a String cannot fail");
}

macro_rules! fields {
    ($text:expr, $($name:literal: $value:expr),+ $(,)?) => {
        $(line($text, format_args!(concat!($name, ":{}"), $value));)+
    };
}

fn server(node: &Node, text: &mut String) {
    let uptime = platform::wall_clock_ms().saturating_sub(node.started_at_ms) / 1000;
    let config = node.config.snapshot();
    fields!(text,
        "redis_version": crate::REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": 0,
        "holdfast_version": env!("CARGO_PKG_VERSION"),
        "redis_mode": if node.cluster.is_some() { "cluster" } else { "standalone" },
        "os": platform::operating_system(),
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": std::process::id(),
        "process_supervised": if node.supervised { "systemd" } else { "no" },
        "run_id": node.run_id,
        "tcp_port": config.port,
        "server_time_usec": platform::wall_clock_ms() * 1000,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
        "hz": config.hz,
        "configured_hz": config.hz,
        "executable": platform::executable(),
        "config_file": node.config.file().map(|path| path.display().to_string()).unwrap_or_default(),
        "io_threads_active": u8::from(node.worker_count > 1),
    );
}

fn clients(node: &Node, text: &mut String) {
    let all = node.clients.all();
    let largest =
        |of: fn(&crate::clients::ClientInfo) -> usize| all.iter().map(|client| of(client)).max().unwrap_or(0);
    use std::sync::atomic::Ordering::Relaxed;
    fields!(text,
        "connected_clients": all.len(),
        "cluster_connections": node.cluster.as_ref().map_or(0, |cluster| cluster.link_count()),
        "maxclients": node.config.snapshot().maxclients,
        "client_recent_max_input_buffer": largest(|client| client.query_buffer_bytes.load(Relaxed)),
        "client_recent_max_output_buffer": largest(|client| client.output_buffer_bytes.load(Relaxed)),
        "blocked_clients": 0,
        "tracking_clients": 0,
        "clients_in_timeout_table": 0,
    );
}

fn memory(node: &Node, text: &mut String) {
    let used = node.used_memory_bytes();
    let resident = platform::resident_bytes();
    let config = node.config.snapshot();
    fields!(text,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": human(resident),
        "used_memory_peak": node.peak_memory_bytes(),
        "used_memory_peak_human": human(node.peak_memory_bytes()),
        "used_memory_dataset": node.store.slots().memory_bytes(),
        "maxmemory": config.maxmemory,
        "maxmemory_human": human(config.maxmemory),
        "maxmemory_policy": config.maxmemory_policy,
        "mem_fragmentation_ratio": format_args!("{:.2}", resident as f64 / used.max(1) as f64),
        "mem_allocator": "mimalloc",
    );
}

fn human(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", value / 1_048_576.0),
        _ => format!("{:.2}G", value / 1_073_741_824.0),
    }
}

fn persistence(node: &Node, text: &mut String) {
    let checkpoint = node.store.checkpoint_stats();
    let health = node.store.log().health();
    let stats = node.store.log().stats();
    let scrub = node.store.scrub_stats();
    fields!(text,
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": checkpoint.log_bytes_since,
        "rdb_bgsave_in_progress": u8::from(checkpoint.running),
        "rdb_last_save_time": checkpoint.last_at_ms / 1000,
        "rdb_last_bgsave_status": if checkpoint.last_failed { "err" } else { "ok" },
        "rdb_last_bgsave_time_sec": checkpoint.last_took_ms / 1000,
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": if matches!(health, LogHealth::Good) { "ok" } else { "err" },
        "aof_current_size": stats.bytes,
        "scrub_in_progress": u8::from(scrub.running),
        "scrub_pass_bytes": scrub.pass_bytes,
        "scrub_pass_bytes_left": scrub.bytes_left,
        "scrub_passes": scrub.passes,
        "scrub_last_pass_time": scrub.last_pass_at_ms / 1000,
        "scrub_last_pass_ms": scrub.last_pass_took_ms,
        "scrub_damage_found": scrub.found,
        "scrub_damage_mended": scrub.mended,
        "scrub_damage_unmended": scrub.unmended,
        "scrub_last_damage": scrub.last_damage,
    );
}

fn log(node: &Node, text: &mut String) {
    let log = node.store.log();
    let (positions, stats) = (log.positions(), log.stats());
    fields!(text,
        "log_health": log.health(),
        "log_epoch": log.epoch(),
        "log_first_lsn": log.first_lsn(),
        "log_written_lsn": positions.written_lsn(),
        "log_durable_lsn": positions.durable_lsn(),
        "log_committed_lsn": positions.committed_lsn(),
        "log_segments": stats.segments,
        "log_bytes": stats.bytes,
        "log_fsyncs": stats.fsyncs,
        "log_last_fsync_us": stats.last_fsync_us,
        "log_checkpoint_lsn": node.store.checkpoint_stats().covered_lsn,
        "log_set_aside": node.store.set_aside_count().map_or_else(|error| error.to_string(), |count| count.to_string()),
    );
}

fn stats(node: &Node, text: &mut String) {
    let stats = &node.stats;
    let catch_ups = node.peers().map(|peers| peers.catch_ups()).unwrap_or_default();
    fields!(text,
        "total_connections_received": stats.connections.get(),
        "total_commands_processed": stats.commands.get(),
        "instantaneous_ops_per_sec": node.operations_per_second(),
        "total_net_input_bytes": stats.input_bytes.get(),
        "total_net_output_bytes": stats.output_bytes.get(),
        "rejected_connections": stats.rejected_connections.get(),
        "sync_full": catch_ups.full,
        "sync_partial_ok": catch_ups.partial,
        "sync_partial_err": catch_ups.partial_refused,
        "expired_keys": stats.expired_keys.get(),
        "evicted_keys": stats.evicted_keys.get(),
        "keyspace_hits": stats.keyspace_hits.get(),
        "keyspace_misses": stats.keyspace_misses.get(),
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "latest_fork_usec": 0,
        "total_error_replies": stats.error_replies.get(),
    );
}

fn replication(node: &Node, text: &mut String) {
    node.replication_info(|name, value| line(text, format_args!("{name}:{value}")));
    if let Some(cluster) = &node.cluster {
        let is_in_sync = node.config.snapshot().write_ack == WriteAck::InSync;
        sync_fields::write(&cluster.view(), &cluster.sync_state(), is_in_sync, |name, value| {
            line(text, format_args!("{name}:{value}"));
        });
    }
}

fn cpu(_: &Node, text: &mut String) {
    let (system, user) = platform::cpu_seconds();
    fields!(text,
        "used_cpu_sys": format_args!("{system:.6}"),
        "used_cpu_user": format_args!("{user:.6}"),
    );
}

fn modules(_: &Node, _: &mut String) {}

fn commandstats(node: &Node, text: &mut String) {
    for id in CommandId::all() {
        let stats = node.stats.command(id);
        let (calls, microseconds) = (stats.calls.get(), stats.nanoseconds.get() / 1000);
        if calls > 0 || stats.rejected.get() > 0 || stats.failed.get() > 0 {
            line(
                text,
                format_args!(
                    "cmdstat_{}:calls={calls},usec={microseconds},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                    id.spec().name,
                    microseconds as f64 / calls.max(1) as f64,
                    stats.rejected.get(),
                    stats.failed.get(),
                ),
            );
        }
    }
}

fn errorstats(node: &Node, text: &mut String) {
    if node.stats.error_replies.get() > 0 {
        fields!(text, "errorstat_all": format_args!("count={}", node.stats.error_replies.get()));
    }
}

fn cluster(node: &Node, text: &mut String) {
    fields!(text, "cluster_enabled": u8::from(node.cluster.is_some()));
}

fn keyspace(node: &Node, text: &mut String) {
    let slots = node.store.slots();
    if slots.key_count() > 0 {
        fields!(text, "db0": format_args!("keys={},expires={},avg_ttl=0", slots.key_count(), slots.volatile_count()));
    }
}
