//! One segment file: made, filled, sealed, recycled. Knows offsets, not policy.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_words::Lsn;

use super::format::{Mark, SEGMENT_HEADER_SIZE, Seal, SegmentHeader};
use crate::platform::files::{self, File};

/// Name of the segment that begins at this LSN.
pub fn file_name(first_lsn: Lsn) -> String {
    format!("{:020}.wal", first_lsn.0)
}

/// The LSN that a segment's file name says, when it is one.
pub fn lsn_of_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Lsn)).flatten()
}

/// What is known of a segment that takes no more records.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its file.
    pub path: PathBuf,
    /// LSN of its first record.
    pub first_lsn: Lsn,
    /// LSN after its last record.
    pub end_lsn: Lsn,
    /// The open file, for readers.
    pub file: Arc<File>,
}

/// The segment that takes records.
#[derive(Debug)]
pub struct Active {
    /// Its file.
    pub path: PathBuf,
    /// LSN of its first record.
    pub first_lsn: Lsn,
    /// LSN after its last record.
    pub end_lsn: Lsn,
    /// The open file.
    pub file: Arc<File>,
    /// Space is reserved up to this file offset.
    pub reserved: u64,
    index: BTreeMap<u16, Vec<u32>>,
    records: u32,
}

/// Where in its segment an LSN stands.
pub fn offset_of(lsn: Lsn, first_lsn: Lsn) -> u64 {
    SEGMENT_HEADER_SIZE + lsn.since(first_lsn)
}

impl Active {
    /// Makes a segment, out of `spare` when there is one, with space for `size` bytes in all. It is durable, name and all,
    /// before any record goes into it.
    ///
    /// # Errors
    /// What the operating system said; a half-made file is removed again as far as possible.
    pub fn create(
        directory: &Path,
        header: &SegmentHeader,
        mark: &Mark,
        size: u64,
        spare: Option<&Path>,
    ) -> io::Result<Self> {
        let path = directory.join(file_name(header.first_lsn));
        let made = Self::make(directory, &path, header, mark, size, spare);
        if made.is_err() && spare.is_none() && files::exists(&path).unwrap_or(false) {
            // Out of space, most likely: what was reserved so far is given back. When even this fails, the recovery finds an
            // empty segment or one without a header after the end of the log, and drops it.
            files::remove_file(&path)?;
        }
        made
    }

    fn make(
        directory: &Path,
        path: &Path,
        header: &SegmentHeader,
        mark: &Mark,
        size: u64,
        spare: Option<&Path>,
    ) -> io::Result<Self> {
        let file = match spare {
            // The old records stay as they are: a record is one only at its own LSN, and these stood at others.
            Some(spare) => {
                let file = files::open_read_write(spare)?;
                file.set_len(size)?;
                file
            }
            None => files::create_new(path)?,
        };
        file.reserve(0, size)?;
        file.write_all_at(&header.encode(mark), 0)?;
        file.sync_all()?;
        if let Some(spare) = spare {
            files::rename(spare, path)?;
        }
        files::sync_directory(directory)?;
        Ok(Self {
            path: path.to_owned(),
            first_lsn: header.first_lsn,
            end_lsn: header.first_lsn,
            file: Arc::new(file),
            reserved: size,
            index: BTreeMap::new(),
            records: 0,
        })
    }

    /// The segment a recovery ended in.
    pub fn reopened(path: PathBuf, file: Arc<File>, first_lsn: Lsn, reserved: u64) -> Self {
        Self { path, first_lsn, end_lsn: first_lsn, file, reserved, index: BTreeMap::new(), records: 0 }
    }

    /// A record of this slot and length stands at the end now.
    pub fn note_record(&mut self, slot: u16, length: usize) {
        let offset = offset_of(self.end_lsn, self.first_lsn) as u32;
        self.index.entry(slot).or_default().push(offset);
        self.records += 1;
        self.end_lsn = self.end_lsn.advance(length as u64);
    }

    /// File offset after the last record.
    pub fn end_offset(&self) -> u64 {
        offset_of(self.end_lsn, self.first_lsn)
    }

    /// Writes index and footer and cuts the file after them. Not synced yet.
    ///
    /// # Errors
    /// What the operating system said; the segment is whole without its seal too.
    pub fn seal(&mut self) -> io::Result<()> {
        let seal = Seal {
            end_lsn: self.end_lsn,
            records: self.records,
            index: std::mem::take(&mut self.index).into_iter().collect(),
        };
        let bytes = seal.encode(self.end_offset());
        self.file.write_all_at(&bytes, self.end_offset())?;
        self.file.set_len(self.end_offset() + bytes.len() as u64)
    }

    /// The segment as one that takes no more records.
    pub fn into_sealed(self) -> Sealed {
        Sealed { path: self.path, first_lsn: self.first_lsn, end_lsn: self.end_lsn, file: self.file }
    }
}
