//! COMMAND, answered from the table.

use crate::command::describe;
use crate::commands::context::{CommandResult, DataContext};

/// COMMAND [subcommand …]
pub fn command(context: &mut DataContext<'_>) -> CommandResult {
    describe::command(context.arguments, &mut context.reply)
}
