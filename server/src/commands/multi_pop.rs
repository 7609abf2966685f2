//! The arguments of LMPOP and ZMPOP: `numkeys key [key …] <end> [COUNT count]`.

use std::ops::Range;

use crate::command::arguments::{Options, at_least};
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
    pub fn parse(
        arguments: Arguments<'_>,
        end_of: impl Fn(&[u8]) -> CommandResult<End>,
    ) -> CommandResult<Self> {
        let number = at_least(arguments[1], 1, "ERR numkeys should be greater than 0")?;
        let end_index = usize::try_from(number).unwrap_or(usize::MAX).saturating_add(2);
        if end_index >= arguments.len() {
            return Err(CommandError::Syntax);
        }
        let end = end_of(arguments[end_index])?;
        let mut count = None;
        let mut options = Options::after(arguments, end_index + 1);
        while options.next_word().is_some() {
            if count.is_some() || !options.is("COUNT") {
                return Err(options.refuse());
            }
            count = Some(at_least(options.value()?, 1, "ERR count should be greater than 0")?);
        }
        Ok(Self { keys: 2..end_index, end, count: count.unwrap_or(1) })
    }
}
