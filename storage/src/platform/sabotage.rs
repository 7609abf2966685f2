//! Sabotage: switches that break one rule each, so that the simulation can show that its checkers notice. Without the feature
//! `simulation`, [`is_on`] is `false` when this is compiled, and nothing of a switch is left.
//!
//! To add one: a variant here that says which rule it breaks, `if sabotage::is_on(Switch::X)` at the one place that keeps the
//! rule, and a test with the switch set that must fail its check within a stated number of seeds. Switches are set per
//! thread, for all nodes that are simulated on it, and all are off again when the world goes.

/// A rule that can be broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Switch {
    /// A record's CRC is ignored, so recovery keeps a torn tail.
    TornTailKept,
    /// A record that a slot has already, or one after a gap, is applied all the same.
    SequenceCheckSkipped,
    /// A master that is alone in its in-sync set acknowledges what is written and not durable.
    LoneMasterAcksUndurable,
    /// A machine that lost its page cache passes for one that did not.
    BootIdIgnored,
    /// The log is said to be durable without having been synced.
    FsyncSkipped,
    /// A master acknowledges what it has itself, whoever is in the in-sync set.
    AckBeforeReplica,
    /// A master stops waiting for a replica before the smaller in-sync set is committed.
    ShrinkBeforeCommit,
    /// A node outside the in-sync set may be promoted.
    PromotionOutsideTheSet,
    /// The metadata group's votes and entries are acknowledged before they are on the disk.
    MetadataNotFlushed,
    /// A node goes on serving whoever it no longer hears.
    LeaseIgnored,
    /// Reads show what is not committed.
    ReadsNotGated,
    /// Replies that waited for a commit are sent when their node becomes a replica.
    HeldRepliesSent,
    /// A member goes on as before when an election fences its epoch, and takes what the old epoch's master sends.
    FenceIgnored,
    /// Every start of a node passes for its first.
    IncarnationIgnored,
}

/// Whether the rule is broken on this thread.
#[cfg(not(feature = "simulation"))]
pub const fn is_on(_: Switch) -> bool {
    false
}

#[cfg(feature = "simulation")]
mod switches {
    use std::cell::Cell;

    use super::Switch;

    thread_local! {
        static ON: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether the rule is broken on this thread.
    pub fn is_on(switch: Switch) -> bool {
        ON.get() >> switch as u8 & 1 == 1
    }

    /// Breaks the rule on this thread, or keeps it again.
    pub fn set(switch: Switch, on: bool) {
        let bit = 1 << switch as u8;
        ON.set(if on { ON.get() | bit } else { ON.get() & !bit });
    }

    /// Keeps all rules again.
    pub fn clear() {
        ON.set(0);
    }
}

#[cfg(feature = "simulation")]
pub use switches::{clear, is_on, set};
