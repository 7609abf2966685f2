//! Where masters go, and when. The scenes at the end run whole clusters.

use std::vec::Vec;

use super::*;
use crate::dice::Dice;
use crate::testing::{cluster, node_id, shard_id};
use crate::world::{TIMEOUT_MS, World};
use crate::{Event, Outcome};

/// `masters` shards of one replica each; `zones[n - 1]` is node `n`'s. All in sync.
fn spread(masters: u8, zones: &[&str]) -> Registry {
    let mut registry = cluster(masters, 1);
    for (record, zone) in registry.nodes.values_mut().zip(zones) {
        record.zone.0 = (*zone).into();
    }
    fill(&mut registry);
    registry
}

fn fill(registry: &mut Registry) {
    for register in registry.shards.values_mut() {
        register.in_sync = register.members().collect();
    }
}

/// Replica `to` leads the shard that `founder` founded.
fn hand_over(registry: &mut Registry, founder: u8, to: NodeId) {
    let register = registry.shards.get_mut(&shard_id(founder)).unwrap();
    register.replicas.remove(&to);
    register.replicas.insert(std::mem::replace(&mut register.master, to));
    register.epoch = register.epoch.next();
    registry.version += 1;
}

fn carry_out(registry: &mut Registry, next: Move) {
    let founder = next.shard.0[0];
    hand_over(registry, founder, next.to);
}

fn masters_by_zone(registry: &Registry) -> BTreeMap<&str, usize> {
    let mut counts: BTreeMap<&str, usize> = registry.nodes.values().map(|n| (n.zone.0.as_str(), 0)).collect();
    for register in registry.shards.values() {
        *counts.get_mut(registry.nodes[&register.master].zone.0.as_str()).unwrap() += 1;
    }
    counts
}

/// Three machines, each with a master and another's replica: 1 and 6 on a, 2 and 4 on b, 3 and 5 on c.
fn three_machines() -> Registry {
    spread(3, &["a", "b", "c", "b", "c", "a"])
}

#[test]
fn an_even_spread_stays_as_it_is_whoever_leads() {
    let mut registry = three_machines();
    assert_eq!(next_move(&registry), None);
    for (founder, to) in [(1, 4), (2, 5), (3, 6)] {
        hand_over(&mut registry, founder, node_id(to));
    }
    assert_eq!(next_move(&registry), None, "one master on each, if not the first one");
    assert_eq!(next_move(&spread(3, &["a"; 6])), None, "all on one machine");
}

#[test]
fn the_returned_machine_gets_its_master_back() {
    let mut registry = three_machines();
    hand_over(&mut registry, 1, node_id(4));
    assert_eq!(next_move(&registry), Some(Move { shard: shard_id(1), to: node_id(1) }));
    carry_out(&mut registry, Move { shard: shard_id(1), to: node_id(1) });
    assert_eq!(next_move(&registry), None);
}

#[test]
fn a_master_is_handed_on_to_make_room_where_no_copy_leads_straight() {
    // Two masters on a, one on b, none on c; a shares its shards with b alone, b shares one with c.
    let mut registry = spread(3, &["a", "a", "b", "b", "b", "c"]);
    assert_eq!(masters_by_zone(&registry), BTreeMap::from([("a", 2), ("b", 1), ("c", 0)]));
    assert_eq!(next_move(&registry), Some(Move { shard: shard_id(3), to: node_id(6) }));
    carry_out(&mut registry, Move { shard: shard_id(3), to: node_id(6) });
    let next = next_move(&registry).unwrap();
    carry_out(&mut registry, next);
    assert_eq!(masters_by_zone(&registry), BTreeMap::from([("a", 1), ("b", 1), ("c", 1)]));
    assert_eq!(next_move(&registry), None);
}

#[test]
fn a_replica_that_must_not_lead_and_a_shard_without_slots_are_let_be() {
    let mut registry = three_machines();
    hand_over(&mut registry, 1, node_id(4));
    let forbid = |registry: &mut Registry, n, forbidden| {
        registry.nodes.get_mut(&node_id(n)).unwrap().no_failover = forbidden;
    };
    forbid(&mut registry, 1, true);
    assert_eq!(next_move(&registry), Some(Move { shard: shard_id(3), to: node_id(6) }), "by way of c");
    forbid(&mut registry, 6, true);
    assert_eq!(next_move(&registry), None);
    forbid(&mut registry, 1, false);
    let slots: Vec<_> = registry.slots.of_shard(shard_id(1)).collect();
    registry.slots.set(&slots, None);
    assert_eq!(next_move(&registry), None);
}

