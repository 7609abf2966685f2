//! The background scrub: reads, little by little, everything that a restart would need and that nobody reads meanwhile: sealed
//! segments and slot images. What is damaged is reported and put right as far as this node, or the member of the shard that is asked,
//! has the bytes.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use holdfast_words::{Lsn, SlotId};

use crate::checkpoint::image_files::ImageFileError;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::scrub as images;
use crate::log::Log;
use crate::log::mend::SameBytes;
use crate::log::scrub::SegmentDamage;
use crate::log::segment::Sealed;
use crate::node_state::{ImageOf, ImageRow};
use crate::platform::clock;

/// What INFO says of the scrub.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScrubStats {
    /// A pass is going on.
    pub running: bool,
    /// Bytes that the pass going on, or the newest, has verified.
    pub pass_bytes: u64,
    /// Bytes that it has yet to verify.
    pub bytes_left: u64,
    /// Passes that saw everything.
    pub passes: u64,
    /// When the newest of them ended, wall clock, ms; 0 for never.
    pub last_pass_at_ms: u64,
    /// How long it took.
    pub last_pass_took_ms: u64,
    /// Damaged places found since the start.
    pub found: u64,
    /// Of these, put right.
    pub mended: u64,
    /// Damaged places that the newest whole pass had to leave.
    pub unmended: u64,
    /// The newest damage, readable.
    pub last_damage: String,
}

/// What is to be looked at.
#[derive(Debug)]
enum Place {
    Segment { segment: Sealed, next: Lsn, damage: Vec<SegmentDamage> },
    ImageFile { number: u64 },
    Image { of: ImageOf, row: ImageRow },
}

impl Place {
    fn bytes(&self) -> u64 {
        match self {
            Self::Segment { segment, next, .. } => segment.end_lsn.since(*next),
            Self::ImageFile { .. } => 0,
            Self::Image { row, .. } => row.length,
        }
    }
}

/// A scrub that goes through a store's files again and again.
#[derive(Debug, Default)]
pub struct Scrub {
    left: VecDeque<Place>,
    began_at_ms: u64,
    /// Image files in which something is damaged.
    damaged_files: BTreeSet<u64>,
    image_faults: u64,
    unmended: u64,
    stats: ScrubStats,
}

/// What a step of the scrub left to do for whoever has the slots.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes verified: to be paid for in time.
    pub bytes: u64,
    /// Slots whose images are in damaged files: new images are wanted of all of them.
    pub image_again: Vec<SlotId>,
    /// The pass is complete.
    pub pass_done: bool,
}

impl Scrub {
    /// Figures for INFO.
    pub fn stats(&self) -> &ScrubStats {
        &self.stats
    }

    /// Verifies about `max_bytes`, a whole image at least. A new pass begins when the one before is complete.
    pub fn step(&mut self, log: &Log, manifest: &Manifest, max_bytes: u64, from: &mut dyn SameBytes) -> Step {
        if !self.stats.running {
            self.begin_pass(log, manifest);
        }
        let mut step = Step::default();
        while step.bytes < max_bytes
            && let Some(place) = self.left.pop_front()
        {
            step.bytes += match place {
                Place::Segment { segment, next, damage } => {
                    self.look_at_segment(log, segment, next, damage, max_bytes - step.bytes, from)
                }
                Place::ImageFile { number } => {
                    self.note_image(number, images::check_file(manifest, number));
                    0
                }
                Place::Image { of, row } => {
                    self.note_image(row.file, images::check_image(manifest, of, &row));
                    row.length
                }
            };
        }
        self.stats.pass_bytes += step.bytes;
        self.stats.bytes_left = self.left.iter().map(Place::bytes).sum();
        if self.left.is_empty() {
            step.pass_done = true;
            let damaged = |row: &ImageRow| self.damaged_files.contains(&row.file);
            let rows = manifest.rows().rows.into_iter().filter(|(_, row)| damaged(row));
            step.image_again = rows.map(|(ImageOf::Slot(slot), _)| slot).collect();
            self.end_pass();
            if step.image_again.is_empty() && self.image_faults > 0 {
                // A checkpoint came in between.
                self.images_made_again(Ok(()));
            }
        }
        step
    }

    /// Tells what became of [`Step::image_again`].
    pub fn images_made_again(&mut self, result: Result<(), String>) {
        let faults = std::mem::take(&mut self.image_faults);
        match result {
            Ok(()) => {
                self.stats.mended += faults;
                self.stats.unmended -= faults.min(self.stats.unmended);
                tracing::warn!(
                    places = faults,
                    "damaged slot images were replaced by new ones made from memory"
                );
            }
            Err(reason) => tracing::error!(
                reason,
                places = faults,
                "damaged slot images could not be replaced; the scrub tries again. DO NOT stop this node before that has worked \
                 or a replica is in sync: its next start would find the damage"
            ),
        }
    }

    /// The start before this scrub met damage in the log and had it mended.
    pub fn note_mended_at_start(&mut self, damage: &[SegmentDamage]) {
        let places = damage.len() as u64;
        self.stats.found += places;
        self.stats.mended += places;
        if let Some(newest) = damage.last() {
            self.stats.last_damage = newest.to_string();
        }
    }

