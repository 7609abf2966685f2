//! Where the logs of a master and of a replica part, and how the replica comes to follow. Pure: no log is touched here.
//!
//! An epoch has one master, and its first record stands at one LSN. So where both histories hold an epoch with the same
//! start, everything below that start is the same, and the logs agree up to where the first of them leaves the epoch.

use holdfast_storage::log::EpochHistory;
use holdfast_words::{Epoch, LogPoint, Lsn};

/// What one member knows of its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSpan {
    /// Its epochs and where they begin, ascending. Segment headers keep only the newest ones, so older ones may be missing.
    pub history: EpochHistory,
    /// Where the bytes it still has begin.
    pub first_lsn: Lsn,
    /// Its end.
    pub end: LogPoint,
}

/// How a replica comes to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejoin {
    /// Its log is the beginning of the master's: send from here.
    Continue(Lsn),
    /// Its log is the master's up to here: set the rest aside, then send from here.
    CutTo(Lsn),
    /// The master has not the bytes that it lacks, or the logs share nothing: copy everything.
    FullCopy,
    /// The master's log is behind the replica's: it must not follow.
    MasterBehind,
}

/// Decides how `replica` follows `master`.
///
/// A master whose (epoch, LSN) is below the replica's is never followed. One that was rightly promoted has begun a newer
/// epoch in its log, which puts it ahead however long the replica's log is.
pub fn rejoin(master: &LogSpan, replica: &LogSpan) -> Rejoin {
    if replica.end > master.end {
        return Rejoin::MasterBehind;
    }
    let Some(at) = common_point(master, replica) else { return Rejoin::FullCopy };
    if at < master.first_lsn || at < replica.first_lsn {
        return Rejoin::FullCopy;
    }
    if at == replica.end.lsn { Rejoin::Continue(at) } else { Rejoin::CutTo(at) }
}

/// Up to where the two logs hold the same bytes; `None` when no epoch of theirs is the same.
pub fn common_point(one: &LogSpan, other: &LogSpan) -> Option<Lsn> {
    let (one, other) = (epochs(one), epochs(other));
    one.iter().rev().find_map(|mine| {
        let theirs = other.iter().find(|theirs| theirs.epoch == mine.epoch)?;
        (theirs.start == mine.start).then(|| mine.end.min(theirs.end))
    })
}

#[derive(Clone, Copy)]
struct Stretch {
    epoch: Epoch,
    start: Lsn,
    end: Lsn,
}

/// The history with the end of each epoch. What stands below the first one is of epoch zero only where that is sure: in a
/// log that is there from its first byte, or that has no other epoch. Elsewhere the history may have lost its beginning.
fn epochs(span: &LogSpan) -> Vec<Stretch> {
    let mut starts = span.history.clone();
    let is_whole = span.first_lsn == Lsn::ZERO || starts.is_empty();
    if is_whole && starts.first().is_none_or(|&(epoch, _)| epoch > Epoch::ZERO) {
        starts.insert(0, (Epoch::ZERO, Lsn::ZERO));
    }
    let ends = starts.iter().skip(1).map(|&(_, start)| start).chain([span.end.lsn]);
    starts.iter().zip(ends).map(|(&(epoch, start), end)| Stretch { epoch, start, end }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(history: &[(u64, u64)], first: u64, end: u64) -> LogSpan {
        LogSpan {
            history: history.iter().map(|&(epoch, lsn)| (Epoch(epoch), Lsn(lsn))).collect(),
            first_lsn: Lsn(first),
            end: LogPoint { epoch: Epoch(history.last().map_or(0, |last| last.0)), lsn: Lsn(end) },
        }
    }

    #[test]
    fn an_equal_log_and_a_shorter_one_go_on_at_their_end() {
        let master = span(&[(1, 0), (3, 500)], 0, 900);
        assert_eq!(rejoin(&master, &master), Rejoin::Continue(Lsn(900)));
        assert_eq!(rejoin(&master, &span(&[(1, 0), (3, 500)], 0, 700)), Rejoin::Continue(Lsn(700)));
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 500)), Rejoin::Continue(Lsn(500)));
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 300)), Rejoin::Continue(Lsn(300)));
    }

    #[test]
    fn an_empty_replica_gets_all_of_a_log_that_is_still_whole() {
        assert_eq!(rejoin(&span(&[(1, 200)], 0, 900), &span(&[], 0, 0)), Rejoin::Continue(Lsn(0)));
        assert_eq!(rejoin(&span(&[], 0, 0), &span(&[], 0, 0)), Rejoin::Continue(Lsn(0)));
    }

    #[test]
    fn a_tail_of_a_deposed_master_is_cut_where_the_next_epoch_begins() {
        let master = span(&[(1, 0), (2, 500)], 0, 600);
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 800)), Rejoin::CutTo(Lsn(500)));
        // Longer than the master's whole log: the epoch counts, not the length.
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 9000)), Rejoin::CutTo(Lsn(500)));
    }

    #[test]
    fn a_tail_of_an_epoch_that_the_master_never_saw_is_cut_where_both_were_the_same() {
        let master = span(&[(1, 0), (4, 500)], 0, 600);
        assert_eq!(rejoin(&master, &span(&[(1, 0), (3, 450)], 0, 800)), Rejoin::CutTo(Lsn(450)));
        assert_eq!(rejoin(&master, &span(&[(1, 0), (3, 550)], 0, 800)), Rejoin::CutTo(Lsn(500)));
    }

    #[test]
    fn an_epoch_that_began_elsewhere_is_not_the_same_epoch() {
        let master = span(&[(1, 0), (2, 500), (3, 700)], 0, 900);
        assert_eq!(rejoin(&master, &span(&[(1, 0), (2, 400)], 0, 600)), Rejoin::CutTo(Lsn(400)));
        assert_eq!(rejoin(&span(&[(0, 5), (1, 9)], 0, 20), &span(&[(0, 6)], 0, 8)), Rejoin::FullCopy);
    }

    #[test]
    fn what_the_master_no_longer_has_is_copied() {
        let master = span(&[(1, 0), (2, 500)], 450, 900);
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 449)), Rejoin::FullCopy);
        assert_eq!(rejoin(&master, &span(&[(1, 0)], 0, 450)), Rejoin::Continue(Lsn(450)));
        // The logs part below what the replica itself still has: there is nothing left to cut at.
        assert_eq!(rejoin(&span(&[(1, 0), (3, 500)], 0, 900), &span(&[(1, 0)], 600, 800)), Rejoin::FullCopy);
    }

    #[test]
    fn a_history_that_lost_its_beginning_proves_nothing_about_it() {
        // What stands below 500 at the master may be of any epoch, not of epoch zero as the replica's.
        let master = span(&[(7, 500), (8, 600)], 300, 900);
        assert_eq!(rejoin(&master, &span(&[], 0, 400)), Rejoin::FullCopy);
        assert_eq!(rejoin(&master, &span(&[(7, 500)], 300, 550)), Rejoin::Continue(Lsn(550)));
    }

    #[test]
    fn a_master_that_is_behind_is_not_followed() {
        let replica = span(&[(1, 0), (2, 500)], 0, 900);
        assert_eq!(rejoin(&span(&[], 0, 0), &replica), Rejoin::MasterBehind);
        assert_eq!(rejoin(&span(&[(1, 0)], 0, 5000), &replica), Rejoin::MasterBehind);
        assert_eq!(rejoin(&span(&[(1, 0), (2, 500)], 0, 899), &replica), Rejoin::MasterBehind);
    }
}
