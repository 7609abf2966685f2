//! An ordered sequence with ranks: sorted chunks of bounded size, and over their lengths a Fenwick tree, so that the rank of an
//! element, the element of a rank and an insertion take O(log n) steps.

/// Elements of a chunk before it splits.
const CHUNK_MAX: usize = 256;

/// The sequence. `T` must not be changed in what it is ordered by.
#[derive(Debug)]
pub struct RankList<T> {
    chunks: Vec<Vec<T>>,
    /// Fenwick tree over the chunks' lengths.
    counts: Vec<usize>,
    length: usize,
}

impl<T> Default for RankList<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), counts: Vec::new(), length: 0 }
    }
}

impl<T> RankList<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn rebuild(&mut self) {
        self.counts.clear();
        self.counts.extend(self.chunks.iter().map(Vec::len));
        for index in 0..self.counts.len() {
            let parent = index | (index + 1);
            if parent < self.counts.len() {
                self.counts[parent] += self.counts[index];
            }
        }
    }

    fn count(&mut self, chunk: usize, added: isize) {
        let mut index = chunk;
        while index < self.counts.len() {
            self.counts[index] = self.counts[index].wrapping_add_signed(added);
            index |= index + 1;
        }
    }

    /// Elements in the chunks before this one.
    fn before(&self, chunk: usize) -> usize {
        let (mut sum, mut end) = (0, chunk);
        while end > 0 {
            sum += self.counts[end - 1];
            end &= end - 1;
        }
        sum
    }

    /// Chunk and place in it of the element with this rank, which must be below the length.
    fn locate(&self, rank: usize) -> (usize, usize) {
        let (mut chunk, mut left) = (0, rank);
        let mut step = self.counts.len().next_power_of_two();
        while step > 0 {
            let end = chunk + step;
            if end <= self.counts.len() && self.counts[end - 1] <= left {
                left -= self.counts[end - 1];
                chunk = end;
            }
            step /= 2;
        }
        (chunk, left)
    }

    /// Chunk and place in it of the first element that is not `before`; all that are come first.
    fn partition(&self, before: &impl Fn(&T) -> bool) -> (usize, usize) {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(before));
        let place = self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(before));
        (chunk, place)
    }

    /// How many elements are `before`; they must all come first.
    pub fn rank(&self, before: impl Fn(&T) -> bool) -> usize {
        let (chunk, place) = self.partition(&before);
        self.before(chunk) + place
    }

    /// The element with this rank.
    pub fn get(&self, rank: usize) -> Option<&T> {
        if rank >= self.length {
            return None;
        }
        let (chunk, place) = self.locate(rank);
        Some(&self.chunks[chunk][place])
    }

    /// Enters an element after those that are `before`.
    pub fn insert(&mut self, element: T, before: impl Fn(&T) -> bool) {
        self.length += 1;
        let (mut chunk, mut place) = self.partition(&before);
        if chunk == self.chunks.len() {
            match chunk.checked_sub(1) {
                Some(last) => (chunk, place) = (last, self.chunks[last].len()),
                None => self.chunks.push(Vec::new()),
            }
        }
        if self.chunks[chunk].len() < CHUNK_MAX {
            self.chunks[chunk].insert(place, element);
            if self.counts.len() == self.chunks.len() {
                self.count(chunk, 1)
            } else {
                self.rebuild()
            }
            return;
        }
        // At the very end a new chunk, so that ascending insertions fill their chunks; else halves.
        let at_end = chunk + 1 == self.chunks.len() && place == CHUNK_MAX;
        let mut tail = if at_end { Vec::new() } else { self.chunks[chunk].split_off(CHUNK_MAX / 2) };
        if at_end || place > CHUNK_MAX / 2 {
            tail.insert(if at_end { 0 } else { place - CHUNK_MAX / 2 }, element);
        } else {
            self.chunks[chunk].insert(place, element);
        }
        self.chunks.insert(chunk + 1, tail);
        self.rebuild();
    }

    /// Removes the first element that is not `before`.
    pub fn remove(&mut self, before: impl Fn(&T) -> bool) -> Option<T> {
        let (chunk, place) = self.partition(&before);
        let elements = self.chunks.get_mut(chunk)?;
        let element = elements.remove(place);
        self.length -= 1;
        if elements.is_empty() {
            self.chunks.remove(chunk);
            self.rebuild();
        } else {
            if elements.len() * 4 < elements.capacity() {
                elements.shrink_to(elements.len() * 2);
            }
            self.count(chunk, -1);
        }
        Some(element)
    }

    /// The elements from this rank on, upwards.
    pub fn iter_from(&self, rank: usize) -> impl Iterator<Item = &T> {
        let (chunk, place) = if rank < self.length { self.locate(rank) } else { (self.chunks.len(), 0) };
        self.chunks[chunk..].iter().flatten().skip(place)
    }

    /// The elements from this rank on, downwards.
    pub fn iter_rev_from(&self, rank: usize) -> impl Iterator<Item = &T> {
        let (chunk, skipped) = if rank < self.length {
            let (chunk, place) = self.locate(rank);
            (chunk + 1, self.chunks[chunk].len() - 1 - place)
        } else {
            (self.chunks.len(), 0)
        };
        self.chunks[..chunk].iter().rev().flat_map(|chunk| chunk.iter().rev()).skip(skipped)
    }

    /// Bytes of memory of the sequence itself, without what its elements own.
    pub fn memory_bytes(&self) -> usize {
        let elements: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum();
        elements + self.chunks.capacity() * size_of::<Vec<T>>() + self.counts.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_a_sorted_vector() {
        let (mut list, mut model) = (RankList::default(), Vec::new());
        let mut dice = fastrand::Rng::with_seed(9);
        for step in 0..20_000u32 {
            let number = if step < 4_000 { step } else { dice.u32(..8_000) };
            match model.binary_search(&number) {
                Ok(at) if dice.bool() => {
                    assert_eq!(list.remove(|known| *known < number), Some(model.remove(at)));
                }
                Ok(at) => {
                    assert_eq!(list.rank(|known| *known < number), at);
                    assert_eq!(list.get(at), Some(&number));
                }
                Err(at) => {
                    list.insert(number, |known| *known < number);
                    model.insert(at, number);
                }
            }
            assert_eq!(list.len(), model.len());
        }
        assert!(list.chunks.len() > 10);
        for rank in (0..model.len()).step_by(371) {
            assert!(list.iter_from(rank).eq(&model[rank..]));
            assert!(list.iter_rev_from(rank).eq(model[..=rank].iter().rev()));
        }
        assert_eq!(list.iter_from(model.len()).count(), 0);
    }
}
