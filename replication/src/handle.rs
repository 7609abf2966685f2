//! What the server sees of the cluster: a snapshot to look at, requests that answer later, positions of replicas. The driver
//! ([`crate::bus`]) fills it; nothing here decides.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Cache};
use holdfast_cluster::WriteAck;
use holdfast_cluster::change::{Change, Outcome};
use holdfast_cluster::in_sync::Absence;
use holdfast_cluster::interface::Settings;
use holdfast_cluster::view::{Routes, View};
use holdfast_storage::log::mend::SameBytes;
use holdfast_storage::scrub::nobody;
use holdfast_words::{Lsn, NodeId};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::stream::same_bytes::Asker;

/// CLUSTER FAILOVER's modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailoverMode {
    /// Hand over with nothing lost and writes held for a moment.
    Handover,
    /// An election with this node as the only candidate.
    Force,
    /// As `Force` where a majority of voters is there.
    Takeover,
    /// Not a command: this node is a master, is about to stop, and wants its freshest replica to take over.
    Away,
}

/// What the server asks of the driver; each answers when it is committed, or says why not (the text of the error reply).
#[derive(Debug)]
pub enum Request {
    /// A change of the registry.
    Propose(Change),
    /// CLUSTER MEET.
    Meet {
        /// Where the other node's bus is.
        bus: SocketAddr,
    },
    /// CLUSTER RESET.
    Reset {
        /// Take a new node id.
        hard: bool,
    },
    /// CLUSTER FAILOVER.
    Failover(FailoverMode),
    /// This node, a replica, is about to stop: its master is not to wait for it.
    LeaveInSyncSet,
    /// Is the driver there?
    AreYouAlive,
    /// CONFIG SET of what the core goes by.
    Settings(Settings),
    /// The node stops: hand the metadata leadership over, close connections.
    Stop,
}

/// A request on its way to the driver.
pub type Asked = (Request, oneshot::Sender<Result<Outcome, String>>);

/// A replica as its master sees it.
#[derive(Clone, Debug)]
pub struct ReplicaInfo {
    /// The replica.
    pub node: NodeId,
    /// Its data port.
    pub address: SocketAddr,
    /// It streams; not copying and not away.
    pub online: bool,
    /// Handed to its kernel.
    pub written_lsn: Lsn,
    /// On its disk.
    pub durable_lsn: Lsn,
    /// In its slots.
    pub applied_lsn: Lsn,
    /// Milliseconds since its last word.
    pub lag_ms: u64,
}

/// What acknowledgements of this node's writes wait for, and how its replicas stand to the in-sync set.
#[derive(Clone, Debug, Default)]
pub struct SyncState {
    /// What a write waits for here; `None`: it is acknowledged by nobody, because this node does not lead now.
    pub own: Option<OwnPart>,
    /// The replicas of the shard, connected or not.
    pub replicas: Vec<ReplicaSync>,
}

/// What a write waits for at the master itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnPart {
    /// That it is handed to the kernel.
    Log,
    /// That it is on the disk.
    Disk,
}

/// A replica and the in-sync set.
#[derive(Clone, Debug)]
pub struct ReplicaSync {
    /// The replica.
    pub node: NodeId,
    /// It is in the in-sync set.
    pub in_sync: bool,
    /// Writes wait for it: it is in the set, or about to be let in.
    pub waited_for: bool,
    /// How its connection is.
    pub link: LinkState,
    /// Bytes of the log that it has not acknowledged.
    pub owes_bytes: u64,
    /// For how long it has owed the oldest of them, about.
    pub owes_ms: u64,
    /// What keeps it out of the set, and since when (wall clock, ms); `None` while it is in.
    pub absent: Option<(Absence, u64)>,
}

/// How far a replica's connection to its master is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Not connected.
    Connecting,
    /// A full copy is under way.
    Copying,
    /// The log streams.
    Streaming,
}

