//! Chance.

use std::fs::File;
use std::io::{self, Read};

#[cfg(feature = "simulation")]
use super::simulation;

/// Fills `bytes` with random ones of the kernel's: for ids that must be unique in the world.
///
/// # Errors
/// When the kernel has none.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(world) = simulation::world() {
        world.fill_random(bytes);
        return Ok(());
    }
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// 160 random bits: an id.
///
/// # Errors
/// As [`fill`].
pub fn id() -> io::Result<[u8; 20]> {
    let mut bytes = [0; 20];
    fill(&mut bytes)?;
    Ok(bytes)
}
