//! Feeds the cluster core with what happens and does what it says. Owns the sockets and the clock and decides nothing; see the
//! duties on [`holdfast_cluster`]'s page.

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_cluster::WriteAck;
use holdfast_cluster::change::{Change, NodeAddress, NodeRecord, Outcome};
use holdfast_cluster::cluster::Cluster;
use holdfast_cluster::events::{Event, Role};
use holdfast_cluster::in_sync::Absence;
use holdfast_cluster::interface::{Destination, Failover, Input, Myself, Outputs, Settings};
use holdfast_cluster::join::Target;
use holdfast_cluster::registry::Registry;
use holdfast_cluster::view::View;
use holdfast_storage::store::Store;
use holdfast_words::{ClusterId, Epoch, Incarnation, NodeId, ShardId};
use tokio::sync::{mpsc, oneshot, watch};

use super::{BusConfig, StartError};
use crate::handle::{Asked, FailoverMode, Handle, Request, Shared};
use crate::links::book::AddressBook;
use crate::links::{Links, Me, News};
use crate::metadata_group::{Decided, GroupError, MetadataGroup};
use crate::platform;
use crate::platform::sabotage::{self, Switch};
use crate::stream::follower::Context;
use crate::stream::member::Member;
use crate::stream::replicas::Replicas;
use crate::stream::role::{Done, HoldWrites, Order, RoleKeeper};
use crate::stream::same_bytes::{Asker, whom_to_ask};
use crate::stream::sender::Sender;
use crate::wire::frame::FrameKind;
use crate::wire::hello::Identity;

/// Between two feeds of time and positions.
const TICK_MS: u64 = 100;
/// Between two looks at what changes slowly and only shows.
const SLOW_TICK_MS: u64 = 1000;
/// News that wait for the driver at most; who has more waits.
const NEWS_MAX: usize = 1024;
/// Bytes of an id.
const ID_BYTES: usize = 20;

type Answer = oneshot::Sender<Result<Outcome, String>>;

/// What a task that the driver started comes back with.
enum Back {
    /// A proposal is decided.
    Proposed(Answer, Result<Outcome, String>),
    /// The cluster has let this node go: it begins anew.
    Released { hard: bool, answer: Answer },
    /// A change of the in-sync set was decided; refused or not known, when there is a text.
    InSync(Option<String>),
}

/// The bus of one node.
pub struct Driver {
    config: BusConfig,
    me: Me,
    store: Arc<Store>,
    member: Arc<Member>,
    group: MetadataGroup,
    decided: watch::Receiver<Decided>,
    book: AddressBook,
    links: Links,
    news: mpsc::Receiver<News>,
    cluster: Cluster,
    myself: Myself,
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Asked>,
    replicas: Arc<Replicas>,
    sender: Arc<Sender>,
    asker: Arc<Asker>,
    orders: mpsc::UnboundedSender<Order>,
    done: mpsc::UnboundedReceiver<Done>,
    back: mpsc::UnboundedReceiver<Back>,
    to_back: mpsc::UnboundedSender<Back>,
    holds_keys: Option<bool>,
    /// CLUSTER RESET is under way: being removed is no news.
    resetting: bool,
    /// A change of the in-sync set is on its way.
    changing_in_sync: bool,
    /// This node would lead, but its log may have lost its end: the members of the in-sync set are asked first.
    doubtful: Option<(ShardId, Epoch)>,
    ticked_slowly_ms: u64,
}

