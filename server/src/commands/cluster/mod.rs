//! CLUSTER: views of what the metadata group decided and gossip saw, in Redis's formats, and proposals to the group.

/// Subcommands that change the cluster: each answers when the metadata group has committed it.
pub mod change;
/// Subcommands that only look.
pub mod show;

use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, Next, NodeContext};
use crate::commands::help;
use crate::config::WriteAck;

/// CLUSTER subcommand …
pub fn cluster(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let Some(handle) = context.node.cluster.clone() else {
        return Err(CommandError::Text("ERR This instance has cluster support disabled".into()));
    };
    let arguments = context.call.arguments;
    let view = handle.view();
    let reply = &mut context.call.reply;
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"info", []) => reply.verbatim(b"txt", show::info(&view, &handle.voting()).as_bytes()),
        (b"nodes", []) => reply.verbatim(b"txt", show::nodes(&view, context.call.data.now_ms()).as_bytes()),
        (b"slots", []) => show::slots(&view, reply),
        (b"shards", []) => {
            let counts_in_sync = context.node.config.snapshot().write_ack == WriteAck::InSync;
            let written_lsn = context.node.store.log().positions().written_lsn();
            show::shards(&view, reply, written_lsn, counts_in_sync);
        }
        (b"myid", []) => reply.bulk(view.routes.me.to_string().as_bytes()),
        (b"myshardid", []) => reply.bulk(show::my_shard(&view).as_bytes()),
        (b"keyslot", [key]) => reply.integer(i64::from(holdfast_words::SlotId::of_key(key).number())),
        (b"countkeysinslot", [slot]) => {
            let slot = super::admin::slot_number(slot)?;
            let count = context.call.data.visit(slot, |keys| keys.len());
            reply.integer(count as i64);
        }
        (b"getkeysinslot", [slot, count]) => show::keys_in_slot(context, slot, count)?,
        (b"replicas" | b"slaves", [node]) => show::replicas(context, &view, node)?,
        (b"links", []) => show::links(&handle, reply),
        (b"count-failure-reports", [node]) => {
            let node = show::known_node(&view, node)?;
            reply.integer(handle.failure_reports(node) as i64);
        }
        (b"saveconfig", []) => reply.ok(),
        (b"help", []) => help::reply(
            reply,
            "CLUSTER",
            &[
                "ADDSLOTS <slot> [<slot> ...]",
                "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
                "BUMPEPOCH",
                "COUNT-FAILURE-REPORTS <node-id>",
                "COUNTKEYSINSLOT <slot>",
                "DELSLOTS <slot> [<slot> ...]",
                "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
                "FAILOVER [FORCE|TAKEOVER]",
                "FLUSHSLOTS",
                "FORGET <node-id>",
                "GETKEYSINSLOT <slot> <count>",
                "INFO",
                "KEYSLOT <key>",
                "LINKS",
                "MEET <ip> <port> [<bus-port>]",
                "MYID",
                "MYSHARDID",
                "NODES",
                "REPLICAS <node-id>",
                "REPLICATE <node-id>",
                "RESET [HARD|SOFT]",
                "SAVECONFIG",
                "SET-CONFIG-EPOCH <epoch>",
                "SHARDS",
                "SLOTS",
            ],
        ),
        (b"setslot", [_, ..]) => {
            return Err(CommandError::Text("ERR CLUSTER SETSLOT: moving slots is not supported yet".into()));
        }
        (subcommand, rest) => return change::change(context, subcommand, rest),
    }
    Ok(Next::Reply)
}