impl LinkState {
    /// ROLE's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connect",
            Self::Copying => "sync",
            Self::Streaming => "connected",
        }
    }

    /// INFO's `master_link_status:up`.
    pub fn is_up(self) -> bool {
        self == Self::Streaming
    }

    /// INFO's `master_sync_in_progress`.
    pub fn is_copying(self) -> bool {
        self == Self::Copying
    }
}

/// A replica's connection to its master.
#[derive(Clone, Debug)]
pub struct MasterLink {
    /// The master's data port.
    pub address: SocketAddr,
    /// How far it is.
    pub state: LinkState,
    /// In this node's slots.
    pub applied_lsn: Lsn,
    /// Milliseconds since the master's last word.
    pub last_io_ms: u64,
}

/// A connection of the bus (CLUSTER LINKS).
#[derive(Clone, Debug)]
pub struct Link {
    /// We opened it.
    pub outgoing: bool,
    /// Who is at the other end.
    pub node: NodeId,
    /// When it was opened, wall clock, ms.
    pub created_at_ms: u64,
    /// Bytes that wait to be sent.
    pub send_buffer_bytes: usize,
}

/// How this master's replicas came to follow it, since the start (INFO's `sync_full` and so on).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CatchUps {
    /// By a full copy; one that goes on where it broke off counts once.
    pub full: u64,
    /// From where their own log ends.
    pub partial: u64,
    /// Full copies of replicas that had a log, but none that could go on.
    pub partial_refused: u64,
}

/// What driver and server share.
pub struct Shared {
    view: ArcSwap<View>,
    routes: Arc<ArcSwap<Routes>>,
    is_replica: AtomicBool,
    lease_until_ms: AtomicU64,
    replicas: Mutex<Vec<ReplicaInfo>>,
    catch_ups: Mutex<CatchUps>,
    master_link: Mutex<Option<MasterLink>>,
    links: Mutex<Vec<Link>>,
    voting: Mutex<Arc<BTreeSet<NodeId>>>,
    failure_reports: Mutex<std::collections::BTreeMap<NodeId, usize>>,
    replicas_moved: Notify,
    on_write_ack: OnceLock<OnWriteAck>,
    sync_state: OnceLock<AskSyncState>,
    asker: OnceLock<Arc<Asker>>,
}

type OnWriteAck = Box<dyn Fn(WriteAck) + Send + Sync>;
type AskSyncState = Box<dyn Fn() -> SyncState + Send + Sync>;

impl Shared {
    /// Before the driver has said anything.
    pub fn new(view: Arc<View>) -> Arc<Self> {
        let is_replica = view.myself().is_some_and(|me| me.replica_of.is_some());
        Arc::new(Self {
            routes: Arc::new(ArcSwap::new(view.routes.clone())),
            view: ArcSwap::new(view),
            is_replica: AtomicBool::new(is_replica),
            lease_until_ms: AtomicU64::new(0),
            replicas: Mutex::default(),
            catch_ups: Mutex::default(),
            master_link: Mutex::default(),
            links: Mutex::default(),
            voting: Mutex::default(),
            failure_reports: Mutex::default(),
            replicas_moved: Notify::new(),
            on_write_ack: OnceLock::new(),
            sync_state: OnceLock::new(),
            asker: OnceLock::new(),
        })
    }

    /// Who is told of a change of `write-ack`, in the thread that makes it. Said once, by the driver.
    pub fn tell_write_ack(&self, listener: impl Fn(WriteAck) + Send + Sync + 'static) {
        assert!(self.on_write_ack.set(Box::new(listener)).is_ok(), "there is one driver");
    }

    /// Who knows what writes wait for. Said once, by the driver.
    pub fn answer_sync_state(&self, answer: impl Fn() -> SyncState + Send + Sync + 'static) {
        assert!(self.sync_state.set(Box::new(answer)).is_ok(), "there is one driver");
    }

