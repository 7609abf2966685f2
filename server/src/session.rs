//! What one client is: its name, its protocol, its transaction. Owned by the client's connection task; what others may see
//! of it stands in [`crate::clients::ClientInfo`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_storage::watch::WatchFlag;

use crate::clients::ClientInfo;
use crate::command::CommandId;
use crate::resp::Protocol;

/// What a client said it wants to hear (CLIENT REPLY).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// Every reply.
    #[default]
    On,
    /// No reply until it says ON.
    Off,
    /// No reply to the next command.
    SkipNext,
    /// No reply to the present command.
    Skip,
}

/// A command that waits for EXEC.
pub struct QueuedCommand {
    /// Which command.
    pub id: CommandId,
    /// Its arguments, the name first.
    pub arguments: Vec<Box<[u8]>>,
}

/// An open MULTI.
#[derive(Default)]
pub struct Transaction {
    /// What EXEC will run, in order.
    pub queue: Vec<QueuedCommand>,
    /// A command was refused while queueing: EXEC answers EXECABORT.
    pub failed: bool,
}

/// The keys a client watches, and whether one of them has changed.
#[derive(Default)]
pub struct Watching {
    /// Set by whoever changes one of the keys.
    pub flag: WatchFlag,
    /// The keys.
    pub keys: Vec<Box<[u8]>>,
}

/// One client's state.
pub struct Session {
    /// What others may see of the client.
    pub info: Arc<ClientInfo>,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// Whether the client has shown the password, or none is asked.
    pub authenticated: bool,
    /// READONLY: the client accepts replica reads.
    pub readonly: bool,
    /// ASKING: the next command may touch an importing slot.
    pub asking: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// The open MULTI, if any.
    pub transaction: Option<Transaction>,
    /// WATCHed keys.
    pub watching: Watching,
    /// CLIENT NO-TOUCH: reads leave access times alone.
    pub no_touch: bool,
}

impl Session {
    /// A client that has just connected.
    pub fn new(info: Arc<ClientInfo>, authenticated: bool) -> Self {
        Self {
            info,
            protocol: Protocol::Resp2,
            authenticated,
            readonly: false,
            asking: false,
            reply_mode: ReplyMode::On,
            transaction: None,
            watching: Watching::default(),
            no_touch: false,
        }
    }

    /// Switches protocol (HELLO), where others can see it too.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.info.resp3.store(protocol == Protocol::Resp3, Ordering::Relaxed);
    }
}
