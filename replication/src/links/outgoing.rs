//! Gossip to one destination. Messages that cannot be sent soon are dropped: the next ones say more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_words::NodeId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::connect::{BusConnection, ConnectError, connect};
use super::{Common, News};
use crate::platform;
use crate::wire::frame::FrameKind;

/// So many messages wait at most; more are dropped.
const QUEUE_LENGTH: usize = 64;
/// First pause after a failed dial; doubles up to the longest. A node that is back hears answers only when the others have
/// dialed it again, and until it has heard a majority it serves nothing.
const BACKOFF_MS: u64 = 50;
const BACKOFF_MAX_MS: u64 = 200;
/// A connection to an address, where no member is known, ends after so long without a message.
const IDLE_MS: u64 = 10_000;

/// The way to one destination. Dropping it hangs up.
pub struct Outgoing {
    address: SocketAddr,
    queue: mpsc::Sender<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Outgoing {
    /// Dials and keeps dialing; without a name, until nobody has sent anything for a while.
    pub(super) fn dial(common: Arc<Common>, address: SocketAddr, node: Option<NodeId>) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_LENGTH);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let way = Way { common, address, node, queued, waiting_bytes: waiting_bytes.clone(), up: None };
        let task = platform::spawn(way.run()).abort_handle();
        Self { address, queue, waiting_bytes, task }
    }

    /// Where it goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It still dials or is connected.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Sends as soon as there is a connection; dropped when too many wait already.
    pub fn send(&self, bytes: Vec<u8>) {
        let length = bytes.len();
        if self.queue.try_send(bytes).is_ok() {
            self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task has.
struct Way {
    common: Arc<Common>,
    address: SocketAddr,
    node: Option<NodeId>,
    queued: mpsc::Receiver<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    up: Option<Up>,
}

/// Tells the driver when the connection goes down, however it ends.
struct Up {
    news: mpsc::Sender<News>,
    node: NodeId,
}

impl Drop for Up {
    fn drop(&mut self) {
        let down = News::Link { node: self.node, connected: false, local: None };
        if let Err(mpsc::error::TrySendError::Full(down)) = self.news.try_send(down) {
            // It must not get lost, or the driver would think the connection up for ever.
            let news = self.news.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { news.send(down).await });
            }
        }
    }
}

impl Way {
    async fn run(mut self) {
        let mut pause_ms = BACKOFF_MS;
        loop {
            match connect(&self.common.me.identity(), self.address, FrameKind::Gossip, self.node).await {
                Ok((connection, local)) => {
                    pause_ms = BACKOFF_MS;
                    self.common.refusals.lock().forget(self.address.ip(), connection.peer);
                    if self.node.is_some() {
                        let node = connection.peer;
                        let up = News::Link { node, connected: true, local };
                        if self.common.news.send(up).await.is_err() {
                            return;
                        }
                        self.up = Some(Up { news: self.common.news.clone(), node });
                    }
                    let over = self.talk(connection).await;
                    self.up = None;
                    if over {
                        return;
                    }
                }
                Err(error) => self.note(&error),
            }
            if self.node.is_none() {
                // Who wants something of an unknown address says it again.
                return;
            }
            platform::sleep_ms(pause_ms + fastrand::u64(..pause_ms)).await;
            pause_ms = (pause_ms * 2).min(BACKOFF_MAX_MS);
            // What waited while nobody was there is old.
            while let Ok(bytes) = self.queued.try_recv() {
                self.waiting_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
        }
    }

    /// Sends what is queued until the connection breaks; whether nobody wants to send anything any more.
    async fn talk(&mut self, connection: BusConnection) -> bool {
        let BusConnection { peer, mut reader, mut writer } = connection;
        let _listed = self.common.table.enter(true, peer, self.waiting_bytes.clone());
        loop {
            let idle_ms = if self.node.is_some() { u64::from(u32::MAX) } else { IDLE_MS };
            let bytes = tokio::select! {
                bytes = platform::within_ms(idle_ms, self.queued.recv()) => match bytes {
                    Some(Some(bytes)) => bytes,
                    Some(None) => return true,
                    None if self.node.is_none() => return true,
                    None => continue,
                },
                // Nobody answers here; it only tells that the other side hung up.
                ended = reader.next() => {
                    tracing::debug!(address = %self.address, ?ended, "a gossip connection ended");
                    return false;
                }
            };
            self.waiting_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            if let Err(error) = writer.send(&bytes).await {
                tracing::debug!(address = %self.address, %error, "a gossip connection broke");
                return false;
            }
        }
    }

    /// A node that is not there is everyday business, gossip deals with it; one that does not want us is for the operator, once.
    fn note(&self, error: &ConnectError) {
        let news = match error {
            ConnectError::Connect { .. } => false,
            ConnectError::Hello { .. } => self.common.refusals.lock().is_news(self.address.ip(), self.node),
        };
        if news {
            tracing::warn!(%error, "no connection on the bus");
        } else {
            tracing::debug!(%error, "no connection on the bus");
        }
    }
}
