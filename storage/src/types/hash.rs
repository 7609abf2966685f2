//! Field → value. Small: fields and values in turn in one packed run. Large: a table of blocks, each a field with its value.

use super::limits::{HASH_MAX_LISTPACK_ENTRIES, HASH_MAX_LISTPACK_VALUE};
use super::packed::{Items, Length, Uncounted, take_length};
use super::table::{Keyed, Own, Table, hash_of, hashes_of};
use super::thin::{Either, Kind, Thin};

/// Length of the field (LEB128), field, value.
struct Field(Thin);

impl Field {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self(Thin::new((), (), &[Length::of(name.len()).bytes(), name, value]))
    }

    /// Name and value.
    fn parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.0.bytes();
        let (length, header) = take_length(bytes);
        bytes[header..].split_at(length)
    }

    fn set_value(&mut self, value: &[u8]) {
        let (length, header) = take_length(self.0.bytes());
        let end = self.0.len();
        self.0.splice(header + length..end, &[value]);
    }
}

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        self.parts().0
    }

    fn prefetch(&self) {
        self.0.prefetch();
    }
}

#[derive(Default)]
struct Fields {
    table: Table<Field>,
    /// Bytes of memory of the fields.
    bytes: usize,
}

/// A hash.
pub struct Hash(Either<(), Fields>);

impl Default for Hash {
    fn default() -> Self {
        Self(Either::first(Uncounted::empty()))
    }
}

/// Where the field stands in a small hash; when it does not, the number of fields.
fn find(packed: &Uncounted, field: &[u8]) -> Result<usize, usize> {
    let (mut items, mut fields) = (packed.items(), 0);
    while let (Some(name), Some(_)) = (items.next(), items.next()) {
        if name == field {
            return Ok(fields * 2);
        }
        fields += 1;
    }
    Err(fields)
}

/// Walks fields and values.
pub struct Pairs<'h>(Walking<'h>);

enum Walking<'h> {
    Packed(Items<'h>),
    Table(Box<dyn Iterator<Item = &'h Field> + 'h>),
}

impl<'h> Iterator for Pairs<'h> {
    type Item = (&'h [u8], &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walking::Packed(items) => items.next().zip(items.next()),
            Walking::Table(fields) => fields.next().map(Field::parts),
        }
    }
}

impl Hash {
    /// Number of fields.
    pub fn len(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.count() / 2,
            Kind::Second(fields) => fields.header().table.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self.0.view() {
            Kind::First(packed) => packed.bytes().is_empty(),
            Kind::Second(fields) => fields.header().table.is_empty(),
        }
    }

    /// OBJECT ENCODING
    pub fn encoding(&self) -> &'static str {
        match self.0.view() {
            Kind::First(_) => "listpack",
            Kind::Second(_) => "hashtable",
        }
    }

    /// A field's value.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match self.0.view() {
            Kind::First(packed) => {
                let mut items = packed.items();
                while let (Some(name), Some(value)) = (items.next(), items.next()) {
                    if name == field {
                        return Some(value);
                    }
                }
                None
            }
            Kind::Second(fields) => fields.header().table.get(&Own, field).map(|field| field.parts().1),
        }
    }

    /// Begins to fetch what lookups of these fields will read.
    pub(crate) fn prefetch<'f>(&self, fields: impl Iterator<Item = &'f [u8]>) {
        if let Kind::Second(large) = self.0.view() {
            large.header().table.prefetch(&Own, &hashes_of(fields));
        }
    }

    /// Whether the field is there.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Fields and values.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs(match self.0.view() {
            Kind::First(packed) => Walking::Packed(packed.items()),
            Kind::Second(fields) => Walking::Table(Box::new(fields.header().table.iter())),
        })
    }

    /// Shows about `count` fields from `cursor` on; see [`Table::scan`].
    pub fn scan<'h>(&'h self, cursor: u64, count: usize, mut show: impl FnMut(&'h [u8], &'h [u8])) -> u64 {
        match self.0.view() {
            Kind::First(_) => {
                self.iter().for_each(|(field, value)| show(field, value));
                0
            }
            Kind::Second(fields) => fields.header().table.scan(&Own, cursor, count, |field| {
                let (name, value) = field.parts();
                show(name, value);
            }),
        }
    }

    /// One field with its value, each equally likely.
    ///
    /// # Panics
    /// When the hash is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> (&[u8], &[u8]) {
        match self.0.view() {
            Kind::First(packed) => {
                let mut items = packed.items().skip(dice.usize(..packed.count() / 2) * 2);
                items.next().zip(items.next()).expect("a hash has a field")
            }
            Kind::Second(fields) => {
                fields.header().table.random(dice).map(Field::parts).expect("a hash has a field")
            }
        }
    }

    /// The field has this value now; `true` when it is new.
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if let Kind::First(packed) = self.0.view_mut() {
            let longest = HASH_MAX_LISTPACK_VALUE.get();
            let known = find(packed, field);
            let fits = field.len() <= longest && value.len() <= longest;
            match known {
                Ok(at) if fits => {
                    packed.set(at + 1, value);
                    return false;
                }
                Err(fields) if fits && fields < HASH_MAX_LISTPACK_ENTRIES.get() => {
                    packed.push_pair(field, value);
                    return true;
                }
                _ => self.grow(),
            }
        }
        let Kind::Second(fields) = self.0.view_mut() else { unreachable!("grown just now") };
        fields.header_mut().set(field, value)
    }

    fn grow(&mut self) {
        let mut fields = Fields::default();
        for (name, value) in self.iter() {
            fields.set(name, value);
        }
        self.0 = Either::second(Thin::new(fields, (), &[]));
    }

    /// The field is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        match self.0.view_mut() {
            Kind::First(packed) => {
                let found = packed.position(field, 0, 2);
                found.map(|at| packed.remove(at, 2)).is_some()
            }
            Kind::Second(fields) => fields.header_mut().remove(field),
        }
    }

    /// Bytes of memory that the hash takes beside itself.
    pub fn memory_bytes(&self) -> usize {
        match self.0.view() {
            Kind::First(packed) => packed.memory_bytes(),
            Kind::Second(fields) => {
                fields.memory_bytes() + fields.header().table.memory_bytes() + fields.header().bytes
            }
        }
    }
}

