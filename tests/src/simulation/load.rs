//! Clients that follow MOVED, read and write registers, counters and sets with values of their own, and write down what they saw.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_words::SlotId;
use tokio::time::sleep;

use super::connection::Connection;
use super::run::Simulation;
use super::trace::note;
use crate::client::Reply;
use crate::history::{Answer, Call, Ledger, Outcome, Recorder, Tick, Value, value};

/// How long a client waits for a reply before it gives the operation up.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Redirections that one operation may take.
const REDIRECTIONS_MAX: usize = 6;
/// Replies that say that nothing was done.
const REFUSALS: [&str; 10] = [
    "CLUSTERDOWN",
    "READONLY",
    "NOREPLICAS",
    "MISCONF",
    "TRYAGAIN",
    "LOADING",
    "MASTERDOWN",
    "OOM",
    "EXECABORT",
    "MOVED",
];

/// What clients do, and what they did.
pub struct Load {
    /// Registers and counters.
    pub recorder: Recorder,
    /// Sets.
    pub ledger: Ledger,
    /// Operations that were answered.
    pub answered: Cell<u64>,
    /// Replies that no client should get, with how often.
    pub unexpected: RefCell<BTreeMap<String, u64>>,
    shape: Shape,
    stop: Cell<bool>,
    running: Cell<usize>,
}

/// How many clients, on how many keys.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients.
    pub clients: u32,
    /// Registers.
    pub registers: usize,
    /// Counters.
    pub counters: usize,
    /// The longest pause between two operations of a client, ms.
    pub pause_ms: u64,
    /// How many of the clients only read.
    pub readers: u32,
    /// How long a client waits for a reply before it gives the operation up.
    pub patience: Duration,
    /// Size of large values that are written now and then; 0: none are.
    pub padding: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            clients: 5,
            registers: 6,
            counters: 3,
            pause_ms: 30,
            readers: 0,
            patience: PATIENCE,
            padding: 0,
        }
    }
}

impl Shape {
    fn registers(self) -> impl Iterator<Item = Arc<str>> {
        (0..self.registers).map(|number| Arc::from(format!("r{number}")))
    }

    fn counters(self) -> impl Iterator<Item = Arc<str>> {
        (0..self.counters).map(|number| Arc::from(format!("i{number}")))
    }

    /// The slots of everything that clients write.
    fn slots(self) -> Vec<SlotId> {
        let lists = (0..self.clients).flat_map(|number| [list(number), large(number)]);
        let keys = self.registers().chain(self.counters()).chain(self.sets()).chain(lists);
        let slots: BTreeSet<SlotId> = keys.map(|key| SlotId::of_key(key.as_bytes())).collect();
        slots.into_iter().collect()
    }

    fn sets(self) -> impl Iterator<Item = Arc<str>> {
        (0..self.clients).map(|number| Arc::from(format!("s{number}")))
    }
}

/// A client's list: nobody judges it but the digests, to which a record that is applied twice shows.
fn list(client: u32) -> Arc<str> {
    Arc::from(format!("l{client}"))
}

/// A client's key for large values.
fn large(client: u32) -> Arc<str> {
    Arc::from(format!("p{client}"))
}

impl Simulation {
    /// Clients begin.
    pub fn start_load(&mut self, shape: Shape) -> Rc<Load> {
        self.watched = shape.slots();
        let load = Rc::new(Load {
            recorder: Recorder::new(),
            ledger: Ledger::new(),
            answered: Cell::new(0),
            unexpected: RefCell::default(),
            shape,
            stop: Cell::new(false),
            running: Cell::new(shape.clients as usize),
        });
        let addresses = self.addresses();
        for id in 0..shape.clients {
            let dice = fastrand::Rng::with_seed(self.dice.u64(..));
            let client = Client::new(id, addresses.clone(), load.clone(), dice);
            self.start_client(id as usize, client.run());
        }
        load
    }

    /// Clients end; then everything is read once more, and the sets are returned as they are.
    ///
    /// # Errors
    /// What could not be read.
    pub fn stop_load(&mut self, load: &Rc<Load>) -> Result<BTreeMap<Arc<str>, BTreeSet<u64>>, String> {
        load.stop.set(true);
        for _ in 0..60_000 {
            if load.running.get() == 0 {
                break;
            }
            self.step();
        }
        assert_eq!(load.running.get(), 0, "every client ends in time");
        let dice = fastrand::Rng::with_seed(self.dice.u64(..));
        let client = Client::new(u32::MAX, self.addresses(), load.clone(), dice);
        self.operate(Duration::from_secs(60), client.read_everything())
            .unwrap_or_else(|| Err("the last reads take too long".into()))
    }
}

/// What became of a command.
enum Sent {
    Reply(Reply),
    /// It surely never arrived.
    Nothing,
    Unknown,
}

