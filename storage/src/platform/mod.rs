//! The crate's only access to files, clocks, threads and dice. Nothing else in storage calls `std::fs`, `std::time` or
//! `std::thread`, so that a simulation can put its own here.

/// Wall clock and monotonic clock.
pub mod clock;
/// Files and directories.
pub mod files;
/// Dice and ids.
pub mod random;
/// Threads.
pub mod threads;