#[test]
fn every_cluster_comes_to_rest_and_is_never_less_even_than_before() {
    let mut dice = Dice::new(7);
    for round in 0..300 {
        let masters = 2 + dice.below(12) as u8;
        let zones = 1 + dice.below(6);
        let names = ["a", "b", "c", "d", "e", "f"];
        let layout: Vec<&str> = (0..2 * masters).map(|_| names[dice.below(zones)]).collect();
        let mut registry = spread(masters, &layout);
        for founder in 1..=masters {
            if dice.below(2) == 0 {
                hand_over(&mut registry, founder, node_id(founder + masters));
            }
        }
        let unevenness = |registry: &Registry| {
            masters_by_zone(registry).values().map(|count| count * count).sum::<usize>()
        };
        let mut before = unevenness(&registry);
        let mut moves = 0;
        while let Some(next) = next_move(&registry) {
            carry_out(&mut registry, next);
            moves += 1;
            let now = unevenness(&registry);
            assert!(now <= before, "round {round}: {layout:?}");
            before = now;
            assert!(moves <= 4 * usize::from(masters), "round {round} does not come to rest: {layout:?}");
        }
    }
}

#[test]
fn nothing_moves_before_the_cluster_was_calm_nor_while_anything_is_wrong() {
    let mut registry = three_machines();
    hand_over(&mut registry, 1, node_id(4));
    let calm_ms = CALM_TIMEOUTS * TIMEOUT_MS;
    let all_well = |_| true;
    let mut fresh = Rebalance::default();
    assert_eq!(fresh.step(&registry, all_well, 1000, TIMEOUT_MS), None);
    assert_eq!(fresh.step(&registry, all_well, 999 + calm_ms, TIMEOUT_MS), None);
    let mut due = fresh.clone();
    assert!(matches!(
        due.step(&registry, all_well, 1000 + calm_ms, TIMEOUT_MS),
        Some(Change::BeginHandover { to, .. }) if to == node_id(1)
    ));
    assert_eq!(due.step(&registry, all_well, 1001 + calm_ms, TIMEOUT_MS), None, "once");

    let mut doubtful = fresh.clone();
    assert_eq!(doubtful.step(&registry, |id| id != node_id(3), 2000, TIMEOUT_MS), None);
    assert_eq!(doubtful.step(&registry, all_well, 1000 + calm_ms, TIMEOUT_MS), None, "calm begins anew");

    let mut lagging = registry.clone();
    lagging.shards.get_mut(&shard_id(2)).unwrap().in_sync.remove(&node_id(5));
    assert_eq!(fresh.clone().step(&lagging, all_well, 1000 + calm_ms, TIMEOUT_MS), None);

    let mut moved = registry.clone();
    moved.version += 1;
    assert_eq!(fresh.step(&moved, all_well, 1000 + calm_ms, TIMEOUT_MS), None, "something changed");
}

#[test]
fn after_a_hand_over_that_failed_the_next_one_waits_twice_as_long() {
    let mut registry = three_machines();
    hand_over(&mut registry, 1, node_id(4));
    let calm_ms = CALM_TIMEOUTS * TIMEOUT_MS;
    let mut rebalance = Rebalance::default();
    let mut now_ms = 1000;
    let mut wait = |registry: &mut Registry| {
        registry.version += 1; // Begun, and undone.
        let from_ms = now_ms;
        while rebalance.step(registry, |_| true, now_ms, TIMEOUT_MS).is_none() {
            now_ms += 100;
        }
        now_ms - from_ms
    };
    let waits: Vec<u64> = (0..9).map(|_| wait(&mut registry)).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64].map(|times| times * calm_ms));
}

// ---- whole clusters ----

fn world(seed: u64, on: bool) -> World {
    let mut w = World::with(three_machines(), seed);
    switch(&mut w, on);
    w
}

