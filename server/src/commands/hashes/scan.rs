//! HSCAN.

use crate::command::arguments;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::scan::{ScanOptions, reply_page};

/// HSCAN key cursor [MATCH pattern] [COUNT count]
pub fn hscan(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let cursor = arguments::cursor(arguments[2])?;
    let Some(hash) = data.hash(arguments[1])? else {
        reply_page(reply, |_| 0);
        return Ok(());
    };
    let options = ScanOptions::parse(arguments, 3)?;
    reply_page(reply, |page| {
        hash.scan(cursor, options.count, |field, value| {
            if options.wants(field) {
                page.push(field);
                page.push(value);
            }
        })
    });
    Ok(())
}
