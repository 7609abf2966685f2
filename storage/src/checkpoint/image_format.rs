//! FORMAT: slot images. One format, four uses: checkpoints, full copies, slot migration and backups all store or send these
//! bytes. Knows no file: see `image_files.rs`.
//!
//! An image is everything one slot holds as of one slot sequence: a stream of entries, cut at any byte into chunks, so that
//! neither side needs memory for more than a chunk (and one entry). Every chunk says whose it is, so that a walk over image
//! files finds all images without any index.
//!
//! ```text
//! image   = chunk(0) … chunk(n, LAST)
//! entries = (length_and_more:varint key expiry_ms:varint value_length:varint value)…      expiry_ms 0 = never
//!           length_and_more = key length · 2 + 1 when the value is a further part of the key's value, else + 0
//!           version 1: the key length alone, no value in parts
//!
//! chunk, little-endian:
//!  +0  u32 magic "HFSI"      +4 u8 version   +5 u8 flags      +6 u16 slot
//!  +8  u8 kind               +9 u8 value format version       +10 u16 zero     +12 u32 chunk index
//!  +16 u32 stored length     +20 u32 raw length               +24 u64 raw offset (entry bytes in the chunks before)
//!  +32 20 bytes shard id     +52 u32 zero
//!  +56 u64 epoch             +64 u64 slot sequence            +72 u64 lsn
//!  +80 u64 keys (of the image in its last chunk, else 0)
//!  +88 u32 crc32 of the stored body                           +92 u32 crc32 of bytes 0..92
//!  +96 stored body: raw length bytes of entries, lz4 block compressed when flag LZ4 is set
//! ```
//!
//! * *slot sequence*, *lsn*: the image holds every record of the slot up to this sequence and none above it; `lsn` is the end
//!   of the newest of them (of its group, when it was part of one). An image becomes a checkpoint only once the log is
//!   durable and committed up to there, so that no image is ever ahead of its log.
//! * The header's crc stands at the same place in all versions, so that "newer than I know" and "damaged" are told apart.
//! * A large value stands in parts, each a value of its type: its items are added to those of the parts before it, which need
//!   not be next to it. They are cut so that a copy can be made while the slot serves.
//! * A value's bytes are those of `value_format.rs`; here they are opaque.

use std::ops::Range;

use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};

/// Version of the image format; a reader refuses a higher one.
pub const IMAGE_FORMAT_VERSION: u8 = 2;
/// Bytes of a chunk's header.
pub const CHUNK_HEADER_SIZE: usize = HEADER_CRC.end;
/// Bytes of entries that a writer puts into one chunk.
pub const CHUNK_RAW_TARGET: usize = 1 << 20;
/// Most bytes of entries in one chunk; what a header claims beyond it is damage, so a reader's memory is bounded.
pub const CHUNK_RAW_MAX: usize = 4 << 20;

const MAGIC: [u8; 4] = *b"HFSI";
const MAGIC_AT: Range<usize> = 0..4;
const VERSION: usize = MAGIC_AT.end;
const FLAGS: usize = VERSION + 1;
const SLOT: Range<usize> = FLAGS + 1..FLAGS + 3;
const KIND: usize = SLOT.end;
const VALUE_VERSION: usize = KIND + 1;
const ZERO_A: Range<usize> = VALUE_VERSION + 1..VALUE_VERSION + 3;
const INDEX: Range<usize> = ZERO_A.end..ZERO_A.end + 4;
const STORED_LENGTH: Range<usize> = INDEX.end..INDEX.end + 4;
const RAW_LENGTH: Range<usize> = STORED_LENGTH.end..STORED_LENGTH.end + 4;
const RAW_OFFSET: Range<usize> = RAW_LENGTH.end..RAW_LENGTH.end + 8;
const SHARD: Range<usize> = RAW_OFFSET.end..RAW_OFFSET.end + 20;
const ZERO_B: Range<usize> = SHARD.end..SHARD.end + 4;
const EPOCH: Range<usize> = ZERO_B.end..ZERO_B.end + 8;
const SEQUENCE: Range<usize> = EPOCH.end..EPOCH.end + 8;
const LSN: Range<usize> = SEQUENCE.end..SEQUENCE.end + 8;
const KEYS: Range<usize> = LSN.end..LSN.end + 8;
const BODY_CRC: Range<usize> = KEYS.end..KEYS.end + 4;
const HEADER_CRC: Range<usize> = BODY_CRC.end..BODY_CRC.end + 4;
const _: () = assert!(CHUNK_HEADER_SIZE == 96);
const _: () = assert!(CHUNK_RAW_TARGET <= CHUNK_RAW_MAX && CHUNK_RAW_MAX <= u32::MAX as usize);

