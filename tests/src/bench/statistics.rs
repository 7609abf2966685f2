//! Medians of pairs.

use std::fmt;

/// Smallest, median and largest of some values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The smallest.
    pub smallest: f64,
    /// The one in the middle; of an even number, between the two.
    pub median: f64,
    /// The largest.
    pub largest: f64,
}

impl Spread {
    /// Of these values, unless there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&smallest, &largest) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self { smallest, median, largest })
    }
}

/// `**median** (smallest..largest)`
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { smallest, median, largest } = self;
        write!(f, "**{median:.2}** ({smallest:.2}..{largest:.2})")
    }
}

/// The median; not a number where there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values.into_iter().collect()).map_or(f64::NAN, |spread| spread.median)
}

/// A number for a table: with as many places as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(vec![]), None);
        assert!(median([]).is_nan());
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    }
}
