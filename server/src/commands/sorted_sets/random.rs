//! Members chosen by the dice: ZRANDMEMBER.

use super::pairs;
use crate::command::arguments::is;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::sampling::{distinct_indexes, sample_size};

/// ZRANDMEMBER key [count [WITHSCORES]]
pub fn zrandmember(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, dice } = context;
    let key = arguments[1];
    let Some(count) = arguments.get(2) else {
        match data.sorted_set(key)? {
            Some(set) => reply.bulk(set.random(dice).0),
            None => reply.null(),
        }
        return Ok(());
    };
    let sample = sample_size(count)?;
    let with_scores = match &arguments[3..] {
        [] => false,
        [option] if is(option, "WITHSCORES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_scores && sample.count > (i64::MAX / 2) as usize {
        return Err(CommandError::OutOfRange);
    }
    let Some(set) = data.sorted_set(key)? else {
        reply.array(0);
        return Ok(());
    };
    if sample.may_repeat {
        pairs::begin(reply, sample.count, with_scores);
        for _ in 0..sample.count {
            let (member, score) = set.random(dice);
            pairs::member(reply, member, score, with_scores);
        }
    } else if sample.count >= set.len() {
        pairs::begin(reply, set.len(), with_scores);
        // Highest first, as Redis happens to do it.
        set.iter_rev_from(set.len() - 1)
            .for_each(|(member, score)| pairs::member(reply, member, score, with_scores));
    } else {
        pairs::begin(reply, sample.count, with_scores);
        for rank in distinct_indexes(set.len(), sample.count, dice) {
            let (member, score) = set.nth(rank).expect("ranks are below the length");
            pairs::member(reply, member, score, with_scores);
        }
    }
    Ok(())
}
