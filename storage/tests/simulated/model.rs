//! What was made in a store, and the comparison with what is there: checkpoint and tail must give what all changes give.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use holdfast_storage::mutation::{DeleteReason, Expiry, Few, ListEnd, Mutation};
use holdfast_storage::slots::{Scratch, Slots};
use holdfast_storage::store::Store;
use holdfast_words::{Lsn, SlotId};

/// One change that was made, and where its record ends.
pub struct Made {
    pub end: Lsn,
    pub mutation: Mutation<'static>,
}

/// Makes a change; nothing when it changed nothing, or the log has failed (the node would stop serving).
pub fn make(store: &Store, dice: &mut fastrand::Rng) -> Option<Made> {
    let key = format!("key{}", dice.u32(..24)).into_bytes();
    let value: Vec<u8> = (0..dice.usize(..700)).map(|_| dice.u8(..)).collect();
    let is_list = key.len() == 4;
    let mutation = match dice.u32(..8) {
        0 => Mutation::Delete { key: key.into(), reason: DeleteReason::Command },
        // Not idempotent: a record that is applied twice shows.
        _ if is_list => {
            Mutation::ListPush { key: key.into(), end: ListEnd::Right, values: Few::of(vec![value.into()]) }
        }
        _ => Mutation::SetString { key: key.into(), value: value.into(), expiry: Expiry::Clear },
    };
    let mut scratch = Scratch::default();
    let mut slots = store.lock(&[slot_of(&mutation)], 1, &mut scratch);
    slots.mutate(&mutation);
    let has_changes = slots.has_changes();
    let end = slots.commit().ok()?;
    has_changes.then_some(Made { end, mutation })
}

/// Whether the store holds what these changes give.
///
/// # Errors
/// What it holds instead.
pub fn compare(store: &Store, made: &[impl Borrow<Made>]) -> Result<(), String> {
    let replayed = Slots::default();
    let mut used = BTreeSet::new();
    for Made { mutation, .. } in made.iter().map(Borrow::borrow) {
        let slot = slot_of(mutation);
        used.insert(slot);
        let applied = replayed.with(slot, |slot| slot.load(mutation));
        applied.map_err(|error| format!("the model is wrong: {error}"))?;
    }
    let (found, expected) = (store.slots().key_count(), replayed.key_count());
    if found != expected {
        return Err(format!("{found} keys, and {expected} were made"));
    }
    let digest = |slot: SlotId| replayed.with(slot, |slot| slot.keyspace().digest());
    match used.into_iter().find(|slot| store.slot_digest(*slot) != digest(*slot)) {
        Some(slot) => Err(format!("{slot:?} holds something else than was written")),
        None => Ok(()),
    }
}

fn slot_of(mutation: &Mutation<'_>) -> SlotId {
    match mutation {
        Mutation::Delete { key, .. } | Mutation::ListPush { key, .. } | Mutation::SetString { key, .. } => {
            SlotId::of_key(key)
        }
        other => unreachable!("not made here: {other:?}"),
    }
}
