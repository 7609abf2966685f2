//! One segment file: made, filled, sealed, recycled. Knows offsets, not policy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_words::{Lsn, ShardId};

use super::format::{EpochHistory, Mark, SEGMENT_HEADER_SIZE, Seal, SegmentHeader};
use super::record_places::RecordPlaces;
use super::seal_index::Buffers;
use crate::platform::files::{self, File};

/// How the file of a segment is called until its header is durable.
pub const HALF_MADE: &str = ".wal.new";

/// Name of the segment that begins at this LSN.
pub fn file_name(first_lsn: Lsn) -> String {
    format!("{:020}.wal", first_lsn.0)
}

/// The LSN that a segment's file name says, when it is one.
pub fn lsn_of_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Lsn)).flatten()
}

/// What is written ahead of the records.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How the file of a segment is called that has no first LSN yet, unless it is a spare.
const PREPARED: &str = "prepared.wal.new";

/// A segment that waits for its first LSN: space, header block and length are durable, all but the header's first sector, which is
/// zeros. Its name is one that a start removes or takes for a spare.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    file: File,
    shard: ShardId,
    history: EpochHistory,
    size: u64,
    /// The mark in its header block.
    pub mark: Mark,
    /// All of its space has been written before.
    was_written: bool,
}

impl Prepared {
    /// Makes one, out of `spare` when there is one, with space for `size` bytes in all.
    ///
    /// # Errors
    /// What the operating system said; what is no spare is removed again as far as possible.
    pub fn make(
        directory: &Path,
        shard: ShardId,
        history: EpochHistory,
        mark: Mark,
        size: u64,
        spare: Option<&Path>,
    ) -> io::Result<Self> {
        let path = spare.map_or_else(|| directory.join(PREPARED), Path::to_owned);
        let file = match spare {
            Some(spare) => files::open_read_write(spare)?,
            None => {
                if files::exists(&path)? {
                    files::remove_file(&path)?;
                }
                files::create_new(&path)?
            }
        };
        let header = SegmentHeader { shard, first_lsn: Lsn::ZERO, history: history.clone() };
        let filled = file
            .set_len(size)
            .and_then(|()| file.reserve(0, size))
            .and_then(|()| file.write_all_at(&header.encode_without_place(&mark), 0))
            .and_then(|()| file.sync_all());
        if let Err(error) = filled {
            if spare.is_none() {
                files::remove_file(&path)?;
            }
            return Err(error);
        }
        Ok(Self { path, file, shard, history, size, mark, was_written: spare.is_some() })
    }

    /// Whether it can become the segment of this header, with space for just `size` bytes.
    pub fn suits(&self, header: &SegmentHeader, size: u64) -> bool {
        self.shard == header.shard && self.history == header.history && self.size == size
    }

