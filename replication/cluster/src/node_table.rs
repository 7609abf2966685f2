//! Who was heard, when, and what they told: one entry per other member. Holds what the failure detector and gossip
//! reason about; decides nothing itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use holdfast_words::NodeId;

use crate::message::Header;
use crate::registry::Registry;
use crate::view::{Health, Liveness};

/// What is known of another member. Times are readings of the core's clock.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Since when it is in the table.
    pub known_since_ms: u64,
    /// When the first ping that is still unanswered was sent.
    pub ping_sent_ms: Option<u64>,
    /// When the latest ping was sent, answered or not.
    pub ping_repeated_ms: u64,
    /// When the driver was last told to dial it anew.
    pub reconnect_ms: u64,
    /// When the last ping that it answered was sent: at that time or later it heard this node and lived.
    pub answered_ms: Option<u64>,
    /// When the last ping was sent by whose answer it lets this node serve as master.
    pub granted_ms: Option<u64>,
    /// When this node last let it serve as master.
    pub grant_given_ms: Option<u64>,
    /// When it last answered a ping.
    pub pong_ms: Option<u64>,
    /// When anything at all last came from it.
    pub heard_ms: Option<u64>,
    /// The latest sign of life, its own or by hearsay; postpones the next ping, proves nothing.
    pub vouched_ms: u64,
    /// Since when it is suspected (PFAIL).
    pub suspected_ms: Option<u64>,
    /// Since when it counts as failed (FAIL).
    pub failed_ms: Option<u64>,
    /// Voters that suspect it, and when they last said so.
    pub reports: BTreeMap<NodeId, u64>,
    /// It votes in the metadata group.
    pub votes: bool,
    /// The driver has a connection to it.
    pub connected: bool,
    /// What it last told of itself.
    pub header: Option<Header>,
}

impl Peer {
    fn new(now_ms: u64) -> Self {
        Self {
            known_since_ms: now_ms,
            ping_sent_ms: None,
            ping_repeated_ms: 0,
            reconnect_ms: 0,
            answered_ms: None,
            granted_ms: None,
            grant_given_ms: None,
            pong_ms: None,
            heard_ms: None,
            vouched_ms: 0,
            suspected_ms: None,
            failed_ms: None,
            reports: BTreeMap::new(),
            votes: false,
            connected: false,
            header: None,
        }
    }

    /// Its health as seen from here.
    pub fn health(&self) -> Health {
        match (self.failed_ms, self.suspected_ms) {
            (Some(_), _) => Health::Failed,
            (None, Some(_)) => Health::Suspected,
            (None, None) => Health::Fine,
        }
    }

    /// Whether it is suspected or failed.
    pub fn is_doubted(&self) -> bool {
        self.suspected_ms.or(self.failed_ms).is_some()
    }

    /// Whether it answered a ping sent within the last `within_ms`.
    pub fn answered_within(&self, now_ms: u64, within_ms: u64) -> bool {
        self.answered_ms.is_some_and(|sent| now_ms.saturating_sub(sent) <= within_ms)
    }

    /// Whether anything came from it within the last `within_ms`.
    pub fn heard_within(&self, now_ms: u64, within_ms: u64) -> bool {
        self.heard_ms.is_some_and(|heard| now_ms.saturating_sub(heard) <= within_ms)
    }
}

/// All other members.
#[derive(Clone, Debug, Default)]
pub struct NodeTable {
    /// Ascending.
    ids: Vec<NodeId>,
    /// The first bytes of each of `ids`: rumours look up many, and this is the part of the table that stays in the cache.
    prefixes: Vec<u64>,
    /// By place in `ids`.
    peers: Vec<Peer>,
    /// Where those stand who were suspected or failed at the last [`NodeTable::note_doubted`], and perhaps are not any more.
    doubted: Vec<usize>,
    i_vote: bool,
}

impl NodeTable {
    /// Makes the table hold exactly the members of `registry` other than `me`.
    pub fn follow(&mut self, registry: &Registry, me: NodeId, now_ms: u64) {
        if !registry.nodes.keys().filter(|id| **id != me).eq(&self.ids) {
            let mut known: BTreeMap<NodeId, Peer> = self.ids.drain(..).zip(self.peers.drain(..)).collect();
            self.ids = registry.nodes.keys().filter(|id| **id != me).copied().collect();
            let peer = |id| known.remove(id).unwrap_or_else(|| Peer::new(now_ms));
            self.peers = self.ids.iter().map(peer).collect();
            self.prefixes = self.ids.iter().map(prefix).collect();
        }
        for (id, peer) in self.ids.iter().zip(&mut self.peers) {
            peer.votes = registry.voters.contains(id);
        }
        self.i_vote = registry.voters.contains(&me);
        self.note_doubted();
    }

