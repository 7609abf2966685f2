//! Two nodes of one shard, each on a machine of its own: one writes and ships its log, the other follows; they change roles, cut
//! what they have not in common, copy all data when the log does not reach back, and die in the middle of any of it. Whatever
//! happens, each holds exactly what its own log says, and what was durable stays.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_storage::checkpoint::image_format::{ChunkHeader, Compression, ImageBuilder};
use holdfast_storage::log::{FsyncPolicy, LogConfig};
use holdfast_storage::platform::simulation::disk::{self, Disk, Faults};
use holdfast_storage::platform::simulation::{Installed, World, install};
use holdfast_storage::store::{NeededByReplicas, Store, StoreConfig};
use holdfast_words::{Lsn, SlotId, SlotSequence};

use crate::life::Finding;
use crate::model::{Made, compare, make};
use crate::world::SmallWorld;

/// Runs the lives of a pair; returns the trace, and what was found if something was.
pub fn live_as_pair(seed: u64) -> (Vec<String>, Option<Finding>) {
    let world = SmallWorld::of_seed(seed);
    let installed = install(world.clone());
    let mut pair = Pair::new(seed, world.clone(), installed);
    let finding = pair.run().err();
    for member in &pair.members {
        world.note(format_args!("disk of {}: {:08x}", member.root.display(), member.disk.fingerprint()));
    }
    (world.trace(), finding)
}

struct Member {
    store: Option<Arc<Store>>,
    disk: Arc<Disk>,
    root: PathBuf,
    /// What its log says, from the first byte on.
    made: Vec<Rc<Made>>,
    /// What it may say instead after a death in the middle of a full copy.
    or_made: Option<Vec<Rc<Made>>>,
    durable: Lsn,
    /// Its log is the beginning of the master's.
    has_joined: bool,
}

struct Pair {
    // Stores go before the world.
    members: [Member; 2],
    master: usize,
    world: Rc<SmallWorld>,
    dice: fastrand::Rng,
    _installed: Installed,
}

/// It failed, and says so; what is left is found at the next start.
struct Failed;

impl<E: std::error::Error> From<E> for Failed {
    fn from(_: E) -> Self {
        Self
    }
}

impl Pair {
    fn new(seed: u64, world: Rc<SmallWorld>, installed: Installed) -> Self {
        let member = |name: &str| Member {
            store: None,
            disk: disk::machine_disk(name),
            root: PathBuf::from(format!("/simulated/{name}/node")),
            made: Vec::new(),
            or_made: None,
            durable: Lsn::ZERO,
            has_joined: false,
        };
        Self {
            members: [member("one"), member("two")],
            master: 0,
            world,
            dice: fastrand::Rng::with_seed(seed),
            _installed: installed,
        }
    }

    fn run(&mut self) -> Result<(), Finding> {
        self.start(0)?;
        self.start(1)?;
        for _ in 0..self.dice.u32(20..250) {
            self.step()?;
            for index in 0..2 {
                let member = &mut self.members[index];
                let store = member.store.as_ref().expect("it lives");
                if store.is_whole() {
                    member.durable = member.durable.max(store.log().positions().durable_lsn());
                }
                if store.log().is_poisoned() || member.disk.is_gone(&member.root) {
                    self.die(index)?;
                }
            }
        }
        (0..2).try_for_each(|index| self.die(index))
    }

    fn store(&self, index: usize) -> Arc<Store> {
        self.members[index].store.clone().expect("it lives")
    }

    fn start(&mut self, index: usize) -> Result<(), Finding> {
        let log = LogConfig {
            segment_size: 4096 + self.dice.u64(4 << 10..24 << 10),
            fsync: [FsyncPolicy::Always, FsyncPolicy::EverySecond, FsyncPolicy::No][self.dice.usize(..3)],
            spare_segments: self.dice.usize(..3),
            ..LogConfig::default()
        };
        let config = StoreConfig { log, load_threads: 2, checkpoint_log_size: 0, retain_bytes: 0 };
        let member = &mut self.members[index];
        let name = member.root.display();
        let (store, _) =
            Store::open(&member.root, config).map_err(|error| format!("{name}: does not open: {error}"))?;
        let end = store.log().end().lsn;
        if !store.is_whole() {
            // A copy that broke off: everything is thrown away.
            (member.made, member.or_made, member.durable) = (Vec::new(), None, Lsn::ZERO);
        }
        if end < member.durable {
            return Err(format!("{name}: {} was durable, the log ends at {end}", member.durable));
        }
        let or_made = member.or_made.take();
        member.made.retain(|made| made.end <= end);
        if let Err(finding) = compare(&store, &member.made) {
            let Some(mut or_made) = or_made else { return Err(format!("{name}: {finding}")) };
            or_made.retain(|made| made.end <= end);
            compare(&store, &or_made).map_err(|other| format!("{name}: neither {finding}, nor {other}"))?;
            member.made = or_made;
        }
        member.durable = end;
        member.has_joined = false;
        member.store = Some(store);
        if index == self.master {
            self.members[1 - index].has_joined = false;
        }
        Ok(())
    }

