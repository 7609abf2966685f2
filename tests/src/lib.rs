//! The harness of the whole-system tests: real processes on free ports of 127.0.0.1, in directories of their own, stopped by
//! process id; and the judges of what clients saw. Modules in layer order, lowest first.

/// Free ports that two tests never share.
pub mod ports;
/// One node as a real process.
pub mod process;
/// A node's data port, spoken to in raw RESP.
pub mod client;
/// What clients did and saw, written down and judged: linearizable or not, acknowledged writes present or not.
pub mod history;
/// What the keys of a crash test should hold.
pub mod model;
/// A disk that can lose its power.
pub mod loop_device;
/// A world whose every state can be told from its numbers, to be recovered after a power cut.
pub mod durable_world;
/// What nodes say about their cluster.
pub mod cluster_view;
/// Three machines in network namespaces, and cuts between them.
pub mod network;
/// Six nodes as real processes, formed to a cluster.
pub mod cluster;
/// One cluster for all tests of a suite.
pub mod shared_cluster;
/// A client that follows the map of slots and shows every reply.
pub mod router;
/// Numbered keys of all types, written and checked through a cluster client.
pub mod mixed_keys;
/// Writers that know what was acknowledged to them.
pub mod load;
/// Client libraries of other languages.
pub mod foreign_clients;
/// A power cut as a node's log sees it.
pub mod lost_tail;
/// Machines of the test's own.
pub mod machines;
/// Whole nodes in a simulated world.
#[cfg(feature = "simulation")]
pub mod simulation;
/// Clients whose every operation is recorded.
pub mod recorded_clients;
/// What happens to a cluster, planned from a seed.
pub mod fault_plan;
