//! What each change does and refuses; and that no sequence of changes breaks what must hold.

use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use holdfast_words::{Epoch, Incarnation};

use super::*;
use crate::change::NodeAddress;
use crate::shard_register::Pending;
use crate::testing::{cluster, done, lone, node_id, record, shard_id, slots};

fn refusal(registry: &mut Registry, change: Change) -> std::string::String {
    let before = registry.clone();
    match registry.apply(&change) {
        Outcome::Refused(refusal) => {
            assert_eq!(*registry, before, "a refused change changes nothing");
            refusal.to_string()
        }
        other => panic!("{change:?} was not refused: {other:?}"),
    }
}

/// What must hold in every registry.
pub(crate) fn check(registry: &Registry) {
    for (id, node) in &registry.nodes {
        assert_eq!(*id, node.id);
        assert!(registry.shards[&node.shard].has_member(*id), "every node belongs to its shard");
    }
    let members: usize = registry.shards.values().map(|s| s.members().count()).sum();
    assert_eq!(members, registry.nodes.len(), "every member is a node, of one shard");
    let mut epochs = BTreeSet::new();
    for shard in registry.shards.values() {
        assert!(!shard.replicas.contains(&shard.master));
        assert!(shard.in_sync.contains(&shard.master));
        assert!(shard.in_sync.iter().all(|n| shard.has_member(*n)));
        assert!(shard.epoch <= registry.current_epoch);
        assert!(shard.epoch == Epoch::ZERO || epochs.insert(shard.epoch), "epochs are distinct");
        if let Some(pending) = shard.pending {
            assert!(pending.epoch() > shard.epoch && epochs.insert(pending.epoch()));
        }
    }
    for (_, shard) in registry.slots.ranges() {
        assert!(registry.shards.contains_key(shard), "every slot's owner exists");
    }
    assert!(registry.voters.iter().all(|v| registry.nodes.contains_key(v)));
}

#[test]
fn redis_cli_create_ends_in_three_masters_with_distinct_epochs_and_three_replicas() {
    let mut lone_nodes: Vec<Registry> = (1..=6).map(|n| lone(n, "a")).collect();
    for (i, registry) in lone_nodes.iter_mut().enumerate() {
        let n = i as u8 + 1;
        if n <= 3 {
            let first = u16::from(n - 1) * 5461;
            let last = if n == 3 { 16383 } else { first + 5460 };
            done(registry, Change::AssignSlots { node: node_id(n), slots: [slots(first, last)].into() });
        }
        done(registry, Change::SetConfigEpoch { node: node_id(n), epoch: Epoch(u64::from(n)) });
    }
    let mut first = lone_nodes.remove(0);
    for (i, joining) in lone_nodes.iter().enumerate() {
        let n = i as u8 + 2;
        let (shard, register) = joining.shard_of(node_id(n)).unwrap();
        let claims = joining.slots.of_shard(shard).collect();
        let joined =
            done(&mut first, Change::AddNode { node: record(n, "a"), epoch: register.epoch, claims });
        assert_eq!(joined, Outcome::Joined { epoch: Epoch(u64::from(n)), dropped: Vec::new() });
    }
    for n in 4..=6 {
        done(&mut first, Change::Replicate { node: node_id(n), master: node_id(n - 3), node_is_empty: true });
    }
    check(&first);
    assert_eq!(first.slots.assigned(), 16384);
    assert_eq!(first.shards.len(), 3);
    for n in 1..=3 {
        let register = &first.shards[&shard_id(n)];
        assert_eq!(register.epoch, Epoch(u64::from(n)));
        assert_eq!(register.replicas, BTreeSet::from([node_id(n + 3)]));
    }
    assert_eq!(first.current_epoch, Epoch(6));
}

#[test]
fn a_joining_node_keeps_free_claims_and_is_told_of_the_others() {
    let mut registry = lone(1, "a");
    done(&mut registry, Change::AssignSlots { node: node_id(1), slots: [slots(0, 99)].into() });
    done(&mut registry, Change::SetConfigEpoch { node: node_id(1), epoch: Epoch(7) });
    let add = Change::AddNode { node: record(2, "a"), epoch: Epoch(7), claims: [slots(90, 109)].into() };
    let joined = registry.apply(&add);
    assert_eq!(joined, Outcome::Joined { epoch: Epoch(8), dropped: [slots(90, 99)].into() });
    let owned: Vec<_> = registry.slots.of_shard(shard_id(2)).collect();
    assert_eq!(owned, [slots(100, 109)]);
    let before = registry.clone();
    assert_eq!(registry.apply(&add), Outcome::Joined { epoch: Epoch(8), dropped: Vec::new() });
    assert_eq!(registry.nodes, before.nodes, "joining twice is joining once");
    assert_eq!(registry.shards, before.shards);
    check(&registry);
}

