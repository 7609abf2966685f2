//! FORMAT: image files: many images, one after the other, in a file that is written once and never changed.
//!
//! ```text
//! images/<number, 12 digits>.img       complete, synced, and not ahead of the log: see below
//! images/<number, 12 digits>.img.new   being written; worthless after a crash
//!
//! file  = header chunk…                chunks of one image stand together and in order
//! header, 64 bytes, little-endian:
//!  +0  8 bytes magic "HFIMAGES"        +8 u16 version     +10 6 bytes zero
//!  +16 u64 file number                 +24 20 bytes node id of the writer
//!  +44 16 bytes zero                   +60 u32 crc32 of bytes 0..60
//! ```
//!
//! A file gets its final name only after it was synced and the log was durable and committed as far as its images reach. So
//! under a final name nothing is ever torn, and whatever cannot be read there is damage.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use holdfast_words::{Epoch, Lsn, NodeId, SlotSequence};

use crate::checkpoint::image_format::{
    CHUNK_HEADER_SIZE, ChunkHeader, ImageError, ImageKind, ImageSize, ImageStamp,
};
use crate::node_state::{ImageOf, ImageRow};
use crate::platform::files;

/// Version of image files; a reader refuses a higher one.
pub const IMAGE_FILE_FORMAT_VERSION: u16 = 1;
/// Bytes before the first image.
pub const FILE_HEADER_SIZE: u64 = 64;

const MAGIC: [u8; 8] = *b"HFIMAGES";
const MAGIC_AT: Range<usize> = 0..8;
const VERSION: Range<usize> = MAGIC_AT.end..MAGIC_AT.end + 2;
const NUMBER: Range<usize> = VERSION.end + 6..VERSION.end + 14;
const NODE: Range<usize> = NUMBER.end..NUMBER.end + 20;
const CRC: Range<usize> = NODE.end + 16..NODE.end + 20;
const _: () = assert!(CRC.end as u64 == FILE_HEADER_SIZE);

const SUFFIX: &str = ".img";
const SUFFIX_NEW: &str = ".img.new";
/// Bytes that are gathered before they are written.
const WRITE_SIZE: usize = 64 << 10;
/// Bytes that are written and not yet synced: the disk gets a file in portions, and the log's syncs beside it find no long queue.
const SYNC_SIZE: u64 = 4 << 20;

/// Why an image file cannot be written or read: which, where, and what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file's header is not what it should be.
    #[error("image file {path} is damaged at offset 0: {what}")]
    Header {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// The file was written by a newer version.
    #[error(
        "image file {path} has format version {found}, this program reads up to {IMAGE_FILE_FORMAT_VERSION}: use the newer program"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// An image in it is not what it should be.
    #[error("image file {path}, offset {offset}{}: {source}", of.map(|of| format!(" ({})", describe(of))).unwrap_or_default())]
    Image {
        /// Which file.
        path: PathBuf,
        /// Where the chunk begins.
        offset: u64,
        /// Whose image, when that is known.
        of: Option<ImageOf>,
        /// What is wrong.
        source: ImageError,
    },
}

fn describe(of: ImageOf) -> String {
    match of {
        ImageOf::Slot(slot) => format!("slot {slot}"),
    }
}

pub(crate) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ImageFileError + 'a {
    move |source| ImageFileError::Io { action, path: path.to_owned(), source }
}

impl ImageStamp {
    /// What the image is of, for the manifest.
    pub fn of(&self) -> ImageOf {
        match self.kind {
            ImageKind::Slot => ImageOf::Slot(self.slot),
        }
    }
}

impl ImageRow {
    pub(crate) fn new(stamp: &ImageStamp, file: u64, offset: u64, length: u64, keys: u64) -> Self {
        let ImageStamp { epoch, sequence, lsn, .. } = *stamp;
        Self { file, offset, length, epoch, sequence, lsn, keys }
    }

