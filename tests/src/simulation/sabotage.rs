//! Rules broken on purpose, each with the schedule that shows it: checkers that notice nothing prove nothing.

use std::time::Duration;

use holdfast_storage::platform::sabotage::{self, Switch};

use super::faults::Fault;
use super::load::Shape;
use super::run::{MACHINES, Simulation};
use super::trace::note;

/// A broken rule.
#[derive(Clone, Copy, Debug)]
pub struct Sabotage {
    /// Which.
    pub switch: Switch,
    /// What happens to the cluster meanwhile.
    pub scene: Scene,
    /// Within so many seeds it is noticed.
    pub seeds: u64,
}

/// What happens to a cluster, directed; the seed chooses the moments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scene {
    /// A master hears no other node and is still heard by clients; its replica takes over; it comes back.
    IsolatedMaster,
    /// The same while clients wait for their replies as long as it takes.
    PatientClients,
    /// A replica is away until it is out of the in-sync set; then the master's machine loses its power while the replica comes back.
    LoneMaster,
    /// A replica is away until it is out of the in-sync set, and comes back; before it is let in again the master's machine loses
    /// its power and is back at once, without the end of its log, which the replica has.
    LoneMasterIsBack,
    /// A master's machine loses its power and is back at once.
    QuickPowerCut,
    /// A replica takes over by force while its master lives, which hears nobody any more from the moment on at which it has heard of
    /// the election.
    TakeOver,
    /// A master dies, its replica takes over; then every machine loses its power. Everything was synced.
    AllWithoutPower,
}

/// All scenes.
pub const SCENES: [Scene; 7] = [
    Scene::IsolatedMaster,
    Scene::PatientClients,
    Scene::LoneMaster,
    Scene::LoneMasterIsBack,
    Scene::QuickPowerCut,
    Scene::TakeOver,
    Scene::AllWithoutPower,
];

const fn broken(switch: Switch, scene: Scene, seeds: u64) -> Sabotage {
    Sabotage { switch, scene, seeds }
}

/// All rules whose breaking whole nodes show; [`Switch::SequenceCheckSkipped`] shows in the simulation of storage alone.
pub const ALL: [Sabotage; 13] = [
    broken(Switch::AckBeforeReplica, Scene::IsolatedMaster, 3),
    broken(Switch::ShrinkBeforeCommit, Scene::IsolatedMaster, 6),
    broken(Switch::LeaseIgnored, Scene::IsolatedMaster, 12),
    broken(Switch::HeldRepliesSent, Scene::PatientClients, 6),
    broken(Switch::LoneMasterAcksUndurable, Scene::LoneMaster, 6),
    broken(Switch::ReadsNotGated, Scene::IsolatedMaster, 6),
    broken(Switch::PromotionOutsideTheSet, Scene::LoneMaster, 6),
    broken(Switch::FsyncSkipped, Scene::LoneMaster, 6),
    broken(Switch::BootIdIgnored, Scene::QuickPowerCut, 6),
    broken(Switch::TornTailKept, Scene::QuickPowerCut, 12),
    broken(Switch::MetadataNotFlushed, Scene::AllWithoutPower, 6),
    broken(Switch::FenceIgnored, Scene::TakeOver, 12),
    broken(Switch::IncarnationIgnored, Scene::LoneMasterIsBack, 12),
];

