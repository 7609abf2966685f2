//! Clients whose every operation is recorded: reads, writes, increments, appends, compare-and-set through WATCH/MULTI/EXEC on a
//! few keys, and additions to sets. Keys are given up for new ones after a while, so that no history grows long.
//!
//! A third of the clients asks for the map of slots again and again; the others stay with whom they know as long as it
//! answers. A fifth only reads, and stays with whom it knows also while that does not answer: a master that was replaced while it was
//! paused or cut off has readers when it comes back, and that is how stale reads are seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::cluster::slot_of;
use crate::history::{Answer, Call, Findings, Ledger, Outcome, Recorder, Tick, Verdict, check, value};

/// How long a reply may take before the client gives up: the outcome is unknown then.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long keys are used.
const KEYS_LIVE: Duration = Duration::from_secs(10);
const REGISTERS: u32 = 6;
const COUNTERS: u32 = 2;
const APPENDED: u32 = 2;
/// Who reads all when all is over.
const LAST: u32 = 1_000_000;

/// What all clients of a run share.
pub struct Observed {
    /// Operations on registers.
    pub recorder: Recorder,
    /// Additions to sets.
    pub ledger: Ledger,
    began: Instant,
}

impl Observed {
    /// Microseconds since the beginning.
    pub fn now(&self) -> Tick {
        self.began.elapsed().as_micros() as Tick
    }
}

/// Clients at work.
pub struct RecordedClients {
    /// What they saw.
    pub observed: Arc<Observed>,
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl RecordedClients {
    /// Starts so many clients of the nodes at these addresses.
    pub fn start(addresses: &[SocketAddr], count: u32, seed: u64) -> Self {
        let observed =
            Arc::new(Observed { recorder: Recorder::new(), ledger: Ledger::new(), began: Instant::now() });
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|id| {
            let mut client =
                RecordedClient::new(id, count, addresses.to_vec(), seed ^ u64::from(id), observed.clone());
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.act();
                }
            })
        });
        let threads = threads.collect();
        Self { observed, addresses: addresses.to_vec(), stop, threads }
    }

    /// Ends the clients, reads all keys of the healed cluster once more, and judges.
    ///
    /// # Panics
    /// When the cluster does not answer.
    pub fn judge(self) -> (Verdict, Findings) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a client does not panic"));
        let mut last = RecordedClient::new(LAST, 1, self.addresses, 0, self.observed.clone());
        let history = self.observed.recorder.history();
        let keys: BTreeSet<Arc<str>> = history.operations.iter().map(|one| one.key.clone()).collect();
        keys.iter().for_each(|key| last.read_at_last(key));
        let names = self.observed.ledger.names();
        let contents: BTreeMap<Arc<str>, BTreeSet<u64>> =
            names.iter().map(|name| (name.clone(), last.set_at_last(name))).collect();
        (check(&self.observed.recorder.history()), self.observed.ledger.judge(&contents))
    }
}

/// How a call went.
enum Reached {
    Answered(Reply),
    /// It was not executed and never will be.
    Refused,
    /// Nobody knows.
    Lost,
}

struct RecordedClient {
    id: u32,
    count: u32,
    addresses: Vec<SocketAddr>,
    asks_for_map: bool,
    only_reads: bool,
    asked: Instant,
    map: HashMap<u16, SocketAddr>,
    connections: HashMap<SocketAddr, Client>,
    dice: fastrand::Rng,
    observed: Arc<Observed>,
    number: u64,
}

impl RecordedClient {
    fn new(id: u32, count: u32, addresses: Vec<SocketAddr>, seed: u64, observed: Arc<Observed>) -> Self {
        Self {
            id,
            count,
            addresses,
            asks_for_map: id.is_multiple_of(3) && id % 5 != 4,
            only_reads: id % 5 == 4 && id != LAST,
            asked: Instant::now(),
            map: HashMap::new(),
            connections: HashMap::new(),
            dice: fastrand::Rng::with_seed(seed),
            observed,
            number: 0,
        }
    }

