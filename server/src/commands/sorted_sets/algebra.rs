//! Several sorted sets, or sets, make one: ZUNION ZINTER ZDIFF, their STORE forms, ZINTERCARD.

use foldhash::{HashMap, HashMapExt};
use holdfast_storage::mutation::Bin;
use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::{Set, SortedSet, ValueRef};

use super::pairs;
use super::range::replace;
use crate::command::arguments::{at_least, float_or, integer};
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    /// What is in the first and in no other, with its score there.
    Difference,
}

/// ZUNION numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
pub fn zunion(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Union)
}

/// ZINTER numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
pub fn zinter(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Intersection)
}

/// ZDIFF numkeys key [key …] [WITHSCORES]
pub fn zdiff(context: &mut DataContext<'_>) -> CommandResult {
    show(context, Operation::Difference)
}

/// ZUNIONSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM|MIN|MAX]
pub fn zunionstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Union)
}

/// ZINTERSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM|MIN|MAX]
pub fn zinterstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Intersection)
}

/// ZDIFFSTORE destination numkeys key [key …]
pub fn zdiffstore(context: &mut DataContext<'_>) -> CommandResult {
    store(context, Operation::Difference)
}

fn show(context: &mut DataContext<'_>, operation: Operation) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let allowed = Allowed { with_scores: true, weights: operation != Operation::Difference, limit: false };
    let query = Query::parse(data, arguments, 1, allowed)?;
    let entries = query.combine(operation);
    pairs::begin(reply, entries.len(), query.with_scores);
    for (score, member) in &entries {
        pairs::member(reply, member, *score, query.with_scores);
    }
    Ok(())
}

fn store(context: &mut DataContext<'_>, operation: Operation) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let allowed = Allowed { with_scores: false, weights: operation != Operation::Difference, limit: false };
    let entries = Query::parse(data, arguments, 2, allowed)?.combine(operation);
    // The destination may be one of the sources, so nothing may be borrowed from them any more.
    let entries: Vec<_> =
        entries.into_iter().map(|(score, member)| (score, Bin::Owned(member.into_owned()))).collect();
    reply.count(entries.len());
    replace(data, arguments[1], entries);
    Ok(())
}

/// ZINTERCARD numkeys key [key …] [LIMIT limit]
pub fn zintercard(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let query =
        Query::parse(data, arguments, 1, Allowed { with_scores: false, weights: false, limit: true })?;
    reply.count(query.intersection().len());
    Ok(())
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> CommandResult<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"sum" => Ok(Self::Sum),
            b"min" => Ok(Self::Min),
            b"max" => Ok(Self::Max),
            _ => Err(CommandError::Syntax),
        }
    }

    fn of(self, so_far: f64, score: f64) -> f64 {
        match self {
            // The infinities cancel each other out.
            Self::Sum => zero_for_nan(so_far + score),
            Self::Min => {
                if score < so_far {
                    score
                } else {
                    so_far
                }
            }
            Self::Max => {
                if score > so_far {
                    score
                } else {
                    so_far
                }
            }
        }
    }
}

fn zero_for_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A set's members count as having the score 1.
#[derive(Clone, Copy)]
enum Subject<'s> {
    Missing,
    Set(&'s Set),
    SortedSet(&'s SortedSet),
}

#[derive(Clone, Copy)]
struct Source<'s> {
    subject: Subject<'s>,
    weight: f64,
}

impl<'s> Source<'s> {
    fn len(&self) -> usize {
        match self.subject {
            Subject::Missing => 0,
            Subject::Set(set) => set.len(),
            Subject::SortedSet(set) => set.len(),
        }
    }

    /// The member's score, not yet weighted.
    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.subject {
            Subject::Missing => None,
            Subject::Set(set) => set.contains(member).then_some(1.0),
            Subject::SortedSet(set) => set.score(member),
        }
    }

    /// Members with their scores, not yet weighted.
    fn iter(&self) -> Box<dyn Iterator<Item = (Bin<'s>, f64)> + 's> {
        match self.subject {
            Subject::Missing => Box::new(std::iter::empty()),
            Subject::Set(set) => Box::new(set.iter().map(|member| (member, 1.0))),
            Subject::SortedSet(set) => {
                Box::new(set.iter_from(0).map(|(member, score)| (member.into(), score)))
            }
        }
    }
}

/// Which options a command takes.
#[derive(Clone, Copy)]
struct Allowed {
    with_scores: bool,
    weights: bool,
    limit: bool,
}

