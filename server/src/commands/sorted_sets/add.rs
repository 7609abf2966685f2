//! Members get scores: ZADD ZINCRBY.

use foldhash::{HashMap, HashMapExt};
use holdfast_storage::mutation::{Bin, Few, Mutation};
use holdfast_storage::types::SortedSet;

use super::range::stored;
use crate::command::arguments::float;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, TypedValues};

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member …]
pub fn zadd(context: &mut DataContext<'_>) -> CommandResult {
    add(context, false)
}

/// ZINCRBY key increment member
pub fn zincrby(context: &mut DataContext<'_>) -> CommandResult {
    add(context, true)
}

#[derive(Default)]
struct Options {
    only_new: bool,
    only_existing: bool,
    only_greater: bool,
    only_less: bool,
    count_changes: bool,
    increment: bool,
}

impl Options {
    /// Reads the words in front of the first score; returns how many there are. ZINCRBY goes this way too, as in Redis.
    fn parse(&mut self, words: &[&[u8]]) -> usize {
        for (index, word) in words.iter().enumerate() {
            // Mostly the first word is the first score already.
            if !word.first().is_some_and(u8::is_ascii_alphabetic) {
                return index;
            }
            let option = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut self.only_new,
                b"xx" => &mut self.only_existing,
                b"gt" => &mut self.only_greater,
                b"lt" => &mut self.only_less,
                b"ch" => &mut self.count_changes,
                b"incr" => &mut self.increment,
                _ => return index,
            };
            *option = true;
        }
        words.len()
    }

    fn check(&self, pairs: usize) -> CommandResult {
        let text = if self.only_new && self.only_existing {
            "ERR XX and NX options at the same time are not compatible"
        } else if usize::from(self.only_new) + usize::from(self.only_greater) + usize::from(self.only_less)
            > 1
        {
            "ERR GT, LT, and/or NX options at the same time are not compatible"
        } else if self.increment && pairs > 1 {
            "ERR INCR option supports a single increment-element pair"
        } else {
            return Ok(());
        };
        Err(CommandError::Text(text.into()))
    }

    /// The score that a member with the score `current` gets; `None` when it stays as it is.
    fn decide(&self, current: Option<f64>, given: f64) -> CommandResult<Option<f64>> {
        let Some(current) = current else {
            return Ok((!self.only_existing).then_some(given));
        };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increment { current + given } else { given };
        if score.is_nan() {
            return Err(CommandError::Text("ERR resulting score is not a number (NaN)".into()));
        }
        let refused = (self.only_less && score >= current) || (self.only_greater && score <= current);
        Ok((!refused).then_some(score))
    }
}

/// What ZADD found out before anything changes.
#[derive(Default)]
struct Outcome<'a> {
    /// What changes, in the request's order.
    entries: Few<(f64, Bin<'a>)>,
    added: usize,
    /// The last member's score, unless the options left that member alone.
    score: Option<f64>,
}

fn add(context: &mut DataContext<'_>, increment: bool) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let key = arguments[1];
    let mut options = Options { increment, ..Options::default() };
    let pairs = &arguments[2 + options.parse(&arguments[2..])..];
    if pairs.is_empty() || pairs.len() % 2 != 0 {
        return Err(CommandError::Syntax);
    }
    options.check(pairs.len() / 2)?;
    let Outcome { entries, added, score } = decide(data.sorted_set(key), &options, pairs)?;
    let changed = entries.len();
    if changed > 0 {
        data.mutate(&Mutation::SortedSetAdd { key: key.into(), entries });
    }
    match score {
        _ if !options.increment => reply.count(if options.count_changes { changed } else { added }),
        Some(score) => reply.double(score),
        None => reply.null(),
    }
    Ok(())
}

fn decide<'a>(
    set: CommandResult<Option<&SortedSet>>,
    options: &Options,
    pairs: &[&'a [u8]],
) -> CommandResult<Outcome<'a>> {
    // As in Redis, a score that is none is reported before a wrong type.
    let scores = pairs.chunks_exact(2).map(|pair| float(pair[0])).collect::<CommandResult<Few<f64>>>()?;
    let set = set?;
    // Scores given by this very command, for members that come twice.
    let mut given: HashMap<&[u8], f64> = HashMap::new();
    let mut outcome = Outcome::default();
    for (index, (pair, score)) in pairs.chunks_exact(2).zip(scores).enumerate() {
        let member = pair[1];
        let earlier = if index == 0 { None } else { given.get(member).copied() };
        let current = earlier.or_else(|| set.and_then(|set| set.score(member)));
        outcome.score = options.decide(current, score)?;
        if let Some(score) = outcome.score
            && current != Some(score)
        {
            outcome.added += usize::from(current.is_none());
            outcome.entries.push((stored(score), member.into()));
            if pairs.len() > 2 {
                given.insert(member, score);
            }
        }
    }
    Ok(outcome)
}