    /// Where the log gets back what damage took from it. Said once, by the driver.
    pub fn set_asker(&self, asker: Arc<Asker>) {
        assert!(self.asker.set(asker).is_ok(), "there is one driver");
    }

    /// A newer snapshot.
    pub fn publish(&self, view: Arc<View>) {
        let is_replica = view.myself().is_some_and(|me| me.replica_of.is_some());
        self.routes.store(view.routes.clone());
        self.is_replica.store(is_replica, Ordering::Release);
        self.view.store(view);
    }

    /// Whether a node told, when it last told, that its log takes records.
    pub fn can_write(&self, node: NodeId) -> bool {
        let view = self.view.load();
        let told = view.node(node).and_then(|node| node.liveness.positions);
        told.is_none_or(|positions| positions.can_write)
    }

    /// Until when this node may serve as master, by [`platform::now_ms`](crate::platform::now_ms).
    pub fn set_lease_until(&self, until_ms: u64) {
        self.lease_until_ms.store(until_ms, Ordering::Release);
    }

    /// Without a cluster: this node follows another one, or does not.
    pub fn set_is_replica(&self, is_replica: bool) {
        self.is_replica.store(is_replica, Ordering::Release);
    }

    /// Newer positions of this master's replicas.
    pub fn set_replicas(&self, replicas: Vec<ReplicaInfo>) {
        *self.replicas.lock() = replicas;
        self.replicas_moved.notify_waiters();
    }

    /// A replica begins to follow.
    pub fn count_catch_up(&self, count: impl FnOnce(&mut CatchUps)) {
        count(&mut self.catch_ups.lock());
    }

    /// News of the connection to the master; `None` on a master.
    pub fn set_master_link(&self, link: Option<MasterLink>) {
        *self.master_link.lock() = link;
    }

    /// The bus's connections.
    pub fn set_links(&self, links: Vec<Link>) {
        *self.links.lock() = links;
    }

    /// Whose votes count in the metadata group.
    pub fn set_voting(&self, voting: Arc<BTreeSet<NodeId>>) {
        *self.voting.lock() = voting;
    }

    /// Failure reports per node.
    pub fn set_failure_reports(&self, reports: std::collections::BTreeMap<NodeId, usize>) {
        *self.failure_reports.lock() = reports;
    }
}

/// The server's handle of the cluster; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Asked>,
}

impl Handle {
    /// A handle of what the driver fills and the channel it listens to.
    pub fn new(shared: Arc<Shared>, requests: mpsc::UnboundedSender<Asked>) -> Self {
        Self { shared, requests }
    }

    /// The newest snapshot.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// The part of it that every command reads: `load` gives the newest, and takes no more than a look whether there is a newer
    /// one.
    pub fn routes(&self) -> Cache<Arc<ArcSwap<Routes>>, Arc<Routes>> {
        Cache::new(self.shared.routes.clone())
    }

    /// Whether the voters let this node serve as master at this moment (design, 7.4). What was read before this said yes was
    /// nobody else's to change.
    pub fn has_lease(&self) -> bool {
        self.had_lease_at(crate::platform::monotonic_ns())
    }

    /// As [`Handle::has_lease`], of the moment at which the monotonic clock was read. For whoever has just read it.
    pub fn had_lease_at(&self, monotonic_ns: u64) -> bool {
        crate::platform::ms_of(monotonic_ns) < self.shared.lease_until_ms.load(Ordering::Acquire)
    }

    /// Whether this node is a replica.
    pub fn is_replica(&self) -> bool {
        self.shared.is_replica.load(Ordering::Acquire)
    }

    /// This master's replicas.
    pub fn replicas(&self) -> Vec<ReplicaInfo> {
        self.shared.replicas.lock().clone()
    }

    /// What acknowledgements wait for, and who is in sync; nothing without a cluster.
    pub fn sync_state(&self) -> SyncState {
        self.shared.sync_state.get().map(|ask| ask()).unwrap_or_default()
    }

