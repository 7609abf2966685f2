//! Who is pinged when, and what is told.

use std::vec::Vec;

use super::*;
use crate::message::Header;
use crate::registry::Registry;
use crate::testing::{cluster, node_id};

const TIMEOUT_MS: u64 = 10_000;

fn watch(registry: &Registry, me: u8, now_ms: u64) -> Watch<'_> {
    Watch { me: node_id(me), registry, now_ms, timeout_ms: TIMEOUT_MS }
}

/// Everybody answered at `at_ms`.
fn answered(registry: &Registry, me: u8, at_ms: u64) -> NodeTable {
    let mut table = NodeTable::default();
    table.follow(registry, node_id(me), 0);
    for id in table.ids().to_vec() {
        table.on_ping_sent(id, at_ms);
        table.on_heard(&Header { sender: id, ..Header::default() }, at_ms);
        watch(registry, me, at_ms).on_pong(&mut table, id);
    }
    table
}

#[test]
fn a_node_never_heard_is_pinged_at_once() {
    let registry = cluster(3, 1);
    let mut table = NodeTable::default();
    table.follow(&registry, node_id(1), 0);
    let due = Gossip::default().due_pings(&watch(&registry, 1, 5000), &table, &mut Dice::new(1));
    assert_eq!(due.len(), 5);
}

#[test]
fn every_second_one_of_the_stalest_is_pinged() {
    let registry = cluster(3, 1);
    let mut table = answered(&registry, 6, 5000);
    table.get_mut(node_id(3)).unwrap().pong_ms = Some(4000);
    let mut stalest = 0;
    for seed in 0..100 {
        let (mut gossip, mut dice) = (Gossip::default(), Dice::new(seed));
        let due = |now_ms| gossip.due_pings(&watch(&registry, 6, now_ms), &table, &mut dice).into_iter();
        let pinged: Vec<NodeId> = (5000..7000).step_by(100).flat_map(due).collect();
        assert_eq!(pinged.len(), 2, "one a second");
        stalest += pinged.iter().filter(|id| **id == node_id(3)).count();
    }
    assert!(stalest > 100, "of five drawn from five the stalest is among them two times in three: {stalest}");
}

#[test]
fn whoever_is_not_heard_of_for_half_the_timeout_is_pinged_and_hearsay_postpones_it() {
    let registry = cluster(3, 2); // Voters 1 to 5.
    let mut table = answered(&registry, 9, 5000);
    let due = |table: &NodeTable, now_ms| {
        let mut gossip = Gossip { random_ping_ms: now_ms };
        gossip.due_pings(&watch(&registry, 9, now_ms), table, &mut Dice::new(1))
    };
    assert!(due(&table, 7400).is_empty());
    assert_eq!(due(&table, 7500).len(), 5, "voters every quarter: the majority rule needs them");
    assert_eq!(due(&table, 10_000).len(), 8, "all at half the timeout");
    let rumour = Rumour { node: node_id(7), idle_ms: 1000, suspected: false };
    on_rumours(&watch(&registry, 9, 9000), &mut table, node_id(1), &[rumour]);
    assert!(!due(&table, 10_000).contains(&node_id(7)), "it was alive at 8000");
    assert!(due(&table, 13_000).contains(&node_id(7)));
}

#[test]
fn hearsay_answers_no_ping() {
    let registry = cluster(3, 2);
    let mut table = answered(&registry, 9, 5000);
    table.on_ping_sent(node_id(7), 6000);
    let rumour = Rumour { node: node_id(7), idle_ms: 0, suspected: false };
    for now_ms in (6000..17_000).step_by(100) {
        on_rumours(&watch(&registry, 9, now_ms), &mut table, node_id(1), &[rumour]);
    }
    assert_eq!(watch(&registry, 9, 17_000).suspect(&mut table), [node_id(7)]);
}

#[test]
fn a_voter_looks_often_in_a_small_cluster_and_less_often_in_a_large_one() {
    for (masters, interval_ms) in [(3, 250), (100, 396)] {
        let registry = cluster(masters, 0);
        let table = answered(&registry, 1, 5000);
        let due = |now_ms| {
            let mut gossip = Gossip { random_ping_ms: now_ms };
            gossip.due_pings(&watch(&registry, 1, now_ms), &table, &mut Dice::new(1)).len()
        };
        assert_eq!((due(4999 + interval_ms), due(5000 + interval_ms)), (0, usize::from(masters) - 1));
    }
}

