//! Many cores, nothing else: messages with delays of a few milliseconds and a cut in two, a registry that stays as it is, no
//! metadata group. Nobody owns a slot, so that nobody who comes back has to be replaced first. Everything follows from one seed. Leaner than the core's own test world, so that a thousand nodes fit.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use holdfast_cluster::change::{NodeAddress, NodeRecord};
use holdfast_cluster::dice::Dice;
use holdfast_cluster::voters::desired_voters;
use holdfast_cluster::{
    Change, Cluster, Destination, Event, Input, Message, MessageKind, Myself, Outcome, Positions, Registry,
    Send, Settings,
};
use holdfast_replication::wire::frame::FRAME_HEADER_SIZE;
use holdfast_replication::wire::gossip;
use holdfast_words::{ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId, ShardId, Zone};

/// Drivers tick so often.
const TICK_MS: u64 = 100;
/// A message is on its way for 1 to so many milliseconds.
const DELAY_MS_MAX: usize = 4;
/// Nodes on each machine (zone), at most.
const NODES_PER_MACHINE: usize = 10;
/// Machines at least.
const MACHINES_MIN: usize = 3;

const SUSPECTED: u8 = 1;
const FAILED: u8 = 2;

struct Node {
    core: Option<Cluster>,
    record: NodeRecord,
    /// Nodes on another side of the cut are not reached.
    side: u8,
}

/// What was counted while counting was on.
#[derive(Clone, Default, Debug)]
pub struct Counted {
    /// Messages by kind, in the order of [`MessageKind::ALL`].
    pub messages: [u64; MessageKind::ALL.len()],
    /// Their bytes as frames on the wire.
    pub bytes: u64,
    /// The largest one.
    pub largest: u64,
    /// Bytes sent, by node.
    pub bytes_of: Vec<u64>,
    /// Spent in `Cluster::step`, over all nodes.
    pub cpu: Duration,
    /// Virtual time.
    pub window_ms: u64,
}

impl Counted {
    /// Messages of all kinds.
    pub fn total(&self) -> u64 {
        self.messages.iter().sum()
    }
}

/// The world.
pub struct World {
    /// The time.
    pub now_ms: u64,
    /// `cluster-node-timeout`.
    pub timeout_ms: u64,
    nodes: Vec<Node>,
    index: HashMap<NodeId, usize>,
    registry: Arc<Registry>,
    dice: Dice,
    /// By millisecond of arrival, modulo its length.
    in_flight: Vec<Vec<(usize, usize, Message)>>,
    /// Who ticks at which millisecond, modulo [`TICK_MS`].
    ticking: Vec<Vec<usize>>,
    /// What row holds of column: [`SUSPECTED`], [`FAILED`].
    held: Vec<u8>,
    counting: Option<Counted>,
    /// When counting began, and this thread's time on a processor then.
    counting_since: (Instant, Duration),
}

impl World {
    /// `count` nodes, half of them masters with a replica each on another machine, all up.
    pub fn new(count: usize, timeout_ms: u64, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let records = records(count, &mut dice);
        let registry = Arc::new(registry(&records));
        let index = records.iter().enumerate().map(|(at, record)| (record.id, at)).collect();
        let mut ticking = vec![Vec::new(); TICK_MS as usize];
        for at in 0..count {
            ticking[dice.below(TICK_MS as usize)].push(at);
        }
        let nodes = records.into_iter().map(|record| Node { core: None, record, side: 0 }).collect();
        let mut world = Self {
            now_ms: 1_000_000,
            timeout_ms,
            nodes,
            index,
            registry,
            dice,
            in_flight: vec![Vec::new(); DELAY_MS_MAX + 1],
            ticking,
            held: vec![0; count * count],
            counting: None,
            counting_since: (Instant::now(), Duration::ZERO),
        };
        (0..count).for_each(|node| world.start(node));
        world
    }

    /// Whether this node votes.
    pub fn votes(&self, node: usize) -> bool {
        self.registry.voters.contains(&self.nodes[node].record.id)
    }

    /// How many vote.
    pub fn voters(&self) -> usize {
        self.registry.voters.len()
    }

    /// A number below `bound`.
    pub fn draw(&mut self, bound: usize) -> usize {
        self.dice.below(bound)
    }

