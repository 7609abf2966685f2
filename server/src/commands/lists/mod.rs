//! Commands of lists, save the blocking ones.

mod end;
mod insert;
mod read;
mod remove;
mod transfer;

pub use insert::{linsert, lpush, lpushx, lset, rpush, rpushx};
pub use read::{lindex, llen, lpos, lrange};
pub use remove::{lmpop, lpop, lrem, ltrim, rpop};
pub use transfer::{lmove, rpoplpush};

#[cfg(test)]
mod tests;
