//! Single members and the whole: SADD SREM SMOVE SISMEMBER SMISMEMBER SCARD SMEMBERS.

use foldhash::{HashSet, HashSetExt};
use holdfast_storage::mutation::{Bin, Few, Mutation};
use holdfast_storage::types::Set;

use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// SADD key member [member …]
pub fn sadd(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let set = data.set(key)?;
    let members = distinct(
        arguments[2..].iter().copied().filter(|member| !set.is_some_and(|set| set.contains(member))),
    );
    let added = members.len();
    if added > 0 {
        data.mutate(&Mutation::SetAdd { key: key.into(), members });
    }
    reply.integer(added as i64);
    Ok(())
}

/// SREM key member [member …]
pub fn srem(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let Some(set) = data.set(key)? else {
        reply.integer(0);
        return Ok(());
    };
    let members = distinct(arguments[2..].iter().copied().filter(|member| set.contains(member)));
    let removed = members.len();
    if removed > 0 {
        data.mutate(&Mutation::SetRemove { key: key.into(), members });
    }
    reply.integer(removed as i64);
    Ok(())
}

/// The members once each, so that the log says what changed and the count is right.
fn distinct<'a>(members: impl Iterator<Item = &'a [u8]>) -> Few<Bin<'a>> {
    let members: Few<Bin<'a>> = members.map(Into::into).collect();
    if members.len() <= 1 {
        return members;
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.into_iter().filter(|member| seen.insert(member.clone())).collect()
}

/// SMOVE source destination member
pub fn smove(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (source, destination, member) = (arguments[1], arguments[2], arguments[3]);
    if data.get(source).is_none() {
        // Redis looks at the destination's type only when there is a source.
        reply.integer(0);
        return Ok(());
    }
    let has = data.set(source)?.is_some_and(|set| set.contains(member));
    let target_has = data.set(destination)?.is_some_and(|set| set.contains(member));
    if has && source != destination {
        data.mutate(&Mutation::SetRemove { key: source.into(), members: Few::one(member.into()) });
        if !target_has {
            data.mutate(&Mutation::SetAdd { key: destination.into(), members: Few::one(member.into()) });
        }
    }
    reply.integer(has.into());
    Ok(())
}

/// SISMEMBER key member
pub fn sismember(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let is_member = data.set(arguments[1])?.is_some_and(|set| set.contains(arguments[2]));
    reply.integer(is_member.into());
    Ok(())
}

/// SMISMEMBER key member [member …]
pub fn smismember(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let set = data.set(arguments[1])?;
    reply.array(arguments.len() - 2);
    for member in arguments[2..].iter().copied() {
        reply.integer(set.is_some_and(|set| set.contains(member)).into());
    }
    Ok(())
}

/// SCARD key
pub fn scard(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let length = data.set(arguments[1])?.map_or(0, Set::len);
    reply.integer(length as i64);
    Ok(())
}

/// SMEMBERS key
pub fn smembers(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let set = data.set(arguments[1])?;
    reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        reply.bulk(&member);
    }
    Ok(())
}
