//! What a command is given. Data commands see arguments, slots, time and dice, and nothing else, so they are tested without
//! a server ([`DataContext`]); commands about the node or the client see those too ([`NodeContext`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::{Hash, List, Set, SortedSet, StringRef, ValueRef};

use crate::command::errors::CommandError;
use crate::node::Node;
use crate::resp::{Arguments, ReplyWriter};
use crate::session::Session;

/// What every command's handler answers. On an error nothing was changed and whatever was written to the reply is
/// taken back before the error is written.
pub type CommandResult<T = ()> = Result<T, CommandError>;

/// A data command's handler.
pub type DataHandler = fn(&mut DataContext<'_>) -> CommandResult;

/// The handler of a command about the node or the client.
pub type NodeHandler = fn(&mut NodeContext<'_, '_>) -> CommandResult<Next>;

/// What a data command sees.
pub struct DataContext<'a> {
    /// The request, the command's name first.
    pub arguments: Arguments<'a>,
    /// The slots of the command's keys, locked; `data.now_ms()` is the command's time.
    pub data: SlotSet<'a>,
    /// Where the reply goes.
    pub reply: ReplyWriter<'a>,
    /// The only source of randomness.
    pub dice: &'a mut fastrand::Rng,
}

/// Values by type, read through `context.data` alone, so that the reply can be written while they are borrowed.
pub trait TypedValues {
    /// The string at `key`, if any.
    ///
    /// # Errors
    /// WRONGTYPE when the key holds another type; the same for the other types below.
    fn string(&self, key: &[u8]) -> CommandResult<Option<StringRef<'_>>>;
    /// The hash at `key`, if any.
    fn hash(&self, key: &[u8]) -> CommandResult<Option<&Hash>>;
    /// The list at `key`, if any.
    fn list(&self, key: &[u8]) -> CommandResult<Option<&List>>;
    /// The set at `key`, if any.
    fn set(&self, key: &[u8]) -> CommandResult<Option<&Set>>;
    /// The sorted set at `key`, if any.
    fn sorted_set(&self, key: &[u8]) -> CommandResult<Option<&SortedSet>>;
}

impl TypedValues for SlotSet<'_> {
    fn string(&self, key: &[u8]) -> CommandResult<Option<StringRef<'_>>> {
        typed(self.get(key), |value| match value {
            ValueRef::String(string) => Some(string),
            _ => None,
        })
    }

    fn hash(&self, key: &[u8]) -> CommandResult<Option<&Hash>> {
        typed(self.get(key), |value| match value {
            ValueRef::Hash(hash) => Some(hash),
            _ => None,
        })
    }

    fn list(&self, key: &[u8]) -> CommandResult<Option<&List>> {
        typed(self.get(key), |value| match value {
            ValueRef::List(list) => Some(list),
            _ => None,
        })
    }

    fn set(&self, key: &[u8]) -> CommandResult<Option<&Set>> {
        typed(self.get(key), |value| match value {
            ValueRef::Set(set) => Some(set),
            _ => None,
        })
    }

    fn sorted_set(&self, key: &[u8]) -> CommandResult<Option<&SortedSet>> {
        typed(self.get(key), |value| match value {
            ValueRef::SortedSet(set) => Some(set),
            _ => None,
        })
    }
}

fn typed<'v, T>(
    value: Option<ValueRef<'v>>,
    pick: impl FnOnce(ValueRef<'v>) -> Option<T>,
) -> CommandResult<Option<T>> {
    match value {
        None => Ok(None),
        Some(value) => pick(value).map(Some).ok_or(CommandError::WrongType),
    }
}

/// What happens after a node command.
pub enum Next {
    /// The reply is written.
    Reply,
    /// The reply comes later; the client's further commands wait for it, other clients do not. The future gives the
    /// encoded reply.
    Later(Pin<Box<dyn Future<Output = Vec<u8>>>>),
    /// The reply is written; close the connection once it is sent.
    Close,
}

/// What a command about the node or the client sees.
pub struct NodeContext<'c, 'a> {
    /// What a data command sees. Outside a transaction `data` holds no slots, so single ones may be visited; in a
    /// transaction it holds all of them.
    pub call: &'c mut DataContext<'a>,
    /// The node.
    pub node: &'c Arc<Node>,
    /// The client.
    pub session: &'c mut Session,
    /// Whether EXEC runs this command.
    pub in_transaction: bool,
}
