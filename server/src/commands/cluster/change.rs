//! CLUSTER subcommands that change the cluster. Each is a proposal to the metadata group and answers when that is committed,
//! or says why not.

use std::future::Future;
use std::pin::Pin;

use holdfast_cluster::change::Change;
use holdfast_replication::{FailoverMode, Handle};
use holdfast_words::{Epoch, NodeId, SlotId, SlotRange};

use super::show::known_node;
use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::admin::{encoded, slot_number};
use crate::commands::context::{CommandResult, Next, NodeContext};

type Answer = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// CLUSTER ADDSLOTS, DELSLOTS, MEET, FORGET, REPLICATE, RESET, FAILOVER …
pub fn change(context: &mut NodeContext<'_, '_>, subcommand: &[u8], rest: &[&[u8]]) -> CommandResult<Next> {
    let Some(handle) = context.node.cluster.clone() else {
        return Err(CommandError::unknown_subcommand(context.call.arguments));
    };
    let view = handle.view();
    let me = view.routes.me;
    let answer: Answer = match (subcommand, rest) {
        (b"addslots", [_, ..]) => propose(handle, Change::AssignSlots { node: me, slots: slots(rest)? }),
        (b"addslotsrange", [_, ..]) => {
            propose(handle, Change::AssignSlots { node: me, slots: ranges(context, rest)? })
        }
        (b"delslots", [_, ..]) => propose(handle, Change::UnassignSlots { slots: slots(rest)? }),
        (b"delslotsrange", [_, ..]) => {
            propose(handle, Change::UnassignSlots { slots: ranges(context, rest)? })
        }
        (b"flushslots", []) => {
            if context.node.store.slots().key_count() > 0 {
                return Err(CommandError::Text("ERR DB must be empty to perform CLUSTER FLUSHSLOTS.".into()));
            }
            propose(handle, Change::FlushSlots { node: me })
        }
        (b"set-config-epoch", [epoch]) => match integer(epoch) {
            Ok(epoch) if epoch >= 0 => {
                propose(handle, Change::SetConfigEpoch { node: me, epoch: Epoch(epoch as u64) })
            }
            _ => return Err(CommandError::Text("ERR Invalid config epoch specified".into())),
        },
        (b"bumpepoch", []) => return bump_epoch(context, handle, me),
        (b"forget", [node]) => {
            let node = parse_node(node)?;
            propose(handle, Change::ForgetNode { node, by: me })
        }
        (b"replicate", [node]) => {
            let master = known_node(&view, node)?;
            let node_is_empty = context.node.store.slots().key_count() == 0;
            propose(handle, Change::Replicate { node: me, master, node_is_empty })
        }
        (b"meet", [ip, port, bus_port @ ..]) if bus_port.len() <= 1 => {
            meet(handle, ip, port, bus_port.first().copied())?
        }
        (b"reset", mode) if mode.len() <= 1 => reset(context, handle, mode.first().copied())?,
        (b"failover", mode) if mode.len() <= 1 => failover(handle, mode.first().copied())?,
        _ => return Err(CommandError::unknown_subcommand(context.call.arguments)),
    };
    let protocol = context.session.protocol;
    Ok(Next::Later(Box::pin(async move {
        let done = answer.await;
        encoded(protocol, |reply| match done {
            Ok(()) => reply.ok(),
            Err(text) => reply.error(&CommandError::Text(text.into())),
        })
    })))
}

fn propose(handle: Handle, change: Change) -> Answer {
    Box::pin(async move { handle.propose(change).await.map(|_| ()) })
}

fn bump_epoch(context: &NodeContext<'_, '_>, handle: Handle, me: NodeId) -> CommandResult<Next> {
    let protocol = context.session.protocol;
    Ok(Next::Later(Box::pin(async move {
        let before = handle.view().figures.my_epoch;
        let done = handle.propose(Change::BumpEpoch { node: me }).await;
        let after = handle.view().figures.my_epoch;
        encoded(protocol, |reply| match done {
            Ok(_) if after > before => reply.simple(&format!("BUMPED {after}")),
            Ok(_) => reply.simple(&format!("STILL {after}")),
            Err(text) => reply.error(&CommandError::Text(text.into())),
        })
    })))
}

fn parse_node(word: &[u8]) -> CommandResult<NodeId> {
    let text = String::from_utf8_lossy(word);
    text.parse().map_err(|_| CommandError::Text(format!("ERR Unknown node {text}").into()))
}

fn slots(words: &[&[u8]]) -> CommandResult<Vec<SlotRange>> {
    let mut slots = words.iter().map(|word| slot_number(word)).collect::<CommandResult<Vec<SlotId>>>()?;
    slots.sort_unstable();
    if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CommandError::Text(format!("ERR Slot {} specified multiple times", pair[0]).into()));
    }
    Ok(SlotRange::fold(slots))
}

fn ranges(context: &NodeContext<'_, '_>, words: &[&[u8]]) -> CommandResult<Vec<SlotRange>> {
    if !words.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(context.call.arguments));
    }
    let mut seen = Vec::new();
    for pair in words.chunks_exact(2) {
        let (first, last) = (slot_number(pair[0])?, slot_number(pair[1])?);
        if first > last {
            let text = format!("ERR start slot number {first} is greater than end slot number {last}");
            return Err(CommandError::Text(text.into()));
        }
        seen.extend(SlotRange { first, last }.slots());
    }
    seen.sort_unstable();
    if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CommandError::Text(format!("ERR Slot {} specified multiple times", pair[0]).into()));
    }
    Ok(SlotRange::fold(seen))
}

fn meet(handle: Handle, ip: &[u8], port: &[u8], bus_port: Option<&[u8]>) -> CommandResult<Answer> {
    let (ip, shown) = (String::from_utf8_lossy(ip).into_owned(), String::from_utf8_lossy(port).into_owned());
    let invalid = || CommandError::Text(format!("ERR Invalid node address specified: {ip}:{shown}").into());
    let number =
        |word: &[u8]| integer(word).ok().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    let port: u16 = number(port).ok_or_else(invalid)?;
    let bus_port = match bus_port {
        Some(word) => number(word).ok_or_else(invalid)?,
        None => port.checked_add(10_000).ok_or_else(invalid)?,
    };
    let address: std::net::IpAddr = ip.parse().map_err(|_| invalid())?;
    Ok(Box::pin(async move { handle.meet(address, bus_port).await }))
}

fn reset(context: &NodeContext<'_, '_>, handle: Handle, mode: Option<&[u8]>) -> CommandResult<Answer> {
    let hard = match mode.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"soft") => false,
        Some(b"hard") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    if !context.node.is_replica() && context.node.store.slots().key_count() > 0 {
        let text = "ERR CLUSTER RESET can't be called with master nodes containing keys";
        return Err(CommandError::Text(text.into()));
    }
    Ok(Box::pin(async move { handle.reset(hard).await }))
}

fn failover(handle: Handle, mode: Option<&[u8]>) -> CommandResult<Answer> {
    let mode = match mode.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None => FailoverMode::Handover,
        Some(b"force") => FailoverMode::Force,
        Some(b"takeover") => FailoverMode::Takeover,
        Some(_) => return Err(CommandError::Syntax),
    };
    Ok(Box::pin(async move { handle.failover(mode).await }))
}
