//! Commands of sets.

mod algebra;
mod members;
mod random;
mod scan;

pub use algebra::{sdiff, sdiffstore, sinter, sintercard, sinterstore, sunion, sunionstore};
pub use members::{sadd, scard, sismember, smembers, smismember, smove, srem};
pub use random::{spop, srandmember};
pub use scan::sscan;

#[cfg(test)]
mod tests;
