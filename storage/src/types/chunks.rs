//! The elements of one segment of a [`Table`](super::table::Table): a hash table in lines of 64 bytes, each with the tags of
//! its elements before them, so that a lookup almost always reads one line of the table and then the element it looks for.
//!
//! ```text
//! table = line × n                    of one line, as long as only that is needed, just a part: 2, 4 or 6 words
//! line  = tag × PLACES | passed u8 | element × PLACES          7 elements of 8 bytes; 12 of 4, with three bytes of nothing
//! tag   = 0: nothing here; else 8 bits of the element's hash
//! ```
//!
//! An element is at home in the line that its hash says. When that is full it jumps to another, which its tag says, and goes on
//! from there line by line, around the end, to the first one that is not full. (Without the jump full lines would come in rows:
//! a lookup of what is not there then reads 1.9 lines instead of 1.5, with all tables between 10 and 200 elements alike.)
//! `passed` counts the elements that went past a full line; where it is 0 a lookup ends.
//!
//! The number of lines need not be a power of two, so growth is by a quarter or less, in the steps in which allocators round
//! sizes up.
//!
//! What the unsafe code relies on:
//! * `first` is the start of an allocation of `words` words of 8 bytes, or, when `words` is 0, [`NOTHING`], which nothing
//!   writes to. `lines()` lines are in it; the last of them is whole unless it is the only one, and always has its tags.
//! * All tags and counts are initialised. A tag that is not 0 says that its place is in the allocation and holds an
//!   initialised element; `len` is the number of such tags. An element goes to a line's lowest free place, and only when there
//!   are fewer elements than places: so one in a line that is not whole has a place.
//! * A table owns its allocation and elements alone; what it lends follows the borrow of the table.
//!
//! Lines are fetched at once when the allocator puts them at multiples of 64. It is not asked to, as it would waste half a line
//! or more on each table: mimalloc does it by itself for sizes that are multiples of 64, and nothing but speed relies on it.
#![expect(
    unsafe_code,
    reason = "measured against hashbrown: a cache line less for a lookup (GET in batches of 16: a tenth less processor time), and \
              11 bytes for an element of 8 where it took 18, at 61 keys a slot"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::prefetch::{LINE, prefetch};

const WORD: usize = 8;
const LINE_WORDS: usize = LINE / WORD;
/// Of 10 places of a table of many lines, those that are filled before it grows.
const FULL_OF_10: usize = 9;
/// A table of many lines of which no more than one in this many places is taken shrinks.
const SPARSE: usize = 4;

#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through pointers")] [u8; LINE]);

/// What a table without elements looks up in.
static NOTHING: Line = Line([0; LINE]);

/// The lowest bit of each byte, and all others.
const ONES: u64 = u64::from_le_bytes([1; 8]);
const LOW_7: u64 = u64::from_le_bytes([0x7f; 8]);

/// The highest bit of each byte that is 0, and no other bit.
fn zero_bytes(bytes: u64) -> u64 {
    !(((bytes & LOW_7) + LOW_7) | bytes | LOW_7)
}

/// The highest 8 bits of the hash, which neither the order of a scan nor the choice of a line uses.
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// A segment's elements.
pub(crate) struct Chunks<T> {
    first: NonNull<u8>,
    words: u32,
    len: u32,
    owns: PhantomData<T>,
}

// SAFETY: it owns its elements as a `Vec` would.
unsafe impl<T: Send> Send for Chunks<T> {}
// SAFETY: as above; what is lent by `&Chunks` is `&T`.
unsafe impl<T: Sync> Sync for Chunks<T> {}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { first: NonNull::from(&NOTHING).cast(), words: 0, len: 0, owns: PhantomData }
    }
}

fn layout(words: u32) -> Layout {
    Layout::from_size_align(words as usize * WORD, WORD).expect("far below the address space")
}

/// Where an element is: its line, how many it has passed, and its place there.
struct Found {
    line: usize,
    passed: usize,
    place: usize,
}

impl<T> Chunks<T> {
    /// Elements of one line.
    pub(crate) const PLACES: usize = (LINE - 1) / (size_of::<T>() + 1);
    /// Bytes before the elements; the last one is the count of those who passed.
    const FRONT: usize = (Self::PLACES + 1).next_multiple_of(WORD);
    /// Words of tags.
    const GROUPS: usize = Self::FRONT / WORD;
    const PASSED_AT: usize = Self::FRONT - 1;

    const SOUND: () = {
        assert!(size_of::<T>() == 8 || size_of::<T>() == 4, "other sizes would need other fronts");
        assert!(Self::FRONT + Self::PLACES * size_of::<T>() <= LINE && align_of::<T>() <= WORD);
    };

