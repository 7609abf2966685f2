//! Which members have which entries, as the leader was told by them: a member that says later that it does not have them has
//! lost its log. Raft knows no such thing; it must not hear of it, and the member has to leave and be let in anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::raft::AppendEntriesResponse;
use openraft::{LogId, Vote};
use parking_lot::Mutex;

/// What one member said.
struct Told {
    /// To which leader. Raft itself begins anew with each.
    leader: Vote<u64>,
    /// The newest entry it has.
    upto: LogId<u64>,
    /// The newest entry it knows to be committed.
    committed: Option<LogId<u64>>,
}

#[derive(Default)]
struct Inner {
    told: BTreeMap<u64, Told>,
    lost: BTreeSet<u64>,
}

/// What members have.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<Inner>>);

impl Progress {
    /// This member says that it has everything up to this entry.
    pub fn has(&self, member: u64, leader: Vote<u64>, upto: Option<LogId<u64>>) {
        let Some(upto) = upto else { return };
        let mut inner = self.0.lock();
        let told = inner.told.entry(member).or_insert(Told { leader, upto, committed: None });
        if told.leader != leader {
            *told = Told { leader, upto, committed: None };
        }
        told.upto = told.upto.max(upto);
    }

    /// What a member that said what it has was told to be committed.
    pub fn knows(&self, member: u64, leader: Vote<u64>, committed: Option<LogId<u64>>) {
        let mut inner = self.0.lock();
        if let Some(told) = inner.told.get_mut(&member).filter(|told| told.leader == leader) {
            told.committed = told.committed.max(committed.min(Some(told.upto)));
        }
    }

    /// The newest entry that each of the members who said so knows to be committed.
    pub fn known(&self) -> BTreeMap<u64, u64> {
        let inner = self.0.lock();
        inner.told.iter().filter_map(|(&id, told)| Some((id, told.committed?.index))).collect()
    }

    /// What a member answered to entries after `before`, up to `last`; whether it has lost its log.
    pub fn answered(
        &self,
        member: u64,
        leader: Vote<u64>,
        before: Option<LogId<u64>>,
        last: Option<LogId<u64>>,
        answer: &AppendEntriesResponse<u64>,
    ) -> bool {
        match answer {
            AppendEntriesResponse::Success => self.has(member, leader, last.or(before)),
            AppendEntriesResponse::PartialSuccess(upto) => self.has(member, leader, *upto),
            AppendEntriesResponse::HigherVote(_) => {}
            AppendEntriesResponse::Conflict => {
                let mut inner = self.0.lock();
                let told = inner.told.get(&member).filter(|told| told.leader == leader);
                if told.is_some_and(|told| before <= Some(told.upto)) {
                    inner.lost.insert(member);
                }
            }
        }
        self.0.lock().lost.contains(&member)
    }

    /// Members that have lost their logs.
    pub fn lost(&self) -> BTreeSet<u64> {
        self.0.lock().lost.clone()
    }

    /// These are no members any more.
    pub fn forget(&self, gone: &BTreeSet<u64>) {
        let mut inner = self.0.lock();
        inner.told.retain(|id, _| !gone.contains(id));
        inner.lost.retain(|id| !gone.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn entry(index: u64) -> Option<LogId<u64>> {
        Some(LogId::new(CommittedLeaderId::new(1, 1), index))
    }

    #[test]
    fn only_a_member_that_had_an_entry_under_this_leader_can_have_lost_it() {
        let progress = Progress::default();
        let leader = Vote::new_committed(1, 1);
        let conflict = AppendEntriesResponse::Conflict;
        assert!(!progress.answered(2, leader, entry(9), None, &conflict), "never had it");
        assert!(!progress.answered(2, leader, entry(3), entry(5), &AppendEntriesResponse::Success));
        progress.knows(2, leader, entry(7));
        assert_eq!(progress.known(), BTreeMap::from([(2, 5)]), "it has no entry 7");
        assert!(!progress.answered(2, leader, entry(9), None, &conflict), "never had entry 9");
        let newer = Vote::new_committed(2, 1);
        assert!(!progress.answered(2, newer, entry(5), None, &conflict), "told another leader");
        assert!(progress.answered(2, leader, entry(5), None, &conflict));
        assert_eq!(progress.lost(), BTreeSet::from([2]));
        progress.forget(&BTreeSet::from([2]));
        assert!(!progress.answered(2, leader, entry(5), None, &conflict), "let in anew");
    }
}
