#![no_std]
//! The nouns of holdfast's design (design section 1) and nothing else: no clock, socket, file or task can slip in
//! here, because the crate is `no_std`.
extern crate alloc;
#[cfg(test)]
extern crate std;

/// Slots: CRC16 of the key or its hash tag.
pub mod slot;
/// Positions in a shard's log: LSN, slot sequence, epoch, and their only orderings.
pub mod position;
/// Who: nodes, shards, zones, incarnations, boots.
pub mod identity;

pub use identity::{BootId, ClusterId, Incarnation, NodeId, ParseIdError, ShardId, Zone};
pub use position::{Epoch, LogPoint, Lsn, SlotSequence};
pub use slot::{SLOT_COUNT, SlotId, SlotRange};
