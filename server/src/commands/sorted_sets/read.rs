//! Looking at scores and ranks: ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT ZRANK ZREVRANK.

use holdfast_storage::types::SortedSet;

use super::bounds::{LexRange, ScoreRange};
use crate::command::arguments::is;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// ZSCORE key member
pub fn zscore(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    match data.sorted_set(arguments[1])?.and_then(|set| set.score(arguments[2])) {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
    Ok(())
}

/// ZMSCORE key member [member …]
pub fn zmscore(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let set = data.sorted_set(arguments[1])?;
    let members = &arguments[2..];
    reply.array(members.len());
    for member in members {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.double(score),
            None => reply.null(),
        }
    }
    Ok(())
}

/// ZCARD key
pub fn zcard(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.count(data.sorted_set(arguments[1])?.map_or(0, SortedSet::len));
    Ok(())
}

/// ZCOUNT key min max
pub fn zcount(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let range = ScoreRange::parse(arguments[2], arguments[3])?;
    reply.count(data.sorted_set(arguments[1])?.map_or(0, |set| range.ranks(set).len()));
    Ok(())
}

/// ZLEXCOUNT key min max
pub fn zlexcount(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let range = LexRange::parse(arguments[2], arguments[3])?;
    reply.count(data.sorted_set(arguments[1])?.map_or(0, |set| range.ranks(set).len()));
    Ok(())
}

/// ZRANK key member [WITHSCORE]
pub fn zrank(context: &mut DataContext<'_>) -> CommandResult {
    rank(context, false)
}

/// ZREVRANK key member [WITHSCORE]
pub fn zrevrank(context: &mut DataContext<'_>) -> CommandResult {
    rank(context, true)
}

fn rank(context: &mut DataContext<'_>, reverse: bool) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let member = arguments[2];
    let with_score = match &arguments[3..] {
        [] => false,
        [option] if is(option, "WITHSCORE") => true,
        [_] => return Err(CommandError::Syntax),
        _ => return Err(CommandError::wrong_arity(arguments)),
    };
    let set = data.sorted_set(arguments[1])?;
    let found = set.and_then(|set| {
        let rank = set.rank(member)?;
        Some((if reverse { set.len() - 1 - rank } else { rank }, set.score(member)?))
    });
    match found {
        Some((rank, score)) if with_score => {
            reply.array(2);
            reply.count(rank);
            reply.double(score);
        }
        Some((rank, _)) => reply.count(rank),
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(())
}
