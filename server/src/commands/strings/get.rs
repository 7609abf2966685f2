//! Strings are read: GET MGET STRLEN GETRANGE SUBSTR, and with a side effect on the key: GETDEL GETEX.

use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::types::{StringRef, ValueRef};

use super::options::{Grammar, Options};
use super::value::reply_string;
use crate::command::arguments::integer;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// GET key
pub fn get(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply_string(reply, data.string(arguments[1])?);
    Ok(())
}

/// MGET key [key …]
pub fn mget(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.array(arguments.len() - 1);
    for key in &arguments[1..] {
        let string = match data.get(key) {
            Some(ValueRef::String(string)) => Some(string),
            _ => None,
        };
        reply_string(reply, string);
    }
    Ok(())
}

/// STRLEN key
pub fn strlen(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    reply.count(data.string(arguments[1])?.map_or(0, StringRef::len));
    Ok(())
}

/// GETRANGE key start end, and SUBSTR, its old name
pub fn getrange(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (start, end) = (integer(arguments[2])?, integer(arguments[3])?);
    let Some(string) = data.string(arguments[1])? else {
        reply.bulk(b"");
        return Ok(());
    };
    reply.bulk(range(string.bytes(&mut itoa::Buffer::new()), start, end));
    Ok(())
}

/// The bytes from `start` to `end`, both included, negative ones counting from the string's end. As in Redis an `end` before
/// the string means its first byte.
fn range(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let length = bytes.len() as i64;
    let from_start = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end {
        return b"";
    }
    &bytes[start as usize..=end as usize]
}

/// GETDEL key
pub fn getdel(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let string = data.string(key)?;
    let exists = string.is_some();
    reply_string(reply, string);
    if exists {
        data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
    }
    Ok(())
}

/// GETEX key [EX seconds|PX milliseconds|EXAT time|PXAT time-ms|PERSIST]
pub fn getex(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let options = Options::parse(&arguments[2..], Grammar::GetEx)?;
    let string = data.string(key)?;
    let exists = string.is_some();
    reply_string(reply, string);
    if !exists {
        return Ok(());
    }
    let now_ms = data.now_ms();
    match options.time {
        Some(time) => match time.at_ms(now_ms, "getex")? {
            at_ms if at_ms <= now_ms => {
                data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
            }
            at_ms => {
                data.mutate(&Mutation::ExpireAt { key: key.into(), at_ms });
            }
        },
        None if options.persist && data.expiry_ms(key).is_some() => {
            data.mutate(&Mutation::Persist { key: key.into() });
        }
        None => {}
    }
    Ok(())
}
