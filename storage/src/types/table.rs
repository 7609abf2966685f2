//! A hash table that grows without a pause and whose scans survive growth: extendible hashing. Elements live in segments of
//! bounded size, each responsible for a range of hashes; a full segment splits in two and two nearly empty ones become one, so
//! that no step ever moves more than one segment. A scan walks the hashes in order, so its cursor (a hash) means the same
//! before and after any split.
//!
//! ```text
//! small: one segment
//! large: directory[first `depth` bits of the order] → segment (depth, start) → elements whose first bits are its own
//! ```

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use smallvec::SmallVec;

use super::chunked::Chunked;
use super::chunks::Chunks;
use super::prefetch::prefetch;
use crate::platform::random;

/// Elements of a segment before it splits: what a single insertion moves at most. It is what 32 lines of seven elements take
/// before they grow, so that a full segment is full.
const SEGMENT_MAX: usize = 201;
/// Two neighbours with no more elements than this become one.
const MERGE_MAX: usize = SEGMENT_MAX / 2;
/// Bits of a scan's cursor; it leaves room for a slot beside it.
pub const CURSOR_BITS: u32 = 48;

static HASHER: LazyLock<SeedableRandomState> = LazyLock::new(|| {
    if cfg!(feature = "simulation") {
        // The order of keys, which images and scans follow, must be the same in every run.
        static SHARED: SharedSeed = SharedSeed::from_u64(1);
        return SeedableRandomState::with_seed(1, &SHARED);
    }
    let mut seed = [0; 8];
    if let Err(error) = random::fill(&mut seed) {
        tracing::warn!(%error, "hash tables are seeded by the standard library instead");
        seed = std::hash::RandomState::new().build_hasher().finish().to_le_bytes();
    }
    SeedableRandomState::with_seed(u64::from_le_bytes(seed), SharedSeed::global_random())
});

/// The hash of a key, seeded per process, so that nobody outside can choose keys that collide.
pub fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// Keys of one batch at most whose memory is fetched together: it has to stay in the processor's nearest memory until it is used.
pub const BATCH_MAX: usize = 16;

/// The hashes of the keys of a batch.
pub(crate) fn hashes_of<'k>(keys: impl Iterator<Item = &'k [u8]>) -> SmallVec<[u64; BATCH_MAX]> {
    keys.map(hash_of).collect()
}

/// The order in which scans walk: 48 bits of the hash, of which a segment's choice of a line uses the lowest first and its
/// tags none.
fn order_of(hash: u64) -> u64 {
    hash.rotate_left(16) >> (64 - CURSOR_BITS)
}

/// Where scans come to a key: those that go on at a greater cursor have shown it.
pub(crate) fn place_of(key: &[u8]) -> u64 {
    order_of(hash_of(key))
}

/// What a table holds: something with a key.
pub trait Keyed {
    /// The key.
    fn key(&self) -> &[u8];

    /// Begins to fetch what [`Keyed::key`] will read.
    fn prefetch(&self);
}

/// Where the keys of a table's elements are: in the elements ([`Own`]), or in what they point into.
pub trait Keys<T> {
    /// The key of an element.
    fn key<'k>(&'k self, element: &'k T) -> &'k [u8];

    /// Begins to fetch what [`Keys::key`] will read.
    fn prefetch(&self, element: &T);

    /// Begins to fetch what stands behind that, which this reads.
    fn prefetch_behind(&self, _element: &T) {}
}

/// Elements have their keys themselves.
pub struct Own;

impl<T: Keyed> Keys<T> for Own {
    fn key<'k>(&'k self, element: &'k T) -> &'k [u8] {
        element.key()
    }

    fn prefetch(&self, element: &T) {
        element.prefetch();
    }
}

/// The table. Its keys are looked up through `keys`, which must give an element the same key as long as it is in the table.
pub struct Table<T>(Form<T>);

enum Form<T> {
    One(Chunks<T>),
    Many(Box<Many<T>>),
}

struct Segment<T> {
    elements: Chunks<T>,
    /// The segment holds the orders whose first `depth` bits are those of `start`.
    depth: u32,
    start: u64,
}

struct Many<T> {
    /// By the first `depth` bits of the order: which segment.
    directory: Vec<u32>,
    depth: u32,
    segments: Chunked<Segment<T>>,
    /// Segments of the directory's own depth; when none is left it halves.
    deepest: usize,
    length: usize,
    /// Bytes of memory of the segments' elements, without what those own.
    bytes: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Form::One(Chunks::default()))
    }
}

