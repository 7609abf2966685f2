//! A sequence with two ends: packed nodes of bounded size, one after the other.

use std::collections::VecDeque;

use super::packed::{self, Packed};
use crate::mutation::ListEnd;

/// Bytes of a node (Redis's list-max-listpack-size -2: 8 KiB); a longer element has a node of its own.
const NODE_BYTES_MAX: usize = 8 * 1024;
/// Elements of a node, so that a walk inside one is short.
const NODE_LEN_MAX: usize = 128;

/// A list.
#[derive(Default)]
pub struct List {
    nodes: VecDeque<Packed>,
    length: usize,
}

fn is_full(node: &Packed, item: &[u8]) -> bool {
    node.len() >= NODE_LEN_MAX || (!node.is_empty() && node.byte_len() + item.len() > NODE_BYTES_MAX)
}

impl List {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        let bytes: usize = self.nodes.iter().take(2).map(Packed::byte_len).sum();
        // Redis counts bytes only by default (list-max-listpack-size -2).
        if bytes <= NODE_BYTES_MAX && self.nodes.iter().map(Packed::byte_len).sum::<usize>() <= NODE_BYTES_MAX
        {
            "listpack"
        } else {
            "quicklist"
        }
    }

    /// Node and place in it of the element at `index`; of the place after the last for the length.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index * 2 <= self.length {
            let mut left = index;
            for (node, packed) in self.nodes.iter().enumerate() {
                if left < packed.len() {
                    return (node, left);
                }
                left -= packed.len();
            }
            return (self.nodes.len(), 0);
        }
        let mut after = self.length;
        for (node, packed) in self.nodes.iter().enumerate().rev() {
            after -= packed.len();
            if index >= after {
                return if index - after < packed.len() { (node, index - after) } else { (node + 1, 0) };
            }
        }
        (self.nodes.len(), 0)
    }

    /// The element at `index` from the head.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= self.length {
            return None;
        }
        let (node, place) = self.locate(index);
        self.nodes[node].get(place)
    }

    /// The elements from the head on.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes.iter().flat_map(Packed::iter)
    }

    /// The elements from the tail on.
    pub fn iter_rev(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes.iter().rev().flat_map(|node| node.iter().collect::<Vec<_>>().into_iter().rev())
    }

    /// `length` elements from `start` on, fewer when the list ends.
    pub fn range(&self, start: usize, length: usize) -> impl Iterator<Item = &[u8]> {
        let (node, place) = if start < self.length { self.locate(start) } else { (self.nodes.len(), 0) };
        let first: Option<packed::Iter<'_>> = self.nodes.get(node).map(Packed::iter);
        let rest = self.nodes.iter().skip(node + 1).flat_map(Packed::iter);
        first.into_iter().flatten().skip(place).chain(rest).take(length)
    }

    pub(crate) fn push(&mut self, end: ListEnd, item: &[u8]) {
        self.length += 1;
        match end {
            ListEnd::Right => match self.nodes.back_mut() {
                Some(node) if !is_full(node, item) => node.push(item),
                _ => {
                    let mut node = Packed::default();
                    node.push(item);
                    self.nodes.push_back(node);
                }
            },
            ListEnd::Left => match self.nodes.front_mut() {
                Some(node) if !is_full(node, item) => node.insert(0, &[item]),
                _ => {
                    let mut node = Packed::default();
                    node.push(item);
                    self.nodes.push_front(node);
                }
            },
        }
    }

    /// Takes `count` elements, no more than there are, off one end.
    pub(crate) fn pop(&mut self, end: ListEnd, count: usize) {
        let mut left = count.min(self.length);
        self.length -= left;
        while left > 0 {
            let node = match end {
                ListEnd::Left => self.nodes.front_mut(),
                ListEnd::Right => self.nodes.back_mut(),
            };
            let Some(node) = node else { return };
            let here = left.min(node.len());
            left -= here;
            if here < node.len() {
                let from = if end == ListEnd::Left { 0 } else { node.len() - here };
                node.remove(from, here);
            } else if end == ListEnd::Left {
                self.nodes.pop_front();
            } else {
                self.nodes.pop_back();
            }
        }
    }

    pub(crate) fn set(&mut self, index: usize, item: &[u8]) {
        let (node, place) = self.locate(index);
        self.nodes[node].set(place, item);
    }

    pub(crate) fn insert(&mut self, index: usize, item: &[u8]) {
        if index == 0 {
            return self.push(ListEnd::Left, item);
        }
        if index == self.length {
            return self.push(ListEnd::Right, item);
        }
        self.length += 1;
        let (node, place) = self.locate_before_growth(index);
        if is_full(&self.nodes[node], item) {
            let mut tail = self.nodes[node].split_off(place);
            tail.insert(0, &[item]);
            self.nodes.insert(node + 1, tail);
            if self.nodes[node].is_empty() {
                self.nodes.remove(node);
            }
        } else {
            self.nodes[node].insert(place, &[item]);
        }
    }

    /// [`Self::locate`] while `length` already counts the element to come.
    fn locate_before_growth(&mut self, index: usize) -> (usize, usize) {
        self.length -= 1;
        let place = self.locate(index);
        self.length += 1;
        place
    }

    /// Removes the elements at these indexes, ascending and below the length.
    pub(crate) fn remove(&mut self, indexes: &[u64]) {
        let mut indexes = indexes.iter().map(|&index| index as usize).peekable();
        let mut first = 0;
        let mut removed = 0;
        for node in &mut self.nodes {
            let length = node.len();
            let mut here = 0;
            while let Some(&index) = indexes.peek()
                && index < first + length
            {
                node.remove(index - first - here, 1);
                here += 1;
                indexes.next();
            }
            first += length;
            removed += here;
        }
        self.length -= removed;
        self.nodes.retain(|node| !node.is_empty());
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(Packed::memory_bytes).sum();
        size_of::<Self>() + nodes + self.nodes.capacity() * size_of::<Packed>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_behaves_like_a_deque() {
        let (mut list, mut model) = (List::default(), VecDeque::<Vec<u8>>::new());
        let mut dice = fastrand::Rng::with_seed(4);
        for step in 0..6_000u32 {
            let item = vec![b'a' + (step % 26) as u8; dice.usize(..300)];
            let index = dice.usize(..=model.len());
            match dice.u8(..9) {
                0 | 1 => {
                    list.push(ListEnd::Left, &item);
                    model.push_front(item);
                }
                2 | 3 => {
                    list.push(ListEnd::Right, &item);
                    model.push_back(item);
                }
                4 | 5 => {
                    list.insert(index, &item);
                    model.insert(index, item);
                }
                6 if index < model.len() => {
                    list.set(index, &item);
                    model[index] = item;
                }
                7 => {
                    list.pop(ListEnd::Right, 2);
                    model.truncate(model.len().saturating_sub(2));
                }
                8 if index + 3 < model.len() => {
                    list.remove(&[index as u64, index as u64 + 3]);
                    model.remove(index + 3);
                    model.remove(index);
                }
                _ => {
                    list.pop(ListEnd::Left, 1);
                    model.pop_front();
                }
            }
            assert_eq!(list.len(), model.len());
            assert_eq!(list.get(index), model.get(index).map(Vec::as_slice));
        }
        assert!(list.nodes.len() > 3);
        assert!(list.iter().eq(model.iter().map(Vec::as_slice)));
        assert!(list.iter_rev().eq(model.iter().rev().map(Vec::as_slice)));
        assert!(list.range(100, 400).eq(model.iter().skip(100).take(400).map(Vec::as_slice)));
    }
}
