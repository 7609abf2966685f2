//! What a section found: rows of the table against their goals, tables of details, plots.

use std::fmt::Write as _;

use crate::statistics::Spread;

/// How a row stands to its goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Reached.
    Met,
    /// Not reached.
    Missed,
    /// There is no goal, or it cannot be judged here: the row says why.
    Reported,
}

impl Verdict {
    /// Met when it holds.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Met } else { Self::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Reported => "reported",
        }
    }
}

/// What a figure must be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Bound {
    /// Whether a figure is within.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// `≥ 2×`
    pub fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}{unit}"),
            Self::AtMost(bound) => format!("≤ {bound}{unit}"),
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was done.
    pub work: String,
    /// What came out.
    pub measured: String,
    /// What the goal is.
    pub goal: String,
    /// Whether it is reached.
    pub verdict: Verdict,
}

impl Finding {
    /// A ratio of holdfast to redis-server, over the rounds, against its bound; the median counts.
    pub fn of_ratio(work: &str, of: &str, ratios: Vec<f64>, bound: Bound, figures: &str) -> Self {
        let goal = format!("{of} {}", bound.text("×"));
        let Some(spread) = Spread::of(ratios) else {
            let measured = format!("{of}: too short to tell {figures}");
            return Self { work: work.to_owned(), measured, goal, verdict: Verdict::Reported };
        };
        let measured = format!("{of} {spread}{}{figures}", if figures.is_empty() { "" } else { "; " });
        Self { work: work.to_owned(), measured, goal, verdict: Verdict::of(bound.holds(spread.median)) }
    }

    /// What is only reported.
    pub fn reported(work: &str, measured: String) -> Self {
        Self { work: work.to_owned(), measured, goal: "report".to_owned(), verdict: Verdict::Reported }
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Name of its file, without directory.
    pub file: String,
    /// What it shows.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// What a section found.
#[derive(Default, Debug)]
pub struct Findings {
    /// Rows of the table.
    pub rows: Vec<Finding>,
    /// Markdown: how it was measured, and the figures behind the rows.
    pub details: String,
    /// Pictures.
    pub plots: Vec<Plot>,
}

impl Findings {
    /// Adds a table to the details.
    pub fn table(&mut self, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut add = |cells: &[String]| {
            writeln!(self.details, "| {} |", cells.join(" | ")).expect("writing to a String cannot fail");
        };
        add(&heads.iter().map(|&head| head.to_owned()).collect::<Vec<_>>());
        add(&vec!["---".to_owned(); heads.len()]);
        rows.into_iter().for_each(|row| add(&row));
        self.details.push('\n');
    }

    /// Adds a paragraph to the details.
    pub fn paragraph(&mut self, text: &str) {
        self.details.push_str(text);
        self.details.push_str("\n\n");
    }

    /// Adds a picture.
    pub fn plot(&mut self, file: &str, caption: &str, svg: String) {
        self.plots.push(Plot { file: file.to_owned(), caption: caption.to_owned(), svg });
    }
}

/// The rows as a Markdown table.
pub fn table(rows: &[Finding]) -> String {
    let mut text = "| work | measured | goal | |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        writeln!(text, "| {} | {} | {} | {} |", row.work, row.measured, row.goal, row.verdict.word())
            .expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_median_and_says_so() {
        let row =
            |ratios: &[f64]| Finding::of_ratio("SET", "rate", ratios.to_vec(), Bound::AtLeast(2.0), "1 / 2");
        assert_eq!(row(&[1.0, 2.0, 9.0]).verdict, Verdict::Met);
        assert_eq!(row(&[1.9, 1.8, 9.0]).verdict, Verdict::Missed);
        assert_eq!(row(&[]).verdict, Verdict::Reported);
        let missed = table(&[row(&[1.5])]);
        assert!(
            missed.ends_with("| SET | rate **1.50** (1.50..1.50); 1 / 2 | rate ≥ 2× | **missed** |\n"),
            "{missed}"
        );
        assert!(Bound::AtMost(0.3).holds(0.3) && !Bound::AtMost(0.3).holds(0.31));
    }
}
