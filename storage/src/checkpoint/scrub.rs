//! Looking for damage in image files while the node runs: the header, where chunks begin, and the newest image of each slot. Reads
//! only. An image that was replaced meanwhile, its file perhaps removed, is no damage.

use crate::checkpoint::image_files::{ImageFile, ImageFileError};
use crate::checkpoint::manifest::Manifest;
use crate::node_state::{ImageOf, ImageRow};

/// Verifies the frame of an image file: its header and where its chunks begin, which a rebuild of the manifest goes by.
///
/// # Errors
/// What is damaged and where; nothing when no slot needs the file any more.
pub fn check_file(manifest: &Manifest, number: u64) -> Result<(), ImageFileError> {
    let checked = ImageFile::open(manifest.directory(), number).and_then(|file| {
        file.forget_cached();
        file.scan(|_, _| {})
    });
    let is_needed = || manifest.rows().rows.values().any(|row| row.file == number);
    if checked.is_err() && !is_needed() { Ok(()) } else { checked }
}

/// Verifies every byte of the image that `row` points to.
///
/// # Errors
/// What is damaged and where; nothing when the slot has another image by now.
pub fn check_image(manifest: &Manifest, of: ImageOf, row: &ImageRow) -> Result<(), ImageFileError> {
    let checked = ImageFile::open(manifest.directory(), row.file)
        .and_then(|file| file.for_each_chunk(of, row, &mut Vec::new(), |_| Ok::<(), ImageFileError>(())));
    let is_newest = || manifest.rows().rows.get(&of) == Some(row);
    if checked.is_err() && !is_newest() { Ok(()) } else { checked }
}
