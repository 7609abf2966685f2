//! Clients' sockets of a simulated world.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;
pub use turmoil::net::tcp::OwnedReadHalf;

use super::{Bound, TcpStream};

/// How long a connection that took no more is left alone, ms.
const RETRY_MS: u64 = 1;

/// A socket on its way from the listener to a worker, of the same host.
pub type Released = TcpStream;

/// What goes out, written as tokio's real half is.
pub struct OwnedWriteHalf(RefCell<turmoil::net::tcp::OwnedWriteHalf>);

impl OwnedWriteHalf {
    /// Writes what the connection takes now.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing, or what became of the connection.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut half = self.0.borrow_mut();
        match Pin::new(&mut *half).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends when it is worth while to try again.
    ///
    /// # Errors
    /// Never.
    pub async fn writable(&self) -> io::Result<()> {
        super::sleep_ms(RETRY_MS).await;
        Ok(())
    }
}

/// A port to listen on.
///
/// # Errors
/// When `host` is no IP address.
pub fn bind(host: &str, port: u16, _backlog: i32) -> io::Result<Bound> {
    let ip: std::net::IpAddr = host.parse().map_err(|_| io::Error::other("not an IP address"))?;
    Ok(Bound(SocketAddr::new(ip, port)))
}

/// The simulated network has no such options.
///
/// # Errors
/// Never.
pub fn configure(_stream: &TcpStream, _keepalive_s: u64) -> io::Result<()> {
    Ok(())
}

/// The socket stays on its host.
///
/// # Errors
/// Never.
pub fn release(stream: TcpStream) -> io::Result<Released> {
    Ok(stream)
}

/// The socket stays on its host.
///
/// # Errors
/// Never.
pub fn adopt(stream: Released) -> io::Result<TcpStream> {
    Ok(stream)
}

/// What comes in and what goes out.
pub fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let (input, output) = stream.into_split();
    (input, OwnedWriteHalf(RefCell::new(output)))
}