    /// Removes the file.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn remove(self) -> io::Result<()> {
        files::remove_file(&self.path)
    }
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
    /// Up to this file offset the space was written at least once: there a sync has no allocation to make durable.
    pub(super) written_once: u64,
    /// Slot and file offset of each record, in the order of the log.
    index: RecordPlaces,
    /// Up to this file offset the disk was told to begin writing.
    pub(super) writing_out: u64,
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
        let new = path.with_extension(&HALF_MADE[1..]);
        let made = Self::make(directory, &path, &new, header, mark, size, spare);
        if made.is_err() && spare.is_none() && files::exists(&new).unwrap_or(false) {
            // Out of space, most likely: what was reserved so far is given back.
            files::remove_file(&new)?;
        }
        made
    }

    fn make(
        directory: &Path,
        path: &Path,
        new: &Path,
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
            None => {
                // Left by a crash, or by a failure that could not tidy up.
                if files::exists(new)? {
                    files::remove_file(new)?;
                }
                files::create_new(new)?
            }
        };
        file.reserve(0, size)?;
        file.write_all_at(&header.encode(mark), 0)?;
        file.sync_all()?;
        // Only now does it get its name: whatever is called a segment has a header.
        files::rename(spare.unwrap_or(new), path)?;
        files::sync_directory(directory)?;
        Ok(Self {
            path: path.to_owned(),
            first_lsn: header.first_lsn,
            end_lsn: header.first_lsn,
            file: Arc::new(file),
            reserved: size,
            written_once: if spare.is_some() { size } else { 0 },
            index: RecordPlaces::default(),
            writing_out: 0,
        })
    }

    /// Makes a prepared segment the one that begins with this header. Nothing waits for the disk: neither its name nor the sector
    /// that says its first LSN is durable yet, so no mark may be written into it, and nothing in it counts as durable.
    ///
    /// # Errors
    /// What the operating system said; the file is of no use then.
    pub fn of_prepared(directory: &Path, prepared: Prepared, header: &SegmentHeader) -> io::Result<Self> {
        debug_assert!(prepared.suits(header, prepared.size));
        let path = directory.join(file_name(header.first_lsn));
        prepared.file.write_all_at(&header.encode_place(), 0)?;
        files::rename(&prepared.path, &path)?;
        Ok(Self {
            path,
            first_lsn: header.first_lsn,
            end_lsn: header.first_lsn,
            file: Arc::new(prepared.file),
            reserved: prepared.size,
            written_once: if prepared.was_written { prepared.size } else { 0 },
            index: RecordPlaces::default(),
            writing_out: 0,
        })
    }

    /// What is known of it, as of one that takes no more records.
    pub fn as_sealed(&self) -> Sealed {
        Sealed {
            path: self.path.clone(),
            first_lsn: self.first_lsn,
            end_lsn: self.end_lsn,
            file: self.file.clone(),
        }
    }

    /// The segment a recovery ended in.
    pub fn reopened(path: PathBuf, file: Arc<File>, first_lsn: Lsn, reserved: u64) -> Self {
        Self {
            path,
            first_lsn,
            end_lsn: first_lsn,
            file,
            reserved,
            written_once: 0,
            index: RecordPlaces::default(),
            writing_out: 0,
        }
    }

    /// Writes zeros ahead of the end when less than half of `bytes` is left that was written once, up to so many and within what is
    /// reserved. What is written there later is then made durable without the file system noting an allocation with each sync.
    ///
    /// # Errors
    /// What the operating system said; nothing is lost.
    pub fn write_ahead(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.end_offset();
        let from = self.written_once.max(end);
        let to = (end + bytes).min(self.reserved);
        if from - end >= bytes / 2 {
            return Ok(());
        }
        let mut at = from;
        while at < to {
            let piece = &ZEROS[..ZEROS.len().min((to - at) as usize)];
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            self.written_once = at;
        }
        Ok(())
    }

    /// Takes note that the disk begins to write all whole pages up to the end that it was not yet told of; returns from which file
    /// offset to which. The last page is left alone: more records go into it.
    pub(super) fn take_for_write_out(&mut self) -> std::ops::Range<u64> {
        const PAGE: u64 = 4096;
        let (from, to) = (self.writing_out, self.end_offset() / PAGE * PAGE);
        self.writing_out = to.max(from);
        from..self.writing_out
    }

    /// A record of this slot and length stands at the end now.
    pub fn note_record(&mut self, slot: u16, length: usize) {
        let offset = offset_of(self.end_lsn, self.first_lsn) as u32;
        self.index.push(slot, offset);
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
        self.seal_resting(&mut Buffers::new(), &mut || ())
    }

    /// As [`Self::seal`], with a rest after each small piece of the work, of which there are milliseconds.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_resting(&mut self, buffers: &mut Buffers, rest: &mut dyn FnMut()) -> io::Result<()> {
        let end = self.end_offset();
        let records = std::mem::take(&mut self.index);
        let mut at = end;
        Seal::encode(&records, self.end_lsn, end, buffers, rest, &mut |piece| {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            Ok::<(), io::Error>(())
        })?;
        self.file.set_len(at)
    }

    /// The segment as one that takes no more records.
    pub fn into_sealed(self) -> Sealed {
        Sealed { path: self.path, first_lsn: self.first_lsn, end_lsn: self.end_lsn, file: self.file }
    }
}

/// Makes a segment durable whose bytes at or above `from` may not be, up to file offset `end`. They are written once more first: a
/// kernel whose fsync has failed, in an earlier process of this boot, holds them to be clean, and a sync alone would not write
/// them.
///
/// # Errors
/// What the operating system said.
pub fn make_durable(file: &File, first_lsn: Lsn, from: Lsn, end: u64) -> io::Result<()> {
    const BYTES_AT_ONCE: usize = 1 << 20;
    let rewrite = |range: std::ops::Range<u64>, buffer: &mut Vec<u8>| {
        let mut offset = range.start;
        while offset < range.end {
            buffer.resize(BYTES_AT_ONCE.min((range.end - offset) as usize), 0);
            file.read_exact_at(buffer, offset)?;
            file.write_all_at(buffer, offset)?;
            offset += buffer.len() as u64;
        }
        Ok::<(), io::Error>(())
    };
    let mut buffer = Vec::new();
    rewrite(0..SEGMENT_HEADER_SIZE, &mut buffer)?;
    rewrite(offset_of(from.max(first_lsn), first_lsn)..end, &mut buffer)?;
    file.sync_all()
}
