//! Who may stand for election: only who finds a majority of voters that have not heard of a leader lately, either. So a node
//! that was cut off for a while, or hears badly, does not unseat a leader that all others hear. (openraft 0.9 has no such
//! pre-vote; its elections are switched on and off.)

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Raft;
use tokio::task::JoinSet;

use super::network::{Asker, Askers};
use super::run::Metrics;
use super::settings::Settings;
use crate::platform;
use crate::wire::metadata::{Answer, Question, TypeConfig};

/// When this node last heard of a leader.
#[derive(Clone)]
pub struct Heard(Arc<AtomicU64>);

impl Heard {
    /// A node that has just started gives a leader time to be heard.
    pub fn now() -> Self {
        Self(Arc::new(AtomicU64::new(platform::now_ms())))
    }

    /// A leader was heard.
    pub fn hear(&self) {
        self.0.store(platform::now_ms(), Ordering::Relaxed);
    }

    /// Whether a leader may still be there, for all this node knows: it leads with a majority itself, or has heard of one.
    pub fn leader_lives(&self, metrics: &Metrics, settings: Settings) -> bool {
        if metrics.current_leader == Some(metrics.id) {
            return metrics.millis_since_quorum_ack.is_some_and(|ms| ms < settings.lease_ms());
        }
        platform::now_ms() < self.0.load(Ordering::Relaxed) + settings.lease_ms()
    }
}

/// Lets this node stand for election when it should.
pub async fn follow(raft: Raft<TypeConfig>, heard: Heard, askers: Askers, settings: Settings) {
    let metrics = raft.metrics();
    loop {
        let now = metrics.borrow().clone();
        let leads = now.current_leader == Some(now.id);
        let may = leads || (!heard.leader_lives(&now, settings) && is_wanted(&now, &askers, settings).await);
        raft.runtime_config().elect(may);
        if now.running_state.is_err() {
            return;
        }
        platform::sleep_ms(settings.heartbeat_ms() / 2).await;
    }
}

/// Whether a majority of voters, this node among them, knows of no leader.
async fn is_wanted(metrics: &Metrics, askers: &Askers, settings: Settings) -> bool {
    let membership = metrics.membership_config.membership();
    let configs = membership.get_joint_config();
    let mut agreeing = BTreeSet::from([metrics.id]);
    let within = Duration::from_millis(settings.lease_ms() / 2);
    let mut asking = JoinSet::new();
    for voter in membership.voter_ids().filter(|id| *id != metrics.id) {
        let Some(member) = membership.get_node(&voter) else { continue };
        let mut asker: Asker = askers.asker(member);
        platform::spawn_in(&mut asking, async move {
            let answer = asker.ask(Question::MayStand, within).await;
            matches!(answer, Ok(Answer::MayStand(true))).then_some(voter)
        });
    }
    let is_majority = |agreeing: &BTreeSet<u64>| {
        !configs.is_empty()
            && configs.iter().all(|voters| voters.intersection(agreeing).count() * 2 > voters.len())
    };
    while !is_majority(&agreeing) {
        match asking.join_next().await {
            Some(agrees) => agreeing.extend(agrees.ok().flatten()),
            None => return false,
        }
    }
    true
}
