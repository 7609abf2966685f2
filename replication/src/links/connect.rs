//! Dialing one node for one purpose: what gossip, the metadata group, the log stream and slot transfers have in common.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_words::NodeId;

use crate::platform::{self, OwnedReadHalf, OwnedWriteHalf, TcpStream};
use crate::wire::frame::FrameKind;
use crate::wire::frames::{FrameReader, FrameWriter};
use crate::wire::hello::{self, Connection, HelloError, Identity};

/// A connection of the bus after its hello.
pub type BusConnection = Connection<OwnedReadHalf, OwnedWriteHalf>;
/// What comes in on one.
pub type BusReader = FrameReader<OwnedReadHalf>;
/// What goes out on one.
pub type BusWriter = FrameWriter<OwnedWriteHalf>;

/// A connection that is not there after this time will not come.
const CONNECT_TIME_MS: u64 = 2000;
/// A peer that the network lost without a word is noticed after about twice this time, also where nothing is sent.
const KEEPALIVE_S: u64 = 15;

/// Why a node could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Somebody is there.
    #[error("{address}: {error}")]
    Hello {
        /// Where.
        address: SocketAddr,
        /// What was wrong.
        error: HelloError,
    },
}

/// Connects and says hello; `dialed` where it is known who should be there. Also the address this node has on it.
///
/// # Errors
/// When nobody is there, or nobody of this secret, or another node than the one dialed.
pub async fn connect(
    identity: &Identity,
    address: SocketAddr,
    kind: FrameKind,
    dialed: Option<NodeId>,
) -> Result<(BusConnection, Option<SocketAddr>), ConnectError> {
    let unreachable = |error| ConnectError::Connect { address, error };
    let stream = platform::within_ms(CONNECT_TIME_MS, TcpStream::connect(address))
        .await
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        .map_err(unreachable)?;
    prepare(&stream).map_err(unreachable)?;
    let local = stream.local_addr().ok();
    let connection = hello::dial(stream.into_split(), identity, kind, dialed)
        .await
        .map_err(|error| ConnectError::Hello { address, error })?;
    Ok((connection, local))
}

/// Nothing waits for company, and a lost peer is noticed.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    platform::prepare(stream, Duration::from_secs(KEEPALIVE_S))
}
