//! Talking to nodes over their data ports.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to one node.
pub struct NodeClient {
    connection: redis::Connection,
    /// `host:port`, for messages.
    pub address: String,
}

impl NodeClient {
    /// Connects to a node.
    ///
    /// # Errors
    /// When nobody answers there, or the password is wrong.
    pub fn connect(host: &str, port: u16, password: Option<&str>) -> Result<Self> {
        let address = format!("{host}:{port}");
        let client =
            redis::Client::open(format!("redis://{address}/")).context("the address is not valid")?;
        let connection = client
            .get_connection_with_timeout(PATIENCE)
            .with_context(|| format!("{address} does not answer"))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { connection, address };
        if let Some(password) = password {
            client.call::<()>(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// Lets answers take this long.
    ///
    /// # Errors
    /// When the socket does not take it.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        Ok(self.connection.set_read_timeout(Some(patience))?)
    }

    /// Sends a command and reads its reply.
    ///
    /// # Errors
    /// When the connection fails or the node answers with an error, which the message quotes.
    pub fn call<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> Result<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query(&mut self.connection)
            .with_context(|| format!("{} to {} failed", words.join(" "), self.address))
    }

    /// `name:value` lines of INFO or CLUSTER INFO.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn fields(&mut self, words: &[&str]) -> Result<BTreeMap<String, String>> {
        let text: String = self.call(words)?;
        let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(text.lines().filter_map(pair).collect())
    }
}

/// One line of CLUSTER NODES.
#[derive(Clone, Debug)]
pub struct NodeLine {
    /// The node's id.
    pub id: String,
    /// Host to reach it at.
    pub host: String,
    /// Its data port.
    pub port: u16,
    /// `master`, `slave`, `fail` and so on.
    pub flags: Vec<String>,
    /// Its master's id when it is a replica.
    pub master: Option<String>,
    /// Its shard's epoch.
    pub epoch: String,
    /// Its slots as ranges.
    pub slots: Vec<String>,
}

impl NodeLine {
    /// Whether the node has this flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    /// How many slots it serves.
    pub fn slot_count(&self) -> u32 {
        let count = |range: &String| match range.split_once('-') {
            Some((first, last)) => Some(last.parse::<u32>().ok()? - first.parse::<u32>().ok()? + 1),
            None => Some(1),
        };
        self.slots.iter().filter_map(count).sum()
    }
}

/// CLUSTER NODES, parsed.
pub fn parse_nodes(text: &str) -> Vec<NodeLine> {
    text.lines().filter_map(parse_node).collect()
}

fn parse_node(line: &str) -> Option<NodeLine> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, master, _, _, epoch, _, slots @ ..] = words.as_slice() else { return None };
    let (host_port, _) = address.split_once('@')?;
    let (host, port) = host_port.rsplit_once(':')?;
    Some(NodeLine {
        id: (*id).to_owned(),
        host: host.to_owned(),
        port: port.parse().ok()?,
        flags: flags.split(',').map(str::to_owned).collect(),
        master: (*master != "-").then(|| (*master).to_owned()),
        epoch: (*epoch).to_owned(),
        slots: slots.iter().map(|&slot| slot.to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cluster_nodes_is_understood() {
        let line = "07c3 127.0.0.1:7000@17000,host myself,master - 0 1426238317239 4 connected 0-5460 5462";
        let node = &parse_nodes(line)[0];
        assert_eq!((node.host.as_str(), node.port, node.slot_count()), ("127.0.0.1", 7000, 5462));
        assert!(node.has("myself") && node.master.is_none());
    }
}
