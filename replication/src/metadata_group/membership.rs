//! Raft's membership follows the registry: all its members are learners at least, its voters vote, and who is not in it any
//! more leaves. Done by the leader, one step at a time, tried again whenever something changed and now and then.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_cluster::Registry;
use openraft::{ChangeMembers, Raft};
use tokio::sync::watch;

use super::progress::Progress;
use super::published::Decided;
use super::run::Metrics;
use super::settings::Settings;
use crate::platform;
use crate::wire::metadata::{Member, TypeConfig, raft_id};

/// A voter this many entries behind the leader counts as up to date.
const BEHIND_MAX: u64 = 500;
/// The time a forgotten member has to learn of it.
const LEAVING_MS: u64 = 10_000;

/// The next thing to do.
#[derive(PartialEq, Eq, Debug)]
enum Step {
    Add(u64, Member),
    Voters(BTreeSet<u64>),
    Remove(BTreeSet<u64>),
}

/// A member of Raft's that is not in the registry any more, since when, and the newest entry then. It is to learn that it was
/// forgotten, so it goes once it knows that entry to be committed, or after [`LEAVING_MS`].
type Leaving = BTreeMap<u64, (u64, u64)>;

/// What Raft's membership lacks.
fn next_step(
    metrics: &Metrics,
    registry: &Registry,
    progress: &Progress,
    leaving: &mut Leaving,
    now_ms: u64,
) -> Option<Step> {
    if metrics.current_leader != Some(metrics.id) || !registry.is_founded() {
        leaving.clear();
        return None;
    }
    let membership = metrics.membership_config.membership();
    let wanted: BTreeMap<u64, Member> =
        registry.nodes.keys().map(|&node| (raft_id(node), Member::new(node))).collect();
    if let Some((&id, member)) = wanted.iter().find(|(id, _)| membership.get_node(id).is_none()) {
        return Some(Step::Add(id, member.clone()));
    }
    let voters: BTreeSet<u64> = registry.voters.iter().map(|&node| raft_id(node)).collect();
    let lost = progress.lost();
    let lost: BTreeSet<u64> = membership.nodes().map(|(&id, _)| id).filter(|id| lost.contains(id)).collect();
    if !lost.is_empty() {
        // They leave, and are let in anew with nothing. As voters they might elect somebody who has no more than they have.
        let others: BTreeSet<u64> = voters.difference(&lost).copied().collect();
        let vote = membership.get_joint_config()[..] != [others.clone()];
        return if vote {
            (!others.is_empty()).then_some(Step::Voters(others))
        } else {
            Some(Step::Remove(lost))
        };
    }
    let newest = metrics.last_log_index.unwrap_or(0);
    let has = |id: u64| {
        let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
        Some(matched.index)
    };
    if membership.get_joint_config()[..] != [voters.clone()] {
        // Voters that are behind would keep everything from being committed.
        let up_to_date =
            |id: u64| id == metrics.id || has(id).is_some_and(|index| index + BEHIND_MAX >= newest);
        let ready = voters.iter().filter(|&&id| up_to_date(id)).count();
        let can = !voters.is_empty() && ready * 2 > voters.len();
        return can.then_some(Step::Voters(voters));
    }
    leaving.retain(|id, _| !wanted.contains_key(id) && membership.get_node(id).is_some());
    let applied = metrics.last_applied.map_or(0, |applied| applied.index);
    for (&id, _) in membership.nodes().filter(|(id, _)| !wanted.contains_key(id)) {
        leaving.entry(id).or_insert((now_ms, applied));
    }
    let known = progress.known();
    let can_go = |id: u64, since_ms: u64, upto: u64| {
        id == metrics.id
            || known.get(&id).is_some_and(|&index| index >= upto)
            || now_ms - since_ms > LEAVING_MS
    };
    let gone: BTreeSet<u64> =
        leaving.iter().filter(|&(&id, &(since, upto))| can_go(id, since, upto)).map(|(&id, _)| id).collect();
    (!gone.is_empty()).then_some(Step::Remove(gone))
}

/// Keeps Raft's membership as the registry says, while this node leads.
pub async fn follow(
    raft: Raft<TypeConfig>,
    mut decided: watch::Receiver<Decided>,
    progress: Progress,
    settings: Settings,
) {
    let metrics = raft.metrics();
    let mut leaving = Leaving::new();
    loop {
        let registry = decided.borrow_and_update().registry.clone();
        let now = metrics.borrow().clone();
        let step = next_step(&now, &registry, &progress, &mut leaving, platform::now_ms());
        if let Some(step) = step {
            tracing::info!(?step, "Raft's membership follows the registry");
            let done = match step {
                Step::Add(id, member) => raft.add_learner(id, member, false).await,
                Step::Voters(voters) => raft.change_membership(voters, true).await,
                Step::Remove(gone) => {
                    let remove = ChangeMembers::RemoveNodes(gone.clone());
                    raft.change_membership(remove, false).await.inspect(|_| progress.forget(&gone))
                }
            };
            match done {
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, "Raft's membership does not follow yet"),
            }
        }
        // Leadership, progress of the others and time show in Raft's metrics, which change all the time.
        let pause_ms = settings.heartbeat_ms();
        if let Some(Err(_)) = platform::within_ms(pause_ms, decided.changed()).await {
            return;
        }
    }
}
