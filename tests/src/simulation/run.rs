//! One run from one seed: the cluster, its clients, and what is done to them, a millisecond at a time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use holdfast_storage::platform::simulation::disk::{Disk, Faults, machine_disk};
use holdfast_storage::platform::simulation::{Installed, install};
use holdfast_words::SlotId;
use tokio::sync::mpsc;
use turmoil::Sim;

use super::coverage::Coverage;
use super::network::{LATENCY, Network};
use super::nodes::NodeHost;
use super::trace::{NodeLog, Trace, has_panicked, note};
use super::world::SimulatedWorld;

/// Hosts of clients.
pub const CLIENT_HOSTS: [&str; 2] = ["c0", "c1"];
/// The host of whoever looks after the cluster; nothing is ever wrong with its network.
const OPERATOR: &str = "operator";
/// The machine of each node: three machines of two nodes, no master with its own replica.
pub const MACHINES: [usize; 6] = [0, 1, 2, 1, 2, 0];

/// How often nodes at the same point are compared.
const COMPARED_MS: u128 = 50;

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// A cluster in a simulated world.
pub struct Simulation {
    /// The nodes.
    pub nodes: Vec<Rc<NodeHost>>,
    /// The seed's dice for everything outside the nodes.
    pub dice: fastrand::Rng,
    /// What happened.
    pub trace: Rc<Trace>,
    /// What is wrong with the network.
    pub network: Network,
    /// What this run is like.
    pub coverage: Coverage,
    /// Slots whose data are compared between nodes that are at the same point, all the time.
    pub watched: Vec<SlotId>,
    /// Nodes that lose a message now and then.
    pub flickering: Vec<usize>,
    /// What the nodes take for the world.
    pub world: Rc<SimulatedWorld>,
    jobs: Vec<mpsc::UnboundedSender<Job>>,
    without_power: BTreeSet<usize>,
    sim: Sim<'static>,
    _log: tracing::subscriber::DefaultGuard,
    // Last: whatever the nodes drop may still look at it.
    _installed: Installed,
}

impl Simulation {
    /// Six nodes that are not started, and hosts for clients.
    pub fn new(seed: u64, options: &[&str]) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        fastrand::seed(dice.u64(..));
        let trace = Trace::start();
        let log = tracing::subscriber::set_default(NodeLog::new(tracing::Level::INFO));
        let world = SimulatedWorld::new(dice.u64(..), MACHINES.len(), trace.clone());
        let installed = install(world.clone());
        let mut sim = turmoil::Builder::new()
            .rng_seed(dice.u64(..))
            .epoch(std::time::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
            .simulation_duration(Duration::from_secs(1 << 30))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(LATENCY.0)
            .max_message_latency(LATENCY.1)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let nodes: Vec<Rc<NodeHost>> = (MACHINES.iter().enumerate())
            .map(|(index, machine)| NodeHost::new(index, *machine, options))
            .collect();
        let mut jobs = Vec::new();
        for host in CLIENT_HOSTS.into_iter().chain([OPERATOR]) {
            let (sender, receiver) = mpsc::unbounded_channel::<Job>();
            jobs.push(sender);
            let receiver = Rc::new(RefCell::new(Some(receiver)));
            sim.host(host, move || {
                let receiver = receiver.clone();
                async move {
                    let mut receiver = receiver.borrow_mut().take().expect("a host of clients starts once");
                    while let Some(job) = receiver.recv().await {
                        tokio::task::spawn_local(job);
                    }
                    Ok(())
                }
            });
        }
        let network = Network::default();
        let without_power = BTreeSet::new();
        let (coverage, watched, flickering) = (Coverage::default(), Vec::new(), Vec::new());
        let (_log, _installed) = (log, installed);
        Self {
            nodes,
            dice,
            trace,
            network,
            coverage,
            watched,
            flickering,
            world,
            jobs,
            without_power,
            sim,
            _log,
            _installed,
        }
    }

    /// Starts all nodes for the first time.
    pub fn start_all(&mut self) {
        for node in self.nodes.clone() {
            let life = node.clone();
            self.sim.host(node.name.as_str(), move || life.clone().live());
            node.ip.set(Some(self.sim.lookup(node.name.as_str())));
        }
    }

    /// Simulated time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// A millisecond passes.
    ///
    /// # Panics
    /// When a node or a client panicked, or two nodes at the same point differ.
    pub fn step(&mut self) {
        self.trace.set_now_us(self.sim.elapsed().as_micros() as u64);
        self.sim.step().expect("hosts tell of their end by themselves");
        assert!(!has_panicked(), "something panicked in the simulation");
        if self.elapsed().as_millis().is_multiple_of(COMPARED_MS) {
            let watched = std::mem::take(&mut self.watched);
            self.check_equal_positions(&watched).unwrap_or_else(|finding| panic!("{finding}"));
            self.watched = watched;
        }
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let end = self.elapsed() + time;
        while self.elapsed() < end {
            self.step();
        }
    }

