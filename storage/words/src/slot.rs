//! Slots and the rule that maps a key to one.

use alloc::vec::Vec;
use core::fmt;

/// Number of hash slots in a cluster (Redis Cluster specification, "Key distribution model").
pub const SLOT_COUNT: u16 = 16384;

/// A hash slot, always below [`SLOT_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotId(u16);

impl SlotId {
    /// The slot with this number, or `None` when it is not below [`SLOT_COUNT`].
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The slot of a key: CRC16 of its hash tag when it has a non-empty one, of the whole key otherwise.
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) % SLOT_COUNT)
    }

    /// The slot's number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot's number, for indexing a table of [`SLOT_COUNT`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// The part of a key that is hashed: what stands between the first `{` and the first `}` after it, when that is not
/// empty; otherwise the whole key (Redis Cluster specification, "Hash tags").
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let tail = &key[open + 1..];
    match tail.iter().position(|&b| b == b'}') {
        Some(0) | None => key,
        Some(close) => &tail[..close],
    }
}

/// An inclusive range of slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotRange {
    /// First slot of the range.
    pub first: SlotId,
    /// Last slot of the range, inclusive; never below `first`.
    pub last: SlotId,
}

impl SlotRange {
    /// Folds ascending slots into the fewest ranges.
    pub fn fold(slots: impl IntoIterator<Item = SlotId>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for slot in slots {
            match ranges.last_mut() {
                Some(range) if range.last.0 + 1 == slot.0 => range.last = slot,
                _ => ranges.push(Self { first: slot, last: slot }),
            }
        }
        ranges
    }

    /// The slots of the range, in order.
    pub fn slots(self) -> impl Iterator<Item = SlotId> {
        (self.first.0..=self.last.0).map(SlotId)
    }
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected. Eight bytes a step: every command waits for its key's.
pub fn crc16(bytes: &[u8]) -> u16 {
    let (steps, rest) = bytes.as_chunks::<8>();
    let crc = steps.iter().fold(0u16, |crc, step| {
        let [high, low] = crc.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = *step;
        let of = |distance: usize, byte: u8| CRC16_TABLES[distance][usize::from(byte)];
        of(7, a ^ high) ^ of(6, b ^ low) ^ of(5, c) ^ of(4, d) ^ of(3, e) ^ of(2, f) ^ of(1, g) ^ of(0, h)
    });
    rest.iter().fold(crc, |crc, &byte| (crc << 8) ^ CRC16_TABLES[0][usize::from((crc >> 8) as u8 ^ byte)])
}

/// By how many zero bytes follow it, then by byte: what a byte adds to the CRC.
static CRC16_TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut distance = 0;
        while distance < tables.len() {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
                bit += 1;
            }
            tables[distance][byte] = crc;
            distance += 1;
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_has_the_check_value_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn crc16_of_any_length_is_what_a_bit_at_a_time_gives() {
        let bytes: Vec<u8> = (0..40u32).map(|number| (number * 167 % 251) as u8).collect();
        for length in 0..=bytes.len() {
            let expected = bytes[..length].iter().fold(0u16, |crc, &byte| {
                (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                    if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
                })
            });
            assert_eq!(crc16(&bytes[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn only_a_non_empty_first_hash_tag_counts() {
        assert_eq!(hash_tag(b"{user1000}.following"), b"user1000");
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
        assert_eq!(hash_tag(b"}foo{bar}"), b"bar");
    }

    #[test]
    fn slots_are_those_redis_computes() {
        assert_eq!(SlotId::of_key(b"foo").number(), 12182);
        assert_eq!(SlotId::of_key(b"bar").number(), 5061);
        assert_eq!(SlotId::of_key(b"").number(), 0);
        assert_eq!(SlotId::of_key(b"{foo}anything"), SlotId::of_key(b"foo"));
    }

    #[test]
    fn ranges_fold_neighbours_only() {
        let slots = [0, 1, 2, 5, 7, 8].map(|n| SlotId::new(n).unwrap());
        let ranges = SlotRange::fold(slots);
        let numbers: Vec<(u16, u16)> = ranges.iter().map(|r| (r.first.number(), r.last.number())).collect();
        assert_eq!(numbers, [(0, 2), (5, 5), (7, 8)]);
        assert_eq!(ranges.iter().flat_map(|r| r.slots()).count(), 6);
    }

    #[test]
    fn a_slot_number_out_of_range_is_no_slot() {
        assert!(SlotId::new(SLOT_COUNT).is_none());
        assert_eq!(SlotId::all().count(), usize::from(SLOT_COUNT));
    }
}
