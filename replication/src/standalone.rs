//! Replication between nodes without a cluster (REPLICAOF): who follows whom is what the operator says, nothing takes over by
//! itself. The log stream, full copies and the finding of a common point are the cluster's.
//!
//! A node that becomes master again begins a new epoch in its log, so that what it writes then is never taken for what its
//! old master wrote.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_cluster::events::Role;
use holdfast_cluster::registry::Registry;
use holdfast_cluster::view::View;
use holdfast_storage::store::Store;
use holdfast_words::{Epoch, NodeId, ShardId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::handle::{Asked, Handle, LinkState, MasterLink, Request, Shared};
use crate::links::book::{AddressBook, Reached};
use crate::links::connect::{BusConnection, connect};
use crate::links::{Links, Me, News};
use crate::platform;
use crate::stream::follower::Context;
use crate::stream::member::Member;
use crate::stream::replicas::Replicas;
use crate::stream::role::{Order, RoleKeeper};
use crate::stream::same_bytes::Asker;
use crate::stream::sender::Sender;
use crate::wire::frame::FrameKind;
use crate::wire::hello::Identity;
use crate::wire::log_stream::Message;

/// Between two looks whether the master is followed.
const TICK_MS: u64 = 500;
/// A master that has not said in this time what it leads is asked again.
const PROBE_MS: u64 = 3000;
/// News that wait at most.
const NEWS_MAX: usize = 256;
/// Where a node's stream port is, above its clients' port, unless it is told otherwise.
pub const STREAM_PORT_OFFSET: u16 = 10_000;

/// How a node replicates without a cluster.
#[derive(Debug)]
pub struct StandaloneConfig {
    /// Where replicas connect; none: nobody can replicate from this node.
    pub listeners: Vec<platform::Bound>,
    /// The clients' port, for replicas to tell.
    pub data_port: u16,
    /// What both sides must know.
    pub secret: String,
    /// `repl-timeout`, ms.
    pub timeout_ms: u64,
    /// The `replicaof` directive.
    pub master: Option<SocketAddr>,
}

enum Wish {
    Follow(SocketAddr),
    Lead,
}

/// Replication of a node without a cluster.
#[derive(Clone)]
pub struct Standalone {
    /// What the server sees of it.
    pub handle: Handle,
    wishes: mpsc::UnboundedSender<Wish>,
    master: watch::Receiver<Option<SocketAddr>>,
}

impl Standalone {
    /// REPLICAOF host port, with the master's clients' port.
    pub fn follow(&self, master: SocketAddr) {
        self.wishes.send(Wish::Follow(master)).ok();
    }

    /// REPLICAOF NO ONE
    pub fn lead(&self) {
        self.wishes.send(Wish::Lead).ok();
    }

    /// Whom it is to follow.
    pub fn master(&self) -> Option<SocketAddr> {
        *self.master.borrow()
    }
}

/// Starts on a thread of its own. The node is a master, or follows whom the configuration names.
///
/// # Errors
/// When there is no thread.
pub fn start_standalone(config: StandaloneConfig, store: Arc<Store>) -> io::Result<Standalone> {
    let runtime = platform::runtime()?;
    let (started, start) = std::sync::mpsc::sync_channel(1);
    platform::threads::spawn("replication", move || {
        runtime.block_on(async move {
            match Driver::open(config, store) {
                Ok((driver, standalone)) => {
                    if started.send(Ok(standalone)).is_ok() {
                        driver.run().await;
                    }
                }
                Err(error) => {
                    started.send(Err(error)).ok();
                }
            }
        });
    })?;
    start.recv().unwrap_or_else(|_| Err(io::Error::other("the replication thread ended at once")))
}

/// What a master leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lead {
    master: NodeId,
    shard: ShardId,
    epoch: Epoch,
}

struct Driver {
    me: Me,
    store: Arc<Store>,
    member: Arc<Member>,
    book: AddressBook,
    shared: Arc<Shared>,
    handle: Handle,
    replicas: Arc<Replicas>,
    sender: Arc<Sender>,
    /// Only a master is asked: where a replica's bus is, nobody tells its master.
    asker: Arc<Asker>,
    orders: mpsc::UnboundedSender<Order>,
    _links: Links,
    news: mpsc::Receiver<News>,
    requests: mpsc::UnboundedReceiver<Asked>,
    wishes: mpsc::UnboundedReceiver<Wish>,
    master: watch::Sender<Option<SocketAddr>>,
    following: Option<Lead>,
    probes: mpsc::UnboundedReceiver<(SocketAddr, Result<Lead, String>)>,
    to_probes: mpsc::UnboundedSender<(SocketAddr, Result<Lead, String>)>,
    probing: bool,
    told: Option<String>,
}

