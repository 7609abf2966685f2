//! FORMAT: the metadata group: its changes and registry as its log, its snapshots and its connections hold them. MessagePack;
//! variants are written by name and fields by place: new ones go to the end.
//!
//! Every request carries the id of the cluster whose group it is meant for; another group's is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use holdfast_cluster::change::{Change, Expected, NodeAddress, NodeRecord, Outcome};
use holdfast_cluster::registry::Registry;
use holdfast_cluster::shard_register::{Pending, ShardRegister};
use holdfast_cluster::slot_table::SlotTable;
use holdfast_words::{ClusterId, Epoch, Incarnation, NodeId, ShardId, SlotRange, Zone};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pack::{Pack, pack_as};

/// Bytes of a snapshot sent at once.
pub const SNAPSHOT_CHUNK_BYTES: u64 = 4 << 20;

openraft::declare_raft_types!(
    /// The metadata group as openraft sees it. openraft 0.9, because 0.10 is still an alpha on the registry (2026-11).
    pub TypeConfig:
        D = LoggedChange,
        R = LoggedOutcome,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = crate::platform::RaftRuntime,
);

/// openraft's name of a node: the first bytes of its id. They are random, so no two nodes of a cluster share them.
pub fn raft_id(node: NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = node.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A member as Raft's membership knows it; where it is reached stands in the registry.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Member {
    #[serde(with = "serde_bytes")]
    id: [u8; 20],
}

impl Member {
    /// The member with this id.
    pub fn new(node: NodeId) -> Self {
        Self { id: node.0 }
    }

