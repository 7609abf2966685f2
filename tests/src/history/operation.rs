//! One operation: who, what, when, how it ended.

use std::fmt;
use std::sync::Arc;

/// A moment. Of two operations that touch at the same tick neither counts as before the other.
pub type Tick = u64;

/// What a register holds.
pub type Value = Arc<str>;

/// A value.
pub fn value(text: impl AsRef<str>) -> Value {
    Arc::from(text.as_ref())
}

/// What a client asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// GET
    Get,
    /// SET
    Set(Value),
    /// INCRBY; the register holds an integer or nothing.
    Incr(i64),
    /// APPEND
    Append(Value),
    /// DEL
    Del,
    /// WATCH, GET (recorded as one of its own), MULTI, SET, EXEC: an EXEC that was not aborted.
    CompareAndSet {
        /// What the GET under WATCH saw.
        expected: Option<Value>,
        /// What EXEC set.
        new: Value,
    },
}

impl Call {
    /// Whether it leaves the register as it is.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get)
    }
}

/// What the server said to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a SET or a compare-and-set.
    Done,
    /// To a GET.
    Value(Option<Value>),
    /// To an INCR (the new value), an APPEND (the new length), a DEL (how many keys went).
    Integer(i64),
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With this answer.
    Answered(Answer),
    /// It surely had no effect and never will: an error that says so, an aborted EXEC.
    Failed,
    /// It may have had its effect, may have it at any later time, or never.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who.
    pub client: u32,
    /// On what.
    pub key: Arc<str>,
    /// What.
    pub call: Call,
    /// When it was sent.
    pub invoked: Tick,
    /// When its end was known; the end of an unknown one is only when the client gave up.
    pub returned: Tick,
    /// How it ended.
    pub outcome: Outcome,
}

impl Operation {
    /// The answer, where there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// All that clients did.
#[derive(Clone, Default, Debug)]
pub struct History {
    /// In any order.
    pub operations: Vec<Operation>,
}

/// A register's content, readable: long ones are shortened in the middle.
pub(super) struct Shown<'a>(pub Option<&'a Value>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("nothing"),
            Some(text) if text.chars().count() > 60 => {
                let head: String = text.chars().take(12).collect();
                let tail: String = text.chars().skip(text.chars().count() - 40).collect();
                write!(f, "\"{head}…{tail}\" ({} bytes)", text.len())
            }
            Some(text) => write!(f, "{text:?}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("GET"),
            Self::Set(new) => write!(f, "SET {}", Shown(Some(new))),
            Self::Incr(by) => write!(f, "INCRBY {by}"),
            Self::Append(tail) => write!(f, "APPEND {}", Shown(Some(tail))),
            Self::Del => f.write_str("DEL"),
            Self::CompareAndSet { expected, new } => {
                write!(f, "CAS {} to {}", Shown(expected.as_ref()), Shown(Some(new)))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(Answer::Done) => f.write_str("OK"),
            Self::Answered(Answer::Value(seen)) => write!(f, "{}", Shown(seen.as_ref())),
            Self::Answered(Answer::Integer(number)) => write!(f, "{number}"),
            Self::Failed => f.write_str("failed"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
