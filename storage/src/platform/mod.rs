//! The crate's only access to files, clocks, threads and dice. Nothing else in storage calls `std::fs`, `std::time` or
//! `std::thread`, so that a simulation can put its own here.

/// Switches that break rules, for a simulation to notice.
pub mod sabotage;
/// The world that a simulation puts in the place of this one.
#[cfg(feature = "simulation")]
pub mod simulation;
/// What a simulated node does, told to the simulation.
pub mod witness;
/// Wall clock and monotonic clock.
pub mod clock;
/// Files and directories.
pub mod files;
/// What the machine says of itself.
pub mod machine;
/// Dice and ids.
pub mod random;
/// Threads.
pub mod threads;