impl Driver {
    /// Opens the metadata group (founding one in a fresh directory) and listens. To be called on the bus's runtime.
    pub async fn open(
        mut config: BusConfig,
        store: Arc<Store>,
        hold_writes: HoldWrites,
    ) -> Result<(Self, Handle), StartError> {
        let node_timeout_ms = config.settings.node_timeout_ms;
        let directory = store.directory().clone();
        let identity = Identity { node: store.node_id(), secret: config.secret.clone().into_bytes() };
        let (me, book) = (Me::new(identity.clone()), AddressBook::default());
        let boot = directory.boot();
        let group =
            MetadataGroup::open(&directory.metadata(), boot, identity, book.clone(), node_timeout_ms).await?;
        let myself = Myself {
            address: config.address.clone(),
            zone: config.zone.clone(),
            incarnation: match sabotage::is_on(Switch::IncarnationIgnored) {
                true => Incarnation(1),
                false => directory.identity().incarnation,
            },
            no_failover: config.no_failover,
        };
        if group.cluster().is_none() {
            if directory.identity().in_group {
                return Err(StartError::MetadataLost { path: directory.metadata() });
            }
            found(&group, &me, &store, &myself).await?;
        }
        directory.set_in_group()?;
        let decided = group.watch();
        let registry = decided.borrow().registry.clone();
        let seed = u64::from_le_bytes(random::<8>()?);
        let settings = match sabotage::is_on(Switch::PromotionOutsideTheSet) {
            true => Settings { write_ack: WriteAck::Local, ..config.settings },
            false => config.settings,
        };
        let cluster = Cluster::new(store.node_id(), myself.clone(), settings, registry.clone(), seed);
        let shared = Shared::new(cluster.view().clone());
        let member = Member::new(store.clone(), platform::now_ms());
        let replicas = Replicas::new(store.clone(), shared.clone(), book.clone());
        let data_port = config.address.port;
        let context = Context::new(
            me.clone(),
            member.clone(),
            shared.clone(),
            book.clone(),
            node_timeout_ms,
            data_port,
        );
        replicas.set_write_ack(config.settings.write_ack);
        // Not the thing itself: it has what this hangs on.
        let told = Arc::downgrade(&replicas);
        shared.tell_write_ack(move |write_ack| {
            if let Some(replicas) = told.upgrade() {
                replicas.set_write_ack(write_ack);
            }
        });
        let asked = Arc::downgrade(&replicas);
        shared.answer_sync_state(move || {
            asked.upgrade().map(|replicas| replicas.sync_state()).unwrap_or_default()
        });
        let (mastership, mastership_seen) = watch::channel(None);
        let asker = Asker::new(me.clone(), book.clone(), member.clone());
        shared.set_asker(asker.clone());
        let sender = Sender::new(
            member.clone(),
            replicas.clone(),
            book.clone(),
            mastership_seen,
            asker.clone(),
            node_timeout_ms,
        );
        let (orders, done) = RoleKeeper::start(context, replicas.clone(), mastership, hold_writes);
        let (to_news, news) = mpsc::channel(NEWS_MAX);
        let listeners = std::mem::take(&mut config.listeners);
        let listeners = listeners.into_iter().map(platform::listen).collect::<Result<Vec<_>, _>>()?;
        let links = Links::open(me.clone(), listeners, to_news);
        let (to_back, back) = mpsc::unbounded_channel();
        let (ask, requests) = mpsc::unbounded_channel();
        let handle = Handle::new(shared.clone(), ask);
        let mut driver = Self {
            config,
            me,
            store,
            member,
            group,
            decided,
            book,
            links,
            news,
            cluster,
            myself,
            shared,
            requests,
            replicas,
            sender,
            asker,
            orders,
            done,
            back,
            to_back,
            holds_keys: None,
            resetting: false,
            changing_in_sync: false,
            doubtful: None,
            ticked_slowly_ms: 0,
        };
        driver.follow_registry(&registry);
        driver.tick().await;
        Ok((driver, handle))
    }

    /// Runs until the node stops.
    pub async fn run(mut self) {
        let mut next_tick_ms = platform::now_ms() + TICK_MS;
        loop {
            let wait_ms = next_tick_ms.saturating_sub(platform::now_ms());
            let member = self.member.clone();
            tokio::select! {
                () = platform::sleep_ms(wait_ms) => {
                    self.tick().await;
                    next_tick_ms = platform::now_ms() + TICK_MS;
                }
                Some(news) = self.news.recv() => self.on_news(news).await,
                Ok(()) = self.decided.changed() => self.on_decided().await,
                Some(done) = self.done.recv() => self.on_done(done).await,
                () = member.changed.notified() => self.feed_positions().await,
                Some(back) = self.back.recv() => self.on_back(back).await,
                request = self.requests.recv() => {
                    let Some((request, answer)) = request else { break };
                    if let Request::Stop = request {
                        self.stop().await;
                        answer.send(Ok(Outcome::Done)).ok();
                        return;
                    }
                    self.on_request(request, answer).await;
                }
            }
        }
        self.stop().await;
    }

