//! A whole node as tasks of a simulated host: what `start.rs` does with threads, signals and systemd, without them.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use holdfast_storage::store::Store;
use tokio::sync::mpsc;

use crate::config::{Invocation, SharedConfig};
use crate::node::Node;
use crate::pause::Pause;
use crate::{housekeeping, listener, platform, start, worker};

/// Runs a node in cluster mode on the running host until it is asked to stop; `arguments` as on the command line. To be called within a [`tokio::task::LocalSet`]: dropping that is the node's sudden death, and releases its ports;
/// its files are the simulated disk's to close. `opened` is shown the node's data before anybody else.
///
/// # Errors
/// What `holdfast-server` would say when it does not start, or when it could not stop well.
pub async fn run_node(arguments: &[String], opened: impl FnOnce(&Arc<Store>)) -> Result<(), String> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let options = match Invocation::parse(arguments).map_err(|error| error.to_string())? {
        Invocation::Run { source: None, options } => options,
        other => return Err(format!("a simulated node takes options only, not {other:?}")),
    };
    let config = SharedConfig::load(None, &options).map_err(|error| error.to_string())?;
    let snapshot = config.snapshot().clone();
    let (store, restart) = Store::open(Path::new(&snapshot.dir), start::store_config(&snapshot))
        .map_err(|error| error.to_string())?;
    opened(&store);
    tracing::info!(
        node = %store.node_id(),
        image_keys = restart.image_keys,
        keys = store.slots().key_count(),
        records = restart.records,
        torn = ?restart.recovery.torn,
        end_lsn = restart.recovery.end.0,
        durable_lsn = restart.recovery.durable_lsn.0,
        "data loaded"
    );
    let listeners = listener::bind(&snapshot.bind, snapshot.port, 0, "port")?;
    let pause = Arc::new(Pause::default());
    let bus = start::bus_config(&snapshot)?;
    let cluster = holdfast_replication::bus::start_task(bus, store.clone(), start::hold_writes(&pause))
        .await
        .map_err(|error| error.to_string())?;
    let (checkpoint_wanted, checkpoints) = mpsc::unbounded_channel();
    let node = Node::new(store, config, Some(cluster), None, pause, 1, checkpoint_wanted);
    let (sender, accepted) = mpsc::unbounded_channel();
    tokio::task::spawn_local(worker::run(node.clone(), accepted));
    tokio::task::spawn_local(housekeeping::expire_keys(node.clone()));
    for listener in listeners {
        let accept = listener::accept(node.clone(), listener, vec![sender.clone()]);
        tokio::task::spawn_local(async move {
            if let Err(error) = accept.await {
                tracing::error!(%error, "no more connections are accepted");
            }
        });
    }
    tokio::task::spawn_local(housekeeping::once_a_second(node.clone()));
    tokio::task::spawn_local(housekeeping::take_checkpoints(node.clone(), checkpoints));
    let request = node.shutdown_requested().await;
    let stopped = start::stop(&node, request).await;
    if let Some(peers) = node.peers() {
        peers.stop().await;
    }
    // Whoever the node was talking to is not told anything more.
    platform::sleep_ms(1).await;
    stopped
}
