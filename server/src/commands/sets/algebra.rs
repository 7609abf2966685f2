//! Several sets make one: SINTER SUNION SDIFF, their STORE forms, SINTERCARD.

use foldhash::{HashSet, HashSetExt};
use holdfast_storage::mutation::{Bin, DeleteReason, Few, Mutation};
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::Set;

use crate::command::arguments::{at_least, is};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// How sets are put together. A missing key is an empty set.
#[derive(Clone, Copy)]
enum Operation {
    Intersection,
    Union,
    /// What is in the first and in no other.
    Difference,
}

/// SINTER key [key …]
pub fn sinter(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Intersection)
}

/// SUNION key [key …]
pub fn sunion(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Union)
}

/// SDIFF key [key …]
pub fn sdiff(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Difference)
}

/// SINTERSTORE destination key [key …]
pub fn sinterstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Intersection)
}

/// SUNIONSTORE destination key [key …]
pub fn sunionstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Union)
}

/// SDIFFSTORE destination key [key …]
pub fn sdiffstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Difference)
}

fn show(context: &mut DataContext<'_>, operation: Operation) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let members = combine(&sets(data, &arguments[1..])?, operation, usize::MAX);
    reply.set(members.len());
    members.iter().for_each(|member| reply.bulk(member));
    Ok(())
}

fn store(context: &mut DataContext<'_>, operation: Operation) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let destination = arguments[1];
    let members = combine(&sets(data, &arguments[2..])?, operation, usize::MAX);
    // The destination may be one of the sources, so nothing may be borrowed from them any more.
    let members: Vec<Bin<'_>> = members.into_iter().map(|member| member.into_owned().into()).collect();
    let length = members.len();
    if data.get(destination).is_some() {
        data.mutate(&Mutation::Delete { key: destination.into(), reason: DeleteReason::Command });
    }
    if length > 0 {
        data.mutate(&Mutation::SetAdd { key: destination.into(), members: Few::of(members) });
    }
    reply.count(length);
    Ok(())
}

/// SINTERCARD numkeys key [key …] [LIMIT limit]
pub fn sintercard(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let number = at_least(arguments[1], 1, "ERR numkeys should be greater than 0")?;
    let rest = &arguments[2..];
    if number > rest.len() as u64 {
        return Err(CommandError::Text("ERR Number of keys can't be greater than number of args".into()));
    }
    let (keys, options) = rest.split_at(number as usize);
    let mut limit = 0;
    for option in options.chunks(2) {
        match option {
            [word, value] if is(word, "LIMIT") => {
                limit = at_least(value, 0, "ERR LIMIT can't be negative")?;
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let limit = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let members = combine(&sets(data, keys)?, Operation::Intersection, limit);
    reply.count(members.len());
    Ok(())
}

/// The sets at `keys`; every key's type is looked at, whatever the others hold.
fn sets<'d>(data: &'d SlotSet<'_>, keys: &[&[u8]]) -> CommandResult<Vec<Option<&'d Set>>> {
    keys.iter().map(|key| data.set(key)).collect()
}

/// At most `limit` members of what the sets make together.
fn combine<'s>(sets: &[Option<&'s Set>], operation: Operation, limit: usize) -> Vec<Bin<'s>> {
    match operation {
        Operation::Intersection => intersection(sets, limit),
        Operation::Union => {
            let mut seen = HashSet::new();
            let all = sets.iter().flatten().flat_map(|set| set.iter());
            all.filter(|member| seen.insert(member.clone())).take(limit).collect()
        }
        Operation::Difference => {
            let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
            let in_others = |member: &[u8]| others.iter().flatten().any(|other| other.contains(member));
            first.iter().filter(|member| !in_others(member)).take(limit).collect()
        }
    }
}

fn intersection<'s>(sets: &[Option<&'s Set>], limit: usize) -> Vec<Bin<'s>> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else { return Vec::new() };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return Vec::new() };
    let in_all = |member: &[u8]| others.iter().all(|other| other.contains(member));
    smallest.iter().filter(|member| in_all(member)).take(limit).collect()
}
