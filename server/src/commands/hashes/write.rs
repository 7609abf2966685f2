//! Fields are set and removed: HSET HMSET HSETNX HDEL.

use holdfast_storage::mutation::{Few, Mutation};

use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// HSET key field value [field value …]
pub fn hset(context: &mut DataContext<'_>) -> CommandResult {
    let created = set_pairs(context)?;
    context.reply.count(created);
    Ok(())
}

/// HMSET key field value [field value …]: HSET with another reply
pub fn hmset(context: &mut DataContext<'_>) -> CommandResult {
    set_pairs(context)?;
    context.reply.ok();
    Ok(())
}

/// Returns how many fields are new.
fn set_pairs(context: &mut DataContext<'_>) -> CommandResult<usize> {
    let DataContext { arguments, data, .. } = context;
    if arguments.len() % 2 == 1 {
        return Err(CommandError::wrong_arity(arguments));
    }
    let key = arguments[1];
    data.hash(key)?;
    let pairs = arguments[2..].chunks_exact(2).map(|pair| (pair[0].into(), pair[1].into())).collect();
    Ok(data.mutate(&Mutation::HashSet { key: key.into(), pairs }).added)
}

/// HSETNX key field value
pub fn hsetnx(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, field, value) = (arguments[1], arguments[2], arguments[3]);
    let is_new = !data.hash(key)?.is_some_and(|hash| hash.contains(field));
    if is_new {
        data.mutate(&Mutation::HashSet { key: key.into(), pairs: Few::one((field.into(), value.into())) });
    }
    reply.integer(is_new.into());
    Ok(())
}

/// HDEL key field [field …]
pub fn hdel(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    if data.hash(key)?.is_none() {
        reply.integer(0);
        return Ok(());
    }
    let fields = arguments[2..].iter().map(|&field| field.into()).collect();
    reply.count(data.mutate(&Mutation::HashDelete { key: key.into(), fields }).changed);
    Ok(())
}
