//! Ranges of scores and of members, as Redis's commands write them: `1`, `(1`, `+inf`; `[a`, `(a`, `-`, `+`.

use std::ops::Range;

use holdfast_storage::number::parse_f64_lossy;
use holdfast_storage::types::{LexBound, ScoreBound, SortedSet};

use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;

/// Scores from `min` to `max`.
pub struct ScoreRange {
    /// What is below this bound is outside.
    min: ScoreBound,
    /// What is below this bound is inside, unless it is below `min`.
    max: ScoreBound,
}

impl ScoreRange {
    /// Reads both ends.
    ///
    /// # Errors
    /// When one is no number.
    pub fn parse(min: &[u8], max: &[u8]) -> CommandResult<Self> {
        let (min, max) = score_end(min)
            .zip(score_end(max))
            .ok_or_else(|| CommandError::Text("ERR min or max is not a float".into()))?;
        Ok(Self {
            min: if min.exclusive { ScoreBound::After(min.score) } else { ScoreBound::Before(min.score) },
            max: if max.exclusive { ScoreBound::Before(max.score) } else { ScoreBound::After(max.score) },
        })
    }

    /// The ranks of the set's members with such scores.
    pub fn ranks(&self, set: &SortedSet) -> Range<usize> {
        ordered(set.count_below_score(self.min), set.count_below_score(self.max))
    }
}

struct ScoreEnd {
    score: f64,
    exclusive: bool,
}

/// As Redis does by `strtod`: spaces in front are skipped, nothing at all is 0, what is out of range is infinite.
fn score_end(text: &[u8]) -> Option<ScoreEnd> {
    let (exclusive, text) = match text {
        [b'(', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let score = if text.is_empty() { 0.0 } else { parse_f64_lossy(text.trim_ascii_start())? };
    Some(ScoreEnd { score, exclusive })
}

/// Members from `min` to `max`, for sets whose members all have the same score.
pub struct LexRange<'a> {
    min: LexBound<'a>,
    max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    /// Reads both ends.
    ///
    /// # Errors
    /// When one does not begin as an end has to.
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> CommandResult<Self> {
        let (min, max) = lex_end(min, true)
            .zip(lex_end(max, false))
            .ok_or_else(|| CommandError::Text("ERR min or max not valid string range item".into()))?;
        Ok(Self { min, max })
    }

    /// The ranks of the set's members in this range.
    pub fn ranks(&self, set: &SortedSet) -> Range<usize> {
        ordered(set.count_below_lex(self.min), set.count_below_lex(self.max))
    }
}

fn lex_end(text: &[u8], is_min: bool) -> Option<LexBound<'_>> {
    Some(match text {
        b"-" => LexBound::Lowest,
        b"+" => LexBound::Highest,
        [b'[', member @ ..] if is_min => LexBound::Before(member),
        [b'[', member @ ..] => LexBound::After(member),
        [b'(', member @ ..] if is_min => LexBound::After(member),
        [b'(', member @ ..] => LexBound::Before(member),
        _ => return None,
    })
}

fn ordered(start: usize, end: usize) -> Range<usize> {
    start..end.max(start)
}
