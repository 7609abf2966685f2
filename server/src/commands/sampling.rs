//! Choosing members at random: SPOP, SRANDMEMBER, ZRANDMEMBER and their like.

use fastrand::Rng;
use foldhash::{HashSet, HashSetExt};

use crate::command::arguments::within;
use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;

/// With repetitions a client may ask for more members than exist. More than this many in one reply are refused: the reply
/// is built in memory while the slot is held, and Redis itself would run out of memory.
const REPEATED_MEMBERS_MAX: u64 = 1 << 24;

/// How many members a client wants.
#[derive(Clone, Copy)]
pub struct SampleSize {
    /// This many.
    pub count: usize,
    /// Exactly that many, if need be the same ones again; otherwise different ones, as many as there are.
    pub may_repeat: bool,
}

/// Reads the count of SRANDMEMBER and its like: a negative one allows repetitions.
///
/// # Errors
/// When it is no number or asks for more than one reply can hold.
pub fn sample_size(argument: &[u8]) -> CommandResult<SampleSize> {
    let count = within(argument, -i64::MAX..=i64::MAX)?;
    if count < 0 && count.unsigned_abs() > REPEATED_MEMBERS_MAX {
        return Err(CommandError::OutOfRange);
    }
    Ok(SampleSize {
        count: usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        may_repeat: count < 0,
    })
}

/// `count` different indexes below `length`, each choice of that many equally likely, in no particular order.
///
/// # Panics
/// When `count` exceeds `length`.
pub fn distinct_indexes(length: usize, count: usize, dice: &mut Rng) -> Vec<usize> {
    assert!(count <= length, "{count} different indexes below {length}");
    if count > length / 3 {
        let mut all: Vec<usize> = (0..length).collect();
        for place in 0..count {
            all.swap(place, dice.usize(place..length));
        }
        all.truncate(count);
        return all;
    }
    // Floyd's algorithm: the set grows by one in each round, whatever the dice say.
    let mut chosen = HashSet::with_capacity(count);
    let mut indexes = Vec::with_capacity(count);
    for highest in length - count..length {
        let candidate = dice.usize(..=highest);
        let index = if chosen.insert(candidate) { candidate } else { highest };
        chosen.insert(index);
        indexes.push(index);
    }
    dice.shuffle(&mut indexes);
    indexes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_different_and_every_index_can_be_chosen() {
        let mut dice = Rng::with_seed(7);
        for (length, count) in [(10, 3), (10, 4), (10, 10), (1, 1), (5, 0), (0, 0), (1000, 20)] {
            let mut seen = HashSet::new();
            for _ in 0..2000 {
                let indexes = distinct_indexes(length, count, &mut dice);
                let different: HashSet<_> = indexes.iter().copied().collect();
                assert_eq!(different.len(), count);
                assert!(indexes.iter().all(|&index| index < length));
                seen.extend(different);
            }
            assert_eq!(seen.len(), if count == 0 { 0 } else { length }, "{count} of {length}");
        }
    }
}