    /// The highest bit of each byte of a group that is a place's tag.
    const fn tags(group: usize) -> u64 {
        let places = Self::PLACES - group * 8;
        let all = u64::from_le_bytes([0x80; 8]);
        if places >= 8 { all } else { all >> (8 * (8 - places)) }
    }

    /// Number of lines, 0 when there is only [`NOTHING`].
    fn lines(&self) -> usize {
        (self.words as usize).div_ceil(LINE_WORDS)
    }

    /// How many elements a table of so many words takes before it grows.
    fn room_of(words: u32) -> usize {
        match words as usize / LINE_WORDS {
            0 | 1 => (words as usize * WORD).saturating_sub(Self::FRONT) / size_of::<T>(),
            lines => lines * Self::PLACES * FULL_OF_10 / 10,
        }
    }

    /// The next larger size.
    fn words_after(words: u32) -> u32 {
        const WORDS: u32 = LINE_WORDS as u32;
        match words / WORDS {
            0 => (words + 2).max(2 * Self::GROUPS as u32),
            lines => (lines + ((1 << lines.ilog2()) / 4).max(1)) * WORDS,
        }
    }

    /// The smallest size with room for so many elements.
    fn words_for(count: usize) -> u32 {
        let mut words = 0;
        while Self::room_of(words) < count {
            words = Self::words_after(words);
        }
        words
    }

    /// A table of so many words, with nothing in it.
    fn with_words(words: u32) -> Self {
        const { Self::SOUND };
        if words == 0 {
            return Self::default();
        }
        let layout = layout(words);
        // SAFETY: the layout's size is not zero.
        let Some(first) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let made = Self { first, words, len: 0, owns: PhantomData };
        for line in 0..made.lines() {
            // SAFETY: every line, the only one too, has its front in the allocation.
            unsafe { made.line(line).write_bytes(0, Self::FRONT) };
        }
        made
    }

    /// A table that takes so many elements without growing.
    pub(crate) fn with_room(count: usize) -> Self {
        Self::with_words(Self::words_for(count))
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether one element more makes it grow, which moves all.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= Self::room_of(self.words)
    }

