//! Every combination that matters of who answered, how fresh, how old.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use holdfast_words::{Incarnation, LogPoint, Lsn};

use super::*;
use crate::testing::{node_id, shard_id};

const EPOCH: Epoch = Epoch(8);

fn rules() -> Rules {
    Rules { write_ack: WriteAck::Local, timeout_ms: 15_000, validity_factor: 10 }
}

/// Shard 1: master 1, replicas 2, 3, 4.
fn register() -> ShardRegister {
    let mut register = ShardRegister::new(node_id(1), Incarnation(1), Epoch(5));
    register.replicas = [2, 3, 4].map(node_id).into();
    register
}

/// Member `n` answered with a log of epoch 5 that ends at `lsn`.
fn answered(n: u8, lsn: u64) -> Standing {
    let written = LogPoint { epoch: Epoch(5), lsn: Lsn(lsn) };
    let positions = Positions {
        shard: shard_id(1),
        fence: EPOCH,
        written,
        durable_lsn: Lsn(0),
        applied_lsn: Lsn(lsn),
        whole: true,
        trusted: true,
        stream_down_ms: 0,
        can_write: true,
    };
    Standing {
        node: node_id(n),
        health: Health::Fine,
        heard: true,
        no_failover: false,
        positions: Some(positions),
    }
}

fn dead(n: u8) -> Standing {
    Standing { node: node_id(n), health: Health::Failed, heard: false, no_failover: false, positions: None }
}

fn silent(n: u8) -> Standing {
    Standing { health: Health::Fine, heard: true, ..dead(n) }
}

fn with(standing: Standing, change: impl Fn(&mut Positions)) -> Standing {
    let mut positions = standing.positions.unwrap();
    change(&mut positions);
    Standing { positions: Some(positions), ..standing }
}

fn decide(rules: Rules, watched_ms: u64, candidate: Option<u8>, standings: &[Standing]) -> Decision {
    let register = register();
    let candidate = candidate.map(node_id);
    let election = Election {
        shard: shard_id(1),
        register: &register,
        epoch: EPOCH,
        candidate,
        watched_ms,
        lease_is_over: true,
    };
    election.decide(&rules, standings)
}

fn winner(standings: &[Standing]) -> Option<NodeId> {
    match decide(rules(), 60_000, None, standings) {
        Decision::Promote(node) => Some(node),
        _ => None,
    }
}

#[test]
fn the_highest_position_wins_and_the_lowest_id_among_equals() {
    assert_eq!(winner(&[dead(1), answered(2, 10), answered(3, 30), answered(4, 20)]), Some(node_id(3)));
    assert_eq!(winner(&[dead(1), answered(4, 30), answered(3, 30), answered(2, 10)]), Some(node_id(3)));
    let newer_history = with(answered(2, 5), |p| p.written.epoch = Epoch(6));
    assert_eq!(winner(&[dead(1), newer_history, answered(3, 30)]), Some(node_id(2)));
}

#[test]
fn answers_are_awaited_from_all_who_live_but_not_for_ever() {
    let partly = [dead(1), answered(2, 10), silent(3), dead(4)];
    assert_eq!(decide(rules(), 499, None, &partly), Decision::Wait);
    assert_eq!(decide(rules(), 500, None, &partly), Decision::Promote(node_id(2)));
    let suspect = [dead(1), answered(2, 10), Standing { health: Health::Suspected, ..silent(3) }];
    assert_eq!(decide(rules(), 499, None, &suspect), Decision::Wait, "it may be back, and fresher");
    let quick = Rules { timeout_ms: 400, ..rules() };
    assert_eq!(decide(quick, 200, None, &partly), Decision::Promote(node_id(2)), "half a short timeout");
    let all = [dead(1), answered(2, 10), answered(3, 20), dead(4)];
    assert_eq!(decide(rules(), 0, None, &all), Decision::Promote(node_id(3)), "at once when all are in");
    assert_eq!(decide(rules(), 1_000_000, None, &[dead(1), silent(2), silent(3)]), Decision::Wait);
}

#[test]
fn only_positions_told_after_the_fence_of_this_shard_and_of_a_whole_copy_count() {
    let others: Vec<Standing> = vec![dead(1), answered(2, 10)];
    let fresh = answered(3, 99);
    let unfit = [
        with(fresh, |p| p.fence = Epoch(7)),
        with(fresh, |p| p.shard = shard_id(9)),
        with(fresh, |p| p.whole = false),
        Standing { heard: false, ..fresh },
    ];
    for standing in unfit {
        assert_eq!(winner(&[&others[..], &[standing]].concat()), Some(node_id(2)), "{standing:?}");
    }
    for health in [Health::Fine, Health::Suspected, Health::Failed] {
        let answers = Standing { health, ..fresh };
        assert_eq!(
            winner(&[&others[..], &[answers]].concat()),
            Some(node_id(3)),
            "it lives: it has answered"
        );
    }
}

