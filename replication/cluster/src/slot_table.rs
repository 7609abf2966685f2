//! Which shard owns which slots: the fewest ranges in slot order, so that equal ownership is equal data.
//! Knows no node; who serves a shard stands in its register.

use alloc::vec::Vec;

use holdfast_words::{SLOT_COUNT, ShardId, SlotId, SlotRange};

/// Slot ownership as sorted, disjoint, maximal ranges.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SlotTable {
    ranges: Vec<(SlotRange, ShardId)>,
}

impl SlotTable {
    /// A table from ranges in any order; where two overlap the later one wins.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (SlotRange, ShardId)>) -> Self {
        let mut owners = [None; SLOT_COUNT as usize];
        for (range, shard) in ranges {
            range.slots().for_each(|slot| owners[slot.index()] = Some(shard));
        }
        Self::fold(&owners)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(SlotRange, ShardId)] {
        &self.ranges
    }

    /// The shard that owns `slot`.
    pub fn owner(&self, slot: SlotId) -> Option<ShardId> {
        let index = self.ranges.partition_point(|(range, _)| range.last < slot);
        self.ranges.get(index).filter(|(range, _)| range.first <= slot).map(|&(_, shard)| shard)
    }

    /// The ranges `shard` owns, ascending.
    pub fn of_shard(&self, shard: ShardId) -> impl Iterator<Item = SlotRange> + '_ {
        self.ranges.iter().filter(move |(_, owner)| *owner == shard).map(|&(range, _)| range)
    }

    /// Whether `shard` owns any slot.
    pub fn owns_any(&self, shard: ShardId) -> bool {
        self.ranges.iter().any(|(_, owner)| *owner == shard)
    }

    /// How many slots have an owner.
    pub fn assigned(&self) -> usize {
        self.ranges.iter().map(|(range, _)| range_len(*range)).sum()
    }

    /// Gives every slot of `slots` to `owner`, or to nobody.
    pub fn set(&mut self, slots: &[SlotRange], owner: Option<ShardId>) {
        let mut owners = self.unfold();
        for slot in slots.iter().flat_map(|range| range.slots()) {
            owners[slot.index()] = owner;
        }
        *self = Self::fold(&owners);
    }

    fn unfold(&self) -> [Option<ShardId>; SLOT_COUNT as usize] {
        let mut owners = [None; SLOT_COUNT as usize];
        for &(range, shard) in &self.ranges {
            owners[range.first.index()..=range.last.index()].fill(Some(shard));
        }
        owners
    }

    fn fold(owners: &[Option<ShardId>]) -> Self {
        let mut ranges: Vec<(SlotRange, ShardId)> = Vec::new();
        for (slot, owner) in SlotId::all().zip(owners) {
            let Some(owner) = *owner else { continue };
            match ranges.last_mut() {
                Some((range, last)) if *last == owner && range.last.number() + 1 == slot.number() => {
                    range.last = slot;
                }
                _ => ranges.push((SlotRange { first: slot, last: slot }, owner)),
            }
        }
        Self { ranges }
    }
}

/// Number of slots in a range.
pub fn range_len(range: SlotRange) -> usize {
    range.last.index() + 1 - range.first.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> SlotRange {
        SlotRange { first: SlotId::new(first).unwrap(), last: SlotId::new(last).unwrap() }
    }

    #[test]
    fn equal_ownership_is_equal_data_however_it_came_about() {
        let (a, b) = (ShardId([1; 20]), ShardId([2; 20]));
        let mut piecewise = SlotTable::default();
        piecewise.set(&[range(5, 9)], Some(a));
        piecewise.set(&[range(0, 4)], Some(a));
        piecewise.set(&[range(7, 7)], Some(b));
        piecewise.set(&[range(100, 200)], Some(b));
        piecewise.set(&[range(150, 200)], None);
        let at_once = SlotTable::from_ranges([(range(0, 9), a), (range(7, 7), b), (range(100, 149), b)]);
        assert_eq!(piecewise, at_once);
        assert_eq!(at_once.ranges().len(), 4);
        assert_eq!(at_once.assigned(), 60);
    }

    #[test]
    fn the_owner_is_found_at_the_edges_of_ranges() {
        let (a, b) = (ShardId([1; 20]), ShardId([2; 20]));
        let table =
            SlotTable::from_ranges([(range(10, 20), a), (range(21, 30), b), (range(16383, 16383), b)]);
        let owner = |n| table.owner(SlotId::new(n).unwrap());
        assert_eq!(
            [9, 10, 20, 21, 30, 31, 16383].map(owner),
            [None, Some(a), Some(a), Some(b), Some(b), None, Some(b)]
        );
        assert!(table.owns_any(a));
        assert_eq!(table.of_shard(b).count(), 2);
    }
}