const FLAG_LZ4: u8 = 1;
const FLAG_LAST: u8 = 2;

/// What an image is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ImageKind {
    /// A slot's keys.
    Slot,
}

/// Whose image, and as of when. The same in every chunk of the image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ImageStamp {
    /// What the image is of.
    pub kind: ImageKind,
    /// The shard in whose log the slot's records are.
    pub shard: ShardId,
    /// The slot.
    pub slot: SlotId,
    /// The shard's epoch when the image was made.
    pub epoch: Epoch,
    /// Number of the newest record of the slot that the image holds.
    pub sequence: SlotSequence,
    /// End of that record in the shard's log.
    pub lsn: Lsn,
    /// Version of the value format that the entries' values are in.
    pub value_version: u8,
}

impl ImageStamp {
    /// Orders images of one slot: the greater one is the fresher.
    pub fn freshness(&self) -> (Epoch, Lsn, SlotSequence) {
        (self.epoch, self.lsn, self.sequence)
    }
}

/// One key of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// When it expires, in milliseconds since 1970.
    pub expiry_ms: Option<u64>,
    /// Its value, in the value format.
    pub value: &'a [u8],
    /// The value is a further part of what the key holds.
    pub is_more: bool,
}

/// Why bytes are not the image they should be. Places are offsets from the beginning of the chunk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImageError {
    /// Fewer bytes than the chunk claims or a header needs.
    #[error("the chunk ends after {have} of {need} bytes")]
    Short {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// The header's crc or magic is wrong.
    #[error("the chunk's header is damaged ({0})")]
    Header(&'static str),
    /// Written by a newer version.
    #[error(
        "the image has format version {found}, this program reads up to {IMAGE_FORMAT_VERSION}: use the newer program"
    )]
    Newer {
        /// Version in the header.
        found: u8,
    },
    /// The body's crc is wrong.
    #[error("the chunk's body is damaged (crc32 is {found:08x}, the header says {expected:08x})")]
    BodyCrc {
        /// From the header.
        expected: u32,
        /// Of the bytes.
        found: u32,
    },
    /// The body does not decompress to what the header says.
    #[error("the chunk's body does not decompress to the length in its header")]
    Compression,
    /// The chunk is whole, but not the one that should be here.
    #[error("not the chunk that belongs here: {0}")]
    Order(&'static str),
    /// The chunks are whole, but their entries make no sense: a defect of the writer.
    #[error("the entries are malformed at byte {raw_offset} of the image: {what}")]
    Entries {
        /// Offset in the image's stream of entries.
        raw_offset: u64,
        /// What does not fit.
        what: &'static str,
    },
}

/// A chunk's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkHeader {
    /// Whose chunk.
    pub stamp: ImageStamp,
    /// Which chunk of the image, from 0.
    pub index: u32,
    /// Whether the image ends with it.
    pub last: bool,
    /// Bytes of the body as stored.
    pub stored_length: u32,
    /// Keys in the image; 0 unless `last`.
    pub keys: u64,
    version: u8,
    compressed: bool,
    raw_length: u32,
    raw_offset: u64,
    body_crc: u32,
}

impl ChunkHeader {
    /// Bytes of the whole chunk.
    pub fn chunk_length(&self) -> u64 {
        CHUNK_HEADER_SIZE as u64 + u64::from(self.stored_length)
    }

    /// Bytes of entries in the image up to the end of this chunk.
    pub fn raw_end(&self) -> u64 {
        self.raw_offset + u64::from(self.raw_length)
    }