#[test]
fn refusals_say_what_redis_says() {
    let mut r = cluster(3, 1);
    let said = [
        (Change::AssignSlots { node: node_id(1), slots: [slots(5, 5)].into() }, "ERR Slot 5 is already busy"),
        (
            Change::Replicate { node: node_id(4), master: node_id(5), node_is_empty: true },
            "ERR I can only replicate a master, not a replica.",
        ),
        (
            Change::Replicate { node: node_id(1), master: node_id(2), node_is_empty: true },
            "ERR To set a master the node must be empty and without assigned slots.",
        ),
        (
            Change::Replicate { node: node_id(1), master: node_id(1), node_is_empty: true },
            "ERR Can't replicate myself",
        ),
        (
            Change::ForgetNode { node: node_id(1), by: node_id(1) },
            "ERR I tried hard but I can't forget myself...",
        ),
        (Change::ForgetNode { node: node_id(1), by: node_id(4) }, "ERR Can't forget my master!"),
        (
            Change::ForgetNode { node: node_id(99), by: node_id(1) },
            "ERR Unknown node 6300000000000000000000000000000000000000",
        ),
        (
            Change::SetConfigEpoch { node: node_id(1), epoch: Epoch(9) },
            "ERR The user can assign a config epoch only when the node does not know any other node.",
        ),
    ];
    for (change, text) in said {
        assert_eq!(refusal(&mut r, change), text);
    }
    let mut alone = lone(1, "a");
    let unassign = Change::UnassignSlots { slots: [slots(3, 4)].into() };
    assert_eq!(refusal(&mut alone, unassign), "ERR Slot 3 is already unassigned");
    done(&mut alone, Change::SetConfigEpoch { node: node_id(1), epoch: Epoch(4) });
    let again = Change::SetConfigEpoch { node: node_id(1), epoch: Epoch(5) };
    assert_eq!(refusal(&mut alone, again), "ERR Node config epoch is already non-zero");
    done(&mut alone, Change::AddNode { node: record(2, "a"), epoch: Epoch(5), claims: Vec::new() });
    let with_keys = Change::Replicate { node: node_id(2), master: node_id(1), node_is_empty: false };
    assert!(refusal(&mut alone, with_keys).contains("must be empty"));
}

#[test]
fn forgetting_is_once_for_all_and_may_be_said_to_every_node() {
    let mut r = cluster(3, 1);
    done(&mut r, Change::ForgetNode { node: node_id(6), by: node_id(1) });
    assert_eq!(r.apply(&Change::ForgetNode { node: node_id(6), by: node_id(2) }), Outcome::Unchanged);
    assert!(!r.nodes.contains_key(&node_id(6)));
    assert!(r.shards[&shard_id(3)].replicas.is_empty());
    assert!(
        refusal(&mut r, Change::ForgetNode { node: node_id(3), by: node_id(1) }).contains("master of slots")
    );
    done(&mut r, Change::FlushSlots { node: node_id(3) });
    done(&mut r, Change::ForgetNode { node: node_id(3), by: node_id(1) });
    assert!(!r.shards.contains_key(&shard_id(3)));
    check(&r);
    done(&mut r, Change::AddNode { node: record(6, "a"), epoch: Epoch(6), claims: Vec::new() });
    assert!(r.forgotten.iter().all(|&id| id != node_id(6)), "one who came back can be forgotten again");
}

#[test]
fn a_master_that_leaves_is_followed_by_its_replica_at_a_new_epoch() {
    let mut r = cluster(3, 1);
    let before = r.shards[&shard_id(1)].epoch;
    done(&mut r, Change::ResetNode { node: node_id(1) });
    let register = &r.shards[&shard_id(1)];
    assert_eq!(register.master, node_id(4));
    assert!(register.epoch > before);
    assert!(r.slots.owns_any(shard_id(1)));
    done(&mut r, Change::ResetNode { node: node_id(4) });
    assert!(!r.shards.contains_key(&shard_id(1)));
    assert_eq!(r.slots.assigned(), 16384 - 5461);
    check(&r);
}

