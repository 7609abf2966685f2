//! A hash table that grows without a pause and whose scans survive growth: extendible hashing. Elements live in segments of
//! bounded size, each responsible for a range of hashes; a full segment splits in two, so that no insertion ever moves more
//! than one segment. A scan walks the hashes in order, so its cursor (a hash) means the same before and after any split.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use hashbrown::HashTable;

/// Elements of a segment before it splits: what a single insertion moves at most.
const SEGMENT_MAX: usize = 1024;
/// Bits of a scan's cursor; it leaves room for a slot beside it.
pub const CURSOR_BITS: u32 = 48;

static HASHER: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);

/// The hash of a key, seeded per process.
fn hash_of(key: &[u8]) -> u64 {
    HASHER.hash_one(key)
}

/// The order in which scans walk: 48 bits of the hash that neither a segment's bucket index (the lowest bits) nor its tags
/// (the highest) use first.
fn order_of(hash: u64) -> u64 {
    hash.rotate_left(16) >> (64 - CURSOR_BITS)
}

/// What a table holds: something with a key.
pub trait Keyed {
    /// The key.
    fn key(&self) -> &[u8];
}

struct Segment<T> {
    /// The segment holds the orders whose first `depth` bits are its own.
    depth: u32,
    elements: HashTable<T>,
}

/// The table.
pub struct Table<T> {
    /// By the first `depth` bits of the order: which segment.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment<T>>,
    length: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { directory: Vec::new(), depth: 0, segments: Vec::new(), length: 0 }
    }
}

impl<T: Keyed> Table<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn segment_index(&self, order: u64) -> Option<usize> {
        let index = if self.depth == 0 { 0 } else { order >> (CURSOR_BITS - self.depth) };
        self.directory.get(index as usize).map(|&segment| segment as usize)
    }

    /// The element with this key.
    pub fn get(&self, key: &[u8]) -> Option<&T> {
        let hash = hash_of(key);
        let segment = self.segment_index(order_of(hash))?;
        self.segments[segment].elements.find(hash, |element| element.key() == key)
    }

    /// The element with this key. Its key must not be changed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        let hash = hash_of(key);
        let segment = self.segment_index(order_of(hash))?;
        self.segments[segment].elements.find_mut(hash, |element| element.key() == key)
    }

    /// Enters an element; the one that had its key is returned.
    pub fn insert(&mut self, element: T) -> Option<T> {
        let hash = hash_of(element.key());
        let order = order_of(hash);
        if self.directory.is_empty() {
            self.segments.push(Segment { depth: 0, elements: HashTable::new() });
            self.directory.push(0);
        }
        let mut index = self.segment_index(order).expect("the directory covers all orders");
        if let Some(known) =
            self.segments[index].elements.find_mut(hash, |known| known.key() == element.key())
        {
            return Some(std::mem::replace(known, element));
        }
        while self.segments[index].elements.len() >= SEGMENT_MAX && self.segments[index].depth < CURSOR_BITS {
            self.split(index, order);
            index = self.segment_index(order).expect("the directory covers all orders");
        }
        self.segments[index].elements.insert_unique(hash, element, |element| hash_of(element.key()));
        self.length += 1;
        None
    }

    /// Splits the segment that holds `order` in two by its next bit.
    fn split(&mut self, index: usize, order: u64) {
        let depth = self.segments[index].depth + 1;
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth = depth;
        }
        let bit = CURSOR_BITS - depth;
        let moves = |element: &mut T| order_of(hash_of(element.key())) >> bit & 1 == 1;
        let segment = &mut self.segments[index];
        segment.depth = depth;
        let moved: Vec<T> = segment.elements.extract_if(moves).collect();
        let mut elements = HashTable::with_capacity(moved.len().max(SEGMENT_MAX / 2));
        for element in moved {
            elements.insert_unique(hash_of(element.key()), element, |element| hash_of(element.key()));
        }
        let new = self.segments.len() as u32;
        self.segments.push(Segment { depth, elements });
        // The upper half of the directory entries that pointed to the old segment.
        let span = 1usize << (self.depth - depth);
        let first = ((order >> bit | 1) << (self.depth - depth)) as usize;
        self.directory[first..first + span].fill(new);
    }

    /// Removes the element with this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        let hash = hash_of(key);
        let index = self.segment_index(order_of(hash))?;
        let found = self.segments[index].elements.find_entry(hash, |element| element.key() == key).ok()?;
        let (element, _) = found.remove();
        self.length -= 1;
        if self.length == 0 {
            *self = Self::default();
        }
        Some(element)
    }

    /// All elements, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flat_map(|segment| segment.elements.iter())
    }

    /// One element, each about as likely as any other.
    pub fn random(&self, dice: &mut fastrand::Rng) -> Option<&T> {
        if self.length == 0 {
            return None;
        }
        // A segment by the share of elements it holds, then a bucket of it until one is taken.
        loop {
            let entry = dice.usize(..self.directory.len());
            let segment = &self.segments[self.directory[entry] as usize];
            // A segment that spans several directory entries is drawn as often as it has entries; accept by fill.
            let span = 1usize << (self.depth - segment.depth);
            let densest = SEGMENT_MAX;
            if dice.usize(..densest * span) >= segment.elements.len().min(densest * span)
                && self.segments.len() > 1
            {
                continue;
            }
            if segment.elements.is_empty() {
                continue;
            }
            let buckets = segment.elements.num_buckets();
            for _ in 0..64 {
                if let Ok(bucket) = segment.elements.get_bucket_entry_checked(dice.usize(..buckets)) {
                    return Some(bucket);
                }
            }
        }
    }

    /// Shows about `count` elements from `cursor` on (0: from the beginning) and returns the cursor to go on with, 0 when all
    /// were shown. An element that is there during a whole scan is shown at least once, whatever else comes and goes.
    pub fn scan<'t>(&'t self, cursor: u64, count: usize, mut show: impl FnMut(&'t T)) -> u64 {
        let mut cursor = cursor & ((1 << CURSOR_BITS) - 1);
        let mut shown = 0;
        loop {
            let Some(index) = self.segment_index(cursor) else { return 0 };
            let segment = &self.segments[index];
            let order = |element: &T| order_of(hash_of(element.key()));
            let mut ahead: Vec<(u64, &T)> = segment
                .elements
                .iter()
                .map(|element| (order(element), element))
                .filter(|(order, _)| *order >= cursor)
                .collect();
            ahead.sort_unstable_by_key(|(order, _)| *order);
            let mut last = None;
            for (order, element) in ahead {
                // Elements of one order are shown together: the cursor cannot stand between them.
                if shown >= count && last != Some(order) {
                    return order;
                }
                show(element);
                shown += 1;
                last = Some(order);
            }
            let bits = CURSOR_BITS - segment.depth;
            let next = ((cursor >> bits) + 1) << bits;
            if next >= 1 << CURSOR_BITS {
                return 0;
            }
            cursor = next;
            if shown >= count {
                return cursor;
            }
        }
    }

    /// Bytes of memory of the table itself, without what its elements own.
    pub fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments.iter().map(|segment| segment.elements.allocation_size()).sum();
        segments + self.segments.capacity() * size_of::<Segment<T>>() + self.directory.capacity() * 4
    }
}

