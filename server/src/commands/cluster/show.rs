//! CLUSTER subcommands that only look, in Redis's formats.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use holdfast_cluster::view::{Health, NodeView, View};
use holdfast_words::{Lsn, NodeId, SlotRange};

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, NodeContext};
use crate::resp::ReplyWriter;

/// CLUSTER INFO
pub fn info(view: &View, voting: &BTreeSet<NodeId>) -> String {
    let figures = &view.figures;
    let state = if view.routes.down.is_none() { "ok" } else { "fail" };
    let mut text = String::new();
    let mut field = |name: &str, value: &dyn std::fmt::Display| {
        write!(text, "{name}:{value}\r\n").expect("writing to a String cannot fail");
    };
    field("cluster_state", &state);
    field("cluster_slots_assigned", &figures.slots_assigned);
    field("cluster_slots_ok", &figures.slots_ok);
    field("cluster_slots_pfail", &figures.slots_pfail);
    field("cluster_slots_fail", &figures.slots_fail);
    field("cluster_known_nodes", &view.nodes.len());
    field("cluster_size", &figures.size);
    field("cluster_current_epoch", &view.registry.current_epoch);
    field("cluster_my_epoch", &figures.my_epoch);
    for (kind, count) in figures.sent.by_name() {
        field(&format!("cluster_stats_messages_{kind}_sent"), &count);
    }
    field("cluster_stats_messages_sent", &figures.sent.total());
    for (kind, count) in figures.received.by_name() {
        field(&format!("cluster_stats_messages_{kind}_received"), &count);
    }
    field("cluster_stats_messages_received", &figures.received.total());
    field("total_cluster_links_buffer_limit_exceeded", &0);
    // Why the state is what it is: Redis leaves one guessing.
    if let Some(down) = view.routes.down {
        field("cluster_down_reason", &down_reason(down));
    }
    if let Some(leader) = view.leader {
        field("cluster_metadata_leader", &leader);
    }
    let voters: Vec<&NodeView> = view.nodes.iter().filter(|node| voting.contains(&node.record.id)).collect();
    let zones: BTreeSet<&str> = voters.iter().map(|node| node.record.zone.0.as_str()).collect();
    let ids: Vec<String> = voters.iter().map(|node| node.record.id.to_string()).collect();
    field("cluster_metadata_voters", &ids.join(","));
    field("cluster_metadata_voter_zones", &zones.len());
    text
}

fn down_reason(down: holdfast_cluster::view::Down) -> &'static str {
    use holdfast_cluster::view::Down;
    match down {
        Down::NotJoined => "not_joined",
        Down::Minority => "no_majority_of_voters_heard",
        Down::CatchingUp => "catching_up_with_the_metadata_group",
        Down::NoLease => "no_lease_from_the_voters",
        Down::SlotUnassigned => "slot_unassigned",
        Down::SlotFailed => "slot_master_failed",
    }
}

/// CLUSTER NODES: `id ip:port@bus[,hostname] flags master ping-sent pong-recv config-epoch link-state slot …`
pub fn nodes(view: &View, now_ms: u64) -> String {
    view.nodes.iter().map(|node| node_line(view, node, now_ms) + "\n").collect()
}

/// One line of CLUSTER NODES, without its end.
pub fn node_line(view: &View, node: &NodeView, now_ms: u64) -> String {
    let address = &node.record.address;
    let hostname = if address.hostname.is_empty() { String::new() } else { format!(",{}", address.hostname) };
    let master = node.replica_of.map_or("-".to_owned(), |master| master.to_string());
    // Times in the view are by the core's clock; what clients want is wall clock.
    let wall = |core_ms: u64| {
        if core_ms == 0 { 0 } else { now_ms.saturating_sub(view.taken_ms.saturating_sub(core_ms)) }
    };
    let mut line = format!(
        "{} {}:{}@{}{hostname} {} {master} {} {} {} {}",
        node.record.id,
        address.ip,
        address.port,
        address.bus_port,
        flags(node),
        wall(node.liveness.ping_sent_ms),
        wall(node.liveness.pong_received_ms),
        node.config_epoch,
        if node.myself || node.liveness.connected { "connected" } else { "disconnected" },
    );
    for range in &node.slots {
        line.push(' ');
        line.push_str(&range_text(*range));
    }
    line
}

fn flags(node: &NodeView) -> String {
    let mut flags = Vec::new();
    if node.myself {
        flags.push("myself");
    }
    flags.push(if node.replica_of.is_some() { "slave" } else { "master" });
    match node.liveness.health {
        Health::Fine => {}
        Health::Suspected => flags.push("fail?"),
        Health::Failed => flags.push("fail"),
    }
    if node.record.no_failover {
        flags.push("nofailover");
    }
    // holdfast's own; clients look for the flags they know.
    if node.replica_of.is_some() && node.in_sync {
        flags.push("insync");
    }
    flags.join(",")
}

fn range_text(range: SlotRange) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

/// CLUSTER SLOTS
pub fn slots(view: &View, reply: &mut ReplyWriter<'_>) {
    let served = || view.shards.iter().flat_map(|shard| shard.slots.iter().map(move |range| (*range, shard)));
    reply.array(served().count());
    for (range, shard) in served() {
        let members: Vec<&NodeView> = shard
            .members
            .iter()
            .map(|&index| &view.nodes[index])
            .filter(|node| node.replica_of.is_none() || node.liveness.health != Health::Failed)
            .collect();
        reply.array(2 + members.len());
        reply.integer(i64::from(range.first.number()));
        reply.integer(i64::from(range.last.number()));
        for node in members {
            let address = &node.record.address;
            reply.array(4);
            reply.bulk(address.ip.as_bytes());
            reply.integer(i64::from(address.port));
            reply.bulk(node.record.id.to_string().as_bytes());
            if address.hostname.is_empty() {
                reply.array(0);
            } else {
                reply.array(2);
                reply.bulk(b"hostname");
                reply.bulk(address.hostname.as_bytes());
            }
        }
    }
}