    /// How this master's replicas came to follow it.
    pub fn catch_ups(&self) -> CatchUps {
        *self.shared.catch_ups.lock()
    }

    /// Ends when a replica has told where it is.
    pub async fn replicas_move(&self) {
        self.shared.replicas_moved.notified().await;
    }

    /// This replica's connection to its master.
    pub fn master_link(&self) -> Option<MasterLink> {
        self.shared.master_link.lock().clone()
    }

    /// The bus's connections.
    pub fn links(&self) -> Vec<Link> {
        self.shared.links.lock().clone()
    }

    /// Whose votes count in the metadata group: they follow the registry's voters a moment later.
    pub fn voting(&self) -> Arc<BTreeSet<NodeId>> {
        self.shared.voting.lock().clone()
    }

    /// How many connections the bus has.
    pub fn link_count(&self) -> usize {
        self.shared.links.lock().len()
    }

    /// CLUSTER COUNT-FAILURE-REPORTS
    pub fn failure_reports(&self, node: NodeId) -> usize {
        self.shared.failure_reports.lock().get(&node).copied().unwrap_or(0)
    }

    /// Does work that may need bytes of the log which damage took from this node: it gets whoever asks the other members of the shard
    /// for them, and waits for their answer. Not to be called on a thread that others wait for.
    pub fn mending<R>(&self, work: impl FnOnce(&mut dyn SameBytes) -> R) -> R {
        match self.shared.asker.get() {
            Some(asker) => work(&mut asker.waiting()),
            None => work(&mut nobody),
        }
    }

    /// Asks the driver.
    ///
    /// # Errors
    /// The text of the error reply.
    pub async fn ask(&self, request: Request) -> Result<Outcome, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "ERR the node is stopping".to_owned();
        self.requests.send((request, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Proposes a change; answers when it is committed.
    ///
    /// # Errors
    /// The text of the error reply; the same for those below.
    pub async fn propose(&self, change: Change) -> Result<Outcome, String> {
        self.ask(Request::Propose(change)).await
    }

    /// CLUSTER MEET
    pub async fn meet(&self, ip: IpAddr, bus_port: u16) -> Result<(), String> {
        self.ask(Request::Meet { bus: SocketAddr::new(ip, bus_port) }).await.map(|_| ())
    }

    /// CLUSTER RESET
    pub async fn reset(&self, hard: bool) -> Result<(), String> {
        self.ask(Request::Reset { hard }).await.map(|_| ())
    }

    /// Stops the bus: nothing is sent or taken any more when this returns.
    pub async fn stop(&self) {
        // It may have stopped already.
        self.ask(Request::Stop).await.ok();
    }

    /// A replica that is about to stop leaves the in-sync set, so that nobody waits for it.
    ///
    /// # Errors
    /// When the metadata group could not decide it: the master finds out by itself, a little later.
    pub async fn leave_in_sync_set(&self) -> Result<(), String> {
        self.ask(Request::LeaveInSyncSet).await.map(|_| ())
    }

    /// Answers when the driver comes round to it: the bus does not hang.
    pub async fn is_alive(&self) {
        // A driver that has stopped does not hang.
        self.ask(Request::AreYouAlive).await.ok();
    }

    /// CONFIG SET of what the core goes by; it takes effect with the driver's next step. `write-ack in-sync` takes effect for
    /// this node's own acknowledgements before this returns.
    pub fn configure(&self, settings: Settings) {
        if let Some(listener) = self.shared.on_write_ack.get() {
            listener(settings.write_ack);
        }
        let (answer, _) = oneshot::channel();
        // A node that is stopping needs no settings.
        self.requests.send((Request::Settings(settings), answer)).ok();
    }

    /// CLUSTER FAILOVER
    pub async fn failover(&self, mode: FailoverMode) -> Result<(), String> {
        self.ask(Request::Failover(mode)).await.map(|_| ())
    }
}