struct Client {
    id: u32,
    addresses: Vec<SocketAddr>,
    load: Rc<Load>,
    dice: fastrand::Rng,
    connections: BTreeMap<SocketAddr, Connection>,
    owners: BTreeMap<Arc<str>, SocketAddr>,
    next_value: u64,
}

fn now() -> Tick {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_millis() as u64)
}

fn is_refusal(text: &str) -> bool {
    REFUSALS.iter().any(|code| text.split(' ').next() == Some(code))
}

impl Client {
    fn new(id: u32, addresses: Vec<SocketAddr>, load: Rc<Load>, dice: fastrand::Rng) -> Self {
        let (connections, owners) = (BTreeMap::new(), BTreeMap::new());
        Self { id, addresses, load, dice, connections, owners, next_value: 0 }
    }

    async fn run(mut self) {
        let registers: Vec<Arc<str>> = self.load.shape.registers().collect();
        let counters: Vec<Arc<str>> = self.load.shape.counters().collect();
        let mut pending: Option<(u64, Tick, bool)> = None;
        while !self.load.stop.get() {
            sleep(Duration::from_millis(self.dice.u64(..=self.load.shape.pause_ms))).await;
            let register = registers[self.dice.usize(..registers.len())].clone();
            let counter = counters[self.dice.usize(..counters.len())].clone();
            let is_reader = self.id < self.load.shape.readers;
            let done = match self.dice.u32(..100) {
                _ if is_reader => self.get(&register).await.is_some(),
                0..30 => self.get(&register).await.is_some(),
                30..50 => self.set(&register).await,
                50..60 => self.get(&counter).await.is_some(),
                60..75 => self.increment(&counter).await,
                75..84 => self.compare_and_set(&register).await,
                84..90 => self.push().await,
                _ => self.add(&mut pending).await,
            };
            if done {
                self.load.answered.set(self.load.answered.get() + 1);
            } else {
                sleep(Duration::from_millis(self.dice.u64(20..200))).await;
            }
        }
        if let Some((element, invoked, _)) = pending {
            let set = Arc::from(format!("s{}", self.id));
            self.load.ledger.added(&set, element, invoked, now(), &Outcome::Unknown);
        }
        self.load.running.set(self.load.running.get() - 1);
    }

    fn value(&mut self) -> Value {
        self.next_value += 1;
        value(format!("{}.{}", self.id, self.next_value))
    }

    async fn get(&mut self, key: &Arc<str>) -> Option<Option<Value>> {
        let token = self.load.recorder.begin(self.id, key, Call::Get, now());
        let seen = match self.send(key, &["GET", key]).await {
            Sent::Reply(Reply::Null) => None,
            Sent::Reply(Reply::Bulk(bytes)) => Some(value(String::from_utf8_lossy(&bytes))),
            other => {
                self.failed(token, other);
                return None;
            }
        };
        self.load.recorder.answered(token, Answer::Value(seen.clone()), now());
        Some(seen)
    }

    async fn set(&mut self, key: &Arc<str>) -> bool {
        let new = self.value();
        let token = self.load.recorder.begin(self.id, key, Call::Set(new.clone()), now());
        match self.send(key, &["SET", key, &new]).await {
            Sent::Reply(reply) if reply.is_ok() => {
                self.load.recorder.answered(token, Answer::Done, now());
                true
            }
            other => self.failed(token, other),
        }
    }

    async fn increment(&mut self, key: &Arc<str>) -> bool {
        let token = self.load.recorder.begin(self.id, key, Call::Incr(1), now());
        match self.send(key, &["INCR", key]).await {
            Sent::Reply(Reply::Integer(number)) => {
                self.load.recorder.answered(token, Answer::Integer(number), now());
                true
            }
            other => self.failed(token, other),
        }
    }

    /// WATCH, GET, MULTI, SET, EXEC.
    async fn compare_and_set(&mut self, key: &Arc<str>) -> bool {
        if !matches!(self.send(key, &["WATCH", key]).await, Sent::Reply(reply) if reply.is_ok()) {
            return false;
        }
        let owner = self.owner(key);
        let expected = self.get(key).await;
        // Only what was seen on the watching connection counts.
        let Some(expected) = expected.filter(|_| self.owner(key) == owner) else {
            self.connections.remove(&owner);
            return false;
        };
        let Some(mut connection) = self.connections.remove(&owner) else { return false };
        let new = self.value();
        let queued = matches!(connection.call(&["MULTI"]).await, Ok(reply) if reply.is_ok())
            && matches!(connection.call(&["SET", key, &new]).await, Ok(Reply::Simple(text)) if text == "QUEUED");
        if !queued {
            return false;
        }
        let call = Call::CompareAndSet { expected, new };
        let token = self.load.recorder.begin(self.id, key, call, now());
        let sent = match connection.call(&["EXEC"]).await {
            Ok(reply) => {
                self.connections.insert(owner, connection);
                Sent::Reply(reply)
            }
            Err(_) => Sent::Unknown,
        };
        match sent {
            Sent::Reply(Reply::Array(replies)) if replies.iter().all(Reply::is_ok) => {
                self.load.recorder.answered(token, Answer::Done, now());
                true
            }
            Sent::Reply(Reply::Null) => {
                self.load.recorder.end(token, Outcome::Failed, now());
                true
            }
            other => self.failed(token, other),
        }
    }