impl<T> Table<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::One(elements) => elements.len(),
            Form::Many(many) => many.length,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for about as many elements in all, as far as one segment goes.
    pub fn expect(&mut self, keys: &impl Keys<T>, count: usize) {
        if let Form::One(elements) = &mut self.0 {
            elements.reserve(count.min(SEGMENT_MAX), |element| hash_of(keys.key(element)));
        }
    }

    /// The element with this hash that `is_it`.
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.segment_of(hash).find(hash, is_it)
    }

    fn segment_of(&self, hash: u64) -> &Chunks<T> {
        match &self.0 {
            Form::One(elements) => elements,
            Form::Many(many) => &many.segments[many.segment_index(order_of(hash))].elements,
        }
    }

    /// Begins to fetch the line of the table that an element of this hash is most likely in. Of a large table it reads, and
    /// waits for, what leads there.
    pub fn prefetch_home(&self, hash: u64) {
        self.segment_of(hash).prefetch_home(hash);
    }

    /// Begins to fetch what [`Table::get`] will read besides the table for a key of this hash. It waits for the line that
    /// [`Table::prefetch_home`] fetches.
    pub fn prefetch_elements(&self, keys: &impl Keys<T>, hash: u64) {
        self.segment_of(hash).likely(hash, |element| keys.prefetch(element));
    }

    /// Begins to fetch what lookups of keys of these hashes will read. A lookup is some reads of memory, each of which depends on the
    /// one before; memory answers as many such reads at once as quickly as one, so they go stage by stage.
    pub(crate) fn prefetch(&self, keys: &impl Keys<T>, hashes: &[u64]) {
        if let Form::Many(many) = &self.0 {
            hashes.iter().for_each(|&hash| prefetch(&many.segments[many.segment_index(order_of(hash))]));
        }
        hashes.iter().for_each(|&hash| self.prefetch_home(hash));
        hashes.iter().for_each(|&hash| self.prefetch_elements(keys, hash));
        for &hash in hashes {
            self.segment_of(hash).likely(hash, |element| keys.prefetch_behind(element));
        }
    }

    /// The element with this hash that `is_it`. Its key must not be changed.
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match &mut self.0 {
            Form::One(elements) => elements.find_mut(hash, is_it),
            Form::Many(many) => {
                let index = many.segment_index(order_of(hash));
                many.segments[index].elements.find_mut(hash, is_it)
            }
        }
    }

    /// The element with this key.
    pub fn get(&self, keys: &impl Keys<T>, key: &[u8]) -> Option<&T> {
        self.find(hash_of(key), |element| keys.key(element) == key)
    }

    /// The element with this key. Its key must not be changed.
    pub fn get_mut(&mut self, keys: &impl Keys<T>, key: &[u8]) -> Option<&mut T> {
        self.find_mut(hash_of(key), |element| keys.key(element) == key)
    }

    /// Enters an element whose key, of this hash, is not in the table.
    pub fn insert(&mut self, keys: &impl Keys<T>, hash: u64, element: T) {
        match &mut self.0 {
            Form::One(elements) if elements.len() < SEGMENT_MAX => insert_into(elements, keys, hash, element),
            Form::One(elements) => {
                let mut many = Box::new(Many::of(std::mem::take(elements)));
                many.insert(keys, hash, element);
                self.0 = Form::Many(many);
            }
            Form::Many(many) => many.insert(keys, hash, element),
        }
    }

    /// Removes the element with this hash that `is_it`.
    pub fn remove(&mut self, keys: &impl Keys<T>, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let rehash = |element: &T| hash_of(keys.key(element));
        match &mut self.0 {
            Form::One(elements) => elements.remove(hash, is_it, rehash),
            Form::Many(many) => {
                let removed = many.remove(keys, hash, is_it)?;
                if many.segments.len() == 1
                    && let Some(last) = many.segments.pop()
                {
                    self.0 = Form::One(last.elements);
                }
                Some(removed)
            }
        }
    }

    fn segments(&self) -> impl Iterator<Item = &Chunks<T>> {
        let (one, many) = match &self.0 {
            Form::One(elements) => (Some(elements), None),
            Form::Many(many) => (None, Some(many.segments.iter().map(|segment| &segment.elements))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// All elements, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments().flat_map(|elements| elements.iter())
    }

    /// One element, each equally likely.
    pub fn random(&self, dice: &mut fastrand::Rng) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        loop {
            let elements = match &self.0 {
                Form::One(elements) => elements,
                Form::Many(many) => {
                    // A segment is drawn as often as the directory names it, and kept by that and by how full it is.
                    let drawn = many.directory[dice.usize(..many.directory.len())] as usize;
                    let segment = &many.segments[drawn];
                    let named = 1usize << (many.depth - segment.depth);
                    let fullest = SEGMENT_MAX.max(segment.elements.len());
                    if dice.usize(..fullest * named) >= segment.elements.len() {
                        continue;
                    }
                    &segment.elements
                }
            };
            // At least one, so this ends; places are as likely as each other, so elements are.
            loop {
                if let Some(element) = elements.draw(dice) {
                    return Some(element);
                }
            }
        }
    }

    /// Shows about `count` elements from `cursor` on (0: from the beginning) and returns the cursor to go on with, 0 when all
    /// were shown. An element that is there during a whole scan is shown at least once, whatever else comes and goes.
    pub fn scan<'t>(
        &'t self,
        keys: &impl Keys<T>,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(&'t T),
    ) -> u64 {
        let mut cursor = cursor & ((1 << CURSOR_BITS) - 1);
        let mut shown = 0;
        loop {
            let (elements, depth) = match &self.0 {
                Form::One(elements) => (elements, 0),
                Form::Many(many) => {
                    let segment = &many.segments[many.segment_index(cursor)];
                    (&segment.elements, segment.depth)
                }
            };
            let order = |element: &T| order_of(hash_of(keys.key(element)));
            let mut ahead: Vec<(u64, &T)> = elements
                .iter()
                .map(|element| (order(element), element))
                .filter(|(order, _)| *order >= cursor)
                .collect();
            // Where this segment ends, or before it the first order for which there is no room. What is before that is shown
            // in any order. Elements of one order are shown together: the cursor cannot stand between them.
            let bits = CURSOR_BITS - depth;
            let mut next = ((cursor >> bits) + 1) << bits;
            let room = count.max(1) - shown;
            if ahead.len() > room {
                let (before, (cut, _), _) = ahead.select_nth_unstable_by_key(room, |(order, _)| *order);
                next = if before.iter().any(|(order, _)| order < cut) { *cut } else { *cut + 1 };
            }
            for (_, element) in ahead.into_iter().filter(|(order, _)| *order < next) {
                show(element);
                shown += 1;
            }
            if next >= 1 << CURSOR_BITS {
                return 0;
            }
            cursor = next;
            if shown >= count.max(1) {
                return cursor;
            }
        }
    }

    /// Bytes of memory of the table itself, without what its elements own. Takes no walk.
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Form::One(elements) => elements.memory_bytes(),
            Form::Many(many) => {
                let directory = many.directory.len() * size_of::<u32>();
                size_of::<Many<T>>() + directory + many.segments.memory_bytes() + many.bytes
            }
        }
    }
}

