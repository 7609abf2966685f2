//! What nodes say to each other over the gossip connections, as plain data. The wire crate gives it bytes.
//! Times are ages in milliseconds, never clock readings, so that no two clocks need agree.

use alloc::vec::Vec;

use holdfast_words::{ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId, ShardId, SlotRange};

use crate::change::NodeRecord;

/// Where a node's log of its shard stands. The driver tells its own; others' come with every message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Positions {
    /// The shard whose log this is. Positions under another shard than the registry's count for nothing.
    pub shard: ShardId,
    /// No frame of an epoch below this one is taken any more. Tells positions from before a fence from later ones.
    pub fence: Epoch,
    /// The log's end as handed to the kernel, and the epoch of its last record.
    pub written: LogPoint,
    /// What is known to be synced.
    pub durable_lsn: Lsn,
    /// What readers see.
    pub applied_lsn: Lsn,
    /// The log together with the images holds the shard's whole data: no full copy is half done. A node whose copy is
    /// not whole is never promoted.
    pub whole: bool,
    /// The log is sure to end where it ended when it was last written: it has not lost a tail in a restart. One that is not
    /// trusted may lack writes that were acknowledged.
    pub trusted: bool,
    /// A replica: how long its log stream from the master has been down; 0 while it is up, and on a master.
    pub stream_down_ms: u64,
    /// Its log takes records. One that cannot write (full disk, I/O error) leads nothing if another can.
    pub can_write: bool,
}

/// On every message: who speaks, and what it knows.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Header {
    /// The sender's cluster. Messages of another cluster are dropped, save those about joining.
    pub cluster: ClusterId,
    /// The sender.
    pub sender: NodeId,
    /// Which start of the sender this is.
    pub incarnation: Incarnation,
    /// Version of the sender's registry ([`crate::Registry::version`]).
    pub registry_version: u64,
    /// The sender's shard's epoch (Redis's configEpoch).
    pub epoch: Epoch,
    /// The highest epoch the sender knows (Redis's currentEpoch).
    pub current_epoch: Epoch,
    /// The sender is its shard's master, as far as it knows.
    pub is_master: bool,
    /// The sender's log; `None` before it knows.
    pub positions: Option<Positions>,
    /// On a ping: for the answer to carry back. Means something to its sender alone.
    pub ping_token: u64,
    /// On a pong: the token of the ping it answers, when the sender lets the receiver serve as master for a lease time from
    /// when it sent that ping (design, 7.4).
    pub grants: Option<u64>,
}

/// What a node tells about another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rumour {
    /// The node.
    pub node: NodeId,
    /// Milliseconds since there was a sign of life of it; `u64::MAX` when there never was one.
    pub idle_ms: u64,
    /// The sender suspects it (PFAIL) or knows it as failed (FAIL).
    pub suspected: bool,
}

/// What a joining node brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinCard {
    /// The sender; its record's shard is the one it founded.
    pub node: NodeRecord,
    /// Its shard's epoch.
    pub epoch: Epoch,
    /// Its slots.
    pub claims: Vec<SlotRange>,
    /// It is its cluster's only node and holds no keys, so it can give its cluster up.
    pub may_join: bool,
    /// Which meeting this is: the answer carries it back.
    pub token: u64,
}

/// What a message says besides its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Are you there? Answered by a [`Body::Pong`].
    Ping(Vec<Rumour>),
    /// I am here.
    Pong(Vec<Rumour>),
    /// A majority of voters has lost this node.
    Fail {
        /// The node.
        node: NodeId,
    },
    /// CLUSTER MEET: let us be one cluster. The sender joins if it can, else it asks the receiver to.
    Meet(JoinCard),
    /// The receiver is now a member of the sender's cluster.
    Welcome {
        /// The token of the Meet.
        token: u64,
        /// Nodes of the cluster to turn to, voters first.
        seeds: Vec<NodeRecord>,
    },
    /// The two cannot become one cluster.
    MeetRefused {
        /// The token of the Meet.
        token: u64,
    },
    /// The master holds writes for the handover at this epoch; its log ends here.
    HandoverReady {
        /// The shard.
        shard: ShardId,
        /// The handover's epoch.
        epoch: Epoch,
        /// The end of the master's log: no write is acknowledged beyond it before the handover ends.
        end: LogPoint,
    },
    /// A voter knows of an election and lets the old master serve no more (design, 7.4).
    LeaseWithheld {
        /// The shard.
        shard: ShardId,
        /// The election's epoch.
        epoch: Epoch,
        /// Milliseconds since it last let the old master serve.
        idle_ms: u64,
    },
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who speaks.
    pub header: Header,
    /// What is said.
    pub body: Body,
}

/// The kinds of messages, for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MessageKind {
    /// [`Body::Ping`]
    Ping,
    /// [`Body::Pong`]
    Pong,
    /// [`Body::Meet`], [`Body::Welcome`], [`Body::MeetRefused`]
    Meet,
    /// [`Body::Fail`]
    Fail,
    /// [`Body::HandoverReady`]
    Handover,
    /// [`Body::LeaseWithheld`]
    Lease,
}

impl MessageKind {
    /// All kinds, in the order of [`MessageCounts`].
    pub const ALL: [Self; 6] = [Self::Ping, Self::Pong, Self::Meet, Self::Fail, Self::Handover, Self::Lease];

    /// The name in CLUSTER INFO's `cluster_stats_messages_<name>_sent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Meet => "meet",
            Self::Fail => "fail",
            Self::Handover => "mfstart",
            // The nearest thing in Redis: a voter's word that a master may be replaced.
            Self::Lease => "auth-ack",
        }
    }
}

impl Body {
    /// The kind it is counted as.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Ping(_) => MessageKind::Ping,
            Self::Pong(_) => MessageKind::Pong,
            Self::Meet(_) | Self::Welcome { .. } | Self::MeetRefused { .. } => MessageKind::Meet,
            Self::Fail { .. } => MessageKind::Fail,
            Self::HandoverReady { .. } => MessageKind::Handover,
            Self::LeaseWithheld { .. } => MessageKind::Lease,
        }
    }
}

/// How many messages of each kind passed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MessageCounts([u64; MessageKind::ALL.len()]);

impl MessageCounts {
    /// Counts one.
    pub fn count(&mut self, kind: MessageKind) {
        self.0[kind as usize] += 1;
    }

    /// How many of a kind.
    pub fn of(&self, kind: MessageKind) -> u64 {
        self.0[kind as usize]
    }

    /// Kinds by name that were counted at least once, as CLUSTER INFO shows them.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        MessageKind::ALL.into_iter().map(|kind| (kind.name(), self.of(kind))).filter(|(_, count)| *count > 0)
    }

    /// How many altogether.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
