//! The metadata group on openraft: puts changes in one order and keeps them; what they mean decides
//! [`holdfast_cluster::Registry::apply`]. Modules in layer order, lowest first.

/// FORMAT: the group's log and vote, on a log of their own.
pub mod log_store;
/// Offline: what a log knows, and a new group out of it.
pub mod offline;
/// Which members have which entries.
pub mod progress;
/// Questions to other members.
pub mod network;
/// What keeps a node from its part in the group.
pub mod error;
/// Raft's times and sizes.
pub mod settings;
/// What the group says, to everybody on this node.
pub mod published;
/// The registry as Raft's state machine.
pub mod state_machine;
/// Raft's membership follows the registry.
pub mod membership;
/// Who may stand for election.
pub mod standing;
/// Raft from its start to its stop.
pub mod run;
/// Changes on their way to the leader.
pub mod proposals;
/// This node's part in the group.
pub mod group;
/// Answers to other members.
pub mod answers;

pub use error::GroupError;
pub use group::MetadataGroup;
pub use published::Decided;

#[cfg(test)]
mod group_tests;
