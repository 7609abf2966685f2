//! Acknowledgements → committed LSN, for the reply gate; when to ask for a smaller or larger in-sync set. Pure arithmetic over
//! what members told.

use alloc::collections::BTreeSet;

use holdfast_words::{Lsn, NodeId};

/// When a write is acknowledged (`write-ack`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteAck {
    /// When the master has it, as in Redis.
    #[default]
    Local,
    /// When every member of the in-sync set has it.
    InSync,
}

/// How far a member's log goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ack {
    /// Handed to the kernel.
    pub written_lsn: Lsn,
    /// Synced.
    pub durable_lsn: Lsn,
}

impl Ack {
    fn at(&self, durable: bool) -> Lsn {
        if durable { self.durable_lsn } else { self.written_lsn }
    }
}

/// Up to where writes may be acknowledged to clients: what this node has (written, or durable), and what all others have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitRule {
    /// What is handed to the kernel here and acknowledged by the others up to there.
    Written {
        /// What the others have; the highest LSN when there are none to wait for.
        others: Lsn,
    },
    /// What is on the disk here and acknowledged by the others up to there.
    Durable {
        /// What the others have.
        others: Lsn,
    },
}

/// What the rule depends on besides what members told.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The master.
    pub me: NodeId,
    /// Who must have a write before it is acknowledged: the in-sync set, and whoever is about to be let in.
    pub needed: &'a BTreeSet<NodeId>,
    /// The shard has replicas, in the set or not.
    pub has_replicas: bool,
    /// `appendfsync always`
    pub durable: bool,
}

/// The rule of `write-ack in-sync`. `acked` tells what a member acknowledged in the master's present epoch.
pub fn commit_rule(terms: &Terms<'_>, acked: impl Fn(NodeId) -> Ack) -> CommitRule {
    let others = terms.needed.iter().filter(|member| **member != terms.me);
    let alone = others.clone().next().is_none();
    let others = others.map(|member| acked(*member).at(terms.durable)).fold(Lsn(u64::MAX), Lsn::min);
    // With all its replicas gone a write would be in one machine's memory only: then the disk has to have it.
    if terms.durable || (alone && terms.has_replicas) {
        CommitRule::Durable { others }
    } else {
        CommitRule::Written { others }
    }
}

/// A replica, as its master sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follower {
    /// Who.
    pub node: NodeId,
    /// For how long it has owed the acknowledgement of something that is written here.
    pub lag_ms: u64,
    /// It streams, has been doing so for a while, and has acknowledged everything that clients were told is done.
    pub is_ready: bool,
}

/// Why a replica is out of the in-sync set, or about to leave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// It went by itself: it stopped.
    Left,
    /// No connection.
    LinkDown,
    /// It gets a full copy.
    Copying,
    /// Its disk takes nothing more, or syncs too slowly (`appendfsync always`).
    Disk,
    /// It is connected and has not said a word since it was sent what it owes: paused, or its disk or the network stands still.
    Silent,
    /// It speaks, and does not get on fast enough.
    Lag,
    /// Nothing is wrong with it any more: it has to be steady for a moment.
    CatchingUp,
}

impl Absence {
    /// As INFO and the log name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::LinkDown => "link_down",
            Self::Copying => "full_copy",
            Self::Disk => "disk",
            Self::Silent => "silent",
            Self::Lag => "lag",
            Self::CatchingUp => "catching_up",
        }
    }
}

/// How a replica does, in the eyes of its master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// There is a connection.
    pub is_connected: bool,
    /// A full copy is under way on it.
    pub is_copying: bool,
    /// It told that its log takes records.
    pub can_write: bool,
    /// For how long it has owed an acknowledgement; `None`: it owes none.
    pub owes_ms: Option<u64>,
    /// It has what it owes in its log, and not on its disk, which is asked for.
    pub owes_sync_only: bool,
    /// Since its last word.
    pub silent_ms: u64,
}

/// What keeps a replica, as it is now, from being in sync: the nearest cause first.
pub fn why_absent(condition: &Condition) -> Absence {
    match condition.owes_ms {
        _ if !condition.can_write => Absence::Disk,
        _ if !condition.is_connected => Absence::LinkDown,
        _ if condition.is_copying => Absence::Copying,
        None => Absence::CatchingUp,
        Some(_) if condition.owes_sync_only => Absence::Disk,
        Some(owes_ms) if condition.silent_ms >= owes_ms => Absence::Silent,
        Some(_) => Absence::Lag,
    }
}