    /// Starts a node.
    pub fn start(&mut self, node: usize) {
        let seed = self.dice.roll();
        let Node { core, record, .. } = &mut self.nodes[node];
        let myself = Myself {
            address: record.address.clone(),
            zone: record.zone.clone(),
            incarnation: record.incarnation,
            no_failover: false,
        };
        let settings = Settings { node_timeout_ms: self.timeout_ms, ..Settings::default() };
        *core = Some(Cluster::new(record.id, myself, settings, self.registry.clone(), seed));
        let positions = Positions {
            shard: record.shard,
            written: LogPoint { epoch: Epoch(300), lsn: Lsn(123_456_789_012) },
            durable_lsn: Lsn(123_456_700_000),
            applied_lsn: Lsn(123_456_789_012),
            whole: true,
            trusted: true,
            can_write: true,
            ..Positions::default()
        };
        let row = node * self.nodes.len();
        let count = self.nodes.len();
        self.held[row..row + count].fill(0);
        self.feed(node, Input::Positions(positions));
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].core = None;
    }

    /// Puts whole machines on a side of their own: about `share` of a hundred of the nodes, fewer than half of the voters.
    /// Returns how many nodes that is.
    pub fn cut_off(&mut self, share: usize) -> usize {
        let voters_max = (self.registry.voters.len() - 1) / 2;
        let mut zones: Vec<Zone> = self.nodes.iter().map(|node| node.record.zone.clone()).collect();
        zones.sort();
        zones.dedup();
        let (mut cut, mut voters) = (0, 0);
        for zone in zones {
            let there: Vec<usize> =
                (0..self.nodes.len()).filter(|&at| self.nodes[at].record.zone == zone).collect();
            let voting = there.iter().filter(|&&at| self.votes(at)).count();
            if voters + voting > voters_max || (cut + there.len()) * 100 > share * self.nodes.len() {
                continue;
            }
            there.iter().for_each(|&at| self.nodes[at].side = 1);
            cut += there.len();
            voters += voting;
        }
        cut
    }

    /// Mends the cut.
    pub fn mend(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.side = 0);
    }

    /// Counts from now on.
    pub fn count_from_now(&mut self) {
        self.counting_since = (Instant::now(), on_processor());
        self.counting = Some(Counted { bytes_of: vec![0; self.nodes.len()], ..Counted::default() });
    }

    /// Stops counting.
    pub fn counted(&mut self) -> Counted {
        let mut counted = self.counting.take().unwrap_or_default();
        // On a busy machine this thread stood still for a part of the time, within the steps as well as without.
        let (since, cpu) = self.counting_since;
        let share = (on_processor() - cpu).as_secs_f64() / since.elapsed().as_secs_f64().max(1e-9);
        counted.cpu = counted.cpu.mul_f64(share.min(1.0));
        counted
    }

    /// How many running nodes know that `node` has failed.
    pub fn know_failed(&self, node: usize) -> usize {
        let knows = |row: &usize| self.held[row * self.nodes.len() + node] & FAILED != 0;
        (0..self.nodes.len()).filter(|row| self.nodes[*row].core.is_some()).filter(knows).count()
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.core.is_some()).count()
    }

    /// Whether every running node on the near side of the cut knows that all on the far side have failed.
    pub fn all_know_cut_failed(&self) -> bool {
        let count = self.nodes.len();
        let far = |at: usize| self.nodes[at].side != 0;
        let knows = |row: usize| {
            (0..count).filter(|col| far(*col)).all(|col| self.held[row * count + col] & FAILED != 0)
        };
        (0..count).filter(|row| self.nodes[*row].core.is_some() && !far(*row)).all(knows)
    }

    /// How many running nodes hold some running node for suspected or failed.
    pub fn in_doubt(&self) -> usize {
        let running = |at: usize| self.nodes[at].core.is_some();
        let count = self.nodes.len();
        let doubts = |row: &usize| (0..count).any(|col| running(col) && self.held[row * count + col] != 0);
        (0..count).filter(|row| running(*row)).filter(doubts).count()
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.pass_millisecond();
        }
    }

    /// Lets time pass until `done`, asked every few milliseconds, or for `at_most_ms`. The time it took.
    pub fn run_until(&mut self, at_most_ms: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        let since_ms = self.now_ms;
        while self.now_ms - since_ms < at_most_ms {
            if done(self) {
                return Some(self.now_ms - since_ms);
            }
            self.run(10);
        }
        None
    }

    fn pass_millisecond(&mut self) {
        self.now_ms += 1;
        if let Some(counted) = &mut self.counting {
            counted.window_ms += 1;
        }
        let slot = (self.now_ms % self.in_flight.len() as u64) as usize;
        for (from, to, message) in std::mem::take(&mut self.in_flight[slot]) {
            if self.nodes[from].side == self.nodes[to].side {
                self.feed(to, Input::Received { message: Box::new(message), from_ip: None });
            }
        }
        let phase = (self.now_ms % TICK_MS) as usize;
        for at in 0..self.ticking[phase].len() {
            self.feed(self.ticking[phase][at], Input::Tick);
        }
    }

    fn feed(&mut self, node: usize, input: Input) {
        let Some(core) = &mut self.nodes[node].core else { return };
        let began = self.counting.is_some().then(Instant::now);
        let out = core.step(self.now_ms, input);
        if let (Some(began), Some(counted)) = (began, &mut self.counting) {
            counted.cpu += began.elapsed();
        }
        for event in out.events {
            self.note(node, &event);
        }
        for Send { to, message } in out.send {
            self.post(node, to, message);
        }
    }

    fn note(&mut self, node: usize, event: &Event) {
        let (about, keep, add) = match event {
            Event::Suspected(about) => (about, FAILED, SUSPECTED),
            Event::Failed { node: about, .. } => (about, SUSPECTED, FAILED),
            Event::Answers(about) => (about, FAILED, 0),
            Event::Recovered(about) => (about, 0, 0),
            _ => return,
        };
        if let Some(about) = self.index.get(about) {
            let held = &mut self.held[node * self.nodes.len() + about];
            *held = *held & keep | add;
        }
    }

    fn post(&mut self, from: usize, to: Destination, message: Message) {
        let Destination::Node(to) = to else { return };
        if let Some(counted) = &mut self.counting {
            let body = gossip::encode(message.clone()).expect("messages can be written");
            let size = (FRAME_HEADER_SIZE + body.len()) as u64;
            counted.messages[message.body.kind() as usize] += 1;
            counted.bytes += size;
            counted.bytes_of[from] += size;
            counted.largest = counted.largest.max(size);
        }
        let at = self.now_ms + 1 + self.dice.below(DELAY_MS_MAX) as u64;
        let slot = (at % self.in_flight.len() as u64) as usize;
        if let Some(to) = self.index.get(&to) {
            self.in_flight[slot].push((from, *to, message));
        }
    }
}

