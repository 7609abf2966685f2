//! The node: wires store, cluster, clients and configuration together. Started bottom up and stopped top down by `main.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_storage::log::{AckPoint, LogHealth};
use holdfast_storage::slots::Scratch;
use holdfast_storage::store::Store;
use holdfast_words::Lsn;
use tokio::sync::{Notify, mpsc};

use crate::clients::{ClientInfo, Clients};
use crate::command::errors::CommandError;
use crate::config::{Config, SharedConfig, WriteAck};
use crate::latency::Latency;
use crate::pause::Pause;
use crate::platform;
use crate::resp::ReplyWriter;
use crate::slowlog::Slowlog;
use crate::stats::Stats;

/// A connection on its way from the listener to its worker.
pub struct Accepted {
    /// The socket, not blocking.
    pub stream: platform::Released,
    /// The client, already counted.
    pub info: Arc<ClientInfo>,
}

/// Which of a replica's positions counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// Handed to its kernel.
    Written,
    /// On its disk.
    Durable,
}

/// How the node is to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownRequest {
    /// Take a checkpoint first, so that the next start is quick.
    pub checkpoint: bool,
    /// A master hands over to a replica before anything else.
    pub hand_over: bool,
}

/// What all workers share.
pub struct Node {
    /// Slots, log and checkpoints.
    pub store: Arc<Store>,
    /// The configuration as it is now.
    pub config: SharedConfig,
    /// The cluster, in cluster mode.
    pub cluster: Option<holdfast_replication::Handle>,
    /// Replication without a cluster.
    pub standalone: Option<holdfast_replication::Standalone>,
    /// Who is connected.
    pub clients: Clients,
    /// Counters.
    pub stats: Stats,
    /// SLOWLOG.
    pub slowlog: Slowlog,
    /// LATENCY.
    pub latency: Latency,
    /// CLIENT PAUSE and handovers.
    pub pause: Arc<Pause>,
    /// When the node started, wall clock, ms.
    pub started_at_ms: u64,
    /// 40 random hexadecimal digits, new with every start.
    pub run_id: String,
    /// Whether systemd (or another that set NOTIFY_SOCKET) watches the process.
    pub supervised: bool,
    /// Number of workers.
    pub worker_count: usize,
    active_expiry: AtomicBool,
    peak_memory_bytes: AtomicU64,
    used_memory_bytes: AtomicU64,
    buffer_bytes: AtomicU64,
    operations_per_second: AtomicU64,
    shutdown: parking_lot::Mutex<Option<ShutdownRequest>>,
    shutdown_requested: Notify,
    checkpoint_wanted: mpsc::UnboundedSender<&'static str>,
}

