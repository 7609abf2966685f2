//! FORMAT of the log on disk. All numbers are little endian. Version: [`SEGMENT_VERSION`].
//!
//! ```text
//! segment file `<first LSN, 20 digits>.wal`
//!      0  header block, 4096 bytes
//!           0  magic "HFWAL\r\n\x1a"  8 | version u32 | mutation format u8 | 0 0 0
//!          16  shard id 20 | first LSN u64 | crc32 u32 over bytes 0..44
//!         512  mark sector A        1024  mark sector B
//!              magic "MARK" | counter u64 | durable LSN u64 | boot id 16 | crc32 u32 over the 36 bytes before
//!        1536  epoch history as of the first LSN: count u16 | (epoch u64, start LSN u64)… | crc32 u32 over all before, from 1536
//!   4096  records, back to back; the record at LSN n stands at 4096 + n - first LSN
//!         then zeros (space reserved), or in a sealed segment the slot index and the footer, at the end of the file:
//!           index   (slot u16 | count u32 | offset in the file u32 …)… by ascending slot
//!           footer  magic "HFSEAL\r\n" 8 | end LSN u64 | index offset u64 | index length u32 | records u32 |
//!                   crc32 u32 over index and footer up to here
//!
//! record
//!   0  length u32   of the whole record, header included
//!   4  crc32  u32   over bytes 8..length, xor a mix of the record's LSN: a record at the wrong place is no record
//!   8  kind u8 | flags u8 | slot u16
//!  12  epoch u64 | slot sequence u64 | wall clock ms u64
//!  36  body
//! ```
//!
//! A mark that is all zeros was never written. Marks are this node's own; records are the same bytes on every member.

use holdfast_words::{BootId, Epoch, Lsn, ShardId, SlotId, SlotSequence};

use super::record_places::RecordPlaces;
use super::seal_index;
use crate::mutation::MUTATION_FORMAT_VERSION;
use crate::platform::sabotage::{self, Switch};

/// Version of the segment format; a higher one is refused.
pub const SEGMENT_VERSION: u32 = 1;
/// Bytes before a segment's first record.
pub const SEGMENT_HEADER_SIZE: u64 = 4096;
/// Bytes of a record before its body.
pub const RECORD_HEADER_SIZE: usize = 36;
/// Bytes of the footer of a sealed segment.
pub const FOOTER_SIZE: usize = 36;
/// Flag of a record: the next one belongs to the same command; all or none of them count.
pub const MORE_FOLLOWS: u8 = 1;
/// No record is longer: what claims to be is damage.
pub const RECORD_SIZE_MAX: usize = 1 << 30;

const SEGMENT_MAGIC: [u8; 8] = *b"HFWAL\r\n\x1a";
const FOOTER_MAGIC: [u8; 8] = *b"HFSEAL\r\n";
const MARK_MAGIC: [u8; 4] = *b"MARK";
const SECTOR: usize = 512;
const MARK_SIZE: usize = 40;
const FLAGS_AT: usize = 9;
const HISTORY_AT: usize = 3 * SECTOR;
/// Epochs kept in a segment's header: more changes of master than any log's retention spans.
pub const HISTORY_MAX: usize = (SEGMENT_HEADER_SIZE as usize - HISTORY_AT - 2 - 4) / 16;

const _: () = assert!(RECORD_HEADER_SIZE == 4 + 4 + 1 + 1 + 2 + 8 + 8 + 8);
const _: () = assert!(FOOTER_SIZE == 8 + 8 + 8 + 4 + 4 + 4);
const _: () = assert!(MARK_SIZE == 4 + 8 + 8 + 16 + 4 && MARK_SIZE <= SECTOR);

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// Mutations of one slot.
    Mutations,
    /// A new master begins its epoch; the body is its node id.
    EpochStart,
    /// An entry of the metadata group's log; opaque here.
    Metadata,
}

impl RecordKind {
    const fn code(self) -> u8 {
        match self {
            Self::Mutations => 1,
            Self::EpochStart => 2,
            Self::Metadata => 3,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Mutations),
            2 => Some(Self::EpochStart),
            3 => Some(Self::Metadata),
            _ => None,
        }
    }
}

