//! Loading images back: those of all slots, on several threads, or those of one. Every byte is verified before it is handed on,
//! and an image must be the very one that the manifest says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::checkpoint::image_files::{ImageFile, ImageFileError};
use crate::checkpoint::image_format::{Entry, ImageDecoder, ImageStamp};
use crate::checkpoint::manifest::Manifest;
use crate::node_state::{ImageOf, ImageRow};
use crate::platform::threads;

/// What takes the images. A slot's calls come from one thread, in order; different slots come from different ones.
pub trait ImageVisitor: Sync {
    /// The slot's image, of as many keys, begins; whatever the visitor had of the slot is void.
    fn on_image(&self, stamp: &ImageStamp, keys: u64);

    /// One key of the image.
    ///
    /// # Errors
    /// When its value makes no sense; loading ends.
    fn on_entry(&self, stamp: &ImageStamp, entry: Entry<'_>) -> Result<(), String>;

    /// The slot's image is complete.
    fn on_end(&self, _stamp: &ImageStamp) {}
}

/// Why loading ended early: the visitor has some slots and not others.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read, or an image in it is damaged.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// The image is whole, but the visitor does not understand a value.
    #[error("image of {of:?} in {path} at offset {offset}: key {key:?}: {reason}")]
    Entry {
        /// Whose image.
        of: ImageOf,
        /// Which file.
        path: String,
        /// Where the image begins.
        offset: u64,
        /// The key, readable.
        key: String,
        /// Why not.
        reason: String,
    },
    /// A thread could not be started.
    #[error("start a thread to load images: {0}")]
    Thread(std::io::Error),
}

/// What was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LoadReport {
    /// Slots with an image.
    pub slots: u64,
    /// Keys in them.
    pub keys: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Loads the images of all slots on `threads` threads.
///
/// # Errors
/// At the first image that is damaged, or whose values make no sense to the visitor.
pub fn load_all(
    manifest: &Manifest,
    threads: usize,
    visitor: &impl ImageVisitor,
) -> Result<LoadReport, LoadError> {
    let mut rows: Vec<(ImageOf, ImageRow)> = manifest.rows().rows.into_iter().collect();
    // As they stand on disk, so that the threads together read forwards.
    rows.sort_unstable_by_key(|(_, row)| (row.file, row.offset));
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let total = Mutex::new(LoadReport::default());
    let work = || {
        let mut loader = Loader::default();
        while !failed.load(Ordering::Relaxed)
            && let Some((of, row)) = rows.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(error) = loader.load(manifest, *of, row, visitor) {
                failed.store(true, Ordering::Relaxed);
                failure.lock().get_or_insert(error);
            }
        }
        let mut total = total.lock();
        total.slots += loader.report.slots;
        total.keys += loader.report.keys;
        total.bytes += loader.report.bytes;
    };
    threads::run_on_all("load-images", threads.clamp(1, rows.len().max(1)), &work)
        .map_err(LoadError::Thread)?;
    match failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(total.into_inner()),
    }
}

/// Loads the newest image of one slot; `false` says that there is none.
///
/// # Errors
/// When it is damaged, or a value makes no sense to the visitor.
pub fn load_one(manifest: &Manifest, of: ImageOf, visitor: &impl ImageVisitor) -> Result<bool, LoadError> {
    match manifest.rows().rows.get(&of) {
        None => Ok(false),
        Some(row) => Loader::default().load(manifest, of, row, visitor).map(|()| true),
    }
}

#[derive(Default)]
struct Loader {
    file: Option<(u64, ImageFile)>,
    decoder: ImageDecoder,
    chunk: Vec<u8>,
    report: LoadReport,
}

impl Loader {
    fn load(
        &mut self,
        manifest: &Manifest,
        of: ImageOf,
        row: &ImageRow,
        visitor: &impl ImageVisitor,
    ) -> Result<(), LoadError> {
        let file = match self.file.take() {
            Some((number, file)) if number == row.file => file,
            _ => ImageFile::open(manifest.directory(), row.file)?,
        };
        self.decoder.restart();
        let mut offset = row.offset;
        for index in 0u32.. {
            let header = file.read_chunk(offset, &mut self.chunk)?;
            let damaged = |source| file.damaged(offset, Some(of), source);
            row.expect(of, index, &header).map_err(damaged)?;
            if index == 0 {
                visitor.on_image(&header.stamp, row.keys);
            }
            let mut refused = None;
            self.decoder
                .push_chunk(&self.chunk, |stamp, entry| {
                    if refused.is_none()
                        && let Err(reason) = visitor.on_entry(stamp, entry)
                    {
                        refused = Some((entry.key.escape_ascii().to_string(), reason));
                    }
                })
                .map_err(damaged)?;
            if let Some((key, reason)) = refused {
                let path = file.path().display().to_string();
                return Err(LoadError::Entry { of, path, offset: row.offset, key, reason });
            }
            offset += header.chunk_length();
            if header.last {
                visitor.on_end(&header.stamp);
                break;
            }
        }
        self.report.slots += 1;
        self.report.keys += row.keys;
        self.report.bytes += offset - row.offset;
        self.file = Some((row.file, file));
        Ok(())
    }
}
