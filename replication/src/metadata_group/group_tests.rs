//! Groups of real nodes on free ports of 127.0.0.1, each with a log of its own.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;

use holdfast_cluster::{Change, NodeAddress, NodeRecord, Outcome, Registry};
use holdfast_words::{BootId, ClusterId, Epoch, Incarnation, NodeId, ShardId, Zone};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::settings::Settings;
use super::{Decided, MetadataGroup};
use crate::links::book::AddressBook;
use crate::links::{Links, News};
use crate::platform::{self, TcpListener};
use crate::wire::frame::FrameKind;
use crate::wire::hello::Identity;

#[path = "failure_tests.rs"]
mod failures;
#[path = "offline_tests.rs"]
mod offline;

const CLUSTER: ClusterId = ClusterId([7; 20]);
const NODE_TIMEOUT_MS: u64 = 1500;
/// Longer than anything here may take, also on a busy machine.
const PATIENCE_MS: u64 = 20_000;

fn id(number: u8) -> NodeId {
    NodeId([number; 20])
}

fn identity(number: u8) -> Identity {
    Identity { node: id(number), secret: b"s".to_vec() }
}

fn voters(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(id).collect()
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let give_up_ms = platform::now_ms() + PATIENCE_MS;
    while !is_so().await {
        assert!(platform::now_ms() < give_up_ms, "waited in vain until {what}");
        platform::sleep_ms(10).await;
    }
}

/// Where a node is and what it has, running or not.
struct Home {
    number: u8,
    directory: TempDir,
    address: SocketAddr,
    settings: Settings,
}

struct Node {
    home: Home,
    group: MetadataGroup,
    _links: Links,
    serving: JoinSet<()>,
}

impl Home {
    async fn open(self) -> Node {
        // Tasks that were aborted let go of the port when they are next looked at.
        let give_up_ms = platform::now_ms() + PATIENCE_MS;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(platform::now_ms() < give_up_ms, "{error}"),
            }
            platform::sleep_ms(5).await;
        };
        self.open_on(listener).await
    }

    async fn open_on(mut self, listener: TcpListener) -> Node {
        self.address = listener.local_addr().unwrap();
        let (sender, mut news) = mpsc::channel(100);
        let links = Links::open(crate::links::Me::new(identity(self.number)), vec![listener], sender);
        let book = AddressBook::default();
        let boot = BootId::default();
        let group =
            MetadataGroup::open_with(self.directory.path(), boot, identity(self.number), book, self.settings)
                .await
                .unwrap();
        let mut serving = JoinSet::new();
        let served = group.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(news) = news.recv().await {
                if let News::Connected { kind: FrameKind::Metadata, connection, .. } = news {
                    let group = served.clone();
                    connections.spawn(async move { group.serve(*connection).await });
                }
            }
        });
        Node { home: self, group, _links: links, serving }
    }
}

async fn fresh_with(number: u8, settings: Settings) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Home { number, directory, address, settings }.open_on(listener).await
}

async fn fresh(number: u8) -> Node {
    fresh_with(number, Settings::new(NODE_TIMEOUT_MS)).await
}

impl Node {
    fn id(&self) -> NodeId {
        id(self.home.number)
    }

    fn record(&self) -> NodeRecord {
        let bus_port = self.home.address.port();
        NodeRecord {
            id: self.id(),
            address: NodeAddress { ip: "127.0.0.1".into(), hostname: String::new(), port: 1, bus_port },
            zone: Zone::default(),
            shard: ShardId([self.home.number; 20]),
            incarnation: Incarnation(1),
            no_failover: false,
        }
    }

    fn decided(&self) -> Decided {
        self.group.watch().borrow().clone()
    }

    fn registry(&self) -> std::sync::Arc<Registry> {
        self.decided().registry
    }

    async fn found(&self) {
        self.group.found(identity(self.home.number), CLUSTER, self.record()).await.unwrap();
    }

    /// Joins the group of `other`.
    async fn join(&self, other: &Node) {
        self.group.join(identity(self.home.number), CLUSTER).await.unwrap();
        let change = Change::AddNode { node: self.record(), epoch: Epoch::ZERO, claims: Vec::new() };
        let outcome = other.group.propose(change).await.unwrap();
        assert!(matches!(outcome, Outcome::Joined { .. }), "{outcome:?}");
        until("the joined node has the registry", async || self.registry().nodes.contains_key(&self.id()))
            .await;
    }