    /// One operation and a short rest.
    fn act(&mut self) {
        if self.asks_for_map && self.asked.elapsed() > Duration::from_millis(300) {
            self.learn_map();
        }
        let era = self.observed.now() / KEYS_LIVE.as_micros() as u64;
        self.number += 1;
        let text = value(format!("{}.{}", self.id, self.number));
        let register: Arc<str> = format!("r{era}:{}", self.dice.u32(..REGISTERS)).into();
        let counter: Arc<str> = format!("c{era}:{}", self.dice.u32(..COUNTERS)).into();
        let appended: Arc<str> = format!("a{era}:{}", self.dice.u32(..APPENDED)).into();
        let what = match self.only_reads {
            true => [0, 0, 0, 12, 15, 19][self.dice.usize(..6)],
            false => self.dice.u32(..20),
        };
        match what {
            0..=5 => _ = self.record(&register, Call::Get),
            6..=8 => _ = self.record(&register, Call::Set(text)),
            9..=10 => self.compare_and_set(&register, &text),
            11 => _ = self.record(&register, Call::Del),
            12 => _ = self.record(&counter, Call::Get),
            13..=14 => _ = self.record(&counter, Call::Incr(1)),
            15 => _ = self.record(&appended, Call::Get),
            16 => _ = self.record(&appended, Call::Append(text)),
            17..=18 => self.add(&format!("s{era}:{}", self.id).into()),
            _ => {
                let whose = self.dice.u32(..self.count);
                self.read_set(&format!("s{era}:{whose}").into());
            }
        }
        std::thread::sleep(Duration::from_micros(self.dice.u64(500..8_000)));
    }

    /// One operation of one command; what the register held, if that was asked.
    fn record(&mut self, key: &Arc<str>, call: Call) -> Option<Option<crate::history::Value>> {
        let words: Vec<String> = match &call {
            Call::Get => vec!["GET".into(), key.to_string()],
            Call::Set(new) => vec!["SET".into(), key.to_string(), new.to_string()],
            Call::Incr(by) => vec!["INCRBY".into(), key.to_string(), by.to_string()],
            Call::Append(tail) => vec!["APPEND".into(), key.to_string(), tail.to_string()],
            Call::Del => vec!["DEL".into(), key.to_string()],
            Call::CompareAndSet { .. } => unreachable!("that is several commands"),
        };
        let token = self.observed.recorder.begin(self.id, key, call, self.observed.now());
        let reached = self.call(slot_of(key), &words);
        let outcome = outcome_of(reached);
        self.observed.recorder.end(token, outcome.clone(), self.observed.now());
        match outcome {
            Outcome::Answered(Answer::Value(seen)) => Some(seen),
            _ => None,
        }
    }

    /// WATCH, GET, MULTI, SET, EXEC on one connection.
    fn compare_and_set(&mut self, key: &Arc<str>, new: &crate::history::Value) {
        let slot = slot_of(key);
        if !matches!(self.call(slot, &["WATCH", key]), Reached::Answered(Reply::Simple(_))) {
            return;
        }
        let Some(&watched_at) = self.map.get(&slot) else { return };
        let seen = self.record(key, Call::Get);
        let is_still_there = self.map.get(&slot) == Some(&watched_at);
        let (Some(expected), true) = (seen, is_still_there) else {
            // The watch lies on a connection that is not used for this any more.
            self.connections.remove(&watched_at);
            return;
        };
        let call = Call::CompareAndSet { expected, new: new.clone() };
        let token = self.observed.recorder.begin(self.id, key, call, self.observed.now());
        let outcome = match self.transaction(watched_at, key, new) {
            Ok(Reply::Array(_)) => Outcome::Answered(Answer::Done),
            Ok(Reply::Null) => Outcome::Failed,
            Ok(Reply::Error(text)) if is_refusal(&text) => Outcome::Failed,
            Ok(_) => Outcome::Unknown,
            Err(was_sent) => {
                self.connections.remove(&watched_at);
                self.forget(slot);
                if was_sent { Outcome::Unknown } else { Outcome::Failed }
            }
        };
        self.observed.recorder.end(token, outcome, self.observed.now());
    }

    /// The reply to EXEC, or whether it was sent.
    fn transaction(&mut self, at: SocketAddr, key: &str, new: &str) -> Result<Reply, bool> {
        let client = self.connections.get_mut(&at).ok_or(false)?;
        let multi = client.try_call(&["MULTI"]).map_err(|_| false)?;
        let set = client.try_call(&["SET", key, new]).map_err(|_| false)?;
        if !multi.is_ok() || set != Reply::Simple("QUEUED".into()) {
            // What was queued is given up with the connection.
            return Err(false);
        }
        let reply = client.try_call(&["EXEC"]).map_err(|_| true)?;
        match &reply {
            Reply::Array(replies) if !matches!(replies[..], [ref one] if one.is_ok()) => Err(true),
            _ => Ok(reply),
        }
    }

    fn add(&mut self, set: &Arc<str>) {
        let (element, begun) = (self.number, self.observed.now());
        let reached = self.call(slot_of(set), &["SADD", set, &element.to_string()]);
        let outcome = outcome_of(reached);
        self.observed.ledger.added(set, element, begun, self.observed.now(), &outcome);
    }