    fn encode(&self) -> [u8; CHUNK_HEADER_SIZE] {
        let mut bytes = [0; CHUNK_HEADER_SIZE];
        let stamp = &self.stamp;
        bytes[MAGIC_AT].copy_from_slice(&MAGIC);
        bytes[VERSION] = self.version;
        bytes[FLAGS] = if self.compressed { FLAG_LZ4 } else { 0 } | if self.last { FLAG_LAST } else { 0 };
        bytes[SLOT].copy_from_slice(&stamp.slot.number().to_le_bytes());
        bytes[KIND] = stamp.kind as u8;
        bytes[VALUE_VERSION] = stamp.value_version;
        bytes[INDEX].copy_from_slice(&self.index.to_le_bytes());
        bytes[STORED_LENGTH].copy_from_slice(&self.stored_length.to_le_bytes());
        bytes[RAW_LENGTH].copy_from_slice(&self.raw_length.to_le_bytes());
        bytes[RAW_OFFSET].copy_from_slice(&self.raw_offset.to_le_bytes());
        bytes[SHARD].copy_from_slice(&stamp.shard.0);
        bytes[EPOCH].copy_from_slice(&stamp.epoch.0.to_le_bytes());
        bytes[SEQUENCE].copy_from_slice(&stamp.sequence.0.to_le_bytes());
        bytes[LSN].copy_from_slice(&stamp.lsn.0.to_le_bytes());
        bytes[KEYS].copy_from_slice(&self.keys.to_le_bytes());
        bytes[BODY_CRC].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC.start]);
        bytes[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the beginning of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// When the header is cut, damaged or newer.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let Some(bytes) = bytes.first_chunk::<CHUNK_HEADER_SIZE>() else {
            return Err(ImageError::Short { have: bytes.len() as u64, need: CHUNK_HEADER_SIZE as u64 });
        };
        if bytes[MAGIC_AT] != MAGIC {
            return Err(ImageError::Header("no chunk begins here"));
        }
        if u32::from_le_bytes(field(bytes, HEADER_CRC)) != crc32fast::hash(&bytes[..HEADER_CRC.start]) {
            return Err(ImageError::Header("crc32 differs"));
        }
        if bytes[VERSION] > IMAGE_FORMAT_VERSION {
            return Err(ImageError::Newer { found: bytes[VERSION] });
        }
        let stamp = ImageStamp {
            kind: match bytes[KIND] {
                0 => ImageKind::Slot,
                _ => return Err(ImageError::Header("unknown kind of image")),
            },
            shard: ShardId(field(bytes, SHARD)),
            slot: SlotId::new(u16::from_le_bytes(field(bytes, SLOT)))
                .ok_or(ImageError::Header("no such slot"))?,
            epoch: Epoch(u64::from_le_bytes(field(bytes, EPOCH))),
            sequence: SlotSequence(u64::from_le_bytes(field(bytes, SEQUENCE))),
            lsn: Lsn(u64::from_le_bytes(field(bytes, LSN))),
            value_version: bytes[VALUE_VERSION],
        };
        let header = Self {
            stamp,
            index: u32::from_le_bytes(field(bytes, INDEX)),
            last: bytes[FLAGS] & FLAG_LAST != 0,
            stored_length: u32::from_le_bytes(field(bytes, STORED_LENGTH)),
            keys: u64::from_le_bytes(field(bytes, KEYS)),
            version: bytes[VERSION],
            compressed: bytes[FLAGS] & FLAG_LZ4 != 0,
            raw_length: u32::from_le_bytes(field(bytes, RAW_LENGTH)),
            raw_offset: u64::from_le_bytes(field(bytes, RAW_OFFSET)),
            body_crc: u32::from_le_bytes(field(bytes, BODY_CRC)),
        };
        // A writer stores a chunk plain when compression does not pay, so the stored length is bounded by the raw one.
        if header.raw_length as usize > CHUNK_RAW_MAX || header.stored_length > header.raw_length {
            return Err(ImageError::Header("impossible length"));
        }
        if header.raw_offset > u64::MAX - CHUNK_RAW_MAX as u64 {
            return Err(ImageError::Header("impossible offset"));
        }
        Ok(header)
    }

    /// Checks the crc of a whole chunk's body (`chunk` begins with this header) and returns the body.
    ///
    /// # Errors
    /// When the body is cut or damaged.
    pub fn verify_body<'a>(&self, chunk: &'a [u8]) -> Result<&'a [u8], ImageError> {
        let end = self.chunk_length();
        let body = chunk
            .get(CHUNK_HEADER_SIZE..end as usize)
            .ok_or(ImageError::Short { have: chunk.len() as u64, need: end })?;
        let found = crc32fast::hash(body);
        if found != self.body_crc {
            return Err(ImageError::BodyCrc { expected: self.body_crc, found });
        }
        Ok(body)
    }
}

