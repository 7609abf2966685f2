//! The commands, by what they are about; each is a function from its context to a reply.

/// What a command is given.
pub mod context;
/// Positions counted from either end.
pub mod positions;
/// Choosing members at random.
pub mod sampling;
/// What the scans share.
pub mod scan;
/// The arguments of LMPOP and ZMPOP.
pub mod multi_pop;
/// The replies to HELP.
pub mod help;
/// Commands on keys of any type, and on all keys.
pub mod keys;
/// Strings.
pub mod strings;
/// Hashes.
pub mod hashes;
/// Lists.
pub mod lists;
/// Sets.
pub mod sets;
/// Sorted sets.
pub mod sorted_sets;
/// The connection itself.
pub mod connection;
/// CLIENT.
pub mod client;
/// CONFIG.
pub mod config;
/// What INFO replication says of the in-sync set.
pub mod sync_fields;
/// INFO.
pub mod info;
/// The node: saving, stopping, waiting, looking inside.
pub mod admin;
/// CLUSTER.
pub mod cluster;
/// COMMAND.
pub mod describe;
#[cfg(test)]
mod testing;
