//! Sockets and tasks of a simulated world. Every task is a local one: all nodes share a thread, and a node that is paused is a
//! set of local tasks that is not polled.

use std::fmt::{self, Debug};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use rand::RngCore;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

pub use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub use turmoil::net::{TcpListener, TcpStream};

/// A port to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound(pub SocketAddr);

impl Bound {
    /// Where.
    ///
    /// # Errors
    /// Never; a real one may fail.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

/// Listens on the running host.
///
/// # Errors
/// When somebody else does.
pub fn listen(bound: Bound) -> io::Result<TcpListener> {
    // It waits for nothing; turmoil only has tokio's signature.
    match pin!(TcpListener::bind(bound.0)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(bound) => bound,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Nothing waits for company; the simulated network has no keepalive.
///
/// # Errors
/// Never.
pub fn prepare(stream: &TcpStream, _every: Duration) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// Starts a task of the running node.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(task)
}

/// Starts a task of the running node that ends with the others of `set`.
pub fn spawn_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    task: impl Future<Output = T> + Send + 'static,
) -> AbortHandle {
    set.spawn_local(task)
}

/// Does the work a little later, between other tasks of the node.
pub fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(async move {
        tokio::task::yield_now().await;
        work()
    })
}

/// Waits for nothing: all nodes share a thread.
///
/// # Errors
/// Always.
pub fn wait_for<T>(_what: impl Future<Output = T>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated node has no thread to wait on"))
}

/// openraft's runtime: tasks of the running node, dice of the simulation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RaftRuntime;

/// The simulation's dice, as openraft wants them.
pub struct Dice;

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        super::random::fill(bytes).expect("a simulated world has dice");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}

impl AsyncRuntime for RaftRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Dice;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::task::spawn_local(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Dice
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
