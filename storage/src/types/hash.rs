//! Field → value. Small: fields and values in turn in one packed run. Large: a table.

use super::limits::{HASH_MAX_LISTPACK_ENTRIES, HASH_MAX_LISTPACK_VALUE};
use super::packed::Packed;
use super::table::{Keyed, Table};

struct Field {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

enum Form {
    /// field, value, field, value …
    Packed(Packed),
    Table(Table<Field>),
}

/// A hash.
pub struct Hash(Form);

impl Default for Hash {
    fn default() -> Self {
        Self(Form::Packed(Packed::default()))
    }
}

impl Hash {
    /// Number of fields.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len() / 2,
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
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// A field's value.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.0 {
            Form::Packed(packed) => {
                let mut items = packed.iter();
                while let (Some(name), Some(value)) = (items.next(), items.next()) {
                    if name == field {
                        return Some(value);
                    }
                }
                None
            }
            Form::Table(table) => table.get(field).map(|field| &*field.value),
        }
    }

    /// Whether the field is there.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Fields and values.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        match &self.0 {
            Form::Packed(packed) => {
                let mut items = packed.iter();
                Box::new(std::iter::from_fn(move || Some((items.next()?, items.next()?))))
            }
            Form::Table(table) => Box::new(table.iter().map(|field| (&*field.name, &*field.value))),
        }
    }

    /// Shows about `count` fields from `cursor` on; see [`Table::scan`].
    pub fn scan<'h>(&'h self, cursor: u64, count: usize, mut show: impl FnMut(&'h [u8], &'h [u8])) -> u64 {
        match &self.0 {
            Form::Packed(_) => {
                self.iter().for_each(|(field, value)| show(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |field| show(&field.name, &field.value)),
        }
    }

    /// One field with its value, each about as likely as any other.
    ///
    /// # Panics
    /// When the hash is empty, which one that is a key's value never is.
    pub fn random(&self, dice: &mut fastrand::Rng) -> (&[u8], &[u8]) {
        match &self.0 {
            Form::Packed(packed) => {
                let mut items = packed.iter().skip(dice.usize(..packed.len() / 2) * 2);
                items.next().zip(items.next()).expect("a hash has a field")
            }
            Form::Table(table) => {
                table.random(dice).map(|field| (&*field.name, &*field.value)).expect("a hash has a field")
            }
        }
    }

    /// The field has this value now; `true` when it is new.
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if let Form::Packed(packed) = &mut self.0 {
            let longest = HASH_MAX_LISTPACK_VALUE.get();
            let known = packed.position(field, 2);
            let fits = field.len() <= longest && value.len() <= longest;
            match known {
                Some(at) if fits => {
                    packed.set(at + 1, value);
                    return false;
                }
                None if fits && packed.len() / 2 < HASH_MAX_LISTPACK_ENTRIES.get() => {
                    packed.push(field);
                    packed.push(value);
                    return true;
                }
                _ => self.grow(),
            }
        }
        let Form::Table(table) = &mut self.0 else { unreachable!("grown just now") };
        if let Some(known) = table.get_mut(field) {
            known.value = value.into();
            return false;
        }
        table.insert(Field { name: field.into(), value: value.into() });
        true
    }

    fn grow(&mut self) {
        let mut table = Table::default();
        for (name, value) in self.iter() {
            table.insert(Field { name: name.into(), value: value.into() });
        }
        self.0 = Form::Table(table);
    }

    /// The field is gone; `false` when it was not there.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Form::Packed(packed) => match packed.position(field, 2) {
                Some(at) => {
                    packed.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Table(table) => table.remove(field).is_some(),
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Packed(packed) => packed.memory_bytes(),
                Form::Table(table) => {
                    table.memory_bytes()
                        + table.iter().map(|field| field.name.len() + field.value.len()).sum::<usize>()
                }
            }
    }
}
