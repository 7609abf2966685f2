//! What one key holds comes to another: RENAME RENAMENX COPY.

use holdfast_storage::mutation::{DeleteReason, Expiry, Mutation};
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::value_format;
use holdfast_words::SlotId;

use crate::command::arguments::{Options, within};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};

/// RENAME key newkey
pub fn rename(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (from, to) = (arguments[1], arguments[2]);
    if data.get(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    if from != to {
        move_value(data, from, to);
    }
    reply.ok();
    Ok(())
}

/// RENAMENX key newkey
pub fn renamenx(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (from, to) = (arguments[1], arguments[2]);
    if data.get(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    let is_free = data.get(to).is_none();
    if is_free {
        move_value(data, from, to);
    }
    reply.integer(is_free.into());
    Ok(())
}

fn move_value(data: &mut SlotSet<'_>, from: &[u8], to: &[u8]) {
    if SlotId::of_key(from) == SlotId::of_key(to) {
        data.mutate(&Mutation::Rename { from: from.into(), to: to.into() });
        return;
    }
    restore_copy(data, from, to);
    data.mutate(&Mutation::Delete { key: from.into(), reason: DeleteReason::Command });
}

/// COPY source destination [DB destination-db] [REPLACE]
pub fn copy(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (from, to) = (arguments[1], arguments[2]);
    let mut replace = false;
    let mut options = Options::after(arguments, 3);
    while options.next_word().is_some() {
        if options.is("REPLACE") {
            replace = true;
        } else if options.is("DB") && options.remaining() > 0 {
            if within(options.value()?, i32::MIN.into()..=i32::MAX.into())? != 0 {
                return Err(CommandError::Text("ERR DB index is out of range".into()));
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if from == to {
        return Err(CommandError::SameObject);
    }
    let copies = data.get(from).is_some() && (replace || data.get(to).is_none());
    if copies && SlotId::of_key(from) == SlotId::of_key(to) {
        data.mutate(&Mutation::Copy { from: from.into(), to: to.into() });
    } else if copies {
        restore_copy(data, from, to);
    }
    reply.integer(copies.into());
    Ok(())
}

/// Copies into another slot: its record has to carry the value, since a record speaks of one slot only.
fn restore_copy(data: &mut SlotSet<'_>, from: &[u8], to: &[u8]) {
    let Some(value) = data.get(from) else { return };
    let mut bytes = Vec::new();
    value_format::encode(value, &mut bytes);
    let expiry = data.expiry_ms(from).map_or(Expiry::Clear, Expiry::At);
    data.mutate(&Mutation::Restore { key: to.into(), value: bytes.into(), expiry });
}
