//! What nodes say to each other.

/// FORMAT: messages of the log stream.
pub mod log_stream;