#[test]
fn a_replica_cut_off_for_too_long_or_told_not_to_lead_does_not_win() {
    let limit_ms = 10_000 + 10 * 15_000;
    let old = |ms| with(answered(3, 99), |p| p.stream_down_ms = ms);
    assert_eq!(winner(&[dead(1), old(limit_ms)]), Some(node_id(3)));
    assert_eq!(winner(&[dead(1), old(limit_ms + 1)]), None);
    let any_age = Rules { validity_factor: 0, ..rules() };
    assert_eq!(decide(any_age, 60_000, None, &[dead(1), old(u64::MAX)]), Decision::Promote(node_id(3)));
    let barred = Standing { no_failover: true, ..answered(3, 99) };
    assert_eq!(winner(&[dead(1), barred, answered(2, 1)]), Some(node_id(2)));
    let master_back = Standing { no_failover: true, ..answered(1, 100) };
    assert_eq!(
        winner(&[master_back, answered(2, 1)]),
        Some(node_id(1)),
        "the old master is no stranger to it"
    );
}

#[test]
fn under_in_sync_the_set_alone_is_eligible_freshest_first() {
    let in_sync = Rules { write_ack: WriteAck::InSync, ..rules() };
    let mut register = register();
    register.in_sync = BTreeSet::from([1, 2, 3].map(node_id));
    let election = Election {
        shard: shard_id(1),
        register: &register,
        epoch: EPOCH,
        candidate: None,
        watched_ms: 60_000,
        lease_is_over: true,
    };
    let standings = [dead(1), answered(2, 10), answered(3, 20), answered(4, 90)];
    assert_eq!(election.decide(&in_sync, &standings), Decision::Promote(node_id(3)));
    assert_eq!(election.decide(&in_sync, &[dead(1), answered(4, 90)]), Decision::Wait);
    let forced = Election { candidate: Some(node_id(4)), ..election };
    assert_eq!(forced.decide(&in_sync, &standings), Decision::Reopen, "not even by force");
}

#[test]
fn a_forced_candidate_wins_whatever_the_others_have_or_the_election_is_reopened() {
    let others = [answered(1, 100), answered(3, 90)];
    let and = |standing: Standing| [&others[..], &[standing]].concat();
    let forced = |watched_ms, standing| decide(rules(), watched_ms, Some(2), &and(standing));
    assert_eq!(forced(0, answered(2, 1)), Decision::Promote(node_id(2)));
    assert_eq!(forced(4999, silent(2)), Decision::Wait);
    assert_eq!(forced(5000, silent(2)), Decision::Reopen);
    assert_eq!(forced(0, dead(2)), Decision::Reopen);
    let barred = Standing { no_failover: true, ..answered(2, 1) };
    assert_eq!(forced(0, barred), Decision::Promote(node_id(2)), "an operator may");
}

#[test]
fn in_sync_a_log_that_may_have_lost_its_tail_wins_only_when_all_of_the_set_have_answered() {
    let in_sync = Rules { write_ack: WriteAck::InSync, ..rules() };
    let mut register = register();
    register.in_sync = [1, 2, 3].map(node_id).into();
    let decide = |standings: &[Standing]| {
        let shard = shard_id(1);
        let election = Election {
            shard,
            register: &register,
            epoch: EPOCH,
            candidate: None,
            watched_ms: 60_000,
            lease_is_over: true,
        };
        election.decide(&in_sync, standings)
    };
    let doubtful = |n, lsn| with(answered(n, lsn), |p| p.trusted = false);
    assert_eq!(decide(&[dead(1), answered(2, 20), doubtful(3, 30)]), Decision::Promote(node_id(2)));
    assert_eq!(decide(&[dead(1), doubtful(2, 20), doubtful(3, 30)]), Decision::Wait);
    assert_eq!(decide(&[doubtful(1, 10), doubtful(2, 20), doubtful(3, 30)]), Decision::Promote(node_id(3)));
    // Outside the set nobody wins, however fresh and sure.
    assert_eq!(decide(&[dead(1), doubtful(2, 20), doubtful(3, 30), answered(4, 90)]), Decision::Wait);
}

#[test]
fn who_cannot_write_its_log_is_not_promoted_however_fresh() {
    let full = |n, lsn| with(answered(n, lsn), |p| p.can_write = false);
    assert_eq!(winner(&[full(1, 90), full(3, 50), answered(2, 10)]), Some(node_id(2)));
    assert_eq!(winner(&[full(1, 90), dead(2)]), None, "it would serve no write");
}

