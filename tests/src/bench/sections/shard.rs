//! A master and its replica.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::bench::Bench;
use crate::machine::Place;
use crate::servers::{Kind, Launch, Server, field};

/// How long a shard may take to form.
const PATIENCE: Duration = Duration::from_secs(30);
const NAP: Duration = Duration::from_millis(50);

/// A master that owns all slots, and a replica that follows.
pub struct Shard {
    /// The master.
    pub master: Server,
    /// Kept alive.
    _replica: Server,
}

impl Shard {
    /// Both started; the replica has caught up.
    ///
    /// # Errors
    /// When they do not form a shard.
    pub fn start(bench: &Bench<'_>, launch: &Launch, replica_place: Place) -> Result<Self> {
        let launch =
            launch.clone().without_rewrites().with(Kind::Redis, &["--repl-diskless-sync-delay", "0"]);
        let master = bench.start(&launch)?;
        let replica = Server::start_alone(&launch.clone().at(replica_place), &bench.below, bench.cores)?;
        // Redis answers a command of the cluster at once and learns by gossip when it can be obeyed.
        let until_ok = |words: &[&str]| -> Result<()> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let reply = replica.ask(words)?;
                if reply.is_ok() {
                    return Ok(());
                }
                ensure!(Instant::now() < deadline, "{words:?} is answered {reply}");
                std::thread::sleep(NAP);
            }
        };
        until_ok(&["CLUSTER", "MEET", "127.0.0.1", &master.port.to_string()])?;
        let id = master.ask(&["CLUSTER", "MYID"])?.text();
        until_ok(&["CLUSTER", "REPLICATE", &id])?;
        let shard = Self { master, _replica: replica };
        // Only with write-ack in-sync there is such a set.
        let has_in_sync_set =
            launch.kind == Kind::Holdfast && !launch.options.iter().any(|word| word == "local");
        shard.wait_until_followed(has_in_sync_set)?;
        Ok(shard)
    }

    fn wait_until_followed(&self, has_in_sync_set: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A replica is taken in when it has acknowledged something.
            let is_served = self.master.ask(&["SET", "ready", "yes"])?.is_ok();
            let info = self.master.info("replication")?;
            let is_in_sync = !has_in_sync_set || info.contains("in_sync=1");
            if is_served && info.contains("state=online") && is_in_sync {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the replica does not follow: {info}");
            std::thread::sleep(NAP);
        }
    }

    /// Bytes of the log or the backlog that the replica has not acknowledged.
    ///
    /// # Errors
    /// When the master does not say.
    pub fn lag_bytes(&self) -> Result<f64> {
        let info = self.master.info("replication")?;
        let end: Option<f64> = field(&info, "master_repl_offset").and_then(|offset| offset.parse().ok());
        let at: Option<f64> = field(&info, "slave0")
            .and_then(|line| line.split(',').find_map(|part| part.strip_prefix("offset=")))
            .and_then(|offset| offset.parse().ok());
        match (end, at) {
            (Some(end), Some(at)) => Ok((end - at).max(0.0)),
            _ => anyhow::bail!("no offsets in {info}"),
        }
    }
}
