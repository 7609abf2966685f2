//! What the node does by itself: deletes keys whose time has come, samples memory and rates, closes idle clients, takes
//! checkpoints when the log has grown.

use std::sync::Arc;
use std::time::Duration;

use holdfast_storage::expiry;
use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::scrub::nobody;
use holdfast_storage::slots::Scratch;
use holdfast_words::SlotId;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::node::Node;
use crate::platform;

/// Between two looks for expired keys (Redis: 10 Hz).
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);
/// The share of a period that the search may take (Redis: 25 %).
const EXPIRY_BUDGET_US: u64 = 25_000;
/// Between two looks at `scrub-rate` while there is nothing to do.
const SCRUB_PERIOD: Duration = Duration::from_secs(1);
/// Between two passes of the scrub through everything.
const SCRUB_PAUSE: Duration = Duration::from_secs(10);
/// Keys deleted under one slot lock before others get it.
const EXPIRY_BATCH: usize = 32;

/// Deletes keys whose time has come, a bounded share of the time, all slots in turn. Runs on a thread of its own.
pub async fn expire_keys(node: Arc<Node>) {
    let mut scratch = Scratch::default();
    let mut next = 0;
    let mut due = Vec::new();
    loop {
        tokio::time::sleep(EXPIRY_PERIOD).await;
        if node.active_expiry() && node.store.slots().volatile_count() > 0 {
            next = expire_for_a_while(&node, &mut scratch, next, &mut due);
        }
    }
}

/// Goes through the slots from `first` on until all were seen or the budget is used up; returns where to go on.
fn expire_for_a_while(node: &Node, scratch: &mut Scratch, first: u16, due: &mut Vec<Box<[u8]>>) -> u16 {
    let deadline_us = platform::monotonic_us() + EXPIRY_BUDGET_US;
    let mut newest_lsn = None;
    let mut slot = first;
    for _ in SlotId::all() {
        let id = SlotId::new(slot).expect("slots wrap around below their count");
        slot = (slot + 1) % holdfast_words::SLOT_COUNT;
        loop {
            let now_ms = platform::wall_clock_ms();
            let is_due = node.store.slots().with(id, |slot| expiry::is_due(slot.keyspace(), now_ms));
            if !is_due {
                break;
            }
            let mut data = node.store.lock(&[id], now_ms, scratch);
            if !data.may_change() {
                return slot;
            }
            due.clear();
            data.take_expired(id, EXPIRY_BATCH, due);
            for key in due.iter() {
                data.mutate(&Mutation::Delete { key: (&**key).into(), reason: DeleteReason::Expired });
            }
            node.stats.expired_keys.add(due.len() as u64);
            match data.commit() {
                Ok(lsn) => newest_lsn = newest_lsn.max(Some(lsn)),
                // The log latched the error; everybody who writes is told.
                Err(_) => return slot,
            }
            if due.len() < EXPIRY_BATCH {
                break;
            }
        }
        if platform::monotonic_us() > deadline_us {
            break;
        }
    }
    if let Some(lsn) = newest_lsn
        && let Err(error) = node.store.log().write_up_to(lsn)
    {
        tracing::warn!(%error, "expired keys are deleted in memory; their records wait for the log");
    }
    slot
}

/// Once a second: memory, rates, idle clients, the checkpoint trigger.
pub async fn once_a_second(node: Arc<Node>) {
    let mut commands = node.stats.commands.get();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = node.stats.commands.get();
        let rate = now.saturating_sub(commands);
        commands = now;
        node.note_sample(node.store.slots().memory_bytes(), client_buffer_bytes(&node), rate);
        close_idle_clients(&node);
        if node.store.checkpoint_is_due() {
            node.checkpoint_in_background("checkpoint-log-size");
        }
    }
}

/// Looks through log and images for damage, at `scrub-rate`, again and again.
pub async fn scrub(node: Arc<Node>) {
    let mut rest = SCRUB_PERIOD;
    loop {
        tokio::time::sleep(rest).await;
        let rate = node.config.snapshot().scrub_rate;
        rest = SCRUB_PERIOD;
        if rate == 0 {
            continue;
        }
        let scrubbed = node.clone();
        // A tenth of a second's worth, so that a change of the rate is felt soon.
        let step = move || {
            let (store, max_bytes) = (&scrubbed.store, (rate / 10).max(1));
            match scrubbed.peers() {
                Some(peers) => peers.mending(|from| store.scrub(max_bytes, from)),
                None => store.scrub(max_bytes, &mut nobody),
            }
        };
        match platform::off_thread(step).await {
            Ok((bytes, pass_is_done)) => {
                let cost = Duration::from_millis(bytes.saturating_mul(1000) / rate);
                rest = if pass_is_done { cost + SCRUB_PAUSE } else { cost.max(Duration::from_millis(1)) };
            }
            Err(error) => tracing::error!(%error, "the scrub failed; it goes on"),
        }
    }
}

fn client_buffer_bytes(node: &Node) -> u64 {
    use std::sync::atomic::Ordering::Relaxed;
    let buffers = |client: &Arc<crate::clients::ClientInfo>| {
        client.query_buffer_bytes.load(Relaxed) + client.output_buffer_bytes.load(Relaxed)
    };
    node.clients.all().iter().map(|client| buffers(client) as u64).sum()
}

fn close_idle_clients(node: &Node) {
    let timeout_ms = node.config.snapshot().timeout * 1000;
    if timeout_ms == 0 {
        return;
    }
    let now_ms = platform::wall_clock_ms();
    for client in node.clients.all() {
        let idle_ms =
            now_ms.saturating_sub(client.last_command_at_ms.load(std::sync::atomic::Ordering::Relaxed));
        if idle_ms > timeout_ms {
            client.kill();
        }
    }
}

/// Takes the checkpoints that were asked for, one at a time; what was asked for meanwhile is one more.
pub async fn take_checkpoints(node: Arc<Node>, mut wanted: UnboundedReceiver<&'static str>) {
    while let Some(reason) = wanted.recv().await {
        while wanted.try_recv().is_ok() {}
        match node.checkpoint().await {
            Ok(_) => {}
            Err(error) if !node.store.is_whole() => tracing::info!(reason, %error, "no checkpoint now"),
            Err(error) => {
                tracing::error!(reason, %error, "the checkpoint failed; the log keeps everything, so nothing is lost");
            }
        }
    }
}
