//! Where members are reached, as the registry says; shared by everybody who dials.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use holdfast_cluster::Registry;
use holdfast_cluster::change::NodeRecord;
use holdfast_words::NodeId;
use parking_lot::RwLock;

/// Where a node is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached {
    /// Its bus.
    pub bus: SocketAddr,
    /// Its clients' port.
    pub data: SocketAddr,
}

impl Reached {
    /// Where a record says; none while its address is not known.
    pub fn of(node: &NodeRecord) -> Option<Self> {
        let ip: IpAddr = node.address.ip.parse().ok()?;
        Some(Self {
            bus: SocketAddr::new(ip, node.address.bus_port),
            data: SocketAddr::new(ip, node.address.port),
        })
    }
}

/// The addresses of all members that are known.
#[derive(Clone, Default, Debug)]
pub struct AddressBook(Arc<RwLock<BTreeMap<NodeId, Reached>>>);

impl AddressBook {
    /// The registry's nodes, and of all others only those it forgot lately: they are to be told, and the connection on which
    /// they would have heard of it may end before they did.
    pub fn follow(&self, registry: &Registry) {
        let mut book = self.0.write();
        book.retain(|node, _| registry.forgotten.contains(node));
        book.extend(registry.nodes.values().filter_map(|node| Some((node.id, Reached::of(node)?))));
    }

    /// These nodes as well: those to turn to before any registry is there.
    pub fn learn<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeRecord>) {
        self.0.write().extend(nodes.into_iter().filter_map(|node| Some((node.id, Reached::of(node)?))));
    }

    /// This node as well, which no registry knows.
    pub fn learn_at(&self, node: NodeId, reached: Reached) {
        self.0.write().insert(node, reached);
    }

    /// Where a node is.
    pub fn of(&self, node: NodeId) -> Option<Reached> {
        self.0.read().get(&node).copied()
    }

    /// Where a node's bus is.
    pub fn bus_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.of(node).map(|reached| reached.bus)
    }
}