    /// Orders images of one slot: the greater one is the fresher.
    pub fn freshness(&self) -> (Epoch, Lsn, SlotSequence) {
        (self.epoch, self.lsn, self.sequence)
    }

    /// Checks that `header` is that of chunk `index` of the image this row is about.
    pub(crate) fn expect(&self, of: ImageOf, index: u32, header: &ChunkHeader) -> Result<(), ImageError> {
        let stamp = &header.stamp;
        let is_it = stamp.of() == of
            && (stamp.epoch, stamp.sequence, stamp.lsn) == (self.epoch, self.sequence, self.lsn)
            && header.index == index
            && (!header.last || header.keys == self.keys);
        if is_it { Ok(()) } else { Err(ImageError::Order("the manifest has another image here")) }
    }
}

/// The path of a finished file.
pub fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}{SUFFIX}"))
}

/// The finished files of a directory with their lengths. Files that a crash left unfinished are removed when
/// `remove_unfinished` is set.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &Path, remove_unfinished: bool) -> Result<BTreeMap<u64, u64>, ImageFileError> {
    let mut found = BTreeMap::new();
    for name in files::list(directory).map_err(io_error("list", directory))? {
        let path = directory.join(&name);
        if name.ends_with(SUFFIX_NEW) {
            if remove_unfinished {
                files::remove_file(&path).map_err(io_error("remove", &path))?;
            }
            continue;
        }
        if let Some(Ok(number)) = name.strip_suffix(SUFFIX).map(str::parse::<u64>) {
            let length = files::open_read(&path).and_then(|file| file.len());
            found.insert(number, length.map_err(io_error("look at", &path))?);
        }
    }
    Ok(found)
}

/// A file being written, front to back.
#[derive(Debug)]
pub struct ImageFileWriter {
    directory: PathBuf,
    path: PathBuf,
    number: u64,
    file: files::File,
    buffer: Vec<u8>,
    written: u64,
    /// Up to here the file was synced as it grew.
    synced: u64,
    is_published: bool,
}

