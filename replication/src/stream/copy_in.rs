//! At the replica: a full copy that comes in. Images go into the slots and, as the bytes they are, into image files; the log
//! begins where the copy began. Slots are as of different moments: the data are whole only when the log has reached the
//! newest of them.

use holdfast_storage::checkpoint::receive::ImageReceiver;
use holdfast_storage::log::{AppendError, EpochHistory};
use holdfast_storage::store::{CopyError, Store, StoreError};
use holdfast_words::{Epoch, Lsn, SLOT_COUNT, ShardId};

use crate::wire::log_stream::CopySoFar;

/// Images that are not durable yet, bytes; more are made durable before the next one is taken.
const PENDING_BYTES_MAX: u64 = 256 << 20;

/// Why a copy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CopyInError {
    /// An image, or the disk it goes to.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// A full copy that is under way.
pub struct CopyIn {
    epoch: Epoch,
    start_lsn: Lsn,
    next_slot: u16,
    receiver: ImageReceiver,
    newest: Lsn,
    images_are_here: bool,
}

impl CopyIn {
    /// Throws away what there is and begins with nothing but the master's epochs. May wait for the disk.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub fn begin(
        store: &Store,
        shard: ShardId,
        epoch: Epoch,
        start_lsn: Lsn,
        history: EpochHistory,
    ) -> Result<Self, CopyInError> {
        store.become_empty(store.node_id(), shard, start_lsn, history)?;
        let receiver = store.image_receiver();
        Ok(Self { epoch, start_lsn, next_slot: 0, receiver, newest: start_lsn, images_are_here: false })
    }

    /// What the master is told when the copy broke off; none once all images are here: the log follows as it always does.
    pub fn so_far(&self) -> Option<CopySoFar> {
        (!self.images_are_here).then_some(CopySoFar {
            epoch: self.epoch.0,
            start_lsn: self.start_lsn.0,
            next_slot: self.next_slot,
        })
    }

    /// Whether it is the copy that a master of this epoch began.
    pub fn is_of(&self, epoch: Epoch) -> bool {
        self.epoch == epoch
    }

    /// Whether the master goes on with this one: where it was broken off.
    pub fn is_continued_by(&self, start_lsn: Lsn, resume_slot: u16) -> bool {
        !self.images_are_here
            && self.start_lsn == start_lsn
            && self.next_slot == resume_slot
            && resume_slot > 0
    }

    /// The connection broke: what came of the image that was coming in is void.
    pub fn interrupted(&mut self) {
        self.receiver.abandon_image();
    }

    /// Takes a chunk. May wait for the disk.
    ///
    /// # Errors
    /// When it is damaged or out of place, or cannot be stored.
    pub fn take(&mut self, store: &Store, chunk: &[u8]) -> Result<(), CopyInError> {
        let received = store.receive_image(&mut self.receiver, chunk)?;
        if received.last {
            self.newest = self.newest.max(received.lsn);
            self.next_slot = received.slot.number() + 1;
            if self.receiver.pending_bytes() > PENDING_BYTES_MAX {
                self.receiver.make_durable().map_err(CopyError::from)?;
            }
        }
        Ok(())
    }

    /// All images have come. May wait for the disk.
    ///
    /// # Errors
    /// When they are not durable.
    pub fn end_images(&mut self, store: &Store) -> Result<(), CopyInError> {
        store.finish_images(&mut self.receiver)?;
        self.next_slot = SLOT_COUNT;
        self.images_are_here = true;
        Ok(())
    }

    /// Whether the log, now at `written`, has reached the newest image.
    pub fn is_complete_at(&self, written: Lsn) -> bool {
        self.images_are_here && written >= self.newest
    }

    /// The data are whole: durably said, after the log is durable as far as the images go. May wait for the disk.
    ///
    /// # Errors
    /// When that cannot be made durable.
    pub fn complete(self, store: &Store) -> Result<(), CopyInError> {
        store.log().sync()?;
        store.set_whole()?;
        Ok(())
    }
}
