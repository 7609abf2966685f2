//! A group that lost its majority, and what can be made of the rest. Part of `group_tests`.

use std::path::PathBuf;

use holdfast_cluster::recover::recover;

use super::super::offline::OfflineGroup;
use super::*;

const NEW: ClusterId = ClusterId([8; 20]);

/// Runs on the log of a node that is not running, on a thread of its own as the tool does.
async fn offline<T: Send + 'static>(
    home: &Home,
    work: impl FnOnce(&mut OfflineGroup) -> T + Send + 'static,
) -> T {
    let directory: PathBuf = home.directory.path().to_owned();
    let opened = move || work(&mut OfflineGroup::open(&directory, BootId::default()).unwrap());
    tokio::task::spawn_blocking(opened).await.unwrap()
}

async fn begin_with_the_first_two(home: &Home) -> Registry {
    offline(home, |group| {
        let known = group.known().registry.clone();
        let kept = voters([1, 2]);
        let registry = recover(&known, id(1), &kept, NEW).registry;
        group.begin_group(id(1), &registry).unwrap();
        registry
    })
    .await
}

#[tokio::test(flavor = "current_thread")]
async fn offline_a_log_shows_the_registry_and_stays_as_it_is() {
    let nodes = group_of(3).await;
    nodes[0].bump().await.unwrap();
    agree(&nodes.iter().collect::<Vec<_>>()).await;
    let before = nodes[1].registry();
    let mut nodes = nodes.into_iter();
    let (_one, two) = (nodes.next().unwrap(), nodes.next().unwrap());
    let home = two.die().await;
    let known = offline(&home, |group| group.known().clone()).await;
    assert_eq!(known.registry, *before);
    assert_eq!(known.group.map(|group| (group.cluster, group.founder)), Some((CLUSTER, false)));
    assert!(known.last.is_some() && known.written_ms > 1_600_000_000_000);
    assert_eq!(offline(&home, |group| group.known().registry.clone()).await, known.registry);
}

#[tokio::test(flavor = "current_thread")]
async fn the_survivors_of_five_are_a_group_again_and_the_lost_stay_out() {
    let nodes = group_of(5).await;
    agree(&nodes.iter().collect::<Vec<_>>()).await;
    let mut homes = Vec::new();
    for node in nodes {
        homes.push(node.die().await);
    }
    let lost = homes.split_off(2);
    let registry = begin_with_the_first_two(&homes[0]).await;
    offline(&homes[1], |group| group.join_group(NEW).unwrap()).await;

    let mut survivors = Vec::new();
    for home in homes {
        survivors.push(home.open().await);
    }
    agree(&[&survivors[0], &survivors[1]]).await;
    assert_eq!(survivors[1].registry().cluster, NEW);
    assert_eq!(survivors[0].registry().nodes, registry.nodes);
    survivors[1].changes().await;

    // All three of the lost come back: they are a majority of the old group, which is none of the new one's business.
    let mut returned = Vec::new();
    for home in lost {
        returned.push(home.open().await);
    }
    survivors[0].changes().await;
    platform::sleep_ms(2 * NODE_TIMEOUT_MS).await;
    agree(&[&survivors[0], &survivors[1]]).await;
    assert_eq!(members(&survivors[0]), 2);
    assert!(returned.iter().all(|node| node.registry().cluster == CLUSTER));
}

#[tokio::test(flavor = "current_thread")]
async fn a_new_group_survives_a_restart_and_a_second_disaster() {
    let nodes = group_of(3).await;
    let mut homes = Vec::new();
    for node in nodes {
        homes.push(node.die().await);
    }
    let home = homes.remove(0);
    begin_with_the_first_two(&home).await;
    let one = home.open().await;
    one.changes().await;
    let before = one.registry();
    let home = one.die().await;
    assert_eq!(offline(&home, |group| group.known().registry.clone()).await, *before);
    let again = offline(&home, |group| {
        let registry = recover(&group.known().registry, id(1), &voters([1]), ClusterId([9; 20])).registry;
        group.begin_group(id(1), &registry).unwrap();
        registry
    })
    .await;
    let one = home.open().await;
    assert_eq!(*one.registry(), again);
    one.changes().await;
}
