//! What the core makes of each new registry: who came and went, what this node is in its shard now.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::cluster::{Cluster, watch};
use crate::events::{Event, Role};
use crate::interface::Outputs;
use crate::lease::Lease;
use crate::node_table::NodeTable;
use crate::registry::Registry;
use crate::shard_register::Pending;
use holdfast_words::NodeId;

impl Cluster {
    pub(super) fn on_registry(&mut self, now_ms: u64, registry: Arc<Registry>, out: &mut Outputs) {
        let same_cluster = registry.cluster == self.registry.cluster;
        if same_cluster && registry.version <= self.registry.version && self.registry.is_founded() {
            return;
        }
        let before = core::mem::replace(&mut self.registry, registry);
        if !same_cluster {
            self.table = NodeTable::default();
            self.lease = Lease::default();
            self.proposed.clear();
            self.welcoming.clear();
        }
        let registry = self.registry.clone();
        if same_cluster && before.voters != registry.voters {
            self.lease.carry(&watch(&before, self, now_ms), &self.table);
        }
        self.table.follow(&registry, self.me, now_ms);
        self.joining.follow(&registry);
        self.routes_are_stale = true;
        tell_differences(&before, &registry, self.me, out);
        self.tell_unclean(&before, out);
        let (come, waiting) = core::mem::take(&mut self.welcoming)
            .into_iter()
            .partition(|(node, _)| registry.nodes.contains_key(node));
        self.welcoming = waiting;
        for (_, (target, token)) in BTreeMap::into_iter(come) {
            self.welcome(now_ms, target, token, out);
        }
        let watch = watch(&registry, self, now_ms);
        let chosen = registry.shards.iter().filter(|(shard, register)| {
            before.shards.get(shard).is_some_and(|old| old.pending.is_some() && old.epoch < register.epoch)
        });
        for (_, register) in chosen {
            if watch.pardon(&mut self.table, register.master) {
                out.events.push(Event::Recovered(register.master));
            }
        }
        let recovered = watch.recover(&mut self.table);
        out.events.extend(recovered.into_iter().map(Event::Recovered));
        self.follow_role(out);
        self.tell_withheld_leases(now_ms, out);
        self.ask_for_lease(now_ms, &before, out);
        self.do_duties(now_ms, out);
        self.refresh_view(now_ms, out);
    }

    /// Says of each shard that was given to a member out of sync what may be lost.
    fn tell_unclean(&self, before: &Registry, out: &mut Outputs) {
        let written = |node: NodeId| {
            let told = self.table.get(node).and_then(|peer| peer.header.as_ref()?.positions);
            let positions = if node == self.me { self.positions } else { told };
            positions.map(|at| at.written)
        };
        for (&shard, register) in &self.registry.shards {
            let Some(old) = before.shards.get(&shard) else { continue };
            if old.unclean_epoch < register.unclean_epoch {
                let in_sync = old.in_sync.iter().map(|&node| (node, written(node))).collect();
                let (epoch, master) = (register.unclean_epoch, register.master);
                let kept = written(master);
                out.events.push(Event::UncleanPromotion { shard, epoch, master, kept, in_sync });
            }
        }
    }

    /// A master whose register moved may be let serve again, or anew: it need not wait for its next ping.
    fn ask_for_lease(&mut self, now_ms: u64, before: &Registry, out: &mut Outputs) {
        let registry = self.registry.clone();
        let mine = registry.shard_of(self.me).filter(|(_, register)| register.master == self.me);
        let Some((shard, register)) = mine else { return };
        if before.shards.get(&shard).is_none_or(|old| old.seen() != register.seen()) {
            for voter in registry.others_voting(self.me) {
                self.send_ping(now_ms, voter, out);
            }
        }
    }

    /// Tells the driver what this node is in its shard, and whether an election fences it.
    pub(super) fn follow_role(&mut self, out: &mut Outputs) {
        let registry = self.registry.clone();
        let Some((shard, register)) = registry.shard_of(self.me) else { return };
        let role =
            if register.master == self.me { Role::Master } else { Role::Replica { master: register.master } };
        let now = (shard, register.epoch, role);
        // A master leads when its start is recorded, at the epoch that comes of it.
        let may_lead = role != Role::Master || self.start_is_recorded();
        if may_lead && self.told_role != Some(now) {
            self.told_role = Some(now);
            out.events.push(Event::Role { shard, epoch: register.epoch, role });
        }
        if let Some(Pending::Election { epoch, .. }) = register.pending
            && self.told_fence != Some((shard, epoch))
        {
            self.told_fence = Some((shard, epoch));
            out.events.push(Event::Fence { shard, epoch });
        }
    }
}

/// The news between two registries.
fn tell_differences(before: &Registry, after: &Registry, me: NodeId, out: &mut Outputs) {
    if before.cluster == after.cluster && before.nodes.contains_key(&me) && !after.nodes.contains_key(&me) {
        out.events.push(Event::Removed);
    }
    let joined = after.nodes.keys().filter(|id| !before.nodes.contains_key(id));
    out.events.extend(joined.copied().map(Event::NodeJoined));
    let left = before.nodes.keys().filter(|id| !after.nodes.contains_key(id));
    out.events.extend(left.copied().map(Event::NodeLeft));
    if before.voters != after.voters {
        out.events.push(Event::Voters(after.voters.clone()));
    }
    for (&shard, register) in &after.shards {
        let Some(old) = before.shards.get(&shard) else { continue };
        if old.master != register.master {
            let (epoch, master, was) = (register.epoch, register.master, old.master);
            out.events.push(Event::MasterChanged { shard, epoch, master, was });
        }
        if let Some(Pending::Election { epoch, .. }) = register.pending
            && old.pending != register.pending
        {
            out.events.push(Event::ElectionBegan { shard, epoch });
        }
    }
}
