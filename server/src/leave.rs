//! A node that stops goes without costing its clients a write: a master hands over to its freshest replica first and stays until
//! its clients have gone there; a replica sees to it that its master does not wait for it.

use holdfast_replication::{FailoverMode, Handle};

use crate::node::Node;
use crate::platform;

/// Between two looks.
const LOOK_MS: u64 = 10;
/// A handover that was not begun is asked for anew after this time.
const ASK_AGAIN_MS: u64 = 1000;
/// The heir hangs up when it has become master, which this node may hear a moment later. One that is away for longer has stopped.
const HEIR_AWAY_MS_MAX: u64 = 1000;
/// No client was sent away for so long: they all know.
const QUIET_MS: u64 = 300;
/// Clients are waited for at most so long: some never learn.
const LINGER_MS_MAX: u64 = 3000;
/// A metadata group without a leader is not waited for longer than this.
const LEAVE_SET_MS_MAX: u64 = 1000;

/// Hands a master's slots over to a replica; nothing where there is none, or nothing to hand over.
pub async fn hand_over(node: &Node) {
    let Some(cluster) = node.cluster.as_ref().filter(|cluster| serves_slots(cluster)) else { return };
    let began_ms = now_ms();
    let longest_ms = node.config.snapshot().shutdown_timeout * 1000;
    let sent_away = node.stats.redirections.get();
    match tokio::time::timeout(std::time::Duration::from_millis(longest_ms), replaced(cluster)).await {
        Ok(Ok(())) => {
            let took_ms = now_ms() - began_ms;
            tracing::info!(took_ms, "handed over before the stop");
            linger(node, sent_away).await;
        }
        Ok(Err(why)) => tracing::warn!(why, "this master stops without handing over"),
        Err(_) => {
            tracing::warn!(waited_ms = longest_ms, "this master stops without handing over: it took too long")
        }
    }
}

fn serves_slots(cluster: &Handle) -> bool {
    cluster.view().myself().is_some_and(|me| me.replica_of.is_none() && !me.slots.is_empty())
}

/// Ends when another node is master; says why when that will not be.
async fn replaced(cluster: &Handle) -> Result<(), String> {
    let (mut asked_ms, mut connected_ms) = (None, now_ms());
    while !cluster.is_replica() {
        if cluster.replicas().iter().any(|replica| replica.online) {
            connected_ms = now_ms();
        } else if asked_ms.is_none() || now_ms() - connected_ms >= HEIR_AWAY_MS_MAX {
            return Err("no replica is connected".into());
        }
        if asked_ms.is_none_or(|asked_ms| now_ms() - asked_ms >= ASK_AGAIN_MS) {
            let first = asked_ms.is_none();
            asked_ms = Some(now_ms());
            // Later it may be refused because it is under way.
            if let Err(refusal) = cluster.failover(FailoverMode::Away).await
                && first
            {
                return Err(refusal);
            }
        }
        platform::sleep_ms(LOOK_MS).await;
    }
    Ok(())
}

/// Sends clients on until none comes any more.
async fn linger(node: &Node, mut sent_away: u64) {
    let began_ms = now_ms();
    let mut quiet_since_ms = began_ms;
    while now_ms() - quiet_since_ms < QUIET_MS && now_ms() - began_ms < LINGER_MS_MAX {
        platform::sleep_ms(LOOK_MS).await;
        let now_sent_away = node.stats.redirections.get();
        if now_sent_away != sent_away {
            (sent_away, quiet_since_ms) = (now_sent_away, now_ms());
        }
    }
}

/// The last thing a node does while its bus runs: nobody waits for what it will not acknowledge.
pub async fn leave_in_sync_set(node: &Node) {
    let Some(cluster) = &node.cluster else { return };
    let leave =
        tokio::time::timeout(std::time::Duration::from_millis(LEAVE_SET_MS_MAX), cluster.leave_in_sync_set());
    match leave.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::info!(why, "the in-sync set keeps this node until its master misses it"),
        Err(_) => {
            tracing::info!("the in-sync set keeps this node until its master misses it: nobody decides")
        }
    }
}

fn now_ms() -> u64 {
    platform::monotonic_us() / 1000
}
