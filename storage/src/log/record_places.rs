//! Where the records of the active segment stand, noted while they are written, for the index in the segment's seal.

/// Records in one piece. What is there never moves when more comes: half a million in one vector were copied, into pages the
/// kernel had to clear first, by whoever wrote the record that was one too many.
pub const PIECE: usize = 4096;

/// Slot and file offset of each record, in the order of the log.
#[derive(Debug, Default)]
pub struct RecordPlaces {
    pieces: Vec<Piece>,
}

/// Apart, because side by side each record would take 8 bytes.
#[derive(Debug)]
struct Piece {
    slots: Vec<u16>,
    offsets: Vec<u32>,
}

impl RecordPlaces {
    /// One more record, of this slot and at this file offset.
    pub fn push(&mut self, slot: u16, offset: u32) {
        if self.pieces.last().is_none_or(|last| last.slots.len() == PIECE) {
            self.pieces.push(Piece { slots: Vec::with_capacity(PIECE), offsets: Vec::with_capacity(PIECE) });
        }
        let last = self.pieces.last_mut().expect("there is one with room");
        last.slots.push(slot);
        last.offsets.push(offset);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.slots.len())
    }

    /// All of them, some thousands at a time: slots, and offsets beside them.
    pub fn pieces(&self) -> impl Iterator<Item = (&[u16], &[u32])> {
        self.pieces.iter().map(|piece| (piece.slots.as_slice(), piece.offsets.as_slice()))
    }
}

impl FromIterator<(u16, u32)> for RecordPlaces {
    fn from_iter<T: IntoIterator<Item = (u16, u32)>>(records: T) -> Self {
        let mut places = Self::default();
        records.into_iter().for_each(|(slot, offset)| places.push(slot, offset));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_back_in_its_order() {
        for count in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let records: Vec<(u16, u32)> = (0..count).map(|n| ((n % 7) as u16, n as u32)).collect();
            let places: RecordPlaces = records.iter().copied().collect();
            assert_eq!(places.count(), count);
            let back = places.pieces().flat_map(|(slots, offsets)| slots.iter().zip(offsets));
            assert_eq!(back.map(|(&slot, &offset)| (slot, offset)).collect::<Vec<_>>(), records);
        }
    }
}
