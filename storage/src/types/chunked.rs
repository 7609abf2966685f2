//! A vector in chunks: to grow, it never moves what it holds. For what can have millions of places.

use std::ops::{Index, IndexMut};

/// Places of one chunk: what growth allocates at most.
const CHUNK: usize = 512;

/// The vector. All chunks but the last are full.
pub(crate) struct Chunked<T>(Vec<Vec<T>>);

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunked<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(element),
            _ => {
                // The first one grows with what it holds.
                let mut chunk = Vec::with_capacity(if self.0.is_empty() { 0 } else { CHUNK });
                chunk.push(element);
                self.0.push(chunk);
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.0.last_mut()?;
        let element = last.pop();
        if last.is_empty() {
            self.0.pop();
        }
        element
    }

    /// Takes an element out; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        let last = self.pop()?;
        if index == self.len() { Some(last) } else { Some(std::mem::replace(&mut self[index], last)) }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// Bytes of memory, without what the elements own. Takes no walk.
    pub(crate) fn memory_bytes(&self) -> usize {
        let places = match &self.0[..] {
            [] => 0,
            [only] => only.capacity(),
            chunks => chunks.len() * CHUNK,
        };
        places * size_of::<T>() + self.0.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.0[index / CHUNK][index % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.0[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_behaves_like_a_vector() {
        let (mut chunked, mut model) = (Chunked::default(), Vec::new());
        let mut dice = fastrand::Rng::with_seed(6);
        for step in 0..9_000u32 {
            match dice.u8(..if step < 4_000 { 4 } else { 8 }) {
                0..3 => {
                    chunked.push(step);
                    model.push(step);
                }
                3 | 4 => assert_eq!(chunked.pop(), model.pop()),
                _ if !model.is_empty() => {
                    let index = dice.usize(..model.len());
                    chunked[index] += 1;
                    model[index] += 1;
                    assert_eq!(chunked.swap_remove(index), Some(model.swap_remove(index)));
                }
                _ => assert_eq!(chunked.swap_remove(0), None),
            }
            assert_eq!((chunked.len(), chunked.get(model.len())), (model.len(), None));
        }
        (0..2_000).for_each(|number| chunked.push(number));
        model.extend(0..2_000);
        assert!(chunked.iter().eq(&model) && chunked[1_500] == model[1_500]);
    }
}
