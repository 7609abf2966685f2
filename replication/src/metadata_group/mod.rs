//! The metadata group on openraft: puts changes in one order and keeps them; what they mean decides
//! [`holdfast_cluster::Registry::apply`]. Modules in layer order, lowest first.

/// FORMAT: the group's log and vote, on a log of their own.
pub mod log_store;
/// Questions to other members.
pub mod network;
