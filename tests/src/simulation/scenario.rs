//! Whole runs: a cluster, a load, faults, checks.

use std::time::Duration;

use super::faults::plan;
use super::load::Shape;
use super::run::Simulation;
use super::trace::note;

/// Voters of the metadata group are joined one after the other; before that a cluster is not what it will be.
const SETTLING: Duration = Duration::from_secs(8);
/// Rounds of faults of one run.
const ROUNDS: usize = 5;

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Report {
    /// Operations that clients had an answer to.
    pub answered: u64,
    /// Simulated time.
    pub simulated: Duration,
}

impl Simulation {
    /// Options of a node, by the seed: sizes so small that checkpoints, segments and full copies take part.
    pub fn for_seed(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let fsync = ["everysec", "everysec", "always", "no"][dice.usize(..4)];
        Self::new(seed, &["--appendfsync", fsync, "--wal-retain-size", "1mb", "--checkpoint-log-size", "1mb"])
    }

    /// Starts, forms, and lets the cluster settle.
    pub fn begin(&mut self) {
        self.start_all();
        self.form();
        self.pass(SETTLING);
        note(format_args!("CHECK formed and settled"));
    }

    /// Random faults under load.
    ///
    /// # Errors
    /// What does not hold.
    pub fn random_faults(&mut self) -> Result<Report, String> {
        self.begin();
        // Large values fill segments, so that logs are cut off at the front and copies are needed.
        let padding = [0, 0, 48 << 10][self.dice.usize(..3)];
        let load = self.start_load(Shape { padding, ..Shape::default() });
        for _ in 0..ROUNDS {
            let shards = self.shards();
            if shards.is_empty() {
                return Err("nobody tells who leads".into());
            }
            let round = plan(&mut self.dice, &shards);
            note(format_args!("ROUND {round:?}"));
            self.suffer(&round)?;
            self.check_available()?;
        }
        self.check_at_end(&load)?;
        let unexpected = load.unexpected.borrow().clone();
        if !unexpected.is_empty() {
            return Err(format!("replies that no client should get: {unexpected:?}"));
        }
        Ok(Report { answered: load.answered.get(), simulated: self.elapsed() })
    }
}