/// Adds an element to a segment. All that it has move when it grows: their keys are fetched at once, not one by one.
fn insert_into<T>(elements: &mut Chunks<T>, keys: &impl Keys<T>, hash: u64, element: T) {
    if elements.is_full() {
        elements.iter().for_each(|element| keys.prefetch(element));
    }
    elements.insert(hash, element, |element| hash_of(keys.key(element)));
}

impl<T> Many<T> {
    fn of(elements: Chunks<T>) -> Self {
        let (length, bytes) = (elements.len(), elements.memory_bytes());
        let mut segments = Chunked::default();
        segments.push(Segment { elements, depth: 0, start: 0 });
        Self { directory: vec![0], depth: 0, segments, deepest: 1, length, bytes }
    }

    fn segment_index(&self, order: u64) -> usize {
        let entry = if self.depth == 0 { 0 } else { order >> (CURSOR_BITS - self.depth) };
        self.directory[entry as usize] as usize
    }

    /// The directory's entries for a segment.
    fn entries(&self, depth: u32, start: u64) -> std::ops::Range<usize> {
        let first = if self.depth == 0 { 0 } else { (start >> (CURSOR_BITS - self.depth)) as usize };
        first..first + (1 << (self.depth - depth))
    }

    fn insert(&mut self, keys: &impl Keys<T>, hash: u64, element: T) {
        let order = order_of(hash);
        let mut index = self.segment_index(order);
        while self.segments[index].elements.len() >= SEGMENT_MAX && self.segments[index].depth < CURSOR_BITS {
            self.split(keys, index);
            index = self.segment_index(order);
        }
        self.change(index, |elements| insert_into(elements, keys, hash, element));
        self.length += 1;
    }

