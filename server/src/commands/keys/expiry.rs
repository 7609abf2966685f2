//! When keys expire: EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST.

use holdfast_storage::mutation::{DeleteReason, Mutation};

use super::peek;
use crate::command::arguments::{integer, is};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};

/// EXPIRE key seconds [NX|XX|GT|LT]
pub fn expire(context: &mut DataContext<'_>) -> CommandResult {
    expire_at(context, "expire", 1000, false)
}

/// PEXPIRE key milliseconds [NX|XX|GT|LT]
pub fn pexpire(context: &mut DataContext<'_>) -> CommandResult {
    expire_at(context, "pexpire", 1, false)
}

/// EXPIREAT key time [NX|XX|GT|LT]
pub fn expireat(context: &mut DataContext<'_>) -> CommandResult {
    expire_at(context, "expireat", 1000, true)
}

/// PEXPIREAT key time-ms [NX|XX|GT|LT]
pub fn pexpireat(context: &mut DataContext<'_>) -> CommandResult {
    expire_at(context, "pexpireat", 1, true)
}

fn expire_at(
    context: &mut DataContext<'_>,
    command: &'static str,
    unit_ms: i64,
    absolute: bool,
) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let condition = Condition::parse(&arguments[3..])?;
    let now_ms = data.now_ms() as i64;
    let base_ms = if absolute { 0 } else { now_ms };
    let at_ms = integer(arguments[2])?.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms));
    let at_ms = at_ms.ok_or(CommandError::InvalidExpire { command })?;
    let changes = data.get(key).is_some() && condition.allows(data.expiry_ms(key), at_ms);
    if changes && at_ms <= now_ms {
        data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
    } else if changes {
        data.mutate(&Mutation::ExpireAt { key: key.into(), at_ms: at_ms.unsigned_abs() });
    }
    reply.integer(changes.into());
    Ok(())
}

/// When the expiry is to be changed; all that is set must hold.
#[derive(Default)]
struct Condition {
    none_before: bool,
    some_before: bool,
    later: bool,
    sooner: bool,
}

impl Condition {
    fn parse(words: &[&[u8]]) -> CommandResult<Self> {
        let mut this = Self::default();
        for word in words {
            let flag = if is(word, "NX") {
                &mut this.none_before
            } else if is(word, "XX") {
                &mut this.some_before
            } else if is(word, "GT") {
                &mut this.later
            } else if is(word, "LT") {
                &mut this.sooner
            } else {
                let text = format!("ERR Unsupported option {}", String::from_utf8_lossy(word));
                return Err(CommandError::Text(text.into()));
            };
            *flag = true;
        }
        if this.none_before && (this.some_before || this.later || this.sooner) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::Text(text.into()));
        }
        if this.later && this.sooner {
            return Err(CommandError::Text(
                "ERR GT and LT options at the same time are not compatible".into(),
            ));
        }
        Ok(this)
    }

    /// A key without expiry counts as one that expires later than any.
    fn allows(&self, before_ms: Option<u64>, at_ms: i64) -> bool {
        let before_ms = before_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        !(self.none_before && before_ms.is_some()
            || self.some_before && before_ms.is_none()
            || self.later && before_ms.is_none_or(|before_ms| at_ms <= before_ms)
            || self.sooner && before_ms.is_some_and(|before_ms| at_ms >= before_ms))
    }
}

/// TTL key
pub fn ttl(context: &mut DataContext<'_>) -> CommandResult {
    reply_time(context, |at_ms, now_ms| round_to_seconds(at_ms.saturating_sub(now_ms)))
}

/// PTTL key
pub fn pttl(context: &mut DataContext<'_>) -> CommandResult {
    reply_time(context, u64::saturating_sub)
}

/// EXPIRETIME key
pub fn expiretime(context: &mut DataContext<'_>) -> CommandResult {
    reply_time(context, |at_ms, _| round_to_seconds(at_ms))
}

/// PEXPIRETIME key
pub fn pexpiretime(context: &mut DataContext<'_>) -> CommandResult {
    reply_time(context, |at_ms, _| at_ms)
}

fn round_to_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

fn reply_time(context: &mut DataContext<'_>, show: impl FnOnce(u64, u64) -> u64) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    reply.integer(match (peek(data, key), data.expiry_ms(key)) {
        (None, _) => -2,
        (Some(_), None) => -1,
        (Some(_), Some(at_ms)) => i64::try_from(show(at_ms, data.now_ms())).unwrap_or(i64::MAX),
    });
    Ok(())
}

/// PERSIST key
pub fn persist(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let expires = data.get(key).is_some() && data.expiry_ms(key).is_some();
    if expires {
        data.mutate(&Mutation::Persist { key: key.into() });
    }
    reply.integer(expires.into());
    Ok(())
}
