//! What one holdfast node knows: slots, data types, the write-ahead log, checkpoints and recovery. Knows no socket and
//! no RESP. Modules in layer order, lowest first; a module names only modules above it in this list.

/// Makes the flush of sled durable, by taking the place of a symbol of the C library.
pub mod sync_file_range;
/// Numbers as Redis reads and prints them.
pub mod number;
/// FORMAT: the vocabulary of change, the body of a record.
pub mod mutation;
/// Checkpoints: slot images, their manifest, the pass that makes them, and loading them.
pub mod checkpoint;
