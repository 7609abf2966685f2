//! Strings are stored whole: SET SETNX SETEX PSETEX GETSET MSET MSETNX.

use holdfast_storage::mutation::{DeleteReason, Expiry, Mutation};
use holdfast_storage::slots::SlotSet;

use super::options::{Grammar, Options, TimeOption};
use super::value::reply_string;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// SET key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT time|PXAT time-ms|KEEPTTL]
pub fn set(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, value) = (arguments[1], arguments[2]);
    if arguments.len() == 3 {
        store(data, key, value, Expiry::Clear);
        reply.ok();
        return Ok(());
    }
    let options = Options::parse(&arguments[3..], Grammar::Set)?;
    let expiry = match options.time {
        Some(time) => Expiry::At(time.at_ms(data.now_ms(), "set")?),
        None if options.keep_expiry => Expiry::Keep,
        None => Expiry::Clear,
    };
    if options.get {
        reply_string(reply, data.string(key)?);
    }
    let refused = (options.only_new || options.only_existing) && options.only_new == data.get(key).is_some();
    if !refused {
        store(data, key, value, expiry);
    }
    match (options.get, refused) {
        (true, _) => {}
        (false, true) => reply.null(),
        (false, false) => reply.ok(),
    }
    Ok(())
}

/// Sets the key; a time that has passed already deletes it instead, so that no replica has to judge it.
fn store(data: &mut SlotSet<'_>, key: &[u8], value: &[u8], expiry: Expiry) {
    match expiry {
        Expiry::At(at_ms) if at_ms <= data.now_ms() => {
            if data.get(key).is_some() {
                data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
            }
        }
        _ => {
            data.mutate(&Mutation::SetString { key: key.into(), value: value.into(), expiry });
        }
    }
}

/// SETNX key value
pub fn setnx(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let is_new = data.get(arguments[1]).is_none();
    if is_new {
        store(data, arguments[1], arguments[2], Expiry::Clear);
    }
    reply.integer(is_new.into());
    Ok(())
}

/// SETEX key seconds value
pub fn setex(context: &mut DataContext<'_>) -> CommandResult {
    let time = TimeOption::seconds(context.arguments[2]);
    set_until(context, time, "setex")
}

/// PSETEX key milliseconds value
pub fn psetex(context: &mut DataContext<'_>) -> CommandResult {
    let time = TimeOption::milliseconds(context.arguments[2]);
    set_until(context, time, "psetex")
}

fn set_until(context: &mut DataContext<'_>, time: TimeOption<'_>, command: &'static str) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let at_ms = time.at_ms(data.now_ms(), command)?;
    store(data, arguments[1], arguments[3], Expiry::At(at_ms));
    reply.ok();
    Ok(())
}

/// GETSET key value
pub fn getset(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, value) = (arguments[1], arguments[2]);
    reply_string(reply, data.string(key)?);
    store(data, key, value, Expiry::Clear);
    Ok(())
}

/// MSET key value [key value …]
pub fn mset(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    store_pairs(data, pairs(arguments)?);
    reply.ok();
    Ok(())
}

/// MSETNX key value [key value …]
pub fn msetnx(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let pairs = pairs(arguments)?;
    let all_new = pairs.chunks_exact(2).all(|pair| data.get(pair[0]).is_none());
    if all_new {
        store_pairs(data, pairs);
    }
    reply.integer(all_new.into());
    Ok(())
}

fn pairs<'r, 'a>(arguments: &'r [&'a [u8]]) -> CommandResult<&'r [&'a [u8]]> {
    if arguments.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(arguments));
    }
    Ok(&arguments[1..])
}

fn store_pairs(data: &mut SlotSet<'_>, pairs: &[&[u8]]) {
    for pair in pairs.chunks_exact(2) {
        store(data, pair[0], pair[1], Expiry::Clear);
    }
}
