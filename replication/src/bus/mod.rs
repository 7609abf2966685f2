//! The bus of one node: its thread, its port, and the driver that feeds the cluster core and does what it says.

/// Feeds the core, does what it says.
mod driver;

use std::io;
use std::sync::Arc;

use holdfast_cluster::change::NodeAddress;
use holdfast_cluster::interface::Settings;
use holdfast_storage::store::Store;
use holdfast_words::Zone;

use crate::handle::Handle;
use crate::platform;
pub use crate::stream::role::HoldWrites;
use driver::Driver;

/// How a node takes part in its cluster.
#[derive(Debug)]
pub struct BusConfig {
    /// The bus's port on every address it listens on, not blocking.
    pub listeners: Vec<platform::Bound>,
    /// Where others reach it; an empty address is found out from the connections of the bus.
    pub address: NodeAddress,
    /// `cluster-zone`; empty: its address.
    pub zone: Zone,
    /// `cluster-secret`
    pub secret: String,
    /// `cluster-replica-no-failover`
    pub no_failover: bool,
    /// What the core goes by.
    pub settings: Settings,
    /// `replica-lag-max`, ms: a replica that owes an acknowledgement for longer leaves the in-sync set.
    pub replica_lag_max_ms: u64,
}

/// Why the bus does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata group.
    #[error(transparent)]
    Group(#[from] crate::metadata_group::GroupError),
    /// The group's log is gone.
    #[error(
        "{path} is empty, but this node has been a member of a cluster; refusing to begin a cluster of its own with its data. Bring \
         the directory back; or move the node's whole directory away, start the node empty and add it as a new replica (CLUSTER FORGET \
         its old id); or, when a majority of the voters is gone for good, see `holdfast cluster recover`",
        path = path.display()
    )]
    MetadataLost {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The data directory's header.
    #[error(transparent)]
    Directory(#[from] holdfast_storage::data_dir::DataDirError),
    /// Its thread.
    #[error("cannot start the bus's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Starts the bus on a thread of its own; returns when the node knows its cluster (or has founded one) and listens. Until the
/// cluster has said that this node is a master, no command may change its slots.
///
/// # Errors
/// When the metadata group's log cannot be used.
pub fn start(config: BusConfig, store: Arc<Store>, hold_writes: HoldWrites) -> Result<Handle, StartError> {
    let runtime = platform::runtime()?;
    let (started, start) = std::sync::mpsc::sync_channel(1);
    platform::threads::spawn("bus", move || {
        runtime.block_on(async move {
            match Driver::open(config, store, hold_writes).await {
                Ok((driver, handle)) => {
                    if started.send(Ok(handle)).is_ok() {
                        driver.run().await;
                    }
                }
                Err(error) => {
                    started.send(Err(error)).ok();
                }
            }
        });
    })?;
    start.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once").into()))
}

/// Starts the bus as a task of the running node.
///
/// # Errors
/// As [`start`].
#[cfg(feature = "simulation")]
pub async fn start_task(
    config: BusConfig,
    store: Arc<Store>,
    hold_writes: HoldWrites,
) -> Result<Handle, StartError> {
    let (driver, handle) = Driver::open(config, store, hold_writes).await?;
    platform::spawn(driver.run());
    Ok(handle)
}