    fn remove(&mut self, keys: &impl Keys<T>, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let order = order_of(hash);
        let rehash = |element: &T| hash_of(keys.key(element));
        let removed =
            self.change(self.segment_index(order), |elements| elements.remove(hash, is_it, rehash))?;
        self.length -= 1;
        self.merge(keys, order);
        Some(removed)
    }

    /// Changes a segment's elements; the count of bytes follows.
    fn change<R>(&mut self, index: usize, change: impl FnOnce(&mut Chunks<T>) -> R) -> R {
        let elements = &mut self.segments[index].elements;
        let before = elements.memory_bytes();
        let result = change(elements);
        self.bytes = self.bytes + elements.memory_bytes() - before;
        result
    }

    /// Splits a segment in two by its next bit.
    fn split(&mut self, keys: &impl Keys<T>, index: usize) {
        let depth = self.segments[index].depth + 1;
        if depth > self.depth {
            let mut directory = Vec::with_capacity(self.directory.len() * 2);
            self.directory.iter().for_each(|&segment| directory.extend([segment, segment]));
            self.directory = directory;
            self.depth = depth;
            self.deepest = 0;
        }
        let upper = 1 << (CURSOR_BITS - depth);
        let segment = &mut self.segments[index];
        segment.depth = depth;
        let start = segment.start | upper;
        let whole = std::mem::take(&mut segment.elements);
        self.bytes -= whole.memory_bytes();
        let (stay, go) = halves(whole, keys, upper);
        self.bytes += stay.memory_bytes() + go.memory_bytes();
        self.segments[index].elements = stay;
        let entries = self.entries(depth, start);
        self.directory[entries].fill(self.segments.len() as u32);
        self.segments.push(Segment { elements: go, depth, start });
        self.deepest += if depth == self.depth { 2 } else { 0 };
    }

    /// Puts the segment of `order` and its neighbour together as long as they are small.
    fn merge(&mut self, keys: &impl Keys<T>, order: u64) {
        loop {
            let index = self.segment_index(order);
            let Segment { depth, start, .. } = self.segments[index];
            if depth == 0 {
                return;
            }
            let upper = 1 << (CURSOR_BITS - depth);
            let neighbour = self.segment_index(start ^ upper);
            let together = self.segments[index].elements.len() + self.segments[neighbour].elements.len();
            if self.segments[neighbour].depth != depth || together > MERGE_MAX {
                return;
            }
            let (kept, gone) = if start & upper == 0 { (index, neighbour) } else { (neighbour, index) };
            self.put_together(keys, kept, gone);
        }
    }

    fn put_together(&mut self, keys: &impl Keys<T>, kept: usize, gone: usize) {
        let depth = self.segments[gone].depth;
        let entries = self.entries(depth, self.segments[gone].start);
        self.directory[entries].fill(kept as u32);
        let moving = std::mem::take(&mut self.segments[gone].elements);
        self.bytes -= moving.memory_bytes();
        self.change(kept, |elements| {
            elements.reserve(elements.len() + moving.len(), |element| hash_of(keys.key(element)));
            for element in moving {
                insert_into(elements, keys, hash_of(keys.key(&element)), element);
            }
        });
        self.segments[kept].depth = depth - 1;
        // The last segment takes the place of the one that is gone.
        self.segments.swap_remove(gone);
        if let Some(moved) = self.segments.get(gone) {
            let entries = self.entries(moved.depth, moved.start);
            self.directory[entries].fill(gone as u32);
        }
        if depth == self.depth {
            self.deepest -= 2;
            if self.deepest == 0 {
                self.directory = self.directory.iter().copied().step_by(2).collect();
                self.depth -= 1;
                self.deepest = self.segments.iter().filter(|segment| segment.depth == self.depth).count();
            }
        }
    }
}