impl Node {
    /// A node over an open store. What is sent to `checkpoint_wanted` asks the housekeeping for a checkpoint and says why.
    pub fn new(
        store: Arc<Store>,
        config: SharedConfig,
        cluster: Option<holdfast_replication::Handle>,
        standalone: Option<holdfast_replication::Standalone>,
        pause: Arc<Pause>,
        worker_count: usize,
        checkpoint_wanted: mpsc::UnboundedSender<&'static str>,
    ) -> Arc<Self> {
        let snapshot = config.snapshot();
        let node = Self {
            slowlog: Slowlog::new(snapshot.slowlog_log_slower_than, snapshot.slowlog_max_len),
            store,
            cluster,
            standalone,
            clients: Clients::default(),
            stats: Stats::default(),
            latency: Latency::default(),
            pause,
            started_at_ms: platform::wall_clock_ms(),
            run_id: format!(
                "{:032x}{:08x}",
                u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)),
                fastrand::u32(..)
            ),
            supervised: std::env::var_os("NOTIFY_SOCKET").is_some(),
            worker_count,
            active_expiry: AtomicBool::new(true),
            peak_memory_bytes: AtomicU64::new(0),
            used_memory_bytes: AtomicU64::new(0),
            buffer_bytes: AtomicU64::new(0),
            operations_per_second: AtomicU64::new(0),
            shutdown: parking_lot::Mutex::default(),
            shutdown_requested: Notify::new(),
            checkpoint_wanted,
            config,
        };
        node.latency.configure(snapshot.latency_monitor_threshold);
        Arc::new(node)
    }

    /// Hands changed settings to those who do not read the configuration at every use (CONFIG SET).
    pub fn apply_config(&self, changed: &[&'static str]) {
        let config = self.config.snapshot();
        for name in changed {
            match *name {
                "slowlog-log-slower-than" | "slowlog-max-len" => {
                    self.slowlog.configure(config.slowlog_log_slower_than, config.slowlog_max_len);
                }
                "latency-monitor-threshold" => self.latency.configure(config.latency_monitor_threshold),
                "appendfsync" => self.store.log().set_fsync_policy(config.fsync_policy()),
                "loglevel" => crate::logging::set_level(config.loglevel),
                "wal-segment-size" => self.store.log().set_segment_size(config.wal_segment_size),
                "checkpoint-log-size" | "wal-retain-size" => {
                    self.store.set_sizes(config.checkpoint_log_size, config.wal_retain_size);
                }
                "cluster-rebalance-masters" | "unclean-failover" | "write-ack" => {
                    if let Some(cluster) = &self.cluster {
                        cluster.configure(crate::start::core_settings(&config));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether clients must show a password.
    pub fn password_required(&self) -> bool {
        !self.config.snapshot().requirepass.is_empty()
    }

    /// Compares in constant time.
    pub fn password_is(&self, password: &[u8]) -> bool {
        let config = self.config.snapshot();
        config.requirepass.is_empty()
            || subtle::ConstantTimeEq::ct_eq(config.requirepass.as_bytes(), password).into()
    }

    /// Which position of the log a reply waits for.
    pub fn ack_point(&self) -> AckPoint {
        // In a cluster `write-ack` is part of what counts as committed, so that a change of it weakens no write that waits.
        // Without one there is nobody to be in sync with.
        match self.cluster {
            Some(_) => AckPoint::Committed,
            None => self.config.snapshot().local_ack_point(),
        }
    }

    /// Whether this node's slots belong to a master elsewhere.
    pub fn is_replica(&self) -> bool {
        self.peers().is_some_and(|peers| peers.is_replica())
    }

    /// Masters and replicas of this node's data, in a cluster or without.
    pub fn peers(&self) -> Option<&holdfast_replication::Handle> {
        self.cluster.as_ref().or(self.standalone.as_ref().map(|standalone| &standalone.handle))
    }

    /// Whether this node decides what has expired: a replica hides it and waits for its master's word.
    pub fn may_expire(&self) -> bool {
        !self.is_replica() && matches!(self.store.log().health(), LogHealth::Good)
    }

    /// Whether a write may run now.
    ///
    /// # Errors
    /// READONLY on a replica, MISCONF when the log can take nothing, NOREPLICAS when too few replicas are there.
    pub fn may_write(&self, config: &Config) -> Result<(), CommandError> {
        match self.store.log().health() {
            LogHealth::Good => {}
            unwell => return Err(CommandError::misconf(&unwell)),
        }
        let Some(cluster) = self.peers() else { return Ok(()) };
        if cluster.is_replica() {
            return Err(CommandError::ReadOnly);
        }
        match self.good_replicas(cluster, config) {
            Some((good, wanted)) if good < wanted => Err(CommandError::NoReplicas),
            _ => Ok(()),
        }
    }

    /// How many replicas are good, and how many must be (`min-replicas-to-write`); `None` where it does not matter, as in Redis
    /// when either number is 0. A good one streams, was heard within `min-replicas-max-lag`, and, where acknowledgements wait for
    /// the in-sync set, is in it.
    fn good_replicas(&self, peers: &holdfast_replication::Handle, config: &Config) -> Option<(usize, usize)> {
        let (wanted, lag_max_ms) = (config.min_replicas_to_write, config.min_replicas_max_lag * 1000);
        if wanted == 0 || lag_max_ms == 0 {
            return None;
        }
        let in_cluster = self.cluster.is_some() && config.write_ack == WriteAck::InSync;
        let view = in_cluster.then(|| peers.view());
        let counts = |node| view.as_ref().is_none_or(|view| view.node(node).is_some_and(|node| node.in_sync));
        let good = peers
            .replicas()
            .iter()
            .filter(|replica| replica.online && replica.lag_ms <= lag_max_ms && counts(replica.node))
            .count();
        Some((good, wanted))
    }

    /// Whether data (as of now) and clients' buffers (as last measured) take more than `maxmemory`.
    pub fn is_over_memory(&self, config: &Config) -> bool {
        let limit = config.maxmemory;
        let buffers = self.buffer_bytes.load(Ordering::Relaxed);
        limit > 0 && self.store.slots().memory_bytes() + buffers > limit
    }

    /// How many replicas have the log up to `lsn`.
    pub fn replicas_at(&self, lsn: Lsn, what: Acknowledged) -> usize {
        let Some(cluster) = self.peers() else { return 0 };
        let has = |replica: &holdfast_replication::ReplicaInfo| match what {
            Acknowledged::Written => replica.written_lsn >= lsn,
            Acknowledged::Durable => replica.durable_lsn >= lsn,
        };
        cluster.replicas().iter().filter(|replica| has(replica)).count()
    }

    /// WAITAOF: have the log made durable soon, whatever `appendfsync` says.
    pub fn request_sync(&self) {
        self.store.log().request_sync();
    }

    /// ROLE
    pub fn write_role(&self, reply: &mut ReplyWriter<'_>) {
        match self.peers().and_then(|peers| peers.master_link()) {
            Some(link) => {
                reply.array(5);
                reply.bulk(b"slave");
                reply.bulk(link.address.ip().to_string().as_bytes());
                reply.integer(i64::from(link.address.port()));
                reply.bulk(link.state.name().as_bytes());
                reply.integer(self.store.log().positions().written_lsn().0 as i64);
            }
            None => {
                let replicas = self.peers().map(|peers| peers.replicas()).unwrap_or_default();
                reply.array(3);
                reply.bulk(b"master");
                reply.integer(self.store.log().positions().written_lsn().0 as i64);
                reply.array(replicas.len());
                for replica in replicas {
                    reply.array(3);
                    reply.bulk(replica.address.ip().to_string().as_bytes());
                    reply.bulk(replica.address.port().to_string().as_bytes());
                    reply.bulk(replica.written_lsn.to_string().as_bytes());
                }
            }
        }
    }

    /// INFO replication, a field at a time.
    pub fn replication_info(&self, mut field: impl FnMut(&str, std::fmt::Arguments<'_>)) {
        let replicas = self.peers().map(|peers| peers.replicas()).unwrap_or_default();
        let end = self.store.log().positions().written_lsn();
        match self.peers().and_then(|peers| peers.master_link()) {
            Some(link) => {
                field("role", format_args!("slave"));
                field("master_host", format_args!("{}", link.address.ip()));
                field("master_port", format_args!("{}", link.address.port()));
                field(
                    "master_link_status",
                    format_args!("{}", if link.state.is_up() { "up" } else { "down" }),
                );
                field("master_last_io_seconds_ago", format_args!("{}", link.last_io_ms / 1000));
                field("master_sync_in_progress", format_args!("{}", u8::from(link.state.is_copying())));
                field("slave_read_repl_offset", format_args!("{end}"));
                field("slave_repl_offset", format_args!("{end}"));
                field("slave_priority", format_args!("100"));
                field("slave_read_only", format_args!("1"));
                field("replica_announced", format_args!("1"));
            }
            None => field("role", format_args!("master")),
        }
        field("connected_slaves", format_args!("{}", replicas.len()));
        let config = self.config.snapshot();
        let good = self
            .peers()
            .filter(|peers| !peers.is_replica())
            .and_then(|peers| self.good_replicas(peers, &config));
        if let Some((good, _)) = good {
            field("min_slaves_good_slaves", format_args!("{good}"));
        }
        let view = self.cluster.as_ref().map(|cluster| cluster.view());
        let in_sync = |node| view.as_ref().and_then(|view| view.node(node)).is_some_and(|node| node.in_sync);
        for (index, replica) in replicas.iter().enumerate() {
            field(
                &format!("slave{index}"),
                format_args!(
                    "ip={},port={},state={},offset={},lag={},durable={},applied={},in_sync={}",
                    replica.address.ip(),
                    replica.address.port(),
                    if replica.online { "online" } else { "wait_bgsave" },
                    replica.written_lsn,
                    replica.lag_ms / 1000,
                    replica.durable_lsn,
                    replica.applied_lsn,
                    u8::from(in_sync(replica.node)),
                ),
            );
        }
        let register = view.as_ref().and_then(|view| view.registry.shard_of(self.store.node_id()));
        if let Some((_, register)) = register {
            let allowed = if register.unclean_failover { "yes" } else { "no" };
            field("unclean_failover", format_args!("{allowed}"));
            field("last_unclean_failover_epoch", format_args!("{}", register.unclean_epoch));
        }
        field("master_failover_state", format_args!("no-failover"));
        field("master_replid", format_args!("{}", self.store.shard_id()));
        field("master_replid2", format_args!("{}", "0".repeat(40)));
        field("master_repl_offset", format_args!("{end}"));
        field("second_repl_offset", format_args!("-1"));
        field("repl_backlog_active", format_args!("1"));
        field("repl_backlog_size", format_args!("{}", self.store.log().stats().bytes));
        field("repl_backlog_first_byte_offset", format_args!("{}", self.store.log().first_lsn()));
        field("repl_backlog_histlen", format_args!("{}", end.since(self.store.log().first_lsn())));
    }

    /// What the data and the buffers of clients take, as last measured.
    pub fn used_memory_bytes(&self) -> u64 {
        self.used_memory_bytes.load(Ordering::Relaxed)
    }

    /// The most that [`Self::used_memory_bytes`] ever was.
    pub fn peak_memory_bytes(&self) -> u64 {
        self.peak_memory_bytes.load(Ordering::Relaxed)
    }

    /// Commands in the last second.
    pub fn operations_per_second(&self) -> u64 {
        self.operations_per_second.load(Ordering::Relaxed)
    }

    /// Housekeeping measured.
    pub fn note_sample(&self, data_bytes: u64, buffer_bytes: u64, operations_per_second: u64) {
        let used_memory_bytes = data_bytes + buffer_bytes;
        self.buffer_bytes.store(buffer_bytes, Ordering::Relaxed);
        self.used_memory_bytes.store(used_memory_bytes, Ordering::Relaxed);
        self.peak_memory_bytes.fetch_max(used_memory_bytes, Ordering::Relaxed);
        self.operations_per_second.store(operations_per_second, Ordering::Relaxed);
    }

    /// DEBUG SET-ACTIVE-EXPIRE
    pub fn set_active_expiry(&self, on: bool) {
        self.active_expiry.store(on, Ordering::Relaxed);
    }

    /// Whether keys are looked for whose time has come.
    pub fn active_expiry(&self) -> bool {
        self.active_expiry.load(Ordering::Relaxed) && self.may_expire()
    }

    /// Locks slots for a command that comes from inside the node (expiry, eviction).
    pub fn scratch() -> Scratch {
        Scratch::default()
    }

    /// Takes a checkpoint on a thread of its own and waits for it.
    ///
    /// # Errors
    /// What the checkpoint said, as text for the client.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<(), String> {
        let store = self.store.clone();
        let done = platform::off_thread(move || store.checkpoint()).await;
        match done {
            Ok(result) => result.map(|_| ()).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks for a checkpoint in the background.
    pub fn checkpoint_in_background(&self, reason: &'static str) {
        if self.checkpoint_wanted.send(reason).is_err() {
            tracing::warn!(
                reason,
                "the node is stopping; the checkpoint asked for is taken at the stop or not at all"
            );
        }
    }

    /// Asks the node to stop.
    pub fn shut_down(&self, request: ShutdownRequest) {
        *self.shutdown.lock() = Some(request);
        self.shutdown_requested.notify_one();
    }

    /// Ends when somebody asked the node to stop.
    pub async fn shutdown_requested(&self) -> ShutdownRequest {
        loop {
            if let Some(request) = *self.shutdown.lock() {
                return request;
            }
            self.shutdown_requested.notified().await;
        }
    }

    /// Enters a new client, or says why not.
    ///
    /// # Errors
    /// The error line for the client.
    pub fn admit_client(
        &self,
        address: SocketAddr,
        local: SocketAddr,
    ) -> Result<Arc<ClientInfo>, &'static str> {
        let config = self.config.snapshot();
        if self.clients.count() as u64 >= config.maxclients {
            self.stats.rejected_connections.add(1);
            return Err("-ERR max number of clients reached\r\n");
        }
        if config.protected_mode && config.requirepass.is_empty() && !address.ip().is_loopback() {
            self.stats.rejected_connections.add(1);
            return Err(PROTECTED);
        }
        self.stats.connections.add(1);
        Ok(self.clients.connect(address, local, platform::wall_clock_ms()))
    }
}

const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
    for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect \
    from external computers to Redis you may adopt one of the following solutions: 1) set a password with requirepass in \
    the configuration file; 2) set 'protected-mode no' there, when the network keeps strangers out.\r\n";
