//! One run of Raft, from opening, founding or joining a group until the node leaves or stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast_words::{ClusterId, NodeId};
use openraft::error::{ClientWriteError, RaftError};
use openraft::{Raft, RaftMetrics};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::GroupError;
use super::log_store::LogStore;
use super::network::Askers;
use super::progress::Progress;
use super::published::{Decided, Publisher};
use super::settings::Settings;
use super::standing::Heard;
use super::state_machine::StateMachine;
use super::{membership, standing};
use crate::links::book::AddressBook;
use crate::platform;
use crate::wire::hello::Identity;
use crate::wire::metadata::{LoggedChange, LoggedOutcome, Member, TypeConfig, raft_id};

/// Raft's view of itself.
pub type Metrics = RaftMetrics<u64, Member>;

/// What came of a change that was put to this node's Raft.
#[derive(Debug)]
pub enum Written {
    /// It is committed and applied, at this index.
    Done(LoggedOutcome, u64),
    /// This node does not lead; the change was not put in the log.
    NotLeader,
    /// It may or may not be committed some time.
    Unknown(String),
}

/// Raft at work.
pub struct Run {
    /// Whose group.
    pub cluster: ClusterId,
    /// This node.
    pub identity: Identity,
    /// Raft.
    pub raft: Raft<TypeConfig>,
    /// Ask the other members.
    pub askers: Askers,
    /// When a leader was heard last.
    pub heard: Heard,
    /// Times.
    pub settings: Settings,
    /// Its log.
    pub store: LogStore,
    publisher: Publisher,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Run {
    /// Starts Raft on what the store holds.
    ///
    /// # Errors
    /// When what is there cannot be read, or Raft does not start.
    pub async fn start(
        store: LogStore,
        cluster: ClusterId,
        identity: Identity,
        book: AddressBook,
        decided: watch::Sender<Decided>,
        settings: Settings,
    ) -> Result<Self, GroupError> {
        let publisher = Publisher::begin(decided, book.clone());
        let state_machine = StateMachine::new(store.clone(), publisher.clone()).map_err(GroupError::raft)?;
        let config = settings.raft_config(cluster)?;
        let pause = Duration::from_millis(settings.heartbeat_ms());
        let progress = Progress::default();
        let askers = Askers { identity: identity.clone(), book, cluster, pause, progress: progress.clone() };
        let me = raft_id(identity.node);
        let raft = Raft::new(me, Arc::new(config), askers.clone(), store.clone(), state_machine)
            .await
            .map_err(GroupError::raft)?;
        let mut tasks = JoinSet::new();
        platform::spawn_in(&mut tasks, follow(raft.metrics(), publisher.clone()));
        platform::spawn_in(
            &mut tasks,
            membership::follow(raft.clone(), publisher.watch(), progress, settings),
        );
        let heard = Heard::now();
        platform::spawn_in(
            &mut tasks,
            standing::follow(raft.clone(), heard.clone(), askers.clone(), settings),
        );
        Ok(Self { cluster, identity, raft, askers, heard, settings, store, publisher, _tasks: tasks })
    }

    /// Puts a change in the log if this node leads, and waits until it is committed and applied.
    pub async fn write(&self, change: LoggedChange) -> Written {
        let within_ms = self.settings.commit_time().as_millis() as u64;
        match platform::within_ms(within_ms, self.raft.client_write(change)).await {
            Some(Ok(done)) => Written::Done(done.data, done.log_id.index),
            // Also said of a change that the log of a newer leader took the place of.
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Written::NotLeader,
            Some(Err(error)) => Written::Unknown(error.to_string()),
            None => Written::Unknown("no majority of voters has answered in time".into()),
        }
    }

    /// Waits until `is_so`, for a while at most; whether it is.
    pub async fn wait(&self, within: Duration, mut is_so: impl FnMut(&Metrics) -> bool) -> bool {
        let mut metrics = self.raft.metrics();
        let waiting = metrics.wait_for(|metrics| is_so(metrics) || metrics.running_state.is_err());
        let in_time = platform::within_ms(within.as_millis() as u64, waiting).await;
        in_time.is_some_and(|known| known.is_ok_and(|metrics| metrics.running_state.is_ok()))
    }

    /// Stops Raft; what it said is void.
    pub async fn stop(&self) {
        self.publisher.end();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the metadata group's Raft ended badly");
        }
    }
}

/// Who leads, by Raft's metrics.
pub fn leader_of(metrics: &Metrics) -> Option<NodeId> {
    let leader = metrics.current_leader?;
    Some(metrics.membership_config.membership().get_node(&leader)?.node())
}

/// Whose votes count: while they change, those before the change.
fn voting(metrics: &Metrics) -> BTreeSet<NodeId> {
    let membership = metrics.membership_config.membership();
    let voters = membership.get_joint_config().first().into_iter().flatten();
    voters.filter_map(|id| Some(membership.get_node(id)?.node())).collect()
}

/// Publishes who leads and votes, and says when Raft has given up.
async fn follow(mut metrics: watch::Receiver<Metrics>, publisher: Publisher) {
    loop {
        let (leader, voters, state) = {
            let now = metrics.borrow_and_update();
            (leader_of(&now), voting(&now), now.running_state.clone())
        };
        if let Err(error) = state {
            publisher.leader(None);
            if !publisher.has_ended() {
                tracing::error!(%error, "the metadata group's Raft has stopped; this node follows no decision until it is restarted");
            }
            return;
        }
        publisher.leader(leader);
        publisher.voting(voters);
        if metrics.changed().await.is_err() {
            publisher.leader(None);
            return;
        }
    }
}
