//! Starting bottom up and stopping top down: configuration, log output, data, cluster, workers, ports; and back.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use holdfast_cluster::Settings;
use holdfast_cluster::change::NodeAddress;
use holdfast_replication::bus::HoldWrites;
use holdfast_replication::standalone::STREAM_PORT_OFFSET;
use holdfast_replication::{BusConfig, StandaloneConfig, start_standalone};
use holdfast_storage::log::LogConfig;
use holdfast_storage::platform::threads;
use holdfast_storage::store::{Restart, Store, StoreConfig, StoreError};
use holdfast_words::Zone;
use tokio::sync::mpsc;

use crate::commands::admin::resolve;
use crate::config::{Config, Invocation, SharedConfig, WriteAck};
use crate::node::{Node, ShutdownRequest};
use crate::pause::Pause;
use crate::supervisor::Watchdog;
use crate::{housekeeping, leave, listener, logging, platform, supervisor, worker};

/// The bus listens so far above the clients' port (Redis Cluster specification, "The Cluster bus").
const BUS_PORT_OFFSET: u16 = 10_000;
/// Connections of nodes that wait to be accepted.
const BUS_BACKLOG: i32 = 511;

/// Entry point of `holdfast-server`; `arguments` come after the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Both: whoever looks at the terminal, and whoever reads the log later.
            eprintln!("holdfast-server: {error}");
            tracing::error!(%error, "the node does not start");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
Usage: holdfast-server [CONFIG] [--OPTION VALUE …]

CONFIG is a file in redis.conf's syntax, or - for standard input. Every directive of the file can be an option, and an option
wins over the file:

    holdfast-server /etc/holdfast/holdfast.conf --port 7000 --cluster-enabled yes --dir /var/lib/holdfast/7000

    -h, --help       this text
    -v, --version    the version";

fn run(arguments: Vec<OsString>) -> Result<(), String> {
    let (source, options) = match Invocation::parse(arguments).map_err(|error| error.to_string())? {
        Invocation::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Invocation::Version => {
            println!("holdfast-server {} (speaks Redis {})", env!("CARGO_PKG_VERSION"), crate::REDIS_VERSION);
            return Ok(());
        }
        Invocation::Run { source, options } => (source, options),
    };
    let config = SharedConfig::load(source.as_ref(), &options).map_err(|error| error.to_string())?;
    let snapshot = config.snapshot().clone();
    logging::start(&snapshot)?;
    for line in config.not_needed() {
        tracing::info!("{line}");
    }
    apply_limits(&snapshot);
    let (store, restart) = open_store(&snapshot).map_err(|error| error.to_string())?;
    if let Some(why) = &restart.recovery.torn {
        tracing::warn!(
            bytes = restart.recovery.torn_bytes,
            end_lsn = restart.recovery.end.0,
            durable_lsn = restart.recovery.durable_lsn.0,
            why,
            "the log's tail was never durable and is not whole: it is cut"
        );
    }
    tracing::info!(
        node = %store.node_id(),
        keys = store.slots().key_count(),
        image_keys = restart.image_keys,
        records = restart.records,
        end_lsn = restart.recovery.end.0,
        took_ms = restart.took_ms,
        "data loaded"
    );
    let pidfile = write_pidfile(&snapshot)?;
    let result = serve(store, config, &snapshot);
    if let Some(path) = pidfile
        && let Err(error) = std::fs::remove_file(&path)
    {
        tracing::warn!(%error, path, "the pidfile could not be removed");
    }
    result
}

/// In a cluster another member of the shard can help when the data are damaged; alone the node does not start then.
fn open_store(config: &Config) -> Result<(Arc<Store>, Restart), StoreError> {
    let (root, store_config) = (Path::new(&config.dir), store_config(config));
    if !config.cluster_enabled {
        return Store::open(root, store_config);
    }
    holdfast_replication::mending::open_store(
        root,
        &store_config,
        &config.cluster_secret,
        &supervisor::tell_waiting,
    )
}

pub(crate) fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        log: LogConfig {
            segment_size: config.wal_segment_size,
            fsync: config.fsync_policy(),
            ..LogConfig::default()
        },
        load_threads: worker_count(config),
        checkpoint_log_size: config.checkpoint_log_size,
        retain_bytes: config.wal_retain_size,
    }
}

