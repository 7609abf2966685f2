//! Holding commands back: CLIENT PAUSE, and the short pause of writes while a master hands over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::platform;

/// What is held back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PauseMode {
    /// Commands that write.
    Writes,
    /// Every command.
    All,
}

#[derive(Default)]
struct Active {
    /// CLIENT PAUSE: what, and until when (wall clock, ms).
    client: Option<(PauseMode, u64)>,
    /// A handover holds writes until this time (wall clock, ms).
    handover: Option<u64>,
}

/// The node's pauses.
#[derive(Default)]
pub struct Pause {
    active: Mutex<Active>,
    any: std::sync::atomic::AtomicBool,
    released: Arc<Notify>,
}

impl Pause {
    /// CLIENT PAUSE: a longer or stronger pause that is already on stays (Redis: pauses only grow until UNPAUSE).
    pub fn pause_clients(&self, mode: PauseMode, until_ms: u64) {
        let mut active = self.active.lock();
        active.client = Some(match active.client {
            Some((known, until)) => (known.max(mode), until.max(until_ms)),
            None => (mode, until_ms),
        });
        self.any.store(true, std::sync::atomic::Ordering::Release);
    }

    /// CLIENT UNPAUSE.
    pub fn unpause_clients(&self) {
        self.active.lock().client = None;
        self.settle();
    }

    /// A handover begins (`Some(until_ms)`) or is over.
    pub fn hold_writes(&self, until_ms: Option<u64>) {
        self.active.lock().handover = until_ms;
        if until_ms.is_some() {
            self.any.store(true, std::sync::atomic::Ordering::Release);
        } else {
            self.settle();
        }
    }

    fn settle(&self) {
        let active = self.active.lock();
        let any = active.client.is_some() || active.handover.is_some();
        self.any.store(any, std::sync::atomic::Ordering::Release);
        drop(active);
        self.released.notify_waiters();
    }

    /// Whether anything may have to wait.
    pub fn is_on(&self) -> bool {
        self.any.load(std::sync::atomic::Ordering::Acquire)
    }

    /// When a command must wait: a future that ends when it may be tried again. Wakes no later than the pause's end.
    pub fn holds(&self, writes: bool, now_ms: u64) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        if !self.is_on() {
            return None;
        }
        let mut active = self.active.lock();
        active.client = active.client.filter(|&(_, until)| until > now_ms);
        active.handover = active.handover.filter(|&until| until > now_ms);
        let client =
            active.client.filter(|&(mode, _)| mode == PauseMode::All || writes).map(|(_, until)| until);
        let handover = active.handover.filter(|_| writes);
        let any = active.client.is_some() || active.handover.is_some();
        self.any.store(any, std::sync::atomic::Ordering::Release);
        let until = client.into_iter().chain(handover).min()?;
        let notified = self.released.clone().notified_owned();
        Some(Box::pin(async move {
            let wait = platform::sleep_ms(until.saturating_sub(now_ms));
            tokio::select! {
                () = wait => {}
                () = notified => {}
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_pause_holds_writes_only_and_ends_by_itself() {
        let pause = Pause::default();
        assert!(pause.holds(true, 0).is_none());
        pause.pause_clients(PauseMode::Writes, 1000);
        assert!(pause.holds(true, 10).is_some());
        assert!(pause.holds(false, 10).is_none());
        assert!(pause.holds(true, 1000).is_none());
    }

    #[test]
    fn unpause_leaves_a_handover_alone() {
        let pause = Pause::default();
        pause.hold_writes(Some(500));
        pause.pause_clients(PauseMode::All, 900);
        pause.unpause_clients();
        assert!(pause.holds(true, 10).is_some());
        assert!(pause.holds(false, 10).is_none());
        pause.hold_writes(None);
        assert!(pause.holds(true, 10).is_none());
    }
}
