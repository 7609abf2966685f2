//! A sequence with two ends. Small: one packed run. Large: packed nodes of bounded size, one after the other.

use std::collections::VecDeque;

use super::limits::is_small_list;
use super::packed::{Items, Packed};
use super::tail_places::TailPlaces;
use super::thin::{Either, Kind, Thin};
use crate::mutation::ListEnd;

/// Bytes of a node; a longer element has a node of its own. Half of Redis's 8 KiB: a push at the head moves a node's bytes.
const NODE_BYTES_MAX: usize = 4 * 1024 - 16;
/// Elements of a node, so that a walk inside one is short: a pop at the tail takes two.
const NODE_LEN_MAX: usize = 128;

/// A list.
pub struct List(Either<(), Nodes, u32>);

/// Its number of elements stands beside a node, so that a seek reads no node but the one it looks for.
struct Node {
    packed: Packed,
    count: u32,
}

#[derive(Default)]
struct Nodes {
    nodes: VecDeque<Node>,
    length: usize,
    /// Bytes of the nodes' elements.
    bytes: usize,
    /// Of the last node.
    tail: TailPlaces,
}

impl Default for List {
    fn default() -> Self {
        Self(Either::first(Packed::empty()))
    }
}

fn is_full(packed: &Packed, item: &[u8]) -> bool {
    let count = packed.count();
    count >= NODE_LEN_MAX || (count > 0 && packed.len() + item.len() > NODE_BYTES_MAX)
}

/// A run's elements from the last to the first.
fn items_rev(packed: &Packed) -> impl Iterator<Item = &[u8]> {
    packed.items().collect::<Vec<_>>().into_iter().rev()
}

impl List {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.count(),
            Kind::Second(nodes) => nodes.header().length,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        let bytes = match self.0.view() {
            Kind::First(packed) => packed.len(),
            Kind::Second(nodes) => nodes.header().bytes,
        };
        // Redis's form has a byte more per element, for walking back, and seven in all.
        if is_small_list(self.len(), bytes + self.len() + 7) { "listpack" } else { "quicklist" }
    }

    /// The runs, in order.
    fn runs(&self) -> impl DoubleEndedIterator<Item = &Packed> {
        let (one, many) = match self.0.view() {
            Kind::First(packed) => (Some(packed), None),
            Kind::Second(nodes) => (None, Some(nodes.header().nodes.iter().map(|node| &node.packed))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The element at `index` from the head.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        match self.0.view() {
            Kind::First(packed) => packed.item(index),
            Kind::Second(nodes) => {
                let nodes = nodes.header();
                if index + 1 == nodes.length
                    && let (Some(start), Some(last)) = (nodes.tail.last(), nodes.nodes.back())
                {
                    return Some(last.packed.item_at(start));
                }
                let (node, place) = (index < nodes.length).then(|| nodes.locate(index))?;
                nodes.nodes[node].packed.item(place)
            }
        }
    }

    /// The elements from the head on.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.runs().flat_map(|run| run.items())
    }

    /// The elements from the tail on.
    pub fn iter_rev(&self) -> impl Iterator<Item = &[u8]> {
        self.runs().rev().flat_map(items_rev)
    }

    /// `length` elements from `start` on, fewer when the list ends.
    pub fn range(&self, start: usize, length: usize) -> impl Iterator<Item = &[u8]> {
        let (first, place, rest) = match self.0.view() {
            Kind::First(packed) => (Some(packed), start, None),
            Kind::Second(nodes) => {
                let nodes = nodes.header();
                let (node, place) =
                    if start < nodes.length { nodes.locate(start) } else { (nodes.nodes.len(), 0) };
                let after = (node + 1).min(nodes.nodes.len());
                (nodes.nodes.get(node).map(|node| &node.packed), place, Some(nodes.nodes.range(after..)))
            }
        };
        let first: Option<Items<'_>> = first.map(|run| run.items());
        let rest = rest.into_iter().flatten().flat_map(|node| node.packed.items());
        first.into_iter().flatten().skip(place).chain(rest).take(length)
    }

    /// Gives the list nodes, when it has none yet.
    fn nodes(&mut self) -> &mut Nodes {
        if let Kind::First(packed) = self.0.view_mut() {
            let packed = std::mem::replace(packed, Packed::empty());
            let (length, bytes) = (packed.count(), packed.len());
            let nodes =
                Nodes { nodes: [Node::of(packed)].into(), length, bytes, tail: TailPlaces::default() };
            self.0 = Either::second(Thin::new(nodes, (), &[]));
        }
        match self.0.view_mut() {
            Kind::Second(nodes) => nodes.header_mut(),
            Kind::First(_) => unreachable!("given nodes just now"),
        }
    }

    /// Takes the nodes away again, when one is left.
    fn leave_nodes(&mut self) {
        if let Kind::Second(nodes) = self.0.view_mut()
            && nodes.header().nodes.len() <= 1
        {
            let last = nodes.header_mut().nodes.pop_front();
            self.0 = Either::first(last.map_or_else(Packed::empty, |node| node.packed));
        }
    }

    pub(crate) fn push(&mut self, end: ListEnd, item: &[u8]) {
        match (self.0.view_mut(), end) {
            (Kind::First(packed), ListEnd::Right) if !is_full(packed, item) => packed.push(item),
            (Kind::First(packed), ListEnd::Left) if !is_full(packed, item) => packed.insert(0, item),
            _ => self.nodes().push(end, item),
        }
    }

    /// Takes `count` elements, no more than there are, off one end.
    pub(crate) fn pop(&mut self, end: ListEnd, count: usize) {
        match self.0.view_mut() {
            Kind::First(packed) => {
                let count = count.min(packed.count());
                packed.remove(if end == ListEnd::Left { 0 } else { packed.count() - count }, count);
            }
            Kind::Second(nodes) => {
                nodes.header_mut().pop(end, count);
                self.leave_nodes();
            }
        }
    }

    /// The element at `index`, which must be below the length, is this one now.
    pub(crate) fn set(&mut self, index: usize, item: &[u8]) {
        match self.0.view_mut() {
            Kind::First(packed) if packed.count() == 1 || item.len() <= NODE_BYTES_MAX / 2 => {
                packed.set(index, item);
                if packed.len() > NODE_BYTES_MAX {
                    self.nodes().split(0);
                }
            }
            _ => {
                self.nodes().set(index, item);
                self.leave_nodes();
            }
        }
    }

    /// The element stands at `index`, which must not be beyond the length.
    pub(crate) fn insert(&mut self, index: usize, item: &[u8]) {
        match self.0.view_mut() {
            Kind::First(packed) if !is_full(packed, item) => packed.insert(index, item),
            _ => self.nodes().insert(index, item),
        }
    }

    /// Removes the elements at these indexes, ascending and below the length.
    pub(crate) fn remove(&mut self, indexes: &[u64]) {
        match self.0.view_mut() {
            Kind::First(packed) => remove_from(packed, indexes.iter().map(|&index| index as usize)),
            Kind::Second(nodes) => {
                nodes.header_mut().remove(indexes);
                self.leave_nodes();
            }
        }
    }

    /// Bytes of memory that the list takes beside itself.
    pub fn memory_bytes(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.memory_bytes(),
            Kind::Second(nodes) => {
                let each = size_of::<Node>() + Packed::empty().memory_bytes();
                nodes.memory_bytes() + nodes.header().bytes + nodes.header().nodes.len() * each
            }
        }
    }
}

