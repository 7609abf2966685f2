//! Clients' sockets as the operating system and tokio have them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Bound, TcpStream};

/// A socket on its way from one runtime to another.
pub type Released = std::net::TcpStream;

/// Binds a port.
///
/// # Errors
/// What the operating system said, or that `host` is no IP address.
pub fn bind(host: &str, port: u16, backlog: i32) -> io::Result<Bound> {
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

/// Replies go out at once, and a client that the network lost without a word is noticed; 0: it is not.
///
/// # Errors
/// What the operating system said.
pub fn configure(stream: &TcpStream, keepalive_s: u64) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    if keepalive_s == 0 {
        return Ok(());
    }
    let idle = Duration::from_secs(keepalive_s);
    let interval = Duration::from_secs((keepalive_s / 3).max(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3))
}

/// Takes a socket off its runtime.
///
/// # Errors
/// What the operating system said.
pub fn release(stream: TcpStream) -> io::Result<Released> {
    stream.into_std()
}

/// Puts a socket on the running runtime.
///
/// # Errors
/// What the operating system said.
pub fn adopt(stream: Released) -> io::Result<TcpStream> {
    TcpStream::from_std(stream)
}

/// What comes in and what goes out.
pub fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.into_split()
}
