//! Hashes are read: HGET HMGET HGETALL HKEYS HVALS HLEN HSTRLEN HEXISTS.

use holdfast_storage::types::Hash;

use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// HGET key field
pub fn hget(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.bulk_or_null(data.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2])));
    Ok(())
}

/// HMGET key field [field …]
pub fn hmget(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let hash = data.hash(arguments[1])?;
    reply.array(arguments.len() - 2);
    for field in &arguments[2..] {
        reply.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

/// HGETALL key
pub fn hgetall(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let hash = data.hash(arguments[1])?;
    reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

/// HKEYS key
pub fn hkeys(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let hash = data.hash(arguments[1])?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| reply.bulk(field));
    Ok(())
}

/// HVALS key
pub fn hvals(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let hash = data.hash(arguments[1])?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| reply.bulk(value));
    Ok(())
}

/// HLEN key
pub fn hlen(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.count(data.hash(arguments[1])?.map_or(0, Hash::len));
    Ok(())
}

/// HSTRLEN key field
pub fn hstrlen(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let value = data.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2]));
    reply.count(value.map_or(0, <[u8]>::len));
    Ok(())
}

/// HEXISTS key field
pub fn hexists(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let exists = data.hash(arguments[1])?.is_some_and(|hash| hash.contains(arguments[2]));
    reply.integer(exists.into());
    Ok(())
}
