//! May this node serve now? Today: only while a majority of voters is heard, and after a start or a minority only once
//! its registry is as new as theirs; then the full-coverage rule. The lease proper (design section 7.4) belongs here.

use crate::failure_detector::Watch;
use crate::node_table::NodeTable;
use crate::view::{Down, Health};
use holdfast_words::SLOT_COUNT;

/// Whether this node is, since it last was in a minority, known to have caught up.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    caught_up: bool,
}

impl Lease {
    /// Why nothing may be served now; `None` when all is well.
    pub fn why_down(&mut self, watch: &Watch<'_>, table: &NodeTable, full_coverage: bool) -> Option<Down> {
        let registry = watch.registry;
        if !registry.nodes.contains_key(&watch.me) {
            self.caught_up = false;
            return Some(Down::NotJoined);
        }
        if !watch.hears_majority(table) {
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