/// The bytes of a field inside a header of known size; both sizes are known when this is compiled.
fn field<const N: usize>(bytes: &[u8; CHUNK_HEADER_SIZE], at: Range<usize>) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at]);
    value
}

/// Whether bodies are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Compression {
    /// Bodies are stored as they are.
    None,
    /// Bodies are lz4 blocks where that makes them smaller by an eighth or more.
    #[default]
    Lz4,
}

/// Figures of a finished image.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ImageSize {
    /// Keys in it.
    pub keys: u64,
    /// Bytes of entries.
    pub raw_bytes: u64,
    /// Bytes of its chunks.
    pub stored_bytes: u64,
}

/// Builds images, one after the other, in memory that it keeps. While the slot is locked, [`Self::begin`] and [`Self::push`] only
/// copy; [`Self::pack`] and [`Self::finish`] compress and checksum, after the slot was unlocked.
#[derive(Default)]
pub struct ImageBuilder {
    compression: Compression,
    stamp: Option<ImageStamp>,
    /// Entries not yet in a chunk.
    raw: Vec<u8>,
    /// Finished chunks.
    chunks: Vec<u8>,
    packed: Vec<u8>,
    next_index: u32,
    raw_offset: u64,
    keys: u64,
    /// Bytes of chunks that were taken out of the builder.
    taken_bytes: u64,
}

impl ImageBuilder {
    /// A builder of images compressed, or not.
    pub fn new(compression: Compression) -> Self {
        // Enough for most slots: a buffer that grows there leaves the allocator's pages of all sizes behind.
        const USUAL_BYTES: usize = 32 << 10;
        let (raw, chunks) = (Vec::with_capacity(USUAL_BYTES), Vec::with_capacity(USUAL_BYTES));
        Self { compression, raw, chunks, ..Self::default() }
    }

    /// Starts an image; an unfinished one is forgotten.
    pub fn begin(&mut self, stamp: ImageStamp) {
        self.stamp = Some(stamp);
        self.raw.clear();
        if self.chunks.capacity() > 8 * CHUNK_RAW_TARGET {
            self.chunks = Vec::new();
        }
        self.chunks.clear();
        (self.next_index, self.raw_offset, self.keys, self.taken_bytes) = (0, 0, 0, 0);
    }

    /// Adds one key with its value's bytes.
    pub fn push(&mut self, key: &[u8], expiry_ms: Option<u64>, value: &[u8]) {
        self.keys += 1;
        self.put_entry(key, expiry_ms, value, false);
    }

    /// Adds a further part of a value that was pushed before.
    pub fn push_more(&mut self, key: &[u8], expiry_ms: Option<u64>, value: &[u8]) {
        self.put_entry(key, expiry_ms, value, true);
    }

    fn put_entry(&mut self, key: &[u8], expiry_ms: Option<u64>, value: &[u8], is_more: bool) {
        put_varint(&mut self.raw, key.len() as u64 * 2 + u64::from(is_more));
        self.raw.extend_from_slice(key);
        put_varint(&mut self.raw, expiry_ms.unwrap_or(0));
        put_varint(&mut self.raw, value.len() as u64);
        self.raw.extend_from_slice(value);
    }

    /// Makes whole chunks of what was pushed, as far as that goes.
    pub fn pack(&mut self) {
        self.cut_chunks(false);
    }