impl Fields {
    fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let hash = hash_of(field);
        if let Some(known) = self.table.find_mut(hash, |known| known.key() == field) {
            let before = known.0.memory_bytes();
            known.set_value(value);
            self.bytes = self.bytes + known.0.memory_bytes() - before;
            return false;
        }
        let new = Field::new(field, value);
        self.bytes += new.0.memory_bytes();
        self.table.insert(&Own, hash, new);
        true
    }

    fn remove(&mut self, field: &[u8]) -> bool {
        let gone = self.table.remove(&Own, hash_of(field), |known| known.key() == field);
        if let Some(gone) = &gone {
            self.bytes -= gone.0.memory_bytes();
        }
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn name(number: u16) -> Vec<u8> {
        // Some are longer than a small hash may have them.
        if number % 97 == 96 {
            vec![number as u8; 70 + number as usize]
        } else {
            format!("f{number}").into_bytes()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 64 }))]
        #[test]
        fn a_hash_behaves_like_a_map(
            range in prop::sample::select(vec![20u16, 90, 600]),
            steps in prop::collection::vec((any::<u16>(), 0..10u8, 0..90usize), 0..if cfg!(miri) { 60 } else { 1_200 })
        ) {
            let (mut hash, mut model) = (Hash::default(), BTreeMap::new());
            for (number, action, length) in steps {
                let field = name(number % range);
                if action < 3 {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let value = vec![action; length];
                    prop_assert_eq!(hash.set(&field, &value), model.insert(field.clone(), value).is_none());
                }
                prop_assert_eq!(hash.get(&field), model.get(&field).map(Vec::as_slice));
                prop_assert_eq!(hash.len(), model.len());
            }
            let all: BTreeMap<_, _> = hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!(hash.iter().count(), model.len());
            let (mut cursor, mut scanned) = (0, BTreeMap::new());
            loop {
                cursor = hash.scan(cursor, 7, |field, value| { scanned.insert(field.to_vec(), value.to_vec()); });
                if cursor == 0 { break }
            }
            prop_assert_eq!(&scanned, &model);
            if let Kind::Second(fields) = hash.0.view() {
                let exact: usize = fields.header().table.iter().map(|field| field.0.memory_bytes()).sum();
                prop_assert_eq!(fields.header().bytes, exact);
            }
            if !model.is_empty() {
                let mut dice = fastrand::Rng::with_seed(1);
                let (field, value) = hash.random(&mut dice);
                prop_assert_eq!(model.get(field).map(Vec::as_slice), Some(value));
            }
        }
    }

    #[test]
    fn ten_fields_and_values_of_ten_bytes_take_224() {
        let mut hash = Hash::default();
        for number in 0..10 {
            hash.set(format!("f{number:09}").as_bytes(), &[b'v'; 10]);
        }
        // A class of the allocator's sizes, whose next is 256.
        assert_eq!((hash.len(), hash.memory_bytes()), (10, 224));
    }

    #[test]
    fn the_form_follows_number_and_length() {
        let mut hash = Hash::default();
        for number in 0..128 {
            hash.set(format!("{number}").as_bytes(), b"v");
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"one more", b"v");
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 129));
        let mut hash = Hash::default();
        hash.set(b"f", &[b'v'; 64]);
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"f", &[b'v'; 65]);
        assert_eq!((hash.encoding(), hash.get(b"f")), ("hashtable", Some(&[b'v'; 65][..])));
    }
}
