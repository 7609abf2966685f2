//! The data port: accepts connections and deals them to the workers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::node::{Accepted, Node};
use crate::platform::{self, Bound};

/// Binds a port on every address of `bind`; `option` names the directive that the port comes from.
///
/// # Errors
/// When an address cannot be bound; one that begins with `-` (Redis: optional) is skipped with a log line when the machine
/// does not have it.
pub fn bind(addresses: &[String], port: u16, backlog: i32, option: &str) -> Result<Vec<Bound>, String> {
    let mut listeners = Vec::new();
    for address in addresses {
        let (optional, host) = match address.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, address.as_str()),
        };
        let host = match host {
            "*" => "0.0.0.0",
            "::*" => "::",
            host => host,
        };
        match platform::bind(host, port, backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if optional => {
                tracing::info!(host, port, %error, "an optional bind address is not available")
            }
            Err(error) => {
                return Err(format!("cannot listen on {host}:{port} (options bind, {option}): {error}"));
            }
        }
    }
    if listeners.is_empty() {
        return Err(format!("no address to listen on for port {port}: check the option bind"));
    }
    Ok(listeners)
}

/// Accepts connections until the task is dropped; each goes to the next worker in turn.
pub async fn accept(
    node: Arc<Node>,
    listener: Bound,
    workers: Vec<UnboundedSender<Accepted>>,
) -> io::Result<()> {
    let listener = platform::listen(listener)?;
    let local = listener.local_addr()?;
    for worker in workers.iter().cycle() {
        let (stream, address) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: those who are connected go on, newcomers wait.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        match node.admit_client(address, stream.local_addr().unwrap_or(local)) {
            Ok(info) => {
                let keepalive_s = node.config.snapshot().tcp_keepalive;
                if let Err(error) = platform::configure(&stream, keepalive_s) {
                    tracing::debug!(%error, "a client's socket options could not be set");
                }
                let stream = platform::release(stream)?;
                let id = info.id;
                if worker.send(Accepted { stream, info }).is_err() {
                    node.clients.disconnect(id);
                    return Ok(());
                }
            }
            // Best effort: the client may be gone, and nobody waits for it.
            Err(text) => {
                if let Err(error) = stream.try_write(text.as_bytes()) {
                    tracing::debug!(%error, "a client that was turned away did not hear why");
                }
            }
        }
    }
    Ok(())
}
