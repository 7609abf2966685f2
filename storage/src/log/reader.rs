//! Reading a log offline, of a node that is stopped or running, without changing anything: what `holdfast wal` stands on.
//! The walk itself is [`super::recovery`]'s; here is only what a reader beside a running writer must put up with.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use holdfast_words::{Lsn, SlotId, SlotSequence};

use super::error::{OpenError, VisitError};
use super::format::{RecordKind, RecordView};
use super::recovery::{Found, RecordVisitor, find_segments, read_all};
use super::segment::lsn_of_name;
use crate::platform::files;

/// How often a running node may rotate or release segments between two looks before that counts as an error.
const LOOKS: usize = 20;

/// The segments of a directory, open for reading, their records not read yet.
///
/// # Errors
/// As [`find_segments`].
pub fn look(directory: &Path) -> Result<Found, OpenError> {
    let mut tries = 1;
    loop {
        match find_segments(directory, None, false) {
            // Released between the listing and the opening.
            Err(OpenError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries < LOOKS =>
            {
                // A directory that is not there at all will not come.
                files::list(directory)
                    .map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
            }
            // Sealed after the listing: by now the next one is there.
            Ok(found) if ends_sealed(&found) && tries < LOOKS && has_later(&found, directory)? => {}
            result => return result,
        }
        tries += 1;
    }
}

fn ends_sealed(found: &Found) -> bool {
    found.segments.last().is_some_and(|segment| segment.seal.is_some())
}

fn has_later(found: &Found, directory: &Path) -> Result<bool, OpenError> {
    let names =
        files::list(directory).map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
    let newest = found.segments.last().map(|segment| segment.header.first_lsn);
    Ok(names.iter().filter_map(|name| lsn_of_name(name)).max() > newest)
}

/// Hands all records at or above `from` to `visitor`; returns what was found, and where and why the log ends.
/// On a running node the log ends somewhere near where it ended when this began.
///
/// # Errors
/// Damage, with its place; what the visitor says.
pub fn read(directory: &Path, from: Lsn, visitor: &mut dyn RecordVisitor) -> Result<Found, OpenError> {
    read_all(look(directory)?, from, visitor)
}

/// A record whose number does not follow the one before it in its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "slot {slot}: sequence {found} at LSN {lsn} follows {before}: records between them are missing, or came twice"
)]
pub struct SequenceGap {
    /// The slot.
    pub slot: SlotId,
    /// Number of the slot's record before.
    pub before: SlotSequence,
    /// Number of this record.
    pub found: SlotSequence,
    /// Where this record stands.
    pub lsn: Lsn,
}

/// Checks that each slot's records are numbered without gap, from wherever the reading begins.
#[derive(Clone, Debug, Default)]
pub struct SequenceCheck {
    newest: BTreeMap<SlotId, SlotSequence>,
}

impl SequenceCheck {
    /// The newest number seen of each slot.
    pub fn newest(&self) -> &BTreeMap<SlotId, SlotSequence> {
        &self.newest
    }
}

impl RecordVisitor for SequenceCheck {
    fn record(&mut self, record: &RecordView<'_>) -> Result<(), VisitError> {
        if record.header.kind != RecordKind::Mutations {
            return Ok(());
        }
        let (slot, found, lsn) = (record.header.slot, record.header.sequence, record.lsn);
        match self.newest.insert(slot, found) {
            Some(before) if found != before.next() => Err(Box::new(SequenceGap { slot, before, found, lsn })),
            _ => Ok(()),
        }
    }
}