#[test]
fn an_election_moves_the_master_once_and_to_a_higher_epoch_than_any() {
    let mut r = cluster(3, 1);
    let shard = shard_id(1);
    let seen = r.shards[&shard].seen();
    let highest = r.current_epoch;
    let begun = done(&mut r, Change::BeginElection { shard, expected: seen, candidate: None });
    assert_eq!(begun, Outcome::Epoch(highest.next()));
    assert_eq!(r.shards[&shard].fence(), highest.next(), "frames of the old epoch are refused");
    let begin_again = Change::BeginElection { shard, expected: seen, candidate: None };
    assert!(refusal(&mut r, begin_again).contains("has moved on"), "two leaders begin one election");
    let expected = r.shards[&shard].seen();
    assert!(
        refusal(&mut r, Change::Promote { shard, expected: seen, master: node_id(4) }).contains("moved on"),
        "no promotion without the election's epoch"
    );
    assert!(
        refusal(&mut r, Change::Promote { shard, expected, master: node_id(5) }).contains("not a member"),
        "a stranger to the shard never leads it"
    );
    done(&mut r, Change::Promote { shard, expected, master: node_id(4) });
    let register = &r.shards[&shard];
    assert_eq!((register.master, register.epoch), (node_id(4), highest.next()));
    assert_eq!(register.replicas, BTreeSet::from([node_id(1)]), "the old master is a replica");
    assert!(!register.in_sync.contains(&node_id(1)));
    assert!(refusal(&mut r, Change::Promote { shard, expected, master: node_id(1) }).contains("moved on"));
    check(&r);
}

#[test]
fn a_forced_election_is_won_by_its_candidate_only_and_can_be_replaced() {
    let mut r = cluster(1, 2);
    let shard = shard_id(1);
    let expected = r.shards[&shard].seen();
    assert!(
        refusal(&mut r, Change::BeginElection { shard, expected, candidate: Some(node_id(1)) })
            .contains("not a member"),
        "a master needs no election to lead"
    );
    done(&mut r, Change::BeginElection { shard, expected, candidate: Some(node_id(3)) });
    let expected = r.shards[&shard].seen();
    refusal(&mut r, Change::Promote { shard, expected, master: node_id(2) });
    done(&mut r, Change::BeginElection { shard, expected, candidate: None });
    let stale = expected;
    let expected = r.shards[&shard].seen();
    assert!(expected.pending > stale.pending);
    refusal(&mut r, Change::Promote { shard, expected: stale, master: node_id(3) });
    done(&mut r, Change::Promote { shard, expected, master: node_id(2) });
}

#[test]
fn an_unclean_promotion_is_refused_where_the_shard_does_not_allow_it_and_leaves_the_winner_alone_in_sync() {
    let mut r = cluster(1, 2);
    let shard = shard_id(1);
    let seen = |r: &Registry| r.shards[&shard].seen();
    let (from, to) = ([1].map(node_id).into(), [1, 2].map(node_id).into());
    let before = seen(&r);
    done(&mut r, Change::SetInSync { shard, expected: before, from, to });
    done(&mut r, Change::BeginElection { shard, expected: before, candidate: None });
    let promote = |r: &Registry| Change::PromoteUnclean { shard, expected: seen(r), master: node_id(3) };
    let change = promote(&r);
    assert!(refusal(&mut r, change).contains("only members of its in-sync set"));
    let expected = seen(&r);
    done(&mut r, Change::Promote { shard, expected, master: node_id(1) });
    refusal(&mut r, Change::SetUncleanFailover { shard, expected: before, allowed: true });
    let expected = seen(&r);
    done(&mut r, Change::SetUncleanFailover { shard, expected, allowed: true });
    let change = promote(&r);
    assert!(refusal(&mut r, change).contains("only members"), "nobody is being elected");
    done(&mut r, Change::BeginElection { shard, expected, candidate: None });
    let change = promote(&r);
    done(&mut r, change);
    let register = &r.shards[&shard];
    assert_eq!((register.master, register.unclean_epoch), (node_id(3), register.epoch));
    assert_eq!(register.in_sync, BTreeSet::from([node_id(3)]), "2 has more, and is out");
    check(&r);
}

#[test]
fn a_handover_and_its_abort_cannot_both_win() {
    for abort_first in [false, true] {
        let mut r = cluster(3, 1);
        let shard = shard_id(1);
        let expected = r.shards[&shard].seen();
        done(&mut r, Change::BeginHandover { shard, expected, to: node_id(4) });
        assert_eq!(r.shards[&shard].fence(), expected.epoch, "the stream goes on during a handover");
        let expected = r.shards[&shard].seen();
        let abort = Change::AbortHandover { shard, expected };
        let promote = Change::Promote { shard, expected, master: node_id(4) };
        let (first, second) = if abort_first { (abort, promote) } else { (promote, abort) };
        done(&mut r, first);
        refusal(&mut r, second);
        let register = &r.shards[&shard];
        assert_eq!(register.master, if abort_first { node_id(1) } else { node_id(4) });
        assert!(register.in_sync.contains(&node_id(1)), "a planned handover loses nobody");
        check(&r);
    }
}

