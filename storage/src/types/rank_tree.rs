//! An ordered sequence with ranks: a B+tree whose inner nodes count what is below them, so that the rank of an element, the
//! element of a rank, an insertion and a removal take O(log n) steps.
//!
//! The tree does not know its order: callers give a `before`, which must be true for the elements up to some place and false
//! for those after it.

/// Elements of a leaf before it splits.
const LEAF_MAX: usize = 128;
/// Children of an inner node before it splits.
const INNER_MAX: usize = 64;

/// The sequence.
#[derive(Debug)]
pub struct RankTree<T> {
    root: Node<T>,
    length: usize,
}

#[derive(Debug)]
enum Node<T> {
    Leaf(Vec<T>),
    Inner(Vec<Child<T>>),
}

#[derive(Debug)]
struct Child<T> {
    /// Its first element.
    first: T,
    /// Elements in it.
    count: u32,
    node: Box<Node<T>>,
}

impl<T> Default for RankTree<T> {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()), length: 0 }
    }
}

impl<T: Copy> Node<T> {
    fn first(&self) -> Option<T> {
        match self {
            Self::Leaf(elements) => elements.first().copied(),
            Self::Inner(children) => children.first().map(|child| child.first),
        }
    }

    /// Elements or children.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(elements) => elements.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn into_child(self, count: usize) -> Child<T> {
        let first = self.first().expect("no node but the root is empty");
        Child { first, count: u32::try_from(count).expect("fewer than 2^32 elements"), node: Box::new(self) }
    }

    /// Enters an element; the node that splits off to the right. `is_last`: nothing comes after this node.
    fn insert(&mut self, element: T, before: &impl Fn(&T) -> bool, is_last: bool) -> Option<Child<T>> {
        match self {
            Self::Leaf(elements) => {
                let place = elements.partition_point(before);
                if elements.len() < LEAF_MAX {
                    if elements.len() == elements.capacity() {
                        // In smaller steps than a vector's own: most trees are one leaf.
                        let step = (elements.len() / 4).max(4).min(LEAF_MAX - elements.len());
                        elements.reserve_exact(step);
                    }
                    elements.insert(place, element);
                    return None;
                }
                // At the very end, a new leaf: what comes in ascending order fills its leaves.
                let at = if is_last && place == LEAF_MAX { LEAF_MAX } else { LEAF_MAX / 2 };
                let mut tail = elements.split_off(at);
                if place >= at && (place > at || at == LEAF_MAX) {
                    tail.insert(place - at, element);
                } else {
                    elements.insert(place, element);
                }
                let count = tail.len();
                Some(Self::Leaf(tail).into_child(count))
            }
            Self::Inner(children) => {
                let index = children[1..].partition_point(|child| before(&child.first));
                let is_last = is_last && index + 1 == children.len();
                let child = &mut children[index];
                child.count += 1;
                if !before(&child.first) {
                    child.first = element;
                }
                let split = child.node.insert(element, before, is_last)?;
                child.count -= split.count;
                children.insert(index + 1, split);
                if children.len() <= INNER_MAX {
                    return None;
                }
                let tail = children.split_off(if is_last { INNER_MAX } else { INNER_MAX / 2 });
                let count = tail.iter().map(|child| child.count as usize).sum();
                Some(Self::Inner(tail).into_child(count))
            }
        }
    }

    /// Removes the last element that is `upto`.
    fn remove_last(&mut self, upto: &impl Fn(&T) -> bool) -> T {
        match self {
            Self::Leaf(elements) => {
                let after = elements.partition_point(upto);
                elements.remove(after.checked_sub(1).expect("the first element at least is `upto`"))
            }
            Self::Inner(children) => {
                let index = children[1..].partition_point(|child| upto(&child.first));
                let element = children[index].node.remove_last(upto);
                one_less(children, index);
                element
            }
        }
    }

    /// Puts another element in the place of the last one that is `upto`, which is returned.
    fn replace_last(&mut self, upto: &impl Fn(&T) -> bool, element: T) -> T {
        match self {
            Self::Leaf(elements) => {
                let after = elements.partition_point(upto);
                let place = after.checked_sub(1).expect("the first element at least is `upto`");
                std::mem::replace(&mut elements[place], element)
            }
            Self::Inner(children) => {
                let index = children[1..].partition_point(|child| upto(&child.first));
                let child = &mut children[index];
                let gone = child.node.replace_last(upto, element);
                child.first = child.node.first().expect("no node but the root is empty");
                gone
            }
        }
    }
}

/// The child that has the element with this rank, which becomes the rank within the child.
fn child_of_rank<T>(children: &[Child<T>], rank: &mut usize) -> usize {
    for (index, child) in children.iter().enumerate() {
        match rank.checked_sub(child.count as usize) {
            Some(left) => *rank = left,
            None => return index,
        }
    }
    unreachable!("ranks are below the length")
}

/// An element of this child was removed.
fn one_less<T: Copy>(children: &mut Vec<Child<T>>, index: usize) {
    let child = &mut children[index];
    child.count -= 1;
    match child.node.first() {
        Some(first) => {
            child.first = first;
            put_together(children, index);
        }
        None => drop(children.remove(index)),
    }
}

