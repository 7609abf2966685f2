//! A start that met damage below what was known to be durable: what another member of the shard can help to put right before the data
//! are opened. The log's bytes are put back where they were, verified; images are another matter ([`Store::open_damaged`]).
//!
//! [`Store::open_damaged`]: crate::store::Store::open_damaged

use std::path::Path;

use crate::data_dir::{DataDir, DataDirError};
use crate::log::mend::MendError;
use crate::log::mend_closed::{Mended, SameRecords, mend_closed};

/// Why a log is as damaged as before, or only part of it was mended.
#[derive(Debug, thiserror::Error)]
pub enum MendLogError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Mend(#[from] MendError),
}

/// Mends the log of a data directory that nobody has open. A log whose newest durable mark is lost counts as one that may lack its end.
///
/// # Errors
/// When bytes cannot be had, are not what stood there, or the disk fails: each segment is mended whole, or as before.
pub fn mend_log(root: &Path, from: &mut dyn SameRecords) -> Result<Mended, MendLogError> {
    let directory = DataDir::open_offline(root)?;
    let mended = mend_closed(&directory.wal(), directory.identity().shard, from)?;
    if mended.mark_is_lost {
        directory.doubt_log()?;
    }
    Ok(mended)
}