/// What stands before a record's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// [`MORE_FOLLOWS`] or 0.
    pub flags: u8,
    /// Whose state it changes.
    pub slot: SlotId,
    /// The shard's epoch when it was made.
    pub epoch: Epoch,
    /// Its number within the slot.
    pub sequence: SlotSequence,
    /// When it was made, milliseconds since 1970 by the master's wall clock.
    pub wall_clock_ms: u64,
}

/// One whole record, checked.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Its header.
    pub header: RecordHeader,
    /// Its body.
    pub body: &'a [u8],
    /// All of its bytes.
    pub bytes: &'a [u8],
}

impl RecordView<'_> {
    /// Where the next record begins.
    pub fn end(&self) -> Lsn {
        self.lsn.advance(self.bytes.len() as u64)
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    /// Only zeros where a record would begin: space reserved.
    #[error("no record begins here")]
    Empty,
    /// The bytes end before the record does; this many are needed.
    #[error("the record is cut short: {0} bytes are needed")]
    Short(usize),
    /// The length cannot be.
    #[error("the record's length {0} cannot be")]
    Length(u32),
    /// The CRC differs.
    #[error("the record's CRC is {found:08x}, its bytes give {computed:08x}")]
    Crc {
        /// What the record says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// CRC right, contents unknown: written by a newer version.
    #[error("the record's kind {kind} or slot {slot} is not known to this version")]
    Unknown {
        /// Kind as read.
        kind: u8,
        /// Slot as read.
        slot: u16,
    },
}

/// Spreads an LSN over 32 bits.
const fn mix(lsn: Lsn) -> u32 {
    (lsn.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Appends a record to `out`. Its CRC is finished by [`place_records`] once its LSN is known.
pub fn encode_record(out: &mut Vec<u8>, header: &RecordHeader, body: &[u8]) {
    let start = out.len();
    out.reserve(RECORD_HEADER_SIZE + body.len());
    out.extend_from_slice(&[0; RECORD_HEADER_SIZE]);
    out.extend_from_slice(body);
    finish_record(&mut out[start..], header);
}

/// Fills in the header of a record whose body stands in its place already, behind [`RECORD_HEADER_SIZE`] bytes of room. As
/// [`encode_record`].
pub fn finish_record(record: &mut [u8], header: &RecordHeader) {
    let length = record.len();
    assert!((RECORD_HEADER_SIZE..=RECORD_SIZE_MAX).contains(&length), "a record of {length} bytes");
    record[..4].copy_from_slice(&(length as u32).to_le_bytes());
    record[8] = header.kind.code();
    record[FLAGS_AT] = header.flags;
    record[10..12].copy_from_slice(&header.slot.number().to_le_bytes());
    record[12..20].copy_from_slice(&header.epoch.0.to_le_bytes());
    record[20..28].copy_from_slice(&header.sequence.0.to_le_bytes());
    record[28..RECORD_HEADER_SIZE].copy_from_slice(&header.wall_clock_ms.to_le_bytes());
    let crc = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Finishes the CRCs of encoded records that will stand from `lsn` on.
pub fn place_records(records: &mut [u8], lsn: Lsn) {
    let mut at = 0;
    while let Some(length) = record_length(&records[at..]) {
        let crc = u32_at(records, at + 4) ^ mix(lsn.advance(at as u64));
        records[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += length;
    }
    debug_assert_eq!(at, records.len(), "only whole records are placed");
}

/// The length that the record at the front of `bytes` claims; nothing is checked.
pub fn record_length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
}

/// The length of the group of records at the front of `bytes` (a record alone is a group too); `None` when its end is not
/// there. Nothing is checked but that lengths are possible.
pub fn group_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = record_length(&bytes[at..])?;
        let record = bytes[at..].get(..length).filter(|_| length >= RECORD_HEADER_SIZE)?;
        at += length;
        if record[FLAGS_AT] & MORE_FOLLOWS == 0 {
            return Some(at);
        }
    }
}

/// The slot that the record at the front of `bytes` claims; nothing is checked.
pub fn record_slot(bytes: &[u8]) -> u16 {
    bytes.get(10..12).map_or(0, |slot| u16::from_le_bytes([slot[0], slot[1]]))
}

/// Reads and checks the record at the front of `bytes`, which stands at `lsn`.
///
/// # Errors
/// When it is none.
pub fn decode_record(bytes: &[u8], lsn: Lsn) -> Result<RecordView<'_>, RecordFault> {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_SIZE>() else {
        return Err(if bytes.iter().all(|&byte| byte == 0) {
            RecordFault::Empty
        } else {
            RecordFault::Short(RECORD_HEADER_SIZE)
        });
    };
    let claimed = u32_at(header, 0);
    let length = claimed as usize;
    if claimed == 0 && header.iter().all(|&byte| byte == 0) {
        return Err(RecordFault::Empty);
    }
    if !(RECORD_HEADER_SIZE..=RECORD_SIZE_MAX).contains(&length) {
        return Err(RecordFault::Length(claimed));
    }
    let Some(bytes) = bytes.get(..length) else { return Err(RecordFault::Short(length)) };
    let (found, computed) = (u32_at(header, 4), crc32fast::hash(&bytes[8..]) ^ mix(lsn));
    if found != computed && !sabotage::is_on(Switch::TornTailKept) {
        return Err(RecordFault::Crc { found, computed });
    }
    view(header, bytes, lsn).map_err(|(kind, slot)| RecordFault::Unknown { kind, slot })
}

