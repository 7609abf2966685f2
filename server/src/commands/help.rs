//! HELP subcommands: the shape Redis gives them.

use crate::resp::ReplyWriter;

/// The lines of a container command's HELP.
pub fn reply(reply: &mut ReplyWriter<'_>, command: &str, lines: &[&str]) {
    let title = format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    reply.array(lines.len() + 3);
    reply.simple(&title);
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
