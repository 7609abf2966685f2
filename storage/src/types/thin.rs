//! One heap block behind one thin pointer: a header, a word, and bytes of any number. Keys with their small values, members of
//! large collections and packed runs are such blocks; a table of them spends eight bytes on each.
//!
//! ```text
//! Thin<H, W> → | header H | word W | length u32 | bytes … |
//! ```
//!
//! [`Either`] keeps one of two kinds of block in the same eight bytes; which one shows in the pointer's lowest bit.
//!
//! What the unsafe code relies on:
//! * A block is allocated with the layout that [`layout`] gives for its length, and its length changes only together with its
//!   allocation ([`Thin::resize`]); so it is freed with the layout it has.
//! * `header`, `word` and `length` are initialised by [`Thin::new`], all bytes before anyone can read them.
//! * References to fields are made from the block's own pointer, which stands for the whole allocation, never from a reference
//!   to `Prefix`, which would stand for less.
//! * A `Thin` owns its block alone; what it lends follows the borrow of the `Thin`.
//! * A `Thin` keeps its block's address plus `TAG`, at all times. So the address tells which of the two kinds stands in an
//!   `Either`, and a reference to the `Either` is one to the `Thin`, both being nothing but that address.
#![expect(
    unsafe_code,
    reason = "measured by examples/memory, resident bytes per key before and after: 252 and 151 (16 bytes with a value of 100), \
              140 and 53 (an integer), 451 and 200 (a list of 10 members); no safe pointer to bytes of any number takes 8"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Range;
use std::ptr::NonNull;

use super::prefetch::prefetch;

/// What stands before a block's bytes. They follow `length` directly.
#[repr(C)]
struct Prefix<H, W> {
    header: H,
    word: W,
    length: u32,
    bytes: [u8; 0],
}

/// Most bytes of one block.
pub const THIN_MAX: usize = (u32::MAX / 2) as usize;

/// An owned block. `TAG`, 0 or 1, is which of the two kinds of an [`Either`] it can be.
#[repr(transparent)]
pub struct Thin<H = (), W = (), const TAG: usize = 0> {
    /// The block's address plus `TAG`.
    tagged: NonNull<u8>,
    owns: PhantomData<(H, W)>,
}

// SAFETY: a `Thin` owns its block as a `Box` would.
unsafe impl<H: Send, W: Send, const TAG: usize> Send for Thin<H, W, TAG> {}
// SAFETY: as above; what is lent by `&Thin` is `&H`, `&W` and bytes.
unsafe impl<H: Sync, W: Sync, const TAG: usize> Sync for Thin<H, W, TAG> {}

fn layout<H, W>(length: usize) -> Layout {
    assert!(length <= THIN_MAX, "a block of {length} bytes");
    let size = offset_of!(Prefix<H, W>, bytes) + length;
    Layout::from_size_align(size, align_of::<Prefix<H, W>>()).expect("far below the address space")
}

impl<H, W, const TAG: usize> Thin<H, W, TAG> {
    const BYTES: usize = offset_of!(Prefix<H, W>, bytes);

    /// A block with these pieces of bytes one after the other.
    ///
    /// # Panics
    /// When they are more than [`THIN_MAX`] bytes.
    pub fn new(header: H, word: W, pieces: &[&[u8]]) -> Self {
        const { assert!(TAG < align_of::<Prefix<H, W>>()) };
        let length = pieces.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        let layout = layout::<H, W>(length);
        // SAFETY: the layout's size is not zero: `length` is part of it.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let prefix = block.cast::<Prefix<H, W>>().as_ptr();
        // SAFETY: the block is large and aligned enough for the prefix, and `length` bytes follow it, which the pieces fill to
        // the last. `TAG` is less than the alignment, so within the block.
        unsafe {
            (&raw mut (*prefix).header).write(header);
            (&raw mut (*prefix).word).write(word);
            (&raw mut (*prefix).length).write(length as u32);
            let mut to = block.as_ptr().add(Self::BYTES);
            for piece in pieces {
                to.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
                to = to.add(piece.len());
            }
            Self { tagged: block.byte_add(TAG), owns: PhantomData }
        }
    }

