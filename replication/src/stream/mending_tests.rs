//! Damage in one member's log, and what another member has: asked over real sockets, verified, put back; or, where nobody has it, a
//! full copy for whoever needed it.

use std::fs;
use std::os::unix::fs::FileExt;

use holdfast_storage::log::Log;

use super::*;
use crate::stream::same_bytes::{Claim, answer};

fn flip_in_sealed(log: &Log, segment: usize) -> (std::path::PathBuf, Vec<u8>) {
    let path = log.sealed()[segment].path.clone();
    let whole = fs::read(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[whole[4096 + 3000] ^ 1], 4096 + 3000).unwrap();
    (path, whole)
}

impl Node {
    fn may_ask(&self, others: &[&Node]) {
        self.book.learn(others.iter().map(|other| &other.record));
        self.asker.set_others(others.iter().map(|other| other.id).collect());
    }

    /// A pass of the scrub, as the server's housekeeping makes it.
    async fn scrubs(&self) {
        let (store, asker) = (self.store.clone(), self.asker.clone());
        let pass = move || while !store.scrub(1 << 20, &mut asker.waiting()).1 {};
        platform::off_thread(pass).await.unwrap();
    }
}

async fn pair() -> (Node, Node) {
    let (mut master, mut replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    master.leads(1).await;
    master.fill(0..2000);
    replica.follows(&master, 1).await;
    replica.catches_up_with(&master).await;
    // What is full is sealed then, and not only when their threads come to it.
    master.store.log().sync().unwrap();
    replica.store.log().sync().unwrap();
    assert!(master.store.log().sealed().len() > 3 && replica.store.log().sealed().len() > 3);
    (master, replica)
}

#[tokio::test(flavor = "current_thread")]
async fn damage_of_either_member_is_mended_with_the_others_bytes() {
    let (master, replica) = pair().await;
    for (damaged, whole) in [(&replica, &master), (&master, &replica)] {
        let (path, bytes) = flip_in_sealed(damaged.store.log(), 1);
        damaged.scrubs().await;
        assert_eq!(damaged.store.scrub_stats().mended, 0, "there is nobody yet");
        damaged.may_ask(&[whole]);
        damaged.scrubs().await;
        let stats = damaged.store.scrub_stats();
        assert_eq!((stats.mended, stats.unmended), (1, 0), "{stats:?}");
        assert!(fs::read(path).unwrap() == bytes);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_member_that_has_the_bytes_is_found_behind_one_that_has_them_not() {
    let (master, replica) = pair().await;
    let stranger = node(3, 1 << 30).await;
    let gone = node(4, 1 << 30).await;
    flip_in_sealed(replica.store.log(), 2);
    replica.may_ask(&[&gone, &stranger, &master]);
    drop(gone);
    replica.scrubs().await;
    assert_eq!(replica.store.scrub_stats().mended, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_damaged_at_both_is_not_given_away_and_stays_damaged() {
    let (master, replica) = pair().await;
    let (path, _) = flip_in_sealed(replica.store.log(), 1);
    flip_in_sealed(master.store.log(), 1);
    let damaged = fs::read(&path).unwrap();
    replica.may_ask(&[&master]);
    replica.scrubs().await;
    let stats = replica.store.scrub_stats();
    assert_eq!((stats.mended, stats.unmended), (0, 1), "{stats:?}");
    assert!(fs::read(&path).unwrap() == damaged);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_answered_of_another_shard_or_from_beyond_where_the_logs_part() {
    let (mut master, replica) = pair().await;
    let same = replica.end();
    // Another history from here on.
    drop(replica.orders);
    master.leads(2).await;
    master.fill(0..100);
    let of = |shard, from| answer(&master.member, replica_question(&replica.member, shard, from));
    assert!(of(ShardId([1; 20]), Lsn::ZERO).is_err());
    let Ok(Message::LogBytes { at: 0, bytes }) = of(SHARD, Lsn::ZERO) else {
        panic!("the beginning is the same")
    };
    assert!(!bytes.is_empty());
    assert!(of(SHARD, same).is_err(), "the other epoch's records");
    // The last record before is given, and nothing after it.
    let mut last = Vec::new();
    let mut at = Lsn::ZERO;
    while at < same {
        last.clear();
        let from = at;
        at = master.store.log().read_chunk(at, 0, &mut last).unwrap();
        if at == same {
            let Ok(Message::LogBytes { bytes, .. }) = of(SHARD, from) else { panic!("it is the same") };
            assert_eq!(bytes, last);
        }
    }
}

fn replica_question(member: &Member, shard: ShardId, from: Lsn) -> Message<'static> {
    let Claim { span, .. } = Claim::of(member);
    Message::AskLog {
        shard: shard.0.to_vec(),
        history: span.history.iter().map(|(epoch, lsn)| (epoch.0, lsn.0)).collect(),
        first_lsn: span.first_lsn.0,
        end_epoch: span.end.epoch.0,
        end_lsn: span.end.lsn.0,
        from: from.0,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_that_needs_damaged_log_gets_it_mended_from_another_replica() {
    let (mut master, mut late) = (node(1, 1 << 30).await, node(3, 1 << 30).await);
    let mut replica = node(2, 1 << 30).await;
    master.leads(1).await;
    master.fill(0..2000);
    replica.follows(&master, 1).await;
    replica.catches_up_with(&master).await;
    let (path, bytes) = flip_in_sealed(master.store.log(), 1);
    master.may_ask(&[&replica]);
    late.follows(&master, 1).await;
    late.catches_up_with(&master).await;
    assert!(fs::read(path).unwrap() == bytes, "mended");
    assert_eq!(late.store.log().first_lsn(), Lsn::ZERO, "no full copy was needed");
    assert_eq!(master.store.scrub_stats().mended, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_that_needs_damaged_log_that_nobody_has_takes_a_full_copy() {
    let (mut master, mut late) = (node(1, 1 << 30).await, node(3, 1 << 30).await);
    master.leads(1).await;
    master.fill(0..2000);
    flip_in_sealed(master.store.log(), 1);
    late.follows(&master, 1).await;
    late.catches_up_with(&master).await;
    assert!(late.store.log().first_lsn() > Lsn::ZERO, "it was copied");
    assert_eq!(master.store.scrub_stats().mended, 0);
}