/// The record that `bytes`, which stand at `lsn`, begin with; it was checked by [`decode_record`] before and is not again.
///
/// # Panics
/// When it cannot have been.
pub fn checked_record(bytes: &[u8], lsn: Lsn) -> RecordView<'_> {
    let header = bytes.first_chunk::<RECORD_HEADER_SIZE>().expect("a checked record has a header");
    let record = bytes.get(..u32_at(header, 0) as usize).filter(|record| record.len() >= RECORD_HEADER_SIZE);
    let record = record.expect("a checked record is whole");
    view(header, record, lsn).expect("a checked record is of a known kind")
}

/// A whole record's view; an error names the kind or slot that is not known.
fn view<'a>(
    header: &[u8; RECORD_HEADER_SIZE],
    bytes: &'a [u8],
    lsn: Lsn,
) -> Result<RecordView<'a>, (u8, u16)> {
    let (kind, slot) = (header[8], u16::from_le_bytes([header[10], header[11]]));
    let (Some(kind), Some(slot)) = (RecordKind::of_code(kind), SlotId::new(slot)) else {
        return Err((kind, slot));
    };
    let header = RecordHeader {
        kind,
        flags: header[9],
        slot,
        epoch: Epoch(u64_at(header, 12)),
        sequence: SlotSequence(u64_at(header, 20)),
        wall_clock_ms: u64_at(header, 28),
    };
    Ok(RecordView { lsn, header, body: &bytes[RECORD_HEADER_SIZE..], bytes })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.first_chunk().copied()).map_or(0, u64::from_le_bytes)
}

/// `(epoch, LSN of its first record)`, ascending in both: under whom the log was written.
pub type EpochHistory = Vec<(Epoch, Lsn)>;

/// A segment's own facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The shard whose log this is.
    pub shard: ShardId,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// The epochs that began before `first_lsn`; the newest [`HISTORY_MAX`].
    pub history: EpochHistory,
}

/// What this node knew to be durable, and under which boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Higher is newer.
    pub counter: u64,
    /// Everything below is on this disk.
    pub durable_lsn: Lsn,
    /// The boot in which the mark was written.
    pub boot: BootId,
}

/// Why a header block is not one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderFault {
    /// Not a segment at all, or damaged beyond that.
    #[error("the segment's header is damaged ({0})")]
    Damaged(&'static str),
    /// Written by a newer holdfast.
    #[error(
        "the segment has format version {found}, this holdfast reads up to {SEGMENT_VERSION}: start the version that wrote it"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
}

impl SegmentHeader {
    /// The header block of a new segment.
    pub fn encode(&self, mark: &Mark) -> Vec<u8> {
        let mut block = Vec::with_capacity(SEGMENT_HEADER_SIZE as usize);
        block.extend_from_slice(&SEGMENT_MAGIC);
        block.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        block.extend_from_slice(&[MUTATION_FORMAT_VERSION, 0, 0, 0]);
        block.extend_from_slice(&self.shard.0);
        block.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        let crc = crc32fast::hash(&block);
        block.extend_from_slice(&crc.to_le_bytes());
        // In the sector that is its turn: the next mark then leaves it alone.
        block.resize(mark.offset() as usize, 0);
        block.extend_from_slice(&mark.encode());
        block.resize(HISTORY_AT, 0);
        let kept = &self.history[self.history.len().saturating_sub(HISTORY_MAX)..];
        block.extend_from_slice(&(kept.len() as u16).to_le_bytes());
        for (epoch, start) in kept {
            block.extend_from_slice(&epoch.0.to_le_bytes());
            block.extend_from_slice(&start.0.to_le_bytes());
        }
        let crc = crc32fast::hash(&block[HISTORY_AT..]);
        block.extend_from_slice(&crc.to_le_bytes());
        block.resize(SEGMENT_HEADER_SIZE as usize, 0);
        block
    }