    async fn stop(&mut self) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Stop { done }).is_ok() {
            is_done.await.ok();
        }
        self.group.stop().await;
    }

    // ---- what happens ----

    async fn tick(&mut self) {
        let holds_keys = self.store.slots().key_count() > 0;
        if self.holds_keys != Some(holds_keys) {
            self.holds_keys = Some(holds_keys);
            self.feed(Input::HoldsKeys(holds_keys)).await;
        }
        self.feed_positions().await;
        self.feed(Input::Tick).await;
        self.keep_in_sync_set();
        let now_ms = platform::now_ms();
        if now_ms.saturating_sub(self.ticked_slowly_ms) >= SLOW_TICK_MS {
            self.ticked_slowly_ms = now_ms;
            self.ask_before_leading();
            self.shared.set_links(self.links.list());
            self.replicas.refresh();
        }
    }

    async fn feed_positions(&mut self) {
        let positions = self.member.positions(platform::now_ms());
        self.feed(Input::Positions(positions)).await;
    }

    async fn on_news(&mut self, news: News) {
        match news {
            News::Received { message, from } => {
                self.feed(Input::Received { message, from_ip: Some(from.ip().to_string()) }).await;
            }
            News::Link { node, connected, local } => {
                self.learn_own_address(local).await;
                self.feed(Input::Link { node, connected }).await;
            }
            News::Connected { kind: FrameKind::Metadata, connection, .. } => {
                let group = self.group.clone();
                platform::spawn(async move { group.serve(*connection).await });
            }
            News::Connected { kind: FrameKind::LogStream, connection, from } => {
                platform::spawn(self.sender.clone().serve(*connection, from));
            }
            News::Connected { kind, connection, from } => {
                tracing::warn!(peer = %connection.peer, %from, ?kind, "this build takes no such connection");
            }
        }
    }

    /// Without `cluster-announce-ip`, a node is where the others' connections find it.
    async fn learn_own_address(&mut self, local: Option<SocketAddr>) {
        let Some(local) = local else { return };
        let ip = local.ip().to_canonical().to_string();
        if self.config.address.ip.is_empty() && self.myself.address.ip != ip {
            self.myself.address.ip = ip;
            self.feed(Input::Myself(self.myself.clone())).await;
        }
    }

    async fn on_decided(&mut self) {
        let Decided { registry, leader, voting } = self.decided.borrow_and_update().clone();
        self.shared.set_voting(voting);
        // A node that joins knows nothing until its new cluster tells it.
        if registry.is_founded() {
            self.follow_registry(&registry);
            self.feed(Input::Registry(registry)).await;
            self.feed(Input::Leader(leader)).await;
        }
    }

    fn follow_registry(&mut self, registry: &Registry) {
        if !registry.is_founded() {
            return;
        }
        self.book.follow(registry);
        self.links.keep_only(|node| registry.nodes.contains_key(&node));
        let me = self.me.identity().node;
        if let Some((_, register)) = registry.shard_of(me) {
            if register.master != me {
                self.replicas.depose();
            }
            let others = register.members().filter(|member| *member != me).collect();
            self.replicas.expect(others, register.in_sync.clone());
            self.asker.set_others(whom_to_ask(register, me));
        }
    }

    async fn on_done(&mut self, done: Done) {
        match done {
            Done::Settled => self.feed_positions().await,
            Done::Paused { epoch, end } => self.feed(Input::WritesPaused { epoch, end }).await,
        }
    }

    async fn on_back(&mut self, back: Back) {
        match back {
            Back::Proposed(answer, result) => {
                // Whoever asked finds what it asked for.
                self.on_decided().await;
                answer.send(result).ok();
            }
            Back::InSync(refusal) => {
                self.changing_in_sync = false;
                self.on_decided().await;
                if let Some(refusal) = refusal {
                    tracing::debug!(refusal, "the in-sync set was not changed");
                    // Where the outcome is not known, who is about to be let in goes on being waited for.
                    if refusal.starts_with("ERR") {
                        self.replicas.was_refused();
                    }
                }
            }
            Back::Released { hard, answer } => {
                let result = self.begin_anew(hard).await.map_err(|error| format!("ERR {error}"));
                self.resetting = false;
                answer.send(result.map(|()| Outcome::Done)).ok();
            }
        }
    }

    async fn on_request(&mut self, request: Request, answer: Answer) {
        let out = match request {
            Request::Propose(change) => {
                return self.propose(change, move |result| Back::Proposed(answer, result));
            }
            Request::Reset { hard } => return self.reset(hard, answer),
            Request::LeaveInSyncSet => match self.without_me() {
                Some(change) => return self.propose(change, move |result| Back::Proposed(answer, result)),
                None => None,
            },
            Request::Meet { bus } => {
                let target = Target { ip: bus.ip().to_string(), bus_port: bus.port() };
                self.step(Input::Meet(target)).await
            }
            Request::Failover(mode) => {
                let kind = match mode {
                    FailoverMode::Handover => Failover::Graceful,
                    FailoverMode::Force => Failover::Force,
                    FailoverMode::Takeover => Failover::Takeover,
                    FailoverMode::Away => Failover::Away,
                };
                self.step(Input::Failover(kind)).await
            }
            Request::Settings(settings) => {
                self.config.settings = settings;
                self.step(Input::Settings(settings)).await
            }
            // The answer is the answer; to stop is taken care of by whoever runs the driver.
            Request::AreYouAlive | Request::Stop => None,
        };
        let result = match out {
            Some(Err(refusal)) => Err(refusal.to_string()),
            Some(Ok(())) | None => Ok(Outcome::Done),
        };
        answer.send(result).ok();
    }

    fn propose(&self, change: Change, back: impl FnOnce(Result<Outcome, String>) -> Back + Send + 'static) {
        let (group, to_back) = (self.group.clone(), self.to_back.clone());
        platform::spawn(async move {
            let result = group.propose(change).await;
            to_back.send(back(result)).ok();
        });
    }

    // ---- what is to be done ----

    async fn feed(&mut self, input: Input) {
        self.step(input).await;
    }

    /// One step of the core, and everything it says; its answer, where there is one.
    async fn step(&mut self, input: Input) -> Option<Result<(), holdfast_cluster::Refusal>> {
        let out = self.cluster.step(platform::now_ms(), input);
        let Outputs { view, events, propose, reconnect, send, answer, lease_until_ms, .. } = out;
        self.shared.set_lease_until(lease_until_ms);
        if let Some(view) = view {
            self.publish(view);
        }
        for event in events {
            self.on_event(event).await;
        }
        for change in propose {
            self.propose_for_the_core(change);
        }
        for node in reconnect {
            self.links.drop_link(node);
        }
        for holdfast_cluster::Send { to, message } in send {
            match to {
                Destination::Node(node) => {
                    if let Some(address) = self.book.bus_of(node) {
                        self.links.send_to_node(node, address, message);
                    }
                }
                Destination::Address(Target { ip, bus_port }) => match ip.parse() {
                    Ok(ip) => self.links.send_to_address(SocketAddr::new(ip, bus_port), message),
                    Err(_) => tracing::debug!(ip, "no address"),
                },
            }
        }
        answer
    }

    fn publish(&self, view: Arc<View>) {
        let reports = view.nodes.iter().map(|node| (node.record.id, node.liveness.failure_reports));
        self.shared.set_failure_reports(reports.collect());
        self.shared.publish(view);
    }

    /// A refusal means that somebody was faster; what is still needed is proposed again.
    fn propose_for_the_core(&self, change: Change) {
        let group = self.group.clone();
        platform::spawn(async move {
            if let Err(refusal) = group.propose(change.clone()).await {
                tracing::debug!(?change, refusal, "a change that this node proposed was not made");
            }
        });
    }

    async fn on_event(&mut self, event: Event) {
        match &event {
            Event::Failed { .. }
            | Event::UncleanPromotion { .. }
            | Event::LeavesDisabled { .. }
            | Event::MeetFailed { .. }
            | Event::HandoverFailed { .. }
            | Event::Serving(Some(_)) => {
                tracing::warn!("{event}");
            }
            _ => tracing::info!("{event}"),
        }
        let order = match event {
            Event::Role { shard, epoch, role: Role::Master } if !self.may_lead(shard, epoch) => return,
            Event::Role { shard, epoch, role } => Order::Role { shard, epoch, role },
            Event::Fence { shard, epoch } => Order::Fence { shard, epoch },
            Event::PauseWrites { epoch, .. } => Order::Pause { epoch },
            Event::ResumeWrites { .. } => Order::Resume,
            Event::Join { cluster, seeds } => return self.join(cluster, &seeds).await,
            Event::Removed if !self.resetting => return self.refound_after_removal().await,
            _ => return,
        };
        if self.orders.send(order).is_err() {
            tracing::error!("nobody carries out what the cluster decides any more");
        }
    }

    async fn join(&mut self, cluster: ClusterId, seeds: &[NodeRecord]) {
        self.book.learn(seeds);
        if let Err(error) = self.group.join(self.me.identity(), cluster).await {
            tracing::error!(%error, %cluster, "this node could not join the cluster");
        }
    }

    /// Has those who lag dropped from the in-sync set, and those who have caught up let in.
    fn keep_in_sync_set(&mut self) {
        let registry = self.decided.borrow().registry.clone();
        let me = self.me.identity().node;
        let Some((shard, register)) = registry.shard_of(me) else { return };
        if self.changing_in_sync || register.master != me || register.pending.is_some() {
            return;
        }
        let Some((from, to)) = self.replicas.wanted_in_sync(self.config.replica_lag_max_ms) else { return };
        if from != register.in_sync {
            return;
        }
        for node in from.difference(&to) {
            let why = self.replicas.why_leaves(*node).map_or("left", Absence::name);
            tracing::warn!(replica = %node, why, "a replica lags: it is to leave the in-sync set");
        }
        for node in to.difference(&from) {
            tracing::info!(replica = %node, "a replica has caught up: it is to join the in-sync set");
        }
        self.changing_in_sync = true;
        let change = Change::SetInSync { shard, expected: register.seen(), from, to };
        self.propose(change, |result| Back::InSync(result.err()));
    }

    /// The in-sync set without this replica.
    fn without_me(&self) -> Option<Change> {
        let registry = self.decided.borrow().registry.clone();
        let me = self.me.identity().node;
        let (shard, register) = registry.shard_of(me)?;
        let from = register.in_sync.clone();
        let mut to = from.clone();
        let leaves = register.master != me && register.pending.is_none() && to.remove(&me);
        leaves.then(|| Change::SetInSync { shard, expected: register.seen(), from, to })
    }

    /// A master whose log may have lost its end has the freshest of the in-sync set found, which may be itself.
    fn ask_before_leading(&mut self) {
        let Some((shard, epoch)) = self.doubtful else { return };
        let registry = self.decided.borrow().registry.clone();
        let me = self.me.identity().node;
        match registry.shard_of(me) {
            Some((now, register)) if now == shard && register.epoch == epoch && register.master == me => {
                if register.pending.is_none() {
                    let expected = register.seen();
                    self.propose_for_the_core(Change::BeginElection { shard, expected, candidate: None });
                }
            }
            _ => self.doubtful = None,
        }
    }

    /// Whether this node may lead as the metadata says, or has to ask first (design, 7.6).
    fn may_lead(&mut self, shard: ShardId, epoch: Epoch) -> bool {
        if self.store.is_damaged() && self.store.shard_id() == shard {
            tracing::warn!(%shard, "this node's slot images are damaged: it leads nothing, another member in sync is to lead");
            self.doubtful = Some((shard, epoch));
            return false;
        }
        let registry = self.decided.borrow().registry.clone();
        let has_company = registry.shards.get(&shard).is_some_and(|register| register.in_sync.len() > 1);
        let elected_now = self.member.fence() >= epoch && self.member.store.log().epoch() < epoch;
        if self.member.is_trusted() || !has_company || elected_now {
            return true;
        }
        tracing::warn!(%shard, "this node's log may have lost its end in a restart of the machine: the in-sync set is asked first");
        self.doubtful = Some((shard, epoch));
        false
    }

    // ---- beginning anew ----

    fn reset(&mut self, hard: bool, answer: Answer) {
        self.resetting = true;
        let registry = self.decided.borrow().registry.clone();
        let me = self.me.identity().node;
        let is_alone = registry.nodes.keys().all(|node| *node == me);
        if is_alone {
            self.to_back.send(Back::Released { hard, answer }).ok();
            return;
        }
        let (group, to_back) = (self.group.clone(), self.to_back.clone());
        platform::spawn(async move {
            let back = match group.propose(Change::ResetNode { node: me }).await {
                Ok(_) => Back::Released { hard, answer },
                Err(refusal) => Back::Proposed(answer, Err(refusal)),
            };
            to_back.send(back).ok();
        });
    }

    async fn refound_after_removal(&mut self) {
        if let Err(error) = self.begin_anew(false).await {
            tracing::error!(%error, "this node was forgotten by its cluster and could not found one of its own");
        }
    }

    /// Empty, alone, with a shard of its own; under a new id when `hard`.
    async fn begin_anew(&mut self, hard: bool) -> Result<(), StartError> {
        let node = if hard { NodeId(random()?) } else { self.me.identity().node };
        let shard = ShardId(random()?);
        let (done, is_done) = oneshot::channel();
        let gone = || std::io::Error::other("nobody carries out what the cluster decides any more");
        self.orders.send(Order::Reset { node, shard, done }).map_err(|_| gone())?;
        is_done.await.map_err(|_| gone())?.map_err(std::io::Error::other)?;
        self.me.rename(node);
        self.links.keep_only(|_| false);
        found(&self.group, &self.me, &self.store, &self.myself).await?;
        let registry = self.decided.borrow_and_update().registry.clone();
        if hard {
            let seed = u64::from_le_bytes(random()?);
            let (myself, settings) = (self.myself.clone(), self.config.settings);
            self.cluster = Cluster::new(node, myself, settings, registry.clone(), seed);
            self.publish(self.cluster.view().clone());
        }
        self.follow_registry(&registry);
        // Not `feed`: this is reached from within it.
        let out = self.cluster.step(platform::now_ms(), Input::Registry(registry));
        if let Some(view) = out.view {
            self.publish(view);
        }
        for event in out.events {
            if let Event::Role { shard, epoch, role } = event {
                self.orders.send(Order::Role { shard, epoch, role }).map_err(|_| gone())?;
            }
        }
        Ok(())
    }
}

/// A cluster of this node alone.
async fn found(group: &MetadataGroup, me: &Me, store: &Store, myself: &Myself) -> Result<(), StartError> {
    let cluster = ClusterId(random()?);
    let identity = me.identity();
    let record = NodeRecord {
        id: identity.node,
        address: NodeAddress { ..myself.address.clone() },
        zone: myself.zone.clone(),
        shard: store.shard_id(),
        incarnation: myself.incarnation,
        no_failover: myself.no_failover,
    };
    group.found(identity, cluster, record).await.map_err(GroupError::into)
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    const { assert!(N <= ID_BYTES) };
    let mut bytes = [0; N];
    platform::random::fill(&mut bytes)?;
    Ok(bytes)
}
