//! How core types, which know no serde, are written: as a field's `#[serde(with = "crate::wire::pack")]`. Ids are 20 bytes,
//! numbers are numbers, collections are arrays of what they hold, maps arrays of pairs.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_words::{ClusterId, Epoch, Incarnation, Lsn, NodeId, ShardId, SlotId, SlotRange, Zone};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A core type that can be written.
pub trait Pack: Sized {
    /// Writes it.
    ///
    /// # Errors
    /// What the writer says.
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;

    /// Reads it.
    ///
    /// # Errors
    /// When it is not one.
    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// For `#[serde(with = …)]`.
///
/// # Errors
/// What the writer says.
pub fn serialize<T: Pack, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    value.pack(to)
}

/// For `#[serde(with = …)]`.
///
/// # Errors
/// When it is not one.
pub fn deserialize<'de, T: Pack, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::unpack(from)
}

struct Reading<T>(T);

impl<'de, T: Pack> Deserialize<'de> for Reading<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::unpack(from).map(Self)
    }
}

struct Writing<'a, T>(&'a T);

impl<T: Pack> Serialize for Writing<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.pack(to)
    }
}

/// Implements [`Pack`] for a core type by its remote definition.
macro_rules! pack_as {
    ($($core:ty => $definition:ident),* $(,)?) => {$(
        impl $crate::wire::pack::Pack for $core {
            fn pack<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $definition::serialize(self, to)
            }

            fn unpack<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $definition::deserialize(from)
            }
        }
    )*};
}
pub(crate) use pack_as;

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Pack for $id {
            fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(&self.0)
            }

            fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                serde_bytes::deserialize::<[u8; 20], D>(from).map(Self)
            }
        }
    )*};
}
ids!(NodeId, ShardId, ClusterId);

macro_rules! numbers {
    ($($number:ident),*) => {$(
        impl Pack for $number {
            fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_u64(self.0)
            }

            fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                u64::deserialize(from).map(Self)
            }
        }
    )*};
}
numbers!(Epoch, Lsn, Incarnation);

impl Pack for Zone {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl Pack for SlotRange {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.first.number(), self.last.number()).serialize(to)
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (first, last) = <(u16, u16)>::deserialize(from)?;
        match (SlotId::new(first), SlotId::new(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(D::Error::custom(format!("{first}-{last} is no range of slots"))),
        }
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Writing).serialize(to)
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<Reading<T>>::deserialize(from)?.map(|read| read.0))
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Writing))
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Reading<T>>::deserialize(from)?.into_iter().map(|read| read.0).collect())
    }
}

impl<T: Pack + Ord> Pack for BTreeSet<T> {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Writing))
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<T>::unpack(from)?.into_iter().collect())
    }
}

impl<K: Pack + Ord, V: Pack> Pack for BTreeMap<K, V> {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(|(key, value)| (Writing(key), Writing(value))))
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(Reading<K>, Reading<V>)>::deserialize(from)?;
        Ok(pairs.into_iter().map(|(key, value)| (key.0, value.0)).collect())
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Writing(&self.0), Writing(&self.1)).serialize(to)
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (first, second) = <(Reading<A>, Reading<B>)>::deserialize(from)?;
        Ok((first.0, second.0))
    }
}