/// Puts a child that has become narrow together with a neighbour, when they fit well into one node.
fn put_together<T: Copy>(children: &mut Vec<Child<T>>, index: usize) {
    let max = if matches!(*children[index].node, Node::Leaf(_)) { LEAF_MAX } else { INNER_MAX };
    if children[index].node.width() >= max / 4 || children.len() < 2 {
        return;
    }
    let left = if index + 1 < children.len() { index } else { index - 1 };
    if children[left].node.width() + children[left + 1].node.width() > max * 3 / 4 {
        return;
    }
    let right = children.remove(left + 1);
    children[left].count += right.count;
    match (&mut *children[left].node, *right.node) {
        (Node::Leaf(elements), Node::Leaf(more)) => elements.extend(more),
        (Node::Inner(grandchildren), Node::Inner(more)) => grandchildren.extend(more),
        _ => unreachable!("neighbours are of one height"),
    }
}

impl<T: Copy> RankTree<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first element.
    pub fn first(&self) -> Option<T> {
        self.root.first()
    }

    /// How many elements are `before`.
    pub fn rank(&self, before: impl Fn(&T) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(elements) => return rank + elements.partition_point(&before),
                Node::Inner(children) => {
                    let index = children[1..].partition_point(|child| before(&child.first));
                    rank += children[..index].iter().map(|child| child.count as usize).sum::<usize>();
                    node = &children[index].node;
                }
            }
        }
    }

    /// The element with this rank.
    pub fn get(&self, mut rank: usize) -> Option<T> {
        if rank >= self.length {
            return None;
        }
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(elements) => return elements.get(rank).copied(),
                Node::Inner(children) => node = &children[child_of_rank(children, &mut rank)].node,
            }
        }
    }

    /// Enters an element after those that are `before`.
    pub fn insert(&mut self, element: T, before: impl Fn(&T) -> bool) {
        if let Some(right) = self.root.insert(element, &before, true) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let count = self.length + 1 - right.count as usize;
            self.root = Node::Inner(vec![left.into_child(count), right]);
        }
        self.length += 1;
    }

    /// Removes the last of the elements that are `upto`: those up to some place are, those after it are not.
    ///
    /// # Panics
    /// When none is.
    pub fn remove_last(&mut self, upto: impl Fn(&T) -> bool) -> T {
        let element = self.root.remove_last(&upto);
        self.lower();
        element
    }

    /// An element is gone: a root of one child is none.
    fn lower(&mut self) {
        self.length -= 1;
        while let Node::Inner(children) = &mut self.root
            && children.len() == 1
            && let Some(only) = children.pop()
        {
            self.root = *only.node;
        }
        if self.length == 0 {
            self.root = Node::Leaf(Vec::new());
        }
    }

    /// Puts another element, which has the same place, where the last of those is that are `upto`; returns what was there.
    ///
    /// # Panics
    /// When none is.
    pub fn replace_last(&mut self, upto: impl Fn(&T) -> bool, element: T) -> T {
        self.root.replace_last(&upto, element)
    }

    /// The elements from this rank on, upwards.
    pub fn iter_from(&self, rank: usize) -> Walk<'_, T, false> {
        Walk::new(&self.root, if rank < self.length { Some(rank) } else { None })
    }

    /// The elements from this rank on, downwards.
    pub fn iter_rev_from(&self, rank: usize) -> Walk<'_, T, true> {
        Walk::new(&self.root, if rank < self.length { Some(rank) } else { None })
    }

    /// About as many bytes of memory as the sequence takes. Takes no walk.
    pub fn memory_bytes(&self) -> usize {
        // Nodes are three quarters full on average.
        let leaves = self.length / (LEAF_MAX * 3 / 4);
        self.length * size_of::<T>() * 4 / 3 + leaves * (size_of::<Child<T>>() * 4 / 3 + size_of::<Node<T>>())
    }
}

/// Walks the elements from a rank on, up or down.
#[derive(Debug)]
pub struct Walk<'a, T, const DOWN: bool> {
    leaf: std::slice::Iter<'a, T>,
    /// What is still to come at each height, the root's children first.
    path: Vec<std::slice::Iter<'a, Child<T>>>,
}

impl<'a, T: Copy, const DOWN: bool> Walk<'a, T, DOWN> {
    fn new(root: &'a Node<T>, from: Option<usize>) -> Self {
        let mut walk = Self { leaf: [].iter(), path: Vec::new() };
        let (Some(mut rank), mut node) = (from, root) else { return walk };
        loop {
            match node {
                Node::Leaf(elements) => {
                    walk.leaf = if DOWN { elements[..=rank].iter() } else { elements[rank..].iter() };
                    return walk;
                }
                Node::Inner(children) => {
                    let index = child_of_rank(children, &mut rank);
                    let rest = if DOWN { &children[..index] } else { &children[index + 1..] };
                    walk.path.push(rest.iter());
                    node = &children[index].node;
                }
            }
        }
    }
}

