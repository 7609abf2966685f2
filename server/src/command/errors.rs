//! Redis's error texts, once. A command answers one of these; rare texts that only one command has stand with it, as
//! [`CommandError::Text`].

use std::borrow::Cow;
use std::fmt;

use holdfast_words::SlotId;

use super::table::CommandId;
use crate::resp::{Arguments, ProtocolError};

/// Why a command was refused. Its text begins with the code that clients look at (`ERR`, `WRONGTYPE`, `MOVED` …).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The key holds another type.
    WrongType,
    /// The arguments do not follow the command's grammar.
    Syntax,
    /// An argument, or a stored value, is no integer of 64 bits.
    NotAnInteger,
    /// An argument, or a stored value, is no number.
    NotAFloat,
    /// The key must exist and does not.
    NoSuchKey,
    /// A list has no such element.
    IndexOutOfRange,
    /// An integer that must not be negative is, or a number is beyond its range.
    OutOfRange,
    /// An integer would leave its 64 bits.
    Overflow,
    /// A float would become infinite or no number.
    NanOrInfinity,
    /// A string would grow beyond `proto-max-bulk-len`.
    StringTooLong,
    /// An expire time beyond the calendar, or not positive.
    InvalidExpire {
        /// The command, in lower case.
        command: &'static str,
    },
    /// No such cursor.
    InvalidCursor,
    /// The same key twice where two are needed.
    SameObject,
    /// The bytes are no request; the connection ends.
    Protocol(ProtocolError),
    /// The password has not been shown.
    NoAuth,
    /// A wrong password.
    WrongPass,
    /// The command cannot be queued.
    NotInTransaction,
    /// MULTI inside MULTI.
    NestedMulti,
    /// EXEC outside MULTI.
    ExecWithoutMulti,
    /// DISCARD outside MULTI.
    DiscardWithoutMulti,
    /// WATCH inside MULTI.
    WatchInsideMulti,
    /// A command was refused when it was queued.
    ExecAbort,
    /// The slot is served elsewhere.
    Moved {
        /// The slot.
        slot: SlotId,
        /// `host:port`.
        address: String,
    },
    /// This one request belongs elsewhere: the slot is moving.
    Ask {
        /// The slot.
        slot: SlotId,
        /// `host:port`.
        address: String,
    },
    /// Keys of several slots in cluster mode.
    CrossSlot,
    /// Several keys of a slot that is moving are not in one place now.
    TryAgain,
    /// The cluster cannot serve.
    ClusterDown,
    /// Nobody owns the slot.
    ClusterDownUnbound,
    /// This server is no cluster node.
    ClusterDisabled,
    /// A write on a replica.
    ReadOnly,
    /// The data is still being loaded.
    Loading,
    /// The link to the master is down and `replica-serve-stale-data` is no.
    MasterDown,
    /// Nothing can be logged; the text says why.
    Misconf(Box<str>),
    /// `maxmemory` is used up.
    Oom,
    /// Fewer replicas than `min-replicas-to-write`.
    NoReplicas,
    /// Anything else: the whole text, code first.
    Text(Cow<'static, str>),
}

// Results pass through every command: an error is no larger than its largest text.
const _: () = assert!(size_of::<CommandError>() <= 32);

impl CommandError {
    /// No command has the name that `arguments` begin with.
    pub fn unknown_command(arguments: Arguments<'_>) -> Self {
        const SHOWN: usize = 128;
        let mut shown = String::new();
        for argument in arguments.iter().skip(1) {
            if shown.len() >= SHOWN {
                break;
            }
            shown.push_str(&format!("'{}' ", cut(argument, SHOWN - shown.len())));
        }
        let name = cut(arguments.first().copied().unwrap_or_default(), SHOWN);
        Self::Text(format!("ERR unknown command '{name}', with args beginning with: {shown}").into())
    }

    /// The container has no subcommand of that name.
    pub fn unknown_subcommand(arguments: Arguments<'_>) -> Self {
        let container =
            String::from_utf8_lossy(arguments.first().copied().unwrap_or_default()).to_uppercase();
        let name = cut(arguments.get(1).copied().unwrap_or_default(), 128);
        Self::Text(format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into())
    }

    /// The subcommand's arguments do not follow its grammar.
    pub fn subcommand_syntax(arguments: Arguments<'_>) -> Self {
        let container =
            String::from_utf8_lossy(arguments.first().copied().unwrap_or_default()).to_uppercase();
        let name = cut(arguments.get(1).copied().unwrap_or_default(), 128);
        Self::Text(
            format!(
                "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
            )
            .into(),
        )
    }

