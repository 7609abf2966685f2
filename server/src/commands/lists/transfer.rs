//! An element goes from one list to another: LMOVE RPOPLPUSH.

use holdfast_storage::mutation::{Few, ListEnd, Mutation};

use super::end::end_of;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
pub fn lmove(context: &mut DataContext<'_>) -> CommandResult {
    let (from, to) = (end_of(context.arguments[3])?, end_of(context.arguments[4])?);
    transfer(context, from, to)
}

/// RPOPLPUSH source destination
pub fn rpoplpush(context: &mut DataContext<'_>) -> CommandResult {
    transfer(context, ListEnd::Right, ListEnd::Left)
}

fn transfer(context: &mut DataContext<'_>, from: ListEnd, to: ListEnd) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (source, destination) = (arguments[1], arguments[2]);
    let Some(list) = data.list(source)? else {
        reply.null();
        return Ok(());
    };
    data.list(destination)?;
    let element = match from {
        ListEnd::Left => list.get(0),
        ListEnd::Right => list.get(list.len() - 1),
    };
    let element = element.expect("a list has elements").to_vec();
    reply.bulk(&element);
    if source == destination && (list.len() == 1 || from == to) {
        // The element stays where it is; popping it would remove a list of one, and its expiry with it.
        return Ok(());
    }
    data.mutate(&Mutation::ListPop { key: source.into(), end: from, count: 1 });
    data.mutate(&Mutation::ListPush { key: destination.into(), end: to, values: Few::one(element.into()) });
    Ok(())
}