/// This thread's time on a processor; standing still counts where the system does not say.
fn on_processor() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| STARTED.elapsed(), Duration::from_nanos)
}

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

fn id(dice: &mut Dice) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes.iter_mut().for_each(|byte| *byte = dice.roll() as u8);
    bytes
}

fn records(count: usize, dice: &mut Dice) -> Vec<NodeRecord> {
    let machines = MACHINES_MIN.max(count / NODES_PER_MACHINE);
    let record = |at: usize| {
        let machine = at % machines;
        NodeRecord {
            id: NodeId(id(dice)),
            address: NodeAddress {
                ip: format!("10.0.{}.{}", machine / 250, machine % 250 + 1),
                hostname: String::new(),
                port: 7000 + (at / machines) as u16,
                bus_port: 17000 + (at / machines) as u16,
            },
            zone: Zone(format!("10.0.{}.{}", machine / 250, machine % 250 + 1)),
            shard: ShardId(id(dice)),
            incarnation: Incarnation(1),
            no_failover: false,
        }
    };
    (0..count).map(record).collect()
}

/// The first half of the nodes are masters; each of the others replicates one that is on another machine.
fn registry(records: &[NodeRecord]) -> Registry {
    let mut registry = Registry::default();
    let mut done = |change: Change| {
        let outcome = registry.apply(&change);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{change:?}: {outcome:?}");
    };
    done(Change::Found { cluster: ClusterId([7; 20]), node: records[0].clone() });
    for (record, epoch) in records[1..].iter().zip(2..) {
        done(Change::AddNode { node: record.clone(), epoch: Epoch(epoch), claims: Vec::new() });
    }
    let (masters, replicas) = records.split_at(records.len() / 2);
    for (at, replica) in replicas.iter().enumerate() {
        let elsewhere = |by: &usize| masters[(at + by) % masters.len()].zone != replica.zone;
        // Every replica the same step away, so that each master has one.
        let step = (0..masters.len()).find(elsewhere).unwrap_or(0);
        let master = masters[(at + step) % masters.len()].id;
        done(Change::Replicate { node: replica.id, master, node_is_empty: true });
    }
    let to = desired_voters(&registry, |_| true);
    let from = registry.voters.clone();
    if from != to {
        let outcome = registry.apply(&Change::SetVoters { from, to });
        assert_eq!(outcome, Outcome::Done);
    }
    registry
}
