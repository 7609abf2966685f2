//! What the nodes have in memory and in their logs, looked at between two steps of the simulation, when no node is in the middle
//! of anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_storage::log::LogHealth;
use holdfast_storage::log::format::decode_record;
use holdfast_storage::slots::Slots;
use holdfast_storage::store::Store;
use holdfast_words::{LogPoint, Lsn, ShardId, SlotId};

use super::run::Simulation;
use super::trace::note;

/// Bytes of log that a replay takes at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A node whose memory is what its log says: the data are whole, and the log has not failed.
fn is_sound(store: &Store) -> bool {
    store.is_whole() && matches!(store.log().health(), LogHealth::Good | LogHealth::NoSpace)
}

/// What a log gives that is applied from its first byte to its end, without any image.
fn replayed(store: &Store) -> Result<Slots, String> {
    let (slots, end) = (Slots::default(), store.log().positions().written_lsn());
    let (mut at, mut chunk) = (Lsn::ZERO, Vec::new());
    while at < end {
        chunk.clear();
        let next = store.log().read_chunk(at, CHUNK_BYTES, &mut chunk).map_err(|error| error.to_string())?;
        let mut offset = 0;
        while offset < chunk.len() {
            let lsn = at.advance(offset as u64);
            let record = decode_record(&chunk[offset..], lsn).map_err(|fault| format!("{lsn}: {fault}"))?;
            slots.apply_record(&record).map_err(|error| error.to_string())?;
            offset += record.bytes.len();
        }
        at = next;
    }
    Ok(slots)
}

impl Simulation {
    fn sound_stores(&self) -> Vec<(usize, Arc<Store>)> {
        let up = self.nodes.iter().filter(|node| node.is_up());
        up.filter_map(|node| Some((node.index, node.store()?))).filter(|(_, store)| is_sound(store)).collect()
    }

    /// Members of a shard whose logs end at the same point hold the same data, whatever is going on. Of the slots that clients use
    /// only; all slots are looked at in the end.
    ///
    /// # Errors
    /// Whose data differ.
    pub fn check_equal_positions(&mut self, slots: &[SlotId]) -> Result<(), String> {
        let mut seen: BTreeMap<(ShardId, LogPoint), (usize, Arc<Store>)> = BTreeMap::new();
        for (node, store) in self.sound_stores() {
            let place = (store.shard_id(), store.log().end());
            let Some((other, known)) = seen.get(&place) else {
                seen.insert(place, (node, store));
                continue;
            };
            if place.1.lsn == Lsn::ZERO {
                continue;
            }
            let differs = |slot: &&SlotId| store.slot_digest(**slot) != known.slot_digest(**slot);
            if let Some(slot) = slots.iter().find(differs) {
                let (shard, at) = place;
                return Err(format!(
                    "n{other} and n{node} of shard {shard} are at {at}, and slot {slot} differs"
                ));
            }
            self.coverage.add("digests-compared", 1);
        }
        Ok(())
    }

    /// Whatever checkpoints, copies and cuts a node went through, it holds what its log gives when all of it is applied: of every
    /// node whose log still has its first byte.
    ///
    /// # Errors
    /// Who holds something else.
    pub fn check_full_replays(&mut self) -> Result<(), String> {
        for (node, store) in self.sound_stores() {
            let log = store.log();
            let is_all_written = log.end().lsn == log.positions().written_lsn();
            if log.first_lsn() > Lsn::ZERO || !is_all_written {
                continue;
            }
            let slots = replayed(&store).map_err(|error| format!("the log of n{node}: {error}"))?;
            let digest = |slot: SlotId| slots.with(slot, |slot| slot.keyspace().digest());
            if let Some(slot) = SlotId::all().find(|slot| store.slot_digest(*slot) != digest(*slot)) {
                return Err(format!(
                    "n{node} holds something else in slot {slot} than its log from the first byte on"
                ));
            }
            note(format_args!("CHECK n{node} holds what its log gives, up to {}", log.end()));
            self.coverage.add("full-replays", 1);
        }
        Ok(())
    }
}
