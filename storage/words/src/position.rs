//! Positions in a shard's log, and the only orderings between them.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The lowest value.
            pub const ZERO: Self = Self(0);

            /// The value that follows this one.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}
pub(crate) use number;

number! {
    /// Byte position in a shard's log stream. Every member of the shard holds the same bytes, so LSNs compare directly
    /// while the epoch history agrees; across histories compare [`LogPoint`]s.
    Lsn
}

impl Lsn {
    /// The position `bytes` further on.
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Bytes from `earlier` to here; zero when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

number! {
    /// Gap-free number of a record within its slot, starting at 1; 0 says that the slot has no record yet.
    SlotSequence
}

number! {
    /// A shard's configuration epoch; moves with every change of master.
    Epoch
}

/// How far a log goes and under which history: the epoch of its last record, then its end. Ordered by epoch first:
/// a longer log of an older epoch is not fresher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogPoint {
    /// Epoch of the newest record below `lsn`.
    pub epoch: Epoch,
    /// End of the log: the position the next record would get.
    pub lsn: Lsn,
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} lsn {}", self.epoch, self.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_epoch_first() {
        let long_and_old = LogPoint { epoch: Epoch(3), lsn: Lsn(900) };
        let short_and_new = LogPoint { epoch: Epoch(4), lsn: Lsn(100) };
        assert!(short_and_new > long_and_old);
        assert!(LogPoint { epoch: Epoch(4), lsn: Lsn(101) } > short_and_new);
    }

    #[test]
    fn distance_never_wraps() {
        assert_eq!(Lsn(5).since(Lsn(9)), 0);
        assert_eq!(Lsn(9).since(Lsn(5)), 4);
    }
}
