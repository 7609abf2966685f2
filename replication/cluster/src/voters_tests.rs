//! Where the votes go.

use std::collections::BTreeSet;
use std::vec::Vec;

use holdfast_words::{Epoch, NodeId};

use super::*;
use crate::change::Change;
use crate::testing::{done, lone, node_id, record};

/// A cluster whose node `i + 1` is in zone `zones[i]`; the first is the only voter so far.
fn spread(zones: &[&str]) -> Registry {
    let mut registry = lone(1, zones[0]);
    for (i, zone) in zones.iter().enumerate().skip(1) {
        let n = i as u8 + 1;
        done(
            &mut registry,
            Change::AddNode { node: record(n, zone), epoch: Epoch::ZERO, claims: Vec::new() },
        );
    }
    registry
}

fn settle(registry: &mut Registry, alive: impl Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
    let from = registry.voters.clone();
    let to = desired_voters(registry, &alive);
    done(registry, Change::SetVoters { from, to: to.clone() });
    let voters_version = registry.voters_version;
    done(registry, Change::RetireFormerVoters { voters_version });
    assert_eq!(desired_voters(registry, &alive), to, "settled voters stay");
    to
}

fn zones_of(registry: &Registry) -> Vec<&str> {
    let mut zones: Vec<_> = registry.voters.iter().map(|v| registry.nodes[v].zone.0.as_str()).collect();
    zones.sort();
    zones
}

#[test]
fn three_machines_have_a_voter_each() {
    let mut registry = spread(&["a", "a", "b", "b", "c", "c"]);
    settle(&mut registry, |_| true);
    assert_eq!(zones_of(&registry), ["a", "b", "c"]);
}

#[test]
fn the_number_of_voters_is_odd_and_at_most_seven() {
    for zones in 1..=20usize {
        let names: Vec<_> = (0..zones).map(|z| std::format!("z{z:02}")).collect();
        let names: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
        let mut registry = spread(&names);
        let voters = settle(&mut registry, |_| true).len();
        assert_eq!(voters, [1, 1, 3, 3, 5, 5, 7][zones.min(7) - 1]);
    }
}

#[test]
fn one_machine_has_five_voters_or_the_largest_odd_number() {
    for (nodes, expected) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)] {
        let mut registry = spread(&std::vec!["a"; nodes]);
        assert_eq!(settle(&mut registry, |_| true).len(), expected);
    }
}

#[test]
fn two_machines_share_three_voters() {
    let mut registry = spread(&["a", "b", "a", "b"]);
    settle(&mut registry, |_| true);
    assert_eq!(registry.voters.len(), 3);
    assert_eq!(zones_of(&registry).into_iter().collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn a_dead_voter_is_replaced_on_its_machine_and_nobody_else_moves() {
    let mut registry = spread(&["a", "b", "c", "a", "b", "c"]);
    let before = settle(&mut registry, |_| true);
    assert_eq!(before, BTreeSet::from([1, 2, 3].map(node_id)));
    let after = settle(&mut registry, |id| id != node_id(2));
    assert_eq!(after, BTreeSet::from([1, 3, 5].map(node_id)));
    // It comes back: no reason to move again.
    assert_eq!(settle(&mut registry, |_| true), after);
}

#[test]
fn a_dead_machine_keeps_its_vote_until_there_is_another_machine() {
    let dead = |id: NodeId| id != node_id(3) && id != node_id(6);
    let mut registry = spread(&["a", "b", "c", "a", "b", "c"]);
    let before = settle(&mut registry, |_| true);
    assert_eq!(settle(&mut registry, dead), before);
    done(&mut registry, Change::AddNode { node: record(7, "d"), epoch: Epoch::ZERO, claims: Vec::new() });
    assert_eq!(settle(&mut registry, dead), BTreeSet::from([1, 2, 7].map(node_id)));
}

#[test]
fn masters_are_preferred_and_the_silent_are_not_taken_on() {
    let mut registry = spread(&["a", "b", "b", "c", "c"]);
    done(&mut registry, Change::Replicate { node: node_id(2), master: node_id(1), node_is_empty: true });
    let voters = desired_voters(&registry, |id| id != node_id(4));
    assert_eq!(voters, BTreeSet::from([1, 3, 5].map(node_id)));
    let registry = spread(&["a", "a", "a", "a", "a"]);
    let three_live = desired_voters(&registry, |id| id <= node_id(3));
    assert_eq!(three_live, BTreeSet::from([1, 2, 3].map(node_id)), "five with two silent would be worse");
}
