//! Connections of a worker that each have one request wait here for each other, for no longer than it takes to read from those
//! that are ready: then the memory that their requests need is fetched together (see [`LookAhead`]), and all of them run.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

use holdfast_storage::look_ahead::LookAhead;
use holdfast_storage::slots::Slots;
use tokio::sync::Notify;

/// One worker's.
#[derive(Default)]
pub struct Gathering {
    ahead: RefCell<LookAhead>,
    waiting: RefCell<Vec<Waker>>,
    /// Rises with each fetch.
    round: Cell<u64>,
    begun: Notify,
}

impl Gathering {
    /// The request of a connection needs this key. Ready once its memory is on the way.
    pub fn join<'g>(&'g self, key: &[u8], slots: &Slots) -> impl Future<Output = ()> + use<'g> {
        let round = self.round.get();
        let is_full = {
            let mut ahead = self.ahead.borrow_mut();
            ahead.add(key);
            ahead.is_full()
        };
        if is_full {
            self.fetch(slots);
        }
        poll_fn(move |context| {
            if self.round.get() != round {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                // Its turn comes behind all tasks that are ready now.
                self.begun.notify_one();
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
    }

    /// Has everything fetched that was asked for, and lets everybody go on.
    fn fetch(&self, slots: &Slots) {
        self.ahead.borrow_mut().fetch(slots);
        self.round.set(self.round.get() + 1);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Lets those go on who are too few for a batch; runs as long as the worker.
    pub async fn run(&self, slots: &Slots) {
        loop {
            self.begun.notified().await;
            self.fetch(slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn nobody_waits_for_a_batch_that_does_not_fill() {
        let (gathering, slots) = (Rc::new(Gathering::default()), Rc::new(Slots::default()));
        let local = LocalSet::new();
        let (own, of_all) = (gathering.clone(), slots.clone());
        local.spawn_local(async move { own.run(&of_all).await });
        for number in [1, 2, 40, 3] {
            let clients = (0..number).map(|client: u32| {
                let (gathering, slots) = (gathering.clone(), slots.clone());
                local.spawn_local(async move { gathering.join(&client.to_le_bytes(), &slots).await })
            });
            let clients: Vec<_> = clients.collect();
            local
                .run_until(async {
                    for client in clients {
                        client.await.unwrap();
                    }
                })
                .await;
            assert!(gathering.waiting.borrow().is_empty());
        }
    }

    #[test]
    fn a_full_batch_waits_for_nobody() {
        let (gathering, slots) = (Gathering::default(), Slots::default());
        let mut context = std::task::Context::from_waker(Waker::noop());
        let mut first = pin!(gathering.join(b"first", &slots));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut ready = 0;
        for number in 0..20u32 {
            let mut next = pin!(gathering.join(&number.to_le_bytes(), &slots));
            ready += u32::from(next.as_mut().poll(&mut context).is_ready());
        }
        assert_eq!(ready, 1, "who completed the batch");
        assert!(first.as_mut().poll(&mut context).is_ready());
    }
}
