//! Members without order. Small and all integers: a sorted run of them. Small: one packed run. Large: a table.

use std::borrow::Cow;

use super::limits::{SET_MAX_INTSET_ENTRIES, SET_MAX_LISTPACK_ENTRIES, SET_MAX_LISTPACK_VALUE};
use super::packed::Packed;
use super::table::{Keyed, Table};
use crate::number::parse_i64;

struct Member(Box<[u8]>);

impl Keyed for Member {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

enum Form {
    Integers(Vec<i64>),
    Packed(Packed),
    Table(Table<Member>),
}

/// A set.
pub struct Set(Form);

impl Default for Set {
    fn default() -> Self {
        Self(Form::Integers(Vec::new()))
    }
}

fn integer_text(number: i64) -> Cow<'static, [u8]> {
    Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec())
}

impl Set {
    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Integers(integers) => integers.len(),
            Form::Packed(packed) => packed.len(),
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        match self.0 {
            Form::Integers(_) => "intset",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Whether the member is there.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Form::Integers(integers) => {
                parse_i64(member).is_some_and(|number| integers.binary_search(&number).is_ok())
            }
            Form::Packed(packed) => packed.position(member, 1).is_some(),
            Form::Table(table) => table.get(member).is_some(),
        }
    }

    /// The members.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Cow<'_, [u8]>> + '_> {
        match &self.0 {
            Form::Integers(integers) => Box::new(integers.iter().map(|&number| integer_text(number))),
            Form::Packed(packed) => Box::new(packed.iter().map(Cow::Borrowed)),
            Form::Table(table) => Box::new(table.iter().map(|member| Cow::Borrowed(&*member.0))),
        }
    }

    /// Shows about `count` members from `cursor` on; see [`Table::scan`].
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8])) -> u64 {
        match &self.0 {
            Form::Table(table) => table.scan(cursor, count, |member| show(&member.0)),
            Form::Integers(_) | Form::Packed(_) => {
                self.iter().for_each(|member| show(&member));
                0
            }
        }
    }

    /// One member, each about as likely as any other.
    ///
    /// # Panics
    /// When the set is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> Cow<'_, [u8]> {
        match &self.0 {
            Form::Integers(integers) => integer_text(integers[dice.usize(..integers.len())]),
            Form::Packed(packed) => {
                Cow::Borrowed(packed.get(dice.usize(..packed.len())).expect("a set has a member"))
            }
            Form::Table(table) => Cow::Borrowed(&*table.random(dice).expect("a set has a member").0),
        }
    }

    /// The member is there now; `true` when it is new.
    pub(crate) fn add(&mut self, member: &[u8]) -> bool {
        if let Form::Integers(integers) = &mut self.0 {
            if let Some(number) = parse_i64(member) {
                match integers.binary_search(&number) {
                    Ok(_) => return false,
                    Err(at) if integers.len() < SET_MAX_INTSET_ENTRIES.get() => {
                        integers.insert(at, number);
                        return true;
                    }
                    Err(_) => {}
                }
            }
            self.leave_integers(member);
        }
        if let Form::Packed(packed) = &mut self.0 {
            if packed.position(member, 1).is_some() {
                return false;
            }
            if packed.len() < SET_MAX_LISTPACK_ENTRIES.get() && member.len() <= SET_MAX_LISTPACK_VALUE.get() {
                packed.push(member);
                return true;
            }
            self.grow();
        }
        let Form::Table(table) = &mut self.0 else { unreachable!("grown just now") };
        if table.get(member).is_some() {
            return false;
        }
        table.insert(Member(member.into()));
        true
    }

    /// The integers become strings: packed while that is small, with `next` to come.
    fn leave_integers(&mut self, next: &[u8]) {
        if self.len() < SET_MAX_LISTPACK_ENTRIES.get() && next.len() <= SET_MAX_LISTPACK_VALUE.get() {
            let mut packed = Packed::default();
            self.iter().for_each(|member| packed.push(&member));
            self.0 = Form::Packed(packed);
        } else {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let mut table = Table::default();
        for member in self.iter() {
            table.insert(Member(member.into()));
        }
        self.0 = Form::Table(table);
    }

    /// The member is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Integers(integers) => {
                let found = parse_i64(member).and_then(|number| integers.binary_search(&number).ok());
                found.map(|at| integers.remove(at)).is_some()
            }
            Form::Packed(packed) => {
                let found = packed.position(member, 1);
                found.map(|at| packed.remove(at, 1)).is_some()
            }
            Form::Table(table) => table.remove(member).is_some(),
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Integers(integers) => integers.capacity() * 8,
                Form::Packed(packed) => packed.memory_bytes(),
                Form::Table(table) => {
                    table.memory_bytes() + table.iter().map(|member| member.0.len()).sum::<usize>()
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_members_and_the_contents_stay() {
        let mut set = Set::default();
        assert!(set.add(b"1") && set.add(b"-7") && !set.add(b"1"));
        assert_eq!(set.encoding(), "intset");
        assert!(!set.contains(b"01"), "only what prints the same is the same member");
        assert!(set.add(b"01"));
        assert_eq!(set.encoding(), "listpack");
        for number in 0..200 {
            set.add(format!("m{number}").as_bytes());
        }
        assert_eq!((set.encoding(), set.len()), ("hashtable", 203));
        assert!(set.contains(b"1") && set.contains(b"-7") && set.contains(b"01"));
        assert!(set.remove(b"-7") && !set.remove(b"-7"));
    }
}
