//! What one holdfast node knows: slots, data types, the write-ahead log, checkpoints and recovery. Knows no socket and
//! no RESP. Modules in layer order, lowest first; a module names only modules above it in this list.

/// Files, clocks, threads and randomness: the only access to them.
pub mod platform;
/// Makes the flush of sled durable, by taking the place of a symbol of the C library.
pub mod sync_file_range;
/// Numbers as Redis reads and prints them.
pub mod number;
/// The extended precision that INCRBYFLOAT counts in.
pub mod long_double;
/// FORMAT: the vocabulary of change, the body of a record.
pub mod mutation;
/// The data types: what a key can hold.
pub mod types;
/// A list that is nearly always of one.
mod few;
/// Memory of huge collections is given back beside the commands.
mod discard;
/// The keys of one slot.
pub mod keyspace;
/// apply(keyspace, mutation): the only place where state changes.
pub mod apply;
/// Which keys are due.
pub mod expiry;
/// The write-ahead log.
pub mod log;
/// WATCH: who wants to know that a key changed.
pub mod watch;
/// A slot as of one moment, copied step by step while it changes.
mod slot_copy;
/// The slots, their locks, and changes under them.
pub mod slots;
/// Fetching what a batch is about to need.
pub mod look_ahead;
/// Applying a log on several threads.
mod replay;
/// FORMAT: names, lock, version and owner of a data directory.
pub mod data_dir;
/// FORMAT: the node's small state, in sled: where the images are, and notes.
pub mod node_state;
/// Checkpoints: slot images, their manifest, the pass that makes them, and loading them.
pub mod checkpoint;
/// The background scrub: damage on disk is found, and mended, before somebody needs what is damaged.
pub mod scrub;
/// A start that met damage: what can be put right before the data are opened.
pub mod damaged;
/// The façade that upper crates see.
pub mod store;
