//! Whose refused hellos were logged already: a peer that tries again every second fills nobody's log. Bounded, since
//! whoever is refused may claim any name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use holdfast_words::NodeId;

/// So many addresses are remembered; those beyond are refused without a word in the log.
const ADDRESSES_MAX: usize = 1024;
/// So many names of one address.
const NAMES_MAX: usize = 16;

/// Peers that were refused and logged. A peer is an address and the node id it claims; none where it never got so far.
#[derive(Debug, Default)]
pub struct Refusals {
    logged: BTreeMap<IpAddr, BTreeSet<Option<NodeId>>>,
}

impl Refusals {
    /// Notes that a peer was refused; whether that is news for the log.
    pub fn is_news(&mut self, address: IpAddr, claimed: Option<NodeId>) -> bool {
        if !self.logged.contains_key(&address) && self.logged.len() >= ADDRESSES_MAX {
            return false;
        }
        let names = self.logged.entry(address).or_default();
        (names.len() < NAMES_MAX || names.contains(&claimed)) && names.insert(claimed)
    }

    /// A peer was let in: should it be refused again, that is news.
    pub fn forget(&mut self, address: IpAddr, node: NodeId) {
        if let Some(names) = self.logged.get_mut(&address) {
            names.remove(&Some(node));
            if names.is_empty() {
                self.logged.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_peer_is_news_once_and_again_only_after_it_was_let_in() {
        let mut refusals = Refusals::default();
        let (one, two) = (NodeId([1; 20]), NodeId([2; 20]));
        assert!(refusals.is_news(HERE, Some(one)));
        assert!(!refusals.is_news(HERE, Some(one)));
        assert!(refusals.is_news(HERE, Some(two)), "another node of the same machine");
        assert!(refusals.is_news(HERE, None));
        refusals.forget(HERE, one);
        assert!(!refusals.is_news(HERE, Some(two)), "another node's success changes nothing for this one");
        assert!(refusals.is_news(HERE, Some(one)));
    }

    #[test]
    fn whoever_claims_ever_new_names_soon_goes_unheard() {
        let mut refusals = Refusals::default();
        let name = |n: u32| {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_le_bytes());
            Some(NodeId(id))
        };
        assert_eq!((0..1000).filter(|&n| refusals.is_news(HERE, name(n))).count(), NAMES_MAX);
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        assert_eq!((0..5000).filter(|&n| refusals.is_news(from(n), None)).count(), ADDRESSES_MAX - 1);
    }
}
