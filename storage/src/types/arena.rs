//! Where a large sorted set keeps its members: each at a number, which stands for it in the table of members and in the ordered
//! tree. Numbers of four bytes instead of pointers, and no second copy of a member.
//!
//! Places that become free are used again. When more are free than taken, members move from the end into them, so that memory
//! follows the number of members down; the owner is told which number became which.

use super::chunked::Chunked;
use super::prefetch::prefetch;
use super::table::Keys;
use super::thin::Thin;

/// Free places that are kept anyway.
const FREE_KEPT: usize = 256;
const NONE: u32 = u32::MAX;

enum Place {
    Taken {
        score: f64,
        member: Thin,
    },
    /// One of the free places, which form a list.
    Free {
        before: u32,
        after: u32,
    },
}

/// Members with their scores.
#[derive(Default)]
pub(crate) struct Arena {
    places: Chunked<Place>,
    free: usize,
    /// The first free place, if any is.
    first_free: u32,
    /// Bytes of memory of the members.
    bytes: usize,
}

impl Keys<u32> for Arena {
    fn key<'k>(&'k self, number: &'k u32) -> &'k [u8] {
        self.get(*number).0
    }

    /// Only the member's place: its block would have to be waited for.
    fn prefetch(&self, number: &u32) {
        prefetch(&self.places[*number as usize]);
    }

    fn prefetch_behind(&self, number: &u32) {
        if let Place::Taken { member, .. } = &self.places[*number as usize] {
            member.prefetch();
        }
    }
}

impl Arena {
    /// The member at a number, and its score.
    pub(crate) fn get(&self, number: u32) -> (&[u8], f64) {
        match &self.places[number as usize] {
            Place::Taken { score, member } => (member.bytes(), *score),
            Place::Free { .. } => unreachable!("place {number} is free"),
        }
    }

    /// Gives a member another score.
    pub(crate) fn set_score(&mut self, number: u32, new: f64) {
        match &mut self.places[number as usize] {
            Place::Taken { score, .. } => *score = new,
            Place::Free { .. } => unreachable!("place {number} is free"),
        }
    }

    /// Takes a member in, at the number returned.
    pub(crate) fn add(&mut self, member: &[u8], score: f64) -> u32 {
        let member = Thin::new((), (), &[member]);
        self.bytes += member.memory_bytes();
        let place = Place::Taken { score, member };
        if self.free > 0 {
            let number = self.first_free;
            self.unlink(number);
            self.places[number as usize] = place;
            return number;
        }
        let number = u32::try_from(self.places.len()).ok().filter(|&number| number != NONE);
        self.places.push(place);
        number.expect("fewer than 2^32 members")
    }

    /// Frees a member's number, which nothing may stand for any more.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Place::Taken { member, .. } = &self.places[number as usize] {
            self.bytes -= member.memory_bytes();
        }
        let after = if self.free == 0 { NONE } else { self.first_free };
        self.places[number as usize] = Place::Free { before: NONE, after };
        if after != NONE
            && let Place::Free { before, .. } = &mut self.places[after as usize]
        {
            *before = number;
        }
        self.first_free = number;
        self.free += 1;
    }

    /// Takes a free place out of the list of them.
    fn unlink(&mut self, number: u32) {
        let Place::Free { before, after } = self.places[number as usize] else {
            unreachable!("place {number} is taken")
        };
        match before {
            NONE => self.first_free = after,
            _ => {
                if let Place::Free { after: link, .. } = &mut self.places[before as usize] {
                    *link = after;
                }
            }
        }
        if after != NONE
            && let Place::Free { before: link, .. } = &mut self.places[after as usize]
        {
            *link = before;
        }
        self.free -= 1;
    }

    /// The last member is to move to a free place, so that places can be given back; `None`: no need.
    pub(crate) fn next_move(&mut self) -> Option<(u32, u32)> {
        while self.free > (self.places.len() - self.free) + FREE_KEPT {
            let last = (self.places.len() - 1) as u32;
            match &self.places[last as usize] {
                Place::Taken { .. } => return Some((last, self.first_free)),
                Place::Free { .. } => {
                    self.unlink(last);
                    self.places.pop();
                }
            }
        }
        None
    }

    /// Moves the last member as [`Self::next_move`] said.
    pub(crate) fn carry_out(&mut self, (last, to): (u32, u32)) {
        self.unlink(to);
        debug_assert_eq!(last as usize, self.places.len() - 1);
        if let Some(place) = self.places.pop() {
            self.places[to as usize] = place;
        }
    }

    /// Bytes of memory. Takes no walk.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + self.places.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn numbers_keep_their_members_and_memory_follows_them_down() {
        let (mut arena, mut model) = (Arena::default(), BTreeMap::<u32, (Vec<u8>, f64)>::new());
        let mut dice = fastrand::Rng::with_seed(7);
        let mut moves = 0;
        for step in 0..if cfg!(miri) { 2_000 } else { 40_000u32 } {
            let growing = step % 10_000 < 6_000;
            if model.is_empty() || dice.u8(..10) < if growing { 8 } else { 1 } {
                let member = format!("member {step}").into_bytes();
                let number = arena.add(&member, f64::from(step));
                assert!(model.insert(number, (member, f64::from(step))).is_none(), "{number} was free");
            } else {
                let number = *model.keys().nth(dice.usize(..model.len().min(50))).unwrap();
                model.remove(&number);
                arena.remove(number);
                while let Some((last, to)) = arena.next_move() {
                    let moved = model.remove(&last).expect("a member moves");
                    arena.carry_out((last, to));
                    assert!(model.insert(to, moved).is_none(), "{to} was free");
                    moves += 1;
                }
            }
            assert_eq!(arena.places.len() - arena.free, model.len());
            assert!(arena.free <= model.len() + FREE_KEPT);
        }
        assert!(cfg!(miri) || moves > 1_000);
        for (number, (member, score)) in &model {
            assert_eq!(arena.get(*number), (&member[..], *score));
        }
        let exact: usize = model.values().map(|(member, _)| 4 + member.len()).sum();
        assert_eq!((arena.bytes, size_of::<Place>()), (exact, 16));
    }
}
