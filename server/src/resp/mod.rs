//! The Redis serialization protocol: requests parsed in place, replies encoded for RESP2 or RESP3.

/// Splits a line into words by Redis's quoting rules.
pub mod quoting;
/// Some whole requests at once.
mod batch;
/// Finds requests in a connection's bytes.
pub mod request;
/// Encodes replies.
pub mod reply;

pub use batch::Batch;
pub use reply::{Deferred, Protocol, ReplyWriter};
pub use request::{Arguments, Limits, ProtocolError, Request, RequestParser};