#[test]
fn an_unanswered_ping_is_repeated_and_its_connection_replaced() {
    let registry = cluster(3, 1);
    let mut table = answered(&registry, 6, 5000);
    table.on_ping_sent(node_id(2), 5500);
    table.get_mut(node_id(2)).unwrap().connected = true;
    let mut gossip = Gossip { random_ping_ms: 5500 };
    assert!(gossip.due_pings(&watch(&registry, 6, 6499), &table, &mut Dice::new(1)).is_empty());
    gossip.random_ping_ms = 6500;
    let due = gossip.due_pings(&watch(&registry, 6, 6500), &table, &mut Dice::new(1));
    assert_eq!(due.into_iter().collect::<Vec<_>>(), [node_id(2)]);
    assert_eq!(due_reconnects(&watch(&registry, 6, 10_500), &mut table), []);
    assert_eq!(due_reconnects(&watch(&registry, 6, 10_501), &mut table), [node_id(2)]);
    assert_eq!(due_reconnects(&watch(&registry, 6, 10_601), &mut table), [], "not again at once");
    assert_eq!(due_reconnects(&watch(&registry, 6, 15_502), &mut table), [node_id(2)]);
}

#[test]
fn a_voter_that_never_answered_is_asked_again_soon_and_others_are_not() {
    let registry = cluster(3, 1);
    let mut table = NodeTable::default();
    table.follow(&registry, node_id(6), 0);
    for id in table.ids().to_vec() {
        table.on_ping_sent(id, 5000);
    }
    let mut gossip = Gossip { random_ping_ms: 5000 };
    assert!(gossip.due_pings(&watch(&registry, 6, 5199), &table, &mut Dice::new(1)).is_empty());
    let due = gossip.due_pings(&watch(&registry, 6, 5200), &table, &mut Dice::new(1));
    assert_eq!(due, registry.voters, "this node serves nothing before most of them have answered");
}

#[test]
fn every_suspect_is_told_of_and_a_few_others() {
    let registry = cluster(50, 0);
    let mut table = answered(&registry, 1, 5000);
    for n in 10..20 {
        table.get_mut(node_id(n)).unwrap().suspected_ms = Some(5000);
    }
    table.get_mut(node_id(20)).unwrap().failed_ms = Some(5000);
    table.note_doubted();
    let told = rumours(&table, Some(node_id(30)), 5500, &mut Dice::new(1));
    let suspects: Vec<NodeId> = told.iter().filter(|r| r.suspected).map(|r| r.node).collect();
    assert_eq!(suspects, (10..=20).map(node_id).collect::<Vec<_>>());
    assert!((3..=5).contains(&(told.len() - suspects.len())));
    assert!(told.iter().all(|r| r.idle_ms == 500 && r.node != node_id(30)));
}

#[test]
fn who_does_not_vote_tells_of_nobody_as_suspected_but_by_chance() {
    let registry = cluster(50, 0); // Voters 1 to 5.
    let mut table = answered(&registry, 30, 5000);
    for n in 6..26 {
        table.get_mut(node_id(n)).unwrap().suspected_ms = Some(5000);
    }
    table.note_doubted();
    let told = rumours(&table, Some(node_id(2)), 5500, &mut Dice::new(1));
    assert!(told.len() <= 5, "{told:?}");
}

#[test]
fn a_silent_node_is_asked_whether_it_lives_and_told_little() {
    let registry = cluster(50, 0);
    let mut table = answered(&registry, 1, 5000);
    for n in 10..30 {
        table.get_mut(node_id(n)).unwrap().suspected_ms = Some(5000);
    }
    table.note_doubted();
    assert!(rumours(&table, Some(node_id(10)), 5500, &mut Dice::new(1)).len() <= 3);
    assert!(rumours(&table, Some(node_id(2)), 5500, &mut Dice::new(1)).len() >= 20);
}

#[test]
fn of_more_suspects_than_a_message_holds_each_is_told_in_turn_those_not_yet_failed_first() {
    let registry = cluster(250, 0);
    let mut table = answered(&registry, 1, 5000);
    for n in 10..=240 {
        let peer = table.get_mut(node_id(n)).unwrap();
        peer.suspected_ms = Some(5000);
        peer.failed_ms = (n < 60).then_some(5000);
    }
    table.note_doubted();
    let mut dice = Dice::new(1);
    let mut known = BTreeSet::new();
    for _ in 0..20 {
        let told = suspects(&table, &mut dice);
        assert_eq!(told.len(), SUSPECTS_MAX);
        known.extend(told.iter().map(|place| table.ids()[*place]));
    }
    assert_eq!(known, (60..=240).map(node_id).collect());
}

#[test]
fn where_many_are_silent_each_is_asked_less_often_but_voters_are_not() {
    let registry = cluster(250, 0);
    let mut table = answered(&registry, 250, 5000);
    for n in 2..=201 {
        table.on_ping_sent(node_id(n), 5500);
        table.get_mut(node_id(n)).unwrap().suspected_ms = Some(5500);
    }
    table.note_doubted();
    let due = |now_ms| {
        let mut gossip = Gossip { random_ping_ms: now_ms };
        gossip.due_pings(&watch(&registry, 250, now_ms), &table, &mut Dice::new(1)).len()
    };
    assert_eq!((due(6499), due(6500), due(7499), due(7500)), (0, 4, 4, 200 + 1));
}
