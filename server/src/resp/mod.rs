//! The Redis serialization protocol: requests parsed in place, replies encoded for RESP2 or RESP3.

/// Encodes replies.
pub mod reply;

pub use reply::{Deferred, Protocol, ReplyWriter};