trait BucketAccess<T> {
    fn get_bucket_entry_checked(&self, index: usize) -> Result<&T, ()>;
}

impl<T> BucketAccess<T> for HashTable<T> {
    fn get_bucket_entry_checked(&self, index: usize) -> Result<&T, ()> {
        self.get_bucket(index).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Debug)]
    struct Element(Vec<u8>, u32);

    impl Keyed for Element {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    fn key(number: u32) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    #[test]
    fn a_table_behaves_like_a_map_over_many_splits() {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        let mut dice = fastrand::Rng::with_seed(3);
        for step in 0..60_000 {
            let number = dice.u32(..20_000);
            if dice.u8(..4) == 0 {
                assert_eq!(
                    table.remove(&key(number)).map(|element: Element| element.1),
                    model.remove(&key(number))
                );
            } else {
                assert_eq!(
                    table.insert(Element(key(number), step)).map(|element| element.1),
                    model.insert(key(number), step)
                );
            }
        }
        assert_eq!(table.len(), model.len());
        assert!(model.iter().all(|(key, value)| table.get(key).is_some_and(|element| element.1 == *value)));
        assert_eq!(table.iter().count(), model.len());
        assert!(table.segments.len() > 8);
    }

    #[test]
    fn a_scan_shows_everything_that_stays_while_the_table_grows_and_shrinks() {
        let mut table = Table::default();
        for number in 0..3_000 {
            table.insert(Element(key(number), 0));
        }
        let (mut cursor, mut seen, mut step) = (0, BTreeSet::new(), 3_000);
        loop {
            cursor = table.scan(cursor, 10, |element| {
                seen.insert(element.0.clone());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..40 {
                table.insert(Element(key(step), 0));
                if step % 3 == 0 {
                    table.remove(&key(step - 1));
                }
                step += 1;
            }
        }
        assert!(step > 10_000, "the table grew during the scan");
        assert!((0..2_999).all(|number| seen.contains(&key(number))));
    }

    #[test]
    fn random_elements_are_spread_over_all() {
        let mut table = Table::default();
        for number in 0..5_000 {
            table.insert(Element(key(number), number));
        }
        let mut dice = fastrand::Rng::with_seed(5);
        let mut hits = vec![0; 5_000];
        for _ in 0..100_000 {
            hits[table.random(&mut dice).unwrap().1 as usize] += 1;
        }
        assert!(hits.iter().filter(|&&hits| hits == 0).count() < 10, "20 draws for each on average");
        assert!(*hits.iter().max().unwrap() < 80);
    }
}