impl Driver {
    fn open(config: StandaloneConfig, store: Arc<Store>) -> io::Result<(Self, Standalone)> {
        let node = store.node_id();
        let me = Me::new(Identity { node, secret: config.secret.into_bytes() });
        let book = AddressBook::default();
        let shared = Shared::new(Arc::new(View::initial(node, &Arc::new(Registry::default()))));
        let member = Member::new(store.clone(), platform::now_ms());
        let replicas = Replicas::new(store.clone(), shared.clone(), book.clone());
        let timeout_ms = config.timeout_ms;
        let context = Context::new(
            me.clone(),
            member.clone(),
            shared.clone(),
            book.clone(),
            timeout_ms,
            config.data_port,
        );
        let (mastership, seen) = watch::channel(None);
        let asker = Asker::new(me.clone(), book.clone(), member.clone());
        shared.set_asker(asker.clone());
        let sender =
            Sender::new(member.clone(), replicas.clone(), book.clone(), seen, asker.clone(), timeout_ms);
        let (orders, _) = RoleKeeper::start(context, replicas.clone(), mastership, Arc::new(|_| ()));
        let (to_news, news) = mpsc::channel(NEWS_MAX);
        let listeners: io::Result<Vec<_>> = config.listeners.into_iter().map(platform::listen).collect();
        let links = Links::open(me.clone(), listeners?, to_news);
        let (ask, requests) = mpsc::unbounded_channel();
        let (wish, wishes) = mpsc::unbounded_channel();
        let (master, master_seen) = watch::channel(None);
        let (to_probes, probes) = mpsc::unbounded_channel();
        let handle = Handle::new(shared.clone(), ask);
        let standalone = Standalone { handle: handle.clone(), wishes: wish, master: master_seen };
        let mut driver = Self {
            me,
            store,
            member,
            book,
            shared,
            handle,
            replicas,
            sender,
            asker,
            orders,
            _links: links,
            news,
            requests,
            wishes,
            master,
            following: None,
            probes,
            to_probes,
            probing: false,
            told: None,
        };
        match config.master {
            Some(master) => driver.follow(master),
            // Its log may lack what it had sent to replicas: what it writes from now on must not be taken for that.
            None if driver.member.is_trusted() => driver.lead(driver.store.log().epoch()),
            None => driver.lead(epoch_of_its_own(driver.store.log().epoch())?),
        }
        Ok((driver, standalone))
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                () = platform::sleep_ms(TICK_MS) => self.tick(),
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Follow(master) => self.follow(master),
                    Wish::Lead if self.master.borrow().is_some() => match epoch_of_its_own(self.store.log().epoch()) {
                        Ok(epoch) => self.lead(epoch),
                        Err(error) => tracing::error!(%error, "no epoch to lead at: the node stays a replica"),
                    },
                    Wish::Lead => {}
                },
                Some((master, answer)) = self.probes.recv() => self.on_probe(master, answer),
                Some(news) = self.news.recv() => {
                    if let News::Connected { kind: FrameKind::LogStream, connection, from } = news {
                        platform::spawn(self.sender.clone().serve(*connection, from));
                    }
                }
                request = self.requests.recv() => match request {
                    Some((Request::Stop, answer)) => {
                        let (done, is_done) = oneshot::channel();
                        if self.orders.send(Order::Stop { done }).is_ok() {
                            is_done.await.ok();
                        }
                        answer.send(Ok(holdfast_cluster::Outcome::Done)).ok();
                        return;
                    }
                    Some((_, answer)) => {
                        answer.send(Err("ERR This instance has cluster support disabled".into())).ok();
                    }
                    None => return,
                },
            }
        }
    }

    fn lead(&mut self, epoch: Epoch) {
        self.asker.set_others(Vec::new());
        self.master.send_replace(None);
        (self.following, self.told) = (None, None);
        self.shared.set_is_replica(false);
        self.orders.send(Order::Role { shard: self.store.shard_id(), epoch, role: Role::Master }).ok();
    }

    fn follow(&mut self, master: SocketAddr) {
        self.master.send_replace(Some(master));
        (self.following, self.told) = (None, None);
        // No client may write any more, also while the master is not reached.
        self.shared.set_is_replica(true);
        self.store.slots().close_to_commands();
        let (state, applied_lsn) = (LinkState::Connecting, self.member.written().lsn);
        let link = MasterLink { address: master, state, applied_lsn, last_io_ms: 0 };
        self.shared.set_master_link(Some(link));
        self.tick();
    }

    /// While the log does not stream the master is asked what it leads: it may lead at another epoch now.
    fn tick(&mut self) {
        self.replicas.refresh();
        let Some(master) = *self.master.borrow() else { return };
        let state = self.handle.master_link().map(|link| link.state);
        let is_followed =
            self.following.is_some() && state.is_some_and(|state| state != LinkState::Connecting);
        if is_followed || self.probing {
            return;
        }
        self.probing = true;
        let (identity, to_probes) = (self.me.identity(), self.to_probes.clone());
        let fence = self.member.fence();
        platform::spawn(async move {
            let answer = platform::within_ms(PROBE_MS, ask_lead(&identity, master, fence)).await;
            let answer = answer.unwrap_or_else(|| Err("it does not answer in time".to_owned()));
            to_probes.send((master, answer)).ok();
        });
    }

    fn on_probe(&mut self, asked: SocketAddr, answer: Result<Lead, String>) {
        self.probing = false;
        if *self.master.borrow() != Some(asked) {
            return self.tick();
        }
        match answer {
            Ok(lead) if self.following != Some(lead) => {
                let bus = SocketAddr::new(asked.ip(), asked.port().saturating_add(STREAM_PORT_OFFSET));
                self.book.learn_at(lead.master, Reached { bus, data: asked });
                self.following = Some(lead);
                let Lead { master, shard, epoch } = lead;
                self.asker.set_others(vec![master]);
                tracing::info!(%asked, %master, %shard, %epoch, "following a master");
                self.orders.send(Order::Role { shard, epoch, role: Role::Replica { master } }).ok();
            }
            Ok(_) => {}
            Err(error) if self.told.as_ref() != Some(&error) => {
                tracing::warn!(master = %asked, error, "the master is not reached; tried again");
                self.told = Some(error);
            }
            Err(_) => {}
        }
    }
}

