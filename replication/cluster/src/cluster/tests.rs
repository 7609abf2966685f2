//! Single steps of a single core: what goes out when what comes in.

use std::boxed::Box;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use holdfast_words::{ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId};

use super::Cluster;
use crate::change::Change;
use crate::testing::{cluster, done, lone, node_id, record, shard_id};
use crate::*;

const TIMEOUT_MS: u64 = 1000;

/// Node `n` with `registry`, ticked at 1000.
fn core(n: u8, registry: &Registry) -> Cluster {
    let (address, zone) = (record(n, "a").address, record(n, "a").zone);
    let myself = Myself { address, zone, incarnation: Incarnation(1), no_failover: false };
    let settings = Settings { node_timeout_ms: TIMEOUT_MS, ..Settings::default() };
    let mut core = Cluster::new(node_id(n), myself, settings, Arc::new(registry.clone()), 1);
    core.step(1000, Input::Tick);
    core
}

fn says(from: u8, incarnation: u64, registry: &Registry, body: Body) -> Input {
    let header = Header {
        cluster: registry.cluster,
        sender: node_id(from),
        incarnation: Incarnation(incarnation),
        registry_version: registry.version,
        ..Header::default()
    };
    Input::Received { message: Box::new(Message { header, body }), from_ip: None }
}

fn sent_to(out: &Outputs, kind: MessageKind) -> Vec<NodeId> {
    let to = |send: &Send| match &send.to {
        Destination::Node(id) if send.message.body.kind() == kind => Some(*id),
        _ => None,
    };
    out.send.iter().filter_map(to).collect()
}

fn rumour(n: u8, suspected: bool) -> Rumour {
    Rumour { node: node_id(n), idle_ms: 9000, suspected }
}

#[test]
fn a_ping_is_answered_to_members_of_the_cluster_only() {
    let registry = cluster(3, 1);
    let mut c = core(1, &registry);
    let ping = || Body::Ping(Vec::new());
    assert_eq!(sent_to(&c.step(1001, says(2, 1, &registry, ping())), MessageKind::Pong), [node_id(2)]);
    assert!(c.step(1001, says(77, 1, &registry, ping())).send.is_empty(), "a stranger");
    let other = Registry { cluster: ClusterId([9; 20]), ..registry.clone() };
    assert!(c.step(1001, says(2, 1, &other, ping())).send.is_empty(), "another cluster");
}

#[test]
fn an_earlier_start_of_a_node_is_not_heard() {
    let mut registry = cluster(3, 1);
    let update = Change::UpdateNode {
        node: node_id(2),
        address: record(2, "a").address,
        zone: record(2, "a").zone,
        incarnation: Incarnation(3),
        no_failover: false,
    };
    done(&mut registry, update);
    let mut c = core(1, &registry);
    let ping = |incarnation| says(2, incarnation, &registry, Body::Ping(Vec::new()));
    assert!(c.step(1001, ping(2)).send.is_empty(), "older than recorded");
    assert_eq!(c.step(1002, ping(5)).send.len(), 1, "a newer one that is not recorded yet");
    assert!(c.step(1003, ping(4)).send.is_empty(), "older than heard");
}

#[test]
fn a_voter_tells_the_others_at_once_whom_it_suspects() {
    let registry = cluster(3, 1);
    let mut c = core(1, &registry);
    for now_ms in [1500, 1900] {
        c.step(now_ms, Input::Tick);
        for n in [2, 3, 4, 5] {
            c.step(now_ms, says(n, 1, &registry, Body::Pong(Vec::new())));
        }
    }
    c.step(2000, Input::Tick);
    let out = c.step(2001, Input::Tick);
    assert_eq!(out.events, [Event::Suspected(node_id(6))]);
    let told = out.send.iter().filter(|send| {
        matches!(&send.message.body, Body::Ping(told) if told.iter().any(|r| r.node == node_id(6) && r.suspected))
    });
    let told: Vec<_> = told.map(|send| send.to.clone()).collect();
    assert_eq!(told, [2, 3, 4, 5].map(|n| Destination::Node(node_id(n))));
}

/// Node 1, voter, metadata leader if `leads`, suspects node 2 since 2001.
fn suspecting_2(registry: &Registry, leads: bool) -> Cluster {
    let mut c = core(1, registry);
    c.step(1001, Input::Leader(leads.then_some(node_id(1))));
    for now_ms in [1500, 1900, 2001] {
        c.step(now_ms, Input::Tick);
        for n in [3, 4, 5, 6] {
            let Input::Received { mut message, from_ip } = says(n, 1, registry, Body::Pong(Vec::new()))
            else {
                unreachable!()
            };
            message.header.grants = Some(c.token_base.wrapping_add(now_ms));
            c.step(now_ms, Input::Received { message, from_ip });
        }
    }
    c
}

#[test]
fn the_last_report_that_makes_a_majority_is_broadcast_and_acted_on_in_the_same_step() {
    let registry = cluster(3, 1);
    for leads in [false, true] {
        let mut c = suspecting_2(&registry, leads);
        let out = c.step(2002, says(3, 1, &registry, Body::Ping([rumour(2, true)].into())));
        assert_eq!(out.events, []);
        let out = c.step(2003, says(4, 1, &registry, Body::Ping([rumour(2, true)].into())));
        assert!(out.events.contains(&Event::Failed { node: node_id(2), by: None }));
        assert_eq!(sent_to(&out, MessageKind::Fail), [2, 3, 4, 5, 6].map(node_id), "all are told");
        let shard = shard_id(2);
        let expected = registry.shards[&shard].seen();
        let begin = Change::BeginElection { shard, expected, candidate: None };
        assert_eq!(out.propose, if leads { Vec::from([begin]) } else { Vec::new() }, "only the leader acts");
        assert_eq!(out.view.unwrap().routes.down, Some(Down::SlotFailed));
    }
}

