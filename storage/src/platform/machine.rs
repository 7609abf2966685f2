//! What the machine says of itself.

use std::io;
use std::path::Path;

#[cfg(feature = "simulation")]
use super::simulation;

/// The id of this boot of the machine that has `directory`: another one after every power cut. It is 128 bits long.
///
/// # Errors
/// What the operating system said.
pub fn boot_id(directory: &Path) -> io::Result<[u8; 16]> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = simulation::disk::of(directory) {
        return Ok(disk.boot_id());
    }
    let _ = directory;
    let text = std::fs::read("/proc/sys/kernel/random/boot_id")?;
    let mut id = [0; 16];
    let digits = text.iter().filter_map(|&byte| (byte as char).to_digit(16));
    for (place, digit) in digits.take(32).enumerate() {
        if let Some(byte) = id.get_mut(place / 2) {
            *byte = *byte << 4 | digit as u8;
        }
    }
    Ok(id)
}

/// The number of this process.
pub fn process_id() -> u32 {
    #[cfg(feature = "simulation")]
    if simulation::world().is_some() {
        return 1;
    }
    std::process::id()
}