    /// The process or the machine goes, and comes back.
    fn die(&mut self, index: usize) -> Result<(), Finding> {
        let member = &mut self.members[index];
        if self.dice.bool() {
            member.store = None;
        }
        if self.dice.u32(..3) == 0 {
            member.disk.kill(&member.root);
        } else {
            member.disk.cut_power(&mut self.dice);
        }
        member.store = None;
        member.disk.heal(&member.root);
        self.start(index)
    }

    fn step(&mut self) -> Result<(), Finding> {
        let (master, replica) = (self.master, 1 - self.master);
        match self.dice.u32(..40) {
            0..14 => self.write(master),
            14..22 => drop(self.follow()),
            22..25 => self.world.run_for(Duration::from_millis(self.dice.u64(..600))),
            25 | 26 => {
                let index = self.dice.usize(..2);
                drop(self.store(index).log().sync());
            }
            27..30 => self.checkpoint(),
            30 => drop(self.change_roles()),
            31 => self.die(master)?,
            32 => self.die(replica)?,
            33 => self.limit(),
            34 => self.change_faults(),
            35 => self.copy_all().unwrap_or(()),
            _ => self.join()?,
        }
        Ok(())
    }

    fn write(&mut self, index: usize) {
        let store = self.store(index);
        if !store.is_whole() {
            return;
        }
        for _ in 0..self.dice.u32(1..8) {
            self.members[index].made.extend(make(&store, &mut self.dice).map(Rc::new));
        }
        if self.dice.u32(..4) > 0 {
            drop(store.log().write_up_to(store.log().end().lsn));
        }
    }

    /// From now on one of them can change only so much before its disk is gone.
    fn limit(&mut self) {
        let changes_left = Some(self.dice.u64(..80));
        let member = &self.members[self.dice.usize(..2)];
        member.disk.set_faults(&member.root, Faults { changes_left, ..Faults::default() });
    }

    /// One of them has a slow, full or broken disk for a while.
    fn change_faults(&mut self) {
        let mut faults = Faults::default();
        match self.dice.u32(..6) {
            0 => faults.sync_error = Some(libc::EIO),
            1 => faults.write_error = Some(libc::EIO),
            2 => faults.sync_delay = Duration::from_millis(self.dice.u64(..900)),
            3 | 4 => faults.space_left = Some(self.dice.u64(..60_000)),
            _ => {}
        }
        let member = &self.members[self.dice.usize(..2)];
        member.disk.set_faults(&member.root, faults);
    }

    fn checkpoint(&mut self) {
        let index = self.dice.usize(..2);
        let store = self.store(index);
        let other = self.store(1 - index).log().end().lsn;
        let surely = self.dice.bool().then_some(other);
        store.set_needed_by_replicas(NeededByReplicas { surely, if_possible: None });
        let outcome = store.checkpoint().map(|report| report.covered_lsn);
        self.note(index, format_args!("checkpoint: {outcome:?}"));
    }

    fn note(&self, index: usize, what: std::fmt::Arguments<'_>) {
        self.world.note(format_args!("{}: {what}", self.members[index].root.display()));
    }

    /// The replica takes some of the master's log.
    fn follow(&mut self) -> Result<(), Failed> {
        let (master, replica) = (self.store(self.master), self.store(1 - self.master));
        if !self.members[1 - self.master].has_joined {
            return Ok(());
        }
        let from = replica.log().end().lsn;
        let mut bytes = Vec::new();
        master.log().read_chunk(from, self.dice.usize(1..9000), &mut bytes)?;
        let to = from.advance(bytes.len() as u64);
        let news = self.members[self.master].made.iter().filter(|made| from < made.end && made.end <= to);
        let news: Vec<Rc<Made>> = news.cloned().collect();
        let taken = replica.append_received(from, &bytes);
        // Refused, taken, or failed in between: its log's end tells what it has.
        let end = replica.log().end().lsn;
        let news = news.into_iter().filter(|made| made.end <= end);
        self.members[1 - self.master].made.extend(news);
        taken?;
        Ok(())
    }

    /// The other one leads from now on, under a new epoch.
    fn change_roles(&mut self) -> Result<(), Failed> {
        let next = 1 - self.master;
        if !self.store(next).is_whole() {
            return Ok(());
        }
        let epoch = self.store(0).log().epoch().max(self.store(1).log().epoch()).next();
        let store = self.store(next);
        self.note(next, format_args!("leads in epoch {epoch} from {}", store.log().end().lsn));
        self.master = next;
        self.members.iter_mut().for_each(|member| member.has_joined = false);
        store.log().start_epoch(epoch, store.node_id(), 1)?;
        Ok(())
    }