impl ImageFileWriter {
    /// Creates file `number`, which must not exist.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(directory: &Path, number: u64, node: NodeId) -> Result<Self, ImageFileError> {
        let path = directory.join(format!("{number:012}{SUFFIX_NEW}"));
        let file = files::create_new(&path).map_err(io_error("create", &path))?;
        let mut header = [0; FILE_HEADER_SIZE as usize];
        header[MAGIC_AT].copy_from_slice(&MAGIC);
        header[VERSION].copy_from_slice(&IMAGE_FILE_FORMAT_VERSION.to_le_bytes());
        header[NUMBER].copy_from_slice(&number.to_le_bytes());
        header[NODE].copy_from_slice(&node.0);
        let crc = crc32fast::hash(&header[..CRC.start]);
        header[CRC].copy_from_slice(&crc.to_le_bytes());
        // At once, with room for the image that reaches the limit, unless that is large.
        let mut buffer = Vec::with_capacity(WRITE_SIZE + WRITE_SIZE / 2);
        buffer.extend_from_slice(&header);
        Ok(Self {
            directory: directory.to_owned(),
            path,
            number,
            file,
            buffer,
            written: 0,
            synced: 0,
            is_published: false,
        })
    }

    /// The file's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the file so far.
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether no image was appended yet.
    pub fn is_empty(&self) -> bool {
        self.len() == FILE_HEADER_SIZE
    }

    /// Appends bytes of an image: whole chunks, in order.
    ///
    /// # Errors
    /// When they cannot be written; the file is useless then.
    pub fn append(&mut self, chunks: &[u8]) -> Result<(), ImageFileError> {
        self.buffer.extend_from_slice(chunks);
        if self.buffer.len() >= WRITE_SIZE {
            self.write_out()?;
        }
        if self.written >= self.synced + SYNC_SIZE {
            self.file.sync_data().map_err(io_error("sync", &self.path))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Appends a whole image and returns its row.
    ///
    /// # Errors
    /// When it cannot be written; the file is useless then.
    pub fn append_image(
        &mut self,
        stamp: &ImageStamp,
        image: &[u8],
        size: ImageSize,
    ) -> Result<ImageRow, ImageFileError> {
        let row = ImageRow::new(stamp, self.number, self.len(), image.len() as u64, size.keys);
        self.append(image)?;
        Ok(row)
    }

    /// Appends the rest of the image that begins at `begins_at` and returns its row.
    ///
    /// # Errors
    /// When it cannot be written; the file is useless then.
    pub(crate) fn append_rest(
        &mut self,
        stamp: &ImageStamp,
        begins_at: u64,
        rest: &[u8],
        size: ImageSize,
    ) -> Result<ImageRow, ImageFileError> {
        if rest.len() as u64 == size.stored_bytes {
            self.cut(begins_at);
        }
        self.append(rest)?;
        assert_eq!(self.len(), begins_at + size.stored_bytes, "an image is stored whole");
        Ok(ImageRow::new(stamp, self.number, begins_at, size.stored_bytes, size.keys))
    }

    /// Takes back what was appended from `length` on; an image begins there.
    pub(crate) fn cut(&mut self, length: u64) {
        debug_assert!((FILE_HEADER_SIZE..=self.len()).contains(&length));
        self.buffer.truncate(length.saturating_sub(self.written) as usize);
        self.written = self.written.min(length);
        self.synced = self.synced.min(length);
    }

    fn write_out(&mut self) -> Result<(), ImageFileError> {
        self.file.write_all_at(&self.buffer, self.written).map_err(io_error("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and returns when the file's bytes are on disk.
    ///
    /// # Errors
    /// When they are not; the file is useless then.
    pub fn sync(&mut self) -> Result<(), ImageFileError> {
        self.write_out()?;
        // What was taken back may be on disk behind the end.
        self.file.set_len(self.written).map_err(io_error("cut", &self.path))?;
        self.file.sync_all().map_err(io_error("sync", &self.path))
    }

    /// Gives the synced file its final name, durably. The log must be durable and committed up to the highest LSN of its
    /// images.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn publish(mut self) -> Result<(), ImageFileError> {
        debug_assert!(self.buffer.is_empty(), "a file is synced before it is published");
        let path = path_of(&self.directory, self.number);
        files::rename(&self.path, &path).map_err(io_error("rename", &self.path))?;
        self.is_published = true;
        files::sync_directory(&self.directory).map_err(io_error("sync", &self.directory))
    }
}

impl Drop for ImageFileWriter {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = files::remove_file(&self.path)
        {
            tracing::warn!("remove unfinished {}: {error}; the next start removes it", self.path.display());
        }
    }
}

/// A finished file, to read from.
#[derive(Debug)]
pub struct ImageFile {
    path: PathBuf,
    number: u64,
    file: files::File,
    length: u64,
}

impl ImageFile {
    /// Opens file `number` and checks its header.
    ///
    /// # Errors
    /// When it is missing, damaged or newer.
    pub fn open(directory: &Path, number: u64) -> Result<Self, ImageFileError> {
        let path = path_of(directory, number);
        let file = files::open_read(&path).map_err(io_error("open", &path))?;
        let length = file.len().map_err(io_error("look at", &path))?;
        let damaged = |what| ImageFileError::Header { path: path.clone(), what };
        if length < FILE_HEADER_SIZE {
            return Err(damaged("it is shorter than its header"));
        }
        let mut header = [0; FILE_HEADER_SIZE as usize];
        file.read_exact_at(&mut header, 0).map_err(io_error("read", &path))?;
        if header[MAGIC_AT] != MAGIC {
            return Err(damaged("it does not begin as an image file does"));
        }
        if header[CRC] != crc32fast::hash(&header[..CRC.start]).to_le_bytes() {
            return Err(damaged("the header's crc32 differs"));
        }
        let found = u16::from_le_bytes([header[VERSION.start], header[VERSION.start + 1]]);
        if found > IMAGE_FILE_FORMAT_VERSION {
            return Err(ImageFileError::Newer { path, found });
        }
        if header[NUMBER] != number.to_le_bytes() {
            return Err(damaged("the header has another number than the name"));
        }
        Ok(Self { path, number, file, length })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// The next reads come from the disk, and not from what the kernel holds.
    pub fn forget_cached(&self) {
        self.file.forget_cached(0, self.length);
    }

    /// Whether the file has no image.
    pub fn is_empty(&self) -> bool {
        self.length == FILE_HEADER_SIZE
    }

    /// Reads the chunk at `offset` into `chunk`, which ends up holding exactly it. Its body is not verified.
    ///
    /// # Errors
    /// When there is no chunk, or it is cut.
    pub fn read_chunk(&self, offset: u64, chunk: &mut Vec<u8>) -> Result<ChunkHeader, ImageFileError> {
        let header = self.read_chunk_header(offset)?;
        let length = header.chunk_length();
        chunk.resize(length as usize, 0);
        self.file.read_exact_at(chunk, offset).map_err(io_error("read", &self.path))?;
        Ok(header)
    }

    fn read_chunk_header(&self, offset: u64) -> Result<ChunkHeader, ImageFileError> {
        let have = self.length.saturating_sub(offset);
        if have < CHUNK_HEADER_SIZE as u64 {
            return Err(self.damaged(
                offset,
                None,
                ImageError::Short { have, need: CHUNK_HEADER_SIZE as u64 },
            ));
        }
        let mut bytes = [0; CHUNK_HEADER_SIZE];
        self.file.read_exact_at(&mut bytes, offset).map_err(io_error("read", &self.path))?;
        let header = ChunkHeader::decode(&bytes).map_err(|source| self.damaged(offset, None, source))?;
        let need = header.chunk_length();
        if have < need {
            return Err(self.damaged(offset, Some(header.stamp.of()), ImageError::Short { have, need }));
        }
        Ok(header)
    }

    /// Hands the verified chunks of the image that `row` points to, one after the other, to `on_chunk`: to copy or send them.
    ///
    /// # Errors
    /// When a chunk is damaged, or the image there is not the one that the row says, or `on_chunk` fails.
    pub fn for_each_chunk<E: From<ImageFileError>>(
        &self,
        of: ImageOf,
        row: &ImageRow,
        chunk: &mut Vec<u8>,
        mut on_chunk: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = row.offset;
        for index in 0u32.. {
            let header = self.read_chunk(offset, chunk)?;
            let damaged = |source| self.damaged(offset, Some(of), source);
            header.verify_body(chunk).map_err(damaged)?;
            row.expect(of, index, &header).map_err(damaged)?;
            on_chunk(chunk)?;
            offset += header.chunk_length();
            if header.last {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn damaged(&self, offset: u64, of: Option<ImageOf>, source: ImageError) -> ImageFileError {
        ImageFileError::Image { path: self.path.clone(), offset, of, source }
    }

    /// Walks the headers of all chunks and tells what images there are, so that the manifest can be rebuilt. Bodies are
    /// verified when they are loaded.
    ///
    /// # Errors
    /// At the first header that is damaged: what follows it cannot be found.
    pub fn scan(&self, mut on_image: impl FnMut(&ImageStamp, ImageRow)) -> Result<(), ImageFileError> {
        let mut offset = FILE_HEADER_SIZE;
        let mut open: Option<(ImageStamp, u64, u32)> = None;
        while offset < self.length {
            let header = self.read_chunk_header(offset)?;
            let of = header.stamp.of();
            let (stamp, begin, index) = open.take().unwrap_or((header.stamp, offset, 0));
            if stamp != header.stamp || index != header.index {
                let source = ImageError::Order("chunks before it are missing");
                return Err(self.damaged(offset, Some(of), source));
            }
            offset += header.chunk_length();
            if header.last {
                on_image(&stamp, ImageRow::new(&stamp, self.number, begin, offset - begin, header.keys));
            } else {
                open = Some((stamp, begin, index + 1));
            }
        }
        match open {
            None => Ok(()),
            Some((stamp, ..)) => Err(self.damaged(
                offset,
                Some(stamp.of()),
                ImageError::Short { have: 0, need: CHUNK_HEADER_SIZE as u64 },
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use holdfast_words::{ShardId, SlotId};

    use super::*;
    use crate::checkpoint::image_format::{CHUNK_RAW_TARGET, Compression, ImageBuilder};

    fn stamp(slot: u16) -> ImageStamp {
        ImageStamp {
            kind: ImageKind::Slot,
            shard: ShardId([7; 20]),
            slot: SlotId::new(slot).unwrap(),
            epoch: Epoch(3),
            sequence: SlotSequence(41),
            lsn: Lsn(u64::from(slot)),
            value_version: 1,
        }
    }

    fn written(directory: &Path) -> Vec<(ImageStamp, ImageRow)> {
        let mut builder = ImageBuilder::new(Compression::None);
        let mut writer = ImageFileWriter::create(directory, 5, NodeId([1; 20])).unwrap();
        assert!(writer.is_empty());
        let mut rows = Vec::new();
        for slot in [4, 9, 2] {
            builder.begin(stamp(slot));
            builder.push(b"key", None, &vec![3; usize::from(slot) * CHUNK_RAW_TARGET / 3]);
            let (of, image, size) = builder.finish();
            rows.push((*of, writer.append_image(of, image, size).unwrap()));
        }
        writer.sync().unwrap();
        writer.publish().unwrap();
        rows
    }

    #[test]
    fn a_scan_finds_every_image_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let rows = written(dir.path());
        let file = ImageFile::open(dir.path(), 5).unwrap();
        assert_eq!(list(dir.path(), true).unwrap(), BTreeMap::from([(5, file.len())]));
        let mut found = Vec::new();
        file.scan(|stamp, row| found.push((*stamp, row))).unwrap();
        assert_eq!(found, rows);
    }

    #[test]
    fn an_unpublished_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        drop(ImageFileWriter::create(dir.path(), 1, NodeId([1; 20])).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // As a crash leaves it.
        fs::write(dir.path().join("000000000002.img.new"), b"half").unwrap();
        assert!(list(dir.path(), false).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(list(dir.path(), true).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_is_named_with_file_offset_and_slot() {
        let dir = tempfile::tempdir().unwrap();
        let rows = written(dir.path());
        let path = path_of(dir.path(), 5);
        let whole = fs::read(&path).unwrap();
        let scan = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            ImageFile::open(dir.path(), 5).and_then(|file| file.scan(|_, _| {}))
        };
        for cut in [0, 63, 70, whole.len() - 1] {
            assert!(scan(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let begin = rows[1].1.offset as usize;
        let mut damaged = whole.clone();
        damaged[begin + 10] ^= 1;
        let error = scan(&damaged).unwrap_err().to_string();
        assert!(error.contains(&format!("{}, offset {begin}: ", path.display())), "{error}");
        let error = scan(&whole[..begin + 2000]).unwrap_err().to_string();
        assert!(error.contains(&format!("offset {begin} (slot 9): the chunk ends after")), "{error}");
        // The last image's last chunk is missing: cut at a chunk's end, told from a whole file.
        let second = ChunkHeader::decode(&whole[begin..]).unwrap().chunk_length() as usize;
        assert!(scan(&whole[..begin + second]).is_err());
        for at in 0..FILE_HEADER_SIZE as usize {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(matches!(scan(&damaged), Err(ImageFileError::Header { .. })), "byte {at}");
        }
        scan(&whole).unwrap();
    }
}
