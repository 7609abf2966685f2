//! Strings are counted with: INCR DECR INCRBY DECRBY INCRBYFLOAT.

use holdfast_storage::long_double::LongDouble;
use holdfast_storage::mutation::{Expiry, Mutation};
use holdfast_storage::types::StringRef;

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// INCR key
pub fn incr(context: &mut DataContext<'_>) -> CommandResult {
    add(context, 1)
}

/// DECR key
pub fn decr(context: &mut DataContext<'_>) -> CommandResult {
    add(context, -1)
}

/// INCRBY key increment
pub fn incrby(context: &mut DataContext<'_>) -> CommandResult {
    let increment = integer(context.arguments[2])?;
    add(context, increment)
}

/// DECRBY key decrement
pub fn decrby(context: &mut DataContext<'_>) -> CommandResult {
    let Some(increment) = integer(context.arguments[2])?.checked_neg() else {
        return Err(CommandError::Text("ERR decrement would overflow".into()));
    };
    add(context, increment)
}

fn add(context: &mut DataContext<'_>, increment: i64) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let current = match data.string(key)? {
        None => 0,
        Some(StringRef::Int(number)) => number,
        Some(StringRef::Bytes(bytes)) => integer(bytes)?,
    };
    let Some(value) = current.checked_add(increment) else {
        return Err(CommandError::Overflow);
    };
    data.mutate(&Mutation::SetInteger { key: key.into(), value });
    reply.integer(value);
    Ok(())
}

/// INCRBYFLOAT key increment
pub fn incrbyfloat(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let string = data.string(key)?;
    let current = match string {
        None => LongDouble::from(0),
        Some(StringRef::Int(number)) => LongDouble::from(number),
        Some(StringRef::Bytes(bytes)) => LongDouble::parse(bytes).ok_or(CommandError::NotAFloat)?,
    };
    let increment = LongDouble::parse(arguments[2]).ok_or(CommandError::NotAFloat)?;
    let sum = current + increment;
    if !sum.is_finite() {
        return Err(CommandError::NanOrInfinity);
    }
    let text = sum.to_string();
    let value = text.as_bytes();
    data.mutate(&Mutation::SetString { key: key.into(), value: value.into(), expiry: Expiry::Keep });
    reply.bulk(value);
    Ok(())
}
