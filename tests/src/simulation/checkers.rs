//! What must hold when faults are over.

use std::rc::Rc;
use std::time::Duration;

use super::load::Load;
use super::run::Simulation;
use super::trace::note;
use crate::client::Reply;
use crate::history::{self, Periods};

/// How soon after the last fault the cluster is whole.
pub const WHOLE_AFTER: Duration = Duration::from_secs(40);

impl Simulation {
    /// The cluster is whole again within the bound.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_available(&mut self) -> Result<(), String> {
        let begin = self.elapsed();
        self.wait_until_whole(WHOLE_AFTER).map_err(|missing| {
            format!("not available again {WHOLE_AFTER:?} after the last fault: {missing}")
        })?;
        note(format_args!("CHECK whole again after {:?}", self.elapsed() - begin));
        Ok(())
    }

    /// Ends the load, reads everything, and holds it against what clients saw, and masters' periods against each other; then masters
    /// and replicas have equal digests, which are those of a replay of the whole log, and have them still after all have started
    /// again from checkpoint and log.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_at_end(&mut self, load: &Rc<Load>) -> Result<(), String> {
        let sets = self.stop_load(load)?;
        let findings = load.ledger.judge(&sets);
        if !findings.is_clean() {
            return Err(format!("acknowledged additions: {findings}"));
        }
        let verdict = history::check(&load.recorder.history());
        if !verdict.is_linearizable() {
            return Err(format!("history: {verdict}"));
        }
        note(format_args!("CHECK {} operations are linearizable, {findings}", verdict.operations));
        let periods = Periods::of(self.world.served());
        if let Some(conflict) = periods.conflicts().first() {
            return Err(format!("two masters at a time (times in µs): {conflict}"));
        }
        note(format_args!("CHECK {} periods of masters, one after the other", periods.count()));
        self.coverage.add("masters-periods", periods.count() as u64);
        let before = self.check_digests()?;
        self.check_full_replays()?;
        for node in 0..self.nodes.len() {
            if self.dice.bool() {
                // One that is at it already says so.
                let reply = self.ask(node, "BGSAVE");
                note(format_args!("BGSAVE at n{node}: {reply:?}"));
            }
        }
        self.pass(Duration::from_millis(200));
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
        self.check_available()?;
        let after = self.check_digests()?;
        if before != after {
            return Err(format!("digests after a restart of all: {after:?}, before: {before:?}"));
        }
        Ok(())
    }

    /// Every replica's digest is its master's once it has all of its log; returns the digests of the shards, sorted.
    fn check_digests(&mut self) -> Result<Vec<String>, String> {
        let mut digests = Vec::new();
        for (master, replicas) in self.shards() {
            let mut complaint = String::new();
            let mut equal = None;
            for _ in 0..50 {
                self.pass(Duration::from_millis(100));
                let mut seen = Vec::new();
                for node in std::iter::once(master).chain(replicas.iter().copied()) {
                    seen.push((node, self.digest(node)?));
                }
                complaint = format!("{seen:?}");
                if seen.iter().all(|(_, digest)| *digest == seen[0].1) {
                    equal = Some(seen[0].1.clone());
                    break;
                }
            }
            digests.push(equal.ok_or_else(|| format!("digests of a shard differ: {complaint}"))?);
        }
        digests.sort();
        Ok(digests)
    }

    fn digest(&mut self, node: usize) -> Result<String, String> {
        match self.ask(node, "DEBUG DIGEST")? {
            Reply::Simple(text) => Ok(text),
            Reply::Bulk(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            other => Err(format!("DEBUG DIGEST: {other}")),
        }
    }
}
