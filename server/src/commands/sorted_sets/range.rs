//! Members in order: ZRANGE in all its forms, its older names, ZRANGESTORE.

use std::ops::Range;

use holdfast_storage::mutation::{Bin, DeleteReason, Few, Mutation};
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::SortedSet;

use super::bounds::{LexRange, ScoreRange};
use super::pairs;
use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};
use crate::commands::positions::positions;

/// ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub fn zrange(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form::default())
}

/// ZREVRANGE key start stop [WITHSCORES]
pub fn zrevrange(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form { order: Some(Order::Rank), reverse: Some(true), ..Form::default() })
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
pub fn zrangebyscore(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form { order: Some(Order::Score), reverse: Some(false), ..Form::default() })
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
pub fn zrevrangebyscore(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form { order: Some(Order::Score), reverse: Some(true), ..Form::default() })
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
pub fn zrangebylex(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form { order: Some(Order::Lex), reverse: Some(false), ..Form::default() })
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
pub fn zrevrangebylex(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Form { order: Some(Order::Lex), reverse: Some(true), ..Form::default() })
}

/// ZRANGESTORE destination source start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count]
pub fn zrangestore(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let query = Query::parse(&arguments[2..], Form { store: true, ..Form::default() })?;
    let entries = match data.sorted_set(arguments[2])? {
        Some(set) => {
            let owned = |(member, score): (&[u8], f64)| (score, Bin::Owned(member.to_vec()));
            set.iter_from(query.ranks(set).start).take(query.ranks(set).len()).map(owned).collect()
        }
        None => Vec::new(),
    };
    reply.count(entries.len());
    replace(data, arguments[1], entries);
    Ok(())
}

/// The score as it is kept: a zero loses its sign, as in Redis's small sorted sets (not in its large ones).
pub fn stored(score: f64) -> f64 {
    score + 0.0
}

/// `key` holds a sorted set of these entries, or nothing when there are none, whatever it held before.
pub fn replace(data: &mut SlotSet<'_>, key: &[u8], mut entries: Vec<(f64, Bin<'_>)>) {
    entries.iter_mut().for_each(|(score, _)| *score = stored(*score));
    if data.get(key).is_some() {
        data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Command });
    }
    if !entries.is_empty() {
        data.mutate(&Mutation::SortedSetAdd { key: key.into(), entries: Few::of(entries) });
    }
}

fn show(context: &mut DataContext<'_>, form: Form) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let query = Query::parse(&arguments[1..], form)?;
    let Some(set) = data.sorted_set(arguments[1])? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(set);
    pairs::begin(reply, ranks.len(), query.with_scores);
    let mut show = |(member, score): (&[u8], f64)| pairs::member(reply, member, score, query.with_scores);
    if ranks.is_empty() {
    } else if query.reverse {
        set.iter_rev_from(ranks.end - 1).take(ranks.len()).for_each(&mut show);
    } else {
        set.iter_from(ranks.start).take(ranks.len()).for_each(&mut show);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Rank,
    Score,
    Lex,
}

/// What a command's name already says; the rest is said by options.
#[derive(Clone, Copy, Default)]
struct Form {
    order: Option<Order>,
    reverse: Option<bool>,
    store: bool,
}

enum Interval<'a> {
    Rank { start: i64, stop: i64 },
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

struct Query<'a> {
    interval: Interval<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// A negative limit is none.
    limit: i64,
}

impl<'a> Query<'a> {
    /// `words` begin with the key.
    fn parse(words: &[&'a [u8]], form: Form) -> CommandResult<Self> {
        let Form { mut order, mut reverse, store } = form;
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut next = 3;
        while next < words.len() {
            let option = words[next].to_ascii_lowercase();
            match option.as_slice() {
                b"withscores" if !store => with_scores = true,
                b"limit" if words.len() - next > 2 => {
                    (offset, limit) = (integer(words[next + 1])?, integer(words[next + 2])?);
                    next += 2;
                }
                b"rev" if reverse.is_none() => reverse = Some(true),
                b"bylex" if order.is_none() => order = Some(Order::Lex),
                b"byscore" if order.is_none() => order = Some(Order::Score),
                _ => return Err(CommandError::Syntax),
            }
            next += 1;
        }
        let (order, reverse) = (order.unwrap_or(Order::Rank), reverse.unwrap_or(false));
        if limit != -1 && order == Order::Rank {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
                    .into(),
            ));
        }
        if with_scores && order == Order::Lex {
            return Err(CommandError::Text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX".into(),
            ));
        }
        // Backwards, ranges of scores and members are given highest first.
        let (min, max) = if reverse { (words[2], words[1]) } else { (words[1], words[2]) };
        let interval = match order {
            Order::Rank => Interval::Rank { start: integer(words[1])?, stop: integer(words[2])? },
            Order::Score => Interval::Score(ScoreRange::parse(min, max)?),
            Order::Lex => Interval::Lex(LexRange::parse(min, max)?),
        };
        Ok(Self { interval, reverse, with_scores, offset, limit })
    }

    /// The ranks, counted from the lowest, of the members asked for.
    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let ranks = match &self.interval {
            Interval::Rank { start, stop } => {
                let ranks = positions(*start, *stop, set.len());
                return if self.reverse { set.len() - ranks.end..set.len() - ranks.start } else { ranks };
            }
            Interval::Score(range) => range.ranks(set),
            Interval::Lex(range) => range.ranks(set),
        };
        // As in Redis, nothing is left of a range once a negative offset has been skipped.
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX).min(ranks.len());
        let count = usize::try_from(self.limit).unwrap_or(usize::MAX).min(ranks.len() - offset);
        if self.reverse {
            let end = ranks.end - offset;
            end - count..end
        } else {
            let start = ranks.start + offset;
            start..start + count
        }
    }
}
