//! Members go: ZREM ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX.

use std::ops::Range;

use foldhash::{HashSet, HashSetExt};
use holdfast_storage::mutation::{Bin, DeleteReason, Few, Mutation};
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::SortedSet;

use super::bounds::{LexRange, ScoreRange};
use crate::command::arguments::integer;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::positions::positions;

/// ZREM key member [member …]
pub fn zrem(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let set = data.sorted_set(key)?;
    let is_there = |member: &&[u8]| set.is_some_and(|set| set.score(member).is_some());
    let mut members: Few<Bin<'_>> = arguments[2..].iter().copied().filter(is_there).map(Into::into).collect();
    if members.len() > 1 {
        let mut seen = HashSet::with_capacity(members.len());
        members = members.into_iter().filter(|member| seen.insert(member.clone())).collect();
    }
    let removed = members.len();
    if removed > 0 {
        data.mutate(&Mutation::SortedSetRemove { key: key.into(), members });
    }
    reply.count(removed);
    Ok(())
}

/// ZREMRANGEBYRANK key start stop
pub fn zremrangebyrank(context: &mut DataContext<'_>) -> CommandResult {
    let (start, stop) = (integer(context.arguments[2])?, integer(context.arguments[3])?);
    remove_range(context, |set| positions(start, stop, set.len()))
}

/// ZREMRANGEBYSCORE key min max
pub fn zremrangebyscore(context: &mut DataContext<'_>) -> CommandResult {
    let range = ScoreRange::parse(context.arguments[2], context.arguments[3])?;
    remove_range(context, |set| range.ranks(set))
}

/// ZREMRANGEBYLEX key min max
pub fn zremrangebylex(context: &mut DataContext<'_>) -> CommandResult {
    let range = LexRange::parse(context.arguments[2], context.arguments[3])?;
    remove_range(context, |set| range.ranks(set))
}

fn remove_range(
    context: &mut DataContext<'_>,
    ranks: impl FnOnce(&SortedSet) -> Range<usize>,
) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let ranks = data.sorted_set(key)?.map_or(0..0, ranks);
    remove_ranks(data, key, ranks.clone());
    reply.count(ranks.len());
    Ok(())
}

/// Takes the members at `ranks` out of a sorted set that has them.
pub fn remove_ranks(data: &mut SlotSet<'_>, key: &[u8], ranks: Range<usize>) {
    let Ok(Some(set)) = data.sorted_set(key) else { return };
    if ranks.len() == set.len() {
        data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
    } else if !ranks.is_empty() {
        let entries = set.iter_from(ranks.start).take(ranks.len());
        let members = entries.map(|(member, _)| member.to_vec().into()).collect();
        data.mutate(&Mutation::SortedSetRemove { key: key.into(), members });
    }
}
