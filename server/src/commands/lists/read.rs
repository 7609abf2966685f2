//! Looking at lists: LLEN LINDEX LRANGE LPOS.

use holdfast_storage::types::List;

use crate::command::arguments::{Options, at_least, integer, within};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::positions::{position, positions};
use crate::resp::Arguments;

/// LLEN key
pub fn llen(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let length = data.list(arguments[1])?.map_or(0, List::len);
    reply.integer(length as i64);
    Ok(())
}

/// LINDEX key index
pub fn lindex(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let Some(list) = data.list(arguments[1])? else {
        reply.null();
        return Ok(());
    };
    let index = position(integer(arguments[2])?, list.len());
    match index.and_then(|index| list.get(index)) {
        Some(element) => reply.bulk(element),
        None => reply.null(),
    }
    Ok(())
}

/// LRANGE key start stop
pub fn lrange(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    let Some(list) = data.list(arguments[1])? else {
        reply.array(0);
        return Ok(());
    };
    let range = positions(start, stop, list.len());
    reply.array(range.len());
    // Not `for`: the walk goes node by node inside, without asking at each element which part of it is next.
    list.range(range.start, range.len()).for_each(|element| reply.bulk(element));
    Ok(())
}

/// What LPOS was asked beyond key and element.
struct LposOptions {
    /// Which match comes first, counted from 1.
    rank: u64,
    from_tail: bool,
    /// How many matches; 0 is all of them, `None` one outside of an array.
    count: Option<u64>,
    /// How many elements to look at; 0 is all of them.
    max_length: u64,
}

impl LposOptions {
    fn parse(arguments: Arguments<'_>) -> CommandResult<Self> {
        let mut this = Self { rank: 1, from_tail: false, count: None, max_length: 0 };
        let mut options = Options::after(arguments, 3);
        while options.next_word().is_some() {
            if options.is("RANK") {
                let rank = within(options.value()?, -i64::MAX..=i64::MAX)?;
                if rank == 0 {
                    return Err(CommandError::Text(RANK_ZERO.into()));
                }
                this.from_tail = rank < 0;
                this.rank = rank.unsigned_abs();
            } else if options.is("COUNT") {
                this.count = Some(at_least(options.value()?, 0, "ERR COUNT can't be negative")?);
            } else if options.is("MAXLEN") {
                this.max_length = at_least(options.value()?, 0, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(options.refuse());
            }
        }
        Ok(this)
    }
}

const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list";

/// LPOS key element [RANK rank] [COUNT matches] [MAXLEN length]
pub fn lpos(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (key, wanted) = (arguments[1], arguments[2]);
    let options = LposOptions::parse(arguments)?;
    let matches = data.list(key)?.map_or(Vec::new(), |list| matches(list, wanted, &options));
    match (options.count, matches.first()) {
        (Some(_), _) => {
            reply.array(matches.len());
            matches.iter().for_each(|&index| reply.integer(index as i64));
        }
        (None, Some(&index)) => reply.integer(index as i64),
        (None, None) => reply.null(),
    }
    Ok(())
}

fn matches(list: &List, wanted: &[u8], options: &LposOptions) -> Vec<usize> {
    let length = list.len();
    let limit = match options.max_length {
        0 => length,
        limit => usize::try_from(limit).unwrap_or(length),
    };
    let count = match options.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let skipped = usize::try_from(options.rank - 1).unwrap_or(usize::MAX);
    if options.from_tail {
        let elements = list.iter_rev().take(limit).enumerate();
        let found = elements.filter(|(_, element)| *element == wanted).map(|(index, _)| length - 1 - index);
        found.skip(skipped).take(count).collect()
    } else {
        let elements = list.iter().take(limit).enumerate();
        let found = elements.filter(|(_, element)| *element == wanted).map(|(index, _)| index);
        found.skip(skipped).take(count).collect()
    }
}
