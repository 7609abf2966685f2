#![no_std]
//! holdfast's cluster core: gossip, failure detection, the metadata state machine, promotion, as plain state
//! machines. No socket, clock, file, task or random source: time and randomness are arguments.
//!
//! Two machines stand side by side:
//! * [`Registry::apply`] is the metadata group's state machine: every node applies the same [`Change`]s in the order
//!   the group's log has them and holds the same registry. Whoever proposed a change gets its [`Outcome`].
//! * [`Cluster::step`] is one node's part in the cluster: it watches the others, says what to propose and to whom to
//!   send what. It never touches the registry; it is told of each new one.
//!
//! **Gossip suspects, the metadata group decides**: nothing in `step` changes who owns or leads anything. Only a
//! committed change does.
//!
//! # The driver's duties
//!
//! The driver (the bus thread) owns sockets and the clock and decides nothing. Around one [`Cluster`]:
//! 1. Start: `Cluster::new(me, myself, settings, registry, seed)` with the registry the metadata log gives (for a fresh
//!    data directory: first let the own, single-voter metadata group commit [`Change::Found`]), then feed a `Tick`.
//! 2. Feed `Tick` every 100 ms, [`Input::Received`] for each gossip message, [`Input::Registry`] whenever the metadata
//!    state machine has applied something, [`Input::Leader`] when Raft's leader changes, [`Input::Positions`] of the
//!    own log every 100 ms and at once after a fence or role was carried out, [`Input::HoldsKeys`] when it changes.
//!    [`Input::Myself`] when the own address becomes known (the local address of a bus connection will do).
//!    `now_ms` is a monotonic clock that starts well above 0 (0 means "never" in [`Liveness`]).
//! 3. Act on [`Outputs`] field by field: publish the view, carry out the events, propose, send, answer. A message to a
//!    node goes to the address the registry has for it; one that cannot be sent is dropped. Changes are proposed
//!    through the metadata leader (forwarded if that is another node); a refusal is only logged at debug.
//! 4. Commands that are a plain change (ADDSLOTS, REPLICATE, FORGET …) do not pass through `step`: propose the change
//!    and answer with its [`Outcome`]; [`Refusal`]'s display is the error's text. MEET and FAILOVER are inputs here.
//!    RESET: propose [`Change::ResetNode`] (when not alone), then found a cluster anew as a new node directory would.
//!
//! # Raft's membership
//!
//! [`Registry::voters`] says who should vote, the leader's core keeps it spread. Raft's own membership follows: whenever
//! an applied registry differs from it, the leader's adapter makes every member a learner at least and changes Raft's
//! voters to the registry's. Nothing here looks at Raft's membership.
//!
//! # A failover, step by step
//!
//! A voter's pings go unanswered for the node timeout → [`Event::Suspected`], told to the other voters at once →
//! a majority of voters says so → [`Event::Failed`], broadcast → the metadata leader's core proposes
//! [`Change::BeginElection`] → committed: every member of the shard gets [`Event::Fence`], its driver stops taking
//! frames of the old epoch and feeds `Positions` with `fence` at the new one, which goes to the leader → when all
//! that live have answered, or after a bound, the leader proposes [`Change::Promote`] of the freshest → committed:
//! [`Event::Role`] everywhere in the shard. Everything needed to go on stands in the registry and in the positions
//! members repeat with each message, so that any new leader finishes it.
//!
//! # A planned failover
//!
//! [`Input::Failover`] on the replica → [`Change::BeginHandover`] → [`Event::PauseWrites`] on the master, answered by
//! [`Input::WritesPaused`] → the master tells the end of its log → the replica's `Positions` reach it →
//! [`Change::Promote`] → [`Event::Role`] on both, [`Event::ResumeWrites`] on the old master. When it takes too long,
//! [`Change::AbortHandover`] and the promotion race on one register, and writes resume only after the abort won.
//!
//! # Not here
//!
//! Bytes on the wire (replication/src/wire), Raft (replication/src/metadata_group), the log.
extern crate alloc;
#[cfg(test)]
extern crate std;

/// What may be proposed to the metadata group, what comes of it, why it is refused.
pub mod change;
/// Which shard owns which slots.
pub mod slot_table;
/// A shard's epoch, master, replicas, in-sync set; compare-and-set and its refusals.
pub mod shard_register;
/// Membership, slots, registers, voters: `apply(Change) → Outcome`, the metadata state machine.
pub mod registry;
/// What is left of a registry when a majority of voters is gone for good.
pub mod recover;
/// Who should vote: one per zone, odd, spread.
pub mod voters;
/// What nodes say to each other, as plain data.
pub mod message;
/// What CLUSTER NODES/SLOTS/SHARDS/INFO are made of, and where a slot's commands go.
pub mod view;
/// Chance as an argument.
pub mod dice;
/// Who was heard, when, and what they told.
pub mod node_table;
/// PFAIL, reports and their validity, FAIL by majority of voters, clearing.
pub mod failure_detector;
/// Whom to ping now, what to tell.
pub mod gossip;
/// May this node serve now.
pub mod lease;
/// Acknowledgements → committed LSN, and who is in the in-sync set.
pub mod in_sync;
/// Elections: who may win, who is freshest.
pub mod promotion;
/// Planned failover without loss.
pub mod handover;
/// Masters return to the spread.
pub mod rebalance;
/// CLUSTER MEET: who joins whom.
pub mod join;
/// What the core tells its driver.
pub mod events;
/// Input, Outputs and settings of the core.
pub mod interface;
/// `Cluster::step(now, Input) → Outputs`.
pub mod cluster;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod world;
#[cfg(test)]
mod scenes;

pub use change::{Change, Expected, NodeAddress, NodeRecord, Outcome, Refusal};
pub use cluster::Cluster;
pub use events::{Event, Role};
pub use in_sync::{Ack, CommitRule, SetChange, WriteAck};
pub use interface::{Destination, Failover, Input, Myself, Outputs, Send, Settings};
pub use join::Target;
pub use message::{Body, Header, JoinCard, Message, MessageCounts, MessageKind, Positions, Rumour};
pub use registry::Registry;
pub use shard_register::{Pending, ShardRegister};
pub use slot_table::SlotTable;
pub use view::{Down, Figures, Health, Liveness, NodeView, Owner, Routes, ShardRoute, ShardView, View};
