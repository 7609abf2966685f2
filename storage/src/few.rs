//! A list that is mostly of one: that one needs no memory of its own.

use std::fmt::{Debug, Formatter};
use std::ops::Deref;

/// One or any number of things. (`SmallVec` would do, were it covariant: mutations borrow from requests and records.)
#[derive(Clone)]
pub struct Few<T>(Kept<T>);

#[derive(Clone)]
enum Kept<T> {
    One([T; 1]),
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Only this.
    pub fn one(item: T) -> Self {
        Self(Kept::One([item]))
    }

    /// All these.
    pub fn of(items: Vec<T>) -> Self {
        Self(Kept::Many(items))
    }

    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        let kept = std::mem::replace(&mut self.0, Kept::Many(Vec::new()));
        self.0 = match kept {
            Kept::Many(items) if items.is_empty() => Kept::One([item]),
            Kept::Many(mut items) => {
                items.push(item);
                Kept::Many(items)
            }
            Kept::One([first]) => Kept::Many(vec![first, item]),
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Kept::Many(Vec::new()))
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Kept::One(one) => one,
            Kept::Many(items) => items,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        match (items.next(), items.next()) {
            (Some(only), None) => Self::one(only),
            (first, second) => Self::of(first.into_iter().chain(second).chain(items).collect()),
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, items) = match self.0 {
            Kept::One([one]) => (Some(one), Vec::new()),
            Kept::Many(items) => (None, items),
        };
        one.into_iter().chain(items)
    }
}

impl<'f, T> IntoIterator for &'f Few<T> {
    type Item = &'f T;
    type IntoIter = std::slice::Iter<'f, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Debug> Debug for Few<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_vector_would_be_whatever_its_number() {
        for count in 0..5 {
            let model: Vec<usize> = (0..count).collect();
            let mut pushed = Few::default();
            model.iter().for_each(|&item| pushed.push(item));
            let collected: Few<usize> = (0..count).collect();
            assert_eq!((&*pushed, &*collected, &*Few::of(model.clone())), (&*model, &*model, &*model));
            assert!(pushed == collected && pushed == Few::of(model.clone()));
            assert!(pushed.into_iter().eq(model));
            assert_eq!(matches!(collected.0, Kept::One(_)), count == 1, "one takes no memory of its own");
        }
    }
}
