//! May this node serve now? Only while it has its lease (design section 7.4), and after a start or a minority only once its
//! registry is as new as the voters'; then the full-coverage rule.
//!
//! The lease: a majority of voters has answered a ping that was sent less than 0.8 node timeouts ago by this node's own
//! clock. A voter that knows of an election grants the old master nothing more, and tells the metadata leader since when;
//! nobody is promoted before a majority of voters has granted nothing for 0.9 node timeouts by *their* clocks, or the old
//! master itself says that it has stopped. Any two majorities share a voter, so two masters never serve at once, as long as
//! clocks' rates differ by less than an eighth. What the clocks show does not matter. While voters change, majorities of
//! both sets are needed to promote, until nobody goes by the former one.
//!
//! A change of voters interrupts nobody: what the voters before it had granted is carried on for as long as it lasts, while the new
//! ones are asked. So the former voters count until all that can have been carried on has run out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use holdfast_words::{Epoch, NodeId, SLOT_COUNT, ShardId};

use crate::failure_detector::Watch;
use crate::message::Header;
use crate::node_table::NodeTable;
use crate::registry::Registry;
use crate::shard_register::Pending;
use crate::view::{Down, Health};

/// A lease lasts so many tenths of the node timeout from when the ping was sent.
const LEASE_TENTHS: u64 = 8;
/// A grant has run out for sure after so many tenths of the node timeout.
const OVER_TENTHS: u64 = 9;

/// The latest moment until which a majority of voters lets this node serve as master. Zero: not at all.
fn until_ms(watch: &Watch<'_>, table: &NodeTable) -> u64 {
    let registry = watch.registry;
    if !registry.nodes.contains_key(&watch.me) || registry.voters.is_empty() {
        return 0;
    }
    // A voter grants to itself as long as it knows of no election; when it does, it stops serving by itself.
    let grant_of = |voter: &NodeId| {
        if *voter == watch.me {
            Some(watch.now_ms)
        } else {
            table.get(*voter).and_then(|peer| peer.granted_ms)
        }
    };
    let mut grants: Vec<u64> = registry.voters.iter().filter_map(grant_of).collect();
    grants.sort_unstable_by(|one, other| other.cmp(one));
    let decisive = grants.get(registry.majority() - 1);
    decisive.map_or(0, |sent_ms| sent_ms + watch.timeout_ms * LEASE_TENTHS / 10)
}

/// Whether a voter with `registry` grants a lease to the sender of this header. Not to a master that is being replaced, nor to
/// one that has been and does not know it yet.
pub fn may_grant(registry: &Registry, asking: &Header) -> bool {
    let Some((_, register)) = registry.shard_of(asking.sender) else { return false };
    let is_master = register.master == asking.sender;
    if asking.registry_version < registry.voters_version {
        // It may count on voters that are none any more.
        return false;
    }
    if is_master && matches!(register.pending, Some(Pending::Election { .. })) {
        return false;
    }
    !asking.is_master || asking.epoch > register.epoch || (is_master && asking.epoch == register.epoch)
}

/// What the metadata leader knows of voters that withhold the lease of a master that is being replaced.
#[derive(Clone, Debug, Default)]
pub struct Withheld {
    /// Per shard: the election's epoch, and when each voter last granted, by the leader's clock.
    by_shard: BTreeMap<ShardId, (Epoch, BTreeMap<NodeId, u64>)>,
}

impl Withheld {
    /// `voter` grants nothing any more, since `idle_ms`.
    pub fn note(&mut self, shard: ShardId, epoch: Epoch, voter: NodeId, idle_ms: u64, now_ms: u64) {
        let (of, voters) = self.by_shard.entry(shard).or_default();
        if *of < epoch {
            (*of, *voters) = (epoch, BTreeMap::new());
        }
        if *of == epoch {
            voters.insert(voter, now_ms.saturating_sub(idle_ms));
        }
    }

    /// Whether nobody can hold the shard's lease any more under an epoch below `epoch`.
    pub fn is_over(&self, watch: &Watch<'_>, shard: ShardId, epoch: Epoch) -> bool {
        let Some((_, voters)) = self.by_shard.get(&shard).filter(|(of, _)| *of == epoch) else {
            return false;
        };
        let over_ms = watch.timeout_ms * OVER_TENTHS / 10;
        let ran_out = |granted_ms: &u64| watch.now_ms.saturating_sub(*granted_ms) > over_ms;
        watch.registry.is_majority(|voter| voters.get(voter).is_some_and(ran_out))
    }

