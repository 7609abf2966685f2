//! INFO replication's fields of holdfast's own: what an acknowledgement waits for, who is in the in-sync set, and why who is not.

use std::fmt::Arguments;

use holdfast_cluster::view::View;
use holdfast_replication::{LinkState, OwnPart, SyncState};

/// Writes them, a field at a time. `is_in_sync`: `write-ack in-sync`.
pub fn write(view: &View, state: &SyncState, is_in_sync: bool, mut field: impl FnMut(&str, Arguments<'_>)) {
    let Some(me) = view.myself() else { return };
    if me.replica_of.is_some() {
        field("in_sync", format_args!("{}", u8::from(me.in_sync)));
        return;
    }
    let address = |node| match view.node(node) {
        Some(node) => format!("{}:{}", node.record.address.ip, node.record.address.port),
        None => "?".to_owned(),
    };
    field("write_ack", format_args!("{}", if is_in_sync { "in-sync" } else { "local" }));
    let waited_for = state.replicas.iter().filter(|replica| replica.waited_for);
    let parts: Vec<String> = match state.own {
        Some(own) => std::iter::once(name_of(own).to_owned())
            .chain(waited_for.map(|replica| address(replica.node)))
            .collect(),
        None => vec!["who_leads".to_owned()],
    };
    field("write_waits_for", format_args!("{}", parts.join(",")));
    for (index, replica) in state.replicas.iter().enumerate() {
        let (ip, port) = view
            .node(replica.node)
            .map_or(("?", 0), |node| (node.record.address.ip.as_str(), node.record.address.port));
        let why = replica.absent.map_or(String::new(), |(why, since_ms)| {
            format!(",why={},since={}", why.name(), since_ms / 1000)
        });
        field(
            &format!("sync_replica{index}"),
            format_args!(
                "id={},ip={ip},port={port},in_sync={},link={},owes_bytes={},owes_ms={}{why}",
                replica.node,
                match (replica.in_sync, replica.waited_for) {
                    (true, _) => "yes",
                    (false, true) => "joining",
                    (false, false) => "no",
                },
                link_name(replica.link),
                replica.owes_bytes,
                replica.owes_ms,
            ),
        );
    }
}

fn name_of(own: OwnPart) -> &'static str {
    match own {
        OwnPart::Log => "own_log",
        OwnPart::Disk => "own_disk",
    }
}

fn link_name(link: LinkState) -> &'static str {
    match link {
        LinkState::Streaming => "up",
        LinkState::Copying => "full_copy",
        LinkState::Connecting => "down",
    }
}
