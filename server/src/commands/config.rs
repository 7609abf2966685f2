//! CONFIG GET|SET|REWRITE|RESETSTAT|HELP

use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, Next, NodeContext};
use crate::commands::help;
use crate::config::SetError;
use crate::node::Node;
use crate::resp::ReplyWriter;

/// CONFIG
pub fn config(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let node: &Node = context.node;
    let reply = &mut context.call.reply;
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"get", patterns) => get(node, patterns, reply),
        (b"set", pairs) => {
            set(node, pairs)?;
            reply.ok();
        }
        (b"rewrite", []) => {
            node.config.rewrite().map_err(|error| match node.config.file() {
                None => CommandError::Text(format!("ERR {error}").into()),
                Some(_) => CommandError::Text(format!("ERR Rewriting config file: {error}").into()),
            })?;
            reply.ok();
        }
        (b"resetstat", []) => {
            node.stats.reset();
            reply.ok();
        }
        (b"help", []) => help::reply(
            reply,
            "CONFIG",
            &[
                "GET <pattern>",
                "    Return parameters matching the glob-like <pattern> and their values.",
                "SET <directive> <value>",
                "    Set the configuration <directive> to <value>.",
                "RESETSTAT",
                "    Reset statistics reported by the INFO command.",
                "REWRITE",
                "    Rewrite the configuration file.",
            ],
        ),
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(Next::Reply)
}

fn get(node: &Node, patterns: &[&[u8]], reply: &mut ReplyWriter<'_>) {
    let found = node.config.get(patterns);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

fn set(node: &Node, words: &[&[u8]]) -> CommandResult {
    let (pairs, []) = words.as_chunks::<2>() else { return Err(CommandError::Syntax) };
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|&[name, value]| (name, value)).collect();
    let changed =
        node.config.set(&pairs).map_err(|error: SetError| CommandError::Text(error.to_string().into()))?;
    node.apply_config(&changed);
    Ok(())
}
