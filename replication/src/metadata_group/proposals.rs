//! Changes on their way to the leader, wherever that is.

use std::time::Duration;

use holdfast_cluster::{Change, Outcome};

use super::network::AskError;
use super::run::{Run, Written, leader_of};
use crate::platform;
use crate::wire::metadata::{Answer, LoggedChange, LoggedOutcome, Member, Question};

/// What a change gets where there is no leader in time.
pub const NO_LEADER: &str = "CLUSTERDOWN The metadata group has no leader";
/// Between two tries.
const PAUSE_MS: u64 = 20;

/// What one try came to.
enum Tried {
    /// It is committed; at this index.
    Done(LoggedOutcome, u64),
    /// Nothing was proposed: to be tried again.
    Again,
    /// Raft has stopped on this node.
    Stopped(String),
    /// There is no telling.
    Unknown(String),
}

fn unknown(why: &str) -> String {
    format!("CLUSTERDOWN The outcome is not known: {why}")
}

/// Proposes a change. A leader is waited for for the node timeout, and so is the change's being committed.
///
/// # Errors
/// The text of the error reply.
pub async fn propose(run: &Run, change: Change) -> Result<Outcome, String> {
    let change = LoggedChange(change);
    let give_up_ms = platform::now_ms() + run.settings.node_timeout_ms;
    loop {
        match attempt(run, &change).await {
            Tried::Done(outcome, index) => {
                // Who asked sees it here, too. A node that lags behind for longer has other troubles.
                let soon = Duration::from_millis(run.settings.lease_ms());
                run.wait(soon, |metrics| metrics.last_applied.is_some_and(|last| last.index >= index)).await;
                return outcome.into_result();
            }
            Tried::Stopped(why) => {
                return Err(format!("CLUSTERDOWN The metadata group has stopped on this node: {why}"));
            }
            Tried::Unknown(why) => return Err(unknown(&why)),
            Tried::Again if platform::now_ms() >= give_up_ms => return Err(NO_LEADER.into()),
            Tried::Again => platform::sleep_ms(PAUSE_MS).await,
        }
    }
}

async fn attempt(run: &Run, change: &LoggedChange) -> Tried {
    let (leader, state) = {
        let metrics = run.raft.metrics();
        let now = metrics.borrow();
        (leader_of(&now), now.running_state.clone())
    };
    if let Err(error) = state {
        return Tried::Stopped(error.to_string());
    }
    let Some(leader) = leader else { return Tried::Again };
    if leader == run.identity.node {
        return match run.write(change.clone()).await {
            Written::Done(outcome, index) => Tried::Done(outcome, index),
            Written::NotLeader => Tried::Again,
            Written::Unknown(why) => Tried::Unknown(why),
        };
    }
    // A new connection each time: on one that had been lying around it would not be known whether the leader still reads it.
    let mut asker = run.askers.asker(&Member::new(leader));
    let within = run.settings.commit_time() * 2;
    match asker.ask(Question::Propose(change.clone()), within).await {
        Ok(Answer::Proposed { outcome, index }) => Tried::Done(outcome, index),
        Ok(Answer::NotLeader) | Err(AskError::Unknown(_) | AskError::Connect(_)) => Tried::Again,
        Ok(other) => Tried::Unknown(format!("an answer to another question: {other:?}")),
        Err(error) => Tried::Unknown(error.to_string()),
    }
}