fn worker_count(config: &Config) -> usize {
    match config.io_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// `maxclients` needs file descriptors; asks for them as far as the system gives them.
fn apply_limits(config: &Config) {
    const OTHER_FILES: u64 = 64;
    let wanted = config.maxclients + OTHER_FILES;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let new = rustix::process::Rlimit { current: Some(raised), maximum: limit.maximum };
        let set = rustix::process::setrlimit(rustix::process::Resource::Nofile, new);
        if set.is_err() || raised < wanted {
            tracing::warn!(
                wanted,
                raised,
                "fewer file descriptors than maxclients needs; raise LimitNOFILE or ulimit -n"
            );
        }
    }
}

fn write_pidfile(config: &Config) -> Result<Option<String>, String> {
    if config.pidfile.is_empty() {
        return Ok(None);
    }
    let path = config.pidfile.clone();
    match std::fs::write(&path, format!("{}\n", std::process::id())) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            // As Redis does: a pidfile that cannot be written is no reason not to serve.
            tracing::warn!(%error, path, "the pidfile could not be written");
            Ok(None)
        }
    }
}

/// Serves until somebody asks the node to stop.
fn serve(store: Arc<Store>, config: SharedConfig, snapshot: &Config) -> Result<(), String> {
    let workers = worker_count(snapshot);
    let listeners = listener::bind(
        &snapshot.bind,
        snapshot.port,
        snapshot.tcp_backlog.min(i32::MAX as u64) as i32,
        "port",
    )?;
    let pause = Arc::new(Pause::default());
    let (mut cluster, mut standalone) = (None, None);
    if snapshot.cluster_enabled {
        if !snapshot.replicaof.is_empty() {
            return Err("replicaof directive not allowed in cluster mode: use CLUSTER REPLICATE".into());
        }
        let bus = bus_config(snapshot)?;
        let handle = holdfast_replication::start(bus, store.clone(), hold_writes(&pause));
        cluster = Some(handle.map_err(|error| error.to_string())?);
    } else {
        let started = start_standalone(standalone_config(snapshot)?, store.clone());
        standalone = Some(started.map_err(|error| format!("replication does not start: {error}"))?);
    }
    let (checkpoint_wanted, checkpoints) = mpsc::unbounded_channel();
    let node = Node::new(store, config, cluster, standalone, pause, workers, checkpoint_wanted);
    let mut senders = Vec::new();
    let mut watchdog = Watchdog::from_environment();
    for index in 0..workers {
        let (sender, accepted) = mpsc::unbounded_channel();
        senders.push(sender);
        let node = node.clone();
        let name = format!("worker-{index}");
        let pulse = watchdog.pulse(&name);
        let work = move || block_on(pulse.of(worker::run(node, accepted)));
        threads::spawn(&name, work).map_err(|error| format!("cannot start a worker: {error}"))?;
    }
    let (expiry, pulse) = (node.clone(), watchdog.pulse("expiry"));
    let work = move || block_on(pulse.of(housekeeping::expire_keys(expiry)));
    threads::spawn("expiry", work).map_err(|error| format!("cannot start the expiry thread: {error}"))?;
    block_on(async {
        for listener in listeners {
            let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
            tracing::info!(address, "ready to accept connections");
            let accept = listener::accept(node.clone(), listener, senders.clone());
            tokio::spawn(async move {
                if let Err(error) = accept.await {
                    tracing::error!(%error, address, "no more connections are accepted here");
                }
            });
        }
        tokio::spawn(housekeeping::once_a_second(node.clone()));
        tokio::spawn(housekeeping::take_checkpoints(node.clone(), checkpoints));
        tokio::spawn(housekeeping::scrub(node.clone()));
        tokio::spawn(watchdog.keep_quiet(node.clone()));
        let ready = tokio::spawn(supervisor::tell_when_ready(node.clone()));
        let request = tokio::select! {
            request = node.shutdown_requested() => request,
            () = terminated() => ShutdownRequest { checkpoint: true, hand_over: true },
        };
        ready.abort();
        supervisor::tell_stopping();
        let stopped = stop(&node, request).await;
        if let Some(peers) = node.peers() {
            peers.stop().await;
        }
        stopped
    })
}

