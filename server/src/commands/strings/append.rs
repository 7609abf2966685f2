//! Strings are changed in part: APPEND SETRANGE.

use holdfast_storage::mutation::{Expiry, Mutation};
use holdfast_storage::types::StringRef;

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// Longest string that growing in place may give; Redis's default for `proto-max-bulk-len`.
pub(super) const STRING_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// APPEND key value
pub fn append(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, value) = (arguments[1], arguments[2]);
    let Some(string) = data.string(key)? else {
        data.mutate(&Mutation::SetString { key: key.into(), value: value.into(), expiry: Expiry::Clear });
        reply.count(value.len());
        return Ok(());
    };
    let length = string.len();
    check_length(length as u64, value)?;
    if !value.is_empty() {
        data.mutate(&Mutation::SpliceString { key: key.into(), offset: length as u64, bytes: value.into() });
    }
    reply.count(length + value.len());
    Ok(())
}

/// SETRANGE key offset value
pub fn setrange(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, value) = (arguments[1], arguments[3]);
    let Ok(offset) = u64::try_from(integer(arguments[2])?) else {
        return Err(CommandError::Text("ERR offset is out of range".into()));
    };
    let length = data.string(key)?.map_or(0, StringRef::len);
    if value.is_empty() {
        reply.count(length);
        return Ok(());
    }
    check_length(offset, value)?;
    data.mutate(&Mutation::SpliceString { key: key.into(), offset, bytes: value.into() });
    reply.count(length.max(offset as usize + value.len()));
    Ok(())
}

fn check_length(offset: u64, value: &[u8]) -> CommandResult {
    if offset.checked_add(value.len() as u64).is_some_and(|length| length <= STRING_BYTES_MAX) {
        return Ok(());
    }
    Err(CommandError::StringTooLong)
}
