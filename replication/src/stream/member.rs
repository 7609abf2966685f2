//! This node as a member of its shard: its log's positions as others are told, and the fence: since when nothing of an older
//! epoch is taken any more. Everybody who changes the log on another's behalf goes through here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_cluster::message::Positions;
use holdfast_storage::log::LogHealth;
use holdfast_storage::store::Store;
use holdfast_words::{Epoch, LogPoint, Lsn, ShardId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::platform::sabotage::{self, Switch};

/// A frame came from an epoch that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a frame of epoch {found}; nothing older than epoch {fence} is taken any more")]
pub struct Fenced {
    /// The frame's epoch.
    pub found: Epoch,
    /// The oldest that is taken.
    pub fence: Epoch,
}

/// In [`Member::stream_down_since_ms`]: the stream is up, or there is none because this node is the master.
const STREAM_IS_UP: u64 = 0;

/// This node as a member of its shard.
pub struct Member {
    /// Its data.
    pub store: Arc<Store>,
    /// Held while a frame is taken, so that raising the fence waits for it. Epochs are a shard's: another shard has its own.
    fence: Mutex<(ShardId, Epoch)>,
    stream_down_since_ms: AtomicU64,
    /// The log is sure to be no shorter than it was when this node last acknowledged something.
    trusted: AtomicBool,
    /// Positions moved in a way that the cluster core must hear of at once.
    pub changed: Notify,
}

impl Member {
    /// As of a start: fenced by what the log has seen.
    pub fn new(store: Arc<Store>, now_ms: u64) -> Arc<Self> {
        let fence = Mutex::new((store.shard_id(), store.log().epoch()));
        let directory = store.directory();
        // In the boot in which it was last trusted the kernel still has what was written; a fresh directory has lost nothing.
        let trusted = directory.previous_identity().is_none() || directory.is_same_boot();
        Arc::new(Self {
            store,
            fence,
            stream_down_since_ms: AtomicU64::new(now_ms),
            trusted: AtomicBool::new(trusted),
            changed: Notify::new(),
        })
    }

    /// Takes nothing of an epoch of `shard` below `epoch`, nor of another shard, any more. When this returns, nothing of one is being taken either. May wait for
    /// the disk.
    pub fn raise_fence(&self, shard: ShardId, epoch: Epoch) {
        let mut fence = self.fence.lock();
        *fence = if fence.0 == shard { (shard, epoch.max(fence.1)) } else { (shard, epoch) };
    }

    /// The oldest epoch that is taken.
    pub fn fence(&self) -> Epoch {
        self.fence.lock().1
    }

    /// Does something that a master of `epoch` asks for, unless its time is over. May wait for the disk.
    ///
    /// # Errors
    /// When its time is over; nothing was done then.
    pub fn obey<R>(&self, epoch: Epoch, work: impl FnOnce(&Store) -> R) -> Result<R, Fenced> {
        let fence = self.fence.lock();
        let is_over = epoch < fence.1 && !sabotage::is_on(Switch::FenceIgnored);
        if is_over { Err(Fenced { found: epoch, fence: fence.1 }) } else { Ok(work(&self.store)) }
    }

    /// Whether the log is sure to have everything that this node ever acknowledged (design, 7.6).
    pub fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// This node leads, or has caught up with who does: its log is the shard's.
    pub fn set_trusted(&self) {
        if let Err(error) = self.store.directory().confirm_log() {
            tracing::warn!(%error, "the log is complete, and a restart will ask for it again, since that cannot be noted");
        }
        self.trusted.store(true, Ordering::Release);
    }

    /// The log stream from the master is up (or this node is the master), or has been down since `now_ms`.
    pub fn set_stream(&self, up: bool, now_ms: u64) {
        if up {
            self.stream_down_since_ms.store(STREAM_IS_UP, Ordering::Relaxed);
        } else {
            let was_up = self.stream_down_since_ms.load(Ordering::Relaxed) == STREAM_IS_UP;
            if was_up {
                self.stream_down_since_ms.store(now_ms.max(1), Ordering::Relaxed);
            }
        }
    }

    /// Where the log stands, for the cluster core.
    pub fn positions(&self, now_ms: u64) -> Positions {
        // The fence first: what is read after it was raised is from after it was raised.
        let fence = self.fence();
        let log = self.store.log();
        let down_since_ms = self.stream_down_since_ms.load(Ordering::Relaxed);
        Positions {
            shard: self.store.shard_id(),
            fence,
            written: self.written(),
            durable_lsn: log.positions().durable_lsn(),
            applied_lsn: log.positions().written_lsn(),
            whole: self.store.is_whole(),
            trusted: self.is_trusted(),
            stream_down_ms: if down_since_ms == STREAM_IS_UP {
                0
            } else {
                now_ms.saturating_sub(down_since_ms)
            },
            can_write: log.health() == LogHealth::Good,
        }
    }

    /// The log's end as handed to the kernel.
    pub fn written(&self) -> LogPoint {
        let log = self.store.log();
        LogPoint { epoch: log.epoch(), lsn: log.positions().written_lsn() }
    }

    /// Writes everything that was appended; returns the log's end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn settle(&self) -> Result<LogPoint, holdfast_storage::log::AppendError> {
        let log = self.store.log();
        let end: Lsn = log.end().lsn;
        log.write_up_to(end)?;
        Ok(self.written())
    }
}