struct Query<'s> {
    sources: Vec<Source<'s>>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

impl<'s> Query<'s> {
    /// `first` is where the number of keys stands.
    fn parse(
        data: &'s SlotSet<'_>,
        arguments: &[&[u8]],
        first: usize,
        allowed: Allowed,
    ) -> CommandResult<Self> {
        let number = integer(arguments[first])?;
        if number < 1 {
            let name = String::from_utf8_lossy(arguments[0]).to_ascii_lowercase();
            return Err(CommandError::Text(
                format!("ERR at least 1 input key is needed for '{name}' command").into(),
            ));
        }
        let rest = &arguments[first + 1..];
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let (keys, mut options) = rest.split_at_checked(number).ok_or(CommandError::Syntax)?;
        let sources = keys.iter().map(|key| Ok(Source { subject: subject(data, key)?, weight: 1.0 }));
        let mut query = Self {
            sources: sources.collect::<CommandResult<_>>()?,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        while let Some((option, values)) = options.split_first() {
            options = match option.to_ascii_lowercase().as_slice() {
                b"weights" if allowed.weights && values.len() >= number => {
                    for (source, weight) in query.sources.iter_mut().zip(values) {
                        source.weight = float_or(weight, "ERR weight value is not a float")?;
                    }
                    &values[number..]
                }
                b"aggregate" if allowed.weights && !values.is_empty() => {
                    query.aggregate = Aggregate::parse(values[0])?;
                    &values[1..]
                }
                b"withscores" if allowed.with_scores => {
                    query.with_scores = true;
                    values
                }
                b"limit" if allowed.limit && !values.is_empty() => {
                    let limit = at_least(values[0], 0, "ERR LIMIT can't be negative")?;
                    query.limit =
                        if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
                    &values[1..]
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(query)
    }

    /// What the sources make together, in the order of a sorted set.
    fn combine(&self, operation: Operation) -> Vec<(f64, Bin<'s>)> {
        let mut entries = match operation {
            Operation::Union => self.union(),
            Operation::Intersection => self.intersection(),
            Operation::Difference => self.difference(),
        };
        entries.sort_unstable_by(|(score, member), (other_score, other_member)| {
            // No score is NaN; -0 and 0 are equal, as in Redis, so that members decide.
            score.partial_cmp(other_score).expect("no score is NaN").then_with(|| member.cmp(other_member))
        });
        entries
    }

    /// Smallest first: less to look up, and the order in which Redis adds up.
    fn by_length(&self) -> Vec<Source<'s>> {
        let mut sources = self.sources.clone();
        sources.sort_by_key(Source::len);
        sources
    }

    fn union(&self) -> Vec<(f64, Bin<'s>)> {
        let mut scores: HashMap<Bin<'s>, f64> = HashMap::new();
        for source in self.by_length() {
            for (member, score) in source.iter() {
                let score = zero_for_nan(source.weight * score);
                scores
                    .entry(member)
                    .and_modify(|so_far| *so_far = self.aggregate.of(*so_far, score))
                    .or_insert(score);
            }
        }
        scores.into_iter().map(|(member, score)| (score, member)).collect()
    }

    fn intersection(&self) -> Vec<(f64, Bin<'s>)> {
        let sources = self.by_length();
        let (smallest, others) = sources.split_first().expect("at least one key");
        let in_all = |(member, score): (Bin<'s>, f64)| {
            let first = zero_for_nan(smallest.weight * score);
            let score = others.iter().try_fold(first, |so_far, other| {
                Some(self.aggregate.of(so_far, other.score(&member)? * other.weight))
            })?;
            Some((score, member))
        };
        smallest.iter().filter_map(in_all).take(self.limit).collect()
    }

    fn difference(&self) -> Vec<(f64, Bin<'s>)> {
        let (first, others) = self.sources.split_first().expect("at least one key");
        let in_others = |member: &[u8]| others.iter().any(|other| other.score(member).is_some());
        first.iter().filter(|(member, _)| !in_others(member)).map(|(member, score)| (score, member)).collect()
    }
}

fn subject<'s>(data: &'s SlotSet<'_>, key: &[u8]) -> CommandResult<Subject<'s>> {
    match data.get(key) {
        None => Ok(Subject::Missing),
        Some(ValueRef::Set(set)) => Ok(Subject::Set(set)),
        Some(ValueRef::SortedSet(set)) => Ok(Subject::SortedSet(set)),
        Some(_) => Err(CommandError::WrongType),
    }
}
