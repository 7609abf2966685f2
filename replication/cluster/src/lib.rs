#![no_std]
//! holdfast's cluster core: gossip, failure detection, the metadata state machine, promotion, as plain state
//! machines. No socket, clock, file, task or random source: time and randomness are arguments.
extern crate alloc;
#[cfg(test)]
extern crate std;

/// What may be proposed to the metadata group, what comes of it, why it is refused.
pub mod change;
/// Which shard owns which slots.
pub mod slot_table;
/// A shard's epoch, master, replicas, in-sync set; compare-and-set and its refusals.
pub mod shard_register;
/// Membership, slots, registers, voters: `apply(Change) → Outcome`, the metadata state machine.
pub mod registry;
/// Who should vote: one per zone, odd, spread.
pub mod voters;
/// What nodes say to each other, as plain data.
pub mod message;
/// What CLUSTER NODES/SLOTS/SHARDS/INFO are made of, and where a slot's commands go.
pub mod view;

#[cfg(test)]
mod testing;

pub use change::{Change, Expected, NodeAddress, NodeRecord, Outcome, Refusal};
pub use message::{Body, Header, JoinCard, Message, MessageCounts, MessageKind, Positions, Rumour};
pub use registry::Registry;
pub use shard_register::{Pending, ShardRegister};
pub use slot_table::SlotTable;
pub use view::{Down, Figures, Health, Liveness, NodeView, Owner, Routes, ShardRoute, ShardView, View};
