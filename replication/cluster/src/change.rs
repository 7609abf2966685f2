//! The vocabulary of the metadata group: what may be proposed, what comes of it, why it is refused. Data only; the
//! rules stand in `registry` and `shard_register`.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use holdfast_words::{ClusterId, Epoch, Incarnation, NodeId, ShardId, SlotId, SlotRange, Zone};

/// Where a node is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct NodeAddress {
    /// The address announced to clients and peers; empty while the node does not know it yet.
    pub ip: String,
    /// The announced host name (`cluster-announce-hostname`); empty when there is none.
    pub hostname: String,
    /// Clients' port.
    pub port: u16,
    /// The bus's port, by default clients' port + 10000.
    pub bus_port: u16,
}

/// What the registry knows of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// The node's id.
    pub id: NodeId,
    /// Where it is reached.
    pub address: NodeAddress,
    /// The machine it runs on, as far as failures go.
    pub zone: Zone,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// Which start of the node this is.
    pub incarnation: Incarnation,
    /// It never becomes master by election (`cluster-replica-no-failover yes`).
    pub no_failover: bool,
}

/// What a proposer has seen of a shard's register; a compare-and-set applies only while all of it still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The shard's epoch.
    pub epoch: Epoch,
    /// The shard's master.
    pub master: NodeId,
    /// The epoch of the election or handover under way, if there is one.
    pub pending: Option<Epoch>,
}

/// One step of the metadata state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The first change of every cluster: `node` founds it as its single member, master of its own shard (named in
    /// the record), and voter.
    Found {
        /// The new cluster's id.
        cluster: ClusterId,
        /// The founder.
        node: NodeRecord,
    },
    /// An empty node joins (CLUSTER MEET), as master of a shard of its own (named in its record). The slots it had
    /// claimed while alone come along where nobody serves them.
    AddNode {
        /// The node.
        node: NodeRecord,
        /// Its shard's epoch from `CLUSTER SET-CONFIG-EPOCH`; kept when no other shard has it.
        epoch: Epoch,
        /// Slots it was given while it was alone.
        claims: Vec<SlotRange>,
    },
    /// CLUSTER FORGET.
    ForgetNode {
        /// Who is to go.
        node: NodeId,
        /// The node the command was given to: it forgets neither itself nor its master.
        by: NodeId,
    },
    /// CLUSTER RESET: the node leaves. A replica takes its place; without one its slots are left unassigned.
    ResetNode {
        /// The node that leaves; it holds no keys.
        node: NodeId,
    },
    /// A node tells its address, zone, flags and incarnation, after a start or a change of configuration.
    UpdateNode {
        /// The node.
        node: NodeId,
        /// Its present address.
        address: NodeAddress,
        /// Its present zone.
        zone: Zone,
        /// Its present incarnation; an older one than recorded is refused.
        incarnation: Incarnation,
        /// Its present `cluster-replica-no-failover`.
        no_failover: bool,
    },
    /// CLUSTER ADDSLOTS, ADDSLOTSRANGE: all or none.
    AssignSlots {
        /// The master whose shard gets them.
        node: NodeId,
        /// Slots nobody owns.
        slots: Vec<SlotRange>,
    },
    /// CLUSTER DELSLOTS, DELSLOTSRANGE: all or none.
    UnassignSlots {
        /// Slots somebody owns.
        slots: Vec<SlotRange>,
    },
    /// CLUSTER FLUSHSLOTS.
    FlushSlots {
        /// The master whose shard gives up all its slots.
        node: NodeId,
    },
    /// CLUSTER REPLICATE.
    Replicate {
        /// The node that becomes a replica.
        node: NodeId,
        /// Its new master.
        master: NodeId,
        /// The node holds no keys (counts for a master only; a replica's copy is dropped).
        node_is_empty: bool,
    },
    /// Fences a shard's epoch: at the new epoch, which the outcome names, its members report their positions.
    BeginElection {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw.
        expected: Expected,
        /// The only node that may win (CLUSTER FAILOVER FORCE), or any.
        candidate: Option<NodeId>,
    },
    /// Ends an election or a handover: `master` leads the shard at the pending epoch.
    Promote {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw; `pending` names the epoch that becomes the shard's.
        expected: Expected,
        /// The new master.
        master: NodeId,
    },
    /// CLUSTER FAILOVER: the master is to hold writes until `to` has caught up or the handover is aborted.
    BeginHandover {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw.
        expected: Expected,
        /// The replica that takes over.
        to: NodeId,
    },
    /// The handover took too long; writes go on at the old master once this is committed.
    AbortHandover {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw; `pending` names the handover.
        expected: Expected,
    },
    /// A smaller or larger in-sync set.
    SetInSync {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw.
        expected: Expected,
        /// The set the proposer saw.
        from: BTreeSet<NodeId>,
        /// The set wanted.
        to: BTreeSet<NodeId>,
    },
    /// Who votes in the metadata group and on failures.
    SetVoters {
        /// The set the proposer saw.
        from: BTreeSet<NodeId>,
        /// The set wanted: members of the cluster, an odd number.
        to: BTreeSet<NodeId>,
    },
    /// Nobody can hold a lease of the voters before the last change of voters any more.
    RetireFormerVoters {
        /// The change of voters it is about ([`Registry::voters_version`](crate::Registry::voters_version)).
        voters_version: u64,
    },
    /// `unclean-failover` of the shard, as its master has it configured.
    SetUncleanFailover {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw.
        expected: Expected,
        /// Whether a member out of sync may be promoted when none in sync can be reached.
        allowed: bool,
    },
    /// Ends an election as [`Change::Promote`] does, with a winner that may lack acknowledged writes: it alone is in sync then.
    /// Refused where the shard's `unclean-failover` is `no`.
    PromoteUnclean {
        /// The shard.
        shard: ShardId,
        /// What the proposer saw; `pending` names the epoch that becomes the shard's.
        expected: Expected,
        /// The new master.
        master: NodeId,
    },
    /// CLUSTER SET-CONFIG-EPOCH: only on a node that knows no other.
    SetConfigEpoch {
        /// The node.
        node: NodeId,
        /// Its shard's epoch from now on.
        epoch: Epoch,
    },
    /// CLUSTER BUMPEPOCH.
    BumpEpoch {
        /// The node.
        node: NodeId,
    },
}