    /// Bytes of memory, without what elements own.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.words as usize * WORD
    }

    /// The line where an element of this hash belongs. The lowest byte of the hash counts most: those above it are the same
    /// for all elements of a segment when there are many segments.
    fn home(&self, hash: u64) -> usize {
        ((u64::from((hash as u32).swap_bytes()) * self.lines() as u64) >> 32) as usize
    }

    fn line(&self, line: usize) -> *mut u8 {
        debug_assert!(line < self.lines().max(1));
        // SAFETY: callers give a number below `lines`, or 0, and all lines start in the allocation.
        unsafe { self.first.as_ptr().add(line * LINE) }
    }

    /// The line that an element of this hash goes to from one that is full, the `step`th on its way. Once it has jumped its
    /// way leads over all lines.
    fn line_after(&self, line: usize, hash: u64, step: usize) -> usize {
        let lines = self.lines();
        let ahead = if step == 0 { 1 + ((usize::from(tag_of(hash)) * (lines - 1)) >> 8) } else { 1 };
        if line + ahead < lines { line + ahead } else { line + ahead - lines }
    }

    /// Eight tags, the first one lowest.
    fn group(line: *const u8, group: usize) -> u64 {
        // SAFETY: `line` is a line of a table, whose front is initialised and aligned to words.
        u64::from_le(unsafe { line.add(group * WORD).cast::<u64>().read() })
    }

    fn passed(line: *mut u8) -> *mut u8 {
        // SAFETY: in the front of a line.
        unsafe { line.add(Self::PASSED_AT) }
    }

    fn element(line: *mut u8, place: usize) -> *mut T {
        // SAFETY: callers give places that are in the allocation.
        unsafe { line.add(Self::FRONT + place * size_of::<T>()).cast() }
    }

    /// Calls `visit` with each place of a line whose tag is this one, until it returns true: then that is the place.
    fn matching(line: *mut u8, tag: u8, mut visit: impl FnMut(&T) -> bool) -> Option<usize> {
        let wanted = ONES * u64::from(tag);
        for group in 0..Self::GROUPS {
            let mut hits = zero_bytes(Self::group(line, group) ^ wanted) & Self::tags(group);
            while hits != 0 {
                let place = group * 8 + hits.trailing_zeros() as usize / 8;
                // SAFETY: `wanted` is not 0, so the place holds an element.
                if visit(unsafe { &*Self::element(line, place) }) {
                    return Some(place);
                }
                hits &= hits - 1;
            }
        }
        None
    }

    fn locate(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<Found> {
        let tag = tag_of(hash);
        let mut line = self.home(hash);
        for passed in 0..=self.lines() {
            let at = self.line(line);
            if let Some(place) = Self::matching(at, tag, &mut is_it) {
                return Some(Found { line, passed, place });
            }
            // SAFETY: initialised, as all fronts are.
            if unsafe { Self::passed(at).read() } == 0 {
                return None;
            }
            line = self.line_after(line, hash, passed);
        }
        None
    }

    /// The element with this hash that `is_it`.
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let found = self.locate(hash, is_it)?;
        // SAFETY: an element is there, lent as long as the table is borrowed.
        Some(unsafe { &*Self::element(self.line(found.line), found.place) })
    }

    /// The element with this hash that `is_it`. Its hash must not change.
    pub(crate) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let found = self.locate(hash, is_it)?;
        // SAFETY: as for `find`.
        Some(unsafe { &mut *Self::element(self.line(found.line), found.place) })
    }

    /// Begins to fetch the line where an element of this hash most likely is.
    pub(crate) fn prefetch_home(&self, hash: u64) {
        prefetch(self.line(self.home(hash)));
    }

    /// Shows the elements that could be the one of this hash, of the line that [`Chunks::prefetch_home`] fetches.
    pub(crate) fn likely(&self, hash: u64, mut show: impl FnMut(&T)) {
        Self::matching(self.line(self.home(hash)), tag_of(hash), |element| {
            show(element);
            false
        });
    }

    /// Adds an element. When it [`is_full`](Self::is_full) it grows first, which asks for the hash of every element.
    pub(crate) fn insert(&mut self, hash: u64, element: T, rehash: impl Fn(&T) -> u64) {
        if self.is_full() {
            self.grow(rehash);
        }
        self.place(hash, element);
    }

    fn grow(&mut self, rehash: impl Fn(&T) -> u64) {
        let words = Self::words_after(self.words);
        if words as usize > LINE_WORDS {
            return self.rebuild(words, rehash);
        }
        // All elements are in one line before and after, so they keep their places.
        let mut grown = Self::with_words(words);
        let bytes = self.words as usize * WORD;
        // SAFETY: both are as long as that; copied are initialised tags, and places, where an element is or not. What was
        // copied is no more in `self`, which does not drop it: it has no elements.
        unsafe { grown.first.as_ptr().copy_from_nonoverlapping(self.first.as_ptr(), bytes) };
        grown.len = std::mem::take(&mut self.len);
        self.forget_elements();
        *self = grown;
    }

    /// Makes room for so many elements in all.
    pub(crate) fn reserve(&mut self, count: usize, rehash: impl Fn(&T) -> u64) {
        if count > Self::room_of(self.words) {
            self.rebuild(Self::words_for(count), rehash);
        }
    }

    /// Moves all elements to a table of another size.
    fn rebuild(&mut self, words: u32, rehash: impl Fn(&T) -> u64) {
        assert!(Self::room_of(words) >= self.len(), "room for all");
        let elements = std::mem::replace(self, Self::with_words(words));
        for element in elements {
            self.place(rehash(&element), element);
        }
    }

    /// Puts an element where there is room for it.
    fn place(&mut self, hash: u64, element: T) {
        assert!(!self.is_full(), "room for another");
        let mut line = self.home(hash);
        let mut step = 0;
        let (at, place) = loop {
            let at = self.line(line);
            if let Some(place) = Self::free_place(at) {
                break (at, place);
            }
            // SAFETY: in the front of a line of this table, which is not `NOTHING`, as that one is full.
            unsafe {
                let passed = Self::passed(at);
                passed.write(passed.read().saturating_add(1));
            }
            line = self.line_after(line, hash, step);
            step += 1;
        };
        // SAFETY: the table is not full. So if this is a part of a line, one of its places is free, and the lowest of those that
        // have no element is one of them; if it is a whole line, all of `PLACES` are in it.
        unsafe {
            Self::element(at, place).write(element);
            at.add(place).write(tag_of(hash));
        }
        self.len += 1;
    }

    fn free_place(line: *const u8) -> Option<usize> {
        (0..Self::GROUPS).find_map(|group| {
            let free = zero_bytes(Self::group(line, group)) & Self::tags(group);
            (free != 0).then(|| group * 8 + free.trailing_zeros() as usize / 8)
        })
    }

    /// Takes out the element with this hash that `is_it`. When few are left the table shrinks, and asks for their hashes.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        rehash: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let found = self.locate(hash, is_it)?;
        let mut line = self.home(hash);
        for step in 0..found.passed {
            let passed = Self::passed(self.line(line));
            // SAFETY: in the front of a line of this table. A count that could not go on counting stays as it is.
            unsafe {
                match passed.read() {
                    u8::MAX => {}
                    count => passed.write(count - 1),
                }
            }
            line = self.line_after(line, hash, step);
        }
        let at = self.line(found.line);
        // SAFETY: an element is there; with its tag gone it is no more, so it is moved, not copied.
        let element = unsafe {
            at.add(found.place).write(0);
            Self::element(at, found.place).read()
        };
        self.len -= 1;
        if self.is_empty() {
            *self = Self::default();
        } else if self.lines() > 1 && self.len() * SPARSE <= Self::room_of(self.words) {
            self.rebuild(Self::words_for(self.len() * 2), rehash);
        }
        Some(element)
    }

    /// An element from a place drawn, `None` when there is none: places are as likely as each other.
    pub(crate) fn draw(&self, dice: &mut fastrand::Rng) -> Option<&T> {
        let line = self.line(dice.usize(..self.lines().max(1)));
        let place = dice.usize(..Self::PLACES);
        // SAFETY: a tag of a line's front, and the element it speaks of, lent as long as the table is borrowed.
        unsafe { (line.add(place).read() != 0).then(|| &*Self::element(line, place)) }
    }

    fn walk(&self) -> Walk<T> {
        let line = self.first.as_ptr();
        Walk {
            line,
            after: self.lines().saturating_sub(1),
            group: 0,
            taken: Walk::<T>::taken(line, 0),
            of: PhantomData,
        }
    }

    /// All elements.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter(self.walk(), PhantomData)
    }

    /// Gives the memory back. The elements must have been moved out.
    fn forget_elements(&mut self) {
        let words = std::mem::take(&mut self.words);
        let first = std::mem::replace(&mut self.first, NonNull::from(&NOTHING).cast());
        self.len = 0;
        if words > 0 {
            // SAFETY: allocated with this layout, and no longer referred to.
            unsafe { dealloc(first.as_ptr(), layout(words)) };
        }
    }
}