    /// Appends to the client's own list, and writes a large value.
    async fn push(&mut self) -> bool {
        let (list, large, new) = (list(self.id), large(self.id), self.value());
        let padding = "x".repeat(self.load.shape.padding);
        let mut is_done = self.change(&list, &["RPUSH", &list, &new]).await;
        if !padding.is_empty() {
            is_done &= self.change(&large, &["SET", &large, &padding]).await;
        }
        is_done
    }

    async fn change(&mut self, key: &Arc<str>, words: &[&str]) -> bool {
        match self.send(key, words).await {
            Sent::Reply(Reply::Error(text)) => {
                self.unexpected(&text);
                false
            }
            Sent::Reply(_) => true,
            Sent::Nothing | Sent::Unknown => false,
        }
    }

    /// Adds the next element to the client's own set, or repeats one that was not acknowledged.
    async fn add(&mut self, pending: &mut Option<(u64, Tick, bool)>) -> bool {
        let set: Arc<str> = Arc::from(format!("s{}", self.id));
        let (element, invoked, _) = *pending.get_or_insert_with(|| {
            self.next_value += 1;
            (self.next_value, now(), false)
        });
        match self.send(&set, &["SADD", &set, &element.to_string()]).await {
            Sent::Reply(Reply::Integer(_)) => {
                let outcome = Outcome::Answered(Answer::Done);
                self.load.ledger.added(&set, element, invoked, now(), &outcome);
                *pending = None;
                true
            }
            Sent::Reply(Reply::Error(text)) => {
                self.unexpected(&text);
                false
            }
            Sent::Reply(_) | Sent::Nothing | Sent::Unknown => false,
        }
    }

    fn failed(&self, token: crate::history::Token, sent: Sent) -> bool {
        let outcome = match sent {
            Sent::Nothing => Outcome::Failed,
            Sent::Unknown => Outcome::Unknown,
            Sent::Reply(Reply::Error(text)) if is_refusal(&text) => Outcome::Failed,
            Sent::Reply(reply) => {
                self.unexpected(&reply.to_string());
                Outcome::Unknown
            }
        };
        self.load.recorder.end(token, outcome, now());
        false
    }

    fn unexpected(&self, text: &str) {
        if !is_refusal(text) {
            note(format_args!("client {}: unexpected reply {text}", self.id));
            *self.load.unexpected.borrow_mut().entry(text.to_owned()).or_default() += 1;
        }
    }

    fn owner(&mut self, key: &Arc<str>) -> SocketAddr {
        let addresses = &self.addresses;
        let dice = &mut self.dice;
        *self.owners.entry(key.clone()).or_insert_with(|| addresses[dice.usize(..addresses.len())])
    }

    async fn send(&mut self, key: &Arc<str>, words: &[&str]) -> Sent {
        for _ in 0..REDIRECTIONS_MAX {
            let owner = self.owner(key);
            let mut connection = match self.connections.remove(&owner) {
                Some(connection) => connection,
                None => match Connection::open(owner, self.load.shape.patience).await {
                    Ok(connection) => connection,
                    Err(_) => {
                        self.owners.remove(key);
                        return Sent::Nothing;
                    }
                },
            };
            match connection.call(words).await {
                Ok(Reply::Error(text)) if text.starts_with("MOVED ") => {
                    self.connections.insert(owner, connection);
                    match text.split(' ').nth(2).and_then(|address| address.parse().ok()) {
                        Some(address) => drop(self.owners.insert(key.clone(), address)),
                        None => return Sent::Nothing,
                    }
                }
                Ok(reply) => {
                    self.connections.insert(owner, connection);
                    if let Reply::Error(_) = reply {
                        self.owners.remove(key);
                    }
                    return Sent::Reply(reply);
                }
                Err(_) => {
                    self.owners.remove(key);
                    return Sent::Unknown;
                }
            }
        }
        Sent::Nothing
    }

    async fn read_everything(mut self) -> Result<BTreeMap<Arc<str>, BTreeSet<u64>>, String> {
        let shape = self.load.shape;
        for key in shape.registers().chain(shape.counters()) {
            while self.get(&key).await.is_none() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        let mut sets = BTreeMap::new();
        for key in shape.sets() {
            let members = loop {
                match self.send(&key, &["SMEMBERS", &key]).await {
                    Sent::Reply(Reply::Array(members)) => break members,
                    _ => sleep(Duration::from_millis(100)).await,
                }
            };
            let number = |member: &Reply| member.text().parse::<u64>().map_err(|error| error.to_string());
            sets.insert(key, members.iter().map(number).collect::<Result<_, _>>()?);
        }
        Ok(sets)
    }
}