/// What came of a committed change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// There was nothing to do.
    Unchanged,
    /// The node is a member.
    Joined {
        /// Its shard's epoch.
        epoch: Epoch,
        /// Claimed slots that others own: dropped.
        dropped: Vec<SlotRange>,
    },
    /// An election or handover is under way at this epoch, or an epoch was set or bumped to it.
    Epoch(Epoch),
    /// Nothing was changed.
    Refused(Refusal),
}

impl Outcome {
    /// The outcome as a result.
    pub fn into_result(self) -> Result<Self, Refusal> {
        match self {
            Self::Refused(refusal) => Err(refusal),
            done => Ok(done),
        }
    }
}

/// Why a change or a command is refused; nothing was changed. Displays as the text of the error reply, Redis's own
/// where Redis has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such node in the cluster.
    UnknownNode(NodeId),
    /// No such shard in the cluster.
    UnknownShard(ShardId),
    /// The cluster was founded already.
    AlreadyFounded,
    /// The cluster is not founded yet.
    NotFounded,
    /// Another shard has the id the joining node brings.
    ShardIdTaken(ShardId),
    /// CLUSTER FORGET of the node itself.
    ForgetMyself,
    /// CLUSTER FORGET of the node's master.
    ForgetMyMaster,
    /// CLUSTER FORGET of a master with slots.
    ForgetServingMaster(NodeId),
    /// The slot has an owner.
    SlotBusy(SlotId),
    /// The slot has no owner.
    SlotUnassigned(SlotId),
    /// Slots were to be assigned to a replica.
    SlotsNeedMaster,
    /// CLUSTER REPLICATE of the node itself.
    ReplicateMyself,
    /// CLUSTER REPLICATE of a replica.
    ReplicateReplica,
    /// CLUSTER REPLICATE on a master with keys or slots.
    ReplicatorNotEmpty,
    /// A node tells an older incarnation than is recorded.
    StaleIncarnation {
        /// The one recorded.
        recorded: Incarnation,
    },
    /// The register has moved on since the proposer looked.
    RegisterMoved {
        /// The shard.
        shard: ShardId,
        /// What holds now.
        now: Expected,
    },
    /// An election or handover is under way in the shard.
    ElectionUnderWay(ShardId),
    /// The node does not belong to the shard.
    NotAMember(NodeId),
    /// The in-sync set has moved on, or the one wanted lacks the master or holds strangers.
    InSyncSetMoved,
    /// The shard's `unclean-failover` is `no`, or nobody is being elected.
    UncleanNotAllowed(ShardId),
    /// The voters have moved on since the proposer looked.
    VotersMoved,
    /// An even or empty set of voters, or a voter that is not a member.
    BadVoters,
    /// CLUSTER SET-CONFIG-EPOCH on a node that knows others.
    ConfigEpochNotAlone,
    /// CLUSTER SET-CONFIG-EPOCH a second time.
    ConfigEpochSet,
    /// CLUSTER FAILOVER given to a master.
    FailoverNeedsReplica,
    /// CLUSTER FAILOVER with a dead master.
    FailoverMasterDown,
    /// A master that is to hand over has no replica that is well, or is none.
    NobodyTakesOver(ShardId),
    /// No majority of voters answers, so nothing can be decided.
    NoMajority,
    /// CLUSTER MEET between two clusters that both have more than one node or data.
    MergeRefused,
    /// CLUSTER MEET while another one makes this node join.
    Joining,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR ")?;
        match self {
            Self::UnknownNode(node) => write!(f, "Unknown node {node}"),
            Self::UnknownShard(shard) => write!(f, "Unknown shard {shard}"),
            Self::AlreadyFounded => f.write_str("The cluster is founded already"),
            Self::NotFounded => f.write_str("The cluster is not founded yet"),
            Self::ShardIdTaken(shard) => write!(f, "Shard id {shard} is taken"),
            Self::ForgetMyself => f.write_str("I tried hard but I can't forget myself..."),
            Self::ForgetMyMaster => f.write_str("Can't forget my master!"),
            Self::ForgetServingMaster(node) => {
                write!(f, "Can't forget {node}: it is the master of slots; move them or fail over first")
            }
            Self::SlotBusy(slot) => write!(f, "Slot {slot} is already busy"),
            Self::SlotUnassigned(slot) => write!(f, "Slot {slot} is already unassigned"),
            Self::SlotsNeedMaster => f.write_str("Slots can only be assigned to a master"),
            Self::ReplicateMyself => f.write_str("Can't replicate myself"),
            Self::ReplicateReplica => f.write_str("I can only replicate a master, not a replica."),
            Self::ReplicatorNotEmpty => {
                f.write_str("To set a master the node must be empty and without assigned slots.")
            }
            Self::StaleIncarnation { recorded } => {
                write!(f, "A newer start of this node is known (incarnation {recorded})")
            }
            Self::RegisterMoved { shard, now } => {
                write!(f, "Shard {shard} has moved on to epoch {} under {}", now.epoch, now.master)
            }
            Self::ElectionUnderWay(shard) => {
                write!(f, "An election or handover is under way in shard {shard}, try again")
            }
            Self::NotAMember(node) => write!(f, "Node {node} is not a member of the shard"),
            Self::InSyncSetMoved => f.write_str("The in-sync set has moved on"),
            Self::UncleanNotAllowed(shard) => {
                write!(f, "Shard {shard} promotes only members of its in-sync set")
            }
            Self::VotersMoved => f.write_str("The set of voters has moved on"),
            Self::BadVoters => f.write_str("Voters must be an odd number of members"),
            Self::ConfigEpochNotAlone => f.write_str(
                "The user can assign a config epoch only when the node does not know any other node.",
            ),
            Self::ConfigEpochSet => f.write_str("Node config epoch is already non-zero"),
            Self::FailoverNeedsReplica => f.write_str("You should send CLUSTER FAILOVER to a replica"),
            Self::FailoverMasterDown => {
                f.write_str("Master is down or failed, please use CLUSTER FAILOVER FORCE")
            }
            Self::NobodyTakesOver(shard) => {
                write!(f, "No replica of shard {shard} can take over: none is well")
            }
            Self::NoMajority => f.write_str("No majority of the voters is reachable, nothing can be decided"),
            Self::MergeRefused => f.write_str(
                "Two clusters can't be merged: one of the two nodes must be alone and hold no keys",
            ),
            Self::Joining => f.write_str("This node is joining another cluster, try again"),
        }
    }
}

impl core::error::Error for Refusal {}