impl<T: Copy, const DOWN: bool> Iterator for Walk<'_, T, DOWN> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(element) = if DOWN { self.leaf.next_back() } else { self.leaf.next() } {
                return Some(*element);
            }
            let children = self.path.last_mut()?;
            let Some(child) = (if DOWN { children.next_back() } else { children.next() }) else {
                self.path.pop();
                continue;
            };
            let mut node = &*child.node;
            while let Node::Inner(children) = node {
                self.path.push(children.iter());
                let rest = self.path.last_mut()?;
                node = &(if DOWN { rest.next_back() } else { rest.next() })?.node;
            }
            if let Node::Leaf(elements) = node {
                self.leaf = elements.iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must hold of every node: first elements, counts, heights, widths.
    fn check(node: &Node<u32>, is_root: bool) -> (usize, usize) {
        match node {
            Node::Leaf(elements) => {
                assert!(elements.len() <= LEAF_MAX && (is_root || !elements.is_empty()));
                (elements.len(), 0)
            }
            Node::Inner(children) => {
                assert!(children.len() <= INNER_MAX && children.len() >= if is_root { 2 } else { 1 });
                let below: Vec<_> = children.iter().map(|child| check(&child.node, false)).collect();
                for (child, (count, height)) in children.iter().zip(&below) {
                    assert_eq!((Some(child.first), child.count as usize), (child.node.first(), *count));
                    assert_eq!(*height, below[0].1);
                }
                (below.iter().map(|(count, _)| count).sum(), below[0].1 + 1)
            }
        }
    }

    #[test]
    fn ranks_are_those_of_a_sorted_vector_while_the_tree_grows_and_shrinks() {
        let (mut tree, mut model) = (RankTree::default(), Vec::new());
        let mut dice = fastrand::Rng::with_seed(9);
        let mut highest = 0;
        for round in 0..6u32 {
            for step in 0..if cfg!(miri) { 300 } else { 20_000u32 } {
                let number = if round == 0 { step } else { dice.u32(..40_000) };
                let before = |known: &u32| *known < number;
                match model.binary_search(&number) {
                    Ok(at) if dice.u32(..10) < if round % 2 == 0 { 2 } else { 9 } => {
                        assert_eq!(tree.remove_last(|known| *known <= number), model.remove(at));
                    }
                    Ok(at) => assert_eq!((tree.rank(before), tree.get(at)), (at, Some(number))),
                    Err(at) if round % 2 == 0 => {
                        tree.insert(number, before);
                        model.insert(at, number);
                    }
                    Err(at) if !model.is_empty() => {
                        let near = model.remove(at % model.len());
                        assert_eq!(tree.remove_last(|known| *known <= near), near);
                    }
                    Err(_) => {}
                }
            }
            let (count, height) = check(&tree.root, true);
            highest = highest.max(height);
            assert_eq!((count, tree.len(), tree.first()), (model.len(), model.len(), model.first().copied()));
            for rank in (0..model.len()).step_by(371) {
                assert!(tree.iter_from(rank).eq(model[rank..].iter().copied()));
                assert!(tree.iter_rev_from(rank).eq(model[..=rank].iter().rev().copied()));
            }
            assert_eq!(tree.iter_from(model.len()).count() + tree.iter_rev_from(model.len()).count(), 0);
        }
        assert!(highest >= if cfg!(miri) { 1 } else { 2 });
    }

    #[test]
    fn a_replaced_element_is_found_by_what_took_its_place() {
        let mut tree = RankTree::default();
        (0..5_000u32).for_each(|number| tree.insert(number * 2, |known| *known < number * 2));
        for rank in 0..5_000 {
            assert_eq!(tree.replace_last(|known| *known <= rank * 2, rank * 2 + 1), rank * 2);
        }
        check(&tree.root, true);
        assert!((0..5_000).all(|rank| tree.rank(|known| *known < rank * 2 + 1) == rank as usize));
    }

    #[test]
    fn equal_elements_are_counted_each() {
        let mut tree = RankTree::default();
        for _ in 0..1_000 {
            tree.insert(7, |known| *known < 7);
            tree.insert(9, |known| *known < 9);
        }
        check(&tree.root, true);
        assert_eq!((tree.rank(|known| *known < 9), tree.rank(|known| *known <= 9)), (1_000, 2_000));
        (0..500).for_each(|_| assert_eq!(tree.remove_last(|known| *known <= 7), 7));
        assert_eq!(tree.rank(|known| *known < 9), 500);
    }

    #[test]
    fn ascending_elements_fill_their_leaves() {
        let mut tree = RankTree::default();
        (0..100_000u32).for_each(|number| tree.insert(number, |known| *known < number));
        fn leaves(node: &Node<u32>) -> usize {
            match node {
                Node::Leaf(_) => 1,
                Node::Inner(children) => children.iter().map(|child| leaves(&child.node)).sum(),
            }
        }
        assert_eq!(leaves(&tree.root), 100_000usize.div_ceil(LEAF_MAX));
    }
}