impl<T> Drop for Chunks<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() && self.len > 0 {
            let mut walk = self.walk();
            while let Some(element) = walk.next() {
                // SAFETY: an element, which nobody looks at after this. If it panics the rest is leaked.
                unsafe { element.drop_in_place() };
            }
        }
        self.forget_elements();
    }
}

/// Goes from element to element.
struct Walk<T> {
    line: *mut u8,
    /// Lines after this one.
    after: usize,
    group: usize,
    /// Of this group, the tags of elements to come.
    taken: u64,
    of: PhantomData<T>,
}

impl<T> Walk<T> {
    fn taken(line: *const u8, group: usize) -> u64 {
        !zero_bytes(Chunks::<T>::group(line, group)) & Chunks::<T>::tags(group)
    }

    fn next(&mut self) -> Option<*mut T> {
        while self.taken == 0 {
            if self.group + 1 < Chunks::<T>::GROUPS {
                self.group += 1;
            } else {
                self.after = self.after.checked_sub(1)?;
                self.group = 0;
                // SAFETY: there is a line after this one.
                self.line = unsafe { self.line.add(LINE) };
            }
            self.taken = Self::taken(self.line, self.group);
        }
        let place = self.group * 8 + self.taken.trailing_zeros() as usize / 8;
        self.taken &= self.taken - 1;
        Some(Chunks::<T>::element(self.line, place))
    }
}

/// Lends elements.
pub(crate) struct Iter<'c, T>(Walk<T>, PhantomData<&'c T>);

impl<'c, T> Iterator for Iter<'c, T> {
    type Item = &'c T;

    fn next(&mut self) -> Option<&'c T> {
        // SAFETY: an element, and the table is borrowed for `'c`.
        self.0.next().map(|element| unsafe { &*element })
    }
}

// SAFETY: it is no more than a `&Chunks`.
unsafe impl<T: Sync> Send for Iter<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Iter<'_, T> {}

/// Gives elements away, and drops those that nobody took.
pub(crate) struct IntoIter<T> {
    walk: Walk<T>,
    /// Its elements are the walk's to give away or to drop.
    emptied: Chunks<T>,
}

impl<T> IntoIterator for Chunks<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(mut self) -> IntoIter<T> {
        let walk = self.walk();
        self.len = 0;
        IntoIter { walk, emptied: self }
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        debug_assert!(self.emptied.is_empty());
        // SAFETY: an element, which the walk comes to once; the table does not drop it, as it says that it has none.
        self.walk.next().map(|element| unsafe { element.read() })
    }
}

impl<T> Drop for IntoIter<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