    async fn bump(&self) -> Result<Outcome, String> {
        self.group.propose(Change::BumpEpoch { node: self.id() }).await
    }

    /// Some change took effect, after as many elections as it takes.
    async fn changes(&self) {
        let node = self.id();
        until("a change is committed", async || self.group.propose(Change::BumpEpoch { node }).await.is_ok())
            .await;
    }

    /// Stops answering and asking at once; nobody is told.
    async fn die(self) -> Home {
        self.group.stop().await;
        let Node { home, group, _links, mut serving } = self;
        serving.shutdown().await;
        drop((_links, group));
        home
    }
}

/// All have the same registry, with a leader.
async fn agree(nodes: &[&Node]) {
    until("all agree", async || {
        let first = nodes[0].decided();
        first.leader.is_some() && nodes.iter().all(|node| node.decided() == first)
    })
    .await;
}

/// A founder and others, all of them voting.
async fn group_of(count: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(fresh(number).await);
    }
    nodes[0].found().await;
    for node in &nodes[1..] {
        node.join(&nodes[0]).await;
    }
    let change = Change::SetVoters { from: voters([1]), to: voters(1..=count) };
    assert_eq!(nodes[0].group.propose(change).await, Ok(Outcome::Done));
    until("all vote", async || nodes.iter().all(|node| votes(node) == usize::from(count))).await;
    nodes
}

/// How many voters Raft knows of at this node, when no change of them is under way.
fn votes(node: &Node) -> usize {
    let run = node.group.run().unwrap();
    let metrics = run.raft.metrics().borrow().clone();
    match &metrics.membership_config.membership().get_joint_config()[..] {
        [voters] => voters.len(),
        _ => 0,
    }
}

fn members(node: &Node) -> usize {
    node.group.run().unwrap().raft.metrics().borrow().membership_config.nodes().count()
}

#[tokio::test(flavor = "current_thread")]
async fn one_node_founds_a_group_and_goes_on_with_it_after_a_restart() {
    let one = fresh(1).await;
    assert_eq!(one.group.cluster(), None);
    assert!(one.bump().await.unwrap_err().starts_with("CLUSTERDOWN "));
    one.found().await;
    assert_eq!(one.group.cluster(), Some(CLUSTER));
    assert_eq!(one.decided().leader, Some(id(1)));
    assert_eq!(one.registry().voters, voters([1]));
    one.bump().await.unwrap();
    let before = one.registry();
    let refused = one.group.propose(Change::ForgetNode { node: id(1), by: id(1) }).await.unwrap_err();
    assert!(refused.starts_with("ERR I tried hard"), "{refused}");
    let one = one.die().await.open().await;
    assert_eq!(one.group.cluster(), Some(CLUSTER));
    assert_eq!(one.registry(), before);
    one.changes().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_founding_that_was_cut_short_is_begun_again() {
    let one = fresh(1).await;
    let home = one.die().await;
    {
        let mut store = super::log_store::LogStore::open(home.directory.path(), BootId::default()).unwrap();
        let group = super::log_store::Group { cluster: CLUSTER, founder: true };
        store.begin(group).await.unwrap();
    }
    let one = home.open().await;
    assert_eq!(one.group.cluster(), None);
    one.found().await;
    assert_eq!(one.registry().cluster, CLUSTER);
}

#[tokio::test(flavor = "current_thread")]
async fn three_nodes_vote_and_any_of_them_can_propose() {
    let nodes = group_of(3).await;
    for node in &nodes {
        assert!(matches!(node.bump().await, Ok(Outcome::Epoch(_))));
        let own = node.registry();
        assert_eq!(
            own.current_epoch,
            own.shard_of(node.id()).unwrap().1.epoch,
            "who proposed sees it at once"
        );
    }
    agree(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_learner_follows_and_can_propose() {
    let mut nodes = group_of(3).await;
    nodes.push(fresh(4).await);
    nodes[3].join(&nodes[1]).await;
    until("it is a member", async || members(&nodes[3]) == 4).await;
    assert_eq!(votes(&nodes[3]), 3);
    nodes[3].bump().await.unwrap();
    agree(&nodes.iter().collect::<Vec<_>>()).await;
}