    /// The chunks made so far, which the builder then forgets, and whether they are the image's first.
    pub fn take_chunks(&mut self) -> (bool, Vec<u8>) {
        let chunks = std::mem::take(&mut self.chunks);
        let is_first = self.taken_bytes == 0;
        self.taken_bytes += chunks.len() as u64;
        (is_first, chunks)
    }

    /// Ends the image and returns the bytes that were not taken, and its figures.
    ///
    /// # Panics
    /// When no image was begun.
    pub fn finish(&mut self) -> (&ImageStamp, &[u8], ImageSize) {
        self.cut_chunks(true);
        let stored_bytes = self.taken_bytes + self.chunks.len() as u64;
        let size = ImageSize { keys: self.keys, raw_bytes: self.raw_offset, stored_bytes };
        // Memory that one huge value needed is not kept for the many small ones.
        if self.raw.capacity() > 8 * CHUNK_RAW_TARGET {
            self.raw = Vec::new();
        }
        (self.stamp.as_ref().expect("an image was begun"), &self.chunks, size)
    }

    /// Makes chunks of what was pushed: whole ones only, or, at the image's end, all of it.
    fn cut_chunks(&mut self, to_the_end: bool) {
        let stamp = self.stamp.expect("an image was begun");
        let raw = std::mem::take(&mut self.raw);
        let mut rest = raw.as_slice();
        loop {
            let last = to_the_end && rest.len() <= CHUNK_RAW_TARGET;
            if rest.len() <= CHUNK_RAW_TARGET && !last {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(CHUNK_RAW_TARGET));
            self.put_chunk(stamp, piece, last);
            rest = after;
            if last {
                break;
            }
        }
        let used = raw.len() - rest.len();
        self.raw = raw;
        self.raw.drain(..used);
    }

    fn put_chunk(&mut self, stamp: ImageStamp, raw: &[u8], last: bool) {
        let mut compressed = false;
        if self.compression == Compression::Lz4 && raw.len() >= 64 {
            self.packed.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            if let Ok(length) = lz4_flex::block::compress_into(raw, &mut self.packed) {
                self.packed.truncate(length);
                compressed = length <= raw.len() - raw.len() / 8;
            }
        }
        let body = if compressed { self.packed.as_slice() } else { raw };
        let header = ChunkHeader {
            stamp,
            index: self.next_index,
            last,
            stored_length: body.len() as u32,
            keys: if last { self.keys } else { 0 },
            version: IMAGE_FORMAT_VERSION,
            compressed,
            raw_length: raw.len() as u32,
            raw_offset: self.raw_offset,
            body_crc: crc32fast::hash(body),
        };
        self.chunks.extend_from_slice(&header.encode());
        self.chunks.extend_from_slice(body);
        self.next_index += 1;
        self.raw_offset += raw.len() as u64;
    }
}

/// Reads images chunk by chunk, in order. Holds one chunk and the entry that goes on in the next one.
#[derive(Default)]
pub struct ImageDecoder {
    stamp: Option<ImageStamp>,
    next_index: u32,
    raw_offset: u64,
    keys: u64,
    done: bool,
    /// Entry bytes of earlier chunks whose entry is not complete yet.
    carry: Vec<u8>,
    plain: Vec<u8>,
}

impl ImageDecoder {
    /// A decoder at the beginning of an image.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the image's last chunk was read.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whose image it is, once its first chunk was read.
    pub fn stamp(&self) -> Option<&ImageStamp> {
        self.stamp.as_ref()
    }

    /// Keys handed out so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Forgets the image and expects the first chunk of another one; keeps its memory.
    pub fn restart(&mut self) {
        (self.stamp, self.next_index, self.raw_offset, self.keys, self.done) = (None, 0, 0, 0, false);
        self.carry.clear();
    }