#[test]
fn a_failing_master_overrules_a_handover() {
    let mut r = cluster(3, 1);
    let shard = shard_id(1);
    let expected = r.shards[&shard].seen();
    done(&mut r, Change::BeginHandover { shard, expected, to: node_id(4) });
    let expected = r.shards[&shard].seen();
    done(&mut r, Change::BeginElection { shard, expected, candidate: None });
    assert!(matches!(r.shards[&shard].pending, Some(Pending::Election { .. })));
    refusal(&mut r, Change::Promote { shard, expected, master: node_id(4) });
    check(&r);
}

#[test]
fn a_shrink_and_a_promotion_cannot_both_win() {
    let mut r = cluster(1, 2);
    let shard = shard_id(1);
    let expected = r.shards[&shard].seen();
    let from = BTreeSet::from([node_id(1)]);
    let to = BTreeSet::from([node_id(1), node_id(2)]);
    let grow = Change::SetInSync { shard, expected, from: from.clone(), to: to.clone() };
    done(&mut r, grow.clone());
    refusal(&mut r, grow);
    assert_eq!(r.shards[&shard].incarnations.len(), 2);
    let strangers = BTreeSet::from([node_id(1), node_id(9)]);
    refusal(&mut r, Change::SetInSync { shard, expected, from: to.clone(), to: strangers });
    refusal(
        &mut r,
        Change::SetInSync { shard, expected, from: to.clone(), to: BTreeSet::from([node_id(2)]) },
    );
    done(&mut r, Change::BeginElection { shard, expected, candidate: None });
    refusal(&mut r, Change::SetInSync { shard, expected, from: to.clone(), to: from.clone() });
    let expected = r.shards[&shard].seen();
    refusal(&mut r, Change::SetInSync { shard, expected, from: to, to: from });
}

#[test]
fn a_replica_moves_between_masters_but_not_during_an_election() {
    let mut r = cluster(3, 1);
    done(&mut r, Change::Replicate { node: node_id(4), master: node_id(2), node_is_empty: false });
    assert!(r.shards[&shard_id(1)].replicas.is_empty());
    assert!(r.shards[&shard_id(2)].has_member(node_id(4)));
    let expected = r.shards[&shard_id(3)].seen();
    done(&mut r, Change::BeginElection { shard: shard_id(3), expected, candidate: None });
    let join = Change::Replicate { node: node_id(4), master: node_id(3), node_is_empty: false };
    assert!(refusal(&mut r, join).contains("election"));
    let leave = Change::Replicate { node: node_id(6), master: node_id(1), node_is_empty: false };
    assert!(refusal(&mut r, leave).contains("election"));
    check(&r);
}

#[test]
fn an_older_start_of_a_node_cannot_speak_for_it() {
    let mut r = cluster(3, 1);
    let update = |incarnation, port| Change::UpdateNode {
        node: node_id(2),
        address: NodeAddress { port, ..record(2, "a").address },
        zone: record(2, "b").zone,
        incarnation: Incarnation(incarnation),
        no_failover: false,
    };
    done(&mut r, update(3, 9000));
    assert_eq!(r.apply(&update(3, 9000)), Outcome::Unchanged);
    assert!(refusal(&mut r, update(2, 9001)).contains("incarnation 3"));
    assert_eq!(r.nodes[&node_id(2)].address.port, 9000);
}

#[test]
fn voters_are_members_odd_and_changed_by_who_saw_them() {
    let mut r = cluster(3, 1);
    let from = r.voters.clone();
    let to = BTreeSet::from([1, 2, 3].map(node_id));
    let even = BTreeSet::from([1, 2].map(node_id));
    refusal(&mut r, Change::SetVoters { from: from.clone(), to: even });
    refusal(&mut r, Change::SetVoters { from: from.clone(), to: BTreeSet::from([node_id(77)]) });
    done(&mut r, Change::SetVoters { from: from.clone(), to: to.clone() });
    refusal(&mut r, Change::SetVoters { from, to });
}

#[test]
fn bumping_moves_an_epoch_above_all_and_then_stays() {
    let mut r = cluster(3, 0);
    let highest = r.current_epoch;
    assert_eq!(r.apply(&Change::BumpEpoch { node: node_id(1) }), Outcome::Epoch(highest.next()));
    assert_eq!(r.apply(&Change::BumpEpoch { node: node_id(1) }), Outcome::Unchanged);
    check(&r);
}