    fn block(&self) -> *mut u8 {
        // SAFETY: `tagged` is `TAG` bytes into the block.
        unsafe { self.tagged.as_ptr().byte_sub(TAG) }
    }

    fn prefix(&self) -> *mut Prefix<H, W> {
        self.block().cast()
    }

    /// Begins to fetch where the block begins.
    pub fn prefetch(&self) {
        prefetch(self.tagged.as_ptr());
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        // SAFETY: initialised by `new`.
        unsafe { (&raw const (*self.prefix()).length).read() as usize }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes of this block, lent as long as the `Thin` is borrowed; the same for those below.
        unsafe { std::slice::from_raw_parts(self.block().add(Self::BYTES), self.len()) }
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.block().add(Self::BYTES), self.len()) }
    }

    /// The header.
    pub fn header(&self) -> &H {
        // SAFETY: initialised by `new`; lent as `bytes` are.
        unsafe { &(*self.prefix()).header }
    }

    /// The header, to change.
    pub fn header_mut(&mut self) -> &mut H {
        // SAFETY: as for `header`.
        unsafe { &mut (*self.prefix()).header }
    }

    /// The word.
    pub fn word(&self) -> &W {
        // SAFETY: as for `header`.
        unsafe { &(*self.prefix()).word }
    }

    /// The word, to change.
    pub fn word_mut(&mut self) -> &mut W {
        // SAFETY: as for `header`.
        unsafe { &mut (*self.prefix()).word }
    }

    /// Makes the block longer by zeros, or shorter.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn resize(&mut self, length: usize) {
        let before = self.len();
        if length == before {
            return;
        }
        let (old, new) = (layout::<H, W>(before), layout::<H, W>(length));
        // SAFETY: the block was allocated with the layout of its length; the new size is neither zero nor beyond `isize`.
        let block = unsafe { realloc(self.block(), old, new.size()) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(new) };
        // SAFETY: the prefix moved along; bytes beyond those there were are within the new block, and zeroed before `length`
        // lets anyone read them. `TAG` is within the block.
        unsafe {
            self.tagged = block.byte_add(TAG);
            if length > before {
                block.as_ptr().add(Self::BYTES + before).write_bytes(0, length - before);
            }
            (&raw mut (*self.prefix()).length).write(length as u32);
        }
    }

    /// Replaces a range of the bytes by these pieces.
    ///
    /// # Panics
    /// When the range is not within the bytes; as [`Self::new`].
    pub fn splice(&mut self, range: Range<usize>, pieces: &[&[u8]]) {
        let before = self.len();
        assert!(range.start <= range.end && range.end <= before, "{range:?} of {before} bytes");
        let added: usize = pieces.iter().map(|piece| piece.len()).sum();
        let tail_at = range.start + added;
        let after = before - range.len() + added;
        if after > before {
            self.resize(after);
        }
        let bytes = self.bytes_mut();
        if tail_at != range.end {
            bytes.copy_within(range.end..before, tail_at);
        }
        let mut at = range.start;
        for piece in pieces {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        if after < before {
            self.resize(after);
        }
    }

    /// Takes the header out and frees the block.
    pub fn into_header(self) -> H {
        let this = ManuallyDrop::new(self);
        let layout = layout::<H, W>(this.len());
        // SAFETY: read once; the rest of the block is dropped and freed here, and `this` never is.
        unsafe {
            let header = (&raw mut (*this.prefix()).header).read();
            (&raw mut (*this.prefix()).word).drop_in_place();
            dealloc(this.block(), layout);
            header
        }
    }

    /// Bytes of memory of the block.
    pub fn memory_bytes(&self) -> usize {
        Self::BYTES + self.len()
    }
}

