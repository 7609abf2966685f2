//! The contents of one simulated file: what the disk has, and over it what only the page cache has, by sectors of 512 bytes.
//!
//! | layer | read | made durable by a sync | after a power cut |
//! |---|---|---|---|
//! | unsynced | first | yes | each sector kept, lost or torn, by the dice |
//! | forgotten: a sync that failed has given them up | second | no, though later syncs say so | lost |
//! | durable | last | – | kept |
//!
//! The file's length and what a cut has zeroed are kept or lost together, as one entry of a file system's journal.

use std::collections::BTreeMap;

/// Bytes that a disk writes as one, when the power stays on.
pub(super) const SECTOR: usize = 512;

type Sector = Box<[u8; SECTOR]>;

/// What the page cache knows of a sector.
#[derive(Default)]
struct Unsynced {
    /// A cut of the file took what was there before.
    zeroed: bool,
    /// What was written, the whole sector.
    written: Option<Sector>,
}

/// A file's bytes.
#[derive(Default)]
pub(super) struct Contents {
    durable: BTreeMap<u64, Sector>,
    durable_length: u64,
    forgotten: BTreeMap<u64, Sector>,
    unsynced: BTreeMap<u64, Unsynced>,
    length: u64,
}

/// What a power cut makes of a sector that was not synced.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Lost,
    Torn,
}

/// How a power cut deals with the unsynced sectors of one file.
enum Mood {
    All(Fate),
    /// So many are kept, one is torn, the rest is lost: a tail that breaks off.
    BreaksOff(usize),
    Mixed,
}

impl Mood {
    fn of(dice: &mut fastrand::Rng, sectors: usize) -> Self {
        match dice.u32(..6) {
            0 => Self::All(Fate::Kept),
            1 => Self::All(Fate::Lost),
            2 | 3 => Self::BreaksOff(dice.usize(..=sectors)),
            _ => Self::Mixed,
        }
    }

    fn next(&mut self, dice: &mut fastrand::Rng) -> Fate {
        match self {
            Self::All(fate) => *fate,
            Self::BreaksOff(0) => {
                *self = Self::All(Fate::Lost);
                Fate::Torn
            }
            Self::BreaksOff(left) => {
                *left -= 1;
                Fate::Kept
            }
            Self::Mixed => [Fate::Kept, Fate::Lost, Fate::Torn][dice.usize(..3)],
        }
    }
}

const ZEROS: [u8; SECTOR] = [0; SECTOR];

impl Contents {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    fn sector(&self, number: u64) -> &[u8; SECTOR] {
        if let Some(unsynced) = self.unsynced.get(&number) {
            return unsynced.written.as_deref().unwrap_or(&ZEROS);
        }
        let kept = self.forgotten.get(&number).or_else(|| self.durable.get(&number));
        kept.map_or(&ZEROS, |sector| sector)
    }