    /// Starts a client's task.
    pub fn start_client(&self, index: usize, task: impl Future<Output = ()> + 'static) {
        self.jobs[index % CLIENT_HOSTS.len()].send(Box::pin(task)).expect("the clients' hosts run");
    }

    /// Does an operator's work, while time passes; `None` when it takes longer than that.
    pub fn operate<T: 'static>(
        &mut self,
        patience: Duration,
        work: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        let job = async move {
            let done = tokio::time::timeout(patience, work).await.ok();
            *place.borrow_mut() = Some(done);
        };
        self.jobs[CLIENT_HOSTS.len()].send(Box::pin(job)).expect("the operator's host runs");
        loop {
            self.step();
            if let Some(done) = result.borrow_mut().take() {
                return done;
            }
        }
    }

    fn disk(&self, node: usize) -> std::sync::Arc<Disk> {
        machine_disk(&self.nodes[node].machine)
    }

    /// kill -9: the kernel hangs up for it, what it wrote is there.
    pub fn kill(&mut self, node: usize) {
        note(format_args!("FAULT kill -9 n{node}"));
        let host = self.nodes[node].clone();
        self.disk(node).kill(&host.directory());
        self.sim.crash(host.name.as_str());
        host.set_down();
        self.world.forget_held(node);
    }

    /// The power of these nodes' machines fails: nobody hears a last word, what was not synced is up to the dice. All nodes of the
    /// machine die.
    pub fn cut_power(&mut self, machine: usize) {
        let nodes: Vec<usize> = (0..MACHINES.len()).filter(|node| MACHINES[*node] == machine).collect();
        note(format_args!("FAULT power cut of m{machine}, nodes {nodes:?}"));
        for &node in &nodes {
            self.isolate(node, true);
            let name = self.nodes[node].name.clone();
            self.sim.crash(name.as_str());
            self.nodes[node].set_down();
            self.world.forget_held(node);
            self.without_power.insert(node);
        }
        let lost = self.disk(nodes[0]).cut_power(&mut self.dice);
        self.coverage.add("sectors-lost", lost.lost.into());
        self.coverage.add("sectors-torn", lost.torn.into());
    }

    /// Cuts a node off from everybody, or mends that.
    pub fn isolate(&mut self, node: usize, cut: bool) {
        let me = self.nodes[node].name.clone();
        for other in self.hosts() {
            if other != me {
                for (from, to) in [(&me, &other), (&other, &me)] {
                    if cut {
                        self.network.cut(&self.sim, from, to);
                    } else {
                        self.network.mend(&self.sim, from, to);
                    }
                }
            }
        }
    }

    /// What one host sends to another is lost, or not any more.
    pub fn cut(&mut self, from: &str, to: &str, cut: bool) {
        if cut {
            self.network.cut(&self.sim, from, to);
        } else {
            self.network.mend(&self.sim, from, to);
        }
    }

    /// Messages between two hosts take this long.
    pub fn set_latency(&mut self, a: &str, b: &str, longest: Duration) {
        self.sim.set_link_max_message_latency(a, b, longest);
    }

    /// Messages between two hosts wait, or come all at once.
    pub fn hold(&mut self, a: &str, b: &str, hold: bool) {
        if hold {
            self.network.hold(&self.sim, a, b);
        } else {
            self.network.release(&self.sim, a, b);
        }
    }

    /// Names of all hosts of nodes and clients.
    pub fn hosts(&self) -> Vec<String> {
        let clients = CLIENT_HOSTS.iter().map(|host| (*host).to_owned());
        self.nodes.iter().map(|node| node.name.clone()).chain(clients).collect()
    }

    /// A node that is down starts again.
    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        note(format_args!("FAULT over: start n{node}"));
        if self.without_power.remove(&node) {
            self.isolate(node, false);
        }
        let host = self.nodes[node].clone();
        // One that ended by itself still has its files open.
        self.disk(node).kill(&host.directory());
        self.world.forget_held(node);
        self.sim.bounce(host.name.as_str());
    }

    /// SIGSTOP, SIGCONT.
    pub fn pause(&mut self, node: usize, paused: bool) {
        note(format_args!("FAULT {} n{node}", if paused { "SIGSTOP" } else { "SIGCONT" }));
        self.nodes[node].pause(paused);
    }

    /// What is wrong with a node's disk from now on; nothing: all is well.
    pub fn set_disk_faults(&mut self, node: usize, faults: Option<Faults>) {
        let directory = self.nodes[node].directory();
        match faults {
            Some(faults) => self.disk(node).set_faults(&directory, faults),
            None => self.disk(node).heal(&directory),
        }
    }

    /// A number that two runs share only if they ended alike.
    pub fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.trace.text().as_bytes());
        for node in 0..self.nodes.len() {
            hasher.update(&self.disk(node).fingerprint().to_le_bytes());
        }
        hasher.finalize()
    }
}
