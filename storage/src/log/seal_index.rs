//! The index in a segment's seal (its bytes: [`super::format`]), made of records in the order of the log: a counting sort by slot
//! that never holds more than a piece of it.

use std::ops::Range;

use holdfast_words::SLOT_COUNT;

use super::record_places::{PIECE, RecordPlaces};

/// Bytes of the index made at once, where no slot alone has more.
const PIECE_BYTES: usize = 128 << 10;
/// Slot and count in front of a slot's offsets.
const HEAD: usize = 6;

/// Memory that is there before it is needed. Made when a segment is sealed it came in the allocator's fresh pages, two megabytes that
/// the kernel clears in one go: 4 to 7 ms in a virtual machine whose host has not backed them yet.
pub struct Buffers {
    /// Of each slot how many records it has, then where its next offset belongs.
    counts: Vec<u32>,
    piece: Vec<u8>,
}

impl Buffers {
    /// All of it, in use once.
    pub fn new() -> Self {
        let mut piece = vec![1; PIECE_BYTES + HEAD + 4 * PIECE];
        piece.clear();
        Self { counts: vec![1; usize::from(SLOT_COUNT)], piece }
    }
}

/// Hands slot, count and offsets of each slot that has records, by ascending slot, to `out`, some hundred kilobytes at a time;
/// `rest` is called now and then.
///
/// # Errors
/// What `out` says.
pub fn encode<E>(
    records: &RecordPlaces,
    buffers: &mut Buffers,
    rest: &mut dyn FnMut(),
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let Buffers { counts, piece } = buffers;
    counts.fill(0);
    for (slots, _) in records.pieces() {
        slots.iter().for_each(|&slot| counts[usize::from(slot)] += 1);
        rest();
    }
    let mut next = 0;
    while let Some(slots) = next_slots(counts, next) {
        next = slots.end;
        if slots.len() == 1 {
            of_one_slot(records, slots.start as u16, counts[slots.start], piece, rest, out)?;
        } else {
            of_several_slots(records, slots.start, &mut counts[slots], piece, rest);
            out(piece)?;
        }
        rest();
    }
    Ok(())
}

/// The next slots from `from` on that fit into a piece together, or one that does not; none when no more have records.
fn next_slots(counts: &[u32], from: usize) -> Option<Range<usize>> {
    let size = |slot: usize| if counts[slot] == 0 { 0 } else { HEAD + 4 * counts[slot] as usize };
    let first = (from..counts.len()).find(|&slot| counts[slot] > 0)?;
    let (mut end, mut bytes) = (first + 1, size(first));
    while end < counts.len() && bytes + size(end) <= PIECE_BYTES {
        bytes += size(end);
        end += 1;
    }
    Some(first..end)
}

/// Of a slot that has the piece to itself nothing needs to be sorted.
fn of_one_slot<E>(
    records: &RecordPlaces,
    slot: u16,
    count: u32,
    piece: &mut Vec<u8>,
    rest: &mut dyn FnMut(),
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    piece.clear();
    piece.extend_from_slice(&slot.to_le_bytes());
    piece.extend_from_slice(&count.to_le_bytes());
    for (slots, offsets) in records.pieces() {
        let of_it = slots.iter().zip(offsets).filter(|(other, _)| **other == slot);
        of_it.for_each(|(_, offset)| piece.extend_from_slice(&offset.to_le_bytes()));
        if piece.len() >= PIECE_BYTES {
            out(piece)?;
            piece.clear();
        }
        rest();
    }
    out(piece)
}

/// All slots from `first` on that `counts` has the counts of, which are overwritten.
fn of_several_slots(
    records: &RecordPlaces,
    first: usize,
    counts: &mut [u32],
    piece: &mut Vec<u8>,
    rest: &mut dyn FnMut(),
) {
    piece.clear();
    for (slot, place) in (first..).zip(&mut *counts).filter(|(_, count)| **count > 0) {
        let count = *place;
        piece.extend_from_slice(&(slot as u16).to_le_bytes());
        piece.extend_from_slice(&count.to_le_bytes());
        // From here on where the slot's next offset belongs.
        *place = piece.len() as u32;
        piece.resize(piece.len() + 4 * count as usize, 0);
    }
    for (slots, offsets) in records.pieces() {
        for (&slot, offset) in slots.iter().zip(offsets) {
            if let Some(place) = counts.get_mut(usize::from(slot).wrapping_sub(first)) {
                piece[*place as usize..][..4].copy_from_slice(&offset.to_le_bytes());
                *place += 4;
            }
        }
        rest();
    }
}
