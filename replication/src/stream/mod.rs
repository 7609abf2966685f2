//! The log stream between a master and its replicas. Modules in layer order, lowest first.

/// Where two logs of a shard part, and what follows from it.
pub mod rejoin;
/// This node as a member of its shard: positions and fence.
pub mod member;
/// A master's replicas: how far each is, what they still need.
pub mod replicas;
/// Bytes that damage took from a log, asked of another member.
pub mod same_bytes;
/// From the master: log and full copies to one replica.
pub mod sender;
/// At the replica: a full copy that comes in.
pub mod copy_in;
/// At the replica: connects to the master and takes what it sends.
pub mod follower;
/// Master or replica, in the order in which the cluster core says so.
pub mod role;

#[cfg(test)]
mod tests;