impl Simulation {
    /// Plays a scene, with a rule broken or not.
    ///
    /// # Errors
    /// What does not hold.
    pub fn play(&mut self, scene: Scene, switch: Option<Switch>) -> Result<String, String> {
        if let Some(switch) = switch {
            sabotage::set(switch, true);
        }
        self.begin();
        let usual = Shape { pause_ms: 10, ..Shape::default() };
        let shape = match scene {
            Scene::IsolatedMaster | Scene::TakeOver => {
                Shape { clients: 8, readers: 3, registers: 30, ..usual }
            }
            Scene::PatientClients => Shape { patience: Duration::from_secs(10), registers: 12, ..usual },
            _ => usual,
        };
        let load = self.start_load(shape);
        let millis = self.dice.u64(500..1500);
        self.pass(Duration::from_millis(millis));
        let mut shards = self.shards();
        // Who leads the metadata group hears its own decisions whatever happens.
        shards.retain(|(master, _)| scene != Scene::TakeOver || *master != 0);
        let (master, replicas) = shards[self.dice.usize(..shards.len())].clone();
        let replica = replicas[0];
        note(format_args!("SCENE {scene:?}: master n{master}, replica n{replica}"));
        match scene {
            Scene::IsolatedMaster | Scene::PatientClients => {
                self.isolate_from_nodes(master, true);
                self.pass(Duration::from_millis(6000));
                self.isolate_from_nodes(master, false);
            }
            Scene::LoneMaster => {
                // So slow that what is written is ahead of what is durable.
                self.strike(&Fault::SlowSync(master, Duration::from_millis(400)), true);
                self.isolate(replica, true);
                let millis = self.dice.u64(4500..6000);
                self.pass(Duration::from_millis(millis));
                self.isolate(replica, false);
                self.cut_power(MACHINES[master]);
                self.pass(Duration::from_millis(5000));
                self.strike(&Fault::SlowSync(master, Duration::ZERO), false);
                self.restart_machine(MACHINES[master]);
            }
            Scene::LoneMasterIsBack => {
                self.isolate(replica, true);
                let millis = self.dice.u64(4500..6000);
                self.pass(Duration::from_millis(millis));
                self.strike(&Fault::SlowSync(master, Duration::from_millis(400)), true);
                self.isolate(replica, false);
                let millis = self.dice.u64(300..1800);
                self.pass(Duration::from_millis(millis));
                self.cut_power(MACHINES[master]);
                self.strike(&Fault::SlowSync(master, Duration::ZERO), false);
                let millis = self.dice.u64(20..200);
                self.pass(Duration::from_millis(millis));
                self.restart_machine(MACHINES[master]);
            }
            Scene::TakeOver => {
                let reply = self.ask(replica, "CLUSTER FAILOVER FORCE");
                note(format_args!("CLUSTER FAILOVER FORCE at n{replica}: {reply:?}"));
                let (length, heard) = (self.trace.length(), format!("n{master} INFO Shard"));
                let end = self.elapsed() + Duration::from_secs(3);
                while self.elapsed() < end && !self.trace.has_since(length, &heard) {
                    self.step();
                }
                let others = (0..MACHINES.len()).filter(|node| *node != master).collect();
                let deaf = Fault::OneWay(others, vec![master]);
                self.strike(&deaf, true);
                self.pass(Duration::from_millis(3000));
                self.strike(&deaf, false);
            }
            Scene::QuickPowerCut => {
                for _ in 0..2 {
                    self.cut_power(MACHINES[master]);
                    let millis = self.dice.u64(20..200);
                    self.pass(Duration::from_millis(millis));
                    self.restart_machine(MACHINES[master]);
                    self.check_available()?;
                }
            }
            Scene::AllWithoutPower => {
                for node in 0..self.nodes.len() {
                    self.ask(node, "CONFIG SET appendfsync always")?;
                }
                self.kill(master);
                self.pass(Duration::from_millis(3500));
                for machine in 0..3 {
                    self.cut_power(machine);
                }
                self.pass(Duration::from_millis(200));
                for machine in 0..3 {
                    self.restart_machine(machine);
                }
            }
        }
        self.check_available()?;
        self.pass(Duration::from_millis(1000));
        self.check_at_end(&load)?;
        Ok(format!("{} operations were answered", load.answered.get()))
    }

    fn restart_machine(&mut self, machine: usize) {
        (0..MACHINES.len()).filter(|node| MACHINES[*node] == machine).for_each(|node| self.restart(node));
    }

    fn isolate_from_nodes(&mut self, node: usize, cut: bool) {
        self.strike(&Fault::IsolateFromNodes(node), cut);
    }
}
