//! What nodes say to each other. Modules in layer order, lowest first.

/// FORMAT: the frame around everything on the bus.
pub mod frame;
/// A connection's two halves as frames.
pub mod frames;
/// FORMAT: who is there and whether it knows the secret.
pub mod hello;
/// Whose refused hellos were logged already.
pub mod refusals;
/// FORMAT: messages as frames' bodies.
pub mod body;
/// How core types are written.
pub mod pack;
/// FORMAT: gossip.
pub mod gossip;
/// FORMAT: changes, registry and questions of the metadata group.
pub mod metadata;
/// FORMAT: messages of the log stream.
pub mod log_stream;
