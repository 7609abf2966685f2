//! Listening: hello first. Gossip is read here, other connections are handed on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use holdfast_words::NodeId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::connect::{BusConnection, prepare};
use super::{Common, News};
use crate::platform::{self, TcpListener, TcpStream};
use crate::wire::frame::FrameKind;
use crate::wire::gossip;
use crate::wire::hello::{self, HelloError};

/// So many may be about to say hello at once; more are hung up on.
const HELLOS_MAX: usize = 256;
/// Pause after an accept that failed, as it does when there are no file descriptors left.
const ACCEPT_PAUSE_MS: u64 = 100;

/// The gossip connection of each peer: a newer one takes the place of an older one, which may be dead without knowing it.
type Newest = Arc<Mutex<BTreeMap<NodeId, AbortHandle>>>;

/// Takes connections until dropped, and drops them then.
pub(super) async fn listen(common: Arc<Common>, listener: TcpListener) {
    let hellos = Arc::new(Semaphore::new(HELLOS_MAX));
    let newest = Newest::default();
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "the bus can take no connections");
                }
                platform::sleep_ms(ACCEPT_PAUSE_MS).await;
                continue;
            }
        };
        failing = false;
        let Ok(turn) = hellos.clone().try_acquire_owned() else { continue };
        let (common, newest) = (common.clone(), newest.clone());
        let own_handle = Arc::new(Mutex::new(None));
        let handle = own_handle.clone();
        let task = platform::spawn_in(&mut connections, async move {
            let connection = greet(&common, stream, from).await;
            drop(turn);
            let Some(connection) = connection else { return };
            let kind = connection.kind();
            if kind != FrameKind::Gossip {
                let connection = Box::new(connection);
                // Only a driver that has ended does not take it.
                drop(common.news.send(News::Connected { kind, connection, from }).await);
                return;
            }
            if let Some(own) = handle.lock().take()
                && let Some(older) = newest.lock().insert(connection.peer, own)
            {
                older.abort();
            }
            read_gossip(&common, connection, from).await;
        });
        *own_handle.lock() = Some(task);
    }
}

async fn greet(common: &Common, stream: TcpStream, from: SocketAddr) -> Option<BusConnection> {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, %from, "a connection to the bus was lost");
        return None;
    }
    match hello::accept(stream.into_split(), &common.me.identity()).await {
        Ok(connection) => {
            common.refusals.lock().forget(from.ip(), connection.peer);
            Some(connection)
        }
        Err(error) => {
            // Ourselves is for the dialer to say; who only looked whether the port is open is no news either.
            let quiet = matches!(error, HelloError::Myself | HelloError::HungUp);
            if !quiet && common.refusals.lock().is_news(from.ip(), error.claimed()) {
                tracing::warn!(%error, from = %from.ip(), "a connection to the bus is refused; told once");
            } else {
                tracing::debug!(%error, %from, "a connection to the bus is refused");
            }
            None
        }
    }
}

async fn read_gossip(common: &Common, connection: BusConnection, from: SocketAddr) {
    // The writer stays: dropping it would hang up.
    let BusConnection { peer, mut reader, writer: _writer } = connection;
    let _listed = common.table.enter(false, peer, Arc::new(AtomicUsize::new(0)));
    loop {
        let body = match reader.next().await {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, %peer, "a gossip connection broke");
                return;
            }
        };
        let message = match gossip::decode(&body) {
            Ok(message) if message.header.sender == peer => Box::new(message),
            Ok(message) => {
                let claimed = message.header.sender;
                tracing::warn!(%peer, %claimed, "a node sends gossip in another's name; hanging up");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, %peer, "gossip that cannot be read; hanging up");
                return;
            }
        };
        if common.news.send(News::Received { message, from }).await.is_err() {
            return;
        }
    }
}