    /// Reads what there is from `offset` on; returns how much.
    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        let count = (bytes.len() as u64).min(self.length.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = (at % SECTOR as u64) as usize;
            let part = (SECTOR - within).min(count - done);
            let sector = self.sector(at / SECTOR as u64);
            bytes[done..done + part].copy_from_slice(&sector[within..within + part]);
            done += part;
        }
        count
    }

    /// Writes into the page cache.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (number, within) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let part = (SECTOR - within).min(bytes.len() - done);
            let mut sector = Box::new(*self.sector(number));
            sector[within..within + part].copy_from_slice(&bytes[done..done + part]);
            self.unsynced.entry(number).or_default().written = Some(sector);
            done += part;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (whole, rest) = (length.div_ceil(SECTOR as u64), (length % SECTOR as u64) as usize);
            if rest > 0 {
                let number = length / SECTOR as u64;
                let mut sector = Box::new(*self.sector(number));
                sector[rest..].fill(0);
                self.unsynced.entry(number).or_default().written = Some(sector);
            }
            let known: Vec<u64> = (self.durable.range(whole..).map(|(number, _)| *number))
                .chain(self.forgotten.range(whole..).map(|(number, _)| *number))
                .collect();
            self.unsynced.split_off(&whole);
            for number in known {
                self.unsynced.insert(number, Unsynced { zeroed: true, written: None });
            }
        }
        self.length = length;
    }

    /// Everything is on the disk from now on.
    pub(super) fn sync(&mut self) {
        for (number, unsynced) in std::mem::take(&mut self.unsynced) {
            match unsynced.written {
                Some(sector) => drop(self.durable.insert(number, sector)),
                None => drop(self.durable.remove(&number)),
            }
            self.forgotten.remove(&number);
        }
        self.durable_length = self.length;
    }

    /// A sync fails: what it should have made durable is still read, and no later sync will write it.
    pub(super) fn fail_to_sync(&mut self) {
        for (number, unsynced) in std::mem::take(&mut self.unsynced) {
            self.forgotten.insert(number, unsynced.written.unwrap_or_else(|| Box::new(ZEROS)));
        }
    }

    /// The power fails and comes back: what is there is what the disk has. Returns how many sectors were kept, lost and torn.
    pub(super) fn cut_power(&mut self, dice: &mut fastrand::Rng) -> [u32; 3] {
        let mut fates = [0; 3];
        let length_is_kept = dice.bool();
        let mut mood = Mood::of(dice, self.unsynced.len());
        for (number, unsynced) in std::mem::take(&mut self.unsynced) {
            if unsynced.zeroed && length_is_kept {
                self.durable.remove(&number);
            }
            let Some(written) = unsynced.written else { continue };
            let fate = mood.next(dice);
            fates[fate as usize] += 1;
            match fate {
                Fate::Kept => drop(self.durable.insert(number, written)),
                Fate::Lost => {}
                Fate::Torn => {
                    let end = dice.usize(1..SECTOR);
                    let sector = self.durable.entry(number).or_insert_with(|| Box::new(ZEROS));
                    sector[..end].copy_from_slice(&written[..end]);
                }
            }
        }
        self.forgotten.clear();
        if length_is_kept {
            self.durable_length = self.length;
        }
        self.length = self.durable_length;
        // What stands behind the end is no part of the file: it is not there when the file grows again.
        let (whole, rest) = (self.length.div_ceil(SECTOR as u64), (self.length % SECTOR as u64) as usize);
        self.durable.split_off(&whole);
        if rest > 0
            && let Some(sector) = self.durable.get_mut(&(self.length / SECTOR as u64))
        {
            sector[rest..].fill(0);
        }
        fates
    }

    /// A bit of a durable sector turns over; returns at which byte of the file, `None` when nothing is durable.
    pub(super) fn rot(&mut self, dice: &mut fastrand::Rng) -> Option<u64> {
        let numbers: Vec<u64> = self.durable.keys().copied().collect();
        let number = *numbers.get(dice.usize(..numbers.len().max(1)))?;
        let end = (self.durable_length.saturating_sub(number * SECTOR as u64) as usize).min(SECTOR);
        let at = dice.usize(..end.max(1));
        self.durable.get_mut(&number)?[at] ^= 1 << dice.u32(..8);
        Some(number * SECTOR as u64 + at as u64)
    }

    /// Adds everything to a hash: what is read and what is durable.
    pub(super) fn fingerprint(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(&self.length.to_le_bytes());
        hasher.update(&self.durable_length.to_le_bytes());
        for (number, sector) in self.durable.iter().chain(&self.forgotten) {
            hasher.update(&number.to_le_bytes());
            hasher.update(&sector[..]);
        }
        for (number, unsynced) in &self.unsynced {
            hasher.update(&number.to_le_bytes());
            hasher.update(unsynced.written.as_deref().unwrap_or(&ZEROS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![7; contents.length() as usize];
        assert_eq!(contents.read(&mut bytes, 0), bytes.len());
        bytes
    }

    #[test]
    fn contents_are_those_of_a_model_whatever_is_written_cut_and_synced() {
        let mut dice = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let (mut contents, mut model) = (Contents::default(), Vec::new());
            for _ in 0..40 {
                match dice.u32(..4) {
                    0 => {
                        let length = dice.usize(..3000);
                        contents.set_length(length as u64);
                        model.resize(length, 0);
                    }
                    1 => contents.sync(),
                    _ => {
                        let bytes: Vec<u8> = (0..dice.usize(..1500)).map(|_| dice.u8(..)).collect();
                        let offset = dice.usize(..2500);
                        contents.write(&bytes, offset as u64);
                        if model.len() < offset + bytes.len() {
                            model.resize(offset + bytes.len(), 0);
                        }
                        model[offset..offset + bytes.len()].copy_from_slice(&bytes);
                    }
                }
                assert_eq!(whole(&contents), model);
            }
            contents.sync();
            contents.cut_power(&mut dice);
            assert_eq!(whole(&contents), model, "what was synced survives");
        }
    }

    #[test]
    fn a_power_cut_keeps_loses_or_tears_what_was_not_synced_and_nothing_else() {
        let mut seen = [0; 3];
        for seed in 0..100 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut contents = Contents::default();
            contents.write(&[1; 4 * SECTOR], 0);
            contents.sync();
            contents.write(&[2; 2 * SECTOR], SECTOR as u64);
            let fates = contents.cut_power(&mut dice);
            let bytes = whole(&contents);
            assert_eq!((&bytes[..SECTOR], &bytes[3 * SECTOR..]), (&[1; SECTOR][..], &[1; SECTOR][..]));
            for sector in bytes[SECTOR..3 * SECTOR].chunks(SECTOR) {
                let new = sector.iter().take_while(|&&byte| byte == 2).count();
                assert!(sector[new..].iter().all(|&byte| byte == 1), "a prefix is new");
                seen[if new == SECTOR {
                    0
                } else if new == 0 {
                    1
                } else {
                    2
                }] += 1;
            }
            assert_eq!(fates.iter().sum::<u32>(), 2);
        }
        assert!(seen.iter().all(|&count| count > 30), "{seen:?}");
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_read_until_the_power_fails_and_never_durable() {
        let mut contents = Contents::default();
        contents.write(b"old", 0);
        contents.sync();
        contents.write(b"new", 0);
        contents.fail_to_sync();
        contents.sync();
        assert_eq!(whole(&contents), b"new");
        contents.cut_power(&mut fastrand::Rng::with_seed(1));
        assert_eq!(whole(&contents), b"old");
    }
}
