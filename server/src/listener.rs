//! The data port: accepts connections and deals them to the workers.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::mpsc::UnboundedSender;

use crate::node::{Accepted, Node};

/// Binds a port on every address of `bind`; `option` names the directive that the port comes from.
///
/// # Errors
/// When an address cannot be bound; one that begins with `-` (Redis: optional) is skipped with a log line when the machine
/// does not have it.
pub fn bind(addresses: &[String], port: u16, backlog: i32, option: &str) -> Result<Vec<TcpListener>, String> {
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
        match bind_one(host, port, backlog) {
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

fn bind_one(host: &str, port: u16, backlog: i32) -> io::Result<TcpListener> {
    let ip: std::net::IpAddr = host.parse().map_err(|_| io::Error::other("not an IP address"))?;
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections until the task is dropped; each goes to the next worker in turn.
pub async fn accept(
    node: Arc<Node>,
    listener: TcpListener,
    workers: Vec<UnboundedSender<Accepted>>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
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
        let stream = stream.into_std()?;
        match node.admit_client(address, stream.local_addr().unwrap_or(local)) {
            Ok(info) => {
                configure(&node, &stream);
                let id = info.id;
                if worker.send(Accepted { stream, info }).is_err() {
                    node.clients.disconnect(id);
                    return Ok(());
                }
            }
            Err(text) => turn_away(stream, text),
        }
    }
    Ok(())
}

fn configure(node: &Node, stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = node.config.snapshot().tcp_keepalive;
    let configured = socket.set_tcp_nodelay(true).and_then(|()| match keepalive {
        0 => Ok(()),
        seconds => {
            let idle = Duration::from_secs(seconds);
            let interval = Duration::from_secs((seconds / 3).max(1));
            socket.set_tcp_keepalive(
                &TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3),
            )
        }
    });
    if let Err(error) = configured {
        tracing::debug!(%error, "a client's socket options could not be set");
    }
}

fn turn_away(mut stream: TcpStream, text: &str) {
    // Best effort: the client may be gone, and nobody waits for it.
    if let Err(error) = stream.write_all(text.as_bytes()) {
        tracing::debug!(%error, "a client that was turned away did not hear why");
    }
}
