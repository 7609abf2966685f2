//! Where the last elements of a list's last node stand. A packed run is walked from its front, and each pop at the tail would walk it
//! twice: of RPOP's processor time on nodes of 40 elements that was a seventh.

use super::packed::Packed;

/// Elements whose places are known at most: a walk for that many pops.
const KNOWN_MAX: usize = 16;

/// Byte offsets of the last elements of a run, the last one last.
#[derive(Clone, Debug, Default)]
pub(super) struct TailPlaces {
    starts: [u16; KNOWN_MAX],
    known: usize,
}

impl TailPlaces {
    /// The run has become another one, or may have.
    pub(super) fn forget(&mut self) {
        self.known = 0;
    }

    /// Where the last element begins.
    pub(super) fn last(&self) -> Option<usize> {
        Some(usize::from(self.starts[self.known.checked_sub(1)?]))
    }

    /// An element was added at the end, at this offset.
    pub(super) fn push(&mut self, start: usize) {
        // What stands further back than any node of many elements is long begins a node of its own.
        let Ok(start) = u16::try_from(start) else { return self.forget() };
        if self.known == KNOWN_MAX {
            self.starts.copy_within(1.., 0);
            self.known -= 1;
        }
        self.starts[self.known] = start;
        self.known += 1;
    }

    /// Where the last element begins, which is taken off now; the run is walked when that is not known.
    pub(super) fn pop(&mut self, run: &Packed) -> usize {
        if self.known == 0 {
            let mut at = 0;
            run.lengths().for_each(|length| {
                self.push(at);
                at += length;
            });
        }
        match self.last() {
            Some(start) => {
                self.known -= 1;
                start
            }
            None => run.start(run.count() - 1),
        }
    }

    /// For tests: that what is known is so.
    #[cfg(test)]
    pub(super) fn check(&self, run: &Packed) {
        let first = run.count() - self.known;
        let known = self.starts[..self.known].iter().map(|&start| usize::from(start));
        assert!(known.eq((first..run.count()).map(|index| run.start(index))));
    }
}