    /// The header block of a segment whose first LSN is not known yet: its first sector is zeros.
    pub fn encode_without_place(&self, mark: &Mark) -> Vec<u8> {
        let mut block = self.encode(mark);
        block[..SECTOR].fill(0);
        block
    }

    /// The header block's first sector, which says what [`Self::encode_without_place`] leaves out.
    pub fn encode_place(&self) -> Vec<u8> {
        let mut block = self.encode(&Mark::default());
        block.truncate(SECTOR);
        block
    }

    /// Reads a header block; the mark is the newer of the two.
    ///
    /// # Errors
    /// When any part of it is damaged, or newer than this version.
    pub fn decode(block: &[u8]) -> Result<(Self, Mark), HeaderFault> {
        if block.len() < SEGMENT_HEADER_SIZE as usize || block[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Damaged("no magic"));
        }
        let version = u32_at(block, 8);
        if version > SEGMENT_VERSION || block[12] > MUTATION_FORMAT_VERSION {
            return Err(HeaderFault::Newer { found: version.max(u32::from(block[12])) });
        }
        if u32_at(block, 44) != crc32fast::hash(&block[..44]) {
            return Err(HeaderFault::Damaged("CRC of the header"));
        }
        let shard = block[16..36].first_chunk().copied().map(ShardId).unwrap_or_default();
        let mark_a = Mark::decode(&block[SECTOR..2 * SECTOR]);
        let mark_b = Mark::decode(&block[2 * SECTOR..HISTORY_AT]);
        // One that does not read is a write that a power cut tore; the other one, written before, still holds.
        let mark = match (mark_a, mark_b) {
            (Ok(a), Ok(b)) => {
                if b.counter > a.counter {
                    b
                } else {
                    a
                }
            }
            (Ok(only), Err(_)) | (Err(_), Ok(only)) if only.counter > 0 => only,
            _ => return Err(HeaderFault::Damaged("CRC of the durable marks")),
        };
        let count = usize::from(u16::from_le_bytes([block[HISTORY_AT], block[HISTORY_AT + 1]]));
        let end = HISTORY_AT + 2 + 16 * count;
        if count > HISTORY_MAX || u32_at(block, end) != crc32fast::hash(&block[HISTORY_AT..end]) {
            return Err(HeaderFault::Damaged("CRC of the epoch history"));
        }
        let entry = |index: usize| {
            let at = HISTORY_AT + 2 + 16 * index;
            (Epoch(u64_at(block, at)), Lsn(u64_at(block, at + 8)))
        };
        let header =
            Self { shard, first_lsn: Lsn(u64_at(block, 36)), history: (0..count).map(entry).collect() };
        Ok((header, mark))
    }
}

impl Mark {
    /// The mark's bytes; it belongs at [`Self::offset`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARK_SIZE);
        bytes.extend_from_slice(&MARK_MAGIC);
        bytes.extend_from_slice(&self.counter.to_le_bytes());
        bytes.extend_from_slice(&self.durable_lsn.0.to_le_bytes());
        bytes.extend_from_slice(&self.boot.0);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Where in the file this mark is written: the two sectors take turns, so that a torn write leaves the other.
    pub fn offset(&self) -> u64 {
        (1 + (self.counter + 1) % 2) * SECTOR as u64
    }

    /// The counter from which a segment whose newest mark is `own` goes on, so that the next mark does not overwrite that one: it
    /// may be the segment's only one.
    pub fn counter_beside(&self, own: &Self) -> u64 {
        let next_is_at = Self { counter: self.counter + 1, ..*self }.offset();
        if next_is_at == own.offset() { self.counter + 1 } else { self.counter }
    }

