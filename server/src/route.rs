//! slot → serve, or where to go instead: MOVED, ASK, CROSSSLOT, CLUSTERDOWN (Redis Cluster specification, "Redirection and
//! resharding").

use holdfast_cluster::view::{Owner, Routes};
use holdfast_words::SlotId;

use crate::command::errors::CommandError;
use crate::platform::sabotage::{self, Switch};

/// What the route depends on besides the slots.
#[derive(Clone, Copy)]
pub struct Request {
    /// The command only reads.
    pub readonly_command: bool,
    /// The client said READONLY.
    pub readonly_client: bool,
}

/// Folds the slots of a command's keys into the one it may touch in cluster mode.
///
/// # Errors
/// CROSSSLOT when they differ.
pub fn single_slot(slots: impl IntoIterator<Item = SlotId>) -> Result<Option<SlotId>, CommandError> {
    let mut slots = slots.into_iter();
    let first = slots.next();
    if slots.all(|slot| Some(slot) == first) { Ok(first) } else { Err(CommandError::CrossSlot) }
}

/// Whether this node serves `slot` for this request.
///
/// # Errors
/// The redirection or refusal that Redis gives.
pub fn may_serve(routes: &Routes, slot: SlotId, request: Request) -> Result<(), CommandError> {
    let owner = routes.owner(slot);
    if owner == Owner::Nobody {
        return Err(CommandError::ClusterDownUnbound);
    }
    if routes.down.is_some() && !sabotage::is_on(Switch::LeaseIgnored) {
        return Err(CommandError::ClusterDown);
    }
    match owner {
        Owner::Me(route) if route.electing && !sabotage::is_on(Switch::FenceIgnored) => {
            Err(CommandError::ClusterDown)
        }
        Owner::Me(_) => Ok(()),
        Owner::MyMaster(_) if request.readonly_command && request.readonly_client => Ok(()),
        Owner::MyMaster(route) | Owner::Other(route) => {
            let address = format!("{}:{}", route.address.ip, route.address.port);
            Err(CommandError::Moved { slot, address })
        }
        Owner::Nobody => Err(CommandError::ClusterDownUnbound),
    }
}

/// Whether a request is kept until the handover to this node is over: sent back to the old master, it would come again.
pub fn waits_for_handover(routes: &Routes, slot: SlotId, request: Request) -> bool {
    let reads_here = request.readonly_command && request.readonly_client;
    routes.taking_over && !reads_here && matches!(routes.owner(slot), Owner::MyMaster(_))
}
