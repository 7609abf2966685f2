//! Over all slots: KEYS SCAN RANDOMKEY DBSIZE FLUSHALL FLUSHDB. Outside a transaction no slot is held when these run (save
//! for FLUSH*, which hold all): each slot is locked only for the moment in which it is looked at.

use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::ValueRef;
use holdfast_words::{SLOT_COUNT, SlotId};

use crate::command::arguments::{Options, cursor, is};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};
use crate::commands::scan::{ScanOptions, reply_page};
use crate::glob;

/// DBSIZE
pub fn dbsize(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { data, reply, .. } = context;
    reply.integer(data.key_count() as i64);
    Ok(())
}

/// FLUSHALL [ASYNC|SYNC], and FLUSHDB
pub fn flushall(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    match &arguments[1..] {
        [] => {}
        [word] if is(word, "ASYNC") || is(word, "SYNC") => {}
        _ => return Err(CommandError::Syntax),
    }
    for slot in SlotId::all() {
        data.flush_slot(slot);
    }
    reply.ok();
    Ok(())
}

/// KEYS pattern
pub fn keys(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (pattern, now_ms) = (arguments[1], data.now_ms());
    let everything = pattern == b"*";
    let start = reply.defer();
    let mut found = 0;
    for slot in SlotId::all() {
        data.visit(slot, |keyspace| {
            keyspace.for_each(|key, _, expiry_ms| {
                let is_there = expiry_ms.is_none_or(|at_ms| at_ms > now_ms);
                if is_there && (everything || glob::matches(pattern, key)) {
                    reply.bulk(key);
                    found += 1;
                }
            });
        });
    }
    reply.close_array(start, found);
    Ok(())
}

/// How many slots RANDOMKEY tries by lot; when all it finds there has expired, it takes what it finds first.
const RANDOM_KEY_TRIES: usize = 10;

/// RANDOMKEY
pub fn randomkey(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { data, reply, dice, .. } = context;
    let now_ms = data.now_ms();
    let by_lot = (0..RANDOM_KEY_TRIES).find_map(|_| random_key(data, dice));
    let found = by_lot.or_else(|| {
        SlotId::all()
            .find_map(|slot| data.visit(slot, |keyspace| keyspace.random_key(dice, now_ms).map(Box::from)))
    });
    reply.bulk_or_null(found.as_deref());
    Ok(())
}

/// A key, each as likely as any other; `None` when there is none, or an expired one was hit.
fn random_key(data: &SlotSet<'_>, dice: &mut fastrand::Rng) -> Option<Box<[u8]>> {
    let now_ms = data.now_ms();
    let mut left = dice.u64(0..data.key_count().max(1));
    SlotId::all()
        .find_map(|slot| {
            data.visit(slot, |keyspace| match left.checked_sub(keyspace.len() as u64) {
                Some(after) => {
                    left = after;
                    None
                }
                None => Some(keyspace.random_key(dice, now_ms).map(Box::from)),
            })
        })
        .flatten()
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub fn scan(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let place = Place::of_cursor(cursor(arguments[1])?);
    let mut scan = ScanOptions::DEFAULT;
    let mut type_name = None;
    let mut options = Options::after(arguments, 2);
    while options.next_word().is_some() {
        if options.is("TYPE") {
            type_name = Some(options.value()?.to_ascii_lowercase());
        } else if !scan.take(&mut options)? {
            return Err(options.refuse());
        }
    }
    let now_ms = data.now_ms();
    reply_page(reply, |page| {
        walk(data, place, scan.count, |key, value, expiry_ms| {
            let is_there = expiry_ms.is_none_or(|at_ms| at_ms > now_ms);
            let is_of_type = type_name.as_deref().is_none_or(|name| name == value.type_name().as_bytes());
            if is_there && is_of_type && scan.wants(key) {
                page.push(key);
            }
        })
        .cursor()
    });
    Ok(())
}

/// Where a SCAN stands: a slot, and the cursor within its key table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// [`SLOT_COUNT`] when all slots are done.
    slot: u16,
    inner: u64,
}

impl Place {
    const SLOT_BITS: u32 = SLOT_COUNT.trailing_zeros();

    /// The slot stands in the low digits, so that a scan of few keys has short cursors. A cursor that no scan gave leads
    /// somewhere, as in Redis.
    fn of_cursor(cursor: u64) -> Self {
        Self { slot: (cursor % u64::from(SLOT_COUNT)) as u16, inner: cursor >> Self::SLOT_BITS }
    }

    /// Zero where the scan begins, and where it ends.
    fn cursor(self) -> u64 {
        assert!(
            self.inner >> (63 - Self::SLOT_BITS) == 0,
            "a cursor that clients with signed numbers cannot carry"
        );
        if self.slot == SLOT_COUNT { 0 } else { self.inner << Self::SLOT_BITS | u64::from(self.slot) }
    }
}

/// Visits keys from `place` on until `count` of them have been seen, and says where it goes on from there.
fn walk(
    data: &SlotSet<'_>,
    mut place: Place,
    count: usize,
    mut visit: impl FnMut(&[u8], ValueRef<'_>, Option<u64>),
) -> Place {
    let mut seen = 0;
    while seen < count
        && let Some(slot) = SlotId::new(place.slot)
    {
        place.inner = data.visit(slot, |keyspace| {
            if keyspace.is_empty() {
                return 0;
            }
            keyspace.scan(place.inner, count - seen, |key, value, expiry_ms| {
                seen += 1;
                visit(key, value, expiry_ms);
            })
        });
        if place.inner == 0 {
            place.slot += 1;
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_only_the_end_is_zero() {
        for place in [
            Place { slot: 0, inner: 1 },
            Place { slot: 1, inner: 0 },
            Place { slot: SLOT_COUNT - 1, inner: 0 },
            Place { slot: SLOT_COUNT - 1, inner: (1 << 49) - 1 },
        ] {
            let cursor = place.cursor();
            assert!(cursor > 0 && cursor <= i64::MAX as u64);
            assert_eq!(Place::of_cursor(cursor), place);
        }
        assert_eq!(Place::of_cursor(0), Place { slot: 0, inner: 0 });
        assert_eq!(Place { slot: SLOT_COUNT, inner: 0 }.cursor(), 0);
    }
}
