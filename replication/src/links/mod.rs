//! The bus's connections: who listens, who dials, what came in. Knows no rule of the cluster: the driver says what goes to
//! whom. Gossip goes out over the connection this node dialed and comes in over the one the other dialed, so that each side
//! notices on its own when a way is broken.
//!
//! Modules in layer order, lowest first.

/// Where members are reached.
pub mod book;
/// Dialing one node for one purpose.
pub mod connect;
/// What is connected now, for CLUSTER LINKS.
pub mod table;
/// Gossip to one destination: dial, send, dial again.
pub mod outgoing;
/// Listening: hello, then gossip is read and other connections are handed on.
pub mod incoming;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_cluster::Message;
use holdfast_words::NodeId;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::handle::Link;
use crate::platform::{self, TcpListener};
use crate::wire::frame::FrameKind;
use crate::wire::gossip;
use crate::wire::hello::Identity;
use crate::wire::refusals::Refusals;

use connect::BusConnection;
use outgoing::Outgoing;
use table::Table;

/// What the driver hears of.
#[derive(Debug)]
pub enum News {
    /// A message came in.
    Received {
        /// The message; its sender is who the hello proved it to be.
        message: Box<Message>,
        /// Where it came from.
        from: SocketAddr,
    },
    /// The gossip connection to a node came up or went down.
    Link {
        /// The node.
        node: NodeId,
        /// It is up.
        connected: bool,
        /// The address this node is seen to have on it.
        local: Option<SocketAddr>,
    },
    /// Somebody opened a connection that is not for gossip.
    Connected {
        /// For what.
        kind: FrameKind,
        /// The connection.
        connection: Box<BusConnection>,
        /// Where it came from.
        from: SocketAddr,
    },
}

/// This node as it says hello; shared by all who dial or listen, changed by CLUSTER RESET HARD.
#[derive(Clone)]
pub struct Me(Arc<Mutex<Identity>>);

impl Me {
    /// As of the start.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(Mutex::new(identity)))
    }

    /// Who this node is now.
    pub fn identity(&self) -> Identity {
        self.0.lock().clone()
    }

    /// The node has another id from now on.
    pub fn rename(&self, node: NodeId) {
        self.0.lock().node = node;
    }
}

/// What all connections share.
struct Common {
    me: Me,
    news: mpsc::Sender<News>,
    table: Table,
    refusals: Mutex<Refusals>,
}

/// All gossip connections, and the listeners. Dropping it closes them.
pub struct Links {
    common: Arc<Common>,
    to_nodes: BTreeMap<NodeId, Outgoing>,
    to_addresses: BTreeMap<SocketAddr, Outgoing>,
    /// Listeners; aborted when dropped.
    _listening: JoinSet<()>,
}

impl Links {
    /// Listens; to be called within the bus's runtime. `news` is best bounded: a driver that lags slows its peers down.
    pub fn open(me: Me, listeners: Vec<TcpListener>, news: mpsc::Sender<News>) -> Self {
        let (table, refusals) = (Table::default(), Mutex::default());
        let common = Arc::new(Common { me, news, table, refusals });
        let mut listening = JoinSet::new();
        for listener in listeners {
            platform::spawn_in(&mut listening, incoming::listen(common.clone(), listener));
        }
        Self { common, to_nodes: BTreeMap::new(), to_addresses: BTreeMap::new(), _listening: listening }
    }

    /// Sends to a member of the cluster that is to be at `address`; dropped when that cannot be done soon.
    pub fn send_to_node(&mut self, node: NodeId, address: SocketAddr, message: Message) {
        let Some(bytes) = bytes_of(message) else { return };
        let moved = self.to_nodes.get(&node).is_some_and(|link| link.address() != address);
        if moved {
            self.drop_link(node);
        }
        let common = &self.common;
        self.to_nodes
            .entry(node)
            .or_insert_with(|| Outgoing::dial(common.clone(), address, Some(node)))
            .send(bytes);
    }

    /// Sends to whoever is at an address.
    pub fn send_to_address(&mut self, address: SocketAddr, message: Message) {
        let Some(bytes) = bytes_of(message) else { return };
        self.to_addresses.retain(|_, link| link.is_running());
        let common = &self.common;
        self.to_addresses
            .entry(address)
            .or_insert_with(|| Outgoing::dial(common.clone(), address, None))
            .send(bytes);
    }

    /// Drops the connection to a node, which may be dead without knowing it; the next message dials anew.
    pub fn drop_link(&mut self, node: NodeId) {
        self.to_nodes.remove(&node);
    }

    /// Keeps connections to these nodes only.
    pub fn keep_only(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.to_nodes.retain(|node, _| is_member(*node));
    }

    /// All gossip connections that are up.
    pub fn list(&self) -> Vec<Link> {
        self.common.table.list()
    }
}

fn bytes_of(message: Message) -> Option<Vec<u8>> {
    gossip::encode(message)
        .inspect_err(|error| tracing::error!(%error, "a gossip message cannot be written"))
        .ok()
}

#[cfg(test)]
mod tests;