fn switch(w: &mut World, on: bool) {
    for n in 1..=6 {
        w.nodes.get_mut(&node_id(n)).unwrap().settings.rebalance_masters = on;
        let settings = w.nodes[&node_id(n)].settings;
        w.command(n, crate::Input::Settings(settings));
    }
}

/// Machine a (nodes 1 and 6) goes and comes back; what the masters' drivers would propose about their sets is proposed.
fn lose_and_regain_machine_a(w: &mut World) {
    w.run(1000);
    w.kill(1);
    w.kill(6);
    let taken = w.run_until(20_000, |w| w.master_of(1, 2) == 4);
    assert!(taken.is_some());
    w.run(3000);
    w.start(1);
    w.start(6);
    w.run(5000);
    assert_eq!(w.master_of(1, 2), 4, "not before its set is full");
    readmit(w, 1);
    readmit(w, 3);
}

fn readmit(w: &mut World, founder: u8) {
    let register = w.registry(2).shards[&shard_id(founder)].clone();
    let change = Change::SetInSync {
        shard: shard_id(founder),
        expected: register.seen(),
        from: register.in_sync.clone(),
        to: register.members().collect(),
    };
    assert!(!matches!(w.propose(2, change), Outcome::Refused(_)));
}

#[test]
fn a_machine_that_came_back_leads_again_and_no_acknowledged_write_is_lost() {
    for seed in 0..5 {
        let mut w = world(seed, true);
        lose_and_regain_machine_a(&mut w);
        let calm_ms = CALM_TIMEOUTS * TIMEOUT_MS;
        w.write(4);
        w.run(calm_ms - 1500);
        assert_eq!(w.master_of(1, 2), 4, "seed {seed}: too early");
        let mut held_ms = 0;
        for _ in 0..5000 {
            held_ms += u64::from(!(w.write(1) || w.write(4)));
            w.run(1);
        }
        assert_eq!(w.master_of(1, 2), 1, "seed {seed}");
        assert!(held_ms <= 60, "writes were held for {held_ms} ms");
        assert!(w.log_of(1) >= w.acknowledged[&shard_id(1)]);
        let changes = |w: &World| {
            w.events
                .iter()
                .filter(|(_, at, e)| *at == node_id(2) && matches!(e, Event::MasterChanged { .. }))
                .count()
        };
        let before = changes(&w);
        w.run(20 * TIMEOUT_MS);
        assert_eq!(changes(&w), before, "and then nothing moves");
        assert!(w.all_ok());
    }
}

#[test]
fn switched_off_nothing_moves_and_switched_on_it_waits_for_calm() {
    let mut w = world(1, false);
    lose_and_regain_machine_a(&mut w);
    w.run(20 * TIMEOUT_MS);
    assert_eq!(w.master_of(1, 2), 4);
    switch(&mut w, true);
    w.run((CALM_TIMEOUTS - 1) * TIMEOUT_MS);
    assert_eq!(w.master_of(1, 2), 4, "switched on it waits as long as ever");
    w.run(2 * TIMEOUT_MS);
    assert_eq!(w.master_of(1, 2), 1);
}

#[test]
fn a_hand_over_to_a_replica_that_stalls_is_undone_and_tried_later() {
    let mut w = world(3, true);
    lose_and_regain_machine_a(&mut w);
    w.nodes.get_mut(&node_id(1)).unwrap().stalled = true;
    w.run(200);
    w.write(4);
    let begun = w.run_until(20_000, |w| w.registry(2).shards[&shard_id(1)].pending.is_some());
    assert!(begun.is_some());
    let undone = w.run_until(7000, |w| w.registry(2).shards[&shard_id(1)].pending.is_none());
    assert!(undone.is_some(), "the master would hold writes for ever");
    w.run(300);
    assert!(w.write(4), "writes go on");
    w.nodes.get_mut(&node_id(1)).unwrap().stalled = false;
    let done = w.run_until(10 * CALM_TIMEOUTS * TIMEOUT_MS, |w| w.master_of(1, 2) == 1);
    assert!(done.is_some_and(|ms| ms >= 2 * CALM_TIMEOUTS * TIMEOUT_MS - 1000), "{done:?}");
}