impl<H, W, const TAG: usize> Drop for Thin<H, W, TAG> {
    fn drop(&mut self) {
        let layout = layout::<H, W>(self.len());
        // SAFETY: initialised by `new` and dropped here only; allocated with this layout.
        unsafe {
            (&raw mut (*self.prefix()).header).drop_in_place();
            (&raw mut (*self.prefix()).word).drop_in_place();
            dealloc(self.block(), layout);
        }
    }
}

/// A block of one of two kinds, in eight bytes. `A` and `B` are the blocks' headers, `WA` and `WB` their words.
#[repr(transparent)]
pub struct Either<A, B, WA = (), WB = ()> {
    /// What a `Thin<A, WA, 0>` or a `Thin<B, WB, 1>` is.
    tagged: NonNull<u8>,
    owns: PhantomData<(Thin<A, WA, 0>, Thin<B, WB, 1>)>,
}

// SAFETY: an `Either` owns its block as `Thin` does.
unsafe impl<A: Send, B: Send, WA: Send, WB: Send> Send for Either<A, B, WA, WB> {}
// SAFETY: as above.
unsafe impl<A: Sync, B: Sync, WA: Sync, WB: Sync> Sync for Either<A, B, WA, WB> {}

/// Which kind an [`Either`] holds, and the block.
pub enum Kind<X, Y> {
    /// The first kind.
    First(X),
    /// The second kind.
    Second(Y),
}

impl<A, B, WA, WB> Either<A, B, WA, WB> {
    /// Holds a block of the first kind.
    pub fn first(block: Thin<A, WA, 0>) -> Self {
        Self { tagged: ManuallyDrop::new(block).tagged, owns: PhantomData }
    }

    /// Holds a block of the second kind.
    pub fn second(block: Thin<B, WB, 1>) -> Self {
        Self { tagged: ManuallyDrop::new(block).tagged, owns: PhantomData }
    }

    /// Begins to fetch where the block begins.
    pub fn prefetch(&self) {
        prefetch(self.tagged.as_ptr());
    }

    fn is_first(&self) -> bool {
        self.tagged.addr().get() & 1 == 0
    }

    /// The block, to look at.
    pub fn view(&self) -> Kind<&Thin<A, WA, 0>, &Thin<B, WB, 1>> {
        let this: *const Self = self;
        // SAFETY: all three are nothing but a `NonNull<u8>`; blocks are aligned to more than one byte, so a tag of 0 shows that
        // `first` made this, 1 that `second` did. Lent as long as `self` is borrowed; the same for `view_mut`.
        unsafe {
            if self.is_first() {
                Kind::First(&*this.cast::<Thin<A, WA, 0>>())
            } else {
                Kind::Second(&*this.cast::<Thin<B, WB, 1>>())
            }
        }
    }

    /// The block, to change.
    pub fn view_mut(&mut self) -> Kind<&mut Thin<A, WA, 0>, &mut Thin<B, WB, 1>> {
        let is_first = self.is_first();
        let this: *mut Self = self;
        // SAFETY: as for `view`. Whatever is put in place of the `Thin` has its tag, so `self` stays what it is.
        unsafe {
            if is_first {
                Kind::First(&mut *this.cast::<Thin<A, WA, 0>>())
            } else {
                Kind::Second(&mut *this.cast::<Thin<B, WB, 1>>())
            }
        }
    }

    /// The block, taken out.
    pub fn take(self) -> Kind<Thin<A, WA, 0>, Thin<B, WB, 1>> {
        let this = ManuallyDrop::new(self);
        if this.is_first() {
            Kind::First(Thin { tagged: this.tagged, owns: PhantomData })
        } else {
            Kind::Second(Thin { tagged: this.tagged, owns: PhantomData })
        }
    }
}

