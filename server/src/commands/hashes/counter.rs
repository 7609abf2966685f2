//! Fields are counted with: HINCRBY HINCRBYFLOAT.

use holdfast_storage::long_double::LongDouble;
use holdfast_storage::mutation::{Few, Mutation};
use holdfast_storage::number::parse_i64;

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// HINCRBY key field increment
pub fn hincrby(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, field) = (arguments[1], arguments[2]);
    let increment = integer(arguments[3])?;
    let current = match data.hash(key)?.and_then(|hash| hash.get(field)) {
        Some(value) => {
            parse_i64(value).ok_or(CommandError::Text("ERR hash value is not an integer".into()))?
        }
        None => 0,
    };
    let sum = current.checked_add(increment).ok_or(CommandError::Overflow)?;
    let mut text = itoa::Buffer::new();
    let value = text.format(sum).as_bytes();
    data.mutate(&Mutation::HashSet { key: key.into(), pairs: Few::one((field.into(), value.into())) });
    reply.integer(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment
pub fn hincrbyfloat(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, field) = (arguments[1], arguments[2]);
    let increment = LongDouble::parse(arguments[3]).ok_or(CommandError::NotAFloat)?;
    if !increment.is_finite() {
        return Err(CommandError::Text("ERR value is NaN or Infinity".into()));
    }
    let current = match data.hash(key)?.and_then(|hash| hash.get(field)) {
        Some(value) => {
            LongDouble::parse(value).ok_or(CommandError::Text("ERR hash value is not a float".into()))?
        }
        None => LongDouble::from(0),
    };
    let sum = current + increment;
    if !sum.is_finite() {
        return Err(CommandError::NanOrInfinity);
    }
    let text = sum.to_string();
    let value = text.as_bytes();
    data.mutate(&Mutation::HashSet { key: key.into(), pairs: Few::one((field.into(), value.into())) });
    reply.bulk(value);
    Ok(())
}
