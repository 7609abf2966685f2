//! Is the key there, of which type, and away with it: DEL UNLINK EXISTS TOUCH TYPE.

use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::types::ValueRef;

use crate::commands::context::{CommandResult, DataContext};

/// DEL key [key …], and UNLINK
pub fn del(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let mut deleted = 0;
    for &key in &arguments[1..] {
        if data.get(key).is_some() {
            data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
            deleted += 1;
        }
    }
    reply.count(deleted);
    Ok(())
}

/// EXISTS key [key …]; a key given twice counts twice
pub fn exists(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.count(arguments[1..].iter().filter(|key| data.get(key).is_some()).count());
    Ok(())
}

/// TOUCH key [key …]: looking at a key is what touches it
pub fn touch(context: &mut DataContext<'_>) -> CommandResult {
    exists(context)
}

/// TYPE key
pub fn type_name(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.simple(data.get(arguments[1]).map_or("none", name_of_type));
    Ok(())
}

/// The name that TYPE gives and that SCAN's TYPE takes.
pub fn name_of_type(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::String(_) => "string",
        ValueRef::Hash(_) => "hash",
        ValueRef::List(_) => "list",
        ValueRef::Set(_) => "set",
        ValueRef::SortedSet(_) => "zset",
    }
}
