//! A small cluster client that follows MOVED and ASK and hands out every other reply as it came, errors included: what client
//! libraries hide behind retries is what the tests want to see.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::client::{Client, Reply};
use crate::cluster::slot_of;

/// More redirections of one command than this are a loop.
const REDIRECTIONS_MAX: usize = 16;

/// The client.
pub struct Router {
    seeds: Vec<u16>,
    /// Slot → port, as learnt from redirections.
    known: HashMap<u16, u16>,
    connections: HashMap<u16, Client>,
    patience: Duration,
    /// The most redirections that one command needed.
    pub longest_chain: usize,
}

impl Router {
    /// Knows these nodes and nothing about slots.
    pub fn new(seeds: &[u16]) -> Self {
        Self {
            seeds: seeds.to_vec(),
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
        let mut port = *self.known.entry(slot).or_insert(self.seeds[usize::from(slot) % self.seeds.len()]);
        let mut asking = false;
        for chain in 1..=REDIRECTIONS_MAX {
            let reply = match self.send(port, asking, &words) {
                Ok(reply) => reply,
                Err(error) => {
                    self.connections.remove(&port);
                    self.forget(slot, port);
                    return Err(error);
                }
            };
            let Reply::Error(text) = &reply else { return Ok(reply) };
            match redirection(text) {
                Some((is_moved, to)) => {
                    self.longest_chain = self.longest_chain.max(chain);
                    (port, asking) = (to, !is_moved);
                    if is_moved {
                        self.known.insert(slot, to);
                    }
                }
                None => return Ok(reply),
            }
        }
        Err(io::Error::other(format!("slot {slot}: redirected {REDIRECTIONS_MAX} times")))
    }

    fn send(&mut self, port: u16, asking: bool, words: &[&str]) -> io::Result<Reply> {
        let client = match self.connections.entry(port) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Client::connect(port)?),
        };
        client.set_patience(self.patience);
        if asking {
            client.try_call(&["ASKING"])?;
        }
        client.try_call(words)
    }

    /// The node does not answer: ask the next one who serves the slot.
    fn forget(&mut self, slot: u16, port: u16) {
        let position = self.seeds.iter().position(|&seed| seed == port).unwrap_or(0);
        self.known.insert(slot, self.seeds[(position + 1) % self.seeds.len()]);
    }
}

/// Whether an error says MOVED (not ASK), and the port to go to.
pub fn redirection(error: &str) -> Option<(bool, u16)> {
    let mut words = error.split(' ');
    let is_moved = match words.next()? {
        "MOVED" => true,
        "ASK" => false,
        _ => return None,
    };
    let (_, port) = words.nth(1)?.rsplit_once(':')?;
    Some((is_moved, port.parse().ok()?))
}
