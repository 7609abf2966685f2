//! Leaders that die, nodes that come back, lose their logs, are cut off, or belong elsewhere.

use std::time::Duration;

use super::super::log_store::Group;
use super::super::network::{AskError, Askers};
use super::super::progress::Progress;
use super::*;
use crate::wire::metadata::{Answer, Member, Question};

fn term(node: &Node) -> u64 {
    node.group.run().unwrap().raft.metrics().borrow().current_term
}

fn applied(node: &Node) -> u64 {
    node.group.run().unwrap().raft.metrics().borrow().last_applied.map_or(0, |last| last.index)
}

fn leads(node: &Node) -> bool {
    node.decided().leader == Some(node.id())
}

/// The leader and the others.
fn split(mut nodes: Vec<Node>) -> (Node, Vec<Node>) {
    let leader = nodes.iter().position(leads).unwrap();
    (nodes.remove(leader), nodes)
}

fn all(nodes: &[Node]) -> Vec<&Node> {
    nodes.iter().collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_dead_leader_is_replaced_and_catches_up_quietly_when_it_comes_back() {
    let (dying, others) = split(group_of(3).await);
    let mut home = Some(dying.die().await);
    others[0].changes().await;
    others[1].changes().await;
    agree(&all(&others)).await;
    for _ in 0..3 {
        let (before, leader) = (term(&others[0]), others[0].decided().leader);
        let back = home.take().unwrap().open().await;
        agree(&[&back, &others[0], &others[1]]).await;
        platform::sleep_ms(NODE_TIMEOUT_MS).await;
        back.changes().await;
        if (term(&others[0]), others[0].decided().leader) == (before, leader) {
            return;
        }
        // A busy machine unseats leaders, too.
        home = Some(back.die().await);
        others[0].changes().await;
    }
    panic!("it unseated the leader");
}

#[tokio::test(flavor = "current_thread")]
async fn all_restart_and_hold_the_same_registry() {
    let nodes = group_of(3).await;
    nodes[1].bump().await.unwrap();
    agree(&all(&nodes)).await;
    let before = nodes[0].registry();
    let mut homes = Vec::new();
    for node in nodes {
        homes.push(node.die().await);
    }
    let mut nodes = Vec::new();
    for home in homes {
        nodes.push(home.open().await);
    }
    for node in &nodes {
        assert_eq!(node.group.cluster(), Some(CLUSTER));
        assert_eq!(node.registry(), before, "from its own disk, before anybody leads");
    }
    nodes[2].changes().await;
    agree(&all(&nodes)).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_minority_commits_nothing_and_says_so() {
    let (leader, mut others) = split(group_of(3).await);
    let mut homes = Vec::new();
    while let Some(node) = others.pop() {
        homes.push(node.die().await);
    }
    let before = leader.registry();
    let begun_ms = platform::now_ms();
    let refused = leader.bump().await.unwrap_err();
    assert!(refused.starts_with("CLUSTERDOWN "), "{refused}");
    assert!(platform::now_ms() - begun_ms < 3 * NODE_TIMEOUT_MS, "an error, not for ever");
    assert_eq!(leader.registry(), before);
    let home = leader.die().await;
    let follower = homes.pop().unwrap().open().await;
    assert_eq!(follower.bump().await, Err(super::super::proposals::NO_LEADER.to_owned()));
    let back = home.open().await;
    follower.changes().await;
    agree(&[&follower, &back]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn who_joins_late_gets_a_snapshot_and_keeps_it() {
    let settings = Settings { snapshot_after: 20, keep: 5, ..Settings::new(NODE_TIMEOUT_MS) };
    let (one, two) = (fresh_with(1, settings).await, fresh_with(2, settings).await);
    one.found().await;
    for _ in 0..100 {
        one.bump().await.unwrap();
    }
    let purged = |node: &Node| node.group.run().unwrap().raft.metrics().borrow().purged;
    until("the founder has given entries up", async || purged(&one).is_some_and(|upto| upto.index > 50))
        .await;
    two.join(&one).await;
    agree(&[&one, &two]).await;
    let has_none = two.group.run().unwrap().store.snapshot().is_none();
    assert!(!has_none, "the entries are gone at the founder, so it came as a snapshot");
    one.bump().await.unwrap();
    agree(&[&one, &two]).await;
    let before = one.registry();
    let (one, two) = (one.die().await, two.die().await);
    let (one, two) = (one.open().await, two.open().await);
    assert_eq!((one.registry(), two.registry()), (before.clone(), before));
    one.changes().await;
    agree(&[&one, &two]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn another_clusters_questions_are_refused() {
    let one = fresh(1).await;
    let asked = |cluster| {
        let book = AddressBook::default();
        book.learn([&one.record()]);
        let (pause, progress) = (Duration::ZERO, Progress::default());
        let askers = Askers { identity: identity(2), book, cluster, pause, progress };
        async move { askers.asker(&Member::new(id(1))).ask(Question::MayStand, Duration::from_secs(5)).await }
    };
    let refused = asked(CLUSTER).await.unwrap_err();
    assert!(matches!(&refused, AskError::Refused(why) if why.contains("another cluster")), "{refused}");
    one.found().await;
    let refused = asked(ClusterId([8; 20])).await.unwrap_err();
    assert!(matches!(&refused, AskError::Refused(why) if why.contains("another cluster")), "{refused}");
    assert!(matches!(asked(CLUSTER).await, Ok(Answer::MayStand(_))));
}

#[tokio::test(flavor = "current_thread")]
async fn joining_forgets_the_former_group_durably() {
    let one = fresh(1).await;
    one.found().await;
    let other = ClusterId([8; 20]);
    one.group.join(identity(1), other).await.unwrap();
    let forgotten = |node: &Node| {
        assert_eq!(node.group.cluster(), Some(other));
        assert_eq!(node.decided(), Decided::default());
        assert_eq!(node.group.run().unwrap().raft.metrics().borrow().last_log_index, None);
    };
    forgotten(&one);
    let one = one.die().await.open().await;
    forgotten(&one);
    assert_eq!(one.bump().await, Err(super::super::proposals::NO_LEADER.to_owned()));
    one.found().await;
    one.bump().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_that_left_the_registry_leaves_raft_and_can_come_back_with_nothing() {
    let (leader, others) = split(group_of(3).await);
    let gone = others[0].id();
    leader.group.propose(Change::ForgetNode { node: gone, by: leader.id() }).await.unwrap();
    until("it hears of it", async || !others[0].registry().nodes.contains_key(&gone)).await;
    until("it is out", async || members(&leader) == 2 && votes(&leader) == 2).await;
    others[0].join(&leader).await;
    until("it is in", async || members(&leader) == 3).await;
    agree(&[&leader, &others[0], &others[1]]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_that_was_away_when_it_was_forgotten_is_told_when_it_is_back() {
    let (leader, mut others) = split(group_of(3).await);
    let gone = others[0].id();
    let home = others.remove(0).die().await;
    leader.group.propose(Change::ForgetNode { node: gone, by: leader.id() }).await.unwrap();
    until("the others heard of it", async || !others[0].registry().nodes.contains_key(&gone)).await;
    let back = home.open().await;
    until("it hears of it", async || back.registry().forgotten.contains(&gone)).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_voter_that_lost_its_log_is_let_in_anew_and_stops_nobody() {
    let (leader, others) = split(group_of(3).await);
    for _ in 0..5 {
        leader.bump().await.unwrap();
    }
    agree(&[&leader, &others[0], &others[1]]).await;
    let last = applied(&leader);
    others[0].group.join(identity(others[0].home.number), CLUSTER).await.unwrap();
    until("it has everything again", async || applied(&others[0]) > last).await;
    until("it votes again", async || votes(&leader) == 3 && members(&leader) == 3).await;
    leader.changes().await;
    agree(&[&leader, &others[0], &others[1]]).await;
    others[0].changes().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_voter_that_hears_nothing_does_not_unseat_a_leader_the_others_hear() {
    let (leader, mut others) = split(group_of(3).await);
    // Its own questions still arrive.
    others[0].serving.shutdown().await;
    let mut quiet = false;
    for _ in 0..4 {
        let before = (term(&others[1]), others[1].decided().leader);
        platform::sleep_ms(2 * NODE_TIMEOUT_MS).await;
        quiet |= (term(&others[1]), others[1].decided().leader) == before;
        if quiet {
            break;
        }
    }
    assert!(quiet, "elections all the time");
    others[1].changes().await;
    leader.changes().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_whose_disk_fails_stops_and_says_so() {
    let one = fresh(1).await;
    one.found().await;
    // As good as a disk that fails: whatever Raft writes from now on is refused.
    let mut store = one.group.run().unwrap().store.clone();
    store.begin(Group { cluster: CLUSTER, founder: true }).await.unwrap();
    let before = one.registry();
    let first = one.bump().await.unwrap_err();
    assert!(first.starts_with("CLUSTERDOWN The outcome is not known"), "{first}");
    until("nobody leads", async || one.decided().leader.is_none()).await;
    let second = one.bump().await.unwrap_err();
    assert!(second.starts_with("CLUSTERDOWN The metadata group has stopped on this node"), "{second}");
    assert_eq!(one.registry(), before);
}
