//! What goes into `Cluster::step` and what comes out: see the crate's page for the driver's duties.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use holdfast_words::{Epoch, Incarnation, LogPoint, NodeId, Zone};

use crate::change::{Change, NodeAddress, Refusal};
use crate::events::Event;
use crate::in_sync::WriteAck;
use crate::join::Target;
use crate::message::{Message, Positions};
use crate::registry::Registry;
use crate::view::View;

/// The directives the core goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `cluster-node-timeout`.
    pub node_timeout_ms: u64,
    /// `cluster-require-full-coverage`.
    pub require_full_coverage: bool,
    /// `cluster-replica-validity-factor`; 0 lets a replica of any age win.
    pub replica_validity_factor: u64,
    /// `write-ack`: who may become master.
    pub write_ack: WriteAck,
    /// `cluster-rebalance-masters`; what the metadata leader's says counts.
    pub rebalance_masters: bool,
    /// `unclean-failover`; a master has its shard's register follow it.
    pub unclean_failover: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_timeout_ms: 15_000,
            require_full_coverage: true,
            replica_validity_factor: 10,
            write_ack: WriteAck::Local,
            rebalance_masters: false,
            unclean_failover: false,
        }
    }
}

/// What this node says about itself. The core has the registry follow it (`Change::UpdateNode`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Myself {
    /// Where it is reached. While `ip` is empty the registry keeps what it has.
    pub address: NodeAddress,
    /// `cluster-zone`; empty: the address.
    pub zone: Zone,
    /// Which start this is.
    pub incarnation: Incarnation,
    /// `cluster-replica-no-failover`.
    pub no_failover: bool,
}

/// The kinds of CLUSTER FAILOVER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failover {
    /// Without argument: the master hands over, nothing is lost.
    Graceful,
    /// FORCE: the master is not asked. Under `write-ack in-sync` the replica wins only if it is in the set; under `local` what the
    /// master acknowledged and it lacks is lost.
    Force,
    /// TAKEOVER: as FORCE; without a majority of voters it is refused.
    Takeover,
    /// This node, a master, is about to stop: the freshest member of the in-sync set is asked to take over.
    Away,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Time has passed. To be fed every 100 ms or so, and at [`Outputs::wake_at_ms`] at the latest.
    Tick,
    /// A message came in.
    Received {
        /// The message.
        message: Box<Message>,
        /// The address the connection came from: stands in for an address the sender does not know itself.
        from_ip: Option<String>,
    },
    /// The gossip connection to a node came up or went down (CLUSTER NODES shows it; nothing depends on it).
    Link {
        /// The node.
        node: NodeId,
        /// It is up.
        connected: bool,
    },
    /// The registry after the newest change applied. Versions may be skipped; an older one is ignored.
    Registry(Arc<Registry>),
    /// Who leads the metadata group now, as far as this node's Raft knows.
    Leader(Option<NodeId>),
    /// Where this node's own log stands. Fed when a fence or role was carried out, and every 100 ms or so.
    Positions(Positions),
    /// The writes held for the handover at `epoch` are the last: the log ends at `end` and stays there.
    WritesPaused {
        /// The handover's epoch, from [`Event::PauseWrites`].
        epoch: Epoch,
        /// The log's end.
        end: LogPoint,
    },
    /// Whether this node holds any key: one that does joins nobody.
    HoldsKeys(bool),
    /// CLUSTER MEET. Answered at once; the meeting goes on for the node timeout.
    Meet(Target),
    /// CLUSTER FAILOVER on this node, or its wish to be replaced. Answered when it has begun.
    Failover(Failover),
    /// The address, zone or flags changed (CONFIG SET; the own address became known).
    Myself(Myself),
    /// A directive changed (CONFIG SET).
    Settings(Settings),
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// A member, at the address the registry has.
    Node(NodeId),
    /// An address nobody is known at yet.
    Address(Target),
}

/// A message to send. Lost messages do no harm; none is worth waiting or queueing long for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Send {
    /// Whereto.
    pub to: Destination,
    /// What.
    pub message: Message,
}

/// What to do now, in the order of the fields.
#[derive(Clone, Default, Debug)]
pub struct Outputs {
    /// A new snapshot to publish; `None`: the one before still holds.
    pub view: Option<Arc<View>>,
    /// Acts the driver owes, and news for the log.
    pub events: Vec<Event>,
    /// Changes to propose to the metadata group, by way of its leader. Whether they are accepted shows in the registry;
    /// a refusal means that somebody was faster. The core proposes again what is still needed a second later.
    pub propose: Vec<Change>,
    /// Gossip connections to drop and dial anew, before anything is sent: they may be dead without knowing it.
    pub reconnect: Vec<NodeId>,
    /// Messages to send.
    pub send: Vec<Send>,
    /// The answer to [`Input::Meet`] or [`Input::Failover`].
    pub answer: Option<Result<(), Refusal>>,
    /// Until when this node may serve as master, by the driver's clock: looked at before and after each command.
    pub lease_until_ms: u64,
    /// When the next [`Input::Tick`] is due at the latest.
    pub wake_at_ms: u64,
}