    /// The replica cuts what the master does not have, or copies everything.
    fn join(&mut self) -> Result<(), Finding> {
        let replica = 1 - self.master;
        if self.members[replica].has_joined {
            return Ok(());
        }
        match self.common_point() {
            Ok(Some(at)) if self.store(replica).can_cut_at(at) => {
                let store = self.store(replica);
                self.note(replica, format_args!("joins at {at}, it has {}", store.log().end().lsn));
                if at < store.log().end().lsn {
                    let member = &mut self.members[replica];
                    member.durable = member.durable.min(at);
                    if store.cut_at(at).is_err() {
                        // Neither whole nor cut, as the next start finds it.
                        drop(store);
                        return self.die(replica);
                    }
                    member.made.retain(|made| made.end <= at);
                    compare(&store, &member.made)
                        .map_err(|finding| format!("after a cut at {at}: {finding}"))?;
                }
                self.members[replica].has_joined = true;
                Ok(())
            }
            Ok(_) => {
                self.copy_all().unwrap_or(());
                let store = self.store(replica);
                let member = &self.members[replica];
                let is_well = store.is_whole() && !store.log().is_poisoned() && member.has_joined;
                if is_well {
                    compare(&store, &member.made).map_err(|finding| format!("after a copy: {finding}"))
                } else {
                    Ok(())
                }
            }
            Err(Failed) => Ok(()),
        }
    }

    /// Up to where both logs hold the same bytes, if that can be said.
    fn common_point(&self) -> Result<Option<Lsn>, Failed> {
        let stores = [self.store(0), self.store(1)];
        let logs = [stores[0].log(), stores[1].log()];
        if stores.iter().any(|store| !store.is_whole()) || logs[0].owner() != logs[1].owner() {
            return Ok(None);
        }
        for log in logs {
            log.write_up_to(log.end().lsn)?;
        }
        let mut at = logs[0].first_lsn().max(logs[1].first_lsn());
        let end = logs[0].end().lsn.min(logs[1].end().lsn);
        if at > end || (at == end && at > Lsn::ZERO) {
            return Ok(None);
        }
        while at < end {
            let mut records = [Vec::new(), Vec::new()];
            for (log, record) in logs.iter().zip(&mut records) {
                log.read_chunk(at, 1, record)?;
            }
            if records[0] != records[1] {
                break;
            }
            at = at.advance(records[0].len() as u64);
        }
        Ok(Some(at))
    }

    /// The replica copies all data, while the master goes on writing.
    fn copy_all(&mut self) -> Result<(), Failed> {
        let (master, replica) = (self.store(self.master), self.store(1 - self.master));
        if !master.is_whole() {
            return Ok(());
        }
        let start = master.log().positions().written_lsn();
        self.note(1 - self.master, format_args!("copies from {start}"));
        let member = &mut self.members[1 - self.master];
        (member.has_joined, member.durable) = (false, Lsn::ZERO);
        member.or_made = Some(Vec::new());
        replica.become_empty(replica.node_id(), master.shard_id(), start, master.log().epoch_history())?;
        let made = self.members[self.master].made.iter().filter(|made| made.end <= start);
        let made: Vec<Rc<Made>> = made.cloned().collect();
        let member = &mut self.members[1 - self.master];
        (member.made, member.or_made) = (made, None);
        let mut receiver = replica.image_receiver();
        let mut builder = ImageBuilder::new(Compression::Lz4);
        let mut newest = start;
        for slot in SlotId::all() {
            if master.slots().with(slot, |slot| slot.sequence() == SlotSequence::ZERO) {
                continue;
            }
            if self.dice.u32(..10) == 0 {
                self.write(self.master);
            }
            master.image_of(slot, &mut builder)?;
            let mut rest = builder.finish().1;
            while !rest.is_empty() {
                let length = ChunkHeader::decode(rest)?.chunk_length() as usize;
                newest = newest.max(replica.receive_image(&mut receiver, &rest[..length])?.lsn);
                rest = &rest[length..];
            }
        }
        replica.finish_images(&mut receiver)?;
        self.members[1 - self.master].has_joined = true;
        master.log().write_up_to(newest)?;
        while replica.log().positions().written_lsn() < newest {
            if replica.log().end().lsn >= newest {
                // Taken, and not written: its disk is full.
                return Err(Failed);
            }
            self.follow()?;
        }
        replica.log().sync()?;
        replica.set_whole()?;
        Ok(())
    }
}