    /// The command, or subcommand, takes another number of arguments.
    pub fn wrong_arity(arguments: Arguments<'_>) -> Self {
        let id = arguments.first().and_then(|name| CommandId::lookup(name));
        let name = match id {
            Some(id) => Cow::Borrowed(id.spec_for(arguments).name),
            None => Cow::Owned(cut(arguments.first().copied().unwrap_or_default(), 128)),
        };
        Self::Text(format!("ERR wrong number of arguments for '{name}' command").into())
    }

    /// Nothing can be logged, because of `reason`.
    pub fn misconf(reason: &(impl fmt::Display + ?Sized)) -> Self {
        Self::Misconf(reason.to_string().into())
    }

    /// Whether the connection ends after this error.
    pub fn closes_connection(&self) -> bool {
        matches!(self, Self::Protocol(_))
    }

    /// Whether this error, while a transaction is queued, makes its EXEC fail: all but those of commands that are run and
    /// not queued.
    pub fn fails_transaction(&self) -> bool {
        !matches!(self, Self::NestedMulti | Self::WatchInsideMulti | Self::ExecAbort)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::NoSuchKey => "ERR no such key",
            Self::IndexOutOfRange => "ERR index out of range",
            Self::OutOfRange => "ERR value is out of range",
            Self::Overflow => "ERR increment or decrement would overflow",
            Self::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::InvalidExpire { command } => {
                return write!(f, "ERR invalid expire time in '{command}' command");
            }
            Self::InvalidCursor => "ERR invalid cursor",
            Self::SameObject => "ERR source and destination objects are the same",
            Self::Protocol(error) => return write!(f, "ERR {error}"),
            Self::NoAuth => "NOAUTH Authentication required.",
            Self::WrongPass => "WRONGPASS invalid username-password pair or user is disabled.",
            Self::NotInTransaction => "ERR Command not allowed inside a transaction",
            Self::NestedMulti => "ERR MULTI calls can not be nested",
            Self::ExecWithoutMulti => "ERR EXEC without MULTI",
            Self::DiscardWithoutMulti => "ERR DISCARD without MULTI",
            Self::WatchInsideMulti => "ERR WATCH inside MULTI is not allowed",
            Self::ExecAbort => "EXECABORT Transaction discarded because of previous errors.",
            Self::Moved { slot, address } => return write!(f, "MOVED {slot} {address}"),
            Self::Ask { slot, address } => return write!(f, "ASK {slot} {address}"),
            Self::CrossSlot => "CROSSSLOT Keys in request don't hash to the same slot",
            Self::TryAgain => "TRYAGAIN Multiple keys request during rehashing of slot",
            Self::ClusterDown => "CLUSTERDOWN The cluster is down",
            Self::ClusterDownUnbound => "CLUSTERDOWN Hash slot not served",
            Self::ClusterDisabled => "ERR This instance has cluster support disabled",
            Self::ReadOnly => "READONLY You can't write against a read only replica.",
            Self::Loading => "LOADING holdfast is loading the dataset in memory",
            Self::MasterDown => {
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
            }
            Self::Misconf(reason) => return write!(f, "MISCONF holdfast cannot log writes: {reason}"),
            Self::Oom => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            Self::Text(text) => text,
        })
    }
}

impl std::error::Error for CommandError {}

impl From<ProtocolError> for CommandError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

fn cut(bytes: &[u8], length: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(length)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_shows_some_of_its_arguments() {
        let long = vec![b'a'; 200];
        let error = CommandError::unknown_command(&[b"xx", &long, b"b"]);
        let shown = "a".repeat(128);
        assert_eq!(
            error.to_string(),
            format!("ERR unknown command 'xx', with args beginning with: '{shown}' ")
        );
    }

    #[test]
    fn redirections_name_slot_and_address() {
        let slot = SlotId::of_key(b"foo");
        let moved = CommandError::Moved { slot, address: "127.0.0.1:7001".to_owned() };
        assert_eq!(moved.to_string(), "MOVED 12182 127.0.0.1:7001");
    }

    #[test]
    fn only_a_protocol_error_ends_the_connection() {
        assert!(CommandError::from(ProtocolError::InvalidBulkLength).closes_connection());
        assert!(!CommandError::Syntax.closes_connection());
        assert_eq!(
            CommandError::Protocol(ProtocolError::ExpectedDollar(b'f')).to_string(),
            "ERR Protocol error: expected '$', got 'f'"
        );
    }
}