/// Parts a segment's elements: those whose order has not this bit, and those whose order has it. Each half has room for all
/// that it will get before it is parted. Growing in steps would give a large set more memory, not less (one of 5 million: 34
/// bytes a member against 31), as the blocks of all the sizes that its segments had before are left, and take a fifth longer.
fn halves<T>(elements: Chunks<T>, keys: &impl Keys<T>, upper: u64) -> (Chunks<T>, Chunks<T>) {
    elements.iter().for_each(|element| keys.prefetch(element));
    let (mut stay, mut go) = (Chunks::with_room(SEGMENT_MAX), Chunks::with_room(SEGMENT_MAX));
    for element in elements {
        let hash = hash_of(keys.key(&element));
        let half = if order_of(hash) & upper != 0 { &mut go } else { &mut stay };
        insert_into(half, keys, hash, element);
    }
    (stay, go)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Debug)]
    struct Element(Box<(Vec<u8>, u32)>);

    impl Element {
        fn new(key: Vec<u8>, value: u32) -> Self {
            Self(Box::new((key, value)))
        }

        fn value(&self) -> u32 {
            self.0.1
        }
    }

    impl Keyed for Element {
        fn key(&self) -> &[u8] {
            &self.0.0
        }

        fn prefetch(&self) {}
    }

    fn key(number: u32) -> Vec<u8> {
        format!("key:{number}").into_bytes()
    }

    fn put(table: &mut Table<Element>, number: u32, value: u32) -> Option<u32> {
        let key = key(number);
        if let Some(known) = table.get_mut(&Own, &key) {
            return Some(std::mem::replace(&mut known.0.1, value));
        }
        table.insert(&Own, hash_of(&key), Element::new(key, value));
        None
    }

    fn take(table: &mut Table<Element>, number: u32) -> Option<u32> {
        let key = key(number);
        table.remove(&Own, hash_of(&key), |element| element.key() == key).map(|element| element.value())
    }

    /// What must hold between directory and segments.
    fn check(table: &Table<Element>) {
        let Form::Many(many) = &table.0 else { return };
        assert_eq!(many.directory.len(), 1 << many.depth);
        assert_eq!(many.length, many.segments.iter().map(|segment| segment.elements.len()).sum::<usize>());
        let deepest = many.segments.iter().filter(|segment| segment.depth == many.depth).count();
        assert_eq!(many.deepest, deepest);
        let mut named = 0;
        for (index, segment) in many.segments.iter().enumerate() {
            let entries = many.entries(segment.depth, segment.start);
            named += entries.len();
            assert!(many.directory[entries].iter().all(|&named| named as usize == index));
            let own = |element: &Element| many.segment_index(order_of(hash_of(element.key()))) == index;
            assert!(segment.elements.iter().all(own));
            assert!(segment.elements.len() <= SEGMENT_MAX);
        }
        assert_eq!(named, many.directory.len());
        let bytes: usize = many.segments.iter().map(|segment| segment.elements.memory_bytes()).sum();
        assert_eq!(many.bytes, bytes);
    }

    #[test]
    fn a_table_behaves_like_a_map_while_it_grows_and_shrinks() {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        let mut dice = fastrand::Rng::with_seed(3);
        let mut most_segments = 0;
        for round in 0..8u32 {
            // Rounds that mostly put, and rounds that mostly take away.
            for step in 0..if cfg!(miri) { 400 } else { 20_000 } {
                let number = dice.u32(..12_000);
                if dice.u32(..10) < if round % 2 == 0 { 2 } else { 9 } {
                    assert_eq!(take(&mut table, number), model.remove(&number));
                } else {
                    assert_eq!(put(&mut table, number, step), model.insert(number, step));
                }
            }
            check(&table);
            most_segments = most_segments.max(table.segments().count());
            assert_eq!((table.len(), table.iter().count()), (model.len(), model.len()));
            assert!(model.iter().all(|(&number, value)| {
                table.get(&Own, &key(number)).is_some_and(|element| element.value() == *value)
            }));
        }
        assert!(cfg!(miri) || most_segments > 30);
        for number in 0..12_000 {
            take(&mut table, number);
        }
        assert!(table.is_empty() && matches!(table.0, Form::One(_)), "what grew has shrunk again");
        assert!(table.memory_bytes() < 400, "{}", table.memory_bytes());
    }

    #[test]
    fn a_scan_shows_everything_that_stays_while_the_table_grows_and_shrinks() {
        for shrinking in [false, true] {
            let mut table = Table::default();
            let start = if shrinking { 30_000 } else { 3_000 };
            for number in 0..start {
                put(&mut table, number, 0);
            }
            let (mut cursor, mut seen, mut step) = (0, BTreeSet::new(), start);
            let mut shown = 0;
            loop {
                cursor = table.scan(&Own, cursor, 10, |element| {
                    seen.insert(element.key().to_vec());
                    shown += 1;
                });
                if cursor == 0 {
                    break;
                }
                for _ in 0..40 {
                    if shrinking {
                        step = step.max(3_001) - 1;
                        take(&mut table, step);
                    } else {
                        put(&mut table, step, 0);
                        step += 1;
                    }
                }
            }
            check(&table);
            assert!(step > 10_000 || shrinking && step == 3_000, "the table grew or shrank during the scan");
            assert!((0..3_000).all(|number| seen.contains(&key(number))));
            assert_eq!(shown, seen.len(), "an element stays where a scan passes once");
        }
    }

    /// Counts how often a key is asked for.
    struct Counting(std::cell::Cell<usize>);

    impl Keys<Element> for Counting {
        fn key<'k>(&'k self, element: &'k Element) -> &'k [u8] {
            self.0.set(self.0.get() + 1);
            element.key()
        }

        fn prefetch(&self, _: &Element) {}
    }

    #[test]
    fn a_page_of_a_scan_looks_at_few_elements_however_many_there_are_or_were() {
        for (size, left) in [(200, 200), (60_000, 60_000), (60_000, 600), (60_000, 200)] {
            let mut table = Table::default();
            for number in 0..size {
                put(&mut table, number, 0);
            }
            for number in left..size {
                take(&mut table, number);
            }
            for count in [1, 10, 100] {
                let (mut cursor, mut shown, mut pages) = (0, 0, 0);
                loop {
                    let (keys, mut of_page) = (Counting(0.into()), 0);
                    cursor = table.scan(&keys, cursor, count, |_| of_page += 1);
                    assert!(keys.0.get() <= 4 * SEGMENT_MAX, "{} for {count} of {left}", keys.0.get());
                    assert!(of_page <= count && (of_page == count || cursor == 0), "{of_page}");
                    (shown, pages) = (shown + of_page, pages + 1);
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!((shown, pages <= left as usize / count + 1), (left as usize, true));
            }
        }
    }

    #[test]
    fn elements_of_one_order_are_shown_on_one_page() {
        /// Three keys for all elements.
        struct Three;
        impl Keys<Element> for Three {
            fn key<'k>(&'k self, element: &'k Element) -> &'k [u8] {
                [b"a", b"b", b"c"][element.value() as usize % 3]
            }

            fn prefetch(&self, _: &Element) {}
        }
        let mut table = Table::default();
        for number in 0..90 {
            let element = Element::new(key(number), number);
            table.insert(&Three, hash_of(Three.key(&element)), element);
        }
        for count in [1, 29, 31, 61, 100] {
            let (mut cursor, mut seen) = (0, Vec::new());
            loop {
                let mut page = Vec::new();
                cursor = table.scan(&Three, cursor, count, |element| page.push(element.value()));
                assert_eq!(page.len() % 30, 0);
                seen.extend(page);
                if cursor == 0 {
                    break;
                }
            }
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..90), "{count}");
        }
    }

    #[test]
    fn random_elements_are_spread_over_all() {
        for removed in [0, 4_000] {
            let mut table = Table::default();
            for number in 0..5_000 {
                put(&mut table, number, number);
            }
            for number in 0..removed {
                take(&mut table, number);
            }
            let mut dice = fastrand::Rng::with_seed(5);
            let mut hits = vec![0u32; 5_000];
            let draws = 20 * table.len();
            for _ in 0..draws {
                hits[table.random(&mut dice).unwrap().value() as usize] += 1;
            }
            let hits = &hits[removed as usize..];
            // Chi squared over as many degrees of freedom as there are elements: the mean is 1, its deviation sqrt(2/n).
            let surprise = hits.iter().map(|&hits| (f64::from(hits) - 20.0).powi(2) / 20.0).sum::<f64>();
            let surprise = surprise / hits.len() as f64;
            assert!((surprise - 1.0).abs() < 5.0 * (2.0 / hits.len() as f64).sqrt(), "{surprise}");
        }
    }

    #[test]
    fn removing_and_adding_in_turn_does_not_make_the_table_larger() {
        let mut table = Table::default();
        for number in 0..200 {
            put(&mut table, number, 0);
        }
        for number in 200..20_000 {
            take(&mut table, number - 200);
            put(&mut table, number, 0);
        }
        assert!(matches!(table.0, Form::One(_)), "200 elements are one segment");
        assert_eq!(Chunks::<u64>::with_room(SEGMENT_MAX).memory_bytes(), 2048);
        assert!(Chunks::<u64>::with_room(SEGMENT_MAX + 1).memory_bytes() > 2048, "a full segment is full");
        assert!(table.memory_bytes() <= 2048, "{}", table.memory_bytes());
    }
}
