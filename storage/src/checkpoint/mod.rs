//! Checkpoints: slot images that bound the log, and the manifest that says where they are. Order on disk, always: images
//! synced → log durable and committed as far as they reach → manifest durable → log released.

/// FORMAT: slot images; four uses.
pub mod image_format;
