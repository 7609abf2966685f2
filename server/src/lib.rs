//! What holdfast's clients see: RESP, configuration, commands, connections. Modules in layer order, lowest first; a module
//! names only modules above it in this list.

/// The Redis serialization protocol: requests in, replies out.
pub mod resp;
/// Patterns with `*`, `?` and classes.
pub mod glob;
