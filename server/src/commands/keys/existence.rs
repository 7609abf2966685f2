//! Is the key there, of which type, and away with it: DEL UNLINK EXISTS TOUCH TYPE.

use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::types::ValueRef;

use super::peek;
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
    reply.count(arguments[1..].iter().filter(|key| peek(data, key).is_some()).count());
    Ok(())
}

/// TOUCH key [key …]: getting a key is what touches it
pub fn touch(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.count(arguments[1..].iter().filter(|key| data.get(key).is_some()).count());
    Ok(())
}

/// TYPE key
pub fn type_name(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.simple(peek(data, arguments[1]).map_or("none", ValueRef::type_name));
    Ok(())
}