/// Random changes, also nonsensical ones: what must hold holds, and two registries fed alike stay equal.
#[test]
fn no_sequence_of_changes_breaks_what_must_hold() {
    let mut state = 12u64;
    let mut dice = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    for _ in 0..30 {
        let mut registry = lone(1, "a");
        let mut twin = registry.clone();
        let mut took_effect = 0;
        for _ in 0..300 {
            let node = node_id(dice(8) as u8 + 1);
            let other = node_id(dice(8) as u8 + 1);
            let n = dice(8) as u8 + 1;
            let shard = shard_id(n);
            let first = dice(16) as u16 * 1024;
            let range = [slots(first, first + dice(1024) as u16)];
            let seen = registry.shards.get(&shard).map(|r| r.seen());
            let expected = seen.unwrap_or(Expected { epoch: Epoch(dice(20)), master: other, pending: None });
            let change = match dice(16) {
                0 | 1 => {
                    Change::AddNode { node: record(n, "a"), epoch: Epoch(dice(30)), claims: range.into() }
                }
                2 => Change::ForgetNode { node, by: other },
                3 => Change::ResetNode { node },
                4 => Change::AssignSlots { node, slots: range.into() },
                5 => Change::UnassignSlots { slots: range.into() },
                6 => Change::FlushSlots { node },
                7 | 8 => Change::Replicate { node, master: other, node_is_empty: true },
                9 => Change::BeginElection { shard, expected, candidate: (dice(2) == 0).then_some(node) },
                10 => Change::BeginHandover { shard, expected, to: node },
                11 => Change::AbortHandover { shard, expected },
                12 | 13 => Change::Promote { shard, expected, master: node },
                14 => Change::BumpEpoch { node },
                _ => Change::SetVoters { from: registry.voters.clone(), to: BTreeSet::from([node]) },
            };
            let outcome = registry.apply(&change);
            assert_eq!(outcome, twin.apply(&change));
            took_effect += u32::from(!matches!(outcome, Outcome::Refused(_)));
            check(&registry);
        }
        assert_eq!(registry, twin);
        assert!(took_effect > 50, "the walk does something: {took_effect}");
        let rebuilt = SlotTable::from_ranges(registry.slots.ranges().iter().copied());
        assert_eq!(registry.slots, rebuilt);
    }
}

#[test]
fn a_new_start_of_a_master_with_replicas_begins_an_epoch_and_ends_a_handover() {
    let start = |n: u8, incarnation: u64| Change::UpdateNode {
        node: node_id(n),
        address: record(n, "a").address,
        zone: record(n, "a").zone,
        incarnation: Incarnation(incarnation),
        no_failover: false,
    };
    let mut registry = cluster(3, 1);
    let before = registry.current_epoch;
    let (shard, others) = (shard_id(1), registry.shards[&shard_id(2)].clone());
    done(&mut registry, start(1, 2));
    assert_eq!((registry.shards[&shard].epoch, registry.current_epoch), (before.next(), before.next()));
    assert_eq!(registry.apply(&start(1, 2)), Outcome::Unchanged);
    assert_eq!(registry.shards[&shard_id(2)], others);
    // A replica's start is no news for its shard.
    done(&mut registry, start(4, 2));
    assert_eq!(registry.current_epoch, before.next());
    // A handover is off: what was said about held writes died with the old process.
    let expected = registry.shards[&shard].seen();
    done(&mut registry, Change::BeginHandover { shard, expected, to: node_id(4) });
    done(&mut registry, start(1, 3));
    assert_eq!(registry.shards[&shard].pending, None);
    // An election goes on: whoever wins has a new epoch.
    let expected = registry.shards[&shard].seen();
    done(&mut registry, Change::BeginElection { shard, expected, candidate: None });
    let (pending, current) = (registry.shards[&shard].pending, registry.current_epoch);
    done(&mut registry, start(1, 4));
    assert_eq!((registry.shards[&shard].pending, registry.current_epoch), (pending, current));
    check(&registry);
}

#[test]
fn a_forgotten_node_may_reset_itself() {
    let mut registry = cluster(3, 1);
    done(&mut registry, Change::ForgetNode { node: node_id(4), by: node_id(1) });
    assert_eq!(registry.apply(&Change::ResetNode { node: node_id(4) }), Outcome::Unchanged);
    assert!(refusal(&mut registry, Change::ResetNode { node: node_id(99) }).contains("Unknown node"));
}
