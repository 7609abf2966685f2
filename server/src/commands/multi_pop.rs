//! The arguments of LMPOP and ZMPOP: `numkeys key [key …] <end> [COUNT count]`.

use std::ops::Range;

use crate::command::arguments::{at_least, is};
use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;
use crate::resp::Arguments;

/// What is popped from where.
pub struct MultiPop<End> {
    /// Where the keys stand in the request.
    pub keys: Range<usize>,
    /// Which end is popped.
    pub end: End,
    /// At most this many elements, at least one.
    pub count: u64,
}

impl<End> MultiPop<End> {
    /// Reads the arguments; `end_of` knows the words for the ends.
    ///
    /// # Errors
    /// Redis's, in Redis's order.
    pub fn parse(arguments: Arguments<'_>, end_of: impl Fn(&[u8]) -> CommandResult<End>) -> CommandResult<Self> {
        let number = at_least(arguments[1], 1, "ERR numkeys should be greater than 0")?;
        let end_index = usize::try_from(number).unwrap_or(usize::MAX).saturating_add(2);
        if end_index >= arguments.len() {
            return Err(CommandError::Syntax);
        }
        let end = end_of(arguments[end_index])?;
        let count = match arguments.len() - end_index {
            1 => 1,
            3 if is(arguments[end_index + 1], "COUNT") => {
                at_least(arguments[end_index + 2], 1, "ERR count should be greater than 0")?
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(Self { keys: 2..end_index, end, count })
    }
}
