//! Which end of a list a command works on.

use holdfast_storage::mutation::ListEnd;

use crate::command::arguments::is;
use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;

/// LEFT or RIGHT.
pub fn end_of(word: &[u8]) -> CommandResult<ListEnd> {
    if is(word, "LEFT") {
        Ok(ListEnd::Left)
    } else if is(word, "RIGHT") {
        Ok(ListEnd::Right)
    } else {
        Err(CommandError::Syntax)
    }
}