/// How this node takes part in its cluster.
pub(crate) fn bus_config(config: &Config) -> Result<BusConfig, String> {
    let bus_port = match config.cluster_port {
        0 => config.port.checked_add(BUS_PORT_OFFSET).ok_or_else(|| {
            format!(
                "port {} leaves no room for the cluster bus {BUS_PORT_OFFSET} above it: set cluster-port, or a port up to {}",
                config.port,
                u16::MAX - BUS_PORT_OFFSET
            )
        })?,
        port => port,
    };
    let or_own = |announced: u16, own: u16| if announced == 0 { own } else { announced };
    Ok(BusConfig {
        listeners: listener::bind(&config.bind, bus_port, BUS_BACKLOG, "cluster-port")?,
        address: NodeAddress {
            ip: config.cluster_announce_ip.clone(),
            hostname: config.cluster_announce_hostname.clone(),
            port: or_own(config.cluster_announce_port, config.port),
            bus_port: or_own(config.cluster_announce_bus_port, bus_port),
        },
        zone: Zone(config.cluster_zone.clone()),
        secret: config.cluster_secret.clone(),
        no_failover: config.cluster_replica_no_failover,
        settings: core_settings(config),
        replica_lag_max_ms: config.replica_lag_max,
    })
}

/// What the cluster's core goes by.
pub(crate) fn core_settings(config: &Config) -> Settings {
    Settings {
        node_timeout_ms: config.cluster_node_timeout,
        require_full_coverage: config.cluster_require_full_coverage,
        replica_validity_factor: config.cluster_replica_validity_factor,
        write_ack: match config.write_ack {
            WriteAck::Local => holdfast_cluster::WriteAck::Local,
            WriteAck::InSync => holdfast_cluster::WriteAck::InSync,
        },
        rebalance_masters: config.cluster_rebalance_masters,
        unclean_failover: config.unclean_failover,
    }
}

/// How this node replicates without a cluster. Its data are not for strangers: who has set a password need not set a secret as
/// well, and without either only this machine may replicate, as in protected mode.
fn standalone_config(config: &Config) -> Result<StandaloneConfig, String> {
    let secrets = [&config.cluster_secret, &config.masterauth, &config.requirepass];
    let secret = secrets.into_iter().find(|secret| !secret.is_empty()).cloned().unwrap_or_default();
    let loopback = ["-127.0.0.1".to_owned(), "-::1".to_owned()];
    let is_open = secret.is_empty() && config.protected_mode;
    let addresses = if is_open { &loopback[..] } else { &config.bind[..] };
    let port = match config.cluster_port {
        0 => config.port.checked_add(STREAM_PORT_OFFSET).filter(|_| config.port > 0),
        port => Some(port),
    };
    let listeners = match port {
        Some(port) => listener::bind(addresses, port, BUS_BACKLOG, "cluster-port"),
        None => Err(format!("port {} leaves no room for it", config.port)),
    };
    let listeners = listeners.unwrap_or_else(|error| {
        tracing::warn!(error, "nobody can replicate from this node: its log stream has no port");
        Vec::new()
    });
    let master = match config.replicaof.as_slice() {
        [] => None,
        [host, port] => {
            let port = port.parse().map_err(|_| format!("replicaof: {port:?} is no port"))?;
            let master = resolve(host, port);
            Some(master.ok_or_else(|| format!("replicaof: the host {host:?} is not known"))?)
        }
        _ => return Err("replicaof takes a host and a port".into()),
    };
    let timeout_ms = config.repl_timeout * 1000;
    Ok(StandaloneConfig { listeners, data_port: config.port, secret, timeout_ms, master })
}

/// A handover holds clients' writes; should its end never be told, they go on by themselves and find out where the slots are.
pub(crate) fn hold_writes(pause: &Arc<Pause>) -> HoldWrites {
    const HELD_MS_MAX: u64 = 10_000;
    let pause = pause.clone();
    Arc::new(move |hold| pause.hold_writes(hold.then(|| platform::wall_clock_ms() + HELD_MS_MAX)))
}

/// The last things: somebody else is master, no write is taken any more, the log is durable, a checkpoint makes the next start quick.
pub(crate) async fn stop(node: &Arc<Node>, request: ShutdownRequest) -> Result<(), String> {
    tracing::info!(checkpoint = request.checkpoint, hand_over = request.hand_over, "stopping");
    node.store.hurry_checkpoints();
    if request.hand_over {
        leave::hand_over(node).await;
    }
    if request.checkpoint
        && let Err(error) = node.checkpoint().await
    {
        tracing::warn!(%error, "no checkpoint at the stop; the log has everything");
    }
    let log = node.store.log().clone();
    let synced = log.write_up_to(log.end().lsn).and_then(|()| log.sync());
    if request.hand_over {
        leave::leave_in_sync_set(node).await;
    }
    match synced {
        Ok(lsn) => {
            tracing::info!(durable_lsn = lsn.0, "stopped");
            Ok(())
        }
        Err(error) => Err(format!("the log could not be made durable at the stop: {error}")),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the operating system gives what a runtime needs").block_on(future)
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
