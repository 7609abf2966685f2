//! A small cluster client that follows MOVED and ASK and hands out every other reply as it came, errors included: what client
//! libraries hide behind retries is what the tests want to see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{Client, Reply};
use crate::cluster::slot_of;

/// More redirections of one command than this are a loop.
const REDIRECTIONS_MAX: usize = 16;
/// A machine that is off does not even refuse.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The client.
pub struct Router {
    seeds: Vec<SocketAddr>,
    password: Option<String>,
    /// Slot → node, as learnt from redirections.
    known: HashMap<u16, SocketAddr>,
    connections: HashMap<SocketAddr, Client>,
    patience: Duration,
    /// The most redirections that one command needed.
    pub longest_chain: usize,
}

impl Router {
    /// Knows these nodes of this machine and nothing about slots.
    pub fn new(seeds: &[u16]) -> Self {
        let seeds: Vec<SocketAddr> = seeds.iter().map(|&port| ([127, 0, 0, 1], port).into()).collect();
        Self::of(&seeds, None)
    }

    /// Knows these nodes and their password, and nothing about slots.
    pub fn of(seeds: &[SocketAddr], password: Option<&str>) -> Self {
        Self {
            seeds: seeds.to_vec(),
            password: password.map(str::to_owned),
            known: HashMap::new(),
            connections: HashMap::new(),
            patience: Duration::from_secs(20),
            longest_chain: 0,
        }
    }

    /// How long a reply may take before the connection counts as failed.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends a command of one key, its second word, to whoever serves the key's slot.
    ///
    /// # Errors
    /// When the connection fails: the command may have been executed or not. The next call tries another node.
    pub fn call<W: AsRef<str>>(&mut self, words: &[W]) -> io::Result<Reply> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let slot = slot_of(words[1]);
        let mut node = *self.known.entry(slot).or_insert(self.seeds[usize::from(slot) % self.seeds.len()]);
        let mut asking = false;
        for chain in 1..=REDIRECTIONS_MAX {
            let reply = match self.send(node, asking, &words) {
                Ok(reply) => reply,
                Err(error) => {
                    self.connections.remove(&node);
                    self.forget(slot, node);
                    return Err(io::Error::new(error.kind(), format!("{node}: {error}")));
                }
            };
            let Reply::Error(text) = &reply else { return Ok(reply) };
            match redirected_to(text) {
                Some((is_moved, to)) => {
                    self.longest_chain = self.longest_chain.max(chain);
                    (node, asking) = (to, !is_moved);
                    if is_moved {
                        self.known.insert(slot, to);
                    }
                }
                None => return Ok(reply),
            }
        }
        Err(io::Error::other(format!("slot {slot}: redirected {REDIRECTIONS_MAX} times")))
    }

    fn send(&mut self, node: SocketAddr, asking: bool, words: &[&str]) -> io::Result<Reply> {
        if self.connections.get(&node).is_some_and(Client::is_hung_up) {
            self.connections.remove(&node);
        }
        let client = match self.connections.entry(node) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut client = Client::connect_to(node, self.patience.min(CONNECT_PATIENCE))?;
                client.set_patience(self.patience);
                if let Some(password) = &self.password {
                    client.try_call(&["AUTH", password])?;
                }
                entry.insert(client)
            }
        };
        client.set_patience(self.patience);
        if asking {
            client.try_call(&["ASKING"])?;
        }
        client.try_call(words)
    }

    /// The node does not answer: ask the next one who serves the slot.
    fn forget(&mut self, slot: u16, node: SocketAddr) {
        let position = self.seeds.iter().position(|&seed| seed == node).unwrap_or(0);
        self.known.insert(slot, self.seeds[(position + 1) % self.seeds.len()]);
    }
}

/// Whether an error says MOVED (not ASK), and the port to go to.
pub fn redirection(error: &str) -> Option<(bool, u16)> {
    redirected_to(error).map(|(is_moved, to)| (is_moved, to.port()))
}

/// Whether an error says MOVED (not ASK), and whereto.
pub fn redirected_to(error: &str) -> Option<(bool, SocketAddr)> {
    let mut words = error.split(' ');
    let is_moved = match words.next()? {
        "MOVED" => true,
        "ASK" => false,
        _ => return None,
    };
    Some((is_moved, words.nth(1)?.parse().ok()?))
}
