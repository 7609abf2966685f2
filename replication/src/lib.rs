//! How holdfast's nodes agree and copy: the bus, the metadata group, the log stream. Knows no command. Modules in layer order,
//! lowest first.

/// What the server sees of the cluster.
pub mod handle;

pub use handle::{FailoverMode, Handle, LinkState, MasterLink, ReplicaInfo};
