//! Positions in a list or sorted set, counted from either end, as Redis's commands give them.

use std::ops::Range;

/// The index from the head that `index` means in a list of `length`, negative ones counting from the tail.
pub fn position(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add_unsigned(length as u64)? } else { index };
    usize::try_from(index).ok().filter(|&index| index < length)
}

/// The positions that Redis's inclusive `start` and `stop` mean in a sequence of `length`.
pub fn positions(start: i64, stop: i64, length: usize) -> Range<usize> {
    let from_head = |index: i64| {
        if index < 0 { index.saturating_add_unsigned(length as u64) } else { index }
    };
    let start = from_head(start).max(0);
    let stop = from_head(stop);
    if start > stop || start >= length as i64 {
        return 0..0;
    }
    start as usize..(stop as usize).min(length - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_either_end_and_stay_inside() {
        assert_eq!(positions(0, -1, 5), 0..5);
        assert_eq!(positions(-100, 100, 5), 0..5);
        assert_eq!(positions(1, 1, 5), 1..2);
        assert_eq!(positions(-2, -1, 5), 3..5);
        assert_eq!(positions(3, 2, 5), 0..0);
        assert_eq!(positions(5, 9, 5), 0..0);
        assert_eq!(positions(0, -9, 5), 0..0);
        assert_eq!(positions(i64::MIN, i64::MAX, 5), 0..5);
        assert_eq!(positions(0, -1, 0), 0..0);
        assert_eq!(position(-5, 5), Some(0));
        assert_eq!(position(-6, 5), None);
        assert_eq!(position(5, 5), None);
        assert_eq!(position(i64::MIN, 5), None);
    }
}
