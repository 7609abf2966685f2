//! A bar on the terminal's standard error while a log is walked: only for work that takes long, only where somebody sees it.

use std::time::{Duration, Instant};

use holdfast_storage::log::recovery::Found;
use holdfast_words::Lsn;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Records between two looks at the clock.
const RECORDS_PER_LOOK: u32 = 1024;

/// How far the walk through a log is.
pub struct WalkProgress {
    first_lsn: Lsn,
    length: u64,
    started: Instant,
    patience: Duration,
    unseen: u32,
    bar: Option<ProgressBar>,
}

impl WalkProgress {
    /// Of a walk through all segments found. Where an open log ends is not known yet: its durable mark stands for it.
    pub fn through(found: &Found) -> Self {
        let first_lsn = found.segments.first().map_or(Lsn::ZERO, |segment| segment.header.first_lsn);
        let last_lsn = found.segments.last().map_or(Lsn::ZERO, |segment| segment.header.first_lsn);
        let end_lsn = last_lsn.max(found.mark.durable_lsn);
        Self {
            first_lsn,
            length: end_lsn.0.saturating_sub(first_lsn.0),
            started: Instant::now(),
            patience: PATIENCE,
            unseen: 0,
            bar: None,
        }
    }

    /// The record at `lsn` has been read.
    pub fn reached(&mut self, lsn: Lsn) {
        self.unseen += 1;
        if self.unseen < RECORDS_PER_LOOK {
            return;
        }
        self.unseen = 0;
        if self.bar.is_none() && self.started.elapsed() >= self.patience {
            self.bar = Some(new_bar(self.length));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(lsn.0.saturating_sub(self.first_lsn.0).min(self.length));
        }
    }
}

/// The bar goes; what follows is printed in its place.
impl Drop for WalkProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Drawn on standard error, and only when that is a terminal.
fn new_bar(length: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(patience: Duration) -> WalkProgress {
        let started = Instant::now();
        let (first_lsn, length) = (Lsn(1000), 5000);
        WalkProgress { first_lsn, length, started, patience, unseen: 0, bar: None }
    }

    #[test]
    fn a_bar_appears_when_the_work_is_long_and_shows_how_far_it_is() {
        let mut progress = walk(Duration::ZERO);
        progress.reached(Lsn(1000));
        assert!(progress.bar.is_none(), "the clock is not asked at each record");
        (1..u64::from(RECORDS_PER_LOOK)).for_each(|record| progress.reached(Lsn(1000 + record)));
        let bar = progress.bar.as_ref().expect("long enough");
        assert_eq!((bar.position(), bar.length()), (u64::from(RECORDS_PER_LOOK) - 1, Some(5000)));
        (0..RECORDS_PER_LOOK).for_each(|_| progress.reached(Lsn(9000)));
        assert_eq!(
            progress.bar.as_ref().unwrap().position(),
            5000,
            "a log that grows meanwhile is not past its end"
        );
    }

    #[test]
    fn short_work_shows_none() {
        let mut progress = walk(Duration::from_secs(3600));
        (0..10 * u64::from(RECORDS_PER_LOOK)).for_each(|record| progress.reached(Lsn(1000 + record)));
        assert!(progress.bar.is_none());
    }
}
