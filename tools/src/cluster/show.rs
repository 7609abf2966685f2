//! What a node's directory knows of its cluster, and what would become of it, as text.

use std::fmt::Write as _;

use holdfast_cluster::Registry;
use holdfast_cluster::change::NodeRecord;
use holdfast_cluster::recover::{Fate, Recovered};
use holdfast_replication::metadata_group::offline::Known;
use holdfast_words::{NodeId, SlotRange};

use crate::print::{Colour, Painter, table};
use crate::wal::time::utc;

/// `ip:port` of a node.
pub fn address(record: &NodeRecord) -> String {
    format!("{}:{}", record.address.ip, record.address.port)
}

/// A node for a sentence.
pub fn name(registry: &Registry, node: NodeId) -> String {
    let at = registry.nodes.get(&node).map(|record| format!(" ({})", address(record)));
    format!("{}{}", &node.to_string()[..8], at.unwrap_or_default())
}

fn ranges(slots: &[SlotRange]) -> String {
    let range = |range: &SlotRange| match (range.first.number(), range.last.number()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    if slots.is_empty() { "none".into() } else { slots.iter().map(range).collect::<Vec<_>>().join(" ") }
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// Nodes, shards, epochs, in-sync sets, and how old all that is.
pub fn known(known: &Known, me: NodeId, now_ms: u64) -> String {
    let registry = &known.registry;
    let mut text = String::new();
    let (term, entry) = known.last.unwrap_or_default();
    let _ = writeln!(
        text,
        "This node ({me}) knows cluster {} up to registry version {}, entry {entry} of term {term}, epoch {};\nthat entry \
         is of {} ({}). Recover on the survivor that knows the highest entry.\n",
        registry.cluster,
        registry.version,
        registry.current_epoch.0,
        utc(known.written_ms),
        ago(now_ms.saturating_sub(known.written_ms)),
    );
    let plain = |text: String| (text, Colour::Plain);
    let row = |record: &NodeRecord| {
        let register = registry.shards.get(&record.shard);
        let is_master = register.is_some_and(|register| register.master == record.id);
        let in_sync = register.is_some_and(|register| register.in_sync.contains(&record.id));
        let slots: Vec<SlotRange> = registry.slots.of_shard(record.shard).collect();
        vec![
            plain(record.id.to_string()),
            plain(address(record)),
            plain(record.zone.0.clone()),
            plain(if is_master { "master" } else { "replica" }.into()),
            plain(if in_sync { "in sync" } else { "behind" }.into()),
            plain(if registry.voters.contains(&record.id) { "voter" } else { "" }.into()),
            plain(record.shard.to_string()[..8].into()),
            plain(register.map(|register| register.epoch.0.to_string()).unwrap_or_default()),
            plain(if is_master { ranges(&slots) } else { String::new() }),
        ]
    };
    let mut records: Vec<&NodeRecord> = registry.nodes.values().collect();
    records.sort_by_key(|record| (record.shard, !registry.is_master(record.id), record.id));
    let rows: Vec<_> = records.into_iter().map(row).collect();
    let head = ["node", "address", "zone", "role", "copy", "votes", "shard", "epoch", "slots"];
    text.push_str(&table(Painter::for_stdout(), &head, &rows));
    text
}

/// What becomes of each shard, and what may be lost.
pub fn plan(known: &Known, after: &Recovered, now_ms: u64) -> String {
    let registry = &known.registry;
    let mut text = String::from("\nWhat becomes of the shards:\n");
    let mut is_behind = false;
    for shard in &after.shards {
        let fate = match shard.fate {
            Fate::Stays { master } => format!("stays with its master {}", name(registry, master)),
            Fate::TakenOver { from, by } => {
                format!("{} leads in place of {}", name(registry, by), name(registry, from))
            }
            Fate::TakenOverBehind { from, by } => {
                is_behind = true;
                format!(
                    "{} leads in place of {}, OUT OF SYNC: acknowledged writes it had not received are LOST",
                    name(registry, by),
                    name(registry, from)
                )
            }
            Fate::Lost => "nobody is left: its keys are LOST, its slots will have no owner".into(),
        };
        let _ = writeln!(text, "  {} slots {}: {fate}", &shard.shard.to_string()[..8], ranges(&shard.slots));
    }
    let gone: Vec<String> = after.registry.forgotten.iter().map(|node| name(registry, *node)).collect();
    let _ = write!(
        text,
        "\nWhat may be lost:\n  * Whatever a majority decided without this node after {} ({}): promotions, slots, members, who is in \
         sync.\n  * Writes that lost masters acknowledged while, by such a decision, the replica that leads now was no longer in sync;\n    \
         with `write-ack local` also those they acknowledged alone. Without either, a replica in sync has every acknowledged\n    write.\n",
        utc(known.written_ms),
        ago(now_ms.saturating_sub(known.written_ms)),
    );
    if is_behind {
        text.push_str("  * All that was acknowledged by the masters whose replicas are marked OUT OF SYNC since they fell behind.\n");
    }
    let _ = write!(
        text,
        "\nThe rest becomes cluster {}. These can never come back into it with their data, and if a majority of the\nold voters does run \
         somewhere, it is a cluster of its own that may go on serving clients: make sure that they are gone.\n  {}\n",
        after.registry.cluster,
        if gone.is_empty() { "nobody".to_owned() } else { gone.join("\n  ") },
    );
    text
}
