//! THE WALK (design section 3): a worker reads its ready connections, runs their requests, writes the log once for all of
//! them and releases their replies. One single-threaded runtime per worker; a connection never changes workers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use crate::connection;
use crate::node::{Accepted, Node};
use crate::platform;
use crate::reply_gate::ReplyGate;
use crate::run::RunScratch;

/// What the connections of one worker share.
pub struct Worker {
    /// The node.
    pub node: Arc<Node>,
    /// Where their replies wait.
    pub gate: ReplyGate,
    /// Memory lent to one command after the other.
    pub scratch: RefCell<RunScratch>,
    /// Where one connection after the other reads to.
    pub input: RefCell<Vec<u8>>,
}

/// Runs a worker until the node shuts down: `accepted` is closed then.
pub async fn run(node: Arc<Node>, mut accepted: UnboundedReceiver<Accepted>) {
    let scratch = RefCell::new(RunScratch::new(&node));
    let worker = Rc::new(Worker { node, gate: ReplyGate::default(), scratch, input: RefCell::default() });
    let local = LocalSet::new();
    local
        .run_until(async {
            let gate = tokio::task::spawn_local(release_replies(worker.clone()));
            while let Some(Accepted { stream, info }) = accepted.recv().await {
                match platform::adopt(stream) {
                    Ok(stream) => {
                        tokio::task::spawn_local(connection::serve(worker.clone(), stream, info));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "an accepted connection could not be registered");
                        worker.node.clients.disconnect(info.id);
                    }
                }
            }
            gate.abort();
        })
        .await;
}

async fn release_replies(worker: Rc<Worker>) {
    let wake = worker.gate.waker();
    let store = worker.node.store.clone();
    worker.gate.follow(store.log());
    store.log().positions().subscribe({
        let wake = wake.clone();
        move || wake.notify_one()
    });
    loop {
        wake.notified().await;
        let sent = worker.gate.flush(store.log(), worker.node.ack_point());
        worker.node.stats.output_bytes.add(sent as u64);
        if store.log().is_poisoned() {
            worker.gate.break_off_held();
        }
    }
}