/// An epoch above `last` that no other node begins: nobody hands epochs out here, and two replicas of one master may be made
/// masters at the same LSN, so the lower half is chance.
fn epoch_of_its_own(last: Epoch) -> io::Result<Epoch> {
    let mut chance = [0; 4];
    platform::random::fill(&mut chance)?;
    Ok(Epoch((((last.0 >> 32) + 1) << 32) | u64::from(u32::from_le_bytes(chance))))
}

/// Asks the node whose clients' port this is what it leads.
async fn ask_lead(me: &Identity, master: SocketAddr, fence: Epoch) -> Result<Lead, String> {
    let port = master
        .port()
        .checked_add(STREAM_PORT_OFFSET)
        .ok_or("its port leaves no room for the log stream's")?;
    let address = SocketAddr::new(master.ip(), port);
    let (connection, _) =
        connect(me, address, FrameKind::LogStream, None).await.map_err(|error| error.to_string())?;
    let BusConnection { peer, mut reader, mut writer } = connection;
    let question = Message::AskLead { fence: fence.0 }.encode().map_err(|error| error.to_string())?;
    writer.send(&question).await.map_err(|error| error.to_string())?;
    let body = reader.next().await.map_err(|error| error.to_string())?.ok_or("it hung up")?;
    match Message::decode(&body).map_err(|error| error.to_string())? {
        Message::Leads { shard, epoch } => {
            let shard = shard.try_into().map_err(|_| "its shard's id is none")?;
            Ok(Lead { master: peer, shard: ShardId(shard), epoch: Epoch(epoch) })
        }
        Message::Refused { reason } => Err(reason),
        _ => Err("it answers something else".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_that_become_masters_after_the_same_epoch_begin_different_newer_ones() {
        let last = epoch_of_its_own(Epoch(7)).unwrap();
        let (one, other) = (epoch_of_its_own(last).unwrap(), epoch_of_its_own(last).unwrap());
        assert!(last > Epoch(7) && one > last && other > last);
        assert_ne!(one, other);
    }
}
