//! Fetching what a batch of requests or records is about to need. Where a key is takes several reads of memory, each of which
//! depends on the one before; memory answers sixteen such reads at once as quickly as one. So it is asked stage by stage, for
//! the whole batch: the slots, the lines of their tables, the blocks of the keys; or, where the batch is about one key, the members
//! of what it holds. It changes nothing and may be left out.

use holdfast_words::{Lsn, SlotId};
use smallvec::SmallVec;

use crate::log::format::checked_record;
use crate::mutation::peek_key;
use crate::slots::Slots;
use crate::types::ValueRef;
pub use crate::types::table::BATCH_MAX;
use crate::types::table::hash_of;

/// What may name a member in a request on a key: a hash's field and a set's member stand behind the key, a sorted set's member
/// last.
#[derive(Clone, Copy, Debug)]
pub struct MemberWords<'r> {
    /// The word behind the key.
    pub next: &'r [u8],
    /// The last word.
    pub last: &'r [u8],
}

/// The members that requests in a row on one key are about.
pub type Members<'r> = SmallVec<[MemberWords<'r>; BATCH_MAX]>;

/// Begins to fetch what these requests on `key` need, where it holds a large collection.
pub fn fetch_members(slots: &Slots, key: &[u8], members: &Members<'_>) {
    slots.peek_unheld(SlotId::of_key(key), |slot| match slot.keyspace().peek(key, 0) {
        Some(ValueRef::Hash(hash)) => hash.prefetch(members.iter().map(|words| words.next)),
        Some(ValueRef::Set(set)) => set.prefetch(members.iter().map(|words| words.next)),
        Some(ValueRef::SortedSet(set)) => set.prefetch(members.iter().map(|words| words.last)),
        Some(ValueRef::String(_) | ValueRef::List(_)) | None => {}
    });
}

/// Keys that are needed soon.
#[derive(Default)]
pub struct LookAhead {
    keys: SmallVec<[(SlotId, u64); BATCH_MAX]>,
}

impl LookAhead {
    /// Whether a batch is together.
    pub fn is_full(&self) -> bool {
        self.keys.len() == BATCH_MAX
    }

    /// A key is needed soon.
    pub fn add(&mut self, key: &[u8]) {
        self.add_in(SlotId::of_key(key), key);
    }

    fn add_in(&mut self, slot: SlotId, key: &[u8]) {
        self.keys.push((slot, hash_of(key)));
    }

    /// Begins to fetch them, and starts over.
    pub fn fetch(&mut self, slots: &Slots) {
        // A single one is fetched by whoever reads it.
        if self.keys.len() > 1 {
            self.keys.iter().for_each(|&(slot, _)| slots.prefetch(slot));
            self.keys.iter().for_each(|&(slot, hash)| slots.prefetch_line(slot, hash));
            self.keys.iter().for_each(|&(slot, hash)| slots.prefetch_entry(slot, hash));
        }
        self.keys.clear();
    }

    /// Begins to fetch what the first of these records need, which were checked and stand one after the other; returns the length
    /// of those that were looked at.
    pub(crate) fn records(&mut self, bytes: &[u8], slots: &Slots) -> usize {
        let mut at = 0;
        while !self.is_full() && at < bytes.len() {
            let record = checked_record(&bytes[at..], Lsn::ZERO);
            if let Some(key) = peek_key(record.body) {
                self.add_in(record.header.slot, key);
            }
            at += record.bytes.len();
        }
        self.fetch(slots);
        at
    }
}

#[cfg(test)]
mod tests {
    use holdfast_words::{Epoch, SlotSequence};

    use super::*;
    use crate::log::{RecordHeader, RecordKind};
    use crate::mutation::{BodyBuilder, Few, Mutation};

    #[test]
    fn records_are_walked_batch_by_batch_to_their_end() {
        let mut bytes = Vec::new();
        for number in 0..BATCH_MAX as u64 + 3 {
            let key = number.to_string().into_bytes();
            let mut body = BodyBuilder::default();
            body.push(&Mutation::SetInteger { key: key.as_slice().into(), value: 1 });
            let header = RecordHeader {
                kind: RecordKind::Mutations,
                flags: 0,
                slot: SlotId::of_key(&key),
                epoch: Epoch(1),
                sequence: SlotSequence(1),
                wall_clock_ms: 0,
            };
            crate::log::format::encode_record(&mut bytes, &header, body.finish());
        }
        let (slots, mut ahead) = (Slots::default(), LookAhead::default());
        let first = ahead.records(&bytes, &slots);
        assert!(first < bytes.len(), "a batch, and no more");
        assert_eq!(first + ahead.records(&bytes[first..], &slots), bytes.len());
        assert_eq!(ahead.records(&[], &slots), 0);
    }

    /// A key of each type, with so many members.
    fn collections(slots: &Slots, members: u64) {
        let (words, mut body) =
            ((0..members).map(|number| format!("member:{number}")), BodyBuilder::default());
        for word in words {
            let word = || word.as_bytes().into();
            body.push(&Mutation::HashSet { key: b"{a}hash".into(), pairs: Few::one((word(), word())) });
            body.push(&Mutation::SetAdd { key: b"{a}set".into(), members: Few::one(word()) });
            body.push(&Mutation::SortedSetAdd { key: b"{a}sorted".into(), entries: Few::one((1.0, word())) });
            let (end, values) = (crate::mutation::ListEnd::Left, Few::one(word()));
            body.push(&Mutation::ListPush { key: b"{a}list".into(), end, values });
        }
        body.push(&Mutation::SetInteger { key: b"{a}string".into(), value: 1 });
        let header = RecordHeader {
            kind: RecordKind::Mutations,
            flags: 0,
            slot: SlotId::of_key(b"{a}"),
            epoch: Epoch(1),
            sequence: SlotSequence(1),
            wall_clock_ms: 0,
        };
        let mut bytes = Vec::new();
        crate::log::format::encode_record(&mut bytes, &header, body.finish());
        assert!(slots.apply_record(&checked_record(&bytes, Lsn::ZERO)).unwrap());
    }

    #[test]
    fn members_of_any_collection_are_fetched_and_nothing_changes() {
        for number_of_members in [1, 100, 200, 5_000] {
            let slots = Slots::default();
            collections(&slots, number_of_members);
            let before = slots.memory_bytes();
            let there: &[u8] = b"member:0";
            let members: Members<'_> = [(there, there), (b"not there", b"2")]
                .iter()
                .map(|&(next, last)| MemberWords { next, last })
                .collect();
            for key in ["{a}hash", "{a}set", "{a}sorted", "{a}list", "{a}string", "{a}none"] {
                fetch_members(&slots, key.as_bytes(), &members);
            }
            assert_eq!((slots.key_count(), slots.memory_bytes()), (5, before));
            slots.with(SlotId::of_key(b"{a}"), |_| fetch_members(&slots, b"{a}set", &members));
        }
    }

    #[test]
    fn who_holds_a_slot_is_not_waited_for() {
        let (slots, mut ahead) = (Slots::default(), LookAhead::default());
        ahead.add(b"a");
        ahead.add(b"b");
        slots.with(SlotId::of_key(b"a"), |_| ahead.fetch(&slots));
        assert!(!ahead.is_full());
    }
}
