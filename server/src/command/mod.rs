//! What commands there are and what is common to all: the table, the errors, reading arguments, finding keys. What each
//! command does stands in `commands/`.

/// What a row of the command table is made of, and finding a row by name.
pub mod table;
mod generated;
/// Redis's error texts, once.
pub mod errors;
/// Reading numbers and options, with Redis's refusals.
pub mod arguments;
/// Which arguments are keys.
pub mod keys;
/// COMMAND's replies: INFO, DOCS, LIST.
pub mod describe;

pub use errors::CommandError;
pub use generated::CommandId;
pub use table::{Category, CommandSpec, Flag, LastName, resolve};
