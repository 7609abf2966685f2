//! What nodes say about their cluster: CLUSTER NODES, CLUSTER INFO and INFO, read over a data port.

use std::io;
use std::time::Duration;

use holdfast_tools::nodes::{NodeLine, parse_nodes};

use crate::client::{At, Client, Reply};

/// How long a node that may hang can take to answer a question about the cluster.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a node something.
///
/// # Errors
/// When it does not answer in time, or with an error.
pub fn ask(at: impl Into<At>, words: &[&str]) -> io::Result<Reply> {
    let mut client = Client::connect(at)?;
    client.set_patience(PATIENCE);
    match client.try_call(words)? {
        Reply::Error(text) => Err(io::Error::other(text)),
        reply => Ok(reply),
    }
}

/// A field of a text of `name:value` lines.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// A field of a node's INFO.
///
/// # Errors
/// When the node does not answer.
pub fn info(at: impl Into<At>, name: &str) -> io::Result<Option<String>> {
    let text = ask(at, &["INFO", "everything"])?.text();
    Ok(field(&text, name).map(str::to_owned))
}

/// A number in a node's INFO; 0 when it is not there.
///
/// # Errors
/// When the node does not answer.
pub fn info_number(at: impl Into<At>, name: &str) -> io::Result<u64> {
    Ok(info(at, name)?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A field of a node's CLUSTER INFO.
///
/// # Errors
/// When the node does not answer.
pub fn cluster_info(at: impl Into<At>, name: &str) -> io::Result<Option<String>> {
    let text = ask(at, &["CLUSTER", "INFO"])?.text();
    Ok(field(&text, name).map(str::to_owned))
}

/// A node's CLUSTER NODES.
///
/// # Errors
/// When the node does not answer.
pub fn nodes(at: impl Into<At>) -> io::Result<Vec<NodeLine>> {
    Ok(parse_nodes(&ask(at, &["CLUSTER", "NODES"])?.text()))
}

/// Whether a line of CLUSTER NODES says that the slot is served there.
pub fn has_slot(node: &NodeLine, slot: u16) -> bool {
    node.slots.iter().any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&slot),
            _ => false,
        }
    })
}

/// Why the metadata group does not vote as it will: a cluster that was just formed depends on the node that founded it until the
/// voters have spread. Redis has none.
fn few_voters(at: At, node_count: usize) -> io::Result<Option<String>> {
    let info = ask(at, &["CLUSTER", "INFO"])?.text();
    let Some(voters) = field(&info, "cluster_metadata_voters") else { return Ok(None) };
    let zones = field(&info, "cluster_metadata_voter_zones").and_then(|count| count.parse().ok());
    let wanted = match zones.unwrap_or(1) {
        1 => node_count.min(5),
        2 => 3,
        zones => zones.min(7),
    };
    let (count, wanted) = (voters.split(',').count(), wanted - usize::from(wanted.is_multiple_of(2)));
    Ok((count < wanted).then(|| format!("{count} of {wanted} voters vote")))
}

/// Why a node does not find its cluster whole: all nodes there, nobody failed, every slot served, a replica for every master,
/// its own link up. `None` when it does.
pub fn complaint(at: impl Into<At>, node_count: usize) -> Option<String> {
    let at = at.into();
    let look = || -> io::Result<Option<String>> {
        let state = cluster_info(at, "cluster_state")?.unwrap_or_default();
        if state != "ok" {
            return Ok(Some(format!("cluster_state:{state}")));
        }
        let nodes = nodes(at)?;
        if nodes.len() != node_count {
            return Ok(Some(format!("knows {} of {node_count} nodes", nodes.len())));
        }
        if let Some(missing) = few_voters(at, node_count)? {
            return Ok(Some(missing));
        }
        let failing = nodes.iter().find(|node| node.flags.iter().any(|flag| flag.contains("fail")));
        if let Some(node) = failing {
            return Ok(Some(format!("sees {} as {}", node.port, node.flags.join(","))));
        }
        let has_replica = |id: &String| nodes.iter().any(|node| node.master.as_ref() == Some(id));
        let bare = nodes.iter().find(|node| node.master.is_none() && !has_replica(&node.id));
        if let Some(node) = bare {
            return Ok(Some(format!("sees {} without a replica", node.port)));
        }
        let Some(me) = nodes.iter().find(|node| node.has("myself")) else {
            return Ok(Some("does not see itself".into()));
        };
        let link = info(at, "master_link_status")?;
        Ok(match (&me.master, link.as_deref()) {
            (None, None) | (Some(_), Some("up")) => None,
            (master, link) => Some(format!("master {master:?}, master_link_status {link:?}")),
        })
    };
    look().unwrap_or_else(|error| Some(format!("does not answer: {error}")))
}
