//! ZSCAN.

use holdfast_storage::number::format_f64;

use crate::command::arguments::cursor;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::scan::{ScanOptions, reply_page};

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
pub fn zscan(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let cursor = cursor(arguments[2])?;
    let Some(set) = data.sorted_set(arguments[1])? else {
        // As in Redis, nobody looks at the options then.
        reply_page(reply, |_| 0);
        return Ok(());
    };
    let options = ScanOptions::parse(arguments, 3)?;
    reply_page(reply, |page| {
        set.scan(cursor, options.count, |member, score| {
            if options.wants(member) {
                page.push(member);
                page.push(&format_f64(score));
            }
        })
    });
    Ok(())
}
