//! What a simulated node does, told to the simulation at the moment it happens, so that its checkers need not guess from
//! outside. Without the feature `simulation` both calls are empty when this is compiled.

use holdfast_words::{Epoch, Lsn, ShardId};

/// A command on a shard's data was executed, and its reply waits for `lsn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Executed {
    /// The client's number on this node.
    pub client: u64,
    /// The shard.
    pub shard: ShardId,
    /// The epoch of the node's log.
    pub epoch: Epoch,
    /// What the reply waits for.
    pub lsn: Lsn,
    /// It was executed as the shard's master; a READONLY client may read a replica.
    pub as_master: bool,
}

/// A command was executed.
#[inline(always)]
pub fn executed(what: impl FnOnce() -> Executed) {
    #[cfg(feature = "simulation")]
    if let Some(world) = super::simulation::world() {
        world.executed(what());
    }
    #[cfg(not(feature = "simulation"))]
    drop(what);
}

/// The client's replies that wait for no more than `reached` are on their way.
#[inline(always)]
pub fn released(client: u64, reached: Lsn) {
    #[cfg(feature = "simulation")]
    if let Some(world) = super::simulation::world() {
        world.released(client, reached);
    }
    #[cfg(not(feature = "simulation"))]
    let _ = (client, reached);
}