/// Takes the elements at ascending places out of one run.
fn remove_from(packed: &mut Packed, places: impl Iterator<Item = usize>) {
    let mut gone = places.peekable();
    let Some(first) = gone.next() else { return };
    if gone.peek().is_none() {
        return packed.remove(first, 1);
    }
    // More than one: written anew in one walk.
    let is_kept = |(place, item)| (place != first && gone.next_if_eq(&place).is_none()).then_some(item);
    let kept = Packed::of(packed.items().enumerate().filter_map(is_kept));
    *packed = kept;
}

impl Node {
    fn of(packed: Packed) -> Self {
        Self { count: packed.count() as u32, packed }
    }
}

impl Nodes {
    /// Node and place in it of the element at `index`, which must be below the length.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.length / 2 {
            let mut left = index;
            for (node, Node { count, .. }) in self.nodes.iter().enumerate() {
                match left.checked_sub(*count as usize) {
                    Some(less) => left = less,
                    None => return (node, left),
                }
            }
        } else {
            let mut after = self.length;
            for (node, Node { count, .. }) in self.nodes.iter().enumerate().rev() {
                after -= *count as usize;
                if index >= after {
                    return (node, index - after);
                }
            }
        }
        unreachable!("indexes are below the length")
    }

    fn push(&mut self, end: ListEnd, item: &[u8]) {
        let is_only = self.nodes.len() <= 1;
        let node = match end {
            ListEnd::Left => self.nodes.front_mut(),
            ListEnd::Right => self.nodes.back_mut(),
        };
        match node {
            Some(node) if !is_full(&node.packed, item) => {
                let before = node.packed.len();
                match end {
                    ListEnd::Left => {
                        node.packed.insert(0, item);
                        if is_only {
                            self.tail.forget();
                        }
                    }
                    ListEnd::Right => {
                        node.packed.push(item);
                        self.tail.push(before);
                    }
                }
                node.count += 1;
                self.bytes += node.packed.len() - before;
            }
            _ => {
                let node = Node::of(Packed::of([item]));
                self.bytes += node.packed.len();
                match end {
                    ListEnd::Left => self.nodes.push_front(node),
                    ListEnd::Right => {
                        self.nodes.push_back(node);
                        self.tail.forget();
                        self.tail.push(0);
                    }
                }
            }
        }
        self.length += 1;
    }

    /// Takes the last element of many off.
    fn pop_last(&mut self) -> bool {
        let Some(node) = self.nodes.back_mut().filter(|node| node.count > 1) else { return false };
        let (before, start) = (node.packed.len(), self.tail.pop(&node.packed));
        node.packed.cut_last(start);
        node.count -= 1;
        self.bytes -= before - start;
        self.length -= 1;
        true
    }

    fn pop(&mut self, end: ListEnd, count: usize) {
        if end == ListEnd::Right && count == 1 && self.pop_last() {
            return;
        }
        let mut left = count.min(self.length);
        self.length -= left;
        self.tail.forget();
        while left > 0 {
            let node = match end {
                ListEnd::Left => self.nodes.front_mut(),
                ListEnd::Right => self.nodes.back_mut(),
            };
            let Some(node) = node else { return };
            let (there, before) = (node.count as usize, node.packed.len());
            let here = left.min(there);
            left -= here;
            if here < there {
                node.packed.remove(if end == ListEnd::Left { 0 } else { there - here }, here);
                node.count -= here as u32;
                self.bytes -= before - node.packed.len();
            } else {
                self.bytes -= before;
                match end {
                    ListEnd::Left => self.nodes.pop_front(),
                    ListEnd::Right => self.nodes.pop_back(),
                };
            }
        }
        self.give_back();
    }

    /// Keeps the memory of nodes that are gone from staying for ever.
    fn give_back(&mut self) {
        if self.nodes.capacity() > 64 && self.nodes.len() * 4 < self.nodes.capacity() {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }

    fn set(&mut self, index: usize, item: &[u8]) {
        let (node, place) = self.locate(index);
        self.tail.forget();
        let packed = &mut self.nodes[node].packed;
        let before = packed.len();
        packed.set(place, item);
        self.bytes = self.bytes + packed.len() - before;
        if packed.len() > NODE_BYTES_MAX {
            self.split(node);
        }
    }

    /// Cuts a node that has become too large into ones that are not.
    fn split(&mut self, node: usize) {
        let mut at = node;
        while self.nodes[at].packed.len() > NODE_BYTES_MAX && self.nodes[at].count > 1 {
            let (mut fit, mut bytes) = (0, 0);
            for item in self.nodes[at].packed.items() {
                bytes += item.len() + 2;
                if fit > 0 && bytes > NODE_BYTES_MAX {
                    break;
                }
                fit += 1;
            }
            let fit = fit.min(self.nodes[at].count as usize - 1);
            let tail = Node::of(self.nodes[at].packed.split_off(fit));
            self.nodes[at].count = fit as u32;
            at += 1;
            self.nodes.insert(at, tail);
        }
    }

    fn insert(&mut self, index: usize, item: &[u8]) {
        if index == 0 {
            return self.push(ListEnd::Left, item);
        }
        if index == self.length {
            return self.push(ListEnd::Right, item);
        }
        let (mut node, mut place) = self.locate(index);
        self.tail.forget();
        if is_full(&self.nodes[node].packed, item) {
            if place > 0 {
                let tail = Node::of(self.nodes[node].packed.split_off(place));
                self.nodes[node].count = place as u32;
                self.nodes.insert(node + 1, tail);
            }
            // Between two nodes now: into the one or the other, or one of its own.
            if place > 0 {
                (node, place) = (node + 1, 0);
            }
            if is_full(&self.nodes[node].packed, item) {
                let own = Node::of(Packed::of([item]));
                self.bytes += own.packed.len();
                self.length += 1;
                self.nodes.insert(node, own);
                return;
            }
        }
        let before = self.nodes[node].packed.len();
        self.nodes[node].packed.insert(place, item);
        self.nodes[node].count += 1;
        self.bytes += self.nodes[node].packed.len() - before;
        self.length += 1;
    }

    fn remove(&mut self, indexes: &[u64]) {
        let (mut rest, mut first) = (indexes, 0);
        self.tail.forget();
        for node in &mut self.nodes {
            let count = node.count as usize;
            let here = rest.partition_point(|&index| (index as usize) < first + count);
            if here > 0 {
                let before = node.packed.len();
                let (gone, more) = rest.split_at(here);
                remove_from(&mut node.packed, gone.iter().map(|&index| index as usize - first));
                node.count = node.packed.count() as u32;
                self.bytes -= before - node.packed.len();
                rest = more;
            }
            first += count;
            if rest.is_empty() {
                break;
            }
        }
        self.length -= indexes.len() - rest.len();
        self.nodes.retain(|node| node.count > 0);
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must hold of the nodes.
    fn check(list: &List) {
        if let Kind::Second(nodes) = list.0.view() {
            let nodes = nodes.header();
            assert!(nodes.nodes.len() > 1, "one node is no node");
            nodes.tail.check(&nodes.nodes.back().unwrap().packed);
            assert_eq!(nodes.length, nodes.nodes.iter().map(|node| node.count as usize).sum::<usize>());
            assert_eq!(nodes.bytes, nodes.nodes.iter().map(|node| node.packed.len()).sum::<usize>());
            assert!(
                nodes.nodes.iter().all(|node| node.count as usize == node.packed.count() && node.count > 0)
            );
            assert!(
                nodes.nodes.iter().all(|node| node.count == 1 || node.packed.len() <= NODE_BYTES_MAX + 8)
            );
        }
    }

    #[test]
    fn a_list_behaves_like_a_deque() {
        for (seed, longest) in [(4, 300), (5, 12), (6, 6_000)] {
            let (mut list, mut model) = (List::default(), VecDeque::<Vec<u8>>::new());
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut most_nodes = 0;
            for step in 0..if cfg!(miri) { 200 } else { 12_000u32 } {
                // Grows, then shrinks, then grows.
                let growing = step / 4_000 % 2 == 0;
                let length =
                    if dice.u8(..40) == 0 { dice.usize(..longest * 3) } else { dice.usize(..longest) };
                let item = vec![b'a' + (step % 26) as u8; length];
                let index = dice.usize(..=model.len());
                match dice.u8(..12) {
                    0 | 1 if growing => {
                        list.push(ListEnd::Left, &item);
                        model.push_front(item);
                    }
                    2 | 3 if growing => {
                        list.push(ListEnd::Right, &item);
                        model.push_back(item);
                    }
                    4 | 5 if growing => {
                        list.insert(index, &item);
                        model.insert(index, item);
                    }
                    6 | 7 if index < model.len() => {
                        list.set(index, &item);
                        model[index] = item;
                    }
                    8 if index + 3 < model.len() && (!growing || step % 4 == 0) => {
                        list.remove(&[index as u64, index as u64 + 1, index as u64 + 3]);
                        model.remove(index + 3);
                        model.drain(index..index + 2);
                    }
                    9 => {
                        let count = dice.usize(..if growing { 2 } else { 8 });
                        list.pop(ListEnd::Right, count);
                        model.truncate(model.len().saturating_sub(count));
                    }
                    10 if index < model.len() => {
                        list.remove(&[index as u64]);
                        model.remove(index);
                    }
                    _ => {
                        let count = dice.usize(..if growing { 2 } else { 8 }).min(model.len());
                        list.pop(ListEnd::Left, count);
                        model.drain(..count);
                    }
                }
                check(&list);
                most_nodes = most_nodes.max(list.runs().count());
                assert_eq!(list.len(), model.len());
                assert_eq!(list.get(index), model.get(index).map(Vec::as_slice));
                if step % 100 == 0 {
                    assert!(list.iter().eq(model.iter().map(Vec::as_slice)));
                    assert!(list.iter_rev().eq(model.iter().rev().map(Vec::as_slice)));
                    let expected = model.iter().skip(index).take(400).map(Vec::as_slice);
                    assert!(list.range(index, 400).eq(expected));
                }
            }
            assert!(cfg!(miri) || most_nodes > 2, "{most_nodes} nodes with items up to {longest}");
        }
    }

    #[test]
    fn elements_at_many_indexes_go_at_once() {
        let mut list = List::default();
        (0..5_000u32).for_each(|number| list.push(ListEnd::Right, &number.to_le_bytes()));
        let gone: Vec<u64> = (0..5_000).filter(|index| index % 3 != 0).collect();
        list.remove(&gone);
        check(&list);
        assert!(list.iter().eq(
            (0..5_000u32).step_by(3).map(u32::to_le_bytes).collect::<Vec<_>>().iter().map(|item| &item[..])
        ));
        list.remove(&(0..list.len() as u64).collect::<Vec<_>>());
        assert!(list.is_empty() && matches!(list.0.view(), Kind::First(_)));
    }

    #[test]
    fn the_encoding_follows_the_bytes() {
        let mut list = List::default();
        (0..70).for_each(|_| list.push(ListEnd::Right, &[b'x'; 100]));
        assert_eq!(list.encoding(), "listpack");
        (0..20).for_each(|_| list.push(ListEnd::Left, &[b'x'; 100]));
        assert_eq!(list.encoding(), "quicklist");
        list.pop(ListEnd::Right, 60);
        assert_eq!(list.encoding(), "listpack");
    }
}
