//! What keeps a node from its part in the group.

use super::log_store::LogStoreError;

/// Why this node has no part in the group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Its log could not be opened.
    #[error(transparent)]
    Log(#[from] LogStoreError),
    /// Its log could not be written.
    #[error("the metadata group's log: {0}")]
    Write(#[from] std::io::Error),
    /// Raft did not start, or did not do what it was to do.
    #[error("the metadata group: {0}")]
    Raft(String),
}

impl GroupError {
    /// What Raft says.
    pub(super) fn raft(error: impl std::fmt::Display) -> Self {
        Self::Raft(error.to_string())
    }
}
