//! Making room: when the data outgrow `maxmemory`, keys go as `maxmemory-policy` says, a sample at a time as in Redis. What goes
//! is logged like any deletion, so that replicas and restarts see the same.

use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::slots::Scratch;
use holdfast_words::{SLOT_COUNT, SlotId};

use crate::config::{Config, MaxmemoryPolicy};
use crate::node::Node;
use crate::platform;

/// Keys looked at for each one that goes (Redis: `maxmemory-samples`).
const SAMPLES: usize = 5;
/// Keys drawn of a slot until one is found that has an expiry, where only such may go.
const DRAWS: usize = 16;
/// Keys that go before one command at most: it must not wait for all that is too much. As long as some go it may run.
const KEYS_PER_COMMAND: usize = 64;

/// A key that could go: higher goes first.
struct Candidate {
    slot: SlotId,
    key: Box<[u8]>,
    urgency: u64,
}

/// Deletes keys while the data are over the limit; whether the command that needs memory may run.
pub fn make_room(node: &Node, config: &Config, scratch: &mut Scratch, dice: &mut fastrand::Rng) -> bool {
    let policy = config.maxmemory_policy;
    for evicted in 0..KEYS_PER_COMMAND {
        if !node.is_over_memory(config) {
            return true;
        }
        if policy == MaxmemoryPolicy::Noeviction || !evict_one(node, policy, scratch, dice) {
            return evicted > 0 && !node.is_over_memory(config);
        }
    }
    true
}

fn evict_one(node: &Node, policy: MaxmemoryPolicy, scratch: &mut Scratch, dice: &mut fastrand::Rng) -> bool {
    let now_ms = platform::wall_clock_ms();
    let sampled = (0..SAMPLES).filter_map(|_| sample(node, policy, now_ms, dice));
    let Some(Candidate { slot, key, .. }) = sampled.max_by_key(|candidate| candidate.urgency) else {
        return false;
    };
    let mut data = node.store.lock(&[slot], now_ms, scratch);
    // Another worker may have been faster; then it is for the next look to say whether there is room.
    if data.may_change() && data.get(&key).is_some() {
        data.mutate(&Mutation::Delete { key: (&*key).into(), reason: DeleteReason::Evicted });
        node.stats.evicted_keys.add(1);
    }
    data.commit().is_ok()
}

/// A key of a slot met by chance, or of the next one that has any.
fn sample(node: &Node, policy: MaxmemoryPolicy, now_ms: u64, dice: &mut fastrand::Rng) -> Option<Candidate> {
    use MaxmemoryPolicy as Policy;
    let only_volatile = matches!(
        policy,
        Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
    );
    let slots = node.store.slots();
    if slots.key_count() == 0 || (only_volatile && slots.volatile_count() == 0) {
        return None;
    }
    let first = dice.u16(..SLOT_COUNT);
    (0..SLOT_COUNT).find_map(|step| {
        let slot = SlotId::new((first + step) % SLOT_COUNT)?;
        slots.with(slot, |held| {
            let keyspace = held.keyspace();
            if keyspace.is_empty() || (only_volatile && keyspace.volatile_len() == 0) {
                return None;
            }
            let mut draw = |_| keyspace.random_key(dice, now_ms);
            let fits = |key: &&[u8]| !only_volatile || keyspace.expiry_ms(key).is_some();
            let key = (0..DRAWS).filter_map(&mut draw).find(fits)?;
            let idle = keyspace.idle_seconds(key, now_ms).unwrap_or(0);
            let urgency = match policy {
                Policy::VolatileTtl => u64::MAX - keyspace.expiry_ms(key).unwrap_or(u64::MAX),
                Policy::VolatileRandom | Policy::AllkeysRandom => 0,
                // How often a key is used is not counted: the least recently used stands for the least frequently used.
                _ => idle,
            };
            Some(Candidate { slot, key: key.into(), urgency })
        })
    })
}
