//! The log stream between a master and its replicas. Modules in layer order, lowest first.

/// Where two logs of a shard part, and what follows from it.
pub mod rejoin;