    /// The newer of a header block's two marks, as far as they can be read, whatever the rest of the block is like.
    pub fn newest_in(block: &[u8]) -> Option<Self> {
        let marks = block.chunks_exact(SECTOR).skip(1).take(2);
        let sound = marks.filter_map(|sector| Self::decode(sector).ok()).filter(|mark| mark.counter > 0);
        sound.max_by_key(|mark| mark.counter)
    }

    /// Which of a header block's two marks do not read, and where they stand.
    pub fn faults(block: &[u8]) -> Vec<(u64, HeaderFault)> {
        let sectors = block.chunks_exact(SECTOR).enumerate().skip(1).take(2);
        let fault =
            |(index, sector)| Self::decode(sector).err().map(|fault| ((index * SECTOR) as u64, fault));
        sectors.filter_map(fault).collect()
    }

    fn decode(sector: &[u8]) -> Result<Self, HeaderFault> {
        if sector.iter().all(|&byte| byte == 0) {
            return Ok(Self::default());
        }
        if sector[..4] != MARK_MAGIC
            || u32_at(sector, MARK_SIZE - 4) != crc32fast::hash(&sector[..MARK_SIZE - 4])
        {
            return Err(HeaderFault::Damaged("CRC of a durable mark"));
        }
        let boot = sector[20..36].first_chunk().copied().map(BootId).unwrap_or_default();
        Ok(Self { counter: u64_at(sector, 4), durable_lsn: Lsn(u64_at(sector, 12)), boot })
    }
}

/// What the end of a sealed segment says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// LSN after the last record.
    pub end_lsn: Lsn,
    /// Number of records.
    pub records: u32,
    /// By ascending slot: where its records begin, as offsets in the file.
    pub index: Vec<(u16, Vec<u32>)>,
}

impl Seal {
    /// Hands to `out`, piece by piece, the bytes that follow the last record, which ends at LSN `end_lsn` and file offset `at`; of each
    /// record its slot and file offset. Sorted here, once a segment, and not while records are written. `rest` is called after every
    /// few thousand records: whoever has nothing to wait for lets others go on.
    ///
    /// # Errors
    /// What `out` says.
    pub fn encode<E>(
        records: &RecordPlaces,
        end_lsn: Lsn,
        at: u64,
        buffers: &mut seal_index::Buffers,
        rest: &mut dyn FnMut(),
        out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut crc = crc32fast::Hasher::new();
        let mut index_length = 0;
        seal_index::encode(records, buffers, rest, &mut |piece: &[u8]| {
            crc.update(piece);
            index_length += piece.len() as u32;
            out(piece)
        })?;
        let mut footer = Vec::with_capacity(FOOTER_SIZE);
        footer.extend_from_slice(&FOOTER_MAGIC);
        footer.extend_from_slice(&end_lsn.0.to_le_bytes());
        footer.extend_from_slice(&at.to_le_bytes());
        footer.extend_from_slice(&index_length.to_le_bytes());
        footer.extend_from_slice(&(records.count() as u32).to_le_bytes());
        crc.update(&footer);
        footer.extend_from_slice(&crc.finalize().to_le_bytes());
        out(&footer)
    }

    /// Where the index begins and how long it is, when `footer` (the last [`FOOTER_SIZE`] bytes of the file) is one.
    pub fn locate(footer: &[u8]) -> Option<(u64, u32)> {
        (footer.len() == FOOTER_SIZE && footer[..8] == FOOTER_MAGIC)
            .then(|| (u64_at(footer, 16), u32_at(footer, 24)))
    }

