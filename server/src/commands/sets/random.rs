//! Members chosen by the dice: SPOP SRANDMEMBER. The log gets what was chosen.

use foldhash::{HashSet, HashSetExt};
use holdfast_storage::mutation::{Bin, DeleteReason, Few, Mutation};
use holdfast_storage::types::Set;

use crate::command::arguments::{MUST_BE_POSITIVE, at_least};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::sampling::{distinct_indexes, sample_size};

/// SPOP key [count]
pub fn spop(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, dice } = context;
    let key = arguments[1];
    let count = match arguments.len() {
        2 => None,
        3 => Some(at_least(arguments[2], 0, MUST_BE_POSITIVE)?),
        _ => return Err(CommandError::Syntax),
    };
    let Some(set) = data.set(key)? else {
        if count.is_some() {
            reply.set(0)
        } else {
            reply.null()
        }
        return Ok(());
    };
    let Some(count) = count else {
        let member = set.random(dice).into_owned();
        reply.bulk(&member);
        data.mutate(&Mutation::SetRemove { key: key.into(), members: Few::one(member.into()) });
        return Ok(());
    };
    if count >= set.len() as u64 {
        reply.set(set.len());
        set.iter().for_each(|member| reply.bulk(&member));
        data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
        return Ok(());
    }
    let members: Vec<Bin<'_>> = distinct_members(set, count as usize, dice)
        .into_iter()
        .map(|member| member.into_owned().into())
        .collect();
    reply.set(members.len());
    members.iter().for_each(|member| reply.bulk(member));
    if !members.is_empty() {
        data.mutate(&Mutation::SetRemove { key: key.into(), members: Few::of(members) });
    }
    Ok(())
}

/// `count` different members, fewer than there are.
fn distinct_members<'s>(set: &'s Set, count: usize, dice: &mut fastrand::Rng) -> Vec<Bin<'s>> {
    if count > set.len() / 3 {
        let mut members: Vec<Option<Bin<'s>>> = set.iter().map(Some).collect();
        let indexes = distinct_indexes(members.len(), count, dice);
        return indexes
            .into_iter()
            .map(|index| members[index].take().expect("indexes are different"))
            .collect();
    }
    let mut chosen = HashSet::with_capacity(count);
    let mut members = Vec::with_capacity(count);
    while members.len() < count {
        let member = set.random(dice);
        if chosen.insert(member.clone()) {
            members.push(member);
        }
    }
    members
}

/// SRANDMEMBER key [count]
pub fn srandmember(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, dice } = context;
    let key = arguments[1];
    let sample = match arguments.len() {
        2 => None,
        3 => Some(sample_size(arguments[2])?),
        _ => return Err(CommandError::Syntax),
    };
    let set = data.set(key)?;
    let Some(sample) = sample else {
        match set {
            Some(set) => reply.bulk(&set.random(dice)),
            None => reply.null(),
        }
        return Ok(());
    };
    let Some(set) = set else {
        reply.array(0);
        return Ok(());
    };
    if sample.may_repeat {
        reply.array(sample.count);
        for _ in 0..sample.count {
            reply.bulk(&set.random(dice));
        }
    } else if sample.count >= set.len() {
        reply.array(set.len());
        set.iter().for_each(|member| reply.bulk(&member));
    } else {
        reply.array(sample.count);
        for member in distinct_members(set, sample.count, dice) {
            reply.bulk(&member);
        }
    }
    Ok(())
}
