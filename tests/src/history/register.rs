//! What a register does: the whole specification that histories are held against.

use super::operation::{Answer, Call, Value};

/// What a register holds; nothing at first.
pub type State = Option<Value>;

/// What the register holds after the call, if the call can give this answer there; without an answer, if the call can have an
/// effect there.
pub fn step(state: &State, call: &Call, answer: Option<&Answer>) -> Option<State> {
    let (next, says) = match call {
        Call::Get => (state.clone(), Answer::Value(state.clone())),
        Call::Set(new) => (Some(new.clone()), Answer::Done),
        Call::Incr(by) => {
            let number = state.as_ref().map_or(Some(0), |text| text.parse::<i64>().ok())?.checked_add(*by)?;
            (Some(number.to_string().into()), Answer::Integer(number))
        }
        Call::Append(tail) => {
            let whole = format!("{}{tail}", state.as_deref().unwrap_or_default());
            let length = whole.len() as i64;
            (Some(whole.into()), Answer::Integer(length))
        }
        Call::Del => (None, Answer::Integer(i64::from(state.is_some()))),
        Call::CompareAndSet { expected, new } if state == expected => (Some(new.clone()), Answer::Done),
        Call::CompareAndSet { .. } => return None,
    };
    answer.is_none_or(|answer| *answer == says).then_some(next)
}

/// Whether neither the new state nor the answer, if one is known, tells what the register held before.
pub fn is_blind(call: &Call, is_answered: bool) -> bool {
    match call {
        Call::Set(_) => true,
        Call::Del => !is_answered,
        Call::Get | Call::Incr(_) | Call::Append(_) | Call::CompareAndSet { .. } => false,
    }
}