/// A change of the in-sync set that the master asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetChange {
    /// Without those who lag. They are waited for until it is committed.
    Shrink(BTreeSet<NodeId>),
    /// With those who have caught up. They are waited for from before it is asked for.
    Grow(BTreeSet<NodeId>),
}

/// What to ask for now, if anything: first who lags goes, then who is ready comes.
pub fn next_set(current: &BTreeSet<NodeId>, followers: &[Follower], lag_max_ms: u64) -> Option<SetChange> {
    let mut smaller = current.clone();
    for follower in followers.iter().filter(|follower| follower.lag_ms > lag_max_ms) {
        smaller.remove(&follower.node);
    }
    if smaller.len() < current.len() {
        return Some(SetChange::Shrink(smaller));
    }
    let mut larger = current.clone();
    larger.extend(followers.iter().filter(|f| f.is_ready && f.lag_ms * 2 <= lag_max_ms).map(|f| f.node));
    (larger.len() > current.len()).then_some(SetChange::Grow(larger))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node_id;

    fn ack(written: u64, durable: u64) -> Ack {
        Ack { written_lsn: Lsn(written), durable_lsn: Lsn(durable) }
    }

    fn rule(needed: &[u8], has_replicas: bool, durable: bool) -> CommitRule {
        let needed = needed.iter().copied().map(node_id).collect();
        let terms = Terms { me: node_id(1), needed: &needed, has_replicas, durable };
        commit_rule(&terms, |node| if node == node_id(2) { ack(80, 40) } else { ack(90, 30) })
    }

    #[test]
    fn a_write_is_committed_when_every_in_sync_member_has_it() {
        assert_eq!(rule(&[1, 2, 3], true, false), CommitRule::Written { others: Lsn(80) });
        assert_eq!(rule(&[1, 2, 3], true, true), CommitRule::Durable { others: Lsn(30) });
        assert_eq!(rule(&[1, 3], true, false), CommitRule::Written { others: Lsn(90) });
    }

    #[test]
    fn a_master_that_lost_all_its_replicas_commits_only_what_is_durable() {
        let nobody = Lsn(u64::MAX);
        assert_eq!(rule(&[1], true, false), CommitRule::Durable { others: nobody });
        assert_eq!(rule(&[1], false, false), CommitRule::Written { others: nobody }, "it never had one");
        assert_eq!(rule(&[1], false, true), CommitRule::Durable { others: nobody });
    }

    #[test]
    fn the_nearest_cause_of_an_absence_is_named() {
        let well = Condition {
            is_connected: true,
            is_copying: false,
            can_write: true,
            owes_ms: None,
            owes_sync_only: false,
            silent_ms: 10,
        };
        let late = Condition { owes_ms: Some(3000), ..well };
        let cases = [
            (well, "catching_up"),
            (late, "lag"),
            (Condition { silent_ms: 3000, ..late }, "silent"),
            (Condition { owes_sync_only: true, ..late }, "disk"),
            (Condition { can_write: false, silent_ms: 3000, ..late }, "disk"),
            (Condition { is_copying: true, ..late }, "full_copy"),
            (Condition { is_connected: false, silent_ms: 3000, ..late }, "link_down"),
        ];
        for (condition, name) in cases {
            assert_eq!(why_absent(&condition).name(), name, "{condition:?}");
        }
    }

    #[test]
    fn who_lags_goes_and_who_is_ready_comes_with_a_gap_between_the_two() {
        let set = |members: &[u8]| -> BTreeSet<NodeId> { members.iter().copied().map(node_id).collect() };
        let follower = |n, lag_ms, is_ready| Follower { node: node_id(n), lag_ms, is_ready };
        let next = |members: &[u8], followers: &[Follower]| next_set(&set(members), followers, 1000);
        assert_eq!(next(&[1, 2], &[follower(2, 1000, true)]), None);
        assert_eq!(next(&[1, 2], &[follower(2, 1001, true)]), Some(SetChange::Shrink(set(&[1]))));
        assert_eq!(next(&[1], &[follower(2, 1001, true)]), None);
        assert_eq!(
            next(&[1], &[follower(2, 501, true)]),
            None,
            "one that was dropped must do better to come back"
        );
        assert_eq!(next(&[1], &[follower(2, 500, true)]), Some(SetChange::Grow(set(&[1, 2]))));
        assert_eq!(next(&[1], &[follower(2, 0, false)]), None);
        let two = [follower(2, 2000, false), follower(3, 0, true)];
        assert_eq!(
            next(&[1, 2], &two),
            Some(SetChange::Shrink(set(&[1]))),
            "nobody comes while somebody goes"
        );
    }
}
