//! HRANDFIELD.

use foldhash::{HashSet, HashSetExt};
use holdfast_storage::types::Hash;

use crate::command::arguments::is;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::sampling::{SampleSize, distinct_indexes, sample_size};
use crate::resp::ReplyWriter;

/// HRANDFIELD key [count [WITHVALUES]]
pub fn hrandfield(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, dice } = context;
    let key = arguments[1];
    let Some(&count) = arguments.get(2) else {
        reply.bulk_or_null(data.hash(key)?.map(|hash| hash.random(dice).0));
        return Ok(());
    };
    let size = sample_size(count)?;
    let with_values = match &arguments[3..] {
        [] => false,
        [word] if is(word, "WITHVALUES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_values && size.count > usize::MAX / 4 {
        return Err(CommandError::OutOfRange);
    }
    let Some(hash) = data.hash(key)?.filter(|_| size.count > 0) else {
        reply.array(0);
        return Ok(());
    };
    let mut pairs = Pairs { reply, with_values };
    if size.may_repeat {
        pairs.begin(size.count);
        for _ in 0..size.count {
            pairs.push(hash.random(dice));
        }
    } else {
        distinct(hash, size, dice, &mut pairs);
    }
    Ok(())
}

/// Different fields, each choice equally likely.
fn distinct(hash: &Hash, size: SampleSize, dice: &mut fastrand::Rng, pairs: &mut Pairs<'_, '_>) {
    let length = hash.len();
    let count = size.count.min(length);
    pairs.begin(count);
    if count == length {
        hash.iter().for_each(|pair| pairs.push(pair));
    } else if count > length / 3 {
        let all: Vec<_> = hash.iter().collect();
        distinct_indexes(length, count, dice).into_iter().for_each(|index| pairs.push(all[index]));
    } else {
        // Most throws give a field that is not there yet.
        let mut seen = HashSet::with_capacity(count);
        while seen.len() < count {
            let (field, value) = hash.random(dice);
            if seen.insert(field) {
                pairs.push((field, value));
            }
        }
    }
}

/// Fields, or fields and values, in the shape of the client's protocol: RESP2 has them all in one array, RESP3 in pairs.
struct Pairs<'r, 'w> {
    reply: &'r mut ReplyWriter<'w>,
    with_values: bool,
}

impl Pairs<'_, '_> {
    fn begin(&mut self, count: usize) {
        let flat = self.with_values && !self.reply.is_resp3();
        self.reply.array(if flat { count * 2 } else { count });
    }

    fn push(&mut self, (field, value): (&[u8], &[u8])) {
        if self.with_values && self.reply.is_resp3() {
            self.reply.array(2);
        }
        self.reply.bulk(field);
        if self.with_values {
            self.reply.bulk(value);
        }
    }
}