    /// Checks the image's next chunk, which `chunk` begins with, and hands its complete entries to `on_entry`.
    ///
    /// # Errors
    /// When the chunk is damaged or not the next one; the image is then useless, what was handed out of it included.
    pub fn push_chunk(
        &mut self,
        chunk: &[u8],
        mut on_entry: impl FnMut(&ImageStamp, Entry<'_>),
    ) -> Result<ChunkHeader, ImageError> {
        let header = ChunkHeader::decode(chunk)?;
        let body = header.verify_body(chunk)?;
        self.expect_next(&header)?;
        let raw = if header.compressed {
            self.plain.resize(header.raw_length as usize, 0);
            let length = lz4_flex::block::decompress_into(body, &mut self.plain)
                .map_err(|_| ImageError::Compression)?;
            if length != header.raw_length as usize {
                return Err(ImageError::Compression);
            }
            self.plain.as_slice()
        } else {
            if body.len() != header.raw_length as usize {
                return Err(ImageError::Header("impossible length"));
            }
            body
        };
        let mut carry = std::mem::take(&mut self.carry);
        let carried = !carry.is_empty();
        if carried {
            carry.extend_from_slice(raw);
        }
        let stream = if carried { carry.as_slice() } else { raw };
        let mut rest = stream;
        let raw_end = header.raw_end();
        let malformed =
            |rest: &[u8], what| ImageError::Entries { raw_offset: raw_end - rest.len() as u64, what };
        while !rest.is_empty() {
            match take_entry(rest, header.version) {
                Ok(Some((entry, after))) => {
                    self.keys += u64::from(!entry.is_more);
                    on_entry(&header.stamp, entry);
                    rest = after;
                }
                Ok(None) => break,
                Err(what) => return Err(malformed(rest, what)),
            }
        }
        if header.last && !rest.is_empty() {
            return Err(malformed(rest, "the image ends inside an entry"));
        }
        let used = stream.len() - rest.len();
        if carried {
            carry.drain(..used);
        } else {
            carry.extend_from_slice(raw.get(used..).unwrap_or_default());
        }
        self.carry = carry;
        self.raw_offset = raw_end;
        self.next_index = self.next_index.wrapping_add(1);
        if header.last {
            self.done = true;
            if self.keys != header.keys {
                return Err(ImageError::Entries {
                    raw_offset: raw_end,
                    what: "the header counts other keys than there are",
                });
            }
        }
        Ok(header)
    }

    fn expect_next(&mut self, header: &ChunkHeader) -> Result<(), ImageError> {
        if self.done {
            return Err(ImageError::Order("the image has ended before"));
        }
        if *self.stamp.get_or_insert(header.stamp) != header.stamp {
            return Err(ImageError::Order("it is of another image"));
        }
        if header.index != self.next_index || header.raw_offset != self.raw_offset {
            return Err(ImageError::Order("chunks before it are missing"));
        }
        Ok(())
    }
}

/// The entry at the beginning of `bytes` and what follows; `None` when its end is not there yet.
fn take_entry(bytes: &[u8], version: u8) -> Result<Option<(Entry<'_>, &[u8])>, &'static str> {
    let Some((length, rest)) = take_varint(bytes)? else { return Ok(None) };
    let (key_length, is_more) = if version == 1 { (length, false) } else { (length / 2, length % 2 == 1) };
    let Some((key, rest)) = take_bytes(rest, key_length) else { return Ok(None) };
    let Some((expiry_ms, rest)) = take_varint(rest)? else { return Ok(None) };
    let Some((value_length, rest)) = take_varint(rest)? else { return Ok(None) };
    let Some((value, rest)) = take_bytes(rest, value_length) else { return Ok(None) };
    let expiry_ms = (expiry_ms != 0).then_some(expiry_ms);
    Ok(Some((Entry { key, expiry_ms, value, is_more }, rest)))
}

fn take_bytes(bytes: &[u8], length: u64) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(usize::try_from(length).ok()?)
}

fn take_varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, &'static str> {
    let mut value = 0u64;
    for (place, &byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * place as u32;
        if shift > 63 || (shift == 63 && bits > 1) {
            return Err("a number is longer than 64 bits");
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(bytes.get(place + 1..).map(|rest| (value, rest)));
        }
    }
    Ok(None)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
#[path = "image_format_tests.rs"]
mod tests;