/// CLUSTER SHARDS. `written_lsn` is this node's own; others' are as they last told. Where the in-sync set counts, a replica that is
/// not in it is `loading`: Redis's word for one that has not got its master's data. (A field of our own would not do: there are
/// clients that refuse what they do not know here.)
pub fn shards(view: &View, reply: &mut ReplyWriter<'_>, written_lsn: Lsn, counts_in_sync: bool) {
    reply.array(view.shards.len());
    for shard in &view.shards {
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(shard.slots.len() * 2);
        for range in &shard.slots {
            reply.integer(i64::from(range.first.number()));
            reply.integer(i64::from(range.last.number()));
        }
        reply.bulk(b"nodes");
        reply.array(shard.members.len());
        for &index in &shard.members {
            shard_member(&view.nodes[index], reply, written_lsn, counts_in_sync);
        }
    }
}

fn shard_member(node: &NodeView, reply: &mut ReplyWriter<'_>, my_written_lsn: Lsn, counts_in_sync: bool) {
    let address = &node.record.address;
    let told = node.liveness.positions.map(|positions| positions.written.lsn);
    let offset = if node.myself { Some(my_written_lsn) } else { told };
    let has_hostname = !address.hostname.is_empty();
    reply.map(7 + usize::from(has_hostname));
    reply.bulk(b"id");
    reply.bulk(node.record.id.to_string().as_bytes());
    reply.bulk(b"port");
    reply.integer(i64::from(address.port));
    reply.bulk(b"ip");
    reply.bulk(address.ip.as_bytes());
    reply.bulk(b"endpoint");
    reply.bulk(address.ip.as_bytes());
    if has_hostname {
        reply.bulk(b"hostname");
        reply.bulk(address.hostname.as_bytes());
    }
    reply.bulk(b"role");
    reply.bulk(if node.replica_of.is_some() { b"replica" } else { b"master" });
    reply.bulk(b"replication-offset");
    reply.integer(offset.unwrap_or_default().0 as i64);
    reply.bulk(b"health");
    let is_behind = node.replica_of.is_some() && counts_in_sync && !node.in_sync;
    reply.bulk(match node.liveness.health {
        Health::Failed => b"fail".as_slice(),
        Health::Fine | Health::Suspected if is_behind => b"loading",
        Health::Fine | Health::Suspected => b"online",
    });
}

/// The id of this node's shard.
pub fn my_shard(view: &View) -> String {
    view.myself().map(|node| node.record.shard.to_string()).unwrap_or_default()
}

/// A node's id from a client.
///
/// # Errors
/// When it is none, or nobody has it.
pub fn known_node(view: &View, word: &[u8]) -> CommandResult<NodeId> {
    let text = String::from_utf8_lossy(word);
    text.parse()
        .ok()
        .filter(|&id| view.node(id).is_some())
        .ok_or_else(|| CommandError::Text(format!("ERR Unknown node {text}").into()))
}

/// CLUSTER REPLICAS node-id
pub fn replicas(context: &mut NodeContext<'_, '_>, view: &View, node: &[u8]) -> CommandResult {
    let node = known_node(view, node)?;
    if view.node(node).is_some_and(|node| node.replica_of.is_some()) {
        return Err(CommandError::Text("ERR The specified node is not a master".into()));
    }
    let now_ms = context.call.data.now_ms();
    let lines: Vec<String> = view.replicas_of(node).map(|replica| node_line(view, replica, now_ms)).collect();
    context.call.reply.array(lines.len());
    lines.iter().for_each(|line| context.call.reply.bulk(line.as_bytes()));
    Ok(())
}

/// CLUSTER GETKEYSINSLOT slot count
pub fn keys_in_slot(context: &mut NodeContext<'_, '_>, slot: &[u8], count: &[u8]) -> CommandResult {
    let slot = super::super::admin::slot_number(slot)?;
    let count = match integer(count) {
        Ok(count) if count >= 0 => count as usize,
        _ => return Err(CommandError::Text("ERR Invalid number of keys".into())),
    };
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    context.call.data.visit(slot, |keyspace| {
        keyspace.for_each(|key, _, _| {
            if keys.len() < count {
                keys.push(key.into());
            }
        });
    });
    context.call.reply.array(keys.len());
    keys.iter().for_each(|key| context.call.reply.bulk(key));
    Ok(())
}

/// CLUSTER LINKS
pub fn links(handle: &holdfast_replication::Handle, reply: &mut ReplyWriter<'_>) {
    let links = handle.links();
    reply.array(links.len());
    for link in links {
        reply.map(6);
        reply.bulk(b"direction");
        reply.bulk(if link.outgoing { b"to" } else { b"from" });
        reply.bulk(b"node");
        reply.bulk(link.node.to_string().as_bytes());
        reply.bulk(b"create-time");
        reply.integer(link.created_at_ms as i64);
        reply.bulk(b"events");
        reply.bulk(if link.outgoing { b"rw" } else { b"r" });
        reply.bulk(b"send-buffer-allocated");
        reply.integer(link.send_buffer_bytes as i64);
        reply.bulk(b"send-buffer-used");
        reply.integer(link.send_buffer_bytes as i64);
    }
}
