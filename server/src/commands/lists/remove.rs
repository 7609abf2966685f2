//! Elements go: LPOP RPOP LMPOP LTRIM LREM.

use holdfast_storage::mutation::{DeleteReason, ListEnd, Mutation};
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::List;

use super::end::end_of;
use crate::command::arguments::{MUST_BE_POSITIVE, at_least, integer};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::multi_pop::MultiPop;
use crate::commands::positions::positions;
use crate::resp::ReplyWriter;

/// LPOP key [count]
pub fn lpop(context: &mut DataContext<'_>) -> CommandResult {
    pop(context, ListEnd::Left)
}

/// RPOP key [count]
pub fn rpop(context: &mut DataContext<'_>) -> CommandResult {
    pop(context, ListEnd::Right)
}

fn pop(context: &mut DataContext<'_>, end: ListEnd) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let count = match arguments.len() {
        2 => None,
        3 => Some(at_least(arguments[2], 0, MUST_BE_POSITIVE)?),
        _ => return Err(CommandError::wrong_arity(arguments)),
    };
    let Some(list) = data.list(key)? else {
        if count.is_some() {
            reply.null_array()
        } else {
            reply.null()
        }
        return Ok(());
    };
    match count {
        None => {
            let element = match end {
                ListEnd::Left => list.get(0),
                ListEnd::Right => list.get(list.len() - 1),
            };
            reply.bulk(element.expect("a list has elements"));
            data.mutate(&Mutation::ListPop { key: key.into(), end, count: 1 });
        }
        Some(count) => pop_into_array(data, reply, key, end, count),
    }
    Ok(())
}

/// Takes up to `count` elements off an existing list and replies with them.
fn pop_into_array(data: &mut SlotSet<'_>, reply: &mut ReplyWriter<'_>, key: &[u8], end: ListEnd, count: u64) {
    let list = data.list(key).ok().flatten().expect("the caller saw the list");
    let count = count.min(list.len() as u64);
    reply.array(count as usize);
    match end {
        ListEnd::Left => list.iter().take(count as usize).for_each(|element| reply.bulk(element)),
        ListEnd::Right => list.iter_rev().take(count as usize).for_each(|element| reply.bulk(element)),
    }
    if count > 0 {
        data.mutate(&Mutation::ListPop { key: key.into(), end, count });
    }
}

/// LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count]
pub fn lmpop(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let pop = MultiPop::parse(arguments, end_of)?;
    for index in pop.keys {
        let key = arguments[index];
        if data.list(key)?.is_some() {
            reply.array(2);
            reply.bulk(key);
            pop_into_array(data, reply, key, pop.end, pop.count);
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}

/// LTRIM key start stop
pub fn ltrim(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    if let Some(length) = data.list(key)?.map(List::len) {
        let kept = positions(start, stop, length);
        let key = key.into();
        if kept.is_empty() {
            data.mutate(&Mutation::Delete { key, reason: DeleteReason::Command });
        } else if kept.len() < length {
            data.mutate(&Mutation::ListTrim { key, start: kept.start as u64, length: kept.len() as u64 });
        }
    }
    reply.ok();
    Ok(())
}

/// LREM key count element
pub fn lrem(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, wanted) = (arguments[1], arguments[3]);
    let count = integer(arguments[2])?;
    let Some(list) = data.list(key)? else {
        reply.integer(0);
        return Ok(());
    };
    let limit = match count {
        0 => usize::MAX,
        count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let mut indexes: Vec<u64> = if count < 0 {
        let last = list.len() - 1;
        let found = list.iter_rev().enumerate().filter(|(_, element)| *element == wanted);
        found.map(|(index, _)| (last - index) as u64).take(limit).collect()
    } else {
        let found = list.iter().enumerate().filter(|(_, element)| *element == wanted);
        found.map(|(index, _)| index as u64).take(limit).collect()
    };
    if count < 0 {
        indexes.reverse();
    }
    let removed = indexes.len();
    if removed > 0 {
        data.mutate(&Mutation::ListRemove { key: key.into(), indexes });
    }
    reply.integer(removed as i64);
    Ok(())
}
