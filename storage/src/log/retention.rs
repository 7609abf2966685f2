//! Which part of the log must be kept: pure, its caller deletes.

use holdfast_words::Lsn;

/// What holds on to the log.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// Everything below is in checkpoint images.
    pub checkpoint_lsn: Lsn,
    /// Where each replica that keeps up has got to; they are never cut off.
    pub in_sync: Vec<Lsn>,
    /// Where each replica that lags has got to.
    pub laggards: Vec<Lsn>,
    /// End of the log.
    pub end_lsn: Lsn,
    /// `wal-retain-size`: bytes of log kept for laggards, counted from the end.
    pub retain_bytes: u64,
}

/// The lowest LSN that must be kept.
pub fn oldest_to_keep(holders: &Holders) -> Lsn {
    let bound = Lsn(holders.end_lsn.0.saturating_sub(holders.retain_bytes));
    // A laggard holds the log only as far back as the bound allows; beyond it takes a full copy.
    let laggards = holders.laggards.iter().map(|&lsn| lsn.max(bound));
    let kept_for_replicas =
        holders.in_sync.iter().copied().chain(laggards).min().unwrap_or(holders.checkpoint_lsn);
    // Without a checkpoint that covers it nothing may go, whoever else could do without.
    holders.checkpoint_lsn.min(kept_for_replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_that_no_checkpoint_covers() {
        let holders = Holders {
            checkpoint_lsn: Lsn(10),
            in_sync: vec![Lsn(90)],
            end_lsn: Lsn(100),
            ..Holders::default()
        };
        assert_eq!(oldest_to_keep(&holders), Lsn(10));
    }

    #[test]
    fn an_in_sync_replica_holds_the_log_a_laggard_only_within_the_bound() {
        let mut holders =
            Holders { checkpoint_lsn: Lsn(95), end_lsn: Lsn(100), retain_bytes: 30, ..Holders::default() };
        holders.laggards = vec![Lsn(5)];
        assert_eq!(oldest_to_keep(&holders), Lsn(70));
        holders.in_sync = vec![Lsn(40)];
        assert_eq!(oldest_to_keep(&holders), Lsn(40));
    }
}