/// Shard 1 with `unclean-failover yes` or `no`; 1 and 2 are in sync.
fn decide_unclean(allowed: bool, candidate: Option<u8>, standings: &[Standing]) -> Decision {
    let rules = Rules { write_ack: WriteAck::InSync, ..rules() };
    let mut register = register();
    register.in_sync = [1, 2].map(node_id).into();
    register.unclean_failover = allowed;
    let election = Election {
        shard: shard_id(1),
        register: &register,
        epoch: EPOCH,
        candidate: candidate.map(node_id),
        watched_ms: 60_000,
        lease_is_over: true,
    };
    election.decide(&rules, standings)
}

#[test]
fn with_nobody_in_sync_left_the_freshest_is_promoted_only_where_unclean_failover_is_allowed() {
    let left = [dead(1), dead(2), answered(3, 10), answered(4, 20)];
    assert_eq!(decide_unclean(false, None, &left), Decision::Wait);
    assert_eq!(decide_unclean(true, None, &left), Decision::PromoteUnclean(node_id(4)));
    let barred = Standing { no_failover: true, ..answered(4, 20) };
    let left = [dead(1), dead(2), answered(3, 10), barred];
    assert_eq!(decide_unclean(true, None, &left), Decision::PromoteUnclean(node_id(3)));
    assert_eq!(decide_unclean(true, Some(4), &left), Decision::Reopen, "force waits for the same rule");
}

#[test]
fn an_unclean_failover_waits_while_anybody_in_sync_can_be_reached() {
    let and = |in_sync| [dead(1), in_sync, answered(3, 90), answered(4, 80)];
    assert_eq!(decide_unclean(true, None, &and(answered(2, 10))), Decision::Promote(node_id(2)));
    assert_eq!(decide_unclean(true, None, &and(silent(2))), Decision::Wait, "it is merely late");
    let barred = Standing { no_failover: true, ..answered(2, 10) };
    assert_eq!(decide_unclean(true, None, &and(barred)), Decision::Wait, "it has everything");
    let lost_disk = with(answered(2, 10), |p| p.whole = false);
    assert_eq!(decide_unclean(true, None, &and(lost_disk)), Decision::PromoteUnclean(node_id(3)));
    let lost_tail = with(answered(2, 95), |p| p.trusted = false);
    assert_eq!(decide_unclean(true, None, &and(lost_tail)), Decision::PromoteUnclean(node_id(2)));
    assert_eq!(decide_unclean(false, None, &and(lost_tail)), Decision::Wait);
    let all_doubtful = [with(answered(1, 99), |p| p.trusted = false), lost_tail, answered(3, 98)];
    assert_eq!(decide_unclean(true, None, &all_doubtful), Decision::Promote(node_id(1)), "nothing is lost");
}

#[test]
fn among_equals_the_master_stays() {
    assert_eq!(winner(&[answered(1, 30), answered(2, 30)]), Some(node_id(1)));
    let mut register = register();
    register.replicas = [1, 2, 4].map(node_id).into();
    register.master = node_id(3);
    let election = Election {
        shard: shard_id(1),
        register: &register,
        epoch: EPOCH,
        candidate: None,
        watched_ms: 60_000,
        lease_is_over: true,
    };
    let decision = election.decide(&rules(), &[answered(1, 30), answered(2, 30), answered(3, 30)]);
    assert_eq!(decision, Decision::Promote(node_id(3)));
}

#[test]
fn nobody_is_promoted_while_the_old_master_may_serve_unless_it_has_stopped_itself() {
    let register = register();
    let (shard, candidate) = (shard_id(1), None);
    let election = Election {
        shard,
        register: &register,
        epoch: EPOCH,
        candidate,
        watched_ms: 60_000,
        lease_is_over: false,
    };
    assert_eq!(election.decide(&rules(), &[dead(1), answered(2, 10)]), Decision::Wait);
    assert_eq!(election.decide(&rules(), &[answered(1, 5), answered(2, 10)]), Decision::Promote(node_id(2)));
    assert_eq!(election.decide(&rules(), &[answered(1, 30), answered(2, 10)]), Decision::Promote(node_id(1)));
    let forced = Election { candidate: Some(node_id(2)), ..election };
    assert_eq!(forced.decide(&rules(), &[dead(1), answered(2, 10)]), Decision::Wait);
    let over = Election { lease_is_over: true, ..election };
    assert_eq!(over.decide(&rules(), &[dead(1), answered(2, 10)]), Decision::Promote(node_id(2)));
}