    /// The start met damaged images, which nothing has taken the place of yet.
    pub fn note_damaged_images(&mut self, what: String) {
        self.stats.found += 1;
        self.stats.unmended += 1;
        self.stats.last_damage = what;
    }

    /// What they held was copied from another member.
    pub fn note_images_copied(&mut self) {
        self.stats.mended += 1;
        self.stats.unmended = self.stats.unmended.saturating_sub(1);
        tracing::warn!("damaged slot images were replaced by another member's data");
    }

    /// Somebody met damage in this segment, or believes so: looks at all of it and mends what is damaged, out of turn.
    ///
    /// # Errors
    /// Why damage is still there.
    pub fn look_now(&mut self, log: &Log, segment: &Sealed, from: &mut dyn SameBytes) -> Result<(), String> {
        let (mut next, mut damage) = (segment.first_lsn, Vec::new());
        while next < segment.end_lsn {
            let slice = log.check_slice(segment, next, u64::MAX).map_err(|error| error.to_string())?;
            next = slice.next;
            damage.extend(slice.damage);
        }
        if damage.is_empty() {
            return Ok(());
        }
        self.note_segment(&damage);
        self.mend_segment(log, segment, &damage, from)
    }

    fn begin_pass(&mut self, log: &Log, manifest: &Manifest) {
        let segments = log.sealed().into_iter();
        self.left = segments
            .map(|segment| Place::Segment { next: segment.first_lsn, segment, damage: Vec::new() })
            .collect();
        let mut rows: Vec<_> = manifest.rows().rows.into_iter().collect();
        rows.sort_unstable_by_key(|(_, row)| (row.file, row.offset));
        let mut file = None;
        for (of, row) in rows {
            if file.replace(row.file) != Some(row.file) {
                self.left.push_back(Place::ImageFile { number: row.file });
            }
            self.left.push_back(Place::Image { of, row });
        }
        self.began_at_ms = clock::monotonic_ms();
        self.damaged_files.clear();
        (self.image_faults, self.unmended) = (0, 0);
        self.stats.running = true;
        self.stats.pass_bytes = 0;
    }

    fn end_pass(&mut self) {
        let stats = &mut self.stats;
        stats.running = false;
        stats.passes += 1;
        stats.last_pass_at_ms = clock::wall_clock_ms();
        stats.last_pass_took_ms = clock::monotonic_ms().saturating_sub(self.began_at_ms);
        stats.unmended = self.unmended + self.image_faults;
    }

    fn look_at_segment(
        &mut self,
        log: &Log,
        segment: Sealed,
        next: Lsn,
        mut damage: Vec<SegmentDamage>,
        max_bytes: u64,
        from: &mut dyn SameBytes,
    ) -> u64 {
        let slice = match log.check_slice(&segment, next, max_bytes) {
            Ok(slice) => slice,
            Err(error) => {
                let what = format!("{}: {error}", segment.path.display());
                tracing::error!(what, "the scrub cannot read a segment of the log");
                self.stats.found += 1;
                self.unmended += 1;
                self.stats.last_damage = what;
                return segment.end_lsn.since(next);
            }
        };
        self.note_segment(&slice.damage);
        damage.extend(slice.damage);
        if slice.next < segment.end_lsn {
            self.left.push_front(Place::Segment { segment, next: slice.next, damage });
        } else if !damage.is_empty() && self.mend_segment(log, &segment, &damage, from).is_err() {
            self.unmended += damage.len() as u64;
        }
        slice.bytes
    }

    fn note_segment(&mut self, damage: &[SegmentDamage]) {
        for found in damage {
            tracing::error!(damage = %found, "damage in the log; what is in memory is not touched by it");
            self.stats.found += 1;
            self.stats.last_damage = found.to_string();
        }
    }

    fn mend_segment(
        &mut self,
        log: &Log,
        segment: &Sealed,
        damage: &[SegmentDamage],
        from: &mut dyn SameBytes,
    ) -> Result<(), String> {
        let places = damage.len() as u64;
        match log.mend(segment, damage, from) {
            Ok(kept) => {
                self.stats.mended += places;
                tracing::warn!(
                    file = %segment.path.display(), damaged_file = %kept.display(), places,
                    "a damaged segment was mended and verified; the damaged file is kept"
                );
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    file = %segment.path.display(), %error, places,
                    "a damaged segment could not be mended; the scrub tries again. It is needed at a restart and by replicas \
                     that are behind until a checkpoint covers it (BGSAVE takes one)"
                );
                Err(error.to_string())
            }
        }
    }

    fn note_image(&mut self, file: u64, checked: Result<(), ImageFileError>) {
        let Err(error) = checked else { return };
        tracing::error!(damage = %error, "the scrub found damage in a slot image; what is in memory is not touched by it");
        self.stats.found += 1;
        self.image_faults += 1;
        self.stats.last_damage = error.to_string();
        self.damaged_files.insert(file);
    }
}

/// There is nobody to ask.
pub fn nobody(_: Range<Lsn>) -> Result<Vec<u8>, String> {
    Err("there is no other member of the shard to get it from".into())
}
