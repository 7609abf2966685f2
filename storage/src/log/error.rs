//! Errors of the log, by operation: where, what is left, what to do.

use std::io;
use std::path::PathBuf;

use holdfast_words::{Lsn, ShardId};

use super::format::{HeaderFault, RecordFault};

/// Whether the log can take records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LogHealth {
    /// It can.
    #[default]
    Good,
    /// The disk is full. What was taken before waits in memory and is written when there is space again; nothing new is
    /// taken until then.
    NoSpace,
    /// A write or fsync failed: nothing is acknowledged any more, for ever. A restart recovers what is on the disk.
    Poisoned(String),
}

impl std::fmt::Display for LogHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::NoSpace => f.write_str("No space left on device"),
            Self::Poisoned(reason) => write!(f, "{reason}"),
        }
    }
}

/// Why records were not taken or not written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full; what was taken is kept in memory and written when there is space.
    #[error("the log's disk is full: free space or move the directory; nothing acknowledged is lost")]
    NoSpace,
    /// The log has failed for good.
    #[error("the log has failed and takes nothing more: {0}; restart the node after the disk is mended")]
    Poisoned(String),
    /// Bytes from the master that do not continue this log.
    #[error("records for LSN {found} were offered to a log that ends at {end}")]
    Gap {
        /// Where the log ends.
        end: Lsn,
        /// Where the records begin.
        found: Lsn,
    },
    /// Bytes from the master that are not whole, sound records.
    #[error("the record offered for LSN {lsn} is damaged: {fault}")]
    Damaged {
        /// Where it would stand.
        lsn: Lsn,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// Bytes from the master that end inside a group, of which all or nothing counts.
    #[error("the records offered end at LSN {end}, inside a group")]
    OpenGroup {
        /// Where they end.
        end: Lsn,
    },
    /// Records of an epoch that is over.
    #[error("records of epoch {found} were offered to a log in epoch {known}")]
    OldEpoch {
        /// The log's epoch.
        known: holdfast_words::Epoch,
        /// The records'.
        found: holdfast_words::Epoch,
    },
}

impl AppendError {
    /// Whether waiting does not help.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NoSpace)
    }
}

/// Why a log could not be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Bytes that were known to be on disk are not what was written.
    #[error(
        "{}: damage at offset {offset} (LSN {lsn}, slot {slot}): {what}. This is below what was known to be durable ({durable}), \
         so it is no torn tail: the node does not start on it. `holdfast wal verify` shows the extent; restore the file, or \
         remove this node's directory and let it copy from another member of its shard",
        path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The LSN there.
        lsn: Lsn,
        /// The slot that the damaged bytes name; `?` when even that cannot be known.
        slot: String,
        /// What is wrong.
        what: String,
        /// The durable mark.
        durable: Lsn,
    },
    /// A segment's header is damaged or newer.
    #[error("{}: {source} (offset 0)", path.display())]
    Header {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        source: HeaderFault,
    },
    /// A sound record that this version does not know.
    #[error(
        "{}: offset {offset} (LSN {lsn}): {source}; it is sound, so a newer holdfast wrote it: start that version",
        path.display()
    )]
    NewerRecord {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record's LSN.
        lsn: Lsn,
        /// What is not known.
        source: RecordFault,
    },
    /// The newest segment is missing.
    #[error(
        "{}: the segment is sealed, which happens only once the next one, beginning at LSN {end}, is there; it is missing. \
         Restore it, or remove this node's directory and let it copy from another member of its shard",
        path.display()
    )]
    MissingNewest {
        /// The last segment that is there.
        path: PathBuf,
        /// Where the missing one begins.
        end: Lsn,
    },
    /// A segment is missing.
    #[error(
        "{}: the log goes from LSN {end} to {next}: a segment between them is missing. Restore it, or remove this node's \
         directory and let it copy from another member of its shard",
        path.display()
    )]
    Missing {
        /// The segment after the hole.
        path: PathBuf,
        /// Where the log before it ends.
        end: Lsn,
        /// Where it begins.
        next: Lsn,
    },
    /// The log belongs to another shard.
    #[error("{}: the segment belongs to shard {found}, this node to shard {owner}; was it copied from another node?", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// Its shard.
        found: ShardId,
        /// The node's shard.
        owner: ShardId,
    },
    /// The log does not reach back to where the checkpoint ends.
    #[error(
        "the log begins at LSN {first}, but the checkpoint covers only up to {wanted}: records between them are missing"
    )]
    TooShort {
        /// Where the log begins.
        first: Lsn,
        /// From where it is needed.
        wanted: Lsn,
    },
    /// The visitor could not use a record.
    #[error("{}: offset {offset}: {source}", path.display())]
    Visitor {
        /// The segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What it said.
        source: VisitError,
    },
}

/// What a visitor of records says when it cannot use one.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// Why part of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log begins later.
    #[error("the log begins at LSN {first}; {wanted} is gone")]
    TooOld {
        /// Where it begins.
        first: Lsn,
        /// What was asked for.
        wanted: Lsn,
    },
    /// The log ends before.
    #[error("the log ends at LSN {end}; {wanted} does not exist")]
    Beyond {
        /// Where it ends.
        end: Lsn,
        /// What was asked for.
        wanted: Lsn,
    },
    /// A file could not be read or holds no record there.
    #[error("{}: offset {offset}: {what}", path.display())]
    File {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}