    /// Its id.
    pub fn node(&self) -> NodeId {
        NodeId(self.id)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Expected")]
struct ExpectedDef {
    #[serde(with = "super::pack")]
    epoch: Epoch,
    #[serde(with = "super::pack")]
    master: NodeId,
    #[serde(with = "super::pack")]
    pending: Option<Epoch>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Change")]
enum ChangeDef {
    Found {
        #[serde(with = "super::pack")]
        cluster: ClusterId,
        #[serde(with = "super::pack")]
        node: NodeRecord,
    },
    AddNode {
        #[serde(with = "super::pack")]
        node: NodeRecord,
        #[serde(with = "super::pack")]
        epoch: Epoch,
        #[serde(with = "super::pack")]
        claims: Vec<SlotRange>,
    },
    ForgetNode {
        #[serde(with = "super::pack")]
        node: NodeId,
        #[serde(with = "super::pack")]
        by: NodeId,
    },
    ResetNode {
        #[serde(with = "super::pack")]
        node: NodeId,
    },
    UpdateNode {
        #[serde(with = "super::pack")]
        node: NodeId,
        #[serde(with = "super::pack")]
        address: NodeAddress,
        #[serde(with = "super::pack")]
        zone: Zone,
        #[serde(with = "super::pack")]
        incarnation: Incarnation,
        no_failover: bool,
    },
    AssignSlots {
        #[serde(with = "super::pack")]
        node: NodeId,
        #[serde(with = "super::pack")]
        slots: Vec<SlotRange>,
    },
    UnassignSlots {
        #[serde(with = "super::pack")]
        slots: Vec<SlotRange>,
    },
    FlushSlots {
        #[serde(with = "super::pack")]
        node: NodeId,
    },
    Replicate {
        #[serde(with = "super::pack")]
        node: NodeId,
        #[serde(with = "super::pack")]
        master: NodeId,
        node_is_empty: bool,
    },
    BeginElection {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        #[serde(with = "super::pack")]
        candidate: Option<NodeId>,
    },
    Promote {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        #[serde(with = "super::pack")]
        master: NodeId,
    },
    BeginHandover {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        #[serde(with = "super::pack")]
        to: NodeId,
    },
    AbortHandover {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
    },
    SetInSync {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        #[serde(with = "super::pack")]
        from: BTreeSet<NodeId>,
        #[serde(with = "super::pack")]
        to: BTreeSet<NodeId>,
    },
    SetVoters {
        #[serde(with = "super::pack")]
        from: BTreeSet<NodeId>,
        #[serde(with = "super::pack")]
        to: BTreeSet<NodeId>,
    },
    SetConfigEpoch {
        #[serde(with = "super::pack")]
        node: NodeId,
        #[serde(with = "super::pack")]
        epoch: Epoch,
    },
    BumpEpoch {
        #[serde(with = "super::pack")]
        node: NodeId,
    },
    RetireFormerVoters {
        voters_version: u64,
    },
    SetUncleanFailover {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        allowed: bool,
    },
    PromoteUnclean {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        expected: Expected,
        #[serde(with = "super::pack")]
        master: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pending")]
enum PendingDef {
    Election {
        #[serde(with = "super::pack")]
        epoch: Epoch,
        #[serde(with = "super::pack")]
        candidate: Option<NodeId>,
    },
    Handover {
        #[serde(with = "super::pack")]
        epoch: Epoch,
        #[serde(with = "super::pack")]
        to: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ShardRegister")]
struct ShardRegisterDef {
    #[serde(with = "super::pack")]
    epoch: Epoch,
    #[serde(with = "super::pack")]
    master: NodeId,
    #[serde(with = "super::pack")]
    replicas: BTreeSet<NodeId>,
    #[serde(with = "super::pack")]
    in_sync: BTreeSet<NodeId>,
    #[serde(with = "super::pack")]
    incarnations: BTreeMap<NodeId, Incarnation>,
    #[serde(with = "super::pack")]
    pending: Option<Pending>,
    #[serde(default)]
    unclean_failover: bool,
    #[serde(with = "super::pack", default)]
    unclean_epoch: Epoch,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Registry")]
struct RegistryDef {
    #[serde(with = "super::pack")]
    cluster: ClusterId,
    version: u64,
    #[serde(with = "super::pack")]
    nodes: BTreeMap<NodeId, NodeRecord>,
    #[serde(with = "super::pack")]
    shards: BTreeMap<ShardId, ShardRegister>,
    #[serde(with = "super::pack")]
    slots: SlotTable,
    #[serde(with = "super::pack")]
    voters: BTreeSet<NodeId>,
    #[serde(with = "super::pack")]
    current_epoch: Epoch,
    #[serde(with = "super::pack")]
    forgotten: Vec<NodeId>,
    #[serde(with = "super::pack", default)]
    former_voters: BTreeSet<NodeId>,
    #[serde(default)]
    voters_version: u64,
}

pack_as! {
    Expected => ExpectedDef,
    Change => ChangeDef,
    Pending => PendingDef,
    ShardRegister => ShardRegisterDef,
    Registry => RegistryDef,
}

impl Pack for SlotTable {
    fn pack<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.ranges().to_vec().pack(to)
    }

    fn unpack<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::unpack(from).map(Self::from_ranges)
    }
}

/// A change as the group's log holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoggedChange(#[serde(with = "super::pack")] pub Change);

/// What came of a change, as the one who asked for it learns it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LoggedOutcome {
    /// It took effect.
    Done,
    /// There was nothing to do.
    Unchanged,
    /// The node is a member.
    Joined {
        /// Its shard's epoch.
        epoch: u64,
        /// Claimed slots that others own.
        #[serde(with = "super::pack")]
        dropped: Vec<SlotRange>,
    },
    /// An election or handover is under way at this epoch, or an epoch was set or bumped to it.
    Epoch(u64),
    /// Nothing was changed; the text of the error reply.
    Refused(String),
}

impl From<Outcome> for LoggedOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Joined { epoch, dropped } => Self::Joined { epoch: epoch.0, dropped },
            Outcome::Epoch(epoch) => Self::Epoch(epoch.0),
            Outcome::Refused(refusal) => Self::Refused(refusal.to_string()),
        }
    }
}

impl LoggedOutcome {
    /// The outcome, or the text of the error reply.
    ///
    /// # Errors
    /// When the change was refused.
    pub fn into_result(self) -> Result<Outcome, String> {
        match self {
            Self::Done => Ok(Outcome::Done),
            Self::Unchanged => Ok(Outcome::Unchanged),
            Self::Joined { epoch, dropped } => Ok(Outcome::Joined { epoch: Epoch(epoch), dropped }),
            Self::Epoch(epoch) => Ok(Outcome::Epoch(Epoch(epoch))),
            Self::Refused(text) => Err(text),
        }
    }
}

/// The registry, for a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackedRegistry(#[serde(with = "super::pack")] pub Registry);

/// What one member asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Raft: entries, or a heartbeat.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft: a vote.
    Vote(VoteRequest<u64>),
    /// Raft: a piece of a snapshot.
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    /// A change to propose, at the leader.
    Propose(LoggedChange),
    /// Whether the asker may stand for election: whether the asked knows of no leader, either.
    MayStand,
}

/// A question, and to which group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The cluster whose group is asked.
    #[serde(with = "super::pack")]
    pub cluster: ClusterId,
    /// What is asked.
    pub question: Question,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Append`].
    Append(AppendEntriesResponse<u64>),
    /// To [`Question::Vote`].
    Vote(VoteResponse<u64>),
    /// To [`Question::Snapshot`].
    Snapshot(InstallSnapshotResponse<u64>),
    /// To [`Question::Propose`]: it is committed.
    Proposed {
        /// What came of it.
        outcome: LoggedOutcome,
        /// Its entry.
        index: u64,
    },
    /// To [`Question::MayStand`].
    MayStand(bool),
    /// To [`Question::Propose`]: somebody else leads, or nobody; nothing was proposed.
    NotLeader,
    /// The asked node belongs to another group.
    OtherCluster,
    /// It could not be done, or it is not known whether it was.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use holdfast_words::SlotId;

    use super::*;
    use crate::wire::body::{decode, encode};

    fn id(n: u8) -> NodeId {
        NodeId([n; 20])
    }

    fn record(n: u8) -> NodeRecord {
        NodeRecord {
            id: id(n),
            address: NodeAddress {
                ip: "10.0.0.1".into(),
                hostname: String::new(),
                port: 7000,
                bus_port: 17000,
            },
            zone: Zone("z".into()),
            shard: ShardId([n; 20]),
            incarnation: Incarnation(1),
            no_failover: false,
        }
    }

    #[test]
    fn every_change_is_read_as_it_was_written() {
        let slots = vec![SlotRange { first: SlotId::new(0).unwrap(), last: SlotId::new(16383).unwrap() }];
        let expected = Expected { epoch: Epoch(3), master: id(1), pending: Some(Epoch(4)) };
        let shard = ShardId([1; 20]);
        let set = BTreeSet::from([id(1), id(2), id(3)]);
        let changes = [
            Change::Found { cluster: ClusterId([9; 20]), node: record(1) },
            Change::AddNode { node: record(2), epoch: Epoch(2), claims: slots.clone() },
            Change::ForgetNode { node: id(1), by: id(2) },
            Change::ResetNode { node: id(1) },
            Change::UpdateNode {
                node: id(1),
                address: record(1).address,
                zone: Zone::default(),
                incarnation: Incarnation(7),
                no_failover: true,
            },
            Change::AssignSlots { node: id(1), slots: slots.clone() },
            Change::UnassignSlots { slots: slots.clone() },
            Change::FlushSlots { node: id(1) },
            Change::Replicate { node: id(1), master: id(2), node_is_empty: true },
            Change::BeginElection { shard, expected, candidate: Some(id(2)) },
            Change::Promote { shard, expected, master: id(2) },
            Change::BeginHandover { shard, expected, to: id(2) },
            Change::AbortHandover { shard, expected },
            Change::SetInSync { shard, expected, from: BTreeSet::new(), to: set.clone() },
            Change::SetVoters { from: set.clone(), to: set },
            Change::RetireFormerVoters { voters_version: 7 },
            Change::SetConfigEpoch { node: id(1), epoch: Epoch(5) },
            Change::BumpEpoch { node: id(1) },
            Change::SetUncleanFailover { shard, expected, allowed: true },
            Change::PromoteUnclean { shard, expected, master: id(2) },
        ];
        for change in changes {
            let bytes = encode(&LoggedChange(change.clone())).unwrap();
            assert_eq!(decode::<LoggedChange>(&bytes).unwrap().0, change);
            assert!(decode::<LoggedChange>(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn a_registry_with_everything_in_it_survives_a_snapshot() {
        let mut registry = Registry::default();
        let slots =
            |first, last| SlotRange { first: SlotId::new(first).unwrap(), last: SlotId::new(last).unwrap() };
        registry.apply(&Change::Found { cluster: ClusterId([9; 20]), node: record(1) });
        for n in 2..5 {
            registry.apply(&Change::AddNode { node: record(n), epoch: Epoch(0), claims: vec![] });
        }
        registry.apply(&Change::AssignSlots { node: id(1), slots: vec![slots(0, 5), slots(7, 9)] });
        registry.apply(&Change::Replicate { node: id(2), master: id(1), node_is_empty: true });
        registry.apply(&Change::ForgetNode { node: id(4), by: id(1) });
        let (&shard, register) = registry.shards.iter().next().unwrap();
        let expected = register.seen();
        registry.apply(&Change::BeginElection { shard, expected, candidate: Some(id(2)) });
        assert!(registry.shards[&shard].pending.is_some() && !registry.forgotten.is_empty());
        let bytes = encode(&PackedRegistry(registry.clone())).unwrap();
        assert_eq!(decode::<PackedRegistry>(&bytes).unwrap().0, registry);
    }
}
