//! Checkpoints: slot images that bound the log, and the manifest that says where they are. Order on disk, always: images
//! synced → log durable and committed as far as they reach → manifest durable → log released.

/// FORMAT: slot images; four uses.
pub mod image_format;
/// FORMAT: the files that images stand in, one after the other.
pub mod image_files;
/// Which image of each slot is the newest; rebuilt from the files when in doubt.
pub mod manifest;
/// Images back into slots, in parallel.
pub mod load;
/// Moves the living images of mostly dead files together.
pub mod rewrite;
/// How fast a pass works beside the commands.
pub mod pace;
/// Images of all dirty slots, and how much of the log they make superfluous.
pub mod pass;
/// Images that come from elsewhere, into files of our own.
pub mod receive;
/// Damage in image files, found while the node runs.
pub mod scrub;
