//! How holdfast's nodes agree and copy: the bus, the metadata group, the log stream. Knows no command. Modules in layer order,
//! lowest first.

/// Sockets, timers, clock.
pub mod platform;
/// FORMAT: what nodes say to each other.
pub mod wire;
/// The log stream between a master and its replicas.
pub mod stream;
/// What the server sees of the cluster.
pub mod handle;
/// The bus's connections.
pub mod links;
/// Changes of the registry in one order, kept by a majority of voters.
pub mod metadata_group;
/// A start that met damage asks the other members of the shard.
pub mod mending;
/// The node's part in its cluster: starts here.
pub mod bus;

/// Replication without a cluster.
pub mod standalone;

pub use bus::{BusConfig, StartError, start};
pub use handle::{FailoverMode, Handle, LinkState, MasterLink, OwnPart, ReplicaInfo, ReplicaSync, SyncState};
pub use standalone::{Standalone, StandaloneConfig, start_standalone};
