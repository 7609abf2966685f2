//! This crate's only access to files, clocks, threads and randomness, so that a simulation can take their place. Nothing else
//! in storage names `std::fs`, `std::thread`, `Instant` or `SystemTime`. (sled does its own file access: see
//! `node_state.rs`.)

/// Files and directories.
pub mod files;
/// Time.
pub mod clock;
/// Chance.
pub mod random;
/// Threads.
pub mod threads;
