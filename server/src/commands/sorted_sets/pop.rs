//! The lowest or highest members go: ZPOPMIN ZPOPMAX ZMPOP.

use holdfast_storage::slots::SlotSet;

use super::remove::remove_ranks;
use crate::command::arguments::{MUST_BE_POSITIVE, at_least, is};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::multi_pop::MultiPop;
use crate::resp::ReplyWriter;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

/// ZPOPMIN key [count]
pub fn zpopmin(context: &mut DataContext<'_>) -> CommandResult {
    pop(context, End::Lowest)
}

/// ZPOPMAX key [count]
pub fn zpopmax(context: &mut DataContext<'_>) -> CommandResult {
    pop(context, End::Highest)
}

fn pop(context: &mut DataContext<'_>, end: End) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let count = match &arguments[2..] {
        [] => None,
        [count] => Some(at_least(count, 0, MUST_BE_POSITIVE)?),
        _ => return Err(CommandError::Syntax),
    };
    let nested = reply.is_resp3() && count.is_some();
    let length = data.sorted_set(key)?.map_or(0, |set| set.len());
    let count = count.unwrap_or(1).min(length as u64) as usize;
    reply.array(if nested { count } else { count * 2 });
    take(data, reply, key, end, count, nested);
    Ok(())
}

/// Replies with the `count` members at the end, all of which exist, and removes them.
fn take(
    data: &mut SlotSet<'_>,
    reply: &mut ReplyWriter<'_>,
    key: &[u8],
    end: End,
    count: usize,
    nested: bool,
) {
    let Ok(Some(set)) = data.sorted_set(key) else { return };
    let mut show = |(member, score): (&[u8], f64)| {
        if nested {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    };
    let ranks = match end {
        End::Lowest => {
            set.iter_from(0).take(count).for_each(&mut show);
            0..count
        }
        End::Highest => {
            set.iter_rev_from(set.len() - 1).take(count).for_each(&mut show);
            set.len() - count..set.len()
        }
    };
    remove_ranks(data, key, ranks);
}

/// ZMPOP numkeys key [key …] MIN|MAX [COUNT count]
pub fn zmpop(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let pop = MultiPop::parse(arguments, |word| {
        if is(word, "MIN") {
            Ok(End::Lowest)
        } else if is(word, "MAX") {
            Ok(End::Highest)
        } else {
            Err(CommandError::Syntax)
        }
    })?;
    for key in &arguments[pop.keys] {
        if let Some(set) = data.sorted_set(key)? {
            let count = pop.count.min(set.len() as u64) as usize;
            reply.array(2);
            reply.bulk(key);
            reply.array(count);
            take(data, reply, key, pop.end, count, true);
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}
