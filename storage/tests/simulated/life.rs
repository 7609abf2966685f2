//! The lives of one node on a simulated disk: it writes, syncs and takes checkpoints, its disk has its moods, and it dies and
//! comes back, again and again. After each death everything that was acknowledged must be there, and what is there must be
//! what the log alone would give.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_storage::log::{Commit, FsyncPolicy, LogConfig};
use holdfast_storage::platform::simulation::disk::{self, Disk, Faults};
use holdfast_storage::platform::simulation::{Installed, World, install};
use holdfast_storage::store::{Store, StoreConfig};
use holdfast_words::Lsn;

use crate::model::{Made, compare, make};
use crate::world::SmallWorld;

const ROOT: &str = "/simulated/machine/node";
const LIVES: u32 = 4;

/// What must not happen, in words.
pub type Finding = String;

/// Runs the lives of a seed; returns the trace, and what was found if something was.
pub fn live(seed: u64) -> (Vec<String>, Option<Finding>) {
    let world = SmallWorld::of_seed(seed);
    let installed = install(world.clone());
    let mut node = Node::new(seed, world.clone(), installed);
    let finding = (0..LIVES).try_for_each(|_| node.life()).and_then(|()| node.rot()).err();
    node.note_disk();
    (world.trace(), finding)
}

struct Node {
    // In the order in which they go.
    store: Option<Arc<Store>>,
    disk: Arc<Disk>,
    world: Rc<SmallWorld>,
    dice: fastrand::Rng,
    made: Vec<Made>,
    acked: Lsn,
    written: Lsn,
    _installed: Installed,
}

impl Node {
    fn new(seed: u64, world: Rc<SmallWorld>, installed: Installed) -> Self {
        Self {
            store: None,
            disk: disk::machine_disk("machine"),
            world,
            dice: fastrand::Rng::with_seed(seed),
            made: Vec::new(),
            acked: Lsn::ZERO,
            written: Lsn::ZERO,
            _installed: installed,
        }
    }

    fn note_disk(&self) {
        self.note(format_args!("the disk is {:08x}", self.disk.fingerprint()));
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.note(what);
    }

    fn life(&mut self) -> Result<(), Finding> {
        self.start()?;
        for _ in 0..self.dice.u32(10..80) {
            self.step();
        }
        if self.dice.bool() {
            // It dies in the middle of something.
            self.limit_changes(60);
            for _ in 0..self.dice.u32(1..8) {
                self.step();
            }
        }
        self.die();
        if self.dice.u32(..3) == 0 {
            // And once more while it starts; what it says then does not count.
            self.limit_changes(60);
            let finding = self.start().err().filter(|_| !self.disk.is_gone(Path::new(ROOT)));
            finding.map_or(Ok(()), Err)?;
            self.die();
        }
        self.start()?;
        self.store = None;
        self.world.drop_tasks();
        Ok(())
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("it lives")
    }

    /// Opens the store and compares what is there with what was made.
    fn start(&mut self) -> Result<(), Finding> {
        let policies = [FsyncPolicy::Always, FsyncPolicy::EverySecond, FsyncPolicy::No];
        let log = LogConfig {
            segment_size: 4096 + self.dice.u64(4 << 10..32 << 10),
            fsync: policies[self.dice.usize(..3)],
            spare_segments: self.dice.usize(..3),
            ..LogConfig::default()
        };
        let config = StoreConfig { log, load_threads: 2, checkpoint_log_size: 0, retain_bytes: 0 };
        let (store, _) =
            Store::open(Path::new(ROOT), config).map_err(|error| format!("does not open: {error}"))?;
        // A master that is alone in its in-sync set.
        store.log().positions().set_commit(Commit::Durable { others: Lsn(u64::MAX) });
        store.log().await_durability(self.dice.bool());
        let end = store.log().end().lsn;
        let same_boot = store.directory().previous_identity().is_some() && store.directory().is_same_boot();
        if end < self.acked {
            return Err(format!("{} was acknowledged, the log ends at {end}", self.acked));
        }
        if same_boot && end < self.written {
            return Err(format!(
                "says the page cache has survived; {} was written, the log ends at {end}",
                self.written
            ));
        }
        self.made.retain(|made| made.end <= end);
        compare(&store, &self.made)?;
        self.acked = end;
        // A node that lost its page cache finds its log complete again after a while, or dies before.
        if same_boot || self.dice.bool() {
            self.written = end;
            store.directory().confirm_log().map_err(|error| format!("cannot confirm its log: {error}"))?;
        }
        self.store = Some(store);
        self.note_disk();
        Ok(())
    }

