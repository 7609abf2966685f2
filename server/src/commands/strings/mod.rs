//! String commands.

mod append;
mod counter;
mod get;
mod lcs;
mod options;
mod set;
mod value;

pub use append::{append, setrange};
pub use counter::{decr, decrby, incr, incrby, incrbyfloat};
pub use get::{get, getdel, getex, getrange, mget, strlen};
pub use lcs::lcs;
pub use set::{getset, mset, msetnx, psetex, set, setex, setnx};

#[cfg(test)]
mod tests;
