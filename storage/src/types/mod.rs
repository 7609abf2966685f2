//! The data types: what a key can hold, in memory. Small collections are one packed run of bytes, large ones tables and trees
//! that grow without a pause. Which form is used shows in OBJECT ENCODING and nowhere else. Modules in layer order.

/// When a collection outgrows its small form.
pub mod limits;
/// One heap block behind one thin pointer.
pub(crate) mod thin;
/// A vector that grows without moving anything.
mod chunked;
/// Strings back to back in one run of bytes.
mod packed;
/// Telling the processor what will be read soon.
pub(crate) mod prefetch;
/// The elements of one segment of a table.
mod chunks;
/// A hash table that grows without a pause and whose scans survive growth.
pub mod table;
/// An ordered sequence with ranks.
pub mod rank_tree;
/// The members of large sorted sets, by number.
mod arena;
/// Field → value.
pub mod hash;
/// Where the last elements of a list's last node stand.
mod tail_places;
/// A sequence with two ends.
pub mod list;
/// Members without order.
pub mod set;
/// Members by score.
pub mod sorted_set;
/// What one key holds.
pub mod value;
/// A key with what it holds, in one block.
pub(crate) mod entry;
/// Numbers that tell equal contents.
pub mod digest;
/// FORMAT: one value as bytes.
pub mod value_format;

pub use hash::Hash;
pub use list::List;
pub use set::Set;
pub use sorted_set::{LexBound, ScoreBound, SortedSet};
pub use value::{StringRef, Value, ValueRef};