    /// Reads index and footer, which together are `bytes`.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let footer_at = bytes.len().checked_sub(FOOTER_SIZE)?;
        let (index, footer) = bytes.split_at(footer_at);
        if u32_at(footer, 32) != crc32fast::hash(&bytes[..bytes.len() - 4]) {
            return None;
        }
        let mut slots = Vec::new();
        let mut rest = index;
        while let Some((head, tail)) = rest.split_first_chunk::<6>() {
            let (slot, count) = (u16::from_le_bytes([head[0], head[1]]), u32_at(head, 2) as usize);
            let offsets = tail.get(..count.checked_mul(4)?)?;
            slots.push((slot, offsets.chunks_exact(4).map(|four| u32_at(four, 0)).collect()));
            rest = &tail[offsets.len()..];
        }
        Some(Self { end_lsn: Lsn(u64_at(footer, 8)), records: u32_at(footer, 28), index: slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Mutations,
            flags: MORE_FOLLOWS,
            slot: SlotId::new(12182).unwrap(),
            epoch: Epoch(3),
            sequence: SlotSequence(7),
            wall_clock_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_only_at_its_place() {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &header(), b"body");
        place_records(&mut bytes, Lsn(1000));
        let record = decode_record(&bytes, Lsn(1000)).unwrap();
        assert_eq!((record.header, record.body, record.end()), (header(), &b"body"[..], Lsn(1040)));
        assert!(matches!(decode_record(&bytes, Lsn(1001)), Err(RecordFault::Crc { .. })));
    }

    #[test]
    fn a_record_has_the_bytes_it_had_in_version_1() {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &header(), b"");
        place_records(&mut bytes, Lsn(0));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..8], "24000000");
        assert_eq!(&hex[16..], "0101962f030000000000000007000000000000000068e5cf8b010000");
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &header(), b"some body");
        place_records(&mut bytes, Lsn(5));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&damaged, Lsn(5)).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(decode_record(&bytes[..cut], Lsn(5)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn header_marks_and_history_survive_and_damage_is_named() {
        let segment = SegmentHeader {
            shard: ShardId([7; 20]),
            first_lsn: Lsn(99),
            history: vec![(Epoch(1), Lsn(0)), (Epoch(4), Lsn(50))],
        };
        let mark = Mark { counter: 1, durable_lsn: Lsn(99), boot: BootId([3; 16]) };
        let mut block = segment.encode(&mark);
        assert_eq!(SegmentHeader::decode(&block).unwrap(), (segment.clone(), mark));
        let newer = Mark { counter: 2, durable_lsn: Lsn(120), boot: BootId([3; 16]) };
        let at = newer.offset() as usize;
        block[at..at + MARK_SIZE].copy_from_slice(&newer.encode());
        assert_eq!(SegmentHeader::decode(&block).unwrap().1, newer);
        for byte in [9, 20, 40, HISTORY_AT + 3] {
            let mut damaged = block.clone();
            damaged[byte] ^= 0x10;
            assert!(SegmentHeader::decode(&damaged).is_err(), "byte {byte}");
        }
        let mut torn = block.clone();
        torn[at + 5] ^= 0x10;
        assert_eq!(SegmentHeader::decode(&torn).unwrap().1, mark, "the mark before the torn one holds");
        torn[mark.offset() as usize + 5] ^= 0x10;
        assert!(SegmentHeader::decode(&torn).is_err(), "no write tears both marks");
    }

    fn whole(records: &RecordPlaces, end_lsn: Lsn, at: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Seal::encode(records, end_lsn, at, &mut seal_index::Buffers::new(), &mut || (), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        bytes
    }

    #[test]
    fn a_seal_of_many_records_has_each_in_its_slot_in_its_order() {
        // Few slots with many records and many with few, so that slots are done alone and together.
        for slots in [1, 3, 40, 16384] {
            let mut dice = fastrand::Rng::with_seed(slots.into());
            let records: Vec<(u16, u32)> =
                (0..150_000).map(|n| (dice.u16(..slots).min(dice.u16(..slots)), 4096 + 50 * n)).collect();
            let mut index = std::collections::BTreeMap::<u16, Vec<u32>>::new();
            for &(slot, offset) in &records {
                index.entry(slot).or_default().push(offset);
            }
            let bytes = whole(&records.iter().copied().collect(), Lsn(9), 10_000_000);
            let seal = Seal::decode(&bytes).unwrap();
            assert_eq!(seal.records, 150_000);
            assert_eq!(seal.index, index.into_iter().collect::<Vec<_>>(), "{slots} slots");
        }
    }

    #[test]
    fn a_seal_reads_as_it_was_written() {
        let seal =
            Seal { end_lsn: Lsn(500), records: 3, index: vec![(1, vec![4096, 4200]), (9, vec![4150])] };
        let records = RecordPlaces::from_iter([(1, 4096), (9, 4150), (1, 4200)]);
        let bytes = whole(&records, Lsn(500), 4300);
        assert_eq!(
            Seal::locate(&bytes[bytes.len() - FOOTER_SIZE..]),
            Some((4300, (bytes.len() - FOOTER_SIZE) as u32))
        );
        assert_eq!(Seal::decode(&bytes), Some(seal));
        for byte in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 1;
            assert_eq!(Seal::decode(&damaged), None, "byte {byte}");
        }
    }
}