    /// A bit of some file turns over: that is noticed, or does not matter.
    fn rot(&mut self) -> Result<(), Finding> {
        self.start()?;
        for _ in 0..self.dice.u32(1..40) {
            self.step();
        }
        let store = self.store().clone();
        let is_synced = store.log().sync().is_ok();
        drop(store);
        self.store = None;
        self.world.drop_tasks();
        self.disk.kill(Path::new(ROOT));
        self.disk.heal(Path::new(ROOT));
        let files = self.disk.files(Path::new(ROOT)).map_err(|error| error.to_string())?;
        let path = &files[self.dice.usize(..files.len())];
        let at = self.disk.rot(path, &mut self.dice).map_err(|error| error.to_string())?;
        match self.start() {
            Err(finding) if finding.contains("does not open") => {
                self.note(format_args!("{finding}"));
                Ok(())
            }
            // What was never synced may break off where a bit turned over: such a log has failed.
            Err(finding) if is_synced => Err(format!("byte {at:?} of {} rotted: {finding}", path.display())),
            _ => Ok(()),
        }
    }

    fn step(&mut self) {
        let store = self.store().clone();
        match self.dice.u32(..20) {
            0..10 => {
                for _ in 0..self.dice.u32(1..6) {
                    self.made.extend(make(&store, &mut self.dice));
                }
                if self.dice.u32(..4) > 0 {
                    // An error is seen in the positions: nothing is acknowledged that was not reached.
                    let _ = store.log().write_up_to(store.log().end().lsn);
                }
            }
            10 => drop(store.log().sync()),
            11 => store.log().request_sync(),
            12 => self.checkpoint(&store),
            13 if self.dice.bool() => self.change_faults(),
            _ => self.world.run_for(Duration::from_millis(self.dice.u64(..400))),
        }
        self.acked = self.acked.max(store.log().positions().committed_lsn());
        self.written = self.written.max(store.log().positions().written_lsn());
    }

    fn checkpoint(&mut self, store: &Store) {
        // The images are there, and the header that says so cannot be written: records of the log are in them already.
        let is_half = self.dice.u32(..3) == 0;
        let header = Path::new(ROOT).join("node.new");
        if is_half {
            let faults = Faults { write_error: Some(libc::EIO), ..Faults::default() };
            self.disk.set_faults(&header, faults);
        }
        let outcome = store.checkpoint();
        self.note(format_args!(
            "checkpoint: {}",
            outcome.map_or_else(|error| error.to_string(), |_| "complete".into())
        ));
        if is_half {
            self.disk.heal(&header);
        }
    }

    fn limit_changes(&mut self, most: u64) {
        let changes_left = Some(self.dice.u64(..most));
        self.disk.set_faults(Path::new(ROOT), Faults { changes_left, ..Faults::default() });
    }

    fn change_faults(&mut self) {
        let mut faults = Faults {
            sync_delay: Duration::from_millis([0, 1, 30, 700][self.dice.usize(..4)]),
            ..Faults::default()
        };
        match self.dice.u32(..12) {
            0 => faults.sync_error = Some(libc::EIO),
            1 => faults.write_error = Some(libc::EIO),
            2 | 3 => faults.space_left = Some(self.dice.u64(..60_000)),
            _ => {}
        }
        self.disk.set_faults(Path::new(ROOT), faults);
    }

    /// The process, or the machine, goes.
    fn die(&mut self) {
        let is_dropped_first = self.dice.bool();
        if is_dropped_first {
            self.store = None;
            self.world.drop_tasks();
        }
        if self.dice.u32(..4) == 0 {
            self.disk.kill(Path::new(ROOT));
        } else {
            self.disk.cut_power(&mut self.dice);
        }
        self.disk.heal(Path::new(ROOT));
        self.store = None;
        self.world.drop_tasks();
    }
}