#[test]
fn a_welcome_nobody_asked_for_is_not_followed() {
    let mine = lone(9, "a");
    let theirs = cluster(3, 1);
    let mut c = core(9, &mine);
    let welcome = |token| says(2, 1, &theirs, Body::Welcome { token, seeds: Vec::new() });
    let joins = |out: Outputs| out.events.iter().any(|e| matches!(e, Event::Join { .. }));
    assert!(!joins(c.step(1001, welcome(0))));
    let out = c.step(1002, Input::Meet(Target { ip: "127.0.0.1".to_string(), bus_port: 17002 }));
    let Body::Meet(card) = &out.send[0].message.body else { panic!("{out:?}") };
    assert!(card.may_join);
    assert!(!joins(c.step(1003, welcome(card.token ^ 1))), "the answer to another question");
    c.step(1004, Input::HoldsKeys(true));
    assert!(!joins(c.step(1005, welcome(card.token))), "it has got keys meanwhile");
    c.step(1006, Input::HoldsKeys(false));
    assert!(joins(c.step(1007, welcome(card.token))));
    assert!(!joins(c.step(1008, welcome(card.token))), "once");
}

#[test]
fn an_address_a_newcomer_does_not_know_is_the_one_it_came_from() {
    let registry = cluster(3, 1);
    let mut c = core(1, &registry);
    let mut node = record(9, "");
    node.address.ip.clear();
    let card = JoinCard { node, epoch: Epoch(9), claims: Vec::new(), may_join: true, token: 5 };
    let Input::Received { message, .. } = says(9, 1, &lone(9, "a"), Body::Meet(card)) else { unreachable!() };
    let out = c.step(1001, Input::Received { message, from_ip: Some("10.1.2.3".to_string()) });
    let [Change::AddNode { node, .. }] = out.propose.as_slice() else { panic!("{out:?}") };
    assert_eq!((node.address.ip.as_str(), node.zone.0.as_str()), ("10.1.2.3", "10.1.2.3"));
}

#[test]
fn positions_under_a_new_fence_are_told_to_the_leader_and_the_voters_at_once() {
    let mut registry = cluster(3, 2); // Nine nodes, voters 1 to 5; 4 and 7 replicate 1.
    let mut c = core(7, &registry);
    c.step(1001, Input::Leader(Some(node_id(1))));
    let (shard, expected) = (shard_id(1), registry.shards[&shard_id(1)].seen());
    let Outcome::Epoch(epoch) =
        done(&mut registry, Change::BeginElection { shard, expected, candidate: None })
    else {
        panic!()
    };
    let out = c.step(1002, Input::Registry(Arc::new(registry.clone())));
    assert!(out.events.contains(&Event::Fence { shard, epoch }));
    assert!(c.step(1003, Input::Registry(Arc::new(registry))).events.is_empty(), "told once");
    let at = |fence| Positions {
        shard,
        fence,
        written: LogPoint { epoch: Epoch(0), lsn: Lsn(7) },
        whole: true,
        trusted: true,
        ..Positions::default()
    };
    assert!(c.step(1004, Input::Positions(at(Epoch(0)))).send.is_empty(), "not fenced yet");
    let out = c.step(1005, Input::Positions(at(epoch)));
    assert_eq!(sent_to(&out, MessageKind::Ping), [1, 2, 3, 4, 5].map(node_id));
    assert!(out.send.iter().all(|send| send.message.header.positions == Some(at(epoch))));
    assert!(c.step(1006, Input::Positions(at(epoch))).send.is_empty(), "told once");
}

#[test]
fn a_node_has_the_registry_follow_its_address_and_start() {
    let registry = cluster(3, 1);
    let mut c = core(1, &registry);
    assert!(c.step(2100, Input::Tick).propose.is_empty(), "all as recorded");
    let mut address = record(1, "a").address;
    address.port = 9999;
    let zone = record(1, "a").zone;
    let myself = Myself {
        address: address.clone(),
        zone: zone.clone(),
        incarnation: Incarnation(4),
        no_failover: true,
    };
    c.step(2101, Input::Myself(myself));
    let update = Change::UpdateNode {
        node: node_id(1),
        address,
        zone,
        incarnation: Incarnation(4),
        no_failover: true,
    };
    assert_eq!(c.step(2200, Input::Tick).propose, core::slice::from_ref(&update));
    assert!(c.step(2300, Input::Tick).propose.is_empty(), "under way");
    assert_eq!(c.step(3300, Input::Tick).propose, [update], "lost, it seems");
}

#[test]
fn an_older_registry_is_ignored() {
    let old = cluster(3, 1);
    let mut new = old.clone();
    done(&mut new, Change::ForgetNode { node: node_id(6), by: node_id(1) });
    let mut c = core(1, &old);
    c.step(1001, Input::Registry(Arc::new(new)));
    assert_eq!(c.view().nodes.len(), 5);
    assert!(c.step(1002, Input::Registry(Arc::new(old))).events.is_empty());
    assert_eq!(c.view().nodes.len(), 5);
}

#[test]
fn snapshots_come_when_something_changed_and_once_a_second() {
    let registry = cluster(3, 1);
    let mut c = core(1, &registry);
    assert!(c.step(1100, Input::Tick).view.is_none());
    assert!(c.step(1500, Input::Link { node: node_id(2), connected: true }).view.is_none());
    let view = c.step(2000, Input::Tick).view.expect("times have moved on");
    assert!(view.node(node_id(2)).unwrap().liveness.connected);
}
