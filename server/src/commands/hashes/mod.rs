//! Hash commands.

mod counter;
mod random;
mod read;
mod scan;
mod write;

pub use counter::{hincrby, hincrbyfloat};
pub use random::hrandfield;
pub use read::{hexists, hget, hgetall, hkeys, hlen, hmget, hstrlen, hvals};
pub use scan::hscan;
pub use write::{hdel, hmset, hset, hsetnx};

#[cfg(test)]
mod tests;
