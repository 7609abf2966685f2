//! Suspicion, reports, failure and recovery, rule by rule.

use std::vec::Vec;

use holdfast_words::NodeId;

use super::*;
use crate::change::Change;
use crate::gossip::on_rumours;
use crate::message::{Header, Rumour};
use crate::testing::{cluster, done, node_id, shard_id};

const TIMEOUT_MS: u64 = 1000;

/// Node 6 (no voter) or another looks at a cluster of three masters with a replica each; voters are 1 to 5.
fn watch(registry: &Registry, me: u8, now_ms: u64) -> Watch<'_> {
    Watch { me: node_id(me), registry, now_ms, timeout_ms: TIMEOUT_MS }
}

fn table(registry: &Registry, me: u8) -> NodeTable {
    let mut table = NodeTable::default();
    table.follow(registry, node_id(me), 0);
    table
}

fn hear(table: &mut NodeTable, from: u8, now_ms: u64) {
    table.on_heard(&Header { sender: node_id(from), ..Header::default() }, now_ms);
}

/// A table in which node `suspect` was suspected by `me` at 5000.
fn suspected(registry: &Registry, me: u8, suspect: u8) -> NodeTable {
    let mut table = table(registry, me);
    table.on_ping_sent(node_id(suspect), 3900);
    assert_eq!(watch(registry, me, 5000).suspect(&mut table), [node_id(suspect)]);
    table
}

fn report(registry: &Registry, table: &mut NodeTable, by: &[u8], on: u8, now_ms: u64) {
    for reporter in by {
        let rumour = Rumour { node: node_id(on), idle_ms: 5000, suspected: true };
        on_rumours(&watch(registry, 6, now_ms), table, node_id(*reporter), &[rumour]);
    }
}

#[test]
fn only_an_unanswered_ping_and_silence_for_the_whole_timeout_make_a_suspect() {
    let registry = cluster(3, 1);
    let mut t = table(&registry, 1);
    let suspects = |t: &mut NodeTable, now_ms| watch(&registry, 1, now_ms).suspect(t);
    assert_eq!(suspects(&mut t, 90_000), [], "nobody was asked");
    t.on_ping_sent(node_id(2), 100_000);
    t.on_ping_sent(node_id(2), 100_900); // Repeated: counts from the first.
    assert_eq!(suspects(&mut t, 101_000), []);
    hear(&mut t, 2, 100_500);
    assert_eq!(suspects(&mut t, 101_400), [], "it said something, if not the answer");
    assert_eq!(suspects(&mut t, 101_501), [node_id(2)]);
    assert_eq!(suspects(&mut t, 101_502), [], "news only once");
    assert!(watch(&registry, 1, 101_600).on_pong(&mut t, node_id(2)));
    assert_eq!(t.health(node_id(2)), Health::Fine);
}

#[test]
fn a_majority_of_voters_fails_a_suspect_and_a_minority_does_not() {
    let registry = cluster(3, 1);
    // Node 6 has no vote: it needs three of the five voters. Voter 1 needs two others.
    for (me, reporters, fails) in
        [(6, &[1, 3][..], false), (6, &[1, 3, 4], true), (1, &[3], false), (1, &[3, 4], true)]
    {
        let mut t = suspected(&registry, me, 2);
        report(&registry, &mut t, reporters, 2, 5000);
        let failed = watch(&registry, me, 5000).fail(&mut t);
        assert_eq!(failed == [node_id(2)], fails, "{me} {reporters:?}");
    }
}

#[test]
fn without_an_own_suspicion_reports_fail_nobody() {
    let registry = cluster(3, 1);
    let mut t = table(&registry, 6);
    report(&registry, &mut t, &[1, 3, 4, 5], 2, 5000);
    assert_eq!(watch(&registry, 6, 5000).fail(&mut t), []);
}

#[test]
fn words_of_nodes_without_a_vote_and_of_the_suspect_do_not_count() {
    let registry = cluster(3, 2); // Nine nodes, voters 1 to 5.
    let mut t = suspected(&registry, 6, 2);
    report(&registry, &mut t, &[7, 8, 9, 2, 1, 3], 2, 5000);
    assert_eq!(watch(&registry, 6, 5000).count_reports(t.get(node_id(2)).unwrap()), 2);
    assert_eq!(watch(&registry, 6, 5000).fail(&mut t), []);
}

#[test]
fn reports_expire_after_two_timeouts() {
    let registry = cluster(3, 1);
    let mut t = suspected(&registry, 6, 2);
    report(&registry, &mut t, &[1, 3], 2, 5000);
    report(&registry, &mut t, &[4], 2, 7001);
    assert_eq!(watch(&registry, 6, 7001).fail(&mut t), [], "two of the three are stale");
    assert_eq!(t.get(node_id(2)).unwrap().reports.len(), 1);
    report(&registry, &mut t, &[1, 3], 2, 7001);
    assert_eq!(watch(&registry, 6, 7001).fail(&mut t), [node_id(2)]);
}

