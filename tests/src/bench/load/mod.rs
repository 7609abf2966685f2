//! Our own load generator: one thread, one epoll. Closed loop (a client sends when it has its answer) and open loop (requests
//! are due at a fixed rate, whether the server is ready or not; latency counts from when a request was due, so that a stall of
//! the server shows in all that fell into it, not in one request only).
//!
//! An open class is a pool of connections: a request that is due takes one that waits for nothing, or waits for the first to be
//! free. Modules in layer order, lowest first.

/// Requests as bytes, numbers filled in.
pub mod template;
/// Where a reply ends.
mod replies;
/// One connection: what is to be sent, what waits for an answer.
mod connection;
/// The loop.
mod run;
/// What came out: latencies, counts, the course of time.
mod outcome;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use outcome::Outcome;
pub use run::run;
pub use template::Template;

/// What a request counts as, and how many replies answer it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Index into [`Outcome::kinds`].
    pub kind: usize,
    /// Replies that answer it: the last one ends it.
    pub replies: u32,
}

impl Request {
    /// A request of this kind that one reply answers.
    pub fn of(kind: usize) -> Self {
        Self { kind, replies: 1 }
    }
}

/// When the connections of a class send.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as all that was sent is answered.
    Closed,
    /// So many requests a second, evenly, over all connections of the class.
    Open(f64),
}

/// Appends a request and says what it is.
pub type Next<'a> = Box<dyn FnMut(&mut Vec<u8>) -> Request + 'a>;

/// Connections that do the same.
pub struct Class<'a> {
    /// How many.
    pub clients: usize,
    /// Requests that a closed-loop connection sends at once.
    pub pipeline: usize,
    /// When they send.
    pub pace: Pace,
    /// Appends the next request.
    pub next: Next<'a>,
}

/// When to stop sending.
#[derive(Clone, Copy)]
pub enum Until<'a> {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests.
    Requests(u64),
    /// When somebody says so.
    Told(&'a AtomicBool),
}