    fn read_set(&mut self, set: &Arc<str>) {
        let begun = self.observed.now();
        if let Reached::Answered(reply @ Reply::Array(_)) = self.call(slot_of(set), &["SMEMBERS", set]) {
            self.observed.ledger.read(set, begun, self.observed.now(), numbers(reply));
        }
    }

    fn read_at_last(&mut self, key: &Arc<str>) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.record(key, Call::Get).is_none() {
            assert!(Instant::now() < deadline, "{key} cannot be read when all is over");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn set_at_last(&mut self, set: &str) -> BTreeSet<u64> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match self.call(slot_of(set), &["SMEMBERS", set]) {
                Reached::Answered(reply @ Reply::Array(_)) => return numbers(reply),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
            assert!(Instant::now() < deadline, "{set} cannot be read when all is over");
        }
    }

    /// Sends a command to whom it believes to serve the slot, and follows where it is told to go.
    fn call<W: AsRef<str>>(&mut self, slot: u16, words: &[W]) -> Reached {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        for _ in 0..4 {
            let anyone = self.addresses[self.dice.usize(..self.addresses.len())];
            let at = *self.map.entry(slot).or_insert(anyone);
            if let std::collections::hash_map::Entry::Vacant(vacant) = self.connections.entry(at) {
                let Ok(mut client) = Client::connect_to(at, PATIENCE) else {
                    self.forget(slot);
                    return Reached::Refused;
                };
                client.set_patience(PATIENCE);
                vacant.insert(client);
            }
            let client = self.connections.get_mut(&at).expect("just made");
            match client.try_call(&words) {
                Ok(Reply::Error(text)) => match moved_to(&text) {
                    Some(to) => _ = self.map.insert(slot, to),
                    None if is_refusal(&text) => {
                        self.forget(slot);
                        return Reached::Refused;
                    }
                    None => return Reached::Answered(Reply::Error(text)),
                },
                Ok(reply) => return Reached::Answered(reply),
                Err(_) => {
                    self.connections.remove(&at);
                    if !self.only_reads {
                        self.forget(slot);
                    }
                    return Reached::Lost;
                }
            }
        }
        Reached::Refused
    }

    /// Asks somebody next time.
    fn forget(&mut self, slot: u16) {
        self.map.remove(&slot);
        std::thread::sleep(Duration::from_millis(self.dice.u64(5..40)));
    }

    /// Asks any node who serves what.
    fn learn_map(&mut self) {
        self.asked = Instant::now();
        let anyone = self.addresses[self.dice.usize(..self.addresses.len())];
        let look = || -> io::Result<Reply> {
            let patience = Duration::from_millis(200);
            let mut client = Client::connect_to(anyone, patience)?;
            client.set_patience(patience);
            client.try_call(&["CLUSTER", "SLOTS"])
        };
        let Ok(Reply::Array(ranges)) = look() else { return };
        for range in ranges {
            let parts = range.array();
            let [first, last, master, ..] = &parts[..] else { continue };
            let master = master.clone().array();
            let Ok(ip) = master[0].text().parse::<std::net::IpAddr>() else { continue };
            let at = SocketAddr::new(ip, master[1].integer() as u16);
            (first.integer()..=last.integer()).for_each(|slot| _ = self.map.insert(slot as u16, at));
        }
    }
}

fn numbers(reply: Reply) -> BTreeSet<u64> {
    reply.array().iter().map(|member| member.text().parse().expect("a number was added")).collect()
}

fn moved_to(error: &str) -> Option<SocketAddr> {
    error.strip_prefix("MOVED ")?.split(' ').nth(1)?.parse().ok()
}

/// Whether an error says that nothing was executed.
fn is_refusal(error: &str) -> bool {
    let code = error.split(' ').next().unwrap_or_default();
    [
        "MOVED",
        "CLUSTERDOWN",
        "READONLY",
        "LOADING",
        "MASTERDOWN",
        "TRYAGAIN",
        "NOREPLICAS",
        "EXECABORT",
        "OOM",
    ]
    .contains(&code)
}

fn outcome_of(reached: Reached) -> Outcome {
    match reached {
        Reached::Refused => Outcome::Failed,
        Reached::Lost => Outcome::Unknown,
        Reached::Answered(reply) => match reply {
            Reply::Simple(_) => Outcome::Answered(Answer::Done),
            Reply::Integer(number) => Outcome::Answered(Answer::Integer(number)),
            Reply::Bulk(bytes) => {
                Outcome::Answered(Answer::Value(Some(value(String::from_utf8_lossy(&bytes)))))
            }
            Reply::Null => Outcome::Answered(Answer::Value(None)),
            // An error that does not say that nothing was done.
            _ => Outcome::Unknown,
        },
    }
}