#[test]
fn a_report_is_taken_back_by_its_reporter() {
    let registry = cluster(3, 1);
    let mut t = suspected(&registry, 6, 2);
    report(&registry, &mut t, &[1, 3, 4], 2, 5000);
    watch(&registry, 6, 5001).on_report(t.get_mut(node_id(2)).unwrap(), node_id(4), false);
    assert_eq!(watch(&registry, 6, 5001).fail(&mut t), []);
}

#[test]
fn a_voter_that_lost_its_vote_counts_no_more() {
    let mut registry = cluster(3, 1);
    let mut t = suspected(&registry, 6, 2);
    report(&registry, &mut t, &[3, 4, 5], 2, 5000);
    let from = registry.voters.clone();
    let to = [1, 2, 3].map(node_id).into();
    done(&mut registry, Change::SetVoters { from, to });
    assert_eq!(watch(&registry, 6, 5000).fail(&mut t), []);
}

/// Fails node `n` at 5000 in node 6's table; it answers at 5100.
fn failed_and_back(registry: &Registry, n: u8) -> NodeTable {
    let mut t = suspected(registry, 6, n);
    assert!(watch(registry, 6, 5000).on_fail_message(&mut t, node_id(n)));
    assert!(!watch(registry, 6, 5000).on_fail_message(&mut t, node_id(n)), "news only once");
    assert_eq!(watch(registry, 6, 5050).recover(&mut t), [], "it has not answered");
    watch(registry, 6, 5100).on_pong(&mut t, node_id(n));
    t
}

fn recovered(registry: &Registry, table: &mut NodeTable, now_ms: u64) -> Vec<NodeId> {
    watch(registry, 6, now_ms).recover(table)
}

#[test]
fn a_replica_that_answers_again_is_believed_at_once() {
    let registry = cluster(3, 1);
    let mut t = failed_and_back(&registry, 4);
    assert_eq!(recovered(&registry, &mut t, 5100), [node_id(4)]);
}

#[test]
fn a_master_with_slots_and_heirs_is_believed_after_two_timeouts_or_when_it_is_demoted() {
    let mut registry = cluster(3, 1);
    let mut t = failed_and_back(&registry, 1);
    assert_eq!(recovered(&registry, &mut t, 7000), []);
    assert_eq!(recovered(&registry, &mut t.clone(), 7001), [node_id(1)]);
    let shard = shard_id(1);
    let expected = registry.shards[&shard].seen();
    done(&mut registry, Change::BeginElection { shard, expected, candidate: None });
    assert_eq!(recovered(&registry, &mut t.clone(), 9000), [], "its successor is being chosen");
    let expected = registry.shards[&shard].seen();
    done(&mut registry, Change::Promote { shard, expected, master: node_id(4) });
    assert_eq!(recovered(&registry, &mut t, 5200), [node_id(1)]);
}

#[test]
fn a_master_nobody_can_replace_is_believed_at_once() {
    let registry = cluster(3, 1);
    let mut t = failed_and_back(&registry, 1);
    t.on_ping_sent(node_id(4), 3900);
    let late = watch(&registry, 6, 5100);
    late.suspect(&mut t);
    late.on_fail_message(&mut t, node_id(4));
    assert_eq!(recovered(&registry, &mut t, 5101), [node_id(1)]);
}

#[test]
fn own_standstill_is_nobodys_silence() {
    let registry = cluster(3, 1);
    let mut t = table(&registry, 6);
    t.on_ping_sent(node_id(2), 3900);
    watch(&registry, 6, 9000).forgive_own_pause(&mut t);
    assert_eq!(watch(&registry, 6, 9000).suspect(&mut t), []);
    assert_eq!(watch(&registry, 6, 10_001).suspect(&mut t), [node_id(2)]);
}

#[test]
fn a_majority_is_heard_within_the_timeout_or_not_at_all() {
    let registry = cluster(3, 1);
    let mut t = table(&registry, 1);
    let hears = |t: &NodeTable, now_ms| watch(&registry, 1, now_ms).hears_majority(t);
    let answer = |t: &mut NodeTable, n, sent_ms, now_ms| {
        t.on_ping_sent(node_id(n), sent_ms);
        watch(&registry, 1, now_ms).on_pong(t, node_id(n));
    };
    assert!(!hears(&t, 100));
    answer(&mut t, 2, 5000, 5100);
    answer(&mut t, 6, 5000, 5100); // No voter.
    hear(&mut t, 4, 5100); // It speaks, but does it hear?
    watch(&registry, 1, 5100).on_pong(&mut t, node_id(5)); // It was not asked.
    assert!(!hears(&t, 5100));
    answer(&mut t, 3, 5400, 5800);
    assert!(hears(&t, 6000));
    assert!(!hears(&t, 6001), "counted from when it was asked");
}