    /// Whether this node's word on failures counts.
    pub fn i_vote(&self) -> bool {
        self.i_vote
    }

    /// Takes note of who is suspected or failed now: whoever makes somebody so calls it.
    pub fn note_doubted(&mut self) {
        let places = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_doubted());
        self.doubted = places.map(|(place, _)| place).collect();
    }

    /// Those suspected or failed, by their place in the table.
    pub fn doubted(&self) -> impl Iterator<Item = (usize, &Peer)> {
        let known = self.doubted.iter().filter_map(|&place| Some((place, self.peers.get(place)?)));
        known.filter(|(_, peer)| peer.is_doubted())
    }

    /// The entry at a place.
    pub fn at(&self, place: usize) -> Option<(NodeId, &Peer)> {
        Some((*self.ids.get(place)?, self.peers.get(place)?))
    }

    /// The entry at a place, to change.
    pub fn at_mut(&mut self, place: usize) -> Option<(NodeId, &mut Peer)> {
        Some((*self.ids.get(place)?, self.peers.get_mut(place)?))
    }

    /// How many are suspected or failed, or were a moment ago.
    pub fn count_doubted(&self) -> usize {
        self.doubted.len()
    }

    /// The entry of `node`.
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.place(node).map(|at| &self.peers[at])
    }

    /// The entry of `node`, to change.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.place(node).map(|at| &mut self.peers[at])
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        let prefix = prefix(&node);
        let first = self.prefixes.partition_point(|other| *other < prefix);
        let alike = self.prefixes[first..].iter().take_while(|other| **other == prefix).count();
        (first..first + alike).find(|at| self.ids[*at] == node)
    }

    /// All entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.ids.iter().copied().zip(&self.peers)
    }

    /// All entries, by id, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.ids.iter().copied().zip(&mut self.peers)
    }

    /// All ids, ascending: for drawing by index.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// A message came from the header's sender. What it told before goes, also what it no longer tells.
    pub fn on_heard(&mut self, header: &Header, now_ms: u64) {
        let Some(peer) = self.get_mut(header.sender) else { return };
        peer.heard_ms = Some(now_ms);
        peer.vouched_ms = peer.vouched_ms.max(now_ms);
        peer.header = Some(header.clone());
    }

    /// A ping was sent to `node`.
    pub fn on_ping_sent(&mut self, node: NodeId, now_ms: u64) {
        let Some(peer) = self.get_mut(node) else { return };
        peer.ping_sent_ms.get_or_insert(now_ms);
        peer.ping_repeated_ms = now_ms;
    }

    /// The health of `node`; fine when it is not in the table (this node itself).
    pub fn health(&self, node: NodeId) -> Health {
        self.get(node).map(Peer::health).unwrap_or_default()
    }

    /// What the view shows of `node`.
    pub fn liveness(&self, node: NodeId) -> Liveness {
        self.get(node)
            .map(|peer| Liveness {
                health: peer.health(),
                ping_sent_ms: peer.ping_sent_ms.unwrap_or(0),
                pong_received_ms: peer.pong_ms.unwrap_or(0),
                connected: peer.connected,
                failure_reports: peer.reports.len(),
                positions: peer.header.as_ref().and_then(|header| header.positions),
            })
            .unwrap_or_default()
    }
}

fn prefix(id: &NodeId) -> u64 {
    id.0.iter().take(8).fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, node_id};

    #[test]
    fn nodes_whose_ids_begin_alike_are_told_apart_and_keep_what_is_known_of_them() {
        let mut registry = cluster(3, 1);
        let mut alike = node_id(2);
        alike.0[19] = 1;
        let mut table = NodeTable::default();
        table.follow(&registry, node_id(1), 5);
        table.get_mut(node_id(2)).unwrap().heard_ms = Some(7);
        assert!(table.get(alike).is_none());
        let mut record = registry.nodes[&node_id(2)].clone();
        record.id = alike;
        registry.nodes.insert(alike, record);
        registry.nodes.remove(&node_id(6));
        table.follow(&registry, node_id(1), 9);
        let known = |id| table.get(id).map(|peer| (peer.known_since_ms, peer.heard_ms));
        assert_eq!(known(node_id(2)), Some((5, Some(7))));
        assert_eq!(known(alike), Some((9, None)));
        assert_eq!((known(node_id(1)), known(node_id(6))), (None, None));
        assert_eq!(table.ids().len(), table.iter().count());
    }
}
