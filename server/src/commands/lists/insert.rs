//! Elements come in: LPUSH RPUSH LPUSHX RPUSHX LINSERT LSET.

use holdfast_storage::mutation::{Few, ListEnd, Mutation};
use holdfast_storage::types::List;

use crate::command::arguments::{integer, is};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::positions::position;

/// LPUSH key element [element …]
pub fn lpush(context: &mut DataContext<'_>) -> CommandResult {
    push(context, ListEnd::Left, true)
}

/// RPUSH key element [element …]
pub fn rpush(context: &mut DataContext<'_>) -> CommandResult {
    push(context, ListEnd::Right, true)
}

/// LPUSHX key element [element …]
pub fn lpushx(context: &mut DataContext<'_>) -> CommandResult {
    push(context, ListEnd::Left, false)
}

/// RPUSHX key element [element …]
pub fn rpushx(context: &mut DataContext<'_>) -> CommandResult {
    push(context, ListEnd::Right, false)
}

fn push(context: &mut DataContext<'_>, end: ListEnd, may_create: bool) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let Some(length) = data.list(key)?.map(List::len).or(may_create.then_some(0)) else {
        reply.integer(0);
        return Ok(());
    };
    let values: Few<_> = arguments[2..].iter().map(|&value| value.into()).collect();
    let length = length + values.len();
    data.mutate(&Mutation::ListPush { key: key.into(), end, values });
    reply.integer(length as i64);
    Ok(())
}

/// LINSERT key BEFORE|AFTER pivot element
pub fn linsert(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, place, pivot, value) = (arguments[1], arguments[2], arguments[3], arguments[4]);
    let after = if is(place, "AFTER") {
        true
    } else if is(place, "BEFORE") {
        false
    } else {
        return Err(CommandError::Syntax);
    };
    let Some(list) = data.list(key)? else {
        reply.integer(0);
        return Ok(());
    };
    let Some(found) = list.iter().position(|element| element == pivot) else {
        reply.integer(-1);
        return Ok(());
    };
    let length = list.len() + 1;
    let index = (found + usize::from(after)) as u64;
    data.mutate(&Mutation::ListInsert { key: key.into(), index, value: value.into() });
    reply.integer(length as i64);
    Ok(())
}

/// LSET key index element
pub fn lset(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, index, value) = (arguments[1], arguments[2], arguments[3]);
    let length = data.list(key)?.ok_or(CommandError::NoSuchKey)?.len();
    let index = position(integer(index)?, length).ok_or(CommandError::IndexOutOfRange)? as u64;
    data.mutate(&Mutation::ListSet { key: key.into(), index, value: value.into() });
    reply.ok();
    Ok(())
}
