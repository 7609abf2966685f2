//! What systemd is told: that the node serves, that it is alive, that it stops. It is told the truth: ready is who serves its
//! part of the cluster, alive is whose workers and bus have moved lately. Without `NOTIFY_SOCKET` nobody is told anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_cluster::view::{Down, Health, View};
use sd_notify::NotifyState;

use crate::config::WriteAck;
use crate::node::Node;
use crate::platform;

/// Between two looks whether the node serves by now.
const LOOK_MS: u64 = 20;
/// The watched threads move so often within the watchdog's interval; who has not moved for half of it hangs.
const BEATS_PER_INTERVAL: u32 = 8;

/// Tells systemd, where it listens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// The node stops.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The node cannot open its data yet, and why.
pub fn tell_waiting(why: &str) {
    tell(&[NotifyState::Status(why)]);
}

/// Tells that the node is ready when it serves, and until then what it waits for.
pub async fn tell_when_ready(node: Arc<Node>) {
    let mut told = None;
    while let Some(why) = why_not_serving(&node) {
        if told != Some(why) {
            told = Some(why);
            tracing::info!(why, "the node does not serve yet");
            tell(&[NotifyState::Status(why)]);
        }
        platform::sleep_ms(LOOK_MS).await;
    }
    tracing::info!("the node serves");
    tell(&[NotifyState::Status("serving"), NotifyState::Ready]);
}

/// What this node waits for before it serves its part; its ports are open and its data loaded.
fn why_not_serving(node: &Node) -> Option<&'static str> {
    let cluster = node.cluster.as_ref()?;
    let part = Part {
        is_open: node.store.slots().are_open_to_commands(),
        link_is_up: cluster.master_link().is_some_and(|link| link.state.is_up()),
        is_damaged: node.store.is_damaged(),
        counts_in_sync: node.config.snapshot().write_ack == WriteAck::InSync,
    };
    why_no_part(&cluster.view(), part)
}

struct Part {
    is_open: bool,
    is_damaged: bool,
    link_is_up: bool,
    counts_in_sync: bool,
}

/// A master must have begun its role. A replica must be one that can take over, if there is a master to follow: whoever waits for
/// this node to be ready wants to stop its master next.
fn why_no_part(view: &View, part: Part) -> Option<&'static str> {
    match view.routes.down {
        Some(Down::NotJoined) => return Some("waiting to join the cluster"),
        Some(Down::Minority) => return Some("waiting for a majority of the voters"),
        Some(Down::CatchingUp) => return Some("catching up with the metadata group"),
        Some(Down::NoLease) => return Some("waiting for the voters to let it serve"),
        Some(Down::SlotUnassigned | Down::SlotFailed) | None => {}
    }
    let Some(me) = view.myself() else { return Some("waiting to join the cluster") };
    if part.is_damaged {
        return Some(match me.replica_of {
            None => "its slot images are damaged: waiting for another member of its shard in sync to lead",
            Some(_) => "its slot images are damaged: waiting to copy everything from its master",
        });
    }
    match me.replica_of {
        None if !part.is_open => Some("a master that waits to be sure that it still is one"),
        None => None,
        Some(master) => {
            let is_well = view.node(master).is_some_and(|node| node.liveness.health == Health::Fine);
            if is_well && !part.link_is_up {
                Some("a replica that waits for its master's log")
            } else if is_well && part.counts_in_sync && !me.in_sync {
                Some("a replica that catches up")
            } else {
                None
            }
        }
    }
}

/// Signs of life of one thread.
#[derive(Clone)]
pub struct Pulse {
    name: String,
    moved_ms: Arc<AtomicU64>,
    beat: Option<Duration>,
}

impl Pulse {
    /// Runs `work`, and beats for as long as its thread moves.
    pub async fn of<T>(self, work: impl Future<Output = T>) -> T {
        let Some(beat) = self.beat else { return work.await };
        let beats = async {
            loop {
                self.moved_ms.store(now_ms(), Ordering::Relaxed);
                tokio::time::sleep(beat).await;
            }
        };
        tokio::select! {
            result = work => result,
            () = beats => unreachable!("it beats for ever"),
        }
    }
}

/// systemd's watchdog, and the threads whose life it is told of.
pub struct Watchdog {
    interval: Option<Duration>,
    pulses: Vec<Pulse>,
}

impl Watchdog {
    /// As systemd wants it (`WatchdogSec=`), or off.
    pub fn from_environment() -> Self {
        Self { interval: sd_notify::watchdog_enabled(), pulses: Vec::new() }
    }

    /// A thread to be watched from now on.
    pub fn pulse(&mut self, name: &str) -> Pulse {
        let beat = self.interval.map(|interval| interval / BEATS_PER_INTERVAL);
        let pulse = Pulse { name: name.to_owned(), moved_ms: Arc::new(AtomicU64::new(now_ms())), beat };
        self.pulses.push(pulse.clone());
        pulse
    }

    /// Tells systemd that the node is alive for as long as every watched thread moves and the bus answers.
    pub async fn keep_quiet(self, node: Arc<Node>) {
        let Some(interval) = self.interval else { return };
        loop {
            let hung = self.hung(interval / 2).or(bus_hangs(&node, interval / 2).await);
            match hung {
                None => tell(&[NotifyState::Watchdog]),
                Some(who) => {
                    tracing::error!(
                        who,
                        "a thread of this node hangs: systemd's watchdog is not told that it is alive"
                    );
                }
            }
            tokio::time::sleep(interval / BEATS_PER_INTERVAL).await;
        }
    }

    /// A thread that has not moved for longer than this.
    fn hung(&self, longest: Duration) -> Option<&str> {
        let longest_ms = longest.as_millis() as u64;
        let hangs =
            |pulse: &&Pulse| now_ms().saturating_sub(pulse.moved_ms.load(Ordering::Relaxed)) > longest_ms;
        self.pulses.iter().find(hangs).map(|pulse| pulse.name.as_str())
    }
}

async fn bus_hangs(node: &Node, longest: Duration) -> Option<&'static str> {
    let cluster = node.cluster.as_ref()?;
    tokio::time::timeout(longest, cluster.is_alive()).await.err().map(|_| "bus")
}

fn now_ms() -> u64 {
    platform::monotonic_us() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(interval_ms: u64) -> Watchdog {
        Watchdog { interval: Some(Duration::from_millis(interval_ms)), pulses: Vec::new() }
    }

    fn run(pulse: Pulse, work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(pulse.of(work));
    }

    #[test]
    fn a_thread_that_waits_is_alive_and_one_that_blocks_hangs() {
        let mut watchdog = watchdog(400);
        let (waits, blocks) = (watchdog.pulse("waits"), watchdog.pulse("blocks"));
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| run(waits, async { platform::sleep_ms(700).await }));
            scope.spawn(|| run(blocks, async move { blocked.recv().unwrap() }));
            std::thread::sleep(Duration::from_millis(600));
            let hung = watchdog.hung(Duration::from_millis(300)).map(str::to_owned);
            unblock.send(()).unwrap();
            assert_eq!(hung.as_deref(), Some("blocks"));
        });
        watchdog.pulses.remove(1);
        assert_eq!(watchdog.hung(Duration::from_millis(300)), None);
    }
}
