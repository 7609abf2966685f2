//! Sockets and tasks as the operating system and tokio have them.

use std::io;
use std::time::Duration;

pub use openraft::TokioRuntime as RaftRuntime;
use socket2::{SockRef, TcpKeepalive};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub use tokio::net::{TcpListener, TcpStream};

/// A port that is bound, not yet on a runtime.
pub type Bound = std::net::TcpListener;

/// Listens on the running runtime.
///
/// # Errors
/// When the runtime cannot take it.
pub fn listen(bound: Bound) -> io::Result<TcpListener> {
    TcpListener::from_std(bound)
}

/// Nothing waits for company, and a peer that the network lost without a word is noticed after about twice `every`.
///
/// # Errors
/// What the operating system said.
pub fn prepare(stream: &TcpStream, every: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(every).with_interval(every / 3).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Starts a task.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Starts a task that ends with the others of `set`.
pub fn spawn_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    task: impl Future<Output = T> + Send + 'static,
) -> AbortHandle {
    set.spawn(task)
}

/// Does work that may take long, or wait for a disk, where nobody else has to wait for it.
pub fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// Waits for something that tasks of the bus do, in work that runs [`off_thread`].
///
/// # Errors
/// Where there is no runtime to wait on.
pub fn wait_for<T>(what: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    Ok(runtime.block_on(what))
}
