//! What the cluster core tells its driver: what to do about the log and clients, and what happened, for the log.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use holdfast_words::{ClusterId, Epoch, LogPoint, NodeId, ShardId};

use crate::change::{NodeRecord, Refusal};
use crate::join::Target;
use crate::view::Down;

/// What this node is in its shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It leads.
    Master,
    /// It follows.
    Replica {
        /// Whom.
        master: NodeId,
    },
}

/// Something happened. The first five ask for an act of the driver; the rest are for the log and for metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// This node's shard, epoch, role or master is now this one (also told once at the start). Master: accept no frame
    /// of an older epoch, append an EpochStart when the log's epoch is older, apply what is logged, serve. Replica: follow
    /// `master` (rejoin: set a diverged tail aside). Another shard than the log's: the log and data are of no use here, a
    /// replica takes a full copy, a master (a node that was forgotten and founded a cluster again) starts empty.
    /// Then feed [`crate::Input::Positions`] with `fence` at least `epoch`.
    Role {
        /// Its shard.
        shard: ShardId,
        /// The shard's epoch.
        epoch: Epoch,
        /// Its role.
        role: Role,
    },
    /// An election at `epoch` is under way in this node's shard. Accept no frame and send no acknowledgement (of a
    /// client's write either) of an older epoch; once that is sure, feed [`crate::Input::Positions`] with `fence` at
    /// least `epoch`.
    Fence {
        /// The shard.
        shard: ShardId,
        /// The election's epoch.
        epoch: Epoch,
    },
    /// Hold clients' writes and whatever else appends to the log (expiry, eviction), keep streaming, then feed
    /// [`crate::Input::WritesPaused`].
    PauseWrites {
        /// The shard.
        shard: ShardId,
        /// The handover's epoch.
        epoch: Epoch,
        /// Who takes over.
        to: NodeId,
    },
    /// The handover is over: let held writes go on, or answer them MOVED if this node is a replica by now.
    ResumeWrites {
        /// The shard.
        shard: ShardId,
    },
    /// This node is a member of another cluster now: leave its own metadata group, drop that group's log, become a
    /// learner of the new one. Until its registry arrives feed nothing but ticks and messages.
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// Nodes to turn to.
        seeds: Vec<NodeRecord>,
    },
    /// This node was forgotten: found a cluster of its own again.
    Removed,
    /// A MEET came to nothing: refused, or (no refusal) never answered.
    MeetFailed {
        /// The node to be met.
        target: Target,
        /// Why.
        refusal: Option<Refusal>,
    },
    /// A planned failover to this node was given up.
    HandoverFailed {
        /// The shard.
        shard: ShardId,
    },
    /// This node, a master, cannot write its log, and asks for an election that this member in sync is to win.
    LeavesDisabled {
        /// The shard.
        shard: ShardId,
        /// Who is to take over.
        to: NodeId,
    },
    /// Clients may be served from now on (`None`), or not, and why.
    Serving(Option<Down>),
    /// A node does not answer (PFAIL).
    Suspected(NodeId),
    /// A suspected node answers again before a majority suspected it.
    Answers(NodeId),
    /// A majority of voters has lost a node (FAIL); told by another node, or counted here.
    Failed {
        /// The node.
        node: NodeId,
        /// Who told.
        by: Option<NodeId>,
    },
    /// A failed node is back (FAIL cleared).
    Recovered(NodeId),
    /// An election began.
    ElectionBegan {
        /// The shard.
        shard: ShardId,
        /// The epoch its winner will have.
        epoch: Epoch,
    },
    /// A shard has another master.
    MasterChanged {
        /// The shard.
        shard: ShardId,
        /// Its new epoch.
        epoch: Epoch,
        /// Its new master.
        master: NodeId,
        /// Its old master.
        was: NodeId,
    },
    /// A shard was given to a member that may lack acknowledged writes (`unclean-failover yes`): no other could be reached.
    UncleanPromotion {
        /// The shard.
        shard: ShardId,
        /// Its new epoch.
        epoch: Epoch,
        /// Its new master.
        master: NodeId,
        /// Where the new master's log ended as it last told.
        kept: Option<LogPoint>,
        /// Who was in sync, and where its log ended as it last told.
        in_sync: Vec<(NodeId, Option<LogPoint>)>,
    },
    /// A node became a member.
    NodeJoined(NodeId),
    /// A node is no member any more.
    NodeLeft(NodeId),
    /// The voters are these now.
    Voters(BTreeSet<NodeId>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { shard, epoch, role: Role::Master } => {
                write!(f, "I am the master of shard {shard} at epoch {epoch}")
            }
            Self::Role { shard, epoch, role: Role::Replica { master } } => {
                write!(f, "I am a replica of {master} in shard {shard} at epoch {epoch}")
            }
            Self::Fence { shard, epoch } => write!(f, "Shard {shard} is choosing a master for epoch {epoch}"),
            Self::PauseWrites { shard, epoch, to } => {
                write!(f, "Holding writes: handing shard {shard} over to {to} at epoch {epoch}")
            }
            Self::ResumeWrites { shard } => write!(f, "Writes go on: the handover of shard {shard} is over"),
            Self::Join { cluster, .. } => write!(f, "Joining cluster {cluster}"),
            Self::Removed => f.write_str("I was forgotten by my cluster"),
            Self::MeetFailed { target, refusal: Some(refusal) } => {
                write!(f, "Meeting {}:{} failed: {refusal}", target.ip, target.bus_port)
            }
            Self::MeetFailed { target, refusal: None } => {
                write!(f, "Meeting {}:{} failed: no answer", target.ip, target.bus_port)
            }
            Self::HandoverFailed { shard } => write!(f, "The planned failover of shard {shard} was given up"),
            Self::LeavesDisabled { shard, to } => {
                write!(
                    f,
                    "This node cannot write its log: handing shard {shard} over to {to}, which is in sync"
                )
            }
            Self::Serving(None) => f.write_str("Cluster state changed: ok"),
            Self::Serving(Some(down)) => write!(f, "Cluster state changed: fail ({down:?})"),
            Self::Suspected(node) => write!(f, "Node {node} does not answer (PFAIL)"),
            Self::Answers(node) => write!(f, "Node {node} answers again"),
            Self::Failed { node, by: None } => {
                write!(f, "Marking node {node} as failing: a majority of voters has lost it (FAIL)")
            }
            Self::Failed { node, by: Some(by) } => write!(f, "Node {node} has failed, says {by} (FAIL)"),
            Self::Recovered(node) => write!(f, "Clear FAIL state for node {node}: it is reachable again"),
            Self::ElectionBegan { shard, epoch } => {
                write!(f, "An election for shard {shard} begins at epoch {epoch}")
            }
            Self::MasterChanged { shard, epoch, master, was } => {
                write!(f, "Shard {shard} is led by {master} at epoch {epoch}, no longer by {was}")
            }
            Self::UncleanPromotion { shard, epoch, master, kept, in_sync } => {
                write!(
                    f,
                    "UNCLEAN FAILOVER: shard {shard} is led at epoch {epoch} by {master}, which was not in sync"
                )?;
                write!(f, "; acknowledged writes beyond its log's end")?;
                kept.iter().try_for_each(|at| write!(f, " ({at})"))?;
                f.write_str(" are lost; in sync were:")?;
                in_sync.iter().try_for_each(|(node, end)| match end {
                    Some(end) => write!(f, " {node} (last heard of at {end})"),
                    None => write!(f, " {node}"),
                })
            }
            Self::NodeJoined(node) => write!(f, "Node {node} joined the cluster"),
            Self::NodeLeft(node) => write!(f, "Node {node} left the cluster"),
            Self::Voters(voters) => {
                write!(f, "The metadata group's voters are now:")?;
                voters.iter().try_for_each(|voter| write!(f, " {voter}"))
            }
        }
    }
}
