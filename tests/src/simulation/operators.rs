//! What an operator does: forms the cluster as `holdfast up` does, looks at it, hands over.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use super::connection::Connection;
use super::nodes::PORT;
use super::run::Simulation;
use crate::client::Reply;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long forming the cluster may take.
const FORMING: Duration = Duration::from_secs(60);

/// One line of CLUSTER NODES.
#[derive(Clone, Debug)]
pub struct Line {
    /// The node's id.
    pub id: String,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Flags, comma separated.
    pub flags: String,
    /// Its master's id, `-` for a master.
    pub master: String,
    /// The rest: times, epoch, link state, slots.
    pub rest: Vec<String>,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let address = words.next()?.split('@').next()?.parse().ok()?;
        let (flags, master) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { id, address, flags, master, rest: words.map(str::to_owned).collect() })
    }

    /// Whether it leads a shard.
    pub fn is_master(&self) -> bool {
        self.flags.contains("master")
    }

    /// Whether somebody takes it for failed.
    pub fn is_failing(&self) -> bool {
        self.flags.contains("fail") || self.flags.contains("handshake") || self.flags.contains("noaddr")
    }

    /// Whether it has slots.
    pub fn has_slots(&self) -> bool {
        self.rest.len() > 4
    }
}

/// One command on a connection of its own.
///
/// # Errors
/// When the node is not there, or says an error.
pub async fn ask(address: SocketAddr, words: Vec<String>) -> Result<Reply, String> {
    let mut connection = Connection::open(address, PATIENCE).await.map_err(|error| error.to_string())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match connection.call(&words).await {
        Ok(Reply::Error(text)) => Err(text),
        Ok(reply) => Ok(reply),
        Err(error) => Err(error.to_string()),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// CLUSTER NODES as a node sees it.
///
/// # Errors
/// As [`ask`].
pub async fn lines(address: SocketAddr) -> Result<Vec<Line>, String> {
    match ask(address, words("CLUSTER NODES")).await? {
        Reply::Bulk(text) => Ok(String::from_utf8_lossy(&text).lines().filter_map(Line::parse).collect()),
        other => Err(format!("CLUSTER NODES: {other}")),
    }
}

/// What is missing until the cluster is whole as this node sees it.
///
/// # Errors
/// What is missing.
pub async fn complaint(address: SocketAddr, count: usize) -> Result<(), String> {
    let lines = lines(address).await?;
    if lines.len() != count {
        return Err(format!("it knows {} nodes", lines.len()));
    }
    if let Some(line) = lines.iter().find(|line| line.is_failing()) {
        return Err(format!("{} is {}", line.address, line.flags));
    }
    let Reply::Bulk(text) = ask(address, words("CLUSTER INFO")).await? else { return Err("no info".into()) };
    let text = String::from_utf8_lossy(&text).into_owned();
    for wanted in ["cluster_state:ok", "cluster_slots_assigned:16384"] {
        if !text.contains(wanted) {
            return Err(format!("it does not say {wanted}"));
        }
    }
    let Reply::Bulk(text) = ask(address, words("INFO replication")).await? else {
        return Err("no info".into());
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    if text.contains("role:slave") && !text.contains("master_link_status:up") {
        return Err("it does not follow its master".into());
    }
    if text.contains("role:master") && !text.contains("in_sync=1") {
        return Err("no replica of it is in sync".into());
    }
    Ok(())
}

impl Simulation {
    /// Where clients reach the nodes.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address()).collect()
    }

    /// One command, by the operator.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&mut self, node: usize, command: &str) -> Result<Reply, String> {
        let (address, words) = (self.nodes[node].address(), words(command));
        self.operate(PATIENCE * 3, ask(address, words)).unwrap_or_else(|| Err("no answer in time".into()))
    }

    /// Makes one cluster of the lone nodes: slots, meetings, replicas.
    ///
    /// # Panics
    /// When that does not succeed.
    pub fn form(&mut self) {
        let addresses = self.addresses();
        let formed = self.operate(FORMING, async move { form(&addresses).await });
        formed.expect("the cluster is formed in time").expect("the cluster is formed");
        self.wait_until_whole(FORMING).expect("the cluster is whole after it was formed");
    }

    /// Waits until every node sees all nodes, none failed, all slots served, and every replica follows, in sync.
    ///
    /// # Errors
    /// What is missing when the time is over.
    pub fn wait_until_whole(&mut self, patience: Duration) -> Result<(), String> {
        let addresses = self.addresses();
        let missing = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
        let last = missing.clone();
        let whole = self.operate(patience, async move {
            'again: loop {
                sleep(Duration::from_millis(100)).await;
                for address in &addresses {
                    if let Err(text) = complaint(*address, addresses.len()).await {
                        *last.borrow_mut() = format!("{address}: {text}");
                        continue 'again;
                    }
                }
                return;
            }
        });
        whole.ok_or_else(|| missing.borrow().clone())
    }

    /// CLUSTER NODES as this node sees it; nothing when it does not answer.
    pub fn lines_of(&mut self, node: usize) -> Vec<Line> {
        let address = self.nodes[node].address();
        self.operate(PATIENCE, lines(address)).and_then(Result::ok).unwrap_or_default()
    }

    /// The index of each shard's master and replicas, as the first node that answers sees it.
    pub fn shards(&mut self) -> Vec<(usize, Vec<usize>)> {
        let addresses = self.addresses();
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].is_up() && !self.nodes[node].is_paused())
            .collect();
        for node in up {
            let address = addresses[node];
            let Some(Ok(lines)) = self.operate(PATIENCE, lines(address)) else { continue };
            let index = |line: &Line| addresses.iter().position(|address| *address == line.address);
            let masters = lines.iter().filter(|line| line.is_master() && line.has_slots());
            return masters
                .filter_map(|master| {
                    let replicas = lines.iter().filter(|line| line.master == master.id).filter_map(index);
                    Some((index(master)?, replicas.collect()))
                })
                .collect();
        }
        Vec::new()
    }
}

async fn form(addresses: &[SocketAddr]) -> Result<(), String> {
    let masters = addresses.len() / 2;
    for (index, address) in addresses[..masters].iter().enumerate() {
        while ask(*address, words("PING")).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        let bound = |index: usize| (16_384 * index + masters / 2) / masters;
        let (first, last) = (bound(index), bound(index + 1) - 1);
        ask(*address, words(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))).await?;
    }
    for address in &addresses[1..] {
        while ask(*address, words("PING")).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        let known = format!("CLUSTER MEET {} {PORT}", addresses[0].ip());
        ask(*address, words(&known)).await?;
    }
    for address in addresses {
        while lines(*address).await.map_or(0, |lines| lines.len()) < addresses.len() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    let known = lines(addresses[0]).await?;
    for (index, address) in addresses[masters..].iter().enumerate() {
        let master =
            known.iter().find(|line| line.address == addresses[index]).ok_or("a master is unknown")?;
        ask(*address, words(&format!("CLUSTER REPLICATE {}", master.id))).await?;
    }
    Ok(())
}