    /// Forgets elections that are over.
    pub fn keep_only(&mut self, registry: &Registry) {
        self.by_shard.retain(|shard, (epoch, _)| {
            let pending = registry.shards.get(shard).and_then(|register| register.pending);
            pending.is_some_and(|pending| pending.epoch() == *epoch)
        });
    }
}

/// Whether nobody can hold a lease of the voters before the last change any more. Whoever knows the change may go on with what they
/// had granted before it knew; so all members have known it for longer than a lease lasts, or a majority of those voters has, which
/// grants to nobody who does not.
#[derive(Clone, Debug, Default)]
pub struct FormerVoters {
    all_know_since_ms: Option<u64>,
    most_know_since_ms: Option<u64>,
}

impl FormerVoters {
    /// To be asked again and again by the metadata leader.
    pub fn can_retire(&mut self, watch: &Watch<'_>, table: &NodeTable) -> bool {
        let registry = watch.registry;
        let knows = |node: &NodeId| {
            let told = || table.get(*node)?.header.as_ref().map(|header| header.registry_version);
            *node == watch.me || told().is_some_and(|version| version >= registry.voters_version)
        };
        let former = &registry.former_voters;
        if former.is_empty() {
            *self = Self::default();
            return false;
        }
        let all_know = registry.nodes.keys().all(knows);
        let most_know = former.iter().filter(|node| knows(node)).count() > former.len() / 2;
        let over_ms = watch.timeout_ms * OVER_TENTHS / 10;
        let for_long = |holds: bool, since_ms: &mut Option<u64>| {
            let since = holds.then(|| since_ms.unwrap_or(watch.now_ms));
            *since_ms = since;
            since.is_some_and(|since| watch.now_ms.saturating_sub(since) > over_ms)
        };
        let all = for_long(all_know, &mut self.all_know_since_ms);
        let most = for_long(most_know, &mut self.most_know_since_ms);
        all || most
    }
}

/// Whether this node is, since it last was in a minority, known to have caught up.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    caught_up: bool,
    /// Until when voters that are none any more had let this node serve.
    carried_until_ms: u64,
}

impl Lease {
    /// Until when this node may serve as master.
    pub fn until_ms(&self, watch: &Watch<'_>, table: &NodeTable) -> u64 {
        until_ms(watch, table).max(self.carried_until_ms)
    }

    /// The voters have changed; `watch` is of the registry before, and no voter was asked since.
    pub fn carry(&mut self, watch: &Watch<'_>, table: &NodeTable) {
        self.carried_until_ms = self.until_ms(watch, table);
    }

    /// Why nothing may be served now; `None` when all is well.
    pub fn why_down(&mut self, watch: &Watch<'_>, table: &NodeTable, full_coverage: bool) -> Option<Down> {
        let registry = watch.registry;
        if !registry.nodes.contains_key(&watch.me) {
            self.caught_up = false;
            return Some(Down::NotJoined);
        }
        if !watch.hears_majority(table) && watch.now_ms >= self.carried_until_ms {
            self.caught_up = false;
            return Some(Down::Minority);
        }
        let newest = watch
            .voters_answering(table)
            .filter_map(|peer| Some(peer.header.as_ref()?.registry_version))
            .max();
        self.caught_up |= newest.is_none_or(|version| registry.version >= version);
        if !self.caught_up {
            return Some(Down::CatchingUp);
        }
        if watch.now_ms >= self.until_ms(watch, table) {
            return Some(Down::NoLease);
        }
        if !full_coverage {
            return None;
        }
        if registry.slots.assigned() < usize::from(SLOT_COUNT) {
            return Some(Down::SlotUnassigned);
        }
        let failed = registry.slots.ranges().iter().any(|(_, shard)| {
            registry.shards.get(shard).is_none_or(|register| table.health(register.master) == Health::Failed)
        });
        failed.then_some(Down::SlotFailed)
    }
}