impl<A, B, WA, WB> Drop for Either<A, B, WA, WB> {
    fn drop(&mut self) {
        if self.is_first() {
            drop(Thin::<A, WA, 0> { tagged: self.tagged, owns: PhantomData });
        } else {
            drop(Thin::<B, WB, 1> { tagged: self.tagged, owns: PhantomData });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn a_block_takes_eight_bytes_in_a_table_and_little_before_its_bytes() {
        assert_eq!(size_of::<Option<Thin<String, u32>>>(), 8);
        assert_eq!(size_of::<Either<(), String, Cell<u32>, Cell<u32>>>(), 8);
        assert_eq!(Thin::<(), ()>::new((), (), &[b"ten bytes!"]).memory_bytes(), 14);
        assert_eq!(Thin::<(), Cell<u32>>::new((), Cell::new(1), &[b"ten bytes!"]).memory_bytes(), 18);
        let with_header =
            Thin::<(u8, Box<u8>), Cell<u32>, 1>::new((1, Box::new(2)), Cell::new(3), &[b"ten bytes!"]);
        assert_eq!(with_header.memory_bytes(), 34);
    }

    #[test]
    fn bytes_behave_like_a_vector() {
        let (mut thin, mut model) =
            (Thin::<_, _, 1>::new((), 7u32, &[b"ab", b"", b"cdef"]), b"abcdef".to_vec());
        let mut dice = fastrand::Rng::with_seed(2);
        for step in 0..if cfg!(miri) { 60 } else { 2_000 } {
            let start = dice.usize(..=model.len());
            let end = dice.usize(start..=model.len().min(start + 40));
            let piece = vec![step as u8; dice.usize(..60)];
            thin.splice(start..end, &[&piece, b"-"]);
            model.splice(start..end, piece.into_iter().chain(*b"-"));
            assert_eq!((thin.bytes(), *thin.word()), (&model[..], 7));
        }
        thin.resize(3);
        thin.resize(6);
        assert_eq!(thin.bytes(), [&model[..3], &[0, 0, 0]].concat());
        thin.bytes_mut()[5] = 9;
        *thin.word_mut() = 8;
        assert_eq!((thin.bytes()[5], *thin.word(), thin.memory_bytes()), (9, 8, 8 + 6));
    }

    #[test]
    fn headers_are_dropped_once_whatever_way_they_go() {
        let counted = Rc::new(());
        drop(Thin::<_, (), 0>::new(counted.clone(), (), &[b"x"]));
        drop(Thin::<_, (), 1>::new(counted.clone(), (), &[b"x"]).into_header());
        let mut either: Either<Rc<()>, Rc<()>> = Either::first(Thin::new(counted.clone(), (), &[b"x"]));
        assert!(matches!(either.view(), Kind::First(thin) if thin.bytes() == b"x"));
        either = Either::second(Thin::new(counted.clone(), (), &[b"abc"]));
        if let Kind::Second(thin) = either.view_mut() {
            thin.splice(1..2, &[&[b'y'; 500]]);
            *thin.header_mut() = counted.clone();
        }
        assert_eq!(Rc::strong_count(&counted), 2);
        assert!(
            matches!(either.view(), Kind::Second(thin) if thin.len() == 502 && thin.bytes()[501] == b'c')
        );
        match either.take() {
            Kind::Second(thin) => assert_eq!(thin.len(), 502),
            Kind::First(_) => unreachable!("it was the second"),
        }
        drop(Either::<Rc<()>, Rc<()>>::second(Thin::new(counted.clone(), (), &[])));
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn a_block_may_be_swapped_or_grown_within_an_either() {
        let mut either: Either<(), Vec<u8>> = Either::first(Thin::new((), (), &[b"abc"]));
        let mut other = Thin::new((), (), &[b"defg"]);
        if let Kind::First(thin) = either.view_mut() {
            thin.resize(5_000);
            std::mem::swap(thin, &mut other);
        }
        assert!(matches!(either.view(), Kind::First(thin) if thin.bytes() == b"defg"));
        assert_eq!(other.len(), 5_000);
    }
}
